"""Runs that outlive their engine: acknowledged, recovered, parked, migrated, forked, signalled meanwhile."""

from __future__ import annotations

import logging
import operator
import sqlite3
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress
from itertools import pairwise
from pathlib import Path
from time import time
from typing import Any

import anyio
import attrs
import pytest

from engine import (
    Context,
    Engine,
    EngineClosed,
    EngineError,
    Graph,
    IdempotencyConflict,
    Retry,
    RunEnded,
    RunFailed,
    RunNotFound,
    StoreUnavailable,
    VersionMismatch,
)
from engine.stores.memory import MemoryStore
from tests.contracts.stores import FACTORIES

State = dict[str, Any]
Reopen = Callable[..., Engine]


@pytest.fixture(params=FACTORIES)
def engine_on(request: pytest.FixtureRequest, tmp_path: Path) -> Reopen:
    """Makes engines, one after the other, on one store."""
    make = FACTORIES[request.param](tmp_path)
    return lambda **options: Engine(make(), **options)


class Calls:
    """Counts what ran."""

    def __init__(self) -> None:
        self.made: list[str] = []

    def node(self, name: str, update: State | None = None, wait: float = 0.0) -> Any:
        async def node(state: State, context: Context) -> State | None:
            self.made.append(name)
            if wait:
                await anyio.sleep(wait)
            return update

        return node


def line(name: str, *nodes: tuple[str, Any], **options: Any) -> Graph:
    graph = Graph(name, **options)
    for node, function in nodes:
        graph.add_node(node, function)
    for (source, _), (target, _) in pairwise(nodes):
        graph.add_edge(source, target)
    return graph.set_entry_point(nodes[0][0])


@asynccontextmanager
async def crashing(engine: Engine) -> AsyncIterator[Engine]:
    """An engine that is left by an exception, in the middle of whatever it is doing."""
    with suppress(ZeroDivisionError):
        async with engine:
            yield engine
            raise ZeroDivisionError


async def until(condition: Callable[[], bool]) -> None:
    with anyio.fail_after(30):
        while not condition():  # noqa: ASYNC110  # what is waited for is no event
            await anyio.sleep(0.001)


async def test_a_run_that_was_in_the_middle_goes_on_and_only_what_was_in_flight_runs_again(engine_on: Reopen) -> None:
    calls, second_life = Calls(), False

    async def slow(state: State, context: Context) -> State:
        calls.made.append(f"slow {context.token}")
        if not second_life:
            await anyio.sleep_forever()
        return {"slow": True}

    graph = line("g", ("first", calls.node("first", {"a": 1})), ("slow", slow), ("last", calls.node("last", {"z": 26})))
    async with crashing(engine_on()) as engine:
        run = await engine.submit(graph, {"in": 0})
        await until(lambda: len(calls.made) == 2)
    assert not run.over
    with pytest.raises(EngineClosed, match="stays in the store"):
        await run.wait()

    second_life = True
    async with engine_on() as engine:
        engine.register(graph)
        again = await engine.get(run.id)
        result = await again.result()
    assert result.state == {"in": 0, "a": 1, "slow": True, "z": 26}
    assert calls.made == ["first", f"slow {run.id}/slow#1", f"slow {run.id}/slow#1", "last"]
    assert again.submitted_at == run.submitted_at


async def test_runs_go_on_once_their_graph_is_registered_and_nobody_need_ask(engine_on: Reopen) -> None:
    second_life, finished = False, set[int]()

    async def last(state: State) -> None:
        if not second_life:
            await anyio.sleep_forever()
        finished.add(state["n"])

    graph = line("g", ("first", Calls().node("first")), ("last", last))
    async with crashing(engine_on()) as engine:
        for n in range(3):
            await engine.submit(graph, {"n": n})

    second_life = True
    async with engine_on() as engine:
        engine.register(graph)
        await until(lambda: finished == {0, 1, 2})


async def test_submitting_returns_when_the_run_is_on_disk(tmp_path: Path) -> None:
    graph = line("g", ("a", Calls().node("a", wait=60)))
    async with crashing(Engine(f"sqlite:///{tmp_path}/runs.db")) as engine:
        run = await engine.submit(graph, {"n": 1}, tags={"who": "me"}, priority=3)
        with sqlite3.connect(f"file:{tmp_path}/runs.db?mode=ro", uri=True) as reader:
            (found,) = reader.execute("SELECT count(*) FROM runs").fetchone()
        assert found == 1
    async with Engine(f"sqlite:///{tmp_path}/runs.db") as engine:
        (kept,) = await engine.runs()
        assert (kept.id, kept.graph, kept.tags, kept.priority) == (run.id, "g", {"who": "me"}, 3)


