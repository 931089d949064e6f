"""Graphs by what people call them."""

import datetime
import json
from pathlib import Path
from typing import Any

import pytest

from engine import END, Graph, GraphInvalid, StateInvalid
from engine.cli.faults import Refusal
from engine.cli.loading import Loader, state_for

DEFINITION = {"name": "d", "entry_point": "a", "nodes": [{"name": "a", "wait": {"signal": "s", "into": "x"}}]}


def names(*sources: str) -> list[tuple[str, str]]:
    return [(loaded.graph.name, loaded.source) for loaded in Loader().all(sources)]


def test_a_definition_is_a_graph(folder: Path) -> None:
    (folder / "d.json").write_text(json.dumps(DEFINITION))
    (folder / "d.yaml").write_text("name: y\nentry_point: a\nnodes: [{name: a, wait: {signal: s, into: x}}]\n")

    assert names("d.json", "d.yaml") == [("d", "d.json"), ("y", "d.yaml")]


def test_a_python_file_is_all_its_graphs_and_an_attribute_is_one(flows: Path) -> None:
    assert ("hello", "flows.py:hello") in names("flows.py")
    assert names("flows.py:hello", "flows:broken", str(flows)[:-3] + ".py:steps") == [
        ("hello", "flows.py:hello"),
        ("broken", "flows:broken"),
        ("steps", f"{flows}:steps"),
    ]


def test_a_graph_with_two_names_is_one(folder: Path) -> None:
    (folder / "twice.py").write_text("from engine import Graph\na = Graph('a')\nb = a\n")

    assert Loader().one("twice.py").source == "twice.py:a"


def test_functions_that_make_graphs_lists_and_mappings_of_them_will_do(folder: Path) -> None:
    (folder / "many.py").write_text(
        "from engine import Graph\ndef make(): return Graph('made')\nall = [Graph('x'), {'k': Graph('y')}]\n"
    )

    assert names("many.py:make") == [("made", "many.py:make")]
    assert names("many:all") == [("x", "many:all"), ("y", "many:all")]


@pytest.mark.parametrize(
    ("source", "said"),
    [
        ("none.json", "there is no file 'none.json'"),
        ("none.py", "there is no file 'none.py'"),
        ("none", "there is no file and no module 'none'"),
        ("none.at.all:x", "there is no file and no module 'none.at.all'"),
        ("no-module", "'no-module' is no module's name"),
        ("notes.txt", "its name must end in .json"),
        ("flows.py", "holds 7 graphs"),
        ("flows.py:helo", "flows.py has no 'helo'"),
        ("flows.py:double", r"flows.py:double\(\) raised TypeError"),
        ("flows.py:DAY", "has no 'DAY'"),
        ("empty.py", "there is no graph in empty.py"),
        ("json.py", "cannot be imported as 'json'"),
        ("raises.py", r"raised ZeroDivisionError: division by zero \(raises.py, line 2\)"),
        ("syntax.py", r"raised SyntaxError: .*\(syntax.py, line 1\)"),
        ("ends.py", "raised SystemExit"),
        ("needs.py", "No module named 'nothing_like_it'"),
        ("wrong.py:graph", r"wrong.py:graph is 5 \(int\), which is no graph"),
    ],
)
def test_what_is_no_graph_is_refused_with_the_reason(source: str, said: str, flows: Path) -> None:
    files = {
        "notes.txt": "",
        "empty.py": "",
        "json.py": "",
        "raises.py": "def f():\n    1 / 0\nf()\n",
        "syntax.py": "def\n",
        "ends.py": "raise SystemExit(3)\n",
        "needs.py": "import nothing_like_it\n",
        "wrong.py": "graph = 5\n",
    }
    for name, text in files.items():
        (flows.parent / name).write_text(text)

    with pytest.raises(Refusal, match=said):
        Loader().one(source)


def test_a_faulty_definition_tells_all_its_problems(folder: Path) -> None:
    (folder / "d.json").write_text(json.dumps({**DEFINITION, "entry_point": "b", "nods": []}))

    with pytest.raises(GraphInvalid) as invalid:
        Loader().one("d.json")
    assert len(invalid.value.problems) >= 2


def test_the_limit_of_cycles_is_for_graphs_that_say_none() -> None:
    made: Any = Graph("silent"), Graph("says", max_iterations=7)
    for graph in made:
        graph.add_node("a", lambda s: s).add_edge("a", "a", when=bool).add_edge(
            "a", END, otherwise=True
        ).set_entry_point("a")

    limits = []
    for graph in made:
        Loader(max_iterations=3)._limit(graph)
        limits.append(graph.compile().decl.max_iterations)

    assert limits == [3, 7]


def test_a_definition_that_says_what_is_usual_means_it(folder: Path) -> None:
    def definition(name: str, **more: Any) -> dict[str, Any]:
        edges = [
            {"source": "a", "target": "a", "when": "state.x < 1"},
            {"source": "a", "target": "END", "otherwise": True},
        ]
        return {
            "name": name,
            "entry_point": "a",
            "nodes": [{"name": "a", "wait": {"signal": "s", "into": "x"}}],
            "edges": edges,
            **more,
        }

    (folder / "silent.json").write_text(json.dumps(definition("silent")))
    (folder / "says.json").write_text(json.dumps(definition("says", max_iterations=1000)))

    loader = Loader(max_iterations=3)

    assert loader.one("silent.json").graph.compile().decl.max_iterations == 3
    assert loader.one("says.json").graph.compile().decl.max_iterations == 1000


def test_hints_for_definitions_are_no_python(folder: Path) -> None:
    loop = [{"source": "a", "target": "a"}]
    (folder / "d.json").write_text(json.dumps({"name": "d", "nodes": [{"name": "a", "tool": "qqq"}]}))
    (folder / "e.json").write_text(
        json.dumps(
            {
                "name": "e",
                "entry_point": "a",
                "nodes": [{"name": "a", "wait": {"signal": "s", "into": "x"}}],
                "edges": loop,
            }
        )
    )

    hints = {}
    for file in ("d.json", "e.json"):
        with pytest.raises(GraphInvalid) as invalid:
            Loader().one(file)
        hints |= {problem.code: problem.hint for problem in invalid.value.problems}

    assert "--tools MODULE" in hints["unknown_tool"]
    assert hints["no_entry_point"] == 'say "entry_point": "a"'
    assert '{"source": "a", "target": "END", "when": "…"}' in hints["no_exit"]


def test_a_state_of_a_class_is_read_by_its_types(flows: Path) -> None:
    graph = Loader().one("flows.py:order").graph

    state = state_for(graph, {"due": "2024-05-01", "items": ["a"]})
    assert state.due == datetime.date(2024, 5, 1)
    with pytest.raises(StateInvalid, match="due"):
        state_for(graph, {"due": "soon"})
