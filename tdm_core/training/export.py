"""The finished student: a LoRA that stock loaders take at strength 1.0, its time nodes inside, and a model card.

The nodes travel with the weights (metadata key ``tdm``), because a student sampled on other nodes is another student,
and alpha travels too: without it stock loaders scale by 1 instead of alpha / rank.
"""

from __future__ import annotations

import json
import os
import re
import shutil
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

import torch
from PIL import Image
from safetensors import SafetensorError, safe_open
from torch import Tensor

from tdm_core.backbones.base import INDEX, Size
from tdm_core.backbones.stock_training import LORA_FILE, PEFT_FILE, StockTraining
from tdm_core.backbones.trainable import TrainableBackbone
from tdm_core.errors import TrainingError
from tdm_core.training.config import BaseConfig, DistillConfig

METADATA_KEY = "tdm"
CARD, RECIPE, SAMPLES = "README.md", "recipe.json", "samples.png"


@dataclass(frozen=True, kw_only=True)
class Provenance:
    """How a student came about, for its card."""

    iterations: int
    minutes: float
    machine: str
    commit: str
    num_prompts: int


def check_told(config: DistillConfig) -> None:
    """Raises `TrainingError` if the recipe's student is none that can be exported."""
    if config.trajectory.told == "both":
        raise TrainingError(
            "trajectory.told: a student that is told its number of steps is no LoRA that stock loaders take.\n"
            "Tell the fake alone, or tell by the grids: --set trajectory.told=fake, --set trajectory.apart=0.008"
        )


def check_export(config: DistillConfig, *, replace: bool = False) -> None:
    """Refuse an export folder with anything in it but an earlier student of this very recipe.

    Args:
        replace: let a student of another recipe be replaced; a folder that holds a whole pipeline is refused even so.

    Raises:
        TrainingError: says what the folder holds.
    """
    folder = config.export.folder
    if folder.exists() and not folder.is_dir():
        raise TrainingError(f"export.folder: {folder} is a file.\nName a folder with --set export.folder=...")
    if (folder / INDEX).exists():
        raise TrainingError(
            f"export.folder: {folder} holds a whole pipeline, and a student would overwrite its card.\n"
            "Name another with --set export.folder=..."
        )
    if replace:
        return
    held = [folder / name for name in (LORA_FILE, PEFT_FILE, CARD, RECIPE) if (folder / name).exists()]
    if held and (found := _config_hash(held[0])) != config.hash:
        what = f"the student of another recipe, {found}" if found else f"a {held[0].name} that no recipe made"
        raise TrainingError(
            f"export.folder: {folder} holds {what}; this one is {config.hash}.\n"
            "Name another with --set export.folder=..., or pass --replace."
        )


def _config_hash(lora: Path) -> str | None:
    """Of the recipe that made a student."""
    try:
        with safe_open(lora, framework="pt") as file:
            return str(json.loads(file.metadata()[METADATA_KEY])["config_hash"])
    except (OSError, ValueError, TypeError, KeyError, SafetensorError):
        return None


def metadata(config: DistillConfig, backbone: TrainableBackbone, iterations: int) -> dict[str, Any]:
    """What a sampler must know of a student, as stored in its file.

    ``sigmas`` are the times of `tdm_core.diffusion.noise` for each number of steps, without the final 0: a flow model's
    sigmas, and ``(timestep + 1) / N`` of the others; ``timesteps`` is what the network is fed there.
    """
    grids = {str(steps): nodes[:-1] for steps, nodes in config.trajectory.grids().items()}
    return {
        "sigmas": {steps: [round(float(t), 6) for t in nodes] for steps, nodes in grids.items()},
        "timesteps": {
            steps: [round(float(t), 3) for t in backbone.process.model_time(nodes)] for steps, nodes in grids.items()
        },
        "base": config.base.path,
        "method": config.objective.method,
        "prediction_type": backbone.prediction_type.value,
        "trained_steps": list(config.trajectory.grids()),
        "guidance_scale": 1.0,
        "teacher_guidance_scale": config.objective.guidance_scale,
        "max_sequence_length": config.base.max_sequence_length,
        "size": list(_numbers(_size(backbone))),
        "config_hash": config.hash,
        "iterations": iterations,
    }


