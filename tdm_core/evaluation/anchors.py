"""Published figures beside ours, each with a verdict: comparable, near, or not comparable and why.

The figures live in ``assets/anchors.toml``.  Names alone prove nothing (four different things are called FID), so a
verdict compares facts: suite, metric, reference, number of pictures, base model.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Literal

from tdm_core.toml_config import from_toml

PATH = Path(__file__).parents[2] / "assets" / "anchors.toml"

COMPARABLE = "comparable"


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
    metric: str, facts: Mapping[str, str], *, family: str, tables: Iterable[Table] | None = None
) -> list[Anchor]:
    """What was published for systems of this family and would be held against our ``metric``.

    ``facts``: what is true of our run; see `verdict`.
    """
    return [
        Anchor(table=table, row=row, verdict=verdict(table, row, {**facts, "metric": metric}))
        for table in (load_anchors() if tables is None else tables)
        if metric in table.beside
        for row in table.rows
        if row.family in (family, "any")
    ]


def verdict(table: Table, row: Published, facts: Mapping[str, str]) -> str:
    """``comparable``; ``near: ...`` where the source leaves something open; else ``not comparable: ...`` and why.

    A fact that the run does not know counts as different.
    """
    wanted = {**table.comparable_if, "base": row.base or row.system}
    differing = [
        f"{name} is {asked} there, {facts.get(name, 'not stated')} here"
        for name, asked in wanted.items()
        if facts.get(name) != asked
    ]
    if differing:
        return "not comparable: " + "; ".join(differing)
    return f"near: not published: {'; '.join(table.unknown)}" if table.unknown else COMPARABLE
