"""Graphs as data: what a definition means, that it goes both ways, and that every fault is told at its place."""

from __future__ import annotations

import copy
import json
import operator
import time
from collections.abc import Iterator, Mapping
from contextlib import suppress
from importlib.resources import files
from pathlib import Path
from typing import Annotated, Any, NotRequired, Required, TypedDict

import attrs
import jsonschema
import pytest

from engine import (
    END,
    Batch,
    Context,
    Engine,
    EngineError,
    Graph,
    GraphInvalid,
    NodeTimeout,
    Reduce,
    Retry,
    ToolRegistry,
)
from engine.definition_format import json_schema
from tests.slowness import slowness

State = dict[str, Any]


def double(state: State, times: int = 2) -> State:
    return {"n": state["n"] * times}


def increase(state: State) -> State:
    return {"n": state["n"] + 1, "log": ["increased"]}


async def shout(item: Any) -> str:
    return f"{item}!"


def nothing(state: State) -> None: ...


REGISTRY = ToolRegistry()
for function in (double, increase, shout, nothing):
    REGISTRY.add(function)

EVERYTHING: State = {
    "name": "everything",
    "version": "3",
    "entry_point": ["first", "other"],
    "max_iterations": 7,
    "max_activations": 1000,
    "on_failure": "continue",
    "conflicts": "last",
    "isolation": "deep",
    "check": "always",
    "history": 99,
    "deadline": 60,
    "state": {
        "n": {"type": "integer", "required": True, "description": "counts"},
        "x": {"type": ["number", "null"], "default": None},
        "names": {"type": "array", "items": {"type": "string"}, "default": ["a"]},
        "log": {"type": "array", "default": [], "reduce": "extend"},
        "answer": {},
        "results": {"type": "array"},
    },
    "nodes": [
        {
            "name": "first",
            "tool": "double",
            "retry": [{"attempts": 5, "delay": 0.5, "on": "OSError"}, {"on": ["ValueError", "NodeTimeout"]}],
            "timeout": 3.5,
            "concurrency": 4,
            "rate": "10/s",
            "run_in": "loop",
            "goto": "last",
            "effect": True,
            "resources": {"gpu": 1},
            "params": {"times": 3},
            "description": "doubles",
        },
        {"name": "other", "tool": "nothing", "accepts": ["n", "x"], "produces": "n"},
        {"name": "sub", "graph": "inner", "inputs": {"n": "m"}, "outputs": {"m": "n"}},
        {"name": "each", "tool": "shout", "map": {"over": "names", "into": "results", "concurrency": 2}},
        {"name": "many", "graph": "inner", "map": {"over": "names", "into": "results", "item": "m"}},
        {"name": "asked", "wait": {"signal": ["yes", "no"], "into": "answer"}, "timeout": 9},
        {"name": "last", "tool": "nothing", "join": "first", "rest": "cancel"},
        {"name": "repair", "tool": "nothing"},
    ],
    "edges": [
        {"source": "first", "target": "sub", "capacity": 10},
        {"source": "other", "target": "each"},
        {"source": "sub", "target": "last", "when": "state.n < 10"},
        {"source": "sub", "target": "asked", "otherwise": True},
        {"source": "asked", "target": "last"},
        {"source": "each", "target": "many"},
        {"source": "many", "choose": "state.x", "targets": {"a": "last", "b": "END"}},
        {"source": "last", "target": "other", "when": "state.n < 3", "max_iterations": 2, "on_limit": "exit"},
        {"source": "last", "target": "repair", "on_error": ["ValueError", "KeyError"]},
    ],
    "graphs": {
        "inner": {
            "name": "inner",
            "version": "1",
            "entry_point": "a",
            "state": {"m": {}},
            "nodes": [{"name": "a", "tool": "nothing"}],
        }
    },
}


def from_dict(data: Any, **more: Any) -> Graph:
    return Graph.from_dict(data, tools=REGISTRY, **more)


