"""SEMANTICS section 11 through the engine: what is admitted, what waits, and where."""

from __future__ import annotations

import gc
from contextvars import ContextVar
from typing import Any

import anyio
import anyio.lowlevel
import pytest

from engine import Batch, Cache, Engine, EngineBusy, EngineError, GraphInvalid, IdempotencyConflict, Retry, StateInvalid
from engine.registry import Registered
from tests.semantics.engine_cases import Times, ended, fails, forever, graph, same, sets, sleeps

# --- runs -----------------------------------------------------------------------------------------------


async def test_max_runs_bounds_the_runs_that_run_and_more_wait_in_the_queue() -> None:
    times = Times()
    async with Engine(max_runs=2) as engine:
        made = graph({"a": times.node("a", 1)})
        runs = [await engine.submit(made) for _ in range(5)]
        assert [run.status for run in runs] == ["running"] * 2 + ["queued"] * 3
        statistics = engine.statistics()
        assert (statistics.running, statistics.queued, statistics.submitted) == (2, 3, 5)
        for run in runs:
            await run.result()

    assert (times.most, sorted(times.starts["a"])) == (2, [0, 0, 1, 1, 2])


def nesting(engine: Engine, inner: Any, how: str) -> Any:
    """A graph whose node runs another and waits for it, in one way or another."""

    async def node(state: dict[str, Any]) -> dict[str, Any]:
        run = await engine.submit(inner, {"n": state["n"] + 1})
        if how == "result":
            await run.result()
        elif how == "events":
            assert [event async for event in run.events()][-1].type == "run_succeeded"
        else:
            async with anyio.create_task_group() as group:
                group.start_soon(run.wait)
        return {"n": run.state["n"]}

    return graph({"node": node}, name=f"over {inner.name}")


@pytest.mark.parametrize("how", ["result", "events", "a task of the node's"])
async def test_a_run_that_a_node_waits_for_begins_beyond_the_places_however_deep(how: str) -> None:
    async with Engine(max_runs=1) as engine:
        made = graph({"a": sleeps(1)}, name="a")
        for _ in range(3):
            made = nesting(engine, made, how)
        runs = [await engine.submit(made, {"n": 0}) for _ in range(3)]
        await anyio.sleep(0.5)
        assert (engine.statistics().running, engine.statistics().queued) == (4, 2)
        assert [(await run.result()).state for run in runs] == [{"n": 3}] * 3
        assert (engine.statistics().running, engine.statistics().queued) == (0, 0)


async def test_a_run_that_a_node_submits_and_does_not_wait_for_is_queued() -> None:
    async with Engine(max_runs=1) as engine:
        child = graph({"a": same}, name="child")

        async def node(state: Any) -> None:
            for _ in range(5):
                await engine.submit(child)
            await anyio.sleep(1)
            assert (engine.statistics().running, engine.statistics().queued) == (1, 5)

        await engine.run(graph({"node": node}))

        assert await engine.drain(5) == []


async def test_a_node_may_wait_for_a_run_of_somebody_else_that_is_queued_behind_its_own() -> None:
    async with Engine(max_runs=1) as engine:

        async def node(state: Any) -> None:
            await anyio.sleep(1)
            await (await engine.get("queued")).result()

        run = await engine.submit(graph({"node": node}))
        await engine.submit(graph({"a": same}, name="other"), run_id="queued")
        await run.result()


async def test_a_full_queue_refuses_with_engine_busy_before_anything_is_accepted() -> None:
    async with Engine(max_runs=1, max_queued=1) as engine:
        made = graph({"a": sleeps(1)})
        accepted = [await engine.submit(made) for _ in range(2)]
        for _ in range(3):
            with pytest.raises(EngineBusy) as busy:
                await engine.submit(made, run_id="refused", idempotency_key="refused")
        assert busy.value.retry_after > 0
        assert [run.id for run in await engine.runs()] == [run.id for run in accepted]
        assert (engine.statistics().refused, engine.statistics().submitted) == (3, 2)
        await accepted[1].result()
        assert await (await engine.submit(made, run_id="refused", idempotency_key="refused")).wait() == "succeeded"


