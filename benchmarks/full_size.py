"""Training and sampling at the published sizes, with random weights: what a card needs and how fast it is.

``python -m benchmarks.full_size [sd3|sdxl|cogvideox] [--device cuda]`` saves a row a card and system.  ``--tiny`` does
the same on tiny networks of the same classes on the CPU, and saves nothing.  ``make bench`` leaves this out, since it
wants a GPU.

What runs is the denoiser alone, from the shapes that ship in ``assets/shapes``: real iterations of the trainer with the
recipe's adapters, types and checkpointing, and the student's and the teacher's way from noise to latents.  Not measured
are text encoders and autoencoder, whose shapes do not ship.  A run lets go of the encoders before it trains and decodes
for previews alone; but both sides of a pair pay for both, so end to end the ratio is smaller than it is here.

An iteration has as many rows as the student has steps, so that each step is trained; a row costs what it costs in the
recipe's batch.  A larger batch also holds the latents and texts of its further rows: ``--rows`` makes it as large.
"""

from __future__ import annotations

import argparse
import gc
import json
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from itertools import chain
from pathlib import Path
from statistics import median
from tempfile import TemporaryDirectory
from typing import Any

import diffusers
import torch
from torch import nn

from benchmarks.rows import RESULTS, ROOT, Measure, save
from tdm_core.backbones.adapters import NetworkRole
from tdm_core.backbones.base import Size, family
from tdm_core.backbones.shapes import example_inputs, network_shape
from tdm_core.backbones.stock_training import StockTraining, training_class
from tdm_core.backbones.trainable import Conditioning, denoiser
from tdm_core.diffusion.trajectory import roll_out, time_nodes
from tdm_core.errors import LoadError, TDMError
from tdm_core.generation.presets import SHIPPED, Preset, read_preset
from tdm_core.training.config import DistillConfig
from tdm_core.training.memory import enough_memory
from tdm_core.training.prompts import ALL_ROWS
from tdm_core.training.trainer import Trainer

WARM_UPS, ROUNDS = 1, 3
ROWS = 4
STD = 0.02
"""Of the random weights: small enough that no state overflows on its way through the blocks."""
GIGA = 10**9
CARD_GB = 16
"""What SD3 must be trained on at 1024 px, one row at once."""
NOT_TOLD = {"hidden_states", "sample", "timestep", "return_dict"}
"""Arguments of a network that say nothing about the prompt."""


@dataclass(frozen=True, kw_only=True)
class System:
    """A published system: how it is trained and sampled here, and how its shape is made tiny."""

    recipe: str
    preset: str
    shape: str
    tiny: Mapping[str, Any]


SYSTEMS = {
    "sd3": System(
        recipe="sd3",
        preset="tdm-sd3",
        shape="stable-diffusion-3-medium",
        tiny={
            "sample_size": 8,
            "num_layers": 2,
            "attention_head_dim": 8,
            "num_attention_heads": 4,
            "joint_attention_dim": 64,
            "caption_projection_dim": 32,
            "pooled_projection_dim": 64,
            "pos_embed_max_size": 8,
        },
    ),
    "sdxl": System(
        recipe="sdxl-1024",
        preset="sdxl",
        shape="stable-diffusion-xl",
        tiny={
            "sample_size": 8,
            "block_out_channels": [16, 32, 32],
            "transformer_layers_per_block": [1, 1, 2],
            "attention_head_dim": [2, 4, 4],
            "cross_attention_dim": 64,
            "norm_num_groups": 8,
            "addition_time_embed_dim": 8,
            "projection_class_embeddings_input_dim": 80,
        },
    ),
    "cogvideox": System(
        recipe="cogvideox-2b",
        preset="tdm-cogvideox-2b",
        shape="cogvideox-2b",
        tiny={
            "num_attention_heads": 2,
            "attention_head_dim": 16,
            "time_embed_dim": 16,
            "text_embed_dim": 32,
            "num_layers": 2,
            "sample_width": 8,
            "sample_height": 8,
            "sample_frames": 9,
            "max_text_seq_length": 16,
        },
    ),
}
TINY_RECIPE = ("base.size=[]", "lora.rank=4", "lora.alpha=4")


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.full_size", description=(__doc__ or "").splitlines()[0])
    parser.add_argument("system", nargs="?", choices=SYSTEMS, help="default: all")
    parser.add_argument("--device", default="cuda", help="cuda, or cuda:1 for the second card")
    parser.add_argument("--rows", type=int, default=ROWS, help=f"rows of an iteration (default: {ROWS})")
    parser.add_argument("--tiny", action="store_true", help="tiny networks on the CPU; saves no row")
    options = parser.parse_args(arguments)
    try:
        device = torch.device("cpu") if options.tiny else card(options.device)
        for system in [options.system] if options.system else SYSTEMS:
            measures = measure(system, device, tiny=options.tiny, rows=options.rows)
            print(f"== {system}", flush=True)
            for each in measures:
                print(f"{each.what:80} {each.value:9.3f} {each.unit:3} {each.bar}", flush=True)
            if not options.tiny:
                print(save_row(system, measures, machine=torch.cuda.get_device_name(device), rows=options.rows))
    except TDMError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    return 0


