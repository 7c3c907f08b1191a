"""What the page needs from outside, as plain values and callables: real ones from app.py, fakes from tests."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Any

from tdm_core.generation.presets import Preset
from tdm_core.generation.sample import Progress, Sample, Sampler, SampleRequest
from tdm_core.study.analysis import StudyReport
from tdm_core.study.gallery import Gallery
from tdm_core.ui.report import Report, Table

Event = dict[str, Any]
"""Of a live distillation: a ``kind`` and plain values."""

Learn = Callable[[Callable[[], str]], Iterator[Event]]
"""Given what asks for the visitor's wish (go, pause, stop): a live distillation's events; closing them ends it."""

Trajectory = Callable[[SampleRequest, Sequence[float]], Iterator[Progress | Sample]]
"""`Engine.trajectory`, or a fake of it."""


@dataclass(frozen=True, kw_only=True)
class System:
    """One system that a visitor may choose."""

    preset: Preset
    suggest: Callable[[], list[str]]
    unknown_words: Callable[[str], list[str]] = lambda prompt: []
    trained_steps: Callable[[], frozenset[int]] = frozenset
    vocabulary: Mapping[str, Sequence[str]] = field(default_factory=dict)
    """Heading -> words that the system knows; empty where it knows any."""


@dataclass(frozen=True, kw_only=True)
class PageInputs:
    preset: Preset
    sample: Sampler
    suggest: Callable[[], list[str]]
    """A few fresh captions that the system knows."""
    unknown_words: Callable[[str], list[str]]
    """The words of a prompt that the system was never taught."""
    trained_steps: frozenset[int]
    """Step counts that the student was trained for."""
    results: Callable[[], StudyReport]
    """The closed study's report; raises `StudyOpenError` while it is open."""
    gallery: Callable[[StudyReport], Gallery] = lambda report: Gallery()
    """The pairs that stand for a report, by their ids at the study's routes."""
    vocabulary: Mapping[str, Sequence[str]] = field(default_factory=dict)
    """See `System.vocabulary`."""
    others: Sequence[System] = ()
    """The systems beside ``preset``."""
    why_not: Callable[[str], list[str]] = lambda name: []
    """Why a system cannot run here yet, each reason with its cure; empty if it can."""
    trajectory: Trajectory | None = None
    machine: str = ""
    """What the clocks were read on."""
    learn: Learn | None = None
    """A live distillation, where this page offers one."""
    students: Callable[[], dict[str, Preset]] = dict
    """Students that were made on this page, newest first: presets that differ from ``preset`` in their student."""
    asks_login: bool = False
    """Whether the study asks for a Hugging Face login."""
    has_quiz: bool = False
    """Whether there is a quiz on this system."""
    reports: Sequence[Report] = ()
    """Published evaluations of the shipped models."""
    bars: Sequence[Table] = ()
    """Benchmarks with the bars that they were held against."""
    is_ready: Callable[[], bool] = lambda: True
    """Whether the weights are loaded; until then whoever waits is told what for."""

    @property
    def systems(self) -> dict[str, System]:
        """Name -> system: the page's own first, then what was made of it here, then the others."""
        own = System(
            preset=self.preset,
            suggest=self.suggest,
            unknown_words=self.unknown_words,
            trained_steps=lambda: self.trained_steps,
            vocabulary=self.vocabulary,
        )
        made = [
            replace(own, preset=preset, trained_steps=partial(_own_steps, preset))
            for preset in self.students().values()
        ]
        return {system.preset.name: system for system in (own, *made, *self.others)}


def _own_steps(preset: Preset) -> frozenset[int]:
    return frozenset({preset.student.steps})
