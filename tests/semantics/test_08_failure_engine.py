"""SEMANTICS section 8 through the engine: retries, time-outs, error edges, failing, cancelling, going on."""

from __future__ import annotations

import asyncio
import logging
from typing import Any, TypedDict

import anyio
import pytest

from actors import StrayCancellation
from engine import (
    Context,
    Engine,
    EngineClosed,
    Graph,
    JoinStarved,
    MergeConflict,
    NodeTimeout,
    NoRoute,
    Retry,
    RunCancelled,
    RunEnded,
    RunFailed,
    RunTimeout,
    StateInvalid,
    UnknownKey,
)
from tests.semantics.engine_cases import (
    Times,
    crash,
    ended,
    failing,
    fails,
    failure_of,
    forever,
    graph,
    result_of,
    same,
    sets,
    sleeps,
    stray,
    types,
)


class Flaky:
    """Raises these errors first, then returns the update; notes when it was called."""

    def __init__(self, *errors: BaseException, **update: Any) -> None:
        self.errors = list(errors)
        self.update = update
        self.calls: list[float] = []

    async def __call__(self, state: Any) -> dict[str, Any]:
        self.calls.append(round(anyio.current_time(), 6))
        if self.errors:
            raise self.errors.pop(0)
        return self.update


# --- retries --------------------------------------------------------------------------------------------


async def test_a_failed_node_is_retried_until_it_succeeds_waiting_longer_each_time() -> None:
    node = Flaky(OSError(1), OSError(2), OSError(3), x=1)
    retry = Retry(attempts=4, delay=0.1, factor=2, max_delay=0.3, jitter=0)

    run = await ended(graph({"node": (node, {"retry": retry})}))

    waits = [later - before for before, later in zip(node.calls, node.calls[1:], strict=False)]
    assert waits == pytest.approx([0.1, 0.2, 0.3])
    assert (run.state, run.counters["retries"], types(run).count("node_retrying")) == ({"x": 1}, 3, 3)
    assert [(entry.attempt, entry.status) for entry in run.log] == [
        (1, "failed"), (2, "failed"), (3, "failed"), (4, "succeeded")
    ]  # fmt: skip


async def test_jitter_shifts_a_wait_by_at_most_its_share() -> None:
    waits = set()
    for _ in range(20):
        node = Flaky(OSError(1))
        await ended(graph({"node": (node, {"retry": Retry(delay=1, jitter=0.5)})}))
        waits.add(node.calls[1] - node.calls[0])

    assert len(waits) > 10
    assert 0.5 <= min(waits) < max(waits) <= 1.5


async def test_after_the_last_attempt_the_failure_tells_how_many_there_were() -> None:
    error = ValueError("no")

    failure = await failure_of(graph({"node": (fails(error), {"retry": Retry(attempts=3)})}))

    assert (failure.node, failure.activation, failure.attempts, failure.cause) == ("node", 1, 3, error)


async def test_of_a_list_the_first_that_matches_counts_with_all_attempts_so_far() -> None:
    node = Flaky(OSError(1), ValueError(2), OSError(3))
    retry = [Retry(attempts=2, on=ValueError), Retry(attempts=3, on=Exception)]

    failure = await failure_of(graph({"node": (node, {"retry": retry})}))

    assert (failure.attempts, failure.cause.args) == (2, (2,))


async def test_waiting_for_a_retry_holds_no_worker() -> None:
    node = Flaky(OSError(1), OSError(2))
    async with Engine() as engine:
        made = graph({"node": (node, {"concurrency": 1, "retry": Retry(delay=10, jitter=0)})})
        first = await engine.submit(made)
        await anyio.sleep(1)
        node.errors.clear()
        second = await engine.submit(made)
        await second.result()

        assert (anyio.current_time(), first.status) == (1, "waiting")


# --- time-outs ------------------------------------------------------------------------------------------


async def test_a_timeout_bounds_an_attempt_and_not_its_queueing() -> None:
    async with Engine() as engine:
        made = graph({"node": (sleeps(0.8), {"concurrency": 1, "timeout": 1})})
        runs = [await engine.submit(made) for _ in range(3)]

        assert [await run.wait() for run in runs] == ["succeeded"] * 3


async def test_an_async_node_is_cancelled_at_its_timeout() -> None:
    times = Times()

    run = await ended(graph({"slow": (times.node("slow", 100), {"timeout": 1.5})}))

    (failure,) = run.machine.failures
    assert isinstance(failure.cause, NodeTimeout)
    assert isinstance(failure.cause, TimeoutError)
    assert (failure.cause.node, failure.cause.seconds, times.total) == ("slow", 1.5, 1.5)
    assert [entry.status for entry in run.log] == ["timed_out"]


