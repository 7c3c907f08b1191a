"""Stable Diffusion 3 and 3.5 for training (flow matching).

The scheduler's ``shift`` plays no part here: the student's nodes are sigmas as they are.  A base whose scheduler shifts
must be sampled with ``shift=1`` on them (``FlowMatchEulerDiscreteScheduler`` shifts given sigmas *again*).
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar

from tdm_core.backbones import sd3
from tdm_core.backbones.stock_training import StockTraining
from tdm_core.diffusion.noise import NoiseProcess, flow_matching
from tdm_core.diffusion.prediction import PredictionType

T5_PARTS = ("text_encoder_3", "tokenizer_3")


class SD3Training(StockTraining):
    """Keeps the promise of ``TrainableBackbone`` for SD3 and SD3.5, around a stock pipeline."""

    family = sd3
    prediction_type = PredictionType.FLOW
    TARGETS = tuple(
        f"attn.{name}"
        for name in ("to_q", "to_k", "to_v", "to_out.0", "add_q_proj", "add_k_proj", "add_v_proj", "to_add_out")
    )
    T5_PARTS = T5_PARTS
    CONDITIONING: ClassVar = {"prompt_embeds": "encoder_hidden_states", "pooled_prompt_embeds": "pooled_projections"}

    @staticmethod
    def process_of(scheduler: Any) -> NoiseProcess:
        return flow_matching(scheduler.config.num_train_timesteps)

    def card_example(self, base: str, lora: str, about: Mapping[str, Any]) -> str:
        sigmas = about["sigmas"][str(about["trained_steps"][0])]
        parts = "torch_dtype=torch.bfloat16" if self.pipeline.tokenizer_3 else "text_encoder_3=None, tokenizer_3=None"
        return f"""import torch
from diffusers import FlowMatchEulerDiscreteScheduler, StableDiffusion3Pipeline

pipe = StableDiffusion3Pipeline.from_pretrained("{base}", {parts})
pipe.scheduler = FlowMatchEulerDiscreteScheduler(shift=1.0)  # the sigmas below are final: a shift would move them again
pipe.load_lora_weights("{lora}")  # strength 1.0
picture = pipe(
    "a cat left of a dog",
    sigmas={sigmas},
    guidance_scale=1.0,
    max_sequence_length={self.max_sequence_length},
    generator=torch.Generator().manual_seed(0),
).images[0]"""


Training = SD3Training
