"""mini-pixart: a ``PixArtAlphaPipeline`` (epsilon, learned variance unused), its T5 encoder trained with it."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from diffusers import AutoencoderDC, DPMSolverMultistepScheduler, PixArtAlphaPipeline, PixArtTransformer2DModel
from torch import Tensor, nn
from transformers import T5EncoderModel, T5Tokenizer

from tdm_core.backbones.mini import TextShape, TransformerShape, build_autoencoder, encode, load_autoencoder
from tdm_core.backbones.mini_t5 import build_text_encoder, build_tokenizer, end_token
from tdm_core.diffusion.noise import NoiseProcess, variance_preserving
from tdm_core.diffusion.prediction import PredictionType

__all__ = ["build_autoencoder", "build_tokenizer", "encode", "load_autoencoder"]

PREDICTION_TYPE = PredictionType.EPSILON
PIPELINE = PixArtAlphaPipeline
PARTS = ("transformer", "text_encoder")


def scheduler() -> DPMSolverMultistepScheduler:
    """PixArt's own: 1000 linear betas, second-order multistep solver."""
    return DPMSolverMultistepScheduler(beta_start=0.0001, beta_end=0.02, beta_schedule="linear")


def process() -> NoiseProcess:
    return variance_preserving(scheduler().alphas_cumprod)


def build_transformer(shape: TransformerShape, text: TextShape, latent_channels: int) -> PixArtTransformer2DModel:
    """The output starts at zero; its second half, PixArt's learned variance, is never trained nor read."""
    width = shape.heads * shape.head_width
    model = PixArtTransformer2DModel(
        sample_size=shape.latent_size,
        patch_size=shape.patch_size,
        in_channels=latent_channels,
        out_channels=2 * latent_channels,
        num_layers=shape.layers,
        attention_head_dim=shape.head_width,
        num_attention_heads=shape.heads,
        cross_attention_dim=width,
        caption_channels=text.width,
    )
    for parameter in model.proj_out.parameters():
        parameter.data.zero_()
    return model


class PixArtNetwork(nn.Module):
    """Text encoder and transformer as one network, for training them together."""

    def __init__(self, transformer: PixArtTransformer2DModel, text_encoder: T5EncoderModel) -> None:
        super().__init__()
        self.transformer, self.text_encoder = transformer, text_encoder
        self._model_time = process().model_time

    def forward(self, latents: Tensor, t: Tensor, token_ids: Tensor) -> Tensor:
        tokens, mask = _told(self, token_ids)
        output = self.transformer(
            hidden_states=latents,
            encoder_hidden_states=tokens,
            encoder_attention_mask=mask,
            timestep=self._model_time(t).float(),
            added_cond_kwargs={"resolution": None, "aspect_ratio": None},
            return_dict=False,
        )[0]
        return output.chunk(2, dim=1)[0]


def _told(encoders: Any, token_ids: Tensor) -> tuple[Tensor, Tensor]:
    """Features [B, L, D] and which tokens are of the caption, [B, L]."""
    mask = (token_ids != encoders.text_encoder.config.pad_token_id).long()
    return encoders.text_encoder(token_ids, attention_mask=mask)[0], mask


def text_features(encoders: Any, token_ids: Tensor) -> tuple[Tensor, tuple[Tensor, ...]]:
    """The end token sums up."""
    tokens, _ = _told(encoders, token_ids)
    return tokens, (end_token(tokens, token_ids, encoders.text_encoder.config.pad_token_id),)


def build_network(
    transformer: TransformerShape, text: TextShape, latent_channels: int, tokenizer: T5Tokenizer
) -> PixArtNetwork:
    return PixArtNetwork(build_transformer(transformer, text, latent_channels), build_text_encoder(text, tokenizer))


def assemble(network: PixArtNetwork, autoencoder: AutoencoderDC, tokenizer: T5Tokenizer) -> PixArtAlphaPipeline:
    return PixArtAlphaPipeline(
        transformer=network.transformer,
        scheduler=scheduler(),
        vae=autoencoder,
        text_encoder=network.text_encoder,
        tokenizer=tokenizer,
    )


def load(folder: Path) -> PixArtAlphaPipeline:
    return PixArtAlphaPipeline.from_pretrained(folder)


def draw(
    pipeline: PixArtAlphaPipeline, prompts: Sequence[str], seeds: Sequence[int], *, steps: int, guidance: float
) -> np.ndarray:
    return pipeline(
        list(prompts),
        num_inference_steps=steps,
        guidance_scale=guidance,
        max_sequence_length=pipeline.tokenizer.model_max_length,
        use_resolution_binning=False,
        clean_caption=False,
        generator=[torch.Generator().manual_seed(seed) for seed in seeds],
        output_type="np",
    ).images
