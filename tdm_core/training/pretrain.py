"""Trains the teacher of a mini from nothing: denoising of endless fresh scenes, text encoders included.

What may differ between minis enters as plain callables, so that this file knows no family and no renderer:
``draw(seed, n)`` gives pictures and captions, ``encode`` turns pictures into latents, ``tokenize`` captions into
token ids, and the ``network`` maps (noisy latents, time in 0..1, token ids) to what its prediction type says.

Every prediction type is trained as flow matching would be: noise levels are drawn by the noise's share of the state,
``sigma / (alpha + sigma)``, and an error counts as the error of the velocity ``noise - x_0`` that it makes.

The rate stays constant until ``steps - decay_steps`` and then falls linearly to zero, so a run can be prolonged
from any checkpoint of its constant part: nothing before the decay depends on where it ends.
"""

from __future__ import annotations

import json
import os
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal, Protocol

import numpy as np
import torch
from torch import Tensor, nn

from tdm_core.diffusion.noise import NoiseProcess, expand
from tdm_core.diffusion.prediction import Prediction, PredictionType, network_output
from tdm_core.errors import TrainingError
from tdm_core.training.muon import adamw, muon_and_adamw
from tdm_core.training.precision import Precision, matrix_products

Draw = Callable[[int, int], tuple[Tensor, list[str]]]
Encode = Callable[[Tensor], Tensor]
ENCODED_AT_ONCE = 16  # a clip takes as much memory as nine pictures


@dataclass(frozen=True, kw_only=True)
class PretrainConfig:
    """The noise's share of the state is drawn as ``sigmoid(N(time_mean, time_std))``."""

    steps: int = 6000
    decay_steps: int = 2400
    warmup_steps: int = 100
    batch_size: int = 96
    precision: Precision = "fp32"  # of matrix products
    optimizer: Literal["adamw", "muon"] = "adamw"  # muon: for the matrices of the blocks
    learning_rate: float = 1.5e-3
    weight_decay: float = 0.0
    clip_norm: float = 1.0
    max_error_weight: float = 36.0  # epsilon's errors weigh without bound where there is no signal
    time_mean: float = 0.3
    time_std: float = 1.0
    caption_dropout: float = 0.1
    ema: float = 0.998
    fresh_share: float = 0.4  # share of scenes in a batch that were never seen before
    chunk: int = 2048  # scenes encoded at once
    chunks_kept: int = 6
    seed: int = 0
    checkpoint_minutes: float = 4.0
    threads: int = 2


@dataclass(frozen=True, kw_only=True)
class StillsConfig:
    """Steps on single frames between those on clips: what things look like is learnt many times as fast from them."""

    per_clip_step: int = 3
    batch_size: int = 256
    fresh_share: float = 0.4
    chunk: int = 2048
    chunks_kept: int = 24


class Stream(Protocol):
    """What a teacher learns from."""

    def batch(self, step: int) -> tuple[Tensor, list[str]]:
        """Clean latents [B, ...] and their captions; a pure function of the step, so resuming replays it."""
        ...


