"""SEMANTICS section 7 through the engine: subgraphs and maps."""

from __future__ import annotations

import asyncio
import operator
from collections import deque
from collections.abc import AsyncIterator
from contextvars import ContextVar
from typing import Annotated, Any, TypedDict

import anyio
import pytest

from actors import StrayCancellation
from engine import Context, Engine, Graph, GraphInvalid, ItemError, NodeTimeout, Retry, RunFailed, StateInvalid
from tests.semantics.engine_cases import (
    Times,
    crash,
    ended,
    failing,
    fails,
    failure_of,
    graph,
    result_of,
    same,
    sets,
    sleeps,
    stray,
)

# --- subgraphs ------------------------------------------------------------------------------------------


class Inner(TypedDict):
    text: str
    notes: Annotated[list[str], operator.add]


class Outer(TypedDict):
    text: str
    notes: Annotated[list[str], operator.add]
    other: int


async def test_keys_known_to_both_go_in_and_changed_ones_come_back() -> None:
    seen = []

    async def look(state: Inner) -> dict[str, Any]:
        seen.append(dict(state))
        return {"text": "new"}

    made = graph({"sub": graph({"look": look}, state=Inner, name="inner")}, state=Outer)

    result = await result_of(made, {"text": "old", "notes": ["n"], "other": 1})

    assert seen == [{"text": "old", "notes": ["n"]}]
    assert result.state == {"text": "new", "notes": ["n"], "other": 1}


async def test_inputs_and_outputs_rename() -> None:
    async def double(state: dict[str, int]) -> dict[str, int]:
        return {"answer": 2 * state["number"]}

    inner = graph({"double": double}, name="inner")
    made = graph({"sub": (inner, {"inputs": {"x": "number"}, "outputs": {"answer": "y"}})})

    assert (await result_of(made, {"x": 4})).state == {"x": 4, "y": 8}


async def test_contributions_of_a_subgraph_come_back_one_by_one() -> None:
    def twice(value: int, new: int) -> int:
        return 2 * value + new

    inner = graph({"a": sets(t=1), "b": sets(t=10)}, "a -> b", name="inner")
    made = graph({"s": same, "x": sets(t=100), "sub": inner, "j": same}, "s -> x, sub -> j", reducers={"t": twice})

    assert (await result_of(made, {"t": 1})).state == {"t": 2 * (2 * (2 * 1 + 100) + 1) + 10}


async def test_a_different_reducer_inside_is_refused() -> None:
    inner = graph({"a": same}, name="inner", reducers={"t": max})
    async with Engine() as engine:
        with pytest.raises(GraphInvalid) as refused:
            await engine.submit(graph({"sub": inner}, reducers={"t": operator.add}))

    assert [problem.code for problem in refused.value.problems] == ["bad_reducer"]


async def test_its_nodes_appear_by_their_path_in_log_events_visited_and_tokens() -> None:
    tokens = []

    async def node(state: Any, ctx: Context) -> None:
        tokens.append((ctx.token, ctx.node, ctx.run_id))

    run = await ended(graph({"sub": graph({"inner": node}, name="inner")}), run_id="r")

    assert tokens == [("r/sub#1/inner#1", "sub#1/inner", "r")]
    assert run.visited == ["sub", "sub#1/inner"]
    assert sorted(entry.node for entry in run.log) == ["sub", "sub#1/inner"]
    assert ("node_succeeded", "sub#1/inner") in [(event.type, event.node) for event in run.machine.history.events()]


async def test_its_failure_is_a_node_failed_caused_by_the_inner_run_failed() -> None:
    inner = graph({"bad": fails(ValueError("no"))}, name="inner")

    failure = await failure_of(graph({"sub": inner}))

    assert (failure.node, type(failure.cause)) == ("sub", RunFailed)
    assert [(f.node, str(f.cause)) for f in failure.cause.failures] == [("bad", "no")]  # type: ignore[attr-defined]


async def test_its_own_failure_policy_and_limits_hold_inside() -> None:
    times = Times()
    inner = graph(
        {"s": times.node("s"), "bad": fails(ValueError("no")), "slow": times.node("slow", 5)},
        "s -> bad, slow",
        name="inner",
        on_failure="continue",
    )
    made = graph({"sub": inner, "repair": same}).add_edge("sub", "repair", on_error=RunFailed)

    result = await result_of(made)

    assert (times.total, result.visited[-1]) == (5, "repair")


