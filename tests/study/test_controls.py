"""Trials that say something about the rater: practice, gold, identical pairs, mirrored repeats; and who may vote."""

from collections import Counter

import pytest

from tdm_core.errors import (
    ConfigError,
    DuplicateVoteError,
    ExpiredTrialError,
    InvitationError,
    RequestError,
    UnknownTrialError,
)
from tdm_core.study import Choice, Controls, Offer, Purpose
from tdm_core.study.rules import StudyRules
from tests.studies import FakePair, FakePairs, a_service, look, look_and_vote


@pytest.fixture
def service(clock, store):
    return a_service(clock=clock, store=store, trials_per_rater=20, controls=Controls())


def votes_of(store, rater):
    with store.reading("demo") as records:
        return records.votes(rater)


def take_part(service, clock, rater, choose=lambda offer, body: Choice.LEFT):
    offers = []
    while isinstance(service.next_trial(rater), Offer):
        offer = look(service, clock, rater)
        offers.append(offer)
        service.cast_vote(rater, offer.trial, choose(offer, service.media(rater, offer.media)))
    return offers


def test_a_rater_gets_the_whole_plan_and_a_fixed_end(service, clock, store):
    offers = take_part(service, clock, "r")
    purposes = Counter(vote.trial.purpose for vote in votes_of(store, "r"))
    assert purposes == {"practice": 2, "real": 20, "gold": 2, "identical": 1, "repeat": 1}
    assert [offer.total for offer in offers] == [26] * 26
    assert [offer.number for offer in offers] == list(range(1, 27))
    assert service.next_trial("r").state == "finished"


def test_only_practice_shows_in_what_the_browser_learns(service, clock, store):
    """Offers of all other kinds have the same keys and say the same, but for prompt, number and random tokens."""
    offers = {offer.trial: vars(offer) for offer in take_part(service, clock, "r")}
    sayings = {
        vote.trial.purpose: {key: offers[vote.trial.id][key] for key in ("practice", "kind", "width", "min_view_ms")}
        for vote in votes_of(store, "r")
    }
    assert sayings.pop(Purpose.PRACTICE)["practice"] is True
    assert len(set(map(str, sayings.values()))) == 1
    assert "spoiled" not in str(offers)


def test_bodies_of_controls_are_as_long_as_all_others(service, clock):
    lengths = set()
    take_part(service, clock, "r", lambda offer, body: lengths.add(len(body)) or Choice.TIE)
    assert len(lengths) == 1


def test_controls_show_what_they_promise(service, clock, store):
    bodies = {}
    take_part(service, clock, "r", lambda offer, body: bodies.setdefault(offer.trial, body) and Choice.TIE)
    for vote in votes_of(store, "r"):
        body = bodies[vote.trial.id]
        left, right = (
            next(a for a in ("student", "teacher", "spoiled") if half.startswith(a.encode()))
            for half in (body[:50_000], body[50_000:])
        )
        if vote.trial.purpose in (Purpose.GOLD, Purpose.PRACTICE):
            assert {left, right} == {"teacher", "spoiled"}
            assert vote.trial.right_answer == (Choice.RIGHT if left == "spoiled" else Choice.LEFT)
        elif vote.trial.purpose is Purpose.IDENTICAL:
            assert left == right
            assert vote.trial.right_answer is Choice.TIE
        else:
            assert {left, right} == {"student", "teacher"}
            assert vote.trial.right_answer is None


def test_repeats_exchange_the_sides_of_a_trial_with_a_vote(service, clock, store):
    take_part(service, clock, "r")
    votes = {vote.trial.id: vote.trial for vote in votes_of(store, "r")}
    [repeat] = [trial for trial in votes.values() if trial.purpose is Purpose.REPEAT]
    original = votes[repeat.repeat_of]
    assert (repeat.pair_id, repeat.left_arm, repeat.right_arm) == (
        original.pair_id,
        original.right_arm,
        original.left_arm,
    )


def test_a_rater_who_knows_the_arms_answers_every_control_rightly(service, clock):
    def knows(offer, body):
        left, right = body[:7], body[50_000:50_007]
        if left == right:
            return Choice.TIE
        return Choice.LEFT if right.startswith(b"spoiled") or left.startswith(b"student") else Choice.RIGHT

    take_part(service, clock, "r", knows)
    service.close()
    report = service.results()
    assert report.wins == {"student": 20, "teacher": 0}
    for count in (report.golds, report.repeats, report.identical):
        assert count.successes == count.trials > 0
    assert sum(report.excluded.values()) == 0


def test_pairs_without_controls_give_real_trials_instead(clock, store):
    pairs = FakePairs(40)
    pairs.made = [FakePair(id=pair.id, prompt=pair.prompt, control_arm="") for pair in pairs.made]
    service = a_service(pairs=pairs, clock=clock, store=store, trials_per_rater=20, controls=Controls())
    take_part(service, clock, "r")
    assert {vote.trial.purpose for vote in votes_of(store, "r")} == {Purpose.REAL, Purpose.REPEAT}


