"""Places across drawn together: what was spread out to line up is brought as close to its neighbours as room allows.

Vertices that a straight line joins move as one, so lines that are straight stay so. Each moves to the middle of
what its other links lead to, as far as the next in its rows lets it; nobody is pushed, so the order and the
distances hold.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from .placing import distance
from .sketch import Sketch

MOST_ROUNDS = 12
EFFORT = 40_000  # Vertices looked at in all rounds together.
STRAIGHT = 0.01


def tighten(sketch: Sketch, x: list[float]) -> None:
    """Make links shorter across."""
    before, after = sketch.neighbours()
    rounds = min(MOST_ROUNDS, EFFORT // (len(x) + 1))
    for _ in range(rounds):
        moved = 0.0
        for block in _blocks(sketch, x):
            here = x[block[0]]
            wanted = _wanted(sketch, x, block)
            if wanted is None:
                continue
            there = _allowed(sketch, x, block, before, after, wanted)
            if abs(there - here) >= 0.5:
                moved += abs(there - here)
                for vertex in block:
                    x[vertex] = there
        if moved < 1:
            break


def _blocks(sketch: Sketch, x: Sequence[float]) -> Iterator[list[int]]:
    """Vertices that straight lines join, from the top."""
    seen = [False] * len(x)
    for row in sketch.rows:
        for root in row:
            if seen[root]:
                continue
            seen[root] = True
            block = [root]
            for vertex in block:
                for others in (sketch.downs[vertex], sketch.ups[vertex]):
                    for other in others:
                        if not seen[other] and abs(x[other] - x[vertex]) < STRAIGHT:
                            seen[other] = True
                            block.append(other)
            yield block


def _wanted(sketch: Sketch, x: Sequence[float], block: Sequence[int]) -> float | None:
    """The middle of what a block's other links lead to, on the side where there are more: so branches are even."""
    here = x[block[0]]
    up, down = (
        sorted(x[other] for vertex in block for other in ways[vertex] if abs(x[other] - here) >= STRAIGHT)
        for ways in (sketch.ups, sketch.downs)
    )
    pulls = up if len(up) > len(down) else down if len(down) > len(up) else sorted(up + down)
    return (pulls[(len(pulls) - 1) // 2] + pulls[len(pulls) // 2]) / 2 if pulls else None


def _allowed(
    sketch: Sketch, x: Sequence[float], block: Sequence[int], before: Sequence[int], after: Sequence[int], wanted: float
) -> float:
    """The nearest place to the wanted one that the neighbours in all rows of a block leave free."""
    here = x[block[0]]
    if wanted < here:
        lefts = [x[b] + distance(sketch, b, vertex) for vertex in block if (b := before[vertex]) >= 0]
        return min(here, max([wanted, *lefts]))
    rights = [x[a] - distance(sketch, vertex, a) for vertex in block if (a := after[vertex]) >= 0]
    return max(here, min([wanted, *rights]))