async def test_a_timeout_of_a_subgraph_cancels_what_is_inside() -> None:
    times = Times()
    inner = graph({"slow": times.node("slow", 50)}, name="inner")

    failure = await failure_of(graph({"sub": (inner, {"timeout": 1})}))

    assert (type(failure.cause), times.total) == (NodeTimeout, 1)


async def test_subgraphs_hold_no_worker_so_recursion_cannot_lock() -> None:
    deep = graph({"leaf": (sets(x=1), {"concurrency": 1})}, name="level0")
    for level in range(1, 20):
        deep = graph({"sub": deep}, name=f"level{level}")

    assert (await result_of(deep)).state == {"x": 1}


async def test_a_node_may_run_its_own_graph_but_not_without_end() -> None:
    async with Engine() as engine:

        async def again(state: dict[str, int]) -> dict[str, int]:
            if state["n"] == 0:
                return {}
            inner = await engine.run("again", {"n": state["n"] - 1})
            return {"deepest": inner.state.get("deepest", 0) + 1}

        engine.register(graph({"node": (again, {"concurrency": None})}, name="again"))

        assert (await engine.run("again", {"n": 10})).state["deepest"] == 10
        with failing() as failed:
            await engine.run("again", {"n": 1000})
        assert [failure.node for failure in failed] == ["node"]


# --- maps -----------------------------------------------------------------------------------------------


async def double(item: int) -> int:
    await anyio.sleep(1 / (1 + item))
    return 2 * item


def mapped(worker: Any, over: Any = "rows", name: str = "test", **options: Any) -> Any:
    made = graph({"s": same}, name=name)
    return made.add_map("map", worker, over=over, into="scores", **options).add_edge("s", "map")


async def test_results_come_in_the_order_of_the_items() -> None:
    assert (await result_of(mapped(double), {"rows": [3, 1, 2]})).state["scores"] == [6, 2, 4]


async def test_over_is_a_key_or_a_function_giving_an_iterable_or_an_async_iterable(store_under: str) -> None:
    async def rows(state: Any) -> AsyncIterator[int]:
        for number in range(5):
            await anyio.sleep(0.1)
            yield number

    async def later(state: Any) -> list[int]:
        return [*range(5)]

    for over in (rows, later, lambda state: range(5)):
        assert (await result_of(mapped(double, over))).state == {"scores": [0, 2, 4, 6, 8]}
    # A store refuses what is not plain data.
    in_memory = (rows(None), deque(range(5)), dict.fromkeys(range(5)).keys()) if store_under == "none" else ()
    for kept in (range(5), *in_memory):
        assert (await result_of(mapped(double), {"rows": kept})).state["scores"] == [0, 2, 4, 6, 8]


@pytest.mark.parametrize(
    ("items", "fault"),
    [
        ("abc", "a str, whose characters are hardly meant as items; give a list"),
        (b"abc", "a bytes, whose characters are hardly meant as items; give a list"),
        ({"a": 1}, "a dict, whose keys are hardly meant as items; give a list"),
        (None, "None, which has no items; give a list"),
        (5, "5 (int), which has no items; give a list"),
    ],
)
async def test_what_nobody_means_as_items_is_refused_under_a_key_and_from_a_function(items: Any, fault: str) -> None:
    async def later(state: Any) -> Any:
        return items

    kept = await failure_of(mapped(double), {"rows": items})
    given = [await failure_of(mapped(double, over)) for over in (lambda state: items, later)]

    assert str(kept.cause) == f"map 'map': key 'rows' holds {fault}, or over= a function of the state"
    assert {str(failure.cause) for failure in given} == {f"over= of map 'map' gave {fault}"}
    assert {type(failure.cause) for failure in (kept, *given)} == {StateInvalid}


@pytest.mark.only_on("none", reason="a store refuses a generator where it is submitted")
async def test_a_generator_under_a_key_that_was_read_from_is_not_taken_for_all_items_by_a_retry() -> None:
    async def rows() -> AsyncIterator[int]:
        for number in (1, 2, 3):
            yield number

    async with Engine() as engine:
        run = await engine.submit(mapped(bad, concurrency=1), {"rows": rows()})
        with failing():
            await run.result()
        await run.retry()
        with failing() as failed:
            await run.result()

    assert isinstance(failed[0].cause, StateInvalid)
    assert "from which an attempt before this one took 1 item; give a list" in str(failed[0].cause)