async def test_many_submitters_at_once_never_overfill_the_engine() -> None:
    accepted, refused = [], 0
    async with Engine(max_runs=2, max_queued=3) as engine:
        made = graph({"a": sleeps(1)})

        async def submit() -> None:
            nonlocal refused
            try:
                accepted.append(await engine.submit(made))
            except EngineBusy:
                refused += 1

        async with anyio.create_task_group() as group:
            for _ in range(20):
                group.start_soon(submit)
        statistics = engine.statistics()

    assert (statistics.running, statistics.queued, len(accepted), refused) == (2, 3, 5, 15)


async def test_many_submitters_of_one_idempotency_key_get_one_run() -> None:
    runs = []
    async with Engine() as engine:
        made = graph({"a": sleeps(1)})

        async def submit() -> None:
            runs.append(await engine.submit(made, {"x": 1}, idempotency_key="k"))

        async with anyio.create_task_group() as group:
            for _ in range(5):
                group.start_soon(submit)
        with pytest.raises(IdempotencyConflict):
            await engine.submit(made, {"x": 2}, idempotency_key="k")

    assert len({run.id for run in runs}) == engine.statistics().submitted == 1


async def test_many_submitters_of_one_run_id_get_one_run() -> None:
    refused = 0
    async with Engine() as engine:
        made = graph({"a": sleeps(1)})

        async def submit() -> None:
            nonlocal refused
            try:
                await engine.submit(made, run_id="r")
            except EngineError:
                refused += 1

        async with anyio.create_task_group() as group:
            for _ in range(5):
                group.start_soon(submit)

    assert (refused, engine.statistics().submitted) == (4, 1)


async def test_queued_runs_start_by_priority_then_age() -> None:
    order = []

    async def note(state: dict[str, str]) -> None:
        order.append(state["name"])
        await anyio.sleep(1)

    async with Engine(max_runs=1) as engine:
        made = graph({"a": note})
        for name, priority in [("first", 0), ("low1", -1), ("mid1", 0), ("high1", 5), ("mid2", 0), ("high2", 5)]:
            await engine.submit(made, {"name": name}, priority=priority)

    assert order == ["first", "high1", "high2", "mid1", "mid2", "low1"]


async def test_a_queued_run_that_is_cancelled_never_starts_and_gives_its_place_back() -> None:
    async with Engine(max_runs=1, max_queued=1) as engine:
        made = graph({"a": sleeps(1)})
        await engine.submit(made)
        queued = await engine.submit(made)
        await queued.cancel()
        assert await queued.wait() == "cancelled"
        other = await engine.submit(made)
        assert await other.wait() == "succeeded"

    assert (queued.visited, engine.statistics().queued) == ([], 0)


async def test_a_state_that_does_not_fit_is_refused_even_where_the_run_would_be_queued() -> None:
    async with Engine(max_runs=1) as engine:
        await engine.submit(graph({"a": sleeps(1)}, name="first"))
        with pytest.raises(StateInvalid):
            await engine.submit(graph({"a": same}), 7)
        assert engine.statistics().queued == 0


async def test_a_queued_run_has_the_state_as_it_was_when_it_was_submitted() -> None:
    state = {"x": 1}
    async with Engine(max_runs=1) as engine:
        await engine.submit(graph({"a": sleeps(1)}, name="first"))
        run = await engine.submit(graph({"a": same}), state)
        state["x"] = 2

        assert (await run.result()).state == {"x": 1}


async def test_a_refused_submission_leaves_nothing_behind() -> None:
    async with Engine() as engine:
        with pytest.raises(StateInvalid):
            await engine.submit(graph({"a": same}), 7, run_id="r", idempotency_key="k", deadline=10)

        assert (engine.statistics().submitted, len(engine._timers), await engine.runs()) == (0, 0, [])
        assert await (await engine.submit(graph({"a": same}), run_id="r", idempotency_key="k")).wait() == "succeeded"


