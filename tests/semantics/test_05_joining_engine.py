"""SEMANTICS section 5 through the engine: when a join runs, with what, and how often."""

from __future__ import annotations

import operator
from typing import Any

import anyio
import pytest

from engine import Context, Engine, Goto, GraphInvalid, JoinStarved, NodeFailed
from tests.semantics.engine_cases import Times, ended, fails, failure_of, forever, graph, result_of, same, sets, sleeps

ADD = {"notes": operator.add}


def note(name: str, seconds: float = 0.0) -> Any:
    return sleeps(seconds, notes=[name])


# --- all ------------------------------------------------------------------------------------------------


async def test_branches_of_different_length_join_once() -> None:
    for quick, slow in [(0.0, 0.5), (0.5, 0.0)]:
        nodes = {"s": same, "a": note("a", quick), "b1": note("b1", slow), "b2": note("b2", slow), "j": note("j")}

        result = await result_of(graph(nodes, "s -> a -> j", "s -> b1 -> b2 -> j", reducers=ADD))

        assert result.visited.count("j") == 1
        assert result.state["notes"] == ["a", "b1", "b2", "j"]


async def test_a_branch_that_took_another_way_does_not_block_the_join() -> None:
    times = Times()
    nodes = {"s": times.node("s"), "a": times.node("a", 0.1), "b": times.node("b"), "e": times.node("e", 5)}
    made = graph({**nodes, "j": times.node("j")}, "s -> a, b", "a -> j")
    made.add_edge("b", "j", when=lambda s: False).add_edge("b", "e", otherwise=True)

    await result_of(made)

    assert times.start("j") == 0.1


async def test_a_branch_that_took_another_way_does_not_fire_the_join_twice_if_it_comes_back() -> None:
    nodes = {"s": same, "a": note("a"), "b": note("b", 0.1), "e": note("e", 0.2), "j": note("j")}
    made = graph(nodes, "s -> a, b", "a -> j", "e -> j", reducers=ADD)
    made.add_edge("b", "j", when=lambda s: False).add_edge("b", "e", otherwise=True)

    assert (await result_of(made)).state["notes"] == ["a", "b", "e", "j"]


async def test_an_if_else_that_meets_again_does_not_wait_for_the_side_not_taken() -> None:
    made = graph({"s": same, "a": sets(x="a"), "b": sets(x="b"), "j": same}, "a, b -> j")
    made.add_edge("s", "a", when=lambda s: s["yes"]).add_edge("s", "b", otherwise=True)

    for yes in (True, False):
        result = await result_of(made, {"yes": yes})
        assert result.visited == ("s", "a" if yes else "b", "j")


async def test_a_branch_that_loops_is_waited_for_until_it_leaves_its_loop() -> None:
    async def count(state: dict[str, int]) -> dict[str, int]:
        await anyio.sleep(0.1)
        return {"n": state["n"] + 1}

    made = graph({"s": same, "a": sets(quick=True), "loop": count, "j": same}, "s -> a, loop", "a -> j")
    made.add_edge("loop", "loop", when=lambda s: s["n"] < 5, max_iterations=9).add_edge("loop", "j", otherwise=True)

    result = await result_of(made, {"n": 0})

    assert (result.visited.count("j"), result.state) == (1, {"n": 5, "quick": True})


async def test_an_unrelated_branch_is_never_waited_for() -> None:
    times = Times()
    nodes = {name: times.node(name, seconds) for name, seconds in [("s", 0), ("a", 0.1), ("b", 0.2), ("j", 0)]}
    chain = {f"u{n}": times.node(f"u{n}", 5) for n in range(3)}

    await result_of(graph({**nodes, **chain}, "s -> a, b -> j", "s -> u0 -> u1 -> u2"))

    assert times.start("j") == 0.2


async def test_the_head_of_a_loop_does_not_wait_for_its_own_back_edge() -> None:
    made = graph({"s": same, "head": note("h"), "body": note("b", 0.1), "end": same}, "s -> head -> body", reducers=ADD)
    made.add_edge("body", "head", when=lambda s: True, max_iterations=2).add_edge("body", "end", otherwise=True)

    assert (await result_of(made)).state["notes"] == [*"hbhbhb"]


async def test_iterations_never_mix_where_a_loop_passes_through_the_join() -> None:
    def tagged(name: str, seconds: float) -> Any:
        async def node(state: dict[str, Any], ctx: Context) -> dict[str, Any]:
            await anyio.sleep(seconds * (4 - ctx.iteration))
            return {name: ctx.iteration}

        return node

    pairs = []

    async def join(state: dict[str, Any], ctx: Context) -> None:
        pairs.append((ctx.iteration, state["a"], state["b"]))

    for quick, slow in [(0.0, 0.5), (0.5, 0.0)]:
        pairs.clear()
        made = graph({"s": same, "a": tagged("a", quick), "b": tagged("b", slow), "j": join}, "s -> a, b -> j")
        made.add_edge("j", "s", when=lambda s: True, max_iterations=3).add_edge("j", "END", otherwise=True)

        await result_of(made)

        assert pairs == [(1, 1, 1), (2, 2, 2), (3, 3, 3), (4, 4, 4)]


