"""Where everything of a drawing stands, whatever it is drawn with: in rows from top to bottom.

Links that lead back are turned round and every node gets a row below all that lead to it (`layering`); links are cut
where they cross a row (`sketch`); each row is put in order (`ordering`), with room beside the ends of what leads back
(`sides`), and spread out (`placing`, `tightening`); the links are led through what is then free (`routing`). Between
rows there are no boxes, and in a row every link has a place of its own: that no link passes through a box is not
looked for, it follows.

Labels stand in rows of their own, next to the node that the link comes from. Cutting is bounded: links that cross very
many rows are led round the outside instead, so that a dense graph does not cost its nodes times its rows.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import accumulate, pairwise

import attrs

from .layering import leading_back, rows_of
from .ordering import order
from .placing import place
from .routing import loop_width, routed
from .sides import draw_close, lead_past
from .sketch import Chain, Sketch
from .tightening import tighten
from .ways import Layout, Place, Route

MOST_CUTS_EACH, MOST_CUTS = 8, 4_000  # Of links by rows, per node and besides.
BETWEEN_PARTS = 48.0


@attrs.frozen
class Item:
    """A box of this size."""

    width: float
    height: float


@attrs.frozen
class Link:
    """From one item to another, by number, with a label of this size. `loops` if it is meant to lead back."""

    source: int
    target: int
    label: tuple[float, float] | None = None
    loops: bool = False


def lay_out(items: Sequence[Item], links: Sequence[Link]) -> Layout:
    """Places and routes for all of these. What hangs together stands together, the first at the left."""
    parts = list(_parts(len(items), links))
    if len(parts) == 1:
        return _connected(items, links)
    laid = []
    for members, own in parts:
        number = {item: index for index, item in enumerate(members)}
        inner = [attrs.evolve(links[i], source=number[links[i].source], target=number[links[i].target]) for i in own]
        laid.append(_connected([items[item] for item in members], inner))
    return _packed(len(items), len(links), parts, laid)


def _parts(count: int, links: Sequence[Link]) -> Iterator[tuple[list[int], list[int]]]:
    """The items and links that hang together."""
    own: list[list[int]] = [[] for _ in range(count)]
    for index, link in enumerate(links):
        own[link.source].append(index)
        own[link.target].append(index)
    seen = [False] * count
    for root in range(count):
        if seen[root]:
            continue
        seen[root] = True
        members, found = [root], set()
        for item in members:
            for index in own[item]:
                found.add(index)
                for other in (links[index].source, links[index].target):
                    if not seen[other]:
                        seen[other] = True
                        members.append(other)
        yield sorted(members), sorted(found)


def _packed(items: int, links: int, parts: Sequence[tuple[list[int], list[int]]], laid: Sequence[Layout]) -> Layout:
    """Parts side by side, in lines that make the whole about half as wide again as it is high."""
    area = sum((part.width + BETWEEN_PARTS) * (part.height + BETWEEN_PARTS) for part in laid)
    widest = max([*(part.width for part in laid), (1.5 * area) ** 0.5])
    places: list[Place | None] = [None] * items
    routes: list[Route | None] = [None] * links
    x = y = high = width = 0.0
    for (members, own), part in zip(parts, laid, strict=True):
        if x and x + part.width > widest:
            x, y, high = 0.0, y + high + BETWEEN_PARTS, 0.0
        for item, at in zip(members, part.places, strict=True):
            places[item] = at.moved(x, y)
        for index, route in zip(own, part.routes, strict=True):
            routes[index] = route.moved(x, y)
        width, high = max(width, x + part.width), max(high, part.height)
        x += part.width + BETWEEN_PARTS
    return Layout(width, y + high, tuple(p for p in places if p), tuple(r for r in routes if r))


def _connected(items: Sequence[Item], links: Sequence[Link]) -> Layout:
    if not items:
        return Layout(0.0, 0.0, (), ())
    cuts = _Cuts(items, links)
    sketch, chains = cuts.sketch, [cuts.chain(index) for index in range(len(links))]
    order(sketch)
    lead_past(sketch, chains)
    for chain in chains:
        if chain.loop:
            sketch.right[chain.ends[0]] += loop_width(chain)
    x = place(sketch)
    tighten(sketch, x)
    draw_close(sketch, chains, x)
    return routed(sketch, chains, x, [(item.width, item.height) for item in items], cuts.label_rows)


class _Cuts:
    """Rows for items and for labels, in which all links lead down, and where these are cut."""

    def __init__(self, items: Sequence[Item], links: Sequence[Link]) -> None:
        self.links = links
        ends = [(link.source, link.target) for link in links]
        loops = {index for index, (source, target) in enumerate(ends) if source == target}
        hints = [index for index, link in enumerate(links) if link.loops and index not in loops]
        self.back = leading_back(len(items), ends, hints, range(len(items)))
        self.down = {
            index: (target, source) if index in self.back else (source, target)
            for index, (source, target) in enumerate(ends)
            if index not in loops
        }
        row = rows_of(len(items), list(self.down.values()))
        self.far = self._far(row)
        labelled = self._labelled(row)
        above = [0, *accumulate(number in labelled for number in range(max(row)))]
        self.label_rows = {number + above[number] + 1 for number in labelled}
        self.sketch = Sketch.of(
            [item.width for item in items],
            [number + above[number] for number in row],
            max(row) + 1 + len(labelled),
        )

    def _far(self, row: Sequence[int]) -> frozenset[int]:
        """The links which cross too many rows to be cut at each."""
        rows_each = 2 if any(link.label for link in self.links) else 1
        cuts = sorted((rows_each * (row[low] - row[high]), index) for index, (high, low) in self.down.items())
        left = MOST_CUTS + MOST_CUTS_EACH * len(row)
        found = set()
        for number, index in cuts:
            left -= number
            if left < 0 and number > rows_each:
                found.add(index)
        return frozenset(found)

    def _labelled(self, row: Sequence[int]) -> set[int]:
        """The rows of items that have a row of labels below: next to where links come from."""
        found = set()
        for index in self.down:
            if self.links[index].label:
                leaves_upwards = index in self.back and index not in self.far
                found.add(row[self.links[index].source] - leaves_upwards)
        return found

    def chain(self, index: int) -> Chain:
        """A link, cut where it crosses rows. Its label stands where it is cut first, seen from its source."""
        link, back, far = self.links[index], index in self.back, index in self.far
        chain = Chain(index, (link.source, link.target), link.label, back=back, far=far, loop=index not in self.down)
        if chain.loop:
            return chain
        high, low = (link.source, None) if far else self.down[index]
        first = self.sketch.row[high]
        last = self.sketch.row[low] if low is not None else first + (2 if link.label else 1)
        at = None if link.label is None else last - 1 if back and not far else first + 1
        half = link.label[0] / 2 if link.label else 0.0
        chain.vertices = [high]
        for number in range(first + 1, last):
            chain.vertices.append(self.sketch.add(number, half if number == at else 0.0))
            if number == at:
                chain.labelled = chain.vertices[-1]
        if low is not None:
            chain.vertices.append(low)
        for upper, lower in pairwise(chain.vertices):
            self.sketch.tie(upper, lower)
        return chain
