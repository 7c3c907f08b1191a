"""Checkpoints that are whole or absent, and that continue a run to the bit.

A checkpoint is a folder ``step-000123`` with ``state.pt`` (tensors: weights of student and fake, both optimisers, EMA,
generators) and ``about.json`` (what it belongs to).  It is written beside its place and renamed when complete, so a
killed process leaves the checkpoint before it.  All processes of a run have equal states, so the main one's serves all.
"""

from __future__ import annotations

import json
import os
import pickle
import random
import shutil
import struct
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import torch

from tdm_core.errors import TrainingError
from tdm_core.training.memory import is_out_of_memory

STATE, ABOUT = "state.pt", "about.json"

DAMAGED: tuple[type[Exception], ...] = (
    *(OSError, EOFError, ValueError, TypeError, LookupError, AttributeError, ArithmeticError, RuntimeError),
    *(struct.error, pickle.UnpicklingError),
)
"""What reading a damaged file was seen to raise: an unpickler takes any bytes for orders."""


def save(folder: Path, state: Mapping[str, Any], about: Mapping[str, Any], *, keep: int) -> Path:
    """Write the checkpoint of ``state["step"]`` under ``folder``, then drop all but the ``keep`` newest.

    Raises:
        TrainingError: if it cannot be written; the checkpoints before it are untouched.
    """
    target = folder / f"step-{state['step']:06d}"
    draft = folder / f".draft-{target.name}"
    shutil.rmtree(draft, ignore_errors=True)
    try:
        draft.mkdir(parents=True)
        with (draft / STATE).open("wb") as file:
            torch.save({**state, "random": _random_states()}, file)
            file.flush()
            os.fsync(file.fileno())
        with (draft / ABOUT).open("w", encoding="utf-8") as file:
            file.write(json.dumps({"step": state["step"], **about}, indent=1) + "\n")
            file.flush()
            os.fsync(file.fileno())
        shutil.rmtree(target, ignore_errors=True)
        draft.rename(target)
    except (OSError, RuntimeError) as error:  # on a full disk torch's writer raises the latter
        shutil.rmtree(draft, ignore_errors=True)
        reason = next(iter(str(getattr(error, "strerror", None) or error).splitlines()), "")[:100]
        raise TrainingError(
            f"{target}: cannot be saved: {reason}\n"
            "Make room and continue with --resume: the checkpoint before it is whole."
        ) from error
    for old in complete(folder)[:-keep]:
        shutil.rmtree(old)
    return target


def complete(folder: Path) -> list[Path]:
    """All whole checkpoints, oldest first."""
    return sorted(path for path in folder.glob("step-*") if (path / ABOUT).is_file())


def load(path: Path, about: Mapping[str, Any], *, allow_other: bool) -> dict[str, Any]:
    """The state of a checkpoint; also sets the random states of torch and Python.

    Raises:
        TrainingError: if it belongs to something else than ``about`` (unless allowed), or cannot be read.
    """
    with _read(path):
        stored = dict(json.loads((path / ABOUT).read_text()))
        state: dict[str, Any] = dict(torch.load(path / STATE, map_location="cpu", weights_only=True))
        randoms = state.pop("random")
    stored.pop("step", None)
    differing = [key for key in {**about, **stored} if stored.get(key) != about.get(key)]
    if differing and not allow_other:
        key, others = differing[0], len(differing) - 1
        raise TrainingError(
            f"{path}: made with {key} {stored.get(key)!r}, now {about.get(key)!r}"
            f"{f', and {others} more changes' * (others > 0)}.\n"
            "Resume as it was made, or pass --allow-change to continue with the change."
        )
    with _read(path):
        _set_random_states(randoms)
    return state


@contextmanager
def _read(path: Path) -> Iterator[None]:
    try:
        yield
    except DAMAGED as error:
        if is_out_of_memory(error):
            raise
        reason = next(iter(str(error).splitlines()), type(error).__name__)[:100]
        if isinstance(error, KeyError):
            reason = f"it has no {reason}"
        raise TrainingError(f"{path}: cannot be read: {reason}\nDelete it to resume from the one before.") from error


def _random_states() -> dict[str, Any]:
    # All noise comes from the trainer's own generator; these are kept so that nothing else can differ either.
    return {
        "torch": torch.get_rng_state(),
        "cuda": torch.cuda.get_rng_state_all() if torch.cuda.is_available() else [],
        "python": list(random.getstate()),
        "numpy": [entry.tolist() if isinstance(entry, np.ndarray) else entry for entry in np.random.get_state()],
    }


def _set_random_states(states: Mapping[str, Any]) -> None:
    torch.set_rng_state(states["torch"])
    if torch.cuda.is_available() and states["cuda"]:
        torch.cuda.set_rng_state_all(states["cuda"])
    version, internal, gauss = states["python"]
    random.setstate((version, tuple(internal), gauss))
    np.random.set_state(tuple(states["numpy"]))