def faults(data: Any, **more: Any) -> list[tuple[str, str]]:
    """The code and place of everything that is wrong."""
    with pytest.raises(GraphInvalid) as raised:
        from_dict(data, **more)
    return [(problem.code, problem.where) for problem in raised.value.problems]


def problem(data: Any, **more: Any) -> str:
    """What is said of the only fault."""
    with pytest.raises(GraphInvalid) as raised:
        from_dict(data, **more)
    (found,) = raised.value.problems
    return str(found)


def small(**changes: Any) -> State:
    """A definition of one node."""
    return {"name": "g", "entry_point": "a", "nodes": [{"name": "a", "tool": "nothing"}], **changes}


# --- what it means --------------------------------------------------------------------------------------


async def test_a_definition_runs_like_the_graph_that_it_means() -> None:
    definition = {
        "name": "count",
        "entry_point": "start",
        "state": {
            "n": {"type": "integer", "default": 1},
            "log": {"type": "array", "default": [], "reduce": "extend"},
            "names": {"type": "array", "default": ["a", "b"]},
            "shouted": {"type": "array"},
            "answer": {},
        },
        "nodes": [
            {"name": "start", "tool": "double", "params": {"times": 5}},
            {"name": "step", "tool": "increase"},
            {"name": "each", "tool": "shout", "map": {"over": "names", "into": "shouted"}},
            {"name": "both", "tool": "nothing"},
            {"name": "asked", "wait": {"signal": "go", "into": "answer"}},
        ],
        "edges": [
            {"source": "start", "target": ["step", "each"]},
            {"source": "step", "target": "step", "when": "state.n < 8", "max_iterations": 5},
            {"source": "step", "target": "both", "otherwise": True},
            {"source": "each", "target": "both"},
            {
                "source": "both",
                "choose": "'ask' if len(state.log) == 3 else 'end'",
                "targets": {"ask": "asked", "end": END},
            },
        ],
    }
    async with Engine(tools=REGISTRY) as engine:
        run = await engine.submit(from_dict(definition), {})
        await run.signal("go", "yes")
        result = await run.result()

    assert result.state == {
        "n": 8,
        "log": ["increased"] * 3,
        "names": ["a", "b"],
        "shouted": ["a!", "b!"],
        "answer": "yes",
    }


async def test_each_run_has_defaults_of_its_own_and_unknown_or_wrong_keys_are_refused() -> None:
    graph = from_dict(
        small(state={"rows": {"type": "array", "default": []}, "n": {"type": "integer", "required": True}})
    )
    async with Engine(tools=REGISTRY) as engine:
        first = (await engine.run(graph, {"n": 1})).state
        first["rows"].append(1)
        second = (await engine.run(graph, {"n": 2})).state
        with pytest.raises(Exception, match="n: missing"):
            await engine.submit(graph, {})
        with pytest.raises(Exception, match="no such key"):
            await engine.submit(graph, {"n": 1, "m": 1})
        with pytest.raises(Exception, match="n: expected int"):
            await engine.submit(graph, {"n": 1.5})

    assert second == {"rows": [], "n": 2}


async def test_the_same_definition_read_twice_is_the_same_graph() -> None:
    async with Engine(tools=REGISTRY) as engine:
        for _ in range(2):
            run = await engine.submit(from_dict(EVERYTHING), {"n": 1})
            await run.cancel("seen")
        other = json.loads(json.dumps(EVERYTHING))
        other["edges"][2]["when"] = "state.n < 11"
        with pytest.raises(EngineError, match="another graph"):
            await engine.submit(from_dict(other), {"n": 1})


async def test_a_run_of_a_definition_goes_on_after_a_restart(tmp_path: Path) -> None:
    definition = small(
        state={"log": {"type": "array", "default": [], "reduce": "append"}, "answer": {}},
        nodes=[{"name": "a", "wait": {"signal": "go", "into": "answer"}}, {"name": "b", "tool": "nothing"}],
        edges=[
            {"source": "a", "target": "b", "when": "state.answer == 1"},
            {"source": "a", "target": "b", "otherwise": True},
        ],
    )
    async with Engine(f"sqlite:///{tmp_path}/runs.db", tools=REGISTRY) as engine:
        run = await engine.submit(from_dict(definition), {})
    async with Engine(f"sqlite:///{tmp_path}/runs.db", tools=REGISTRY) as engine:
        engine.register(from_dict(definition))
        again = await engine.get(run.id)
        await again.signal("go", 1)
        assert (await again.result()).state == {"log": [], "answer": 1}


