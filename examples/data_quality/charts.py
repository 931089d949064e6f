"""The report's charts as inline SVG: no script, no library, nothing fetched. Colours come from the page's style."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from html import escape
from typing import Any

Point = tuple[str, float]


def percent(share: float, digits: int = 1) -> str:
    """A share for people; one that is not quite whole is not shown as 100 %."""
    text = f"{share * 100:.{digits}f}"
    if share < 1 and float(text) == 100:
        text = f"{100 - 10**-digits:.{digits}f}"
    return f"{text}\N{NARROW NO-BREAK SPACE}%"


def line(points: Sequence[Point], target: float) -> str:
    """Quality from round to round, and where it should come to."""
    width, height, left, right, top, bottom = 980, 320, 56, 48, 28, 36
    # Room for the name of the lowest point.
    floor = max(0.0, min([0.9, *(int((value - 0.02) * 20) / 20 for _, value in points)]))

    def x(at: int) -> float:
        return left + at * (width - left - right) / max(1, len(points) - 1)

    def y(value: float) -> float:
        return top + (1 - value) / (1 - floor) * (height - top - bottom)

    def value_beside(at: int, value: float) -> str:
        # Below and to the right nothing is in the way, as long as the line rises; at its end there is room above only.
        last = at == len(points) - 1
        beside, lower = (0 if last else 14), not last
        if (y(value) + 8 < y(target) < y(value) + 26) if lower else (y(value) - 24 < y(target) < y(value) - 6):
            beside, lower = -beside, not lower  # off the line of the target
        anchor = "start" if beside > 0 else "end" if beside < 0 else "middle"
        return _text(x(at) + beside, y(value) + (22 if lower else -11), percent(value, 2), anchor, "value")

    def parts() -> Iterator[str]:
        step = 0.02 if floor >= 0.9 else 0.05 if floor >= 0.7 else 0.1
        for tick in range(round((1 - floor) / step) + 1):
            value = 1 - tick * step
            yield f'<line class="grid" x1="{left}" x2="{width - right}" y1="{y(value):.1f}" y2="{y(value):.1f}"/>'
            yield _text(left - 10, y(value) + 4, percent(value, 0), "end", "axis")
        line = " ".join(f"{x(at):.1f},{y(value):.1f}" for at, (_, value) in enumerate(points))
        base = f"{x(len(points) - 1):.1f},{y(floor):.1f} {x(0):.1f},{y(floor):.1f}"
        yield f'<polygon class="area" points="{line} {base}"/>'
        if target >= floor:
            yield f'<line class="target" x1="{left}" x2="{width - right}" y1="{y(target):.1f}" y2="{y(target):.1f}"/>'
            yield _text(left + 6, y(target) - 6, f"target {percent(target, 0)}", "start", "target-name")
        yield f'<polyline class="line" points="{line}"/>'
        for at, (name, value) in enumerate(points):
            yield f'<circle class="dot" cx="{x(at):.1f}" cy="{y(value):.1f}" r="5"/>'
            yield value_beside(at, value)
            yield _text(x(at), height - 10, name, "middle", "axis")

    return _svg(width, height, "quality per round", parts())


def heat(columns: Mapping[str, Sequence[float]], rounds: Sequence[str]) -> str:
    """For each column and round the share of its cells without fault: the darker, the more faults."""
    cell, gap, left, top = 32, 4, 130, 26
    wide = min(170, 850 // max(1, len(rounds)))
    worst = max([0.01, *(1 - value for values in columns.values() for value in values)])

    def parts() -> Iterator[str]:
        for at, name in enumerate(rounds):
            yield _text(left + at * wide + wide / 2, 16, name, "middle", "axis")
        for row, (name, values) in enumerate(columns.items()):
            y = top + row * (cell + gap)
            yield _text(left - 12, y + cell / 2 + 5, name, "end", "name")
            for at, value in enumerate(values):
                share = (1 - value) / worst
                strength = 0.14 + 0.86 * share if value < 1 else 0
                box = f'x="{left + at * wide}" y="{y}" width="{wide - gap}" height="{cell}" rx="5"'
                yield f'<rect class="clean" {box}/>'
                if strength:
                    yield f'<rect class="fault" {box} fill-opacity="{strength:.2f}"/>'
                seen = "on-dark" if share > 0.8 else "value"  # where white begins to be read more easily
                yield _text(left + at * wide + (wide - gap) / 2, y + cell / 2 + 5, percent(value, 2), "middle", seen)

    return _svg(left + len(rounds) * wide, top + len(columns) * (cell + gap), "quality per column and round", parts())


def rates(detection: Mapping[str, Mapping[str, Any]]) -> str:
    """Precision and recall of each detector, side by side."""
    bar, left, wide = 15, 130, 760
    block = 2 * bar + 20

    def parts() -> Iterator[str]:
        for at, (kind, found) in enumerate(detection.items()):
            y = at * block + 6
            yield _text(left - 12, y + bar + 5, kind, "end", "name")
            for row, what in enumerate(("precision", "recall")):
                top, length = y + row * (bar + 3), max(2.0, found[what] * wide)
                yield f'<rect class="track" x="{left}" y="{top}" width="{wide}" height="{bar}" rx="4"/>'
                yield f'<rect class="{what}" x="{left}" y="{top}" width="{length:.1f}" height="{bar}" rx="4"/>'
                yield _text(left + wide + 10, top + bar - 3, percent(found[what]), "start", "value")

    return _svg(left + wide + 80, len(detection) * block + 4, "precision and recall per kind", parts())


def _text(x: float, y: float, text: str, anchor: str, kind: str) -> str:
    return f'<text class="{kind}" x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}">{escape(text)}</text>'


def _svg(width: float, height: float, title: str, parts: Iterator[str]) -> str:
    head = f'<svg viewBox="0 0 {width:.0f} {height:.0f}" style="max-width:{width:.0f}px" role="img"'
    return f'{head} aria-label="{title}"><title>{title}</title>{"".join(parts)}</svg>'
