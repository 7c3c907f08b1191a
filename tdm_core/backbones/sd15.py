"""Stable Diffusion 1.5 and its fine-tunes (epsilon, UNet): how the stock pipeline is sampled."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import torch
from diffusers import StableDiffusionPipeline
from torch import Tensor

from tdm_core.backbones.base import Run, Size, call, divisible, to_pixels

Pipeline = StableDiffusionPipeline
DENOISER = "unet"
T5_TOKENS = 0
OMIT: tuple[str, ...] = ("safety_checker", "feature_extractor", "image_encoder")


def latent_shape(pipeline: StableDiffusionPipeline, size: Size) -> tuple[int, ...]:
    """[4, H / 8, W / 8] for the published autoencoder."""
    scale = pipeline.vae_scale_factor
    divisible(size, scale)
    return pipeline.unet.config.in_channels, size.height // scale, size.width // scale


@torch.no_grad()
def encode(
    pipeline: StableDiffusionPipeline,
    prompts: Sequence[str],
    *,
    max_sequence_length: int | None,
    negative: bool = False,
) -> dict[str, Tensor]:
    embeds, _ = pipeline.encode_prompt(
        list(prompts), pipeline._execution_device, num_images_per_prompt=1, do_classifier_free_guidance=False
    )
    return {"prompt_embeds": embeds}


def sample(pipeline: StableDiffusionPipeline, text: Mapping[str, Tensor], run: Run) -> Tensor:
    """Latents [B, 4, h, w]."""
    return call(pipeline, text, run, height=run.size.height, width=run.size.width)


@torch.no_grad()
def decode(pipeline: StableDiffusionPipeline, latents: Tensor) -> np.ndarray:
    """uint8 [B, H, W, 3], rounded as the stock pipeline rounds."""
    vae = pipeline.vae
    return to_pixels(vae.decode(latents.to(vae.dtype) / vae.config.scaling_factor, return_dict=False)[0])


def preview(pipeline: StableDiffusionPipeline, latents: Tensor) -> np.ndarray:
    return decode(pipeline, latents)