async def test_nodes_in_processes_see_a_state_that_is_data() -> None:
    nodes = [{"name": "a", "tool": "increase", "run_in": "process"}]
    state = {"n": {"type": "integer", "default": 1}, "log": {"type": "array", "default": [], "reduce": "extend"}}
    async with Engine(tools=REGISTRY) as engine:
        assert (await engine.run(from_dict(small(state=state, nodes=nodes)), {})).state == {
            "n": 2,
            "log": ["increased"],
        }


def test_a_definition_and_its_graph_say_the_same() -> None:
    graph = from_dict(EVERYTHING)

    assert graph.to_dict() == EVERYTHING
    assert from_dict(graph.to_dict()).to_dict() == EVERYTHING


def test_a_graph_written_in_python_is_the_same_data() -> None:
    class Typed(TypedDict):
        n: Required[int]
        log: NotRequired[Annotated[list[Any], Reduce("extend")]]
        x: NotRequired[float | None]

    graph = Graph("g", state=Typed, on_failure="continue")
    graph.add_node(
        "a", "double", retry=Retry(attempts=5, on=(OSError, NodeTimeout)), batch=Batch(3), params={"times": 2}
    )
    graph.add_node("b", "nothing", join=2)
    graph.add_edge("a", "b", when="state.n < 3").add_edge("a", "b", otherwise=True)
    graph.add_edge("b", "a", on_error=ValueError).add_choice("b", "state.x", {"1": "a", "2": END})
    graph.set_entry_point("a")

    definition = graph.to_dict()
    assert definition == {
        "name": "g",
        "version": "1",
        "on_failure": "continue",
        "entry_point": "a",
        "state": {
            "n": {"type": "integer", "required": True},
            "log": {"type": "array", "reduce": "extend"},
            "x": {"type": ["number", "null"]},
        },
        "nodes": [
            {
                "name": "a",
                "tool": "double",
                "retry": {"attempts": 5, "on": ["OSError", "NodeTimeout"]},
                "batch": {"size": 3, "wait": 0.01},
                "params": {"times": 2},
            },
            {"name": "b", "tool": "nothing", "join": 2},
        ],
        "edges": [
            {"source": "a", "target": "b", "when": "state.n < 3"},
            {"source": "a", "target": "b", "otherwise": True},
            {"source": "b", "target": "a", "on_error": "ValueError"},
            {"source": "b", "choose": "state.x", "targets": {"1": "a", "2": "END"}},
        ],
    }
    assert json.loads(json.dumps(definition)) == definition


def test_the_state_may_be_an_attrs_class_with_defaults() -> None:
    @attrs.frozen
    class Review:
        text: str
        score: float = 0.0
        notes: Annotated[list[str], Reduce(list.__add__)] = attrs.field(factory=list)
        seen: Annotated[int, operator.add] = 0

    found = Graph("g", state=Review).add_node("a", "nothing").set_entry_point("a").to_dict()
    assert found["state"] == {
        "text": {"type": "string", "required": True},
        "score": {"type": "number", "default": 0.0},
        "notes": {"type": "array", "items": {"type": "string"}, "default": [], "reduce": "extend"},
        "seen": {"type": "integer", "default": 0, "reduce": "add"},
    }
    assert from_dict(found).to_dict() == found


