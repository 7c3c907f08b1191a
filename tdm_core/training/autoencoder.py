"""Trains the small autoencoder of a mini: pictures or clips to 8x smaller latents of unit variance and back.

The latents are standardised per channel while training (so the decoder only ever sees unit variance) and the
standardisation is folded into the encoder's last convolution at the end: the saved model is a plain
``AutoencoderDC`` or ``AutoencoderKLCogVideoX`` with ``scaling_factor`` 1 and no shift.

Of a variational encoder the mean alone is trained: there is no KL term, standardising keeps the latents in bounds and
the decoder's noise keeps them smooth.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal, Protocol

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from tdm_core.training.muon import Muon
from tdm_core.training.precision import Precision, convolutions

Pictures = Callable[[int, int], Tensor]
"""``pictures(seed, n)`` draws float [n, 3, H, W] or [n, 3, F, H, W] in [-1, 1]; a seed always draws the same."""

Report = Callable[[dict[str, float]], None]


class Autoencoder(Protocol):
    """What is used of diffusers' autoencoders."""

    encoder: nn.Module
    decoder: nn.Module

    def encode(self, x: Tensor) -> Any: ...

    def decode(self, z: Tensor) -> Any: ...


Convolution = nn.Conv2d | nn.Conv3d


def encode(model: Autoencoder, batch: Tensor) -> Tensor:
    """The latents [B, C, ...] of pictures or clips; of a variational encoder the most likely ones."""
    encoded = model.encode(batch)
    return encoded.latent_dist.mode() if hasattr(encoded, "latent_dist") else encoded.latent


def _last_convolution(model: Autoencoder) -> Convolution:
    conv = model.encoder.get_submodule("conv_out")
    conv = getattr(conv, "conv", conv)  # CogVideoX wraps it to pad frames
    assert isinstance(conv, Convolution)
    return conv


@dataclass(frozen=True, kw_only=True)
class AutoencoderConfig:
    """How the autoencoder is trained."""

    steps: int = 20_000
    minutes: float = 15.0  # whichever of steps and minutes comes first ends the run; the rate decays with both
    batch_size: int = 8
    learning_rate: float = 2e-3
    precision: Precision = "fp32"
    optimizer: Literal["adam", "muon"] = "adam"  # muon: for the convolutions between the first and the last
    frames: int | None = None  # of each clip; None: all
    latent_noise: float = 0.2  # standard deviation up to which latents are disturbed: students are not exact either
    seed: int = 0


class _Standardiser:
    """Running mean and standard deviation of each latent channel."""

    def __init__(self, channels: int, decay: float = 0.99) -> None:
        self.mean, self.var, self.decay = torch.zeros(channels), torch.ones(channels), decay

    def __call__(self, latents: Tensor) -> Tensor:
        others = (0, *range(2, latents.ndim))
        mean = latents.mean(dim=others)
        var = latents.var(dim=others) + 1e-6
        self.mean = self.decay * self.mean + (1 - self.decay) * mean.detach()
        self.var = self.decay * self.var + (1 - self.decay) * var.detach()
        per_channel = (-1, *(1,) * (latents.ndim - 2))
        return (latents - mean.view(per_channel)) / var.sqrt().view(per_channel)

    def fold_into(self, conv: Convolution) -> None:
        """Let the convolution that makes the latents standardise them itself; log variances behind them stay."""
        assert conv.bias is not None
        std, channels = self.var.sqrt(), len(self.mean)
        with torch.no_grad():
            conv.weight[:channels].div_(std.view(-1, *(1,) * (conv.weight.ndim - 1)))
            conv.bias[:channels].sub_(self.mean).div_(std)


def reconstruction_loss(output: Tensor, pictures: Tensor) -> Tensor:
    """Absolute plus squared error: the first keeps edges sharp, the second hurries the early steps."""
    return F.l1_loss(output, pictures) + 2 * F.mse_loss(output, pictures)


def train(config: AutoencoderConfig, model: Autoencoder, pictures: Pictures, report: Report) -> None:
    """Train an autoencoder in place, on endless fresh pictures."""
    with torch.no_grad():
        channels = encode(model, _cut(pictures(config.seed, 1), config.frames)).shape[1]
    standardise = _Standardiser(channels)
    weights = {
        f"{side}.{name}": weight
        for side in ("encoder", "decoder")
        for name, weight in getattr(model, side).named_parameters()
    }
    _fit(config, model, weights, lambda batch: standardise(encode(model, batch)), pictures, report)
    standardise.fold_into(_last_convolution(model))


@torch.no_grad()
def inflate(model: Autoencoder) -> None:
    """Make an autoencoder that was trained on single frames treat each frame of a clip as it would alone.

    On one frame all taps in time see that frame, so their sum is what was learnt; it becomes the newest tap, the one
    of the frame itself, and the others start at 0 (as image networks are inflated to video; arXiv 1705.07750).
    """
    for side in (model.encoder, model.decoder):
        for module in side.modules():
            if isinstance(module, nn.Conv3d) and module.kernel_size[0] > 1:
                learnt = module.weight.sum(dim=2)
                module.weight.zero_()
                module.weight[:, :, -1] = learnt


def polish(config: AutoencoderConfig, model: Autoencoder, pictures: Pictures, report: Report) -> None:
    """Train the decoder alone: the latents, and so every model trained on them, stay as they are."""
    model.encoder.requires_grad_(False)
    _fit(config, model, dict(model.decoder.named_parameters()), lambda batch: encode(model, batch), pictures, report)


def _fit(
    config: AutoencoderConfig,
    model: Autoencoder,
    trained: dict[str, nn.Parameter],
    encode: Callable[[Tensor], Tensor],
    pictures: Pictures,
    report: Report,
) -> None:
    optimizers = _optimizers(config, trained)
    started = time.monotonic()
    for step in range(config.steps):
        minutes = (time.monotonic() - started) / 60
        progress = max(step / config.steps, minutes / config.minutes)
        if progress >= 1:
            break
        rate = config.learning_rate * min(1.0, step / 50) * (0.02 + 0.98 * math.cos(progress * math.pi / 2))
        batch = _cut(pictures(config.seed + step, config.batch_size), config.frames)
        with convolutions(config.precision):
            latents = encode(batch).float()
            strength = config.latent_noise * torch.rand(len(batch), *(1,) * (latents.ndim - 1))
            output = model.decode(latents + strength * torch.randn_like(latents)).sample.float()
        loss = reconstruction_loss(output, batch)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(trained.values(), 1.0)
        for optimizer in optimizers:
            for group in optimizer.param_groups:
                group["lr"] = rate
            optimizer.step()
            optimizer.zero_grad()
        if step % 100 == 0:
            psnr = 10 * math.log10(4 / F.mse_loss(output, batch).item())
            report({"step": step, "minutes": minutes, "loss": loss.item(), "psnr_db": psnr})


def _cut(batch: Tensor, frames: int | None) -> Tensor:
    return batch if frames is None else batch[:, :, :frames]


def _optimizers(config: AutoencoderConfig, trained: dict[str, nn.Parameter]) -> list[torch.optim.Optimizer]:
    inner = {
        name: weight
        for name, weight in trained.items()
        if config.optimizer == "muon" and weight.ndim >= 4 and "conv_in" not in name and "conv_out" not in name
    }
    others = [weight for name, weight in trained.items() if name not in inner]
    adam = torch.optim.Adam(others, lr=config.learning_rate, betas=(0.9, 0.99))
    return [adam, *([Muon(inner.values(), lr=config.learning_rate)] if inner else [])]
