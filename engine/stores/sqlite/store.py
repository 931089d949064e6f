"""The store on one SQLite file: one process, one connection that writes, some that read."""

from __future__ import annotations

import logging
import os
import sqlite3
from collections.abc import Mapping, Sequence
from types import TracebackType
from typing import Self

from ...errors import StoreUnavailable
from ...logs import about
from ...stored import Audit, Compacted, Fault, Kept, Query, RunRow, StoredRun, StoreFacts, Write
from . import compacting, reading, verifying
from .disk import doubts
from .errors import is_damage
from .link import Link, connect
from .lock import FileLock
from .readers import Readers, closed
from .writing import Writer

logger = logging.getLogger("engine.stores")

_READERS = 4
"""More readers than processors gain nothing; a long read must not keep short ones waiting."""
_SAFE_LIBRARY = (3, 51, 3)
"""Earlier ones can damage a log that two connections write to at once (its reset is not guarded well enough)."""


class SqliteStore:
    """Keeps runs in a file, which is made if it is not there; see `Store`.

    One process at a time has it. What another program does to the file meanwhile is not our business as long as it
    only reads; a lock that it holds is waited for, `busy_seconds` long.
    """

    def __init__(self, path: str | os.PathLike[str], *, busy_seconds: float = 5.0) -> None:
        if os.fspath(path) == ":memory:":
            raise ValueError("runs in memory are kept by memory://, not by sqlite:///:memory:")
        self._file = os.path.realpath(path)  # by which SQLite names the log, too
        self._busy_seconds = busy_seconds
        self._lock = FileLock(self._file)
        self._facts = StoreFacts(url=f"sqlite:///{self._file}", durable=True, power_safe=True)
        self._open_writer: Link[Writer] | None = None
        self._open_readers: Readers | None = None

    @property
    def facts(self) -> StoreFacts:
        """What it promises."""
        return self._facts

    async def claim(self) -> None:
        """It is this process's from entering on: see lock.py."""

    async def commit(self, writes: Sequence[Write], *, sync: bool = False) -> None:
        """Apply all of these, or none; see `Store.commit`."""
        await self._writer.run(Writer.commit_writes, writes, sync)

    async def read(self, run_id: str) -> StoredRun | None:
        """The run; see `Store.read`."""
        return await self._readers.run(reading.read, run_id)

    async def unfinished(self, graph: str, version: str, *, after: int = 0, limit: int = 500) -> Sequence[StoredRun]:
        """The runs of a graph that have not ended; see `Store.unfinished`."""
        return await self._readers.run(reading.unfinished, graph, version, after, limit)

    async def records(self, run_id: str, *, after: int = 0, limit: int = 1000) -> Sequence[tuple[int, bytes]]:
        """The records of a run; see `Store.records`."""
        return await self._readers.run(reading.records, run_id, after, limit)

    async def find(self, query: Query) -> Sequence[RunRow]:
        """The runs that match; see `Store.find`."""
        return await self._readers.run(reading.find, query)

    async def find_key(self, key: str) -> tuple[RunRow, bytes] | None:
        """The run with this idempotency key; see `Store.find_key`."""
        return await self._readers.run(reading.find_key, key)

    async def blobs(self, digests: Sequence[str]) -> Mapping[str, bytes]:
        """The blobs of these digests; see `Store.blobs`."""
        return await self._readers.run(reading.blobs, digests)

    async def definitions(self) -> Sequence[tuple[str, str, str, str]]:
        """Graph, version, fingerprint and text of each definition."""
        return await self._readers.run(reading.definitions)

    async def audits(
        self, *, run_id: str | None = None, after: int = 0, limit: int = 1000, newest_first: bool = False
    ) -> Sequence[tuple[int, Audit]]:
        """Lines of the audit log; see `Store.audits`."""
        return await self._readers.run(reading.audits, run_id, after, limit, newest_first)

    async def compact(self, keep: Kept, *, now: float) -> Compacted:
        """Remove what need not be kept; see `Store.compact`."""
        writer = self._writer
        runs = records = blobs = audits = 0
        for limit in (Kept(seconds=keep.seconds), Kept(count=keep.count)):
            while removed := await writer.run(compacting.remove_runs, limit, now):
                runs += removed
        more = True
        while more:
            removed, more = await writer.run(compacting.remove_records)
            records += removed
        removed, last = await writer.run(compacting.remove_blobs, None)
        blobs += removed
        while last is not None:
            removed, last = await writer.run(compacting.remove_blobs, last)
            blobs += removed
        if keep.audit_seconds is not None:
            while removed := await writer.run(compacting.remove_audits, now - keep.audit_seconds):
                audits += removed
        while await writer.run(compacting.give_space_back):
            pass
        return Compacted(runs=runs, records=records, blobs=blobs, audits=audits)

    async def verify(self) -> Sequence[Fault]:
        """Look for damage; see `Store.verify`. Reads the whole file."""
        faults: list[Fault] = []
        try:
            await self._verify(faults)
        except StoreUnavailable as error:
            if not is_damage(error):
                raise
            faults.append(Fault(self._file, str(error)))
        return faults

    async def _verify(self, faults: list[Fault]) -> None:
        readers = self._readers
        faults += await readers.run(verifying.pages, self._file)
        number: int | None = 0
        while number is not None:
            found, number = await readers.run(verifying.runs, number)
            faults += found
        faults += await readers.run(verifying.connections)
        found, digest = await readers.run(verifying.blobs, None)
        faults += found
        while digest is not None:
            found, digest = await readers.run(verifying.blobs, digest)
            faults += found

    async def __aenter__(self) -> Self:
        if self._open_writer is not None:
            raise RuntimeError(f"the store {self._file} has been entered already")
        writer = Link("engine-sqlite-writer", self._file, self._open)
        try:
            await writer.run(_nothing)
        except BaseException:
            await writer.close()
            self._lock.release()
            raise
        self._facts = self._found_out()
        self._open_writer = writer
        self._open_readers = Readers(self._file, self._busy_seconds, _READERS)
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        readers, self._open_readers = self._readers, None
        writer, self._open_writer = self._writer, None
        await readers.close()
        await writer.close()  # the last one: it empties the log
        self._lock.release()

    @property
    def _writer(self) -> Link[Writer]:
        if self._open_writer is None:
            raise closed()
        return self._open_writer

    @property
    def _readers(self) -> Readers:
        if self._open_readers is None:
            raise closed()
        return self._open_readers

    def _open(self) -> Writer:
        self._lock.acquire()
        writer = connect(self._file, "rwc", self._busy_seconds, Writer)
        try:
            writer.start(self._file)
        except BaseException:
            writer.close()
            raise
        return writer

    def _found_out(self) -> StoreFacts:
        notes = []
        if doubt := doubts(self._file):
            notes.append(doubt)
            logger.warning("%s", doubt, extra=about())
        if sqlite3.sqlite_version_info < _SAFE_LIBRARY:
            notes.append(
                f"SQLite {sqlite3.sqlite_version} can damage a file that two programs write to at once: "
                f"let nothing but the engine write to {self._file}"
            )
            logger.info("%s", notes[-1], extra=about())
        return StoreFacts(url=f"sqlite:///{self._file}", durable=True, power_safe=doubt is None, notes=tuple(notes))


def _nothing(writer: Writer) -> None:
    """Only have it opened."""
