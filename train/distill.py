"""Distil a student: ``python -m train.distill train/configs/mini-sd3-tdm.toml``.

Reads the recipe, loads base and prompts, trains, exports.  Exit status 0 for success, 2 for a wrong command or recipe,
1 for a failure at run time; messages have at most two lines.
"""

from __future__ import annotations

import argparse
import json
import math
import os
import platform
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import NoReturn

os.environ.setdefault("TRANSFORMERS_VERBOSITY", "error")  # already prints while it is imported

import numpy as np
import torch
from PIL import Image
from tqdm import tqdm

from tdm_core.backbones.base import Size, family, load_pipeline
from tdm_core.backbones.shapes import network_shape
from tdm_core.backbones.stock_training import StockTraining, training_class
from tdm_core.backbones.trainable import Conditioning
from tdm_core.errors import ConfigError, LoadError, TDMError
from tdm_core.training.checks import check_base, check_device
from tdm_core.training.config import DistillConfig
from tdm_core.training.distillation import Previews, check_run, distil, sheet
from tdm_core.training.earlier import keep_share, start_from
from tdm_core.training.estimate import estimate
from tdm_core.training.export import Provenance, check_export, check_told, export_student
from tdm_core.training.memory import enough_memory
from tdm_core.training.processes import Processes
from tdm_core.training.prompts import digest, read_prompts, text_from_cache
from tdm_core.training.push import open_repository, push
from tdm_core.training.tracking import Tracker, tracking
from tdm_core.training.trainer import StepReport, Trainer
from train.worlds import OF_FAMILY

QUIET_SECONDS = 30


class Parser(argparse.ArgumentParser):
    """Argument errors as two lines; usage only under ``--help``."""

    def error(self, message: str) -> NoReturn:
        raise ConfigError(f"{self.prog}: {message}\nSee {self.prog} --help.")


def main(arguments: Sequence[str] | None = None) -> int:
    try:
        return _distil(arguments)
    except (TDMError, OSError) as error:
        told = str(error).replace("the preset", "the recipe")  # loaders speak to the page's users
        return _fail(told, 2 if isinstance(error, ConfigError) else 1)


def _distil(arguments: Sequence[str] | None) -> int:
    options = _parse(arguments)
    config = DistillConfig.read(options.config, options.set)
    check_told(config)
    if options.dry_run:
        announce(config)
        return 0
    check_device(config.run)
    check_export(config, replace=options.replace)
    check_run(config.run, resume=options.resume)
    torch.set_num_threads(config.run.threads)
    processes = Processes.launched(cpu=config.run.device == "cpu" or not torch.cuda.is_available())
    if processes.is_main:
        announce(config, must_estimate=False)
        if options.push:
            open_repository(options.push)  # a missing token is told before the training, not after it
    trainer, told, finished = _train(config, processes, options)
    if processes.is_main and finished:
        path = export(config, trainer, told)
        print(f"wrote {path} after {trainer.step} iterations, {trainer.seconds / 60:.1f} minutes")
        if options.push:
            print(f"pushed to {push(config.export.folder, options.push)}")
    processes.leave()
    if not finished:
        return _fail(f"stopped after step {trainer.step}, which is saved.\nContinue with --resume.", 1)
    return 0


def announce(config: DistillConfig, *, must_estimate: bool = True) -> None:
    """Print the resolved recipe, and what it will need."""
    print(json.dumps({**config.tables(), "hash": config.hash}, indent=1))
    try:
        network = network_shape(config.base.path, getattr(torch, config.base.dtype))
    except LoadError:
        if must_estimate:
            raise
        return
    check_base(config.base, network)
    print(json.dumps(asdict(estimate(config, network)), indent=1), flush=True)


def export(config: DistillConfig, trainer: Trainer, told: Conditioning | None) -> Path:
    """The student with samples of its preview prompts, whose conditioning is ``told``."""
    with enough_memory(config, lambda: f"the samples after step {trainer.step}"):
        samples = Image.fromarray(sheet(Previews(config, trainer, told).draw())) if told else None
    return export_student(config, trainer.backbone, trainer.ema, provenance(trainer, config), samples=samples)


def _train(
    config: DistillConfig, processes: Processes, options: argparse.Namespace
) -> tuple[Trainer, Conditioning | None, bool]:
    """The trainer where it ended, the preview prompts' conditioning, and whether the last iteration was reached."""
    prompts = load_prompts(config)
    with enough_memory(config, lambda: "loading the base"):
        backbone = load_backbone(config)
        if config.run.gradient_checkpointing:
            backbone.roles.checkpoint_gradients()
        with processes.main_first():
            text = text_from_cache(
                backbone,
                prompts,
                previews=config.run.preview_prompts,
                root=config.run.text_cache,
                about={key: value for key, value in asdict(config.base).items() if not key.startswith("student")},
            )
        trainer = Trainer(config, backbone, text.draw, uncond=text.uncond, processes=processes)
    with ExitStack() as stack:
        stop = stack.enter_context(_stop_signals())
        tracker = Tracker()
        progress: Callable[[StepReport], None] = ignore
        if processes.is_main:
            tracker = stack.enter_context(tracking(config))
            progress = stack.enter_context(_progress(config.optimiser.iterations))

        def report(row: StepReport) -> None:
            tracker.log(row)
            progress(row)

        def show(step: int, pictures: np.ndarray) -> None:
            save_grid(config.run.folder / "previews" / f"step-{step:06d}.png", pictures)
            tracker.show(step, pictures)

        finished = distil(
            config,
            trainer,
            prompts_digest=digest(prompts),
            told=text.previews,
            resume=options.resume,
            allow_change=options.allow_change,
            report=report,
            show=show,
            stop=stop,
        )
    if finished:
        keep_share(config.base, backbone, trainer.ema)
    return trainer, text.previews, finished


