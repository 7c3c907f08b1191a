"""What the votes of a study say: a pure function of the votes, so that every figure can be computed again.

A vote scores 1 for the arm of interest, 0 for the other, 1/2 for a tie or both bad; both bad is always reported apart.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

from tdm_core.stats import Interval, ShareEstimate, clustered_share, fair_coin_p_value, wilson_interval
from tdm_core.study.trials import Choice, Vote


@dataclass(frozen=True, kw_only=True)
class SideBalance:
    """Whether raters favour a side, whatever lies there."""

    left: int  # votes for the left side
    right: int
    p_value: float  # exact test of an even chance
    first_arm_left: int  # trials with a vote in which the arm of interest lay left
    first_arm_right: int


@dataclass(frozen=True, kw_only=True)
class StudyReport:
    """The study in figures. Shares are those of ``arms[0]``; ``None`` where there is no vote to tell."""

    arms: tuple[str, str]
    votes: int
    raters: int
    prompts: int
    wins: dict[str, int]
    ties: int
    both_bad: int
    share: ShareEstimate | None  # of all votes, ties and both bad as 1/2; two-way clustered interval
    decisive_share: float | None  # of the votes that prefer an arm
    decisive_interval: Interval | None  # Wilson's, as if votes were independent: a reference only
    sides: SideBalance

    def to_json(self) -> dict[str, Any]:
        return asdict(self)


def analyse(votes: Sequence[Vote], *, arms: tuple[str, str], confidence: float = 0.95) -> StudyReport:
    """Count and weigh the votes; the order of the votes does not matter.

    Raises:
        ValueError: if a vote is about another arm than ``arms``.
    """
    strangers = {arm for vote in votes for arm in (vote.trial.left_arm, vote.trial.right_arm)} - set(arms)
    if strangers:
        raise ValueError(f"votes on {sorted(strangers)}, but the study compares {arms[0]} and {arms[1]}")
    choices = Counter(vote.choice for vote in votes)
    wins = {arm: sum(vote.preferred == arm for vote in votes) for arm in arms}
    decisive = sum(wins.values())
    return StudyReport(
        arms=arms,
        votes=len(votes),
        raters=len({vote.trial.rater_id for vote in votes}),
        prompts=len({vote.trial.prompt for vote in votes}),
        wins=wins,
        ties=choices[Choice.TIE],
        both_bad=choices[Choice.BOTH_BAD],
        share=_share(votes, arms[0], confidence),
        decisive_share=wins[arms[0]] / decisive if decisive else None,
        decisive_interval=wilson_interval(wins[arms[0]], decisive, confidence=confidence) if decisive else None,
        sides=SideBalance(
            left=choices[Choice.LEFT],
            right=choices[Choice.RIGHT],
            p_value=fair_coin_p_value(choices[Choice.LEFT], decisive),
            first_arm_left=sum(vote.trial.left_arm == arms[0] for vote in votes),
            first_arm_right=sum(vote.trial.right_arm == arms[0] for vote in votes),
        ),
    )


def score(vote: Vote, arm: str) -> float:
    """1 if the vote prefers ``arm``, 0 if the other, 1/2 if neither."""
    return 0.5 if vote.preferred is None else float(vote.preferred == arm)


def _share(votes: Sequence[Vote], arm: str, confidence: float) -> ShareEstimate | None:
    if not votes:
        return None
    return clustered_share(
        [score(vote, arm) for vote in votes],
        [vote.trial.rater_id for vote in votes],
        [vote.trial.prompt for vote in votes],
        confidence=confidence,
    )
