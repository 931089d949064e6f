"""SVG drawings: well-formed whatever the names, nothing hidden or cut off, and told in words as well as in colour."""

import random
import re
import time
import xml.etree.ElementTree as ET
from itertools import combinations
from typing import Any

import attrs
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from engine.drawing.looks import BACK, ERROR, FAINT, LINES, LOOKS, PAPER, TEXT, WITHIN
from engine.graph import Graph
from engine.values import END, STOP

NS = "{http://www.w3.org/2000/svg}"
HOSTILE = "</svg><script>alert('1')</script>&<!--]]>\"'\x00\x1b[31m\ud800\u202e"


def step(state: Any) -> None: ...


def part(name: str = "part", inner: Any = step) -> Graph:
    return Graph(name).add_node("x", step).add_node("y", inner).add_edge("x", "y").set_entry_point("x")


def everything() -> Graph:
    """One of each kind of node and edge."""
    graph = Graph("everything").set_entry_point("first")
    for name in ("first", "second", "third"):
        graph.add_node(name, step)
    graph.add_wait("approval", signal="ok", into="approval")
    graph.add_map("score", step, over="rows", into="scores").add_map("deep", part(), over="rows", into="deep")
    graph.add_node("inner", part("a", part("b")))
    graph.add_edge("first", ["second", "approval"]).add_edge("second", "third", on_error=ValueError)
    graph.add_edge("second", "second", when=lambda state: state.again, max_iterations=3)
    graph.add_edge("third", "first", when=lambda state: state.quality < 0.95, max_iterations=5)
    graph.add_edge("approval", ["score", "deep", "inner"]).add_edge("score", END)
    return graph.add_choice("inner", lambda s: "yes", {"yes": "third", "no": END, "never": STOP})


def random_graph(count: int, *, seed: int) -> Graph:
    dice = random.Random(seed)
    graph = Graph(f"random {seed}").set_entry_point("n0")
    for node in range(count):
        graph.add_node(f"n{node}", step)
    for node in range(1, count):
        graph.add_edge(f"n{dice.randrange(max(0, node - 8), node)}", f"n{node}")
    for node in range(0, count - 9, 3):
        graph.add_edge(f"n{node}", f"n{node + dice.randrange(2, 9)}", when=lambda state: state.left_over > 3)
        graph.add_edge(f"n{node + 8}", f"n{node + dice.randrange(8)}", when=step, max_iterations=5)
    return graph


@attrs.frozen
class Entry:
    node: str
    activation: int
    status: str


@attrs.frozen
class FakeRun:
    visited: tuple[str, ...] = ()
    log: tuple[Entry, ...] = ()
    status: str = "running"


RUN = FakeRun(
    ("first", "first", "second", "approval", "third", "score", "inner", "inner#1/x"),
    (
        Entry("first", 1, "succeeded"),
        Entry("first", 2, "succeeded"),
        Entry("second", 1, "failed"),
        Entry("third", 1, "cancelled"),
        Entry("inner#1/x", 1, "succeeded"),
    ),
)


def drawn(graph: Graph, run: Any = None) -> ET.Element:
    return ET.fromstring(graph.draw("svg", run))


def groups(drawing: ET.Element, kind: str) -> list[ET.Element]:
    return [group for group in drawing.iter(f"{NS}g") if kind in (group.get("class") or "").split()]


def title(group: ET.Element) -> str:
    return group.findtext(f"{NS}title") or ""


def box(rect: ET.Element) -> tuple[float, float, float, float]:
    x, y, width, height = (float(rect.get(key, "nan")) for key in ("x", "y", "width", "height"))
    return x, y, x + width, y + height


def frame(group: ET.Element) -> tuple[float, float, float, float]:
    """The border of a node: the last rect as large as the largest, past the stack of a map."""
    rects = [box(rect) for rect in group.iter(f"{NS}rect")]
    return max(reversed(rects), key=lambda b: (b[2] - b[0]) * (b[3] - b[1]))


def numbers(path: ET.Element) -> list[float]:
    return [float(number) for number in re.findall(r"-?[\d.]+", path.get("d", ""))]


def overlap(one: tuple[float, ...], other: tuple[float, ...], by: float = 0.2) -> bool:
    return one[0] + by < other[2] and other[0] + by < one[2] and one[1] + by < other[3] and other[1] + by < one[3]


# --- what is there --------------------------------------------------------------------------------------


def test_every_node_edge_and_condition_is_named() -> None:
    drawing = drawn(everything())
    texts = {element.text for element in drawing.iter(f"{NS}text")}
    titles = {title(group) for group in groups(drawing, "edge")}

    assert {"START", "first", "second", "approval", "score", "inner", "x", "y", "END", "STOP", "everything"} <= texts
    assert {"START → first", "second → third: on ValueError", "inner → third: yes"} <= titles
    assert "third → first: state.quality < 0.95, at most 5 times" in titles
    assert {"state.quality < 0.95,", "at most 5 times"} <= texts


