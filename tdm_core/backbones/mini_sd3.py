"""mini-sd3: a ``StableDiffusion3Pipeline`` without a T5, its two CLIP text encoders trained with it."""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from diffusers import AutoencoderDC, FlowMatchEulerDiscreteScheduler, SD3Transformer2DModel, StableDiffusion3Pipeline
from tokenizers import Tokenizer, models, pre_tokenizers, trainers
from torch import Tensor, nn
from transformers import CLIPTextConfig, CLIPTextModelWithProjection, CLIPTokenizer

from tdm_core.backbones.mini import TextShape, TransformerShape, build_autoencoder, encode, load_autoencoder
from tdm_core.diffusion.noise import NoiseProcess, flow_matching
from tdm_core.diffusion.prediction import PredictionType
from tdm_core.diffusion.trajectory import time_nodes

__all__ = ["build_autoencoder", "encode", "load_autoencoder"]

PREDICTION_TYPE = PredictionType.FLOW
PIPELINE = StableDiffusion3Pipeline
PARTS = ("transformer", "text_encoder", "text_encoder_2")


def process() -> NoiseProcess:
    return flow_matching()


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
        tokens, pooled = _told(self, token_ids)
        return self.transformer(
            hidden_states=latents,
            encoder_hidden_states=tokens,
            pooled_projections=pooled,
            timestep=t * 1000,
            return_dict=False,
        )[0]


def _told(encoders: Any, token_ids: Tensor) -> tuple[Tensor, Tensor]:
    """The penultimate layers' features [B, L, 2 D] and the projected end tokens [B, 2 D] of both encoders."""
    outputs = [
        encoder(token_ids, output_hidden_states=True) for encoder in (encoders.text_encoder, encoders.text_encoder_2)
    ]
    tokens = torch.cat([output.hidden_states[-2] for output in outputs], dim=-1)
    return tokens, torch.cat([output.text_embeds for output in outputs], dim=-1)


def text_features(encoders: nn.Module, token_ids: Tensor) -> tuple[Tensor, tuple[Tensor, ...]]:
    """The last token is always an end token, which sees the whole caption; so is the pooled one."""
    tokens, pooled = _told(encoders, token_ids)
    return tokens[:, :-1], (pooled, tokens[:, -1])


def build_network(
    transformer: TransformerShape, text: TextShape, latent_channels: int, tokenizer: CLIPTokenizer
) -> SD3Network:
    return SD3Network(
        build_transformer(transformer, text, latent_channels),
        (build_text_encoder(text, tokenizer), build_text_encoder(text, tokenizer)),
    )


def assemble(network: SD3Network, autoencoder: AutoencoderDC, tokenizer: CLIPTokenizer) -> StableDiffusion3Pipeline:
    """The stock pipeline, without a T5, on the flow-matching schedule with shift 1."""
    return StableDiffusion3Pipeline(
        transformer=network.transformer,
        scheduler=FlowMatchEulerDiscreteScheduler(shift=1.0),
        vae=autoencoder,
        text_encoder=network.text_encoder,
        tokenizer=tokenizer,
        text_encoder_2=network.text_encoder_2,
        tokenizer_2=tokenizer,
        text_encoder_3=None,
        tokenizer_3=None,
    )


def load(folder: Path) -> StableDiffusion3Pipeline:
    return StableDiffusion3Pipeline.from_pretrained(folder, text_encoder_3=None, tokenizer_3=None)


def draw(
    pipeline: StableDiffusion3Pipeline, prompts: Sequence[str], seeds: Sequence[int], *, steps: int, guidance: float
) -> np.ndarray:
    """On the uniform grid: the scheduler's own wastes its last step."""
    return pipeline(
        list(prompts),
        sigmas=time_nodes(steps)[:-1].tolist(),
        num_inference_steps=steps,
        guidance_scale=guidance,
        max_sequence_length=0,  # without a T5 these tokens would be zeros
        generator=[torch.Generator().manual_seed(seed) for seed in seeds],
        output_type="np",
    ).images
