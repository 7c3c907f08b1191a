"""What a network looks like without its weights, and what goes through it: for plans that need no network and no disk.

Configurations of published networks ship in ``assets/shapes``; their sizes are those of the published files.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import diffusers
import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.overrides import TorchFunctionMode

from tdm_core.errors import LoadError

SHAPES = Path(__file__).parents[2] / "assets" / "shapes"
DENOISERS = ("transformer", "unet")

VAE_SCALE = 8
CLIP_TOKENS, T5_TOKENS, PIXART_TOKENS = 77, 256, 120
"""Of published pipelines, by default."""


def network_shape(base: str, dtype: torch.dtype = torch.float32) -> nn.Module:
    """The base's denoiser on the meta device, from its folder or, for a Hub id, from the shapes that ship with us.

    Raises:
        LoadError: if neither knows it.
    """
    for name in DENOISERS:
        path = Path(base) / name / "config.json"
        if path.is_file():
            return _build(json.loads(path.read_text(encoding="utf-8")), dtype)
    for path in sorted(SHAPES.glob("*.json")):
        shape = json.loads(path.read_text(encoding="utf-8"))
        if base in shape["bases"]:
            return _build(shape["config"], dtype)
    raise LoadError(
        f"{base}: has no transformer or unet on this machine and no shape in assets/shapes.\n"
        "Name a folder in diffusers' layout, or add the network's config.json there."
    )


def _build(config: dict[str, Any], dtype: torch.dtype) -> nn.Module:
    network_class = getattr(diffusers, config["_class_name"])
    with torch.device("meta"):
        network: nn.Module = network_class.from_config(config)
    for parameter in network.parameters():  # `to` would say that some modules are kept in float32
        parameter.data = parameter.data.to(dtype)
    return network.eval()


def example_inputs(network: Any, rows: int = 1, size: Sequence[int] = ()) -> dict[str, Any]:
    """Arguments of one call on the meta device, of the sizes that the published pipeline passes by default.

    Args:
        size: width and height in pixels, and frames, of the samples; empty: those that the network was made for.

    Raises:
        LoadError: for a class of networks that is not trained here.
    """
    config, name = network.config, type(network).__name__
    if name not in _INPUTS:
        raise LoadError(f"{name}: is no network of a family that can be trained.")
    shapes = {"timestep": (), **_INPUTS[name](config, size)}

    def empty(shape: Any) -> Any:
        if shape is None:
            return None
        if isinstance(shape, Mapping):
            return {key: empty(value) for key, value in shape.items()}
        return torch.empty(rows, *shape, device="meta", dtype=network.dtype)

    return {key: empty(shape) for key, shape in shapes.items()} | {"return_dict": False}


def _sd3(config: Any, size: Sequence[int]) -> dict[str, Any]:
    return {
        "hidden_states": (config.in_channels, *_latent(config, size)),
        "encoder_hidden_states": (CLIP_TOKENS + T5_TOKENS, config.joint_attention_dim),
        "pooled_projections": (config.pooled_projection_dim,),
    }


def _pixart(config: Any, size: Sequence[int]) -> dict[str, Any]:
    told = config.use_additional_conditions
    told = config.sample_size == 128 if told is None else told  # as the network itself decides
    micro = {"resolution": (2,), "aspect_ratio": (1,)} if told else {}
    return {
        "hidden_states": (config.in_channels, *_latent(config, size)),
        "encoder_hidden_states": (PIXART_TOKENS, config.caption_channels),
        "added_cond_kwargs": {"resolution": None, "aspect_ratio": None} | micro,
    }


def _unet(config: Any, size: Sequence[int]) -> dict[str, Any]:
    pooled = config.projection_class_embeddings_input_dim
    added = {}
    if config.addition_embed_type == "text_time":
        text_dim = pooled - 6 * config.addition_time_embed_dim
        added = {"added_cond_kwargs": {"text_embeds": (text_dim,), "time_ids": (6,)}}
    return {
        "sample": (config.in_channels, *_latent(config, size)),
        "encoder_hidden_states": (CLIP_TOKENS, config.cross_attention_dim),
        **added,
    }


def _cogvideox(config: Any, size: Sequence[int]) -> dict[str, Any]:
    frames, area = config.sample_frames, (config.sample_height, config.sample_width)
    if size:
        width, height, frames = size
        area = (height // VAE_SCALE, width // VAE_SCALE)
    latent_frames = (frames - 1) // config.temporal_compression_ratio + 1
    return {
        "hidden_states": (latent_frames, config.in_channels, *area),
        "encoder_hidden_states": (config.max_text_seq_length, config.text_embed_dim),
    }


def _latent(config: Any, size: Sequence[int]) -> tuple[int, int]:
    """Height and width of a picture's latents."""
    return (size[1] // VAE_SCALE, size[0] // VAE_SCALE) if size else (config.sample_size, config.sample_size)


_INPUTS = {
    "SD3Transformer2DModel": _sd3,
    "PixArtTransformer2DModel": _pixart,
    "UNet2DConditionModel": _unet,
    "CogVideoXTransformer3DModel": _cogvideox,
}


@dataclass(frozen=True, kw_only=True)
class Saved:
    """Bytes that one call keeps for its backward, besides the weights."""

    total: int
    largest_block: int
    """Of the network's blocks, each of which is computed again at a time under gradient checkpointing."""


def saved_for_backward(network: nn.Module, inputs: Mapping[str, Any]) -> Saved:
    """Counted in one call on the meta device, with attention as fused kernels keep it (no matrix of weights)."""
    own = {_storage(weight) for weight in network.parameters()}
    seen: set[int] = set()
    in_block: Counter[nn.Module | None] = Counter()
    current: list[nn.Module | None] = [None]

    def note(tensor: Tensor) -> Tensor:
        key = _storage(tensor)
        if key not in own | seen:
            seen.add(key)
            kept.append(tensor)  # alive, so that no later storage gets the same key
            in_block[current[0]] += tensor.untyped_storage().nbytes()
        return tensor

    def enter(block: nn.Module, *_: Any) -> None:
        current[0] = block

    def leave(*_: Any) -> None:
        current[0] = None

    kept: list[Tensor] = []
    blocks = [block for each in network.children() if isinstance(each, nn.ModuleList) for block in each]
    handles = [block.register_forward_pre_hook(enter) for block in blocks]
    handles += [block.register_forward_hook(leave) for block in blocks]
    try:
        with torch.autograd.graph.saved_tensors_hooks(note, lambda tensor: tensor), _FusedAttentionMode():
            network(**inputs)
    finally:
        for handle in handles:
            handle.remove()
    outside = in_block.pop(None, 0)
    return Saved(total=outside + in_block.total(), largest_block=max(in_block.values(), default=0))


class _FusedAttention(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, query: Tensor, key: Tensor, value: Tensor) -> Tensor:
        out = torch.empty_like(query)
        ctx.save_for_backward(query, key, value, out)
        return out


class _FusedAttentionMode(TorchFunctionMode):
    """On the meta device attention would be computed, and kept, as plain matrix products."""

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if func is functional.scaled_dot_product_attention:
            return _FusedAttention.apply(*args[:3])
        return func(*args, **(kwargs or {}))


def _storage(tensor: Tensor) -> int:
    return tensor.untyped_storage()._cdata
