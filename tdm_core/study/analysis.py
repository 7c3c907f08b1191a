"""What the votes of a study say: a pure function of the votes, so that every figure can be computed again.

A vote scores 1 for the arm of interest, 0 for the other, 1/2 for a tie or both bad; both bad is always reported apart.
Only real trials count; gold, identical, repeated and practice trials tell about the raters. Raters who have withdrawn
are in no figure but their own number.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Collection, Iterable, Sequence
from dataclasses import asdict, dataclass
from math import ceil
from typing import Any

from tdm_core.stats import (
    Interval,
    ShareEstimate,
    betting_interval,
    clustered_share,
    even_share_p_value,
    fair_coin_p_value,
    holm,
    krippendorff_alpha,
    wilson_interval,
)
from tdm_core.study.exclusions import excluded_raters, real, without
from tdm_core.study.rules import StudyRules
from tdm_core.study.trials import Choice, Purpose, Vote

__all__ = ["Interval", "PromptShare", "SideBalance", "StudyReport", "analyse", "score", "sequence"]

METHODOLOGY = 2  # raised when a figure is computed in another way
FINISHED = 0.8  # share of a rater's real trials after which the rater counts in the sequence

Answers = Sequence[tuple[Vote, Choice]]  # to one question


@dataclass(frozen=True, kw_only=True)
class SideBalance:
    """Whether raters favour a side, whatever lies there."""

    left: int  # votes for the left side
    right: int
    p_value: float  # exact test of an even chance
    first_arm_left: int  # trials with a vote in which the arm of interest lay left
    first_arm_right: int


@dataclass(frozen=True, kw_only=True)
class Count:
    """How many of how many, with Wilson's interval; ``None`` where there were none."""

    successes: int
    trials: int
    interval: Interval | None


@dataclass(frozen=True, kw_only=True)
class NonInferiority:
    """Whether the share lies above one half - margin, by the margin that was written down before the first vote."""

    margin: float
    low: float  # one-sided bound of the share
    is_shown: bool


@dataclass(frozen=True, kw_only=True)
class Sequential:
    """The interval that may be looked at at any time: each rater counts once, on finishing."""

    interval: Interval
    raters: int
    decided: bool  # the even chance lies outside


@dataclass(frozen=True, kw_only=True)
class Agreement:
    """Krippendorff's alpha between raters; ``None`` where no pair was judged twice or all answers are alike."""

    nominal: float | None
    ordinal: float | None  # other arm, neither, arm of interest


@dataclass(frozen=True, kw_only=True)
class CriterionResult:
    """One question's answers. P-values test an even share; Holm's are adjusted for asking several questions."""

    wins: dict[str, int]
    ties: int
    both_bad: int
    share: ShareEstimate | None
    p_value: float | None
    holm_p_value: float | None


@dataclass(frozen=True, kw_only=True)
class CleanEstimate:
    """The same share without the raters that the rules exclude."""

    votes: int
    raters: int
    share: ShareEstimate | None
    non_inferiority: NonInferiority | None


@dataclass(frozen=True, kw_only=True)
class PromptShare:
    """One prompt's votes."""

    prompt: str
    votes: int
    share: float


@dataclass(frozen=True, kw_only=True)
class StudyReport:
    """The study in figures. Shares are those of ``arms[0]``; ``None`` where there is no vote to tell."""

    methodology: int
    rules_sha256: str
    arms: tuple[str, str]
    votes: int
    raters: int
    prompts: int
    target_raters: int
    wins: dict[str, int]
    ties: int
    both_bad: int
    net_preference: float | None  # (wins - losses) / votes
    share: ShareEstimate | None  # of all votes, ties and both bad as 1/2; two-way clustered interval
    decisive_share: float | None  # of the votes that prefer an arm
    decisive_interval: Interval | None  # Wilson's, as if votes were independent: a reference only
    non_inferiority: NonInferiority | None
    sequential: Sequential
    clean: CleanEstimate
    excluded: dict[str, int]  # rule -> raters
    withdrawn: int
    sides: SideBalance
    agreement: Agreement
    golds: Count  # answered rightly
    repeats: Count  # answered as the first time
    identical: Count  # called alike
    criteria: dict[str, CriterionResult]  # "overall" first
    per_prompt: tuple[PromptShare, ...]

    def to_json(self) -> dict[str, Any]:
        return asdict(self)