async def test_a_run_of_a_graph_that_is_not_registered_is_listed_and_not_touched(
    engine_on: Reopen, caplog: pytest.LogCaptureFixture
) -> None:
    calls = Calls()
    graph = line("g", ("a", calls.node("a", {"a": 1}))).add_wait("wait", signal="go", into="it").add_edge("a", "wait")
    async with engine_on() as engine:
        run = await engine.submit(graph, {})
    async with engine_on() as engine:
        (kept,) = await engine.runs()
        assert (kept.id, kept.status) == (run.id, "waiting")
        assert "not registered" in kept.explain("a") or "register" in kept.explain("a")
        with pytest.raises(EngineError, match="register"):
            _ = kept.state
        with pytest.raises(EngineError, match="register"):
            await kept.result()
        await kept.signal("go", 5)
    assert "does not go on" in caplog.text
    async with engine_on() as engine:
        engine.register(graph)
        result = await (await engine.get(run.id)).result()
    assert result.state == {"a": 1, "it": 5}, "the signal that came meanwhile is not lost"
    assert calls.made == ["a"]


async def test_a_parked_run_can_be_cancelled_for_good(engine_on: Reopen) -> None:
    graph = Graph("g").add_wait("wait", signal="go", into="it").set_entry_point("wait")
    async with engine_on() as engine:
        run = await engine.submit(graph, {})
    async with engine_on() as engine:
        await (await engine.get(run.id)).cancel("no longer wanted")
        assert (await engine.get(run.id)).status == "cancelled"
    async with engine_on() as engine:
        engine.register(graph)
        there = await engine.get(run.id)
        assert (there.status, there.over) == ("cancelled", True)
        with pytest.raises(RunEnded):
            await there.signal("go")


async def test_a_signal_that_comes_again_is_the_same_though_it_ended_the_run(engine_on: Reopen) -> None:
    graph = Graph("g").add_wait("wait", signal="go", into="it").set_entry_point("wait")
    async with engine_on() as engine:
        run = await engine.submit(graph, {})
        await run.signal("go", 1, "once")
        await run.wait()
        await run.signal("go", 1, "once")
    async with engine_on() as engine:
        await (await engine.get(run.id)).signal("go", 1, "once")  # of a run whose graph is not here
        with pytest.raises(RunEnded):
            await (await engine.get(run.id)).signal("go", 1, "twice")
    async with engine_on() as engine:
        engine.register(graph)
        there = await engine.get(run.id)
        await there.signal("go", 1, "once")
        with pytest.raises(RunEnded):
            await there.signal("go", 1, "twice")

    assert (there.status, there.state) == ("succeeded", {"it": 1})


async def test_a_signal_that_came_to_a_parked_run_is_known_after_that_was_cancelled(engine_on: Reopen) -> None:
    graph = Graph("g").add_wait("wait", signal="go", into="it").set_entry_point("wait")
    async with engine_on() as engine:
        run = await engine.submit(graph, {})
    async with engine_on() as engine:
        parked = await engine.get(run.id)
        await parked.signal("go", 1, "once")
        await parked.cancel()
        await parked.signal("go", 1, "once")
        with pytest.raises(RunEnded):
            await parked.signal("go", 1, "twice")


async def test_a_run_whose_graph_has_changed_is_parked_until_it_is_migrated(engine_on: Reopen) -> None:
    calls = Calls()

    def version(*more: tuple[str, Any]) -> Graph:
        graph = line("g", ("a", calls.node("a", {"a": 1})))
        graph.add_wait("wait", signal="go", into="it").add_edge("a", "wait")
        for name, function in more:
            graph.add_node(name, function).add_edge("wait", name)
        return graph

    async with engine_on() as engine:
        run = await engine.submit(version(), {})
    changed = version(("b", calls.node("b", {"b": 2})))
    async with engine_on() as engine:
        engine.register(changed)
        parked = await engine.get(run.id)
        assert parked.status == "waiting"
        with pytest.raises(VersionMismatch, match=rf"'g'.*engine\.migrate\('{run.id}'\).*engine\.fork\('{run.id}'"):
            await parked.result()
        moved = await engine.migrate(run.id)
        await moved.signal("go", True)
        result = await moved.result()
    assert result.state == {"a": 1, "it": True, "b": 2}
    assert calls.made == ["a", "b"]


