"""Plots of a report as inline SVG: drawn for the width of a phone, coloured by the page's own variables."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from html import escape

WIDTH = 360
FONT = 11


@dataclass(frozen=True, kw_only=True)
class Mark:
    """A value with its interval; ``kind`` is the style sheet's class (teacher, student, few, equal)."""

    label: str
    kind: str
    value: float
    low: float
    high: float
    x: float = 0.0


def kind_of(arm: str) -> str:
    """Arms of one kind share a colour: the teacher cut to K steps, at equal evaluations, and so on."""
    kinds = {"teacher_few": "few", "teacher_equal": "equal", "student_": "student"}
    return next((kind for beginning, kind in kinds.items() if arm.startswith(beginning)), arm)


def bars(groups: Mapping[str, Sequence[Mark]]) -> str:
    """Horizontal bars with interval whiskers, one group under the other; the axis starts at 0."""
    top = max((mark.high for marks in groups.values() for mark in marks), default=1.0) or 1.0
    scale = (WIDTH - 46) / max(top, 1e-9)
    parts, y = [], 0
    for name, marks in groups.items():
        parts.append(f'<text x="0" y="{y + 12}" class="name">{escape(name.replace("_", " "))}</text>')
        y += 18
        for mark in marks:
            middle, width = y + 5, max(mark.value, 0) * scale
            parts.append(
                f'<g class="{mark.kind}"><title>{escape(_told(mark))}</title>'
                f'<rect x="0" y="{y}" width="{width:.1f}" height="10" rx="1.5"/>'
                f'<path class="whisker" d="M{max(mark.low, 0) * scale:.1f} {middle}H{mark.high * scale:.1f}"/></g>'
                f'<text x="{WIDTH}" y="{y + 9}" text-anchor="end">{mark.value:.2f}</text>'
            )
            y += 13
        y += 8
    return _svg(y, "Bars with 95 % intervals", parts)


def scatter(marks: Sequence[Mark], *, x_label: str, y_label: str, height: int = 250) -> str:
    """Values over a logarithmic x, with intervals; a point's name is its tooltip."""
    left, right, top, bottom = 38, WIDTH - 12, 12, height - 40
    lowest, highest = _span(marks)
    first, last = (math.log(pick(mark.x for mark in marks)) for pick in (min, max))
    margin = max(0.08 * (last - first), 0.1)

    def to_x(x: float) -> float:
        return left + (math.log(x) - first + margin) / (last - first + 2 * margin) * (right - left)

    def to_y(y: float) -> float:
        return bottom - (y - lowest) / (highest - lowest) * (bottom - top)

    parts = []
    for tick in _round_ticks(lowest, highest):
        y = to_y(tick)
        parts.append(f'<path class="grid" d="M{left} {y:.1f}H{right}"/>')
        parts.append(f'<text x="{left - 6}" y="{y + 4:.1f}" text-anchor="end">{tick:.3g}</text>')
    for tick in _apart(sorted({mark.x for mark in marks}), to_x):
        parts.append(f'<text x="{to_x(tick):.1f}" y="{bottom + 16}" text-anchor="middle">{tick:.3g}</text>')
    for mark in marks:
        x = to_x(mark.x)
        parts.append(
            f'<g class="{mark.kind}"><title>{escape(_told(mark))}</title>'
            f'<path class="whisker" d="M{x:.1f} {to_y(mark.low):.1f}V{to_y(mark.high):.1f}"/>'
            f'<circle cx="{x:.1f}" cy="{to_y(mark.value):.1f}" r="5"/></g>'
        )
    parts.append(f'<text x="{(left + right) / 2}" y="{height - 6}" text-anchor="middle">{escape(x_label)}</text>')
    return _svg(height, f"{y_label} against {x_label}", parts)


def _span(marks: Sequence[Mark]) -> tuple[float, float]:
    """0 to 1 for shares; else what the intervals cover and a little more."""
    low, high = min(mark.low for mark in marks), max(mark.high for mark in marks)
    if low >= 0 and 0.3 < high <= 1:
        return 0.0, 1.0
    margin = 0.08 * (high - low) or 1.0
    return (0.0 if 0 <= low < 0.4 * high else low - margin), high + margin


def _round_ticks(low: float, high: float) -> list[float]:
    """Four or so multiples of 1, 2, 2.5 or 5 times a power of ten."""
    least = (high - low) / 4.001
    power = 10.0 ** math.floor(math.log10(least))
    step = next(factor * power for factor in (1, 2, 2.5, 5, 10) if factor * power >= least * 0.99)
    return [number * step for number in range(math.ceil(low / step - 1e-9), math.floor(high / step + 1e-9) + 1)]


def _apart(ticks: Sequence[float], to_x: Callable[[float], float]) -> list[float]:
    """The ticks whose labels do not touch, the last one always."""
    kept: list[float] = []
    for tick in reversed(ticks):
        if not kept or to_x(kept[-1]) - to_x(tick) >= (_width(kept[-1]) + _width(tick)) / 2 + FONT / 2:
            kept.append(tick)
    return kept


def _width(tick: float) -> float:
    """Of a tick's label: figures are a little wider than half their height."""
    return 0.6 * FONT * len(f"{tick:.3g}")


def _told(mark: Mark) -> str:
    return f"{mark.label}: {mark.value:.3f} [{mark.low:.3f}, {mark.high:.3f}]"


def _svg(height: float, title: str, parts: Sequence[str]) -> str:
    return (
        f'<svg viewBox="0 0 {WIDTH} {height:.0f}" role="img" aria-label="{escape(title, quote=True)}"'
        f' font-size="{FONT}">{"".join(parts)}</svg>'
    )