def card(name: str) -> torch.device:
    """The GPU of that name.

    Raises:
        LoadError: if it is not there.
    """
    known = [f"cuda:{index}" for index in range(torch.cuda.device_count())]
    if name not in [*known, *(["cuda"] if known else [])]:
        raise LoadError(f"--device {name}: full sizes want one of this machine's CUDA devices, it has {len(known)}.")
    return torch.device(name)


def measure(system: str, device: torch.device, *, tiny: bool = False, rows: int = ROWS) -> list[Measure]:
    """Training, its memory where the device counts it, then sampling with the same network.

    Raises:
        TrainingError: if the card has too little memory.
    """
    chosen = SYSTEMS[system]
    path = ROOT / "train" / "configs" / f"{chosen.recipe}.toml"
    # The critic's longer first iterations would be all that a few iterations see.
    few = ("optimiser.warmup_iterations=0", f"optimiser.batch_size={rows}")
    config = DistillConfig.read(path, [*few, *(TINY_RECIPE if tiny else ())])
    preset = read_preset(SHIPPED / f"{chosen.preset}.toml")
    whole_batch = DistillConfig.read(path).optimiser.batch_size
    if device.type == "cuda":
        gc.collect()  # the network of the system before
        torch.cuda.empty_cache()
        torch.cuda.reset_peak_memory_stats(device)
    with enough_memory(config, lambda: f"{system} on {device}"):
        backbone = random_backbone(config, chosen, preset, device, tiny=tiny)
        measures = training(config, backbone, whole_batch)
        if device.type == "cuda":
            allocated, reserved = torch.cuda.max_memory_allocated(device), torch.cuda.max_memory_reserved(device)
            measures += memory(allocated, reserved, bar=system == "sd3")
        return [*measures, *sampling(config, backbone, preset)]


def random_backbone(
    config: DistillConfig, system: System, preset: Preset, device: torch.device, *, tiny: bool
) -> StockTraining:
    """The recipe's base on the device with random weights and both adapters, in a pipeline that has no other part."""
    chosen, dtype = family(config.base.family), getattr(torch, config.base.dtype)
    network = tiny_shape(system, chosen.DENOISER, dtype) if tiny else network_shape(config.base.path, dtype)
    parts: dict[str, Any] = dict.fromkeys(chosen.Pipeline._get_signature_keys(chosen.Pipeline)[0])
    scheduler = getattr(diffusers, str(preset.teacher.scheduler))
    parts["scheduler"] = scheduler.from_config(dict(preset.teacher.scheduler_config))
    parts[chosen.DENOISER] = materialise(network, device)
    size = config.base.size
    backbone = training_class(config.base.family)(
        chosen.Pipeline(**parts),
        rank=config.lora.rank,
        alpha=config.lora.alpha,
        targets=config.lora.targets,
        seed=config.seed,
        max_sequence_length=config.base.max_sequence_length,
        size=Size(**dict(zip(("width", "height", "frames"), size, strict=False))) if size else None,
    )
    if config.run.gradient_checkpointing:
        backbone.roles.checkpoint_gradients()
    return backbone


def tiny_shape(system: System, denoiser_name: str, dtype: torch.dtype) -> nn.Module:
    """The system's shape with the same class and parts, and few and narrow layers."""
    shape = json.loads((ROOT / "assets" / "shapes" / f"{system.shape}.json").read_text("utf-8"))
    with TemporaryDirectory() as folder:
        path = Path(folder) / denoiser_name / "config.json"
        path.parent.mkdir()
        path.write_text(json.dumps({**shape["config"], **system.tiny}), encoding="utf-8")
        return network_shape(folder, dtype)


def materialise(network: nn.Module, device: torch.device) -> nn.Module:
    """The network with small random weights, made where they are needed: a host may have no room for them."""
    network.to_empty(device=device)
    generator = torch.Generator(device).manual_seed(0)
    for name, tensor in chain(network.named_parameters(), network.named_buffers()):
        if not tensor.is_floating_point():
            continue
        with torch.no_grad():
            if tensor.ndim == 1 and name.endswith("weight"):
                tensor.fill_(1)  # a norm's scale: near zero it would silence the network
            else:
                tensor.normal_(std=STD, generator=generator)
    return network


def random_text(backbone: StockTraining, rows: int) -> Conditioning:
    """Conditioning of the sizes that the published pipeline passes, in place of prompts, [rows, ...]."""
    inputs: dict[str, Any] = {}
    for name, value in example_inputs(backbone.network).items():
        inputs |= value if isinstance(value, Mapping) else {name: value}
    generator = torch.Generator().manual_seed(0)
    drawn = {
        name: torch.randn(rows, *tensor.shape[1:], generator=generator)
        for name, tensor in inputs.items()
        if name not in NOT_TOLD
    }
    return Conditioning(drawn).cast(backbone.roles.base_dtype)


