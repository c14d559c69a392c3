"""Draw charts as SVG, by hand: lines over an axis, some below each other. No library is worth it for this."""

from collections.abc import Sequence
from dataclasses import dataclass
from html import escape
from math import ceil, floor, log10
from typing import Final

WIDTH, HEIGHT = 720, 300
"""Pixels of one chart."""

LEFT, RIGHT, TOP, BOTTOM = 70, 20, 46, 44
"""Margins for what is written around it."""

COLOURS: Final = ("#2563eb", "#dc2626", "#059669", "#d97706", "#7c3aed", "#0891b2")

TICKS: Final = 5
"""Lines across, about."""


@dataclass(frozen=True, slots=True)
class Series:
    """One line: points from left to right."""

    name: str
    points: tuple[tuple[float, float], ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Chart:
    """Some lines over one axis."""

    title: str
    across: str
    """What the horizontal axis shows."""
    series: tuple[Series, ...]
    marks: tuple[tuple[float, str], ...] = ()
    """Places on the horizontal axis where something happened."""
    labels: tuple[str, ...] = ()
    """Names of the places 0, 1, 2, … of the horizontal axis, where it has no numbers."""


def draw(charts: Sequence[Chart]) -> str:
    """Draw them below each other."""
    height = HEIGHT * len(charts)
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{WIDTH}" height="{height}">',
        '<g font-family="sans-serif" font-size="11" fill="#334155">',
        f'<rect width="{WIDTH}" height="{height}" fill="#ffffff"/>',
    ]
    for number, chart in enumerate(charts):
        parts += [f'<g transform="translate(0 {number * HEIGHT})">', *_chart(chart), "</g>"]
    return "\n".join([*parts, "</g>", "</svg>\n"])


class _Axes:
    """Where points of a chart lie."""

    def __init__(self, chart: Chart) -> None:
        xs = [*(x for line in chart.series for x, _ in line.points), *(place for place, _ in chart.marks)] or [0.0]
        ys = [y for line in chart.series for _, y in line.points] or [0.0]
        self.low, self.high = min(xs), max(xs)
        if chart.labels:
            self.low, self.high = -0.5, len(chart.labels) - 0.5
        elif self.low == self.high:
            self.low, self.high = self.low - 1, self.high + 1
        self.step = _step(max(*ys, 1e-9))
        self.top = self.step * max(1, ceil(max(ys) / self.step))

    def x(self, value: float) -> float:
        return LEFT + (value - self.low) / (self.high - self.low) * (WIDTH - LEFT - RIGHT)

    def y(self, value: float) -> float:
        return HEIGHT - BOTTOM - value / self.top * (HEIGHT - TOP - BOTTOM)


def _step(most: float) -> float:
    """Choose a round distance between lines, so that about `TICKS` fit below `most`."""
    rough = most / TICKS
    power = 10.0 ** floor(log10(rough))
    return float(next(factor * power for factor in (1, 2, 2.5, 5, 10) if factor * power >= rough))


def _chart(chart: Chart) -> list[str]:
    axes = _Axes(chart)
    parts = [f'<text x="{LEFT}" y="18" font-size="13" font-weight="bold">{escape(chart.title)}</text>']
    parts += _grid(chart, axes)
    for place, name in chart.marks:
        x = axes.x(place)
        parts += [
            f'<line x1="{x:.1f}" y1="{TOP}" x2="{x:.1f}" y2="{HEIGHT - BOTTOM}" stroke="#94a3b8" stroke-dasharray="4 3"/>',
            f'<text x="{x + 3:.1f}" y="{TOP + 10}">{escape(name)}</text>',
        ]
    at = LEFT
    for number, line in enumerate(chart.series):
        colour = COLOURS[number % len(COLOURS)]
        parts += _line(line, axes, colour)
        parts += [
            f'<rect x="{at}" y="27" width="10" height="10" fill="{colour}"/>',
            f'<text x="{at + 14}" y="36">{escape(line.name)}</text>',
        ]
        at += 30 + 7 * len(line.name)
    return parts


def _line(line: Series, axes: _Axes, colour: str) -> list[str]:
    places = [(axes.x(x), axes.y(y)) for x, y in line.points]
    path = " ".join(f"{x:.1f},{y:.1f}" for x, y in places)
    drawn = [f'<polyline points="{path}" fill="none" stroke="{colour}" stroke-width="1.6"/>']
    if len(places) <= 40:
        drawn += [f'<circle cx="{x:.1f}" cy="{y:.1f}" r="2.6" fill="{colour}"/>' for x, y in places]
    return drawn


def _grid(chart: Chart, axes: _Axes) -> list[str]:
    parts = []
    for number in range(round(axes.top / axes.step) + 1):
        value = number * axes.step
        y = axes.y(value)
        parts += [
            f'<line x1="{LEFT}" y1="{y:.1f}" x2="{WIDTH - RIGHT}" y2="{y:.1f}" stroke="#e2e8f0"/>',
            f'<text x="{LEFT - 6}" y="{y + 4:.1f}" text-anchor="end">{value:,.6g}</text>',
        ]
    below = HEIGHT - BOTTOM + 15
    if chart.labels:
        places = [(float(number), label) for number, label in enumerate(chart.labels)]
    else:
        step = _step(max(axes.high - axes.low, 1e-9))
        first = ceil(axes.low / step)
        places = [(number * step, f"{number * step:,.6g}") for number in range(first, floor(axes.high / step) + 1)]
    parts += [
        f'<text x="{axes.x(x):.1f}" y="{below}" text-anchor="middle">{escape(label)}</text>' for x, label in places
    ]
    parts.append(f'<text x="{WIDTH / 2:.0f}" y="{HEIGHT - 8}" text-anchor="middle">{escape(chart.across)}</text>')
    return parts
