"""How many votes a study needs, and what to do with several tests at once."""

from __future__ import annotations

from collections.abc import Sequence
from math import ceil

import numpy as np
from scipy.optimize import brentq
from scipy.special import expit, ndtri
from scipy.special import logit as logit_of


def votes_for_share(share: float, *, alpha: float = 0.05, power: float = 0.8) -> int:
    """Independent votes that show a true ``share`` to differ from one half, two-sided.

    Raises:
        ValueError: if ``share`` is not strictly between 0 and 1, or is one half.
    """
    if not 0 < share < 1 or share == 0.5:
        raise ValueError(f"votes_for_share needs a share in (0, 1) other than 0.5, got {share}")
    spread = ndtri(1 - alpha / 2) * 0.5 + ndtri(power) * (share * (1 - share)) ** 0.5
    return ceil(float(spread / (share - 0.5)) ** 2)


def votes_for_non_inferiority(margin: float, *, alpha: float = 0.05, power: float = 0.8) -> int:
    """Independent votes that show "not worse than one half - margin", one-sided, if the true share is one half.

    Raises:
        ValueError: unless ``0 < margin < 0.5``.
    """
    if not 0 < margin < 0.5:
        raise ValueError(f"votes_for_non_inferiority needs a margin in (0, 0.5), got {margin}")
    return ceil(float((ndtri(1 - alpha) + ndtri(power)) / (2 * margin)) ** 2)


def design_effect(votes_per_rater: float, correlation: float) -> float:
    """By how much votes must be multiplied because those of one rater resemble each other: ``1 + (m - 1) rho``."""
    return 1 + (votes_per_rater - 1) * correlation


def holm(p_values: Sequence[float]) -> list[float]:
    """P-values adjusted for being several, in the order given.

    Source: S. Holm, "A simple sequentially rejective multiple test procedure", Scand. J. Statistics 6 (1979).
    """
    adjusted, largest = [0.0] * len(p_values), 0.0
    for rank, index in enumerate(sorted(range(len(p_values)), key=p_values.__getitem__)):
        largest = max(largest, min(1.0, (len(p_values) - rank) * p_values[index]))
        adjusted[index] = largest
    return adjusted


def logit_of_mean_share(share: float, spread: float) -> float:
    """The logit around which normal effects of this spread (sd) give this mean share.

    Raises:
        ValueError: unless ``0 < share < 1``.
    """
    if not 0 < share < 1:
        raise ValueError(f"a mean share lies in (0, 1), got {share}")
    nodes, weights = np.polynomial.hermite_e.hermegauss(40)

    def excess(logit: float) -> float:
        return float(expit(logit + spread * nodes) @ weights / weights.sum()) - share

    reach = abs(float(logit_of(share))) + 10 * spread + 1
    return float(brentq(excess, -reach, reach))
