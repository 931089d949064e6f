"""Where across each vertex stands: links straight where they can be, nodes in the middle of their neighbours.

After Brandes and Köpf, "Fast and Simple Horizontal Coordinate Assignment" (2002): vertices are lined up with
the middle one of their neighbours, from above or below and from the left or the right; lined up vertices move
as one block, as close together as their widths allow; the mean of the middle two of the four places is taken.
All four keep the order and the distances in a row, so their mean does.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

import attrs

from .sketch import Sketch

BETWEEN_NODES, BESIDE_NODE, BETWEEN_LINKS = 34.0, 18.0, 14.0


def gap(sketch: Sketch, one: int, other: int) -> float:
    """The room between two neighbours in a row."""
    nodes = (one < sketch.nodes) + (other < sketch.nodes)
    return (BETWEEN_LINKS, BESIDE_NODE, BETWEEN_NODES)[nodes]


def distance(sketch: Sketch, one: int, other: int) -> float:
    """How far from the middle of a vertex to that of the next one in its row."""
    return sketch.right[one] + gap(sketch, one, other) + sketch.left[other]


def place(sketch: Sketch) -> list[float]:
    """The middle of each vertex."""
    crossed = _crossed(sketch)
    found = [_places(_Side(sketch, crossed, down=down, left=left)) for down in (True, False) for left in (True, False)]
    if not sketch.row:
        return []
    spans = [_span(sketch, x) for x in found]
    low, high = min(spans, key=lambda span: span[1] - span[0])
    # Those packed to the left begin where the narrowest does, those packed to the right end where it does.
    moves = [low - span[0] if index % 2 == 0 else high - span[1] for index, span in enumerate(spans)]
    middle = []
    for four in zip(*found, strict=True):
        _, second, third, _ = sorted([x + move for x, move in zip(four, moves, strict=True)])
        middle.append((second + third) / 2)
    return middle


def _span(sketch: Sketch, x: Sequence[float]) -> tuple[float, float]:
    rows = [row for row in sketch.rows if row]
    return min(x[row[0]] - sketch.left[row[0]] for row in rows), max(x[r[-1]] + sketch.right[r[-1]] for r in rows)


def _crossed(sketch: Sketch) -> frozenset[tuple[int, int]]:
    """The pieces that may not be straight because they cross one in the middle of a long link, which may."""
    found = set()
    position = sketch.places()
    for upper, lower in zip(sketch.rows, sketch.rows[1:], strict=False):
        before, scanned = -1, 0
        for at, vertex in enumerate(lower):
            inner = next((u for u in sketch.ups[vertex] if min(u, vertex) >= sketch.nodes), None)
            if inner is None and at < len(lower) - 1:
                continue
            after = len(upper) if inner is None else position[inner]
            for other in lower[scanned : at + 1]:
                for up in sketch.ups[other]:
                    if not before <= position[up] <= after and min(up, other) < sketch.nodes:
                        found.add((up, other))
            before, scanned = after, at + 1
    return frozenset(found)


@attrs.define(eq=False)
class _Side:
    """The sketch as seen from one of four sides. Seen from the right, all is mirrored."""

    sketch: Sketch
    crossed: frozenset[tuple[int, int]]
    down: bool
    left: bool

    def rows(self) -> list[list[int]]:
        rows = self.sketch.rows if self.down else self.sketch.rows[::-1]
        return rows if self.left else [row[::-1] for row in rows]

    def distance(self, one: int, other: int) -> float:
        return distance(self.sketch, one, other) if self.left else distance(self.sketch, other, one)

    def straight(self, one: int, other: int) -> bool:
        return ((other, one) if self.down else (one, other)) not in self.crossed


def _places(side: _Side) -> list[float]:
    root = _blocks(side)
    x = _packed(side, root)
    return x if side.left else [-value for value in x]


def _blocks(side: _Side) -> list[int]:
    """For each vertex the first of those that it is lined up with."""
    neighbours = side.sketch.ups if side.down else side.sketch.downs
    rows = side.rows()
    position = [0] * len(side.sketch.row)
    for row in rows:
        for at, vertex in enumerate(row):
            position[vertex] = at
    root = list(range(len(position)))
    for row in rows:
        last = -1
        for vertex in row:
            found = sorted(neighbours[vertex], key=position.__getitem__)
            half = len(found) // 2
            for other in found[(len(found) - 1) // 2 : half + 1] if found else ():
                if position[other] > last and side.straight(vertex, other):
                    root[vertex] = root[other]
                    last = position[other]
                    break
    return root


def _packed(side: _Side, root: Sequence[int]) -> list[float]:
    """The blocks as far to the left as they go, then each as far to the right as its neighbours let it."""
    after: dict[int, dict[int, float]] = {}
    waiting = dict.fromkeys(root, 0)
    for row in side.rows():
        for one, other in pairwise(row):
            known = after.setdefault(root[one], {})
            if root[other] not in known:
                waiting[root[other]] += 1
            known[root[other]] = max(known.get(root[other], 0.0), side.distance(one, other))
    order = [block for block, count in waiting.items() if not count]
    x = dict.fromkeys(waiting, 0.0)
    for block in order:
        for other, needed in after.get(block, {}).items():
            x[other] = max(x[other], x[block] + needed)
            waiting[other] -= 1
            if not waiting[other]:
                order.append(other)
    for block in reversed(order):
        if block in after:
            x[block] = max(x[block], min(x[other] - needed for other, needed in after[block].items()))
    return [x[block] for block in root]