def test_there_is_one_group_for_each_node_and_edge() -> None:
    graph = random_graph(30, seed=1)
    drawing = drawn(graph)

    assert len(groups(drawing, "node")) == 31
    assert len(groups(drawing, "edge")) == len(graph._written.edges) + 1


def test_edges_that_lead_back_errors_and_choices_look_different() -> None:
    drawing = drawn(everything())
    looks = {
        kind: {
            (path.get("stroke"), path.get("stroke-dasharray")) for path in groups(drawing, kind)[0].iter(f"{NS}path")
        }
        for kind in ("back", "always", "error", "choice", "maybe")
    }

    assert len({frozenset(look) for look in looks.values()}) >= 4
    assert len(groups(drawing, "back")) == 2
    assert all(any(stroke == ERROR for stroke, _ in looks["error"]) for _ in "x")


def test_a_graph_within_a_node_is_drawn_in_it() -> None:
    drawing = drawn(everything())
    boxes = {
        title(group).partition(",")[0]: frame(group) for group in groups(drawing, "node") if title(group) != "START"
    }

    inner, y = boxes["inner"], boxes["y"]
    assert inner[0] < y[0] < y[2] < inner[2]
    assert inner[1] < y[1] < y[3] < inner[3]


def test_a_graph_that_is_too_large_to_be_drawn_in_a_node_is_told_as_a_number() -> None:
    large = Graph("large").set_entry_point("n0")
    for number in range(41):
        large.add_node(f"n{number}", step)

    assert "41 nodes" in Graph("g").add_node("a", large).draw("svg")


def test_graphs_within_graphs_do_not_multiply_without_end() -> None:
    graph = part()
    for _ in range(4):
        around = Graph("around")
        for number in range(30):
            around.add_node(f"n{number}", graph)
        graph = around

    assert len(groups(drawn(graph), "node")) < 2_500


def test_a_graph_within_itself_is_drawn_once() -> None:
    graph = part()
    graph.add_node("again", graph)

    assert len(groups(drawn(graph), "node")) == 4


def test_it_is_on_white_paper() -> None:
    rect = drawn(everything()).find(f"{NS}rect")

    assert rect is not None
    assert rect.get("fill") == PAPER


def test_an_empty_graph_is_drawn() -> None:
    assert title(drawn(Graph("empty"))) == "empty"


def test_the_same_graph_gives_the_same_text() -> None:
    assert everything().draw("svg", RUN) == everything().draw("svg", RUN)
    assert random_graph(60, seed=3).draw("svg") == random_graph(60, seed=3).draw("svg")


# --- names and conditions of any kind -------------------------------------------------------------------


@pytest.mark.parametrize("name", [HOSTILE, "x" * 5_000, "word " * 500, "名前" * 50, "e\u0301" * 40, " ", "\n"])
def test_any_name_and_condition_is_only_text(name: str) -> None:
    def condition(state: Any) -> bool:
        return True

    condition.__name__ = name
    graph = Graph(name).add_node(name, step).add_wait("w", signal=name, into=name).set_entry_point(name)
    graph.add_edge(name, "w", when=condition).add_choice("w", step, {name: END}).add_node(name + "2", part(name))
    drawing = drawn(graph, FakeRun((name,)))

    assert {element.tag.removeprefix(NS) for element in drawing.iter()} <= {"svg", "title", "g", "rect", "path", "text"}
    assert max(len(element.text or "") for element in drawing.iter(f"{NS}text")) < 200
    assert float(drawing.get("width", "nan")) < 1_500


@settings(deadline=None, max_examples=50)
@given(st.text(min_size=1), st.text(), st.text())
def test_all_text_gives_well_formed_xml(name: str, label: str, title: str) -> None:
    graph = Graph(title).add_node(name, step).add_choice(name, step, {label: END}).set_entry_point(name)

    assert ET.fromstring(graph.draw("svg")).tag == f"{NS}svg"


def test_a_long_name_is_shortened_and_told_in_full() -> None:
    name = "check_" + "very_" * 20 + "carefully"
    (group,) = groups(drawn(Graph("g").add_node(name, step)), "node")

    (text,) = group.iter(f"{NS}text")
    assert title(group) == name
    assert re.fullmatch(r"check_very_.*….*ully", text.text or "")


# --- where it is ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("graph", [everything(), *(random_graph(n, seed=n) for n in (5, 20, 50))], ids=repr)
@pytest.mark.parametrize("run", [None, RUN], ids=["plain", "run"])
def test_all_of_it_is_within_the_picture(graph: Graph, run: Any) -> None:
    drawing = drawn(graph, run)
    width, height = float(drawing.get("width", "nan")), float(drawing.get("height", "nan"))

    assert drawing.get("viewBox") == f"0 0 {drawing.get('width')} {drawing.get('height')}"
    for rect in list(drawing.iter(f"{NS}rect"))[1:]:
        left, top, right, base = box(rect)
        assert 0 <= left < right <= width
        assert 0 <= top < base <= height
    for path in drawing.iter(f"{NS}path"):
        found = numbers(path)
        assert all(0 <= x <= width for x in found[::2])
        assert all(0 <= y <= height for y in found[1::2])


