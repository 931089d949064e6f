"""SEMANTICS section 9 through the engine: waits, signals, pausing."""

from __future__ import annotations

from typing import Any, TypedDict

import anyio
import pytest

from actors.testing import tasks_left
from engine import Engine, Graph, Retry, RunEnded, Signal, StateInvalid, UnknownSignal
from tests.semantics.engine_cases import Times, fails, graph, same, sets, types


def waiting(**options: Any) -> Graph:
    """`s -> wait -> end`, the wait for `approved` into `approval`."""
    made = graph({"s": same, "end": same})
    made.add_wait("wait", **{"signal": "approved", "into": "approval", **options})
    return made.add_edge("s", "wait").add_edge("wait", "end")


async def settle() -> None:
    """Let everything happen that can, at this instant."""
    await anyio.sleep(0.001)


async def test_a_wait_parks_its_token_without_a_task_while_other_branches_go_on() -> None:
    times = Times()
    async with Engine() as engine:
        made = waiting().add_node("other", times.node("other", 5)).add_edge("s", "other")
        runs = [await engine.submit(made) for _ in range(20)]
        await anyio.sleep(10)

        assert {run.status for run in runs} == {"waiting"}
        assert len(times.ends["other"]) == 20
        before = len(tasks_left())
        runs += [await engine.submit(waiting()) for _ in range(0)]
        assert before < 40
        for run in runs:
            await run.signal("approved", "yes")
            assert (await run.result()).state["approval"] == "yes"


async def test_waits_cost_no_task() -> None:
    async with Engine() as engine:
        for _ in range(3):
            await engine.submit(waiting())
        await settle()
        before = len(tasks_left())
        for _ in range(200):
            await engine.submit(waiting())
        await settle()

        assert len(tasks_left()) == before
        for run in await engine.runs(limit=1000):
            await run.signal("approved")


class Asked(TypedDict, total=False):
    approval: bool
    either: Any


async def test_a_payload_that_does_not_fit_its_key_is_refused_to_the_sender_and_nothing_is_kept() -> None:
    made = Graph("g", state=Asked).add_wait("wait", signal="approved", into="approval").set_entry_point("wait")
    made.add_wait("other", signal=["approved", "refused"], into="either").add_edge("wait", "other")
    strict = Graph("strict", state=Asked).add_wait("wait", signal="approved", into="approval").set_entry_point("wait")
    async with Engine() as engine:
        run = await engine.submit(strict, {})
        with pytest.raises(StateInvalid, match="the payload of signal 'approved'") as refused:
            await run.signal("approved", "yes", id="1")
        assert refused.value.faults[0].path == ("approval",)
        await run.signal("approved", True, id="1")
        assert (await run.result()).state == {"approval": True}

        run = await engine.submit(made, {})  # the second wait takes what the first could not
        await run.signal("approved", True)
        await run.signal("approved", "whatever")
        assert (await run.result()).state["either"] == Signal("approved", "whatever")


async def test_a_signal_is_kept_until_it_is_consumed() -> None:
    async with Engine() as engine:
        made = waiting().add_node("slow", Times().node("slow", 5)).add_edge("s", "slow")
        run = await engine.submit(made)
        await run.signal("approved", 1)

        assert (await run.result()).state == {"approval": 1}


async def test_signals_are_consumed_in_order_and_the_rest_is_listed_in_the_result() -> None:
    made = waiting()
    made.add_wait("again", signal="approved", into="second").add_edge("end", "again")
    async with Engine() as engine:
        run = await engine.submit(made)
        await run.pause()  # or it may be over before the third is sent: with a store, sending takes time
        for payload in (1, 2, 3):
            await run.signal("approved", payload)
        await run.resume()
        result = await run.result()

    assert result.state == {"approval": 1, "second": 2}
    assert [(kept.name, kept.payload) for kept in result.unconsumed] == [("approved", 3)]


async def test_a_signal_counts_once_per_id() -> None:
    made = waiting()
    made.add_wait("again", signal="approved", into="second").add_edge("end", "again")
    async with Engine() as engine:
        run = await engine.submit(made)
        await run.signal("approved", 1, id="one")
        await run.signal("approved", 2, id="one")
        await settle()
        assert run.status == "waiting"
        await run.signal("approved", 3, id="two")

        assert (await run.result()).state == {"approval": 1, "second": 3}


async def test_the_longest_parked_wait_gets_the_signal() -> None:
    made = graph({"s": same, "slow": Times().node("slow", 1)}, "s -> slow")
    made.add_wait("late", signal="go", into="late").add_wait("early", signal="go", into="early")
    made.add_edge("slow", "late").add_edge("s", "early")
    async with Engine() as engine:
        run = await engine.submit(made)
        await anyio.sleep(5)
        await run.signal("go", 1)
        await settle()
        await run.signal("go", 2)

        assert (await run.result()).state == {"early": 1, "late": 2}


