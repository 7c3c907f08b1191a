"""One iteration of our trainer against the published script's calls, on the same mini: forwards, and time.

Both take turns on one thread, so that whatever else the machine does falls on both.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from statistics import median

import torch
from diffusers import SD3Transformer2DModel

from benchmarks.official_loop import OfficialLoop, forward_equivalents
from benchmarks.rows import ROOT, Measure, save
from tdm_core.training.config import DistillConfig
from tdm_core.training.prompts import draw_from_list
from tdm_core.training.trainer import Trainer
from train.distill import load_backbone, load_prompts

RECIPE = ROOT / "train" / "configs" / "mini-sd3-tdm.toml"
WARM_UPS, ROUNDS, PROMPTS = 1, 6, 256


def main() -> None:
    torch.set_num_threads(1)
    config = DistillConfig.read(RECIPE, [f"prompts.scenes={PROMPTS}", "optimiser.warmup_iterations=0"])
    backbone = load_backbone(config)
    size, steps = config.optimiser.batch_size, config.trajectory.steps
    official = OfficialLoop(
        SD3Transformer2DModel.from_pretrained(config.base.path, subfolder="transformer", dtype=torch.float32),
        steps=steps,
        guidance_scale=config.objective.guidance_scale,
        uncond=backbone.encode([""]),
    )
    draw = draw_from_list(backbone, load_prompts(config))
    trainer, generator = Trainer(config, backbone, draw), torch.Generator().manual_seed(1)

    def theirs() -> None:
        noise = torch.randn(size, *backbone.latent_shape, generator=generator)
        official.step(noise, draw(size, generator))

    rows = [
        ("ours", trainer.train_step, (backbone.network,), "<= 10.5"),
        ("the published calls", theirs, (official.student, official.fake, official.teacher), ""),
    ]
    measures = []
    for name, step, networks, bar in rows:
        with forward_equivalents(*networks) as total:
            step()
        value = total[0] / size
        met = value <= 10.5 if bar else None
        what = f"forward-equivalents a row, K = {steps}, {name}"
        measures.append(Measure(what=what, value=value, bar=bar, met=met))
    ours, other = take_turns(trainer.train_step, theirs)
    for kind, index in (("wall time", 0), ("processor time", 1)):
        ratio = median(each[index] for each in ours) / median(each[index] for each in other)
        what = f"ours / the published calls, {kind} of an iteration (batch {size}, medians)"
        bar, met = ("<= 0.72", ratio <= 0.72) if index == 0 else ("", None)
        measures.append(Measure(what=what, value=ratio, n=ROUNDS, bar=bar, met=met))
    measures.append(
        Measure(what="ours, one iteration, processor time", value=median(each[1] for each in ours), unit="s", n=ROUNDS)
    )
    for measure in measures:
        print(f"{measure.what:88} {measure.value:7.3f} {measure.unit:2} {measure.bar}")
    print(save("trainer-cost", "make bench ARGS=trainer_cost", measures))


def take_turns(
    first: Callable[[], object], second: Callable[[], object]
) -> tuple[list[tuple[float, float]], list[tuple[float, float]]]:
    """Wall and processor seconds of each call of both, alternating, after warm-ups."""
    spent: tuple[list[tuple[float, float]], list[tuple[float, float]]] = ([], [])
    for _ in range(WARM_UPS + ROUNDS):
        for call, seconds in zip((first, second), spent, strict=True):
            wall, processor = time.perf_counter(), time.process_time()
            call()
            seconds.append((time.perf_counter() - wall, time.process_time() - processor))
    return spent[0][WARM_UPS:], spent[1][WARM_UPS:]


if __name__ == "__main__":
    main()
