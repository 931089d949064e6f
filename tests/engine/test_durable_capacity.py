"""What a node holds until the consequences of its end have begun, it holds until their records are safe."""

from __future__ import annotations

import anyio
import pytest

from engine import Engine, Graph
from engine.stores.memory import MemoryStore
from tests.faulty_store import FaultyStore

pytestmark = pytest.mark.anyio


async def test_while_the_store_fails_no_more_start_than_the_edge_has_room_for() -> None:
    started = 0
    store = FaultyStore(MemoryStore(), rate=0)

    async def fast(state: dict[str, int]) -> None:
        nonlocal started
        started += 1
        if started == 1:
            store.fail()

    graph = Graph("g").add_node("fast", fast).add_node("slow", lambda state: None, run_in="loop")
    graph.add_edge("fast", "slow", capacity=2).add_wait("wait", signal="go", into="it").add_edge("wait", "fast")
    graph.set_entry_point("wait")
    async with Engine(store) as engine:
        runs = [await engine.submit(graph, {}) for _ in range(6)]
        async with anyio.create_task_group() as group:
            for run in runs:
                group.start_soon(run.signal, "go")
            await anyio.sleep(0.1)
            assert started <= 2
            store.heal()
        for run in runs:
            await run.result()
    assert started == 6
