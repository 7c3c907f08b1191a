"""Turns at the device: one at a time, urgent first, stopped when nobody watches."""

import multiprocessing
import sys
import threading

import pytest

from tdm_core.generation import running
from tdm_core.generation.running import Device, Stopped


class Occupied:
    """A device on which a job runs until it is let go."""

    def __init__(self):
        self.device = Device()
        self.order = []
        self._let_go = threading.Event()
        started = threading.Event()

        def job(emit):
            started.set()
            self._let_go.wait(10)

        self._thread = threading.Thread(target=lambda: self.device.run(job, urgent=False))
        self._thread.start()
        assert started.wait(10)
        self._waiters = []

    def wait_in_line(self, name, *, urgent):
        before = self.device.waiting
        waiter = threading.Thread(target=lambda: self.device.run(lambda emit: self.order.append(name), urgent=urgent))
        waiter.start()
        self._waiters.append(waiter)
        while self.device.waiting == before:
            threading.Event().wait(0.001)

    def release(self):
        self._let_go.set()
        for thread in [self._thread, *self._waiters]:
            thread.join(10)


def test_waiting_students_go_before_waiting_teachers():
    occupied = Occupied()
    for name, urgent in [("teacher 1", False), ("teacher 2", False), ("student 1", True), ("student 2", True)]:
        occupied.wait_in_line(name, urgent=urgent)
    occupied.release()
    assert occupied.order == ["student 1", "student 2", "teacher 1", "teacher 2"]


def test_jobs_never_overlap():
    device, running, most = Device(), [], []

    def job(emit):
        running.append(1)
        most.append(len(running))
        threading.Event().wait(0.005)
        running.pop()

    threads = [threading.Thread(target=lambda: device.run(job, urgent=False)) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(10)
    assert most == [1] * 8


def test_closing_stops_the_job_at_its_next_event_and_frees_the_device():
    device, seen = Device(), []

    def endless(emit):
        try:
            while True:
                emit("tick")
        except Stopped:
            seen.append("stopped")
            raise

    events = device.stream(endless, urgent=False)
    assert next(events) == "tick"
    events.close()
    assert seen == ["stopped"]
    assert device.run(lambda emit: "next", urgent=False) == "next"


def test_closing_a_waiting_job_takes_it_out_of_the_line():
    occupied = Occupied()
    ran = []
    events = occupied.device.stream(lambda emit: ran.append(1), urgent=False)
    watcher = threading.Thread(target=lambda: list(events))
    watcher.start()
    while not occupied.device.waiting:
        threading.Event().wait(0.001)
    occupied.release()
    watcher.join(10)
    assert ran == [1]


def test_an_unwatched_job_does_not_hold_the_device():
    device = Device()
    slow_watcher = device.stream(lambda emit: [emit(number) for number in range(3)] and "done", urgent=False)
    assert next(slow_watcher) == 0
    assert device.run(lambda emit: "other", urgent=False) == "other"
    assert list(slow_watcher) == [1, 2, "done"]


def test_errors_of_the_job_reach_the_watcher():
    def broken(emit):
        raise KeyError("x")

    with pytest.raises(KeyError):
        Device().run(broken, urgent=True)


def test_who_waits_is_told_how_many_go_first_whenever_that_changes():
    device = Device()
    release, started = threading.Event(), threading.Event()

    def hold(emit):
        started.set()
        release.wait(10)

    first = threading.Thread(target=lambda: device.run(hold, urgent=False))
    first.start()
    started.wait(10)
    told = device.stream(lambda emit: "done", urgent=False, while_waiting=lambda ahead: ahead)
    assert next(told) == 1
    urgent = threading.Thread(target=lambda: device.run(lambda emit: None, urgent=True))
    urgent.start()
    assert next(told) == 2
    release.set()
    rest = list(told)
    assert rest[-1] == "done"
    assert rest[:-1] in ([1], [])  # the urgent one may begin and end between two looks
    first.join()
    urgent.join()


def test_all_jobs_run_in_one_thread():
    device = Device()
    assert len({device.run(lambda emit: threading.get_ident(), urgent=False) for _ in range(3)}) == 1


def test_an_idle_thread_ends_and_the_next_job_starts_another(monkeypatch):
    monkeypatch.setattr(running, "IDLE_SECONDS", 0.01)
    device = Device()
    first = device.run(lambda emit: threading.current_thread(), urgent=False)
    first.join(10)
    assert not first.is_alive()
    assert device.run(lambda emit: threading.current_thread(), urgent=False) is not first


@pytest.mark.filterwarnings("ignore:This process:DeprecationWarning")
def test_a_forked_process_runs_jobs_too():
    """As on ZeroGPU, where a fork made while another visitor's job runs serves each request."""
    occupied = Occupied()
    occupied.wait_in_line("waiting in the parent", urgent=True)
    child = multiprocessing.get_context("fork").Process(
        target=lambda: sys.exit(occupied.device.run(lambda emit: 7, urgent=False))
    )
    child.start()
    child.join(10)
    occupied.release()
    assert child.exitcode == 7
    assert occupied.order == ["waiting in the parent"]