def analyse(votes: Sequence[Vote], *, rules: StudyRules, withdrawn: Collection[str] = ()) -> StudyReport:
    """Count and weigh the votes, oldest first; only the sequence looks at their order.

    Raises:
        ValueError: if a real vote is about another arm than the rules' two.
    """
    arms, votes = rules.arms, without(votes, withdrawn)
    scored = real(votes)
    strangers = {arm for vote in scored for arm in (vote.trial.left_arm, vote.trial.right_arm)} - set(arms)
    if strangers:
        raise ValueError(f"votes on {sorted(strangers)}, but the study compares {arms[0]} and {arms[1]}")
    excluded = excluded_raters(votes, rules.clean)
    clean = without(scored, set().union(*excluded.values()))
    overall = _overall(scored)
    choices = Counter(vote.choice for vote in scored)
    wins = _wins(overall, arms)
    decisive = sum(wins.values())
    return StudyReport(
        methodology=METHODOLOGY,
        rules_sha256=rules.sha256,
        arms=arms,
        votes=len(scored),
        raters=len({vote.trial.rater_id for vote in scored}),
        prompts=len({vote.trial.prompt for vote in scored}),
        target_raters=rules.target_raters,
        wins=wins,
        ties=choices[Choice.TIE],
        both_bad=choices[Choice.BOTH_BAD],
        net_preference=(wins[arms[0]] - wins[arms[1]]) / len(scored) if scored else None,
        share=_share(overall, arms[0], rules.confidence),
        decisive_share=wins[arms[0]] / decisive if decisive else None,
        decisive_interval=wilson_interval(wins[arms[0]], decisive, confidence=rules.confidence) if decisive else None,
        non_inferiority=_non_inferiority(overall, rules),
        sequential=sequence(scored, rules),
        clean=CleanEstimate(
            votes=len(clean),
            raters=len({vote.trial.rater_id for vote in clean}),
            share=_share(_overall(clean), arms[0], rules.confidence),
            non_inferiority=_non_inferiority(_overall(clean), rules),
        ),
        excluded={rule: len(raters) for rule, raters in excluded.items()},
        withdrawn=len(withdrawn),
        sides=SideBalance(
            left=choices[Choice.LEFT],
            right=choices[Choice.RIGHT],
            p_value=fair_coin_p_value(choices[Choice.LEFT], decisive),
            first_arm_left=sum(vote.trial.left_arm == arms[0] for vote in scored),
            first_arm_right=sum(vote.trial.right_arm == arms[0] for vote in scored),
        ),
        agreement=_agreement(scored, arms),
        golds=_count(vote.choice is vote.trial.right_answer for vote in votes if vote.trial.purpose is Purpose.GOLD),
        repeats=_repeats(votes),
        identical=_count(
            vote.choice in (Choice.TIE, Choice.BOTH_BAD) for vote in votes if vote.trial.purpose is Purpose.IDENTICAL
        ),
        criteria=_criteria(scored, rules),
        per_prompt=_per_prompt(scored, arms[0]),
    )


def score(vote: Vote, arm: str, choice: Choice | None = None) -> float:
    """1 if the vote (or this answer of it) prefers ``arm``, 0 if the other, 1/2 if neither."""
    preferred = vote.trial.preferred(choice or vote.choice)
    return 0.5 if preferred is None else float(preferred == arm)


def sequence(votes: Sequence[Vote], rules: StudyRules) -> Sequential:
    """The betting interval over the real votes, oldest first."""
    scores = rater_scores(votes, rules)
    interval = betting_interval(scores, confidence=rules.confidence)
    return Sequential(interval=interval, raters=len(scores), decided=not interval.low <= 0.5 <= interval.high)


