"""The ways of links between boxes that have their places, and how far apart the rows must be for them."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from heapq import heappush, heapreplace

from .sketch import Chain, Sketch
from .ways import Layout, Pen, Place, Route

GAP, LABEL_GAP = 40.0, 8.0
ABOVE_LABEL, BELOW_LABEL = 16.0, 24.0
STEEPNESS = 0.10  # A gap grows by this part of the widest step across in it, so that no link lies flat.
MOST_SLACK = 90.0
LOOP = 26.0  # What a link from a node to itself needs beside it.
PORTS = 14.0  # Between links at one side of a box.
TRACKS, MOST_TRACKS = 5.0, 90.0  # Between links that lead to the outside, and for all of them in one gap.
LANES, MOST_LANES = 6.0, 600.0  # Between links on the outside, and for all of them.


def loop_width(chain: Chain) -> float:
    """How far a link from a node to itself reaches out, with its label."""
    return LOOP + (LABEL_GAP + chain.label[0] if chain.label else 0.0)


def routed(
    sketch: Sketch,
    chains: Sequence[Chain],
    x: Sequence[float],
    sizes: Sequence[tuple[float, float]],
    label_rows: Collection[int],
) -> Layout:
    """Rows as far apart as their links need, and the links."""
    return _Router(sketch, chains, x, sizes, label_rows).layout()


class _Router:
    def __init__(
        self,
        sketch: Sketch,
        chains: Sequence[Chain],
        x: Sequence[float],
        sizes: Sequence[tuple[float, float]],
        label_rows: Collection[int],
    ) -> None:
        start = min(x[row[0]] - sketch.left[row[0]] for row in sketch.rows if row)
        self.sketch, self.chains, self.sizes = sketch, chains, sizes
        self.x = x = [value - start for value in x]
        self.label_rows = label_rows
        self.right = max(x[row[-1]] + sketch.right[row[-1]] for row in sketch.rows if row)
        self.loops: dict[int, list[Chain]] = {}
        """Those drawn so far of each node."""
        self.tracks: dict[int, list[tuple[int, bool]]] = {}
        for chain in chains:
            if chain.far:
                self.tracks.setdefault(self._first_gap(chain), []).append((chain.index, True))
                self.tracks.setdefault(sketch.row[chain.ends[1]] - 1, []).append((chain.index, False))
        self._set_rows()
        self._set_ports()
        self._set_lanes()

    def _first_gap(self, chain: Chain) -> int:
        return self.sketch.row[chain.ends[0]] + (chain.labelled is not None)

    def layout(self) -> Layout:
        routes = tuple(self._route(chain) for chain in self.chains)
        places = tuple(
            Place(self.x[node], self.middle[self.sketch.row[node]], *size) for node, size in enumerate(self.sizes)
        )
        return Layout(self.right + self.outside, self.bottom, places, routes)

    # --- rows -----------------------------------------------------------------------------------------------

    def _set_rows(self) -> None:
        """The height of each row and what lies between."""
        count = len(self.sketch.rows)
        heights = [0.0] * count
        for node, (_, height) in enumerate(self.sizes):
            heights[self.sketch.row[node]] = max(heights[self.sketch.row[node]], height)
        for chain in self.chains:
            if chain.label and (chain.loop or chain.labelled is not None):
                number = self.sketch.row[chain.ends[0] if chain.labelled is None else chain.labelled]
                heights[number] = max(heights[number], chain.label[1])
        self.top, self.base, self.middle = [0.0] * count, [0.0] * count, [0.0] * count
        y = self._tracks_height(-1)
        for number, height in enumerate(heights):
            self.top[number], self.middle[number] = y, y + height / 2
            self.base[number] = y + height
            y += height + (self._gap(number) if number < count - 1 else 0.0)
        self.bottom = self.base[-1] + self._tracks_height(count - 1)

    def _tracks_height(self, gap: int) -> float:
        tracks = len(self.tracks.get(gap, ()))
        return min(MOST_TRACKS, TRACKS * tracks) + 16.0 if tracks else 0.0

    def _gap(self, number: int) -> float:
        base = GAP
        if number in self.label_rows:
            base = BELOW_LABEL
        elif number + 1 in self.label_rows:
            base = ABOVE_LABEL
        x = self.x
        widest = max(
            (abs(x[low] - x[up]) for up in self.sketch.rows[number] for low in self.sketch.downs[up]), default=0.0
        )
        return base + min(MOST_SLACK, widest * STEEPNESS) + self._tracks_height(number)

    # --- where links meet boxes -----------------------------------------------------------------------------

    def _set_ports(self) -> None:
        """Where each link leaves and enters: side by side, in the order in which they go on."""
        below: dict[int, list[tuple[float, int, bool]]] = {}
        above: dict[int, list[tuple[float, int, bool]]] = {}
        sides: dict[tuple[int, bool], list[tuple[float, int, bool]]] = {}
        for chain in self.chains:
            source, target = chain.ends
            if chain.loop:
                continue
            if chain.far:
                leads = self.x[chain.labelled] if chain.labelled is not None else self.right
                below.setdefault(source, []).append((leads, chain.index, True))
                above.setdefault(target, []).append((self.right, chain.index, False))
            elif chain.back:
                for node, vertex in ((target, chain.vertices[0]), (source, chain.vertices[-1])):
                    out = self.x[vertex] - self.x[node]
                    sides.setdefault((node, out > 0), []).append((abs(out), chain.index, node == source))
            else:
                below.setdefault(source, []).append((self.x[chain.vertices[1]], chain.index, True))
                above.setdefault(target, []).append((self.x[chain.vertices[-2]], chain.index, False))
        self.port: dict[tuple[int, bool], float] = {}
        for found in (below, above):
            for node, links in found.items():
                self._spread(node, sorted(links))
        for (node, _), links in sides.items():
            self._spread_at_side(node, links)

    def _spread(self, node: int, links: Sequence[tuple[float, int, bool]]) -> None:
        here, count = self.x[node], len(links)
        straight = [at for at, (leads, _, _) in enumerate(links) if abs(leads - here) < 1]
        centre = straight[0] if len(straight) == 1 else (count - 1) / 2
        reach = max(centre, count - 1 - centre)
        step = min(PORTS, (self.sizes[node][0] / 2 - 10) / reach) if reach else 0.0
        for at, (_, index, out) in enumerate(links):
            self.port[index, out] = here + (at - centre) * step

    def _spread_at_side(self, node: int, links: Sequence[tuple[float, int, bool]]) -> None:
        """Links going out leave above those coming in, inner ones inside: so none of them cross."""
        outs = sorted(link for link in links if link[2])
        ins = sorted((link for link in links if not link[2]), reverse=True)
        middle, height = self.middle[self.sketch.row[node]], min(self.sizes[node][1], 48.0)
        step = min(9.0, (height - 8) / len(links))
        for at, (_, index, out) in enumerate([*outs, *ins]):
            self.port[index, out] = middle + (at - (len(links) - 1) / 2) * step

    # --- round the outside ----------------------------------------------------------------------------------

    def _set_lanes(self) -> None:
        """A way down or up beside all rows for each link that is led round, and one across in each gap."""
        self.track: dict[tuple[int, bool], float] = {}
        for gap, links in self.tracks.items():
            room = self._tracks_height(gap) - 16.0
            below = self.base[gap] if gap >= 0 else 0.0
            for at, (index, out) in enumerate(sorted(links)):
                self.track[index, out] = below + 8.0 + (at + 0.5) * room / len(links)
        spans = sorted(
            (min(ends), max(ends), chain.index)
            for chain in self.chains
            if chain.far
            for ends in [(self.track[chain.index, True], self.track[chain.index, False])]
        )
        taken: list[tuple[float, int]] = []  # Until where each lane is, the first to be free first.
        lane: dict[int, int] = {}
        for begin, end, index in spans:
            if taken and taken[0][0] < begin:
                lane[index] = heapreplace(taken, (end, taken[0][1]))[1]
            else:
                lane[index] = len(taken)
                heappush(taken, (end, len(taken)))
        step = min(LANES, MOST_LANES / len(taken)) if taken else 0.0
        self.lane = {index: self.right + 18.0 + number * step for index, number in lane.items()}
        self.outside = 18.0 + len(taken) * step if taken else 0.0

    # --- routes ---------------------------------------------------------------------------------------------

    def _route(self, chain: Chain) -> Route:
        if chain.loop:
            return self._loop(chain)
        if chain.far:
            return self._round(chain)
        return self._back(chain) if chain.back else self._down(chain)

    def _down(self, chain: Chain) -> Route:
        source, target = chain.ends
        x, y = self.port[chain.index, True], self._under(source)
        pen = Pen((x, y))
        for vertex in chain.vertices[1:-1]:
            row = self.sketch.row[vertex]
            pen.straight_to_y(self.base[row - 1])
            pen.sweep(self.x[vertex], self.top[row])
        row = self.sketch.row[target]
        pen.straight_to_y(self.base[row - 1])
        pen.sweep(self.port[chain.index, False], self.top[row])
        pen.straight_to_y(self.middle[row] - self.sizes[target][1] / 2)
        return Route(pen.start, tuple(pen.pieces), self._label(chain))

    def _under(self, node: int) -> float:
        return self.middle[self.sketch.row[node]] + self.sizes[node][1] / 2

    def _label(self, chain: Chain) -> Place | None:
        if chain.labelled is None or chain.label is None:
            return None
        return Place(self.x[chain.labelled], self.middle[self.sketch.row[chain.labelled]], *chain.label)

    def _back(self, chain: Chain) -> Route:
        source, target = chain.ends
        beside = chain.vertices[-1]
        side = 0.5 if self.x[beside] > self.x[source] else -0.5
        pen = Pen((self.x[source] + side * self.sizes[source][0], self.port[chain.index, True]))
        pen.turn_up(self.x[beside], self.top[self.sketch.row[source]])
        for vertex in chain.vertices[-2::-1]:
            row = self.sketch.row[vertex]
            pen.straight_to_y(self.top[row + 1])
            pen.sweep(self.x[vertex], self.base[row])
        side = 0.5 if pen.x > self.x[target] else -0.5
        pen.turn_in(self.x[target] + side * self.sizes[target][0], self.port[chain.index, False])
        return Route(pen.start, tuple(pen.pieces), self._label(chain), back=True)

    def _round(self, chain: Chain) -> Route:
        source, target = chain.ends
        pen = Pen((self.port[chain.index, True], self._under(source)))
        if chain.labelled is not None:
            row = self.sketch.row[chain.labelled]
            pen.straight_to_y(self.base[row - 1])
            pen.sweep(self.x[chain.labelled], self.top[row])
        pen.corners(
            self.track[chain.index, True],
            self.lane[chain.index],
            self.track[chain.index, False],
            self.port[chain.index, False],
        )
        pen.straight_to_y(self.middle[self.sketch.row[target]] - self.sizes[target][1] / 2)
        return Route(pen.start, tuple(pen.pieces), self._label(chain), back=chain.back)

    def _loop(self, chain: Chain) -> Route:
        node = chain.ends[0]
        before = self.loops.setdefault(node, [])
        width, height = self.sizes[node]
        x, y = self.x[node] + width / 2, self.middle[self.sketch.row[node]]
        out = x + sum(map(loop_width, before)) + 18.0
        rise = min(height / 2 - 4, 7.0 + 3 * len(before))
        before.append(chain)
        curve = (out + 4, y - rise - 2, out + 4, y + rise + 2, x, y + rise)
        label = None
        if chain.label:
            label = Place(out + 4 + chain.label[0] / 2, y, *chain.label)
        return Route((x, y - rise), (curve,), label, back=True)
