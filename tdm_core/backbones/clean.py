"""What the network takes the clean sample to be at each step of a stock pipeline's run."""

from __future__ import annotations

import functools
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import diffusers
import torch
from torch import Tensor

from tdm_core.diffusion.noise import variance_preserving
from tdm_core.diffusion.prediction import PredictionType, predict


@dataclass
class Steps:
    """The run so far: where each step began, 1 for noise, and the last one's clean prediction [B, ...]."""

    times: list[float] = field(default_factory=list)
    clean: Tensor | None = None


@contextmanager
def watch_steps(scheduler: Any) -> Iterator[Steps]:
    """Keep the clean prediction of each step that the scheduler makes inside this block.

    Times are a flow model's sigmas, and ``(timestep + 1) / 1000`` of the others, as in `tdm_core.diffusion.noise`.
    """
    steps, step = Steps(), scheduler.step

    @functools.wraps(step)  # pipelines look at its arguments
    def watched(model_output: Tensor, timestep: Any, sample: Tensor, *given: Any, **named: Any) -> Any:
        time, clean = clean_prediction(scheduler, len(steps.times), model_output, timestep, sample)
        steps.times.append(time)
        steps.clean = clean
        return step(model_output, timestep, sample, *given, **named)

    scheduler.step = watched
    try:
        yield steps
    finally:
        del scheduler.step


def clean_prediction(
    scheduler: Any, index: int, model_output: Tensor, timestep: Any, sample: Tensor
) -> tuple[float, Tensor]:
    """Time and clean sample [B, ...] of the run's step number ``index``, from its network's output."""
    config = scheduler.config
    if _is_flow(scheduler):
        sigma = float(scheduler.sigmas[index])
        return sigma, sample - sigma * model_output
    time = (int(timestep) + 1) / config.num_train_timesteps
    if isinstance(scheduler, diffusers.EulerDiscreteScheduler) and config.prediction_type == PredictionType.EPSILON:
        return time, sample - float(scheduler.sigmas[index]) * model_output  # here noise is added, not mixed in
    t = torch.full((len(sample),), time, dtype=torch.float64)
    process = variance_preserving(scheduler.alphas_cumprod)
    return time, predict(PredictionType(config.prediction_type), model_output, sample, t, process).x0


def step_times(scheduler: Any) -> list[float]:
    """Where each step of the run begins that the scheduler is set to."""
    if _is_flow(scheduler):
        return [float(sigma) for sigma in scheduler.sigmas[: len(scheduler.timesteps)]]
    return [(int(timestep) + 1) / scheduler.config.num_train_timesteps for timestep in scheduler.timesteps]


def _is_flow(scheduler: Any) -> bool:
    return isinstance(scheduler, diffusers.FlowMatchEulerDiscreteScheduler) or bool(
        scheduler.config.get("use_flow_sigmas")
    )
