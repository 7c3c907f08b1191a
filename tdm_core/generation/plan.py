"""From a request and its preset to the exact run: step count, guidance, time nodes, evaluations to expect.

The student's time nodes live in the metadata of its LoRA, as JSON under ``tdm``:
``{"sigmas": {"4": [1.0, 0.818, 0.6, 0.333]}, "trained_steps": [4], "method": "tdm", "base": ..., "config_hash": ...}``.
For a step count without nodes the uniform grid serves, and the run is marked as untrained.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import lru_cache
from itertools import pairwise
from pathlib import Path
from typing import Any

from tdm_core.errors import LoadError, RequestError
from tdm_core.generation.presets import Preset
from tdm_core.generation.sample import Grid, Role, SampleRequest

TIMESTEPS = 1000
"""In which every system of the presets counts its training."""


@dataclass(frozen=True, kw_only=True)
class StudentGrids:
    """Where a student's steps lie, for each step count that it knows."""

    sigmas: Mapping[int, tuple[float, ...]] = field(default_factory=dict)
    trained_steps: frozenset[int] = frozenset()


@dataclass(frozen=True, kw_only=True)
class Plan:
    """Everything about a run but its prompt and seed; requests with equal plans can share a batch."""

    preset: str
    role: Role
    steps: int
    guidance_scale: float
    sigmas: tuple[float, ...] | None
    """Times, noisiest first, without the final 0; ``None`` leaves them to the scheduler.  A flow model's sigmas;
    ``(timestep + 1) / 1000`` of the others."""
    trained: bool
    flow_shift: float | None = None
    """``None`` leaves it to the preset."""
    strength: float = 1.0
    """Of the student's LoRA, in units of the preset's."""

    @property
    def guided(self) -> bool:
        return self.guidance_scale > 1.0

    @property
    def nfe(self) -> int:
        """Network evaluations to expect; the engine counts the real ones."""
        return self.steps * (2 if self.guided else 1)


def make_plan(preset: Preset, request: SampleRequest) -> Plan:
    """Fill in from the preset what the request leaves open.

    Raises:
        LoadError: if the student's LoRA cannot be read and its time nodes are wanted.
        RequestError: if a flow shift is asked for and the preset's scheduler has none, or a strength of the teacher.
    """
    settings = preset.student if request.role is Role.STUDENT else preset.teacher
    default_steps = preset.teacher.steps if request.role is Role.TEACHER else preset.student.steps
    steps = request.steps or default_steps
    if request.flow_shift is not None and settings.flow_shift is None:
        raise RequestError(f"{preset.name} has no flow shift to choose: leave it out.")
    if request.strength is not None and request.role is not Role.STUDENT:
        raise RequestError("The strength is the student's: the teacher has no LoRA.")
    grid = request.grid or Grid(settings.grid)
    grids = student_grids(preset) if Grid.STUDENT in (grid, Grid(settings.grid)) else StudentGrids()
    guidance_scale = settings.guidance_scale if request.guidance_scale is None else request.guidance_scale
    return Plan(
        preset=preset.name,
        role=request.role,
        steps=steps,
        guidance_scale=guidance_scale,
        sigmas=_sigmas(grid, steps, grids),
        flow_shift=request.flow_shift,
        strength=1.0 if request.strength is None else request.strength,
        trained=request.role is not Role.STUDENT or steps in (grids.trained_steps or {preset.student.steps}),
    )


def uniform_grid(steps: int) -> tuple[float, ...]:
    """sigma = 1, 1 - 1/K, ..., 1/K."""
    return tuple(1 - step / steps for step in range(steps))


def student_grids(preset: Preset) -> StudentGrids:
    """The preset's own nodes, else those in the metadata of a LoRA on this machine.

    Raises:
        LoadError: if the file is damaged or its nodes make no sense.
    """
    path = preset.lora_file()
    if preset.student.sigmas:
        return _grids({"sigmas": preset.student.sigmas}, where=f"{preset.origin}: student.sigmas")
    if preset.student.timesteps:
        times = {
            steps: [(timestep + 1) / TIMESTEPS for timestep in nodes]
            for steps, nodes in preset.student.timesteps.items()
        }
        return _grids({"sigmas": times}, where=f"{preset.origin}: student.timesteps, plus 1, over {TIMESTEPS}")
    if path is None or not path.is_file() or path.suffix != ".safetensors":
        return StudentGrids()
    return _file_grids(path, path.stat().st_mtime_ns)


@lru_cache(maxsize=64)
def _file_grids(path: Path, _: int) -> StudentGrids:
    # Read once for each state of the file: every request asks.
    return _grids(lora_metadata(path).get("tdm", "{}"), where=f"{path}: metadata tdm")


def lora_metadata(path: Path) -> dict[str, str]:
    """The text metadata of a safetensors file, read without torch.

    Raises:
        LoadError: if the file's header is damaged.
    """
    try:
        with path.open("rb") as file:
            length = int.from_bytes(file.read(8), "little")
            return dict(json.loads(file.read(min(length, path.stat().st_size))).get("__metadata__", {}))
    except (OSError, ValueError, AttributeError):
        raise LoadError(f"{path}: not a whole safetensors file.\nFetch it again: it may be half-downloaded.") from None


def _grids(table: Mapping[str, Any] | str, *, where: str) -> StudentGrids:
    try:
        if isinstance(table, str):
            table = dict(json.loads(table))
        sigmas = {int(steps): tuple(map(float, nodes)) for steps, nodes in table.get("sigmas", {}).items()}
        trained_steps = frozenset(map(int, table.get("trained_steps", sigmas)))
    except (AttributeError, TypeError, ValueError):
        raise LoadError(f"{where}: expected lists of numbers by step count, got {table!r:.80}") from None
    for steps, nodes in sigmas.items():
        falling = all(earlier > later for earlier, later in pairwise((*nodes, 0.0)))
        if len(nodes) != steps or not falling or not nodes or nodes[0] > 1:
            raise LoadError(
                f"{where}: {steps} steps need {steps} numbers falling from at most 1 to above 0, got {nodes}"
            )
    return StudentGrids(sigmas=sigmas, trained_steps=trained_steps)


def _sigmas(grid: Grid, steps: int, grids: StudentGrids) -> tuple[float, ...] | None:
    if grid is Grid.SCHEDULER:
        return None
    return grids.sigmas.get(steps, uniform_grid(steps)) if grid is Grid.STUDENT else uniform_grid(steps)
