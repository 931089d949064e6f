"""Drawings in general, and Mermaid: every node and edge, any name, and a run's progress."""

import xml.etree.ElementTree as ET
from typing import Any

import attrs
import pytest

from engine.graph import Graph
from engine.values import END, STOP


def step(state: Any) -> None: ...


def good_enough(state: Any) -> bool:
    return True


def review() -> Graph:
    graph = Graph("review").set_entry_point("draft")
    for name in ("draft", "grade", "repair"):
        graph.add_node(name, step)
    graph.add_wait("approval", signal="ok", into="approval")
    graph.add_map("score", step, over="rows", into="scores")
    graph.add_node("publish", Graph("inner").add_node("x", step).set_entry_point("x"))
    graph.add_edge("draft", "grade").add_edge("grade", "repair", on_error=(ValueError, KeyError))
    graph.add_edge("grade", "draft", when=good_enough, max_iterations=5).add_edge("grade", "approval", otherwise=True)
    graph.add_edge("repair", "approval").add_edge("approval", "score")
    return graph.add_choice("score", lambda s: "yes", {"yes": "publish", "no": END, "never": STOP})


@attrs.frozen
class Entry:
    node: str
    status: str


@attrs.frozen
class FakeRun:
    visited: tuple[str, ...]
    log: tuple[Entry, ...] = ()


RUN = FakeRun(("draft", "draft", "grade"), (Entry("draft", "succeeded"), Entry("grade", "failed")))


def test_a_mermaid_drawing_has_every_node_and_edge() -> None:
    assert review().draw() == (
        "flowchart TD\n"
        '    n0(["START"])\n'
        '    n1["draft"]\n'
        '    n2["grade"]\n'
        '    n3["repair"]\n'
        '    n4{{"approval"}}\n'
        '    n5[/"score"/]\n'
        '    n6[["publish"]]\n'
        '    n7(["END"])\n'
        '    n8(["STOP"])\n'
        "    n0 --> n1\n"
        "    n1 --> n2\n"
        '    n2 ==>|"on ValueError or KeyError"| n3\n'
        '    n2 -.->|"good#95;enough, at most 5 times"| n1\n'.replace("#95;", "_")
        + '    n2 -.->|"otherwise"| n4\n'
        "    n3 --> n4\n"
        "    n4 --> n5\n"
        '    n5 -.->|"yes"| n6\n'
        '    n5 -.->|"no"| n7\n'
        '    n5 -.->|"never"| n8\n'
    )


@pytest.mark.parametrize(
    "name", ['say "hi"', "a<b>&c", "x; y", "100% #1", "end", "[[{(", "`${x}`", "tab\tnew\nline", "é"]
)
def test_any_name_can_be_drawn(name: str) -> None:
    graph = Graph(name).add_node(name, step).add_node("b", step).add_edge(name, "b", when=step).set_entry_point(name)

    mermaid = graph.draw().splitlines()
    assert len(mermaid) == 6
    assert not set(mermaid[2].removeprefix('    n1["').removesuffix('"]')) & set('"<>[]{}`%$\t')
    assert ET.fromstring(graph.draw("svg")).tag.endswith("svg")
    assert len(graph.draw("text").splitlines()) == 6


def test_labels_of_edges_are_escaped_too() -> None:
    graph = Graph("g").add_node("a", step).add_choice("a", step, {'"|<x>': END}).set_entry_point("a")

    assert '|"#34;#124;#60;x#62;"|' in graph.draw()


def test_the_progress_of_a_run_is_drawn() -> None:
    mermaid = review().draw(run=RUN)

    assert '    n1["draft (x2)"]\n' in mermaid
    assert "    class n1 done\n" in mermaid
    assert "    class n2 failed\n" in mermaid
    assert "    class n3 unreached\n" in mermaid


def test_a_faulty_graph_is_drawn_with_what_is_missing() -> None:
    drawing = Graph("g").add_node("a", step).add_edge("a", "nowhere").draw()

    assert '"nowhere ?"' in drawing


def test_gotos_are_drawn() -> None:
    graph = Graph("g").add_node("a", step, goto="b").add_node("b", step).set_entry_point("a")

    assert '-.->|"goto"|' in graph.draw()


def test_a_format_that_does_not_exist_is_refused() -> None:
    with pytest.raises(ValueError, match="no drawing format 'gif'; use 'mermaid', 'svg', 'text' or 'png'"):
        Graph("g").draw("gif")  # type: ignore[call-overload]


@pytest.mark.parametrize("format", ["svg", "png"])
def test_a_graph_that_is_too_large_is_refused_with_what_to_do(format: Any) -> None:
    graph = Graph("huge")
    for number in range(20_001):
        graph.add_node(str(number), step)

    with pytest.raises(ValueError, match=r"'huge' is too large .* 20,001 nodes .* draw it as 'text' or 'mermaid'"):
        graph.draw(format)


def test_a_condition_is_drawn_as_it_was_written() -> None:
    graph = Graph("g").add_node("a", step).add_edge("a", END, when=lambda state: state.score < 0.8)

    assert '|"state.score #60; 0.8"|' in graph.draw()


def test_joins_maps_and_waits_say_what_they_do() -> None:
    graph = review().add_node("all", step, join="any").add_edge(["draft", "repair"], "all")
    text = graph.draw("text")

    assert "all (any of 2)" in text
    assert "approval (waits for ok)" in text
    assert "score (for each of rows)" in text


@pytest.mark.parametrize(("seconds", "said"), [(5, "5 s"), (0.5, "0.5 s"), (90, "90 s"), (120, "2 min"), (7200, "2 h")])
def test_how_long_a_wait_lasts_is_said_in_units_of_people(seconds: float, said: str) -> None:
    graph = Graph("g").add_wait("w", signal=["a", "b"], into="x", timeout=seconds)

    assert f"w (waits for a or b, at most {said})" in graph.draw("text")