@pytest.mark.parametrize("graph", [random_graph(n, seed=n) for n in (5, 20, 50)], ids=repr)
def test_nodes_and_labels_do_not_overlap(graph: Graph) -> None:
    drawing = drawn(graph)
    found = [frame(group) for kind in ("node", "label") for group in groups(drawing, kind)]

    assert [pair for pair in combinations(found, 2) if overlap(*pair)] == []


@pytest.mark.parametrize("graph", [random_graph(n, seed=n) for n in (5, 20, 50)], ids=repr)
def test_names_are_within_their_boxes(graph: Graph) -> None:
    for group in groups(drawn(graph), "node"):
        left, _, right, _ = frame(group)
        for text in group.iter(f"{NS}text"):
            half = len(text.text or "") * 13 * 0.6 / 2
            assert left < float(text.get("x", "nan")) - half
            assert float(text.get("x", "nan")) + half < right


# --- a run ----------------------------------------------------------------------------------------------


def test_the_progress_of_a_run_is_told_by_class_mark_and_title() -> None:
    drawing = drawn(everything(), RUN)
    status = {
        title(group).partition(",")[0]: (group.get("class") or "").split()[-1] for group in groups(drawing, "node")
    }

    assert status["first"] == "done"
    assert status["second"] == "failed"
    assert status["approval"] == "waiting"
    assert status["third"] == "cancelled"
    assert status["score"] == status["inner"] == "running"
    assert status["deep"] == "unreached"
    assert "first, done, ran 2 times" in {title(group) for group in groups(drawing, "node")}
    assert "\N{MULTIPLICATION SIGN}2" in {text.text for text in drawing.iter(f"{NS}text")}


def test_the_progress_within_a_node_is_drawn_too() -> None:
    drawing = drawn(Graph("g").add_node("inner", part()), FakeRun(("inner", "inner#1/x")))

    assert "x, running" in {title(group) for group in groups(drawing, "node")}
    assert "y, not reached" in {title(group) for group in groups(drawing, "node")}


def test_a_legend_says_what_the_marks_mean_and_how_many_there_are() -> None:
    (legend,) = groups(drawn(everything(), RUN), "legend")

    assert {text.text for text in legend.iter(f"{NS}text")} == {
        "1 done",
        "2 running",
        "1 waiting",
        "1 failed",
        "1 cancelled",
        "1 not reached",
    }
    assert groups(drawn(everything()), "legend") == []


def test_a_drawing_moves_as_little_as_possible_while_a_run_goes_on() -> None:
    places = [
        {title(group).partition(",")[0]: frame(group) for group in groups(drawn(everything(), run), "node")}
        for run in (FakeRun(), FakeRun(("first",)), FakeRun(("first", "second", "second")))
    ]

    assert places[0] == places[1] == places[2]


def brightness(colour: str) -> float:
    channels = [int(colour[at : at + 2], 16) / 255 for at in (1, 3, 5)]
    linear = [c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in channels]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]


def contrast(one: str, other: str) -> float:
    low, high = sorted((brightness(one), brightness(other)))
    return (high + 0.05) / (low + 0.05)


def test_all_text_stands_out_from_what_is_under_it() -> None:
    for colour in (TEXT, FAINT, BACK, ERROR, LINES):
        assert contrast(colour, PAPER) >= 4.5
        assert contrast(colour, WITHIN) >= 4.5
    for look in LOOKS.values():
        assert contrast(look.text, look.fill) >= 4.5
        assert contrast(look.stroke, look.fill) >= 3


def test_statuses_differ_by_more_than_colour() -> None:
    marks = {
        status: re.sub(r"#\w{6}|-?[\d.]+", "", ET.tostring(groups(drawn(*args), "legend")[0], "unicode"))
        for status, args in {
            "failed": (Graph("g").add_node("a", step), FakeRun(("a",), (Entry("a", 1, "failed"),))),
            "done": (Graph("g").add_node("a", step), FakeRun(("a",), (Entry("a", 1, "succeeded"),))),
            "running": (Graph("g").add_node("a", step), FakeRun(("a",))),
        }.items()
    }

    assert len(set(marks.values())) == 3


# --- how long it takes ----------------------------------------------------------------------------------


def test_five_hundred_nodes_are_drawn_in_less_than_a_second() -> None:
    graph = random_graph(500, seed=9)

    began = time.process_time()
    graph.draw("svg")

    assert time.process_time() - began < 5  # the machine may be five times as slow as ours, or busy
