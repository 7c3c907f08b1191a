"""One iteration of our trainer against the published script's calls, on the same mini: forwards, and time.

Both take turns on one thread.  The bar is on processor time: it is the wall clock of a machine that does nothing else,
and on one that does, the wall clock says little.  Adapters cost a small network more than a large one: the recipe's
rank is a tenth of the mini's width.  So the time is also taken at rank 8, which is to this width what 64 is to SD3
medium's.  What the two share is compared, in fp32: the recipe's anchors, which the script does not have, are counted in
a row of their own.
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
WARM_UPS, ROUNDS, PROMPTS = 1, 5, 256
RANKS = (20, 8)
FORWARDS, TIME = 10.5, 0.72


def main() -> None:
    torch.set_num_threads(1)
    measures = [each for rank in RANKS for each in compare(rank)]
    measures.sort(key=lambda measure: "forward" not in measure.what)
    for measure in measures:
        print(f"{measure.what:88} {measure.value:7.3f} {measure.unit:2} {measure.bar}")
    print(save("trainer-cost", "make bench ARGS=trainer_cost", measures))


def compare(rank: int) -> list[Measure]:
    """Ours with adapters of this rank against the published calls."""
    overrides = [f"prompts.scenes={PROMPTS}", f"lora.rank={rank}", f"lora.alpha={rank}"]
    overrides += ["optimiser.warmup_iterations=0", 'run.precision="fp32"']
    config = DistillConfig.read(RECIPE, [*overrides, "objective.anchored_steps=0"])
    backbone, prompts = load_backbone(config), load_prompts(config)
    size, steps = config.optimiser.batch_size, config.trajectory.steps
    official = OfficialLoop(
        SD3Transformer2DModel.from_pretrained(config.base.path, subfolder="transformer", dtype=torch.float32),
        steps=steps,
        guidance_scale=config.objective.guidance_scale,
        uncond=backbone.encode([""]),
    )
    trainer = Trainer(config, backbone, draw_from_list(backbone, prompts))
    generator = torch.Generator().manual_seed(1)

    def theirs() -> None:
        noise = torch.randn(size, *backbone.latent_shape, generator=generator)
        drawn = torch.randint(len(prompts), (size,), generator=generator).tolist()
        official.step(noise, backbone.encode([prompts[index] for index in drawn]))  # it encodes in every iteration

    measures = []
    if rank == RANKS[0]:
        measures = [
            _forwards(f"ours, K = {steps}", trainer.train_step, (backbone.network,), size, bar=True),
            _forwards("the published calls", theirs, (official.student, official.fake, official.teacher), size),
        ]
        anchored = DistillConfig.read(RECIPE, overrides)
        another = load_backbone(anchored)
        whole = Trainer(anchored, another, draw_from_list(another, prompts))
        name = f"ours with the recipe's {anchored.objective.anchored_steps} anchored steps"
        measures.append(_forwards(name, whole.train_step, (another.network,), size))
    ours, other = take_turns(trainer.train_step, theirs)
    for index, kind in enumerate(("wall time", "processor time")):
        ratio = median(each[index] for each in ours) / median(each[index] for each in other)
        what = f"ours / the published calls, {kind} of an iteration, rank {rank}"
        bar, met = (f"<= {TIME}", ratio <= TIME) if kind == "processor time" else ("", None)
        measures.append(Measure(what=what, value=ratio, n=ROUNDS, bar=bar, met=met))
    seconds = median(each[1] for each in ours)
    what = f"ours, processor time of an iteration of {size} rows, rank {rank}"
    return [*measures, Measure(what=what, value=seconds, unit="s", n=ROUNDS)]


def _forwards(
    name: str, step: Callable[[], object], networks: tuple[torch.nn.Module, ...], size: int, *, bar: bool = False
) -> Measure:
    with forward_equivalents(*networks) as total:
        step()
    value = total[0] / size
    met = value <= FORWARDS if bar else None
    return Measure(what=f"forward-equivalents a row, {name}", value=value, bar=f"<= {FORWARDS}" * bar, met=met)


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
