"""Untrained mini models: the real classes of diffusers and transformers at a tiny size.

Everything here ends in a stock ``StableDiffusion3Pipeline`` that plain diffusers loads again.
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import dataclass

import torch
from diffusers import AutoencoderDC, FlowMatchEulerDiscreteScheduler, SD3Transformer2DModel, StableDiffusion3Pipeline
from tokenizers import Tokenizer, models, pre_tokenizers, trainers
from torch import Tensor, nn
from transformers import CLIPTextConfig, CLIPTextModelWithProjection, CLIPTokenizer


@dataclass(frozen=True, kw_only=True)
class AutoencoderShape:
    """An ``AutoencoderDC`` of four levels (8x); the first level has no blocks: pictures enter and leave at half size.

    Chosen by the clock: on two CPU cores ``AutoencoderTiny`` and ``AutoencoderKL``, which convolve at full size,
    learn several times slower (docs/log.md).
    """

    latent_channels: int = 8
    encoder_channels: tuple[int, ...] = (16, 16, 32, 128)
    decoder_channels: tuple[int, ...] = (16, 16, 32, 128)
    encoder_layers: tuple[int, ...] = (0, 1, 1, 1)
    decoder_layers: tuple[int, ...] = (0, 1, 2, 2)


@dataclass(frozen=True, kw_only=True)
class TextShape:
    """Both CLIP text encoders; SD3 joins their features to ``2 * width``."""

    width: int = 64
    layers: int = 3
    heads: int = 4
    max_tokens: int = 14


@dataclass(frozen=True, kw_only=True)
class TransformerShape:
    """An ``SD3Transformer2DModel``; ``latent_size`` is the side of the latents."""

    heads: int = 6
    head_width: int = 32
    layers: int = 6
    patch_size: int = 4
    latent_size: int = 12


def build_autoencoder(shape: AutoencoderShape) -> AutoencoderDC:
    """An untrained autoencoder, with the two config keys that the SD3 pipeline asks of any autoencoder."""
    model = AutoencoderDC(
        latent_channels=shape.latent_channels,
        encoder_block_types="ResBlock",
        decoder_block_types="ResBlock",
        encoder_block_out_channels=shape.encoder_channels,
        decoder_block_out_channels=shape.decoder_channels,
        encoder_layers_per_block=shape.encoder_layers,
        decoder_layers_per_block=shape.decoder_layers,
        encoder_qkv_multiscales=((),) * len(shape.encoder_layers),
        decoder_qkv_multiscales=((),) * len(shape.decoder_layers),
        encoder_out_shortcut=False,  # so that one convolution makes the latents, and can be rescaled
        scaling_factor=1.0,
    )
    model.register_to_config(block_out_channels=shape.decoder_channels, shift_factor=0.0)
    return model


def build_tokenizer(vocabulary: Iterable[str], max_tokens: int) -> CLIPTokenizer:
    """A CLIP tokenizer whose merges make one token of every word of the vocabulary, and bytes of any other."""
    trained = Tokenizer(models.BPE(end_of_word_suffix="</w>"))
    trained.pre_tokenizer = pre_tokenizers.Whitespace()
    trainer = trainers.BpeTrainer(vocab_size=10_000, min_frequency=1, end_of_word_suffix="</w>", show_progress=False)
    trained.train_from_iterator(sorted(vocabulary), trainer)
    merges = [tuple(merge) for merge in _merges(trained)]
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    tokens = [*alphabet, *(letter + "</w>" for letter in alphabet), *("".join(merge) for merge in merges)]
    tokens += ["<|startoftext|>", "<|endoftext|>"]
    ids = {token: index for index, token in enumerate(dict.fromkeys(tokens))}
    return CLIPTokenizer(vocab=ids, merges=merges, model_max_length=max_tokens)


def _merges(tokenizer: Tokenizer) -> list[list[str]]:
    return json.loads(tokenizer.to_str())["model"]["merges"]


def build_text_encoder(shape: TextShape, tokenizer: CLIPTokenizer) -> CLIPTextModelWithProjection:
    """SD3 reads the penultimate layer and the projected end token, so two layers are the least."""
    config = CLIPTextConfig(
        vocab_size=len(tokenizer),
        hidden_size=shape.width,
        intermediate_size=4 * shape.width,
        projection_dim=shape.width,
        num_hidden_layers=shape.layers,
        num_attention_heads=shape.heads,
        max_position_embeddings=shape.max_tokens,
        bos_token_id=tokenizer.bos_token_id,
        eos_token_id=tokenizer.eos_token_id,
        pad_token_id=tokenizer.pad_token_id,
    )
    return CLIPTextModelWithProjection(config)


def build_transformer(shape: TransformerShape, text: TextShape, latent_channels: int) -> SD3Transformer2DModel:
    """Modulations and the output start at zero, so that every block starts as the identity."""
    model = SD3Transformer2DModel(
        sample_size=shape.latent_size,
        patch_size=shape.patch_size,
        in_channels=latent_channels,
        out_channels=latent_channels,
        num_layers=shape.layers,
        attention_head_dim=shape.head_width,
        num_attention_heads=shape.heads,
        joint_attention_dim=2 * text.width,
        pooled_projection_dim=2 * text.width,
        caption_projection_dim=shape.heads * shape.head_width,
        pos_embed_max_size=shape.latent_size // shape.patch_size,
        qk_norm="rms_norm",
    )
    for name, parameter in model.named_parameters():
        if "norm1.linear" in name or "norm1_context.linear" in name or "norm_out.linear" in name or "proj_out" in name:
            parameter.data.zero_()
    return model


def assemble(
    transformer: SD3Transformer2DModel,
    autoencoder: AutoencoderDC,
    text_encoders: tuple[CLIPTextModelWithProjection, CLIPTextModelWithProjection],
    tokenizer: CLIPTokenizer,
) -> StableDiffusion3Pipeline:
    """The stock pipeline, without a T5, on the flow-matching schedule with shift 1."""
    return StableDiffusion3Pipeline(
        transformer=transformer,
        scheduler=FlowMatchEulerDiscreteScheduler(shift=1.0),
        vae=autoencoder,
        text_encoder=text_encoders[0],
        tokenizer=tokenizer,
        text_encoder_2=text_encoders[1],
        tokenizer_2=tokenizer,
        text_encoder_3=None,
        tokenizer_3=None,
    )


class SD3Network(nn.Module):
    """Text encoders and transformer as one network, for training them together."""

    def __init__(
        self,
        transformer: SD3Transformer2DModel,
        text_encoders: tuple[CLIPTextModelWithProjection, CLIPTextModelWithProjection],
    ) -> None:
        super().__init__()
        self.transformer = transformer
        self.text_encoder, self.text_encoder_2 = text_encoders

    def forward(self, latents: Tensor, t: Tensor, token_ids: Tensor) -> Tensor:
        """Velocity [B, C, h, w] at time t in 0..1 [B] for captions as token ids [B, L], as the stock pipeline asks."""
        outputs = [
            encoder(token_ids, output_hidden_states=True) for encoder in (self.text_encoder, self.text_encoder_2)
        ]
        return self.transformer(
            hidden_states=latents,
            encoder_hidden_states=torch.cat([output.hidden_states[-2] for output in outputs], dim=-1),
            pooled_projections=torch.cat([output.text_embeds for output in outputs], dim=-1),
            timestep=t * 1000,
            return_dict=False,
        )[0]
