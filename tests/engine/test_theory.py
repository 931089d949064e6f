"""Components and reach, compared with what one would find by hand."""

from __future__ import annotations

import random

import pytest

from engine.theory import Order, Reach, closing_edges, components, mask_of


def random_graph(seed: int) -> list[list[int]]:
    chance = random.Random(seed)
    count = chance.randrange(1, 120)
    far = chance.choice([3, 10, count])
    graph: list[list[int]] = [[] for _ in range(count)]
    for node in range(count):
        for _ in range(chance.randrange(3)):
            graph[node].append(min(count - 1, max(0, node + chance.randrange(-2, far))))
    return graph


def reached(graph: list[list[int]], start: int, avoiding: int = -1) -> set[int]:
    found, todo = set(), [start]
    while todo:
        node = todo.pop()
        if node not in found and node != avoiding:
            found.add(node)
            todo += graph[node]
    return found


@pytest.mark.parametrize("seed", range(40))
def test_components_are_those_that_reach_each_other_in_topological_order(seed: int) -> None:
    graph = random_graph(seed)
    of_node, members = components(graph)
    for a in range(len(graph)):
        for b in reached(graph, a):
            assert of_node[a] <= of_node[b]
            assert (of_node[a] == of_node[b]) == (a in reached(graph, b))
    assert sorted(node for group in members for node in group) == list(range(len(graph)))


@pytest.mark.parametrize("seed", range(60))
def test_reach_is_exact_however_far_it_was_asked(seed: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("engine.theory._FIRST_WINDOW", 1 + seed % 5)
    graph, chance = random_graph(seed), random.Random(seed)
    order = Order(graph)
    for _ in range(20):
        source, avoiding = chance.randrange(len(graph)), chance.randrange(-1, len(graph))
        reach = Reach(order, [source], avoiding)
        for _ in range(6):
            live = [node for node in range(len(graph)) if chance.random() < 0.05]
            expected = [order.rank[n] for n in live if n != avoiding and source in reached(graph, n, avoiding)]
            assert reach.among(mask_of([order.rank[n] for n in live])) == max(expected, default=-1)
        node = chance.randrange(len(graph))
        assert reach.has(order.rank[node]) == (source in reached(graph, node, avoiding))


@pytest.mark.parametrize("seed", range(40))
def test_without_the_closing_edges_no_cycle_is_left(seed: int) -> None:
    graph = random_graph(seed)
    edges = [(a, b) for a, targets in enumerate(graph) for b in targets]
    outs: list[list[tuple[int, int]]] = [[] for _ in graph]
    for index, (a, b) in enumerate(edges):
        outs[a].append((index, b))
    closing = set(closing_edges(len(graph), [0], outs))
    rest: list[list[int]] = [[] for _ in graph]
    for index, (a, b) in enumerate(edges):
        if index not in closing:
            rest[a].append(b)

    assert not any(Order(rest).cyclic)


def test_a_long_chain_needs_no_recursion() -> None:
    count = 50_000
    order = Order([[n + 1] for n in range(count - 1)] + [[]])

    assert order.rank == list(range(count))
    assert Reach(order, [count - 1]).among(1) == 0