def test_what_is_no_data_is_told_all_at_once() -> None:
    class Odd(TypedDict):
        when: complex
        x: Annotated[int, lambda a, b: a]

    class Mine(Exception): ...

    graph = Graph("g", state=Odd).add_node("a", lambda state: None, retry=Retry(on=Mine))
    graph.add_map("m", "shout", over=lambda state: [], into="x").add_node("p", "nothing", params={"a": {1, 2}})
    graph.add_edge("a", END, when=lambda state: True).set_entry_point("a")
    with pytest.raises(GraphInvalid) as raised:
        graph.to_dict()

    said = [str(problem) for problem in raised.value.problems]
    assert len(said) == 7
    for words in (
        "no word for the type of 'when', complex",
        "reducer of 'x' has no name",
        "at a: its function",
        "error <class",
        "over is a function",
        "at a -> END: its condition",
        "is not JSON",
    ):
        assert any(words in one for one in said), (words, said)


def test_reducers_given_beside_a_state_that_is_data_are_written_too() -> None:
    state = from_dict(small(state={"x": {"type": "integer"}, "y": {"default": [], "reduce": "append"}})).state
    graph = Graph("g", state=state, reducers={"x": "max"}).add_node("a", "nothing").set_entry_point("a")
    found = graph.to_dict()

    assert found["state"] == {"x": {"type": "integer", "reduce": "max"}, "y": {"default": [], "reduce": "append"}}
    assert from_dict(found).to_dict() == found


def test_a_graph_used_twice_is_written_once() -> None:
    inner = Graph("inner").add_node("a", "nothing").set_entry_point("a")
    other = Graph("inner", version="2").add_node("b", "nothing").set_entry_point("b")
    graph = Graph("g").add_node("x", inner).add_node("y", inner).add_node("z", other).add_edge("x", ["y", "z"])
    found = graph.set_entry_point("x").to_dict()

    assert [node["graph"] for node in found["nodes"]] == ["inner", "inner", "inner_2"]
    assert found["graphs"]["inner_2"]["version"] == "2"
    assert from_dict(found).to_dict() == found


def test_graphs_can_be_written_where_they_are_used_or_be_given_by_name() -> None:
    inner = small(name="inner")
    given = Graph("given").add_node("b", "nothing").set_entry_point("b")
    nodes = [{"name": "a", "graph": inner}, {"name": "b", "graph": "known"}]
    graph = from_dict(small(nodes=nodes, edges=[{"source": "a", "target": "b"}]), graphs={"known": given})

    found = graph.to_dict()
    assert [node["graph"] for node in found["nodes"]] == ["inner", "given"]
    assert found["graphs"]["inner"] == {**inner, "version": "1"}


def test_steps_are_a_definition_too() -> None:
    steps = {
        "name": "sample",
        "steps": [
            {"tasks": [{"name": "nothing"}]},
            {"execution_type": "parallel", "tasks": [{"name": "double"}, {"name": "increase"}]},
        ],
    }
    found = from_dict(steps).to_dict()
    assert [node["name"] for node in found["nodes"]] == ["nothing", "double", "increase"]
    assert found["edges"] == [{"source": "nothing", "target": "double"}, {"source": "nothing", "target": "increase"}]


# --- reducers -------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("reduce", "value", "contribution", "result"),
    [
        ("append", [1], [2], [1, [2]]),
        ("extend", [1], [2], [1, 2]),
        ("add", 1, 2, 3),
        ("max", 1, 2, 2),
        ("min", 1, 2, 1),
        ("merge", {"a": 1, "b": 1}, {"b": 2}, {"a": 1, "b": 2}),
        ("union", [1, {"a": 1}, True], [1, 2, {"a": 1}, {"a": 2}, True, 2], [1, {"a": 1}, True, 2, {"a": 2}]),
        ("union", {1}, {2}, {1, 2}),
    ],
)
async def test_reducers_go_by_their_names(reduce: str, value: Any, contribution: Any, result: Any) -> None:
    graph = Graph("g", reducers={"x": reduce}) if reduce != "append" else None
    if graph is None:
        graph = from_dict(small(state={"x": {"default": [], "reduce": "append"}}))
        graph = Graph("g", state=graph.state)
    graph.add_node("a", lambda state: {"x": contribution}).set_entry_point("a")
    async with Engine(tools=REGISTRY) as engine:
        found = (await engine.run(graph, {"x": value})).state["x"]

    assert found == result
    assert [type(one) for one in found] == [type(one) for one in result] if isinstance(found, list) else True


