"""SEMANTICS section 10 through the engine: logs, events, histories, what is told to whom."""

from __future__ import annotations

import logging
from typing import Any

import anyio
import pytest

from engine import Context, Engine, Event, HistoryGone, Retry, Run
from tests.semantics.engine_cases import ended, failing, fails, forever, graph, same, sets, sleeps

COMMON = ("run_submitted", "run_started")


async def test_the_log_has_one_entry_per_attempt_with_all_that_happened() -> None:
    async def node(state: Any, ctx: Context) -> dict[str, int]:
        if ctx.attempt == 1:
            raise OSError("again")
        return {"x": 1, "y": 2}

    run = await ended(graph({"node": (node, {"retry": Retry(delay=0)}), "b": same}, "node -> b"))

    first, second, third = run.log
    assert (first.node, first.activation, first.attempt, first.status) == ("node", 1, 1, "failed")
    assert (first.error, first.keys) == ("OSError: again", ())
    assert (second.attempt, second.status, second.error, second.keys) == (2, "succeeded", None, ("x", "y"))
    assert third.node == "b"
    for entry in run.log:
        assert entry.start > 1e9
        assert 0 <= entry.duration < 10
        assert set(entry.to_dict()) == {"node", "activation", "attempt", "status", "start", "duration", "error", "keys"}


async def test_log_statuses_tell_how_an_attempt_ended() -> None:
    nodes = {"fine": same, "slow": (forever, {"timeout": 1}), "cut": forever, "bad": fails(ValueError(), 2)}
    made = graph({**nodes, "r": same}, "fine -> slow, cut, bad").add_edge("slow", "r", on_error=TimeoutError)

    run = await ended(made)

    statuses = {entry.node: entry.status for entry in run.log}
    assert statuses == {"fine": "succeeded", "slow": "timed_out", "r": "succeeded", "bad": "failed", "cut": "cancelled"}


async def test_visited_names_the_node_of_each_activation_in_the_order_of_their_starts() -> None:
    nodes = {"s": same, "a": sleeps(2), "b": sleeps(1), "a2": same, "b2": same}

    assert (await ended(graph(nodes, "s -> a -> a2", "s -> b -> b2"))).visited == ["s", "a", "b", "b2", "a2"]


async def test_counters_count_activations_retries_and_loop_limits() -> None:
    async def flaky(state: Any, ctx: Context) -> None:
        if ctx.attempt == 1:
            raise OSError("again")

    made = graph({"a": (flaky, {"retry": Retry(delay=0)}), "b": same}, "a -> b")
    made.add_edge("b", "a", when=lambda s: True, max_iterations=1).add_edge("b", "END", otherwise=True)

    assert (await ended(made)).counters == {"activations": 4, "retries": 2, "loop_limits": 1}


# --- events ---------------------------------------------------------------------------------------------


async def test_every_event_has_a_number_one_higher_than_the_one_before_and_the_order_is_that_of_cause() -> None:
    run = await ended(graph({"a": same, "b": same}, "a -> b"))

    events = [event async for event in run.events()]
    assert [event.seq for event in events] == [*range(1, len(events) + 1)]
    assert [(event.type, event.node) for event in events] == [
        ("run_submitted", None), ("run_started", None),
        ("node_started", "a"), ("node_succeeded", "a"), ("edge_taken", "a"),
        ("node_started", "b"), ("node_succeeded", "b"), ("run_succeeded", None),
    ]  # fmt: skip
    assert events[4].data == {"target": "b"}
    assert all(event.time > 1e9 for event in events)
    assert set(events[0].to_dict()) == {"seq", "type", "time", "node", "activation", "data"}


async def test_a_reader_can_start_at_any_number_and_misses_nothing() -> None:
    run = await ended(graph({"a": same, "b": same, "c": same}, "a -> b, c"))
    everything = [event async for event in run.events()]

    for after in range(len(everything) + 1):
        assert [event async for event in run.events(after=after)] == everything[after:]


async def test_live_readers_see_each_event_once_whenever_they_begin() -> None:
    read: dict[float, list[Event]] = {}

    async def reader(run: Run, begin: float, after: int) -> None:
        await anyio.sleep(begin)
        read[begin] = [event async for event in run.events(after=after)]

    async with Engine() as engine:
        run = await engine.submit(graph({"a": sleeps(1), "b": sleeps(1), "c": sleeps(1)}, "a -> b -> c"))
        async with anyio.create_task_group() as group:
            for begin, after in [(0, 0), (0.5, 2), (1.5, 0), (2.5, 4), (100, 3)]:
                group.start_soon(reader, run, begin, after)

    whole = read[0]
    assert whole[-1].type == "run_succeeded"
    assert [read[begin] for begin in (0.5, 1.5, 2.5, 100)] == [whole[2:], whole, whole[4:], whole[3:]]


