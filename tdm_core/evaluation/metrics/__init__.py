"""Metrics, by name; what a metric needs is imported when it is used."""

from __future__ import annotations

from dataclasses import dataclass, field
from importlib import import_module
from pathlib import Path
from typing import Any, Protocol

from tdm_core.errors import ConfigError
from tdm_core.evaluation.bridges import load_bridge
from tdm_core.evaluation.runs import Run
from tdm_core.evaluation.suites import NOUNS
from tdm_core.generation.sample import MediaKind

Result = dict[str, Any]
"""Plain JSON: at least ``value``, ``low``, ``high`` (a 95 % interval) and ``n``."""


@dataclass(frozen=True, kw_only=True)
class Measured:
    """A metric's results: for each arm, and for comparisons such as ``student - teacher``."""

    arms: dict[str, Result]
    comparisons: dict[str, Result] = field(default_factory=dict)
    items: dict[str, dict[str, list[float]]] = field(default_factory=dict)
    """Arm -> prompt -> the value of each of its pictures, where the metric has one for a single picture."""
    fingerprint: dict[str, str] = field(default_factory=dict)
    """What decides the number besides the pictures: models, resizing, thresholds, reference."""


class Metric(Protocol):
    """What each module of this package offers."""

    NAME: str
    VERSION: str
    """Changes whenever the number can."""
    HIGHER_IS_BETTER: bool

    def measure(self, run: Run) -> Measured: ...


class PairedMetric(Metric, Protocol):
    """A metric that two runs can be compared by."""

    def difference(self, first: Run, second: Run, arm: str) -> Result: ...


_OF_SUITE: dict[str, dict[str, str]] = {  # the first of each is what runs are compared by
    "scenes": {"scenes": "tdm_core.evaluation.metrics.scenes", "frechet": "tdm_core.evaluation.metrics.frechet"},
    "moving": {"mini-vbench": "tdm_core.evaluation.metrics.mini_vbench"},
}


_CLIP = ("clip_score/openai-l14", "clip_score/openai-b32", "clip_score/dmd2-g14", "hps_v2.1", "aesthetic")
_SETS = ("fid-teacher", "kid-teacher", "fid", "kid", "lpips-teacher", "diversity/clip", "diversity/lpips")
_BRIDGED = {"geneval": "geneval_original.OriginalGeneval", "vbench": "vbench.VBench"}
PUBLISHED = (*_CLIP, *_SETS, "ocr", "geneval-hf", *_BRIDGED)
"""Metrics of the literature: their weights are fetched when used."""
_OF_CLIPS = frozenset({"mini-vbench", "vbench"})
"""All others judge pictures."""


def names(suite: str) -> tuple[str, ...]:
    """Our own metrics that can judge a run of the suite."""
    return tuple(_OF_SUITE.get(suite, ()))


def fitting(suite: str, media: MediaKind | None = None) -> tuple[str, ...]:
    """All metrics that can judge a run of the suite with such files."""
    return tuple(name for name in (*names(suite), *PUBLISHED) if media in (None, _judges(name)))


def _judges(name: str) -> MediaKind:
    return "video" if name in _OF_CLIPS else "image"


def load_metric(
    name: str,
    suite: str,
    *,
    media: MediaKind | None = None,
    reference: Path | None = None,
    bridges: Path | None = None,
) -> Metric:
    """A metric by its name, for a run of the suite.

    Args:
        media: what the run's files hold; None: the caller knows that they fit.
        reference: the pictures that fid and kid measure against.
        bridges: how the programs that live in environments of their own are called.

    Raises:
        ConfigError: if there is none of that name, it judges another suite or other media, or lacks what it needs.
    """
    if name not in fitting(suite):
        there = ", ".join(fitting(suite, media))
        raise ConfigError(f"--metrics {name}: no such metric for the {suite} suite; there are: {there}")
    if media not in (None, _judges(name)):
        raise ConfigError(
            f"--metrics {name}: judges {NOUNS[_judges(name)]}, and this run holds {NOUNS[media]}.\n"
            f"Those that judge {NOUNS[media]}: {', '.join(fitting(suite, media))}"
        )
    if name in names(suite):
        return import_module(_OF_SUITE[suite][name])
    if name in _CLIP:
        return import_module("tdm_core.evaluation.metrics.clip").metric(name)
    if name in _SETS:
        return import_module("tdm_core.evaluation.metrics.sets").metric(name, reference)
    if name in ("ocr", "geneval-hf"):
        return import_module(f"tdm_core.evaluation.metrics.{name.removesuffix('-hf')}").metric()
    module, _, kind = _BRIDGED[name].partition(".")
    made = getattr(import_module(f"tdm_core.evaluation.metrics.{module}"), kind)
    return made(bridge=load_bridge(name, bridges))


def main_metric(suite: str) -> PairedMetric:
    """The metric that runs of the suite are compared by.

    Raises:
        ConfigError: if the suite has none with a value for each sample.
    """
    if suite not in _OF_SUITE:
        raise ConfigError(f"the {suite} suite has no metric to compare by; score its runs instead")
    return import_module(next(iter(_OF_SUITE[suite].values())))
