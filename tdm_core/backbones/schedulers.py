"""Schedulers of diffusers that also take the times a student was trained on, and how times are handed to any of them.

Times run from 1 (noise) to 0: a flow model's sigma, and ``(timestep + 1) / 1000`` of the others, as in
`tdm_core.diffusion.noise`.  Three stock classes refuse times of one's own, or would jump between them wrongly
(CogVideoX's ``step`` takes it for granted that they are evenly spaced); their children here take them, and do as the
stock class where none are given.
"""

from __future__ import annotations

import inspect
from collections.abc import Iterable, Sequence
from difflib import get_close_matches
from typing import Any

import diffusers
import torch
from diffusers.schedulers.scheduling_utils import SchedulerOutput
from torch import Tensor

from tdm_core.diffusion.noise import variance_preserving
from tdm_core.diffusion.prediction import PredictionType, predict
from tdm_core.diffusion.trajectory import move
from tdm_core.errors import ConfigError

NEAREST_TO_NOISE = 0.9999
"""At sigma 1 the logarithm of the signal-to-noise ratio is minus infinity; the stock flow grid stops short too."""


class _DDIMOnGivenTimesteps:
    """Mixed into a DDIM: ``set_timesteps(timesteps=[...])`` in any spacing; the last step ends at the clean sample."""

    def set_timesteps(
        self, num_inference_steps: int | None = None, device: Any = None, timesteps: Sequence[int] | None = None
    ) -> None:
        self._next: dict[int, int] | None = None
        if timesteps is None:
            super().set_timesteps(num_inference_steps, device)  # type: ignore[misc]
            return
        self.num_inference_steps = len(timesteps)
        self.timesteps = torch.tensor(timesteps, device=device)
        self._next = dict(zip(timesteps, [*timesteps[1:], -1], strict=True))
        self._process = variance_preserving(self.alphas_cumprod)  # type: ignore[attr-defined]

    def step(
        self,
        model_output: Tensor,
        timestep: int | Tensor,
        sample: Tensor,
        eta: float = 0.0,
        generator: Any = None,
        return_dict: bool = True,
    ) -> Any:
        """One deterministic step; states of any shape [B, ...].

        Source: DDIM (arXiv:2010.02502), equation 12 with sigma = 0, for any prediction type.
        """
        if self._next is None:
            options: dict[str, Any] = {"eta": eta, "generator": generator, "return_dict": return_dict}
            return super().step(model_output, timestep, sample, **options)  # type: ignore[misc]
        if eta:
            raise ConfigError("DDIM on given timesteps is deterministic.\nLeave out eta in the preset's options.")
        entries = len(self.alphas_cumprod)  # type: ignore[attr-defined]
        now, then = int(timestep), self._next[int(timestep)]
        t, s = (torch.full((len(sample),), (index + 1) / entries, dtype=torch.float64) for index in (now, then))
        kind = PredictionType(self.config.prediction_type)  # type: ignore[attr-defined]
        prediction = predict(kind, model_output, sample, t, self._process)
        moved = move(prediction, s, self._process)
        return {"prev_sample": moved, "pred_original_sample": prediction.x0} if return_dict else (moved, prediction.x0)


class DDIMScheduler(_DDIMOnGivenTimesteps, diffusers.DDIMScheduler):
    """diffusers' DDIM, on given timesteps too."""


class CogVideoXDDIMScheduler(_DDIMOnGivenTimesteps, diffusers.CogVideoXDDIMScheduler):
    """CogVideoX's DDIM, on given timesteps too."""


