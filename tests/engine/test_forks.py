"""Forks and retries in an engine with a store: where they wait, what survives, what is refused and how."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from typing import Any, TypedDict

import anyio
import anyio.lowlevel
import pytest

from engine import (
    ActivationNotFound,
    Engine,
    EngineError,
    Graph,
    HistoryGone,
    Run,
    RunEnded,
    StateInvalid,
    UnknownKey,
    keeping,
)
from engine.stores.memory import MemoryStore

State = dict[str, Any]


class Typed(TypedDict, total=False):
    a: int
    b: int
    c: int
    n: int


class Nodes:
    """What ran, and whether the second node fails, or waits to be let go."""

    def __init__(self) -> None:
        self.ran: list[str] = []
        self.broken = False
        self.go = anyio.Event()

    def graph(self, **options: Any) -> Graph:
        """Three nodes in a row: the first sets `a`, the second copies it to `b`, the third that to `c`."""

        async def first(state: State) -> State:
            self.ran.append("first")
            return {"a": 1}

        async def second(state: State) -> State:
            self.ran.append("second")
            if self.broken:
                raise ConnectionError("not yet")
            return {"b": state["a"]}

        async def third(state: State) -> State:
            self.ran.append("third")
            return {"c": state["b"]}

        graph = Graph("row", **options).add_node("first", first).add_node("second", second).add_node("third", third)
        return graph.add_edge("first", "second").add_edge("second", "third").set_entry_point("first")

    def holding(self) -> Graph:
        """One that keeps its place until it is let go."""

        async def hold(state: State) -> None:
            await self.go.wait()

        return Graph("holding").add_node("hold", hold).set_entry_point("hold")


@pytest.fixture
def nodes() -> Nodes:
    return Nodes()


@pytest.fixture
def store() -> MemoryStore:
    return MemoryStore()


@asynccontextmanager
async def crashing(engine: Engine) -> AsyncIterator[Engine]:
    with suppress(ZeroDivisionError):
        async with engine:
            yield engine
            raise ZeroDivisionError


async def some_time() -> None:
    """Enough for what is ready to run to do so."""
    for _ in range(100):
        await anyio.lowlevel.checkpoint()


async def failed(engine: Engine, nodes: Nodes, **options: Any) -> Run:
    nodes.broken = True
    run = await engine.submit(nodes.graph(), {}, **options)
    assert await run.wait() == "failed"
    nodes.broken = False
    return run


# --- retries --------------------------------------------------------------------------------------------


async def test_a_retry_that_waits_for_a_place_survives_a_crash(nodes: Nodes, store: MemoryStore) -> None:
    async with crashing(Engine(store, max_runs=1)) as engine:
        run = await failed(engine, nodes)
        await engine.submit(nodes.holding(), {})
        await run.retry({"a": 5})
        assert run.status == "queued"
    async with Engine(store) as engine:
        engine.register(nodes.graph())
        result = await (await engine.get(run.id)).result()
    assert result.state == {"a": 5, "b": 5, "c": 5}
    assert nodes.ran == ["first", "second", "second", "third"]


async def test_a_retry_that_waited_for_a_place_when_it_crashed_waits_again(nodes: Nodes, store: MemoryStore) -> None:
    async with crashing(Engine(store, max_runs=1)) as engine:
        run = await failed(engine, nodes)
        await engine.submit(nodes.holding(), {})
        await run.retry({"a": 5})
    async with Engine(store, max_runs=1) as engine:
        engine.register(nodes.holding())
        while engine.statistics().running < 1:
            await anyio.lowlevel.checkpoint()
        engine.register(nodes.graph())
        again = await engine.get(run.id)
        await some_time()
        assert (again.status, nodes.ran) == ("queued", ["first", "second"])
        nodes.go.set()
        assert (await again.result()).state == {"a": 5, "b": 5, "c": 5}


async def test_only_a_run_that_has_failed_is_retried_and_others_say_what_they_are(
    nodes: Nodes, store: MemoryStore
) -> None:
    async with Engine(store, max_runs=1) as engine:
        done = await engine.submit(nodes.graph(), {})
        await done.wait()
        with pytest.raises(RunEnded, match=r"is over \(succeeded\); only a run that has failed"):
            await done.retry()
        run = await failed(engine, nodes)
        await engine.submit(nodes.holding(), {})
        await run.retry()
        with pytest.raises(RunEnded, match="is queued; only a run that has failed"):
            await run.retry()
        nodes.go.set()
        await run.result()


# --- forks that wait for a place ------------------------------------------------------------------------


async def test_a_fork_that_waits_for_a_place_is_queued_and_can_be_paused(nodes: Nodes, store: MemoryStore) -> None:
    async with Engine(store, max_runs=1) as engine:
        run = await engine.submit(nodes.graph(), {})
        await run.wait()
        nodes.ran.clear()
        await engine.submit(nodes.holding(), {})
        fork = await engine.fork(run.id, "second#1", {"a": 7})
        assert (fork.status, fork.explain("second")) == ("queued", "second: #1 is held: the run waits for a place")
        await fork.pause()
        assert fork.status == "queued"
        nodes.go.set()
        while fork.status != "paused":
            await anyio.lowlevel.checkpoint()
        await some_time()
        assert nodes.ran == []
        await fork.resume()
        assert (await fork.result()).state == {"a": 7, "b": 7, "c": 7}
    assert nodes.ran == ["second", "third"]


@pytest.mark.parametrize("asked", ["signal", "pause", "fork", "pause a fork"])
async def test_what_was_queued_when_it_crashed_begins_when_there_is_a_place_whatever_was_asked_of_it(
    nodes: Nodes, store: MemoryStore, asked: str
) -> None:
    graph = nodes.graph().add_wait("wait", signal="go", into="it").add_edge("third", "wait")
    async with crashing(Engine(store, max_runs=1)) as engine:
        if "fork" in asked:
            origin = await engine.submit(graph, {})
            await origin.signal("go", 1)
            await origin.result()
            nodes.ran.clear()
        await engine.submit(nodes.holding(), {})
        if "fork" in asked:
            run = await engine.fork(origin.id, "first#1")
        else:
            run = await engine.submit(graph, {})
        if "pause" in asked:
            await run.pause()
        if asked == "signal":
            await run.signal("go", 1)
    async with Engine(store, max_runs=1) as engine:
        engine.register(nodes.holding())
        while engine.statistics().running < 1:
            await anyio.lowlevel.checkpoint()
        engine.register(graph)
        again = await engine.get(run.id)
        await some_time()
        assert (again.status, nodes.ran, engine.statistics().queued) == ("queued", [], 1)
        nodes.go.set()
        if "pause" in asked:
            while again.status != "paused":
                await anyio.lowlevel.checkpoint()
            assert nodes.ran == []
            await again.resume()
        if asked == "pause":
            await again.signal("go", 1)
        assert (await again.result()).state == {"a": 1, "b": 1, "c": 1, "it": 1}


async def test_a_queued_run_that_is_signalled_often_is_not_folded_into_a_snapshot_that_nobody_begins(
    nodes: Nodes, store: MemoryStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(keeping, "SNAPSHOT_RECORDS", 3)
    monkeypatch.setattr(keeping, "SNAPSHOT_FACTOR", 0)
    graph = nodes.graph().add_wait("wait", signal="go", into="it").add_edge("third", "wait")
    async with crashing(Engine(store, max_runs=1)) as engine:
        await engine.submit(nodes.holding(), {})
        run = await engine.submit(graph, {})
        for number in range(10):
            await run.signal("go", number)
    async with Engine(store) as engine:
        engine.register(graph)
        with anyio.fail_after(30):
            result = await (await engine.get(run.id)).result()
    assert (result.state["it"], len(result.unconsumed)) == (0, 9)


async def test_a_queued_fork_that_is_cancelled_is_over_at_once_and_for_good(nodes: Nodes, store: MemoryStore) -> None:
    async with crashing(Engine(store, max_runs=1)) as engine:
        run = await engine.submit(nodes.graph(), {})
        await run.wait()
        nodes.ran.clear()
        await engine.submit(nodes.holding(), {})
        fork = await engine.fork(run.id, "second#1")
        await fork.cancel("not wanted")
        with anyio.fail_after(30):
            assert await fork.wait() == "cancelled"
        assert engine.statistics().queued == 0
    async with Engine(store) as engine:
        engine.register(nodes.graph())
        assert (await engine.get(fork.id)).status == "cancelled"
    assert nodes.ran == []


# --- forks of forks -------------------------------------------------------------------------------------


async def test_a_fork_can_be_forked_and_that_one_too(nodes: Nodes, store: MemoryStore) -> None:
    async with Engine(store) as engine:
        run = await engine.submit(nodes.graph(), {})
        await run.wait()
        first = await engine.fork(run.id, "second#1", {"a": 7})
        await first.wait()
    async with Engine(store) as engine:
        engine.register(nodes.graph())
        second = await engine.fork(first.id, "third#1", {"b": 8})
        assert (await second.result()).state == {"a": 7, "b": 8, "c": 8}
        third = await engine.fork(second.id, "third#1")
        assert (await third.result()).state == {"a": 7, "b": 8, "c": 8}
        fourth = await engine.fork(third.id, "second#1", {"x": 1})
        assert (await fourth.result()).state == {"a": 7, "x": 1, "b": 7, "c": 7}
        fifth = await engine.fork(fourth.id, "first#1")
        assert (await fifth.result()).state == {"a": 1, "b": 1, "c": 1}


async def test_what_became_of_a_run_after_it_was_forked_is_nothing_to_forks_of_the_fork(
    nodes: Nodes, store: MemoryStore
) -> None:
    async with Engine(store) as engine:
        run = await failed(engine, nodes)
        fork = await engine.fork(run.id, "second#1", {"a": 7})
        await fork.wait()
        await run.retry({"a": 100})
        await run.wait()
        again = await engine.fork(fork.id, "third#1")
        assert (await again.result()).state == {"a": 7, "b": 7, "c": 7}


async def test_a_fork_whose_origin_is_gone_says_which_records_are_missing_and_what_to_do(
    nodes: Nodes, store: MemoryStore
) -> None:
    async with Engine(store) as engine:
        run = await engine.submit(nodes.graph(), {}, run_id="the first")
        await run.wait()
        fork = await engine.fork(run.id, "second#1")
        await fork.wait()
        await engine.compact(keep_count=1)
        with pytest.raises(HistoryGone, match=f"(?s){fork.id}.*'the first'.*gone.*prune"):
            await engine.fork(fork.id, "third#1")


# --- what is wrong with a fork --------------------------------------------------------------------------


@pytest.mark.parametrize("at", ["third#2", "nobody#1", "third", "", "#1", "third#x", 7])
async def test_a_fork_at_what_is_not_on_record_is_refused_with_what_there_is(
    nodes: Nodes, store: MemoryStore, at: Any
) -> None:
    async with Engine(store) as engine:
        run = await engine.submit(nodes.graph(), {})
        await run.wait()
        with pytest.raises(ActivationNotFound, match="'first#1', 'second#1', 'third#1'") as caught:
            await engine.fork(run.id, at)
    assert isinstance(caught.value, EngineError)
    assert caught.value.run_id == run.id


@pytest.mark.parametrize("call", ["fork", "retry"])
@pytest.mark.parametrize(
    ("update", "kind", "said"),
    [
        ({"who": 1}, UnknownKey, "the update of {}() does not fit: who: .* has no such key"),
        (7, StateInvalid, r"the update of {}() is 7 \(int\), expected a mapping"),
        ([("a", 1)], StateInvalid, "the update of {}() is .*, expected a mapping"),
        (
            {"n": "x"},
            StateInvalid,
            "the update of {}() cannot be combined with what is there: TypeError.*reducer of 'n'",
        ),
        ({"a": object()}, EngineError, "the update of {}(): a: an object cannot be kept"),
    ],
)
async def test_an_update_that_does_not_fit_is_refused_in_the_name_of_the_call(
    nodes: Nodes, store: MemoryStore, call: str, update: Any, kind: type[Exception], said: str
) -> None:
    options = {"state": Typed} if kind is UnknownKey else {"reducers": {"n": lambda one, other: one + other}}
    async with Engine(store) as engine:
        nodes.broken = True
        run = await engine.submit(nodes.graph(**options), {"n": 1})
        await run.wait()
        with pytest.raises(kind, match=said.format(call).replace("()", r"\(\)")):
            await (engine.fork(run.id, "second#1", update) if call == "fork" else run.retry(update))
        assert run.status == "failed"
        assert len(await engine.runs()) == 1
