"""A confidence sequence: an interval that stays valid however often one looks, and whenever one stops.

A fixed interval looked at after each vote of a study without an effect raises a false alarm in almost half of all
studies; one per vote that allows for looking still does in a fifth to a third, since votes of one rater hang together.
So each rater counts once, with the mean score of their votes.
"""

from __future__ import annotations

from collections.abc import Sequence
from math import log

import numpy as np
from numpy.typing import NDArray

from tdm_core.stats.intervals import Interval

Array = NDArray[np.float64]

GRID = 1000  # means that are tried; the ends are rounded outwards to it
LARGEST_BET = 0.5  # of the capital that a single score could cost


def betting_interval(scores: Sequence[float], *, confidence: float = 0.95) -> Interval:
    """All means that a gambler could not refute, at any time so far, by betting against them.

    ``scores``: one per rater, each in [0, 1], in the order in which they were known. A mean m falls once
    ``max(K+, K-) / 2 >= 1 / alpha`` with ``K± = prod(1 ± bet_t (x_t - m))``; later scores cannot bring it back.

    Source: Waudby-Smith and Ramdas, "Estimating means of bounded random variables by betting", JRSS B 86 (2024).
    """
    means = np.linspace(0, 1, GRID + 1)
    peak = capital(scores, means, confidence=confidence).max(axis=0, initial=-np.inf)
    kept = np.flatnonzero(peak < -log(1 - confidence))
    if not len(kept):  # every mean has fallen, which a true one does in at most 1 - confidence of all studies
        kept = np.array([peak.argmin()])
    return Interval(max(0.0, float(means[kept[0]]) - 1 / GRID), min(1.0, float(means[kept[-1]]) + 1 / GRID))


def capital(scores: Sequence[float], means: Array, *, confidence: float = 0.95) -> Array:
    """log(max(K+, K-) / 2) after each score for each mean, [scores, means].

    Raises:
        ValueError: if a score lies outside [0, 1].
    """
    x = np.asarray(scores, dtype=float)
    if len(x) and not (x.min() >= 0 and x.max() <= 1):
        raise ValueError(f"a score lies in [0, 1], got {x.min()} to {x.max()}")
    bets = _bets(x, confidence)[:, None]
    with np.errstate(divide="ignore"):
        gains = x[:, None] - means
        up = np.log1p(np.minimum(bets, LARGEST_BET / means) * gains).cumsum(axis=0)
        down = np.log1p(-np.minimum(bets, LARGEST_BET / (1 - means)) * gains).cumsum(axis=0)
    best: Array = np.maximum(up, down) - log(2)
    return best


def _bets(x: Array, confidence: float) -> Array:
    """How much to bet on each score, from the spread of those before it."""
    time = np.arange(1, len(x) + 1)
    running_mean = (0.5 + x.cumsum()) / (time + 1)
    variance = (0.25 + ((x - running_mean) ** 2).cumsum()) / (time + 1)
    before = np.concatenate([[0.25], variance])[: len(x)]
    bets: Array = np.sqrt(2 * log(2 / (1 - confidence)) / (before * time * np.log1p(time)))
    return bets
