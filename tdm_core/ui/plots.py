"""The plots of the Results tab, as inline SVG that takes its colours from the page."""

from __future__ import annotations

from tdm_core.study.analysis import StudyReport

WIDTH, LEFT, RIGHT = 640, 10, 630
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
