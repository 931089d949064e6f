"""What a run that was read back still knows of its past: all that is kept, and never a gap in silence."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import aclosing
from pathlib import Path
from typing import Any

import anyio
import pytest

from actors.testing import BACKENDS, Backend, run
from engine import END, Context, Engine, Graph, HistoryGone, Settings, keeping
from engine.stored import Write
from engine.stores.memory import MemoryStore

Reopen = Callable[..., Engine]
State = dict[str, Any]
HISTORY = 50
TOLD = ("node_progress", "events_lost")


@pytest.fixture(params=["memory", "sqlite"])
def engine_on(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Reopen:
    """Makes engines, one after the other, on one store; snapshots are due after every 20 records."""
    monkeypatch.setattr(keeping, "SNAPSHOT_RECORDS", 20)
    monkeypatch.setattr(keeping, "SNAPSHOT_FACTOR", 0)
    store: Any = MemoryStore() if request.param == "memory" else f"sqlite:///{tmp_path}/runs.db"
    return lambda **options: Engine(store, **options)


async def step(state: State, context: Context) -> State:
    context.emit("halfway")
    return {"n": state["n"] + 1}


def counting(rounds: int, history: int = HISTORY) -> Graph:
    """Counts to `rounds`, waits for a signal, and ends."""
    graph = Graph("counting", history=history).add_node("step", step).set_entry_point("step")
    graph.add_edge("step", "step", when=lambda state: state["n"] < rounds, max_iterations=1_000_000)
    return graph.add_wait("wait", signal="go", into="went").add_edge("step", "wait", otherwise=True)


async def run_until_it_waits(engine: Engine, rounds: int, history: int = HISTORY) -> str:
    run = await engine.submit(counting(rounds, history), {"n": 0})
    await drained(engine)
    return run.id


async def drained(engine: Engine) -> None:
    """Leaving waits for what runs; so does this, without leaving."""
    await engine.watchers.until(lambda: all(run.at_rest for run in engine._books.active.values()))


async def test_a_recovered_run_has_the_log_that_the_store_kept(engine_on: Reopen) -> None:
    async with engine_on() as engine:
        id = await run_until_it_waits(engine, 200)
        before = await engine.get(id)
        log, dropped = before.log, before.log_dropped
    assert dropped == 200 - HISTORY
    async with engine_on() as engine:
        engine.register(counting(200))
        again = await engine.get(id)
        assert again.log[-HISTORY:] == log[-HISTORY:]
        assert (again.log_dropped, again.counters) == (dropped, before.counters)
        assert len(again.visited) + again.visited_dropped == 201, "what is not there is counted"


async def test_what_is_gone_of_a_recovered_run_is_counted_and_asking_for_it_is_an_error(engine_on: Reopen) -> None:
    async with engine_on() as engine:
        id = await run_until_it_waits(engine, 205)
    async with engine_on() as engine:
        engine.register(counting(205))
        run = await engine.get(id)
        assert run.events_dropped > 0
        for after in (0, run.events_dropped - 1):
            with pytest.raises(HistoryGone):
                await events_until_it_waits(run, after)
        first, *_ = await events_until_it_waits(run, run.events_dropped)
        assert first.seq == run.events_dropped + 1


async def test_an_ended_run_whose_records_are_all_kept_is_read_back_with_everything(engine_on: Reopen) -> None:
    async with engine_on() as engine:
        id = await run_until_it_waits(engine, 45)
        run = await engine.get(id)
        await run.signal("go")
        result = await run.result()
        events = [event async for event in run.events() if event.type not in TOLD]
    async with engine_on() as engine:
        engine.register(counting(45))
        again = await engine.get(id)
        assert (await again.result()).state == result.state
        assert (again.log, again.visited) == (run.log, run.visited)
        assert (again.log_dropped, again.visited_dropped) == (0, 0)
        assert [event async for event in again.events() if event.type not in TOLD] == events


async def test_without_pruning_every_event_is_read_from_the_journal(engine_on: Reopen) -> None:
    settings = Settings(prune=False)
    async with engine_on(settings=settings) as engine:
        run = await engine.submit(counting(200), {"n": 0})
        await drained(engine)
        assert run.events_dropped > 0
        events = await events_until_it_waits(run)
    numbers = [event.seq for event in events]
    assert numbers == sorted(set(numbers))
    assert sum(event.type == "node_succeeded" for event in events) == 200
    async with engine_on(settings=settings) as engine:
        engine.register(counting(200))
        again = await engine.get(run.id)
        kept = [event for event in events if event.type not in TOLD]
        assert [event for event in await events_until_it_waits(again) if event.type not in TOLD] == kept
        fork = await engine.fork(run.id, "step#3", {"n": 197})
        await fork.signal("go")
        assert (await fork.result()).state == {"n": 200, "went": None}
        assert fork.counters["activations"] == 6


async def events_until_it_waits(run: Any, after: int = 0) -> list[Any]:
    found = []
    async with aclosing(run.events(after)) as events:
        async for event in events:
            found.append(event)
            if event.type == "run_waiting":
                break
    return found


async def test_a_pruned_run_cannot_be_forked_and_says_so(engine_on: Reopen) -> None:
    async with engine_on() as engine:
        id = await run_until_it_waits(engine, 200)
        with pytest.raises(HistoryGone):
            await engine.fork(id, "step#199")


async def test_of_the_events_of_a_fork_that_was_read_back_those_before_it_are_gone(engine_on: Reopen) -> None:
    async with engine_on() as engine:
        id = await run_until_it_waits(engine, 5)
        fork = await engine.fork(id, "step#1", {"n": 2})
        await drained(engine)
        assert fork.state["n"] == 5
    async with engine_on() as engine:
        engine.register(counting(5))
        run = await engine.get(fork.id)
        with pytest.raises(HistoryGone):
            await events_until_it_waits(run)
        await run.signal("go")
        assert (await run.result()).state["n"] == 5
    async with engine_on() as engine:
        engine.register(counting(5))
        assert (await (await engine.get(fork.id)).result()).state["n"] == 5, "an ended one as well"


async def test_events_keep_their_numbers_when_some_are_not_on_record(engine_on: Reopen) -> None:
    async with engine_on() as engine:
        id = await run_until_it_waits(engine, 10)
        newest = (await engine.get(id)).machine.history.seq
    async with engine_on() as engine:
        engine.register(counting(10))
        run = await engine.get(id)
        assert run.machine.history.seq == newest, "a reader who has seen this number misses nothing that follows"


class Slow(MemoryStore):
    """Takes its time for commits."""

    async def commit(self, writes: Sequence[Write], *, sync: bool = False) -> None:
        await anyio.sleep(0.002)
        await super().commit(writes, sync=sync)


async def plain_step(state: State) -> State:
    return {"n": state["n"] + 1}


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("durability", ["standard", "relaxed"])
@pytest.mark.parametrize("pace", [0.0, 0.001, 0.01])
def test_a_reader_of_a_short_history_misses_no_event_while_the_run_goes_on(
    backend: Backend, durability: Any, pace: float
) -> None:
    graph = Graph("short", history=10).add_node("step", plain_step).set_entry_point("step")
    graph.add_edge("step", "step", when=lambda state: state["n"] < 200, max_iterations=1000)
    graph.add_edge("step", END, otherwise=True)
    live, later = list[int](), list[int]()

    async def main() -> None:
        async with Engine(Slow(), durability=durability) as engine:
            run = await engine.submit(graph, {"n": 0})
            async for event in run.events():
                live.append(event.seq)
                await anyio.sleep(pace)
            later.extend([event.seq async for event in run.events()])

    run(main, backend=backend, virtual_time=True, patience_seconds=0.0)
    assert live == later == list(range(1, 3 * 200 + 4))


async def test_what_nodes_told_of_themselves_is_told_as_lost_once_it_is(engine_on: Reopen) -> None:
    async with engine_on() as engine:
        id = await run_until_it_waits(engine, 3)
        before = await events_until_it_waits(await engine.get(id))
    async with engine_on() as engine:
        engine.register(counting(3))
        run = await engine.get(id)
        after = await events_until_it_waits(run)
        inside = await anext(run.events(before[3].seq - 1))

    assert [event.seq for event in before] == list(range(1, len(before) + 1))
    assert [event.seq for event in after] == [event.seq for event in before]
    assert [event.type.replace("node_progress", "events_lost") for event in before] == [event.type for event in after]
    assert after[3].type == "events_lost"
    assert after[3].data == {"first": 4, "count": 1}
    assert inside == after[3]