def test_practice_is_told_after_its_vote_and_nothing_else_ever(service, clock):
    offer = look(service, clock, "r")
    assert offer.practice
    assert service.practice_answer("r", offer.trial) is None
    service.cast_vote("r", offer.trial, Choice.TIE)
    assert service.practice_answer("r", offer.trial) in (Choice.LEFT, Choice.RIGHT)
    with pytest.raises(UnknownTrialError):
        service.practice_answer("thief", offer.trial)
    look_and_vote(service, clock, "r")
    for _ in range(10):
        offer = look(service, clock, "r")
        service.cast_vote("r", offer.trial, Choice.TIE)
        assert service.practice_answer("r", offer.trial) is None


def test_a_skipped_trial_takes_no_vote_and_another_pair_follows(service, clock, store):
    offer = look(service, clock, "r")
    service.skip("r", offer.trial)
    service.skip("r", offer.trial)  # a retry
    with pytest.raises(ExpiredTrialError, match="skipped"):
        service.cast_vote("r", offer.trial, Choice.LEFT)
    with pytest.raises(ExpiredTrialError):
        service.media("r", offer.media)
    after = service.next_trial("r")
    assert after.prompt != offer.prompt
    assert (after.number, after.total) == (1, 25)
    with pytest.raises(UnknownTrialError):
        service.skip("thief", after.trial)


def test_a_skipped_pair_goes_back_to_the_others(clock):
    service = a_service(pairs=2, needed=1, target=2, clock=clock)
    first = look(service, clock, "one")
    service.skip("one", first.trial)
    other = service.next_trial("one").prompt
    assert look(service, clock, "two").prompt == first.prompt != other


def test_a_vote_cannot_be_skipped_afterwards(service, clock):
    trial = look_and_vote(service, clock, "r")
    with pytest.raises(DuplicateVoteError):
        service.skip("r", trial)


def test_answers_to_further_questions_are_kept_and_part_of_the_vote(clock, store):
    service = a_service(clock=clock, store=store, criteria=("quality", "alignment"))
    offer = look(service, clock, "r")
    assert offer.criteria == ("quality", "alignment")
    service.cast_vote("r", offer.trial, Choice.LEFT, criteria={"quality": Choice.TIE}, confidence=2)
    [vote] = votes_of(store, "r")
    assert (vote.criteria, vote.confidence) == ({"quality": Choice.TIE}, 2)
    assert service.cast_vote("r", offer.trial, Choice.LEFT, criteria={"quality": Choice.TIE}, confidence=2) == 1
    with pytest.raises(DuplicateVoteError):
        service.cast_vote("r", offer.trial, Choice.LEFT, criteria={"quality": Choice.LEFT}, confidence=2)


@pytest.mark.parametrize("extra", [{"criteria": {"beauty": Choice.LEFT}}, {"confidence": 4}])
def test_answers_that_nobody_asked_for_are_refused(clock, extra):
    service = a_service(clock=clock, criteria=("quality",))
    offer = look(service, clock, "r")
    with pytest.raises(RequestError, match="quality"):
        service.cast_vote("r", offer.trial, Choice.LEFT, **extra)
    assert service.status().votes == 0


def test_without_consent_there_is_no_trial(clock):
    service = a_service(clock=clock, consent="We keep your votes.")
    assert service.next_trial("r").state == "consent"
    service.consent("r")
    assert isinstance(service.next_trial("r"), Offer)
    assert service.next_trial("another").state == "consent"


def test_who_withdraws_gets_no_trial_and_counts_nowhere(clock):
    service = a_service(clock=clock)
    look_and_vote(service, clock, "r")
    offer = look(service, clock, "r")
    service.withdraw("r")
    assert service.next_trial("r").state == "withdrawn"
    with pytest.raises(UnknownTrialError):
        service.cast_vote("r", offer.trial, Choice.LEFT)
    service.close()
    assert (service.results().votes, service.results().withdrawn) == (0, 1)


def test_an_invitation_lets_one_rater_in(clock):
    service = a_service(clock=clock, identity="invite")
    [code, other] = service.invite(2)
    assert service.next_trial("r").state == "invite"
    service.redeem("r", code)
    service.redeem("r", code)  # a reload
    assert isinstance(service.next_trial("r"), Offer)
    for forged in (code, "nonsense", "\ud800"):
        with pytest.raises(InvitationError):
            service.redeem("thief", forged)
    with pytest.raises(InvitationError):
        service.redeem("r", other)  # one is enough, and the other stays free
    service.redeem("thief", other)


def test_rules_that_cannot_be_kept_are_refused():
    with pytest.raises(ValueError, match="trials_per_rater"):
        StudyRules(target=20, trials_per_rater=20, controls=Controls())
    with pytest.raises(ConfigError, match="gold_share"):
        StudyRules.from_json('{"controls": {"gold_share": 2}}')
    assert StudyRules(target=40, controls=Controls()).real_trials == 34
