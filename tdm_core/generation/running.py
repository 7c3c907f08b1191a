"""One device, one job at a time: jobs take turns, can be watched while they run, and stop when nobody watches."""

from __future__ import annotations

import heapq
import itertools
import threading
from collections import deque
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from queue import SimpleQueue
from typing import TypeVar

Event = TypeVar("Event")
Result = TypeVar("Result")
Emit = Callable[[Event], None]

IDLE_SECONDS = 60.0
"""After so long without a job the device's thread ends; the next job starts another."""


class Stopped(Exception):
    """Raised inside a job whose watcher has gone."""


@dataclass(order=True)
class _Job:
    order: tuple[bool, int]
    work: Callable[[], None] = field(compare=False)
    tell: Callable[[int], None] = field(compare=False)
    """Of the number of jobs that go first, when that has changed."""
    ahead: int = field(default=0, compare=False)


class Device:
    """Runs one job at a time, in the order of arrival, urgent ones first.

    All jobs run in one lasting thread.  OpenMP keeps a team of threads for each thread that computes, and as soon as
    there are more of them than cores they no longer wait awake for the next piece of work, which takes twice the time
    where a network is small (docs/log.md).
    """

    def __init__(self) -> None:
        self._changed = threading.Condition()
        self._waiting: list[_Job] = []
        self._running: _Job | None = None
        self._thread: threading.Thread | None = None
        self._numbers = itertools.count()

    @property
    def waiting(self) -> int:
        """How many jobs wait at this moment."""
        return len(self._waiting)

    def stream(
        self,
        job: Callable[[Emit[Event]], Result],
        *,
        urgent: bool,
        while_waiting: Callable[[int], Event] | None = None,
    ) -> Iterator[Event | Result]:
        """Run ``job(emit)`` in the device's thread when its turn comes; yield what it emits at once, its result last.

        ``while_waiting`` makes an event of the number of jobs that go first, whenever that changes.

        The job holds the device exactly as long as it runs, however slowly the events are taken.  Closing
        this generator makes the job's next ``emit`` raise `Stopped` and returns when the device is free of it.
        The job's errors are raised here.
        """
        outbox: SimpleQueue[tuple[str, object]] = SimpleQueue()
        closed = threading.Event()

        def emit(event: Event) -> None:
            if closed.is_set():
                raise Stopped
            outbox.put(("event", event))

        def tell(ahead: int) -> None:
            if while_waiting:
                outbox.put(("event", while_waiting(ahead)))

        def work() -> None:
            try:
                outbox.put(("result", job(emit)))
            except BaseException as error:  # not swallowed: the watcher raises it
                outbox.put(("error", error))

        queued = _Job(order=(not urgent, next(self._numbers)), work=work, tell=tell)
        self._queue(queued)
        try:
            kind = "event"
            while kind == "event":
                kind, value = outbox.get()
                if kind == "error":
                    raise value  # type: ignore[misc]
                yield value  # type: ignore[misc]
        finally:
            closed.set()
            self._leave(queued)

    def run(self, job: Callable[[Emit[Event]], Result], *, urgent: bool) -> Result:
        """The job's result, its events unseen."""
        return deque(self.stream(job, urgent=urgent), maxlen=1).pop()  # type: ignore[return-value]

    def _queue(self, job: _Job) -> None:
        with self._changed:
            if self._thread is None or not self._thread.is_alive():
                # A forked process has this object and not its thread: what the parent ran or had waiting is not here.
                self._waiting, self._running = [], None
                self._thread = threading.Thread(target=self._work, name="tdm-device", daemon=True)
                self._thread.start()
            heapq.heappush(self._waiting, job)
            self._tell()

    def _leave(self, job: _Job) -> None:
        """Take a job out of the line, or wait until it has ended."""
        with self._changed:
            if job in self._waiting:
                self._waiting.remove(job)
                heapq.heapify(self._waiting)
                self._tell()
            self._changed.wait_for(lambda: self._running is not job)

    def _work(self) -> None:
        while True:
            with self._changed:
                self._running = None
                self._tell()
                if not self._changed.wait_for(lambda: self._waiting, timeout=IDLE_SECONDS):
                    self._thread = None
                    return
                self._running = job = heapq.heappop(self._waiting)
                self._tell()
            job.work()
            del job  # what it holds may be large, and the next may be long in coming

    def _tell(self) -> None:
        """Tell each job that waits how many go first, and wake who waits for a change."""
        for place, job in enumerate(sorted(self._waiting)):
            ahead = place + (self._running is not None)
            if ahead != job.ahead:
                job.ahead = ahead
                if ahead:
                    job.tell(ahead)
        self._changed.notify_all()
