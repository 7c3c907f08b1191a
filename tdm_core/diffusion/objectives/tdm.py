"""Trajectory Distribution Matching (arXiv:2503.06674) as pure functions of tensors.

Each student step lands on a *noisy* state x_s; the landing is diffused forward inside its own segment to x_tau, and
there the teacher's score pulls it and the fake score (the student's own) pushes it.  All losses take predictions of
(x0, noise), so one code serves epsilon, v and flow networks.  Every loss is per sample, [B].

Departures from the paper and from its published script, each on purpose:

1. Fake score: besides the published target (the student's x0, weighted by SNR) there is the ambient one, whose optimum
   is the score of the law of x_tau.  The published target's optimum is not, except in the last segment, so its student
   gradient does not vanish at the true solution (tests/diffusion/test_tdm_gaussian.py).
2. The script's importance weight is an option that changes little: its tempered form is 1 within 3 %, and the exact one
   is unusable at this dimension.  What matters is where x_tau is drawn.
3. The pseudo-Huber norm is taken per sample, as the paper writes it; the script's form, per element, is an option.
4. The loss acts on the student's x0, as in every public code.  On x_s, as the paper writes it, is an option: the same
   direction, scaled by ``alpha_s - alpha_t sigma_s / sigma_t`` of each step, which is small for the noisy ones.
"""

from __future__ import annotations

import math
from enum import StrEnum

import torch
from torch import Tensor

from tdm_core.diffusion.noise import NoiseProcess, expand
from tdm_core.diffusion.prediction import Prediction, PredictionType, guide, network_output

HUBER_C = 0.00054
"""The paper's constant (from improved consistency training), to be multiplied by sqrt(d)."""

IMPORTANCE_LIMIT = 20.0
"""Tempered importance weights are clipped to [1/20, 20], as in Flow-Factory."""


class Penalty(StrEnum):
    """How the student's way to its target is measured."""

    HUBER = "pseudo_huber"
    """``sqrt(|d|^2 + c^2) - c`` of the whole sample (arXiv:2503.06674, Eq. 11): a gradient of length below 1."""
    HUBER_ELEMENTWISE = "pseudo_huber_elementwise"
    """The same of each element, then their mean (the published script): nearly an L1 loss."""
    SQUARED = "squared"
    """Half the mean square."""


class SnrWeight(StrEnum):
    """The weight of the fake score's squared x0 error."""

    MIN_SNR = "min_snr"
    """``min(SNR, cap)``, as in the published script."""
    NATIVE = "native"
    """Turns it into the error of the network's own output: the v or velocity losses of the later codes."""
    NONE = "none"
    """Ruins flow models with noise artefacts (issue 8 of the official repository); here to be measured."""


def ambient_fake_loss(
    fake: Prediction, noise: Tensor, s: Tensor, tau: Tensor, process: NoiseProcess, *, largest_weight: float
) -> Tensor:
    """Loss whose optimum is the true score of the student's renoised landings.

    The score of x_tau = scale x_s + beta noise is ``-E[noise | x_tau] / beta``, so the network's noise prediction
    should be ``(sigma / beta) noise``; multiplying by ``beta / sigma`` bounds the variance near s.  The weight
    ``min(1 / alpha^2, largest_weight)`` turns it, for flow and v networks, into a loss on their own output: at s = 0 it
    is the flow-matching loss.

    Args:
        fake: the fake network's prediction at x_tau.
        noise: what the landing was renoised with, [B, ...].
        s, tau: times of the landing and of x_tau, [B].

    Source: the ambient target of method notes 1.6; equal to denoising score matching from x_s.
    """
    _, beta = process.renoise_coefficients(s, tau)
    weight = (process.alpha(tau) ** -2).clamp(max=largest_weight)
    error = expand(beta / process.sigma(tau), noise) * fake.noise - noise
    return weight.to(noise) * error.square().flatten(1).mean(dim=1)


def x0_fake_loss(fake: Prediction, x0_student: Tensor, weight: Tensor) -> Tensor:
    """The published loss: regress on the student's x0 [B, ...], weighted per sample [B].

    Source: arXiv:2503.06674, Eq. 7; for the weights `snr_weight` and `importance_weight`.
    """
    return weight.to(x0_student) * (fake.x0 - x0_student.detach()).square().flatten(1).mean(dim=1)


