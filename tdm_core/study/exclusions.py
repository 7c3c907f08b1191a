"""Whose votes the clean estimate leaves out, by the rules that were written down before the first vote.

No rule looks at which arm won: in a study of two arms an honest rater may well prefer one of them throughout.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Collection, Sequence
from statistics import median

from tdm_core.study.rules import CleanRules
from tdm_core.study.trials import Choice, Purpose, Vote


def excluded_raters(votes: Sequence[Vote], rules: CleanRules) -> dict[str, set[str]]:
    """The raters that each rule excludes; a rater may be under several."""
    by_rater: dict[str, list[Vote]] = defaultdict(list)
    for vote in votes:
        by_rater[vote.trial.rater_id].append(vote)
    checks = {
        "failed_golds": _fails_golds,
        "too_fast": _is_too_fast,
        "one_sided": _is_one_sided,
        "too_few_votes": _has_too_few,
    }
    return {name: {rater for rater, own in by_rater.items() if check(own, rules)} for name, check in checks.items()}


def without(votes: Sequence[Vote], raters: Collection[str]) -> list[Vote]:
    return [vote for vote in votes if vote.trial.rater_id not in raters]


def real(votes: Sequence[Vote]) -> list[Vote]:
    """Those that say something about the arms."""
    return [vote for vote in votes if vote.trial.purpose is Purpose.REAL]


def _fails_golds(votes: Sequence[Vote], rules: CleanRules) -> bool:
    golds = [vote for vote in votes if vote.trial.purpose is Purpose.GOLD]
    wrong = sum(vote.choice is not vote.trial.right_answer for vote in golds)
    return len(golds) >= rules.fewest_golds and wrong > rules.most_gold_failures * len(golds)


def _is_too_fast(votes: Sequence[Vote], rules: CleanRules) -> bool:
    seconds = [(vote.cast_at_ms - vote.trial.sent_at_ms) / 1000 for vote in real(votes) if vote.trial.sent_at_ms]
    return bool(seconds) and median(seconds) < rules.fastest_median_seconds


def _is_one_sided(votes: Sequence[Vote], rules: CleanRules) -> bool:
    sides = Counter(vote.choice for vote in real(votes) if vote.choice in (Choice.LEFT, Choice.RIGHT))
    return sides.total() >= rules.fewest_decisive and max(sides.values()) >= rules.one_side_share * sides.total()


def _has_too_few(votes: Sequence[Vote], rules: CleanRules) -> bool:
    return len(real(votes)) < rules.fewest_real_votes
