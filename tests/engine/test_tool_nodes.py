"""Tools as nodes and as calls: what they are given, what is refused when a graph is compiled, and what ends them."""

import contextvars
import datetime
import enum
import operator
import os
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import anyio
import anyio.lowlevel
import attrs
import pytest

from engine import (
    BadArguments,
    Context,
    Engine,
    EngineError,
    Graph,
    GraphProblem,
    NodeTimeout,
    NotReachable,
    RunCancelled,
    RunFailed,
    Settings,
    ToolRegistry,
    UnknownTool,
    get_tool_registry,
    tool,
)
from tests.engine import tool_nodes

tools = ToolRegistry()


class Mode(enum.Enum):
    FAST = "fast"
    SAFE = "safe"


@attrs.frozen
class Rule:
    column: str
    since: datetime.date | None = None


@tools.tool
def task_a(x: int, times: int = 2) -> dict[str, Any]:
    return {"a": x * times}


@tools.tool
def task_b(limit=3):  # type: ignore[no-untyped-def]
    return {"b": limit}


@tools.tool
async def profile_data(state: dict[str, Any], mode: Mode = Mode.FAST) -> dict[str, Any]:
    return {"profile": (len(state["rows"]), mode)}


@tools.tool
def apply_rules(state: dict[str, Any], rules: list[Rule], weights: tuple[float, ...] = ()) -> dict[str, Any]:
    return {"applied": rules, "weights": weights}


@tools.tool
def echo(data):  # type: ignore[no-untyped-def]
    return {"echo": data}


@tools.tool
def everything(state: Any, params: Any) -> dict[str, Any]:
    return {"params": params}


@tools.tool("versioned", version="1")
def versioned_1(state: Any) -> dict[str, Any]:
    return {"version": 1}


@tools.tool("versioned", version="2")
def versioned_2(state: Any) -> dict[str, Any]:
    return {"version": 2}


def one(what: Any, **options: Any) -> Graph:
    return Graph("one").add_node("n", what, **options).set_entry_point("n")


async def result(graph: Graph, state: Any = None, registry: Any = tools) -> Any:
    async with Engine(tools=registry) as engine:
        return (await engine.run(graph, state)).state


async def called(function: Callable[..., Any], registry: Any = tools, state: Any = None, **options: Any) -> Any:
    return await result(one(function, **options), state, registry)


def problem(graph: Graph, registry: Any = tools) -> GraphProblem:
    (found,) = graph.validate(registry)
    return found


# --- what a node gives its tool ---------------------------------------------------------------------------


async def test_steps_run_tools_that_take_only_params() -> None:
    steps = {
        "name": "sample",
        "steps": [
            {"execution_type": "sequential", "tasks": [{"name": "task_a", "params": {"x": 1}}]},
            {"execution_type": "parallel", "tasks": [{"name": "task_b"}, {"name": "versioned"}]},
        ],
    }

    assert await result(Graph.from_steps(steps)) == {"a": 2, "b": 3, "version": 2}


@pytest.mark.parametrize(
    ("name", "params", "state", "expected"),
    [
        ("task_a", {"x": 4, "times": 3}, {}, {"a": 12}),
        ("task_b", {"limit": 8}, {}, {"b": 8}),
        ("profile_data", None, {"rows": [1]}, {"profile": (1, Mode.FAST)}),
        ("profile_data", {"mode": "safe"}, {"rows": []}, {"profile": (0, Mode.SAFE)}),
        ("profile_data", {"mode": Mode.SAFE}, {"rows": []}, {"profile": (0, Mode.SAFE)}),
        ("echo", {"data": 5}, {}, {"echo": 5}),
        ("everything", {"a": 1}, {}, {"params": {"a": 1}}),
        ("everything", None, {}, {"params": {}}),
        ("versioned", None, {}, {"version": 2}),
        ("versioned@1", None, {}, {"version": 1}),
        (
            "apply_rules",
            {"rules": [{"column": "a", "since": "2024-05-01"}], "weights": [1, 0.5]},
            {},
            {"applied": [Rule("a", datetime.date(2024, 5, 1))], "weights": (1, 0.5)},
        ),
    ],
)
async def test_a_tool_gets_the_state_and_its_params(name: str, params: Any, state: Any, expected: Any) -> None:
    found = await result(one(name, params=params), state)

    assert {key: found[key] for key in expected} == expected


async def test_a_first_parameter_that_nothing_is_said_of_takes_the_state() -> None:
    assert (await result(one("echo"), {"x": 1}))["echo"] == {"x": 1}


