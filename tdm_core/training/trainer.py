"""The TDM trainer: one iteration is one roll-out, the fake score's update on its landings, then the student's.

Reads like the algorithm (arXiv:2503.06674, section 4), with these departures:

1. The student is run once at its exit step; its prediction serves the critic (detached) and the student's own update
   (with its graph).  The published script runs it again for each; here that is done for micro-batches alone, whose
   graphs are not kept.
2. Roll-outs stop at the exit step; each batch holds all exit steps (``exits = "stratified"``), so no row is rolled
   further than it is used and every iteration costs the same: with K = 4 steps and B rows, (1.5 + 1) B student, 2 B
   fake and 2 B teacher evaluations.
3. Both roles are clipped and decayed; the script did so for the student alone.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from tdm_core.backbones.adapters import TRAINED_ROLES, NetworkRole
from tdm_core.backbones.trainable import Conditioning, TrainableBackbone
from tdm_core.diffusion.trajectory import draw_exits
from tdm_core.errors import ConfigError, TrainingError
from tdm_core.training.config import DistillConfig
from tdm_core.training.landing import Clean, Landing, Losses, Query, Start, Views
from tdm_core.training.precision import matrix_products
from tdm_core.training.processes import ALONE, Processes
from tdm_core.training.prompts import DrawConditioning

STUDENT, FAKE = NetworkRole.STUDENT, NetworkRole.FAKE

DrawClean = Callable[[int, torch.Generator, slice], tuple[Conditioning, Tensor]]
"""Some rows of a batch: conditioning and clean latents [B, ...], the same for the same state of the generator."""


@dataclass(frozen=True, kw_only=True)
class StepReport:
    """What one iteration did; a row of the log.  Distances and latents are those of the main process's rows."""

    step: int
    steps: int
    """K of this iteration's trajectory."""
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
    forwards: int
    """Rows that this process sent through the network, in any role; backward passes are not counted."""
    seconds: float


