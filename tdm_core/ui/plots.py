"""The plots of the Results tab, as inline SVG that takes its colours from the page."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from html import escape

from tdm_core.study.analysis import Interval, PromptShare, StudyReport

WIDTH, LEFT, RIGHT = 640, 10, 630
ROW, STRIP, FOREST_LEFT = 36, 150, 210
ANCHORS = ("start", "middle", "middle", "middle", "end")


def percent(share: float) -> str:
    return f"{share * 100:.1f}\N{NO-BREAK SPACE}%"


def interval_plot(*, low: float, value: float, high: float) -> str:
    """A share with its interval on a line from 0 to 100 %, the even chance marked."""
    return f"""<svg viewBox="0 0 {WIDTH} 118" role="img"
      aria-label="{percent(value)}, from {percent(low)} to {percent(high)}">
      {"".join(_tick(index, anchor) for index, anchor in enumerate(ANCHORS))}
      <line class="tdm-even" x1="{_x(0.5):g}" x2="{_x(0.5):g}" y1="8" y2="66"/>
      <line class="tdm-range" x1="{_x(low):.1f}" x2="{_x(high):.1f}" y1="38" y2="38"/>
      <circle class="tdm-dot" cx="{_x(value):.1f}" cy="38" r="9"/>
      <text x="{LEFT}" y="110">← teacher preferred</text>
      <text x="{RIGHT}" y="110" text-anchor="end">student preferred →</text></svg>"""


def forest_plot(rows: Sequence[tuple[str, Interval, float | None]], *, margin: float) -> str:
    """One line a row: name, interval, share if it has one; the even chance and the margin below it are marked."""
    height = ROW * len(rows) + 44
    lines = "".join(_forest_row(index, *row) for index, row in enumerate(rows))
    ticks = "".join(
        f'<text x="{_forest_x(index / 4):g}" y="{height - 6}" text-anchor="{anchor}">{index * 25} %</text>'
        for index, anchor in enumerate(ANCHORS)
    )
    marks = "".join(
        f'<line class="{name}" x1="{_forest_x(share):g}" x2="{_forest_x(share):g}" y1="2" y2="{height - 26}"/>'
        for name, share in (("tdm-even", 0.5), ("tdm-margin", 0.5 - margin))
    )
    told = "; ".join(
        f"{name}: {f'{percent(within.low)} to {percent(within.high)}' if share is None else percent(share)}"
        for name, within, share in rows
    )
    return f'<svg viewBox="0 0 {WIDTH} {height}" role="img" aria-label="{escape(told)}">{marks}{lines}{ticks}</svg>'


def strip_plot(prompts: Sequence[PromptShare]) -> str:
    """Each prompt's share as one dot; dots that would cover each other are stacked."""
    stacks: Counter[int] = Counter()
    dots = []
    for prompt in sorted(prompts, key=lambda each: each.share):
        place = round(prompt.share * 40)
        stacks[place] += 1
        title = f"{escape(prompt.prompt)}: {percent(prompt.share)} of {prompt.votes}"
        y = STRIP - 30 - 11 * (stacks[place] - 1) % (STRIP - 40)
        dots.append(f'<circle class="tdm-dot" cx="{_x(place / 40):.1f}" cy="{y}" r="5"><title>{title}</title></circle>')
    ticks = "".join(
        f'<text x="{_x(index / 4):g}" y="{STRIP - 6}" text-anchor="{anchor}">{index * 25} %</text>'
        for index, anchor in enumerate(ANCHORS)
    )
    even = f'<line class="tdm-even" x1="{_x(0.5):g}" x2="{_x(0.5):g}" y1="4" y2="{STRIP - 22}"/>'
    label = f"{len(prompts)} prompts, one dot each"
    return f'<svg viewBox="0 0 {WIDTH} {STRIP}" role="img" aria-label="{label}">{even}{"".join(dots)}{ticks}</svg>'


def votes_plot(report: StudyReport) -> str:
    """All votes as one bar in four parts, with a legend."""
    student, teacher = report.arms
    parts = [
        ("student", "Student better", report.wins[student]),
        ("tie", "About the same", report.ties),
        ("bad", "Both bad", report.both_bad),
        ("teacher", "Teacher better", report.wins[teacher]),
    ]
    bars, start = [], 0
    for name, _, count in parts:
        bars.append(_part(name, start / report.votes, count / report.votes, count))
        start += count
    title = ", ".join(f"{label}: {count}" for _, label, count in parts)
    legend = "".join(f'<li class="tdm-{name}">{label} <b>{count}</b></li>' for name, label, count in parts)
    bar = f'<svg viewBox="0 0 {WIDTH} 56" role="img" aria-label="{title}">{"".join(bars)}</svg>'
    return f'{bar}<ul class="tdm-legend">{legend}</ul>'


def _forest_row(index: int, name: str, interval: Interval, share: float | None) -> str:
    y, low, high = ROW * index + 18, _forest_x(interval.low), _forest_x(interval.high)
    dot = "" if share is None else f'<circle class="tdm-dot" cx="{_forest_x(share):.1f}" cy="{y}" r="6"/>'
    return f"""<text class="tdm-row" x="{LEFT}" y="{y + 5}">{escape(name)}</text>
      <line class="tdm-range" x1="{low:.1f}" x2="{high:.1f}" y1="{y}" y2="{y}"/>{dot}"""


def _forest_x(share: float) -> float:
    return FOREST_LEFT + share * (RIGHT - 16 - FOREST_LEFT)


def _tick(index: int, anchor: str) -> str:
    x = _x(index / 4)
    label = f'<text x="{x:g}" y="84" text-anchor="{anchor}">{index * 25} %</text>'
    return f'<line class="tdm-grid" x1="{x:g}" x2="{x:g}" y1="14" y2="62"/>{label}'


def _part(name: str, start: float, share: float, count: int) -> str:
    x, width = _x(start), share * (RIGHT - LEFT)
    label = f'<text x="{x + width / 2:.1f}" y="33" text-anchor="middle">{count}</text>' if width > 24 else ""
    bar = f'<rect x="{x:.1f}" y="8" width="{max(width - 2, 0):.1f}" height="40" rx="4"/>'
    return f'<g class="tdm-part tdm-{name}">{bar}{label}</g>'


def _x(share: float) -> float:
    return LEFT + share * (RIGHT - LEFT)
