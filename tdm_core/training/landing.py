"""The two losses of an iteration, from the student's landings: the recipe's options bound to one backbone.

`tdm_core.diffusion.objectives.tdm` holds the formulas; here they meet the networks.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise

import torch
from torch import Tensor

from tdm_core.backbones.adapters import NetworkRole
from tdm_core.backbones.trainable import Conditioning, TrainableBackbone, denoiser
from tdm_core.diffusion.noise import expand
from tdm_core.diffusion.objectives import dmd2, lcm, tdm
from tdm_core.diffusion.prediction import Prediction, guide
from tdm_core.diffusion.times import TimeLaw, draw_times, query_interval
from tdm_core.diffusion.trajectory import move, roll_to, time_nodes, x0_that_lands
from tdm_core.training.config import DistillConfig, TimesConfig

STUDENT, FAKE, TEACHER = NetworkRole.STUDENT, NetworkRole.FAKE, NetworkRole.TEACHER

ANCHOR_SUBSTEPS = 3
"""Euler (DDIM) steps that the teacher takes for each of the student's, where these are anchored."""


def anchored_steps(config: DistillConfig, steps: int) -> int:
    """How many of so many steps are anchored.  Of a further K never the last: what it lands on is a sharp picture, and
    the teacher's own in so few steps is none."""
    anchored = config.objective.anchored_steps
    return anchored if steps == config.trajectory.steps else min(anchored, steps - 1)


def rolled_out_steps(config: DistillConfig) -> float:
    """Steps of the student before the one that is trained, on average of all rows."""
    numbers = config.trajectory.drawn_from()
    return sum((steps - 1) / 2 for steps in numbers) / len(numbers)


def anchor_steps(config: DistillConfig) -> float:
    """Steps of the teacher that anchoring takes, on average of all rows: each way is as long as its row's exit."""
    ways = [(anchored_steps(config, steps), steps) for steps in config.trajectory.drawn_from()]
    return sum(ANCHOR_SUBSTEPS * many * (many + 1) / 2 / steps for many, steps in ways) / len(ways)


@dataclass(frozen=True, kw_only=True)
class Start:
    """Where roll-outs begin."""

    conditioning: Conditioning
    nodes: Tensor
    """The grid, [K + 1]."""
    exits: Tensor
    """The step that each row trains, never rising, [B] on the CPU."""
    noise: Tensor
    fresh: tuple[Tensor, ...]
    """Noise for each step where landings are stochastic, K of [B, ...]; else empty."""

    def parts(self, number: int) -> list[Start]:
        """The same rows in micro-batches, each with a share of every exit."""
        return [
            Start(
                conditioning=self.conditioning.rows(rows),
                nodes=self.nodes,
                exits=self.exits[rows],
                noise=self.noise[rows],
                fresh=tuple(noise[rows] for noise in self.fresh),
            )
            for rows in (slice(part, None, number) for part in range(number))
        ]


@dataclass(frozen=True, kw_only=True)
class Landing:
    """The student's noisy landing points, and how it got there."""

    start: Start
    x_t: Tensor
    t: Tensor
    """The state before the exit step, detached, [B, ...] at times [B]."""
    prediction: Prediction
    """At the exit step, detached unless the graph was kept."""
    fresh: Tensor | None
    x_s: Tensor
    s: Tensor
    """The landing, detached, [B, ...] at times [B]."""


@dataclass(frozen=True, kw_only=True)
class Clean:
    """Clean samples with what they were drawn for: what consistency distillation starts from."""

    conditioning: Conditioning
    latents: Tensor
    """[B, ...]."""

    def parts(self, number: int) -> list[Clean]:
        rows = (slice(part, None, number) for part in range(number))
        return [Clean(conditioning=self.conditioning.rows(r), latents=self.latents[r]) for r in rows]


@dataclass(frozen=True, kw_only=True)
class Query:
    """Random numbers that lead from landings to query points: uniform ones [B] for times, and noise [B, ...]."""

    u: Tensor
    noise: Tensor

    def parts(self, number: int) -> list[Query]:
        return [Query(u=self.u[part::number], noise=self.noise[part::number]) for part in range(number)]


@dataclass(frozen=True, kw_only=True)
class Views:
    """What the three networks believe of the same rows: x0 predictions, detached, [B, ...]."""

    student: Tensor
    teacher: Tensor
    fake: Tensor