def export_student(
    config: DistillConfig,
    backbone: TrainableBackbone,
    state: Mapping[str, Tensor],
    provenance: Provenance,
    *,
    samples: Image.Image | None = None,
) -> Path:
    """Write LoRA, recipe, samples and model card into ``config.export.folder``; returns the LoRA's file.

    All files are written beside their place first, so that a folder never holds half a student.

    Args:
        samples: a sheet of the recipe's preview prompts, one column each: teacher, cut teacher, student.

    Raises:
        TrainingError: if they cannot be written; what the folder held before is untouched.
    """
    check_told(config)
    folder = config.export.folder
    about = metadata(config, backbone, provenance.iterations)
    draft = folder.with_name(f".draft-{folder.name}")
    shutil.rmtree(draft, ignore_errors=True)
    dtype = getattr(torch, config.export.dtype)
    weights = {name: tensor.detach().to(dtype).contiguous().cpu() for name, tensor in state.items()}
    try:
        draft.mkdir(parents=True)
        (draft / RECIPE).write_text(json.dumps(config.tables(), indent=1) + "\n", encoding="utf-8")
        lora = backbone.save_lora(draft, weights, {METADATA_KEY: json.dumps(about, sort_keys=True)})
        lora.chmod((draft / RECIPE).stat().st_mode)  # safetensors gives its files to their owner alone
        if samples is not None:
            samples.save(draft / SAMPLES)
        card = model_card(config, backbone, about, provenance, with_samples=samples is not None)
        (draft / CARD).write_text(card, encoding="utf-8")
        folder.mkdir(parents=True, exist_ok=True)
        for path in sorted(draft.iterdir()):
            os.replace(path, folder / path.name)
        draft.rmdir()
    except (OSError, SafetensorError) as error:
        shutil.rmtree(draft, ignore_errors=True)
        raise TrainingError(
            f"export.folder: {folder}: cannot be written: {getattr(error, 'strerror', None) or error}\n"
            "Make room, or name another with --set export.folder=..., and run again with --resume."
        ) from error
    return folder / lora.name


def model_card(
    config: DistillConfig,
    backbone: TrainableBackbone,
    about: Mapping[str, Any],
    provenance: Provenance,
    *,
    with_samples: bool = False,
) -> str:
    """The card: how to sample, how it was made, and a place for its scores; the base's licence where it names one."""
    *fewer, most = sorted(about["trained_steps"])
    steps = f"{', '.join(map(str, fewer))} or {most}" if fewer else str(most)
    nodes = f"The time nodes of {steps} steps are" if fewer else "The time nodes are also"
    how = BY[config.objective.method]
    size = _size(backbone)
    width, height, *frames = _numbers(size)
    example = backbone.card_example(config.base.path, config.export.folder.as_posix(), about)
    if config.base.size:
        example = _sized(example, size)
    return f"""---
{_licence(Path(config.base.path))}base_model: {config.base.path}
library_name: diffusers
tags: [lora, few-step, tdm]
---

# {config.title}

A student of `{config.base.path}` for {steps} steps, distilled by {how}.
{steps} network evaluations a sample, no guidance, {width} x {height} pixels{f", {frames[0]} frames" if frames else ""}.

```python
{example}
```

{nodes} in the file's metadata, key `{METADATA_KEY}`; other numbers of steps were not trained.
{_samples(config) if with_samples else ""}
## How it was made

| | |
| --- | --- |
| recipe | `{RECIPE}`, hash `{about["config_hash"]}` |
| commit | {provenance.commit} |
| iterations | {provenance.iterations} of batch {config.optimiser.batch_size}, {provenance.num_prompts:,} prompts |
{_begun_from(config.base)}| time | {provenance.minutes:.1f} minutes on {provenance.machine} |
| teacher's guidance | {about["teacher_guidance_scale"]}, baked in |

## Scores

{SCORES_PLACE}
"""


BY = {
    "tdm": "Trajectory Distribution Matching (arXiv:2503.06674) from\nprompts alone",
    "dmd2": "DMD2 without its GAN (arXiv:2405.14867) from prompts\nalone, to be sampled with fresh noise at each step",
    "lcm": "latent consistency distillation (arXiv:2311.05556), to be\nsampled with fresh noise at each step",
}

SCORES_PLACE = "Not scored yet: `python -m tdm_core evaluate generate` and `score`, then put the table here."


def _begun_from(base: BaseConfig) -> str:
    """The row of a student that an earlier stage's was the start of."""
    if base.student is None:
        return ""
    kept = f"; {base.student_kept:g} of its weights are kept" if base.student_kept else ""
    return f"| begun from | the student in `{base.student}`{kept} |\n"


def _samples(config: DistillConfig) -> str:
    prompts = "\n".join(f"{number}. {prompt}" for number, prompt in enumerate(config.run.preview_prompts, 1))
    return f"""
## Samples

![Teacher, cut teacher and student from the same noise]({SAMPLES})

Each column starts from one noise. From above: the guided teacher at {config.run.preview_teacher_steps} steps, the
guided teacher on the student's nodes, the student. Prompts, from the left:

{prompts}
"""


def _size(backbone: TrainableBackbone) -> Size:
    return cast(StockTraining, backbone).size


def _numbers(size: Size) -> tuple[int, ...]:
    """Width and height, and the frames of a video."""
    return (size.width, size.height) if size.frames == 1 else (size.width, size.height, size.frames)


def _sized(example: str, size: Size) -> str:
    """An example with the recipe's size in it, where it would leave it to the base, whose own may be another."""
    if "height=" in example:
        return example
    arguments = f"    height={size.height},\n    width={size.width},\n"
    return example.replace("    generator=", f"{arguments}    generator=", 1)


def _licence(base: Path) -> str:
    """The licence line of a local base's card; of another base nobody but its owner may say."""
    card = base / "README.md"
    found = re.search(r"^license: .+\n", card.read_text(encoding="utf-8"), re.MULTILINE) if card.is_file() else None
    return found.group() if found else ""
