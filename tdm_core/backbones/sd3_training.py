"""Stable Diffusion 3 for training: one frozen transformer with three roles, cached text, a stock LoRA file.

The scheduler's ``shift`` plays no part here: the student's nodes are sigmas as they are.  A base whose scheduler shifts
must be sampled with ``shift=1`` on them (``FlowMatchEulerDiscreteScheduler`` shifts given sigmas *again*).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import torch
from diffusers import SD3Transformer2DModel, StableDiffusion3Pipeline
from safetensors import safe_open
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from tdm_core.backbones import sd3
from tdm_core.backbones.adapters import LoraRoles, NetworkRole
from tdm_core.backbones.trainable import Conditioning
from tdm_core.diffusion.noise import flow_matching
from tdm_core.diffusion.prediction import PredictionType
from tdm_core.errors import LoadError

LORA_FILE = "pytorch_lora_weights.safetensors"
"""The name that stock ``load_lora_weights(folder)`` looks for."""


T5_PARTS = ("text_encoder_3", "tokenizer_3")


class SD3Training:
    """Keeps the promise of ``TrainableBackbone`` for SD3 and SD3.5, around a stock pipeline."""

    def __init__(
        self,
        pipeline: StableDiffusion3Pipeline,
        *,
        rank: int,
        alpha: float,
        targets: Sequence[str],
        seed: int,
        max_sequence_length: int,
    ) -> None:
        self.pipeline = pipeline
        self.process = flow_matching(pipeline.scheduler.config.num_train_timesteps)
        self.prediction_type = PredictionType.FLOW
        self.network = pipeline.transformer
        self.network.eval()  # no dropout; LoRA weights train all the same
        self.roles = LoraRoles(self.network, rank=rank, alpha=alpha, targets=targets, seed=seed)
        side = self.network.config.sample_size
        self.latent_shape: tuple[int, ...] = (self.network.config.in_channels, side, side)
        self.size_px = side * pipeline.vae_scale_factor
        self.max_sequence_length = max_sequence_length

    @property
    def device(self) -> torch.device:
        return self.network.device

    @torch.no_grad()
    def encode(self, prompts: Sequence[str]) -> Conditioning:
        embeds, _, pooled, _ = self.pipeline.encode_prompt(
            prompt=list(prompts),
            prompt_2=None,
            prompt_3=None,
            do_classifier_free_guidance=False,
            max_sequence_length=self.max_sequence_length,
        )
        return Conditioning({"encoder_hidden_states": embeds, "pooled_projections": pooled})

    def network_output(self, role: NetworkRole, latents: Tensor, t: Tensor, conditioning: Conditioning) -> Tensor:
        with self.roles.active(role):
            output = self.network(
                hidden_states=latents.to(self.network.dtype),
                timestep=self.process.model_time(t).to(device=self.device, dtype=torch.float32),
                **conditioning.tensors,
                return_dict=False,
            )[0]
        return output.float()

    def decode(self, latents: Tensor) -> np.ndarray:
        return sd3.decode(self.pipeline, latents)

    def save_lora(self, folder: Path, state: Mapping[str, Tensor], metadata: Mapping[str, str]) -> Path:
        """Write through the stock writer, which keeps alpha (without it strength 1.0 would mean alpha / rank)."""
        self.pipeline.save_lora_weights(
            folder,
            transformer_lora_layers=dict(state),
            transformer_lora_adapter_metadata=_plain(self.roles.config.to_dict()),
            weight_name=LORA_FILE,
        )
        path = folder / LORA_FILE
        _add_metadata(path, metadata)
        return path


def _plain(lora_config: dict[str, object]) -> dict[str, object]:
    """PEFT's configuration with sets as sorted lists: JSON has no sets, and an order of hashes would change."""
    return {key: sorted(value) if isinstance(value, set) else value for key, value in lora_config.items()}


def _add_metadata(path: Path, metadata: Mapping[str, str]) -> None:
    # The stock writer takes no further metadata, so its file is written once more with ours beside its own.
    with safe_open(path, framework="pt") as file:
        stock = file.metadata()
    save_file(load_file(path), path, metadata={**stock, **metadata})


def network_shape(base: str) -> nn.Module:
    """The base's network without weights, on the meta device, from its configuration file.

    Raises:
        LoadError: if the base is not a folder with a transformer.
    """
    try:
        config = SD3Transformer2DModel.load_config(Path(base) / "transformer", local_files_only=True)
    except OSError:
        raise LoadError(
            f"{base}: has no transformer/config.json on this machine, so nothing can be estimated"
        ) from None
    with torch.device("meta"):
        return SD3Transformer2DModel.from_config(config)