async def test_a_migration_to_what_the_records_do_not_fit_is_refused_and_changes_nothing(engine_on: Reopen) -> None:
    calls = Calls()
    graph = line("g", ("a", calls.node("a"))).add_wait("wait", signal="go", into="it").add_edge("a", "wait")
    async with engine_on() as engine:
        run = await engine.submit(graph, {})
    other = line("g", ("x", calls.node("x"))).add_wait("wait", signal="go", into="it").add_edge("x", "wait")
    async with engine_on() as engine:
        engine.register(other)
        with pytest.raises(VersionMismatch, match="node 'a' is not there any more"):
            await engine.migrate(run.id)
    async with engine_on() as engine:
        engine.register(graph)
        assert (await engine.get(run.id)).status == "waiting"


async def test_what_changes_in_functions_and_policies_does_not_park_a_run(engine_on: Reopen) -> None:
    graph = Graph("g").add_wait("wait", signal="go", into="it").add_node("b", Calls().node("b"), timeout=1)
    async with engine_on() as engine:
        run = await engine.submit(graph.add_edge("wait", "b").set_entry_point("wait"), {})
    mended = Graph("g").add_wait("wait", signal="go", into="it").add_node("b", Calls().node("b", {"b": "mended"}))
    async with engine_on() as engine:
        engine.register(mended.add_edge("wait", "b").set_entry_point("wait"))
        there = await engine.get(run.id)
        await there.signal("go")
        assert (await there.result()).state["b"] == "mended"


async def test_a_wait_goes_on_with_what_is_left_of_its_timeout(
    engine_on: Reopen, monkeypatch: pytest.MonkeyPatch
) -> None:
    graph = Graph("g").add_wait("wait", signal="go", into="it", timeout=3600.0).set_entry_point("wait")
    async with engine_on() as engine:
        run = await engine.submit(graph, {})
    monkeypatch.setattr("engine.returning.time", lambda: time() + 3599.5)  # so long was no engine there
    async with engine_on() as engine:
        engine.register(graph)
        with anyio.fail_after(60):
            result = await (await engine.get(run.id)).result()
    assert result.state == {"it": None}


async def test_a_retry_goes_on_with_its_attempts(engine_on: Reopen) -> None:
    attempts: list[int] = []

    async def fails(state: State, context: Context) -> State:
        attempts.append(context.attempt)
        if context.attempt < 3:
            raise OSError("again")
        return {"ok": context.attempt}

    graph = Graph("g").add_node("a", fails, retry=Retry(attempts=3, delay=0.5, factor=1)).set_entry_point("a")
    async with crashing(engine_on()) as engine:
        run = await engine.submit(graph, {})
        await until(lambda: bool(run.log))
    async with engine_on() as engine:
        engine.register(graph)
        result = await (await engine.get(run.id)).result()
    assert result.state == {"ok": 3}
    assert attempts == [1, 2, 3]
    assert [(entry.attempt, entry.status) for entry in result.log] == [(1, "failed"), (2, "failed"), (3, "succeeded")]


async def test_a_paused_run_stays_paused(engine_on: Reopen) -> None:
    calls = Calls()
    graph = line("g", ("a", calls.node("a", wait=0.05)), ("b", calls.node("b")))
    async with crashing(engine_on()) as engine:
        run = await engine.submit(graph, {})
        await run.pause()
        await until(lambda: bool(run.log))
    async with engine_on() as engine:
        engine.register(graph)
        there = await engine.get(run.id)
        await anyio.sleep(0.05)
        assert (there.status, calls.made) == ("paused", ["a"])
        await there.resume()
        await there.result()
    assert calls.made == ["a", "b"]


