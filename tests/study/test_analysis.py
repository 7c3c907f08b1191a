import json
import random
from dataclasses import replace

import pytest

from tdm_core.study import Choice, CleanRules, Controls, Purpose, StudyRules, Trial, Vote
from tdm_core.study import analyse as analyse_by_rules
from tdm_core.study.rules import DEMO
from tdm_core.study.trials import new_id

ARMS = ("student", "teacher")


def analyse(votes, *, arms=ARMS, withdrawn=(), **rules):
    return analyse_by_rules(votes, rules=replace(DEMO, arms=arms, **rules), withdrawn=withdrawn)


def a_vote(choice, *, left="student", right=None, rater="r", prompt="p", seconds=5.0, answers=(), **facts):
    trial = Trial(
        id=new_id(),
        rater_id=rater,
        position=0,
        pair_id=prompt,
        prompt=prompt,
        left_arm=left,
        right_arm=right or ("teacher" if left == "student" else "student"),
        media_token=new_id(),
        issued_at_ms=0,
        expires_at_ms=10**9,
        sent_at_ms=1,
        **facts,
    )
    return Vote(trial=trial, choice=choice, cast_at_ms=1 + round(seconds * 1000), criteria=dict(answers))


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


def a_gold(*, right, rater="r"):
    choice = Choice.LEFT if right else Choice.TIE
    return a_vote(choice, left="teacher", right="spoiled", rater=rater, purpose=Purpose.GOLD)


def test_only_real_trials_count_and_the_others_tell_about_the_raters():
    first = a_vote(Choice.LEFT)
    votes = [
        first,
        a_gold(right=True),
        a_gold(right=False),
        a_vote(Choice.TIE, left="student", right="student", purpose=Purpose.IDENTICAL),
        a_vote(Choice.RIGHT, left="teacher", purpose=Purpose.REPEAT, repeat_of=first.trial.id),
        a_vote(Choice.LEFT, left="teacher", purpose=Purpose.REPEAT, repeat_of=first.trial.id),
        a_vote(Choice.LEFT, left="teacher", right="spoiled", purpose=Purpose.PRACTICE),
    ]
    report = analyse(votes)
    assert (report.votes, report.wins) == (1, {"student": 1, "teacher": 0})
    assert (report.golds.successes, report.golds.trials) == (1, 2)
    assert (report.identical.successes, report.identical.trials) == (1, 1)
    assert (report.repeats.successes, report.repeats.trials) == (1, 2)


def careful(rater, count=6, **facts):
    return [a_vote(Choice(("left", "right")[i % 2]), rater=rater, prompt=str(i), **facts) for i in range(count)]


@pytest.mark.parametrize(
    ("rule", "votes"),
    [
        ("failed_golds", [*careful("bad"), *(a_gold(right=i == 0, rater="bad") for i in range(3))]),
        ("too_fast", careful("bad", seconds=1.4)),
        ("one_sided", [a_vote(Choice.LEFT, left=ARMS[i % 2], rater="bad", prompt=str(i)) for i in range(15)]),
        ("too_few_votes", careful("bad", count=4)),
    ],
)
def test_each_rule_excludes_its_rater_from_the_clean_estimate_alone(rule, votes):
    report = analyse([*careful("good", 8), *votes])
    assert {name for name, count in report.excluded.items() if count} == {rule}
    assert (report.clean.votes, report.clean.raters) == (8, 1)
    assert report.raters == 2


@pytest.mark.parametrize(
    "votes",
    [
        [*careful("r"), *(a_gold(right=i > 0) for i in range(3))],  # a third is not more than a third
        [*careful("r"), *(a_gold(right=False) for i in range(2))],  # too few to tell
        careful("r", seconds=1.5),
        [a_vote(Choice.LEFT, prompt=str(i)) for i in range(14)],
        careful("r", count=5),
    ],
)
def test_rules_spare_who_just_keeps_them(votes):
    assert analyse(votes).excluded == {"failed_golds": 0, "too_fast": 0, "one_sided": 0, "too_few_votes": 0}


def test_no_exclusion_looks_at_which_arm_won():
    """A rater who prefers one arm throughout is as welcome as one who prefers the other or neither."""
    for arm in ARMS:
        votes = [
            a_vote(Choice.LEFT if (i % 2 == 0) == (arm == "student") else Choice.RIGHT, left=ARMS[i % 2])
            for i in range(30)
        ]
        assert {vote.preferred for vote in votes} == {arm}
        assert sum(analyse(votes).excluded.values()) == 0


def test_who_has_withdrawn_is_in_no_figure():
    votes = [*careful("stays"), *careful("leaves", 20)]
    report = analyse(votes, withdrawn={"leaves"})
    assert (report.votes, report.raters, report.withdrawn) == (6, 1, 1)
    assert report.share == analyse(votes[:6]).share


def test_not_worse_is_shown_by_the_margin_that_was_fixed():
    votes = [a_vote(Choice.LEFT, left=ARMS[i % 2], rater=str(i), prompt=str(i)) for i in range(400)]
    narrow, wide = (analyse(votes, margin=margin).non_inferiority for margin in (0.02, 0.1))
    assert narrow.low == wide.low == pytest.approx(0.5 - 1.65 * (0.25 / 400) ** 0.5, abs=2e-3)
    assert (narrow.is_shown, wide.is_shown) == (False, True)


def test_each_criterion_is_counted_and_adjusted_for_the_others():
    votes = [
        a_vote(Choice.LEFT, rater=str(i), prompt=str(i), answers={"quality": Choice.RIGHT if i % 4 else Choice.TIE})
        for i in range(12)
    ]
    criteria = analyse(votes, criteria=("quality", "motion")).criteria
    assert list(criteria) == ["overall", "quality", "motion"]
    assert (criteria["overall"].wins["student"], criteria["quality"].wins["teacher"], criteria["quality"].ties) == (
        12,
        9,
        3,
    )
    assert criteria["motion"].share is None
    assert criteria["motion"].holm_p_value is None
    assert criteria["overall"].holm_p_value == pytest.approx(2 * criteria["overall"].p_value)
    assert criteria["quality"].holm_p_value == pytest.approx(criteria["quality"].p_value)


def test_raters_who_agree_and_who_do_not():
    together = [
        a_vote(Choice.LEFT, left=ARMS[prompt % 2], rater=str(rater), prompt=str(prompt))
        for prompt in range(6)
        for rater in range(3)
    ]
    apart = [
        a_vote(Choice.LEFT, left=ARMS[rater % 2], rater=str(rater), prompt=str(prompt))
        for prompt in range(6)
        for rater in range(2)
    ]
    assert analyse(together).agreement.nominal == analyse(together).agreement.ordinal == 1.0
    assert analyse(apart).agreement.nominal < 0


def test_in_the_sequence_each_rater_counts_once_and_only_when_done():
    votes = [a_vote(Choice.LEFT, rater=str(r), prompt=str(i)) for r in range(3) for i in range(10 if r < 2 else 7)]
    report = analyse(votes, trials_per_rater=10)
    assert report.sequential.raters == 2
    assert not report.sequential.decided
    many = [a_vote(Choice.LEFT, rater=str(r), prompt=str(i)) for r in range(30) for i in range(10)]
    assert analyse(many, trials_per_rater=10).sequential.decided


def test_clean_rules_are_part_of_what_is_registered():
    rules = StudyRules(clean=CleanRules(fewest_real_votes=3), target=60, controls=Controls())
    assert StudyRules.from_json(rules.to_json()) == rules
    assert rules.sha256 != StudyRules(target=60, controls=Controls()).sha256