async def test_a_node_that_swallows_its_cancellation_and_returns_late_has_timed_out_all_the_same() -> None:
    async def stubborn(state: Any) -> dict[str, int]:
        try:
            await anyio.sleep_forever()
        except anyio.get_cancelled_exc_class():
            with anyio.CancelScope(shield=True):
                await anyio.sleep(5)
        return {"late": 1}

    run = await ended(graph({"node": (stubborn, {"timeout": 1})}))

    assert [type(failure.cause) for failure in run.machine.failures] == [NodeTimeout]
    assert ([entry.status for entry in run.log], run.state) == (["timed_out"], {})


async def test_a_node_that_raises_something_else_at_its_timeout_has_timed_out_all_the_same() -> None:
    async def cleaning(state: Any) -> None:
        try:
            await anyio.sleep_forever()
        finally:
            raise KeyError("while cleaning up")

    assert isinstance((await failure_of(graph({"node": (cleaning, {"timeout": 1})}))).cause, NodeTimeout)


async def test_a_timed_out_attempt_is_retried_and_each_attempt_has_its_own_time() -> None:
    times = Times()

    async def slow(state: Any, ctx: Context) -> None:
        async with times.noted("slow"):
            await anyio.sleep(0.5 if ctx.attempt == 3 else 5)

    await result_of(graph({"slow": (slow, {"timeout": 1, "retry": Retry(delay=0, jitter=0)})}))

    assert times.ends["slow"] == [1, 2, 2.5]


async def test_a_timeout_of_one_activation_does_not_touch_another_of_the_same_worker() -> None:
    async with Engine() as engine:

        async def work(state: dict[str, float]) -> dict[str, bool]:
            await anyio.sleep(state["seconds"])
            return {"done": True}

        made = graph({"work": (work, {"timeout": 1, "concurrency": 1})})
        runs = [await engine.submit(made, {"seconds": seconds}) for seconds in (5, 0.9, 5, 0.9)]

        assert [await run.wait() for run in runs] == ["failed", "succeeded", "failed", "succeeded"]


async def test_a_deadline_bounds_a_run_from_its_submission() -> None:
    async with Engine() as engine:
        run = await engine.submit(graph({"a": sleeps(0.9), "b": forever}, "a -> b"), deadline=1)
        with pytest.raises(RunFailed) as failed:
            await run.result()

        (error,) = failed.value.exceptions
        assert isinstance(error, RunTimeout)
        assert isinstance(error, TimeoutError)
        assert (error.seconds, anyio.current_time(), run.status) == (1, 1, "failed")


async def test_the_graphs_deadline_counts_if_the_submitter_gave_none() -> None:
    async with Engine() as engine:
        made = graph({"a": forever}, deadline=2)
        runs = [await engine.submit(made), await engine.submit(made, deadline=5)]
        for run in runs:
            await run.wait()

        assert anyio.current_time() == 5


async def test_waiting_pausing_and_queueing_count_for_the_deadline() -> None:
    async with Engine(max_runs=2) as engine:
        waiting = graph({"s": same}, name="waits").add_wait("wait", signal="go", into="x").add_edge("s", "wait")
        waits = await engine.submit(waiting, deadline=1)
        pauses = await engine.submit(graph({"a": sleeps(0.5), "b": same}, "a -> b"), deadline=1)
        await pauses.pause()
        queues = await engine.submit(waiting, deadline=0.5)

        for run in (queues, waits, pauses):
            with pytest.raises(RunFailed):
                await run.result()
        assert anyio.current_time() == 1
        assert queues.visited == []


# --- error edges ----------------------------------------------------------------------------------------


async def test_the_state_as_it_was_goes_along_the_first_error_edge_that_matches() -> None:
    async def bad(state: dict[str, int]) -> None:
        state["x"] = 99
        raise KeyError("no")

    made = graph({"a": bad, "b": same, "c": sets(c=1), "d": same})
    made.add_edge("a", "b", on_error=ValueError).add_edge("a", "c", on_error=LookupError)
    made.add_edge("a", "d", on_error=Exception)

    result = await result_of(made, {"x": 0})

    assert (result.visited, result.state) == (("a", "c"), {"x": 0, "c": 1})


