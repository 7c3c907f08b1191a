"""Stable Diffusion XL (epsilon, UNet, two text encoders, micro-conditions): how the stock pipeline is sampled."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import torch
from diffusers import StableDiffusionXLPipeline
from torch import Tensor

from tdm_core.backbones.base import Run, Size, call, divisible, to_pixels

Pipeline = StableDiffusionXLPipeline
DENOISER = "unet"
T5_TOKENS = 0
OMIT: tuple[str, ...] = ("feature_extractor", "image_encoder")


def latent_shape(pipeline: StableDiffusionXLPipeline, size: Size) -> tuple[int, ...]:
    """[4, H / 8, W / 8] for the published autoencoder."""
    scale = pipeline.vae_scale_factor
    divisible(size, scale)
    return pipeline.unet.config.in_channels, size.height // scale, size.width // scale


@torch.no_grad()
def encode(
    pipeline: StableDiffusionXLPipeline,
    prompts: Sequence[str],
    *,
    max_sequence_length: int | None,
    negative: bool = False,
) -> dict[str, Tensor]:
    embeds, _, pooled, _ = pipeline.encode_prompt(
        prompt=list(prompts), device=pipeline._execution_device, do_classifier_free_guidance=False
    )
    if negative and pipeline.config.force_zeros_for_empty_prompt:
        # The stock pipeline guides away from zeros, not from the embedding of nothing.
        empty = torch.tensor([not prompt for prompt in prompts], device=embeds.device)
        embeds = embeds.masked_fill(empty[:, None, None], 0)
        pooled = pooled.masked_fill(empty[:, None], 0)
    return {"prompt_embeds": embeds, "pooled_prompt_embeds": pooled}


def sample(pipeline: StableDiffusionXLPipeline, text: Mapping[str, Tensor], run: Run) -> Tensor:
    """Latents [B, 4, h, w]; the micro-conditions are the stock pipeline's: this size, uncropped."""
    return call(pipeline, text, run, height=run.size.height, width=run.size.width)


@torch.no_grad()
def decode(pipeline: StableDiffusionXLPipeline, latents: Tensor) -> np.ndarray:
    """uint8 [B, H, W, 3], rounded as the stock pipeline rounds; an autoencoder that overflows in half is widened."""
    vae = pipeline.vae
    half = vae.dtype == torch.float16 and vae.config.force_upcast
    if half:
        vae.to(dtype=torch.float32)
    pixels = to_pixels(vae.decode(latents.to(vae.dtype) / vae.config.scaling_factor, return_dict=False)[0])
    if half:
        vae.to(dtype=torch.float16)
    return pixels


def preview(pipeline: StableDiffusionXLPipeline, latents: Tensor) -> np.ndarray:
    return decode(pipeline, latents)
