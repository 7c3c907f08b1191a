"""Prompts as the trainer sees them: a function that draws the conditioning of a batch.

Text encoders run once per prompt, before training (`text_from_cache`), or once per batch for an endless stream; never
per step and role.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import torch

from tdm_core.backbones.trainable import Conditioning, TrainableBackbone, free_text_encoders
from tdm_core.errors import ConfigError
from tdm_core.training.text_cache import TextCache

ALL_ROWS = slice(None)


class DrawConditioning(Protocol):
    """Conditioning of some rows of a batch of prompts, the same for the same state of the generator."""

    def __call__(self, batch_size: int, generator: torch.Generator, rows: slice = ALL_ROWS, /) -> Conditioning: ...


ENCODE_BATCH = 256


def read_prompts(path: Path) -> tuple[str, ...]:
    """The prompts of a file, one per line; empty lines and lines that start with ``#`` are none.

    Raises:
        ConfigError: if the file is missing, is not UTF-8 text or holds no prompt.
    """
    try:
        lines = [line.strip() for line in path.read_text(encoding="utf-8-sig").splitlines()]
    except OSError as error:
        raise ConfigError(f"prompts.file: {path}: {error.strerror}") from None
    except UnicodeDecodeError as error:
        raise ConfigError(f"prompts.file: {path}: not UTF-8 text: {error}") from None
    if any("\0" in line for line in lines):
        raise ConfigError(f"prompts.file: {path}: is a binary file; name a text file with one prompt per line")
    prompts = tuple(line for line in lines if line and not line.startswith("#"))
    if not prompts:
        raise ConfigError(f"prompts.file: {path}: holds no prompt; write one per line")
    return prompts


def digest(prompts: Sequence[str]) -> str:
    """Twelve hexadecimal digits of a list of prompts."""
    return hashlib.sha256("\n".join(prompts).encode()).hexdigest()[:12]


@dataclass(frozen=True, kw_only=True)
class Text:
    """All that a run needs of its text encoders."""

    draw: DrawConditioning
    uncond: Conditioning
    """Of the empty prompt, [1, ...]."""
    previews: Conditioning | None


def text_from_cache(
    backbone: TrainableBackbone,
    prompts: Sequence[str],
    *,
    previews: Sequence[str],
    root: Path,
    about: Mapping[str, Any],
) -> Text:
    """Encode what is not yet in the cache under ``root``, and let the text encoders go.

    Args:
        about: what the encoding depends on besides the prompts.
    """
    cache = TextCache.ready(root, backbone.encode, ["", *prompts, *previews], about=about)
    free_text_encoders(backbone)
    positions = torch.tensor([cache.positions[prompt] for prompt in prompts])

    def draw(batch_size: int, generator: torch.Generator, rows: slice = ALL_ROWS) -> Conditioning:
        drawn = torch.randint(len(positions), (batch_size,), generator=generator)[rows]
        return cache.rows(positions[drawn].tolist())

    return Text(draw=draw, uncond=cache.encode([""]), previews=cache.encode(previews) if previews else None)


def encode_all(backbone: TrainableBackbone, prompts: Sequence[str]) -> Conditioning:
    """Conditioning of all prompts, [N, ...], in batches."""
    batches = range(0, len(prompts), ENCODE_BATCH)
    return Conditioning.join([backbone.encode(prompts[first : first + ENCODE_BATCH]) for first in batches])


def draw_from_list(backbone: TrainableBackbone, prompts: Sequence[str]) -> DrawConditioning:
    """Uniform draws from a list that is encoded here and now."""
    table = encode_all(backbone, prompts)

    def draw(batch_size: int, generator: torch.Generator, rows: slice = ALL_ROWS) -> Conditioning:
        return table.rows(torch.randint(len(table), (batch_size,), generator=generator)[rows])

    return draw


def draw_from_stream(backbone: TrainableBackbone, sample: Callable[[int, int], Sequence[str]]) -> DrawConditioning:
    """Fresh prompts for every batch from ``sample(number, seed)``, which must be a pure function of its arguments."""

    def draw(batch_size: int, generator: torch.Generator, rows: slice = ALL_ROWS) -> Conditioning:
        seed = int(torch.randint(2**62, (), generator=generator))
        return backbone.encode(sample(batch_size, seed)[rows])

    return draw
