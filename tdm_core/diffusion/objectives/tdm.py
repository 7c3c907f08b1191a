"""Trajectory Distribution Matching (arXiv:2503.06674) as pure functions of tensors.

Each student step lands on a *noisy* state x_s; the landing is diffused forward inside its own segment to x_tau, and
there the teacher's score pulls it and the fake score (the student's own) pushes it.  All losses take predictions of
(x0, noise), so one code serves epsilon, v and flow networks.

Departures from the paper and from its published script, each on purpose:

1. Fake score: besides the published target (the student's x0, weighted by SNR) there is the unbiased one, whose
   optimum is the score of the law of x_tau.  The published target's optimum is not, except in the last segment, so its
   student gradient does not vanish at the true solution (tests/diffusion/test_tdm_gaussian.py).
2. The script's importance weight is left out: its tempered form is 1 within 3 %, its exact form is unusable at this
   dimension.  What matters is where x_tau is drawn.
3. The pseudo-Huber norm is taken per sample, as the paper writes it; the script takes it per element.
4. The loss acts on the student's x0, as in every public code; on x_s it would have the same direction, scaled by
   ``alpha_s - alpha_t sigma_s / sigma_t`` of each step.
"""

from __future__ import annotations

from torch import Tensor

from tdm_core.diffusion.noise import NoiseProcess
from tdm_core.diffusion.prediction import Prediction

HUBER_C = 0.00054
"""The paper's constant (from improved consistency training), to be multiplied by sqrt(d)."""


def segment_times(s: Tensor, end: Tensor, u: Tensor, *, margin: float, latest: float) -> Tensor:
    """Times tau [B] uniform in [s + margin, min(end, latest)], from uniform numbers u [B].

    Args:
        s: the landing times [B].
        end: where each landing's segment ends [B]: the time its step started from (or 1, to query up to pure noise).
        margin: distance kept from s, where beta is 0 and the unbiased target's variance grows without bound.
        latest: distance kept from pure noise, where no network is informative.

    Raises:
        ValueError: if margin and latest leave nothing of a segment.
    """
    first, last = s + margin, end.clamp(max=latest)
    if (last <= first).any():
        raise ValueError(f"no time left between landing + margin {first.tolist()} and segment end {last.tolist()}")
    return first + u.to(s) * (last - first)


def unbiased_fake_loss(
    fake: Prediction, noise: Tensor, s: Tensor, tau: Tensor, process: NoiseProcess, *, largest_weight: float
) -> Tensor:
    """Loss per sample [B] whose optimum is the true score of the student's renoised landings.

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
    ratio = beta / process.sigma(tau)
    weight = (process.alpha(tau) ** -2).clamp(max=largest_weight)
    error = ratio.to(noise).view(-1, *(1,) * (noise.ndim - 1)) * fake.noise - noise
    return weight.to(noise) * error.square().flatten(1).mean(dim=1)


def published_fake_loss(
    fake: Prediction, x0_student: Tensor, tau: Tensor, process: NoiseProcess, *, snr_cap: float
) -> Tensor:
    """The published loss per sample [B]: regress on the student's x0, weighted by ``min(SNR, snr_cap)``.

    Without the SNR weight a flow model is ruined by noise artefacts (issue 8 of the official repository).

    Source: arXiv:2503.06674, Eq. 7, with the weight of the official script.
    """
    weight = process.snr(tau).clamp(max=snr_cap).to(x0_student)
    return weight * (fake.x0 - x0_student.detach()).square().flatten(1).mean(dim=1)


def student_loss(
    x0_student: Tensor,
    x0_teacher: Tensor,
    x0_fake: Tensor,
    *,
    huber_c: float | None = HUBER_C,
    normaliser_floor: float | None = None,
) -> Tensor:
    """Loss per sample [B] that moves the student along ``x0_teacher - x0_fake``.  All x0: [B, ...].

    At equal x_tau the difference of x0 predictions is the difference of scores times ``sigma^2 / alpha``.

    Args:
        x0_student: the student's own prediction at its exit step, with gradient.
        x0_teacher, x0_fake: predictions at x_tau, the teacher's with guidance.
        huber_c: pseudo-Huber ``sqrt(|d|^2 + c^2) - c`` with ``c = huber_c sqrt(number of elements)``, which gives every
            sample a gradient of length below 1; ``None`` is the squared distance per element, halved.
        normaliser_floor: divide by ``mean |x0_student - x0_teacher|`` of each sample, at least this (DMD's normaliser,
            not in the paper); ``None`` divides by nothing.

    Source: arXiv:2503.06674, Eq. 11.
    """
    target = (x0_student + (x0_teacher - x0_fake)).detach()  # these brackets: no gradient at all where both agree
    squared_distance = (x0_student - target).square().flatten(1).sum(dim=1)
    size = x0_student[0].numel()
    if huber_c is None:
        loss = squared_distance / (2 * size)
    else:
        c = huber_c * size**0.5
        loss = (squared_distance + c**2).sqrt() - c
    if normaliser_floor is not None:
        gap = (x0_student - x0_teacher).detach().abs().flatten(1).mean(dim=1)
        loss = loss / gap.clamp(min=normaliser_floor)
    return loss
