"""Stable Diffusion XL for training (epsilon, UNet, pooled text and the size as micro-conditions).

The published recipe distils in two stages of different size; give ``size`` for the first.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import ClassVar

import torch
from torch import Tensor

from tdm_core.backbones import sdxl
from tdm_core.backbones.stock_training import StockTraining
from tdm_core.backbones.trainable import Conditioning
from tdm_core.diffusion.prediction import PredictionType


class Training(StockTraining):
    """Keeps the promise of ``TrainableBackbone`` for SDXL."""

    family = sdxl
    prediction_type = PredictionType.EPSILON
    TARGETS = ("to_q", "to_k", "to_v", "to_out.0")
    CONDITIONING: ClassVar = {"prompt_embeds": "encoder_hidden_states", "pooled_prompt_embeds": "text_embeds"}

    def encode(self, prompts: Sequence[str]) -> Conditioning:
        text = super().encode(prompts).tensors
        # As the stock pipeline says it of a whole picture: original size, crop's corner, target size.
        size = (self.size.height, self.size.width)
        time_ids = torch.tensor([*size, 0, 0, *size]).to(text["text_embeds"]).expand(len(prompts), -1)
        return Conditioning({**text, "time_ids": time_ids})

    def call_network(self, latents: Tensor, timestep: Tensor, told: Mapping[str, Tensor]) -> Tensor:
        added = {name: told[name] for name in ("text_embeds", "time_ids")}
        output: Tensor = self.network(
            latents,
            timestep,
            encoder_hidden_states=told["encoder_hidden_states"],
            added_cond_kwargs=added,
            return_dict=False,
        )[0]
        return output
