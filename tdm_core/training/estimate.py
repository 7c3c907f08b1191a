"""What a recipe will need, from module shapes alone: no weights are read, nothing is downloaded."""

from __future__ import annotations

from dataclasses import dataclass

from torch import nn

from tdm_core.backbones.adapters import TRAINED_ROLES, LoraRoles
from tdm_core.training.config import DistillConfig

BYTES = {"float32": 4, "bfloat16": 2}
TRAINED_BYTES = 4 + 4 + 8
"""Per LoRA weight of a role: itself, its gradient, Adam's two averages, all float32."""


@dataclass(frozen=True, kw_only=True)
class Estimate:
    """Of memory without activations and text encoders, and of work."""

    base_parameters: int
    lora_parameters: int
    """Of one role."""
    weights_gigabytes: float
    """One base, two roles with gradients and optimiser, the student's average."""
    three_copies_gigabytes: float
    """What three full networks would take in weights alone."""
    evaluations_per_row: float
    """Network evaluations of an iteration, divided by the batch size; a backward counts as two."""
    total_evaluations: int
    """Of the whole run, in rows."""


def estimate(config: DistillConfig, network: nn.Module) -> Estimate:
    """From the network on the meta device; it gets the recipe's adapters."""
    lora, base_parameters = config.lora, sum(parameter.numel() for parameter in network.parameters())
    roles = LoraRoles(network, rank=lora.rank, alpha=lora.alpha, targets=lora.targets, seed=0)
    lora_parameters = sum(parameter.numel() for parameter in roles.parameters(TRAINED_ROLES[0]).values())
    base_bytes = base_parameters * BYTES[config.base.dtype]
    steps, optimiser = config.trajectory.steps, config.optimiser
    teacher = 2 if config.objective.guidance_scale > 1 else 1
    per_row = (steps - 1) / 2 + 3 + 3 * optimiser.fake_steps + teacher + 1
    return Estimate(
        base_parameters=base_parameters,
        lora_parameters=lora_parameters,
        weights_gigabytes=round((base_bytes + lora_parameters * (2 * TRAINED_BYTES + 4)) / 1e9, 3),
        three_copies_gigabytes=round(3 * base_bytes / 1e9, 3),
        evaluations_per_row=per_row,
        total_evaluations=round(per_row * optimiser.batch_size * optimiser.iterations),
    )