async def test_a_function_with_params_is_judged_and_called_as_a_tool_is() -> None:
    def scaled(state: Any, by: float, mode: Mode) -> dict[str, Any]:
        return {"x": by, "mode": mode}

    assert await result(one(scaled, params={"by": 2, "mode": "safe"}), {}) == {"x": 2, "mode": Mode.SAFE}
    assert "'by': expected float" in problem(one(scaled, params={"by": "2", "mode": "safe"})).message


async def test_a_tool_may_be_given_itself() -> None:
    graph = one(tools.find("versioned", "1"))

    assert await result(graph) == {"version": 1}
    assert graph.compile().by_name["n"].decl.options.tool == "versioned@1"


async def test_a_map_gives_its_items_to_a_tool() -> None:
    @attrs.frozen
    class Rows:
        rows: list[int]
        out: list[int] = []  # noqa: RUF008  # attrs copies nothing, and nobody writes to it

    registry = ToolRegistry()
    registry.add(lambda row, by: row * by, name="scale")
    graph = Graph("map", state=Rows).add_map("m", "scale", over="rows", into="out", params={"by": 3})

    assert (await result(graph.set_entry_point("m"), Rows([1, 2]), registry)).out == [3, 6]


async def test_the_process_wide_registry_serves_who_gives_none() -> None:
    registry = get_tool_registry()
    before = registry.current
    try:

        @tool("only_in_this_test")
        def say(state: Any) -> dict[str, Any]:
            return {"said": True}

        assert one("only_in_this_test").validate() == []
        async with Engine() as engine:
            assert engine.tools is registry
            assert (await engine.run(one("only_in_this_test"))).state == {"said": True}
    finally:
        registry.replace(type(before)([t for t in before.tools() if t.name != "only_in_this_test"]))


async def test_tools_may_be_given_as_a_list_or_a_mapping() -> None:
    assert await result(one("task_a", params={"x": 1}), None, [task_a]) == {"a": 2}
    assert await result(one("mine", params={"x": 1}), None, {"mine": task_a}) == {"a": 2}


# --- what is refused when the graph is compiled -----------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "message", "hint"),
    [
        ("profil_data", "no tool is called 'profil_data'", "did you mean 'profile_data'?"),
        ("versioned@3", "tool 'versioned' has no version '3'", "there are '1', '2'"),
        ("echo@2", "tool 'echo' has no version '2'", "there is '1'"),
        ("@", "no tool is called ''", "known are 'apply_rules', "),
        ("zzzzz", "no tool is called 'zzzzz'", ""),
    ],
)
def test_an_unknown_tool_is_a_problem(name: str, message: str, hint: str) -> None:
    found = problem(one(name))

    assert (found.code, found.where, found.message) == ("unknown_tool", "n", message)
    assert hint in found.hint


@pytest.mark.parametrize(
    ("name", "params", "message", "hint"),
    [
        ("task_a", None, "'x' gets nothing, expected int", "params={'x': ...}"),
        ("task_a", {}, "'x' gets nothing", ""),
        ("task_a", {"x": "1"}, "its parameter 'x': expected int, found '1' (str)", ""),
        ("task_a", {"x": True}, "expected int, found True", ""),
        ("task_a", {"x": None}, "expected int, found None", ""),
        ("task_a", {"x": 1, "tims": 2}, "params has 'tims'", "did you mean 'times'?"),
        ("task_a", [1], "params must be a mapping", ""),
        ("profile_data", {"mode": "slow"}, "expected Mode (one of 'fast', 'safe'), found 'slow'", ""),
        ("apply_rules", {}, "'rules' gets nothing, expected list[Rule]", ""),
        ("apply_rules", {"rules": [{"colum": "a"}]}, "its parameter 'rules'[0].column: missing", ""),
        ("apply_rules", {"rules": [{"column": "a", "since": "x"}]}, "'rules'[0].since: expected", ""),
        ("apply_rules", {"rules": {}}, "expected list, found {} (dict)", ""),
    ],
)
def test_bad_params_name_the_parameter_and_what_was_expected(name: str, params: Any, message: str, hint: str) -> None:
    found = [p for p in one(name, params=params).validate(tools) if message in p.message]

    assert [(p.code, p.where) for p in found] == [("bad_params", "n")]
    assert hint in found[0].hint


def test_params_that_are_nested_too_deep_are_a_problem() -> None:
    deep: Any = []
    for _ in range(100_000):
        deep = [deep]

    def reads(state: Any, rows: list[list[Any]]) -> None: ...
    def reads_tree(state: Any, tree: "Tree") -> None: ...

    assert one(reads, params={"rows": deep}).validate() == []  # only as deep as its type says
    nested: Any = {}
    for _ in range(100_000):
        nested = {"inner": nested}
    assert "nested too deep" in problem(one(reads_tree, params={"tree": nested})).message