def ignore(row: StepReport) -> None:
    """What the other processes report."""


@contextmanager
def _progress(iterations: int) -> Iterator[Callable[[StepReport], None]]:
    """A bar on a terminal; elsewhere a line every half minute."""
    if not sys.stderr.isatty():
        told = [-math.inf]

        def tell(row: StepReport) -> None:
            if time.monotonic() - told[0] > QUIET_SECONDS or row.step == iterations:
                told[0] = time.monotonic()
                rate = 1 / row.seconds
                print(f"step {row.step}/{iterations} {_figures(row)} {rate:.2f} it/s", flush=True)

        yield tell
        return
    with tqdm(total=iterations, unit="it", dynamic_ncols=True) as bar:

        def draw(row: StepReport) -> None:
            bar.set_postfix_str(_figures(row), refresh=False)
            bar.update(row.step - bar.n)

        yield draw


def _figures(row: StepReport) -> str:
    return f"fake {row.fake_loss:.3f} gap {row.disagreement:.3f} distance {row.teacher_distance:.3f}"


@contextmanager
def _stop_signals() -> Iterator[Callable[[], bool]]:
    """Let the first Ctrl-C or SIGTERM end the run after its iteration, whole; a second one ends the process."""
    asked = threading.Event()
    previous = {}

    def ask(number: int, _: object) -> None:
        asked.set()
        signal.signal(number, signal.SIG_DFL)

    for number in (signal.SIGINT, signal.SIGTERM):
        previous[number] = signal.signal(number, ask)
    try:
        yield asked.is_set
    finally:
        for number, handler in previous.items():
            signal.signal(number, handler)


def load_prompts(config: DistillConfig) -> tuple[str, ...]:
    """The recipe's prompts, or captions of scenes that the suite does not ask for."""
    if config.prompts.file is not None:
        return read_prompts(config.prompts.file)
    return tuple(OF_FAMILY[config.base.family].captions(config.seed, config.prompts.scenes))


def load_backbone(config: DistillConfig) -> StockTraining:
    """The base with its roles, on the recipe's device."""
    base, lora = config.base, config.lora
    device = config.run.device
    if device == "auto":
        device = "cuda" if torch.cuda.is_available() else "cpu"
    chosen = family(base.family)  # also quiets the libraries
    training = training_class(base.family)
    pipeline = load_pipeline(
        chosen.Pipeline,
        base.path,
        dtype=getattr(torch, base.dtype),
        device=device,
        revision=base.revision,
        omit={*chosen.OMIT, *(() if base.use_t5 else training.T5_PARTS)},
    )
    backbone = training(
        pipeline,
        rank=lora.rank,
        alpha=lora.alpha,
        targets=lora.targets,
        seed=config.seed,
        max_sequence_length=base.max_sequence_length,
        size=Size(**dict(zip(("width", "height", "frames"), base.size, strict=False))) if base.size else None,
    )
    if base.student is not None:
        start_from(backbone, base.student)
    return backbone


def save_grid(path: Path, pictures: np.ndarray) -> None:
    """Pictures uint8 [rows, columns, H, W, 3] as one PNG."""
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(sheet(pictures)).save(path)


def provenance(trainer: Trainer, config: DistillConfig) -> Provenance:
    """Where and how long a student was trained, without names of machines or paths."""
    commit = subprocess.run(["git", "rev-parse", "--short", "HEAD"], capture_output=True, text=True, check=False)
    device = trainer.backbone.device
    if device.type == "cuda":
        machine = torch.cuda.get_device_name(device)
    else:
        machine = f"{config.run.threads} threads of {platform.machine()} {torch.backends.cpu.get_cpu_capability()}"
    return Provenance(
        iterations=trainer.step,
        minutes=trainer.seconds / 60,
        machine=machine,
        commit=commit.stdout.strip() or "unknown",
        num_prompts=len(load_prompts(config)),
    )


def _parse(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = Parser(prog="python -m train.distill", description=__doc__.splitlines()[0])
    parser.add_argument("config", type=Path, help="the recipe, a TOML file in train/configs")
    parser.add_argument("--set", action="append", default=[], metavar="SECTION.KEY=VALUE", help="override a value")
    parser.add_argument("--dry-run", action="store_true", help="print the resolved recipe and stop")
    parser.add_argument("--resume", action="store_true", help="continue from the newest checkpoint, if there is one")
    parser.add_argument("--allow-change", action="store_true", help="resume although the recipe has changed")
    parser.add_argument("--replace", action="store_true", help="let the export replace a student of another recipe")
    parser.add_argument("--push", metavar="REPO", help="upload the finished student to this repository of the Hub")
    return parser.parse_args(arguments)


def _fail(message: object, status: int) -> int:
    print(f"error: {message}", file=sys.stderr)
    return status


if __name__ == "__main__":
    sys.exit(main())
