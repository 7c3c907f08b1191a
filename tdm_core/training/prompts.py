"""Prompts as the trainer sees them: a function that draws the conditioning of a batch.

Text encoders run once per prompt, before training, or once per batch for an endless stream; never per step and role.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from pathlib import Path

import torch

from tdm_core.backbones.trainable import Conditioning, TrainableBackbone
from tdm_core.errors import ConfigError

DrawConditioning = Callable[[int, torch.Generator], Conditioning]
"""Batch size and generator -> conditioning of that many prompts, the same for the same state of the generator."""

ENCODE_BATCH = 256


def read_prompts(path: Path) -> tuple[str, ...]:
    """The prompts of a file, one per line; empty lines and lines that start with ``#`` are none.

    Raises:
        ConfigError: if the file is missing, is not UTF-8 text or holds no prompt.
    """
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except OSError as error:
        raise ConfigError(f"prompts.file: {path}: {error.strerror}") from None
    except UnicodeDecodeError as error:
        raise ConfigError(f"prompts.file: {path}: not UTF-8 text: {error}") from None
    prompts = tuple(line.strip() for line in lines if line.strip() and not line.startswith("#"))
    if not prompts:
        raise ConfigError(f"prompts.file: {path}: holds no prompt; write one per line")
    return prompts


def digest(prompts: Sequence[str]) -> str:
    """Twelve hexadecimal digits of a list of prompts."""
    return hashlib.sha256("\n".join(prompts).encode()).hexdigest()[:12]


def encode_all(backbone: TrainableBackbone, prompts: Sequence[str]) -> Conditioning:
    """Conditioning of all prompts, [N, ...], in batches."""
    batches = range(0, len(prompts), ENCODE_BATCH)
    return Conditioning.join([backbone.encode(prompts[first : first + ENCODE_BATCH]) for first in batches])


def draw_from_list(backbone: TrainableBackbone, prompts: Sequence[str]) -> DrawConditioning:
    """Uniform draws from a list that is encoded here and now."""
    table = encode_all(backbone, prompts)

    def draw(batch_size: int, generator: torch.Generator) -> Conditioning:
        return table.rows(torch.randint(len(table), (batch_size,), generator=generator))

    return draw


def draw_from_stream(backbone: TrainableBackbone, sample: Callable[[int, int], Sequence[str]]) -> DrawConditioning:
    """Fresh prompts for every batch from ``sample(number, seed)``, which must be a pure function of its arguments."""

    def draw(batch_size: int, generator: torch.Generator) -> Conditioning:
        seed = int(torch.randint(2**62, (), generator=generator))
        return backbone.encode(sample(batch_size, seed))

    return draw