class DPMSolverMultistepScheduler(diffusers.DPMSolverMultistepScheduler):
    """diffusers' DPM-Solver, which for flow models also takes ``sigmas``, and which PixArt can run for one step."""

    def set_timesteps(
        self,
        num_inference_steps: int | None = None,
        device: Any = None,
        mu: float | None = None,
        timesteps: Sequence[int] | None = None,
        sigmas: Sequence[float] | None = None,
    ) -> None:
        if sigmas is None:
            super().set_timesteps(num_inference_steps, device, mu=mu, timesteps=timesteps)
            return
        super().set_timesteps(len(sigmas), device)
        trained = self.config.num_train_timesteps
        given = torch.tensor(sigmas, dtype=torch.float32).clamp(max=NEAREST_TO_NOISE)
        self.sigmas = torch.cat([given, torch.zeros(1)])
        self.timesteps = (given * trained).to(device=device, dtype=torch.int64)

    def step(self, *given: Any, return_dict: bool = True, **named: Any) -> Any:
        moved = super().step(*given, return_dict=False, **named)[0]
        # PixArt's pipeline takes the second value of a run of one step, which this scheduler alone does not have.
        return SchedulerOutput(prev_sample=moved) if return_dict else (moved, self.model_outputs[-1])


EXTENDED = {each.__name__: each for each in (DDIMScheduler, CogVideoXDDIMScheduler, DPMSolverMultistepScheduler)}


def make_scheduler(saved: Any, name: str | None, config: dict[str, Any]) -> Any:
    """A scheduler of one's own for a role: a named class of diffusers with its defaults, or a copy of the saved one.

    Raises:
        ConfigError: if diffusers has no such scheduler, or it has no such setting, or not with that value.
    """
    if name is None:
        settings = {**saved.config, **config}
        name = type(saved).__name__
    else:
        settings = config
    scheduler_class = EXTENDED.get(name) or getattr(diffusers, name, None)
    if not name.endswith("Scheduler") or scheduler_class is None:
        raise ConfigError(
            f"scheduler: diffusers {diffusers.__version__} has no such class as {name!r}"
            f"{_nearest(name, (each for each in dir(diffusers) if each.endswith('Scheduler')))}.\n"
            "Name one that it has, or leave the key out for the base's own."
        )
    known = inspect.signature(scheduler_class.__init__).parameters
    if unknown := sorted(config.keys() - known.keys()):
        raise ConfigError(
            f"scheduler_config: {name} has no setting {unknown[0]!r}{_nearest(unknown[0], known)}.\n"
            f"It has: {', '.join(list(known)[1:])}"
        )
    try:
        return scheduler_class.from_config(settings)
    except (ImportError, NotImplementedError, TypeError, ValueError) as error:
        reason = " ".join(str(error).split())[:200]
        raise ConfigError(f"scheduler_config: {name} refuses it: {reason}\nMend the values in the preset.") from error


def _nearest(word: str, known: Iterable[str]) -> str:
    found = get_close_matches(word, known, n=1)
    return f" (nearest: {found[0]!r})" if found else ""


def given_times(scheduler: Any, times: Sequence[float] | None) -> dict[str, list[float] | list[int]]:
    """The stock pipeline's argument that puts its steps at these times, noisiest first; none for the scheduler's own.

    Raises:
        ConfigError: if the scheduler cannot be put there.
    """
    if times is None:
        return {}
    config = scheduler.config
    takes = inspect.signature(scheduler.set_timesteps).parameters
    is_flow = isinstance(scheduler, diffusers.FlowMatchEulerDiscreteScheduler) or config.get("use_flow_sigmas")
    name = type(scheduler).__name__
    if ("sigmas" if is_flow else "timesteps") not in takes:
        raise ConfigError(
            f"{name} takes no time nodes of one's own.\n"
            'Set grid = "scheduler" for this role in the preset, or name a scheduler that does, such as DDIMScheduler.'
        )
    if not is_flow:
        return {"timesteps": [round(time * config.num_train_timesteps) - 1 for time in times]}
    if config.get("shift", 1.0) != 1.0 or config.get("use_dynamic_shifting"):
        raise ConfigError(
            "The scheduler would shift the given time nodes once more.\n"
            "Set scheduler_config = {shift = 1.0, use_dynamic_shifting = false} for this role in the preset."
        )
    return {"sigmas": list(times)}
