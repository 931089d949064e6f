"""Files that outlive their engine: there after a crash, collected when nothing needs them, made again if they may."""

from __future__ import annotations

import errno
import os
import resource
import signal
import subprocess
import sys
import textwrap
import time
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager, suppress
from pathlib import Path
from typing import Any

import anyio
import pytest

from engine import (
    END,
    Engine,
    EphemeralRefused,
    File,
    FileMissing,
    FilesUnavailable,
    Graph,
    GraphNotFound,
    IdempotencyConflict,
    NotStorable,
    RunFailed,
    VersionMismatch,
)
from engine.file import Kept as Contents
from engine.files.local import LocalFiles
from engine.format import unpack_record
from engine.recovery import blobs_of
from engine.stored import Kept as KeepRuns
from engine.stored import Query
from engine.stores.sqlite import SqliteStore
from tests.contracts import files as places
from tests.contracts.stores import FACTORIES

State = dict[str, Any]
ROOT = Path(__file__).parents[2]
CSV = File.from_bytes("a,b\n1,2\n", "orders.csv")


@pytest.fixture(params=FACTORIES)
def engine_on(request: pytest.FixtureRequest, tmp_path: Path) -> Callable[..., Engine]:
    """Makes engines, one after the other, on one store and one place for files."""
    make = FACTORIES[request.param](tmp_path)
    return lambda **options: Engine(make(), **{"files": tmp_path / "files", **options})


@asynccontextmanager
async def crashing(engine: Engine) -> AsyncIterator[Engine]:
    """An engine that is left by an exception, in the middle of whatever it is doing."""
    with suppress(ZeroDivisionError):
        async with engine:
            yield engine
            raise ZeroDivisionError


class Calls:
    """Counts what ran."""

    def __init__(self) -> None:
        self.made: list[str] = []

    def make(self, name: str, **options: Any) -> Any:
        async def make(state: State) -> Any:
            self.made.append(name)
            return File.from_bytes(name, name, **options)

        return make

    async def take(self, tables: list[File], state: State) -> Any:
        self.made.append("take")
        return {"got": [f"{table.name}: {await table.text()}" for table in tables]}


def waiting(calls: Calls, make: Any, **options: Any) -> Graph:
    graph = Graph("g").add_node("make", make, produces="text/csv", **options)
    graph.add_wait("wait", signal="go", into="word").add_node("take", calls.take)
    return graph.add_edge("make", "wait").add_edge("wait", "take").set_entry_point("make")


async def settled(engine: Engine, run_id: str, status: str = "waiting") -> None:
    with anyio.fail_after(60):
        while (await engine.get(run_id)).status != status:  # noqa: ASYNC110  # nobody tells of a run that waits
            await anyio.sleep(0.01)


def kept_in(engine: Engine) -> list[str]:
    return sorted(digest for digest, _ in engine.files.store.all())


# --- after a crash --------------------------------------------------------------------------------------


async def test_files_are_there_after_a_crash_and_made_once(engine_on: Callable[..., Engine]) -> None:
    calls = Calls()
    graph = waiting(calls, calls.make("x.csv"))
    async with crashing(engine_on()) as engine:
        run = await engine.submit(graph, files={"input": CSV})
        await settled(engine, run.id)
    async with engine_on() as engine:
        engine.register(graph)
        run = await engine.get(run.id)
        await run.signal("go", "now")
        result = await run.result()

        assert result.state == {"word": "now", "got": ["x.csv: x.csv"]}
        assert [await file.text() for file in result.files] == ["x.csv"]
    assert calls.made == ["x.csv", "take"]


async def test_what_a_run_was_submitted_on_is_there_after_a_crash(engine_on: Callable[..., Engine]) -> None:
    calls = Calls()
    graph = Graph("g").add_wait("wait", signal="go", into="word").add_node("take", calls.take)
    graph.add_edge("wait", "take").set_entry_point("wait")
    async with crashing(engine_on()) as engine:
        run = await engine.submit(graph, {"n": 1}, files={"input": CSV, "more": CSV})
    async with engine_on() as engine:
        engine.register(graph)
        run = await engine.get(run.id)
        await run.signal("go")
        assert (await run.result()).state["got"] == ["orders.csv: a,b\n1,2\n"] * 2


