"""Where a run can be watched besides its own log: TensorBoard, Weights & Biases or Trackio, through accelerate."""

from __future__ import annotations

import importlib.util
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict
from typing import Any

import numpy as np
from accelerate.tracking import LOGGER_TYPE_TO_CLASS

from tdm_core.errors import ConfigError
from tdm_core.training.config import DistillConfig
from tdm_core.training.distillation import sheet
from tdm_core.training.trainer import StepReport

PACKAGES = {"tensorboard": "tensorboardX", "wandb": "wandb", "trackio": "trackio"}
FOLDER = "tensorboard"


class Tracker:
    """Tells one of accelerate's trackers about a run, from its first row on; ``None`` tells nobody."""

    def __init__(self, tracker: Any = None, tables: dict[str, Any] | None = None) -> None:
        self._tracker, self._tables, self._started = tracker, tables, False

    def log(self, row: StepReport) -> None:
        """The row's figures under their own names."""
        if self._tracker:
            self._start()
            self._tracker.log({key: value for key, value in asdict(row).items() if key != "step"}, step=row.step)

    def show(self, step: int, pictures: np.ndarray) -> None:
        """Pictures uint8 [rows, columns, H, W, 3] as one sheet."""
        if self._tracker:
            self._start()
            options = {"dataformats": "NHWC"} if self._tracker.name == "tensorboard" else {}
            self._tracker.log_images({"previews": sheet(pictures)[None]}, step=step, **options)

    def finish(self) -> None:
        if self._started:
            self._tracker.finish()

    def _start(self) -> None:
        # Not before the first row: a run that is refused leaves nothing behind.
        if not self._started:
            self._started = True
            self._tracker.start()
            if self._tracker.name != "tensorboard":  # which would want results with them; the folder has the recipe
                self._tracker.store_init_configuration(self._tables)


@contextmanager
def tracking(config: DistillConfig) -> Iterator[Tracker]:
    """The recipe's tracker, closed at the end.

    Raises:
        ConfigError: if its package is not installed.
    """
    name = config.run.tracker
    if name == "none":
        yield Tracker()
        return
    if not importlib.util.find_spec(PACKAGES[name]):
        raise ConfigError(
            f"run.tracker: {PACKAGES[name]} is not installed.\nInstall it, or choose another: --set run.tracker=none"
        )
    kind = LOGGER_TYPE_TO_CLASS[name]
    if kind.requires_logging_directory:
        tracker = Tracker(kind(FOLDER, logging_dir=config.run.folder))
    else:
        tracker = Tracker(kind(config.title), config.tables())
    try:
        yield tracker
    finally:
        tracker.finish()
