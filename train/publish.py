"""Scores a mini teacher while it trains, and publishes it with its card.

    python -m train.publish train/teachers/mini-sd3.toml --score 96      adds one row to <out>/scores.jsonl
    python -m train.publish train/teachers/mini-sd3.toml --to assets/models/mini-sd3

Both read the averaged weights that ``train.mini`` leaves in ``<out>/pipeline``, so they may run beside the training.
"""

from __future__ import annotations

import argparse
import json
import math
import platform
import shutil
import sys
from pathlib import Path
from typing import Any

import numpy as np
import torch
from diffusers import DiffusionPipeline
from diffusers.utils import logging

from tdm_core.backbones import mini
from tdm_core.errors import ConfigError, TDMError
from tdm_core.scenes.suite import limited
from tdm_core.toml_config import from_toml
from tdm_core.training.pretrain import append_log
from train.mini import HISTORY, NOTHING_YET, STARTED_FROM, MiniConfig
from train.worlds import Pixels

SHARD = "9MB"  # a Space refuses files over 10 MB
TAGS = {"sd3": "stable-diffusion-3", "pixart": "pixart-alpha", "cogvideox": "cogvideox"}
EXAMPLES = {
    "sd3": """```python
import torch
from diffusers import StableDiffusion3Pipeline

pipe = StableDiffusion3Pipeline.from_pretrained("{folder}", text_encoder_3=None, tokenizer_3=None)
picture = pipe(
    "a cat left of a dog",
    sigmas=[1 - i / {steps} for i in range({steps})],  # the scheduler's own grid wastes its last step
    guidance_scale={guidance},
    max_sequence_length=0,  # without a T5 these tokens would be zeros
    generator=torch.Generator().manual_seed(7),
).images[0]
```""",
    "pixart": """```python
import torch
from diffusers import PixArtAlphaPipeline

pipe = PixArtAlphaPipeline.from_pretrained("{folder}")
picture = pipe(
    "a cat left of a dog",
    num_inference_steps={steps},
    guidance_scale={guidance},
    max_sequence_length=14,
    use_resolution_binning=False,  # the bins are of 256 pixels and more
    clean_caption=False,
    generator=torch.Generator().manual_seed(7),
).images[0]
```""",
    "cogvideox": """```python
import torch
from diffusers import CogVideoXPipeline

pipe = CogVideoXPipeline.from_pretrained("{folder}")
frames = pipe(
    "a cat moving left and a dog standing still",
    num_inference_steps={steps},  # a divisor of 1000: the scheduler rounds its steps' length down
    guidance_scale={guidance},
    max_sequence_length=pipe.transformer.config.max_text_seq_length,  # text is not masked: its length matters
    generator=torch.Generator().manual_seed(7),
).frames[0]
frames[0].save("cat.gif", save_all=True, append_images=frames[1:], duration=125, loop=0)
```""",
}
DC_NOTE = """`AutoencoderDC` carries two config keys for the pipeline (`block_out_channels`, `shift_factor`); diffusers
says that it ignores them and keeps them."""
NOTES = {
    "sd3": DC_NOTE,
    "pixart": DC_NOTE,
    "cogvideox": """Do not enable the autoencoder's tiles as they are: at this size their overlaps are no whole latents,
and frames come out in another size.""",
}


PRECISIONS = {"fp32": "fp32", "bf16": "fp32 but for matrix products in bfloat16"}


def _autoencoder(config: MiniConfig) -> str:
    if config.borrowed_autoencoder:
        return f"with the autoencoder of `{config.borrowed_autoencoder.as_posix()}`"
    minutes = config.autoencoder.minutes + (config.stills.minutes if config.stills else 0)
    return f"the autoencoder's {minutes:.0f} minutes aside"


def load(config: MiniConfig) -> DiffusionPipeline:
    folder = config.out / "pipeline"
    if not (folder / "model_index.json").exists():
        raise ConfigError(f"{folder}: no pipeline yet; run python -m train.mini first")
    logging.set_verbosity_error()
    pipeline = mini.family(config.family).load(folder)
    pipeline.set_progress_bar_config(disable=True)
    return pipeline


