"""While the store fails: what runs goes on, nothing is told that is not written, nobody new is taken; then it heals."""

from __future__ import annotations

import os
import sqlite3
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager, closing, suppress
from pathlib import Path
from typing import Any, Protocol

import anyio
import pytest

from engine import Engine, EngineClosed, Graph, Settings, StoreUnavailable, journal
from engine.stores.memory import MemoryStore
from engine.stores.sqlite import SqliteStore
from tests.faulty_store import FaultyStore

State = dict[str, Any]

# Long enough to be told from nothing on a busy machine.
A_WHILE = 0.15


@pytest.fixture(autouse=True)
def _impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(journal, "PATIENCE", 0.05)
    monkeypatch.setattr(journal, "LONGEST_DELAY", 0.05)


def much() -> bytes:
    """More than fits into what is left of a full file."""
    return os.urandom(200_000)


class Trouble(Protocol):
    """A store, and what befalls it."""

    def store(self) -> Any: ...

    @asynccontextmanager
    def befalls(self, store: Any) -> AsyncIterator[None]: ...


class LostConnection:
    """Every call fails."""

    def __init__(self, folder: Path) -> None:
        self.memory = MemoryStore()

    def store(self) -> Any:
        return FaultyStore(self.memory, rate=0)

    @asynccontextmanager
    async def befalls(self, store: FaultyStore) -> AsyncIterator[None]:
        store.fail()
        yield
        store.heal()


class FullDisk:
    """A real SQLITE_FULL."""

    def __init__(self, folder: Path) -> None:
        self.file = folder / "runs.db"

    def store(self) -> Any:
        return SqliteStore(self.file)

    @asynccontextmanager
    async def befalls(self, store: SqliteStore) -> AsyncIterator[None]:
        await self._limit(store, 1)
        yield
        with suppress(EngineClosed):  # the limit is the connection's, and gone with it
            await self._limit(store, 1_000_000)

    async def _limit(self, store: SqliteStore, pages: int) -> None:
        # One that is smaller than the file is taken for its size.
        await store._writer.run(lambda link: link.execute(f"PRAGMA max_page_count = {pages}").fetchall())


class ForeignLock:
    """Another program holds the file."""

    def __init__(self, folder: Path) -> None:
        self.file = folder / "runs.db"

    def store(self) -> Any:
        return SqliteStore(self.file, busy_seconds=0.01)

    @asynccontextmanager
    async def befalls(self, store: SqliteStore) -> AsyncIterator[None]:
        with closing(sqlite3.connect(self.file, isolation_level=None, timeout=10)) as other:
            other.execute("BEGIN EXCLUSIVE")
            yield
            other.execute("ROLLBACK")


@pytest.fixture(params=[LostConnection, FullDisk, ForeignLock])
def trouble(request: pytest.FixtureRequest, tmp_path: Path) -> Trouble:
    made: Trouble = request.param(tmp_path)
    return made


class Work:
    """A graph whose first node waits to be let go, beside one that does not; and what has run of it."""

    def __init__(self) -> None:
        self.ran: list[str] = []
        self.began, self.go, self.ended = anyio.Event(), anyio.Event(), anyio.Event()
        self.graph = Graph("work").add_node("first", self.first).add_node("second", self.second)
        self.graph.add_edge("first", "second").set_entry_point("first")
        self.waiting = Graph("waiting").add_wait("wait", signal="go", into="it").set_entry_point("wait")

    async def first(self, state: State) -> State:
        self.ran.append("first begins")
        self.began.set()
        await self.go.wait()
        self.ran.append("first ends")
        self.ended.set()
        return {"much": much()}

    async def second(self, state: State) -> None:
        self.ran.append("second")


async def test_while_a_store_fails_what_runs_goes_on_and_nobody_new_is_taken_until_it_heals(
    trouble: Trouble, caplog: pytest.LogCaptureFixture
) -> None:
    work, refused = Work(), 0
    async with Engine(store := trouble.store()) as engine:
        run = await engine.submit(work.graph, {})
        await work.began.wait()
        async with trouble.befalls(store):
            work.go.set()
            for number in range(20):
                with pytest.raises(StoreUnavailable), anyio.fail_after(60):
                    await engine.submit(work.graph, {"much": much()}, run_id=f"refused {number}")
                refused += 1
            assert engine.metrics.get_sample_value("workflow_store_available") == 0
            await anyio.sleep(A_WHILE)
            assert work.ran == ["first begins", "first ends"], "running nodes go on; what follows waits for the record"
            assert not run.over
        with anyio.fail_after(60):
            await run.result()
            assert engine.metrics.get_sample_value("workflow_store_available") == 1
            await engine.run(work.graph, {"much": much()}, run_id="later")
        assert work.ran == ["first begins", "first ends", "second", "first begins", "first ends", "second"]
        assert [one.id for one in await engine.runs()] == [run.id, "later"], "who was refused has no run"
        assert (
            engine.metrics.get_sample_value("workflow_admission_rejected_total", {"reason": "store_unavailable"})
            == refused
        )
    said = [record.getMessage() for record in caplog.records if record.name == "engine"]
    assert any("no new run is accepted" in line for line in said)
    assert any("writes again" in line for line in said)
    async with Engine(trouble.store()) as engine:
        engine.register(work.graph)
        assert [(one.id, one.status) for one in await engine.runs()] == [(run.id, "succeeded"), ("later", "succeeded")]


