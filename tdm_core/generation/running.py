"""One device, one job at a time: jobs take turns, can be watched while they run, and stop when nobody watches."""

from __future__ import annotations

import heapq
import itertools
import threading
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from queue import SimpleQueue
from typing import TypeVar

Event = TypeVar("Event")
Result = TypeVar("Result")
Emit = Callable[[Event], None]


class Stopped(Exception):
    """Raised inside a job whose watcher has gone."""


class Device:
    """Runs one job at a time, in the order of arrival, urgent ones first."""

    def __init__(self) -> None:
        self._changed = threading.Condition()
        self._taken = False
        self._waiting: list[tuple[bool, int]] = []
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
        """Run ``job(emit)`` in a thread when its turn comes; yield what it emits at once, and its result last.

        ``while_waiting`` makes an event of the number of jobs that go first, whenever that changes.

        The job holds the device exactly as long as it runs, however slowly the events are taken.  Closing
        this generator makes the job's next ``emit`` raise `Stopped` and returns when the device is free.
        The job's errors are raised here.
        """
        outbox: SimpleQueue[tuple[str, object]] = SimpleQueue()
        closed = threading.Event()

        def emit(event: Event) -> None:
            if closed.is_set():
                raise Stopped
            outbox.put(("event", event))

        def tell(ahead: int) -> None:
            if while_waiting and ahead:
                outbox.put(("event", while_waiting(ahead)))

        def work() -> None:
            try:
                with self._turn(urgent, closed, tell):
                    result = job(emit)
                outbox.put(("result", result))
            except BaseException as error:  # not swallowed: the watcher raises it
                outbox.put(("error", error))

        thread = threading.Thread(target=work, name="tdm-job", daemon=True)
        thread.start()
        try:
            kind = "event"
            while kind == "event":
                kind, value = outbox.get()
                if kind == "error":
                    raise value  # type: ignore[misc]
                yield value  # type: ignore[misc]
        finally:
            closed.set()
            with self._changed:
                self._changed.notify_all()
            thread.join()

    def run(self, job: Callable[[Emit[Event]], Result], *, urgent: bool) -> Result:
        """The job's result, its events unseen."""
        return deque(self.stream(job, urgent=urgent), maxlen=1).pop()  # type: ignore[return-value]

    @contextmanager
    def _turn(self, urgent: bool, closed: threading.Event, tell: Callable[[int], None]) -> Iterator[None]:
        ticket = (not urgent, next(self._numbers))
        told = 0

        def arrived() -> bool:
            nonlocal told
            ahead = sum(other < ticket for other in self._waiting) + self._taken
            if ahead != told:
                told = ahead
                tell(ahead)
            return closed.is_set() or not ahead

        with self._changed:
            heapq.heappush(self._waiting, ticket)
            self._changed.notify_all()  # an urgent one pushes others back
            self._changed.wait_for(arrived)
            self._waiting.remove(ticket)
            heapq.heapify(self._waiting)
            if closed.is_set():
                self._changed.notify_all()
                raise Stopped
            self._taken = True
        try:
            yield
        finally:
            with self._changed:
                self._taken = False
                self._changed.notify_all()