async def test_files_of_a_run_that_is_looked_at_before_its_graph_is_known_are_told(tmp_path: Path) -> None:
    graph = Graph("g").add_node("make", Calls().make("x.csv"), produces="text/csv").set_entry_point("make")
    async with Engine(f"sqlite:///{tmp_path}/runs.db") as engine:
        run = await engine.submit(graph)
        await run.wait()
    async with Engine(f"sqlite:///{tmp_path}/runs.db") as engine:
        kept = await engine.get(run.id)
        with pytest.raises(GraphNotFound):
            _ = kept.files
        engine.register(graph)
        files = (await engine.get(run.id)).files
        assert [await file.text() for file in files] == ["x.csv"]


async def test_a_run_with_files_goes_on_only_where_files_travel(tmp_path: Path) -> None:
    async def look(state: State) -> State:
        return {"seen": sorted(state)}

    address, calls = f"sqlite:///{tmp_path}/runs.db", Calls()
    for version in ("1", "2"):  # the same version, too: only what the functions take and make has changed
        graph, other = waiting(calls, calls.make("x.csv")), Graph("g", version=version)
        other.add_node("make", look).add_wait("wait", signal="go", into="word").add_node("take", look)
        other.add_edge("make", "wait").add_edge("wait", "take").set_entry_point("make")
        async with crashing(Engine(address)) as engine:
            run = await engine.submit(graph)
            await settled(engine, run.id)
        async with Engine(address) as engine:
            engine.register(other)
            with pytest.raises(VersionMismatch, match="files traveled through the graph and do not any more"):
                await engine.migrate(run.id)
            with pytest.raises((VersionMismatch, GraphNotFound)):
                await engine.fork(run.id, at="wait#1")
        async with Engine(address) as engine:
            engine.register(graph)
            kept = await engine.get(run.id)
            await kept.signal("go")
            assert (await kept.result()).state["got"] == ["x.csv: x.csv"]


async def test_a_run_that_had_no_files_goes_on_where_they_travel_when_it_is_said(tmp_path: Path) -> None:
    address, calls = f"sqlite:///{tmp_path}/runs.db", Calls()
    before = Graph("g").add_node("make", lambda s: {"n": 1}).add_wait("wait", signal="go", into="word")
    before.add_node("take", lambda s: None).add_edge("make", "wait").add_edge("wait", "take").set_entry_point("make")
    async with crashing(Engine(address)) as engine:
        run = await engine.submit(before)
        await settled(engine, run.id)
    async with Engine(address) as engine:
        engine.register(waiting(calls, calls.make("x.csv")))
        moved = await engine.migrate(run.id)
        await moved.signal("go")
        assert (await moved.result()).state == {"n": 1, "word": None, "got": []}


async def test_files_are_there_after_a_snapshot(engine_on: Callable[..., Engine], monkeypatch: Any) -> None:
    monkeypatch.setattr("engine.keeping.SNAPSHOT_RECORDS", 3)
    calls = Calls()

    async def count(state: State) -> State:
        return {"n": state.get("n", 0) + 1}

    graph = Graph("g", conflicts="last").add_node("make", calls.make("x.csv"), produces="text/csv")
    graph.add_node("other", count).add_node("count", count).add_wait("wait", signal="go", into="word").add_node(
        "take", calls.take
    )
    graph.add_edge("make", ["other", "count"]).add_edge("count", "count", when=lambda s: s["n"] < 20)
    graph.add_edge("count", "wait", otherwise=True).add_edge("wait", "take").add_edge("other", "take")
    graph.set_entry_point("make")
    async with crashing(engine_on()) as engine:
        run = await engine.submit(graph)
        await settled(engine, run.id)
        assert (await engine._durable.load(run.id)).run.snapshot is not None  # type: ignore[union-attr]
    async with engine_on() as engine:
        engine.register(graph)
        run = await engine.get(run.id)
        await run.signal("go")
        assert (await run.result()).state["got"] == ["x.csv: x.csv"]


