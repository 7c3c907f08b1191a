"""Conditioning of all prompts of a run on disk, so that the text encoders run once and then leave memory.

A cache is a folder of safetensors shards beside an ``index.json``, written beside its place and renamed when whole.
Tokens at the end that tell the network nothing (exactly zero, or masked out) are not stored and come back as zeros.
SD3 and CogVideoX *attend* to their padding, so theirs is kept: without it, training would not see sampling's text.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from itertools import accumulate
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from tdm_core.backbones.trainable import Conditioning
from tdm_core.errors import TrainingError

Encode = Callable[[Sequence[str]], Conditioning]

SHARD_ROWS, ENCODE_ROWS, INDEX = 1024, 64, "index.json"
CPU = torch.device("cpu")
MASK, LENGTHS = "attention_mask", ".lengths"


@dataclass(frozen=True)
class TextCache:
    """An open cache; rows are read from disk when they are asked for."""

    folder: Path
    shapes: Mapping[str, tuple[int, ...]]
    """Of one row, padded."""
    positions: Mapping[str, int]
    """Where each prompt's row is."""

    @classmethod
    def ready(cls, root: Path, encode: Encode, prompts: Sequence[str], *, about: Mapping[str, Any]) -> TextCache:
        """The cache of these prompts under ``root``, made if it is not there or was made by other encoders.

        Args:
            about: what the encoding depends on besides the prompts; part of the folder's name.

        Raises:
            TrainingError: if it cannot be written or read.
        """
        prompts = tuple(dict.fromkeys(prompts))
        key = json.dumps([dict(about), prompts], sort_keys=True, default=str)
        folder = root / hashlib.sha256(key.encode()).hexdigest()[:16]
        if folder.is_dir():
            cache = cls._open(folder, prompts)
            if _alike(cache.encode(prompts[:1]), encode(prompts[:1])):
                return cache
            shutil.rmtree(folder)  # a base of the same name with other encoders: trained anew
        try:
            _write(folder, encode, prompts)
        except (OSError, SafetensorError) as error:
            raise TrainingError(
                f"run.text_cache: {folder}: cannot be written: {getattr(error, 'strerror', None) or error}\n"
                "Make room, or choose another folder with --set run.text_cache=..."
            ) from error
        return cls._open(folder, prompts)

    @classmethod
    def _open(cls, folder: Path, prompts: Sequence[str]) -> TextCache:
        try:
            shapes = json.loads((folder / INDEX).read_text(encoding="utf-8"))["shapes"]
        except (OSError, ValueError, KeyError) as error:
            raise _damaged(folder, error) from error
        return cls(
            folder=folder,
            shapes={name: tuple(shape) for name, shape in shapes.items()},
            positions={prompt: row for row, prompt in enumerate(prompts)},
        )

    def encode(self, prompts: Sequence[str]) -> Conditioning:
        """Conditioning [B, ...] of prompts that are all in the cache."""
        return self.rows([self.positions[prompt] for prompt in prompts])

    def rows(self, positions: Sequence[int]) -> Conditioning:
        """Conditioning [B, ...] of the prompts at these positions.

        Raises:
            TrainingError: if a shard is missing or damaged.
        """
        rows = [self._row(position) for position in positions]
        return Conditioning({name: torch.stack([row[name] for row in rows]) for name in self.shapes})

    def _row(self, position: int) -> dict[str, Tensor]:
        shard, row = divmod(position, SHARD_ROWS)
        path, found = self.folder / _shard_name(shard), {}
        try:
            with safe_open(path, framework="pt") as file:
                for name, shape in self.shapes.items():
                    if len(shape) < 2:
                        found[name] = file.get_slice(name)[row]
                        continue
                    ends = file.get_tensor(name + LENGTHS)
                    kept = file.get_slice(name)[int(ends[row]) : int(ends[row + 1])]
                    found[name] = kept.new_zeros(shape)
                    found[name][: len(kept)] = kept
        except (OSError, SafetensorError) as error:
            raise _damaged(path, error) from error
        return found


def _write(folder: Path, encode: Encode, prompts: Sequence[str]) -> None:
    draft = folder.with_name(f".draft-{folder.name}-{os.getpid()}")
    draft.mkdir(parents=True)
    try:
        for shard, first in enumerate(range(0, len(prompts), SHARD_ROWS)):
            own = prompts[first : first + SHARD_ROWS]
            starts = range(0, len(own), ENCODE_ROWS)
            rows = Conditioning.join([encode(own[start : start + ENCODE_ROWS]).to(CPU) for start in starts])
            save_file(_packed(rows), draft / _shard_name(shard))
        shapes = {name: list(tensor.shape[1:]) for name, tensor in rows.tensors.items()}
        (draft / INDEX).write_text(json.dumps({"prompts": len(prompts), "shapes": shapes}) + "\n", encoding="utf-8")
        if not folder.is_dir():  # else another run has just made the same
            draft.rename(folder)
    finally:
        shutil.rmtree(draft, ignore_errors=True)


def _packed(conditioning: Conditioning) -> dict[str, Tensor]:
    """Vectors as they are; tokens [n, L, ...] one prompt's after the other, with the places where each begins."""
    packed = {}
    masks = [tensor for name, tensor in conditioning.tensors.items() if name.endswith(MASK)]
    for name, tensor in conditioning.tensors.items():
        if tensor.ndim < 3:
            packed[name] = tensor.contiguous()
            if tensor.ndim == 2:
                continue
        told = tensor.flatten(2).ne(0).any(dim=2)
        if masks:
            told &= masks[0].bool()
        places = torch.arange(1, told.shape[1] + 1)
        lengths = (told * places).amax(dim=1).tolist()
        packed[name] = torch.cat([row[:length] for row, length in zip(tensor, lengths, strict=True)])
        packed[name + LENGTHS] = torch.tensor([0, *accumulate(lengths)])
    return packed


def _shard_name(shard: int) -> str:
    return f"shard-{shard:05d}.safetensors"


def _alike(one: Conditioning, other: Conditioning) -> bool:
    """Whether both say the same, but for padding and the rounding of another batch size or device."""
    mine, theirs = _packed(one), _packed(other.to(CPU))
    return mine.keys() == theirs.keys() and all(
        tensor.shape == theirs[name].shape
        and torch.allclose(tensor.float(), theirs[name].float(), rtol=1e-2, atol=1e-3)
        for name, tensor in mine.items()
    )


def _damaged(path: Path, error: BaseException) -> TrainingError:
    reason = next(iter(str(error).splitlines()), type(error).__name__)[:100]
    return TrainingError(
        f"{path}: cannot be read: {reason}\nDelete the folder; the next run encodes the prompts again."
    )
