"""Visitors go first: work in the background gives the device back as soon as somebody at the page wants a picture."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager

from tdm_core.generation.sample import Progress, Sample, Sampler, SampleRequest

QUIET_SECONDS = 2.0  # a visitor's next role follows within this time


class Visitors:
    """Two samplers over one: `sample` for visitors, `sample_politely` for the background."""

    def __init__(self, sample: Sampler, *, quiet_seconds: float = QUIET_SECONDS) -> None:
        self._sample, self._quiet_seconds = sample, quiet_seconds
        self._changed = threading.Condition()
        self._present = 0
        self._last_left = float("-inf")

    def sample(self, request: SampleRequest) -> Iterator[Progress | Sample]:
        with self.present():
            yield from self._sample(request)

    @contextmanager
    def present(self) -> Iterator[None]:
        """A visitor wants the device as long as this block lasts."""
        with self._changed:
            self._present += 1
        try:
            yield
        finally:
            with self._changed:
                self._present -= 1
                self._last_left = time.monotonic()
                self._changed.notify_all()

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
