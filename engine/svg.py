"""A picture as SVG: rows from top to bottom, each node below all that lead to it.

Small graphs, read by people: rows by longest path, places in a row by the mean
place of what leads there. Edges that lead back bend round on the right.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from html import escape

import attrs

from .picture import Arrow, Box, Picture, status, words

WIDTH_OF_LETTER = 7.4
HEIGHT, GAP_ACROSS, GAP_DOWN, MARGIN = 36.0, 36.0, 56.0, 24.0
FILL = {"done": "#d3f0d3", "failed": "#f8d0d0", "waiting": "#f2f2f2"}
DASH = {"always": "", "maybe": ' stroke-dasharray="5 4"', "error": ' stroke-dasharray="2 3"'}
COLOUR = {"always": "#444", "maybe": "#444", "error": "#b71c1c"}


@attrs.frozen
class Place:
    """The middle of a box, and its width."""

    x: float
    y: float
    width: float


def svg(picture: Picture) -> str:
    """The picture as one SVG document, with no scripts, styles or fonts from elsewhere."""
    back = _leading_back(picture)
    rows = _rows(picture, back)
    places = _places(rows)
    right = max((place.x + place.width / 2 for place in places.values()), default=0.0)
    width = right + MARGIN + (30 + 12 * len(back) if back else 0)
    height = MARGIN * 2 + max(1, len(rows)) * (HEIGHT + GAP_DOWN) - GAP_DOWN
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width:.0f} {height:.0f}" '
        f'width="{width:.0f}" height="{height:.0f}" font-family="sans-serif" font-size="13">',
        f"<title>{escape(picture.title)}</title>",
        '<defs><marker id="head" viewBox="0 0 8 8" refX="8" refY="4" markerWidth="7" markerHeight="7" '
        'orient="auto"><path d="M0 0 L8 4 L0 8 z" fill="#444"/></marker></defs>',
    ]
    for index, arrow in enumerate(picture.arrows):
        lane = right + 20 + 12 * back.index(index) if index in back else None
        parts.append(_line(arrow, places, lane))
    parts += [_box(box, places[box.name], picture.progress) for box in picture.boxes]
    return "\n".join([*parts, "</svg>"]) + "\n"


def _outs(picture: Picture) -> dict[str, list[tuple[int, str]]]:
    outs: dict[str, list[tuple[int, str]]] = {box.name: [] for box in picture.boxes}
    for index, arrow in enumerate(picture.arrows):
        outs[arrow.source].append((index, arrow.target))
    return outs


def _leading_back(picture: Picture) -> list[int]:
    """The arrows that close a cycle, by number, as met in a walk from the top."""
    outs = _outs(picture)
    open_now: set[str] = set()
    done: set[str] = set()
    back = []
    for box in picture.boxes:
        if box.name in done:
            continue
        path = [(box.name, iter(outs[box.name]))]
        open_now.add(box.name)
        while path:
            name, rest = path[-1]
            for index, target in rest:
                if target in open_now:
                    back.append(index)
                elif target not in done:
                    open_now.add(target)
                    path.append((target, iter(outs[target])))
                    break
            else:
                path.pop()
                open_now.discard(name)
                done.add(name)
    return back


def _rows(picture: Picture, back: Sequence[int]) -> list[list[Box]]:
    """The boxes row by row, each after everything that leads to it."""
    leading: dict[str, list[str]] = {box.name: [] for box in picture.boxes}
    waiting = dict.fromkeys(leading, 0)
    outs = _outs(picture)
    for index, arrow in enumerate(picture.arrows):
        if index not in back:
            waiting[arrow.target] += 1
            leading[arrow.target].append(arrow.source)
    row = dict.fromkeys(leading, 0)
    ready = [name for name in leading if not waiting[name]]
    for name in ready:
        for index, target in outs[name]:
            if index not in back:
                row[target] = max(row[target], row[name] + 1)
                waiting[target] -= 1
                if not waiting[target]:
                    ready.append(target)
    rows: list[list[Box]] = [[] for _ in range(max(row.values(), default=0) + 1)]
    for box in picture.boxes:
        rows[row[box.name]].append(box)
    spot: dict[str, float] = {}
    for boxes in rows:
        boxes.sort(key=lambda box: _mean([spot[name] for name in leading[box.name] if name in spot]))
        spot.update((box.name, (index + 0.5) / len(boxes)) for index, box in enumerate(boxes))
    return rows


def _mean(places: Sequence[float]) -> float:
    return sum(places) / len(places) if places else 0.5


def _places(rows: Sequence[Sequence[Box]]) -> dict[str, Place]:
    widths = {box.name: max(64.0, len(_short(words(box))) * WIDTH_OF_LETTER + 24) for row in rows for box in row}
    spans = [sum(widths[box.name] for box in row) + GAP_ACROSS * (len(row) - 1) for row in rows]
    widest = max(spans, default=0.0)
    places = {}
    for number, (row, span) in enumerate(zip(rows, spans, strict=True)):
        x = MARGIN + (widest - span) / 2
        y = MARGIN + HEIGHT / 2 + number * (HEIGHT + GAP_DOWN)
        for box in row:
            width = widths[box.name]
            places[box.name] = Place(x + width / 2, y, width)
            x += width + GAP_ACROSS
    return places


def _short(label: str, most: int = 48) -> str:
    return label if len(label) <= most else label[: most - 1] + "…"


def _box(box: Box, at: Place, progress: bool) -> str:
    round_by = HEIGHT / 2 if box.shape in ("end", "wait") else 4
    fill = FILL[status(box)] if progress and box.shape != "end" else "#fff"
    twice = ' stroke-width="2.5"' if box.shape in ("subgraph", "map") else ""
    x, y = at.x - at.width / 2, at.y - HEIGHT / 2
    return (
        f'<rect x="{x:.1f}" y="{y:.1f}" width="{at.width:.1f}" height="{HEIGHT:.0f}" rx="{round_by:g}" '
        f'fill="{fill}" stroke="#444"{twice}><title>{escape(box.label)}</title></rect>'
        f'<text x="{at.x:.1f}" y="{at.y + 4.5:.1f}" text-anchor="middle">{escape(_short(words(box)))}</text>'
    )


def _line(arrow: Arrow, places: Mapping[str, Place], lane: float | None) -> str:
    start, end = places[arrow.source], places[arrow.target]
    if lane is None:
        x1, y1, x2, y2 = start.x, start.y + HEIGHT / 2, end.x, end.y - HEIGHT / 2
        bend = (y2 - y1) / 2
        path = f"M{x1:.1f} {y1:.1f} C{x1:.1f} {y1 + bend:.1f} {x2:.1f} {y2 - bend:.1f} {x2:.1f} {y2:.1f}"
        label_x, label_y = (x1 + x2) / 2 + 4, (y1 + y2) / 2
    else:
        x1, y1, x2, y2 = start.x + start.width / 2, start.y + 6, end.x + end.width / 2, end.y - 6
        path = f"M{x1:.1f} {y1:.1f} C{lane:.1f} {y1:.1f} {lane:.1f} {y2:.1f} {x2:.1f} {y2:.1f}"
        label_x, label_y = (x1 + x2) / 8 + lane * 3 / 4, (y1 + y2) / 2
    style = f'fill="none" stroke="{COLOUR[arrow.style]}"{DASH[arrow.style]} marker-end="url(#head)"'
    drawn = f'<path d="{path}" {style}/>'
    if not arrow.label:
        return drawn
    place = f'x="{label_x:.1f}" y="{label_y:.1f}" font-size="11" fill="#555"'
    return f"{drawn}<text {place}>{escape(_short(arrow.label, 40))}</text>"
