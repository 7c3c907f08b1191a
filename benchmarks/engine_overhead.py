"""The engine against the bare diffusers pipeline on the same work, and the student against the teacher, end to end.

Runs that are compared take turns, so that whatever else the machine does falls on both; figures are medians.
``python -m benchmarks.engine_overhead [PRESET]`` runs it for another preset; beside the bare pipeline only SD3's.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Callable
from statistics import median
from typing import Any

import torch
from diffusers import StableDiffusion3Pipeline

from benchmarks.rows import Measure, save
from tdm_core.generation.engine import Engine
from tdm_core.generation.plan import Plan, make_plan
from tdm_core.generation.presets import Preset
from tdm_core.generation.sample import Role, Sample, SampleRequest, finish
from tdm_core.settings import Settings
from tdm_core.wiring import Wiring

WARM_UPS = 3
RUNS = 20
BATCH_SIZES = (1, 8)
DEFAULT = "mini-sd3"
"""The only one that the bars on seconds and on speed-ups are for."""


def main(name: str = DEFAULT) -> None:
    wiring = Wiring(Settings.from_env())
    preset = wiring.presets[name]
    measures = [
        *(overhead(wiring.engine, preset, role) for role in (Role.TEACHER, Role.STUDENT) if preset.family == "sd3"),
        *(each for batch_size in BATCH_SIZES for each in speed(wiring.engine, preset, batch_size)),
    ]
    for measure in measures:
        print(f"{measure.what:72} {measure.value:7.3f} {measure.unit:2} {measure.bar:10} {_verdict(measure)}")
    print(
        save(
            "engine" if name == DEFAULT else f"engine-{name}", f"python -m benchmarks.engine_overhead {name}", measures
        )
    )


def overhead(engine: Engine, preset: Preset, role: Role) -> Measure:
    """Wall time of the engine, threads and counting included, over the bare pipeline's.  Neither shows previews.

    Both run in the engine's thread: a second thread that computes would slow both (docs/log.md).
    """
    request = _request(preset, role)
    plan = make_plan(preset, request)

    def aside(job: Callable[[], Any]) -> Any:
        return engine._device.run(lambda _: job(), urgent=True)

    pipeline = aside(lambda: bare_pipeline(preset, lora=role is Role.STUDENT))
    ours, theirs = take_turns(
        lambda: finish(engine.sample(request, previews=False)),
        lambda: aside(lambda: run_bare(pipeline, preset, plan, request)),
    )
    return _measure(f"engine / bare pipeline, {role}, wall time", median(ours) / median(theirs), bar="<= 1.05")


def speed(engine: Engine, preset: Preset, batch_size: int) -> list[Measure]:
    """Text to pixels, teacher over student: as the clock says, in the denoiser alone, and in evaluations."""
    batches = {
        role: [_request(preset, role, seed) for seed in range(batch_size)] for role in (Role.TEACHER, Role.STUDENT)
    }
    samples: dict[Role, list[Sample]] = {role: [] for role in batches}

    def run(role: Role) -> None:
        samples[role].append(engine.sample_batch(batches[role])[0])

    take_turns(lambda: run(Role.TEACHER), lambda: run(Role.STUDENT))
    teacher, student = samples[Role.TEACHER][WARM_UPS:], samples[Role.STUDENT][WARM_UPS:]
    end_to_end = [median(sample.seconds for sample in side) for side in (teacher, student)]
    denoiser = [median(sample.denoiser_seconds for sample in side) for side in (teacher, student)]
    where = f"batch {batch_size}"
    first, default = batch_size == 1, preset.name == DEFAULT
    ratio, evaluations = end_to_end[0] / end_to_end[1], teacher[0].nfe / student[0].nfe
    bar = f">= {5 if first else 8}" if default else ""
    measures = [
        _measure(f"teacher / student, end to end, {where}", ratio, bar),
        _measure(f"teacher / student, denoiser alone, {where}", denoiser[0] / denoiser[1]),
        _measure(f"teacher, one sample, {where}", end_to_end[0], unit="s"),
        _measure(f"student, one sample, {where}", end_to_end[1], bar="<= 0.3" if first and default else "", unit="s"),
        _measure(f"share of the evaluations' ratio left, {where}", ratio / evaluations, "" if first else ">= 0.65"),
    ]
    if first:
        few = median(finish(engine.sample(_request(preset, Role.TEACHER_FEW))).seconds for _ in range(3))
        measures += [
            _measure("teacher / student, network evaluations", evaluations),
            _measure(
                "one pair with the cut teacher between them",
                sum(end_to_end) + few,
                bar="<= 3" if default else "",
                unit="s",
            ),
        ]
    return measures


def take_turns(first: Callable[[], Any], second: Callable[[], Any]) -> tuple[list[float], list[float]]:
    """Seconds of each call of both, alternating, after warm-ups."""
    seconds: tuple[list[float], list[float]] = ([], [])
    for _ in range(WARM_UPS + RUNS):
        for call, spent in zip((first, second), seconds, strict=True):
            start = time.perf_counter()
            call()
            spent.append(time.perf_counter() - start)
    return seconds[0][WARM_UPS:], seconds[1][WARM_UPS:]


def bare_pipeline(preset: Preset, *, lora: bool) -> StableDiffusion3Pipeline:
    """As a user of plain diffusers would load it; its LoRA fused where the preset merges it."""
    pipeline = StableDiffusion3Pipeline.from_pretrained(
        preset.local(preset.base), dtype=getattr(torch, preset.dtype), **dict.fromkeys(preset.omit)
    )
    if lora:
        pipeline.load_lora_weights(preset.local(preset.student.lora))
        if preset.student.merge:
            pipeline.fuse_lora()
            pipeline.unload_lora_weights()
    pipeline.set_progress_bar_config(disable=True)
    return pipeline


def run_bare(pipeline: StableDiffusion3Pipeline, preset: Preset, plan: Plan, request: SampleRequest) -> None:
    pipeline(
        request.prompt,
        height=preset.height,
        width=preset.width,
        num_inference_steps=plan.steps,
        sigmas=None if plan.sigmas is None else list(plan.sigmas),
        guidance_scale=plan.guidance_scale,
        max_sequence_length=preset.max_sequence_length,
        generator=torch.Generator("cpu").manual_seed(request.seed),
    )


def _request(preset: Preset, role: Role, seed: int = 0) -> SampleRequest:
    prompt = "a cat moving left" if preset.media == "video" else "a cat left of a dog"
    return SampleRequest(preset=preset.name, role=role, prompt=prompt, seed=seed)


def _measure(what: str, value: float, bar: str = "", unit: str = "") -> Measure:
    met = None
    if bar:
        sign, limit = bar.split()
        met = value <= float(limit) if sign == "<=" else value >= float(limit)
    return Measure(what=what, value=value, unit=unit, n=RUNS, bar=bar, met=met)


def _verdict(measure: Measure) -> str:
    return {True: "met", False: "NOT MET", None: ""}[measure.met]


if __name__ == "__main__":
    main(*sys.argv[1:])
