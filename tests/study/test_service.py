from collections import Counter

import pytest

from tdm_core.errors import (
    DuplicateVoteError,
    EarlyVoteError,
    ExpiredTrialError,
    StudyClosedError,
    StudyOpenError,
    UnknownTrialError,
)
from tdm_core.study import Choice, MemoryStore, Offer
from tdm_core.study.trials import new_id
from tests.studies import FakePair, FakePairs, a_service, look, look_and_vote

DAY_MS = 24 * 3600 * 1000


@pytest.fixture
def service(clock):
    return a_service(clock=clock)


def test_the_study_opens_with_enough_pairs(clock):
    pairs = FakePairs(9)
    service = a_service(pairs=pairs, clock=clock)
    assert service.next_trial("r").state == "preparing"
    pairs.made = FakePairs(10).made
    assert service.status().state == "open"
    assert isinstance(service.next_trial("r"), Offer)


def test_an_offer_says_nothing_of_arms(service):
    offer = service.next_trial("r")
    assert (offer.number, offer.total, offer.kind, offer.width, offer.min_view_ms) == (1, 40, "image", 128, 1500)
    assert not any(arm in str(offer) for arm in service.rules.arms)


def test_a_reload_gives_the_same_trial_and_the_same_sides(service):
    first = service.next_trial("r")
    assert service.next_trial("r") == first
    assert service.media("r", first.media) == service.media("r", first.media)


def test_another_service_on_the_same_store_gives_the_same_trial(clock):
    store = MemoryStore()
    offers = [a_service(store=store, clock=clock).next_trial("r") for _ in range(2)]
    assert offers[0] == offers[1]


def test_a_vote_after_the_minimum_view_counts(service, clock):
    offer = look(service, clock, "r")
    assert service.cast_vote("r", offer.trial, Choice.TIE) == 1
    assert service.status().votes == 1
    assert service.next_trial("r").number == 2


def test_a_video_is_seen_once_through_before_a_vote(clock):
    pairs = FakePairs(10)
    pairs.made = [FakePair(id=pair.id, prompt=pair.prompt, kind="video", length_ms=4000) for pair in pairs.made]
    service = a_service(pairs=pairs, clock=clock)
    assert service.status().kind == "video"
    offer = look(service, clock, "r")
    assert (offer.kind, offer.min_view_ms) == ("video", 4000)
    clock.pass_ms(4000 - service.rules.min_view_ms - 1)
    with pytest.raises(EarlyVoteError, match="4 s"):
        service.cast_vote("r", offer.trial, Choice.TIE)
    clock.pass_ms(1)
    assert service.cast_vote("r", offer.trial, Choice.TIE) == 1


def test_the_same_vote_again_changes_nothing(service, clock):
    trial = look_and_vote(service, clock, "r", Choice.LEFT)
    clock.pass_ms(DAY_MS)
    assert service.cast_vote("r", trial, Choice.LEFT) == 1


def test_another_choice_on_one_trial_is_refused(service, clock):
    trial = look_and_vote(service, clock, "r", Choice.LEFT)
    with pytest.raises(DuplicateVoteError):
        service.cast_vote("r", trial, Choice.RIGHT)
    assert service.status().votes == 1


@pytest.mark.parametrize("forged", ["0" * 32, "x", "\ud800", "' OR 1=1 --"])
def test_a_forged_trial_is_unknown(service, forged):
    service.next_trial("r")
    with pytest.raises(UnknownTrialError):
        service.cast_vote("r", forged, Choice.LEFT)
    with pytest.raises(UnknownTrialError):
        service.media("r", forged)


def test_the_trial_of_another_rater_is_unknown(service, clock):
    offer = look(service, clock, "r")
    with pytest.raises(UnknownTrialError):
        service.cast_vote("thief", offer.trial, Choice.LEFT)
    with pytest.raises(UnknownTrialError):
        service.media("thief", offer.media)
    with pytest.raises(UnknownTrialError):
        service.media_sent("thief", offer.media)


def test_a_vote_before_the_body_was_sent_is_early(service, clock):
    offer = service.next_trial("r")
    service.media("r", offer.media)  # begun, never finished
    clock.pass_ms(60_000)
    with pytest.raises(EarlyVoteError, match="sent in full"):
        service.cast_vote("r", offer.trial, Choice.LEFT)
    assert service.status().votes == 0


def test_a_vote_before_the_minimum_view_is_early(service, clock):
    offer = service.next_trial("r")
    service.media_sent("r", offer.media)
    clock.pass_ms(1499)
    with pytest.raises(EarlyVoteError, match=r"1\.5 s"):
        service.cast_vote("r", offer.trial, Choice.LEFT)
    clock.pass_ms(1)
    assert service.cast_vote("r", offer.trial, Choice.LEFT) == 1


