"""The speed protocol: student against teacher, end to end, in one process, with the spread of the runs.

Three warm-ups, ten timed runs, median and quartiles, the share of each stage and the most memory held.  Three ratios
are printed, each honest about another thing: of network evaluations, of the denoising loop, and of text to pixels.
``seconds = fixed + per_evaluation * NFE`` is fitted over step counts, so that what no distillation can save has a
number as well.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from tdm_core.evaluation.arms import Arm
from tdm_core.evaluation.harness import BatchSampler, environment
from tdm_core.evaluation.suites import Item
from tdm_core.generation.presets import Preset
from tdm_core.generation.sample import Role, Sample

WARM_UPS = 3
FIT_STEPS = (1, 2, 4, 8)


@dataclass(frozen=True, kw_only=True)
class Timing:
    """Seconds of a whole batch: median and quartiles over the runs."""

    arm: str
    batch_size: int
    steps: int
    nfe: int
    seconds: float
    quartiles: tuple[float, float]
    denoiser_seconds: float
    shares: dict[str, float]
    """Of text encoding, denoising and decoding; empty where the engine does not tell them apart."""
    device_memory_mb: float | None


def measure_speed(
    sampler: BatchSampler, preset: Preset, items: Sequence[Item], *, batch_sizes: Sequence[int] = (1, 8), runs: int = 10
) -> dict[str, Any]:
    """Time teacher and student at each batch size and fit the student's cost: plain JSON, one row of a table."""
    teacher = Arm(
        name="teacher", role=Role.TEACHER, steps=preset.teacher.steps, guidance_scale=preset.teacher.guidance_scale
    )
    student = _student(preset, preset.student.steps)
    timings, ratios = [], []
    for batch_size in batch_sizes:
        slow, fast = _time(sampler, preset, (teacher, student), items, batch_size, runs)
        timings += [slow, fast]
        ratios.append(_ratios(slow, fast))
    curve = _time(sampler, preset, [_student(preset, steps) for steps in FIT_STEPS], items, 1, runs)
    per_evaluation, fixed = np.polyfit([each.nfe for each in curve], [each.seconds for each in curve], 1)
    return {
        "preset": preset.name,
        "timings": [vars(timing) for timing in timings],
        "ratios": ratios,
        "student_fit": {
            "fixed_seconds": float(fixed),
            "seconds_per_evaluation": float(per_evaluation),
            "largest_residual_seconds": max(abs(e.seconds - fixed - per_evaluation * e.nfe) for e in curve),
            "points": [[each.nfe, each.seconds] for each in curve],
        },
        "protocol": {"warm_ups": WARM_UPS, "runs": runs, "dtype": preset.dtype, "merged_lora": preset.student.merge},
        "environment": environment() | {"cores": str(os.cpu_count()), "threads": os.environ.get("OMP_NUM_THREADS")},
        "peak_memory_mb": _peak_memory_mb(),
    }


def _student(preset: Preset, steps: int) -> Arm:
    return Arm(name="student", role=Role.STUDENT, steps=steps, guidance_scale=preset.student.guidance_scale)


def _time(
    sampler: BatchSampler, preset: Preset, arms: Sequence[Arm], items: Sequence[Item], batch_size: int, runs: int
) -> list[Timing]:
    """The arms take turns, so that whatever else the machine does falls on all of them."""
    batches: list[list[list[Sample]]] = [[] for _ in arms]
    for number in range(WARM_UPS + runs):
        asked = [(items[(number + row) % len(items)].prompt, number * batch_size + row) for row in range(batch_size)]
        for arm, made in zip(arms, batches, strict=True):
            made.append(sampler.sample_batch([arm.request(preset, prompt, seed) for prompt, seed in asked]))
    return [_timing(arm, made[WARM_UPS:]) for arm, made in zip(arms, batches, strict=True)]


def _timing(arm: Arm, batches: Sequence[Sequence[Sample]]) -> Timing:
    seconds = np.array([_sum(batch, "seconds") for batch in batches])
    memory = [sample.device_memory_mb for batch in batches for sample in batch if sample.device_memory_mb is not None]
    low, high = np.quantile(seconds, [0.25, 0.75])
    return Timing(
        arm=arm.name,
        batch_size=len(batches[0]),
        steps=arm.steps,
        nfe=batches[0][0].nfe,
        seconds=float(np.median(seconds)),
        quartiles=(float(low), float(high)),
        denoiser_seconds=float(np.median([_sum(batch, "denoiser_seconds") for batch in batches])),
        shares=_shares(batches),
        device_memory_mb=max(memory, default=None),
    )


def _shares(batches: Sequence[Sequence[Sample]]) -> dict[str, float]:
    """Of the time over all runs; they add up to 1."""
    if any(sample.text_seconds is None for batch in batches for sample in batch):
        return {}
    whole, text, denoiser = (
        sum(_sum(batch, clock) for batch in batches) for clock in ("seconds", "text_seconds", "denoiser_seconds")
    )
    return {"text": text / whole, "denoiser": denoiser / whole, "decoding": 1 - (text + denoiser) / whole}


def _sum(batch: Sequence[Sample], clock: str) -> float:
    """The batch's clock; a sample's is its share."""
    return float(sum(getattr(sample, clock) for sample in batch))


def _ratios(slow: Timing, fast: Timing) -> dict[str, float]:
    return {
        "batch_size": fast.batch_size,
        "nfe": slow.nfe / fast.nfe,
        "denoiser": slow.denoiser_seconds / fast.denoiser_seconds,
        "end_to_end": slow.seconds / fast.seconds,
    }


def _peak_memory_mb() -> float | None:
    try:
        import resource  # noqa: PLC0415 -- not on Windows
    except ImportError:
        return None
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def speed_text(row: dict[str, Any]) -> str:
    """The figures for a terminal."""
    lines = [
        f"{row['preset']}: {row['protocol']['runs']} runs after {WARM_UPS} warm-ups; seconds of a batch, quartiles"
    ]
    for timing in row["timings"]:
        low, high = timing["quartiles"]
        lines.append(
            f"  {timing['arm']:<8} batch {timing['batch_size']:<2} {timing['steps']:>3} steps {timing['nfe']:>3} NFE"
            f"  {timing['seconds']:.3f} [{low:.3f}, {high:.3f}]  denoiser {timing['denoiser_seconds']:.3f}"
        )
        if timing["shares"]:
            lines.append("           " + ", ".join(f"{name} {share:.0%}" for name, share in timing["shares"].items()))
        if timing["device_memory_mb"] is not None:
            lines.append(f"           {timing['device_memory_mb']:,.0f} MiB on the device at most")
    lines += [
        f"  batch {ratio['batch_size']}: {ratio['end_to_end']:.1f}x end to end, {ratio['denoiser']:.1f}x denoiser,"
        f" {ratio['nfe']:.1f}x NFE"
        for ratio in row["ratios"]
    ]
    fit = row["student_fit"]
    lines.append(
        f"  student, batch 1: {fit['fixed_seconds']:.3f} s fixed + {fit['seconds_per_evaluation']:.3f} s per evaluation"
        f" (off by {fit['largest_residual_seconds']:.3f} s at most)"
    )
    if row["peak_memory_mb"]:
        lines.append(f"  the whole process: {row['peak_memory_mb']:,.0f} MiB at most")
    return "\n".join(lines)
