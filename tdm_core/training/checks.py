"""What can be refused before weights are loaded: a device that is not there, a base of another family, an odd size."""

from __future__ import annotations

import json
from pathlib import Path
from types import SimpleNamespace
from typing import Any, get_type_hints

import torch
from torch import nn

from tdm_core.backbones.base import INDEX, Size, family
from tdm_core.backbones.shapes import VAE_SCALE
from tdm_core.backbones.stock_training import training_class
from tdm_core.errors import ConfigError, LoadError
from tdm_core.training.config import BaseConfig, RunConfig


def check_device(run: RunConfig) -> None:
    """Raises `ConfigError` if torch cannot use the recipe's device."""
    if run.device == "cuda" and not torch.cuda.is_available():
        raise ConfigError(
            f"run.device: cuda is not available to torch {torch.__version__}.\n"
            "Leave it at auto, or choose --set run.device=cpu."
        )


def check_base(base: BaseConfig, network: nn.Module) -> None:
    """Does the base belong to the recipe's family, and can it make samples of the recipe's size?

    Args:
        network: its denoiser, or the shape of it (`network_shape`).

    Raises:
        ConfigError: if not.
    """
    chosen = family(base.family)
    index, network_class = Path(base.path) / INDEX, get_type_hints(chosen.Pipeline.__init__)[chosen.DENOISER]
    # SD 1.5 and SDXL have networks of one class, and differ in what these are told.
    is_told_pooled = "text_embeds" in training_class(base.family).CONDITIONING.values()
    takes_pooled = getattr(network.config, "addition_embed_type", None) == "text_time"
    if index.is_file():
        found, wanted = str(_read(index).get("_class_name")), chosen.Pipeline.__name__
    else:
        found, wanted = type(network).__name__, network_class.__name__
    if found != wanted or not isinstance(network, network_class) or is_told_pooled != takes_pooled:
        raise ConfigError(
            f"base.family: {base.path} is no {base.family}: it has a {found} ({type(network).__name__}).\n"
            "Mend base.family or base.path."
        )
    if base.size:
        _check_size(base, chosen, network)


def _check_size(base: BaseConfig, chosen: Any, network: Any) -> None:
    if hasattr(network.config, "sample_frames") and len(base.size) != 3:
        raise ConfigError(
            f"base.size: {list(base.size)} has no frames, and {base.path} makes videos.\n"
            f"Write [width, height, frames]; it was made for {network.config.sample_frames} frames."
        )
    vae = Path(base.path) / "vae" / "config.json"
    config = _read(vae) if vae.is_file() else {}
    scale = 2 ** (len(config["block_out_channels"]) - 1) if "block_out_channels" in config else VAE_SCALE
    numbers = SimpleNamespace(  # all that a family asks a pipeline for
        **{chosen.DENOISER: network},
        patch_size=getattr(network.config, "patch_size", 1),
        vae_scale_factor=scale,
        vae_scale_factor_spatial=scale,
        vae_scale_factor_temporal=getattr(network.config, "temporal_compression_ratio", 1),
    )
    try:
        chosen.latent_shape(numbers, size_of(base))
    except (ConfigError, LoadError) as error:
        raise ConfigError(
            f"base.size: {str(error).splitlines()[0]}\nMend it, or leave it out for the base's own size."
        ) from None


def size_of(base: BaseConfig) -> Size:
    """The size that a recipe names."""
    return Size(**dict(zip(("width", "height", "frames"), base.size, strict=False)))


def _read(path: Path) -> dict[str, Any]:
    return dict(json.loads(path.read_text(encoding="utf-8")))
