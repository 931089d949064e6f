"""The stores that the contract suite holds to `Store`, and short ways to say what is written.

To add one: a factory here, which gives a new, empty place to keep runs as a function that makes a store on it, each
time anew, as after a restart of the process. A factory may skip the test where its server cannot be had.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

from engine.ports import Store
from engine.stored import Admit, Append, RunRow, Write, blob_digest
from engine.stores.memory import MemoryStore
from engine.stores.postgres import PostgresStore
from engine.stores.redis import RedisStore
from engine.stores.sqlite import SqliteStore
from tests.servers import fresh_postgres, fresh_redis

Make = Callable[[], Store]


def memory(_folder: Path) -> Make:
    """What a store in memory keeps lasts as long as itself."""
    store = MemoryStore()
    return lambda: store


def sqlite(folder: Path) -> Make:
    """A file."""
    return lambda: SqliteStore(folder / "runs.db")


def postgres(_folder: Path) -> Make:
    """A schema of its own on a real server."""
    url = fresh_postgres()
    return lambda: PostgresStore(url)


def redis(_folder: Path) -> Make:
    """A prefix of its own on a real server."""
    url = fresh_redis()
    return lambda: RedisStore(url)


FACTORIES: dict[str, Callable[[Path], Make]] = {
    "memory": memory,
    "sqlite": sqlite,
    "postgres": postgres,
    "redis": redis,
}


def row(run_id: str = "r1", **changes: Any) -> RunRow:
    """A run of graph "g"."""
    kept: dict[str, Any] = {"graph": "g", "version": "1", "fingerprint": "f", "submitted_at": 100.0, **changes}
    return RunRow(run_id=run_id, **kept)


def admit(run_id: str = "r1", data: bytes = b"admission", **changes: Any) -> Admit:
    """Its admission."""
    return Admit(row(run_id, **changes), data)


def append(seq: int, run_id: str = "r1", data: bytes | None = None) -> Append:
    """A record."""
    return Append(run_id, seq, b"record %d" % seq if data is None else data)


def blob(data: bytes) -> dict[str, bytes]:
    """A blob under its name."""
    return {blob_digest(data): data}


async def everything(store: Store) -> list[Any]:
    """All that can be read of runs and definitions, to compare."""
    from engine.stored import Query

    rows = await store.find(Query(limit=1000))
    runs = [(await store.read(row.run_id), await store.records(row.run_id)) for row in rows]
    return [rows, runs, await store.definitions()]


async def commit_in_turn(store: Store, *writes: Write) -> None:
    """Each in a commit of its own."""
    for write in writes:
        await store.commit([write])