async def test_a_fork_and_a_retry_have_the_files_of_what_they_go_on_from(engine_on: Callable[..., Engine]) -> None:
    calls, broken = Calls(), [True]

    async def take(tables: list[File], state: State) -> Any:
        if broken[0]:
            raise ValueError("no")
        return await calls.take(tables, state)

    graph = Graph("g").add_node("make", calls.make("x.csv"), produces="text/csv").add_node("take", take)
    graph.add_edge("make", "take").set_entry_point("make")
    async with engine_on() as engine:
        run = await engine.submit(graph, files={"input": CSV})
        assert await run.wait() == "failed"
        broken.clear()
        broken.append(False)
        fork = await engine.fork(run.id, at="take#1", update={"n": 1})
        whole = await engine.fork(run.id, at="make#1")
        await run.retry()
        for one in (run, fork, whole):
            assert (await one.result()).state["got"] == ["x.csv: x.csv"]
    assert calls.made.count("x.csv") == 2


async def test_the_same_key_and_the_same_files_are_the_same_submission(engine_on: Callable[..., Engine]) -> None:
    graph = Graph("g").add_node("take", Calls().take).set_entry_point("take")
    async with engine_on() as engine:
        one = await engine.submit(graph, files={"t": File.from_bytes("x", "x.txt")}, idempotency_key="k")
        other = await engine.submit(graph, files={"t": File.from_bytes("x", "x.txt")}, idempotency_key="k")
        assert one.id == other.id
        with pytest.raises(IdempotencyConflict):
            await engine.submit(graph, files={"t": File.from_bytes("y", "x.txt")}, idempotency_key="k")


KILLED = """
import sys, anyio
from pathlib import Path
from engine import END, Engine, File, Graph
sys.path.insert(0, {root!r})

async def make(number: int):
    data = bytes([number % 256]) * 200_000 + str(number).encode()
    return File.from_bytes(data, f"{{number}}.bin")

async def each(state):
    files = [await make(state["n"] * 5 + k) for k in range(5)]
    return files, {{"n": state["n"] + 1}}

def graph():
    found = Graph("g").add_node("each", each, produces="*/*")
    found.add_edge("each", "each", when=lambda s: s["n"] < 100_000, max_iterations=200_000)
    found.add_edge("each", END, otherwise=True)
    return found.set_entry_point("each")

async def main():
    async with Engine("sqlite:///runs.db") as engine:
        engine.register(graph())
        runs = await engine.runs()
        if not runs:
            for _ in range(3):
                await engine.submit("g", {{"n": 0}})
        print("begun", flush=True)
        await anyio.sleep_forever()

anyio.run(main, backend={backend!r})
"""


@pytest.mark.parametrize("backend", ["asyncio", "trio"])
def test_no_file_that_the_journal_names_is_missing_or_torn_after_kill_9(backend: str, tmp_path: Path) -> None:
    program = tmp_path / "program.py"
    program.write_text(textwrap.dedent(KILLED.format(root=str(ROOT), backend=backend)))
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    life, named = 0, 0
    while life < 6 or (named <= 15 and life < 60):  # a machine may take longer for them
        with subprocess.Popen(
            [sys.executable, str(program)], cwd=tmp_path, env=environment, stdout=subprocess.PIPE
        ) as process:
            assert process.stdout is not None
            assert process.stdout.readline() == b"begun\n"
            time.sleep(0.05 + 0.11 * (life % 6))
            process.send_signal(signal.SIGKILL)
        named, broken = anyio.run(named_and_broken, tmp_path, backend=backend)
        life += 1

    assert named > 15
    assert broken == []


async def named_and_broken(folder: Path) -> tuple[int, list[str]]:
    """How many files the journal's records name, and those whose contents are not what they were."""
    store, named, broken = LocalFiles(folder / "runs.db.files"), 0, []
    async with SqliteStore(folder / "runs.db") as opened:
        for row in await opened.find(Query()):
            after = 0
            while page := await opened.records(row.run_id, after=after):
                blobs = await blobs_of(opened, (data for _, data in page))
                after = page[-1][0]
                for _, data in page:
                    for entry in (unpack_record(data, blobs).update or {}).get("$files", ()):
                        named += 1
                        try:
                            found = entry[3].with_contents(Contents(store, entry[3].digest)).blocking.read()
                        except Exception as error:
                            broken.append(str(error))
                        else:
                            if not found.endswith(entry[3].name.removesuffix(".bin").encode()):
                                broken.append(entry[3].name)
    return named, broken


