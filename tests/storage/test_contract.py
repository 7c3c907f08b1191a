"""What every store of the study must keep, run on each of them."""

from collections import Counter
from dataclasses import replace

import pytest

from tdm_core.errors import DuplicateVoteError
from tdm_core.storage import open_store
from tdm_core.study import Choice, MemoryStore, Purpose, Rater, Study, StudyRules, Trial, Vote
from tdm_core.study.trials import new_id


@pytest.fixture(params=["memory", "sqlite", "postgresql"])
def store(request, tmp_path):
    if request.param == "memory":
        yield MemoryStore()
        return
    url = request.getfixturevalue("postgresql").database() if request.param == "postgresql" else None
    opened = open_store(tmp_path, url)
    yield opened
    opened.close()


@pytest.fixture
def study(store):
    study = Study(id="one", side_secret="s", created_at_ms=5, rules=StudyRules(title="“Which?”", criteria=("a", "b")))
    with store.writing("one") as records:
        records.add_study(study)
    return study


def a_trial(**changes):
    trial = Trial(
        id=new_id(),
        rater_id="rater",
        position=0,
        pair_id="pair",
        prompt="a 🦊 left of “two” cats\n؟",
        left_arm="student",
        right_arm="teacher",
        media_token=new_id(),
        issued_at_ms=1_800_000_000_000,
        expires_at_ms=1_800_000_900_000,
    )
    return replace(trial, **changes)


def add(store, *things):
    with store.writing("one") as records:
        for thing in things:
            records.add_vote(thing) if isinstance(thing, Vote) else records.add_trial(thing)


def test_a_study_comes_back_as_it_was(store, study):
    with store.reading("one") as records:
        assert records.study() == study
        assert records.vote_count() == 0
        assert records.votes() == []


def test_opening_is_kept(store, study):
    with store.writing("one") as records:
        records.open_study(7)
    with store.reading("one") as records:
        assert records.study() == replace(study, opened_at_ms=7)


def test_a_study_that_was_never_added_is_none(store, study):
    with store.reading("another") as records:
        assert records.study() is None


def test_closing_is_kept(store, study):
    with store.writing("one") as records:
        records.close_study(9)
    with store.reading("one") as records:
        assert records.study() == replace(study, closed_at_ms=9)


def test_pausing_is_kept_until_it_goes_on(store, study):
    for paused_at_ms in (9, None):
        with store.writing("one") as records:
            records.set_paused(paused_at_ms)
        with store.reading("one") as records:
            assert records.study() == replace(study, paused_at_ms=paused_at_ms)


def test_all_trials_of_a_study_come_back(store, study):
    trials = [a_trial(pair_id="a"), a_trial(rater_id="other", pair_id="b")]
    add(store, *trials)
    with store.reading("one") as records:
        assert sorted(records.trials(), key=lambda trial: trial.pair_id) == trials
    with store.reading("two") as records:
        assert records.trials() == []


def test_a_trial_comes_back_as_it_was_by_id_and_by_token(store, study):
    trial = a_trial()
    add(store, trial)
    with store.reading("one") as records:
        assert records.trial(trial.id) == trial
        assert records.trial_of_media(trial.media_token) == trial
        assert records.trial(trial.media_token) is None
        assert records.trial_of_media(trial.id) is None


def test_sending_is_kept(store, study):
    trial = a_trial()
    add(store, trial)
    with store.writing("one") as records:
        records.mark_sent(trial.id, 77)
        assert records.trial(trial.id).sent_at_ms == 77
    with store.reading("one") as records:
        assert records.trial(trial.id).sent_at_ms == 77


def test_skipping_is_kept_and_frees_the_pair(store, study):
    trial = a_trial()
    add(store, trial)
    with store.writing("one") as records:
        records.mark_skipped(trial.id, 77)
    with store.reading("one") as records:
        assert records.trial(trial.id) == replace(trial, skipped_at_ms=77)
        assert records.usage(0) == Counter()


def test_a_repeat_is_kept_and_counts_for_no_pair(store, study):
    trial = a_trial()
    repeat = a_trial(position=1, purpose=Purpose.REPEAT, repeat_of=trial.id)
    add(store, trial, repeat)
    with store.reading("one") as records:
        assert records.trials_of("rater") == [trial, repeat]
        assert records.usage(0) == Counter({("pair", "student"): 1})


def test_a_rater_comes_back_as_last_put(store, study):
    rater = Rater(id="r", consented_at_ms=1)
    with store.writing("one") as records:
        records.put_rater(rater)
        records.put_rater(replace(rater, invite="i", withdrawn_at_ms=2))
    with store.reading("one") as records:
        assert records.rater("r") == Rater(id="r", consented_at_ms=1, invite="i", withdrawn_at_ms=2)
        assert records.rater("another") is None
        assert records.withdrawn() == {"r"}


