"""Lines with intervals as a picture of their own (SVG): readable on a light and on a dark page."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from html import escape

WIDTH, HEIGHT = 720, 340
LEFT, RIGHT, TOP, BOTTOM = 56, 548, 20, 284


@dataclass(frozen=True, kw_only=True)
class Line:
    """Points (x, value, low, high) from left to right."""

    title: str
    color: str
    points: Sequence[tuple[float, float, float, float]]


def line_plot(lines: Sequence[Line], rules: Sequence[tuple[str, float]], *, x: str, log: bool = False) -> str:
    """Shares from 0 to 1 against ``x``; ``rules`` are dashed levels with their names."""
    places = sorted({point[0] for line in lines for point in line.points})
    first, last = places[0], places[-1]

    def to_x(value: float) -> float:
        low, high, at = (math.log(v) if log else v for v in (first, last, value))
        return (LEFT + RIGHT) / 2 if high == low else LEFT + 14 + (at - low) / (high - low) * (RIGHT - LEFT - 28)

    def to_y(value: float) -> float:
        return BOTTOM - value * (BOTTOM - TOP)

    parts = [f'<rect width="{WIDTH}" height="{HEIGHT}" rx="12" fill="#fff"/>']
    for tick in (0, 0.25, 0.5, 0.75, 1):
        parts.append(f'<path d="M{LEFT} {to_y(tick):.1f}H{RIGHT}" stroke="#e4e4e7"/>')
        parts.append(f'<text x="{LEFT - 8}" y="{to_y(tick) + 4:.1f}" text-anchor="end">{tick:g}</text>')
    for place in places if len(places) <= 8 else (first, last):
        parts.append(f'<text x="{to_x(place):.1f}" y="{BOTTOM + 20}" text-anchor="middle">{place:,.0f}</text>')
    parts.append(f'<text x="{(LEFT + RIGHT) / 2}" y="{HEIGHT - 10}" text-anchor="middle">{escape(x)}</text>')
    names = []
    for name, value in rules:
        dashes = 'stroke="#64748b" stroke-width="1.5" stroke-dasharray="6 5"'
        parts.append(f'<path d="M{LEFT} {to_y(value):.1f}H{RIGHT}" {dashes}/>')
        names.append((to_y(value), "#64748b", name))
    for line in lines:
        way = " ".join(f"{to_x(at):.1f},{to_y(value):.1f}" for at, value, _, _ in line.points)
        parts.append(f'<polyline points="{way}" fill="none" stroke="{line.color}" stroke-width="2.5"/>')
        for at, value, low, high in line.points:
            told = f"{line.title}, {at:,.0f}: {value:.3f} [{low:.3f}, {high:.3f}]"
            parts.append(
                f'<g stroke="{line.color}" fill="{line.color}"><title>{escape(told)}</title>'
                f'<path d="M{to_x(at):.1f} {to_y(low):.1f}V{to_y(high):.1f}" stroke-width="1.5" opacity="0.5"/>'
                f'<circle cx="{to_x(at):.1f}" cy="{to_y(value):.1f}" r="4"/></g>'
            )
        names.append((to_y(line.points[-1][1]), line.color, line.title))
    for y, color, name in _apart(names):
        parts.append(f'<text x="{RIGHT + 8}" y="{y + 4:.1f}" fill="{color}" font-weight="600">{escape(name)}</text>')
    style = 'font-family="system-ui, sans-serif" font-size="13" fill="#52525b"'
    label = f'role="img" aria-label="Scene score against {escape(x)}"'
    head = f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {HEIGHT}" {label} {style}>'
    return "\n".join([head, *parts, "</svg>"]) + "\n"


def _apart(names: Sequence[tuple[float, str, str]], least: float = 17) -> list[tuple[float, str, str]]:
    """The same names with their heights moved so far that none covers another."""
    placed: list[tuple[float, str, str]] = []
    for y, color, name in sorted(names):
        placed.append((max(y, placed[-1][0] + least) if placed else y, color, name))
    return placed
