"""PixArt-alpha (epsilon with a learned variance that sampling drops, T5 text with a mask): how it is sampled."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import torch
from diffusers import PixArtAlphaPipeline
from torch import Tensor

from tdm_core.backbones.base import Run, Size, call, divisible, to_pixels

Pipeline = PixArtAlphaPipeline
DENOISER = "transformer"
T5_TOKENS = 120
OMIT: tuple[str, ...] = ()


def latent_shape(pipeline: PixArtAlphaPipeline, size: Size) -> tuple[int, ...]:
    """[4, H / 8, W / 8] for the published autoencoder."""
    config, scale = pipeline.transformer.config, pipeline.vae_scale_factor
    divisible(size, scale * config.patch_size)
    return config.in_channels, size.height // scale, size.width // scale


@torch.no_grad()
def encode(
    pipeline: PixArtAlphaPipeline,
    prompts: Sequence[str],
    *,
    max_sequence_length: int | None,
    negative: bool = False,
) -> dict[str, Tensor]:
    embeds, mask, _, _ = pipeline.encode_prompt(
        list(prompts),
        do_classifier_free_guidance=False,
        clean_caption=False,  # cleaning needs further packages, and without them is left out with a warning
        max_sequence_length=T5_TOKENS if max_sequence_length is None else max_sequence_length,
    )
    return {"prompt_embeds": embeds, "prompt_attention_mask": mask}


def sample(pipeline: PixArtAlphaPipeline, text: Mapping[str, Tensor], run: Run) -> Tensor:
    """Latents [B, 4, h, w]; micro-conditions, where the base has them, are the stock pipeline's."""
    return call(
        pipeline,
        text,
        run,
        height=run.size.height,
        width=run.size.width,
        negative_prompt=None,
        clean_caption=False,
        use_resolution_binning=False,  # the size is the preset's, on all sides
    )


@torch.no_grad()
def decode(pipeline: PixArtAlphaPipeline, latents: Tensor) -> np.ndarray:
    """uint8 [B, H, W, 3], rounded as the stock pipeline rounds."""
    vae = pipeline.vae
    return to_pixels(vae.decode(latents.to(vae.dtype) / vae.config.scaling_factor, return_dict=False)[0])


def preview(pipeline: PixArtAlphaPipeline, latents: Tensor) -> np.ndarray:
    return decode(pipeline, latents)
