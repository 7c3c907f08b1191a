"""A student that starts where an earlier run's ended, as SDXL's second stage does; its critic starts afresh."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from torch import Tensor

from tdm_core.backbones.adapters import NetworkRole
from tdm_core.backbones.lora_file import read_lora
from tdm_core.backbones.stock_training import LORA_FILE, PEFT_FILE, StockTraining
from tdm_core.errors import ConfigError
from tdm_core.training.config import BaseConfig


def start_from(backbone: StockTraining, path: Path) -> None:
    """Give the student the LoRA that an earlier run exported, a folder or a file; call it before the trainer is made.

    Raises:
        ConfigError, LoadError: as `earlier_weights` does.
    """
    backbone.roles.load(NetworkRole.STUDENT, earlier_weights(backbone, path))


def keep_share(base: BaseConfig, backbone: StockTraining, average: Mapping[str, Tensor]) -> None:
    """Move a finished student's average back by ``base.student_kept`` of the way to the earlier one, in place.

    Call it once, after the last checkpoint, which holds what was trained.

    Raises:
        ConfigError, LoadError: as `earlier_weights` does.
    """
    if base.student is not None and base.student_kept:
        earlier = earlier_weights(backbone, base.student)
        for name, weight in average.items():
            weight.lerp_(earlier[name].to(weight), base.student_kept)


def earlier_weights(backbone: StockTraining, path: Path) -> dict[str, Tensor]:
    """The LoRA that an earlier run exported, by the names of the student's own weights.

    Raises:
        ConfigError: if there is no LoRA, or its rank, alpha or layers are not the recipe's.
        LoadError: if the file is damaged, or of another base.
    """
    found = [path] if path.is_file() else [path / name for name in (LORA_FILE, PEFT_FILE) if (path / name).is_file()]
    if not found:
        raise ConfigError(
            f"base.student: {path}: holds no {LORA_FILE}, nor {PEFT_FILE}.\n"
            "Train the earlier stage first, or name the folder that it was exported to."
        )
    layers = read_lora(found[0], backbone.network, prefix=backbone.family.DENOISER)
    mine = backbone.roles.config
    # Weights of another scale would be another student: refused, and not scaled in silence.
    for name, layer in layers.items():
        if (layer.rank, layer.scale) != (mine.r, mine.lora_alpha / mine.r):
            raise ConfigError(
                f"base.student: {found[0]}: {name} has rank {layer.rank} and alpha {layer.rank * layer.scale:g}, "
                f"and the recipe's are {mine.r} and {mine.lora_alpha:g}.\nSet lora.rank and lora.alpha to its own."
            )
    state = {
        f"{name}.lora_{side}.weight": getattr(layer, side.lower()) for name, layer in layers.items() for side in "AB"
    }
    odd = sorted(state.keys() ^ backbone.roles.parameters(NetworkRole.STUDENT).keys())
    if odd:
        raise ConfigError(
            f"base.student: {found[0]}: adapts {len(layers)} layers, and the recipe {backbone.roles.num_layers}; "
            f"not in both: {odd[0]}.\nSet lora.targets to its own."
        )
    return state
