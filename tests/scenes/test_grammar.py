"""Captions say what scenes mean, and are read back as they were meant."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tdm_core.errors import RequestError
from tdm_core.scenes.grammar import (
    CANVASES,
    KINDS,
    TILES,
    VOCABULARY,
    Group,
    Relation,
    Scene,
    caption,
    meaning,
    paraphrase,
    parse,
    unknown_words,
    words,
)
from tdm_core.scenes.sampling import MAX_OBJECTS, sample_scene

groups = st.builds(
    Group,
    kind=st.sampled_from(list(KINDS)),
    count=st.integers(1, 4),
    tile=st.none() | st.sampled_from(list(TILES)),
)
canvases = st.none() | st.sampled_from(list(CANVASES))
lone = st.builds(Group, kind=st.sampled_from(list(KINDS)), tile=st.none() | st.sampled_from(list(TILES)))
related = st.builds(Scene, groups=st.tuples(lone, lone), relation=st.sampled_from(Relation), canvas=canvases)
listed = st.builds(Scene, groups=st.lists(groups, min_size=1, max_size=3).map(tuple), canvas=canvases)
scenes = related | listed


@given(scenes)
def test_a_caption_is_read_back_as_its_scene(scene):
    assert parse(caption(scene)) == scene


@given(scenes, st.integers(0, 2**32))
def test_a_paraphrase_means_the_same(scene, seed):
    assert meaning(paraphrase(scene, np.random.default_rng(seed))) == meaning(scene)


@given(scenes)
def test_every_word_of_a_caption_is_known(scene):
    assert set(words(caption(scene))) <= VOCABULARY


@pytest.mark.parametrize(
    "text,same_as",
    [
        ("A Cat", "a cat"),
        ("1 cat.", "a cat"),
        ("3 foxes on a mint canvas", "three foxes on a mint canvas"),
        ("a cat to the left of a dog", "a cat left of a dog"),
        ("a cat is above a dog", "a cat above a dog"),
        ("a cat on a red tile", "a cat on red"),
        ("a cat,  a dog,  and an owl", "a cat, a dog and an owl"),
    ],
)
def test_other_ways_to_say_it(text, same_as):
    assert parse(text) == parse(same_as)


@pytest.mark.parametrize("text", ["a cat left of a dog on a sky canvas", "a dog right of a cat"])
def test_inverse_relations_and_canvases_do_not_change_the_meaning(text):
    assert meaning(parse(text)) == meaning(parse("a cat left of a dog"))


def test_left_and_right_mean_different_things():
    assert meaning(parse("a cat left of a dog")) != meaning(parse("a cat right of a dog"))


@pytest.mark.parametrize(
    "text",
    ["", "a unicorn", "cat", "five cats", "a cat on crimson", "a cat on a plaid canvas", "two cats left of a dog",
     "a cat and a dog and an owl and a fox", "\0", "🐱", "a cat " * 2000],
)  # fmt: skip
def test_captions_outside_the_grammar_are_refused(text):
    with pytest.raises(RequestError):
        parse(text)


def test_unknown_words_are_named_once_and_in_order():
    assert unknown_words("a Unicorn, a cat and a unicorn wearing hats") == ["unicorn", "wearing", "hats"]


def test_sampled_scenes_are_captions_of_the_grammar_and_fit_the_lattice():
    rng = np.random.default_rng(3)
    for _ in range(1000):
        scene = sample_scene(rng)
        assert parse(caption(scene)) == scene
        assert scene.num_objects <= MAX_OBJECTS
