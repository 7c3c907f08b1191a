"""A system on a device: one base with its two sides, teacher and student, each with a scheduler of its own."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tdm_core.backbones.base import Family, load_student_lora, make_scheduler, switch_role


@dataclass(frozen=True)
class _Side:
    pipeline: Any
    scheduler: Any


class System:
    """Both sides share all weights but those that the student's LoRA changes.  One run at a time."""

    def __init__(
        self, family: Family, pipeline: Any, *, scheduler: str | None, scheduler_config: dict[str, Any]
    ) -> None:
        self.family = family
        self._teacher = _Side(pipeline, make_scheduler(pipeline, scheduler, scheduler_config))
        self._student: _Side | None = None
        self._active: _Side | None = None

    @property
    def has_student(self) -> bool:
        return self._student is not None

    def add_student(
        self, file: Path, *, strength: float, merge: bool, scheduler: str | None, scheduler_config: dict[str, Any]
    ) -> None:
        """Load the student's LoRA; see `load_student_lora`.

        Raises:
            LoadError: if it does not fit; the teacher is as it was before.
        """
        teacher = self._teacher.pipeline
        chosen = make_scheduler(teacher, scheduler, scheduler_config)
        pipeline = load_student_lora(teacher, self.family.DENOISER, file, strength=strength, merge=merge)
        self._student = _Side(pipeline, chosen)
        self._active = None

    def pipeline(self, *, student: bool) -> Any:
        """The pipeline, made ready to run as one of the sides until the next call."""
        side = self._student if student else self._teacher
        assert side is not None, "the student is loaded before it is asked for"
        if side is not self._active:  # looking for the adapter's layers takes longer than a mini's step
            side.pipeline.scheduler = side.scheduler
            switch_role(getattr(side.pipeline, self.family.DENOISER), student=student)
            self._active = side
        return side.pipeline
