"""The arms of an evaluation: teacher, student, and the teacher cut short in every way that is fair.

A student of K steps is compared with the full teacher, with the teacher cut to K steps (twice its network evaluations),
and at equal evaluations: K steps without guidance, or K/2 steps with.  A cut teacher's score depends on where its steps
lie, so each runs on the uniform grid and on the student's own, and reports keep both.  A student that was trained for
further numbers of steps runs at each of them too.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable
from dataclasses import asdict, dataclass, replace
from functools import cache
from pathlib import Path
from typing import Any

from tdm_core.errors import ConfigError
from tdm_core.generation.plan import Plan, make_plan, student_grids
from tdm_core.generation.presets import Preset
from tdm_core.generation.sample import Grid, Role, SampleRequest

ON_STUDENT_GRID = "_student_grid"


@dataclass(frozen=True, kw_only=True)
class Arm:
    """One way to make pictures; its name is its folder."""

    name: str
    role: Role
    steps: int
    guidance_scale: float
    grid: Grid | None = None
    """None: as the preset says."""

    def request(self, preset: Preset, prompt: str, seed: int) -> SampleRequest:
        return SampleRequest(
            preset=preset.name,
            role=self.role,
            prompt=prompt,
            seed=seed,
            steps=self.steps,
            guidance_scale=self.guidance_scale,
            grid=self.grid,
        )

    def plan(self, preset: Preset) -> Plan:
        return make_plan(preset, self.request(preset, prompt="-", seed=0))


def arms_of(preset: Preset) -> dict[str, Arm]:
    """All arms of a preset by name; without a guided teacher, or with one step, some make no sense and are left out.

    Raises:
        LoadError: if the student's LoRA lies here and cannot be read.
    """
    teacher, student = preset.teacher, preset.student
    arms = [
        Arm(name="teacher", role=Role.TEACHER, steps=teacher.steps, guidance_scale=teacher.guidance_scale),
        *_on_both_grids("teacher_few", student.steps, teacher.guidance_scale),
    ]
    if teacher.guidance_scale > 1:
        arms += _on_both_grids("teacher_equal_unguided", student.steps, 1.0)
        if student.steps > 1:
            arms += _on_both_grids("teacher_equal_guided", student.steps // 2, teacher.guidance_scale)
    own = Arm(name="student", role=Role.STUDENT, steps=student.steps, guidance_scale=student.guidance_scale)
    further = sorted(student_grids(preset).trained_steps - {student.steps})
    arms += [own, *(replace(own, name=f"student_{steps}", steps=steps) for steps in further)]
    return {arm.name: arm for arm in arms}


def choose_arms(preset: Preset, names: Iterable[str] | None) -> list[Arm]:
    """The arms of these names; all if None.

    Raises:
        ConfigError: if the preset has no such arm.
    """
    arms = arms_of(preset)
    for name in names or ():
        if name not in arms:
            raise ConfigError(f"--role {name}: {preset.name} has no such role; there are: {', '.join(arms)}")
    return [arm for arm in arms.values() if names is None or arm.name in set(names)]


def _on_both_grids(name: str, steps: int, guidance_scale: float) -> list[Arm]:
    few = Role.TEACHER_FEW
    return [
        Arm(name=name, role=few, steps=steps, guidance_scale=guidance_scale, grid=Grid.UNIFORM),
        Arm(name=name + ON_STUDENT_GRID, role=few, steps=steps, guidance_scale=guidance_scale, grid=Grid.STUDENT),
    ]


def fingerprint(preset: Preset, arm: Arm) -> str:
    """What decides the arm's pictures: weights, time nodes, schedulers and sizes; another value, other pictures."""
    facts: dict[str, Any] = {
        "base": _weights(preset, preset.base),
        "revision": preset.revision,
        "vae": preset.vae and _weights(preset, preset.vae),
        "shape": (preset.width, preset.height, preset.frames, preset.dtype, preset.max_sequence_length),
        "teacher_scheduler": (preset.teacher.scheduler, preset.teacher.scheduler_config),
        "plan": asdict(arm.plan(preset)),
    }
    if arm.role is Role.STUDENT:
        lora = preset.lora_file()
        facts["lora"] = _file_hash(lora) if lora else preset.student.lora
        facts["strength"] = preset.student.strength
        facts["student_scheduler"] = (preset.student.scheduler, preset.student.scheduler_config)
    return hashlib.sha256(json.dumps(facts, sort_keys=True, default=str).encode()).hexdigest()


def _weights(preset: Preset, where: str) -> str:
    """A digest of a folder's files (its card aside: scores are written there), or the Hub repository's name."""
    folder = preset.local(where)
    if folder is None:
        return where
    files = sorted(path for path in folder.rglob("*") if path.is_file() and path.suffix != ".md")
    listing = "\n".join(f"{path.relative_to(folder).as_posix()} {_file_hash(path)}" for path in files)
    return hashlib.sha256(listing.encode()).hexdigest()


def _file_hash(path: Path) -> str:
    state = path.stat()
    return _hash_of_state(path, state.st_size, state.st_mtime_ns)


@cache
def _hash_of_state(path: Path, size: int, mtime_ns: int) -> str:
    # Read once for each state of the file: every arm asks for all weights.
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
