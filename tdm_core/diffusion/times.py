"""Where a loss looks: the laws from which query times are drawn, each by inverting its distribution function.

All laws live on an interval [first, last] of time per row and take uniform numbers, so that a seed decides the times
and a test can check a law on a grid instead of by chance.
"""

from __future__ import annotations

from enum import StrEnum

import torch
from torch import Tensor


class TimeLaw(StrEnum):
    """A distribution of times on an interval."""

    UNIFORM = "uniform"
    LOGIT_NORMAL = "logit_normal"
    """``sigmoid(N(mean, std))`` cut to the interval, as SD3 was trained with; for the fake score it worked better than
    uniform times in SenseFlow's hands."""
    UNSHIFTED = "unshifted"
    """Uniform before the time shift of the student's grid, as in TDM-R1: a shift of 3 puts more times near noise."""


def query_interval(s: Tensor, end: Tensor, *, margin: float, latest: float) -> tuple[Tensor, Tensor]:
    """First and last time, both [B], at which a landing may be queried: ``[s + margin, min(end, latest)]``.

    Args:
        s: the landing times [B].
        end: where each landing's segment ends [B]: the time its step started from, or 1 to query up to pure noise.
        margin: distance kept from s, where beta is 0 and the ambient target's variance grows without bound.
        latest: distance kept from pure noise, where no network is informative.

    Raises:
        ValueError: if margin and latest leave nothing of a segment.
    """
    first, last = s + margin, end.clamp(max=latest)
    if (last <= first).any():
        raise ValueError(f"no time left between landing + margin {first.tolist()} and segment end {last.tolist()}")
    return first, last


def draw_times(
    u: Tensor,
    first: Tensor,
    last: Tensor,
    *,
    law: TimeLaw = TimeLaw.UNIFORM,
    mean: float = 0.0,
    std: float = 1.0,
    shift: float = 1.0,
) -> Tensor:
    """Times [B] in [first, last], 0 < first < last <= 1, from uniform numbers u, all [B]; float64.

    Args:
        mean, std: of the logit-normal law.
        shift: time shift that the unshifted law undoes and applies.
    """
    u, first, last = u.double(), first.double(), last.double()
    match law:
        case TimeLaw.UNIFORM:
            times = torch.lerp(first, last, u)
        case TimeLaw.LOGIT_NORMAL:
            low, high = ((edge.logit() - mean) / std for edge in (first, last))
            side = torch.where(low > 0, -1.0, 1.0).to(u)  # the upper tail is flat in float64, its mirror is not
            share = torch.lerp(_normal_cdf(side * low), _normal_cdf(side * high), u)
            times = torch.sigmoid(mean + std * side * torch.special.ndtri(share))
        case TimeLaw.UNSHIFTED:
            low, high = (edge / (shift - (shift - 1) * edge) for edge in (first, last))
            even = torch.lerp(low, high, u)
            times = shift * even / (1 + (shift - 1) * even)
    # Rounding at the edges must not leave the interval.
    return torch.minimum(torch.maximum(times, first), last)


def _normal_cdf(z: Tensor) -> Tensor:
    # torch.special.ndtr is 0 in float64 from z = -9 on; this keeps its digits down to -38.
    share: Tensor = torch.special.erfc(-z / 2**0.5) / 2
    return share
