"""Whether an engine is well, and its coming to rest."""

from typing import Any

import anyio
import pytest

from engine import Engine, EngineClosed, Graph, StoreUnavailable
from engine.stores.memory import MemoryStore
from engine.web.draining import Draining
from engine.web.health import FRESH_SECONDS, Readiness, health
from tests.faulty_store import FaultyStore


def graph() -> Graph:
    """One node that sleeps, then a wait for a signal."""

    async def sleep(state: dict[str, Any]) -> None:
        await anyio.sleep(state.get("seconds", 0))

    made = Graph("g").add_node("sleep", sleep).add_wait("wait", signal="go", into="answer").add_edge("sleep", "wait")
    return made.set_entry_point("sleep")


async def test_an_engine_is_alive_while_it_is_entered() -> None:
    engine = Engine("memory://")
    assert (health(engine)[0], engine.vitals.alive) == (503, False)
    async with engine:
        assert (health(engine)[0], engine.vitals.alive, engine.vitals.store) == (200, True, "memory://")

    assert (health(engine)[0], engine.vitals.alive) == (503, False)


async def test_an_engine_that_is_cancelled_is_dead_at_once() -> None:
    seen: list[int] = []
    engine = Engine("memory://")

    async def watch() -> None:
        with anyio.CancelScope(shield=True):
            while not seen or seen[-1] == 200:
                seen.append(health(engine)[0])
                await anyio.lowlevel.checkpoint()

    async with anyio.create_task_group() as group, engine:
        await engine.submit(graph(), {"seconds": 60})
        group.start_soon(watch)
        await anyio.lowlevel.checkpoint()
        group.cancel_scope.cancel()
        await anyio.lowlevel.checkpoint()

    assert seen[-1] == 503


async def test_an_engine_whose_root_has_ended_is_dead() -> None:
    async with Engine() as engine:
        engine._root.stop()
        await engine._root.wait_stopped()

        assert health(engine)[0] == 503
        assert (await Readiness(engine, Draining()).check())[0] == 503


async def test_settling_refuses_new_runs_and_waits_for_what_runs_but_not_for_what_only_waits() -> None:
    async with Engine("memory://") as engine:
        run = await engine.submit(graph(), {"seconds": 0.1})
        assert await engine.settle(60) is True
        assert run.status == "waiting"
        with pytest.raises(EngineClosed):
            await engine.submit("g", {})
        assert engine.vitals.draining


async def test_settling_gives_up_when_time_is_up() -> None:
    async with Engine("memory://") as engine:
        run = await engine.submit(graph(), {"seconds": 60})
        assert await engine.settle(0.05) is False
        assert run.status == "running"
        await run.cancel("the test is over")


async def test_a_service_is_ready_while_it_does_not_drain() -> None:
    draining = Draining()
    async with Engine() as engine:
        readiness = Readiness(engine, draining)
        assert await readiness.check() == (200, {"status": "ok"})
        draining.begin()
        assert await readiness.check() == (503, {"status": "unavailable", "reason": "draining"})
    async with Engine() as engine:
        await engine.settle(0)
        assert (await Readiness(engine, Draining()).check())[1]["reason"] == "draining"


async def test_a_store_that_is_away_is_told_and_asked_for_once_a_second_only(monkeypatch: pytest.MonkeyPatch) -> None:
    a_while = FRESH_SECONDS * 600  # as a second for those who are not held up
    monkeypatch.setattr("engine.web.health.FRESH_SECONDS", a_while)
    store = FaultyStore(MemoryStore(), rate=0)
    asked = 0
    inner = store.find_key

    async def counted(key: str) -> Any:
        nonlocal asked
        asked += 1
        return await inner(key)

    store.find_key = counted  # type: ignore[method-assign]
    async with Engine(store) as engine:
        readiness = Readiness(engine, Draining())
        store.fail("hunter2 does not fit")
        for _ in range(20):
            status, document = await readiness.check()
        with pytest.raises(StoreUnavailable):
            await engine.check_store()
        store.heal()
        readiness._looked_at -= a_while
        again = await readiness.check()

    assert (status, document) == (503, {"status": "unavailable", "reason": "the store cannot be reached"})
    assert (asked, again) == (3, (200, {"status": "ok"}))