async def test_a_failed_run_makes_room_for_the_next() -> None:
    async with Engine(max_runs=1) as engine:
        for made in (graph({"a": fails(ValueError(), 1)}, name="bad"), graph({"a": sleeps(1)}, name="good")):
            await engine.submit(made)

    assert engine.statistics().ended == {"failed": 1, "succeeded": 1}


# --- nodes ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("concurrency", [1, 3])
async def test_concurrency_bounds_the_activations_of_a_node_over_all_runs(concurrency: int) -> None:
    times = Times()
    async with Engine() as engine:
        made = graph({"a": (times.node("a", 1), {"concurrency": concurrency})})
        runs = [await engine.submit(made) for _ in range(9)]
        for run in runs:
            await run.result()

    assert (times.most, times.total) == (concurrency, 9 / concurrency)


async def test_a_node_without_concurrency_runs_as_many_as_there_are() -> None:
    times = Times()
    async with Engine() as engine:
        made = graph({"a": times.node("a", 1)})
        for run in [await engine.submit(made) for _ in range(200)]:
            await run.result()

    assert (times.most, times.total) == (200, 1)


async def test_a_rate_bounds_the_starts_in_any_stretch_of_time() -> None:
    times = Times()
    async with Engine() as engine:
        made = graph({"a": (times.node("a"), {"rate": "3/s"})})
        for run in [await engine.submit(made) for _ in range(10)]:
            await run.result()

    starts = sorted(times.starts["a"])
    assert starts == pytest.approx([0, 0, 0, 1, 1, 1, 2, 2, 2, 3], abs=0.01)
    assert all(later - earlier >= 0.999 for earlier, later in zip(starts, starts[3:], strict=False))


async def test_a_retry_waits_its_turn_in_the_queue_of_its_node() -> None:
    times = Times()
    seen: list[str] = []

    async def work(state: dict[str, str]) -> None:
        seen.append(state["name"])
        async with times.noted("work"):
            await anyio.sleep(1)
        if seen.count("bad") == 1 and state["name"] == "bad":
            raise OSError("again")

    async with Engine() as engine:
        made = graph({"work": (work, {"concurrency": 1, "retry": Retry(delay=0, jitter=0)})})
        runs = [await engine.submit(made, {"name": name}) for name in ("bad", "b", "c")]
        assert [await run.wait() for run in runs] == ["succeeded"] * 3

    assert (seen, times.most) == (["bad", "b", "c", "bad"], 1)


# --- edges ----------------------------------------------------------------------------------------------


async def test_capacity_bounds_the_tokens_that_wait_on_an_edge_ready_to_run_of_all_runs_together() -> None:
    times = Times()
    async with Engine() as engine:
        made = graph({"fast": times.node("fast", 0.01), "slow": (times.node("slow", 1), {"concurrency": 1})})
        made.add_edge("fast", "slow", capacity=2)
        runs = [await engine.submit(made) for _ in range(10)]
        (gate,) = gates(engine._registry.find("test"))
        for run in runs:
            await run.result()

    assert gate.high_water <= 2
    assert times.total == pytest.approx(10.01)
    # One is at work, two wait, and each that is taken lets one more start.
    assert [start < 0.5 for start in sorted(times.starts["fast"])].count(True) == 3