def draw(config: MiniConfig, prompts: list[str], batch_size: int = 32) -> list[Pixels]:
    """One guided teacher picture a prompt, noise of picture i from seed i."""
    family, pipeline = mini.family(config.family), load(config)
    pictures: list[Pixels] = []
    for start in range(0, len(prompts), batch_size):
        batch = prompts[start : start + batch_size]
        seeds = range(start, start + len(batch))
        images = family.draw(pipeline, batch, seeds, steps=config.teacher_steps, guidance=config.guidance_scale)
        pictures += list((images * 255).round().astype(np.uint8))
    return pictures


def score_now(config: MiniConfig, num_prompts: int) -> dict[str, float]:
    """Score the weights as they stand on the first prompts of the suite, one picture each."""
    questions = limited(config.world.questions(), num_prompts)
    scores = config.world.score(draw(config, [item.prompt for item in questions]), questions)
    progress = _rows(config.out / "teacher.jsonl")[-1]
    row = {"step": progress["step"], "minutes": progress["minutes"], "prompts": len(questions)}
    row |= {"guidance_scale": config.guidance_scale} | scores
    append_log(config.out / "scores.jsonl", row)
    return row


def publish(config: MiniConfig, source: Path, folder: Path) -> None:
    """Write the pipeline as it ships: transformer and autoencoder in bf16, text encoders in fp32, with a card.

    Raises:
        ConfigError: if the folder holds anything but an earlier pipeline, which it replaces.
    """
    if folder.exists() and any(folder.iterdir()) and not (folder / "model_index.json").is_file():
        raise ConfigError(f"--to {folder}: holds something else than a pipeline; name a new folder")
    pipeline = load(config)
    pipeline.transformer.to(torch.bfloat16)
    pipeline.vae.to(torch.bfloat16)
    draft = folder.with_name(f".draft-{folder.name}")
    shutil.rmtree(draft, ignore_errors=True)
    pipeline.save_pretrained(draft, max_shard_size=SHARD)
    history = training_history(config)
    (draft / HISTORY).write_text(json.dumps(history, indent=1) + "\n", encoding="utf-8")
    (draft / "README.md").write_text(card(config, source, folder, history), encoding="utf-8")
    if history["scores"]:
        (draft / "score.svg").write_text(curve(history["scores"]), encoding="utf-8")
    shutil.rmtree(folder, ignore_errors=True)
    draft.rename(folder)


def training_history(config: MiniConfig) -> dict[str, Any]:
    """Minutes, pictures and scores of the whole training, also of the run whose published weights it started from."""
    before = config.out / STARTED_FROM
    history = NOTHING_YET | (json.loads(before.read_text(encoding="utf-8")) if before.exists() else {})
    last = _rows(config.out / "teacher.jsonl")[-1]
    on_stills = last["step"] - math.ceil(last["step"] / (1 + config.joint.per_clip_step)) if config.joint else 0
    scores = [
        row | {"minutes": history["minutes"] + row["minutes"], "step": history["steps"] + row["step"]}
        for row in _rows(config.out / "scores.jsonl")
    ]
    return {
        "minutes": history["minutes"] + last["minutes"],
        "steps": history["steps"] + last["step"],
        "pictures": history["pictures"] + (last["step"] - on_stills) * config.training.batch_size,
        "stills": history["stills"] + on_stills * (config.joint.batch_size if config.joint else 0),
        "scores": history["scores"] + scores,
    }


def _rows(path: Path) -> list[dict[str, float]]:
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()] if path.exists() else []


