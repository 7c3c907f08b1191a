"""A base without its weights: enough to ask which sizes it makes, how it samples and which LoRA fits, in a second."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import diffusers
import torch

from tdm_core.backbones.base import INDEX, LOAD_ERRORS, Family, check_class
from tdm_core.errors import LoadError

SENSELESS: tuple[type[Exception], ...] = (*LOAD_ERRORS, AttributeError, KeyError)
"""What a file of another version, or one that somebody has changed, can lead to."""


def hollow_pipeline(family: Family, base: Path, *, vae: Path | None = None) -> Any:
    """The stock pipeline with scheduler, denoiser and autoencoder as their JSON files have them, on no device.

    Args:
        vae: a folder with another autoencoder.

    Raises:
        LoadError: if one of the files is missing or makes no sense.
        ConfigError: if the base is of another family.
    """
    parts: dict[str, Any] = dict.fromkeys(family.Pipeline._get_signature_keys(family.Pipeline)[0])
    try:
        check_class(family.Pipeline, base)
        _, scheduler = json.loads((base / INDEX).read_text(encoding="utf-8"))["scheduler"]
        parts["scheduler"] = getattr(diffusers, scheduler).from_pretrained(base / "scheduler")
        with torch.device("meta"):
            parts[family.DENOISER] = _network(base / family.DENOISER)
            parts["vae"] = _network(vae or base / "vae")
        return family.Pipeline(**parts)
    except SENSELESS as error:
        reason = " ".join(str(error).split())[:200]
        raise LoadError(
            f"{base}: cannot be read as a pipeline: {reason}\nCheck the folder, or fetch it again."
        ) from error


def _network(folder: Path) -> Any:
    config = json.loads((folder / "config.json").read_text(encoding="utf-8"))
    return getattr(diffusers, config["_class_name"]).from_config(config)
