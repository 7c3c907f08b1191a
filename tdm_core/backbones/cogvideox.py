"""CogVideoX (v-prediction, zero terminal SNR, videos): how the stock pipeline is sampled."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import torch
from diffusers import CogVideoXPipeline
from torch import Tensor

from tdm_core.backbones.base import Run, Size, call, to_pixels
from tdm_core.errors import ConfigError

Pipeline = CogVideoXPipeline
DENOISER = "transformer"
T5_TOKENS = 226
OMIT: tuple[str, ...] = ()


def latent_shape(pipeline: CogVideoXPipeline, size: Size) -> tuple[int, ...]:
    """[(F - 1) / 4 + 1, C, H / 8, W / 8] for the published autoencoder."""
    config = pipeline.transformer.config
    scale, every = pipeline.vae_scale_factor_spatial, pipeline.vae_scale_factor_temporal
    multiple = scale * config.patch_size
    if size.height % multiple or size.width % multiple:
        raise ConfigError(f"{size}: this base makes multiples of {multiple} px only.\nMend the preset's size.")
    if (size.frames - 1) % every or size.frames > config.sample_frames:
        raise ConfigError(
            f"{size}: this base makes up to {config.sample_frames} frames, one more than a multiple of {every}.\n"
            "Mend frames in the preset."
        )
    return (size.frames - 1) // every + 1, config.in_channels, size.height // scale, size.width // scale


@torch.no_grad()
def encode(
    pipeline: CogVideoXPipeline,
    prompts: Sequence[str],
    *,
    max_sequence_length: int | None,
    negative: bool = False,
) -> dict[str, Tensor]:
    embeds, _ = pipeline.encode_prompt(
        list(prompts),
        do_classifier_free_guidance=False,
        max_sequence_length=T5_TOKENS if max_sequence_length is None else max_sequence_length,
    )
    return {"prompt_embeds": embeds}


def sample(pipeline: CogVideoXPipeline, text: Mapping[str, Tensor], run: Run) -> Tensor:
    """Latents [B, f, C, h, w]."""
    size = run.size
    return call(pipeline, text, run, height=size.height, width=size.width, num_frames=size.frames)


@torch.no_grad()
def decode(pipeline: CogVideoXPipeline, latents: Tensor) -> np.ndarray:
    """uint8 [B, F, H, W, 3], rounded as the stock pipeline rounds."""
    frames = pipeline.decode_latents(latents.to(pipeline.vae.dtype))
    return to_pixels(frames.transpose(1, 2))


def preview(pipeline: CogVideoXPipeline, latents: Tensor) -> np.ndarray:
    """The first frame: its latents depend on no other's, and all of them would take longer than a step."""
    return decode(pipeline, latents[:, :1])[:, 0]
