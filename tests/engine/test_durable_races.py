"""What happens to a run while the store is being told of it: none is begun twice, and nothing asked of it is lost."""

from __future__ import annotations

import asyncio
from typing import Any

import anyio
import pytest

from engine import Engine, EngineClosed, Graph, Run
from tests.engine.test_durable_leaving import Slow, line
from tests.virtual_time import anyio_backend as anyio_backend

State = dict[str, Any]


def waiting() -> Graph:
    return Graph("g").add_wait("wait", signal="go", into="it").set_entry_point("wait")


async def test_a_run_that_is_cancelled_while_it_is_admitted_does_not_begin() -> None:
    store = Slow()
    store.seconds = 0.02
    async with Engine(store) as engine:
        engine.register(waiting())
        async with anyio.create_task_group() as group:
            group.start_soon(lambda: engine.submit("g", {}, run_id="x"))
            await anyio.sleep(0.01)
            run = await engine.get("x")
            await run.cancel("not wanted")
        with anyio.fail_after(2):
            assert await run.wait() == "cancelled"
        assert engine.statistics().ended == {"cancelled": 1}
    async with Engine(store) as engine:
        engine.register(waiting())
        assert (await engine.get("x")).status == "cancelled"


async def test_a_queued_run_that_is_cancelled_does_not_get_the_place_that_is_free_before_the_store_knows() -> None:
    store, release, ran = Slow(), anyio.Event(), list[str]()

    async def hold(state: State) -> None:
        await release.wait()

    async def note(state: State) -> None:
        ran.append("note")

    holding = Graph("h").add_node("a", hold).set_entry_point("a")
    noting = Graph("n").add_node("a", note).set_entry_point("a")
    async with Engine(store, max_runs=1) as engine:
        first = await engine.submit(holding, {})
        queued = await engine.submit(noting, {})
        store.seconds = 0.02
        release.set()
        await anyio.sleep(0.01)  # the end of the first is on its way to the store
        await queued.cancel()
        await first.wait()
        with anyio.fail_after(2):
            assert await queued.wait() == "cancelled"
    assert ran == []


async def test_a_run_submitted_while_the_engine_is_left_is_run_or_stays_in_the_store() -> None:
    for tenth in range(30):
        store, runs = Slow(), list[Run]()
        store.seconds = 0.002

        async def submit(engine: Engine, runs: list[Run] = runs) -> None:
            with pytest.raises(EngineClosed):  # noqa: PT012 - one of many
                while True:
                    runs.append(await engine.submit(line(0.001), {}))

        async with anyio.create_task_group() as group, Engine(store) as engine:
            for _ in range(4):
                group.start_soon(submit, engine)
            await anyio.sleep(0.01 + tenth / 10_000)
        assert all(run.over or run.detached for run in runs)


async def test_a_submission_that_was_cancelled_before_the_store_heard_of_it_begins_no_run() -> None:
    async with Engine(Slow()) as engine:
        first = await engine.submit(line(0.0), {})  # or it would be cancelled earlier: where the graph's nodes start
        await first.wait()
        with anyio.CancelScope() as scope:
            scope.cancel()
            await engine.submit("g", {})

        assert engine.statistics().submitted == 1
        assert [run.id for run in await engine.runs()] == [first.id]
        assert not engine._books.active


async def test_a_submission_that_is_cancelled_natively_is_there_and_runs(anyio_backend_name: str) -> None:
    if anyio_backend_name != "asyncio":
        return
    store = Slow()
    async with Engine(store) as engine:
        store.seconds = 0.05
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(engine.submit(line(0.0), {}, run_id="x"), 0.01)
        run = engine._books.get("x")
        assert run is not None, "nobody had to ask the store for it"
        with anyio.fail_after(2):
            assert await run.wait() == "succeeded"
