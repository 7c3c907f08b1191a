import json
import random

import pytest

from tdm_core.study import Choice, Trial, Vote, analyse
from tdm_core.study.trials import new_id

ARMS = ("student", "teacher")


def a_vote(choice, *, left="student", rater="r", prompt="p"):
    trial = Trial(
        id=new_id(),
        rater_id=rater,
        position=0,
        pair_id=prompt,
        prompt=prompt,
        left_arm=left,
        right_arm="teacher" if left == "student" else "student",
        media_token=new_id(),
        issued_at_ms=0,
        expires_at_ms=1,
        sent_at_ms=0,
    )
    return Vote(trial=trial, choice=choice, cast_at_ms=1)


def some_votes(seed=0, count=60):
    rng = random.Random(seed)
    return [
        a_vote(rng.choice(list(Choice)), left=rng.choice(ARMS), rater=str(i % 6), prompt=str(i % 10))
        for i in range(count)
    ]


def test_counts_of_five_votes_by_hand():
    votes = [
        a_vote(Choice.LEFT, left="student", prompt="1"),
        a_vote(Choice.RIGHT, left="teacher", prompt="2"),
        a_vote(Choice.LEFT, left="teacher", prompt="3"),
        a_vote(Choice.TIE, left="teacher", prompt="4"),
        a_vote(Choice.BOTH_BAD, left="student", prompt="5", rater="s"),
    ]
    report = analyse(votes, arms=ARMS)
    assert (report.votes, report.raters, report.prompts) == (5, 2, 5)
    assert report.wins == {"student": 2, "teacher": 1}
    assert (report.ties, report.both_bad) == (1, 1)
    assert report.share.value == pytest.approx((2 + 0.5 + 0.5) / 5)
    assert report.decisive_share == pytest.approx(2 / 3)
    assert (report.sides.left, report.sides.right) == (2, 1)
    assert (report.sides.first_arm_left, report.sides.first_arm_right) == (2, 3)


def test_swapping_left_and_right_everywhere_changes_only_the_sides():
    mirror = {Choice.LEFT: Choice.RIGHT, Choice.RIGHT: Choice.LEFT}
    votes = some_votes()
    mirrored = [
        a_vote(mirror.get(v.choice, v.choice), left=v.trial.right_arm, rater=v.trial.rater_id, prompt=v.trial.prompt)
        for v in votes
    ]
    there, back = analyse(votes, arms=ARMS), analyse(mirrored, arms=ARMS)
    assert (there.wins, there.ties, there.both_bad, there.share) == (back.wins, back.ties, back.both_bad, back.share)
    assert (there.sides.left, there.sides.first_arm_left) == (back.sides.right, back.sides.first_arm_right)


def test_swapping_the_arms_mirrors_the_share():
    there, back = (analyse(some_votes(), arms=arms) for arms in (ARMS, ARMS[::-1]))
    assert (there.share.low, there.share.value) == pytest.approx((1 - back.share.high, 1 - back.share.value))


def test_the_order_of_the_votes_does_not_matter():
    votes = some_votes()
    there, back = analyse(votes, arms=ARMS), analyse(votes[::-1], arms=ARMS)
    assert there.wins == back.wins
    assert (there.share.value, there.share.low, there.share.high) == pytest.approx(
        (back.share.value, back.share.low, back.share.high)
    )


def test_a_side_that_always_wins_is_noticed():
    report = analyse([a_vote(Choice.LEFT, left=ARMS[i % 2], prompt=str(i)) for i in range(20)], arms=ARMS)
    assert report.sides.p_value < 1e-5
    assert report.share.value == 0.5


def test_no_votes_make_a_report_without_shares():
    report = analyse([], arms=ARMS)
    assert (report.votes, report.share, report.decisive_share, report.decisive_interval) == (0, None, None, None)


def test_the_report_is_json():
    values = json.loads(json.dumps(analyse(some_votes(), arms=ARMS).to_json(), allow_nan=False))
    assert values["arms"] == ["student", "teacher"]
    assert values["share"]["low"] < values["share"]["value"] < values["share"]["high"]


def test_votes_on_other_arms_are_refused():
    with pytest.raises(ValueError, match="'student'"):
        analyse(some_votes(), arms=("tdm", "teacher"))
