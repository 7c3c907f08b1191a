"""Trains and scores one arm: the only file of the comparison that needs torch."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from itertools import combinations
from typing import Any

import numpy as np
import torch
from torch import Tensor

from benchmarks.rival_arms import SYSTEMS, Student, Teacher
from benchmarks.rival_rows import Point, RivalRow, Score, mean_of, questions
from benchmarks.rows import ROOT, commit, machine
from tdm_core.backbones import mini
from tdm_core.backbones.adapters import NetworkRole
from tdm_core.backbones.stock_training import StockTraining
from tdm_core.backbones.trainable import Conditioning, denoiser
from tdm_core.diffusion.solvers import dpm_solver
from tdm_core.diffusion.trajectory import Denoise, roll_out
from tdm_core.evaluation.metrics.frechet import RENDERS, features
from tdm_core.evaluation.metrics.sets import frechet_distance
from tdm_core.scenes.grammar import parse
from tdm_core.scenes.moving import grammar as moving_grammar
from tdm_core.scenes.moving import mini_vbench
from tdm_core.scenes.moving import render as moving_render
from tdm_core.scenes.render import draw, layout
from tdm_core.scenes.scorer import score_batch
from tdm_core.training.config import DistillConfig
from tdm_core.training.prompts import encode_all
from tdm_core.training.trainer import Trainer
from train.distill import load_backbone
from train.worlds import OF_FAMILY

AT_ONCE = 48
POINTS = 4
"""Of the curve, the last of which is the finished student."""
CROWDS, CROWD = 24, 4
"""Captions and pictures of each for the diversity."""
NOISE_SEED = 7

Say = Callable[[str], None]
Draw = Callable[[Conditioning, Tensor, Sequence[Tensor]], Tensor]
"""Conditioning, noise and fresh noises [B, ...] for each step -> latents."""


class Exam:
    """Questions, noises and true renders: the same for every arm of a system."""

    def __init__(self, backbone: StockTraining, system: str, number: int) -> None:
        self.backbone, self.moving = backbone, SYSTEMS[system].moving
        self.asked = questions(number, moving=self.moving)
        prompts = [prompt for prompt, _ in self.asked]
        crowd = [prompt for prompt in prompts[:CROWDS] for _ in range(CROWD)]
        self.told, self.crowd = encode_all(backbone, prompts), encode_all(backbone, crowd)
        self.true, self.true_crowd = (
            features(self._true(prompt, np.random.default_rng((seed, number))) for number, prompt in rows)
            for seed, rows in ((1, list(enumerate(prompts * RENDERS))), (2, list(enumerate(crowd))))
        )
        self.scale = self.true.std(axis=0) + 1e-6

    def passed(self, draw: Draw, steps: int) -> str:
        """Which questions are answered rightly."""
        return self._judge(self._pictures(draw, self.told, steps, NOISE_SEED))

    def score(self, draw: Draw, *, steps: int, nfe: int) -> Score:
        """Everything about one sampler."""
        pictures = self._pictures(draw, self.told, steps, NOISE_SEED)
        crowd = features(self._stills(self._pictures(draw, self.crowd, steps, NOISE_SEED + 1)))
        return Score(
            nfe=nfe,
            passed=self._judge(pictures),
            frechet=round(frechet_distance(features(self._stills(pictures)), self.true), 5),
            diversity=round(self._spread(crowd) / self._spread(self.true_crowd), 4),
        )

    def _judge(self, pictures: np.ndarray) -> str:
        if self.moving:
            asked = zip(pictures, self.asked, strict=True)
            totals = [
                mini_vbench.total(mini_vbench.raw([mini_vbench.measure(clip, told)])) for clip, (told, _) in asked
            ]
            return " ".join(str(round(1000 * total)) for total in totals)
        prompts, tags = zip(*self.asked, strict=True)
        return "".join(str(int(verdict.passed)) for verdict in score_batch(pictures, prompts, tags))

    def _stills(self, pictures: np.ndarray) -> np.ndarray:
        return pictures[:, pictures.shape[1] // 2] if self.moving else pictures

    def _true(self, prompt: str, rng: np.random.Generator) -> np.ndarray:
        """A render of what the prompt asks; of a clip its middle frame."""
        if self.moving:
            frames = moving_render.render(moving_grammar.parse(prompt), rng)
            return frames[len(frames) // 2]
        return draw(layout(parse(prompt), rng), self.backbone.size_px)

    def _pictures(self, draw: Draw, told: Conditioning, steps: int, seed: int) -> np.ndarray:
        generator, parts = torch.Generator().manual_seed(seed), []
        shape = (len(told), *self.backbone.latent_shape)
        noise = torch.randn(shape, generator=generator)
        fresh = [torch.randn(shape, generator=generator) for _ in range(steps)]
        for first in range(0, len(told), AT_ONCE):
            rows = slice(first, first + AT_ONCE)
            latents = draw(told.rows(rows), noise[rows], [each[rows] for each in fresh])
            parts.append(self.backbone.family.decode(self.backbone.pipeline, latents))
        return np.concatenate(parts)

    def _spread(self, rows: np.ndarray) -> float:
        """Mean distance of two pictures of one caption, in standard deviations of true renders."""
        groups = (rows / self.scale).reshape(-1, CROWD, rows.shape[1])
        return float(np.mean([np.linalg.norm(g[a] - g[b]) for g in groups for a, b in combinations(range(CROWD), 2)]))


class Captions:
    """Endless fresh captions of scenes that the suite does not ask for, with and without their true pictures."""

    def __init__(self, backbone: StockTraining, config: DistillConfig) -> None:
        self._backbone, self._family = backbone, mini.family(config.base.family)
        self._world = OF_FAMILY[config.base.family]

    def draw(self, batch_size: int, generator: torch.Generator, rows: slice = slice(None)) -> Conditioning:
        return self._backbone.encode(self._world.captions(_seed(generator), batch_size)[rows])

    def clean(self, batch_size: int, generator: torch.Generator, rows: slice) -> tuple[Conditioning, Tensor]:
        """The captions of as many renders, and the renders' latents."""
        pictures, captions = self._world.scenes(_seed(generator), batch_size)
        with torch.no_grad():
            return self._backbone.encode(captions[rows]), self._family.encode(
                self._backbone.pipeline.vae, pictures[rows]
            )