async def test_a_source_sees_the_context_variables_of_the_submitter() -> None:
    variable: ContextVar[str] = ContextVar("variable")

    def plain(state: Any) -> list[str]:
        return [variable.get()]

    async def generator(state: Any) -> AsyncIterator[str]:
        yield variable.get()

    async def work(item: str) -> str:
        return item

    async with Engine() as engine:
        for name, over in {"plain": plain, "generator": generator}.items():
            variable.set(name)
            run = await engine.submit(mapped(work, over, name=name))
            variable.set("another")
            assert (await run.result()).state["scores"] == [name]


@pytest.mark.parametrize(
    ("error", "said"),
    [
        (KeyError("x"), "KeyError: 'x', raised by over= of map 'map'"),
        (StopIteration(), "RuntimeError: over= of map 'map' raised StopIteration"),
    ],
)
async def test_an_error_of_a_source_says_where_it_came_from(error: Exception, said: str) -> None:
    def over(state: Any) -> Any:
        raise error

    assert said in str(await failure_of(mapped(double, over)))


async def test_a_source_that_raises_a_cancellation_by_itself_fails_the_map(anyio_backend_name: str) -> None:
    async def rows(state: Any) -> AsyncIterator[int]:
        yield 1
        raise asyncio.CancelledError if anyio_backend_name == "asyncio" else await stray()

    assert isinstance((await failure_of(mapped(double, rows))).cause, StrayCancellation)


@pytest.mark.parametrize("given", [False, True])
async def test_a_source_is_not_lost_with_the_tasks_of_its_graph(given: bool) -> None:
    begun = 0

    async def rows(state: Any) -> AsyncIterator[int]:
        nonlocal begun
        begun += 1
        if given:
            yield 1
        await anyio.sleep(1)
        yield 2

    async with Engine() as engine:
        run = await engine.submit(mapped(double, rows))
        await anyio.sleep(0.9)
        crash(engine)
        await run.wait()

    if given:
        (failure,) = run.machine.failures
        assert "cut over= of map 'map' short after 1 item" in str(failure.cause)
    else:
        assert (run.state["scores"], begun) == ([4], 2)


async def test_items_are_consumed_as_capacity_allows() -> None:
    taken, most, done = 0, 0, 0

    async def rows(state: Any) -> AsyncIterator[int]:
        nonlocal taken
        for number in range(20):
            taken += 1
            yield number

    async def work(item: int) -> int:
        nonlocal most, done
        most = max(most, taken - done)
        await anyio.sleep(1)
        done += 1
        return item

    result = await result_of(mapped(work, rows, concurrency=3))

    assert result.state["scores"] == [*range(20)]
    assert most <= 4


async def test_concurrency_bounds_the_items_at_work() -> None:
    times = Times()

    async def work(item: int) -> None:
        async with times.noted("work"):
            await anyio.sleep(1)

    await result_of(mapped(work, lambda state: range(9), concurrency=3))

    assert (times.most, times.total) == (3, 3)


async def test_a_worker_gets_the_item_the_state_and_the_context_if_it_asks() -> None:
    async def work(item: int, state: dict[str, Any], ctx: Context) -> Any:
        return (item, state["x"], ctx.node, ctx.activation)

    result = await result_of(mapped(work), {"rows": [7], "x": "state"})

    assert result.state["scores"] == [(7, "state", "map", 1)]


async def test_a_subgraph_worker_gets_the_item_as_its_state_or_in_a_key_and_gives_its_final_state() -> None:
    async def work(state: dict[str, int]) -> dict[str, int]:
        return {"y": state["x"] + 1}

    worker = graph({"work": work}, name="worker")

    assert (await result_of(mapped(worker), {"rows": [{"x": 1}]})).state["scores"] == [{"x": 1, "y": 2}]
    assert (await result_of(mapped(worker, item="x"), {"rows": [5]})).state["scores"] == [{"x": 5, "y": 6}]


async def test_items_flow_one_by_one_through_the_stages_of_a_worker() -> None:
    times = Times()

    def stage(name: str) -> Any:
        async def node(state: dict[str, int]) -> None:
            async with times.noted(f"{name}{state['n']}"):
                await anyio.sleep(state["n"])

        return node

    worker = graph({"one": stage("one"), "two": stage("two")}, "one -> two", name="worker")

    await result_of(mapped(worker, lambda state: [1, 10], item="n"))

    assert (times.start("two1"), times.end("one10"), times.total) == (1, 10, 20)


async def test_no_items_are_an_empty_list_at_once() -> None:
    assert (await result_of(mapped(double), {"rows": []})).state == {"rows": [], "scores": []}


