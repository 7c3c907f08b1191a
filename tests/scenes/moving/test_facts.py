"""A moving caption's facts: all that it says, nothing else, and different for clips that mean different things."""

import numpy as np
import pytest

from tdm_core.scenes.moving.facts import NUM_FACTS, facts
from tdm_core.scenes.moving.grammar import meaning, parse
from tdm_core.scenes.moving.sampling import sample_clip


@pytest.mark.parametrize(
    "text,number",
    [("a cat standing still", 1), ("a cat moving left", 2), ("a cat moving fast up and a dog standing still", 3),
     ("a cat moving left on a navy canvas", 3)],
)  # fmt: skip
def test_every_phrase_is_one_fact_or_two(text, number):
    assert facts(parse(text)).shape == (NUM_FACTS,) and facts(parse(text)).sum() == number


def test_facts_tell_clips_apart_exactly_as_their_meaning_does():
    rng = np.random.default_rng(0)
    clips = [sample_clip(rng) for _ in range(500)]
    by_facts: dict[bytes, set] = {}
    for clip in clips:
        by_facts.setdefault(facts(clip).tobytes(), set()).add((meaning(clip), clip.canvas))
    assert all(len(meanings) == 1 for meanings in by_facts.values())
