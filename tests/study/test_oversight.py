"""What an operator sees of an open study: right, and the same whichever arm the raters prefer."""

from dataclasses import replace

import pytest

from tdm_core.errors import StudyClosedError, StudyPausedError
from tdm_core.study import Choice, Controls, Purpose
from tdm_core.study.oversight import oversee
from tests.studies import ARMS, a_service, look, look_and_vote

CHOICES = list(Choice)


@pytest.fixture
def service(clock, store):
    return a_service(clock=clock, store=store, trials_per_rater=20, controls=Controls())


def cast(service, clock, rater, count, choose=lambda number: CHOICES[number % 4], seconds=3):
    for number in range(count):
        offer = look(service, clock, rater)
        clock.pass_ms(seconds * 1000 - service.rules.min_view_ms)
        service.cast_vote(rater, offer.trial, choose(number))


def with_arms_exchanged(trial):
    """The same trial if the raters had had the other taste: real ones alone say something about the arms."""
    if trial.purpose not in (Purpose.REAL, Purpose.REPEAT):
        return trial
    return replace(trial, left_arm=trial.right_arm, right_arm=trial.left_arm)


def test_nothing_changes_when_the_arms_are_exchanged(service, clock, store):
    for rater in range(6):
        cast(service, clock, f"rater {rater}", 22, choose=lambda number, r=rater: CHOICES[(number + r) % (2 + r % 3)])
    _, seen, _ = service.oversight()
    with store.reading("demo") as records:
        trials, votes, pairs = records.trials(), records.votes(), {trial.pair_id for trial in records.trials()}
    exchanged = oversee(
        [with_arms_exchanged(trial) for trial in trials],
        [replace(vote, trial=with_arms_exchanged(vote.trial)) for vote in votes],
        rules=service.rules,
        pair_ids=pairs,
        withdrawn=(),
        plan_length=26,
        now_ms=clock(),
    )
    ours = oversee(trials, votes, rules=service.rules, pair_ids=pairs, withdrawn=(), plan_length=26, now_ms=clock())
    assert exchanged == ours
    assert (exchanged.choices, exchanged.flagged) == (seen.choices, seen.flagged)
    assert not any(arm in str(seen.to_json()) for arm in ARMS)


def test_progress_and_trials_are_counted(service, clock):
    cast(service, clock, "whole", 26)
    cast(service, clock, "half", 5)
    service.skip("half", service.next_trial("half").trial)
    service.next_trial("waits")
    service.next_trial("late")
    service.withdraw("late")
    _, seen, _ = service.oversight()
    assert seen.raters == {"begun": 4, "finished": 1, "withdrawn": 1}
    assert seen.trials == {"issued": 34, "voted": 31, "skipped": 1, "expired": 0, "waiting": 2}
    clock.pass_ms(service.rules.trial_life_ms)
    assert service.oversight()[1].trials["expired"] == 2
    assert sum(seen.votes_by_purpose.values()) == 31
    assert seen.votes_by_purpose["practice"] == 4
    assert seen.golds_right[1] == seen.votes_by_purpose["gold"]


def test_pace_and_sides(service, clock):
    cast(service, clock, "r", 26, choose=lambda _: Choice.LEFT, seconds=4)
    _, seen, _ = service.oversight()
    assert seen.seconds == pytest.approx({"p10": 4, "median": 4, "p90": 4})
    assert seen.choices == {"left": 20, "right": 0, "tie": 0, "both_bad": 0}
    assert seen.sides_p_value < 1e-4
    assert seen.votes_per_hour[-1] == 26
    assert sum(seen.votes_per_hour) == 26
    clock.pass_ms(3_600_000)
    assert service.oversight()[1].votes_per_hour[-2:] == (26, 0)
    assert seen.side_gap == 1
    assert seen.votes_per_pair == (0, 1)


def test_raters_who_stand_out_are_listed_with_the_reason(service, clock):
    cast(service, clock, "leaning", 26, choose=lambda _: Choice.LEFT, seconds=4)
    cast(service, clock, "hurried!", 26, seconds=1.6)
    cast(service, clock, "careful", 26, seconds=5)
    flagged = {each.rater: each.rules for each in service.oversight()[1].flagged}
    assert "one_sided" in flagged["leaning"]
    assert "hurry" in flagged["hurried!"]
    assert "hurry" not in flagged["leaning"]
    assert "hurry" not in flagged.get("careful", ())


def test_a_study_without_votes_has_an_overview(service):
    status, seen, events = service.oversight()
    assert (status.votes, seen.seconds, seen.sides_p_value, events) == (0, {}, None, [])


def test_a_held_up_study_takes_no_vote_in_any_process_and_loses_none(service, clock, store):
    look_and_vote(service, clock, "r")
    offer = look(service, clock, "r")
    service.hold_up("the screens flicker")
    other = a_service(clock=clock, store=store, trials_per_rater=20, controls=Controls())
    for each in (service, other):
        assert each.status().state == "paused"
        assert each.next_trial("r").state == "paused"
        with pytest.raises(StudyPausedError):
            each.cast_vote("r", offer.trial, Choice.LEFT)
    other.go_on("mended")
    assert service.cast_vote("r", offer.trial, Choice.LEFT) == 2
    assert [(kind, detail) for kind, _, detail in service.oversight()[2]] == [
        ("paused", "the screens flicker"),
        ("resumed", "mended"),
    ]


def test_pausing_twice_is_noted_once_and_a_closed_study_is_not_paused(service):
    service.hold_up("a")
    service.hold_up("b")
    assert len(service.oversight()[2]) == 1
    service.close()
    assert service.status().state == "closed"
    with pytest.raises(StudyClosedError):
        service.hold_up("c")
