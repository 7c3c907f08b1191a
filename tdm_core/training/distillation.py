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
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import torch
from filelock import FileLock, Timeout
from torch import Tensor

from tdm_core.backbones.adapters import NetworkRole
from tdm_core.backbones.trainable import Conditioning, TrainableBackbone, denoiser
from tdm_core.diffusion.trajectory import Denoise, roll_out, time_nodes
from tdm_core.errors import LoadError, TrainingError
from tdm_core.training import checkpoint
from tdm_core.training.config import DistillConfig, RunConfig
from tdm_core.training.memory import enough_memory, is_out_of_memory
from tdm_core.training.trainer import StepReport, Trainer

LOG, RECIPE, CHECKPOINTS = "log.jsonl", "recipe.json", "checkpoints"
UNFIT: tuple[type[Exception], ...] = (LoadError, *checkpoint.DAMAGED)
"""What a readable state of another network ends in."""


def distil(
    config: DistillConfig,
    trainer: Trainer,
    *,
    prompts_digest: str,
    told: Conditioning | None = None,
    resume: bool = False,
    allow_change: bool = False,
    report: Callable[[StepReport], None] = lambda row: None,
    show: Callable[[int, np.ndarray], None] | None = None,
    stop: Callable[[], bool] = lambda: False,
) -> bool:
    """Train to the recipe's last iteration, from the start or from the newest checkpoint.

    Args:
        prompts_digest: of the prompts; a checkpoint made with others is refused.
        told: conditioning of the preview prompts, encoded here if it is not given.
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
    with enough_memory(config, lambda: f"step {trainer.step}"):
        run, processes = config.run, trainer.processes
        about = {**config.made_of(), "prompts": prompts_digest, "processes": processes.count}
        checkpoints = run.folder / CHECKPOINTS
        check_run(run, resume=resume)
        if found := checkpoint.complete(checkpoints):
            _load(found[-1], trainer, checkpoint.load(found[-1], about, allow_other=allow_change))
        if not processes.agree(trainer.step, trainer.backbone.device):
            raise TrainingError(
                f"{checkpoints}: the processes do not see the same checkpoints.\n"
                "Let run.folder lie on a disk that all machines share."
            )
        if not processes.is_main:
            while not _ended(config, trainer, stop):
                trainer.train_step()
            return trainer.step >= config.optimiser.iterations
        with _writing(run.folder):
            run.folder.mkdir(parents=True, exist_ok=True)
        with _only_run(run.folder):
            with _writing(run.folder):
                _cut_log(run.folder / LOG, trainer.step)
                (run.folder / RECIPE).write_text(json.dumps(config.tables(), indent=1) + "\n", encoding="utf-8")
            previews = Previews(config, trainer, told) if show and run.preview_every and run.preview_prompts else None

            def save() -> None:
                checkpoint.save(checkpoints, trainer.state(), about, keep=run.keep_checkpoints)

            saved = time.monotonic()
            with (run.folder / LOG).open("a", encoding="utf-8") as log:
                while not _ended(config, trainer, stop):
                    row = trainer.train_step()
                    with _writing(run.folder):
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


def check_run(run: RunConfig, *, resume: bool) -> None:
    """Refuse a folder that holds a run which is not to be continued, saved or not.

    Raises:
        TrainingError: names the cures.
    """
    found, log = checkpoint.complete(run.folder / CHECKPOINTS), run.folder / LOG
    if not resume and (found or (log.is_file() and log.stat().st_size)):
        with _only_run(run.folder):  # one that is at work is told as such
            pass
        reached = f"at {found[-1].name}" if found else "ended before its first checkpoint"
        cure = "Continue it" if found else "Begin it anew"
        raise TrainingError(
            f"{run.folder}: holds a run already, {reached}.\n"
            f"{cure} with --resume, delete the folder, or choose another with --set run.folder=..."
        )


def _ended(config: DistillConfig, trainer: Trainer, stop: Callable[[], bool]) -> bool:
    """The same answer in all processes: one that went on alone would wait for the others for ever."""
    asked = trainer.processes.any(stop(), trainer.backbone.device)
    return asked or trainer.step >= config.optimiser.iterations


@contextmanager
def _only_run(folder: Path) -> Iterator[None]:
    """Hold the folder against other runs; the system lets go of it even when this process is killed."""
    try:
        with FileLock(folder / ".lock", timeout=0):
            yield
    except Timeout:
        raise TrainingError(
            f"{folder}: another run is at work here.\nWait for it, or choose another folder: --set run.folder=..."
        ) from None


class Previews:
    """Fixed prompts and noises, seen through the teacher once and through the student (its EMA) as it learns."""

    def __init__(self, config: DistillConfig, trainer: Trainer, told: Conditioning | None = None) -> None:
        self._trainer, self._backbone = trainer, trainer.backbone
        self._told = (told or self._backbone.encode(config.run.preview_prompts)).to(self._backbone.device)
        generator = torch.Generator().manual_seed(config.run.preview_seed)
        shape = (len(self._told), *self._backbone.latent_shape)
        self._noise = torch.randn(shape, generator=generator).to(self._backbone.device)
        guided = denoiser(
            self._backbone,
            NetworkRole.TEACHER,
            self._told,
            uncond=trainer.uncond,
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


def sheet(pictures: np.ndarray) -> np.ndarray:
    """Pictures uint8 [rows, columns, H, W, 3] as one, uint8 [rows H, columns W, 3]."""
    rows, columns, height, width, _ = pictures.shape
    return pictures.transpose(0, 2, 1, 3, 4).reshape(rows * height, columns * width, 3)


@torch.no_grad()
def sample(backbone: TrainableBackbone, denoise: Denoise, noise: Tensor, nodes: Tensor) -> Tensor:
    """Latents [B, ...] at the end of a whole roll-out from noise [B, ...]."""
    for step in roll_out(denoise, noise, nodes, backbone.process):
        latents = step.x_s
    return latents


def _cut_log(path: Path, step: int) -> None:
    """Drop the rows after ``step``, and a half one at the end: a resumed run will write them again."""
    if not path.exists():
        return
    rows = []
    for number, line in enumerate(path.read_bytes().splitlines(), 1):
        try:
            if line.endswith(b"}") and json.loads(line)["step"] <= step:
                rows.append(line + b"\n")
        except (ValueError, KeyError, TypeError):
            raise TrainingError(
                f"{path}, line {number}: is no row of a run's log, so it cannot be continued.\n"
                "Delete the line, or move the file elsewhere, and resume."
            ) from None
    draft = path.with_name(f".draft-{path.name}")
    draft.write_bytes(b"".join(rows))
    draft.replace(path)


def _load(path: Path, trainer: Trainer, state: dict[str, Any]) -> None:
    try:
        trainer.load_state(state)
    except UNFIT as error:
        if is_out_of_memory(error):
            raise
        reason = next(iter(str(error).splitlines()), type(error).__name__)[:150]
        raise TrainingError(
            f"{path}: does not fit the network of this recipe: {reason}\n"
            "Resume with the lora.rank and lora.targets that it was made with, or begin anew: --set run.folder=..."
        ) from error


@contextmanager
def _writing(folder: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise TrainingError(
            f"run.folder: {folder}: cannot be written: {error.strerror or error}\n"
            "Name another with --set run.folder=...; if the disk was full, make room and continue with --resume."
        ) from error