class Trainer:
    """All that changes from iteration to iteration: two sets of LoRA weights, their optimisers, EMA, one generator."""

    def __init__(
        self,
        config: DistillConfig,
        backbone: TrainableBackbone,
        draw: DrawConditioning,
        *,
        uncond: Conditioning | None = None,
        clean: DrawClean | None = None,
        processes: Processes = ALONE,
    ) -> None:
        """``uncond`` [1, ...] is the empty prompt's conditioning, encoded here if it is not given.

        Args:
            clean: clean samples, for the one method that needs them.

        Raises:
            ConfigError: if there are fewer rows than processes, or the method lacks its clean samples.
        """
        if config.objective.method == "lcm" and clean is None:
            raise ConfigError(
                "objective.method: lcm needs clean samples, and prompts are all there is here.\n"
                "Choose tdm or dmd2; python -m benchmarks.rivals trains lcm on true renders."
            )
        if config.optimiser.batch_size < processes.count:
            raise ConfigError(
                f"optimiser.batch_size {config.optimiser.batch_size} is less than one row for each of "
                f"{processes.count} processes"
            )
        self.config = config
        self.backbone = backbone
        self.processes = processes
        self.grids = config.trajectory.grids()
        self.nodes = self.grids[config.trajectory.steps]
        self.uncond = (uncond or backbone.encode([""])).to(backbone.device)
        told = {"nobody": (), "fake": (FAKE,), "both": TRAINED_ROLES}[config.trajectory.told]
        if told:
            backbone.roles.tell_steps(told, list(self.grids))
        self.step = 0
        self.seconds = 0.0
        processes.spread([weight.data for role in TRAINED_ROLES for weight in self._weights(role).values()])
        self.ema = {name: weight.detach().clone() for name, weight in self._weights(STUDENT).items()}
        self._draw, self._clean = draw, clean
        self._losses = Losses(config, backbone, self.uncond)
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
            TrainingError: if a loss or a gradient is not finite, or a gradient is zero; the weights are those before
                the iteration's update of that role.
        """
        with matrix_products(self.config.run.precision):
            return self._train_step()

    def _train_step(self) -> StepReport:
        started, evaluations = time.perf_counter(), self.backbone.roles.evaluations
        optimiser = self.config.optimiser
        decay = self._decay()
        for role in TRAINED_ROLES:
            falls = role is STUDENT or optimiser.decays == "both"
            self._optimisers[role].param_groups[0]["lr"] = self._rates[role] * (decay if falls else 1.0)
        views: list[Views] = []
        steps, fake_loss, fake_gradient = self.config.trajectory.steps, 0.0, 0.0
        if self.config.objective.method == "lcm":
            student_losses = self._consistency_losses(views)
        else:
            starts = self._start()
            steps = len(starts[0].nodes) - 1
            landings = [self._losses.land(start, keep_graph=len(starts) == 1) for start in starts]
            warming_up = self.step < optimiser.warmup_iterations
            for _ in range(optimiser.warmup_fake_steps if warming_up else optimiser.fake_steps):
                queries = self._query(len(landings))
                fake_loss, fake_gradient = self._descend(FAKE, map(self._losses.fake_losses, landings, queries))
            student_losses = self._student_losses(landings, views)
        student_loss, student_gradient = self._descend(STUDENT, student_losses)
        self._average()
        self.step += 1
        seconds = time.perf_counter() - started
        self.seconds += seconds
        student, teacher, fake = (torch.cat([getattr(v, r) for v in views]) for r in ("student", "teacher", "fake"))
        return StepReport(
            step=self.step,
            steps=steps,
            student_loss=student_loss,
            fake_loss=fake_loss,
            student_gradient=student_gradient,
            fake_gradient=fake_gradient,
            teacher_distance=float((student - teacher).abs().mean()),
            disagreement=float((teacher - fake).abs().mean()),
            latents_mean=float(student.mean()),
            latents_std=float(student.std()),
            learning_rate=optimiser.student_lr * decay,
            forwards=self.backbone.roles.evaluations - evaluations,
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

    def _noise(self) -> Tensor:
        """This process's rows of the batch's noise."""
        # Drawn on the CPU, so that a seed means the same on any device; drawn for all, see `processes`.
        size = self.config.optimiser.batch_size
        noise = torch.randn(size, *self.backbone.latent_shape, generator=self._generator)
        return noise[self.processes.rows].to(self.backbone.device)

    def _start(self) -> list[Start]:
        """This process's rows, in micro-batches."""
        size, trajectory, rows = self.config.optimiser.batch_size, self.config.trajectory, self.processes.rows
        conditioning = self._draw(size, self._generator, rows).to(self.backbone.device)
        steps = trajectory.steps
        if trajectory.also_steps:
            numbers = trajectory.drawn_from()
            steps = numbers[int(torch.randint(len(numbers), (), generator=self._generator))]
        exits = draw_exits(size, steps, self._generator, stratified=trajectory.exits == "stratified")[rows]
        self.backbone.roles.steps = steps
        whole = Start(
            conditioning=conditioning,
            nodes=self.grids[steps],
            exits=exits,
            noise=self._noise(),
            fresh=tuple(self._noise() for _ in range(steps)) if self.config.eta < 1 else (),
        )
        at_once = self.config.run.micro_batch or len(exits)
        return whole.parts(-(-len(exits) // at_once))

    def _query(self, parts: int) -> list[Query]:
        """Random numbers for query points, drawn anew for each use."""
        size, rows = self.config.optimiser.batch_size, self.processes.rows
        u = torch.rand(size, generator=self._generator, dtype=torch.float64)[rows]
        return Query(u=u, noise=self._noise()).parts(parts)

    def _student_losses(self, landings: list[Landing], views: list[Views]) -> Iterable[Tensor]:
        for landing, query in zip(landings, self._query(len(landings)), strict=True):
            losses, seen = self._losses.student_losses(landing, query)
            views.append(seen)
            yield losses

    def _consistency_losses(self, views: list[Views]) -> Iterable[Tensor]:
        size, rows, device = self.config.optimiser.batch_size, self.processes.rows, self.backbone.device
        assert self._clean
        conditioning, latents = self._clean(size, self._generator, rows)
        whole = Clean(conditioning=conditioning.to(device), latents=latents.to(device))
        parts = -(-len(latents) // (self.config.run.micro_batch or len(latents)))
        for clean, query in zip(whole.parts(parts), self._query(parts), strict=True):
            losses, seen = self._losses.consistency_losses(clean, query)
            views.append(seen)
            yield losses

    def _descend(self, role: NetworkRole, micro_batches: Iterable[Tensor]) -> tuple[float, float]:
        """One optimiser step of a role on its losses; their mean and the gradient's norm before clipping.

        The micro-batches' losses are made one after the other, so each graph is freed before the next one is built.
        """
        optimiser, weights = self._optimisers[role], self._weights(role).values()
        optimiser.zero_grad(set_to_none=True)
        total = torch.zeros((), device=self.backbone.device)
        for losses in micro_batches:
            loss = losses.sum() / self.config.optimiser.batch_size
            self.backbone.roles.backward(loss, role)
            total += loss.detach()
        self.processes.add_up([total, *(weight.grad for weight in weights)])
        norm = torch.nn.utils.clip_grad_norm_(weights, self._clips[role])
        if not torch.isfinite(total + norm):
            raise TrainingError(
                f"step {self.step}: the {role}'s loss ({total.item()}) or gradient ({norm.item()}) is not finite.\n"
                "Resume from the last checkpoint with a lower learning rate, or a wider objective.margin."
            )
        if norm == 0:
            raise TrainingError(
                f"step {self.step}: the {role}'s gradient is zero, so it would learn nothing.\n"
                "Are lora.targets layers of the network that see its input?"
            )
        optimiser.step()
        return total.item(), norm.item()

    def _decay(self) -> float:
        """Factor of both learning rates: 1, then linearly to 0 over the last share of the iterations."""
        iterations, share = self.config.optimiser.iterations, self.config.optimiser.decay_share
        left = (iterations - self.step) / max(1, iterations)
        return min(1.0, left / share) if share > 0 else 1.0

    @torch.no_grad()
    def _average(self) -> None:
        # A young average forgets its start faster: (1 + n) / (10 + n), as usual.
        decay = min(self.config.optimiser.ema_decay, (1 + self.step) / (10 + self.step))
        torch._foreach_lerp_(list(self.ema.values()), list(self._weights(STUDENT).values()), 1 - decay)
