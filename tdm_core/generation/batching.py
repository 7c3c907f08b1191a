"""Students who wait at the same time and share a plan are made in one batch: the same pictures, sooner.

While the device works, requests gather; when it is free the longest waiting goes next and takes along whoever asks for
the same preset, steps and guidance.  A picture depends on its own seed and prompt alone, so whom it was batched with
shows in the last bits of rounding and in the clocks, which are the batch's, divided: `Sample.batch_size` says so.

Teachers go straight on to the engine, one at a time: who waits half a minute is better off with previews and a place in
the queue, and a student is not to wait for sixteen of them.

Batches have 1, 2, 4, 8, ... rows: each size is a shape of work that must be warm before it is timed.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from queue import SimpleQueue
from typing import Protocol

from tdm_core.errors import SamplingError, TDMError
from tdm_core.generation.sample import Progress, Role, Sample, SampleRequest

LARGEST = 16


class BatchEngine(Protocol):
    """What batching needs: `Engine` or a fake of it."""

    def sample(self, request: SampleRequest) -> Iterator[Progress | Sample]: ...

    def stream_batch(self, requests: Sequence[SampleRequest]) -> Iterator[Progress | list[Sample]]: ...

    def warm_up(self, preset: str) -> None: ...


@dataclass(eq=False)
class _Waiting:
    """One request, and where its events go."""

    request: SampleRequest
    events: SimpleQueue[Progress | Sample | BaseException] = field(default_factory=SimpleQueue)
    gone: bool = False
    """Nobody watches any more."""

    @property
    def kind(self) -> SampleRequest:
        """Equal for requests that may share a batch."""
        return replace(self.request, prompt="-", seed=0)


class Batcher:
    """A sampler over an engine; one thread of its own makes the batches."""

    def __init__(self, engine: BatchEngine, *, largest: int = LARGEST) -> None:
        self._engine, self._largest = engine, largest
        self._changed = threading.Condition()
        self._waiting: list[_Waiting] = []
        self._worker: threading.Thread | None = None

    @property
    def waiting(self) -> int:
        """How many requests have not begun."""
        return len(self._waiting)

    def sample(self, request: SampleRequest) -> Iterator[Progress | Sample]:
        """As `Engine.sample`; closing the generator stops a batch when all others of it have gone, too."""
        if request.role is not Role.STUDENT:
            yield from self._engine.sample(request)
            return
        mine = _Waiting(request)
        with self._changed:
            self._waiting.append(mine)
            if self._worker is None:
                self._worker = threading.Thread(target=self._work, name="tdm-batches", daemon=True)
                self._worker.start()
            self._changed.notify_all()
        try:
            while not isinstance(event := mine.events.get(), Sample):
                if isinstance(event, BaseException):
                    raise event
                yield event
            yield event
        finally:
            with self._changed:
                mine.gone = True
                if mine in self._waiting:
                    self._waiting.remove(mine)

    def warm_up(self, preset: str) -> None:
        """As `Engine.warm_up`."""
        self._engine.warm_up(preset)

    def close(self) -> None:
        """Nothing is held that does not end with the process."""

    def _work(self) -> None:
        while True:
            with self._changed:
                self._changed.wait_for(lambda: self._waiting)
                batch = self._take()
            self._make(batch)

    def _take(self) -> list[_Waiting]:
        """The next batch, in the order of arrival; its size a power of two."""
        fitting = [each for each in self._waiting if each.kind == self._waiting[0].kind]
        size = 1
        while 2 * size <= min(len(fitting), self._largest):
            size *= 2
        for each in fitting[:size]:
            self._waiting.remove(each)
        return fitting[:size]

    def _make(self, batch: Sequence[_Waiting]) -> None:
        try:
            self._run(batch)
        except SamplingError as error:  # too large for the device, it may be: one by one it may go
            if len(batch) == 1:
                _tell(batch, error)
            else:
                for each in batch:
                    self._make([each])
        except BaseException as error:  # not swallowed: whoever asked raises it
            _tell(batch, error)

    def _run(self, batch: Sequence[_Waiting]) -> None:
        for event in self._engine.stream_batch([each.request for each in batch]):
            if isinstance(event, list):
                for each, made in zip(batch, event, strict=True):
                    each.events.put(made)
            else:
                for each in batch:
                    each.events.put(event)
            if all(each.gone for each in batch):
                return  # dropping the iterator frees the device at its next step


def _tell(batch: Sequence[_Waiting], error: BaseException) -> None:
    """Each gets an error of its own: a raised one carries the place where it was raised."""
    for each in batch:
        each.events.put(type(error)(*error.args) if isinstance(error, TDMError) else error)
