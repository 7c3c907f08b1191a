"""What a LoRA file says about a model: layer by layer, in whichever of the released notations it is written.

The stock loaders take what matches and only warn about the rest, so a LoRA of another base can load in part or not at
all in silence.  Here every weight finds its layer, or the file is refused before the model is touched.

============= ============================================= =================================================
notation      key                                           alpha
============= ============================================= =================================================
diffusers     transformer.<layer>.lora_A.weight             in the metadata, if this or another trainer put it there
diffusers old unet.<layer>.lora.down.weight, ...to_q_lora.  none
PEFT folder   base_model.model.<layer>.lora_A.weight        in adapter_config.json beside the file
kohya         lora_unet_<layer>.lora_down.weight            <layer>.alpha in the file; SGM's layer names too
tensor list   none: tensors in the order of the layers      given by the preset
============= ============================================= =================================================

Where no alpha is found it is the rank, so that the layer's scale is 1: the convention of diffusers and PEFT.
"""

from __future__ import annotations

import json
import pickle
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from zipfile import BadZipFile

import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor, nn

from tdm_core.errors import ConfigError, LoadError

METADATA_KEY = "lora_adapter_metadata"
"""Where diffusers keeps PEFT's configuration in a LoRA file."""

ADAPTER_CONFIG = "adapter_config.json"
"""Where PEFT keeps it, beside the file."""

FETCH_AGAIN = "Fetch or export it again: it is half-downloaded."


@dataclass(frozen=True)
class LoraLayer:
    """The change of one layer: ``scale * B @ A``."""

    a: Tensor
    """[rank, in], or [rank, in, k, k] of a convolution."""
    b: Tensor
    """[out, rank], or [out, rank, 1, 1]."""
    alpha: float | None

    @property
    def rank(self) -> int:
        return len(self.a)

    @property
    def scale(self) -> float:
        return 1.0 if self.alpha is None else self.alpha / self.rank


@dataclass(frozen=True, kw_only=True)
class TensorList:
    """What a file does not say that holds nothing but a list of tensors."""

    rank: int
    alpha: float
    targets: tuple[str, ...]
    """Suffixes of layer names, as in PEFT's ``target_modules``."""


def read_lora(
    file: Path, model: nn.Module, *, prefix: str, tensor_list: TensorList | None = None
) -> dict[str, LoraLayer]:
    """The layers that a LoRA adapts, by name; all exist in the model, and none of its targets is missing.

    Args:
        prefix: the pipeline's name of the model.

    Raises:
        LoadError: if the file is missing, damaged or incomplete; names the first keys.
        ConfigError: if it is of another model; names the first keys.
    """
    tensors, metadata = _read(file)
    if isinstance(tensors, list):
        if tensor_list is None:
            raise ConfigError(
                f"{file}: holds a list of {len(tensors)} tensors without names.\n"
                "Say what they are in the preset: [student.tensor_list] with rank, alpha and targets."
            )
        return _from_list(file, tensors, model, tensor_list)
    if (settings := file.with_name(ADAPTER_CONFIG)).is_file() and METADATA_KEY not in metadata:
        adapter = json.loads(settings.read_text(encoding="utf-8"))
    else:
        table = json.loads(metadata.get(METADATA_KEY, "{}"))
        adapter = {key.removeprefix(f"{prefix}."): value for key, value in table.items() if key.startswith(prefix)}
    return _by_layer(file, tensors, model, prefix, adapter)


def _by_layer(
    file: Path, tensors: Mapping[str, Tensor], model: nn.Module, prefix: str, adapter: Mapping[str, Any]
) -> dict[str, LoraLayer]:
    names = _Names(model, prefix)
    found: dict[str, dict[str, Tensor]] = {}
    unmatched = []
    for key, tensor in tensors.items():
        place = names.find(key)
        if place and _fits(model, *place, tensor):
            found.setdefault(place[0], {})[place[1]] = tensor
        else:
            unmatched.append(f"{key} {list(tensor.shape)}")
    if unmatched or not found:
        raise ConfigError(
            f"{file}: {len(unmatched)} of its {len(tensors)} weights do not fit this {prefix}: {_some(unmatched)}\n"
            "It was made for another base: name the LoRA of this one."
        )
    targets = _targets(adapter.get("target_modules"), model) | found.keys()
    missing = sorted(name for name in targets if not {"A", "B"} <= found.get(name, {}).keys())
    if missing:
        raise LoadError(
            f"{file}: weights for {len(missing)} of its {len(targets)} layers are missing: {_some(missing)}\n"
            "The file is incomplete: export or fetch it again."
        )
    return {name: LoraLayer(parts["A"], parts["B"], _alpha(name, parts, adapter)) for name, parts in found.items()}


