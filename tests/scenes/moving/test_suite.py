"""The moving suite is fixed, balanced, drawable and unseen by training."""

from collections import Counter

import numpy as np

from tdm_core.scenes.grammar import CANVASES
from tdm_core.scenes.moving.grammar import Direction, Speed, caption, meaning, parse
from tdm_core.scenes.moving.sampling import fits, sample_clip
from tdm_core.scenes.moving.suite import HELD_OUT_TAGS, PATH, Tag, held_out, load_suite, suite_text
from tdm_core.scenes.suite import limited


def of(tag):
    return [parse(item.prompt) for item in load_suite() if item.tag is tag]


def test_the_file_is_what_make_suite_draws():
    assert PATH.read_text(encoding="utf-8") == suite_text()


def test_the_categories_have_their_sizes_and_no_prompt_stands_twice():
    sizes = Counter(item.tag for item in load_suite())
    assert [sizes[tag] for tag in Tag] == [40, 40, 32, 30, 20, 24]
    for tag in Tag:
        assert len({(*meaning(clip), clip.canvas) for clip in of(tag)}) == sizes[tag]


def test_every_prompt_is_the_canonical_caption_of_a_clip_that_can_be_drawn():
    for item in load_suite():
        assert caption(parse(item.prompt)) == item.prompt and fits(parse(item.prompt))


def test_directions_speeds_and_canvases_are_balanced():
    for tag, each in ((Tag.SINGLE_MOVING, 5), (Tag.DIRECTION, 4)):
        assert Counter(clip.movers[0].motion.direction for clip in of(tag)) == dict.fromkeys(Direction, each)
    assert Counter(clip.movers[0].motion.speed for clip in of(Tag.SPEED)) == dict.fromkeys(Speed, 10)
    assert Counter(clip.canvas for clip in of(Tag.COLORS)) == dict.fromkeys(CANVASES, 3)
    assert all(clip.is_static for clip in of(Tag.STATIC))
    assert sum(mover.motion is None for clip in of(Tag.TWO_OBJECTS) for mover in clip.movers) == 12


def test_training_clips_are_never_held_out_ones():
    rng = np.random.default_rng(0)
    drawn = {meaning(sample_clip(rng, held_out())) for _ in range(5000)}
    assert not drawn & held_out()
    assert any(meaning(sample_clip(rng)) in held_out() for _ in range(500)), "without the list it would meet them"


def test_held_out_are_exactly_the_prompts_about_motion():
    assert len(held_out()) >= 95
    for item in load_suite():
        assert item.tag not in HELD_OUT_TAGS or meaning(parse(item.prompt)) in held_out()


def test_a_limited_suite_is_spread_over_the_categories():
    assert Counter(item.tag for item in limited(load_suite(), 12)) == dict.fromkeys(Tag, 2)
