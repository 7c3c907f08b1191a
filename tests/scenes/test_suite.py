"""The suite is fixed, balanced and unseen by training."""

from collections import Counter

import numpy as np
import pytest

from tdm_core.scenes.grammar import Relation, caption, meaning, paraphrase, parse
from tdm_core.scenes.sampling import sample_scene
from tdm_core.scenes.suite import HELD_OUT_TAGS, PATH, Tag, held_out, limited, load_suite, suite_text


def test_the_file_is_what_make_suite_draws():
    assert PATH.read_text(encoding="utf-8") == suite_text()


def test_the_categories_have_genevals_sizes():
    sizes = Counter(item.tag for item in load_suite())
    assert [sizes[tag] for tag in Tag] == [80, 100, 80, 95, 100, 100]


def test_no_prompt_stands_twice():
    assert len({item.prompt for item in load_suite()}) == 555


@pytest.mark.parametrize("tag", [*HELD_OUT_TAGS, Tag.COLORS])
def test_no_meaning_stands_twice(tag):
    meanings = [meaning(parse(item.prompt)) for item in load_suite() if item.tag is tag]
    assert len(set(meanings)) == len(meanings)


def test_every_prompt_is_the_canonical_caption_of_its_scene():
    assert all(caption(parse(item.prompt)) == item.prompt for item in load_suite())


def test_relations_and_counts_are_balanced():
    scenes = {tag: [parse(item.prompt) for item in load_suite() if item.tag is tag] for tag in Tag}
    assert Counter(scene.relation for scene in scenes[Tag.POSITION]) == dict.fromkeys(Relation, 25)
    counts = Counter(scene.num_objects for scene in scenes[Tag.COUNTING])
    assert set(counts) == {2, 3, 4} and max(counts.values()) - min(counts.values()) <= 1


def test_training_scenes_are_never_held_out_ones():
    rng = np.random.default_rng(0)
    drawn = {meaning(sample_scene(rng, held_out())) for _ in range(20_000)}
    assert not drawn & held_out()


def test_without_the_list_training_would_meet_the_suite():
    rng = np.random.default_rng(0)
    assert any(meaning(sample_scene(rng)) in held_out() for _ in range(200))


def test_paraphrases_of_held_out_prompts_are_held_out():
    rng = np.random.default_rng(0)
    for item in load_suite():
        if item.tag in HELD_OUT_TAGS:
            assert {meaning(paraphrase(parse(item.prompt), rng)) for _ in range(4)} <= held_out()


def test_a_limited_suite_is_spread_over_the_categories_and_nested():
    small, larger = limited(load_suite(), 12), limited(load_suite(), 30)
    assert Counter(item.tag for item in small) == dict.fromkeys(Tag, 2)
    assert larger[:12] == small
    assert len(limited(load_suite(), None)) == 555