async def test_retry_and_timeout_apply_to_each_item() -> None:
    tries: list[int] = []

    async def work(item: int) -> int:
        tries.append(item)
        if tries.count(item) < 3 and item == 1:
            raise OSError("again")
        if item == 2 and tries.count(item) < 2:
            await anyio.sleep(100)
        return item

    result = await result_of(mapped(work, timeout=1, retry=Retry(attempts=3)), {"rows": [1, 2, 3]})

    assert result.state["scores"] == [1, 2, 3]
    assert [tries.count(item) for item in (1, 2, 3)] == [3, 2, 1]


async def bad(item: int) -> int:
    if item % 2:
        await anyio.sleep(0.1 * item)
        raise ValueError(f"item {item}")
    await anyio.sleep(0.5)
    return item


async def test_a_failed_item_fails_the_map_and_cancels_the_others() -> None:
    run = await ended(mapped(bad), {"rows": [0, 3, 1, 2]})

    (failure,) = run.machine.failures
    assert (failure.node, str(failure.cause), failure.cause.__notes__) == ("map", "item 1", ["item 2 of map 'map'"])
    assert sorted(entry.status for entry in run.log if entry.node.startswith("map[")) == [*["cancelled"] * 3, "failed"]


async def test_skip_leaves_failed_items_out_and_keep_puts_an_item_error_in_their_place() -> None:
    rows = {"rows": [0, 3, 2]}

    skipped = await result_of(mapped(bad, on_item_error="skip"), rows)
    kept = await result_of(mapped(bad, on_item_error="keep"), rows)

    assert skipped.state["scores"] == [0, 2]
    assert kept.state["scores"] == [0, ItemError(1, "ValueError", "item 3"), 2]


async def test_the_item_error_of_a_worker_graph_tells_what_its_node_raised() -> None:
    async def raises(state: dict[str, Any]) -> None:
        raise LookupError(f"{state['row']} is gone")

    def twice(worker: Graph) -> Graph:
        return Graph("outer").add_node("inner", worker).set_entry_point("inner")

    one = Graph("one").add_node("raises", raises).set_entry_point("raises")
    several = Graph("several", on_failure="continue").add_node("a", raises).add_node("b", raises)
    several.set_entry_point("a", "b")
    errors = []
    for worker in (one, twice(one), several):
        made = Graph("test").add_map("map", worker, over="rows", into="scores", item="row", on_item_error="keep")
        errors += (await result_of(made.set_entry_point("map"), {"rows": [7]})).state["scores"]

    assert errors[:2] == [ItemError(0, "LookupError", "7 is gone")] * 2
    assert errors[2].type == "RunFailed"
    assert "a#1, b#1" in errors[2].message


async def test_a_source_that_raises_or_is_missing_fails_the_map() -> None:
    async def rows(state: Any) -> AsyncIterator[int]:
        yield 1
        raise KeyError("source")

    assert isinstance((await failure_of(mapped(double, rows))).cause, KeyError)
    assert isinstance((await failure_of(mapped(double))).cause, StateInvalid)


async def test_an_async_source_is_closed_when_its_map_is_cancelled() -> None:
    closed = []

    async def rows(state: Any) -> AsyncIterator[int]:
        try:
            while True:
                yield 1
                await anyio.sleep(1)
        finally:
            closed.append(True)

    async with Engine() as engine:
        run = await engine.submit(mapped(double, rows, concurrency=2))
        await anyio.sleep(5)
        await run.cancel()
        await run.wait()
        await anyio.sleep(1)

        assert closed == [True]


async def test_a_map_is_a_node_like_any_other_with_a_join_and_an_error_edge() -> None:
    made = graph({"s": same, "a": sleeps(1, rows=[1]), "b": sleeps(2, x=1), "repair": sets(repaired=True)}, "s -> a, b")
    made.add_map("map", bad, over="rows", into="scores").add_edge(["a", "b"], "map")
    made.add_edge("map", "repair", on_error=ValueError)

    assert (await result_of(made)).state == {"rows": [1], "x": 1, "repaired": True}


async def test_ten_thousand_items_keep_no_task_each() -> None:
    most = 0

    async def work(item: int) -> int:
        nonlocal most
        from actors.testing import tasks_left

        if item % 1000 == 0:
            most = max(most, len(tasks_left()))
        return item

    result = await result_of(mapped(work, lambda state: range(10_000)))

    assert result.state["scores"] == [*range(10_000)]
    assert most < 100
