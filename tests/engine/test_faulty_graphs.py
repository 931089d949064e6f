"""Faults that hid others, or broke what looks for them: each is a problem with a place."""

from typing import Any

import pytest

from engine import Engine, Graph
from engine.compiling import MOST_NESTED


def same(state: Any) -> None: ...


@pytest.mark.parametrize("name", ["", "a/b", "a#1", "END"])
def test_edges_of_a_node_with_a_wrong_name_are_no_further_problem(name: str) -> None:
    graph = Graph("g").add_node("a", same).add_node(name, same).add_node("c", same)
    graph.add_edge("a", name).add_edge(name, "c").add_choice(name, lambda s: None, ["c"]).set_entry_point("a", name)
    problems = graph.validate()

    assert [p for p in problems if p.message.startswith(("a node's name", "'END' is the engine's"))]
    assert name == "END" or [p.where for p in problems] == [name]


def nested(depth: int) -> Graph:
    graph = Graph("g0").add_node("n", lambda state: {"x": 1}, run_in="loop").set_entry_point("n")
    for number in range(depth):
        graph = Graph(f"g{number + 1}").add_node("n", graph).set_entry_point("n")
    return graph


async def test_graphs_run_as_deep_in_each_other_as_is_allowed() -> None:
    async with Engine() as engine:
        assert (await engine.run(nested(MOST_NESTED), {})).state == {"x": 1}


def test_graphs_that_are_nested_too_deep_are_one_problem() -> None:
    for depth in (MOST_NESTED + 1, 400):
        [problem] = nested(depth).validate()

        assert problem.code == "subgraph_cycle"
        assert "nested more than" in problem.message


def test_a_reducer_for_a_key_that_is_no_string_is_a_problem() -> None:
    graph = Graph("g", reducers={1: max}).add_node("a", same).set_entry_point("a")  # type: ignore[dict-item]

    assert [(p.code, "names 1" in p.message) for p in graph.validate()] == [("bad_reducer", True)]
