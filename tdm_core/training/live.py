"""A distillation to be watched while it runs: a stream of plain events, so that they can cross a process border.

Every event is a dict of JSON values with a ``kind``:

========= ====================================================================================================
kind      further keys
========= ====================================================================================================
begin     ``iterations``, ``steps`` (K), ``teacher_nfe``, ``prompts`` (of the pictures), ``questions`` (how many)
pictures  ``role`` (teacher, equal, student), ``step``, ``pictures``: PNG files in base64, one a prompt
line      ``role`` (teacher, equal), ``nfe``, and its score: ``value``, ``low``, ``high``, ``n``
step      ``step``, ``forwards`` and ``seconds`` of training so far
score     the student's: ``step``, ``forwards``, ``seconds``, ``value``, ``low``, ``high``, ``n``
========= ====================================================================================================

``equal`` is the teacher at the student's number of network evaluations, in the way that suits it best.  All are asked
the same questions from the same noises, and are judged by what the caller's ``judge`` sees in the pictures.
"""

from __future__ import annotations

import base64
import io
from collections.abc import Callable, Generator, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from tdm_core.backbones.adapters import NetworkRole
from tdm_core.backbones.trainable import Conditioning, denoiser
from tdm_core.diffusion.trajectory import time_nodes
from tdm_core.training.distillation import sample
from tdm_core.training.trainer import Trainer

Event = dict[str, Any]
Judge = Callable[[np.ndarray], dict[str, float]]
"""Pictures uint8 [N, H, W, 3], one for each question in order -> ``value``, ``low``, ``high``, ``n``."""

PICTURES_EVERY, SCORE_EVERY = 5, 20
"""Iterations."""
AT_ONCE = 192
"""Network evaluations for a teacher's line between two iterations, so that no picture waits long for it."""
LINES_WAIT = 10
"""Iterations before that work begins: the first pictures come first."""


@dataclass(frozen=True, kw_only=True)
class Way:
    """One way to sample: a role, its guidance, its time nodes [K + 1]."""

    role: NetworkRole
    guidance_scale: float
    nodes: Tensor

    @property
    def nfe(self) -> int:
        return (len(self.nodes) - 1) * (2 if self.guidance_scale > 1 else 1)


@dataclass(frozen=True, kw_only=True)
class Sitting:
    """Prompts that are drawn again and again from the same noises."""

    told: Conditioning
    noise: Tensor

    @classmethod
    def of(cls, trainer: Trainer, told: Conditioning) -> Sitting:
        generator = torch.Generator().manual_seed(trainer.config.run.preview_seed)
        noise = torch.randn(len(told), *trainer.backbone.latent_shape, generator=generator)
        device = trainer.backbone.device
        return cls(told=told.to(device), noise=noise.to(device))

    def draw(self, trainer: Trainer, way: Way, rows: slice = slice(None)) -> np.ndarray:
        """Pixels uint8 [B, H, W, 3]; the student's are of its moving average."""
        told, backbone = self.told.rows(rows), trainer.backbone
        denoise = denoiser(backbone, way.role, told, uncond=trainer.uncond, guidance_scale=way.guidance_scale)
        if way.role is not NetworkRole.STUDENT:
            return backbone.decode(sample(backbone, denoise, self.noise[rows], way.nodes))
        with backbone.roles.weights(NetworkRole.STUDENT, trainer.ema), backbone.roles.merged(NetworkRole.STUDENT):
            return backbone.decode(sample(backbone, denoise, self.noise[rows], way.nodes))


