"""Definitions by the thousand: well-formed ones go both ways, all others are refused with places that are there.

What is made comes from the shapes that the reader reads by; what it must be like comes from JSON Schema, read by
another program.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import jsonschema
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from engine import Graph, GraphInvalid, GraphProblem, ToolRegistry
from engine.definition_format import GRAPH, STEPS, json_schema
from engine.shapes import Anything, Cases, Either, Faults, Flag, ListOf, MapOf, Named, Null, Number, OneOf, Record, Text

REGISTRY = ToolRegistry()


@REGISTRY.tool
def work(state: dict[str, Any], x: int = 0) -> None: ...


QUICK = settings(deadline=None, suppress_health_check=list(HealthCheck))
VALIDATOR = jsonschema.Draft202012Validator(json_schema())

NAMES = st.sampled_from(["a", "b", "c", "work", "END", "n", "x/y", "#", "state", "a\0", "é" * 300, "\ud800", "OSErorr"])
TEXTS = st.one_of(
    NAMES, st.sampled_from(["state.n < 1", "state.", "9**9", "10/s", "1", "()" * 50]), st.text(max_size=8)
)
SCALARS = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(-2, 3),
    st.sampled_from([0.0, 1.0, 2.5, 3.0, 1e300, 10**400, -1.5]),
    TEXTS,
)
JSON = st.recursive(SCALARS, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(TEXTS, inner, max_size=3))


_MADE: dict[tuple[int, int], tuple[Any, st.SearchStrategy[Any]]] = {}


def made_by(shape: Any, depth: int) -> st.SearchStrategy[Any]:
    """What fits a shape; graphs inside graphs end."""
    key = (id(shape), depth)
    if key not in _MADE:
        _MADE[key] = shape, _made_by(shape, depth)
    return _MADE[key][1]


def _made_by(shape: Any, depth: int) -> st.SearchStrategy[Any]:
    match shape:
        case Anything():
            return JSON
        case Text(may_be_empty=may_be_empty):
            return st.text(max_size=5) if may_be_empty else TEXTS.filter(bool)
        case Number(whole=whole, least=least):
            return st.integers(1 if least is None else least, 5) if whole else st.sampled_from([1, 2.5, 30])
        case Flag():
            return st.booleans()
        case Null():
            return st.none()
        case OneOf(words=words):
            return st.sampled_from(sorted(words))
        case ListOf(item=item, least=least):
            return st.lists(made_by(item, depth), min_size=least, max_size=3)
        case MapOf(value=value):
            return st.dictionaries(NAMES, made_by(value, depth), max_size=2)
        case Cases(marked=marked, otherwise=otherwise):
            return st.one_of([made_by(one, depth) for one in (otherwise, *(one for _, one in marked))])
        case Either(shapes=shapes):
            return st.one_of([made_by(one, depth) for one in shapes if depth > 0 or not isinstance(one, Named)])
        case Named():
            return made_by(shape.find(), depth - 1) if depth > 0 else st.nothing()
        case Record(keys=keys, required=required):
            fitting = {key: made_by(one, depth) for key, one in keys.items() if depth > 0 or not _needs_depth(one)}
            needed = {key: one for key, one in fitting.items() if key in required}
            return st.fixed_dictionaries(needed, optional={k: v for k, v in fitting.items() if k not in needed})
    raise AssertionError(shape)


def _needs_depth(shape: Any) -> bool:
    return isinstance(shape, Named) or (isinstance(shape, ListOf | MapOf) and _needs_depth(_inside(shape)))


def _inside(shape: Any) -> Any:
    return shape.item if isinstance(shape, ListOf) else shape.value


@st.composite
def changed(draw: st.DrawFn, data: Any) -> Any:
    """The data with something in it replaced, added or taken away."""
    found = json.loads(json.dumps(data))
    where = found
    for _ in range(draw(st.integers(0, 6))):
        inside = [one for one in (where.values() if isinstance(where, dict) else where) if isinstance(one, dict | list)]
        if not inside:
            break
        where = draw(st.sampled_from(inside))
    if isinstance(where, dict):
        keys = st.sampled_from([*where, "name", "tool", "graph", "when", "map", "wait", "type", "source", "target"])
        key = draw(keys)
        if draw(st.booleans()):
            where[key] = draw(JSON)
        else:
            where.pop(key, None)
    else:
        where.insert(draw(st.integers(0, len(where))), draw(JSON))
    return found


def place_is_there(data: Any, pointer: str) -> bool:
    """Whether a pointer leads somewhere, or to a key that is missing where it leads."""
    parts = [part.replace("~1", "/").replace("~0", "~") for part in pointer.split("/")[1:]]
    for index, part in enumerate(parts):
        if isinstance(data, dict) and part in data:
            data = data[part]
        elif isinstance(data, list) and part.isdigit() and int(part) < len(data):
            data = data[int(part)]
        else:
            return index == len(parts) - 1
    return True


def outcome(read: Callable[[], Graph]) -> tuple[Graph | None, Sequence[GraphProblem]]:
    """What came of reading: a graph, or all that is wrong."""
    try:
        return read(), ()
    except GraphInvalid as error:
        return None, error.problems


def judged(data: Any) -> None:
    """Read a definition, and hold what is said of it against what it is."""
    before = json.dumps(data)
    graph, refusal = outcome(lambda: Graph.from_dict(data, tools=REGISTRY))
    if graph is None:
        assert refusal
        for problem in refusal:
            assert place_is_there(data, problem.where), problem
            assert problem.message
    elif not graph.tool_names:
        definition = graph.to_dict()
        assert Graph.from_dict(definition, tools=REGISTRY).to_dict() == definition
    assert json.dumps(data) == before


@settings(QUICK, max_examples=500)
@given(st.data())
def test_whatever_looks_like_a_definition_is_read_or_refused_with_places(data: st.DataObject) -> None:
    found = data.draw(made_by(data.draw(st.sampled_from([GRAPH, GRAPH, STEPS])), 2))
    judged(found)
    judged(data.draw(changed(found)))


@settings(QUICK, max_examples=400)
@given(st.data())
def test_the_reader_and_the_schema_agree_on_what_a_definition_looks_like(data: st.DataObject) -> None:
    found = data.draw(made_by(GRAPH, 2))
    for one in (found, data.draw(changed(found)), data.draw(changed(data.draw(changed(found))))):
        faults = Faults()
        GRAPH.read(one, "", faults)
        assert VALIDATOR.is_valid(one) == (not faults.problems), (one, faults.problems)


@settings(QUICK, max_examples=500)
@given(JSON)
def test_no_data_does_any_harm(data: Any) -> None:
    judged(data)


@settings(QUICK, max_examples=1000)
@given(
    st.one_of(
        st.text(alphabet='{}[]",:*&!|>-# \n\t019.eEtruefalsn', max_size=60),
        st.text(max_size=40),
        st.binary(max_size=40),
    )
)
def test_no_text_does_any_harm(text: str | bytes) -> None:
    for read in (Graph.from_json, Graph.from_yaml):
        graph, refusal = outcome(partial(read, text, tools=REGISTRY))
        assert (graph is None) == bool(refusal)


# --- those that are right -------------------------------------------------------------------------------

CONDITIONS = ["state.n < 3", "has(state.m) and state.n == 1", "not state.flag", "get(state.m, 0) in [1, 2]"]


@st.composite
def graphs(draw: st.DrawFn, depth: int = 2) -> dict[str, Any]:
    """A definition with nothing wrong in it."""
    count = draw(st.integers(1, 6))
    names = [f"n{index}" for index in range(count)]
    nodes: list[dict[str, Any]] = []
    inner: dict[str, Any] = {}
    for name in names:
        kind = draw(st.sampled_from(["tool", "tool", "wait", "map", "graph"]))
        node: dict[str, Any] = {"name": name}
        if kind == "wait":
            node["wait"] = {"signal": draw(st.sampled_from(["go", ["go", "stop"]])), "into": "m"}
        elif kind == "graph" and depth > 0:
            node["graph"] = f"g{len(inner)}"
            inner[node["graph"]] = {**draw(graphs(depth=0)), "name": node["graph"]}
        else:
            node["tool"] = "work"
            if kind == "map":
                node["map"] = {"over": "rows", "into": "m", **draw(st.sampled_from([{}, {"concurrency": 3}]))}
            elif draw(st.booleans()):
                node["params"] = {"x": draw(st.integers())}
            if kind == "tool" and draw(st.booleans()):
                node["retry"] = {
                    "attempts": draw(st.integers(1, 2)),
                    "on": draw(st.sampled_from(["OSError", ["KeyError", "OSError"]])),
                }
        if draw(st.booleans()):
            node["timeout"] = draw(st.sampled_from([1, 2.5]))
        nodes.append(node)
    edges: list[dict[str, Any]] = []
    for index in range(1, count):
        sources = draw(st.lists(st.sampled_from(names[:index]), min_size=1, max_size=2, unique=True))
        for source in sources:
            edge = {"source": source, "target": names[index]}
            if draw(st.booleans()):
                edge["when"] = draw(st.sampled_from(CONDITIONS))
            edges.append(edge)
    if count > 1 and draw(st.booleans()):
        edges.append({"source": names[-1], "target": names[-1], "when": CONDITIONS[0], "max_iterations": 3})
        edges.append({"source": names[-1], "target": "END", "otherwise": True})
    return {
        "name": "g",
        "version": draw(st.sampled_from(["1", "2"])),
        "entry_point": "n0",
        "state": {
            "n": {"type": "integer", "default": draw(st.integers())},
            "m": {},
            "rows": {"type": "array", "default": draw(st.lists(JSON, max_size=2))},
            "flag": {"type": "boolean", "required": True},
            "log": {"type": "array", "default": [], "reduce": "extend"},
        },
        "nodes": nodes,
        **({"edges": edges} if edges else {}),
        **({"graphs": inner} if inner else {}),
    }


@settings(QUICK, max_examples=300)
@given(graphs())
def test_a_sound_definition_goes_both_ways(definition: dict[str, Any]) -> None:
    graph = Graph.from_dict(definition, tools=REGISTRY)
    found = graph.to_dict()

    assert _sorted(found) == _sorted(definition)
    assert VALIDATOR.is_valid(found)
    again = Graph.from_json(json.dumps(found), tools=REGISTRY)
    assert again.to_dict() == found
    assert [str(edge) for edge in again.compile(REGISTRY).edges] == [
        str(edge) for edge in graph.compile(REGISTRY).edges
    ]


def _sorted(data: Any) -> str:
    return json.dumps(data, sort_keys=True)
