"""Text drawings: what leads where, in rails and in words."""

import time
from typing import Any

import attrs
import pytest

from engine.graph import Graph
from engine.values import END


def step(state: Any) -> None: ...


def graph_of(*edges: str) -> Graph:
    """`"a b"` is an edge from a to b."""
    graph = Graph("g")
    names = dict.fromkeys(name for edge in edges for name in edge.split())
    for name in names:
        graph.add_node(name, step)
    for edge in edges:
        graph.add_edge(*edge.split())
    return graph.set_entry_point(next(iter(names)))


def lines(graph: Graph, run: Any = None) -> list[str]:
    return graph.draw("text", run).splitlines()[2:]


def test_a_chain_is_a_line_per_node() -> None:
    assert lines(graph_of("a b", "b c")) == ["○ START → a", "● a → b", "● b → c", "● c"]


def test_branches_part_and_meet() -> None:
    assert lines(graph_of("a b", "a c", "b d", "c d")) == [
        "○ START → a",
        "● a → b, c",
        "├─╮",
        "● │ b → d",
        "│ ● c → d",
        "├─╯",
        "● d",
    ]


def test_an_edge_that_crosses_a_rail_is_told_from_one_that_joins_it() -> None:
    assert lines(graph_of("a b", "a c", "a d", "b d", "d e", "c e")) == [
        "○ START → a",
        "● a → b, c, d",
        "├─┬─╮",
        "● │ │ b → d",
        "╰─┼─┤",
        "  ● │ c → e",
        "  │ ● d → e",
        "  ├─╯",
        "  ● e",
    ]


def test_an_edge_past_nodes_has_a_rail_beside_them() -> None:
    assert lines(graph_of("a b", "b c", "a c")) == ["○ START → a", "● a → b, c", "├─╮", "● │ b → c", "╰─┤", "  ● c"]


def test_conditions_and_edges_back_have_lines_of_their_own() -> None:
    graph = Graph("review").add_node("draft", step).add_node("decide", step).add_edge("draft", "decide")
    graph.add_edge("decide", "draft", when=lambda review: review.score < 0.8, max_iterations=5)
    graph.add_edge("decide", END, otherwise=True).set_entry_point("draft")

    assert graph.draw("text") == (
        "review\n"
        "\n"
        "○ START → draft\n"
        "● draft → decide\n"
        "● decide\n"
        "│   ↺ draft: review.score < 0.8, at most 5 times\n"
        "│   → END: otherwise\n"
        "◎ END\n"
    )


def test_a_node_that_leads_to_itself_says_so() -> None:
    graph = graph_of("a b").add_edge("a", "a", when=step, max_iterations=2)

    assert lines(graph) == ["○ START → a", "● a → b", "│   ↺ a: step, at most 2 times", "● b"]


def test_a_graph_within_a_node_is_listed_under_it() -> None:
    inner = Graph("inner").add_node("x", step).set_entry_point("x")
    graph = Graph("g").add_node("a", inner).add_node("b", step).add_edge("a", "b").set_entry_point("a")

    assert lines(graph) == ["○ START → a", "● a (graph of 1 node) → b", "│   ○ START → x", "│   ● x", "● b"]


def test_nodes_that_nothing_leads_to_are_there() -> None:
    assert lines(Graph("g").add_node("a", step).add_node("b", step)) == ["● a", "● b"]


@attrs.frozen
class FakeRun:
    visited: tuple[str, ...]
    log: tuple[Any, ...] = ()
    status: str = "running"


@attrs.frozen
class Entry:
    node: str
    activation: int
    status: str


def test_the_progress_of_a_run_is_in_the_marks() -> None:
    log = (Entry("a", 1, "succeeded"), Entry("a", 2, "succeeded"), Entry("b", 1, "failed"))

    found = lines(graph_of("a b", "b c", "c d"), FakeRun(("a", "a", "b", "c"), log))

    assert found == ["○ START → a", "✓ a (x2) → b", "✗ b → c", "▶ c → d", "· d"]


def test_a_graph_with_too_many_rails_is_listed_without() -> None:
    names = [f"n{number}" for number in range(40)]
    graph = Graph("g").add_node("a", step)
    for name in names:
        graph.add_node(name, step)
    found = lines(graph.add_edge("a", names).add_edge("n0", END, when=step).set_entry_point("a"))

    assert found[1] == f"● a → {', '.join(names)}"
    assert found[2:5] == ["● n0", "      → END: step", "● n1"]


@pytest.mark.parametrize("back", [True, False])
def test_a_hundred_thousand_nodes_do_not_take_minutes(back: bool) -> None:
    graph = graph_of(*(f"n{number} n{number + 1}" for number in range(30_000)))
    if back:
        graph.add_edge("n30000", "n0", when=step, max_iterations=2)

    began = time.process_time()
    graph.draw("text")

    assert time.process_time() - began < 15