async def test_an_unknown_signal_and_a_finished_run_are_refused() -> None:
    async with Engine() as engine:
        run = await engine.submit(waiting())
        with pytest.raises(UnknownSignal) as unknown:
            await run.signal("aproved")
        assert (unknown.value.name, unknown.value.known) == ("aproved", ("approved",))
        await run.signal("approved")
        await run.result()
        with pytest.raises(RunEnded):
            await run.signal("approved")


async def test_of_several_names_the_first_to_come_decides_and_is_named() -> None:
    async with Engine() as engine:
        run = await engine.submit(waiting(signal=["approved", "rejected"]))
        await run.pause()
        await run.signal("rejected", "too long")
        await run.signal("approved", "fine")
        await run.resume()
        result = await run.result()

    assert result.state == {"approval": Signal("rejected", "too long")}
    assert [kept.name for kept in result.unconsumed] == ["approved"]


async def test_on_timeout_into_gets_none() -> None:
    async with Engine() as engine:
        result = await engine.run(waiting(timeout=3600))

        assert (result.state, anyio.current_time()) == ({"approval": None}, 3600)


async def test_on_timeout_the_waits_error_edge_is_taken_if_it_has_one() -> None:
    made = waiting(timeout=60).add_node("late", sets(late=True)).add_edge("wait", "late", on_error=TimeoutError)
    async with Engine() as engine:
        result = await engine.run(made)

    assert (result.state, result.not_run) == ({"late": True}, ("end",))


async def test_a_signal_in_time_ends_the_timeout() -> None:
    async with Engine() as engine:
        run = await engine.submit(waiting(timeout=10))
        await anyio.sleep(9)
        await run.signal("approved", 1)
        assert (await run.result()).state == {"approval": 1}
        await anyio.sleep(10)
        assert len(engine._timers) == 0


async def test_a_wait_in_a_subgraph_gets_the_runs_signals() -> None:
    async with Engine() as engine:
        run = await engine.submit(graph({"sub": waiting(), "after": same}, "sub -> after", name="outer"))
        await settle()
        assert run.status == "waiting"
        await run.signal("approved", 7)

        assert (await run.result()).state == {"approval": 7}


async def test_pause_holds_new_activations_and_resume_lets_them_go() -> None:
    times = Times()
    async with Engine() as engine:
        run = await engine.submit(graph({"a": times.node("a", 1), "b": times.node("b", 1)}, "a -> b"))
        await run.pause()
        await anyio.sleep(10)
        assert (run.status, run.visited, times.end("a")) == ("paused", ["a"], 1)
        await run.resume()
        assert await run.wait() == "succeeded"

        assert times.start("b") == 10


async def test_retries_and_timeouts_of_waits_go_on_in_a_pause() -> None:
    calls = []

    async def flaky(state: Any) -> None:
        calls.append(anyio.current_time())
        raise OSError("no")

    made = waiting(timeout=5).add_node("flaky", flaky, retry=Retry(attempts=2, delay=3, jitter=0))
    made.add_node("caught", same).add_edge("flaky", "caught", on_error=OSError).add_edge("s", "flaky")
    async with Engine() as engine:
        run = await engine.submit(made)
        await settle()
        await run.pause()
        await anyio.sleep(100)
        assert calls == pytest.approx([0, 3], abs=0.01)
        assert {entry.node: entry.status for entry in run.log}["wait"] == "succeeded"
        await run.resume()
        assert await run.wait() == "succeeded"


async def test_pausing_twice_and_resuming_what_is_not_paused_do_nothing() -> None:
    async with Engine() as engine:
        run = await engine.submit(waiting())
        await run.resume()
        await run.pause()
        await run.pause()
        await run.signal("approved", 1)
        await run.resume()
        await run.resume()
        await run.result()
        await run.pause()
        await run.resume()

    assert run.status == "succeeded"


async def test_a_paused_run_can_be_cancelled() -> None:
    async with Engine() as engine:
        run = await engine.submit(graph({"a": same, "b": same}, "a -> b"))
        await run.pause()
        await settle()
        await run.cancel()

        assert await run.wait() == "cancelled"


async def test_status_and_events_tell_of_waiting() -> None:
    async with Engine() as engine:
        run = await engine.submit(waiting())
        await settle()
        await run.signal("approved")
        await run.result()

    assert types(run).count("run_waiting") == 1


async def test_cancelling_a_run_that_waits_ends_it_at_once() -> None:
    async with Engine() as engine:
        run = await engine.submit(waiting(timeout=100))
        await settle()
        await run.cancel()
        assert await run.wait() == "cancelled"

        assert len(engine._timers) == 0


async def test_a_failure_elsewhere_ends_a_wait() -> None:
    made = waiting(timeout=100).add_node("bad", fails(ValueError("no"), 1)).add_edge("s", "bad")
    async with Engine() as engine:
        run = await engine.submit(made)
        assert await run.wait() == "failed"

        assert anyio.current_time() == 1
