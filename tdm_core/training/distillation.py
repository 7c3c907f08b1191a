"""One run from recipe to student, in one folder: log, checkpoints, previews, and in the end the exported LoRA.

::

    <run.folder>/recipe.json           the resolved recipe
    <run.folder>/log.jsonl             one row an iteration (StepReport)
    <run.folder>/checkpoints/step-*/   the newest few
    <run.folder>/previews/             written by the caller's ``show``
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from tdm_core.backbones.adapters import NetworkRole
from tdm_core.backbones.trainable import TrainableBackbone, denoiser
from tdm_core.diffusion.trajectory import Denoise, roll_out, time_nodes
from tdm_core.errors import TrainingError
from tdm_core.training import checkpoint
from tdm_core.training.config import DistillConfig
from tdm_core.training.trainer import StepReport, Trainer

LOG, RECIPE, CHECKPOINTS = "log.jsonl", "recipe.json", "checkpoints"


def distil(
    config: DistillConfig,
    trainer: Trainer,
    *,
    prompts_digest: str,
    resume: bool = False,
    allow_change: bool = False,
    report: Callable[[StepReport], None] = lambda row: None,
    show: Callable[[int, np.ndarray], None] | None = None,
    stop: Callable[[], bool] = lambda: False,
) -> bool:
    """Train to the recipe's last iteration, from the start or from the newest checkpoint.

    Args:
        prompts_digest: of the prompts; a checkpoint made with others is refused.
        resume: continue from the newest checkpoint, if there is one.
        allow_change: continue from a checkpoint of another recipe.
        report: is told of every iteration.
        show: is given the step and previews uint8 [rows, columns, H, W, 3]: guided teacher at full steps, guided
            teacher on the student's nodes, student; same noise in each column.
        stop: is asked after every iteration; True ends the run with a checkpoint.

    Returns:
        Whether the run has reached its last iteration.

    Raises:
        TrainingError: if the folder holds another run, or the run cannot go on.
    """
    run = config.run
    about = {"config_hash": config.hash, "prompts": prompts_digest}
    checkpoints = run.folder / CHECKPOINTS
    found = checkpoint.complete(checkpoints)
    if found and not resume:
        raise TrainingError(
            f"{run.folder}: holds a run already, at {found[-1].name}.\n"
            "Continue it with --resume, delete the folder, or choose another with --set run.folder=..."
        )
    if found:
        trainer.load_state(checkpoint.load(found[-1], about, allow_other=allow_change))
    run.folder.mkdir(parents=True, exist_ok=True)
    (run.folder / RECIPE).write_text(json.dumps(config.tables(), indent=1) + "\n", encoding="utf-8")
    _cut_log(run.folder / LOG, trainer.step)
    previews = Previews(config, trainer) if show and run.preview_every and run.preview_prompts else None

    def save() -> None:
        checkpoint.save(checkpoints, trainer.state(), about, keep=run.keep_checkpoints)

    saved = time.monotonic()
    with (run.folder / LOG).open("a", encoding="utf-8") as log:
        while trainer.step < config.optimiser.iterations and not stop():
            row = trainer.train_step()
            log.write(json.dumps(asdict(row)) + "\n")
            log.flush()
            report(row)
            if time.monotonic() - saved > run.checkpoint_minutes * 60:
                save()
                saved = time.monotonic()
            if previews and show and trainer.step % run.preview_every == 0:
                show(trainer.step, previews.draw())
    save()
    return trainer.step >= config.optimiser.iterations


class Previews:
    """Fixed prompts and noises, seen through the teacher once and through the student (its EMA) as it learns."""

    def __init__(self, config: DistillConfig, trainer: Trainer) -> None:
        self._trainer, self._backbone = trainer, trainer.backbone
        self._told = self._backbone.encode(config.run.preview_prompts)
        generator = torch.Generator().manual_seed(config.run.preview_seed)
        shape = (len(self._told), *self._backbone.latent_shape)
        self._noise = torch.randn(shape, generator=generator).to(self._backbone.device)
        guided = denoiser(
            self._backbone,
            NetworkRole.TEACHER,
            self._told,
            uncond=self._backbone.encode([""]),
            guidance_scale=config.objective.guidance_scale,
        )
        full = time_nodes(config.run.preview_teacher_steps)
        self._teacher_rows = [self._pixels(guided, full), self._pixels(guided, trainer.nodes)]

    def draw(self) -> np.ndarray:
        """uint8 [3, prompts, H, W, 3]."""
        with self._backbone.roles.weights(NetworkRole.STUDENT, self._trainer.ema):
            student = denoiser(self._backbone, NetworkRole.STUDENT, self._told)
            return np.stack([*self._teacher_rows, self._pixels(student, self._trainer.nodes)])

    def _pixels(self, denoise: Denoise, nodes: Tensor) -> np.ndarray:
        return self._backbone.decode(sample(self._backbone, denoise, self._noise, nodes))


@torch.no_grad()
def sample(backbone: TrainableBackbone, denoise: Denoise, noise: Tensor, nodes: Tensor) -> Tensor:
    """Latents [B, ...] at the end of a whole roll-out from noise [B, ...]."""
    for step in roll_out(denoise, noise, nodes, backbone.process):
        latents = step.x_s
    return latents


def _cut_log(path: Path, step: int) -> None:
    """Drop the rows after ``step``: a resumed run will write them again."""
    if not path.exists():
        return
    lines = path.read_text(encoding="utf-8").splitlines()
    rows = [line for line in lines if line.endswith("}") and json.loads(line)["step"] <= step]
    path.write_text("".join(row + "\n" for row in rows), encoding="utf-8")
