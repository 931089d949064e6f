"""SEMANTICS section 2 through the engine: no barrier, one end whatever the timing, nothing lost, nothing left."""

from __future__ import annotations

import functools
import operator
from typing import Annotated, Any, TypedDict

import anyio
import pytest

from actors.testing import BACKENDS, run, tasks_left
from engine import Context, Engine, Graph, Reduce, Retry
from tests.semantics.engine_cases import (
    Times,
    ended,
    failing,
    fails,
    forever,
    graph,
    result_of,
    same,
    sets,
    sleeps,
    types,
)

# --- 1: no barrier --------------------------------------------------------------------------------------


def three_branches(times: Times) -> Graph:
    """Branches of 10, 10, 10 ms, of 100, 10, 10 ms and of 10, 10, 100 ms: with a barrier after each step 210 ms."""
    branches = {"a": (10, 10, 10), "b": (100, 10, 10), "c": (10, 10, 100)}
    nodes: dict[str, Any] = {"start": times.node("start")}
    edges = []
    for branch, lengths in branches.items():
        names = [f"{branch}{number}" for number in range(3)]
        nodes |= {name: times.node(name, ms / 1000) for name, ms in zip(names, lengths, strict=True)}
        edges.append(" -> ".join(["start", *names, "join"]))
    return graph({**nodes, "join": times.node("join")}, *edges)


async def test_three_branches_end_at_the_critical_path_and_not_at_the_sum_of_the_slowest_steps() -> None:
    times = Times()

    await result_of(three_branches(times))

    assert times.total == pytest.approx(0.120, rel=0.1)
    assert times.start("join") == pytest.approx(0.120, rel=0.001)


async def test_a_node_starts_as_soon_as_its_own_input_is_there() -> None:
    times = Times()
    nodes = {
        "start": times.node("start"),
        "quick": times.node("quick", 0.050),
        "next": times.node("next"),
        "slow": times.node("slow", 0.500),
    }

    await result_of(graph(nodes, "start -> quick -> next", "start -> slow"))

    assert 0.050 <= times.start("next") <= 0.060
    assert times.end("slow") == pytest.approx(0.500, rel=0.01)


async def test_a_join_is_not_delayed_by_an_unrelated_chain() -> None:
    times = Times()
    nodes = {name: times.node(name, seconds) for name, seconds in [("start", 0), ("a", 0.01), ("b", 0.02), ("j", 0)]}
    chain = {f"c{number}": times.node(f"c{number}", 0.1) for number in range(5)}

    await result_of(graph({**nodes, **chain}, "start -> a, b -> j", "start -> " + " -> ".join(chain)))

    assert times.start("j") == pytest.approx(0.02, rel=0.01)
    assert times.total == pytest.approx(0.5, rel=0.01)


async def test_a_slow_run_does_not_delay_another_of_the_same_graph() -> None:
    times = Times()

    async def work(state: dict[str, float]) -> None:
        async with times.noted(f"{state['seconds']}"):
            await anyio.sleep(state["seconds"])

    async with Engine() as engine:
        made = graph({"work": work, "after": same}, "work -> after")
        slow = await engine.submit(made, {"seconds": 5})
        quick = await engine.submit(made, {"seconds": 0.01})
        await quick.result()

        assert (times.end("0.01"), slow.status) == (0.01, "running")


# --- 2: deterministic without a barrier -----------------------------------------------------------------


class Notes(TypedDict):
    notes: Annotated[list[str], Reduce(operator.add)]


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("workers", [None, 1, 2])
def test_the_final_state_does_not_depend_on_timing_backend_or_workers(backend: Any, workers: int | None) -> None:
    def note(name: str) -> Any:
        async def node(state: Notes, ctx: Context) -> dict[str, list[str]]:
            await anyio.sleep(hash((name, ctx.activation, seed)) % 7 / 1000)
            return {"notes": [f"{name}{ctx.activation}"]}

        return (node, {"concurrency": workers})

    made = graph(
        {name: note(name) for name in ("start", "a", "b", "c", "join", "end")}, "start -> a, b, c -> join", state=Notes
    )
    made.add_edge("join", "start", when=lambda s: len(s["notes"]) < 15, max_iterations=9)
    made.add_edge("join", "end", otherwise=True)

    found = set()
    for seed in range(5):
        result = run(functools.partial(result_of, made, {"notes": []}), backend=backend, seed=seed, virtual_time=True)
        found.add((*result.state["notes"], *sorted(result.visited)))

    rounds = [f"{name}{n}" for n in (1, 2, 3) for name in ("start", "a", "b", "c", "join")]
    assert found == {(*rounds, "end1", *sorted([*"abc" * 3, *["start", "join"] * 3, "end"]))}


# --- 3: exactly-once effect on state --------------------------------------------------------------------


