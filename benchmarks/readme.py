"""Fill the README's results from the rows in ``benchmarks/results``: ``python -m benchmarks.readme``."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from benchmarks.rows import ROOT, Measure, Row, load

README = ROOT / "README.md"
BEGIN = "<!-- results: filled by `python -m benchmarks.readme`, not by hand -->"
END = "<!-- end of results -->"


def fill(path: Path = README) -> None:
    """Replace what stands between the markers by the newest row of each benchmark."""
    path.write_text(filled(path.read_text("utf-8"), load()), encoding="utf-8")


def filled(text: str, rows: Sequence[Row]) -> str:
    """``text`` with its results section made from ``rows`` (oldest first)."""
    before, found, rest = text.partition(BEGIN)
    _, closed, after = rest.partition(END)
    if not found or not closed:
        raise ValueError(f"the README has lost its markers {BEGIN!r} and {END!r}")
    body = "\n\n".join(map(table, newest(rows))) or "No run has been recorded yet."
    return f"{before}{BEGIN}\n\n{body}\n\n{END}{after}"


def table(row: Row) -> str:
    """One benchmark as a Markdown table with where and when it ran."""
    lines = [
        f"**{row.name}** (`{row.command}`, {row.when[:10]}, commit {row.commit}; {row.machine})",
        "",
        "| | measured | bar |",
        "| --- | --- | --- |",
    ]
    cells = ((what, value, bar.replace("not met", "**not met**")) for what, value, bar in cells_of(row))
    return "\n".join([*lines, *(f"| {' | '.join(each)} |" for each in cells)])


def cells_of(row: Row) -> list[tuple[str, str, str]]:
    """What was measured, the figure, and the bar with its verdict, as plain text."""
    return [(m.what, figure(m), verdict(m)) for m in row.measures]


def newest(rows: Sequence[Row]) -> list[Row]:
    """The last run of each benchmark, by name; ``rows`` are oldest first."""
    return [row for _, row in sorted({row.name: row for row in rows}.items())]


def figure(measure: Measure) -> str:
    interval = "" if measure.low is None or measure.high is None else f" [{measure.low:.3g}, {measure.high:.3g}]"
    count = "" if measure.n is None else f", n = {measure.n}"
    return f"{measure.value:.3g}{' ' * bool(measure.unit)}{measure.unit}{interval}{count}"


def verdict(measure: Measure) -> str:
    if measure.met is None:
        return measure.bar
    return f"{measure.bar}: {'met' if measure.met else 'not met'}"


if __name__ == "__main__":
    fill()
