"""A small study for tests: a clock that is set by hand, pairs that are made up, a rater who looks before voting."""

from dataclasses import dataclass, replace

from tdm_core.errors import UnknownTrialError
from tdm_core.study import Choice, MemoryStore, Offer, StudyService
from tdm_core.study.rules import DEMO

ARMS = ("student", "teacher")
SIDE_BYTES = 50_000  # several pieces on their way to the browser


@dataclass(frozen=True)
class FakePair:
    id: str
    prompt: str
    kind: str = "image"
    width: int = 128
    height: int = 128
    frames: int = 1
    fps: int = 1
    length_ms: int = 0
    category: str = ""
    control_arm: str = "teacher"


class FakePairs:
    """A source of ``count`` pairs whose bodies spell out both arms, so that a test can see what lies left."""

    def __init__(self, count: int) -> None:
        self.made = [FakePair(id=f"pair-{i}", prompt=f"prompt {i}") for i in range(count)]

    def pairs(self):
        return list(self.made)

    def packed(self, pair_id, left_arm, right_arm):
        if pair_id not in {pair.id for pair in self.made}:
            raise UnknownTrialError(f"no pair {pair_id}")
        return b"".join((arm.encode() * SIDE_BYTES)[:SIDE_BYTES] for arm in (left_arm, right_arm))


class Clock:
    """UTC milliseconds that pass only when told."""

    def __init__(self) -> None:
        self.now_ms = 1_800_000_000_000

    def __call__(self) -> int:
        return self.now_ms

    def pass_ms(self, milliseconds: int) -> None:
        self.now_ms += milliseconds


def a_service(*, pairs=40, store=None, clock=None, study_id="demo", **rules) -> StudyService:
    source = FakePairs(pairs) if isinstance(pairs, int) else pairs
    return StudyService(
        store=store or MemoryStore(),
        pairs=source,
        clock=clock or Clock(),
        study_id=study_id,
        rules=replace(DEMO, arms=ARMS, **rules),
    )


def look(service: StudyService, clock: Clock, rater: str) -> Offer:
    """Take the rater's next trial, have its body sent and let the minimum view pass."""
    offer = service.next_trial(rater)
    assert isinstance(offer, Offer), offer
    service.media(rater, offer.media)
    service.media_sent(rater, offer.media)
    clock.pass_ms(service.rules.min_view_ms)
    return offer


def look_and_vote(service: StudyService, clock: Clock, rater: str, choice: Choice = Choice.LEFT) -> str:
    offer = look(service, clock, rater)
    service.cast_vote(rater, offer.trial, choice)
    return offer.trial
