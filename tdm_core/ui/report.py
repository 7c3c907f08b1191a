"""What the Benchmarks tab shows, as plain values: strings, SVG and files that somebody else has made."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True, kw_only=True)
class Table:
    title: str
    header: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]
    """Text; the first cell of a row names it."""


@dataclass(frozen=True, kw_only=True)
class Plot:
    title: str
    svg: str
    """Our own, from a committed file: not escaped."""


@dataclass(frozen=True, kw_only=True)
class Side:
    role: str
    file: str
    value: str


@dataclass(frozen=True, kw_only=True)
class Pair:
    title: str
    """Why it is shown: "Student better", "Teacher better", "Most different"."""
    prompt: str
    seed: int
    sides: tuple[Side, ...]


@dataclass(frozen=True, kw_only=True)
class Report:
    """One model's published report; ``folder`` holds the pairs' files."""

    title: str
    lead: str
    tables: tuple[Table, ...]
    plots: tuple[Plot, ...]
    pairs: tuple[Pair, ...]
    foot: str
    folder: Path = Path()