def test_pictures_sent_again_do_not_restart_the_minimum_view(service, clock):
    offer = look(service, clock, "r")
    service.media_sent("r", offer.media)
    assert service.cast_vote("r", offer.trial, Choice.LEFT) == 1


def test_after_the_clock_was_set_back_a_reload_makes_the_trial_votable(service, clock):
    offer = look(service, clock, "r")
    clock.pass_ms(-DAY_MS)
    with pytest.raises(EarlyVoteError):
        service.cast_vote("r", offer.trial, Choice.LEFT)
    assert look(service, clock, "r") == offer
    assert service.cast_vote("r", offer.trial, Choice.LEFT) == 1


def test_an_expired_trial_takes_no_vote_and_another_pair_follows(service, clock):
    offer = look(service, clock, "r")
    clock.pass_ms(service.rules.trial_life_ms)
    with pytest.raises(ExpiredTrialError):
        service.cast_vote("r", offer.trial, Choice.LEFT)
    with pytest.raises(ExpiredTrialError):
        service.media("r", offer.media)
    after = service.next_trial("r")
    assert after.prompt != offer.prompt
    assert (after.number, after.total) == (1, 39)


def test_pictures_are_not_served_after_the_vote(service, clock):
    offer = look(service, clock, "r")
    service.cast_vote("r", offer.trial, Choice.LEFT)
    with pytest.raises(ExpiredTrialError):
        service.media("r", offer.media)


def test_a_rater_sees_each_pair_once_and_then_is_finished(service, clock):
    prompts = []
    while isinstance(offer := service.next_trial("r"), Offer):
        prompts.append(offer.prompt)
        assert (offer.number, offer.total) == (len(prompts), 40)
        look_and_vote(service, clock, "r")
    assert offer.state == "finished"
    assert len(prompts) == len(set(prompts)) == 40


def test_a_rater_who_outruns_the_bank_waits(clock):
    service = a_service(pairs=10, clock=clock)
    for _ in range(10):
        look_and_vote(service, clock, "r")
    assert service.next_trial("r").state == "preparing"


def test_votes_spread_evenly_over_pairs_and_sides(clock):
    store = MemoryStore()
    service = a_service(pairs=20, target=20, store=store, clock=clock)
    for rater in range(30):
        for _ in range(10):
            look_and_vote(service, clock, f"rater {rater}")
    with store.reading("demo") as records:
        votes = records.votes()
    per_pair = Counter(vote.trial.pair_id for vote in votes)
    assert set(per_pair.values()) <= {14, 15, 16}
    left = Counter(vote.trial.pair_id for vote in votes if vote.trial.left_arm == "student")
    assert all(abs(2 * left[pair] - per_pair[pair]) <= 5 for pair in per_pair)


def test_results_are_hidden_until_the_study_is_closed(service, clock):
    look_and_vote(service, clock, "r")
    with pytest.raises(StudyOpenError):
        service.results()
    assert service.close().state == "closed"
    assert service.results().votes == 1


def test_a_closed_study_takes_and_shows_nothing_more(service, clock):
    voted = look_and_vote(service, clock, "r", Choice.LEFT)
    offer = look(service, clock, "r")
    service.close()
    assert service.next_trial("r").state == "closed"
    with pytest.raises(StudyClosedError):
        service.cast_vote("r", offer.trial, Choice.LEFT)
    with pytest.raises(StudyClosedError):
        service.media("r", offer.media)
    assert service.cast_vote("r", voted, Choice.LEFT) == 1  # a retry of what was acknowledged
    assert service.close().state == "closed"


def test_a_rater_who_always_knows_the_student_is_found_out_whatever_the_sides(clock):
    service = a_service(clock=clock)
    for _ in range(40):
        offer = look(service, clock, "r")
        choice = Choice.LEFT if service.media("r", offer.media).startswith(b"student") else Choice.RIGHT
        service.cast_vote("r", offer.trial, choice)
    service.close()
    report = service.results()
    assert report.wins == {"student": 40, "teacher": 0}
    assert abs(report.sides.left - report.sides.right) <= 3


def test_each_trial_has_a_fresh_media_token(service, clock):
    tokens = set()
    for rater in range(5):
        tokens |= {look(service, clock, str(rater)).media}
    assert len(tokens) == 5


def test_an_unknown_token_is_not_noted_as_sent(service):
    with pytest.raises(UnknownTrialError):
        service.media_sent("r", new_id())