def learn(trainer: Trainer, *, prompts: Conditioning, questions: Conditioning, judge: Judge) -> Iterator[Event]:
    """Train to the recipe's last iteration, telling of it.

    Args:
        prompts: conditioning of the recipe's preview prompts, whose pictures are shown.
        questions: conditioning of what is asked of every candidate.
    """
    config, run = trainer.config, trainer.config.run
    shown, exam = Sitting.of(trainer, prompts), Sitting.of(trainer, questions)
    teacher = Way(
        role=NetworkRole.TEACHER,
        guidance_scale=config.objective.guidance_scale,
        nodes=time_nodes(run.preview_teacher_steps),
    )
    student = Way(role=NetworkRole.STUDENT, guidance_scale=1.0, nodes=trainer.nodes)
    yield {
        "kind": "begin",
        "iterations": config.optimiser.iterations,
        "steps": config.trajectory.steps,
        "teacher_nfe": teacher.nfe,
        "prompts": list(run.preview_prompts),
        "questions": len(questions),
    }
    yield _pictures("student", 0, shown.draw(trainer, student))
    yield _pictures("teacher", 0, shown.draw(trainer, teacher))
    spent = {"step": 0, "forwards": 0, "seconds": 0.0}
    lines = _lines(trainer, teacher, shown, exam, judge)
    while trainer.step < config.optimiser.iterations:
        row = trainer.train_step()
        spent = {
            "step": row.step,
            "forwards": spent["forwards"] + row.forwards,
            "seconds": round(spent["seconds"] + row.seconds, 3),
        }
        yield {"kind": "step", **spent}
        ended = row.step == config.optimiser.iterations
        if row.step % PICTURES_EVERY == 0 or ended:
            yield _pictures("student", row.step, shown.draw(trainer, student))
        if row.step % SCORE_EVERY == 0 or ended:
            yield {"kind": "score", **spent, **judge(exam.draw(trainer, student))}
        if row.step >= LINES_WAIT:
            yield from next(lines, ())
    for events in lines:  # where the run was shorter than the teacher's examination
        yield from events


def _lines(trainer: Trainer, teacher: Way, shown: Sitting, exam: Sitting, judge: Judge) -> Iterator[Sequence[Event]]:
    """The teacher's lines, bit by bit; after each bit what is known by now."""
    scores = []
    for way in _equal_ways(trainer):
        drawn = yield from _bits(trainer, exam, way)
        scores.append((judge(drawn), way))
        if way.nodes is trainer.nodes:  # what a fresh LoRA, which changes nothing yet, would have scored
            yield [{"kind": "score", "step": 0, "forwards": 0, "seconds": 0.0, **scores[-1][0]}]
    best, equal = max(scores, key=lambda scored: scored[0]["value"])
    yield [
        _pictures("equal", 0, shown.draw(trainer, equal)),
        {"kind": "line", "role": "equal", "nfe": equal.nfe, **best},
    ]
    drawn = yield from _bits(trainer, exam, teacher)
    yield [{"kind": "line", "role": "teacher", "nfe": teacher.nfe, **judge(drawn)}]


def _bits(trainer: Trainer, exam: Sitting, way: Way) -> Generator[Sequence[Event], None, np.ndarray]:
    parts, rows = [], max(1, AT_ONCE // way.nfe)
    for first in range(0, len(exam.told), rows):
        parts.append(exam.draw(trainer, way, slice(first, first + rows)))
        yield ()
    return np.concatenate(parts)


def _equal_ways(trainer: Trainer) -> list[Way]:
    """How the teacher may spend the student's number of evaluations: unguided on two grids, or guided in half as many
    steps."""
    trajectory, guidance_scale = trainer.config.trajectory, trainer.config.objective.guidance_scale
    ways = [(1.0, trainer.nodes), (1.0, time_nodes(trajectory.steps))]
    if guidance_scale > 1 and trajectory.steps % 2 == 0:
        ways.append((guidance_scale, time_nodes(trajectory.steps // 2, trajectory.shift)))
    return [Way(role=NetworkRole.TEACHER, guidance_scale=scale, nodes=nodes) for scale, nodes in ways]


def _pictures(role: str, step: int, pixels: np.ndarray) -> Event:
    return {"kind": "pictures", "role": role, "step": step, "pictures": [_png(picture) for picture in pixels]}


def _png(pixels: np.ndarray) -> str:
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, format="PNG")
    return base64.b64encode(file.getvalue()).decode("ascii")