@attrs.frozen
class Tree:
    inner: "Tree | None" = None


async def test_a_graph_with_read_params_that_is_built_anew_is_no_other() -> None:
    registry = ToolRegistry()
    registry.add(lambda state, names, rule: {"n": (names, rule)}, name="f")

    @registry.tool
    def g(state: Any, names: set[str], rule: Rule) -> dict[str, Any]:
        return {"n": (names, rule)}

    async with Engine(tools=registry) as engine:
        for _ in range(2):
            graph = one("g", params={"names": ["a"], "rule": {"column": "c"}})
            assert (await engine.run(graph)).state == {"n": ({"a"}, Rule("c"))}


# --- calls ------------------------------------------------------------------------------------------------


async def test_a_node_calls_tools_sync_ones_in_threads() -> None:
    seen = contextvars.ContextVar("seen", default="")
    registry = ToolRegistry()

    @registry.tool
    def sync_one(x: int, *, by: int = 2) -> tuple[int, bool, str]:
        return x * by, threading.current_thread() is threading.main_thread(), seen.get()

    @registry.tool
    async def async_one(x: int, ctx: Context) -> tuple[int, str, str]:
        return x, ctx.node, (await ctx.tools.call("sync_one", x))[2]

    async def node(state: Any, ctx: Context) -> dict[str, Any]:
        seen.set("set")
        return {"sync": await ctx.tools.call("sync_one", 2, by=4), "async": await ctx.tools.call("async_one", x=5)}

    assert await called(node, registry) == {"sync": (8, False, "set"), "async": (5, "n", "set")}


async def test_a_sync_node_calls_tools_in_its_own_thread() -> None:
    registry = ToolRegistry()
    registry.add(threading.get_ident, name="ident")

    @registry.tool
    async def later(x: int) -> int:
        await anyio.lowlevel.checkpoint()
        return x

    def node(state: Any, ctx: Context) -> dict[str, Any]:
        same = ctx.tools.call_sync("ident") == threading.get_ident()
        return {"same": same, "later": ctx.tools.call_sync("later", 3)}

    assert await called(node, registry) == {"same": True, "later": 3}
    with pytest.raises(RunFailed) as raised:
        await called(node, registry, run_in="loop")
    assert "make the node async" in str(raised.value.failures[0].cause)


@pytest.mark.parametrize(
    ("args", "kwargs", "said"),
    [
        ((), {}, "needs its parameter 'x'"),
        ((1,), {"tims": 2}, "takes no parameter 'tims' (did you mean 'times'?)"),
        ((1,), {"x": 2}, "got its parameter 'x' twice"),
        ((1, 2, 3), {}, "takes at most 2 arguments by position, got 3"),
        ((), {"y": 1}, "needs its parameter 'x'"),
    ],
)
async def test_wrong_arguments_name_the_tool_and_the_parameter(args: Any, kwargs: Any, said: str) -> None:
    async def node(state: Any, ctx: Context) -> dict[str, Any]:
        with pytest.raises(BadArguments) as raised:
            await ctx.tools.call("task_a", *args, **kwargs)
        return {"said": str(raised.value), "tool": raised.value.tool}

    found = await called(node)

    assert found["tool"] == "task_a@1"
    assert said in found["said"]


async def test_what_a_tool_has_no_parameter_for_comes_as_params() -> None:
    async def node(state: Any, ctx: Context) -> dict[str, Any]:
        return {
            "collected": await ctx.tools.call("everything", 1, a=2, b=3),
            "given": await ctx.tools.call("everything", state=1, params={"a": 1}),
            "none": await ctx.tools.call("everything", 1),
        }

    found = await called(node)

    assert [found[key]["params"] for key in ("collected", "given", "none")] == [{"a": 2, "b": 3}, {"a": 1}, {}]


async def test_an_unknown_tool_fails_the_call_with_a_hint() -> None:
    async def node(state: Any, ctx: Context) -> None:
        await ctx.tools.call("task_aa")

    with pytest.raises(RunFailed) as raised:
        await called(node)

    cause = raised.value.failures[0].cause
    assert isinstance(cause, UnknownTool)
    assert cause.hint == "did you mean 'task_a'?"


async def test_what_a_tool_raises_says_which_tool_it_was() -> None:
    registry = ToolRegistry()

    @registry.tool(version="3")
    def fails() -> None:
        raise ValueError("no")

    async def node(state: Any, ctx: Context) -> None:
        await ctx.tools.call("fails")

    with pytest.raises(RunFailed) as raised:
        await called(node, registry)

    cause = raised.value.failures[0].cause
    assert (type(cause), cause.__notes__) == (ValueError, ["in tool 'fails@3'"])


