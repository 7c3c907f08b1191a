"""What whoever holds a study may look at while it is open: progress, pace, balance, raters who stand out.

Blind by construction: it is the same, to the digit, when the arms of all real trials are exchanged (a test does that).
So nothing here can sway the operator, and no rater is flagged for liking one arm.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Collection, Mapping, Sequence
from dataclasses import asdict, dataclass
from statistics import median, quantiles
from typing import Any

from tdm_core.stats import fair_coin_p_value
from tdm_core.study.exclusions import excluded_raters, real
from tdm_core.study.rules import StudyRules
from tdm_core.study.trials import Choice, Purpose, Trial, Vote

HOUR_MS = 3_600_000
HOURS = 24
HURRY_VOTES, HURRY_MS = 10, 20_000  # so many votes of one rater in so short a time are flagged
MOST_RATERS = 50  # that are listed


@dataclass(frozen=True, kw_only=True)
class FlaggedRater:
    """A rater who stands out. Registered rules exclude; ``hurry`` and ``same_network`` only ask for a look."""

    rater: str  # the beginning of the id
    votes: int
    median_seconds: float | None
    rules: tuple[str, ...]


@dataclass(frozen=True, kw_only=True)
class Oversight:
    """The study from outside."""

    raters: Mapping[str, int]  # begun, finished, withdrawn
    trials: Mapping[str, int]  # issued, voted, skipped, expired, waiting
    votes_by_purpose: Mapping[str, int]
    votes_per_hour: tuple[int, ...]  # the last 24 hours, the newest last
    seconds: Mapping[str, float]  # from the last byte sent to the vote: p10, median, p90; empty without votes
    choices: Mapping[str, int]  # left, right, tie, both_bad: of real trials, by side and never by arm
    sides_p_value: float | None  # exact test of an even chance of left
    votes_per_pair: tuple[int, int]  # least and most, of the pairs that exist
    side_gap: int  # most by which one pair has been shown one way round more often than the other
    golds_right: tuple[int, int]  # answered rightly, of how many
    excluded: Mapping[str, int]  # rule -> raters
    flagged: tuple[FlaggedRater, ...]

    def to_json(self) -> dict[str, Any]:
        return asdict(self)


def oversee(
    trials: Sequence[Trial],
    votes: Sequence[Vote],
    *,
    rules: StudyRules,
    pair_ids: Collection[str],
    withdrawn: Collection[str],
    plan_length: int,
    now_ms: int,
    neighbours: Collection[str] = (),
) -> Oversight:
    """What is to be seen at this moment.

    Args:
        plan_length: trials of a whole plan, by whose number a rater has finished.
        neighbours: raters who share a network with several others, and may be one person.
    """
    voted, scored = {vote.trial.id for vote in votes}, real(votes)
    sides = Counter(vote.choice.value for vote in scored)
    of_pair = Counter(vote.trial.pair_id for vote in scored)
    golds = [vote for vote in votes if vote.trial.purpose is Purpose.GOLD]
    excluded = excluded_raters(votes, rules.clean)
    plans = Counter(trial.rater_id for trial in trials if not _is_waiting(trial, voted, now_ms))
    left, right = sides[Choice.LEFT], sides[Choice.RIGHT]
    return Oversight(
        raters={
            "begun": len({trial.rater_id for trial in trials}),
            "finished": sum(count >= plan_length for count in plans.values()),
            "withdrawn": len(withdrawn),
        },
        trials=_states(trials, voted, now_ms),
        votes_by_purpose={each.value: sum(vote.trial.purpose is each for vote in votes) for each in Purpose},
        votes_per_hour=_per_hour(votes, now_ms),
        seconds=_pace([seconds for vote in scored if (seconds := _seconds(vote)) is not None]),
        choices={choice.value: sides[choice.value] for choice in Choice},
        sides_p_value=fair_coin_p_value(left, left + right) if left + right else None,
        votes_per_pair=(min((of_pair[each] for each in pair_ids), default=0), max(of_pair.values(), default=0)),
        side_gap=_side_gap(trials, voted, now_ms),
        golds_right=(sum(vote.choice is vote.trial.right_answer for vote in golds), len(golds)),
        excluded={rule: len(raters) for rule, raters in excluded.items()},
        flagged=_flagged(votes, excluded, neighbours),
    )


def _is_waiting(trial: Trial, voted: Collection[str], now_ms: int) -> bool:
    return trial.id not in voted and trial.skipped_at_ms is None and trial.expires_at_ms > now_ms


def _states(trials: Sequence[Trial], voted: Collection[str], now_ms: int) -> dict[str, int]:
    skipped = sum(trial.skipped_at_ms is not None for trial in trials)
    waiting = sum(_is_waiting(trial, voted, now_ms) for trial in trials)
    expired = len(trials) - len(voted) - skipped - waiting
    return {"issued": len(trials), "voted": len(voted), "skipped": skipped, "expired": expired, "waiting": waiting}


def _per_hour(votes: Sequence[Vote], now_ms: int) -> tuple[int, ...]:
    hours = Counter((now_ms - vote.cast_at_ms) // HOUR_MS for vote in votes)
    return tuple(hours[age] for age in reversed(range(HOURS)))


def _seconds(vote: Vote) -> float | None:
    sent = vote.trial.sent_at_ms
    return None if sent is None else (vote.cast_at_ms - sent) / 1000


def _pace(seconds: Sequence[float]) -> dict[str, float]:
    if not seconds:
        return {}
    tenths = quantiles(seconds, n=10, method="inclusive") if len(seconds) > 1 else [seconds[0]] * 9
    return {"p10": tenths[0], "median": median(seconds), "p90": tenths[8]}


def _side_gap(trials: Sequence[Trial], voted: Collection[str], now_ms: int) -> int:
    shown: dict[str, Counter[str]] = defaultdict(Counter)
    for trial in trials:
        if trial.purpose is Purpose.REAL and (trial.id in voted or _is_waiting(trial, voted, now_ms)):
            shown[trial.pair_id][trial.left_arm] += 1
    return max((2 * max(ways.values()) - ways.total() for ways in shown.values()), default=0)


def _flagged(
    votes: Sequence[Vote], excluded: Mapping[str, set[str]], neighbours: Collection[str]
) -> tuple[FlaggedRater, ...]:
    of_rater: dict[str, list[Vote]] = defaultdict(list)
    for vote in votes:
        of_rater[vote.trial.rater_id].append(vote)
    hurried = {rater for rater, own in of_rater.items() if _hurries(own)}
    reasons = dict(excluded) | {"hurry": hurried, "same_network": set(neighbours)}
    reasons.pop("too_few_votes", None)  # whoever has just begun
    found = []
    for rater, own in of_rater.items():
        if broken := tuple(rule for rule, raters in reasons.items() if rater in raters):
            seconds = [value for vote in own if (value := _seconds(vote)) is not None]
            found.append(
                FlaggedRater(
                    rater=rater[:8],
                    votes=len(own),
                    median_seconds=median(seconds) if seconds else None,
                    rules=broken,
                )
            )
    return tuple(sorted(found, key=lambda each: (-len(each.rules), each.rater))[:MOST_RATERS])


def _hurries(votes: Sequence[Vote]) -> bool:
    times = sorted(vote.cast_at_ms for vote in votes)
    return any(late - early < HURRY_MS for early, late in zip(times, times[HURRY_VOTES - 1 :], strict=False))
