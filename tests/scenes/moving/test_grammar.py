"""Captions of clips say what they mean, are read back, and leave the still world's words alone."""

import hashlib
import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tdm_core.errors import RequestError
from tdm_core.scenes import grammar as still
from tdm_core.scenes.moving.grammar import (
    VOCABULARY,
    Clip,
    Direction,
    Motion,
    Mover,
    Speed,
    caption,
    meaning,
    parse,
)
from tdm_core.scenes.moving.sampling import fits, sample_clip

motions = st.builds(Motion, direction=st.sampled_from(Direction), speed=st.sampled_from(Speed))
movers = st.builds(Mover, kind=st.sampled_from(list(still.KINDS)), motion=st.none() | motions)
canvases = st.none() | st.sampled_from(list(still.CANVASES))
clips = st.builds(Clip, movers=st.lists(movers, min_size=1, max_size=2).map(tuple), canvas=canvases)


@given(clips)
def test_a_caption_is_read_back_as_its_clip(clip):
    assert parse(caption(clip)) == clip


@given(clips)
def test_every_word_of_a_caption_is_known(clip):
    assert set(still.words(caption(clip))) <= VOCABULARY


@given(clips)
def test_order_and_canvas_do_not_change_the_meaning(clip):
    assert meaning(Clip(movers=clip.movers[::-1])) == meaning(clip)


@pytest.mark.parametrize(
    "text,same_as",
    [
        ("A Cat moving to the left.", "a cat moving left"),
        ("one cat is moving up-left slowly", "a cat moving slowly up left"),
        ("a cat", "a cat standing still"),
        ("an owl is standing still  on a sky canvas", "an owl standing still on a sky canvas"),
    ],
)
def test_other_ways_to_say_it(text, same_as):
    assert parse(text) == parse(same_as)


@pytest.mark.parametrize(
    "first,second",
    [("left", "right"), ("up", "up left"), ("slowly left", "left"), ("slowly down", "fast down")],
)
def test_other_motions_mean_other_things(first, second):
    assert meaning(parse(f"a cat moving {first}")) != meaning(parse(f"a cat moving {second}"))


@pytest.mark.parametrize(
    "text",
    ["", "a unicorn moving left", "two cats moving left", "a cat moving", "a cat moving sideways",
     "a cat moving slowly left fast", "a cat moving left on a plaid canvas", "a cat on red moving left",
     "a cat moving left and a dog and an owl", "\0", "a cat " * 2000],
)  # fmt: skip
def test_captions_outside_the_grammar_are_refused(text):
    with pytest.raises(RequestError):
        parse(text)


def test_directions_are_the_eight_of_the_compass():
    angles = sorted(math.degrees(math.atan2(y, x)) % 360 for x, y in (direction.unit for direction in Direction))
    assert angles == pytest.approx([0, 45, 90, 135, 180, 225, 270, 315])
    assert all(math.hypot(*direction.unit) == pytest.approx(1) for direction in Direction)
    assert Direction.UP_LEFT.unit == pytest.approx((-math.sqrt(0.5), -math.sqrt(0.5)))  # y grows downwards


def test_the_still_worlds_words_are_those_its_trained_encoders_know():
    """Another word would change every token id of the shipped minis."""
    words = " ".join(sorted(still.VOCABULARY))
    assert len(still.VOCABULARY) == STILL_WORDS[0]
    assert hashlib.sha256(words.encode()).hexdigest()[:16] == STILL_WORDS[1]


STILL_WORDS = (78, "08487b85aa291dd5")


def test_sampled_clips_are_captions_of_the_grammar_and_fit():
    rng = np.random.default_rng(3)
    for _ in range(500):
        clip = sample_clip(rng)
        assert parse(caption(clip)) == clip and fits(clip)
