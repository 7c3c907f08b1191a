"""A stock pipeline as the trainer sees it: what all families share.  ``<family>_training.py`` says what is its own.

Text, latent shape and decoding are those of sampling (``<family>.py``), so training and sampling cannot differ in them.
The process is read from the base's own scheduler; its grid and time shift play no part, since the student's nodes are
times as they are.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from importlib import import_module
from pathlib import Path
from typing import Any, ClassVar, cast

import numpy as np
import torch
from safetensors import safe_open
from safetensors.torch import load_file, save_file
from torch import Tensor

from tdm_core.backbones.adapters import LoraRoles, NetworkRole
from tdm_core.backbones.base import Family, Size
from tdm_core.backbones.lora_file import ADAPTER_CONFIG
from tdm_core.backbones.trainable import Conditioning
from tdm_core.diffusion.noise import NoiseProcess, variance_preserving
from tdm_core.diffusion.prediction import PredictionType

LORA_FILE = "pytorch_lora_weights.safetensors"
"""The name that stock ``load_lora_weights(folder)`` looks for."""

PEFT_FILE = "adapter_model.safetensors"
"""The name that stock ``PeftModel.from_pretrained(model, folder)`` looks for."""


class StockTraining:
    """Keeps the promise of ``TrainableBackbone`` around a stock pipeline."""

    family: Family
    prediction_type: PredictionType
    TARGETS: ClassVar[tuple[str, ...]]
    """Suffixes of the layers that a student's LoRA usually adapts: attention."""
    T5_PARTS: ClassVar[tuple[str, ...]] = ()
    """Parts that the family can do without."""
    CONDITIONING: ClassVar[Mapping[str, str]] = {"prompt_embeds": "encoder_hidden_states"}
    """The pipeline's names of what it says about a prompt -> the network's."""

    def __init__(
        self,
        pipeline: Any,
        *,
        rank: int,
        alpha: float,
        targets: Sequence[str],
        seed: int,
        max_sequence_length: int,
        size: Size | None = None,
    ) -> None:
        """
        Args:
            max_sequence_length: of T5's part of the text; sample with the same number.
            size: of the samples that are trained on; unset: the one that the base was made for.
        """
        self.pipeline = pipeline
        self.process = self.process_of(pipeline.scheduler)
        self.network = getattr(pipeline, self.family.DENOISER)
        self.network.eval()  # no dropout; LoRA weights train all the same
        self.roles = LoraRoles(self.network, rank=rank, alpha=alpha, targets=targets, seed=seed)
        self.size = size or self.own_size()
        self.latent_shape = self.family.latent_shape(pipeline, self.size)
        self.size_px = self.size.height
        self.max_sequence_length = max_sequence_length

    @staticmethod
    def process_of(scheduler: Any) -> NoiseProcess:
        """The process that the base was trained on, from the table of its scheduler."""
        return variance_preserving(scheduler.alphas_cumprod)

    def own_size(self) -> Size:
        """The size that the base was made for."""
        side = self.network.config.sample_size * self.pipeline.vae_scale_factor
        return Size(width=side, height=side)

    @property
    def device(self) -> torch.device:
        return self.network.device

    def encode(self, prompts: Sequence[str]) -> Conditioning:
        """As the stock pipeline encodes them; the empty prompt as what it guides away from."""
        text = self.family.encode(self.pipeline, prompts, max_sequence_length=self.max_sequence_length, negative=True)
        return Conditioning({self.CONDITIONING[name]: tensor for name, tensor in text.items()})

    def network_output(self, role: NetworkRole, latents: Tensor, t: Tensor, conditioning: Conditioning) -> Tensor:
        timestep = self.process.model_time(t).to(device=self.device, dtype=torch.float32)
        with self.roles.active(role):
            return self.call_network(latents.to(self.network.dtype), timestep, conditioning.tensors).float()

    def call_network(self, latents: Tensor, timestep: Tensor, told: Mapping[str, Tensor]) -> Tensor:
        """The network's output [B, ...], without what sampling drops of it."""
        output: Tensor = self.network(latents, timestep=timestep, **told, return_dict=False)[0]
        return output

    def decode(self, latents: Tensor) -> np.ndarray:
        return self.family.decode(self.pipeline, latents)

    def save_lora(self, folder: Path, state: Mapping[str, Tensor], metadata: Mapping[str, str]) -> Path:
        """Write through the stock writer, which keeps alpha (without it strength 1.0 would mean alpha / rank)."""
        layers = {f"{self.family.DENOISER}_lora_layers": dict(state)}
        adapter = {f"{self.family.DENOISER}_lora_adapter_metadata": plain(self.roles.config.to_dict())}
        self.pipeline.save_lora_weights(folder, weight_name=LORA_FILE, **layers, **adapter)
        path = folder / LORA_FILE
        _add_metadata(path, metadata)
        return path

    def card_example(self, base: str, lora: str, about: Mapping[str, Any]) -> str:
        """First-order DPM-Solver++ is DDIM, and takes timesteps of one's own."""
        steps = about["trained_steps"][0]
        timesteps = [round(time * 1000) - 1 for time in about["sigmas"][str(steps)]]
        name = self.family.Pipeline.__name__
        return f"""import torch
from diffusers import DPMSolverMultistepScheduler, {name}

pipe = {name}.from_pretrained("{base}")
pipe.scheduler = DPMSolverMultistepScheduler.from_config(pipe.scheduler.config, solver_order=1)
{self.card_loading(lora)}
picture = pipe(
    "a cat left of a dog",
    timesteps={timesteps},
    guidance_scale=1.0,{self.card_arguments()}
    generator=torch.Generator().manual_seed(0),
).images[0]"""

    def card_loading(self, lora: str) -> str:
        """How stock code puts the LoRA on ``pipe``."""
        return f'pipe.load_lora_weights("{lora}")  # strength 1.0'

    def card_arguments(self) -> str:
        """Further arguments of the pipeline's call, a line each."""
        return ""


def training_class(name: str) -> type[StockTraining]:
    """The training side of the family of that name (``sd3``)."""
    return cast(type[StockTraining], import_module(f"tdm_core.backbones.{name}_training").Training)


def save_peft_folder(
    folder: Path, config: Mapping[str, Any], state: Mapping[str, Tensor], metadata: Mapping[str, str]
) -> Path:
    """A LoRA as PEFT's ``save_pretrained`` writes it, with metadata of ours in the file; returns the file."""
    folder.mkdir(parents=True, exist_ok=True)
    named = {f"base_model.model.{name}": tensor.contiguous() for name, tensor in state.items()}
    save_file(named, folder / PEFT_FILE, metadata={"format": "pt", **metadata})
    text = json.dumps(plain(dict(config)), indent=2, sort_keys=True)
    (folder / ADAPTER_CONFIG).write_text(text + "\n", encoding="utf-8")
    return folder / PEFT_FILE


def plain(lora_config: dict[str, object]) -> dict[str, object]:
    """PEFT's configuration with sets as sorted lists: JSON has no sets, and an order of hashes would change."""
    return {key: sorted(value) if isinstance(value, set) else value for key, value in lora_config.items()}


def _add_metadata(path: Path, metadata: Mapping[str, str]) -> None:
    # The stock writer takes no further metadata, so its file is written once more with ours beside its own.
    with safe_open(path, framework="pt") as file:
        stock = file.metadata()
    save_file(load_file(path), path, metadata={**stock, **metadata})
