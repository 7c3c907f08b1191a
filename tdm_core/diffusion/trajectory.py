"""The deterministic student trajectory: its time nodes, one step, and the roll-out.

Training and inference sample alike: these few lines and the stock pipeline's scheduler give the same pictures (tested
for every mini).  Time runs down the nodes, 1 = t_K > ... > t_0 = 0.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from itertools import pairwise
from typing import NamedTuple

import torch
from torch import Tensor

from tdm_core.diffusion.noise import NoiseProcess, expand
from tdm_core.diffusion.prediction import Prediction

Denoise = Callable[[Tensor, Tensor], Prediction]
"""States [B, ...] and times [B] -> what the network believes.  May be given fewer rows than the batch: the first."""


class Step(NamedTuple):
    """One step of a roll-out, from time ``t`` down to ``s``."""

    t: float
    s: float
    x_t: Tensor  # [B, ...]
    prediction: Prediction
    x_s: Tensor  # [B, ...]


def time_nodes(num_steps: int, shift: float = 1.0) -> Tensor:
    """The K + 1 times of a K-step trajectory, from 1 down to 0, float64.

    ``shift`` moves nodes towards noise, ``t -> shift t / (1 + (shift - 1) t)`` (SD3's time shift); 1.0 is the paper's
    uniform grid ``i / K``.

    Raises:
        ValueError: if there is no step, or the shift is not positive.
    """
    if num_steps < 1:
        raise ValueError(f"a trajectory needs at least 1 step, got {num_steps}")
    if shift <= 0:
        raise ValueError(f"shift must be positive, got {shift}")
    t = torch.linspace(1, 0, num_steps + 1, dtype=torch.float64)
    return shift * t / (1 + (shift - 1) * t)


def move(
    prediction: Prediction, s: Tensor, process: NoiseProcess, *, eta: float = 1.0, fresh: Tensor | None = None
) -> Tensor:
    """States [B, ...] at times s [B], on the straight way that ``prediction`` describes.

    ``x_s = alpha_s x0 + sigma_s (eta noise + sqrt(1 - eta^2) fresh)``: DDIM for VP and Euler for flow matching at
    eta = 1; below, part of the noise is fresh (standard normal, like x0).

    Source: the stochastic step of TDM-derived training (Video-BLADE, eta = 0.9); sampling stays at eta = 1.
    """
    x0, noise = prediction
    if fresh is not None:
        noise = eta * noise + (1 - eta**2) ** 0.5 * fresh
    return expand(process.alpha(s), x0) * x0 + expand(process.sigma(s), x0) * noise


def x0_that_lands(x_t: Tensor, x_s: Tensor, t: Tensor, s: Tensor, process: NoiseProcess) -> Tensor:
    """The x0 prediction [B, ...] with which one step from states x_t at times t [B] lands on x_s at times s [B] < t.

    The inverse of `move` at eta = 1: noise is ``(x_t - alpha_t x0) / sigma_t``.
    """
    kept = process.sigma(s) / process.sigma(t)
    reach = process.alpha(s) - process.alpha(t) * kept
    return (x_s - expand(kept, x_t) * x_t) / expand(reach, x_t)


def roll_out(
    denoise: Denoise,
    noise: Tensor,
    nodes: Tensor,
    process: NoiseProcess,
    *,
    eta: float = 1.0,
    fresh: Sequence[Tensor] = (),
) -> Iterator[Step]:
    """Sample from noise [B, ...] down all nodes [K + 1], yielding each step; the last ``x_s`` is the sample.

    ``eta`` and ``fresh``, one tensor [B, ...] for each step, as in `move`.
    """
    x_t = noise
    for index, (t, s) in enumerate(pairwise(nodes)):
        prediction = denoise(x_t, t.expand(len(x_t)))
        x_s = move(prediction, s.expand(len(x_t)), process, eta=eta, fresh=fresh[index] if fresh else None)
        yield Step(float(t), float(s), x_t, prediction, x_s)
        x_t = x_s


@torch.no_grad()
def roll_to(
    denoise: Denoise,
    noise: Tensor,
    exits: Tensor,
    nodes: Tensor,
    process: NoiseProcess,
    *,
    eta: float = 1.0,
    fresh: Sequence[Tensor] = (),
) -> Tensor:
    """The states [B, ...] from which each row takes its exit step (0 = the first, noisiest one).

    ``exits`` [B] lies on the CPU and never rises, so the rows that still move are always the first ones and no network
    call is spent on a row that has arrived.  ``eta`` and ``fresh``, one tensor [B, ...] for each step, as in `move`.

    Raises:
        ValueError: if ``exits`` rises.
    """
    if (exits.diff() > 0).any():
        raise ValueError(f"exits must not rise along the batch, got {exits.tolist()}")
    x = noise.clone()
    for index in range(int(exits.max())):
        rows = int((exits > index).sum())
        prediction = denoise(x[:rows], nodes[index].expand(rows))
        drawn = fresh[index][:rows] if fresh else None
        x[:rows] = move(prediction, nodes[index + 1].expand(rows), process, eta=eta, fresh=drawn)
    return x


def draw_exits(batch_size: int, num_steps: int, generator: torch.Generator, *, stratified: bool) -> Tensor:
    """Exit steps [B], never rising.

    Stratified: every step is trained in every batch and each iteration costs the same; rows that do not divide evenly
    go to steps drawn anew.  Otherwise one step is drawn for the whole batch.
    """
    if not stratified:
        return torch.randint(num_steps, (1,), generator=generator).expand(batch_size)
    order = torch.randperm(num_steps, generator=generator)
    return order[torch.arange(batch_size) % num_steps].sort(descending=True).values