async def test_a_failure_event_comes_before_the_exception() -> None:
    seen: list[str] = []
    async with Engine() as engine:
        engine.subscribe(lambda run, event: seen.append(event.type))
        run = await engine.submit(graph({"bad": fails(ValueError("no"))}))
        with failing():
            await run.result()
        assert seen[-2:] == ["node_failed", "run_failed"]


async def test_each_kind_of_event_is_told() -> None:
    async def flaky(state: Any, ctx: Context) -> None:
        ctx.progress(0.5, "half")
        if ctx.attempt == 1:
            raise OSError("again")

    nodes = {
        "s": same,
        "flaky": (flaky, {"retry": Retry(delay=0)}),
        "loop": same,
        "cut": forever,
        "bad": fails(KeyError(), 5),
    }
    nodes |= {"x": same, "y": sleeps(1), "j": (same, {"join": "first"})}
    made = graph(nodes, "s -> flaky, loop, cut, bad, x, y", "x, y -> j")
    made.add_edge("loop", "loop", when=lambda s: True, max_iterations=1).add_edge("loop", "END", otherwise=True)
    made.add_wait("wait", signal="go", into="go").add_edge("s", "wait")
    succeeds, cancelled = graph({"a": same}, name="fine"), graph({"a": forever}, name="stopped")
    told = set()
    async with Engine() as engine:
        engine.subscribe(lambda run, event: told.add(event.type))
        runs = [await engine.submit(made) for made in (made, succeeds, cancelled)]
        run = await engine.submit(graph({"s": same}, name="w").add_wait("w", signal="g", into="g").add_edge("s", "w"))
        await anyio.sleep(1)
        await runs[2].cancel()
        await run.signal("g")
        for run in runs:
            await run.wait()

    assert told == {
        "run_submitted", "run_started", "node_started", "node_progress", "node_retrying", "node_succeeded",
        "node_failed", "node_cancelled", "edge_taken", "token_absorbed", "loop_limit", "run_waiting", "run_succeeded",
        "run_failed", "run_cancelled",
    }  # fmt: skip


async def test_progress_and_own_events_of_a_node_are_events_of_its_run() -> None:
    async def node(state: Any, ctx: Context) -> None:
        ctx.progress(0.25, "a quarter")
        ctx.emit({"rows": 3})

    run = await ended(graph({"node": node}))

    found = [event for event in run.machine.history.events() if event.type == "node_progress"]
    assert [event.data for event in found] == [{"fraction": 0.25, "message": "a quarter"}, {"event": {"rows": 3}}]
    assert {(event.node, event.activation) for event in found} == {("node", 1)}


async def test_a_subscriber_is_told_every_event_of_every_run_once_and_in_order_until_it_ends() -> None:
    seen: list[tuple[str, int]] = []
    async with Engine() as engine:
        made = graph({"a": sleeps(1), "b": same}, "a -> b")
        early = await engine.submit(made)
        known = early.machine.history.seq
        end = engine.subscribe(lambda run, event: seen.append((run.id, event.seq)))
        late = await engine.submit(made)
        await early.result()
        await late.result()
        end()
        await engine.run(graph({"a": same}, name="unheard"))

    assert [seq for run, seq in seen if run == early.id] == [*range(known + 1, early.machine.history.seq + 1)]
    assert [seq for run, seq in seen if run == late.id] == [*range(1, late.machine.history.seq + 1)]
    assert {run for run, _ in seen} == {early.id, late.id}


async def test_what_a_subscriber_raises_is_logged_and_harms_no_run(caplog: Any) -> None:
    def broken(run: Run, event: Event) -> None:
        raise ZeroDivisionError("subscriber")

    with caplog.at_level(logging.ERROR, "engine"):
        async with Engine() as engine:
            engine.subscribe(broken)
            result = await engine.run(graph({"a": sets(x=1)}))

    assert result.state == {"x": 1}
    assert any("subscriber" in record.getMessage() for record in caplog.records)


# --- bounded histories ----------------------------------------------------------------------------------