class Losses:
    """The recipe's objective on a backbone."""

    def __init__(self, config: DistillConfig, backbone: TrainableBackbone, uncond: Conditioning) -> None:
        """``uncond`` is the conditioning of the empty prompt, [1, ...]."""
        self.objective, self.trajectory, self.eta = config.objective, config.trajectory, config.eta
        self.anchored = {steps: anchored_steps(config, steps) for steps in config.trajectory.grids()}
        # From where the student starts: beyond it, a teacher of epsilon may know nothing of the picture.
        start = config.trajectory.grids()[config.trajectory.steps][0]
        self.teacher_nodes = time_nodes(lcm.TEACHER_STEPS, config.trajectory.shift) * start
        self.backbone, self.process, self.uncond = backbone, backbone.process, uncond

    def land(self, start: Start, *, keep_graph: bool) -> Landing:
        """Roll the student out to its exit steps, and take those: with gradient where the graph is kept."""
        t, s = start.nodes[start.exits], start.nodes[start.exits + 1]
        student, eta = denoiser(self.backbone, STUDENT, start.conditioning), self.eta
        with self.backbone.roles.merged(STUDENT):
            x_t = roll_to(student, start.noise, start.exits, start.nodes, self.process, eta=eta, fresh=start.fresh)
            if not keep_graph:
                with torch.no_grad():
                    prediction = student(x_t, t)
        if keep_graph:
            prediction = student(x_t, t)
        # Each row's landing has its own noise; rows exit at one step each, so the first step's serves no other row.
        fresh = torch.stack([start.fresh[step][row] for row, step in enumerate(start.exits)]) if start.fresh else None
        x_s = move(prediction.detach(), s, self.process, eta=eta, fresh=fresh)
        if self.objective.method == "dmd2":
            x_s, s = prediction.x0.detach(), torch.zeros_like(s)
        return Landing(
            start=start,
            x_t=x_t,
            t=t,
            prediction=prediction,
            fresh=fresh,
            x_s=x_s,
            s=s,
        )

    def fake_losses(self, landing: Landing, query: Query) -> Tensor:
        """The critic's loss [B] at query points of the landings."""
        objective, process = self.objective, self.process
        x_tau, tau = self._query_point(landing, query, objective.fake_times)
        fake = denoiser(self.backbone, FAKE, landing.start.conditioning)(x_tau, tau)
        kind, x0 = self.backbone.prediction_type, landing.prediction.x0.detach()
        if objective.method == "dmd2":
            losses = dmd2.fake_loss(fake, x0, query.noise, kind, tau, process)
        elif objective.fake_target == "ambient":
            cap = objective.ambient_largest_weight
            losses = tdm.ambient_fake_loss(fake, query.noise, landing.s, tau, process, largest_weight=cap)
        else:
            weighting = tdm.SnrWeight(objective.snr_weight)
            weight = tdm.snr_weight(weighting, kind, tau, process, cap=objective.snr_cap)
            if objective.fake_target == "x0_importance":
                weight = weight * tdm.importance_weight(x_tau, x0, query.noise, tau, process).to(weight)
            losses = tdm.x0_fake_loss(fake, x0, weight)
        if objective.teacher_weight > 0:
            with torch.no_grad():
                teacher = denoiser(self.backbone, TEACHER, landing.start.conditioning)(x_tau, tau)
            losses = losses + objective.teacher_weight * tdm.teacher_regulariser(fake, teacher, kind, tau, process)
        return losses

    def student_losses(self, landing: Landing, query: Query) -> tuple[Tensor, Views]:
        """The student's loss [B] at its exit steps, judged at query points of the landings."""
        objective, told = self.objective, landing.start.conditioning
        x_tau, tau = self._query_point(landing, query, objective.student_times)
        cond, uncond = self._teach(x_tau, tau, told)
        with self.backbone.roles.merged(FAKE):
            fake = denoiser(self.backbone, FAKE, told)(x_tau, tau).x0
        prediction = landing.prediction
        if not prediction.x0.requires_grad:
            prediction = denoiser(self.backbone, STUDENT, told)(landing.x_t, landing.t)
        if objective.method == "dmd2":
            teacher = cond if uncond is None else guide(cond, uncond, objective.guidance_scale)
            views = Views(student=prediction.x0.detach(), teacher=teacher, fake=fake)
            return dmd2.student_loss(prediction.x0, teacher, fake), views
        point = prediction.x0
        if objective.student_point == "landing":
            point = move(prediction, landing.s, self.process, eta=self.eta, fresh=landing.fresh)
        ways = tdm.directions(
            cond,
            uncond,
            fake,
            guidance_scale=objective.guidance_scale,
            decoupled=objective.guidance == "decoupled",
        )
        weights = (1.0, objective.guidance_part_weight)[: len(ways)]
        penalty = tdm.Penalty(objective.student_loss)
        parts = [tdm.student_loss(point, way, penalty=penalty, huber_c=objective.huber_c) for way in ways]
        losses = torch.stack([weight * part for weight, part in zip(weights, parts, strict=True)]).sum(dim=0)
        if objective.anchored_steps:
            losses = losses + objective.anchor_weight * self._anchor_losses(landing, prediction.x0)
        teacher = cond if uncond is None else guide(cond, uncond, objective.guidance_scale)
        if objective.normaliser_floor > 0:
            losses = losses / tdm.normaliser(prediction.x0, teacher, floor=objective.normaliser_floor)
        return losses, Views(student=prediction.x0.detach(), teacher=teacher, fake=fake)

    def _anchor_losses(self, landing: Landing, x0: Tensor) -> Tensor:
        """How far rows of the anchored steps are from the guided teacher's way from their noise, [B]; else 0."""
        objective, start, losses = self.objective, landing.start, x0.new_zeros(len(x0))
        rows = (start.exits < self.anchored[len(start.nodes) - 1]).nonzero().flatten()
        if len(rows):
            way = x0_that_lands(
                landing.x_t[rows], self._teachers_way(start, rows), landing.t[rows], landing.s[rows], self.process
            )
            penalty, student = tdm.Penalty(objective.student_loss), x0[rows]
            losses[rows] = tdm.student_loss(student, way - student.detach(), penalty=penalty, huber_c=objective.huber_c)
        return losses

    def _teachers_way(self, start: Start, rows: Tensor) -> Tensor:
        """Where the guided teacher itself is, from a row's noise, when the row's exit step ends."""
        told, guidance_scale = start.conditioning.rows(rows), self.objective.guidance_scale
        teacher = denoiser(self.backbone, TEACHER, told, uncond=self.uncond, guidance_scale=guidance_scale)
        shares = torch.arange(ANCHOR_SUBSTEPS).to(start.nodes) / ANCHOR_SUBSTEPS
        finer = torch.cat([torch.lerp(t, s, shares) for t, s in pairwise(start.nodes)] + [start.nodes[-1:]])
        return roll_to(teacher, start.noise[rows], ANCHOR_SUBSTEPS * (start.exits[rows] + 1), finer, self.process)

    def consistency_losses(self, clean: Clean, query: Query) -> tuple[Tensor, Views]:
        """The consistency loss [B] between neighbours on the teacher's grid, from clean samples."""
        told, guidance_scale = clean.conditioning, self.objective.guidance_scale
        t, s = lcm.neighbours(query.u, self.teacher_nodes)
        x_t = self.process.add_noise(clean.latents, query.noise, t)
        with torch.no_grad():
            teacher = denoiser(self.backbone, TEACHER, told, uncond=self.uncond, guidance_scale=guidance_scale)(x_t, t)
            x_s = move(teacher, s, self.process)
        with self.backbone.roles.merged(STUDENT):
            # Where no noise is left the state is its own x0, and no network need be asked: any time will do.
            target = denoiser(self.backbone, STUDENT, told)(x_s, s.clamp(min=float(self.teacher_nodes[-2]))).x0
        target = torch.where(expand(s, x_s) > 0, target, x_s)
        student = denoiser(self.backbone, STUDENT, told)(x_t, t).x0
        views = Views(student=student.detach(), teacher=teacher.x0, fake=target)
        return lcm.consistency_loss(student, target), views

    def _query_point(self, landing: Landing, query: Query, times: TimesConfig) -> tuple[Tensor, Tensor]:
        """x_tau [B, ...] and tau [B]."""
        objective = self.objective
        inside = objective.interval == "separate" and objective.method == "tdm"
        end = landing.t if inside else torch.ones_like(landing.t)
        first, last = query_interval(landing.s, end, margin=objective.margin, latest=objective.latest)
        law, shift = TimeLaw(times.law), self.trajectory.shift
        tau = draw_times(query.u, first, last, law=law, mean=times.mean, std=times.std, shift=shift)
        return self.process.renoise(landing.x_s, query.noise, s=landing.s, t=tau), tau

    @torch.no_grad()
    def _teach(self, x_tau: Tensor, tau: Tensor, told: Conditioning) -> tuple[Tensor, Tensor | None]:
        """The teacher's x0 with and, where guidance needs it, without the prompt; both in one call."""
        if self.objective.guidance_scale == 1.0:
            return denoiser(self.backbone, TEACHER, told)(x_tau, tau).x0, None
        both = Conditioning.join([told, self.uncond.repeat(len(x_tau))])
        pair = denoiser(self.backbone, TEACHER, both)(torch.cat([x_tau, x_tau]), torch.cat([tau, tau])).x0
        cond, uncond = pair.chunk(2)
        return cond, uncond
