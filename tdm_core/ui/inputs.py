"""What the page needs from outside, as plain values and callables: real ones from app.py, fakes from tests."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field

from tdm_core.generation.presets import Preset
from tdm_core.generation.sample import Progress, Sample, Sampler, SampleRequest
from tdm_core.study.analysis import StudyReport

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
    vocabulary: Mapping[str, Sequence[str]] = field(default_factory=dict)
    """See `System.vocabulary`."""
    others: Sequence[System] = ()
    """The systems beside ``preset``."""
    why_not: Callable[[str], list[str]] = lambda name: []
    """Why a system cannot run here yet, each reason with its cure; empty if it can."""
    trajectory: Trajectory | None = None
    machine: str = ""
    """What the clocks were read on."""
    is_ready: Callable[[], bool] = lambda: True
    """Whether the weights are loaded; until then whoever waits is told what for."""

    @property
    def systems(self) -> dict[str, System]:
        """Name -> system, the page's own first."""
        own = System(
            preset=self.preset,
            suggest=self.suggest,
            unknown_words=self.unknown_words,
            trained_steps=lambda: self.trained_steps,
            vocabulary=self.vocabulary,
        )
        return {system.preset.name: system for system in (own, *self.others)}
