"""Nodes as shapes: how large they are, and how they look."""

from __future__ import annotations

from collections.abc import Iterator

from .layout import Item
from .lettering import cut, shortened, width_of
from .looks import (
    DOT,
    EACH_WAY,
    ERROR,
    FAINT,
    HEADER,
    HIGH,
    LINES,
    LOOKS,
    LOW,
    MARK,
    NAME,
    NOTE,
    PADDING,
    PAPER,
    PILL,
    PLAIN,
    SMALL,
    TEXT,
    WIDEST_NAME,
    WIDEST_NOTE,
    WIDEST_WAYS,
    WITHIN,
    Look,
    told,
)
from .picture import START, Box
from .progress import Status
from .shapes import Group, Ink, Line, Rect, Shape, Words
from .ways import Place

_TIMES = "\N{MULTIPLICATION SIGN}"


def name_of(box: Box) -> str:
    """As much of a node's name as there is room for."""
    return shortened(box.label, NAME, WIDEST_NAME)


def note_of(box: Box) -> str:
    """Likewise of what its name does not tell."""
    return cut(box.note, NOTE, WIDEST_NOTE)


def is_dot(box: Box, *, within: bool) -> bool:
    """Whether it is the start of a graph within a node, which needs no word."""
    return within and box.name == START


def item_of(box: Box, ways: int, inner: tuple[float, float] | None, *, progress: bool, within: bool) -> Item:
    """How large a node is, with so many edges at its busier side and a graph of this size in it."""
    name, note = width_of(name_of(box), NAME), width_of(note_of(box), NOTE)
    if inner is not None:
        heading = name + note + 2 * MARK + 3 * PADDING
        return Item(max(inner[0] + 2 * PADDING, heading), inner[1] + HEADER + 2 * PADDING)
    if is_dot(box, within=within):
        return Item(DOT, DOT)
    room = 2 * PADDING + (MARK if _marked(box, progress=progress) else 0.0) + (8.0 if box.shape == "subgraph" else 0.0)
    width = max(name + room, note + 2 * PADDING + 4, 58.0, min(EACH_WAY * ways, WIDEST_WAYS))
    if box.shape == "end":
        return Item(width, PILL)
    return Item(width + (12.0 if box.shape == "wait" else 0.0), HIGH if box.note else LOW)


def _marked(box: Box, *, progress: bool) -> bool:
    return progress and box.shape != "end"


def node_of(box: Box, at: Place, *, progress: bool, nested: bool, within: bool) -> Group:
    """A node; `nested` if a graph is drawn in it."""
    if box.shape == "end":
        return Group("node end", told(box.label), tuple(_terminal(box, at, within=within)))
    look = LOOKS[box.status] if progress else PLAIN
    shapes = [*_frame(box, at, look, nested=nested)]
    shapes += _headed(box, at, look, progress=progress) if nested else _filled(box, at, look, progress=progress)
    if box.runs > 1:
        shapes += _badge(box.runs, at.x + at.width / 2, at.y - at.height / 2, look)
    said = [box.label, box.note, look.said, f"ran {box.runs} times" if box.runs > 1 else ""]
    kind = f"node {box.shape} {box.status}" if progress else f"node {box.shape}"
    return Group(kind, told(", ".join(part for part in said if part)), tuple(shapes))


def _terminal(box: Box, at: Place, *, within: bool) -> Iterator[Shape]:
    """START, END and STOP are solid; what an edge names and nobody defined is a hole."""
    if is_dot(box, within=within):
        yield _pill(at, Ink(fill=LINES))
        return
    fill = {"START": LINES, "END": TEXT, "STOP": ERROR}.get(box.label)
    yield _pill(at, Ink(fill=fill) if fill else Ink(PAPER, ERROR, 1.4, (3, 3)))
    yield Words(at.x, at.y + SMALL * 0.36, name_of(box), SMALL, PAPER if fill else ERROR, bold=True)