def test_an_invitation_is_free_until_a_rater_holds_it(store, study):
    with store.writing("one") as records:
        records.add_invites(["a", "b"])
        records.add_invites(["b"])
        records.put_rater(Rater(id="r", invite="a"))
    with store.reading("one") as records:
        assert [records.is_free_invite(code) for code in "abc"] == [False, True, False]


def test_events_come_back_in_order(store, study):
    with store.writing("one") as records:
        records.add_event("unblinded", 3, "by the operator")
        records.add_event("closed", 2)
    with store.reading("one") as records:
        assert records.events() == [("unblinded", 3, "by the operator"), ("closed", 2, "")]


def test_a_raters_trials_come_in_order(store, study):
    trials = [a_trial(position=i, pair_id=str(i)) for i in range(5)]
    add(store, *trials, a_trial(rater_id="other"))
    with store.reading("one") as records:
        assert records.trials_of("rater") == trials
        assert records.trials_of("nobody") == []


def test_votes_come_back_with_their_trials(store, study):
    mine, other = a_trial(), a_trial(rater_id="other")
    votes = [
        Vote(trial=mine, choice=Choice.BOTH_BAD, cast_at_ms=2),
        Vote(trial=other, choice=Choice.LEFT, cast_at_ms=1, criteria={"b": Choice.TIE, "a": Choice.LEFT}, confidence=3),
    ]
    add(store, mine, other, *votes)
    with store.reading("one") as records:
        assert records.votes() == votes
        assert records.votes("other") == votes[1:]
        assert records.vote_on(mine.id) == votes[0]
        assert records.vote_on(new_id()) is None
        assert records.vote_count() == 2


def test_the_trials_that_a_rater_has_answered_are_known_by_id(store, study):
    voted, waiting, strange = a_trial(), a_trial(pair_id="b", position=1), a_trial(rater_id="other")
    add(store, voted, waiting, strange)
    add(store, *(Vote(trial=trial, choice=Choice.TIE, cast_at_ms=1) for trial in (voted, strange)))
    with store.reading("one") as records:
        assert records.answered_by("rater") == {voted.id}
        assert records.answered_by("nobody") == set()


def test_what_need_not_last_is_seen_at_once_and_undone_on_an_error(store, study):
    kept, lost = a_trial(), a_trial(pair_id="b", position=1)
    with store.writing("one", durable=False) as records:
        records.add_trial(kept)
    with pytest.raises(ZeroDivisionError), store.writing("one", durable=False) as records:
        records.add_trial(lost)
        _ = 1 / 0
    with store.reading("one") as records:
        assert records.trials() == [kept]


@pytest.mark.parametrize("choice", [Choice.LEFT, Choice.RIGHT])
def test_a_second_vote_on_a_trial_is_refused_and_the_first_stays(store, study, choice):
    trial = a_trial()
    first = Vote(trial=trial, choice=Choice.LEFT, cast_at_ms=1)
    add(store, trial, first)
    with pytest.raises(DuplicateVoteError, match=trial.id):
        add(store, Vote(trial=trial, choice=choice, cast_at_ms=2))
    with store.reading("one") as records:
        assert records.votes() == [first]


def test_an_error_undoes_the_whole_unit_of_work(store, study):
    trial = a_trial()
    with pytest.raises(ZeroDivisionError):
        with store.writing("one") as records:
            records.add_trial(trial)
            records.mark_sent(trial.id, 5)
            records.add_vote(Vote(trial=trial, choice=Choice.TIE, cast_at_ms=1))
            records.put_rater(Rater(id="rater"))
            records.close_study(6)
            _ = 1 / 0
    with store.reading("one") as records:
        assert records.study() == study
        assert records.rater("rater") is None
        assert records.usage(0) == Counter()
        assert records.trial(trial.id) is None
        assert records.vote_count() == 0


def test_usage_counts_votes_and_trials_that_may_still_be_voted_on(store, study):
    voted, live, lapsed = (a_trial(rater_id=str(i), expires_at_ms=expiry) for i, expiry in enumerate([10, 30, 20]))
    other_side = a_trial(rater_id="3", expires_at_ms=30, left_arm="teacher", right_arm="student")
    add(store, voted, live, lapsed, other_side, Vote(trial=voted, choice=Choice.TIE, cast_at_ms=1))
    with store.reading("one") as records:
        assert records.usage(now_ms=20) == Counter({("pair", "student"): 2, ("pair", "teacher"): 1})


def test_studies_do_not_see_each_other(store, study):
    trial = a_trial()
    add(store, trial, Vote(trial=trial, choice=Choice.TIE, cast_at_ms=1))
    with store.writing("two") as records:
        records.add_study(Study(id="two", side_secret="t", created_at_ms=6))
    with store.reading("two") as records:
        assert (records.trial(trial.id), records.trial_of_media(trial.media_token)) == (None, None)
        assert (records.trials_of("rater"), records.votes(), records.votes("rater")) == ([], [], [])
        assert (records.vote_count(), records.usage(0)) == (0, Counter())