async def test_results_that_are_used_again_wait_for_room_behind_the_node_and_are_counted_before_it() -> None:
    times = Times()
    async with Engine() as engine:
        cached = times.node("cached", 1), {"cache": Cache(ttl=60, key=lambda state: "one for all")}
        nodes = {"first": same, "cached": cached, "slow": (times.node("slow", 1), {"concurrency": 1})}
        made = graph(nodes)
        made.add_edge("first", "cached", capacity=3).add_edge("cached", "slow", capacity=2)
        runs = [await engine.submit(made) for _ in range(10)]
        await anyio.sleep(1.5)
        behind, before = sorted(gates(engine._registry.find("test")), key=lambda gate: gate.name)
        late = [await engine.submit(made) for _ in range(10)]
        await anyio.sleep(0.1)
        waiting = [run for run in runs if not run.over]
        await waiting[-1].cancel()
        assert [await run.wait() for run in [*runs, *late]].count("succeeded") == 19

    assert (before.name, behind.name) == ("first -> cached", "cached -> slow")
    assert len(times.starts["cached"]) == 1
    assert behind.high_water == 2
    assert (before.depth, behind.depth, before.reserved, behind.reserved) == (0, 0, 0, 0)
    # One computation, and one step behind it for each run that was not cancelled.
    assert times.total == pytest.approx(20, abs=0.2)


async def test_a_node_never_blocks_in_the_middle_of_its_work_because_of_a_full_edge() -> None:
    times = Times()
    async with Engine() as engine:
        nodes = {"s": same, "x": same, "y": same, "fast": (times.node("fast", 0.1), {"join": "any"})}
        made = graph({**nodes, "slow": (times.node("slow", 1), {"concurrency": 1})}, "s -> x, y -> fast")
        made.add_edge("fast", "slow", capacity=1)
        runs = [await engine.submit(made) for _ in range(3)]
        assert [await run.wait() for run in runs] == ["succeeded"] * 3

    lengths = [end - start for start, end in zip(times.starts["fast"], times.ends["fast"], strict=True)]
    assert lengths == pytest.approx([0.1] * 6)
    assert times.total >= 6


async def test_tokens_held_by_a_join_that_is_not_complete_do_not_count_so_a_join_cannot_lock_on_its_own_edge() -> None:
    async with Engine() as engine:
        nodes = {"s": same, "a": (sleeps(0.1), {"concurrency": 1}), "b": (sleeps(1), {"concurrency": 1}), "j": same}
        made = graph(nodes, "s -> a, b").add_edge(["a", "b"], "j", capacity=1)
        runs = [await engine.submit(made) for _ in range(10)]

        assert [await run.wait() for run in runs] == ["succeeded"] * 10
        assert anyio.current_time() == pytest.approx(10, abs=0.5)


async def test_edges_that_close_a_cycle_are_exempt_so_a_full_cycle_cannot_lock() -> None:
    async with Engine() as engine:
        made = graph({"a": (sleeps(0.1), {"concurrency": 1}), "b": (sleeps(0.1), {"concurrency": 1})})
        made.add_edge("a", "b", capacity=1)
        made.add_edge("b", "a", when=lambda s: True, max_iterations=3, capacity=1).add_edge("b", "END", otherwise=True)
        runs = [await engine.submit(made) for _ in range(5)]

        assert [await run.wait() for run in runs] == ["succeeded"] * 5


async def test_a_chain_of_full_edges_drains() -> None:
    async with Engine() as engine:
        nodes = {name: (sleeps(0.1), {"concurrency": 1}) for name in "abcde"}
        made = graph(nodes)
        for source, target in zip("abcd", "bcde", strict=True):
            made.add_edge(source, target, capacity=1)
        runs = [await engine.submit(made) for _ in range(20)]

        assert [await run.wait() for run in runs] == ["succeeded"] * 20


async def test_several_sources_of_a_full_target_all_get_their_turn() -> None:
    async with Engine() as engine:
        nodes = {"s": same, "a": sleeps(0.1), "b": sleeps(0.1), "c": (sleeps(0.1), {"concurrency": 1, "join": "any"})}
        made = graph(nodes, "s -> a, b").add_edge("a", "c", capacity=1).add_edge("b", "c", capacity=1)
        runs = [await engine.submit(made) for _ in range(10)]

        assert [await run.wait() for run in runs] == ["succeeded"] * 10


