"""What all minis share: their shapes, the pictures' autoencoder, and what a family's own file offers.

A mini is the real architecture at a tiny size, and always a stock pipeline that plain diffusers loads again.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import Any, Protocol

from diffusers import AutoencoderDC, DiffusionPipeline
from torch import Tensor, nn

from tdm_core.diffusion.noise import NoiseProcess
from tdm_core.diffusion.prediction import PredictionType


@dataclass(frozen=True, kw_only=True)
class AutoencoderShape:
    """Channels and blocks of each level, from the pictures' size down; a level fewer than there are halves the size.

    The default is an ``AutoencoderDC``, whose first level has no blocks: pictures enter and leave at half size. Chosen
    by the clock: on two CPU cores ``AutoencoderTiny`` and ``AutoencoderKL``, which convolve at full size, learn
    several times slower (docs/log.md).
    """

    latent_channels: int = 8
    encoder_channels: tuple[int, ...] = (16, 16, 32, 128)
    decoder_channels: tuple[int, ...] = (16, 16, 32, 128)
    encoder_layers: tuple[int, ...] = (0, 1, 1, 1)
    decoder_layers: tuple[int, ...] = (0, 1, 2, 2)


@dataclass(frozen=True, kw_only=True)
class TextShape:
    """Every text encoder; SD3 joins the features of its two to ``2 * width``."""

    width: int = 64
    layers: int = 3
    heads: int = 4
    max_tokens: int = 14


@dataclass(frozen=True, kw_only=True)
class TransformerShape:
    """``latent_size`` is the side of the latents, ``latent_frames`` their number in a clip."""

    heads: int = 6
    head_width: int = 32
    layers: int = 6
    patch_size: int = 4
    latent_size: int = 12
    latent_frames: int = 1


class MiniNetwork(Protocol):
    """Text encoders and transformer as one network, for training them together."""

    def __call__(self, latents: Tensor, t: Tensor, token_ids: Tensor) -> Tensor:
        """Prediction like the latents at times t in 0..1 [B] for captions as token ids [B, L], as the pipeline asks."""
        ...


class MiniFamily(Protocol):
    """What each ``mini_<family>.py`` offers."""

    PREDICTION_TYPE: PredictionType
    PIPELINE: type[DiffusionPipeline]
    PARTS: tuple[str, ...]
    """The trained modules: attributes of the network and of the pipeline alike."""

    def process(self) -> NoiseProcess: ...

    def build_autoencoder(self, shape: AutoencoderShape) -> Any:
        """Untrained."""
        ...

    def load_autoencoder(self, folder: Path) -> Any: ...

    def encode(self, autoencoder: Any, pictures: Tensor) -> Tensor:
        """Pictures [B, 3, H, W] or clips [B, 3, F, H, W] in [-1, 1] to latents as the network takes them."""
        ...

    def build_tokenizer(self, vocabulary: Iterable[str], max_tokens: int) -> Any: ...

    def build_network(
        self, transformer: TransformerShape, text: TextShape, latent_channels: int, tokenizer: Any
    ) -> nn.Module:
        """Untrained; its output starts at zero."""
        ...

    def text_features(self, encoders: nn.Module, token_ids: Tensor) -> tuple[Tensor, tuple[Tensor, ...]]:
        """What the transformer is told of captions [B, L]: token features [B, L', D], and summaries [B, D].

        ``encoders`` holds the network's text encoders under their names.
        """
        ...

    def assemble(self, network: nn.Module, autoencoder: Any, tokenizer: Any) -> DiffusionPipeline: ...

    def load(self, folder: Path) -> DiffusionPipeline: ...

    def draw(
        self, pipeline: DiffusionPipeline, prompts: Sequence[str], seeds: Sequence[int], *, steps: int, guidance: float
    ) -> Any:
        """The teacher's pictures, float [N, H, W, 3] in 0..1, or clips, [N, F, H, W, 3]."""
        ...


def family(name: str) -> MiniFamily:
    """The family's own file; ``name`` as in the configuration."""
    return import_module(f"tdm_core.backbones.mini_{name}")


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


def load_autoencoder(folder: Path) -> AutoencoderDC:
    return AutoencoderDC.from_pretrained(folder)


def encode(autoencoder: AutoencoderDC, pictures: Tensor) -> Tensor:
    return autoencoder.encode(pictures).latent