def test_an_unknown_reducer_and_one_without_a_value_to_begin_with_are_refused() -> None:
    assert "no reducer is (did you mean 'append'?)" in str(Graph("g", reducers={"x": "apend"}).validate()[0])
    assert "bad_reducer" in str(Graph("g", reducers={"x": "append"}).validate()[0])
    found = problem(small(state={"x": {"reduce": "append"}}))
    assert "bad_reducer at /state/x/reduce: 'x' may have no value yet that 'append' could add an item to" in found


# --- faults ---------------------------------------------------------------------------------------------


def test_every_fault_is_told_at_once_each_at_its_place() -> None:
    assert faults(
        {
            "name": "g",
            "nmae": "g",
            "entry_point": "profil",
            "state": {"n": {"type": "intger"}, "x": {"default": 1, "type": "string"}},
            "nodes": [
                {"name": "profile", "tool": "nothin", "timeout": -1},
                {"name": "fix", "tool": "nothing", "retry": {"attempt": 3}, "params": {"colour": 1}},
                {"name": "fix", "tool": "nothing"},
                {"tool": "nothing"},
                {"name": "both", "tool": "nothing", "graph": "g"},
                {"name": "sub", "graph": "scroe"},
                {"name": "map", "tool": "shout", "map": {"over": "n"}},
            ],
            "edges": [
                {"source": "profile", "target": "scroe"},
                {"source": "profile", "target": "fix", "when": "state.m < 1"},
                {"source": "fix", "target": "profile", "when": "__import__('os')", "otherwise": "yes"},
                {"source": "fix"},
                {"source": "fix", "choose": "state.n", "targets": ["nowhere"], "capacity": 1},
            ],
            "graphs": {"score": small(nodes=[{"name": "a", "tool": "nothings"}])},
        }
    ) == [
        ("bad_option", "/nmae"),
        ("unknown_node", "/entry_point"),
        ("bad_option", "/state/n/type"),
        ("type_mismatch", "/state/x/default"),
        ("unknown_tool", "/nodes/0/tool"),
        ("bad_option", "/nodes/0/timeout"),
        ("bad_option", "/nodes/1/retry/attempt"),
        ("bad_params", "/nodes/1/params/colour"),
        ("duplicate_node", "/nodes/2"),
        ("bad_option", "/nodes/3"),
        ("bad_option", "/nodes/4/tool"),
        ("unknown_node", "/nodes/4/graph"),
        ("unknown_node", "/nodes/5/graph"),
        ("bad_option", "/nodes/6/map"),
        ("unknown_node", "/edges/0/target"),
        ("unknown_key", "/edges/1/when"),
        ("bad_condition", "/edges/2/when"),
        ("bad_option", "/edges/2/otherwise"),
        ("bad_option", "/edges/3"),
        ("unknown_node", "/edges/4/targets/0"),
        ("bad_option", "/edges/4/capacity"),
        ("unknown_tool", "/graphs/score/nodes/0/tool"),
    ]