async def test_files_in_memory_are_refused_for_runs_that_are_kept(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"the files of .*runs\.db would be in memory only .*files=a folder"):
        async with Engine(f"sqlite:///{tmp_path}/runs.db", files="memory://"):
            pass
    async with Engine("memory://", files="memory://"), Engine(files="memory://"):
        pass


async def test_a_file_out_of_a_journal_is_kept_by_another_engine_that_is_running_here(tmp_path: Path) -> None:
    graph = Graph("g").add_node("make", Calls().make("x.csv"), produces="text/csv").set_entry_point("make")
    async with Engine(f"sqlite:///{tmp_path}/one.db") as engine:
        run = await engine.submit(graph)
        await run.wait()
    async with Engine(f"sqlite:///{tmp_path}/one.db") as engine, Engine(f"sqlite:///{tmp_path}/other.db") as other:
        engine.register(graph)
        (file,) = (await engine.get(run.id)).files
        await other.files.keep(file)
        assert kept_in(other) == [file.digest]


# --- what is not needed ---------------------------------------------------------------------------------


async def test_what_no_run_names_is_collected_and_nothing_else(
    engine_on: Callable[..., Engine], monkeypatch: pytest.MonkeyPatch
) -> None:
    calls = Calls()
    graph = waiting(calls, calls.make("made.csv"))
    ending = Graph("ending").add_node("make", calls.make("ended.csv"), produces="text/csv").set_entry_point("make")
    async with engine_on() as engine:
        parked = await engine.submit(graph, files={"input": CSV})
        ended = await engine.run(ending)
        await settled(engine, parked.id)
        await engine.files.keep(File.from_bytes("uploaded, and forgotten"))
        assert len(kept_in(engine)) == 4

        # All are young, the uploaded one too: who has uploaded it may be about to submit a run on it.
        assert (await engine.compact(keep_seconds=0.0)).files == 0
        monkeypatch.setattr("engine.files.files.GRACE", -60.0)
        assert (await engine.compact()).files == 2  # that one, and what the run had made that is removed now
        assert sorted(kept_in(engine)) == sorted([CSV.digest, File.from_bytes("made.csv").digest])
        await parked.signal("go")
        assert (await parked.result()).state["got"] == ["made.csv: made.csv"]
        assert (await engine.compact(keep_count=0)).files == 2
        assert kept_in(engine) == []
        with pytest.raises(FileMissing):
            await ended.files[0].read()


