"""What the trainer asks of a backbone: its process, its roles, text to conditioning, latents to pixels, a LoRA file.

One file per family keeps this promise (``sd3_training.py``); the trainer knows no family.
"""

from __future__ import annotations

import gc
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import torch
from torch import Tensor

from tdm_core.backbones.adapters import LoraRoles, NetworkRole
from tdm_core.diffusion.noise import NoiseProcess
from tdm_core.diffusion.prediction import Prediction, PredictionType, guide, predict
from tdm_core.diffusion.trajectory import Denoise


@dataclass(frozen=True)
class Conditioning:
    """What a network is told about each row beside its state: its keyword arguments, each [B, ...]."""

    tensors: Mapping[str, Tensor]

    def __len__(self) -> int:
        return len(next(iter(self.tensors.values())))

    def rows(self, index: Tensor | slice) -> Conditioning:
        return Conditioning({name: tensor[index] for name, tensor in self.tensors.items()})

    def repeat(self, batch_size: int) -> Conditioning:
        """One row [1, ...] as a batch [B, ...], without copying."""
        return Conditioning(
            {name: tensor.expand(batch_size, *tensor.shape[1:]) for name, tensor in self.tensors.items()}
        )

    def to(self, device: torch.device) -> Conditioning:
        return Conditioning({name: tensor.to(device) for name, tensor in self.tensors.items()})

    def cast(self, dtype: torch.dtype) -> Conditioning:
        """The same in the network's type, whatever its text encoders spoke."""
        return Conditioning(
            {name: tensor.to(dtype) if tensor.is_floating_point() else tensor for name, tensor in self.tensors.items()}
        )

    @staticmethod
    def join(parts: Sequence[Conditioning]) -> Conditioning:
        """Rows of all parts, one after the other."""
        return Conditioning({name: torch.cat([part.tensors[name] for part in parts]) for name in parts[0].tensors})


class TrainableBackbone(Protocol):
    """A published family as the trainer sees it."""

    pipeline: Any
    """The stock pipeline; its text encoders may leave it."""
    process: NoiseProcess
    prediction_type: PredictionType
    roles: LoraRoles
    latent_shape: tuple[int, ...]
    size_px: int

    @property
    def device(self) -> torch.device:
        """Where network and latents live."""

    def encode(self, prompts: Sequence[str]) -> Conditioning:
        """Conditioning of prompts, as the stock pipeline makes it."""

    def network_output(self, role: NetworkRole, latents: Tensor, t: Tensor, conditioning: Conditioning) -> Tensor:
        """One network call in a role: latents [B, ...] at times [B] -> output [B, ...], float32."""

    def decode(self, latents: Tensor) -> np.ndarray:
        """Latents [B, ...] -> pixels uint8 [B, H, W, 3]."""

    def save_lora(self, folder: Path, state: Mapping[str, Tensor], metadata: Mapping[str, str]) -> Path:
        """Write LoRA weights as the family's stock loader takes them, with alpha; returns the file."""

    def card_example(self, base: str, lora: str, about: Mapping[str, Any]) -> str:
        """Python that samples the student with stock diffusers, for its card; ``about`` is its file's metadata."""


def free_text_encoders(backbone: TrainableBackbone) -> None:
    """Let go of the pipeline's text encoders, which ``encode`` needs and training does not."""
    for name in backbone.pipeline.components:
        if name.startswith("text_encoder"):
            setattr(backbone.pipeline, name, None)
    gc.collect()
    if backbone.device.type == "cuda":
        torch.cuda.empty_cache()


def denoiser(
    backbone: TrainableBackbone,
    role: NetworkRole,
    conditioning: Conditioning,
    *,
    uncond: Conditioning | None = None,
    guidance_scale: float = 1.0,
) -> Denoise:
    """A role of the backbone as a function of states [B, ...] and times [B], guided where ``uncond`` [1, ...] is given.

    Given fewer rows than ``conditioning`` has, it takes the first.
    """

    conditioning = conditioning.cast(backbone.roles.base_dtype)
    uncond = uncond and uncond.cast(backbone.roles.base_dtype)

    def denoise(x_t: Tensor, t: Tensor) -> Prediction:
        told = conditioning.rows(slice(0, len(x_t)))
        if uncond is None or guidance_scale == 1.0:
            output = backbone.network_output(role, x_t, t, told)
        else:
            both = Conditioning.join([uncond.repeat(len(x_t)), told])
            pair = backbone.network_output(role, torch.cat([x_t, x_t]), torch.cat([t, t]), both)
            without, given = pair.chunk(2)
            output = guide(given, without, guidance_scale)
        return predict(backbone.prediction_type, output, x_t, t, backbone.process)

    return denoise