class LatentStream:
    """Batches from a sliding window of encoded scenes."""

    def __init__(self, config: PretrainConfig, draw: Draw, encode: Encode) -> None:
        self.config, self._draw, self._encode = config, draw, encode
        self._chunks: dict[int, tuple[Tensor, list[str]]] = {}

    def batch(self, step: int) -> tuple[Tensor, list[str]]:
        config = self.config
        newest = int(step * config.batch_size * config.fresh_share) // config.chunk
        window = range(max(0, newest - config.chunks_kept + 1), newest + 1)
        self._chunks = {index: self._chunks.get(index) or self._make(index) for index in window}
        generator = torch.Generator().manual_seed(config.seed * 1_000_003 + step)
        picks = torch.randint(len(window) * config.chunk, (config.batch_size,), generator=generator).tolist()
        items = [(self._chunks[window[pick // config.chunk]], pick % config.chunk) for pick in picks]
        return torch.stack([chunk[0][i] for chunk, i in items]), [chunk[1][i] for chunk, i in items]

    def _make(self, index: int) -> tuple[Tensor, list[str]]:
        pictures, captions = self._draw(index, self.config.chunk)
        with torch.no_grad():
            latents = torch.cat([self._encode(part) for part in pictures.split(ENCODED_AT_ONCE)])
        return latents, captions


class JointStream:
    """A batch of clips, then ``per_clip_step`` batches of single frames, and so on."""

    def __init__(
        self, config: PretrainConfig, stills: StillsConfig, draw: Draw, draw_stills: Draw, encode: Encode
    ) -> None:
        self._turns = 1 + stills.per_clip_step
        self._clips = LatentStream(config, draw, encode)
        of_stills = replace(
            config,
            batch_size=stills.batch_size,
            fresh_share=stills.fresh_share,
            chunk=stills.chunk,
            chunks_kept=stills.chunks_kept,
        )
        self._stills = LatentStream(of_stills, draw_stills, encode)

    def batch(self, step: int) -> tuple[Tensor, list[str]]:
        clips, turn = divmod(step, self._turns)
        return self._stills.batch(step - clips - 1) if turn else self._clips.batch(clips)


def times(process: NoiseProcess, share: Tensor) -> Tensor:
    """The times [B], float64, at which the noise has these shares ``sigma / (alpha + sigma)`` [B] of the state."""
    grid = torch.linspace(0, 1, 4097, dtype=torch.float64)
    alpha, sigma = process.alpha(grid), process.sigma(grid)
    return torch.from_numpy(np.interp(share.double().numpy(), (sigma / (alpha + sigma)).numpy(), grid.numpy()))


def error_weight(kind: PredictionType, process: NoiseProcess, t: Tensor) -> Tensor:
    """How the square of an error in the output carries over to the velocity ``noise - x_0``, [B]."""
    alpha, sigma = process.alpha(t), process.sigma(t)
    match kind:  # derivatives of the table in tdm_core/diffusion/prediction.py
        case PredictionType.EPSILON:
            return (1 + sigma / alpha) ** 2
        case PredictionType.V:
            return ((alpha + sigma) / (alpha**2 + sigma**2)) ** 2
        case PredictionType.FLOW:
            return torch.ones_like(alpha)


def learning_rate(step: int, config: PretrainConfig) -> float:
    """Linear warm-up, constant, linear decay over the last ``decay_steps``."""
    warm = min(1.0, (step + 1) / config.warmup_steps)
    left = (config.steps - step) / max(1, config.decay_steps)
    return config.learning_rate * min(warm, left, 1.0)


class Pretrainer:
    """One run: networks, optimiser, EMA and step, saved and restored as one."""

    def __init__(
        self,
        config: PretrainConfig,
        network: nn.Module,
        tokenize: Callable[[list[str]], Tensor],
        stream: Stream,
        process: NoiseProcess,
        prediction_type: PredictionType,
    ) -> None:
        self.config, self.network, self.tokenize, self.stream = config, network, tokenize, stream
        self.process, self.prediction_type = process, prediction_type
        named = [(name, p) for name, p in network.named_parameters() if p.requires_grad]
        parameters = [p for _, p in named]
        rate, decay = config.learning_rate, config.weight_decay
        self.optimizers = (
            muon_and_adamw(named, rate, weight_decay=decay)
            if config.optimizer == "muon"
            else [adamw(parameters, rate, weight_decay=decay)]
        )
        self.ema = [p.detach().clone() for p in parameters]
        self.generator = torch.Generator().manual_seed(config.seed)
        self.step, self.seconds, self.parameters = 0, 0.0, parameters

    def train_step(self) -> float:
        """One optimiser step; returns the loss."""
        with matrix_products(self.config.precision):
            return self._train_step()

    def _train_step(self) -> float:
        config = self.config
        latents, captions = self.stream.batch(self.step)
        size = len(latents)
        dropped = torch.rand(size, generator=self.generator) < config.caption_dropout
        captions = ["" if drop else text for text, drop in zip(captions, dropped.tolist(), strict=True)]
        share = torch.sigmoid(config.time_mean + config.time_std * torch.randn(size, generator=self.generator))
        noise = torch.randn(latents.shape, generator=self.generator)
        t = times(self.process, share)
        output = self.network(self.process.add_noise(latents, noise, t), t.float(), self.tokenize(captions))
        target = network_output(self.prediction_type, Prediction(latents, noise), t, self.process)
        weight = error_weight(self.prediction_type, self.process, t).clamp(max=config.max_error_weight)
        loss = (expand(weight, output) * (output - target).square()).mean()
        loss.backward()
        nn.utils.clip_grad_norm_(self.parameters, config.clip_norm)
        for optimizer in self.optimizers:
            for group in optimizer.param_groups:
                group["lr"] = learning_rate(self.step, config)
            optimizer.step()
            optimizer.zero_grad()
        self.step += 1
        decay = min(config.ema, self.step / (self.step + 10))
        for average, parameter in zip(self.ema, self.parameters, strict=True):
            average.lerp_(parameter.detach(), 1 - decay)
        return loss.item()

    def run(self, folder: Path, report: Callable[[dict[str, float]], None]) -> Iterator[int]:
        """Train to the end; yields the step after each checkpoint, for whoever wants to look at the EMA weights.

        Raises:
            TrainingError: if the loss is no longer finite.
        """
        self.restore(folder)
        mark, started, losses = time.monotonic(), time.monotonic() - self.seconds, []
        while self.step < self.config.steps:
            losses.append(self.train_step())
            self.seconds = time.monotonic() - started
            if losses[-1] != losses[-1]:
                raise TrainingError(f"step {self.step}: the loss is not finite\nlower learning_rate and resume")
            if self.step % 50 == 0 or self.step == self.config.steps:
                report({"step": self.step, "loss": sum(losses) / len(losses), "minutes": self.seconds / 60})
                losses = []
            if time.monotonic() - mark > self.config.checkpoint_minutes * 60 or self.step == self.config.steps:
                self.save(folder)
                yield self.step
                mark = time.monotonic()
                started = mark - self.seconds  # looking at the weights is not training time

    def ema_state(self) -> dict[str, Tensor]:
        """The network's state dict with the averaged weights."""
        state = dict(self.network.state_dict())
        names = [name for name, p in self.network.named_parameters() if p.requires_grad]
        return state | dict(zip(names, self.ema, strict=True))

    def save(self, folder: Path) -> None:
        """Write ``checkpoint.pt`` so that a kill leaves the old or the new one, never half of one."""
        folder.mkdir(parents=True, exist_ok=True)
        state = {
            "network": self.network.state_dict(),
            "optimizers": [optimizer.state_dict() for optimizer in self.optimizers],
            "ema": self.ema,
            "generator": self.generator.get_state(),
            "step": self.step,
            "seconds": self.seconds,
        }
        with open(folder / "checkpoint.tmp", "wb") as file:
            torch.save(state, file)
            file.flush()
            os.fsync(file.fileno())
        os.replace(folder / "checkpoint.tmp", folder / "checkpoint.pt")

    def restore(self, folder: Path) -> None:
        """Continue exactly where the folder's checkpoint stands; does nothing where there is none."""
        path = folder / "checkpoint.pt"
        if not path.exists():
            return
        state = torch.load(path, weights_only=True)
        self.network.load_state_dict(state["network"])
        for optimizer, saved in zip(self.optimizers, state["optimizers"], strict=True):
            optimizer.load_state_dict(saved)
        for average, saved in zip(self.ema, state["ema"], strict=True):
            average.copy_(saved)
        self.generator.set_state(state["generator"])
        self.step, self.seconds = state["step"], state["seconds"]


def append_log(path: Path, row: dict[str, float]) -> None:
    """One JSON object per line."""
    with open(path, "a", encoding="utf-8") as file:
        file.write(json.dumps(row) + "\n")
