"""The TDM trainer: one iteration is one roll-out, the fake score's update on its landings, then the student's.

Reads like the algorithm (arXiv:2503.06674, section 4), with these departures:

1. The student is run once at its exit step; its prediction serves the critic (detached) and the student's own update
   (with its graph).  The published script runs it again for each.
2. Roll-outs stop at the exit step; each batch holds all exit steps (``exits = "stratified"``), so no row is rolled
   further than it is used and every iteration costs the same: with K = 4 steps and B rows, (1.5 + 1) B student, 2 B
   fake and 2 B teacher evaluations.
3. Both roles are clipped and decayed; the script did so for the student alone.
"""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from tdm_core.backbones.adapters import TRAINED_ROLES, NetworkRole
from tdm_core.backbones.trainable import Conditioning, TrainableBackbone, denoiser
from tdm_core.diffusion.objectives import tdm
from tdm_core.diffusion.prediction import Prediction
from tdm_core.diffusion.trajectory import draw_exits, move, roll_to, time_nodes
from tdm_core.errors import TrainingError
from tdm_core.training.config import DistillConfig
from tdm_core.training.prompts import DrawConditioning

STUDENT, FAKE, TEACHER = NetworkRole.STUDENT, NetworkRole.FAKE, NetworkRole.TEACHER


@dataclass(frozen=True, kw_only=True)
class StepReport:
    """What one iteration did; a row of the log."""

    step: int
    student_loss: float
    fake_loss: float
    student_gradient: float
    """Norm before clipping."""
    fake_gradient: float
    teacher_distance: float
    """Mean ``|x0_student - x0_teacher|``."""
    disagreement: float
    """Mean ``|x0_teacher - x0_fake|``, the length of the student's way."""
    latents_mean: float
    latents_std: float
    """Of the student's x0: watch them for a drift in colour or contrast."""
    learning_rate: float
    """The student's."""
    seconds: float


@dataclass(frozen=True)
class Landing:
    """The student's noisy landing points of one batch, and how it got there."""

    student: Prediction
    """At the exit step, with gradient."""
    x_s: Tensor
    """Where the step lands, detached, [B, ...]."""
    s: Tensor
    end: Tensor
    """Landing times, and how far each may be renoised, [B]."""
    conditioning: Conditioning


