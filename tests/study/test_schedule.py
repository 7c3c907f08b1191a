import random
from collections import Counter
from functools import cache

import pytest
from scipy.stats import binomtest

from tdm_core.study import Controls, Purpose
from tdm_core.study.rules import NO_CONTROLS, REPEAT_GAP
from tdm_core.study.schedule import choose_pair, plan
from tests.studies import FakePair

PAIRS = [FakePair(id=str(i), prompt="") for i in range(5)]


def side_at(secret, rater, position):
    return sides(secret, rater)[position]


@cache
def sides(secret, rater):
    return [slot.side for slot in plan(secret, rater, real_trials=40, controls=NO_CONTROLS)]


def choose(*, seen=(), usage=None, left_arm="student", pairs=PAIRS, rng=None, had=None):
    right_arm = {"student": "teacher", "teacher": "student"}[left_arm]
    return choose_pair(
        pairs,
        seen=seen,
        usage=Counter(usage),
        left_arm=left_arm,
        right_arm=right_arm,
        rng=rng or random.Random(0),
        had=had,
    )


def test_each_arm_lies_left_equally_often_within_three_trials():
    for rater in range(200):
        lead = 0
        for position in range(30):
            lead += 1 if side_at("secret", str(rater), position) else -1
            assert abs(lead) <= 3


def test_sides_are_fair_over_raters_at_every_position():
    for position in range(8):
        ones = sum(side_at("secret", str(rater), position) for rater in range(2000))
        assert binomtest(ones, 2000).pvalue > 1e-4


def test_sides_are_not_foretold_by_the_last_one():
    changes = sum(side_at("secret", str(rater), 11) != side_at("secret", str(rater), 12) for rater in range(2000))
    assert 0.45 < changes / 2000 < 0.70  # a block of alternating sides would give 1


def test_sides_stay_the_same_after_a_restart_and_differ_between_studies():
    first = [side_at("secret", "rater", position) for position in range(40)]
    assert first == [side_at("secret", "rater", position) for position in range(40)]
    assert first != [side_at("another", "rater", position) for position in range(40)]


def test_the_least_used_pair_is_chosen():
    usage = {(str(i), "student"): 1 for i in range(5) if i != 3}
    assert choose(usage=usage).id == "3"


def test_among_equals_the_pair_that_needs_this_side_is_chosen():
    usage = {(str(i), "student"): 1 for i in range(4)} | {("4", "teacher"): 1}
    assert choose(usage=usage, left_arm="student").id == "4"
    assert choose(usage=usage, left_arm="teacher").id != "4"


def test_equals_are_drawn_at_random():
    rng = random.Random(1)
    assert {choose(rng=rng).id for _ in range(100)} == {"0", "1", "2", "3", "4"}


def test_a_pair_that_was_seen_is_not_chosen_again():
    assert choose(seen={"0", "1", "2", "4"}).id == "3"
    assert choose(seen={pair.id for pair in PAIRS}) is None


def test_categories_rotate_before_votes_are_evened_out():
    pairs = [FakePair(id=str(i), prompt="", category="even" if i % 2 == 0 else "odd") for i in range(5)]
    busy = {(str(i), "student"): 9 for i in (1, 3)}
    assert choose(pairs=pairs, usage=busy, seen={"0"}, had={"even": 1}).category == "odd"
    assert choose(pairs=pairs, usage=busy, seen={"0", "1"}, had={"even": 1, "odd": 1}).category == "even"


def some_plans(real_trials, controls=Controls()):  # noqa: B008 frozen
    return [plan("secret", str(rater), real_trials=real_trials, controls=controls) for rater in range(200)]


@pytest.mark.parametrize(
    ("real", "golds", "identical", "repeats"), [(30, 3, 1, 2), (20, 2, 1, 1), (8, 2, 0, 0), (9, 2, 0, 1)]
)
def test_a_plan_holds_what_the_protocol_asks_for(real, golds, identical, repeats):
    for slots in some_plans(real):
        counts = Counter(slot.purpose for slot in slots)
        assert [slot.purpose for slot in slots[:2]] == [Purpose.PRACTICE] * 2
        assert counts[Purpose.PRACTICE] == 2
        assert (counts[Purpose.REAL], counts[Purpose.GOLD]) == (real, golds)
        assert (counts[Purpose.IDENTICAL], counts[Purpose.REPEAT]) == (identical, repeats)


def test_repeats_mirror_a_real_trial_far_enough_before():
    for slots in some_plans(12, Controls(repeat_share=0.3)):
        originals = [slot.repeat_of for slot in slots if slot.purpose is Purpose.REPEAT]
        assert len(originals) == len(set(originals)) == 4
        for position, slot in enumerate(slots):
            if slot.repeat_of is not None:
                assert slots[slot.repeat_of].purpose is Purpose.REAL
                assert slot.side == 1 - slots[slot.repeat_of].side
                assert position - slot.repeat_of >= REPEAT_GAP


def test_golds_are_not_to_be_foreseen_by_place_or_side():
    places, sides = Counter(), Counter()
    for slots in some_plans(20):
        places.update(index for index, slot in enumerate(slots) if slot.purpose is Purpose.GOLD)
        sides.update(slot.side for slot in slots if slot.purpose is Purpose.GOLD)
    assert set(places) == set(range(2, 26))
    assert max(places.values()) < 4 * 400 / 24
    assert binomtest(sides[0], sides.total()).pvalue > 1e-4


def test_real_sides_stay_balanced_among_the_controls():
    for slots in some_plans(30):
        lead = 0
        for slot in slots:
            if slot.purpose is Purpose.REAL:
                lead += 1 if slot.side else -1
            assert abs(lead) <= 3