def _seed(generator: torch.Generator) -> int:
    return int(torch.randint(2**62, (), generator=generator))


def run_teacher(arm: Teacher, system: str, config: DistillConfig, number: int) -> RivalRow:
    """Score one way to sample the teacher on so many questions."""
    backbone = load_backbone(config)
    nodes, uncond = arm.nodes(config.trajectory), backbone.encode([""])
    scale = config.objective.guidance_scale if arm.guided else 1.0

    def sample(told: Conditioning, noise: Tensor, fresh: Sequence[Tensor]) -> Tensor:
        denoise = denoiser(backbone, NetworkRole.TEACHER, told, uncond=uncond, guidance_scale=scale)
        return dpm_solver(denoise, noise, nodes, backbone.process) if arm.solver == "dpm" else _euler(denoise, noise)

    @torch.no_grad()
    def _euler(denoise: Denoise, noise: Tensor) -> Tensor:
        return list(roll_out(denoise, noise, nodes, backbone.process))[-1].x_s

    score = Exam(backbone, system, number).score(sample, steps=arm.steps, nfe=arm.nfe)
    return _row(arm.name, system, "teacher", config, scores={str(arm.steps): {arm.solver: score}})


def run_student(arm: Student, system: str, config: DistillConfig, number: int, budget: int, say: Say) -> RivalRow:
    """Train one arm to its last iteration, and score it at every number of steps that it was trained for."""
    backbone = load_backbone(config)
    exam, captions = Exam(backbone, system, number), Captions(backbone, config)
    trainer = Trainer(config, backbone, captions.draw, clean=captions.clean)
    iterations, main, forwards, curve = config.optimiser.iterations, config.trajectory.steps, 0, []
    points = {round(iterations * part / POINTS) for part in range(1, POINTS + 1)}
    for step in range(1, iterations + 1):
        forwards += trainer.train_step().forwards
        if step in points:
            curve.append(Point(forwards=forwards, passed=exam.passed(sampler(trainer, main, config.eta), main)))
            say(f"  iteration {step} of {iterations}: {mean_of(curve[-1].passed):.3f}")
    scores = {
        str(steps): {
            name: exam.score(sampler(trainer, steps, eta), steps=steps, nfe=steps)
            for name, eta in (("kept", 1.0), ("renoised", 0.0))
        }
        for steps in trainer.grids
    }
    return _row(
        arm.name,
        system,
        config.objective.method,
        config,
        changes=arm.changes,
        budget=budget,
        iterations=iterations,
        forwards=forwards,
        minutes=round(trainer.seconds / 60, 2),
        scores=scores,
        curve=tuple(curve),
    )


def sampler(trainer: Trainer, steps: int, eta: float) -> Draw:
    """The student's moving average in so many steps, keeping its noise (eta = 1) or noising each x0 afresh (0)."""
    backbone = trainer.backbone

    @torch.no_grad()
    def sample(told: Conditioning, noise: Tensor, fresh: Sequence[Tensor]) -> Tensor:
        backbone.roles.steps = steps
        denoise = denoiser(backbone, NetworkRole.STUDENT, told)
        with backbone.roles.weights(NetworkRole.STUDENT, trainer.ema), backbone.roles.merged(NetworkRole.STUDENT):
            taken = roll_out(denoise, noise, trainer.grids[steps], backbone.process, eta=eta, fresh=fresh)
            return list(taken)[-1].x_s

    return sample


def base_hash(config: DistillConfig) -> str:
    """Twelve digits of the weights that are distilled: another teacher makes other rows."""
    found = hashlib.sha256()
    for path in sorted((ROOT / config.base.path).rglob("*.safetensors")):
        found.update(path.read_bytes())
    return found.hexdigest()[:12]


def _row(arm: str, system: str, method: str, config: DistillConfig, **further: Any) -> RivalRow:
    return RivalRow(
        arm=arm,
        system=system,
        method=method,
        seed=config.seed,
        config_hash=config.hash,
        base_hash=base_hash(config),
        commit=commit(),
        machine=machine(),
        when=datetime.now(UTC).isoformat(timespec="seconds"),
        **further,
    )
