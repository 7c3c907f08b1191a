"""Clips show what their captions say: motion by parts of a pixel, everything inside, nothing on top of each other."""

from itertools import pairwise

import numpy as np
import pytest

from tdm_core.scenes import render as still
from tdm_core.scenes.grammar import CANVASES, KINDS
from tdm_core.scenes.moving.grammar import Direction, Motion, Speed, parse
from tdm_core.scenes.moving.render import (
    APART_PX,
    NUM_FRAMES,
    PX_PER_FRAME,
    SIZE_PX,
    Course,
    Layout,
    draw,
    layout,
    render,
    room,
    velocity,
)
from tdm_core.scenes.moving.sampling import sample_clip
from tdm_core.scenes.render import GLYPH_PX


@pytest.fixture
def rng():
    return np.random.default_rng(7)


def ink(frame, canvas):
    """How far each pixel is from the canvas."""
    return np.abs(frame.astype(float) - CANVASES[canvas]).sum(axis=-1)


def centroid(frame, canvas):
    weight = ink(frame, canvas)
    y, x = np.indices(weight.shape)
    return np.array([(weight * x).sum(), (weight * y).sum()]) / weight.sum() + 0.5


def test_objects_stay_inside_and_apart(rng):
    for _ in range(300):
        scene = layout(sample_clip(rng), rng)
        ways = np.array([[course.at(frame) for frame in range(NUM_FRAMES)] for course in scene.courses])
        assert ways.min() >= GLYPH_PX / 2 - 1e-9 and ways.max() <= SIZE_PX - GLYPH_PX / 2 + 1e-9
        for first, second in pairwise(ways):
            assert (np.abs(first - second).max(axis=-1) >= APART_PX - 1e-9).all()


@pytest.mark.parametrize("speed", Speed)
@pytest.mark.parametrize("direction", Direction)
def test_the_drawn_glyph_moves_as_asked(direction, speed, rng):
    scene = layout(parse(f"a ball moving {speed} {direction} on a mint canvas"), rng)
    frames = draw(scene)
    assert frames.shape == (NUM_FRAMES, SIZE_PX, SIZE_PX, 3) and frames.dtype == np.uint8
    steps = np.diff([centroid(frame, "mint") for frame in frames], axis=0)
    expected = np.array(direction.unit) * PX_PER_FRAME[speed]
    assert np.abs(steps.mean(axis=0) - expected).max() < 0.05
    assert np.abs(steps - expected).max() < 0.2  # positions are rounded to eighths


def test_what_stands_still_does_not_change(rng):
    frames = render(parse("a cat standing still and an owl standing still"), rng)
    assert (frames == frames[0]).all()


@pytest.mark.parametrize("kind", KINDS)
def test_a_glyph_on_whole_pixels_is_the_still_worlds(kind):
    moving = draw(Layout(courses=(Course(kind=kind, start=(30.0, 25.0), velocity=(0.0, 0.0)),), canvas="sky"), 1)[0]
    placed = still.Placed(kind=kind, tile=None, x=30, y=25)
    fixed = still.draw(still.Layout(objects=(placed,), canvas="sky"), SIZE_PX)
    # Pillow's box takes whole pixels of the large sprite, ours parts of them.
    assert np.abs(moving.astype(int) - fixed).mean() < 0.6


def test_a_glyph_between_pixels_is_as_dark_and_as_sharp():
    def still_at(x):
        return draw(Layout(courses=(Course(kind="ball", start=(x, 32.0), velocity=(0.0, 0.0)),), canvas="mint"), 1)[0]

    on, between = still_at(30.0), still_at(30.5)
    assert ink(between, "mint").sum() == pytest.approx(ink(on, "mint").sum(), rel=0.01)
    sharp = [np.square(np.diff(frame.astype(float), axis=1)).sum() for frame in (on, between)]
    assert sharp[1] == pytest.approx(sharp[0], rel=0.1)
    assert centroid(between, "mint")[0] - centroid(on, "mint")[0] == pytest.approx(0.5, abs=0.02)


def test_one_seed_draws_one_clip():
    clip = parse("a cat moving left and a dog moving right")
    first, again, other = (render(clip, np.random.default_rng(seed)) for seed in (1, 1, 2))
    assert np.array_equal(first, again) and not np.array_equal(first, other)


def test_motions_without_room_are_refused(rng):
    fast = Motion(direction=Direction.UP_RIGHT, speed=Speed.FAST)
    against = Motion(direction=Direction.DOWN_LEFT, speed=Speed.FAST)
    assert room(fast, against) == 0 and room(fast) == 1
    with pytest.raises(ValueError, match="no room"):
        layout(parse("a cat moving fast up right and a dog moving fast down left"), rng)


def test_velocities_are_as_written():
    assert velocity(None) == (0, 0)
    assert velocity(Motion(direction=Direction.UP, speed=Speed.FAST)) == (0, -4)
    assert velocity(Motion(direction=Direction.DOWN_RIGHT)) == pytest.approx((2.5 / 2**0.5, 2.5 / 2**0.5))