async def test_the_target_of_an_error_edge_reads_the_error() -> None:
    seen = []

    async def repair(state: Any, ctx: Context) -> None:
        seen.append(ctx.error)

    async def after(state: Any, ctx: Context) -> None:
        assert ctx.error is None

    made = graph({"a": (fails(KeyError("no")), {"retry": Retry(attempts=2)}), "r": repair, "z": after}, "r -> z")
    made.add_edge("a", "r", on_error=KeyError)

    await result_of(made)

    error = seen[0]
    assert (error.node, error.activation, error.type, error.message, error.attempts) == ("a", 1, "KeyError", "'no'", 2)


async def test_a_caught_failure_is_on_record_before_the_edge_that_it_takes() -> None:
    run = await ended(graph({"a": fails(ValueError("no")), "r": same}).add_edge("a", "r", on_error=ValueError))

    events = [event.type for event in run.machine.history.events()]
    assert events[2:5] == ["node_started", "node_failed", "edge_taken"]


class Typed(TypedDict):
    x: int


async def test_an_error_edge_catches_a_timeout_and_an_update_that_does_not_fit() -> None:
    for function, options, error in [(forever, {"timeout": 1}, TimeoutError), (sets(odd=1), {}, UnknownKey)]:
        made = graph({"a": (function, options), "r": sets(x=2)}, state=Typed).add_edge("a", "r", on_error=error)

        assert (await result_of(made, {"x": 1})).state == {"x": 2}


async def test_an_error_edge_catches_no_conflict_and_no_missing_route() -> None:
    joined = graph({"s": same, "a": sets(x=1), "b": sets(x=2), "j": same, "r": same}, "s -> a, b -> j")
    lost = graph({"j": same, "k": same, "r": same}, name="lost").add_edge("j", "k", when=lambda s: False)
    for made, error in [(joined, MergeConflict), (lost, NoRoute)]:
        made.add_edge("j", "r", on_error=Exception)

        assert isinstance((await failure_of(made)).cause, error)


# --- policies -------------------------------------------------------------------------------------------


async def test_the_first_failure_cancels_the_others_and_waits_for_their_clean_up() -> None:
    times = Times()

    async def slow(state: Any) -> None:
        async with times.noted("slow"):
            try:
                await anyio.sleep_forever()
            finally:
                with anyio.CancelScope(shield=True):
                    await anyio.sleep(3)

    async with Engine() as engine:
        made = graph(
            {"s": same, "bad": fails(ValueError("no"), 1), "slow": slow, "after": same}, "s -> bad, slow -> after"
        )
        run = await engine.submit(made)
        assert await run.wait() == "failed"

        assert (anyio.current_time(), times.total) == (4, 4)
    assert {entry.node: entry.status for entry in run.log} == {"s": "succeeded", "bad": "failed", "slow": "cancelled"}
    assert types(run).count("node_cancelled") == 1


async def test_two_failures_at_once_are_both_reported() -> None:
    now = anyio.Event()

    async def bad(state: Any, ctx: Context) -> None:
        await now.wait()
        raise ValueError(ctx.node)

    async with Engine() as engine:
        run = await engine.submit(graph({"s": same, "a": bad, "b": bad}, "s -> a, b"))
        await anyio.sleep(1)
        now.set()
        with failing() as failed:
            await run.result()

    assert {failure.node: str(failure.cause) for failure in failed} == {"a": "a", "b": "b"}


async def test_a_failure_during_the_clean_up_after_a_failure_is_reported_too() -> None:
    async def unclean(state: Any) -> None:
        try:
            await anyio.sleep_forever()
        finally:
            raise KeyError("clean-up")

    run = await ended(graph({"s": same, "a": fails(ValueError("a"), 1), "b": unclean}, "s -> a, b"))

    assert [(f.node, type(f.cause)) for f in run.machine.failures] == [("a", ValueError), ("b", KeyError)]


async def test_run_failed_is_a_group_of_every_failure_with_node_activation_attempts_and_cause() -> None:
    error = ValueError("no")

    run = await ended(graph({"bad": (fails(error), {"retry": Retry(attempts=2, delay=0)})}))

    with pytest.raises(ExceptionGroup) as raised:
        await run.result()
    (failure,) = raised.value.exceptions
    assert (failure.node, failure.activation, failure.attempts, failure.__cause__) == ("bad", 1, 2, error)  # type: ignore[attr-defined]
    assert "bad" in str(failure)


