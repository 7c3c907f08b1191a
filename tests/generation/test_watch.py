"""The clocks of a run, on a clock that the test turns."""

import pytest
import torch

from tdm_core.generation.watch import Watch


@pytest.fixture
def clock(monkeypatch):
    class Clock:
        now = 100.0

    monkeypatch.setattr("tdm_core.generation.watch.time.perf_counter", lambda: Clock.now)
    return Clock


def test_clocks_leave_out_pauses_and_the_loop_leaves_out_what_is_around_it(clock):
    denoiser = torch.nn.Identity()
    with Watch(denoiser, synchronize=lambda: None) as watch:
        clock.now += 1  # text encoding
        denoiser(torch.zeros(2, 3))
        clock.now += 10
        assert watch.lap() == 11
        with watch.paused():
            clock.now += 1000
        denoiser(torch.zeros(2, 3))
        clock.now += 10
        assert watch.lap() == 21
        clock.now += 5  # decoding
    assert (watch.seconds, watch.denoiser_seconds, watch.rows) == (26, 20, 4)
    assert watch.text_seconds == 1


def test_rows_are_counted_until_the_watch_is_put_away():
    denoiser = torch.nn.Identity()
    with Watch(denoiser, synchronize=lambda: None) as watch:
        denoiser(torch.zeros(6, 1))
    denoiser(torch.zeros(6, 1))
    assert watch.rows == 6


def test_every_reading_waits_for_the_device():
    waits = []
    with Watch(torch.nn.Identity(), synchronize=lambda: waits.append(1)) as watch:
        watch.lap()
    assert len(waits) == 3