async def test_an_ended_run_is_read_back_with_its_state_log_and_visits(engine_on: Reopen) -> None:
    graph = line("g", ("a", Calls().node("a", {"a": 1})), ("b", Calls().node("b", {"b": (1, 2)})))
    async with engine_on() as engine:
        before = await engine.run(graph, {"q": {1, 2}})
    async with engine_on() as engine:
        engine.register(graph)
        run = await engine.get(before.run_id)
        after = await run.result()
    assert (after.status, after.state, after.visited) == ("succeeded", {"q": {1, 2}, "a": 1, "b": (1, 2)}, ("a", "b"))
    assert after.log == before.log
    assert after.counters == before.counters


async def test_a_failed_run_is_read_back_with_its_error_and_can_be_retried(engine_on: Reopen) -> None:
    broken = True

    async def fails(state: State) -> State:
        if broken:
            raise ConnectionError("not yet")
        return {"b": 2}

    calls = Calls()
    graph = line("g", ("a", calls.node("a", {"a": 1})), ("b", fails))
    async with engine_on() as engine:
        with pytest.raises(RunFailed):
            await engine.run(graph, {}, run_id="r")
    async with engine_on() as engine:
        engine.register(graph)
        run = await engine.get("r")
        with pytest.raises(RunFailed) as failed:
            await run.result()
        (error,) = failed.value.exceptions
        assert "not yet" in str(error)
        assert isinstance(error.__cause__, ConnectionError)
        broken = False
        await run.retry()
        assert (await run.result()).state == {"a": 1, "b": 2}
    async with engine_on() as engine:
        engine.register(graph)
        assert (await engine.get("r")).status == "succeeded"
    assert calls.made == ["a"]


async def test_a_fork_runs_from_one_activation_and_survives_a_restart_by_itself(engine_on: Reopen) -> None:
    calls = Calls()

    async def add(state: State) -> State:
        calls.made.append("add")
        return {"sum": state["a"] + state["b"]}

    graph = Graph("g").add_node("a", calls.node("a", {"a": 1})).add_node("b", calls.node("b", {"b": 2}))
    graph.add_node("add", add).add_edge(["a", "b"], "add").add_wait("wait", signal="go", into="it")
    graph.add_edge("add", "wait").set_entry_point("a", "b")
    async with engine_on() as engine:
        run = await engine.submit(graph, {})
        await until(lambda: run.status == "waiting")
        calls.made.clear()
        fork = await engine.fork(run.id, "add#1", {"b": 40})
        assert fork.id != run.id
    assert calls.made == ["add"]
    async with engine_on() as engine:
        engine.register(graph)
        there = await engine.get(fork.id)
        await there.signal("go")
        assert (await there.result()).state["sum"] == 41
        old = await engine.get(run.id)
        await old.signal("go")
        assert (await old.result()).state["sum"] == 3, "the old run's record does not change"
        with pytest.raises(RunNotFound):
            await engine.fork("nobody", "add#1")
    assert calls.made == ["add"]


async def test_an_idempotency_key_means_the_same_run_after_a_restart(engine_on: Reopen) -> None:
    calls = Calls()
    graph = line("g", ("a", calls.node("a", {"a": 1})))
    async with engine_on() as engine:
        first = await engine.submit(graph, {"n": [1]}, idempotency_key="k")
        await first.result()
        assert await engine.submit(graph, {"n": [1]}, idempotency_key="k") is first
    async with engine_on() as engine:
        again = await engine.submit(graph, {"n": [1]}, idempotency_key="k")
        assert again.id == first.id
        assert (await again.result()).state == {"n": [1], "a": 1}
        with pytest.raises(IdempotencyConflict, match="submitted with another input; take another key"):
            await engine.submit(graph, {"n": [2]}, idempotency_key="k")
        newer = line("g", ("a", calls.node("a", {"a": 1})), version="2")
        with pytest.raises(IdempotencyConflict, match="to graph 'g' version '1', not to graph 'g' version '2'"):
            await engine.submit(newer, {"n": [1]}, idempotency_key="k")
        assert len(await engine.runs()) == 1
    assert calls.made == ["a"]


async def test_a_hundred_submissions_under_one_key_at_once_are_one_run(engine_on: Reopen) -> None:
    calls, ids = Calls(), set[str]()
    graph = line("g", ("a", calls.node("a")))

    async with engine_on() as engine:

        async def submit() -> None:
            ids.add((await engine.submit(graph, {}, idempotency_key="k")).id)

        async with anyio.create_task_group() as group:
            for _ in range(100):
                group.start_soon(submit)
    assert len(ids) == 1
    assert calls.made == ["a"]


