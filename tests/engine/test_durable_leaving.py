"""Leaving an engine with a store, however that happens: quickly, nothing written by halves, nobody left waiting."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import suppress
from typing import Any

import anyio
import anyio.lowlevel
import pytest

from actors.testing import BACKENDS, Backend, run
from engine import Context, Engine, EngineClosed, EngineError, Graph, Run, StoreUnavailable
from engine.settings import Settings
from engine.stored import Write
from engine.stores.memory import MemoryStore
from tests.virtual_time import anyio_backend as anyio_backend

State = dict[str, Any]


class Slow(MemoryStore):
    """A store that takes its time, or is out of order."""

    seconds = 0.0
    broken = False

    async def commit(self, writes: Sequence[Write], *, sync: bool = False) -> None:
        if self.broken:
            raise StoreUnavailable("the disk is full")
        await anyio.sleep(self.seconds)
        await super().commit(writes, sync=sync)


def line(*waits: float) -> Graph:
    graph = Graph("g")
    for place in range(len(waits)):

        async def node(state: State, context: Context) -> State:
            await anyio.sleep(waits[int(context.node[1:])])
            return {context.node: True}

        graph.add_node(f"n{place}", node)
        if place:
            graph.add_edge(f"n{place - 1}", f"n{place}")
    return graph.set_entry_point("n0")


async def test_an_engine_that_is_cancelled_in_the_middle_of_its_commits_lets_go_of_its_runs_at_once() -> None:
    store, graph = Slow(), line(*[0.0] * 200)
    store.seconds = 0.005
    for tenth in range(10):
        began, runs = anyio.current_time(), list[Run]()
        with anyio.move_on_after(0.05 + tenth / 1000):
            async with Engine(store) as engine:
                for _ in range(5):
                    runs.append(await engine.submit(graph, {}))
                await anyio.sleep(60)
        assert anyio.current_time() - began < 5, "that is close_seconds, waited out in vain"
        assert all(run.detached for run in runs)


async def test_an_engine_that_is_cancelled_in_the_middle_of_a_submission_is_left() -> None:
    store, graph = Slow(), line(60)
    store.seconds = 0.1
    async with Engine(store) as engine:
        engine.register(graph)  # or else there is that to be waited for
    with anyio.move_on_after(0.05):
        async with Engine(store) as engine:
            await engine.submit(graph, {}, run_id="mine")
    async with store:
        assert (await store.read("mine")) is not None, "what could not be cancelled has happened"


async def test_who_waits_for_a_run_is_told_that_its_engine_was_left_though_the_store_is_broken() -> None:
    store, told = Slow(), list[str]()

    async def wait_for(run: Any) -> None:
        try:
            await run.wait()
        except EngineClosed as error:
            told.append(str(error))

    async with anyio.create_task_group() as group:
        with suppress(ZeroDivisionError):
            async with Engine(store, settings=Settings(close_seconds=0.1)) as engine:
                run = await engine.submit(line(0.01, 0.01), {})
                group.start_soon(wait_for, run)
                await anyio.lowlevel.checkpoint()
                store.broken = True
                await anyio.sleep(0.05)
                raise ZeroDivisionError
        with anyio.fail_after(2):
            while not told:  # noqa: ASYNC110 - a line of a list is no event
                await anyio.sleep(0.01)
    assert "stays in the store" in told[0]


async def test_a_submission_that_the_engine_was_left_around_is_told_how_it_came_out() -> None:
    store, told = Slow(), list[str]()

    async def submit(engine: Engine) -> None:
        try:
            await engine.submit(line(60), {})
        except EngineError as error:
            told.append(type(error).__name__)

    with anyio.fail_after(5):
        async with anyio.create_task_group() as group:
            with suppress(ZeroDivisionError):
                async with Engine(store, settings=Settings(close_seconds=0.1)) as engine:
                    store.broken = True
                    group.start_soon(submit, engine)
                    await anyio.sleep(0.05)
                    raise ZeroDivisionError
    assert told in (["EngineClosed"], ["StoreUnavailable"])


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("hangs", [False, True])
def test_who_leaves_while_the_store_is_down_is_told_what_for_and_can_give_up(
    backend: Backend, hangs: bool, caplog: pytest.LogCaptureFixture
) -> None:
    store, left = Slow(), list[float]()

    async def main() -> None:
        with anyio.move_on_after(600):
            async with Engine(store) as engine:
                done = await engine.submit(line(0.01, 0.01), {}, run_id="mine")
                store.broken, store.seconds = not hangs, 10_000.0
                left.append(anyio.current_time())
        left.append(anyio.current_time())
        assert done.detached

    run(main, backend=backend, virtual_time=True, patience_seconds=0.1)
    assert 590 < left[1] - left[0] < 605 + 5 * hangs, "it waits as long as it may, and not for close_seconds then"
    said = [record.getMessage() for record in caplog.records if "cannot be left" in record.getMessage()]
    assert 10 < len(said) < 20
    assert "memory:// has not taken 1 writes of 1 runs (mine)" in said[0]
    assert ("it does not answer" if hangs else "the disk is full") in said[0]


@pytest.mark.parametrize("backend", BACKENDS)
def test_who_leaves_while_runs_take_their_time_is_told_nothing(
    backend: Backend, caplog: pytest.LogCaptureFixture
) -> None:
    async def main() -> None:
        async with Engine(Slow()) as engine:
            await engine.submit(line(100, 100), {})

    run(main, backend=backend, virtual_time=True, patience_seconds=0.1)
    assert not [record for record in caplog.records if "cannot be left" in record.getMessage()]
