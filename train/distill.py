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
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import NoReturn

os.environ.setdefault("TRANSFORMERS_VERBOSITY", "error")  # already prints while it is imported

import numpy as np
import torch
from PIL import Image
from tqdm import tqdm

from tdm_core.backbones import sd3_training
from tdm_core.backbones.base import family, load_pipeline
from tdm_core.backbones.stock_training import StockTraining, training_class
from tdm_core.errors import ConfigError, TDMError
from tdm_core.scenes.grammar import caption
from tdm_core.scenes.sampling import sample_scene
from tdm_core.scenes.suite import held_out
from tdm_core.training.config import DistillConfig
from tdm_core.training.distillation import distil
from tdm_core.training.estimate import estimate
from tdm_core.training.export import Provenance, export_student
from tdm_core.training.prompts import digest, draw_from_list, read_prompts
from tdm_core.training.trainer import StepReport, Trainer

QUIET_SECONDS = 30


class Parser(argparse.ArgumentParser):
    """Argument errors as two lines; usage only under ``--help``."""

    def error(self, message: str) -> NoReturn:
        raise ConfigError(f"{self.prog}: {message}\nSee {self.prog} --help.")


def main(arguments: Sequence[str] | None = None) -> int:
    try:
        return _distil(arguments)
    except ConfigError as error:
        return _fail(error, 2)
    except (TDMError, OSError) as error:
        return _fail(error, 1)


def _distil(arguments: Sequence[str] | None) -> int:
    options = _parse(arguments)
    config = DistillConfig.read(options.config, options.set)
    print(json.dumps({**config.tables(), "hash": config.hash}, indent=1))
    if options.dry_run:
        print(json.dumps(asdict(estimate(config, sd3_training.network_shape(config.base.path))), indent=1))
        return 0
    torch.set_num_threads(config.run.threads)
    prompts = load_prompts(config)
    backbone = load_backbone(config)
    trainer = Trainer(config, backbone, draw_from_list(backbone, prompts))
    with _progress(config.optimiser.iterations) as report, _stop_signals() as stop:
        finished = distil(
            config,
            trainer,
            prompts_digest=digest(prompts),
            resume=options.resume,
            allow_change=options.allow_change,
            report=report,
            show=lambda step, pictures: save_grid(config.run.folder / "previews" / f"step-{step:06d}.png", pictures),
            stop=stop,
        )
    if not finished:
        return _fail(f"stopped after step {trainer.step}, which is saved.\nContinue with --resume.", 1)
    path = export_student(config, backbone, trainer.ema, trainer.nodes, provenance(trainer, config, len(prompts)))
    print(f"wrote {path} after {trainer.step} iterations, {trainer.seconds / 60:.1f} minutes")
    return 0


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
    rng, forbidden = np.random.default_rng(config.seed), held_out()
    return tuple(caption(sample_scene(rng, forbidden)) for _ in range(config.prompts.scenes))


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
    return training(
        pipeline,
        rank=lora.rank,
        alpha=lora.alpha,
        targets=lora.targets,
        seed=config.seed,
        max_sequence_length=base.max_sequence_length,
    )


def save_grid(path: Path, pictures: np.ndarray) -> None:
    """Pictures uint8 [rows, columns, H, W, 3] as one PNG."""
    rows, columns, height, width, _ = pictures.shape
    sheet = pictures.transpose(0, 2, 1, 3, 4).reshape(rows * height, columns * width, 3)
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(sheet).save(path)


def provenance(trainer: Trainer, config: DistillConfig, num_prompts: int) -> Provenance:
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
        num_prompts=num_prompts,
    )


def _parse(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = Parser(prog="python -m train.distill", description=__doc__.splitlines()[0])
    parser.add_argument("config", type=Path, help="the recipe, a TOML file in train/configs")
    parser.add_argument("--set", action="append", default=[], metavar="SECTION.KEY=VALUE", help="override a value")
    parser.add_argument("--dry-run", action="store_true", help="print the resolved recipe and stop")
    parser.add_argument("--resume", action="store_true", help="continue from the newest checkpoint, if there is one")
    parser.add_argument("--allow-change", action="store_true", help="resume although the recipe has changed")
    return parser.parse_args(arguments)


def _fail(message: object, status: int) -> int:
    print(f"error: {message}", file=sys.stderr)
    return status


if __name__ == "__main__":
    sys.exit(main())
