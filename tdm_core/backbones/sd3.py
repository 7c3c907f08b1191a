"""Stable Diffusion 3 and 3.5: how the stock pipeline is sampled."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from diffusers import StableDiffusion3Pipeline
from torch import Tensor

from tdm_core.backbones.base import OnStep
from tdm_core.errors import LoadError

Pipeline = StableDiffusion3Pipeline
DENOISER = "transformer"


def latent_shape(pipeline: StableDiffusion3Pipeline, *, height: int, width: int) -> tuple[int, ...]:
    """[C, H / 8, W / 8] for the published autoencoder."""
    multiple = pipeline.vae_scale_factor * pipeline.patch_size
    if height % multiple or width % multiple:
        raise LoadError(f"{width}x{height} px: this base makes multiples of {multiple} only.\nMend the preset's size.")
    scale = pipeline.vae_scale_factor
    return pipeline.transformer.config.in_channels, height // scale, width // scale


def sample(
    pipeline: StableDiffusion3Pipeline,
    *,
    prompts: Sequence[str],
    noise: Tensor,
    steps: int,
    guidance_scale: float,
    sigmas: Sequence[float] | None,
    size: tuple[int, int],
    max_sequence_length: int | None,
    on_step: OnStep,
) -> Tensor:
    """Latents [B, C, h, w].

    Raises:
        LoadError: if time nodes are given and the scheduler would move them.
    """
    config = pipeline.scheduler.config
    if sigmas is not None and (config.get("shift", 1.0) != 1.0 or config.get("use_dynamic_shifting")):
        raise LoadError(
            "The scheduler would shift the given time nodes once more.\n"
            "Set scheduler_config = {shift = 1.0, use_dynamic_shifting = false} for this role in the preset."
        )

    def callback(_: Any, index: int, __: Any, tensors: dict[str, Tensor]) -> dict[str, Tensor]:
        on_step(index + 1, tensors["latents"])
        return {}

    options: dict[str, Any] = {} if max_sequence_length is None else {"max_sequence_length": max_sequence_length}
    return pipeline(
        prompt=list(prompts),
        height=size[0],
        width=size[1],
        num_inference_steps=steps,
        sigmas=None if sigmas is None else list(sigmas),
        guidance_scale=guidance_scale,
        latents=noise,
        output_type="latent",
        return_dict=False,
        callback_on_step_end=callback,
        **options,
    )[0]


@torch.no_grad()
def decode(pipeline: StableDiffusion3Pipeline, latents: Tensor) -> np.ndarray:
    """uint8 [B, H, W, 3], rounded as the stock pipeline rounds."""
    vae = pipeline.vae
    latents = latents.to(vae.dtype) / vae.config.scaling_factor + vae.config.shift_factor
    pixels = vae.decode(latents, return_dict=False)[0].float()
    pixels = (pixels / 2 + 0.5).clamp(0, 1).mul(255).round()
    return pixels.to(torch.uint8).permute(0, 2, 3, 1).cpu().numpy()