async def test_a_forks_files_stay_when_the_run_it_came_from_is_removed(
    engine_on: Callable[..., Engine], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("engine.files.files.GRACE", -60.0)
    calls = Calls()
    graph = waiting(calls, calls.make("made.csv"))
    async with engine_on() as engine:
        run = await engine.submit(graph, files={"input": CSV})
        await settled(engine, run.id)
        await run.signal("go")
        await run.result()
        fork = await engine.fork(run.id, at="wait#1")
        result = await fork.result()
        assert (await engine.compact(keep_count=1)).runs == 1
        assert sorted(kept_in(engine)) == sorted([CSV.digest, File.from_bytes("made.csv").digest])
        assert await result.files[0].text() == "made.csv"


async def test_what_need_not_be_kept_goes_with_its_files_while_an_engine_runs(
    engine_on: Callable[..., Engine], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("engine.durable.KEEP_SECONDS", 0.05)
    monkeypatch.setattr("engine.durable.KEEP_FACTOR", 0.0)
    monkeypatch.setattr("engine.durable.COLLECT_SECONDS", 0.05)
    graph = Graph("g").add_node("make", Calls().make("made.csv"), produces="text/csv").set_entry_point("make")
    async with engine_on(keep=KeepRuns(count=0)) as engine:
        await engine.run(graph)
        assert len(kept_in(engine)) == 1
        monkeypatch.setattr("engine.files.files.GRACE", -60.0)
        with anyio.fail_after(60):
            while kept_in(engine):  # noqa: ASYNC110  # nobody tells of what is removed
                await anyio.sleep(0.02)


async def test_what_is_left_of_broken_uploads_is_swept_away(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("engine.files.files.GRACE", -60.0)
    store = LocalFiles(tmp_path / "files")
    left = store.begin()
    left.write(b"half")
    async with Engine(f"sqlite:///{tmp_path}/runs.db", files=store) as engine:
        await engine.compact()

    assert list((tmp_path / "files" / "tmp").iterdir()) == []
    left.abort()


async def test_the_same_contents_made_again_while_they_are_collected_are_not_lost(tmp_path: Path) -> None:
    store = LocalFiles(tmp_path)
    digest = places.put(store, b"again")
    rename, seen = Path.rename, []

    def slow(path: Path, target: Path) -> Path:
        if path.name == digest and not seen:
            seen.append(places.put(store, b"again"))  # just before they are moved away
        return rename(path, target)

    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(Path, "rename", slow)
        await anyio.sleep(0.01)
        os.utime(store._path(digest), (1.0, 1.0))
        assert not store.remove(digest, time.time() - 60)

    assert store.read(digest, 0, 9) == b"again"


# --- ephemeral ------------------------------------------------------------------------------------------


async def test_an_ephemeral_file_is_in_memory_only(tmp_path: Path) -> None:
    calls = Calls()
    graph = Graph("g").add_node("make", calls.make("x.csv", ephemeral=True), produces="text/csv")
    graph.add_node("take", calls.take).add_edge("make", "take").set_entry_point("make")
    for address in (None, f"sqlite:///{tmp_path}/runs.db"):
        async with Engine(address) as engine:
            assert (await engine.run(graph)).state == {"got": ["x.csv: x.csv"]}
            assert kept_in(engine) == []


async def test_an_ephemeral_file_that_is_gone_is_made_again_by_the_node_that_had_made_it(
    engine_on: Callable[..., Engine],
) -> None:
    calls = Calls()
    graph = waiting(calls, calls.make("x.csv", ephemeral=True))
    async with crashing(engine_on()) as engine:
        run = await engine.submit(graph, {"n": 1})
        await settled(engine, run.id)
    async with engine_on() as engine:
        engine.register(graph)
        run = await engine.get(run.id)
        await run.signal("go")
        assert (await run.result()).state["got"] == ["x.csv: x.csv"]
        assert [entry.node for entry in run.log] == ["make", "wait", "take"]
    assert calls.made == ["x.csv", "x.csv", "take"]


async def test_many_of_one_activation_are_made_again_at_once_and_say_once_of_what(tmp_path: Path) -> None:
    calls = Calls()

    async def make(state: State) -> Any:
        calls.made.append("make")
        return [File.from_bytes(str(n), f"{n}.csv", ephemeral=True) for n in range(300)]

    graph, address = waiting(calls, make), f"sqlite:///{tmp_path}/runs.db"
    async with crashing(Engine(address)) as engine:
        run = await engine.submit(graph, {"text": "x" * 10_000})
        await settled(engine, run.id)
    async with Engine(address) as engine:
        engine.register(graph)
        run = await engine.get(run.id)
        await run.signal("go")
        assert len((await run.result()).state["got"]) == 300
    assert calls.made == ["make", "make", "take"]
    sizes = [os.path.getsize(tmp_path / name) for name in os.listdir(tmp_path) if "files" not in name]  # noqa: ASYNC240
    assert sum(sizes) < 2_000_000


async def test_ephemeral_files_that_are_made_of_many_others_are_refused_when_runs_are_kept(tmp_path: Path) -> None:
    async def make(tables: list[File], state: State) -> Any:
        n = state["n"] + 1
        return [File.from_bytes(f"{n}{name}", name, ephemeral=True) for name in ("a.csv", "b.csv")], {"n": n}

    graph = Graph("g").add_node("make", make, accepts="text/csv", produces="text/csv").set_entry_point("make")
    graph.add_edge("make", "make", when=lambda s: s["n"] < 40).add_edge("make", END, otherwise=True)
    async with Engine(f"sqlite:///{tmp_path}/runs.db") as engine:
        with pytest.raises(RunFailed) as caught:
            await engine.run(graph, {"n": 0})
    cause = caught.value.exceptions[0].__cause__
    assert isinstance(cause, EphemeralRefused)
    assert "node 'make' made the ephemeral file 'a.csv' of others that are ephemeral too" in str(cause)
    async with Engine() as engine:
        assert (await engine.run(graph, {"n": 0})).state == {"n": 40}


async def test_one_that_is_made_anew_and_differs_is_told(engine_on: Callable[..., Engine]) -> None:
    numbers = iter(range(10))

    async def make(state: State) -> Any:
        return File.from_bytes(str(next(numbers)), "x.csv", ephemeral=True)

    graph = waiting(Calls(), make)
    async with crashing(engine_on()) as engine:
        run = await engine.submit(graph)
        await settled(engine, run.id)
    async with engine_on() as engine:
        engine.register(graph)
        run = await engine.get(run.id)
        await run.signal("go")
        with pytest.raises(RunFailed) as caught:
            await run.result()
    cause = caught.value.exceptions[0].__cause__
    assert isinstance(cause, FileMissing)
    assert "make#1 was run again to make 'x.csv' anew, and made another" in str(cause)


async def test_an_ephemeral_file_is_refused_where_nothing_could_make_it_again(tmp_path: Path) -> None:
    calls = Calls()
    ephemeral = File.from_bytes("x", "x.csv", ephemeral=True)
    effect = Graph("e").add_node("make", calls.make("x.csv", ephemeral=True), produces="text/csv", effect=True)
    inner = Graph("i").add_node("make", calls.make("x.csv", ephemeral=True), produces="text/csv")
    inside = Graph("s").add_node("sub", inner.set_entry_point("make")).set_entry_point("sub")

    async def put(state: State) -> Any:
        return {"file": ephemeral}

    in_state = Graph("v").add_node("put", put, produces="text/csv").set_entry_point("put")
    async with Engine(f"sqlite:///{tmp_path}/runs.db") as engine:
        for graph, why in ((effect.set_entry_point("make"), "effect=True"), (inside, "subgraph"), (in_state, "state")):
            with pytest.raises(RunFailed) as caught:
                await engine.run(graph)
            found: BaseException | None = caught.value
            while isinstance(found, BaseExceptionGroup) or (found is not None and found.__cause__ is not None):
                found = found.exceptions[0] if isinstance(found, BaseExceptionGroup) else found.__cause__
            assert isinstance(found, EphemeralRefused)
            assert why in str(found)
        with pytest.raises(EphemeralRefused, match="is submitted on the ephemeral file"):
            await engine.submit(in_state, files={"x": ephemeral})
    async with Engine() as engine:
        for graph in (effect, inside, in_state):
            await engine.run(graph)


# --- many, large, full ----------------------------------------------------------------------------------


async def test_ten_thousand_files_go_through_a_run(tmp_path: Path) -> None:
    async def make(state: State) -> Any:
        # A hundred contents, so that a disk that is synced for each does not make this test slow.
        return [File.from_bytes(str(n % 100), f"{n}.txt") for n in range(10_000)]

    async def take(tables: list[File], state: State) -> Any:
        return {"names": len({table.name for table in tables}), "last": await tables[-1].text()}

    graph = Graph("g").add_node("make", make, produces="text/plain").add_node("take", take, accepts="text/*")
    async with Engine(f"sqlite:///{tmp_path}/runs.db") as engine:
        result = await engine.run(graph.add_edge("make", "take").set_entry_point("make"))

        assert result.state == {"names": 10_000, "last": "99"}
        assert len(result.files) == 10_000
        assert len(kept_in(engine)) == 100


async def test_a_file_of_no_bytes_is_a_file(engine_on: Callable[..., Engine]) -> None:
    calls = Calls()
    graph = Graph("g").add_node("take", calls.take).set_entry_point("take")
    async with engine_on() as engine:
        result = await engine.run(graph, files={"t": File.from_bytes(b"", "none.csv")})

    assert result.state == {"got": ["none.csv: "]}
    assert result.files[0].size == 0


MEMORY = """
import sys, anyio
from engine import Engine, File, Graph

SIZE, PIECE = int(sys.argv[1]), b"0123456789abcdef" * 65536

async def pieces():
    for _ in range(SIZE // len(PIECE)):
        yield PIECE

async def make(state):
    return File.from_chunks(pieces(), "large.bin", "application/octet-stream")

async def take(large: File, state):
    count = 0
    async with large.open() as stream:
        async for chunk in stream:
            count += len(chunk)
    return {"count": count}

async def main():
    graph = Graph("g").add_node("make", make, produces="*/*").add_node("take", take).add_edge("make", "take")
    async with Engine("sqlite:///runs.db", files=sys.argv[3] or None) as engine:
        result = await engine.run(graph.set_entry_point("make"))
        assert result.state["count"] == SIZE, result.state
        copy = await result.files[0].save("copy.bin")
        await engine.run(graph, files={"it": copy})
    # Not `getrusage`, in which a process begins with what its parent had.
    with open("/proc/self/status") as status:
        print(next(int(line.split()[1]) // 1024 for line in status if line.startswith("VmHWM")))

anyio.run(main, backend=sys.argv[2])
"""


def most_memory(folder: Path, size: int, backend: str, files: str = "") -> int:
    """The most memory in MB of a process that sends a file of this size through an engine."""
    (folder / "program.py").write_text(MEMORY)
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    words = [sys.executable, "program.py", str(size), backend, files]
    done = subprocess.run(words, cwd=folder, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return int(done.stdout)


@pytest.mark.parametrize("backend", ["asyncio", "trio"])
def test_a_large_file_takes_little_memory(backend: str, tmp_path: Path) -> None:
    # 200 MB here; `python -m tests.large_files` does it with 2 GB.
    assert most_memory(tmp_path, 200 << 20, backend) < 100


@contextmanager
def full_disk(folder: Path) -> Iterator[Path]:
    """A folder where 1 MB fits: a small file system of its own, or (not as root) files of at most that size."""
    folder.mkdir()
    mounted = (
        os.geteuid() == 0
        and subprocess.run(
            ["mount", "-t", "tmpfs", "-o", "size=1m", "tmpfs", str(folder)], capture_output=True, check=False
        ).returncode
        == 0
    )
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    handler = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    try:
        if not mounted:
            resource.setrlimit(resource.RLIMIT_FSIZE, (1 << 20, limits[1]))
        yield folder
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
        signal.signal(signal.SIGXFSZ, handler)
        if mounted:
            subprocess.run(["umount", "-l", str(folder)], check=True)


async def test_a_full_disk_fails_the_attempt_and_leaves_nothing_behind(tmp_path: Path) -> None:
    sizes = [2 << 20, 2 << 20, 1 << 10]

    async def make(state: State) -> Any:
        return File.from_bytes(b"x" * sizes.pop(0), "x.bin")

    graph = Graph("g").add_node("make", make, produces="*/*").set_entry_point("make")
    with full_disk(tmp_path / "small") as small:
        async with Engine("memory://", files=small) as engine:
            for _ in range(2):
                with pytest.raises(RunFailed) as caught:
                    await engine.run(graph)
                cause = caught.value.exceptions[0].__cause__
                assert isinstance(cause, FilesUnavailable)
                assert "make room on the disk" in str(cause)
                assert isinstance(cause.__cause__, OSError)
                assert cause.__cause__.errno in (errno.ENOSPC, errno.EFBIG)
            assert kept_in(engine) == []
            assert list((small / "tmp").iterdir()) == []
            assert (await engine.run(graph)).files[0].size == 1 << 10


async def test_contents_that_somebody_has_removed_or_changed_are_told(tmp_path: Path) -> None:
    calls = Calls()
    graph = waiting(calls, calls.make("x.csv"))
    async with Engine(f"sqlite:///{tmp_path}/runs.db") as engine:
        store = engine.files.store
        assert isinstance(store, LocalFiles)
        for change, said in ((Path.unlink, "FileMissing"), (lambda path: path.write_bytes(b"torn"), "FileDamaged")):
            run = await engine.submit(graph)
            await settled(engine, run.id)
            (digest,) = kept_in(engine)
            change(store._path(digest))
            await run.signal("go")
            with pytest.raises(RunFailed) as caught:
                await run.result()
            assert type(caught.value.exceptions[0].__cause__).__name__ == said


async def test_a_file_in_a_signal_for_a_run_that_is_nowhere_is_refused(tmp_path: Path) -> None:
    calls = Calls()
    graph = waiting(calls, calls.make("x.csv"))
    async with crashing(Engine(f"sqlite:///{tmp_path}/runs.db")) as engine:
        run = await engine.submit(graph)
        await settled(engine, run.id)
    async with Engine(f"sqlite:///{tmp_path}/runs.db") as engine:
        kept = await engine.files.keep(File.from_bytes("x"))
        parked = await engine.get(run.id)
        with pytest.raises(NotStorable, match="an inbox keeps no files"):
            await parked.signal("go", kept)
        await parked.cancel()
