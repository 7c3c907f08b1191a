"""Does a LoRA file fit a model?  Read from its header alone, before the model is touched.

The stock loaders take what matches and only warn about the rest, so a LoRA of another base can load in part
or not at all in silence; and a wrong shape leaves empty layers behind in the model.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Mapping
from pathlib import Path

from safetensors import SafetensorError, safe_open
from torch import nn

from tdm_core.errors import LoadError

METADATA_KEY = "lora_adapter_metadata"
"""Where diffusers keeps PEFT's configuration in a LoRA file."""

FETCH_AGAIN = "Fetch or export it again: it is half-downloaded."


def check_lora_file(file: Path, model: nn.Module, *, prefix: str) -> int:
    """The number of layers that the LoRA adapts; all of them exist in the model, and none of its targets is missing.

    Args:
        prefix: the pipeline's name of the model, with which each key starts.

    Raises:
        LoadError: if the file is missing, damaged, of another model, or incomplete; names the first keys.
    """
    shapes, metadata = _read_header(file)
    ranks: dict[str, dict[str, list[int]]] = {}
    unmatched = []
    for key, shape in shapes.items():
        match = re.fullmatch(rf"{prefix}\.(.+)\.lora_([AB])\.weight", key)
        if match and _fits(model, match[1], match[2], shape):
            ranks.setdefault(match[1], {})[match[2]] = shape
        else:
            unmatched.append(f"{key} {shape}")
    if unmatched or not ranks:
        raise LoadError(
            f"{file}: {len(unmatched)} of its {len(shapes)} weights do not fit this {prefix}: {_some(unmatched)}\n"
            "It was made for another base: name the LoRA of this one."
        )
    targets = _targets(metadata, model, prefix) | ranks.keys()
    missing = sorted(name for name in targets if ranks.get(name, {}).keys() != {"A", "B"})
    if missing:
        raise LoadError(
            f"{file}: weights for {len(missing)} of its {len(targets)} layers are missing: {_some(missing)}\n"
            "The file is incomplete: export or fetch it again."
        )
    return len(ranks)


def _read_header(file: Path) -> tuple[dict[str, list[int]], Mapping[str, str]]:
    if not file.is_file():
        raise LoadError(f"{file}: no such LoRA file.\nDistil one (python -m train.distill), or mend the preset's path.")
    try:
        with safe_open(file, framework="pt") as content:
            return {key: content.get_slice(key).get_shape() for key in content.keys()}, content.metadata() or {}
    except SafetensorError:
        raise LoadError(f"{file}: not a whole safetensors file.\n{FETCH_AGAIN}") from None


def _fits(model: nn.Module, name: str, side: str, shape: list[int]) -> bool:
    try:
        weight = getattr(model.get_submodule(name), "weight", None)
    except AttributeError:
        return False
    if weight is None:
        return False
    # A reads what the layer reads, B writes what it writes; the rank lies between.
    return shape[1:] == list(weight.shape[1:]) if side == "A" else shape[0] == weight.shape[0]


def _targets(metadata: Mapping[str, str], model: nn.Module, prefix: str) -> set[str]:
    config = json.loads(metadata.get(METADATA_KEY, "{}"))
    targets = config.get(f"{prefix}.target_modules") or ()
    layers = [name for name, module in model.named_modules() if getattr(module, "weight", None) is not None]
    if isinstance(targets, str):
        return {name for name in layers if re.fullmatch(targets, name)}
    return {name for name in layers for target in targets if name == target or name.endswith("." + target)}


def _some(names: Iterable[str]) -> str:
    first = list(names)
    return ", ".join(first[:2]) + (", ..." if len(first) > 2 else "") or "it is empty"
