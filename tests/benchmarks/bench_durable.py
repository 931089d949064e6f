"""Durable runs: what it costs to have each step on disk, to come back, and how much room it takes.

The files are made where temporary files go: measure on the disk that is to be told of (`TMPDIR=...`).
"""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Iterable, Iterator
from contextlib import AsyncExitStack, contextmanager
from functools import cache, partial
from itertools import count
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, Literal

import anyio

from engine import Engine, Graph
from engine.stored import Admit, RunRow
from engine.stores.postgres import PostgresStore
from engine.stores.postgres.sharing import PostgresMember
from engine.stores.thread import DriverThread

from ..servers import fresh_postgres
from .bench_engine import State, line, step, three
from .harness import Row, now

Mode = Literal["standard", "strict"]

LENGTH = 20
IDLE_NODES = 100
IDLE_BYTES = 100_000
PLAIN_RECORD = bytes(120)  # about what a step of `step` takes


# --- graphs ---------------------------------------------------------------------------------------------


@cache
def chain_graph() -> Graph:
    return line("durable chain", step, LENGTH)


async def step_with_all(state: State) -> State:
    """What people write when they think of a node as a function from a state to the next."""
    return {**state, "n": state["n"] + 1}


@cache
def idle_graph(function: Callable[..., Any]) -> Graph:
    return line(f"beside much that is idle, {function.__name__}", function, IDLE_NODES)