async def test_however_often_a_node_is_tried_its_update_is_applied_once_and_its_token_stays() -> None:
    tokens = []

    async def node(state: dict[str, int], ctx: Context) -> dict[str, int]:
        tokens.append((ctx.token, ctx.attempt))
        state["count"] += 1
        if ctx.attempt < 3:
            raise OSError("again")
        return {}

    result = await result_of(graph({"node": (node, {"retry": Retry(attempts=3)})}), {"count": 0}, run_id="r")

    assert result.state == {"count": 1}
    assert tokens == [("r/node#1", 1), ("r/node#1", 2), ("r/node#1", 3)]


# --- 4: nothing is lost silently ------------------------------------------------------------------------


async def test_every_activation_leaves_a_start_an_end_and_its_edge_on_record() -> None:
    run = await ended(graph({"a": same, "b": same, "c": same, "d": same}, "a -> b, c -> d"))

    events = [(event.type, event.node) for event in run.machine.history.events()]
    for node in "abcd":
        assert events.count(("node_started", node)) == events.count(("node_succeeded", node)) == 1
    assert events.count(("edge_taken", "a")) == 2
    assert sorted(entry.node for entry in run.log) == [*"abcd"]


async def test_a_token_that_a_join_absorbs_is_on_record() -> None:
    made = graph({"a": same, "b": same, "c": sleeps(1), "j": (same, {"join": "first"})}, "a -> b, c -> j")

    run = await ended(made)

    assert types(run).count("token_absorbed") == 1


# --- 5: nothing outlives its owner ----------------------------------------------------------------------


def cleaning(done: list[str], seconds: float = 0.5) -> Any:
    async def node(state: Any) -> None:
        try:
            await anyio.sleep_forever()
        finally:
            with anyio.CancelScope(shield=True):
                await anyio.sleep(seconds)
            done.append("clean")

    return node


async def test_after_a_failure_no_task_is_left_and_clean_up_was_waited_for() -> None:
    done: list[str] = []
    made = graph({"start": same, "bad": fails(ValueError("no"), 0.1), "good": cleaning(done)}, "start -> bad, good")

    async with Engine() as engine:
        run = await engine.submit(made)
        with failing():
            await run.result()
        assert done == ["clean"]
        assert not any("start" in name or "good" in name for name in busy(engine))


async def test_after_a_cancel_no_task_is_left() -> None:
    done: list[str] = []
    async with Engine() as engine:
        run = await engine.submit(graph({"a": same, "b": cleaning(done), "c": cleaning(done)}, "a -> b, c"))
        await anyio.sleep(1)
        await run.cancel()
        assert await run.wait() == "cancelled"
        assert (done, busy(engine)) == (["clean", "clean"], [])


async def test_after_a_timeout_of_the_run_no_task_is_left() -> None:
    done: list[str] = []
    async with Engine() as engine:
        run = await engine.submit(graph({"a": same, "b": cleaning(done)}, "a -> b"), deadline=1)
        assert await run.wait() == "failed"
        assert (done, busy(engine)) == (["clean"], [])


async def test_after_a_timeout_of_a_node_its_attempt_is_gone_before_the_next_begins() -> None:
    times = Times()

    async def slow(state: Any) -> None:
        async with times.noted("slow"):
            try:
                await anyio.sleep_forever()
            finally:
                with anyio.CancelScope(shield=True):
                    await anyio.sleep(0.5)

    run = await ended(graph({"slow": (slow, {"timeout": 1, "retry": Retry(attempts=2, delay=0)})}))

    assert (run.status, times.most, times.starts["slow"]) == ("failed", 1, [0, 1.5])


async def test_stop_cancels_the_rest_and_leaves_no_task() -> None:
    made = graph({"a": same, "b": sets(x=1), "c": forever}, "a -> b, c", "b -> STOP")

    result = await result_of(made)

    assert result.state == {"x": 1}


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("end", ["succeeded", "failed", "cancelled", "timed out", "stopped", "left by an exception"])
def test_however_a_run_ends_no_task_is_left_of_the_engine(end: str, backend: Any, store_under: str) -> None:
    nodes = {"a": same, "b": sleeps(2) if end == "succeeded" else forever, "c": sleeps(1)}
    if end == "failed":
        nodes["c"] = fails(ValueError("no"), 1)

    async def main() -> list[str]:
        try:
            async with Engine() as engine:
                made = graph(nodes, "a -> b, c", "c -> STOP" if end == "stopped" else "c -> END")
                run = await engine.submit(made, deadline=1 if end == "timed out" else None)
                await anyio.sleep(0.5)
                if end == "cancelled":
                    await run.cancel()
                if end == "left by an exception":
                    raise KeyError("out")
                await run.wait()
        except KeyError:
            # With a store it is not over: it goes on at the next start.
            assert run.status == ("cancelled" if store_under == "none" else "running")
        else:
            assert run.status == {"timed out": "failed", "stopped": "succeeded"}.get(end, end)
        return tasks_left()

    assert run(main, backend=backend, virtual_time=True) == []


def busy(engine: Engine) -> list[str]:
    """The activations that some worker of the engine has in hand."""
    crews = [crew for known in engine._registry.all() for crew in known.scheduler.crews.values()]
    return [activation.id for crew in crews for activation in [*crew.busy, *crew.ready]]
