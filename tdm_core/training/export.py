"""The finished student: a LoRA that stock loaders take at strength 1.0, its time nodes inside, and a model card.

The nodes travel with the weights (metadata key ``tdm``), because a student sampled on other nodes is another student,
and alpha travels too: without it stock loaders scale by 1 instead of alpha / rank.
"""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from tdm_core.backbones.trainable import TrainableBackbone
from tdm_core.training.config import DistillConfig

METADATA_KEY = "tdm"
CARD, RECIPE = "README.md", "recipe.json"


@dataclass(frozen=True, kw_only=True)
class Provenance:
    """How a student came about, for its card."""

    iterations: int
    minutes: float
    machine: str
    commit: str
    num_prompts: int


def metadata(config: DistillConfig, backbone: TrainableBackbone, nodes: Tensor, iterations: int) -> dict[str, Any]:
    """What a sampler must know of a student, as stored in its file."""
    steps = config.trajectory.steps
    return {
        "sigmas": {str(steps): [round(float(t), 6) for t in nodes[:-1]]},
        "base": config.base.path,
        "method": "tdm",
        "prediction_type": backbone.prediction_type.value,
        "trained_steps": [steps],
        "guidance_scale": 1.0,
        "teacher_guidance_scale": config.objective.guidance_scale,
        "max_sequence_length": config.base.max_sequence_length,
        "size": backbone.size_px,
        "config_hash": config.hash,
        "iterations": iterations,
    }


def export_student(
    config: DistillConfig,
    backbone: TrainableBackbone,
    state: Mapping[str, Tensor],
    nodes: Tensor,
    provenance: Provenance,
) -> Path:
    """Write LoRA, recipe and model card into ``config.export.folder``; returns the LoRA's file.

    All files are written beside their place first, so that a folder never holds half a student.
    """
    folder = config.export.folder
    about = metadata(config, backbone, nodes, provenance.iterations)
    draft = folder.with_name(f".draft-{folder.name}")
    shutil.rmtree(draft, ignore_errors=True)
    draft.mkdir(parents=True)
    dtype = getattr(torch, config.export.dtype)
    weights = {name: tensor.detach().to(dtype).contiguous().cpu() for name, tensor in state.items()}
    lora = backbone.save_lora(draft, weights, {METADATA_KEY: json.dumps(about, sort_keys=True)})
    (draft / RECIPE).write_text(json.dumps(config.tables(), indent=1) + "\n", encoding="utf-8")
    (draft / CARD).write_text(model_card(config, about, provenance), encoding="utf-8")
    folder.mkdir(parents=True, exist_ok=True)
    for path in sorted(draft.iterdir()):
        os.replace(path, folder / path.name)
    draft.rmdir()
    return folder / lora.name


def model_card(config: DistillConfig, about: Mapping[str, Any], provenance: Provenance) -> str:
    """The card: how to sample, how it was made, and a place for its scores."""
    steps, sigmas = next(iter(about["sigmas"].items()))
    return f"""---
base_model: {config.base.path}
library_name: diffusers
tags: [lora, text-to-image, few-step, tdm]
---

# {config.title}

A {steps}-step student of `{config.base.path}`, distilled by Trajectory Distribution Matching (arXiv:2503.06674) from
prompts alone. {steps} network evaluations a picture, no guidance, {about["size"]} x {about["size"]} pixels.

```python
import torch
from diffusers import FlowMatchEulerDiscreteScheduler, StableDiffusion3Pipeline

pipe = StableDiffusion3Pipeline.from_pretrained("{config.base.path}", {_loading(config)})
pipe.scheduler = FlowMatchEulerDiscreteScheduler(shift=1.0)  # the sigmas below are final: a shift would move them again
pipe.load_lora_weights("{config.export.folder.as_posix()}")  # strength 1.0
picture = pipe(
    "a cat left of a dog",
    sigmas={sigmas},
    guidance_scale=1.0,
    max_sequence_length={config.base.max_sequence_length},
    generator=torch.Generator().manual_seed(0),
).images[0]
```

The nodes are also in the file's metadata, key `{METADATA_KEY}`; other numbers of steps were not trained.

## How it was made

| | |
| --- | --- |
| recipe | `{RECIPE}`, hash `{about["config_hash"]}` |
| commit | {provenance.commit} |
| iterations | {provenance.iterations} of batch {config.optimiser.batch_size}, {provenance.num_prompts:,} prompts |
| time | {provenance.minutes:.1f} minutes on {provenance.machine} |
| teacher's guidance | {about["teacher_guidance_scale"]}, baked in |

## Scores

{SCORES_PLACE}
"""


SCORES_PLACE = "Not scored yet: `python -m tdm_core evaluate generate` and `score`, then put the table here."


def _loading(config: DistillConfig) -> str:
    return "torch_dtype=torch.bfloat16" if config.base.use_t5 else "text_encoder_3=None, tokenizer_3=None"
