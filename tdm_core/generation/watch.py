"""The clocks of one run, and the count of its network evaluations."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, Self


class Watch:
    """Times a block around a run, and counts the rows that pass through its denoiser meanwhile.

    ``synchronize`` waits for the device; the clock reads right only after it.
    """

    def __init__(self, denoiser: Any, *, synchronize: Callable[[], None]) -> None:
        self._denoiser = denoiser
        self._synchronize = synchronize
        self._paused_seconds = 0.0
        self._loop_start = 0.0
        self.rows = 0
        """Evaluations so far, summed over the batch; guidance doubles the batch and so counts twice."""
        self.seconds = 0.0
        """The whole block, without pauses."""
        self.denoiser_seconds = 0.0
        """From the first evaluation to the last lap, without pauses."""
        self.text_seconds = 0.0
        """From the start to the first evaluation: encoding the text, and whatever else comes before."""

    def __enter__(self) -> Self:
        self._hook = self._denoiser.register_forward_pre_hook(self._count, with_kwargs=True)
        self._start = self._now()
        return self

    def __exit__(self, *_: object) -> None:
        self.seconds = self._now() - self._start
        self._hook.remove()

    def charge(self, seconds: float) -> None:
        """Put work on the clock that was done before, for another run too."""
        self._paused_seconds -= seconds

    def lap(self) -> float:
        """The seconds so far, without pauses, at the end of a step."""
        now = self._now()
        self.denoiser_seconds = now - self._loop_start
        return now - self._start

    @contextmanager
    def paused(self) -> Iterator[None]:
        """What happens in this block is on no clock."""
        start = self._now()
        try:
            yield
        finally:
            self._paused_seconds += self._now() - start

    def _now(self) -> float:
        self._synchronize()
        return time.perf_counter() - self._paused_seconds

    def _count(self, _: Any, positional: tuple[Any, ...], named: dict[str, Any]) -> None:
        if self.rows == 0:
            self._loop_start = self._now()
            self.text_seconds = self._loop_start - self._start
        self.rows += len(named["hidden_states"] if "hidden_states" in named else positional[0])
