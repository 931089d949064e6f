"""What a run tells whoever holds it."""

import gc
import threading
from pathlib import Path
from typing import Any

import anyio
import anyio.to_thread
import pytest

from actors import StopReason
from engine import Context, Engine, EngineError, Graph, RunCancelled, RunFailed
from engine.hands import Hands, NodesActor
from engine.timers import Timers


def one(function: Any, name: str = "one", **options: Any) -> Graph:
    return Graph(name).add_node("a", function, **options).set_entry_point("a")


async def fail(state: dict[str, Any]) -> None:
    await anyio.sleep(0.01)
    raise ValueError("as asked\nwith details")


@pytest.mark.parametrize("readers_first", [True, False])
async def test_the_event_of_a_failure_is_read_before_the_exception_comes(readers_first: bool) -> None:
    order: list[str] = []

    async with Engine() as engine:
        for _ in range(10):  # trio shuffles
            run = await engine.submit(one(fail), {})

            async def read() -> None:
                async for event in run.events():  # noqa: B023
                    if event.type == "run_failed":
                        order.append("event")

            async def wait() -> None:
                with pytest.raises(RunFailed):
                    await run.result()  # noqa: B023
                order.append("exception")

            async with anyio.create_task_group() as group:
                for task in (read, wait) if readers_first else (wait, read):
                    group.start_soon(task)

    assert order == ["event", "exception"] * 10


async def test_events_may_be_left_at_any_point() -> None:
    # With warnings as errors: of a generator that nobody closed, trio warns.
    async with Engine() as engine:
        run = await engine.submit(one(fail), {})
        async for _ in run.events():
            break
        with anyio.move_on_after(0.001):
            async for _ in run.events(after=2):
                pass
        gc.collect()

        last = [event async for event in run.events()][-1]
    assert last.type == "run_failed"


async def test_events_that_have_ended_stay_ended() -> None:
    async with Engine() as engine:
        run = await engine.submit(one(fail), {})
        events = run.events()
        assert [event.seq async for event in events] == [*range(1, run.machine.history.seq + 1)]

        assert [event async for event in events] == []


async def test_a_run_that_the_engine_fails_on_records_it_and_says_so_to_each_who_asks() -> None:
    async def wait(state: dict[str, Any]) -> None:
        await anyio.sleep_forever()

    async with Engine() as engine:
        run = await engine.submit(one(wait), {})
        run.broke(KeyError("inside"))
        events = [event async for event in run.events()]

        assert (events[-1].type, "KeyError" in events[-1].data["error"]) == ("run_failed", True)
        for _ in range(2):
            with pytest.raises(EngineError, match="the engine itself failed") as caught:
                await run.result()
            assert isinstance(caught.value.__cause__, KeyError)


async def test_each_who_asks_for_a_result_gets_an_exception_of_their_own() -> None:
    def depth(error: BaseException) -> int:
        trace, length = error.__traceback__, 0
        while trace is not None:
            trace, length = trace.tb_next, length + 1
        return length

    async with Engine() as engine:
        failed = await engine.submit(one(fail), {})
        cancelled = await engine.submit(one(fail), {})
        await cancelled.cancel("enough")
        caught: dict[type, list[BaseException]] = {RunFailed: [], RunCancelled: []}
        for run, kind in ((failed, RunFailed), (cancelled, RunCancelled)) * 3:
            try:
                await run.result()
            except kind as error:
                caught[kind].append(error)

    for errors in caught.values():
        assert len({id(error) for error in errors}) == len({str(error) for error in errors}) + 2 == 3
        assert len({depth(error) for error in errors}) == 1
    assert isinstance(caught[RunFailed][2], RunFailed)
    assert caught[RunFailed][2].run_id == failed.id


async def test_the_text_of_a_failed_run_names_the_first_cause_in_a_line() -> None:
    graph = one(fail).add_node("b", fail).set_entry_point("a", "b")
    async with Engine() as engine:
        with pytest.raises(RunFailed, match=r"failed: a#1 \(by ValueError: as asked\)"):
            await engine.run(one(fail, "other"), {})
        run = await engine.submit(graph, {})
        await run.wait()

        assert "by ValueError: as asked)" in str(run.machine.error)


async def test_a_run_says_how_much_of_its_history_is_gone() -> None:
    async def count(state: dict[str, int]) -> dict[str, int]:
        return {"n": state["n"] + 1}

    graph = Graph("loop", history=10).add_node("a", count).set_entry_point("a")
    graph.add_edge("a", "a", when=lambda state: state["n"] < 100, max_iterations=200)
    graph.add_edge("a", "end", otherwise=True).add_node("end", count)
    async with Engine() as engine:
        run = await engine.submit(graph, {"n": 0})
        await run.result()
        kept = [event.seq async for event in run.events(after=run.events_dropped)]

    assert (len(run.log), run.log_dropped) == (10, 91)
    assert (len(run.visited), run.visited_dropped) == (10, 91)
    assert min(kept) == run.events_dropped + 1 > 100


async def test_events_after_a_negative_number_are_all_events() -> None:
    async def nothing(state: dict[str, Any]) -> None: ...

    async with Engine() as engine:
        run = await engine.submit(one(nothing), {})
        await run.wait()

        assert 1 in [event.seq async for event in run.events(after=-5)]


async def test_what_a_thread_reports_after_its_time_out_is_dropped(tmp_path: Path) -> None:
    release, reported = threading.Event(), threading.Event()

    def report_late(state: dict[str, Any], ctx: Context) -> None:
        release.wait(60)
        ctx.progress(0.5)
        reported.set()

    async def recover(state: dict[str, Any]) -> None:
        release.set()
        with anyio.fail_after(60):
            assert await anyio.to_thread.run_sync(reported.wait, 60)

    graph = one(report_late, timeout=0.02).add_node("b", recover).add_edge("a", "b", on_error=TimeoutError)
    async with Engine() as engine:
        run = await engine.submit(graph, {})
        await run.result()

        assert "node_progress" not in [event.type async for event in run.events()]


@pytest.mark.parametrize("fraction", ["x", 7, -0.1, True, float("nan")])
def test_progress_is_a_number_from_0_to_1(fraction: Any) -> None:
    with pytest.raises(ValueError, match="the fraction must be a number from 0 to 1"):
        Context().progress(fraction)
    Context().progress(1)


async def test_the_tasks_of_a_graph_that_are_cancelled_from_within_are_a_crash() -> None:
    hands = Hands("x", Timers())

    async def serve() -> StopReason:
        assert hands._group is not None
        hands._group.cancel_scope.cancel()
        await anyio.sleep_forever()
        raise AssertionError

    with pytest.raises(RuntimeError, match="the tasks of the nodes of x were cancelled from within"):
        await NodesActor(hands).around(serve)
