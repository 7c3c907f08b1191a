"""PixArt-alpha for training (epsilon; the learned variance is dropped, and the 1024 px base is told the size).

diffusers has no LoRA loader for PixArt, so its students are folders of PEFT.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import ClassVar

import torch
from torch import Tensor

from tdm_core.backbones import pixart
from tdm_core.backbones.stock_training import StockTraining, save_peft_folder
from tdm_core.backbones.trainable import Conditioning
from tdm_core.diffusion.prediction import PredictionType

MICRO_CONDITIONS = ("resolution", "aspect_ratio")


class Training(StockTraining):
    """Keeps the promise of ``TrainableBackbone`` for PixArt-alpha."""

    family = pixart
    prediction_type = PredictionType.EPSILON
    TARGETS = ("to_q", "to_k", "to_v", "to_out.0")
    CONDITIONING: ClassVar = {
        "prompt_embeds": "encoder_hidden_states",
        "prompt_attention_mask": "encoder_attention_mask",
    }

    def encode(self, prompts: Sequence[str]) -> Conditioning:
        text = dict(super().encode(prompts).tensors)
        if self.network.use_additional_conditions:
            height, width = self.size.height, self.size.width
            for name, values in zip(MICRO_CONDITIONS, ([height, width], [height / width]), strict=True):
                text[name] = torch.tensor(values).to(text["encoder_hidden_states"]).expand(len(prompts), -1)
        return Conditioning(text)

    def call_network(self, latents: Tensor, timestep: Tensor, told: Mapping[str, Tensor]) -> Tensor:
        output: Tensor = self.network(
            latents,
            timestep=timestep,
            encoder_hidden_states=told["encoder_hidden_states"],
            encoder_attention_mask=told["encoder_attention_mask"],
            added_cond_kwargs={name: told.get(name) for name in MICRO_CONDITIONS},
            return_dict=False,
        )[0]
        return output.chunk(2, dim=1)[0]

    def save_lora(self, folder: Path, state: Mapping[str, Tensor], metadata: Mapping[str, str]) -> Path:
        return save_peft_folder(folder, self.roles.config.to_dict(), state, metadata)

    def card_loading(self, lora: str) -> str:
        return (
            "from peft import PeftModel  # diffusers has no LoRA loader for PixArt\n\n"
            f'pipe.transformer = PeftModel.from_pretrained(pipe.transformer, "{lora}")  # strength 1.0'
        )

    def card_arguments(self) -> str:
        return f"""
    max_sequence_length={self.max_sequence_length},
    clean_caption=False,
    use_resolution_binning=False,"""
