"""Latent consistency distillation with augmented guidance (arXiv:2310.04378, as LoRA 2311.05556): a rival of TDM.

Not data-free: noise is added to clean samples.  One step of the guided teacher leads from a noisier to a less noisy
time; the student's x0 at the first is to be the student's own x0 (without gradient) at the second.  Sampling noises
each x0 afresh, as `trajectory.roll_out` does with ``eta = 0``.

Departures, each on purpose:

1. The prediction of x0 is the consistency function as it is.  The published ``c_skip`` and ``c_out`` only matter at
   times near 0, where x0 is the state itself anyhow.
2. The teacher's step is DDIM (Euler for flow matching; `trajectory.move`), as published.  The guidance scale is one
   number, not drawn and embedded, as in the published LoRA recipe.
3. The target network is the student itself, not its moving average, as in the published LoRA script.
"""

from __future__ import annotations

import torch
from torch import Tensor

TEACHER_STEPS = 50
"""The teacher's grid, on which neighbours are made consistent."""

HUBER_C = 0.001


def neighbours(u: Tensor, nodes: Tensor) -> tuple[Tensor, Tensor]:
    """Times t and the next cleaner s, both [B], of a grid [N + 1] that falls to 0, from uniform numbers u [B]."""
    steps = len(nodes) - 1
    index = (u * steps).long().clamp(max=steps - 1)
    return nodes[index], nodes[index + 1]


def consistency_loss(x0_student: Tensor, x0_target: Tensor, *, huber_c: float = HUBER_C) -> Tensor:
    """Mean pseudo-Huber distance ``sqrt(d^2 + c^2) - c`` of the elements, [B]; the target takes no gradient.

    Source: arXiv:2310.04378, Eq. 14, with the distance of the published LoRA script.
    """
    difference = x0_student - x0_target.detach()
    return (torch.sqrt(difference.square() + huber_c**2) - huber_c).flatten(1).mean(dim=1)