def rater_scores(votes: Sequence[Vote], rules: StudyRules) -> list[float]:
    """Each rater's mean score at the vote that makes them count, in the order of those votes."""
    enough = ceil(FINISHED * rules.real_trials)
    sums: dict[str, float] = defaultdict(float)
    counts: Counter[str] = Counter()
    means = []
    for vote in votes:
        rater = vote.trial.rater_id
        counts[rater] += 1
        if counts[rater] <= enough:
            sums[rater] += score(vote, rules.arms[0])
        if counts[rater] == enough:
            means.append(sums[rater] / enough)
    return means


def _overall(votes: Sequence[Vote]) -> Answers:
    return [(vote, vote.choice) for vote in votes]


def _wins(answers: Answers, arms: tuple[str, str]) -> dict[str, int]:
    preferred = Counter(vote.trial.preferred(choice) for vote, choice in answers)
    return {arm: preferred[arm] for arm in arms}


def _share(answers: Answers, arm: str, confidence: float) -> ShareEstimate | None:
    if not answers:
        return None
    return clustered_share(
        [score(vote, arm, choice) for vote, choice in answers],
        [vote.trial.rater_id for vote, _ in answers],
        [vote.trial.prompt for vote, _ in answers],
        confidence=confidence,
    )


def _non_inferiority(answers: Answers, rules: StudyRules) -> NonInferiority | None:
    one_sided = _share(answers, rules.arms[0], 2 * rules.confidence - 1)
    if one_sided is None:
        return None
    return NonInferiority(margin=rules.margin, low=one_sided.low, is_shown=one_sided.low > 0.5 - rules.margin)


def _criteria(votes: Sequence[Vote], rules: StudyRules) -> dict[str, CriterionResult]:
    by_name: dict[str, Answers] = {"overall": _overall(votes)}
    for name in rules.criteria:
        by_name[name] = [(vote, vote.criteria[name]) for vote in votes if name in vote.criteria]
    shares = {name: _share(answers, rules.arms[0], rules.confidence) for name, answers in by_name.items()}
    p_values = {name: even_share_p_value(share) for name, share in shares.items() if share}
    adjusted = dict(zip(p_values, holm(list(p_values.values())), strict=True))
    results = {}
    for name, answers in by_name.items():
        choices = Counter(choice for _, choice in answers)
        results[name] = CriterionResult(
            wins=_wins(answers, rules.arms),
            ties=choices[Choice.TIE],
            both_bad=choices[Choice.BOTH_BAD],
            share=shares[name],
            p_value=p_values.get(name),
            holm_p_value=adjusted.get(name),
        )
    return results


def _agreement(votes: Sequence[Vote], arms: tuple[str, str]) -> Agreement:
    exact, ordered = defaultdict(list), defaultdict(list)
    for vote in votes:
        exact[vote.trial.pair_id].append(vote.preferred or vote.choice.value)
        ordered[vote.trial.pair_id].append(score(vote, arms[0]))
    return Agreement(
        nominal=krippendorff_alpha(exact.values(), scale=(*arms, Choice.TIE.value, Choice.BOTH_BAD.value)),
        ordinal=krippendorff_alpha(ordered.values(), scale=(0.0, 0.5, 1.0), ordinal=True),
    )


def _repeats(votes: Sequence[Vote]) -> Count:
    first = {vote.trial.id: vote.choice for vote in votes}
    repeats = [vote for vote in votes if vote.trial.purpose is Purpose.REPEAT]
    return _count(first.get(vote.trial.repeat_of or "") is vote.choice.mirrored for vote in repeats)


def _per_prompt(votes: Sequence[Vote], arm: str) -> tuple[PromptShare, ...]:
    scores = defaultdict(list)
    for vote in votes:
        scores[vote.trial.prompt].append(score(vote, arm))
    return tuple(
        PromptShare(prompt=prompt, votes=len(own), share=sum(own) / len(own)) for prompt, own in sorted(scores.items())
    )


def _count(outcomes: Iterable[bool]) -> Count:
    known = list(outcomes)
    interval = wilson_interval(sum(known), len(known)) if known else None
    return Count(successes=sum(known), trials=len(known), interval=interval)
