"""Edges and their labels as shapes."""

from __future__ import annotations

from collections.abc import Sequence

from .lettering import in_two, width_of
from .looks import BACK, DASHES, ERROR, FAINT, HALF_HEAD, HEAD, LABEL, LINE, LINES, ONE_LINE, PAPER, WIDEST_LABEL
from .picture import Arrow
from .shapes import Group, Ink, Line, Rect, Shape, Words
from .ways import Piece, Place, Point, Route


def label_lines(arrow: Arrow) -> tuple[str, ...]:
    """The label as it is shown, on one line or two."""
    if not arrow.label:
        return ()
    return in_two(arrow.label, LABEL, ONE_LINE, WIDEST_LABEL)


def label_size(lines: Sequence[str]) -> tuple[float, float] | None:
    """The room that it takes, a little air included."""
    if not lines:
        return None
    return max(width_of(line, LABEL) for line in lines) + 10.0, len(lines) * LINE + 2.0


def colour_of(arrow: Arrow, *, back: bool) -> str:
    """Errors before all; then what leads back."""
    if arrow.style == "error":
        return ERROR
    return BACK if back else LINES


def edge_of(title: str, arrow: Arrow, route: Route) -> Group:
    """An edge with its head, and for a choice the diamond where it is made."""
    colour = colour_of(arrow, back=route.back)
    pieces, head = _with_head(route)
    ink = Ink(stroke=colour, width=1.8 if route.back else 1.4, dash=DASHES[arrow.style])
    shapes: list[Shape] = [Line(route.start, pieces, ink), Line(*head, ink=Ink(fill=colour), closed=True)]
    if arrow.style == "choice":
        shapes.append(_diamond(route, colour))
    return Group(f"edge {'back ' if route.back else ''}{arrow.style}", title, tuple(shapes))


def _with_head(route: Route) -> tuple[tuple[Piece, ...], tuple[Point, tuple[Piece, ...]]]:
    """The way shortened by its arrow's head, and the head."""
    x, y = route.end
    last = route.pieces[-1]
    before = route.start if len(route.pieces) == 1 else route.pieces[-2][-2:]
    from_x, from_y = last[2:4] if len(last) == 6 else before
    length = ((x - from_x) ** 2 + (y - from_y) ** 2) ** 0.5 or 1.0
    across, down = (x - from_x) / length, (y - from_y) / length
    base = x - across * HEAD, y - down * HEAD
    corners = (
        (base[0] - down * HALF_HEAD, base[1] + across * HALF_HEAD),
        (base[0] + down * HALF_HEAD, base[1] - across * HALF_HEAD),
    )
    end = x - across * (HEAD - 1), y - down * (HEAD - 1)
    return (*route.pieces[:-1], (*last[:-2], *end)), ((x, y), corners)


def _diamond(route: Route, colour: str) -> Line:
    x, y = route.start
    return Line((x, y), ((x + 4, y + 5), (x, y + 10), (x - 4, y + 5)), Ink(PAPER, colour, 1.2), closed=True)


def label_of(title: str, lines: Sequence[str], colour: str, at: Place, paper: str) -> Group:
    """A label, on paper that hides the edge under it."""
    shapes: list[Shape] = [
        Rect(at.x - at.width / 2, at.y - at.height / 2, at.width, at.height, 3, Ink(fill=paper)),
    ]
    first = at.y - (len(lines) - 1) * LINE / 2 + LABEL * 0.36
    for index, line in enumerate(lines):
        shapes.append(Words(at.x, first + index * LINE, line, LABEL, FAINT if colour == LINES else colour))
    return Group("label", title, tuple(shapes))
