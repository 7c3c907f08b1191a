"""A caption's facts: all that it says, nothing else, and different for captions that mean different scenes."""

import numpy as np

from tdm_core.scenes.facts import NUM_FACTS, facts
from tdm_core.scenes.grammar import meaning, parse
from tdm_core.scenes.sampling import sample_scene


def test_every_phrase_is_one_fact_or_two():
    told = {text: int(facts(parse(text)).sum()) for text in ("a cat", "two cats on red", "a cat left of a dog")}
    assert told == {"a cat": 1, "two cats on red": 2, "a cat left of a dog": 4}  # two counts, two sides
    assert facts(parse("a cat on a mint canvas")).shape == (NUM_FACTS,)


def test_a_relation_and_its_inverse_say_the_same():
    one, other = (facts(parse(text)) for text in ("a cat left of a dog", "a dog right of a cat"))
    assert np.array_equal(one, other)
    assert not np.array_equal(one, facts(parse("a dog left of a cat")))


def test_scenes_of_other_meaning_have_other_facts():
    rng = np.random.default_rng(0)
    scenes = [sample_scene(rng, more_relations=0.5) for _ in range(500)]
    by_facts: dict[bytes, set] = {}
    for scene in scenes:
        by_facts.setdefault(facts(scene).tobytes(), set()).add(meaning(scene))
    assert all(len(meanings) == 1 for meanings in by_facts.values())
    assert sum(scene.relation is not None for scene in scenes) > 250
