"""What a recipe will need, from module shapes alone: no weights are read, nothing is downloaded."""

from __future__ import annotations

import time
from dataclasses import dataclass

import torch
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from tdm_core.backbones.adapters import TRAINED_ROLES, LoraRoles, NetworkRole
from tdm_core.backbones.shapes import example_inputs, saved_for_backward
from tdm_core.training.config import DistillConfig
from tdm_core.training.landing import anchor_steps, rolled_out_steps

GIBI = 2**30
TRAINED_BYTES = 4 + 4 + 8
"""Per LoRA weight of a role: itself, its gradient, Adam's two averages, all float32."""
COPIES = 3
"""Student, fake and teacher as whole networks, as in the published script."""

PROBE_SECONDS = 0.3
"""Three products alone gave a fiftieth of the speed on a machine that was busy with something else."""


@dataclass(frozen=True, kw_only=True)
class Estimate:
    """Memory without text encoders and autoencoder, and work."""

    base_parameters: int
    lora_parameters: int
    """Of one role."""
    weights_gibibytes: float
    """One base, two roles with gradients and optimisers, the student's average."""
    three_copies_gibibytes: float
    """What three networks in bfloat16 would take in weights alone."""
    activations_gibibytes: float
    """What waits for backwards, for the rows that go through the network at once."""
    evaluations_per_row: float
    """Network evaluations of an iteration, divided by the batch size; a backward counts as two."""
    total_evaluations: int
    """Of the whole run, in rows."""
    petaflops_per_iteration: float
    """10^15 floating point operations."""
    hours_at_matmul_speed: float
    """Of the whole run, if all were matrix products as fast as this machine's are now; networks reach about half."""


def estimate(config: DistillConfig, network: nn.Module) -> Estimate:
    """From the network on the meta device, in the base's type; it gets the recipe's adapters."""
    lora, base_parameters = config.lora, sum(parameter.numel() for parameter in network.parameters())
    base_bytes = sum(parameter.nbytes for parameter in network.parameters())
    inputs = example_inputs(network, size=config.base.size)
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        network(**inputs)
    roles = LoraRoles(network, rank=lora.rank, alpha=lora.alpha, targets=lora.targets, seed=0)
    lora_parameters = sum(parameter.numel() for parameter in roles.parameters(TRAINED_ROLES[0]).values())
    optimiser, per_row = config.optimiser, evaluations_per_row(config)
    work = per_row * optimiser.batch_size * (counter.get_total_flops() + 2 * lora_parameters)
    speed = matmul_speed(config)
    return Estimate(
        base_parameters=base_parameters,
        lora_parameters=lora_parameters,
        weights_gibibytes=round(weights_bytes(base_bytes, lora_parameters) / GIBI, 3),
        three_copies_gibibytes=round(COPIES * 2 * base_parameters / GIBI, 3),
        activations_gibibytes=round(_activations(config, roles) / GIBI, 3),
        evaluations_per_row=per_row,
        total_evaluations=round(per_row * optimiser.batch_size * optimiser.iterations),
        petaflops_per_iteration=round(work / 1e15, 6),
        hours_at_matmul_speed=round(work * optimiser.iterations / speed / 3600, 2),
    )


def evaluations_per_row(config: DistillConfig) -> float:
    """Forward-equivalents of an iteration over its rows: roll-out, student, fake, teacher, fake as critic."""
    objective, rolled_out = config.objective, rolled_out_steps(config)
    fake = config.optimiser.fake_steps * (3 + (objective.teacher_weight > 0))
    student = 3 + (_at_once(config) < config.optimiser.batch_size)
    guided = 2 if objective.guidance_scale > 1 else 1
    teacher = guided * (1 + anchor_steps(config))
    return rolled_out + student + fake + teacher + 1


def weights_bytes(base_bytes: int, lora_parameters: int) -> int:
    """Of the base, two trained roles, and the student's moving average."""
    return base_bytes + lora_parameters * (2 * TRAINED_BYTES + 4)


def _at_once(config: DistillConfig) -> int:
    return config.run.micro_batch or config.optimiser.batch_size


def _activations(config: DistillConfig, roles: LoraRoles) -> int:
    """Two graphs wait at once, the fake's and the student's, unless micro-batches let each go alone."""
    inputs = example_inputs(roles.network, size=config.base.size)
    with roles.active(NetworkRole.STUDENT):
        saved, again = saved_for_backward(roles.network, inputs), 0
        if config.run.gradient_checkpointing:
            roles.checkpoint_gradients()
            again = saved.largest_block
            saved = saved_for_backward(roles.network, inputs)
    graphs = 2 if _at_once(config) == config.optimiser.batch_size else 1
    return _at_once(config) * (graphs * saved.total + again)


def matmul_speed(config: DistillConfig, size: int = 256) -> float:
    """Operations per second of matrix products in the base's type, here and now."""
    cuda = config.run.device != "cpu" and torch.cuda.is_available()
    size = size * 32 if cuda else size  # half precision is slow on a CPU
    matrix = torch.ones(size, size, dtype=getattr(torch, config.base.dtype), device="cuda" if cuda else "cpu")
    begun = time.perf_counter()
    seconds: list[float] = []
    while len(seconds) < 3 or time.perf_counter() - begun < PROBE_SECONDS:
        started = time.perf_counter()
        (matrix @ matrix)[0, 0].item()
        seconds.append(time.perf_counter() - started)
    return 2 * size**3 / min(seconds)