def snr_weight(
    kind: SnrWeight, prediction: PredictionType, tau: Tensor, process: NoiseProcess, *, cap: float
) -> Tensor:
    """Weight [B] of a squared x0 error at times tau [B], see `SnrWeight`."""
    alpha, sigma = process.alpha(tau), process.sigma(tau)
    match kind:
        case SnrWeight.MIN_SNR:
            return process.snr(tau).clamp(max=cap)
        case SnrWeight.NONE:
            return torch.ones_like(alpha)
    match prediction:  # (d output / d x0)^2 at given x_tau
        case PredictionType.EPSILON:
            return process.snr(tau)
        case PredictionType.V:
            return ((alpha**2 + sigma**2) / sigma) ** 2
        case PredictionType.FLOW:
            return ((alpha + sigma) / sigma) ** 2


def importance_weight(x_tau: Tensor, x0_student: Tensor, noise: Tensor, tau: Tensor, process: NoiseProcess) -> Tensor:
    """The published script's tempered importance weight [B] of q(x_tau | x0) over q(x_tau | x_s), without its constant.

    With the noise m = (x_tau - alpha x0) / sigma that leads from x0 to x_tau, the exact logarithm is
    ``d log(beta / sigma) - |m|^2 / 2 + |noise|^2 / 2``; the script takes means over the d elements in place of
    sums, and drops the first term.

    Args:
        x0_student: the x0 that belongs to the landing, [B, ...].
        noise: what the landing was renoised with, [B, ...].
    """
    mixed = (x_tau - expand(process.alpha(tau), x_tau) * x0_student.detach()) / expand(process.sigma(tau), x_tau)
    log_weight = (noise.square() - mixed.square()).flatten(1).mean(dim=1) / 2
    return log_weight.exp().clamp(1 / IMPORTANCE_LIMIT, IMPORTANCE_LIMIT)


def teacher_regulariser(
    fake: Prediction, teacher: Prediction, kind: PredictionType, tau: Tensor, process: NoiseProcess
) -> Tensor:
    """Mean squared distance between the outputs of fake and unguided teacher at x_tau: ties the critic to its origin.

    Source: TDM-R1 (weight 0.02) and Video-BLADE (0.5) add it to the fake score's loss.
    """
    difference = network_output(kind, fake, tau, process) - network_output(kind, teacher.detach(), tau, process)
    return difference.square().flatten(1).mean(dim=1)


def directions(
    cond: Tensor, uncond: Tensor | None, fake: Tensor, *, guidance_scale: float, decoupled: bool
) -> tuple[Tensor, ...]:
    """Where the student's sample should go, from x0 predictions at x_tau, all [B, ...].

    At equal x_tau a difference of x0 predictions is the difference of scores times ``sigma^2 / alpha``.

    Args:
        cond, uncond: the teacher's, with and without the prompt.
        decoupled: two directions, the KL part ``cond - fake`` and the guidance part ``(w - 1) (cond - uncond)``, each
            to be measured by a loss of its own; otherwise their sum alone.

    Source: arXiv:2503.06674 with guidance; the two parts are those of TDM-R1.
    """
    if uncond is None:
        return (cond - fake,)
    if decoupled:
        return cond - fake, (guidance_scale - 1) * (cond - uncond)
    return (guide(cond, uncond, guidance_scale) - fake,)


def student_loss(point: Tensor, direction: Tensor, *, penalty: Penalty, huber_c: float = HUBER_C) -> Tensor:
    """Loss that moves the student's point (x0 or landing, [B, ...], with gradient) along a direction [B, ...].

    Args:
        huber_c: times sqrt(number of elements) for the pseudo-Huber norm of a sample; as it is for the elementwise one.

    Source: arXiv:2503.06674, Eq. 11: the distance to ``sg(point + direction)``.
    """
    difference = point - (point + direction).detach()  # no gradient at all where the direction is zero
    squares, size = difference.square().flatten(1), point[0].numel()
    match penalty:
        case Penalty.HUBER:
            c = huber_c * math.sqrt(size)
            return torch.sqrt(squares.sum(dim=1) + c**2) - c
        case Penalty.HUBER_ELEMENTWISE:
            return ((squares + huber_c**2).sqrt() - huber_c).mean(dim=1)
        case Penalty.SQUARED:
            return squares.sum(dim=1) / (2 * size)


def normaliser(x0_student: Tensor, x0_teacher: Tensor, *, floor: float) -> Tensor:
    """DMD's divisor of the student's loss, not the paper's: mean ``|student - teacher|`` [B], at least floor."""
    return (x0_student - x0_teacher).detach().abs().flatten(1).mean(dim=1).clamp(min=floor)
