"""SEMANTICS section 6 through the engine: loops, their counts and limits."""

from __future__ import annotations

import gc
import tracemalloc
from typing import Any

import anyio
import pytest

from engine import ActivationLimit, Context, Engine, Goto, Graph, GraphInvalid, LoopLimit
from tests.semantics.engine_cases import ended, fails, failure_of, graph, result_of, same, types


async def count(state: dict[str, int]) -> dict[str, int]:
    return {"n": state.get("n", 0) + 1}


def loop(limit: int | None, **options: Any) -> Graph:
    """`head -> body -> head`, left only at the limit."""
    made = graph({"head": same, "body": count, "end": same}, "head -> body")
    made.add_edge("body", "head", when=lambda s: True, max_iterations=limit, **options)
    return made.add_edge("body", "end", otherwise=True)


@pytest.mark.parametrize("limit", [1, 2, 7])
async def test_a_limit_of_n_lets_exactly_n_through_so_a_body_runs_n_plus_one_times(limit: int) -> None:
    run = await ended(loop(limit))

    assert (run.status, run.state) == ("succeeded", {"n": limit + 1})
    assert [e.data["target"] for e in run.machine.history.events() if e.type == "edge_taken"].count("head") == limit
    assert types(run).count("loop_limit") == run.counters["loop_limits"] == 1


@pytest.mark.parametrize("length", [3, 50])
async def test_a_chain_of_n_nodes_is_no_loop(length: int) -> None:
    names = [f"n{number}" for number in range(length)]

    result = await result_of(graph(dict.fromkeys(names, count), " -> ".join(names), max_iterations=1))

    assert (result.state, result.counters["loop_limits"]) == ({"n": length}, 0)


async def test_on_limit_fail_is_loop_limit_with_node_edge_and_count() -> None:
    failure = await failure_of(loop(2, on_limit="fail"))

    assert isinstance(failure.cause, LoopLimit)
    assert (failure.node, failure.activation, failure.cause.node, failure.cause.count) == ("body", 3, "body", 2)
    assert "body" in failure.cause.edge
    assert "head" in failure.cause.edge


async def test_a_cycle_without_a_limit_gets_the_graphs_and_hitting_it_fails() -> None:
    made = graph({"a": count, "b": same}, "a -> b -> a", max_iterations=5).add_edge("b", "END", when=lambda s: False)

    run = await ended(made)

    assert (run.status, type(run.machine.failures[0].cause)) == ("failed", LoopLimit)
    assert run.state == {"n": 6}


async def test_a_limit_on_an_edge_that_closes_no_cycle_is_a_problem() -> None:
    async with Engine() as engine:
        with pytest.raises(GraphInvalid) as refused:
            await engine.submit(graph({"a": same, "b": same}).add_edge("a", "b", max_iterations=3))

    assert [problem.code for problem in refused.value.problems] == ["limit_outside_loop"]


async def test_an_inner_loop_counts_anew_each_time_it_is_entered() -> None:
    made = graph({"outer": same, "inner": count, "tail": same}, "outer -> inner")
    made.add_edge("inner", "inner", when=lambda s: True, max_iterations=2).add_edge("inner", "tail", otherwise=True)
    made.add_edge("tail", "outer", when=lambda s: True, max_iterations=3).add_edge("tail", "END", otherwise=True)

    assert (await result_of(made)).state == {"n": 3 * 4}


async def test_counts_are_copied_at_a_fork_and_a_join_takes_the_largest() -> None:
    seen = []

    async def look(state: Any, ctx: Context) -> None:
        seen.append(ctx.iteration)

    made = graph({"s": same, "a": same, "b": same, "j": look}, "s -> a, b -> j")
    made.add_edge("j", "s", when=lambda s: True, max_iterations=2).add_edge("j", "END", otherwise=True)

    await result_of(made)

    assert seen == [1, 2, 3]


async def test_a_goto_at_its_limit_is_loop_limit() -> None:
    async def jump(state: Any) -> Goto:
        return Goto("a")

    made = graph({"a": same, "b": (jump, {"goto": ["a"]})}, "a -> b", max_iterations=2)

    assert isinstance((await failure_of(made)).cause, LoopLimit)


async def test_an_error_edge_at_its_limit_is_as_if_it_were_not_there() -> None:
    error = ValueError("always")
    made = graph({"a": fails(error), "b": count}, "b -> a").add_edge("a", "b", on_error=ValueError, max_iterations=2)

    run = await ended(made)

    assert (run.status, run.machine.failures[0].cause, run.state) == ("failed", error, {"n": 2})


@pytest.mark.parametrize("on_failure", ["cancel", "continue"])
async def test_max_activations_bounds_the_run_as_a_whole(on_failure: Any) -> None:
    made = graph({"a": count, "b": same}, "a -> b -> a", max_activations=7, on_failure=on_failure)
    made.add_edge("b", "END", when=lambda s: False)

    run = await ended(made)

    assert [type(failure.cause) for failure in run.machine.failures] == [ActivationLimit]
    assert run.counters["activations"] == 7


async def test_a_loop_leaves_room_for_others_though_no_node_of_it_ever_waits() -> None:
    ticks = 0

    async def tick() -> None:
        nonlocal ticks
        while True:
            ticks += 1
            await anyio.lowlevel.checkpoint()

    async with Engine() as engine, anyio.create_task_group() as group:
        group.start_soon(tick)
        result = await engine.run(loop(2_000))
        group.cancel_scope.cancel()

    assert result.state == {"n": 2_001}
    assert ticks > 10


async def test_many_iterations_cost_constant_memory(store_under: str) -> None:
    taken = {}

    def body(state: dict[str, int]) -> dict[str, int]:
        number = state["n"] + 1
        if number in (1_000, 3_000):
            gc.collect()
            taken[number] = tracemalloc.get_traced_memory()[0]
        return {"n": number}

    nodes = {"head": (lambda state: None, {"run_in": "loop"}), "body": (body, {"run_in": "loop"})}
    made = graph(nodes, "head -> body", history=100).add_edge("body", "END", otherwise=True)
    made.add_edge("body", "head", when=lambda s: s["n"] < 3_001, max_iterations=10_000)
    tracemalloc.start()
    try:
        await result_of(made, {"n": 0})
    finally:
        tracemalloc.stop()

    # A store in memory keeps the records since the last snapshot, up to a thousand.
    assert taken[3_000] - taken[1_000] < (20_000 if store_under == "none" else 400_000)