class Trainer:
    """All that changes from iteration to iteration: two sets of LoRA weights, their optimisers, EMA, one generator."""

    def __init__(self, config: DistillConfig, backbone: TrainableBackbone, draw: DrawConditioning) -> None:
        self.config = config
        self.backbone = backbone
        self.process = backbone.process
        self.nodes = time_nodes(config.trajectory.steps, config.trajectory.shift)
        self.step = 0
        self.seconds = 0.0
        self.ema = {name: weight.detach().clone() for name, weight in self._weights(STUDENT).items()}
        self._draw = draw
        self._uncond = backbone.encode([""])
        self._generator = torch.Generator().manual_seed(config.seed)
        rates = {STUDENT: config.optimiser.student_lr, FAKE: config.optimiser.fake_lr}
        self._optimisers = {
            role: torch.optim.AdamW(
                list(self._weights(role).values()),
                lr=rates[role],
                betas=config.optimiser.betas,
                weight_decay=config.optimiser.weight_decay,
                fused=True,
            )
            for role in TRAINED_ROLES
        }
        self._rates = rates
        self._clips = {STUDENT: config.optimiser.student_clip, FAKE: config.optimiser.fake_clip}

    def train_step(self) -> StepReport:
        """One iteration.

        Raises:
            TrainingError: if a loss or a gradient is not finite; the weights are those before the iteration's update.
        """
        started = time.perf_counter()
        optimiser = self.config.optimiser
        decay = self._decay()
        for role in TRAINED_ROLES:
            self._optimisers[role].param_groups[0]["lr"] = self._rates[role] * decay
        landing = self._land()
        warming_up = self.step < optimiser.warmup_iterations
        for _ in range(optimiser.warmup_fake_steps if warming_up else optimiser.fake_steps):
            fake_loss, fake_gradient = self._descend(FAKE, self._fake_losses(landing))
        losses, teacher, fake = self._student_losses(landing)
        student_loss, student_gradient = self._descend(STUDENT, losses)
        self._average()
        self.step += 1
        seconds = time.perf_counter() - started
        self.seconds += seconds
        x0 = landing.student.x0.detach()
        return StepReport(
            step=self.step,
            student_loss=student_loss,
            fake_loss=fake_loss,
            student_gradient=student_gradient,
            fake_gradient=fake_gradient,
            teacher_distance=float((x0 - teacher).abs().mean()),
            disagreement=float((teacher - fake).abs().mean()),
            latents_mean=float(x0.mean()),
            latents_std=float(x0.std()),
            learning_rate=optimiser.student_lr * decay,
            seconds=seconds,
        )

    def state(self) -> dict[str, Any]:
        """Everything that the next iteration depends on, and nothing else."""
        return {
            "step": self.step,
            "seconds": self.seconds,
            "generator": self._generator.get_state(),
            "ema": self.ema,
            "weights": {role.value: dict(self._weights(role)) for role in TRAINED_ROLES},
            "optimisers": {role.value: self._optimisers[role].state_dict() for role in TRAINED_ROLES},
        }

    def load_state(self, state: dict[str, Any]) -> None:
        """Continue exactly where ``state`` was taken."""
        self.step, self.seconds = state["step"], state["seconds"]
        self._generator.set_state(state["generator"])
        for role in TRAINED_ROLES:
            self.backbone.roles.load(role, state["weights"][role.value])
            self._optimisers[role].load_state_dict(state["optimisers"][role.value])
        for name, average in self.ema.items():
            average.copy_(state["ema"][name])

    def _weights(self, role: NetworkRole) -> dict[str, Any]:
        return self.backbone.roles.parameters(role)

    def _noise(self, batch_size: int) -> Tensor:
        # Drawn on the CPU, so that a seed means the same on any device.
        return torch.randn(batch_size, *self.backbone.latent_shape, generator=self._generator).to(self.backbone.device)

    def _land(self) -> Landing:
        """Roll the student out to its exit steps and take those with gradient."""
        batch_size, trajectory = self.config.optimiser.batch_size, self.config.trajectory
        conditioning = self._draw(batch_size, self._generator).to(self.backbone.device)
        stratified = trajectory.exits == "stratified"
        exits = draw_exits(batch_size, trajectory.steps, self._generator, stratified=stratified)
        t, s = self.nodes[exits], self.nodes[exits + 1]
        student = denoiser(self.backbone, STUDENT, conditioning)
        with self.backbone.roles.merged(STUDENT):
            x_t = roll_to(student, self._noise(batch_size), exits, self.nodes, self.process)
        prediction = student(x_t, t)
        end = t if self.config.objective.interval == "segment" else torch.ones_like(t)
        return Landing(prediction, move(prediction.detach(), s, self.process), s, end, conditioning)

    def _renoise(self, landing: Landing) -> tuple[Tensor, Tensor, Tensor]:
        """Query points x_tau [B, ...], their noise, and their times tau [B], drawn anew for each use."""
        objective = self.config.objective
        u = torch.rand(len(landing.s), generator=self._generator, dtype=torch.float64)
        tau = tdm.segment_times(landing.s, landing.end, u, margin=objective.margin, latest=objective.latest)
        noise = self._noise(len(tau))
        return self.process.renoise(landing.x_s, noise, s=landing.s, t=tau), noise, tau

    def _fake_losses(self, landing: Landing) -> Tensor:
        objective = self.config.objective
        x_tau, noise, tau = self._renoise(landing)
        fake = denoiser(self.backbone, FAKE, landing.conditioning)(x_tau, tau)
        if objective.fake_target == "published":
            return tdm.published_fake_loss(fake, landing.student.x0, tau, self.process, snr_cap=objective.snr_cap)
        return tdm.unbiased_fake_loss(
            fake, noise, landing.s, tau, self.process, largest_weight=objective.fake_largest_weight
        )

    def _student_losses(self, landing: Landing) -> tuple[Tensor, Tensor, Tensor]:
        objective = self.config.objective
        x_tau, _, tau = self._renoise(landing)
        told = landing.conditioning
        with torch.no_grad():
            guided = denoiser(
                self.backbone, TEACHER, told, uncond=self._uncond, guidance_scale=objective.guidance_scale
            )
            teacher = guided(x_tau, tau).x0
        with self.backbone.roles.merged(FAKE):
            fake = denoiser(self.backbone, FAKE, told)(x_tau, tau).x0
        losses = tdm.student_loss(
            landing.student.x0,
            teacher,
            fake,
            huber_c=objective.huber_c if objective.student_loss == "pseudo_huber" else None,
            normaliser_floor=objective.normaliser_floor or None,
        )
        return losses, teacher, fake

    def _descend(self, role: NetworkRole, losses: Tensor) -> tuple[float, float]:
        """One optimiser step of a role on losses [B]; its mean loss and its gradient's norm before clipping."""
        optimiser, loss = self._optimisers[role], losses.mean()
        optimiser.zero_grad(set_to_none=True)
        self.backbone.roles.backward(loss, role)
        norm = torch.nn.utils.clip_grad_norm_(self._weights(role).values(), self._clips[role])
        if not torch.isfinite(loss + norm):
            raise TrainingError(
                f"step {self.step}: the {role}'s loss ({loss.item()}) or gradient ({norm.item()}) is not finite.\n"
                "Resume from the last checkpoint with a lower learning rate, or a wider objective.margin."
            )
        optimiser.step()
        return loss.item(), norm.item()

    def _decay(self) -> float:
        """Factor of both learning rates: 1, then linearly to 0 over the last share of the iterations."""
        iterations, share = self.config.optimiser.iterations, self.config.optimiser.decay_share
        left = (iterations - self.step) / max(1, iterations)
        return min(1.0, left / share) if share > 0 else 1.0

    @torch.no_grad()
    def _average(self) -> None:
        # A young average forgets its start faster: (1 + n) / (10 + n), as usual.
        decay = min(self.config.optimiser.ema_decay, (1 + self.step) / (10 + self.step))
        for name, weight in self._weights(STUDENT).items():
            self.ema[name].lerp_(weight, 1 - decay)