async def test_with_continue_the_other_branches_run_to_their_end_and_every_failure_is_reported() -> None:
    times = Times()
    nodes = {
        "s": same,
        "a": fails(ValueError("a")),
        "b": fails(KeyError("b"), 1),
        "c": times.node("c", 2, c=1),
        "d": sets(d=1),
    }

    run = await ended(graph(nodes, "s -> a, b, c -> d", on_failure="continue", name="x"))

    assert (times.total, [f.node for f in run.machine.failures][:2]) == (2, ["a", "b"])


async def test_with_continue_an_all_join_fails_that_lacks_a_failed_branch() -> None:
    nodes = {"s": same, "a": fails(ValueError("a")), "b": sleeps(1), "j": same}

    run = await ended(graph(nodes, "s -> a, b -> j", on_failure="continue"))

    assert [(f.node, type(f.cause)) for f in run.machine.failures] == [("a", ValueError), ("j", JoinStarved)]
    assert "j" not in run.visited


async def test_the_record_keeps_the_state_at_the_point_of_failure() -> None:
    nodes = {"s": sets(s=1), "done": sets(done=1), "live": forever, "bad": fails(ValueError("no"), 1)}

    run = await ended(graph(nodes, "s -> done, live, bad"))

    assert run.state == {"s": 1, "done": 1}


# --- cancellation that nobody asked for -----------------------------------------------------------------


@pytest.mark.parametrize("retries", [1, 3])
async def test_a_stray_cancellation_fails_the_node_and_nothing_else(retries: int) -> None:
    async def odd(state: Any) -> None:
        raise await stray()

    async with Engine() as engine:
        other = await engine.submit(graph({"other": sleeps(5, x=1)}, name="other"))
        made = graph({"odd": (odd, {"retry": Retry(attempts=retries, delay=0)}), "after": same}, "odd -> after")
        run = await engine.submit(made)
        with failing() as failed:
            await run.result()
        again = await engine.submit(made)

        assert (failed[0].node, failed[0].attempts, type(failed[0].cause)) == ("odd", retries, StrayCancellation)
        assert (await other.result()).state == {"x": 1}
        assert await again.wait() == "failed"


async def test_a_bare_cancelled_error_fails_the_node_on_asyncio_and_an_error_edge_catches_it(
    anyio_backend_name: str,
) -> None:
    async def odd(state: Any) -> None:
        raise asyncio.CancelledError if anyio_backend_name == "asyncio" else await stray()

    made = graph({"odd": odd, "repair": sets(x=1)}).add_edge("odd", "repair", on_error=Exception)

    assert (await result_of(made)).state == {"x": 1}


# --- cancelling, retrying, leaving ----------------------------------------------------------------------


async def test_cancel_is_a_request_idempotent_and_nothing_to_a_finished_run() -> None:
    async with Engine() as engine:
        run = await engine.submit(graph({"a": forever}))
        done = await engine.submit(graph({"b": same}, name="done"))
        await done.result()
        await done.cancel("too late")
        for _ in range(3):
            await run.cancel("enough")

        assert (await run.wait(), done.status) == ("cancelled", "succeeded")
        with pytest.raises(RunCancelled, match="enough"):
            await run.result()
        await run.cancel("again")
        assert run.status == "cancelled"


async def test_what_is_queued_at_a_node_is_cancelled_without_running() -> None:
    times = Times()
    async with Engine() as engine:
        made = graph({"node": (times.node("node", 10), {"concurrency": 1})})
        first = await engine.submit(made)
        second = await engine.submit(made)
        await anyio.sleep(1)
        await second.cancel()
        assert await second.wait() == "cancelled"
        await first.result()

    assert times.starts == {"node": [0]}


async def test_a_run_that_waits_for_a_retry_is_cancelled_at_once() -> None:
    async with Engine() as engine:
        run = await engine.submit(graph({"node": (fails(ValueError("no")), {"retry": Retry(delay=100)})}))
        await anyio.sleep(1)
        await run.cancel()
        await run.wait()

        assert (anyio.current_time(), run.status) == (1, "cancelled")


async def test_retry_runs_a_failed_run_on_without_running_again_what_had_succeeded() -> None:
    bad = Flaky(ValueError("first"), x=1)
    nodes = {"s": sets(s=1), "a": sets(a=1), "bad": bad, "j": same}
    async with Engine() as engine:
        run = await engine.submit(graph(nodes, "s -> a, bad -> j"))
        assert await run.wait() == "failed"
        await run.retry()
        result = await run.result()

    assert result.state == {"s": 1, "a": 1, "x": 1}
    assert {entry.node: (entry.activation, entry.attempt) for entry in result.log}["bad"] == (1, 2)
    assert result.visited.count("a") == result.visited.count("j") == 1


