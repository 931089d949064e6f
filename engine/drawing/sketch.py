"""A graph in rows, every link cut into pieces that lead from one row to the next.

What the order in the rows and the places across are worked out on. Where a link crosses a row, or has its
label, stands a vertex of its own: so links have room between nodes as nodes have between each other.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

import attrs


@attrs.define(eq=False)
class Sketch:
    """Vertices by number: those that are nodes first, then those that links are led through."""

    nodes: int
    rows: list[list[int]]
    """The vertices of each row, from left to right."""
    row: list[int]
    ups: list[list[int]]
    downs: list[list[int]]
    left: list[float]
    """How far each reaches to the left of its middle."""
    right: list[float]

    @classmethod
    def of(cls, widths: Sequence[float], row: list[int], rows: int) -> Sketch:
        """The nodes alone, so wide and in these rows."""
        halves = [width / 2 for width in widths]
        sketch = cls(len(row), [[] for _ in range(rows)], row, [[] for _ in row], [[] for _ in row], halves, [*halves])
        for node, number in enumerate(row):
            sketch.rows[number].append(node)
        return sketch

    def add(self, row: int, half: float = 0.0) -> int:
        """A new vertex at the end of its row."""
        vertex = len(self.row)
        self.row.append(row)
        self.ups.append([])
        self.downs.append([])
        self.left.append(half)
        self.right.append(half)
        self.rows[row].append(vertex)
        return vertex

    def tie(self, upper: int, lower: int) -> None:
        """Lead a link from a vertex to one in the row below."""
        self.downs[upper].append(lower)
        self.ups[lower].append(upper)

    def divert(self, high: int, between: list[int], low: int) -> tuple[int, int]:
        """Let a link end beside its nodes instead of at them: two new vertices, one in the row of each."""
        first, last = self.add(self.row[high]), self.add(self.row[low])
        way = [high, *between, low]
        self.downs[high].remove(way[1])
        self.ups[low].remove(way[-2])
        if between:
            self.ups[between[0]], self.downs[between[-1]] = [first], [last]
            self.downs[first], self.ups[last] = [between[0]], [between[-1]]
        else:
            self.tie(first, last)
        return first, last

    def neighbours(self) -> tuple[list[int], list[int]]:
        """The next to the left and to the right of each vertex, or -1."""
        before, after = [-1] * len(self.row), [-1] * len(self.row)
        for row in self.rows:
            for one, other in pairwise(row):
                after[one], before[other] = other, one
        return before, after

    def places(self) -> list[int]:
        """Where in its row each vertex stands."""
        found = [0] * len(self.row)
        for row in self.rows:
            for place, vertex in enumerate(row):
                found[vertex] = place
        return found

    def pieces(self) -> int:
        """How many pieces the links are cut into."""
        return sum(map(len, self.downs))


@attrs.define(eq=False)
class Chain:
    """A link on its way: the vertices that it is led through, from top to bottom."""

    index: int
    ends: tuple[int, int]
    label: tuple[float, float] | None
    back: bool
    far: bool
    """Led round the outside instead of through the rows."""
    loop: bool
    vertices: list[int] = attrs.field(factory=list)
    labelled: int | None = None
    """The vertex where its label stands."""