@pytest.mark.parametrize("end", ["fail", "cancel", "goes elsewhere", "retry", "timeout"])
async def test_places_on_an_edge_are_given_back_however_an_activation_ends(end: str) -> None:
    calls = 0

    async def fast(state: dict[str, int]) -> None:
        nonlocal calls
        calls += 1
        if end == "fail":
            raise ValueError("no")
        if end == "retry" and calls % 2:
            raise OSError("again")
        if end in ("cancel", "timeout"):
            await anyio.sleep(100)

    async with Engine() as engine:
        options = {"retry": Retry(on=OSError, delay=1), "timeout": 5 if end == "timeout" else None}
        made = graph({"fast": (fast, options), "slow": (sleeps(1), {"concurrency": 1}), "else": same})
        made.add_edge("fast", "slow", capacity=1, when=lambda s: end != "goes elsewhere")
        made.add_edge("fast", "else", otherwise=True)
        runs = [await engine.submit(made) for _ in range(6)]
        if end == "cancel":
            await anyio.sleep(0.5)
            for run in runs:
                await run.cancel()
        for run in runs:
            await run.wait()
        (gate,) = gates(engine._registry.find("test"))

        assert (gate.depth, gate.reserved) == (0, 0)


async def test_capacity_holds_inside_subgraphs_too() -> None:
    times = Times()
    inner = graph({"fast": times.node("fast"), "slow": (sleeps(1), {"concurrency": 1})}, name="inner")
    inner.add_edge("fast", "slow", capacity=1)
    async with Engine() as engine:
        runs = [await engine.submit(graph({"sub": inner})) for _ in range(6)]
        for run in runs:
            await run.result()

    assert sorted(times.starts["fast"]) == pytest.approx([0, 0, 1, 2, 3, 4], abs=0.01)


async def test_the_items_of_a_map_are_no_tokens_on_its_edge() -> None:
    async def work(item: int) -> int:
        await anyio.sleep(1)
        return item

    async with Engine() as engine:
        made = graph({"s": sets(rows=[1, 2, 3, 4]), "end": same})
        made.add_map("map", work, over="rows", into="out").add_edge("s", "map", capacity=1).add_edge("map", "end")
        runs = [await engine.submit(made) for _ in range(3)]
        for run in runs:
            await run.result()

        assert anyio.current_time() == pytest.approx(1, abs=0.1)


async def test_a_batch_is_no_larger_than_the_room_behind_it() -> None:
    sizes = []

    async def many(states: list[Any]) -> list[None]:
        sizes.append(len(states))
        return [None] * len(states)

    async with Engine() as engine:
        made = graph({"many": (many, {"batch": Batch(5, 0.01)}), "slow": (sleeps(1), {"concurrency": 1})})
        made.add_edge("many", "slow", capacity=2)
        for run in [await engine.submit(made) for _ in range(8)]:
            await run.result()
        (gate,) = gates(engine._registry.find("test"))

    assert (sum(sizes), max(sizes), gate.high_water) == (8, 2, 2)


async def test_an_unknown_executor_of_a_node_inside_is_refused_at_once() -> None:
    inner = graph({"a": (lambda state: None, {"run_in": "gpu"})}, name="inner")
    async with Engine() as engine:
        with pytest.raises(GraphInvalid) as refused:
            await engine.submit(graph({"sub": inner}))

    assert "gpu" in refused.value.problems[0].message


async def test_depth_and_time_waited_are_counted() -> None:
    async with Engine() as engine:
        made = graph({"fast": same, "slow": (sleeps(1), {"concurrency": 1})}).add_edge("fast", "slow", capacity=2)
        for _ in range(4):
            await engine.submit(made)
        await anyio.sleep(0.5)
        (gate,) = gates(engine._registry.find("test"))
        assert gate.depth == 2


