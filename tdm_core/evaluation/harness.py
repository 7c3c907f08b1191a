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

from tdm_core.errors import ConfigError, EvaluationError, PresetError
from tdm_core.evaluation.arms import Arm, arms_of, fingerprint
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
from tdm_core.evaluation.suites import KEPT, NOUNS, OWN, Item, Suite, keep_suite, media_of
from tdm_core.generation.media import encode, write_whole
from tdm_core.generation.presets import Preset
from tdm_core.generation.sample import Grid, Role, Sample, SampleRequest


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
        ConfigError: if the suite asks for clips of a system that makes pictures or the other way round, or if the
            folder holds something else.
        EvaluationError: if the folder holds a run of another suite, preset or model.
        PresetError: if the preset names what is not there.
    """
    if media_of(suite.name) not in (None, preset.media):
        raise ConfigError(
            f"--suite {suite.name}: does not fit {preset.name}, which makes {NOUNS[preset.media]}.\n"
            f"Take --suite {OWN[preset.media]}, or a file of prompts."
        )
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

    @cache
    def begin() -> None:
        """Only when there is something to keep: a model that cannot be loaded leaves no run behind."""
        _begin(folder, header, suite, alone=shard[1] == 1)

    asked = [(item, number) for item in suite.limited(limit) for number in range(seeds)]
    finished = read_pictures(folder)
    for arm in arms:
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
            begin()
            made = [
                _store(folder, arm, item, number, keys[item, number], sample, fps=preset.fps, batch_size=len(jobs))
                for (item, number), sample in zip(jobs, samples, strict=True)
            ]
            append_pictures(folder, made, rank=shard[0])
            done += len(jobs)
            report(arm.name, done, len(asked))
    begin()  # there may be nothing to make, but more or less to report


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
        _check_free(folder)
        return {}
    header = read_header(folder)
    if (header.suite_sha256, header.preset) != (suite.sha256, preset.name):
        raise EvaluationError(
            f"{folder}: holds a run of preset {header.preset}, suite {header.suite} ({header.suite_sha256[:8]}), not of"
            f" {preset.name}, {suite.name} ({suite.sha256[:8]}).\nName another folder with --out."
        )
    if changed := changed_arms(header, preset):
        raise EvaluationError(
            f"{folder}: holds {', '.join(changed)} of another model: weights or settings have changed since.\n"
            "Name another folder with --out; this one keeps what the earlier model made."
        )
    return header.arms


def changed_arms(header: Header, preset: Preset) -> list[str]:
    """The run's arms that the preset would now make with other weights, settings or time nodes, or not at all.

    While the student's LoRA is missing, nothing is said of the arms that depend on it.
    """
    arms, lora, changed = arms_of(preset), preset.lora_file(), []
    lacks_student = lora is not None and not lora.is_file()
    for name, entry in header.arms.items():
        arm = arms.get(name)
        if lacks_student and (arm is None or arm.role is Role.STUDENT or arm.grid is Grid.STUDENT):
            continue
        if arm is None or fingerprint(preset, arm) != entry.fingerprint:
            changed.append(name)
    return changed


def _check_free(folder: Path) -> None:
    """Refuse a folder that holds anything but what a killed call may have left before the header."""
    found = [path.name for path in folder.iterdir()] if folder.exists() else []
    strangers = [name for name in found if name != KEPT and not name.startswith((f".{KEPT}.", f".{HEADER}."))]
    if strangers and not (folder / HEADER).exists():  # another process may have written it meanwhile
        raise ConfigError(f"--out {folder}: holds {min(strangers)} and no evaluation run; name a new folder")


def _begin(folder: Path, header: Header, suite: Suite, *, alone: bool) -> None:
    """Write down what is asked; and if no other process works here, clear away what a killed one was writing."""
    folder.mkdir(parents=True, exist_ok=True)
    left = [f".{KEPT}.*.part", f".{HEADER}.*.part", *(f"{arm}/.*.part" for arm in header.arms)] if alone else []
    for path in [path for pattern in left for path in folder.glob(pattern)]:
        path.unlink()
    keep_suite(folder, suite)
    write_header(folder, header)
    for arm in header.arms:  # after the header: a folder with anything else in it and no header is somebody else's
        (folder / arm).mkdir(exist_ok=True)


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
