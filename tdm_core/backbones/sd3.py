"""Stable Diffusion 3 and 3.5: how the stock pipeline is sampled.  Both are one pipeline and one network class."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import torch
from diffusers import StableDiffusion3Pipeline
from torch import Tensor

from tdm_core.backbones.base import Run, Size, call, divisible, to_pixels

Pipeline = StableDiffusion3Pipeline
DENOISER = "transformer"
T5_TOKENS = 256
OMIT: tuple[str, ...] = ()


def latent_shape(pipeline: StableDiffusion3Pipeline, size: Size) -> tuple[int, ...]:
    """[C, H / 8, W / 8] for the published autoencoder."""
    scale = pipeline.vae_scale_factor
    divisible(size, scale * pipeline.patch_size)
    return pipeline.transformer.config.in_channels, size.height // scale, size.width // scale


@torch.no_grad()
def encode(
    pipeline: StableDiffusion3Pipeline,
    prompts: Sequence[str],
    *,
    max_sequence_length: int | None,
    negative: bool = False,
) -> dict[str, Tensor]:
    embeds, _, pooled, _ = pipeline.encode_prompt(
        prompt=list(prompts),
        prompt_2=None,
        prompt_3=None,
        do_classifier_free_guidance=False,
        max_sequence_length=T5_TOKENS if max_sequence_length is None else max_sequence_length,
    )
    return {"prompt_embeds": embeds, "pooled_prompt_embeds": pooled}


def sample(pipeline: StableDiffusion3Pipeline, text: Mapping[str, Tensor], run: Run) -> Tensor:
    """Latents [B, C, h, w]."""
    return call(pipeline, text, run, height=run.size.height, width=run.size.width)


@torch.no_grad()
def decode(pipeline: StableDiffusion3Pipeline, latents: Tensor) -> np.ndarray:
    """uint8 [B, H, W, 3], rounded as the stock pipeline rounds."""
    vae = pipeline.vae
    latents = latents.to(vae.dtype) / vae.config.scaling_factor + vae.config.shift_factor
    return to_pixels(vae.decode(latents, return_dict=False)[0])


def preview(pipeline: StableDiffusion3Pipeline, latents: Tensor) -> np.ndarray:
    return decode(pipeline, latents)