async def test_while_a_store_fails_no_signal_and_no_end_is_acknowledged(trouble: Trouble) -> None:
    work = Work()
    async with Engine(store := trouble.store()) as engine:
        run = await engine.submit(work.waiting, {})
        async with trouble.befalls(store):
            with anyio.move_on_after(A_WHILE) as told:
                await run.signal("go", much(), id="once")
            assert told.cancelled_caught, "it is not acknowledged"
            assert not run.over
            with pytest.raises(TimeoutError):
                await run.result(timeout=A_WHILE)
        with anyio.fail_after(60):
            await run.result()


async def test_an_engine_that_is_left_while_its_store_fails_tells_all_who_wait(trouble: Trouble) -> None:
    work, answers = Work(), dict[str, BaseException | None]()

    async def note(name: str, awaitable: Any) -> None:
        try:
            await awaitable
        except Exception as error:
            answers[name] = error
        else:
            answers[name] = None

    settings = Settings(close_seconds=0.2)
    async with anyio.create_task_group() as around:
        with anyio.fail_after(60), pytest.raises(ZeroDivisionError):  # noqa: PT012
            async with AsyncExitStack() as stack, Engine(store := trouble.store(), settings=settings) as engine:
                run, parked = await engine.submit(work.graph, {}), await engine.submit(work.waiting, {})
                await work.began.wait()
                await stack.enter_async_context(trouble.befalls(store))
                work.go.set()
                around.start_soon(note, "result", run.result())
                around.start_soon(note, "signal", parked.signal("go", much()))
                around.start_soon(note, "submit", engine.submit(work.graph, {"much": much()}))
                await anyio.sleep(0.02)
                raise ZeroDivisionError
    assert isinstance(answers["result"], EngineClosed)
    assert isinstance(answers["signal"], EngineClosed)
    assert isinstance(answers["submit"], StoreUnavailable | EngineClosed)
    async with Engine(trouble.store()) as engine:
        engine.register(work.graph)
        engine.register(work.waiting)
        assert {one.id for one in await engine.runs()} == {run.id, parked.id}
        await (await engine.get(run.id)).result()
        again = await engine.get(parked.id)
        assert again.status == "waiting", "a signal that nobody acknowledged was not there"
        await again.signal("go", 1)
        assert (await again.result()).state == {"it": 1}


async def test_what_is_done_to_a_run_after_its_engine_was_left_is_refused_and_not_just_forgotten() -> None:
    work, store = Work(), MemoryStore()
    async with Engine(store) as engine:
        run = await engine.submit(work.waiting, {})
    for act in (run.cancel, run.pause, run.resume, lambda: run.signal("go")):
        with pytest.raises(EngineClosed, match="stays in the store"):
            await act()


async def test_a_run_that_the_engine_failed_on_goes_no_further_when_its_records_are_safe(tmp_path: Path) -> None:
    work, store = Work(), FaultyStore(MemoryStore(), rate=0)
    work.go.set()
    async with Engine(store) as engine:
        run = await engine.submit(work.graph, {})
        store.fail()
        await work.ended.wait()
        run.broke(RuntimeError("a bug"))
        store.heal()
        await anyio.sleep(A_WHILE)
    assert work.ran == ["first begins", "first ends"]


async def test_a_submitter_is_told_when_the_engine_is_cancelled_while_its_store_fails() -> None:
    work, store = Work(), FaultyStore(MemoryStore(), rate=0)
    with anyio.fail_after(60):
        with anyio.move_on_after(0.05):
            async with Engine(store, settings=Settings(close_seconds=0.1)) as engine:
                store.fail()
                await engine.submit(work.graph, {})
    store.heal()
    async with Engine(store) as engine:
        assert await engine.runs() == []
