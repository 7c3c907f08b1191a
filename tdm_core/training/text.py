"""Teaches a mini's text encoders what captions say, as CLIP and T5 too come to their teachers already trained.

From the features that the transformer will be told, a linear readout must name every fact of a caption. Learning from
pictures alone, a teacher of this size never finds out which of two objects a relation speaks of (docs/log.md).
"""

from __future__ import annotations

import copy
from collections.abc import Callable
from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from tdm_core.training.muon import muon_and_adamw

READOUT_RATE = 1.5  # of the encoders' rate
SUMMARY_SHARE = 0.01  # of the anchor's strength: the summaries are where the new facts go


@dataclass(frozen=True, kw_only=True)
class TextConfig:
    """``steps = 0`` leaves the encoders to the teacher's own training."""

    steps: int = 900
    batch_size: int = 256
    warmup_steps: int = 50
    learning_rate: float = 2e-3
    anchor: float = 5.0  # how strongly the features of encoders that a teacher already reads stay as they are
    seed: int = 0


class TextFeatures(NamedTuple):
    """What the transformer is told of a caption."""

    tokens: Tensor  # [B, L, D], the summaries aside
    summaries: tuple[Tensor, ...]  # each [B, D]: where a whole caption may be read off


def train_text(
    config: TextConfig,
    encoders: nn.Module,
    features: Callable[[nn.Module, Tensor], TextFeatures],
    tokenize: Callable[[list[str]], Tensor],
    draw: Callable[[int, int], tuple[list[str], Tensor]],
    *,
    anchored: bool,
    report: Callable[[dict[str, float]], None],
) -> None:
    """Train ``encoders`` in place; ``draw(seed, n)`` gives captions and their facts, bool [n, F].

    ``anchored`` keeps the tokens' features as they are, for weights that a transformer has learnt to read.
    """
    torch.manual_seed(config.seed)
    before = copy.deepcopy(encoders).requires_grad_(False)
    readouts = nn.ModuleList()
    for step in range(config.steps):
        captions, told = draw(config.seed + step, config.batch_size)
        ids = tokenize(captions)
        with torch.no_grad():
            old = features(before, ids)
        if not step:
            readouts.extend(nn.Linear(summary.shape[1], told.shape[1]) for summary in old.summaries)
            scales = [summary.std() for summary in old.summaries]
            optimizers = muon_and_adamw([*encoders.named_parameters()], config.learning_rate)
            optimizers.append(torch.optim.AdamW(readouts.parameters(), READOUT_RATE * config.learning_rate, fused=True))
            rates = [group["lr"] for optimizer in optimizers for group in optimizer.param_groups]
        new = features(encoders, ids)
        logits = [readout(each / scale) for readout, each, scale in zip(readouts, new.summaries, scales, strict=True)]
        misread = [F.binary_cross_entropy_with_logits(each, told.float(), reduction="sum") for each in logits]
        loss = torch.stack(misread).sum() / len(captions)
        if anchored:
            moved = _moved(new.tokens, old.tokens)
            moved += SUMMARY_SHARE * sum(_moved(*pair) for pair in zip(new.summaries, old.summaries, strict=True))
            loss = loss + config.anchor * moved
        for optimizer in optimizers:
            optimizer.zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_(encoders.parameters(), 1.0)
        share = min(1.0, (step + 1) / config.warmup_steps, 2 * (1 - step / config.steps))
        groups = [group for optimizer in optimizers for group in optimizer.param_groups]
        for group, rate in zip(groups, rates, strict=True):
            group["lr"] = share * rate
        for optimizer in optimizers:
            optimizer.step()
        if (step + 1) % 50 == 0 or step + 1 == config.steps:
            right = torch.stack([((each > 0) == told).all(dim=1).float().mean() for each in logits])
            report({"step": step + 1, "loss": loss.item(), "captions_read_whole": right.mean().item()})


def _moved(new: Tensor, old: Tensor) -> Tensor:
    return (new - old).square().mean() / old.var()
