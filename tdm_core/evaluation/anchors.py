"""Published figures beside ours, each with a verdict: comparable, near, or not comparable and why.

The figures live in ``assets/anchors.toml``.  Names alone prove nothing (four different things are called FID), so a
verdict compares facts: suite, metric, reference, number and size of pictures, base model, steps, guidance.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Literal

from tdm_core.toml_config import from_toml

PATH = Path(__file__).parents[2] / "assets" / "anchors.toml"

COMPARABLE = "comparable"
RENAMED = {"THUDM/": "zai-org/", "runwayml/": "stable-diffusion-v1-5/"}
"""Owners of Hub repositories that have changed their names: the same models."""


@dataclass(frozen=True, kw_only=True)
class Published:
    """One system's figure; of ``family`` "any", whatever our system is."""

    family: str
    system: str
    role: Literal["teacher", "student"]
    steps: int
    value: float
    base: str | None = None
    """The model that was run, as a Hub name; None: not one that a preset could load as it was."""
    guidance: float | None = None
    size: str | None = None
    """Width x height, where the rows of a table differ in it."""
    per_tag: dict[str, float] = field(default_factory=dict)
    """The values of its categories, by the names that our suites have for them."""

    @property
    def wanted(self) -> dict[str, str]:
        """What an arm must be to stand beside it."""
        known = {"guidance": None if self.guidance is None else f"{self.guidance:g}", "size": self.size}
        asked = {"base": self.base or self.system, "steps": str(self.steps)}
        return asked | {name: value for name, value in known.items() if value is not None}


@dataclass(frozen=True, kw_only=True)
class Table:
    """Figures of one source under one protocol."""

    metric: str
    source: str
    trust: Literal["primary", "secondary"]
    protocol: str
    beside: tuple[str, ...]
    """Our metrics that a reader would hold against these figures."""
    comparable_if: dict[str, str]
    """Facts of a run as they must be."""
    rows: tuple[Published, ...]
    unknown: tuple[str, ...] = ()
    """What the source does not say."""


@dataclass(frozen=True, kw_only=True)
class Anchors:
    table: tuple[Table, ...]


@dataclass(frozen=True, kw_only=True)
class Anchor:
    """A published figure and its verdict beside ours."""

    table: Table
    row: Published
    verdict: str


@cache
def load_anchors(path: Path = PATH) -> tuple[Table, ...]:
    """Raises `ConfigError` if the file is not as it should be."""
    return from_toml(Anchors, path).table


def anchors_beside(
    metric: str,
    facts: Mapping[str, str],
    *,
    family: str,
    arms: Mapping[str, Mapping[str, str]] | None = None,
    tables: Iterable[Table] | None = None,
) -> list[Anchor]:
    """What was published for systems of this family and would be held against our ``metric``.

    Args:
        facts: what is true of our run; see `verdict`.
        arms: what is true of our teacher and of our student alone: steps, guidance.
    """
    of_arm = arms or {}
    return [
        Anchor(
            table=table, row=row, verdict=verdict(table, row, {**facts, **of_arm.get(row.role, {}), "metric": metric})
        )
        for table in (load_anchors() if tables is None else tables)
        if metric in table.beside
        for row in table.rows
        if row.family in (family, "any")
    ]


def verdict(table: Table, row: Published, facts: Mapping[str, str]) -> str:
    """``comparable``; ``near: ...`` where the source leaves something open; else ``not comparable: ...`` and why.

    A fact that the run does not know counts as different.
    """
    differing = [
        f"{name} is {asked} there, {facts.get(name, 'not stated')} here"
        for name, asked in {**table.comparable_if, **row.wanted}.items()
        if name not in facts or _current(facts[name]) != _current(asked)
    ]
    if differing:
        return "not comparable: " + "; ".join(differing)
    return f"near: not published: {'; '.join(table.unknown)}" if table.unknown else COMPARABLE


def _current(name: str) -> str:
    """A repository's name as it is today."""
    owner = next((old for old in RENAMED if name.startswith(old)), "")
    return RENAMED.get(owner, "") + name.removeprefix(owner)
