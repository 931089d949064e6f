"""What a handle promises, of a run in whatever state: nothing asked of it is dropped without a word."""

from __future__ import annotations

from contextlib import suppress
from typing import Any

import anyio
import pytest

from engine import Engine, EngineClosed, Graph
from engine.settings import Settings
from engine.stores.memory import MemoryStore
from tests.virtual_time import anyio_backend as anyio_backend

State = dict[str, Any]


def waiting() -> Graph:
    return Graph("g").add_wait("wait", signal="go", into="it").set_entry_point("wait")


async def test_what_is_asked_of_a_run_whose_engine_was_left_is_refused() -> None:
    async with Engine(MemoryStore()) as engine:
        run = await engine.submit(waiting(), {})
    for ask in (run.cancel, run.pause, run.resume, lambda: run.signal("go")):
        with pytest.raises(EngineClosed, match="stays in the store"):
            await ask()
    assert run.status == "waiting"


async def test_a_run_that_is_over_is_cancelled_without_effect_though_its_engine_was_left() -> None:
    async with Engine(MemoryStore()) as engine:
        run = await engine.submit(waiting(), {})
        await run.cancel("first")
        await run.wait()
    await run.cancel("second")
    assert run.status == "cancelled"


async def test_a_reason_that_is_no_text_is_refused_and_harms_no_run() -> None:
    async with Engine(MemoryStore()) as engine:
        run = await engine.submit(waiting(), {})
        with pytest.raises(ValueError, match="reason"):
            await run.cancel(object())  # type: ignore[arg-type]
        assert run.status == "waiting"


async def test_a_recovered_run_that_is_queued_is_cancelled_and_paused_like_any_other() -> None:
    store, ran, release = MemoryStore(), list[str](), False

    async def hold(state: State) -> None:
        while not release:  # noqa: ASYNC110 - what is waited for is no event
            await anyio.sleep(0.001)

    async def note(state: State) -> None:
        ran.append(state["name"])

    holding = Graph("h").add_node("a", hold).add_node("b", hold).add_edge("a", "b").set_entry_point("a")
    noting = Graph("n").add_node("a", note).set_entry_point("a")
    with suppress(ZeroDivisionError):
        async with Engine(store, max_runs=1) as engine:
            await engine.submit(holding, {})
            for name in ("one", "two", "three"):
                await engine.submit(noting, {"name": name}, run_id=name)
            raise ZeroDivisionError
    async with Engine(store, max_runs=1) as engine:
        engine.register(holding)
        while engine.statistics().running != 1:  # noqa: ASYNC110 - what is waited for is no event
            await anyio.sleep(0.001)
        engine.register(noting)
        one, two, three = [await engine.get(name) for name in ("one", "two", "three")]
        assert [run.status for run in (one, two, three)] == ["queued"] * 3
        await one.cancel()
        with anyio.fail_after(2):
            assert await one.wait() == "cancelled"
        await two.pause()
        release = True
        while two.status != "paused":  # noqa: ASYNC110 - what is waited for is no event
            await anyio.sleep(0.001)
        assert ran == [], "it holds its place, and does nothing there"
        await two.resume()
        await three.wait()
    assert ran == ["two", "three"]


async def test_a_handle_from_before_its_graph_was_there_is_one_of_the_run_that_goes_on() -> None:
    store = MemoryStore()
    async with Engine(store) as engine:
        ids = [(await engine.submit(waiting(), {})).id for _ in range(2)]
    async with Engine(store) as engine:
        signalled, cancelled = [await engine.get(id) for id in ids]
        assert signalled.status == "waiting"
        engine.register(waiting())
        while engine.statistics().running < 2:  # noqa: ASYNC110 - what is waited for is no event
            await anyio.sleep(0.001)
        await signalled.signal("go", 1)
        await cancelled.cancel()
        with anyio.fail_after(2):
            assert await (await engine.get(ids[0])).wait() == "succeeded"
            assert await cancelled.wait() == "cancelled"
        assert signalled.status == "succeeded"


async def test_a_parked_run_that_is_cancelled_says_so_by_the_same_handle() -> None:
    store = MemoryStore()
    async with Engine(store) as engine:
        id = (await engine.submit(waiting(), {})).id
    async with Engine(store) as engine:
        parked = await engine.get(id)
        await parked.cancel()
        assert (parked.status, parked.over) == ("cancelled", True)
        assert await parked.wait() == "cancelled"


def ending() -> Graph:
    async def node(state: State) -> State:
        return {"done": True}

    return Graph("e").add_node("a", node).set_entry_point("a")


async def test_a_run_that_somebody_holds_is_not_made_a_second_time() -> None:
    attempts = 0

    async def fails(state: State) -> None:
        nonlocal attempts
        attempts += 1
        raise OSError("no")

    failing = Graph("f").add_node("a", fails).set_entry_point("a")
    async with Engine(MemoryStore(), settings=Settings(keep_runs=1)) as engine:
        run = await engine.submit(failing, {})
        await run.wait()
        await engine.run(ending(), {})
        assert await engine.get(run.id) is run, "or each could be retried, beside the other"


async def test_listing_runs_of_old_counts_no_submission_and_keeps_no_more_than_it_should() -> None:
    store = MemoryStore()
    async with Engine(store) as engine:
        for _ in range(20):
            await engine.run(ending(), {})
    async with Engine(store, settings=Settings(keep_runs=5)) as engine:
        engine.register(ending())
        assert len(await engine.runs()) == 20
        assert engine.statistics().submitted == 0
        assert len(engine._books.ended) == 5


async def test_a_subscriber_is_told_of_a_recovered_run_what_is_new() -> None:
    store, told = MemoryStore(), list[int]()
    async with Engine(store) as engine:
        engine.subscribe(lambda run, event: told.append(event.seq))
        run = await engine.submit(waiting(), {})
    async with Engine(store) as engine:
        engine.subscribe(lambda run, event: told.append(event.seq))
        engine.register(waiting())
        run = await engine.get(run.id)
        await run.signal("go")
        await run.wait()
    assert told == list(range(1, len(told) + 1))


async def test_an_engine_can_be_left_though_the_store_cannot_say_what_is_unfinished() -> None:
    class Broken(MemoryStore):
        async def unfinished(self, *args: Any, **options: Any) -> Any:
            raise RuntimeError("a bug")

    with anyio.fail_after(5):
        async with Engine(Broken()) as engine:
            assert (await engine.run(ending(), {})).state == {"done": True}


async def test_a_fork_that_is_queued_can_be_cancelled_before_any_of_its_nodes_has_run_here() -> None:
    store = MemoryStore()
    async with Engine(store) as engine:
        run = await engine.submit(ending(), {})
        await run.wait()
    async with Engine(store, max_runs=1) as engine:
        engine.register(ending())
        await engine.submit(waiting(), {})
        fork = await engine.fork(run.id, "a#1")
        await fork.cancel()
        with anyio.fail_after(2):
            assert await fork.wait() == "cancelled"
