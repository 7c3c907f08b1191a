"""Visitors go first, and only so many of them: work in the background gives the device back as soon as somebody at the
page wants a picture, and who would wait behind too many others is told so at once."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager

from tdm_core.errors import BusyError
from tdm_core.generation.sample import Progress, Role, Sample, Sampler, SampleRequest

QUIET_SECONDS = 2.0  # a visitor's next role follows within this time
STUDENTS_AT_ONCE, TEACHERS_AT_ONCE = 32, 16
"""Each holds a thread of the server while it waits or runs; those further are refused."""
REMEMBERED = 0.8  # of what samples took before the last one


class Visitors:
    """Two samplers over one: `sample` for visitors, `sample_politely` for the background.

    Students and teachers are counted apart, since a crowd before the slow ones should not lock the quick ones out.
    """

    def __init__(
        self,
        sample: Sampler,
        *,
        quiet_seconds: float = QUIET_SECONDS,
        students: int = STUDENTS_AT_ONCE,
        teachers: int = TEACHERS_AT_ONCE,
    ) -> None:
        self._sample, self._quiet_seconds = sample, quiet_seconds
        self._changed = threading.Condition()
        self._most = {True: students, False: teachers}  # by: is it a student?
        self._inside = {True: 0, False: 0}
        self._seconds: dict[bool, float] = {}
        self._last_left = float("-inf")

    def sample(self, request: SampleRequest) -> Iterator[Progress | Sample]:
        """A visitor's sample.

        Raises:
            BusyError: at the first event, if as many others as may be are inside.
        """
        yield from self.admitted(self._sample(request), request)

    def admitted(self, events: Iterator[Progress | Sample], request: SampleRequest) -> Iterator[Progress | Sample]:
        """The same for a sample that is made in another way."""
        is_student = request.role is Role.STUDENT
        with self._place(is_student), closing(events):  # type: ignore[type-var]
            for event in events:
                if isinstance(event, Sample):
                    self._learn(is_student, event.seconds)
                yield event

    @contextmanager
    def _place(self, is_student: bool) -> Iterator[None]:
        with self._changed:
            if self._inside[is_student] >= self._most[is_student]:
                raise BusyError(self._busy(is_student))
            self._inside[is_student] += 1
        try:
            yield
        finally:
            with self._changed:
                self._inside[is_student] -= 1
                self._last_left = time.monotonic()
                self._changed.notify_all()

    def _busy(self, is_student: bool) -> str:
        number, seconds = self._inside[is_student], self._seconds.get(is_student)
        if seconds is None:
            return f"Busy: {number} others wait for the same. Try again in a few minutes."
        return f"Busy: {number} others wait for the same. Try again in about {max(1, round(number * seconds))} s."

    def _learn(self, is_student: bool, seconds: float) -> None:
        with self._changed:
            before = self._seconds.get(is_student, seconds)
            self._seconds[is_student] = REMEMBERED * before + (1 - REMEMBERED) * seconds

    @property
    def _present(self) -> bool:
        return any(self._inside.values())

    def sample_politely(self, request: SampleRequest) -> Iterator[Progress | Sample]:
        """The same sample, begun when nobody is there and begun anew after each visit that breaks it off."""
        while True:
            self._wait_until_quiet()
            for event in self._sample(request):
                yield event
                if isinstance(event, Sample):
                    return
                if self._present:  # dropping the iterator frees the device at its next step
                    break

    def _wait_until_quiet(self) -> None:
        with self._changed:
            while self._present or (rest := self._last_left + self._quiet_seconds - time.monotonic()) > 0:
                self._changed.wait(None if self._present else rest)
