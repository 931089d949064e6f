"""The picture for the README: for each workload how many times as long as ours every engine takes, on a log scale."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from html import escape
from typing import Final

from .comparison import Line
from .installed import FLOOR, OURS

# Okabe and Ito's colours, which people who see few colours can tell apart; the shape tells them apart as well.
MARKS: Final = {
    "asyncio": ("#999999", "bar"),
    "langgraph": ("#d55e00", "circle"),
    "langgraph sync": ("#d55e00", "ring"),
    "pydantic-graph classic": ("#0072b2", "ring"),
    "pydantic-graph builder": ("#0072b2", "circle"),
    "burr": ("#e69f00", "square"),
    "llama-index-workflows": ("#cc79a7", "diamond"),
    "haystack": ("#009e73", "triangle"),
    "dbos": ("#000000", "cross"),
}
LEFT, RIGHT, TOP, ROW, WIDTH = 330, 30, 96, 24, 980


def plot(lines: Sequence[Line]) -> str:
    """An SVG of its own colours, so that it reads on any page."""
    rows = [(line, marks) for line in lines if (marks := dict(_ratios(line)))]
    ratios = [ratio for _, marks in rows for ratio in marks.values()]
    low, high = _decades(ratios or [1.0])
    height = TOP + ROW * len(rows) + 40

    def x(ratio: float) -> float:
        return LEFT + (math.log10(ratio) - low) / (high - low) * (WIDTH - LEFT - RIGHT)

    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {height}" width="{WIDTH}" height="{height}" '
        'font-family="Helvetica, Arial, sans-serif" font-size="12">',
        f'<rect width="{WIDTH}" height="{height}" fill="#ffffff"/>',
        f'<text x="16" y="24" font-size="15" font-weight="bold">Times as long, or as much memory, as {OURS}</text>',
        *_legend({name for _, marks in rows for name in marks}),
        *_grid(low, high, height, x),
    ]
    for number, (line, marks) in enumerate(rows):
        y = TOP + ROW * number + ROW / 2
        parts.append(f'<line x1="{LEFT}" x2="{WIDTH - RIGHT}" y1="{y}" y2="{y}" stroke="#eeeeee"/>')
        parts.append(f'<text x="{LEFT - 12}" y="{y + 4}" text-anchor="end">{escape(line.workload.name)}</text>')
        for name, ratio in marks.items():
            title = f"{name}: {ratio:.3g} times {OURS}"
            parts.append(f"<g><title>{escape(title)}</title>{_mark(name, x(ratio), y)}</g>")
    return "\n".join([*parts, "</svg>", ""])


def _ratios(line: Line) -> Iterable[tuple[str, float]]:
    for name in MARKS:
        if (ratio := line.ratio(name, OURS)) is not None and ratio > 0:
            yield name, ratio


def _decades(ratios: Sequence[float]) -> tuple[int, int]:
    low = math.floor(min(0.0, math.log10(min(ratios))))
    return low, max(low + 1, math.ceil(math.log10(max(ratios))))


def _grid(low: int, high: int, height: int, x: object) -> Iterable[str]:
    assert callable(x)
    for exponent in range(low, high + 1):
        at = x(10.0**exponent)
        ours = exponent == 0
        colour, width = ("#333333", 1.5) if ours else ("#dddddd", 1)
        yield f'<line x1="{at}" x2="{at}" y1="{TOP - 6}" y2="{height - 28}" stroke="{colour}" stroke-width="{width}"/>'
        label = "as long" if ours else f"{10.0**exponent:,g}x"
        yield f'<text x="{at}" y="{height - 12}" text-anchor="middle" fill="#555555">{label}</text>'


def _legend(names: set[str]) -> Iterable[str]:
    at, y = 22.0, 48
    for name in MARKS:
        if name not in names:
            continue
        label = "asyncio by hand (the floor)" if name == FLOOR else name
        if at + 24 + 6.6 * len(label) > WIDTH:
            at, y = 22.0, y + 20
        yield _mark(name, at, y)
        yield f'<text x="{at + 10}" y="{y + 4}">{escape(label)}</text>'
        at += 32 + 6.6 * len(label)


def _mark(name: str, x: float, y: float) -> str:
    colour, shape = MARKS[name]
    if shape == "circle":
        return f'<circle cx="{x:.1f}" cy="{y}" r="5" fill="{colour}"/>'
    if shape == "ring":
        return f'<circle cx="{x:.1f}" cy="{y}" r="4.5" fill="#ffffff" stroke="{colour}" stroke-width="2"/>'
    if shape == "bar":
        return f'<rect x="{x - 2:.1f}" y="{y - 8}" width="4" height="16" fill="{colour}"/>'
    if shape == "square":
        return f'<rect x="{x - 4.5:.1f}" y="{y - 4.5}" width="9" height="9" fill="{colour}"/>'
    if shape == "triangle":
        return f'<path d="M{x:.1f} {y - 6}l6 11h-12z" fill="{colour}"/>'
    if shape == "diamond":
        return f'<path d="M{x:.1f} {y - 6}l6 6l-6 6l-6 -6z" fill="{colour}"/>'
    return f'<path d="M{x - 5:.1f} {y - 5}l10 10m0 -10l-10 10" stroke="{colour}" stroke-width="2.5"/>'
