"""Batches: who goes with whom, in which order, what each gets, and what happens when somebody leaves or it fails."""

import threading
import time
from contextlib import closing

import numpy as np
import pytest

from tdm_core.errors import LoadError, RequestError, SamplingError
from tdm_core.generation.batching import Batcher
from tdm_core.generation.sample import Progress, Role, Sample, SampleRequest, finish

PATIENCE_SECONDS = 120


def request(seed, role=Role.STUDENT, **changes):
    return SampleRequest(preset="tiny", role=role, prompt=f"prompt {seed}", seed=seed, **changes)


class GatedEngine:
    """Keeps the engine's contract; a batch begins to run when its gate is opened."""

    def __init__(self, fail=None):
        self.batches, self.closed, self.gate, self.fail = [], 0, threading.Semaphore(0), fail or {}

    def sample(self, asked):
        yield self._sample(asked, 1)

    def stream_batch(self, requests):
        self.batches.append([each.seed for each in requests])
        try:
            yield Progress(step=0, steps=2, elapsed_seconds=0)
            assert self.gate.acquire(timeout=PATIENCE_SECONDS)
            if error := self.fail.get(len(requests)):
                raise error
            yield Progress(step=1, steps=2, elapsed_seconds=0)
            yield [self._sample(each, len(requests)) for each in requests]
        except GeneratorExit:
            self.closed += 1
            raise

    def _sample(self, each, size):
        return Sample(
            media=np.full((2, 2, 3), each.seed, dtype=np.uint8), kind="image", steps=2, nfe=2, guidance_scale=1.0,
            scheduler="Fake", seconds=1 / size, denoiser_seconds=1 / size, noise_sha256=str(each.seed), batch_size=size,
        )  # fmt: skip


class Crowd:
    """Asks in threads of its own and keeps what each got."""

    def __init__(self, batcher):
        self.batcher, self.got, self.threads = batcher, {}, []

    def ask(self, asked):
        def run():
            try:
                self.got[asked.seed] = finish(self.batcher.sample(asked))
            except Exception as error:
                self.got[asked.seed] = error

        before = self.batcher.waiting
        self.threads.append(threading.Thread(target=run))
        self.threads[-1].start()
        return before

    def wait(self):
        for thread in self.threads:
            thread.join(PATIENCE_SECONDS)
            assert not thread.is_alive()


def until(reached):
    deadline = time.monotonic() + PATIENCE_SECONDS
    while not reached():
        assert time.monotonic() < deadline
        time.sleep(0.002)


def gathered(engine, batcher, first, others):
    """``first`` runs while ``others`` arrive one after another."""
    crowd = Crowd(batcher)
    crowd.ask(first)
    until(lambda: engine.batches)
    for count, other in enumerate(others, start=1):
        crowd.ask(other)
        until(lambda count=count: batcher.waiting == count)
    return crowd


def test_whoever_waits_for_the_same_goes_together_in_the_order_of_arrival():
    engine = GatedEngine()
    batcher = Batcher(engine, largest=4)
    others = [request(2), request(3), request(4, steps=2), *map(request, range(5, 9))]
    crowd = gathered(engine, batcher, request(0), others)
    assert finish(batcher.sample(request(1, Role.TEACHER))).batch_size == 1  # straight on to the engine
    for _ in range(4):
        engine.gate.release()
    crowd.wait()
    assert engine.batches == [[0], [2, 3, 5, 6], [4], [7, 8]]
    assert {seed: made.media[0, 0, 0] for seed, made in crowd.got.items()} == {seed: seed for seed in (0, *range(2, 9))}
    assert [crowd.got[seed].batch_size for seed in (0, 2, 7, 4)] == [1, 4, 2, 1]


def test_a_batch_that_is_too_large_is_made_one_by_one():
    engine = GatedEngine(fail={2: SamplingError("too little memory")})
    batcher = Batcher(engine)
    crowd = gathered(engine, batcher, request(0), [request(1), request(2)])
    for _ in range(4):
        engine.gate.release()
    crowd.wait()
    assert engine.batches == [[0], [1, 2], [1], [2]]
    assert all(isinstance(made, Sample) for made in crowd.got.values())


def test_an_error_reaches_all_of_the_batch_and_the_next_one_runs():
    engine = GatedEngine(fail={2: LoadError("damaged"), 1: SamplingError("no numbers")})
    batcher = Batcher(engine)
    crowd = gathered(engine, batcher, request(0), [request(1), request(2), request(3, steps=1)])
    for _ in range(3):
        engine.gate.release()
    crowd.wait()
    assert {seed: str(error) for seed, error in crowd.got.items()} == {
        0: "no numbers", 1: "damaged", 2: "damaged", 3: "no numbers"
    }  # fmt: skip
    assert crowd.got[1] is not crowd.got[2]


def test_a_batch_ends_when_the_last_of_it_leaves():
    engine = GatedEngine()
    batcher = Batcher(engine)
    with closing(batcher.sample(request(0))) as events:
        next(events)
        waiting = batcher.sample(request(1))
        threading.Thread(target=lambda: next(waiting, None), daemon=True).start()
        until(lambda: batcher.waiting == 1)
    engine.gate.release()
    until(lambda: engine.closed == 1)
    engine.gate.release()
    until(lambda: engine.batches == [[0], [1]])  # the one that waited has its turn


def test_one_who_left_before_the_turn_is_never_made():
    engine = GatedEngine()
    batcher = Batcher(engine)
    crowd = gathered(engine, batcher, request(0), [request(1)])
    waiting = batcher._waiting[0]
    waiting.events.put(SamplingError("the browser went away"))  # ends its generator where it waits
    until(lambda: batcher.waiting == 0)
    engine.gate.release()
    crowd.wait()
    assert engine.batches == [[0]] and waiting.gone


def hold(emit):
    """A job that lasts until nobody watches it."""
    while True:
        emit("held")
        threading.Event().wait(0.001)


def test_batched_pictures_are_those_made_alone(tiny_engine):
    asked = [SampleRequest(preset="tiny", role=Role.STUDENT, prompt="a cat", seed=seed) for seed in range(4)]
    alone = [finish(tiny_engine.sample(each)) for each in asked]
    crowd = Crowd(Batcher(tiny_engine))
    occupied = tiny_engine._device.stream(hold, urgent=True)  # while something else has the device
    assert next(occupied) == "held"
    crowd.ask(asked[0])
    until(lambda: tiny_engine._device.waiting == 1)
    for each in asked[1:]:
        crowd.ask(each)
    until(lambda: crowd.batcher.waiting == 3)
    occupied.close()
    crowd.wait()
    for single, each in zip(alone, asked, strict=True):
        together = crowd.got[each.seed]
        assert np.abs(together.media.astype(int) - single.media).max() <= 1
        assert (together.noise_sha256, together.nfe) == (single.noise_sha256, single.nfe)
    assert sorted(made.batch_size for made in crowd.got.values()) == [1, 1, 2, 2]


def test_a_bad_request_never_gets_as_far():
    with pytest.raises(RequestError):
        request(-1)
