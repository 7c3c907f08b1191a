"""Samplers of the teacher besides DDIM: what a cut teacher deserves before a student is held against it."""

from __future__ import annotations

from itertools import pairwise

import torch
from torch import Tensor

from tdm_core.diffusion.noise import NoiseProcess, expand
from tdm_core.diffusion.prediction import Prediction
from tdm_core.diffusion.trajectory import Denoise


@torch.no_grad()
def dpm_solver(denoise: Denoise, noise: Tensor, nodes: Tensor, process: NoiseProcess) -> Tensor:
    """Clean samples by DPM-Solver++ (2M) from noise [B, ...] down all nodes [K + 1], the last of which is 0.

    With the half log-SNR ``l = log(alpha / sigma)`` and ``h = l_s - l_t`` of a step from t to s::

        x_s = (sigma_s / sigma_t) x_t - alpha_s (exp(-h) - 1) D,    D = x0 + (h / 2 h_before) (x0 - x0_before)

    The first and the last step are of first order (D = x0), as diffusers does it for few steps.

    Source: arXiv:2211.01095, algorithm 2; equal to diffusers' DPMSolverMultistepScheduler (tested).
    """
    x, before = noise, None
    steps = list(pairwise(nodes))
    for index, (t, s) in enumerate(steps):
        rows = len(x)
        prediction = denoise(x, t.expand(rows))
        is_inner = 0 < index < len(steps) - 1
        x, before = _step(x, prediction, before if is_inner else None, (t, s), process), (prediction.x0, t)
    return x


def _step(
    x: Tensor,
    prediction: Prediction,
    before: tuple[Tensor, Tensor] | None,
    ends: tuple[Tensor, Tensor],
    process: NoiseProcess,
) -> Tensor:
    t, s = (end.expand(len(x)) for end in ends)
    x0, direction = prediction.x0, prediction.x0
    if before:
        x0_before, t_before = before
        h, h_before = (
            _log_snr(s, process) - _log_snr(t, process),
            _log_snr(t, process) - _log_snr(t_before.expand(len(x)), process),
        )
        direction = x0 + expand(h / (2 * h_before), x) * (x0 - x0_before)
    # alpha_s (1 - exp(-h)), without exp of an infinite h
    gain = process.alpha(s) - process.alpha(t) * process.sigma(s) / process.sigma(t)
    return expand(process.sigma(s) / process.sigma(t), x) * x + expand(gain, x) * direction


def _log_snr(t: Tensor, process: NoiseProcess) -> Tensor:
    return (process.alpha(t) / process.sigma(t)).log()
