"""mini-cogvideox: a ``CogVideoXPipeline`` (v-prediction, zero terminal SNR), its T5 encoder trained with it.

The text's tokens are not masked and stand in one sequence with the picture's, as in every CogVideoX: their number is
part of the model (``max_text_seq_length``), and the pipeline's own default of 226 would change every clip.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from diffusers import (
    AutoencoderKLCogVideoX,
    CogVideoXDDIMScheduler,
    CogVideoXPipeline,
    CogVideoXTransformer3DModel,
)
from torch import Tensor, nn
from transformers import T5EncoderModel, T5Tokenizer

from tdm_core.backbones.mini import AutoencoderShape, TextShape, TransformerShape
from tdm_core.backbones.mini_t5 import build_text_encoder, build_tokenizer, end_token
from tdm_core.diffusion.noise import NoiseProcess, variance_preserving
from tdm_core.diffusion.prediction import PredictionType
from tdm_core.errors import ConfigError

__all__ = ["build_tokenizer"]

PREDICTION_TYPE = PredictionType.V
PIPELINE = CogVideoXPipeline
PARTS = ("transformer", "text_encoder")

TIME_WIDTH = 128  # of the time embedding; at the published 512 the modulations would be half of all weights
TEMPORAL_COMPRESSION = 1  # 4 as published costs minutes of learning and 3 to 4 dB (docs/log.md)
LEAST_LOG_VARIANCE = -20.0


def scheduler() -> CogVideoXDDIMScheduler:
    """That of CogVideoX-2B. Give it a number of steps that divides 1000: it rounds the steps' length down."""
    return CogVideoXDDIMScheduler(
        prediction_type="v_prediction",
        rescale_betas_zero_snr=True,
        timestep_spacing="trailing",
        snr_shift_scale=3.0,
        clip_sample=False,
    )


def process() -> NoiseProcess:
    return variance_preserving(scheduler().alphas_cumprod)


def build_autoencoder(shape: AutoencoderShape) -> AutoencoderKLCogVideoX:
    """Untrained; its encoder is sure of every latent, so that a sampled one is the most likely one.

    Raises:
        ConfigError: if the shape is not one that the stock class can have.
    """
    channels, layers = shape.encoder_channels, shape.encoder_layers[0]
    levels = len(channels)
    if shape != AutoencoderShape(
        latent_channels=shape.latent_channels,
        encoder_channels=channels,
        decoder_channels=channels,
        encoder_layers=(layers,) * levels,
        decoder_layers=(layers + 1,) * levels,
    ):
        raise ConfigError(
            "[autoencoder_shape]: a CogVideoX autoencoder has the same channels both ways,\n"
            "one number of layers at every level of the encoder, and one more at every level of the decoder"
        )
    model = AutoencoderKLCogVideoX(
        latent_channels=shape.latent_channels,
        block_out_channels=channels,
        layers_per_block=layers,
        down_block_types=("CogVideoXDownBlock3D",) * levels,
        up_block_types=("CogVideoXUpBlock3D",) * levels,
        norm_num_groups=max(
            1, min(channels) // 4
        ),  # 4 channels a group at full size, as published; 1 would lose colours
        temporal_compression_ratio=TEMPORAL_COMPRESSION,
        sample_height=64,
        sample_width=64,
        scaling_factor=1.0,
    )
    last = model.encoder.conv_out.conv
    last.weight.data[shape.latent_channels :] = 0
    last.bias.data[shape.latent_channels :] = LEAST_LOG_VARIANCE
    return model


def load_autoencoder(folder: Path) -> AutoencoderKLCogVideoX:
    return AutoencoderKLCogVideoX.from_pretrained(folder)


def encode(autoencoder: AutoencoderKLCogVideoX, clips: Tensor) -> Tensor:
    """Clips [B, 3, F, H, W] in [-1, 1] to what the transformer takes, [B, f, C, h, w]."""
    return autoencoder.encode(clips).latent_dist.mode().transpose(1, 2)


def build_transformer(shape: TransformerShape, text: TextShape, latent_channels: int) -> CogVideoXTransformer3DModel:
    """Modulations and the output start at zero, so that every block starts as the identity."""
    model = CogVideoXTransformer3DModel(
        num_attention_heads=shape.heads,
        attention_head_dim=shape.head_width,
        in_channels=latent_channels,
        out_channels=latent_channels,
        time_embed_dim=TIME_WIDTH,
        text_embed_dim=text.width,
        num_layers=shape.layers,
        sample_height=shape.latent_size,
        sample_width=shape.latent_size,
        sample_frames=(shape.latent_frames - 1) * TEMPORAL_COMPRESSION + 1,
        temporal_compression_ratio=TEMPORAL_COMPRESSION,
        patch_size=shape.patch_size,
        max_text_seq_length=text.max_tokens,
        spatial_interpolation_scale=1.0,
    )
    for name, parameter in model.named_parameters():
        if any(part in name for part in ("norm1.linear", "norm2.linear", "norm_out.linear", "proj_out")):
            parameter.data.zero_()
    return model


class CogVideoXNetwork(nn.Module):
    """Text encoder and transformer as one network, for training them together."""

    def __init__(self, transformer: CogVideoXTransformer3DModel, text_encoder: T5EncoderModel) -> None:
        super().__init__()
        self.transformer, self.text_encoder = transformer, text_encoder
        self._model_time = process().model_time

    def forward(self, latents: Tensor, t: Tensor, token_ids: Tensor) -> Tensor:
        return self.transformer(
            hidden_states=latents,
            encoder_hidden_states=self.text_encoder(token_ids)[0],
            timestep=self._model_time(t).float(),
            return_dict=False,
        )[0]


def text_features(encoders: Any, token_ids: Tensor) -> tuple[Tensor, tuple[Tensor, ...]]:
    """The end token sums up."""
    tokens = encoders.text_encoder(token_ids)[0]
    return tokens, (end_token(tokens, token_ids, encoders.text_encoder.config.pad_token_id),)


def build_network(
    transformer: TransformerShape, text: TextShape, latent_channels: int, tokenizer: T5Tokenizer
) -> CogVideoXNetwork:
    return CogVideoXNetwork(build_transformer(transformer, text, latent_channels), build_text_encoder(text, tokenizer))


def assemble(
    network: CogVideoXNetwork, autoencoder: AutoencoderKLCogVideoX, tokenizer: T5Tokenizer
) -> CogVideoXPipeline:
    return CogVideoXPipeline(
        tokenizer=tokenizer,
        text_encoder=network.text_encoder,
        vae=autoencoder,
        transformer=network.transformer,
        scheduler=scheduler(),
    )


def load(folder: Path) -> CogVideoXPipeline:
    return CogVideoXPipeline.from_pretrained(folder)


def draw(
    pipeline: CogVideoXPipeline, prompts: Sequence[str], seeds: Sequence[int], *, steps: int, guidance: float
) -> np.ndarray:
    """[N, F, H, W, 3]; the transformer's configuration knows the clip's size and length."""
    return pipeline(
        list(prompts),
        num_inference_steps=steps,
        guidance_scale=guidance,
        max_sequence_length=pipeline.transformer.config.max_text_seq_length,
        generator=[torch.Generator().manual_seed(seed) for seed in seeds],
        output_type="np",
    ).frames