@pytest.mark.parametrize(
    ("definition", "said"),
    [
        (None, "bad_option at /: expected an object (a definition), found None"),
        ([], "bad_option at /: expected an object (a definition), found [] (list)"),
        (small(nodes=3), "bad_option at /nodes: expected a list, found 3 (int)"),
        (small(nodes=[{"name": "a", "tool": ""}]), "bad_option at /nodes/0/tool: expected text, found '' (str)"),
        (small(state={"a": 1}), "bad_option at /state/a: expected an object (a key of the state), found 1 (int)"),
        (small(entry_point="b"), "unknown_node at /entry_point: the entry point 'b' is no node (known are 'a')"),
        (small(nodes=[{"name": "a"}]), "unknown_tool at /nodes/0: node 'a': no tool is called 'a'"),
        (small(edges=[{"source": "a", "target": "scroe"}]), "there is no node 'scroe'"),
        (small(graphs={"x": {"name": "x"}}), "bad_option at /graphs/x: a graph needs 'nodes'"),
        (small(graphs={"x": small(graphs={})}), "a graph has nothing called 'graphs'"),
        (small(nodes=[{"name": "a/b", "tool": "nothing"}], entry_point="a/b"), "may contain neither '/' nor '#'"),
        (small(nodes=[{"name": "a", "tool": "nothing", "params": {"x": {1}}}]), "/nodes/0/params/x: {1} (set) is not"),
        (small(deadline=float("nan")), "bad_definition at /deadline: nan is no JSON number"),
        ({**small(), 5: 1}, "bad_definition at /: the key 5 (int) is not text"),
    ],
)
def test_bad_input_is_told_with_its_place(definition: Any, said: str) -> None:
    assert said in problem(definition)


