import random
from collections import Counter

from scipy.stats import binomtest

from tdm_core.study.schedule import choose_pair, side_at
from tests.studies import FakePair

PAIRS = [FakePair(id=str(i), prompt="") for i in range(5)]


def choose(*, seen=(), usage=None, left_arm="student", pairs=PAIRS, rng=None):
    right_arm = {"student": "teacher", "teacher": "student"}[left_arm]
    return choose_pair(
        pairs,
        seen=seen,
        usage=Counter(usage),
        left_arm=left_arm,
        right_arm=right_arm,
        rng=rng or random.Random(0),
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
