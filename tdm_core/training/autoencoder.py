"""Trains the small autoencoder of a mini: pictures to 8x smaller latents of unit variance and back.

The latents are standardised per channel while training (so the decoder only ever sees unit variance) and the
standardisation is folded into the encoder's last convolution at the end: the saved model is a plain
``AutoencoderDC`` with ``scaling_factor`` 1 and ``shift_factor`` 0.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Protocol

import torch
from torch import Tensor, nn
from torch.nn import functional as F

Pictures = Callable[[int, int], Tensor]
"""``pictures(seed, n)`` draws float [n, 3, H, W] in [-1, 1]; a seed always draws the same pictures."""

Report = Callable[[dict[str, float]], None]


class Autoencoder(Protocol):
    """What is used of diffusers' ``AutoencoderDC``."""

    encoder: nn.Module
    decoder: nn.Module

    def encode(self, x: Tensor) -> Any: ...

    def decode(self, z: Tensor) -> Any: ...


@dataclass(frozen=True, kw_only=True)
class AutoencoderConfig:
    """How the autoencoder is trained."""

    steps: int = 20_000
    minutes: float = 15.0  # whichever of steps and minutes comes first ends the run; the rate decays with both
    batch_size: int = 8
    learning_rate: float = 2e-3
    latent_noise: float = 0.2  # standard deviation up to which latents are disturbed: students are not exact either
    seed: int = 0


class _Standardiser:
    """Running mean and standard deviation of each latent channel."""

    def __init__(self, channels: int, decay: float = 0.99) -> None:
        self.mean, self.var, self.decay = torch.zeros(channels), torch.ones(channels), decay

    def __call__(self, latents: Tensor) -> Tensor:
        mean = latents.mean(dim=(0, 2, 3))
        var = latents.var(dim=(0, 2, 3)) + 1e-6
        self.mean = self.decay * self.mean + (1 - self.decay) * mean.detach()
        self.var = self.decay * self.var + (1 - self.decay) * var.detach()
        return (latents - mean[:, None, None]) / var.sqrt()[:, None, None]

    def fold_into(self, conv: nn.Conv2d) -> None:
        """Let the convolution that makes the latents standardise them itself."""
        assert conv.bias is not None
        std = self.var.sqrt()
        with torch.no_grad():
            conv.weight.div_(std[:, None, None, None])
            conv.bias.sub_(self.mean).div_(std)


def reconstruction_loss(output: Tensor, pictures: Tensor) -> Tensor:
    """Absolute plus squared error: the first keeps edges sharp, the second hurries the early steps."""
    return F.l1_loss(output, pictures) + 2 * F.mse_loss(output, pictures)


def train(config: AutoencoderConfig, model: Autoencoder, pictures: Pictures, report: Report) -> None:
    """Train an ``AutoencoderDC`` in place, on endless fresh pictures."""
    conv = model.encoder.get_submodule("conv_out")
    assert isinstance(conv, nn.Conv2d)
    standardise = _Standardiser(conv.out_channels)
    weights = [*model.encoder.parameters(), *model.decoder.parameters()]
    _fit(config, model, weights, lambda batch: standardise(model.encode(batch).latent), pictures, report)
    standardise.fold_into(conv)


def polish(config: AutoencoderConfig, model: Autoencoder, pictures: Pictures, report: Report) -> None:
    """Train the decoder alone: the latents, and so every model trained on them, stay as they are."""
    model.encoder.requires_grad_(False)
    _fit(config, model, list(model.decoder.parameters()), lambda batch: model.encode(batch).latent, pictures, report)


def _fit(
    config: AutoencoderConfig,
    model: Autoencoder,
    trained: list[nn.Parameter],
    encode: Callable[[Tensor], Tensor],
    pictures: Pictures,
    report: Report,
) -> None:
    optimizer = torch.optim.Adam(trained, lr=config.learning_rate, betas=(0.9, 0.99))
    started = time.monotonic()
    for step in range(config.steps):
        minutes = (time.monotonic() - started) / 60
        progress = max(step / config.steps, minutes / config.minutes)
        if progress >= 1:
            break
        for group in optimizer.param_groups:
            group["lr"] = config.learning_rate * min(1.0, step / 50) * (0.02 + 0.98 * math.cos(progress * math.pi / 2))
        batch = pictures(config.seed + step, config.batch_size)
        latents = encode(batch)
        strength = config.latent_noise * torch.rand(len(batch), 1, 1, 1)
        output = model.decode(latents + strength * torch.randn_like(latents)).sample
        loss = reconstruction_loss(output, batch)
        optimizer.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(trained, 1.0)
        optimizer.step()
        if step % 100 == 0:
            psnr = 10 * math.log10(4 / F.mse_loss(output, batch).item())
            report({"step": step, "minutes": minutes, "loss": loss.item(), "psnr_db": psnr})