async def test_an_id_that_the_store_knows_is_refused(engine_on: Reopen) -> None:
    graph = line("g", ("a", Calls().node("a")))
    async with engine_on() as engine:
        await engine.run(graph, {}, run_id="mine")
    async with engine_on() as engine:
        with pytest.raises(EngineError, match="'mine' already"):
            await engine.submit(graph, {}, run_id="mine")


async def test_a_deadline_goes_on_from_the_submission(engine_on: Reopen) -> None:
    graph = Graph("g").add_wait("wait", signal="go", into="it").set_entry_point("wait")
    async with engine_on() as engine:
        run = await engine.submit(graph, {}, deadline=0.3)
    await anyio.sleep(0.35)
    async with engine_on() as engine:
        engine.register(graph)
        with pytest.raises(RunFailed, match="deadline"):
            await (await engine.get(run.id)).result()


async def test_many_runs_are_listed_in_pages_by_status_graph_tag_and_time(engine_on: Reopen) -> None:
    graph = line("g", ("a", Calls().node("a")))
    waiting = Graph("w").add_wait("wait", signal="go", into="it").set_entry_point("wait")
    async with engine_on() as engine:
        ended = [(await engine.run(graph, {}, tags={"even": str(n % 2 == 0)})).run_id for n in range(6)]
        held = [(await engine.submit(waiting, {})).id for _ in range(3)]
    async with engine_on() as engine:
        engine.register(graph)
        engine.register(waiting)
        assert [run.id for run in await engine.runs()] == ended + held
        assert [run.id for run in await engine.runs(status="waiting")] == held
        assert [run.id for run in await engine.runs(status="succeeded", tags={"even": "True"})] == ended[::2]
        assert [run.id for run in await engine.runs(graph="w", limit=2)] == held[:2]
        assert [run.id for run in await engine.runs(limit=4, after=ended[3])] == [*ended[4:], *held[:2]]
        assert await engine.runs(since=time()) == []


async def test_queued_runs_survive_too_and_begin_by_priority(engine_on: Reopen) -> None:
    order: list[int] = []

    async def note(state: State) -> None:
        order.append(state["n"])

    async def hold(state: State) -> None:
        await anyio.sleep(60)

    graph, holding = line("g", ("a", note)), line("h", ("a", hold))
    async with crashing(engine_on(max_runs=1, max_queued=10)) as engine:
        await engine.submit(holding, {})
        for n in range(4):
            await engine.submit(graph, {"n": n}, priority=n)
    assert order == []
    async with engine_on(max_runs=1, max_queued=10) as engine:
        engine.register(graph)
        await until(lambda: len(order) == 4)
    assert order == [3, 2, 1, 0]


async def test_states_of_every_type_come_back_as_they_were(engine_on: Reopen) -> None:
    graph = Graph("g", state=Review, reducers={"notes": operator.add})
    graph.add_node("a", lambda review: {"notes": ["seen"], "score": 0.5}, run_in="loop")
    graph.add_wait("wait", signal="go", into="verdict").add_edge("a", "wait").set_entry_point("a")
    async with engine_on() as engine:
        run = await engine.submit(graph, Review("text", parts=(Part("x", b"\x00\xff"),)))
    async with engine_on() as engine:
        engine.register(graph)
        there = await engine.get(run.id)
        await there.signal("go", Part("y", b""))
        result = await there.result()
    assert result.state == Review("text", 0.5, ["seen"], (Part("x", b"\x00\xff"),), Part("y", b""))


async def test_what_cannot_be_kept_is_refused_where_it_comes_in(engine_on: Reopen) -> None:
    async def returns(state: State) -> State:
        return {"rows": [1, {"handle": object()}]}

    graph = line("g", ("bad", returns))
    async with engine_on() as engine:
        with pytest.raises(EngineError, match="handle"):
            await engine.submit(graph, {"handle": object()})
        assert await engine.runs() == []
        run = await engine.submit(graph, {})
        with pytest.raises(RunFailed) as failed:
            await run.result()
        (error,) = failed.value.exceptions
        assert "bad" in str(error)
        assert "rows[1]" in str(error.__cause__)