async def test_a_call_ends_with_its_node_at_a_timeout() -> None:
    registry, release, ended = ToolRegistry(), threading.Event(), []
    registry.add(release.wait, name="blocks")

    @registry.tool
    async def waits() -> None:
        try:
            await anyio.sleep_forever()
        finally:
            ended.append("waits")

    async def node(state: Any, ctx: Context) -> None:
        await ctx.tools.call(state["tool"])

    try:
        for name in ("blocks", "waits"):
            with pytest.raises(RunFailed) as raised:
                await called(node, registry, {"tool": name}, timeout=0.05)
            assert isinstance(raised.value.failures[0].cause, NodeTimeout)
    finally:
        release.set()
    assert ended == ["waits"]


async def test_a_cancelled_run_ends_the_calls_of_its_nodes_and_gives_their_threads_back() -> None:
    registry, release, begun = ToolRegistry(), threading.Event(), threading.Semaphore(0)

    @registry.tool
    def blocks() -> None:
        begun.release()
        release.wait()

    registry.add(lambda: 1, name="one")

    async def node(state: Any, ctx: Context) -> dict[str, Any]:
        return {"got": await ctx.tools.call(state["tool"])}

    async with Engine(tools=registry, settings=Settings(threads=1)) as engine:
        blocked = await engine.submit(one(node), {"tool": "blocks"})
        await anyio.to_thread.run_sync(begun.acquire)
        queued = await engine.submit(one(node), {"tool": "one"})
        given_up = await engine.submit(one(node), {"tool": "one"})
        await anyio.wait_all_tasks_blocked()
        await given_up.cancel()
        await given_up.wait()
        await blocked.cancel()
        with pytest.raises(RunCancelled):
            await blocked.result()
        assert (await queued.result()).state["got"] == 1
        release.set()


async def test_nodes_and_calls_take_turns_for_threads() -> None:
    registry, order = ToolRegistry(), list[str]()

    @registry.tool
    def work(x: int) -> int:
        order.append(f"call {x}")
        return x

    def step(state: dict[str, Any]) -> None:
        order.append("node")

    async def many(state: Any, ctx: Context) -> dict[str, Any]:
        async with anyio.create_task_group() as group:
            for number in range(20):
                group.start_soon(ctx.tools.call, "work", number)
        return {}

    graph = Graph("turns").add_node("many", many).add_node("step", step).set_entry_point("many", "step")
    async with Engine(tools=registry, settings=Settings(threads=1)) as engine:
        await engine.run(graph)

    assert sorted(order) == sorted([*(f"call {number}" for number in range(20)), "node"])


# --- processes, restarts ----------------------------------------------------------------------------------


async def test_a_tool_runs_in_a_process() -> None:
    found = await result(one("where", run_in="process", params={"by": 3}), {"x": 2}, tool_nodes.registry)

    assert found["x"] == 6
    assert found["pid"] != os.getpid()


async def test_in_a_process_tools_cannot_be_called() -> None:
    with pytest.raises(RunFailed) as raised:
        await result(one("calls", run_in="process"), {"x": 2}, tool_nodes.registry)

    assert isinstance(raised.value.failures[0].cause, NotReachable)


def waiting(what: str) -> Graph:
    graph = Graph("durable", reducers={"log": operator.add}).add_wait("wait", signal="go", into="went")
    return graph.add_node("n", what).add_edge("wait", "n").set_entry_point("wait")


@pytest.mark.parametrize(
    ("before", "after", "goes_on"),
    [("f", "f", True), ("f@1", "f@1", True), ("f@1", "f@2", False), ("f", "f@2", False), ("f", "g", False)],
)
async def test_a_run_goes_on_after_a_restart_if_its_nodes_name_the_same_tools(
    tmp_path: Path, before: str, after: str, goes_on: bool
) -> None:
    def registry(result: str) -> ToolRegistry:
        found = ToolRegistry()
        for name, version in (("f", "1"), ("f", "2"), ("g", "1")):
            found.add(lambda state, v=version: {"log": [result, v]}, name=name, version=version)
        return found

    store = f"sqlite:///{tmp_path / 'runs.db'}"
    async with Engine(store, tools=registry("old")) as engine:
        run_id = (await engine.submit(waiting(before), {})).id
    async with Engine(store, tools=registry("new")) as engine:
        engine.register(waiting(after))
        run = await engine.get(run_id)
        if goes_on:
            await run.signal("go")
            assert (await run.result()).state["log"] == ["new", "2" if before == "f" else "1"]
        else:
            with pytest.raises(EngineError, match="began on another definition"):
                await run.result()