async def test_a_join_that_a_loop_only_feeds_pairs_tokens_by_edge_and_order_and_compiling_warns() -> None:
    def tag(name: str) -> Any:
        async def node(state: Any, ctx: Context) -> dict[str, Any]:
            await anyio.sleep(0.3 if name == "b" else 0)
            return {name: ctx.activation}

        return node

    pairs = []

    async def join(state: dict[str, Any]) -> None:
        pairs.append((state["b"], state.get("c")))

    made = graph({"a": same, "b": tag("b"), "c": tag("c"), "j": join, "e": same}, "a -> b, c", "b -> j")
    made.add_edge("c", "j", when=lambda s: s["c"] != 1).add_edge("c", "e", otherwise=True)
    made.add_edge("a", "a", max_iterations=1)

    await ended(made)

    # The `c` of round 1 went elsewhere, so `b` of round 1 meets `c` of round 2.
    assert sorted(pairs, key=str) == [(1, 2), (2, None)]
    assert "loop_feeds_join" in [problem.code for problem in made.validate()]


async def test_activations_settle_in_their_order_and_not_in_that_of_completion() -> None:
    seen = []

    async def work(state: dict[str, Any], ctx: Context) -> dict[str, int]:
        await anyio.sleep(1.0 / ctx.activation)
        return {"n": ctx.activation}

    async def after(state: dict[str, Any], ctx: Context) -> None:
        seen.append((ctx.activation, state["n"]))

    nodes = {"s": same, "x": same, "y": same, "z": same, "work": (work, {"join": "any"}), "after": after}

    await ended(graph(nodes, "s -> x, y, z -> work -> after", conflicts="last"))

    assert sorted(seen) == [(1, 1), (2, 2), (3, 3)]


async def test_a_running_join_counts_as_being_at_its_successors() -> None:
    async def a(state: dict[str, int]) -> dict[str, int]:
        await anyio.sleep(0.1)
        return {"i": state["i"] + 1}

    seen = []

    async def join(state: dict[str, int], ctx: Context) -> None:
        seen.append([arrival.source for arrival in ctx.arrivals if arrival.status == "arrived"])
        await anyio.sleep(1)

    made = graph({"a": a, "b": same, "j": join}, "a -> j", "b -> j")
    made.add_edge("a", "a", when=lambda s: s["i"] < 2, max_iterations=5)
    made.add_edge("j", "b", when=lambda s: True, max_iterations=1).add_edge("j", "END", otherwise=True)

    await ended(made, {"i": 0})

    # The second token of `a` waits while `j#1` runs, which may still lead to `b`, and so it meets that.
    assert seen == [["a"], ["a", "b"]]


async def test_a_failure_that_ends_the_run_does_not_wait_for_its_turn() -> None:
    async def work(state: dict[str, Any], ctx: Context) -> None:
        if ctx.activation == 2:
            raise ValueError("no")
        await anyio.sleep(100)

    times = Times()
    async with Engine() as engine:
        made = graph({"s": same, "x": same, "y": same, "work": (work, {"join": "any"})}, "s -> x, y -> work")
        times.now()
        run = await engine.submit(made)
        await run.wait()

    assert (run.status, times.now()) == ("failed", 0)


async def test_joins_that_wait_only_for_one_another_go_in_the_order_of_their_declaration() -> None:
    # Each of p and q has an edge from outside and one from the other, and both hold a token.
    nodes = {"s": same, "p": note("p"), "q": note("q")}
    made = graph(nodes, "s -> p, q", reducers=ADD)
    made.add_edge("p", "q", max_iterations=1).add_edge("q", "p", max_iterations=1)
    made.add_edge(["p", "q"], "END", otherwise=True)

    first = await result_of(made)
    assert first.visited[:2] == ("s", "p")
    assert (await result_of(made)).state == first.state


async def test_an_entry_point_is_an_incoming_edge_too() -> None:
    nodes = {"a": (sleeps(0.5, x=1), {}), "j": sets(y=1)}

    result = await result_of(graph(nodes, "a -> j", entries=["a", "j"]))

    assert (result.visited, result.state) == (("a", "j"), {"x": 1, "y": 1})


async def test_error_choice_and_goto_edges_are_incoming_edges_like_any_other() -> None:
    async def jump(state: Any) -> Goto:
        await anyio.sleep(0.3)
        return Goto("j", {"c": 1})

    nodes = {"s": same, "a": fails(ValueError("no"), 0.1), "b": sleeps(0.2, b=1), "c": (jump, {"goto": ["j"]})}
    made = graph({**nodes, "j": same}, "s -> a, b, c").add_edge("a", "j", on_error=ValueError)
    made.add_choice("b", lambda s: "j", ["j"])

    result = await result_of(made)

    assert (result.visited.count("j"), result.state) == (1, {"b": 1, "c": 1})


# --- any, first, k --------------------------------------------------------------------------------------


