"""The order in each row, so that few links cross: means of neighbours, down and up, then swaps of neighbours.

The number of rounds is bounded by the size of the graph: the best order is out of reach in any case, and what a
reader notices is found in the first few.
"""

from __future__ import annotations

from bisect import bisect_right, insort
from collections.abc import Sequence

from .sketch import Sketch

MOST_ROUNDS = 24
EFFORT = 60_000  # Pieces of links looked at in all rounds together: about a quarter of a second.
STARTS, FEW = (
    4,
    1_000,
)  # Orders to begin with, and the pieces up to which all are tried: one of them is often far better.
PATIENCE = 4  # Rounds without a better order before it is left at that.
MOST_SWAPPED = 4_000  # Pieces; looking at every pair of neighbours costs much more than a round of means.


def order(sketch: Sketch) -> None:
    """Put the vertices of each row into an order with few crossings. The same sketch gives the same order."""
    rounds = max(2, min(MOST_ROUNDS, EFFORT // (STARTS * sketch.pieces() + 1)))
    starts = STARTS if sketch.pieces() < FEW else 2 if rounds > 2 else 1
    found: list[tuple[int, list[list[int]]]] = []
    for number in range(starts):
        _walked(sketch, from_above=number % 2 == 0, backwards=number >= 2)
        found.append(_improved(sketch, rounds))
        if not found[-1][0]:
            break
    sketch.rows[:] = min(found, key=lambda one: one[0])[1]
    _as_written(sketch)


def _improved(sketch: Sketch, rounds: int) -> tuple[int, list[list[int]]]:
    """The best order that rounds from the present one come to, and its crossings."""
    best, fewest = [list(row) for row in sketch.rows], crossings(sketch)
    since = 0
    for number in range(rounds):
        if not fewest or since >= PATIENCE:
            break
        _by_means(sketch, down=number % 2 == 0, backwards=number % 4 >= 2)
        if sketch.pieces() <= MOST_SWAPPED:
            _swap(sketch)
        found = crossings(sketch)
        since += 1
        if found < fewest:
            best, fewest, since = [list(row) for row in sketch.rows], found, 0
    return fewest, best


def _walked(sketch: Sketch, *, from_above: bool, backwards: bool) -> None:
    """As met in a walk: what hangs together stands together, as its author wrote it down."""
    rows: list[list[int]] = [[] for _ in sketch.rows]
    seen = [False] * len(sketch.row)
    ways = sketch.downs if from_above else sketch.ups
    for row in sketch.rows if from_above else sketch.rows[::-1]:
        for root in sorted(row, reverse=backwards):
            todo = [root]
            while todo:
                vertex = todo.pop()
                if not seen[vertex]:
                    seen[vertex] = True
                    rows[sketch.row[vertex]].append(vertex)
                    todo.extend(ways[vertex] if backwards else reversed(ways[vertex]))
    sketch.rows[:] = rows


def _by_means(sketch: Sketch, *, down: bool, backwards: bool) -> None:
    """Sort each row by the mean place of each vertex's neighbours in the row before; `backwards` decides ties."""
    neighbours = sketch.ups if down else sketch.downs
    place = sketch.places()
    rows = range(len(sketch.rows)) if down else range(len(sketch.rows) - 1, -1, -1)
    for number in rows:
        row = sketch.rows[number]
        if backwards:
            row.reverse()
        means = {v: sum([place[n] for n in found]) / len(found) for v in row if (found := neighbours[v])}
        ranked = iter(sorted(means, key=means.__getitem__))
        # Whoever has no neighbours there stays where it is.
        sketch.rows[number] = row = [next(ranked) if v in means else v for v in row]
        for at, vertex in enumerate(row):
            place[vertex] = at


def crossings(sketch: Sketch) -> int:
    """How often two pieces cross."""
    place = sketch.places()
    return sum(_crossings(row, sketch.downs, place) for row in sketch.rows)


def _crossings(row: Sequence[int], downs: Sequence[Sequence[int]], place: Sequence[int]) -> int:
    """Those below one row: pairs of pieces that begin in one order and end in the other."""
    count = 0
    ends: list[int] = []
    for vertex in row:
        here = sorted([place[other] for other in downs[vertex]])
        for end in here:
            count += len(ends) - bisect_right(ends, end)
        for end in here:
            insort(ends, end)
    return count


def _swap(sketch: Sketch, most: int = 4) -> None:
    """Exchange neighbours in a row as long as it makes fewer crossings.

    Every other turn exchanges those that make no difference as well: that leads out of many a dead end.
    """
    place = sketch.places()
    for turn in range(most):
        better, least = False, turn % 2
        for row in sketch.rows:
            for at in range(len(row) - 1):
                one, other = row[at], row[at + 1]
                gain = _gain(sketch, place, one, other)
                if gain >= least:
                    row[at], row[at + 1] = other, one
                    place[one], place[other] = at + 1, at
                    better = better or gain > 0 or least == 0
        if not better:
            return


def _as_written(sketch: Sketch) -> None:
    """Nodes in the order in which they were declared, wherever it makes no difference."""
    place = sketch.places()
    for row in sketch.rows:
        for end in range(min(len(row), 100) - 1, 0, -1):
            for at in range(end):
                one, other = row[at], row[at + 1]
                if other < one < sketch.nodes and _gain(sketch, place, one, other) >= 0:
                    row[at], row[at + 1] = other, one
                    place[one], place[other] = at + 1, at


def _gain(sketch: Sketch, place: Sequence[int], left: int, right: int) -> int:
    """How many crossings fewer if these two neighbours changed places."""
    gain = 0
    for neighbours in (sketch.ups, sketch.downs):
        if neighbours[left] and neighbours[right]:
            lefts = sorted([place[n] for n in neighbours[left]])
            rights = sorted([place[n] for n in neighbours[right]])
            gain += _pairs(rights, lefts) - _pairs(lefts, rights)
    return gain


def _pairs(lower: Sequence[int], upper: Sequence[int]) -> int:
    """How many pairs have the first before the second."""
    found = at = 0
    for value in upper:
        while at < len(lower) and lower[at] < value:
            at += 1
        found += at
    return found