def gates(registered: Registered) -> list[Any]:
    made: Any = registered.scheduler._make_crew
    return list(made.gates.values())


# --- context variables ----------------------------------------------------------------------------------

tenant: ContextVar[str] = ContextVar("tenant", default="nobody")


async def test_the_submitters_context_variables_are_visible_in_its_nodes() -> None:
    seen: list[Any] = []

    async def node(state: dict[str, str]) -> None:
        before = tenant.get()
        await anyio.sleep(0.1)
        seen.append((state["name"], before, tenant.get()))

    def quick(state: dict[str, str]) -> None:
        seen.append((state["name"], tenant.get(), tenant.get()))

    async with Engine() as engine:
        made = graph({"a": (node, {"concurrency": 1}), "q": (quick, {"run_in": "loop"})}, "a -> q")
        runs = []
        for name in ("one", "two", "three"):
            tenant.set(name)
            runs.append(await engine.submit(made, {"name": name}))
        tenant.set("nobody")
        for run in runs:
            await run.result()

    assert sorted(seen) == sorted([(name, name, name) for name in ("one", "two", "three") for _ in range(2)])


async def test_what_a_node_sets_does_not_leak_to_the_next_activation_of_its_worker_or_to_the_submitter() -> None:
    seen = []

    async def node(state: Any) -> None:
        seen.append(tenant.get())
        tenant.set("leaked")
        await anyio.sleep(0.1)
        assert tenant.get() == "leaked"

    async with Engine() as engine:
        tenant.set("mine")
        made = graph({"a": (node, {"concurrency": 1}), "b": (node, {"concurrency": 1})}, "a -> b")
        for _ in range(3):
            await engine.run(made)

        assert (seen, tenant.get()) == (["mine"] * 6, "mine")


async def test_what_a_quick_node_sets_does_not_leak_either() -> None:
    seen = []

    def node(state: Any) -> None:
        seen.append(tenant.get())
        tenant.set("leaked")

    tenant.set("mine")
    await ended(graph({"a": (node, {"run_in": "loop"}), "b": (node, {"run_in": "loop"})}, "a -> b"))

    assert (seen, tenant.get()) == (["mine"] * 2, "mine")


async def test_a_map_worker_sees_the_submitters_context_variables() -> None:
    async def work(item: int) -> str:
        await anyio.lowlevel.checkpoint()
        return tenant.get()

    tenant.set("mapper")
    made = graph({"s": sets(rows=[1, 2])}).add_map("m", work, over="rows", into="out").add_edge("s", "m")

    assert (await ended(made)).state["out"] == ["mapper", "mapper"]


async def test_scopes_of_a_node_work_as_in_a_task_of_its_own() -> None:
    async def node(state: Any) -> dict[str, bool]:
        with anyio.move_on_after(1) as scope:
            await anyio.sleep_forever()
        with pytest.raises(TimeoutError):
            with anyio.fail_after(1):
                await anyio.sleep_forever()
        async with anyio.create_task_group() as group:
            group.start_soon(anyio.sleep, 1)
        return {"timed_out": scope.cancelled_caught}

    run = await ended(graph({"a": node, "b": forever}, "a -> b"), deadline=10)

    assert {entry.node: entry.status for entry in run.log} == {"a": "succeeded", "b": "cancelled"}
    assert run.state == {"timed_out": True}


@pytest.mark.only_on("none", reason="what a store has is found there")
async def test_ended_runs_are_kept_up_to_the_limit_and_no_longer() -> None:
    from engine import RunNotFound, Settings

    async with Engine(settings=Settings(keep_runs=3)) as engine:
        made = graph({"a": same})
        runs = [await engine.submit(made) for _ in range(6)]
        for run in runs:
            await run.result()
        assert [run.id for run in await engine.runs()] == [run.id for run in runs[3:]]
        with pytest.raises(RunNotFound):
            await engine.get(runs[0].id)
        gc.collect()
        assert (await runs[0].result()).status == "succeeded"
