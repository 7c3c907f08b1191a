"""CogVideoX for training (v-prediction, zero terminal SNR, latents [B, f, C, h, w], rotary positions or not)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from torch import Tensor

from tdm_core.backbones import cogvideox
from tdm_core.backbones.base import Size
from tdm_core.backbones.stock_training import StockTraining
from tdm_core.diffusion.prediction import PredictionType

SHOWN_FRAMES = 4


class Training(StockTraining):
    """Keeps the promise of ``TrainableBackbone`` for CogVideoX."""

    family = cogvideox
    prediction_type = PredictionType.V
    TARGETS = ("to_q", "to_k", "to_v", "to_out.0")

    def own_size(self) -> Size:
        config, scale = self.network.config, self.pipeline.vae_scale_factor_spatial
        return Size(width=config.sample_width * scale, height=config.sample_height * scale, frames=config.sample_frames)

    def call_network(self, latents: Tensor, timestep: Tensor, told: Mapping[str, Tensor]) -> Tensor:
        rotary = None
        if self.network.config.use_rotary_positional_embeddings:
            rotary = self.pipeline._prepare_rotary_positional_embeddings(
                self.size.height, self.size.width, latents.shape[1], self.device
            )
        output: Tensor = self.network(
            latents,
            told["encoder_hidden_states"],
            timestep,
            image_rotary_emb=rotary,
            return_dict=False,
        )[0]
        return output

    def decode(self, latents: Tensor) -> np.ndarray:
        """Some frames of each video side by side, evenly spaced, uint8 [B, H, n W, 3]."""
        videos = super().decode(latents)
        frames = np.linspace(0, videos.shape[1] - 1, min(SHOWN_FRAMES, videos.shape[1])).round().astype(int)
        return np.concatenate([videos[:, frame] for frame in frames], axis=2)

    def card_example(self, base: str, lora: str, about: Mapping[str, Any]) -> str:
        steps = about["trained_steps"][0]
        timesteps = [round(time * 1000) - 1 for time in about["sigmas"][str(steps)]]
        size = self.size
        return f"""import torch
from diffusers import CogVideoXPipeline
from tdm_core.backbones.schedulers import CogVideoXDDIMScheduler  # the stock one takes no timesteps of one's own

pipe = CogVideoXPipeline.from_pretrained("{base}")
pipe.scheduler = CogVideoXDDIMScheduler.from_config(pipe.scheduler.config)
pipe.load_lora_weights("{lora}")  # strength 1.0
frames = pipe(
    "a cat moving left",
    timesteps={timesteps},
    guidance_scale=1.0,
    height={size.height},
    width={size.width},
    num_frames={size.frames},
    max_sequence_length={self.max_sequence_length},
    generator=torch.Generator().manual_seed(0),
).frames[0]"""
