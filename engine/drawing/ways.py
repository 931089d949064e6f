"""Places of boxes and ways of links, and the pen that draws a way."""

from __future__ import annotations

from itertools import pairwise

import attrs

Point = tuple[float, float]
Piece = tuple[float, ...]
"""Two numbers, the end of a line; or six, a cubic curve's control points and end."""


@attrs.frozen
class Place:
    """The middle of a box or label, and its size."""

    x: float
    y: float
    width: float
    height: float

    def moved(self, x: float, y: float) -> Place:
        return attrs.evolve(self, x=self.x + x, y=self.y + y)


@attrs.frozen
class Route:
    """The way of a link. `back` if it leads up."""

    start: Point
    pieces: tuple[Piece, ...]
    label: Place | None = None
    back: bool = False

    @property
    def end(self) -> Point:
        return self.pieces[-1][-2], self.pieces[-1][-1]

    def moved(self, x: float, y: float) -> Route:
        pieces = tuple(tuple(v + (y if i % 2 else x) for i, v in enumerate(piece)) for piece in self.pieces)
        label = self.label and self.label.moved(x, y)
        return Route((self.start[0] + x, self.start[1] + y), pieces, label, self.back)


@attrs.frozen
class Layout:
    """Places of items and routes of links, in the order in which they were given."""

    width: float
    height: float
    places: tuple[Place, ...]
    routes: tuple[Route, ...]


class Pen:
    """Draws one way, piece by piece."""

    def __init__(self, start: Point) -> None:
        self.start = start
        self.x, self.y = start
        self.pieces: list[Piece] = []

    def _go(self, *piece: float) -> None:
        self.pieces.append(piece)
        self.x, self.y = piece[-2:]

    def straight_to_y(self, y: float) -> None:
        if abs(y - self.y) > 0.01:
            self._go(self.x, y)

    def sweep(self, x: float, y: float) -> None:
        """To a place in another row, leaving and arriving upright."""
        if abs(x - self.x) < 0.5:
            self._go(x, y)
            return
        half = (y - self.y) / 2
        self._go(self.x, self.y + half, x, y - half, x, y)

    def turn_up(self, x: float, y: float) -> None:
        """Out of a box's side, and upright at the top of its row."""
        self._go(x, self.y, x, self.y, x, y)

    def turn_in(self, x: float, y: float) -> None:
        """Into a box's side."""
        bend = min(abs(self.x - x), abs(self.y - y), 22.0)
        self.straight_to_y(y + (bend if self.y > y else -bend))
        sign = 1 if self.x > x else -1
        corner = self.x - sign * bend
        self._go(self.x, y, self.x, y, corner, y)
        if abs(corner - x) > 0.01:
            self._go(x, y)

    def corners(self, first: float, lane: float, last: float, x: float) -> None:
        """Across at one height, along the lane, back across at another and on to `x`; with rounded corners."""
        points = [(self.x, first), (lane, first), (lane, last), (x, last), (x, last + 8.0)]
        for (x1, y1), (x2, y2) in pairwise(points):
            before = (self.x, self.y)
            a, b = _rounded(before, (x1, y1), (x2, y2))
            self._go(*a)
            self._go(x1, y1, x1, y1, *b)


def _rounded(before: Point, corner: Point, after: Point) -> tuple[Point, Point]:
    """Where a rounded corner begins and ends."""

    def towards(point: Point) -> Point:
        across, down = point[0] - corner[0], point[1] - corner[1]
        length = abs(across) + abs(down)
        part = min(8.0, length / 2) / length if length else 0.0
        return corner[0] + across * part, corner[1] + down * part

    return towards(before), towards(after)