def curve(rows: list[dict[str, float]]) -> str:
    """Scene score against minutes of training, as an SVG."""
    width, height, left, bottom = 640, 300, 50, 260
    longest = max(row["minutes"] for row in rows)

    def x(minutes: float) -> float:
        return left + (width - left - 20) * minutes / longest

    def y(score: float) -> float:
        return bottom - (bottom - 20) * score

    points = " ".join(f"{x(row['minutes']):.1f},{y(row['overall']):.1f}" for row in rows)
    grid = "".join(
        f'<path d="M{left} {y(v):.1f}H{width - 20}" stroke="#ccc"/><text x="{left - 8}" y="{y(v) + 4:.1f}" '
        f'text-anchor="end">{v:.1f}</text>'
        for v in (0, 0.2, 0.4, 0.6, 0.8, 1.0)
    )
    dots = "".join(f'<circle cx="{x(r["minutes"]):.1f}" cy="{y(r["overall"]):.1f}" r="4"/>' for r in rows)
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" font-family="sans-serif" '
        f'font-size="13" fill="#444"><rect width="{width}" height="{height}" fill="#fff"/>{grid}'
        f'<polyline points="{points}" fill="none" stroke="#3a6adc" stroke-width="2.5"/><g fill="#3a6adc">{dots}</g>'
        f'<text x="{width / 2}" y="{height - 12}" text-anchor="middle">minutes of training '
        f"(0 to {longest:.0f})</text></svg>\n"
    )


def card(config: MiniConfig, source: Path, folder: Path, history: dict[str, Any]) -> str:
    """The model card: use, making, scores while training."""
    name, where = folder.name, folder.as_posix()
    table = "\n".join(
        f"| {row['minutes']:.0f} | {row['step']:.0f} | {row['guidance_scale']:g} | {row['overall']:.3f} "
        f"| {row['prompts']:.0f} |"
        for row in history["scores"]
    )
    pipeline = mini.family(config.family).PIPELINE.__name__
    return f"""---
license: apache-2.0
library_name: diffusers
pipeline_tag: {config.world.task}
tags: [{TAGS[config.family]}, tiny, emoji-scenes]
---

# {name}

A `{pipeline}` at a tiny size, trained from nothing on rendered {config.world.what} by
`python -m train.mini {source.as_posix()}`. It is the teacher of `{name}-tdm`.

{EXAMPLES[config.family].format(folder=where, steps=config.teacher_steps, guidance=config.guidance_scale)}

{NOTES[config.family]}

## How it was made

{history["steps"]:,.0f} steps over {_seen(config, history)} in {history["minutes"]:.0f} minutes
on {platform.machine()}, {PRECISIONS[config.training.precision]}, beside other work, {_autoencoder(config)}.
Configuration: `{source.as_posix()}`. The emoji are Noto Color Emoji (OFL-1.1, `assets/scenes/OFL.txt`).

## Score while training

{config.world.measure} ({config.teacher_steps} steps, one sample a prompt, spread over the suite's categories):

![score against minutes](score.svg)

| minutes | step | guidance | overall | prompts |
| --- | --- | --- | --- | --- |
{table}
"""


def _seen(config: MiniConfig, history: dict[str, Any]) -> str:
    seen = f"{history['pictures']:,.0f} {config.world.samples}"
    return f"{seen} and {history['stills']:,.0f} single frames" if history["stills"] else seen


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(
        prog="python -m train.publish", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("config", type=Path, help="the file of train/teachers/ that the teacher is trained with")
    parser.add_argument("--set", action="append", default=[], metavar="a.b=c", help="override one key of the file")
    parser.add_argument("--score", type=int, metavar="N", help="score the weights as they stand on N prompts")
    parser.add_argument("--to", type=Path, metavar="FOLDER", help="publish the weights as they stand")
    options = parser.parse_args(arguments)
    try:
        config = from_toml(MiniConfig, options.config, options.set)
        torch.set_num_threads(config.training.threads)
        if options.score:
            print(json.dumps({k: round(v, 4) for k, v in score_now(config, options.score).items()}))
        if options.to:
            publish(config, options.config, options.to)
    except TDMError as error:
        print(error, file=sys.stderr)
        return 2 if isinstance(error, ConfigError) else 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
