"""What is wrong with a preset, found before any base's weights are read: from its settings, JSON files and the LoRA.

Of a base that is not here, in a folder or whole in the Hub's cache, only what its pipeline's class decides is known.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tdm_core.errors import ConfigError, LoadError, PresetError, TDMError
from tdm_core.generation.engine.run import lora_settings, size_of
from tdm_core.generation.plan import make_plan, student_grids
from tdm_core.generation.presets import Preset
from tdm_core.generation.readiness import missing_parts
from tdm_core.generation.sample import Role, SampleRequest

if TYPE_CHECKING:
    from tdm_core.backbones.base import Family

Snapshot = Callable[[str, str | None], Path | None]
"""Where a Hub repository lies in the cache, at a revision or the newest."""


def findings(preset: Preset, snapshot: Snapshot) -> list[TDMError]:
    """Every mistake as the error that a run would end with: settings as `PresetError`, damaged files as `LoadError`."""
    from tdm_core.backbones.base import family
    from tdm_core.backbones.options import check_options
    from tdm_core.backbones.system import read_student

    if problems := preset.problems():
        return [PresetError(problem) for problem in problems.values()]
    found: list[TDMError] = []

    @contextmanager
    def finding(key: str) -> Iterator[None]:
        try:
            with told_of(preset, key):
                yield
        except (PresetError, LoadError) as error:
            found.append(error)

    chosen, pipeline = family(preset.family), None
    with finding("base"):
        pipeline = _hollow(preset, chosen, snapshot)
    if pipeline:
        with finding("width, height, frames"):
            chosen.latent_shape(pipeline, size_of(preset))
    for role in (Role.TEACHER, Role.STUDENT):
        settings = preset.student if role is Role.STUDENT else preset.teacher
        with finding(role):
            check_options(chosen.Pipeline, settings.options)
        with finding(role):
            _check_scheduler(preset, role, saved=pipeline and pipeline.scheduler)
    if pipeline and (file := _lora_file(preset, snapshot)):
        with finding("student.lora"):
            denoiser = chosen.DENOISER
            read_student(file, getattr(pipeline, denoiser), lora_settings(preset.student), prefix=denoiser)
    return found


@contextmanager
def told_of(preset: Preset, key: str) -> Iterator[None]:
    """What a setting got wrong is told with the preset's file and the key."""
    try:
        yield
    except PresetError:
        raise  # it has both already
    except ConfigError as error:
        raise PresetError(f"{preset.origin}: {key}: {error}") from error


def _hollow(preset: Preset, chosen: Family, snapshot: Snapshot) -> Any:
    from tdm_core.backbones.base import check_folder
    from tdm_core.backbones.hollow import hollow_pipeline

    base = preset.local(preset.base)
    if base:
        check_folder(base, {*preset.omit, *chosen.OMIT})
    else:
        base = snapshot(preset.base, preset.revision)
        if base is None or missing_parts(base, preset.omit):
            return None
    vae = (preset.local(preset.vae) or snapshot(preset.vae, None)) if preset.vae else None
    return hollow_pipeline(chosen, base, vae=vae)


def _check_scheduler(preset: Preset, role: Role, *, saved: Any) -> None:
    from tdm_core.backbones.schedulers import given_times, make_scheduler

    settings = preset.student if role is Role.STUDENT else preset.teacher
    if role is Role.STUDENT:
        _check_grids(preset)
    if saved is None and settings.scheduler is None:
        return
    scheduler = make_scheduler(saved, settings.scheduler, settings.scheduler_config)
    plan = make_plan(preset, SampleRequest(preset=preset.name, role=role, prompt="check", seed=0))
    given_times(scheduler, plan.sigmas)


def _check_grids(preset: Preset) -> None:
    try:
        student_grids(preset)
    except LoadError as error:
        if preset.student.sigmas or preset.student.timesteps:  # no file's fault
            raise PresetError(str(error)) from error
        raise


def _lora_file(preset: Preset, snapshot: Snapshot) -> Path | None:
    """The student's weights, if they are on this machine."""
    from tdm_core.backbones.base import LORA_ENDINGS

    file, name = preset.lora_file(), preset.student.file
    if file is None and (folder := snapshot(preset.student.lora, None)):
        candidates = [folder / name] if name else [path for path in folder.iterdir() if path.suffix in LORA_ENDINGS]
        file = candidates[0] if len(candidates) == 1 else None
    return file if file and file.is_file() else None