def _alpha(name: str, parts: Mapping[str, Tensor], adapter: Mapping[str, Any]) -> float | None:
    if "alpha" in parts:
        return float(parts["alpha"])
    for pattern, alpha in (adapter.get("alpha_pattern") or {}).items():
        if re.fullmatch(rf"(.*\.)?({pattern})", name):
            return float(alpha)
    return float(adapter["lora_alpha"]) if "lora_alpha" in adapter else None


class _Names:
    """Finds the layer and the side (A, B, alpha) that a key means."""

    def __init__(self, model: nn.Module, prefix: str) -> None:
        self._prefix = prefix
        self._layers = [name for name, module in model.named_modules() if getattr(module, "weight", None) is not None]
        self._by_underscores = {name.replace(".", "_"): name for name in self._layers}
        per_block = getattr(getattr(model, "config", None), "layers_per_block", None)
        self._layers_per_block = per_block if isinstance(per_block, int) else 2

    def find(self, key: str) -> tuple[str, str] | None:
        if match := re.fullmatch(rf"(?:{self._prefix}|base_model\.model)\.(.+)\.lora_([AB])\.weight", key):
            return match[1], match[2]
        sides = {"down": "A", "up": "B"}
        if match := re.fullmatch(rf"{self._prefix}\.(.+)\.lora\.(down|up)\.weight", key):
            return match[1], sides[match[2]]
        if match := re.fullmatch(rf"{self._prefix}\.(.+)\.processor\.(to_\w+)_lora\.(down|up)\.weight", key):
            return f"{match[1]}.{match[2]}" + (".0" if match[2] == "to_out" else ""), sides[match[3]]
        if match := re.fullmatch(rf"lora_{self._prefix}_(.+?)\.(?:lora_(down|up)\.weight|alpha)", key):
            name = self._by_underscores.get(match[1]) or self._by_underscores.get(self._from_sgm(match[1]))
            return (name, sides.get(match[2], "alpha")) if name else None
        return None

    def _from_sgm(self, name: str) -> str:
        """diffusers' name of a UNet layer that is named as in Stability's own code, with underscores."""
        for pattern, place in SGM_LAYERS.items():
            name = re.sub(pattern, place, name)
        per_block = self._layers_per_block + 1
        if match := re.fullmatch(r"(input|output)_blocks_(\d+)_(\d)_(.+)", name):
            side, block, part, rest = match[1], int(match[2]), int(match[3]), match[4]
            at = block - 1 if side == "input" else block
            direction = "down" if side == "input" else "up"
            if side == "input" and rest == "op":
                return f"down_blocks_{at // per_block}_downsamplers_0_conv"
            if rest == "conv":
                return f"up_blocks_{at // per_block}_upsamplers_0_conv"
            kind = ("resnets", "attentions")[part]
            return f"{direction}_blocks_{at // per_block}_{kind}_{at % per_block}_{rest}"
        if match := re.fullmatch(r"middle_block_([012])_(.+)", name):
            return f"mid_block_{('resnets_0', 'attentions_0', 'resnets_1')[int(match[1])]}_{match[2]}"
        return name


SGM_LAYERS = {
    r"_in_layers_2$": "_conv1",
    r"_out_layers_3$": "_conv2",
    r"_emb_layers_1$": "_time_emb_proj",
    r"_skip_connection$": "_conv_shortcut",
    r"^time_embed_0$": "time_embedding_linear_1",
    r"^time_embed_2$": "time_embedding_linear_2",
    r"^label_emb_0_0$": "add_embedding_linear_1",
    r"^label_emb_0_2$": "add_embedding_linear_2",
    r"^input_blocks_0_0$": "conv_in",
    r"^out_2$": "conv_out",
}


