"""Which links of a graph lead back, and in which row each of its nodes stands: below all that lead to it.

Pure: numbers in, numbers out. A link is (source, target); a link from a node to itself is nobody's business here.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Sequence
from heapq import heapify, heappop, heappush

from ..theory import closing_edges, components

Links = Sequence[tuple[int, int]]
MOST_ROUNDS = 8  # Of shortening links; each makes all of them shorter together, and most graphs need two.


def leading_back(count: int, links: Links, hints: Collection[int], roots: Sequence[int]) -> frozenset[int]:
    """The links to be turned round so that none closes a cycle.

    Those that the author meant to (`hints`, if they lie on a cycle) come first; what a walk from the
    roots meets comes next. A hint that leads on after all, as others were turned, is left as it is.
    """
    component, _ = components(_targets(count, links))
    back = {link for link in hints if component[links[link][0]] == component[links[link][1]]}
    outs: list[list[tuple[int, int]]] = [[] for _ in range(count)]
    for link, (source, target) in enumerate(links):
        if link not in back and source != target:
            outs[source].append((link, target))
    back.update(closing_edges(count, roots, outs))
    order = {node: place for place, node in enumerate(in_order(count, [links[i] for i in _others(links, back)]))}
    return frozenset(link for link in back if order[links[link][0]] > order[links[link][1]])


def _targets(count: int, links: Links) -> list[list[int]]:
    targets: list[list[int]] = [[] for _ in range(count)]
    for source, target in links:
        targets[source].append(target)
    return targets


def _others(links: Links, some: Collection[int]) -> Iterator[int]:
    return (link for link, (source, target) in enumerate(links) if link not in some and source != target)


def in_order(count: int, links: Iterable[tuple[int, int]]) -> list[int]:
    """The nodes, each after all that lead to it, and otherwise by their numbers."""
    targets: list[list[int]] = [[] for _ in range(count)]
    waiting = [0] * count
    for source, target in links:
        targets[source].append(target)
        waiting[target] += 1
    ready = [node for node in range(count) if not waiting[node]]
    heapify(ready)
    order = []
    while ready:
        node = heappop(ready)
        order.append(node)
        for target in targets[node]:
            waiting[target] -= 1
            if not waiting[target]:
                heappush(ready, target)
    return order


def rows_of(count: int, links: Links) -> list[int]:
    """The row of each node of a graph without cycles, so that links lead down and are short.

    By longest path, which puts every node as high as it can stand; then nodes with more ways out than in
    move down, and others back up, as long as that helps.
    """
    order = in_order(count, links)
    sources: list[list[int]] = [[] for _ in range(count)]
    targets: list[list[int]] = [[] for _ in range(count)]
    for source, target in links:
        sources[target].append(source)
        targets[source].append(target)
    row = [0] * count
    for node in order:
        row[node] = max((row[source] + 1 for source in sources[node]), default=0)
    for _ in range(MOST_ROUNDS):
        before = list(row)
        for node in reversed(order):
            if len(targets[node]) > len(sources[node]):
                row[node] = min(row[target] for target in targets[node]) - 1
        for node in order:
            if len(sources[node]) > len(targets[node]):
                row[node] = max(row[source] for source in sources[node]) + 1
        if row == before:
            break
    kept = {number: place for place, number in enumerate(sorted(set(row)))}
    return [kept[number] for number in row]
