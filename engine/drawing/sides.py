"""Links that lead back, kept at the side of what they lead past.

They leave a node at its side and enter one at its side, so that they are seen for what they are. For that each has a
vertex beside either node, on the side where it runs; those of one node stand next to it, inner links inside.
"""

from __future__ import annotations

from collections.abc import Sequence

from .placing import distance
from .sketch import Chain, Sketch

CLEARLY = 2.0  # Places in a row by which a link must run on the other side for its two ends to be on different ones.


def lead_past(sketch: Sketch, chains: Sequence[Chain]) -> None:
    """Give each link that leads back its vertices beside its nodes. To be done when the rows are in order."""
    position = sketch.places()
    beside: dict[int, list[tuple[bool, int, int]]] = {}
    for chain in chains:
        if not chain.back or chain.far:
            continue
        high, *between, low = chain.vertices
        sides = _sides(sketch, position, chain)
        first, last = sketch.divert(high, between, low)
        chain.vertices = [first, *between, last]
        for node, vertex, right, others in (
            (high, first, sides[0], between[:1]),
            (low, last, sides[1], between[-1:]),
        ):
            place = position[others[0]] if others else -1
            beside.setdefault(node, []).append((right, place, vertex))
    for node, found in beside.items():
        row = sketch.rows[sketch.row[node]]
        moved = {vertex for _, _, vertex in found}
        row[:] = [vertex for vertex in row if vertex not in moved]
        at = row.index(node)
        found.sort()
        row[at:at] = [vertex for right, _, vertex in found if not right]
        at = row.index(node) + 1
        row[at:at] = [vertex for right, _, vertex in found if right]


def _sides(sketch: Sketch, position: Sequence[int], chain: Chain) -> tuple[bool, bool]:
    """Whether it is at the right of its upper and of its lower node; by choice the same for both, and the right."""
    high, *between, low = chain.vertices
    if not between:
        return True, True
    upper = _to_the_right(position, between[0], sketch.downs[high])
    lower = _to_the_right(position, between[-1], sketch.ups[low])
    if upper + lower >= 0:
        return upper > -CLEARLY, lower > -CLEARLY
    return upper >= CLEARLY, lower >= CLEARLY


def _to_the_right(position: Sequence[int], own: int, neighbours: Sequence[int]) -> float:
    """How far to the right of a node's other neighbours a link runs, in places."""
    others = [position[other] for other in neighbours if other != own]
    return position[own] - sum(others) / len(others) if others else 0.0


def draw_close(sketch: Sketch, chains: Sequence[Chain], x: list[float]) -> None:
    """Bring what leads back close to what it leads past: as one straight line if there is one, or else its ends."""
    before, after = sketch.neighbours()
    backs = [chain for chain in chains if chain.back and not chain.far]
    for chain in sorted(backs, key=lambda chain: len(chain.vertices)):
        low, high = float("-inf"), float("inf")
        for vertex in chain.vertices:
            if (left := before[vertex]) >= 0:
                low = max(low, x[left] + distance(sketch, left, vertex))
            if (right := after[vertex]) >= 0:
                high = min(high, x[right] - distance(sketch, vertex, right))
        middle = (x[chain.ends[0]] + x[chain.ends[1]]) / 2
        for vertex in chain.vertices:
            if low <= high:
                x[vertex] = min(max(middle, low), high)
            elif before[vertex] in chain.ends:
                x[vertex] = x[before[vertex]] + distance(sketch, before[vertex], vertex)
            elif after[vertex] in chain.ends:
                x[vertex] = x[after[vertex]] - distance(sketch, vertex, after[vertex])
