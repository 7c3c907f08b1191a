"""Shares of independent yes/no answers: Wilson's interval and the exact test of a fair coin.

Votes of one rater, or on one prompt, are not independent: ``clustered.py`` is for those.
"""

from __future__ import annotations

from typing import NamedTuple

from scipy.special import bdtr, ndtri


class Interval(NamedTuple):
    """A confidence interval; both ends are in the unit of the estimate."""

    low: float
    high: float


def wilson_interval(successes: float, trials: float, *, confidence: float = 0.95) -> Interval:
    """The share of successes among independent trials.

    Raises:
        ValueError: without trials, or with more successes than trials.

    Source: E. B. Wilson, "Probable inference, the law of succession, and statistical inference", JASA 22 (1927).
    """
    if not 0 <= successes <= trials or trials == 0:
        raise ValueError(f"wilson_interval needs 0 <= successes <= trials and a trial, got {successes} of {trials}")
    return score_interval(successes / trials, trials, quantile=float(ndtri((1 + confidence) / 2)))


def score_interval(share: float, trials: float, *, quantile: float) -> Interval:
    """All shares p with ``|share - p| <= quantile sqrt(p (1 - p) / trials)``; ``trials`` need not be whole."""
    shrink = quantile**2 / trials
    centre = (share + shrink / 2) / (1 + shrink)
    half_width = (shrink * share * (1 - share) + shrink**2 / 4) ** 0.5 / (1 + shrink)
    # At a share of 0 or 1 one end is exact, and rounding must not carry it past the share.
    return Interval(min(max(0.0, centre - half_width), share), max(min(1.0, centre + half_width), share))


def fair_coin_p_value(successes: int, trials: int) -> float:
    """Two-sided exact binomial test of an even chance; 1.0 without trials."""
    if not 0 <= successes <= trials:
        raise ValueError(f"fair_coin_p_value needs 0 <= successes <= trials, got {successes} of {trials}")
    if trials == 0:
        return 1.0
    return min(1.0, 2.0 * float(bdtr(min(successes, trials - successes), trials, 0.5)))