def idle_state() -> State:
    """100 KB of which no two parts are alike: the rows of a table, and a text."""
    half = IDLE_BYTES // 2
    rows = [{"id": number, "name": f"row {number}"} for number in range(1_000_000, 1_000_000 + half // 36)]
    return {"n": 0, "rows": rows, "text": "".join(map(str, range(half)))[:half]}


# --- a bare commit per step --------------------------------------------------------------------------------


class Bare:
    """One INSERT and COMMIT each, in a thread of its own, with nothing else to do."""

    def __init__(self, file: str) -> None:
        self._connection = sqlite3.connect(file, isolation_level=None, check_same_thread=False)
        self._connection.execute("PRAGMA journal_mode = WAL")
        self._connection.execute("CREATE TABLE records (id INTEGER PRIMARY KEY, run INTEGER, seq INTEGER, data BLOB)")

    def synchronous(self, level: str) -> None:
        self._connection.execute(f"PRAGMA synchronous = {level}")

    def commit(self, seq: int) -> None:
        self._connection.execute("BEGIN IMMEDIATE")
        self._connection.execute("INSERT INTO records (run, seq, data) VALUES (1, ?, ?)", (seq, PLAIN_RECORD))
        self._connection.execute("COMMIT")

    def close(self) -> None:
        self._connection.close()


async def bare_commits(mode: Mode, times: int) -> float:
    """Microseconds per step: an admission and the last step synced to disk, what is between as the mode wants it."""
    with folder() as files:
        bare, thread = Bare(f"{files}/bare.db"), DriverThread("bare")
        between = "FULL" if mode == "strict" else "NORMAL"
        start = now()
        for _ in range(times):
            await thread.run(bare.synchronous, "FULL")
            await thread.run(bare.commit, 0)
            await thread.run(bare.synchronous, between)
            for seq in range(1, LENGTH):
                await thread.run(bare.commit, seq)
            await thread.run(bare.synchronous, "FULL")
            await thread.run(bare.commit, LENGTH)
        spent = now() - start
        await thread.run(bare.close)
        thread.close()
        return spent / times / LENGTH * 1e6


# --- measures -------------------------------------------------------------------------------------------


@contextmanager
def folder() -> Iterator[Path]:
    with TemporaryDirectory(prefix="workflow-engine-benchmark-") as made:
        yield Path(made)


async def one_run(mode: Mode, times: int) -> float:
    """Microseconds per node of runs one after the other, each submitted and waited for."""
    with folder() as files:
        async with Engine(f"sqlite:///{files}/runs.db", durability=mode) as engine:
            await engine.run(chain_graph(), three())
            start = now()
            for _ in range(times):
                await engine.run(chain_graph(), three())
            return (now() - start) / times / LENGTH * 1e6


async def in_a_file(mode: Mode, runs: int, parts: int) -> float:
    """`side_by_side` on SQLite."""
    with folder() as files:
        return await side_by_side(f"sqlite:///{files}/runs.db", mode, runs, parts)


async def on_a_server(runs: int, parts: int) -> float:
    """`side_by_side` on a PostgreSQL server of this machine, which is started before."""
    return await side_by_side(fresh_postgres(), "standard", runs, parts)


async def on_a_shared_server(runs: int, parts: int) -> float:
    """The same by an engine that shares its store, alone for the time being."""
    return await side_by_side(fresh_postgres(), "standard", runs, parts, shared=True)


async def claims(engines: int, runs: int, at_once: int) -> float:
    """Microseconds per run of so many that engines claim at the same time, and have read then."""
    kind = ("g", "1", "f")
    url, claimed = fresh_postgres(), list[str]()
    async with AsyncExitStack() as stack:
        stores = [await stack.enter_async_context(PostgresStore(url)) for _ in range(engines)]
        members = [await store.share(f"engine {number}", 60.0) for number, store in enumerate(stores)]
        rows = [
            RunRow(run_id=f"r{number}", graph=kind[0], version=kind[1], fingerprint=kind[2], submitted_at=0.0)
            for number in range(runs)
        ]
        await stores[0].commit([Admit(row, PLAIN_RECORD) for row in rows])
        await members[0].give_back([row.run_id for row in rows])

        async def claim(member: PostgresMember) -> None:
            while found := await member.claim([kind], at_once, {}):
                claimed.extend(run.row.run_id for run in found)

        start = now()
        async with anyio.create_task_group() as group:
            for member in members:
                group.start_soon(claim, member)
        spent = now() - start
    assert sorted(claimed) == sorted(row.run_id for row in rows), "each is claimed once"
    return spent / runs * 1e6


async def side_by_side(store: str, mode: Mode, runs: int, parts: int, *, shared: bool = False) -> float:
    """Microseconds per part of so many runs that are submitted side by side."""
    async with Engine(store, durability=mode, shared=shared) as engine:
        await engine.run(chain_graph(), three())
        start = now()
        async with anyio.create_task_group() as group:
            for _ in range(runs):
                group.start_soon(engine.run, chain_graph(), three())
        return (now() - start) / runs / parts * 1e6


class _Left(Exception):
    """The engine is left in the middle of its runs."""


def held_graph(there: Callable[[], None]) -> Graph:
    """A chain whose last node never returns."""

    async def hold(state: State) -> None:
        there()
        await anyio.sleep_forever()

    return line("held chain", step, LENGTH).add_node("hold", hold).add_edge(f"n{LENGTH - 1}", "hold")


async def recovery(runs: int) -> float:
    """Seconds from the start of an engine until all of its unfinished runs are at work again."""
    with folder() as files:
        await _until_all_are_held(f"sqlite:///{files}/runs.db", runs, submit=True)
        start = now()
        return await _until_all_are_held(f"sqlite:///{files}/runs.db", runs, submit=False) - start


async def _until_all_are_held(store: str, runs: int, *, submit: bool) -> float:
    """The time when that was so; the engine is left then."""
    held, all_held = count(1), anyio.Event()

    def there() -> None:
        if next(held) == runs:
            all_held.set()

    graph = held_graph(there)
    reached = 0.0
    try:
        async with Engine(store) as engine:
            engine.register(graph)
            if submit:
                async with anyio.create_task_group() as group:
                    for _ in range(runs):
                        group.start_soon(engine.submit, graph, three())
            await all_held.wait()
            reached = now()
            raise _Left
    except _Left:
        return reached


async def on_disk(function: Callable[..., Any]) -> float:
    """KB that one run and its graph add to a store that is there."""
    with folder() as files:
        store = f"sqlite:///{files}/runs.db"
        async with Engine(store):
            pass
        empty = _size_of(files)
        async with Engine(store) as engine:
            await engine.run(idle_graph(function), idle_state())
        return (_size_of(files) - empty) / 1000


def _size_of(folder: Path) -> int:
    return sum(file.stat().st_size for file in folder.iterdir())


# --- the table ------------------------------------------------------------------------------------------


def rows(quick: bool) -> Iterable[Row]:
    """The rows of durable runs."""
    times = 10 if quick else 50
    yield Row(
        "durable chain of 20, one run, standard, per node",
        "us",
        partial(one_run, "standard", times),
        {"bare commits": partial(bare_commits, "standard", times)},
        at_most={"bare commits": 3.0},
        limit=250,
    )
    yield Row(
        "durable chain of 20, one run, strict, per node",
        "us",
        partial(one_run, "strict", times),
        {"bare commits": partial(bare_commits, "strict", times)},
        at_most={"bare commits": 1.3},
    )
    limits: dict[Mode, float] = {"standard": 60, "strict": 80}
    for mode, limit in limits.items():
        yield Row(
            f"50 durable runs at once of 20 nodes, {mode}, per node",
            "us",
            partial(in_a_file, mode, 50, LENGTH),
            limit=limit,
        )
    yield Row(
        "100 durable runs at once, standard, per record",
        "us",
        partial(in_a_file, "standard", 100, LENGTH + 1),  # and one of the end
        limit=100,
    )
    yield Row(
        "100 durable runs at once on PostgreSQL, per record",
        "us",
        partial(on_a_server, 100, LENGTH + 1),
        limit=200,
    )
    yield Row(
        "100 durable runs at once on a shared PostgreSQL, per record",
        "us",
        partial(on_a_shared_server, 100, LENGTH + 1),
        {"not shared": partial(on_a_server, 100, LENGTH + 1)},
        limit=200,
    )
    for at_once, limit in ((1, None), (10, None), (100, 500.0)):
        yield Row(
            f"claims by 4 engines of {at_once} at once, per run",
            "us",
            partial(claims, 4, (200 if quick else 1000) * (1 if at_once == 1 else 5), at_once),
            limit=limit,
            backends=["asyncio"],
        )
    yield Row("recovery of 1,000 unfinished runs, 20,000 records", "s", partial(recovery, 1_000), limit=1.0)
    for function, what in ((step, "what changed"), (step_with_all, "the whole state")):
        yield Row(
            f"on disk: {IDLE_NODES} nodes that return {what}, beside 100 KB",
            "KB",
            partial(on_disk, function),
            limit=200,
            backends=["asyncio"],
            most_rounds=1,
        )