async def test_a_run_keeps_its_newest_entries_and_events_and_says_how_many_it_dropped() -> None:
    made = graph({"a": same, "b": same}, "a -> b", history=10)
    made.add_edge("b", "a", when=lambda s: True, max_iterations=20).add_edge("b", "END", otherwise=True)

    run = await ended(made)

    history = run.machine.history
    assert len(run.log) == len(run.visited) == 10
    assert (history.log_dropped, history.visited_dropped) == (32, 32)
    assert run.log[-1].activation == 21
    kept = history.events(history.first_kept - 1)
    assert len(kept) == 10
    assert history.events_dropped == history.seq - 10


async def test_asking_for_what_is_gone_is_history_gone_never_a_gap() -> None:
    made = graph({"a": same, "b": same}, "a -> b", history=10)
    made.add_edge("b", "a", when=lambda s: True, max_iterations=20).add_edge("b", "END", otherwise=True)
    run = await ended(made)
    first = run.machine.history.first_kept

    with pytest.raises(HistoryGone) as gone:
        await anext(run.events())
    assert gone.value.kept_from == first
    with pytest.raises(HistoryGone):
        await anext(run.events(after=first - 2))
    assert [event.seq async for event in run.events(after=first - 1)] == [*range(first, run.machine.history.seq + 1)]


@pytest.mark.only_on("none", reason="with a store the rest is read from the journal")
async def test_a_reader_that_is_too_slow_is_told_and_not_fed_a_gap() -> None:
    made = graph({"a": sleeps(0.1), "b": same}, "a -> b", history=10)
    made.add_edge("b", "a", when=lambda s: True, max_iterations=20).add_edge("b", "END", otherwise=True)
    seen = []
    async with Engine() as engine:
        run = await engine.submit(made)
        with pytest.raises(HistoryGone):  # noqa: PT012  # in the middle of the loop
            async for event in run.events():
                seen.append(event.seq)
                await anyio.sleep(0.5)

    assert seen == [*range(1, len(seen) + 1)]


# --- what a waiting node waits for ----------------------------------------------------------------------


async def test_explain_says_what_a_waiting_node_is_waiting_for() -> None:
    nodes = {"s": same, "quick": same, "slow": forever, "mid": same, "join": same, "never": same}
    made = graph(nodes, "s -> quick -> join", "s -> slow -> mid -> join", "join -> never")
    async with Engine() as engine:
        run = await engine.submit(made)
        await anyio.sleep(1)

        said = run.explain("join")
        for part in ("join", "'quick -> join'", "'mid -> join'", "slow"):
            assert part in said
        assert "running" in run.explain("slow")
        assert "never" in run.explain("never")
        await run.cancel()


async def test_the_context_tells_run_node_activation_attempt_iteration_and_deadline() -> None:
    seen = []

    async def node(state: Any, ctx: Context) -> None:
        seen.append((ctx.run_id, ctx.graph, ctx.node, ctx.activation, ctx.attempt, ctx.iteration, ctx.token))
        assert ctx.deadline is not None
        ctx.logger.info("hello")

    made = graph({"node": node}).add_edge("node", "node", when=lambda s: True, max_iterations=1)
    made.add_edge("node", "END", otherwise=True)

    await ended(made, run_id="r", deadline=50)

    assert seen == [("r", "test", "node", n, 1, n, f"r/node#{n}") for n in (1, 2)]


async def test_a_nodes_logger_names_run_graph_and_node(caplog: Any) -> None:
    async def node(state: Any, ctx: Context) -> None:
        ctx.logger.warning("look")

    with caplog.at_level(logging.WARNING, "engine.node"):
        await ended(graph({"node": node}), run_id="r")

    (record,) = [record for record in caplog.records if record.name == "engine.node"]
    assert (record.run, record.graph, record.node, record.activation) == ("r", "test", "node", 1)


async def test_the_state_of_a_running_run_is_everything_live_and_ended_merged() -> None:
    nodes = {"s": sets(s=1), "a": sets(a=1), "b": forever}
    async with Engine() as engine:
        run = await engine.submit(graph(nodes, "s -> a, b"))
        await anyio.sleep(1)
        assert run.state == {"s": 1, "a": 1}
        await run.cancel()


async def test_a_result_is_waited_for_with_a_timeout_that_does_not_end_the_run() -> None:
    async with Engine() as engine:
        run = await engine.submit(graph({"a": sleeps(5, x=1)}))
        with pytest.raises(TimeoutError):
            await run.result(timeout=1)
        assert run.status == "running"
        assert (await run.result(timeout=10)).state == {"x": 1}
