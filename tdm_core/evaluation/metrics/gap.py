"""How much of the way from a teacher cut to the student's evaluations up to the full teacher distilling has gone."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray

from tdm_core.evaluation.metrics import Result


def gap_closed(
    values: Mapping[str, float], resampled: Mapping[str, NDArray[np.float64]], *, n: int
) -> dict[str, Result]:
    """The share, under its name, against the better of the cut teachers; nothing where an arm is missing.

    Args:
        values: of each arm.
        resampled: of each arm on the same resamples of the prompts.
        n: samples of each arm.
    """
    equal = [arm for arm in values if arm.startswith("teacher_equal")]
    if not (equal and {"teacher", "student"} <= values.keys()):
        return {}
    cut = max(equal, key=lambda arm: values[arm])
    name = f"gap closed: (student - {cut}) / (teacher - {cut})"
    with np.errstate(divide="ignore", invalid="ignore"):
        value = np.divide(values["student"] - values[cut], values["teacher"] - values[cut])
        ratios = (resampled["student"] - resampled[cut]) / (resampled["teacher"] - resampled[cut])
    ratios = ratios[np.isfinite(ratios)]
    if not np.isfinite(value) or not len(ratios):  # teacher and cut teacher are equal: there is no gap to close
        return {name: {"value": None, "low": None, "high": None, "n": n}}
    low, high = np.quantile(ratios, [0.025, 0.975])
    return {name: {"value": float(value), "low": float(low), "high": float(high), "n": n}}
