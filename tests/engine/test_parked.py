"""Runs that no engine drives at the moment: what they are told meanwhile is neither lost nor told twice."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import aclosing
from typing import Any

import anyio
import pytest

from engine import Context, Engine, Graph
from engine.stored import Collect, Write
from engine.stores.memory import MemoryStore

State = dict[str, Any]


class Store(MemoryStore):
    """Loses what it is told to, as if the process had been killed before."""

    lost: tuple[type, ...] = ()

    async def commit(self, writes: Sequence[Write], *, sync: bool = False) -> None:
        await super().commit([write for write in writes if not isinstance(write, self.lost)], sync=sync)


@pytest.fixture
def store() -> Store:
    return Store()


async def take(state: State, context: Context) -> State:
    return {"taken": [*state["taken"], state["it"]]}


def taking(count: int) -> Graph:
    """Waits for so many signals."""
    graph = Graph("taking").add_wait("wait", signal="go", into="it").add_node("take", take)
    graph.add_edge("wait", "take").add_wait("end", signal="end", into="ended").set_entry_point("wait")
    graph.add_edge("take", "wait", when=lambda state: len(state["taken"]) < count, max_iterations=100)
    return graph.add_edge("take", "end", otherwise=True)


async def parked(store: Store, count: int) -> str:
    async with Engine(store) as engine:
        return (await engine.submit(taking(count), {"taken": []})).id


async def taken(engine: Engine, id: str, count: int) -> list[Any]:
    run = await engine.get(id)
    with anyio.fail_after(30):
        async with aclosing(run.events()) as events:
            async for _ in events:
                if len(run.state["taken"]) >= count:
                    break
    found: list[Any] = run.state["taken"]
    return found


async def test_a_large_signal_reaches_a_run_that_was_parked(store: Store) -> None:
    id = await parked(store, 1)
    async with Engine(store) as engine:
        await (await engine.get(id)).signal("go", "x" * 100_000)
    async with Engine(store) as engine:
        engine.register(taking(1))
        assert await taken(engine, id, 1) == ["x" * 100_000]


async def test_a_signal_without_an_id_is_handed_over_once_though_a_crash_came_before_it_was_collected(
    store: Store,
) -> None:
    id = await parked(store, 2)
    async with Engine(store) as engine:
        await (await engine.get(id)).signal("go", 1)
    store.lost = (Collect,)
    async with Engine(store) as engine:
        engine.register(taking(2))
        assert await taken(engine, id, 1) == [1]
    store.lost = ()
    async with Engine(store) as engine:
        engine.register(taking(2))
        await (await engine.get(id)).signal("go", 2)
        assert await taken(engine, id, 2) == [1, 2]


async def test_a_signal_by_one_who_still_holds_the_run_as_parked_reaches_it_at_once(store: Store) -> None:
    id = await parked(store, 2)
    async with Engine(store) as engine:
        run = await engine.get(id)
        engine.register(taking(2))
        await run.signal("go", 1)
        assert await taken(engine, id, 1) == [1]
        await run.signal("go", 2)
        assert await taken(engine, id, 2) == [1, 2]


async def test_a_cancel_by_one_who_still_holds_the_run_as_parked_ends_it(store: Store) -> None:
    id = await parked(store, 1)
    async with Engine(store) as engine:
        run = await engine.get(id)
        engine.register(taking(1))
        await engine.get(id)
        await run.cancel()
        with anyio.fail_after(30):
            assert await (await engine.get(id)).wait() == "cancelled"
