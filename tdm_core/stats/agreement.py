"""How far raters agree beyond chance: Krippendorff's alpha, which takes any number of raters and missing answers."""

from __future__ import annotations

from collections.abc import Hashable, Iterable, Sequence

import numpy as np
from numpy.typing import NDArray


def krippendorff_alpha(
    answers: Iterable[Sequence[Hashable]], *, scale: Sequence[Hashable], ordinal: bool = False
) -> float | None:
    """1 for full agreement, 0 for chance, below 0 for less; ``None`` where nothing can be compared.

    Args:
        answers: per thing judged, the answers that it got; things with a single answer say nothing.
        scale: all answers there are; in their order, if ``ordinal``.

    Source: K. Krippendorff, "Computing Krippendorff's alpha-reliability" (2011), section D, nominal and ordinal.
    """
    rank = {answer: index for index, answer in enumerate(scale)}
    together = np.zeros((len(scale), len(scale)))  # coincidences
    for unit in answers:
        if len(unit) > 1:
            counts = np.bincount([rank[answer] for answer in unit], minlength=len(scale)).astype(float)
            together += (np.outer(counts, counts) - np.diag(counts)) / (len(unit) - 1)
    marginals = together.sum(axis=1)
    total = marginals.sum()
    distance = _ordinal_distance(marginals) if ordinal else 1 - np.eye(len(scale))
    expected = float((np.outer(marginals, marginals) * distance).sum())
    if expected == 0:
        return None  # fewer than two answers to compare, or all alike
    return float(1 - (total - 1) * (together * distance).sum() / expected)


def _ordinal_distance(marginals: NDArray[np.float64]) -> NDArray[np.float64]:
    upto = marginals.cumsum()
    middle = upto - marginals / 2  # the sum between two ranks, each end counted half
    return (middle[:, None] - middle[None]) ** 2