def test_forks_and_compaction_are_there_for_those_who_do_not_await(tmp_path: Path) -> None:
    graph = line("g", ("a", Calls().node("a", {"a": 1})), ("b", Calls().node("b", {"b": 2})))
    with Engine.blocking(f"sqlite:///{tmp_path}/runs.db") as engine:
        first = engine.run(graph, {})
        fork = engine.fork(first.run_id, "b#1", {"a": 5})
        assert fork.result().state == {"a": 5, "b": 2}
        assert engine.compact(keep_count=1).runs == 1


async def test_without_a_store_there_is_nothing_to_fork_from() -> None:
    graph = line("g", ("a", Calls().node("a")))
    async with Engine() as engine:
        result = await engine.run(graph, {})
        with pytest.raises(EngineError, match="memory://"):
            await engine.fork(result.run_id, "a#1")


async def test_a_store_that_cannot_be_reached_is_an_error_unless_memory_was_asked_for(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    url = f"sqlite:///{tmp_path}/nowhere/runs.db"
    with pytest.raises(StoreUnavailable, match="nowhere"):
        async with Engine(url):
            pass
    graph = line("g", ("a", Calls().node("a", {"a": 1})))
    with caplog.at_level(logging.ERROR):
        async with Engine(url, fallback="memory") as engine:
            assert (await engine.run(graph, {})).state == {"a": 1}
            assert engine.metrics.get_sample_value("workflow_store_available") == 0
    assert "NOT SAFE" in caplog.text


async def test_memory_is_fallen_back_to_whatever_it_is_that_the_store_cannot_say(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    class Lost(MemoryStore):
        async def definitions(self) -> Any:
            raise StoreUnavailable("the connection was lost right after it was made")

    monkeypatch.setattr("engine.durable.PATIENCE", 0.001)
    graph = line("g", ("a", Calls().node("a", {"a": 1})))
    with pytest.raises(StoreUnavailable, match="right after"):
        async with Engine(Lost()):
            pass
    async with Engine(Lost(), fallback="memory") as engine:
        assert (await engine.run(graph, {})).state == {"a": 1}
    assert "NOT SAFE" in caplog.text


@pytest.mark.parametrize("name", ["postgres", "redis", "sqlite"])
async def test_a_second_engine_on_a_store_is_refused_until_the_first_is_left(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("engine.stores.postgres.store.CLAIM_SECONDS", 0.1)
    monkeypatch.setattr("engine.stores.redis.store.CLAIM_SECONDS", 0.1)
    make = FACTORIES[name](tmp_path)
    graph = line("g", ("a", Calls().node("a", {"a": 1})))
    async with Engine(make()) as engine:
        await engine.run(graph, {}, run_id="one")
        with pytest.raises(StoreUnavailable, match=r"in use|another"):
            async with Engine(make()):
                pass
        await engine.run(graph, {}, run_id="two")
    async with Engine(make()) as engine:
        assert [run.id for run in await engine.runs()] == ["one", "two"]


async def test_recovered_runs_and_commits_are_counted(engine_on: Reopen) -> None:
    graph = Graph("g").add_wait("wait", signal="go", into="it").set_entry_point("wait")
    async with engine_on() as engine:
        runs = [await engine.submit(graph, {}) for _ in range(3)]
        assert engine.metrics.get_sample_value("workflow_store_available") == 1
    async with engine_on() as engine:
        engine.register(graph)
        for run in runs:
            await (await engine.get(run.id)).signal("go")
        value = engine.metrics.get_sample_value
        assert value("workflow_recovered_runs_total") == 3
        assert (value("workflow_journal_commit_seconds_count") or 0) > 0


@pytest.mark.parametrize("durability", ["standard", "strict", "relaxed"])
async def test_every_durability_tells_the_end_of_a_run_when_it_is_safe(engine_on: Reopen, durability: str) -> None:
    calls = Calls()
    graph = line("g", *[(f"n{n}", calls.node(f"n{n}", {"n": n})) for n in range(5)])
    async with crashing(engine_on(durability=durability)) as engine:
        run = await engine.submit(graph, {})
        await run.result()
    async with engine_on() as engine:
        engine.register(graph)
        assert (await (await engine.get(run.id)).result()).state == {"n": 4}
    assert len(calls.made) == 5


@attrs.frozen
class Part:
    name: str
    data: bytes


@attrs.frozen
class Review:
    text: str
    score: float = 0.0
    notes: list[str] = attrs.field(factory=list)
    parts: tuple[Part, ...] = ()
    verdict: Part | None = None