def _from_list(file: Path, tensors: Sequence[Tensor], model: nn.Module, about: TensorList) -> dict[str, LoraLayer]:
    # PEFT registers A before B, and layers lie in the order of the model's own modules.
    targets = _targets(about.targets, model)
    names = [name for name, _ in model.named_modules() if name in targets]
    if len(tensors) != 2 * len(names):
        raise ConfigError(
            f"{file}: holds {len(tensors)} tensors, but {len(names)} layers of this base need {2 * len(names)}.\n"
            "It was made for another base: name the LoRA of this one, or mend [student.tensor_list] in the preset."
        )
    layers = {}
    for name, a, b in zip(names, tensors[::2], tensors[1::2], strict=True):
        if len(a) != about.rank or not (_fits(model, name, "A", a) and _fits(model, name, "B", b)):
            raise ConfigError(
                f"{file}: tensors {list(a.shape)} and {list(b.shape)} do not fit {name} at rank {about.rank}.\n"
                "It was made for another base: name the LoRA of this one, or mend [student.tensor_list] in the preset."
            )
        layers[name] = LoraLayer(a, b, about.alpha)
    return layers


def _read(file: Path) -> tuple[dict[str, Tensor] | list[Tensor], Mapping[str, str]]:
    if not file.is_file():
        raise LoadError(f"{file}: no such LoRA file.\nDistil one (python -m train.distill), or mend the preset's path.")
    with file.open("rb") as content:
        start = content.read(2)
    if start == b"PK" or start[:1] == b"\x80":  # some files called .safetensors are pickles
        return _read_pickle(file), {}
    if file.suffix != ".safetensors":
        raise LoadError(f"{file}: neither a safetensors file nor a whole PyTorch file.\n{FETCH_AGAIN}")
    try:
        with safe_open(file, framework="pt") as content:
            return {key: content.get_tensor(key) for key in content.keys()}, content.metadata() or {}
    except SafetensorError:
        raise LoadError(f"{file}: not a whole safetensors file.\n{FETCH_AGAIN}") from None


def _read_pickle(file: Path) -> dict[str, Tensor] | list[Tensor]:
    """Weights alone: a pickle that asks for anything else is refused, unopened."""
    try:
        with file.open("rb") as opened:  # by its name, torch would take some for safetensors
            content = torch.load(opened, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError:
        raise LoadError(
            f"{file}: holds more than weights; such a file can run any program.\nIt was not opened: do not trust it."
        ) from None
    except (RuntimeError, EOFError, BadZipFile, ValueError):
        raise LoadError(f"{file}: not a whole PyTorch file.\n{FETCH_AGAIN}") from None
    for key in ("ema_parameters", "state_dict"):
        content = content[key] if isinstance(content, dict) and key in content else content
    if isinstance(content, dict) and all(isinstance(value, Tensor) for value in content.values()):
        return dict(content)
    if isinstance(content, (list, tuple)) and all(isinstance(value, Tensor) for value in content):
        return list(content)
    raise LoadError(f"{file}: neither named weights nor a list of them.\nIt is no LoRA file: mend the preset's path.")


def _fits(model: nn.Module, name: str, side: str, tensor: Tensor) -> bool:
    if side == "alpha":
        return tensor.numel() == 1
    try:
        weight = getattr(model.get_submodule(name), "weight", None)
    except AttributeError:
        return False
    if weight is None or tensor.ndim != weight.ndim:
        return False
    # A reads what the layer reads, B writes what it writes; the rank lies between.
    return tensor.shape[1:] == weight.shape[1:] if side == "A" else tensor.shape[0] == weight.shape[0]


def _targets(targets: str | Iterable[str] | None, model: nn.Module) -> set[str]:
    layers: Iterator[str] = (
        name for name, module in model.named_modules() if getattr(module, "weight", None) is not None
    )
    if isinstance(targets, str):
        return {name for name in layers if re.fullmatch(targets, name)}
    suffixes = tuple("." + target for target in targets or ())
    return {name for name in layers if ("." + name).endswith(suffixes)} if suffixes else set()


def _some(names: Iterable[str]) -> str:
    first = list(names)
    return ", ".join(first[:2]) + (", ..." if len(first) > 2 else "") or "it is empty"
