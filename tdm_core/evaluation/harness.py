"""Make the pictures of an evaluation run, resumable.  No metric is imported here: scoring knows the manifest alone."""

from __future__ import annotations

import hashlib
import platform
import subprocess
from collections.abc import Callable, Sequence
from functools import cache
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Protocol

from tdm_core.errors import EvaluationError, PresetError
from tdm_core.evaluation.arms import Arm, fingerprint
from tdm_core.evaluation.manifest import (
    HEADER,
    ArmEntry,
    Header,
    Picture,
    append_pictures,
    is_whole,
    picture_key,
    read_header,
    read_pictures,
    write_header,
)
from tdm_core.evaluation.suites import Item, Suite, keep_suite
from tdm_core.generation.media import encode, write_whole
from tdm_core.generation.presets import Preset
from tdm_core.generation.sample import Role, Sample, SampleRequest


class BatchSampler(Protocol):
    """What generating needs of the engine."""

    def sample_batch(self, requests: Sequence[SampleRequest]) -> list[Sample]: ...


Report = Callable[[str, int, int], None]
"""Called with the arm's name, the pictures done and the pictures asked for."""


def generate(
    folder: Path,
    *,
    preset: Preset,
    suite: Suite,
    arms: Sequence[Arm],
    sampler: BatchSampler,
    limit: int | None = None,
    seeds: int = 4,
    batch_size: int = 16,
    shard: tuple[int, int] = (0, 1),
    report: Report = lambda arm, done, total: None,
) -> None:
    """Make whatever pictures are not there yet; another call after a crash, or for more, goes on from here.

    Of ``shard = (rank, processes)`` each process makes every so many-th batch and writes lines of its own.  Batches are
    cut from all that is asked, not from what is missing, so the same pictures share a batch however the work is split.

    Raises:
        EvaluationError: if the folder holds a run of another suite or preset.
        PresetError: if the preset names what is not there.
    """
    for key, problem in preset.problems().items():
        if not key.startswith("student") or any(arm.role is Role.STUDENT for arm in arms):
            raise PresetError(problem)
    entries = {arm.name: _entry(preset, arm) for arm in arms}
    header = Header(
        preset=preset.name,
        suite=suite.name,
        suite_sha256=suite.sha256,
        limit=limit,
        seeds=seeds,
        arms=_earlier_arms(folder, preset, suite) | entries,
        environment=environment(),
        family=preset.family,
        base=preset.base,
    )
    folder.mkdir(parents=True, exist_ok=True)
    if shard[1] == 1:
        for left in folder.rglob(".*.part"):  # by a process that was killed while it wrote
            left.unlink()
    keep_suite(folder, suite)
    write_header(folder, header)
    asked = [(item, number) for item in suite.limited(limit) for number in range(seeds)]
    finished = read_pictures(folder)
    for arm in arms:
        (folder / arm.name).mkdir(exist_ok=True)
        keys = {
            (item, number): picture_key(suite.sha256, item, number, entries[arm.name].fingerprint)
            for item, number in asked
        }
        todo = [job for job in asked if not (found := finished.get(keys[job])) or not is_whole(folder, found)]
        report(arm.name, len(asked) - len(todo), len(asked))
        missing, done = set(todo), len(asked) - len(todo)
        for start in range(shard[0] * batch_size, len(asked), shard[1] * batch_size):
            jobs = [job for job in asked[start : start + batch_size] if job in missing]
            if not jobs:
                continue
            samples = sampler.sample_batch([arm.request(preset, item.prompt, item.seed(n)) for item, n in jobs])
            made = [
                _store(folder, arm, item, number, keys[item, number], sample, fps=preset.fps, batch_size=len(jobs))
                for (item, number), sample in zip(jobs, samples, strict=True)
            ]
            append_pictures(folder, made, rank=shard[0])
            done += len(jobs)
            report(arm.name, done, len(asked))


def _entry(preset: Preset, arm: Arm) -> ArmEntry:
    plan = arm.plan(preset)
    return ArmEntry(
        steps=plan.steps,
        nfe=plan.nfe,
        guidance_scale=plan.guidance_scale,
        sigmas=plan.sigmas,
        fingerprint=fingerprint(preset, arm),
    )


def _earlier_arms(folder: Path, preset: Preset, suite: Suite) -> dict[str, ArmEntry]:
    """The arms that an earlier call made here."""
    if not (folder / HEADER).exists():
        return {}
    header = read_header(folder)
    if (header.suite_sha256, header.preset) != (suite.sha256, preset.name):
        raise EvaluationError(
            f"{folder}: holds a run of preset {header.preset}, suite {header.suite} ({header.suite_sha256[:8]}), not of"
            f" {preset.name}, {suite.name} ({suite.sha256[:8]}).\nName another folder with --out."
        )
    return header.arms


def _store(
    folder: Path, arm: Arm, item: Item, number: int, key: str, sample: Sample, *, fps: int, batch_size: int
) -> Picture:
    ending, content = encode(sample, fps=fps)
    file = f"{arm.name}/{item.id}-{number}{ending}"
    write_whole(folder / file, content)
    return Picture(
        key=key,
        arm=arm.name,
        item=item.id,
        number=number,
        prompt=item.prompt,
        seed=item.seed(number),
        file=file,
        sha256=hashlib.sha256(content).hexdigest(),
        noise_sha256=sample.noise_sha256,
        steps=sample.steps,
        nfe=sample.nfe,
        guidance_scale=sample.guidance_scale,
        scheduler=sample.scheduler,
        sigmas=sample.sigmas,
        seconds=sample.seconds,
        denoiser_seconds=sample.denoiser_seconds,
        batch_size=batch_size,
    )


@cache
def environment() -> dict[str, str | None]:
    """The software and machine that figures were made with."""
    return {
        "commit": _commit(),
        "python": platform.python_version(),
        "torch": _version("torch"),
        "diffusers": _version("diffusers"),
        "machine": f"{platform.system()} {platform.machine()}",
    }


def _version(package: str) -> str | None:
    try:
        return version(package)
    except PackageNotFoundError:
        return None


def _commit() -> str | None:
    """The code's commit, if it lies in a git repository."""
    command = ["git", "-C", str(Path(__file__).parent), "describe", "--always", "--dirty", "--abbrev=12"]
    try:
        return subprocess.run(command, capture_output=True, text=True, check=True, timeout=10).stdout.strip()
    except (OSError, subprocess.SubprocessError):
        return None
