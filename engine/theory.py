"""What can reach what: components in topological order, and reach masks worked out only as far as asked.

Pure graph theory on integers; it knows nothing of nodes, states or runs.

A mask for every join edge over the whole graph would cost memory quadratic in
the number of nodes. A join is nearly always waiting for something close by, so
a `Reach` is worked out backwards from its source, in windows of ranks that
double; within its window it is exact, and it says how far the window goes.
"""

from __future__ import annotations

from collections.abc import Sequence
from heapq import heappop, heappush

Adjacency = Sequence[Sequence[int]]

_FIRST_WINDOW = 32  # Ranks looked at first: what a join waits for is nearly always close by.


def components(successors: Adjacency) -> tuple[list[int], list[tuple[int, ...]]]:
    """The strongly connected component of each node, and their members, in topological order.

    Tarjan's algorithm without recursion: linear, and as deep as the graph is.
    """
    count = len(successors)
    order = [-1] * count
    low = [0] * count
    of_node = [-1] * count
    members: list[tuple[int, ...]] = []
    open_nodes: list[int] = []
    clock = 0
    for root in range(count):
        if order[root] >= 0:
            continue
        order[root] = low[root] = clock
        clock += 1
        open_nodes.append(root)
        path = [(root, iter(successors[root]))]
        while path:
            node, rest = path[-1]
            for other in rest:
                if order[other] < 0:
                    order[other] = low[other] = clock
                    clock += 1
                    open_nodes.append(other)
                    path.append((other, iter(successors[other])))
                    break
                if of_node[other] < 0 and order[other] < low[node]:
                    low[node] = order[other]
            else:
                path.pop()
                if path and low[node] < low[path[-1][0]]:
                    low[path[-1][0]] = low[node]
                if low[node] == order[node]:
                    group: list[int] = []
                    while not group or group[-1] != node:
                        group.append(open_nodes.pop())
                        of_node[group[-1]] = len(members)
                    members.append(tuple(sorted(group)))
    members.reverse()  # Tarjan finds the last component first.
    last = len(members) - 1
    return [last - found for found in of_node], members


class Reach:
    """The nodes from which `sources` can be reached without passing `avoiding`, as a mask over ranks.

    Ranks number the nodes in topological order of their components, so that
    everything that can reach a node ranks no higher than its component's last.
    Bit `i` of `mask` is the node of rank `floor + i`; below `floor` nothing is
    known yet.
    """

    __slots__ = ("_avoiding", "_graph", "_pending", "_seen", "floor", "mask")

    def __init__(self, graph: Order, sources: Sequence[int], avoiding: int = -1) -> None:
        self._graph = graph
        self._avoiding = avoiding
        self._seen = {node for node in sources if node != avoiding}
        self._pending: list[tuple[int, int]] = []
        top = 0
        for node in self._seen:
            heappush(self._pending, (-graph.component[node], node))
            top = max(top, graph.rank[node])
        self.floor = top + 1
        self.mask = 0
        self._extend_to(top - _FIRST_WINDOW)

    def _extend_to(self, floor: int) -> None:
        """Look back to this rank, rounded down to where a component begins."""
        graph, seen, pending = self._graph, self._seen, self._pending
        ranks = graph.rank
        found: list[int] = []
        lowest = graph.component_of_rank(max(floor, 0))
        while pending and -pending[0][0] >= lowest:
            node = heappop(pending)[1]
            found.append(ranks[node])
            for other in graph.predecessors[node]:
                if other not in seen and other != self._avoiding:
                    seen.add(other)
                    heappush(pending, (-graph.component[other], other))
        # With nothing pending the whole of it is known, and nothing below counts.
        floor = graph.first_rank[lowest] if pending else min([self.floor, *found])
        self.mask = (self.mask << (self.floor - floor)) | mask_of(found, floor)
        self.floor = floor
        # Predecessors never rank above their component, so what lies inside the window is not met again.
        self._seen = {node for _, node in pending}

    def among(self, live: int) -> int:
        """The highest rank of `live` (a mask over all ranks) that is in reach, or -1."""
        while True:
            hit = (live >> self.floor) & self.mask
            if hit:
                return self.floor + hit.bit_length() - 1
            if not self._pending or not live & ((1 << self.floor) - 1):
                return -1
            width = self.mask.bit_length()
            self._extend_to(self.floor - max(width, _FIRST_WINDOW))

    def has(self, rank: int) -> bool:
        """Is the node of this rank in reach?"""
        while rank < self.floor and self._pending:
            self._extend_to(self.floor - max(self.mask.bit_length(), _FIRST_WINDOW))
        return rank >= self.floor and bool((self.mask >> (rank - self.floor)) & 1)


def mask_of(ranks: Sequence[int], floor: int = 0) -> int:
    """One integer with the bits of these ranks set; linear, which or-ing bit by bit is not."""
    if not ranks:
        return 0
    bits = bytearray((max(ranks) - floor) // 8 + 1)
    for rank in ranks:
        place = rank - floor
        bits[place >> 3] |= 1 << (place & 7)
    return int.from_bytes(bits, "little")


class Order:
    """A graph's predecessors, components and ranks: what every `Reach` is worked out from."""

    __slots__ = ("component", "cyclic", "first_rank", "members", "node_of_rank", "predecessors", "rank")

    def __init__(self, successors: Adjacency) -> None:
        self.component, self.members = components(successors)
        predecessors: list[list[int]] = [[] for _ in successors]
        self.cyclic = [len(group) > 1 for group in self.members]
        for node, targets in enumerate(successors):
            for target in targets:
                predecessors[target].append(node)
                if target == node:
                    self.cyclic[self.component[node]] = True
        # Tuples of numbers are nothing to the collector; as many lists as there are nodes would be.
        self.predecessors = [tuple(found) for found in predecessors]
        self.node_of_rank = [node for group in self.members for node in group]
        self.rank = [0] * len(successors)
        for rank, node in enumerate(self.node_of_rank):
            self.rank[node] = rank
        self.first_rank = [self.rank[group[0]] for group in self.members]

    def component_of_rank(self, rank: int) -> int:
        return self.component[self.node_of_rank[rank]] if self.node_of_rank else 0

    def loop_body(self, source: int, target: int) -> frozenset[int]:
        """`target` and the nodes of its component that reach `source` without passing `target`."""
        body = {target}
        found = [source] if source != target else []
        body.update(found)
        inside = self.component[target]
        while found:
            for other in self.predecessors[found.pop()]:
                if other not in body and self.component[other] == inside:
                    body.add(other)
                    found.append(other)
        return frozenset(body)


def closing_edges(count: int, roots: Sequence[int], outs: Sequence[Sequence[tuple[int, int]]]) -> list[int]:
    """The edges that close a cycle in a depth-first walk from `roots`, as met.

    `outs[node]` lists (edge, target). What the roots do not reach is walked last.
    """
    white, grey, black = 0, 1, 2
    colour = [white] * count
    closing: list[int] = []
    for root in [*roots, *range(count)]:
        if colour[root] != white:
            continue
        colour[root] = grey
        path = [(root, iter(outs[root]))]
        while path:
            node, rest = path[-1]
            for edge, target in rest:
                if colour[target] == grey:
                    closing.append(edge)
                elif colour[target] == white:
                    colour[target] = grey
                    path.append((target, iter(outs[target])))
                    break
            else:
                colour[node] = black
                path.pop()
    return closing
