"""Stable Diffusion 1.5 for training (epsilon, UNet)."""

from __future__ import annotations

from tdm_core.backbones import sd15
from tdm_core.backbones.stock_training import StockTraining
from tdm_core.diffusion.prediction import PredictionType


class Training(StockTraining):
    """Keeps the promise of ``TrainableBackbone`` for SD 1.5 and its fine-tunes."""

    family = sd15
    prediction_type = PredictionType.EPSILON
    TARGETS = ("to_q", "to_k", "to_v", "to_out.0")