@pytest.mark.parametrize(
    ("definition", "where"),
    [
        (small(nodes=[{"name": "a", "tool": "nothing", "goto": ["a", "zz"]}]), "/nodes/0/goto/1"),
        (small(entry_point=["a", "a"]), "/entry_point"),
        (small(edges=[{"source": "a", "choose": "state.x", "targets": {}}]), "/edges/0/targets"),
        (small(edges=[{"source": "a", "choose": "state.x", "targets": {"x": "END", "y": "zz"}}]), "/edges/0/targets/y"),
        (small(edges=[{"source": ["a", "zz"], "target": "END"}]), "/edges/0/source/1"),
        (small(nodes=[{"name": "a", "tool": "nothing", "join": 5}]), "/nodes/0/join"),
        (small(nodes=[{"name": "a", "tool": "double", "params": {"times": "x"}}]), "/nodes/0/params/times"),
        (
            small(nodes=[{"name": "a", "tool": "shout", "map": {"over": "x", "into": "y"}, "concurrency": 1}]),
            "/nodes/0/concurrency",
        ),
        (small(nodes=[{"name": "a", "tool": "nothing", "retry": {"on": ["OSErorr"]}}]), "/nodes/0/retry/on/0"),
        (small(edges=[{"source": "a", "target": "END", "on_error": ["X"]}]), "/edges/0/on_error/0"),
        (small(edges=[{"source": "a", "choose": "state.x", "targets": [5]}]), "/edges/0/targets/0"),
        (small(nodes=[{"name": "a", "wait": {"signal": [5], "into": "x"}}]), "/nodes/0/wait/signal/0"),
        (small(entry_point=[5]), "/entry_point/0"),
        (small(nodes=[{"name": "a", "tool": "nothing", "timeout": 10**400}]), "/nodes/0/timeout"),
        (small(history=10**400), "/history"),
        (small(state={"x": {"type": "object", "reduce": "add"}}), "/state/x/reduce"),
        (small(state={"x": {"type": "string", "items": {}}}), "/state/x/items"),
        ({"name": "s", "steps": [{"tasks": [{"name": "a", "tool": "zz"}]}]}, "/steps/0/tasks/0/tool"),
        ({"name": "s", "steps": [{"tasks": [{"name": "double", "params": {"x": 1}}]}]}, "/steps/0/tasks/0/params/x"),
        (
            {"name": "s", "steps": [{"tasks": [{"name": "double", "retry": {"on": ["X"]}}]}]},
            "/steps/0/tasks/0/retry/on/0",
        ),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_one_fault_is_told_once_at_its_very_place(definition: Any, where: str) -> None:
    assert [place for _, place in faults(definition)] == [where]


@pytest.mark.parametrize("name", ["a\0", "a" * 600, "é" * 300, "\ud800"], ids=["NUL", "long", "wide", "surrogate"])
@pytest.mark.parametrize("use", ["entry", "target", "loop", "goto", "choice", "steps"])
def test_a_name_that_cannot_be_kept_is_a_fault_wherever_it_is_used(name: str, use: str) -> None:
    node = {"name": name, "tool": "nothing"}
    first = {"name": "a", "tool": "nothing", **({"goto": [name]} if use == "goto" else {})}
    edges = {
        "target": [{"source": "a", "target": name}],
        "loop": [{"source": "a", "target": name}, {"source": name, "target": "a", "max_iterations": 3}],
        "choice": [{"source": "a", "choose": "state.x", "targets": [name]}],
    }
    definition: Any = small(nodes=[first, node], entry_point=name if use == "entry" else "a", edges=edges.get(use, []))
    if use == "steps":
        definition = {"name": "s", "steps": [{"tasks": [first, node]}]}
    assert ("bad_option", "/steps/0/tasks/1/name" if use == "steps" else "/nodes/1/name") in faults(definition)


def test_the_same_holds_for_graphs_made_in_python() -> None:
    graph = Graph("g").add_node("a\0", "nothing").set_entry_point("a\0").add_edge("a\0", "a\0")
    assert [problem.code for problem in graph.validate(REGISTRY)] == ["bad_option"]


def test_a_description_is_kept() -> None:
    inner = small(name="inner", version="1", description="inside")
    definition = small(
        version="1", description="outside", nodes=[{"name": "a", "graph": "inner"}], graphs={"inner": inner}
    )
    assert from_dict(definition).to_dict() == definition


@pytest.mark.parametrize("params", [{"state": {"evil": 1}}, {"ctx": 3, "x": 1}])
def test_params_cannot_stand_for_the_state_or_the_context(params: State) -> None:
    def with_state(state: State, x: int = 1) -> None: ...

    def with_context(ctx: Context, x: int) -> None: ...

    tools = ToolRegistry()
    tools.add(with_context if "ctx" in params else with_state, name="nothing")
    with pytest.raises(GraphInvalid) as raised:
        Graph.from_dict(small(nodes=[{"name": "a", "tool": "nothing", "params": params}]), tools=tools)
    (problem,) = raised.value.problems
    assert (problem.code, problem.where) == ("bad_params", f"/nodes/0/params/{next(iter(params))}")


def test_a_graph_that_contains_itself_by_name_is_refused() -> None:
    inside = {name: small(nodes=[{"name": "a", "graph": other}]) for name, other in ("xy", "yz", "zx")}
    said = problem(small(nodes=[{"name": "a", "graph": "x"}], graphs=inside))
    assert said.startswith("subgraph_cycle at /graphs/z/nodes/0/graph: it runs graph 'x' in 'z' in 'y' in 'x'")


HOSTILE: list[Any] = [
    None,
    -1,
    10**400,
    "",
    "a\0",
    "OSErorr",
    "é" * 300,
    [5],
    ["OSErorr"],
    ["a", "a"],
    {},
    {"x": ["a"]},
]


def places(data: Any, path: tuple[str | int, ...] = ()) -> Iterator[tuple[str | int, ...]]:
    """The way to every value in the data."""
    inside = data.items() if isinstance(data, dict) else enumerate(data) if isinstance(data, list) else ()
    for key, value in inside:
        yield (*path, key)
        yield from places(value, (*path, key))


def test_nothing_in_any_place_is_an_error_of_ours() -> None:
    """Every value of a definition with everything in it, replaced by everything that has ever done harm."""
    for path in places(EVERYTHING):
        for value in HOSTILE:
            definition = copy.deepcopy(EVERYTHING)
            where: Any = definition
            for key in path[:-1]:
                where = where[key]
            where[path[-1]] = value
            with suppress(GraphInvalid):
                from_dict(definition)


def nested(depth: int) -> State:
    found = small()
    for _ in range(depth):
        found = small(nodes=[{"name": "a", "graph": found}])
    return found


def doubling(depth: int) -> State:
    edges = [{"source": "a", "target": "b"}]
    graphs = {
        f"g{n}": small(nodes=[{"name": one, "graph": f"g{n + 1}"} for one in "ab"], edges=edges) for n in range(depth)
    }
    return small(nodes=[{"name": "a", "graph": "g0"}], graphs={**graphs, f"g{depth}": small()})


NODES = [{"name": f"node{n}", "tool": "nothing"} for n in range(10_000)]
BOMBS: Mapping[str, Any] = {
    "100,000 nodes": small(nodes=[{"name": f"n{n}", "tool": "nothing"} for n in range(100_000)]),
    "nested 10,000 deep": nested(10_000),
    "nested 10,000 deep by name": small(
        graphs={f"g{n}": small(nodes=[{"name": "a", "graph": f"g{n + 1}"}]) for n in range(10_000)}
    ),
    "a thousand million nodes": doubling(40),
    "20,000 edges to nowhere": {
        **small(nodes=NODES, entry_point="node0"),
        "edges": [{"source": f"nodx{n}", "target": f"nodz{n}"} for n in range(20_000)],
    },
    "a key for everybody": small(state={f"k{n}": {"type": "strin"} for n in range(100_000)}),
    "10,000 unknown tools": small(nodes=[{"name": f"n{n}", "tool": f"nothin{n}"} for n in range(10_000)]),
    "10,000 unknown options": small(nodes=[{**node, "tiemout": 1, "reties": 2} for node in NODES]),
    "two lists that make a hundred million edges": small(edges=[{"source": ["a"] * 10_000, "target": ["a"] * 10_000}]),
    "choices of everything by everybody": {
        **small(nodes=NODES[:1000], entry_point="node0"),
        "edges": [
            {
                "source": [f"node{n}" for n in range(1000)],
                "choose": "state.x",
                "targets": [f"node{n}" for n in range(1000)],
            }
        ],
    },
    "three times ten thousand choices": small(
        nodes=[{"name": name, "graph": "g0"} for name in "abc"],
        edges=[{"source": "a", "target": ["b", "c"]}],
        graphs={
            "g0": {
                **small(nodes=NODES[:100], entry_point="node0"),
                "edges": [
                    {
                        "source": [f"node{n}" for n in range(100)],
                        "choose": "state.x",
                        "targets": [*(f"node{n}" for n in range(99)), "END"],
                    }
                ],
            }
        },
    ),
    "everybody may go everywhere": small(
        nodes=[{**node, "goto": [f"node{n}" for n in range(400)]} for node in NODES[:400]], entry_point="node0"
    ),
    "a list in a list in a list": small(nodes=[{"name": "a", "params": {"x": []}}]),
    "very long names": small(nodes=[{"name": "x" * 1_000_000, "tool": "y" * 1_000_000}]),
    "a condition of 10 MB": small(edges=[{"source": "a", "target": "a", "when": "1 < " + "1" * 10_000_000}]),
    "9**9**9": small(edges=[{"source": "a", "target": "a", "when": "9**9**9"}]),
}
inside: list[Any] = BOMBS["a list in a list in a list"]["nodes"][0]["params"]["x"]
inside.append(inside)


@pytest.mark.parametrize("bomb", BOMBS)
def test_a_bomb_is_refused_in_a_second(bomb: str) -> None:
    began = time.process_time()  # others may use this machine
    with pytest.raises(GraphInvalid) as raised:
        from_dict(BOMBS[bomb])

    assert time.process_time() - began < 2 * slowness()
    assert len(raised.value.problems) <= 501
    assert len(str(raised.value)) < 5_000


def test_the_edges_of_choices_are_counted_as_often_as_their_graph_is_used() -> None:
    assert "with the graphs inside it has 30,002 edges" in problem(BOMBS["three times ten thousand choices"])


# --- the published schema -------------------------------------------------------------------------------


def test_the_published_schema_is_the_one_of_the_code() -> None:
    published = json.loads((files("engine") / "definition.schema.json").read_text())

    assert published == json_schema(), "write it anew: python -m engine.definition_format"
    jsonschema.Draft202012Validator.check_schema(published)


def test_the_schema_accepts_what_is_read() -> None:
    jsonschema.validate(EVERYTHING, json_schema())
    jsonschema.validate({**small(), "$schema": "https://example.org/x.json"}, json_schema())
