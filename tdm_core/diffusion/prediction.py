"""The one home of what a network's output means, and of the guidance formula.

An output is a fixed linear combination of the clean sample and the noise, and so is its input; two equations give both
back.  Everything after this file speaks of ``x0`` and ``noise`` only.

============== =================== ============================== ==============================
prediction     output o            x0                             noise
============== =================== ============================== ==============================
epsilon        noise               (x - sigma o) / alpha          o
v_prediction   alpha noise         (alpha x - sigma o)            (sigma x + alpha o)
               - sigma x0          / (alpha^2 + sigma^2)          / (alpha^2 + sigma^2)
flow_prediction noise - x0         (x - sigma o)/(alpha + sigma)  (x + alpha o)/(alpha + sigma)
============== =================== ============================== ==============================
"""

from __future__ import annotations

from enum import StrEnum
from typing import NamedTuple

from torch import Tensor

from tdm_core.diffusion.noise import NoiseProcess, expand


class PredictionType(StrEnum):
    """What a network puts out, spelled as in the configurations of diffusers' schedulers."""

    EPSILON = "epsilon"
    V = "v_prediction"
    FLOW = "flow_prediction"


class Prediction(NamedTuple):
    """What a network believes about a noisy state, both [B, ...]."""

    x0: Tensor
    noise: Tensor

    def detach(self) -> Prediction:
        return Prediction(self.x0.detach(), self.noise.detach())


def predict(kind: PredictionType, output: Tensor, x_t: Tensor, t: Tensor, process: NoiseProcess) -> Prediction:
    """The clean sample and the noise that a network output [B, ...] at states ``x_t`` [B, ...], times [B], means.

    An epsilon network cannot say what is clean where there is no signal (alpha = 0): use v or flow there.
    """
    alpha, sigma = expand(process.alpha(t), x_t), expand(process.sigma(t), x_t)
    match kind:
        case PredictionType.EPSILON:
            return Prediction((x_t - sigma * output) / alpha, output)
        case PredictionType.V:
            norm = alpha**2 + sigma**2
            return Prediction((alpha * x_t - sigma * output) / norm, (sigma * x_t + alpha * output) / norm)
        case PredictionType.FLOW:
            norm = alpha + sigma
            return Prediction((x_t - sigma * output) / norm, (x_t + alpha * output) / norm)


def network_output(kind: PredictionType, prediction: Prediction, t: Tensor, process: NoiseProcess) -> Tensor:
    """The output [B, ...] of a perfect network that believes ``prediction`` at times t [B]."""
    x0, noise = prediction
    match kind:
        case PredictionType.EPSILON:
            return noise
        case PredictionType.V:
            return expand(process.alpha(t), x0) * noise - expand(process.sigma(t), x0) * x0
        case PredictionType.FLOW:
            return noise - x0


def guide(cond: Tensor, uncond: Tensor, guidance_scale: float) -> Tensor:
    """Classifier-free guidance ``uncond + w (cond - uncond)``; 1.0 means none.  Any prediction type; both [B, ...]."""
    return uncond + guidance_scale * (cond - uncond)
