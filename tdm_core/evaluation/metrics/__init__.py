"""Metrics, by name; what a metric needs is imported when it is used."""

from __future__ import annotations

from dataclasses import dataclass, field
from importlib import import_module
from typing import Any, Protocol

from tdm_core.errors import ConfigError
from tdm_core.evaluation.runs import Run

Result = dict[str, Any]
"""Plain JSON: at least ``value``, ``low``, ``high`` (a 95 % interval) and ``n``."""


@dataclass(frozen=True, kw_only=True)
class Measured:
    """A metric's results: for each arm, and for comparisons such as ``student - teacher``."""

    arms: dict[str, Result]
    comparisons: dict[str, Result] = field(default_factory=dict)


class Metric(Protocol):
    """What each module of this package offers."""

    NAME: str
    VERSION: str
    """Changes whenever the number can."""
    HIGHER_IS_BETTER: bool

    def measure(self, run: Run) -> Measured: ...


_MODULES = {"scenes": "tdm_core.evaluation.metrics.scenes", "frechet": "tdm_core.evaluation.metrics.frechet"}
NAMES = tuple(_MODULES)


def load_metric(name: str) -> Metric:
    """A metric by its name.

    Raises:
        ConfigError: if there is none of that name.
    """
    if name not in _MODULES:
        raise ConfigError(f"--metrics {name}: no such metric; there are: {', '.join(NAMES)}")
    return import_module(_MODULES[name])