def _pill(at: Place, ink: Ink) -> Rect:
    return Rect(at.x - at.width / 2, at.y - at.height / 2, at.width, at.height, at.height / 2, ink)


def _frame(box: Box, at: Place, look: Look, *, nested: bool) -> Iterator[Shape]:
    """One border for a function, two for a graph, a stack for a map, round ends for a wait."""
    x, y, width, height = at.x - at.width / 2, at.y - at.height / 2, at.width, at.height
    ink = Ink(WITHIN if nested and box.status != "failed" else look.fill, look.stroke, look.width, look.dash)
    radius = height / 2 if box.shape == "wait" else 8.0 if nested else 5.0
    if box.shape == "map":
        for step in (6.0, 3.0):
            yield Rect(x + step, y + step, width, height, radius, Ink(PAPER, look.stroke, 1.1))
    yield Rect(x, y, width, height, radius, ink)
    if box.shape == "subgraph":
        yield Rect(x + 3.5, y + 3.5, width - 7, height - 7, radius - 2, Ink(None, look.stroke, 0.9))


def _filled(box: Box, at: Place, look: Look, *, progress: bool) -> Iterator[Shape]:
    """The name in the middle, a mark before it, and a note below."""
    name = name_of(box)
    middle, y = at.x + (MARK / 2 if progress else 0.0), at.y - (7.0 if box.note else 0.0)
    yield Words(middle, y + NAME * 0.36, name, NAME, look.text)
    if box.note:
        yield Words(at.x, at.y + 14, note_of(box), NOTE, look.text if progress else FAINT)
    if progress:
        yield from mark_of(box.status, middle - width_of(name, NAME) / 2 - MARK / 2 - 2, y)


def _headed(box: Box, at: Place, look: Look, *, progress: bool) -> Iterator[Shape]:
    """The name and the note above a graph."""
    left, right, top = at.x - at.width / 2 + PADDING, at.x + at.width / 2 - PADDING, at.y - at.height / 2
    yield Words(left + (MARK if progress else 0.0), top + 19, name_of(box), NAME, look.text, "start", bold=True)
    if box.note:
        yield Words(right, top + 19, note_of(box), NOTE, FAINT, "end")
    if progress:
        yield from mark_of(box.status, left + 6, top + 15)


def mark_of(status: Status, x: float, y: float) -> Iterator[Shape]:
    """What tells a status without its colour."""
    look = LOOKS[status]
    solid, thick = Ink(fill=look.stroke), Ink(stroke=look.stroke, width=2.2)
    match status:
        case "done":
            yield Line((x - 4.5, y), ((x - 1.5, y + 3.5), (x + 4.5, y - 4)), thick)
        case "running":
            yield Line((x - 3.5, y - 5), ((x + 5, y), (x - 3.5, y + 5)), solid, closed=True)
        case "waiting":
            yield Rect(x - 4, y - 4.5, 2.8, 9, 0.5, solid)
            yield Rect(x + 1.2, y - 4.5, 2.8, 9, 0.5, solid)
        case "failed":
            yield Line((x - 4, y - 4), ((x + 4, y + 4),), thick)
            yield Line((x - 4, y + 4), ((x + 4, y - 4),), thick)
        case "cancelled":
            yield Rect(x - 4, y - 4, 8, 8, 0.5, solid)
        case "unreached":
            yield Rect(x - 4, y - 4, 8, 8, 4, Ink(None, look.stroke, 1.3))


def _badge(runs: int, right: float, top: float, look: Look) -> Iterator[Shape]:
    """How often a node ran, over its upper right corner."""
    text = f"{_TIMES}{runs}" if runs < 10_000 else f"{_TIMES}{runs // 1000}k"
    width = width_of(text, 10.0) + 9
    yield Rect(right - width + 9, top - 8, width, 15, 7.5, Ink(look.stroke, PAPER, 1.2))
    yield Words(right - width / 2 + 9, top + 3.1, text, 10.0, PAPER, bold=True)
