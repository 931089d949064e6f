"""The store in PostgreSQL: one connection that writes, a few that read, tables that several engines may share."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from time import monotonic, sleep
from types import TracebackType
from typing import Any, Self, TypeVar

import psycopg

from ...errors import EngineClosed, StoreUnavailable
from ...stored import Audit, Compacted, Fault, Kept, Query, RunRow, StoredRun, StoreFacts, Write
from . import compacting, writing
from .address import Address
from .links import Links
from .reading import Reader
from .schema import OLDEST_SERVER, prepare, query
from .sharing import COUNT_CLAIM, PostgresMember

T = TypeVar("T")
logger = logging.getLogger(__name__)

CLAIM_SECONDS = 5.0
"""How long to wait for a process to be gone that had it before."""
READERS = 4
"""Connections that read: as many listings and compactions go on at once, beside the commits."""

_UNSAFE = {
    "fsync": "fsync is off on the server: a power cut there may lose every run, or damage all",
    "full_page_writes": "full_page_writes is off on the server: a power cut there may damage runs",
}

_CLAIM_ALL = (
    "UPDATE $.engines SET epoch = epoch + 1, gone = true WHERE NOT gone",
    "UPDATE $.runs SET owner = 0 WHERE status = 'running' AND owner IS NULL",
    "UPDATE $.runs SET owner = 0 WHERE owner > 0",
)


class PostgresStore:
    """Keeps runs in a PostgreSQL database; see `Store`.

    The address is libpq's, `postgresql://user:password@host:5432/database`, and may name the schema that the tables
    are in, which is made if it is not there: `?schema=workflow_engine`. Raises `ValueError` if it cannot be read.
    """

    def __init__(self, url: str) -> None:
        self._address = Address.of(url)
        self._facts: StoreFacts | None = None
        self._writer: Links | None = None
        self._readers: Links | None = None
        self._member: PostgresMember | None = None
        self._claim_number: int | None = None

    @property
    def facts(self) -> StoreFacts:
        """What it promises; once it is entered."""
        if self._facts is None:
            raise _closed()
        return self._facts

    async def claim(self) -> None:
        """Have it alone: by a lock of the connection that writes, which the server gives back when that is gone."""
        if self._writer is None:
            raise _closed()
        await self._writer.begin_with(self._claim)

    def _claim(self, connection: psycopg.Connection) -> None:
        self._lock(
            connection,
            "pg_try_advisory_lock",
            "is in use by another engine, and both would go on with the same runs; end that one, or name another "
            "?schema=, or share it: Engine(..., shared=True) for each engine that uses it",
        )
        execute, schema = connection.execute, self._address.schema
        if self._claim_number is None:
            # Those that have shared it before, and may only sleep, write nothing from here on.
            for statement in _CLAIM_ALL:
                execute(query(statement, schema))
            (self._claim_number,) = _one(execute(query(COUNT_CLAIM, schema)))
        elif (self._claim_number,) != _one(execute(query("SELECT number FROM $.claims", schema))):
            raise self._unfit(
                "was in use by another engine while this one was cut off from it, so what this one has in memory is "
                "out of date; start it anew"
            )

    async def share(self, name: str, lease: float) -> PostgresMember:
        """Have it with other engines that share it, too; see `SharedStore.share`."""
        if self._writer is None:
            raise _closed()
        await self._writer.begin_with(self._be_shared)
        member = PostgresMember(self._address, name, lease, self._be_shared)
        try:
            await member.join()
        except BaseException:
            await member.close()
            raise
        self._member = member
        return member

    def _be_shared(self, connection: psycopg.Connection) -> None:
        self._lock(
            connection,
            "pg_try_advisory_lock_shared",
            "is in use by an engine that has it for itself: without shared=True; end that one, or start it anew with "
            "shared=True, or name another ?schema=",
        )

    def _lock(self, connection: psycopg.Connection, lock: str, in_use: str) -> None:
        until = monotonic() + CLAIM_SECONDS
        statement = f"SELECT {lock}(hashtextextended(%s, 0))".encode()
        while connection.execute(statement, [f"workflow-engine owns {self._address.schema}"]).fetchone() != (True,):
            # A process that was killed a moment ago may have a commit under way, and its lock until that is over.
            if monotonic() > until:
                raise self._unfit(in_use)
            sleep(0.05)

    async def commit(self, writes: Sequence[Write], *, sync: bool = False) -> None:
        """Apply all of these, or none; see `Store.commit`. With `sync` or without, the server has flushed them."""
        if self._writer is None:
            raise _closed()
        if writes:
            lease = None if self._member is None else self._member.row()
            await self._writer.use(partial(writing.commit, schema=self._address.schema, writes=writes, lease=lease))

    async def read(self, run_id: str) -> StoredRun | None:
        """The run; see `Store.read`."""
        return await self._read(lambda reader: reader.run(run_id))

    async def unfinished(self, graph: str, version: str, *, after: int = 0, limit: int = 500) -> Sequence[StoredRun]:
        """The runs of a graph that have not ended; see `Store.unfinished`."""
        return await self._read(lambda reader: reader.unfinished(graph, version, after, limit))

    async def records(self, run_id: str, *, after: int = 0, limit: int = 1000) -> Sequence[tuple[int, bytes]]:
        """The records of a run; see `Store.records`."""
        return await self._read(lambda reader: reader.records(run_id, after, limit))

    async def find(self, query: Query) -> Sequence[RunRow]:
        """The runs that match; see `Store.find`."""
        return await self._read(lambda reader: reader.find(query))

    async def find_key(self, key: str) -> tuple[RunRow, bytes] | None:
        """The run with this idempotency key; see `Store.find_key`."""
        return await self._read(lambda reader: reader.by_key(key))

    async def blobs(self, digests: Sequence[str]) -> Mapping[str, bytes]:
        """The blobs of these digests; see `Store.blobs`."""
        return await self._read(lambda reader: reader.blobs(digests))

    async def definitions(self) -> Sequence[tuple[str, str, str, str]]:
        """Graph, version, fingerprint and text of each definition."""
        return await self._read(lambda reader: reader.definitions())

    async def audits(
        self, *, run_id: str | None = None, after: int = 0, limit: int = 1000, newest_first: bool = False
    ) -> Sequence[tuple[int, Audit]]:
        """Lines of the audit log; see `Store.audits`."""
        return await self._read(lambda reader: reader.audits(run_id, after, limit, newest_first))

    async def compact(self, keep: Kept, *, now: float) -> Compacted:
        """Remove what need not be kept; see `Store.compact`."""
        schema = self._address.schema
        runs = records = blobs = audits = 0
        numbers = await self._use(lambda connection: compacting.past(connection, schema, keep, now))
        for step in _steps(numbers, compacting.RUNS_IN_A_STEP):
            gone = await self._use(partial(compacting.remove_runs, schema=schema, numbers=step))
            runs, records = runs + gone.runs, records + gone.records
        for digests in _steps(
            await self._use(partial(compacting.unnamed, schema=schema)),
            compacting.BLOBS_IN_A_STEP,
        ):
            blobs += await self._use(partial(compacting.remove_blobs, schema=schema, digests=digests))
        if keep.audit_seconds is not None:
            old = partial(compacting.remove_audits, schema=schema, before=now - keep.audit_seconds)
            while removed := await self._use(old):
                audits += removed
        return Compacted(runs=runs, records=records, blobs=blobs, audits=audits)

    async def verify(self) -> Sequence[Fault]:
        """Look for what cannot be so; see `Store.verify`."""
        faults: list[Fault] = []
        after: int | None = 0
        while after is not None:
            found, after = await self._read(partial(Reader.faults_of_runs, after=after))
            faults += found
        return faults + await self._read(lambda reader: list(reader.faults_of_the_rest()))

    async def __aenter__(self) -> Self:
        writer = Links("postgres-writer", 1, self._address)
        try:
            self._facts = await writer.use(self._begin)
        except BaseException:
            await writer.close()
            raise
        self._writer, self._readers = writer, Links("postgres-reader", READERS, self._address)
        for note in self._facts.notes:
            logger.warning("%s: %s", self._facts.url, note)
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        links = [link for link in (self._readers, self._writer) if link is not None]
        member, self._member = self._member, None
        self._writer = self._readers = self._claim_number = None
        if member is not None:
            await member.close()
        for link in links:
            await link.close()

    async def _read(self, read: Callable[[Reader], T]) -> T:
        return await self._use(lambda connection: read(Reader(connection, self._address.schema)))

    async def _use(self, work: Callable[[psycopg.Connection], T]) -> T:
        if self._readers is None:
            raise _closed()
        return await self._readers.use(work)

    def _begin(self, connection: psycopg.Connection) -> StoreFacts:
        info = connection.info
        found = info.parameter_status("server_encoding")
        if info.server_version < OLDEST_SERVER:
            raise self._unfit(
                f"is of version {info.parameter_status('server_version')}, expected {OLDEST_SERVER // 10000} or later"
            )
        if found != "UTF8":
            raise self._unfit(f"holds text as {found}, expected UTF8; create a database WITH ENCODING 'UTF8'")
        prepare(connection, self._address)
        off = [name for name in _UNSAFE if connection.execute(f"SHOW {name}".encode()).fetchone() == ("off",)]
        notes = [_UNSAFE[name] for name in off]
        return StoreFacts(url=self._address.shown, durable=True, power_safe=not off, notes=notes)

    def _unfit(self, found: str) -> StoreUnavailable:
        return StoreUnavailable(f"PostgreSQL at {self._address.shown} {found}", facts={"url": self._address.shown})


def _one(cursor: psycopg.Cursor[Any]) -> Any:
    row = cursor.fetchone()
    assert row is not None
    return row


def _closed() -> EngineClosed:
    return EngineClosed("the store is closed; use it inside `async with`")


def _steps(items: Sequence[T], size: int) -> Sequence[Sequence[T]]:
    return [items[start : start + size] for start in range(0, len(items), size)]
