"""What the page needs from outside, as plain values and callables: real ones from app.py, fakes from tests."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from tdm_core.generation.presets import Preset
from tdm_core.generation.sample import Sampler
from tdm_core.study.analysis import StudyReport
from tdm_core.ui.report import Report, Table

Event = dict[str, Any]
"""Of a live distillation: a ``kind`` and plain values."""

Learn = Callable[[Callable[[], str]], Iterator[Event]]
"""Given what asks for the visitor's wish (go, pause, stop): a live distillation's events; closing them ends it."""


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
    learn: Learn | None = None
    """A live distillation, where this page offers one."""
    students: Callable[[], dict[str, Preset]] = dict
    """Students that were made on this page, newest first: presets that differ from ``preset`` in their student."""
    asks_login: bool = False
    """Whether the study asks for a Hugging Face login."""
    has_quiz: bool = False
    """Whether there is a quiz on this system."""
    is_ready: Callable[[], bool] = lambda: True
    """Whether the weights are loaded; until then whoever waits is told what for."""
    reports: Sequence[Report] = ()
    """Published evaluations of the shipped models."""
    bars: Sequence[Table] = ()
    """Benchmarks with the bars that they were held against."""
