"""A student's LoRA on a denoiser: put on beside the base's weights, or folded into a copy; and who speaks.

One way for every family, through PEFT: diffusers has no loader for PixArt, and the others' read their files leniently.
"""

from __future__ import annotations

import copy
import re
from collections import Counter
from collections.abc import Mapping
from typing import Any

import torch
from peft import LoraConfig, inject_adapter_in_model
from peft.tuners.tuners_utils import BaseTunerLayer
from torch import Tensor, nn

from tdm_core.backbones.lora_file import LoraLayer

STUDENT = "student"
"""The name of the student's adapter."""


def add_lora(model: nn.Module, layers: Mapping[str, LoraLayer], *, strength: float) -> None:
    """Put a LoRA on the model's layers, in the model's dtype, as the active adapter; the base's weights stay."""
    ranks = {name: layer.rank for name, layer in layers.items()}
    usual = Counter(ranks.values()).most_common(1)[0][0]
    config = LoraConfig(
        r=usual,
        lora_alpha=usual,  # scales are set below: each layer has its own
        target_modules=list(layers),
        rank_pattern={f"^{re.escape(name)}": rank for name, rank in ranks.items() if rank != usual},
        init_lora_weights=False,
    )
    names = {f"{name}.lora_A.weight": layer.a for name, layer in layers.items()}
    inject_adapter_in_model(config, model, adapter_name=STUDENT, state_dict=names)
    for name, layer in layers.items():
        module: Any = model.get_submodule(name)
        base = module.get_base_layer().weight
        for part, values in ((module.lora_A, layer.a), (module.lora_B, layer.b)):
            part[STUDENT].weight = nn.Parameter(values.to(base), requires_grad=False)
    scale_lora(model, layers, strength=strength)


def scale_lora(model: nn.Module, layers: Mapping[str, LoraLayer], *, strength: float) -> None:
    """Give a LoRA that is on the model's layers another strength."""
    for name, layer in layers.items():
        module: Any = model.get_submodule(name)
        module.scaling[STUDENT] = strength * layer.scale


@torch.no_grad()
def fold_lora(model: nn.Module, layers: Mapping[str, LoraLayer], *, strength: float) -> nn.Module:
    """A copy of the model with the LoRA in its weights: faster, at the price of a second model."""
    folded = copy.deepcopy(model)
    for name, layer in layers.items():
        weight: Any = folded.get_submodule(name).weight
        weight += (strength * layer.scale * change(layer).to(weight.device)).to(weight.dtype)
    return folded


def change(layer: LoraLayer) -> Tensor:
    """``B @ A`` in float32, in the shape of the layer's weight."""
    product = layer.b.float().flatten(1) @ layer.a.float().flatten(1)
    return product.reshape(len(layer.b), *layer.a.shape[1:])


def count_lora_layers(model: nn.Module, adapter: str = STUDENT) -> int:
    """How many layers carry the adapter."""
    return sum(adapter in layer.scaling for layer in _adapted(model))


def switch_role(model: nn.Module, *, student: bool) -> None:
    """Choose who speaks through a denoiser that carries the student's adapter; nothing to do where it was folded in."""
    for layer in _adapted(model):
        layer.enable_adapters(student)


def _adapted(model: nn.Module) -> list[BaseTunerLayer]:
    return [module for module in model.modules() if isinstance(module, BaseTunerLayer)]
