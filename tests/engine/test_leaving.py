"""What becomes of runs when the engine is left."""

import logging
from typing import Any

import anyio
import pytest

from engine import Engine, Graph, Retry
from tests.virtual_time import anyio_backend as anyio_backend


def one(function: Any, name: str = "one", **options: Any) -> Graph:
    return Graph(name).add_node("a", function, **options).set_entry_point("a")


def waiting() -> Graph:
    return Graph("waiting").add_wait("approve", signal="approved", into="approval").set_entry_point("approve")


async def test_a_waiting_run_that_holds_a_queued_ones_place_does_not_keep_the_engine() -> None:
    with anyio.fail_after(5):
        async with Engine(max_runs=1) as engine:
            runs = [await engine.submit(waiting(), {}) for _ in range(3)]

    assert [run.status for run in runs] == ["cancelled"] * 3


async def test_a_queued_run_with_work_to_do_is_done_after_a_waiting_one_is_given_up() -> None:
    async def work(state: dict[str, Any]) -> dict[str, Any]:
        await anyio.sleep(0.01)
        return {"done": True}

    with anyio.fail_after(5):
        async with Engine(max_runs=1) as engine:
            first = await engine.submit(waiting(), {})
            second = await engine.submit(one(work), {})

    assert (first.status, second.status, second.state) == ("cancelled", "succeeded", {"done": True})


async def test_a_run_in_the_delay_before_a_retry_is_waited_for() -> None:
    calls = []

    async def fail_once(state: dict[str, Any]) -> dict[str, Any]:
        calls.append(1)
        if len(calls) == 1:
            raise ValueError
        return {"ok": True}

    async with Engine() as engine:
        run = await engine.submit(one(fail_once, retry=Retry(delay=0.05)), {})

    assert (run.status, run.state) == ("succeeded", {"ok": True})


async def test_the_delay_before_a_retry_is_waited_for_inside_subgraphs_and_maps() -> None:
    calls: list[int] = []

    async def fail_once(item: dict[str, Any]) -> dict[str, Any]:
        calls.append(item["n"])
        if calls.count(item["n"]) == 1:
            raise ValueError
        return {"ok": True}

    inner = one(fail_once, "inner", retry=Retry(delay=0.05))
    outer = Graph("outer").add_node("sub", inner)
    outer.add_map("map", inner, over="rows", into="results").set_entry_point("sub", "map")
    async with Engine() as engine:
        run = await engine.submit(outer, {"n": 0, "rows": [{"n": 1}, {"n": 2}]})

    assert run.status == "succeeded"
    assert sorted(calls) == [0, 0, 1, 1, 2, 2]


async def test_the_items_of_a_map_are_waited_for() -> None:
    async def rows(state: dict[str, Any]) -> Any:
        for number in range(3):
            await anyio.sleep(0.01)
            yield number

    async def double(item: int) -> int:
        return 2 * item

    graph = Graph("mapping").add_map("map", double, over=rows, into="results").set_entry_point("map")
    async with Engine() as engine:
        run = await engine.submit(graph, {})

    assert run.state == {"results": [0, 2, 4]}


async def test_a_paused_run_is_given_up_only_once_its_running_node_is_done(caplog: pytest.LogCaptureFixture) -> None:
    ended = []

    async def work(state: dict[str, Any]) -> None:
        await anyio.sleep(0.05)
        ended.append(1)

    graph = one(work).add_node("b", work).add_edge("a", "b")
    async with Engine() as engine:
        run = await engine.submit(graph, {})
        await anyio.sleep(0.01)
        await run.pause()

    assert (run.status, ended) == ("cancelled", [1])
    assert [entry.status for entry in run.log] == ["succeeded"]
    assert [record.levelno for record in caplog.records].count(logging.WARNING) == 1


async def test_a_waiting_run_is_not_given_up_while_another_may_signal_it() -> None:
    async with Engine() as engine:
        first = await engine.submit(waiting(), {})

        async def approve(state: dict[str, Any]) -> None:
            await anyio.sleep(0.02)
            await first.signal("approved", True)

        await engine.submit(one(approve), {})

    assert first.state == {"approval": True}


@pytest.mark.parametrize("where", ["in the body", "while it is left"])
async def test_a_cancellation_from_outside_cancels_the_runs_and_is_passed_on(where: str) -> None:
    async def hang(state: dict[str, Any]) -> None:
        await anyio.sleep_forever()

    with anyio.fail_after(5), anyio.CancelScope() as scope:
        async with Engine() as engine:
            run = await engine.submit(one(hang), {})
            scope.deadline = anyio.current_time() + 0.02
            if where == "in the body":
                await anyio.sleep_forever()

    assert scope.cancelled_caught
    assert run.status == "cancelled"
    assert [entry.status for entry in run.log] == ["cancelled"]


async def test_a_failing_sibling_of_the_task_that_leaves_the_engine_cancels_its_runs() -> None:
    runs = []
    hanging = anyio.Event()

    async def hang(state: dict[str, Any]) -> None:
        hanging.set()
        await anyio.sleep_forever()

    async def leave() -> None:
        async with Engine() as engine:
            runs.append(await engine.submit(one(hang), {}))

    async def fail() -> None:
        await hanging.wait()
        await anyio.sleep(0.02)
        raise ValueError("sibling")

    with anyio.fail_after(5), pytest.RaisesGroup(pytest.RaisesExc(ValueError, match="sibling")):
        async with anyio.create_task_group() as group:
            group.start_soon(leave)
            group.start_soon(fail)

    assert [run.status for run in runs] == ["cancelled"]
