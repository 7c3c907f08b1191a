"""The child process of the Distil tab: ``python -m train.live RECIPE --out FOLDER``, events on stdout, wishes on stdin.

Events are lines of JSON (`tdm_core.training.live`), and besides those ``end`` with the finished student's ``file``, and
``failed`` with a ``message``.  A wish is a line: ``pause``, ``go`` or ``stop``.  When stdin ends,
however the process that asked came to its end, so does the run.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import threading
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import IO, Any

os.environ.setdefault("TRANSFORMERS_VERBOSITY", "error")  # already prints while it is imported

import numpy as np
import torch

from tdm_core.backbones.trainable import TrainableBackbone
from tdm_core.errors import TDMError
from tdm_core.scenes.grammar import caption
from tdm_core.scenes.sampling import sample_scene
from tdm_core.scenes.scorer import score_batch
from tdm_core.scenes.suite import SuitePrompt, held_out, limited, load_suite
from tdm_core.stats import wilson_interval
from tdm_core.training.checks import check_device
from tdm_core.training.config import DistillConfig
from tdm_core.training.earlier import keep_share
from tdm_core.training.export import check_export, check_told, export_student
from tdm_core.training.live import learn
from tdm_core.training.memory import enough_memory
from tdm_core.training.prompts import DrawConditioning, draw_from_stream, encode_all
from tdm_core.training.trainer import Trainer
from train.distill import load_backbone, provenance

LIVE_QUESTIONS = 96


class Wishes:
    """What the other side last asked for."""

    def __init__(self, lines: IO[str]) -> None:
        self._changed, self._wish, self._lines = threading.Condition(), "go", lines
        threading.Thread(target=self._listen, name="wishes", daemon=True).start()

    def may_go_on(self) -> bool:
        """Waits while a pause is wished for; False once the run is to stop."""
        with self._changed:
            self._changed.wait_for(lambda: self._wish != "pause")
            return self._wish != "stop"

    def _listen(self) -> None:
        for line in self._lines:
            self._set(line.strip())
        self._set("stop")

    def _set(self, wish: str) -> None:
        with self._changed:
            self._wish = wish
            self._changed.notify_all()


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m train.live", description=__doc__.splitlines()[0])
    parser.add_argument("recipe", type=Path)
    parser.add_argument("--out", type=Path, required=True, help="folder of the finished student")
    parser.add_argument("--set", action="append", default=[], metavar="SECTION.KEY=VALUE", help="override a value")
    options = parser.parse_args(arguments)
    # Whatever a library prints must not end up between the events.
    out = os.fdopen(os.dup(sys.stdout.fileno()), "w", encoding="utf-8")
    os.dup2(sys.stderr.fileno(), sys.stdout.fileno())

    def tell(event: dict[str, Any]) -> None:
        print(json.dumps(event), file=out, flush=True)

    try:
        _run(options, Wishes(sys.stdin), tell)
    except BrokenPipeError:  # nobody listens any more
        return 1
    except (TDMError, OSError) as error:
        tell({"kind": "failed", "message": str(error)})
        return 1
    return 0


def _run(options: argparse.Namespace, wishes: Wishes, tell: Callable[[dict[str, Any]], None]) -> None:
    config = DistillConfig.read(options.recipe, options.set)
    config = replace(config, export=replace(config.export, folder=options.out))
    check_told(config)
    check_device(config.run)
    check_export(config)
    torch.set_num_threads(config.run.threads)
    backbone = load_backbone(config)
    questions = limited(load_suite(), LIVE_QUESTIONS)
    trainer = Trainer(config, backbone, fresh_captions(backbone))
    events = learn(
        trainer,
        prompts=backbone.encode(config.run.preview_prompts),
        questions=encode_all(backbone, [question.prompt for question in questions]),
        judge=lambda pictures: judge(pictures, questions),
    )
    with enough_memory(config, lambda: f"step {trainer.step}"):
        for event in events:
            tell(event)
            if not wishes.may_go_on():
                return
    keep_share(config.base, backbone, trainer.ema)
    file = export_student(config, backbone, trainer.ema, provenance(trainer, config))
    tell({"kind": "end", "file": str(file)})


def fresh_captions(backbone: TrainableBackbone) -> DrawConditioning:
    """Every batch is new captions of scenes that the suite does not ask for."""

    def sample(number: int, seed: int) -> list[str]:
        rng = np.random.default_rng(seed)
        return [caption(sample_scene(rng, held_out())) for _ in range(number)]

    return draw_from_stream(backbone, sample)


def judge(pictures: np.ndarray, questions: Sequence[SuitePrompt]) -> dict[str, float]:
    """The scene score: the share of questions answered rightly, categories of equal size, with Wilson's interval."""
    prompts, tags = [item.prompt for item in questions], [item.tag for item in questions]
    passed = sum(verdict.passed for verdict in score_batch(pictures, prompts, tags))
    low, high = wilson_interval(passed, len(questions))
    return {"value": passed / len(questions), "low": low, "high": high, "n": len(questions)}


if __name__ == "__main__":
    # Not by `sys.exit`: a thread still waits for stdin, and torch takes seconds to be taken down. All is flushed.
    os._exit(main())