async def test_any_runs_once_for_each_token_that_arrives() -> None:
    nodes = {"s": same, "a": note("a", 0.1), "b": note("b", 0.2), "j": (note("j"), {"join": "any"})}

    result = await result_of(graph(nodes, "s -> a, b -> j", reducers=ADD))

    assert result.visited == ("s", "a", "b", "j", "j")
    assert result.state["notes"] == ["a", "j", "b", "j"]


async def test_first_runs_at_the_first_arrival_and_the_rest_is_absorbed() -> None:
    times = Times()
    nodes = {name: times.node(name, seconds) for name, seconds in [("s", 0), ("a", 0.3), ("b", 0.1)]}
    made = graph({**nodes, "j": (times.node("j"), {"join": "first"})}, "s -> a, b -> j")

    result = await result_of(made)

    assert (times.start("j"), times.end("a"), result.status) == (0.1, 0.3, "succeeded")


async def test_k_runs_at_the_kth_arrival_with_those_merged_in_the_order_of_the_edges() -> None:
    nodes = {"s": same, "a": note("a", 0.3), "b": note("b", 0.9), "c": note("c", 0.1), "j": (note("j"), {"join": 2})}
    times = Times()
    times.now()

    result = await result_of(graph(nodes, "s -> a, b, c -> j", reducers=ADD))

    assert (result.state["notes"], times.now()) == (["a", "c", "j"], 0.9)


async def test_rest_cancel_cancels_what_can_do_nothing_but_arrive_too_late() -> None:
    times = Times()
    nodes = {"s": times.node("s"), "a": times.node("a", 0.1), "b": forever, "c": times.node("c", 1), "d": same}
    join = (times.node("j"), {"join": "first", "rest": "cancel"})

    async with Engine() as engine:
        run = await engine.submit(graph({**nodes, "j": join}, "s -> a, b, c -> j", "c -> d"))
        assert await run.wait() == "succeeded"

    statuses = {entry.node: entry.status for entry in run.log}
    assert (statuses["b"], statuses["c"], times.total) == ("cancelled", "succeeded", 1)
    assert times.start("j") == 0.1


async def test_a_wave_that_can_get_no_more_is_join_starved_naming_the_edges() -> None:
    made = graph({"s": same, "a": same, "b": same, "e": same, "j": (same, {"join": 2})}, "s -> a, b", "a -> j")
    made.add_edge("b", "j", when=lambda s: False).add_edge("b", "e", otherwise=True)

    failure = await failure_of(made)

    assert isinstance(failure, NodeFailed)
    assert isinstance(failure.cause, JoinStarved)
    assert (failure.node, failure.cause.arrived, failure.cause.missing) == ("j", ("a",), ("b",))


async def test_a_second_arrival_on_an_edge_belongs_to_the_next_wave() -> None:
    async def twice(state: Any, ctx: Context) -> None:
        await anyio.sleep(0.1 * ctx.activation)

    nodes = {"s": same, "x": same, "y": same, "a": (twice, {"join": "any"}), "b": note("b", 0.15)}
    made = graph({**nodes, "j": (note("j"), {"join": 2})}, "s -> x, y -> a -> j", "s -> b -> j", reducers=ADD)

    run = await ended(made)

    assert [f.cause.__class__ for f in run.machine.failures] == [JoinStarved]
    assert run.machine.failures[0].activation == 2


async def test_a_k_greater_than_the_number_of_edges_is_refused() -> None:
    async with Engine() as engine:
        with pytest.raises(GraphInvalid) as refused:
            await engine.submit(graph({"s": same, "a": same, "j": (same, {"join": 3})}, "s -> a -> j", "s -> j"))

    assert [problem.code for problem in refused.value.problems] == ["bad_join"]


# --- what a join sees -----------------------------------------------------------------------------------


async def test_arrivals_tell_of_each_incoming_edge_whether_it_arrived_was_skipped_or_failed() -> None:
    seen: list[Any] = []

    async def join(state: Any, ctx: Context) -> None:
        seen.extend((arrival.source, arrival.status, arrival.activation) for arrival in ctx.arrivals)

    nodes = {"s": same, "a": sleeps(1), "b": same, "c": fails(ValueError("no")), "e": same}
    made = graph({**nodes, "j": (join, {"join": "first"})}, "s -> a, b, c", on_failure="continue")
    made.add_edge(["a", "b", "c"], "j", when=lambda s: not s.get("b"))
    made.add_edge("b", "e", when=lambda s: True)
    made = graph(
        {**nodes, "a": sleeps(1), "j": (join, {"join": 1})}, "s -> a, b, c", "a, c -> j", on_failure="continue"
    )
    made.add_edge("b", "j", when=lambda s: False).add_edge("b", "e", otherwise=True)

    await ended(made)

    assert seen == [("a", "arrived", 1), ("c", "failed", None), ("b", "skipped", None)]


async def test_not_run_lists_the_nodes_that_never_ran() -> None:
    made = graph({"a": same, "b": same, "c": same}, "b -> c").add_edge("a", "b", when=lambda s: False)
    made.add_edge("a", "END", otherwise=True)

    assert (await result_of(made)).not_run == ("b", "c")