def training(config: DistillConfig, backbone: StockTraining, whole_batch: int) -> list[Measure]:
    """Speed of real iterations."""
    rows = config.optimiser.batch_size
    text = random_text(backbone, 1 + rows)

    def draw(batch_size: int, generator: torch.Generator, of_batch: slice = ALL_ROWS, /) -> Conditioning:
        return text.rows(torch.randint(len(text), (batch_size,), generator=generator)[of_batch])

    trainer = Trainer(config, backbone, draw, uncond=text.rows(slice(0, 1)))
    (spent,) = take_turns([trainer.train_step], backbone.device)
    seconds = median(spent)
    at_once = config.run.micro_batch or rows
    return [
        Measure(what=f"training: steps of {rows} rows, {at_once} at once", value=1 / seconds, unit="1/s", n=ROUNDS),
        Measure(what="training: rows", value=rows / seconds, unit="1/s", n=ROUNDS),
        Measure(
            what=f"training: a step of the recipe's {whole_batch} rows, from the time of a row",
            value=seconds / rows * whole_batch,
            unit="s",
            n=ROUNDS,
        ),
    ]


def memory(allocated: int, reserved: int, *, bar: bool) -> list[Measure]:
    """Bytes at the peak of training: tensors, and what the allocator took from the card for them."""
    value = allocated / GIGA
    limit, met = (f"< {CARD_GB}", value < CARD_GB) if bar else ("", None)
    return [
        Measure(what="training: peak memory, tensors", value=value, unit="GB", bar=limit, met=met),
        Measure(what="training: peak memory, taken from the card", value=reserved / GIGA, unit="GB"),
    ]


@torch.no_grad()
def sampling(config: DistillConfig, backbone: StockTraining, preset: Preset) -> list[Measure]:
    """One sample's way from noise to latents: the preset's guided teacher, and the student with its LoRA unmerged.

    Both go by DDIM or Euler; another scheduler costs as many evaluations, and next to nothing itself.
    """
    device, settings = backbone.device, preset.teacher
    text = random_text(backbone, 2).to(device)
    uncond, told = text.rows(slice(0, 1)), text.rows(slice(1, 2))
    noise = torch.randn(1, *backbone.latent_shape, generator=torch.Generator().manual_seed(0)).to(device)
    teacher = denoiser(backbone, NetworkRole.TEACHER, told, uncond=uncond, guidance_scale=settings.guidance_scale)
    student = denoiser(backbone, NetworkRole.STUDENT, told)
    student_nodes = config.trajectory.grids()[config.trajectory.steps]
    ways = [(teacher, time_nodes(settings.steps)), (student, student_nodes)]

    nfe = [0, 0]

    def run(number: int) -> None:
        denoise, nodes = ways[number]
        before = backbone.roles.evaluations
        for _ in roll_out(denoise, noise, nodes, backbone.process):
            pass
        nfe[number] = backbone.roles.evaluations - before

    teacher_seconds, student_seconds = map(median, take_turns([lambda: run(0), lambda: run(1)], device))
    ratio, evaluations = teacher_seconds / student_seconds, nfe[0] / nfe[1]
    return [
        Measure(what=f"sampling: teacher's denoiser, {nfe[0]} evaluations", value=teacher_seconds, unit="s", n=ROUNDS),
        Measure(what=f"sampling: student's denoiser, {nfe[1]} evaluations", value=student_seconds, unit="s", n=ROUNDS),
        Measure(what="sampling: teacher / student, denoiser alone", value=ratio, n=ROUNDS),
        Measure(what="sampling: teacher / student, network evaluations", value=evaluations),
        Measure(what="sampling: share of the evaluations' ratio left", value=ratio / evaluations, n=ROUNDS),
    ]


def take_turns(calls: Sequence[Callable[[], object]], device: torch.device) -> list[list[float]]:
    """Seconds of each call, alternating, after warm-ups; the device has then done all its work."""
    spent: list[list[float]] = [[] for _ in calls]
    for _ in range(WARM_UPS + ROUNDS):
        for call, seconds in zip(calls, spent, strict=True):
            finish(device)
            started = time.perf_counter()
            call()
            finish(device)
            seconds.append(time.perf_counter() - started)
    return [seconds[WARM_UPS:] for seconds in spent]


def finish(device: torch.device) -> None:
    """Wait for what was only queued."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)


def save_row(
    system: str, measures: Sequence[Measure], *, machine: str, rows: int = ROWS, folder: Path = RESULTS
) -> Path:
    """A row of the card's own, so that the table shows the newest of each card."""
    slug = "-".join("".join(letter if letter.isalnum() else " " for letter in machine.lower()).split())
    command = f"python -m benchmarks.full_size {system}" + f" --rows {rows}" * (rows != ROWS)
    path = save(f"full-size-{system}-{slug}", command, measures, folder=folder)
    # `save` names the processor, and here the card did the work.
    row = json.loads(path.read_text("utf-8")) | {"machine": machine}
    path.write_text(json.dumps(row, indent=1) + "\n", encoding="utf-8")
    return path


if __name__ == "__main__":
    sys.exit(main())