async def test_an_update_on_retry_changes_what_the_failed_activation_is_given() -> None:
    async def needs(state: dict[str, Any]) -> dict[str, int]:
        return {"answer": 10 // state["divisor"]}

    async with Engine() as engine:
        run = await engine.submit(graph({"node": needs}), {"divisor": 0})
        with failing():
            await run.result()
        await run.retry({"divisor": 5})

        assert (await run.result()).state == {"divisor": 5, "answer": 2}


async def test_only_a_failed_run_can_be_retried() -> None:
    async with Engine() as engine:
        run = await engine.submit(graph({"a": same}))
        await run.result()
        with pytest.raises(RunEnded):
            await run.retry()


async def test_events_and_waiting_go_on_over_a_retry() -> None:
    async with Engine() as engine:
        run = await engine.submit(graph({"bad": Flaky(ValueError("first"), x=1)}))
        first = [event async for event in run.events()]
        await run.retry()
        second = [event async for event in run.events(after=first[-1].seq)]

    assert (first[-1].type, second[-1].type) == ("run_failed", "run_succeeded")
    assert [event.seq for event in [*first, *second]] == [*range(1, len(first) + len(second) + 1)]


async def test_leaving_without_an_exception_waits_for_the_runs_that_are_running() -> None:
    async with Engine(max_runs=1) as engine:
        run = await engine.submit(graph({"a": sleeps(10), "b": sleeps(10)}, "a -> b"))
        queued = await engine.submit(graph({"c": sleeps(5)}, name="queued"))

    assert (run.status, queued.status, anyio.current_time()) == ("succeeded", "succeeded", 25)


@pytest.mark.only_on("none", reason="with a store they stay for the next start: tests/engine/test_durable.py")
async def test_leaving_cancels_runs_that_only_wait_with_a_warning_that_names_them(caplog: Any) -> None:
    with caplog.at_level(logging.WARNING, "engine"):
        async with Engine() as engine:
            waiting = graph({"s": same}, name="approval").add_wait("wait", signal="go", into="x").add_edge("s", "wait")
            run = await engine.submit(waiting)
            await run.pause()
            other = await engine.submit(waiting)

    assert (run.status, other.status) == ("cancelled", "cancelled")
    (warning,) = [record for record in caplog.records if record.name == "engine"]
    for part in (run.id, other.id, "approval"):
        assert part in warning.getMessage()


async def test_leaving_with_an_exception_cancels_and_lets_it_through(store_under: str) -> None:
    times = Times()
    with pytest.raises(KeyError, match="out"):  # noqa: PT012  # it is raised inside
        async with Engine() as engine:
            run = await engine.submit(graph({"a": times.node("a", 100)}))
            await anyio.sleep(1)
            raise KeyError("out")

    # What runs is cancelled; with a store the run itself goes on at the next start.
    assert (run.status, times.total) == ("cancelled" if store_under == "none" else "running", 1)


async def test_leaving_while_cancelled_from_outside_cancels_the_runs(store_under: str) -> None:
    times = Times()
    with anyio.move_on_after(2):
        async with Engine() as engine:
            run = await engine.submit(graph({"a": times.node("a", 100)}))

    assert (run.status, times.total) == ("cancelled" if store_under == "none" else "running", 2)


async def test_drain_refuses_new_runs_and_waits_for_those_that_run() -> None:
    async with Engine() as engine:
        slow, quick = [await engine.submit(graph({"a": sleeps(s)}, name=f"s{s}")) for s in (10, 1)]

        assert await engine.drain(5) == [slow]
        with pytest.raises(EngineClosed):
            await engine.submit(graph({"a": same}))
        assert (quick.status, await engine.drain(), anyio.current_time()) == ("succeeded", [], 10)


async def test_an_engine_that_was_left_takes_no_runs() -> None:
    async with Engine() as engine:
        pass

    with pytest.raises(EngineClosed):
        await engine.submit(graph({"a": same}))


# --- a crash of the engine's own machinery --------------------------------------------------------------


async def test_a_crash_of_a_nodes_actor_redelivers_what_it_had_in_hand() -> None:
    calls: list[Any] = []

    async def work(state: Any, ctx: Context) -> dict[str, int]:
        calls.append((ctx.run_id, ctx.activation, ctx.attempt))
        await anyio.sleep(10)
        return {"calls": len(calls)}

    async with Engine() as engine:
        made = graph({"s": same, "work": work, "after": same}, "s -> work -> after")
        runs = [await engine.submit(made, run_id=f"r{number}") for number in range(3)]
        await anyio.sleep(5)
        crash(engine)
        assert [await run.wait() for run in runs] == ["succeeded"] * 3

        assert calls[:3] == [(f"r{number}", 1, 1) for number in range(3)]
        assert sorted(calls[3:]) == sorted(calls[:3])
        assert anyio.current_time() == pytest.approx(15, abs=0.1)
        assert [entry.node for entry in runs[0].log] == ["s", "work", "after"]


@pytest.mark.parametrize("crashes", [2, 8])
async def test_many_crashes_in_a_row_lose_nothing_either(crashes: int) -> None:
    async with Engine() as engine:
        made = graph({"work": (sleeps(10, x=1), {"concurrency": 1})})
        runs = [await engine.submit(made) for _ in range(2)]
        for _ in range(crashes):
            await anyio.sleep(0.1)
            crash(engine)

        assert [(await run.result()).state for run in runs] == [{"x": 1}] * 2


async def test_what_was_being_cancelled_when_its_actor_crashed_is_not_run_again() -> None:
    times = Times()

    async def slow(state: Any) -> None:
        async with times.noted("slow"):
            try:
                await anyio.sleep_forever()
            finally:
                with anyio.CancelScope(shield=True):
                    await anyio.sleep(5)

    async with Engine() as engine:
        run = await engine.submit(graph({"slow": slow}))
        await anyio.sleep(1)
        await run.cancel()
        await anyio.sleep(1)
        crash(engine)

        assert await run.wait() == "cancelled"
        assert len(times.starts["slow"]) == 1


# --- what cannot begin ----------------------------------------------------------------------------------


class Narrow(TypedDict):
    missing: int


async def wants_more(state: Narrow) -> None:
    """Never called: its input lacks a key."""


def inside() -> Graph:
    return graph({"x": wants_more}, name="inside", state=Narrow)


@pytest.mark.parametrize("on_failure", ["cancel", "continue"])
@pytest.mark.parametrize("kinds", ["nodes", "subgraphs", "maps"])
async def test_what_cannot_begin_fails_and_what_fails_beside_it_at_the_same_moment_hangs_nothing(
    kinds: str, on_failure: Any
) -> None:
    made = Graph("test", on_failure=on_failure)
    for name in "abc":
        if kinds == "maps":
            made.add_map(name, inside(), over="rows", into=name)
        else:
            made.add_node(name, wants_more if kinds == "nodes" else inside())
    run = await ended(made.set_entry_point(*"abc"), {"rows": [1, 2, 3]})

    failed = [failure.node for failure in run.machine.failures]
    assert failed == (["a"] if on_failure == "cancel" else ["a", "b", "c"])
    assert all(isinstance(failure.cause, StateInvalid) for failure in run.machine.failures)
    assert {entry.node for entry in run.log if entry.status == "failed"} >= set(failed)


async def test_what_cannot_begin_is_tried_again_and_caught_like_any_failure() -> None:
    made = graph({"a": (wants_more, {"retry": Retry(attempts=3, delay=1)}), "repair": same})
    made.add_edge("a", "repair", on_error=StateInvalid)

    run = await ended(made)

    assert [(entry.node, entry.attempt, entry.status) for entry in run.log] == [
        *[("a", attempt, "failed") for attempt in (1, 2, 3)],
        ("repair", 1, "succeeded"),
    ]


class Unspeakable(Exception):
    def __str__(self) -> str:
        raise RuntimeError("no text")


async def test_an_error_without_a_text_is_the_nodes_and_not_the_engines() -> None:
    async def look(state: Any, ctx: Context) -> dict[str, Any]:
        return {"error": (ctx.error.type, ctx.error.message)}

    made = graph({"a": fails(Unspeakable()), "repair": look}).add_edge("a", "repair", on_error=Unspeakable)

    failure = await failure_of(graph({"a": fails(Unspeakable())}))

    assert (failure.node, type(failure.cause)) == ("a", Unspeakable)
    assert "Unspeakable: (its text cannot be had: RuntimeError)" in str(failure)
    assert (await result_of(made)).state["error"] == ("Unspeakable", "(its text cannot be had: RuntimeError)")
