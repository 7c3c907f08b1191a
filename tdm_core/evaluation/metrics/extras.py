"""Packages and weights that only some metrics need: asked for when used, and missed in one clear line."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from http.client import HTTPException
from importlib import import_module
from pathlib import Path
from pickle import UnpicklingError
from types import ModuleType
from typing import cast

from tdm_core.errors import ConfigError, LoadError

HUB_CACHE, TORCH_CACHE = "HF_HOME", "TORCH_HOME"
"""Which variables name the places where libraries keep what they have fetched."""


def need(package: str, metric: str, extra: str) -> ModuleType:
    """Import a metric's package, which our ``extra`` installs.

    Raises:
        ConfigError: if it is not installed, or was built for another torch; the message names metric and package.
    """
    try:
        return import_module(package)
    except (ImportError, RuntimeError) as error:  # a torchvision of another torch raises RuntimeError
        told = " ".join(str(error).split())[:160]
        beside = " and the torchvision of your torch" if extra == "eval" else ""
        raise ConfigError(
            f"--metrics {metric}: needs {package}{beside} ({told}).\n"
            f'Install it with: pip install -e ".[{extra}]"'  # nothing after it: the line's end is pasted into a shell
        ) from None


@contextmanager
def fetching(what: str, cache: str = HUB_CACHE) -> Iterator[None]:
    """Tell in one clear message whatever goes wrong while a library fetches weights and reads them.

    Raises:
        LoadError: with the cure; ``cache`` is the variable of the place where such weights are kept.
    """
    from huggingface_hub.errors import HfHubHTTPError
    from safetensors import SafetensorError

    client_error = cast(type[Exception], HfHubHTTPError.__bases__[0])  # of the Hub library's own HTTP client
    network: tuple[type[Exception], ...] = (OSError, ValueError, HTTPException, client_error)
    damage: tuple[type[Exception], ...] = (RuntimeError, EOFError, UnpicklingError, SafetensorError)
    try:
        yield
    except (*network, *damage) as error:
        raise LoadError(
            f"{what}: not here or damaged, and cannot be fetched: {_first_line(error)}\n"
            f"Call this once where there is a network, then set {cache} to the cache that it filled there."
        ) from None


def hub_file(repository: str, file: str, metric: str) -> Path:
    """A file of weights from the Hub, or from its cache.

    Raises:
        LoadError: if it is neither here nor within reach.
    """
    from huggingface_hub import hf_hub_download

    with fetching(f"{metric}: {file} of {repository}"):
        return Path(hf_hub_download(repository, file))


def device() -> str:
    """Where metrics run: the accelerator if there is one."""
    import torch

    return "cuda" if torch.cuda.is_available() else "cpu"


def _first_line(error: Exception) -> str:
    return (str(error).strip().splitlines() or [type(error).__name__])[0][:160]
