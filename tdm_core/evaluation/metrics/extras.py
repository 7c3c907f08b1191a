"""Packages and weights that only some metrics need: asked for when used, and missed in one clear line."""

from __future__ import annotations

from importlib import import_module
from pathlib import Path
from types import ModuleType

from tdm_core.errors import ConfigError, LoadError


def need(package: str, metric: str, install: str) -> ModuleType:
    """Import a metric's package.

    Raises:
        ConfigError: if it is not installed, or was built for another torch; the message names metric and package.
    """
    try:
        return import_module(package)
    except (ImportError, RuntimeError) as error:  # a torchvision of another torch raises RuntimeError
        told = " ".join(str(error).split())[:160]
        raise ConfigError(
            f"--metrics {metric}: needs {package} ({told}).\nInstall it with: pip install {install}"
        ) from None


def hub_file(repository: str, file: str, metric: str) -> Path:
    """A file of weights from the Hub, or from its cache.

    Raises:
        LoadError: if it is neither here nor within reach.
    """
    from huggingface_hub import hf_hub_download

    try:
        return Path(hf_hub_download(repository, file))
    except (OSError, ValueError) as error:
        raise LoadError(
            f"{metric}: {file} of {repository} is not here and cannot be fetched: {_first_line(error)}\n"
            "Fetch it where there is a network and set HF_HOME to that cache."
        ) from None


def device() -> str:
    """Where metrics run: the accelerator if there is one."""
    import torch

    return "cuda" if torch.cuda.is_available() else "cpu"


def _first_line(error: Exception) -> str:
    return (str(error).strip().splitlines() or [type(error).__name__])[0][:160]
