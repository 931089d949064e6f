"""The one connection that writes.

Within a commit, records, admissions and statuses are gathered and written kind by kind, many in one call of the
driver: a record is new or left as it is, whatever else is in the commit, and what does change with the order in which
it is written waits until all that came before has been.
"""

from __future__ import annotations

import logging
import os
import sqlite3
from collections.abc import Mapping, Sequence
from itertools import chain
from typing import Any, Final, assert_never

import attrs
import orjson

from ...errors import KeyTaken
from ...logs import about
from ...stored import (
    Admit,
    Append,
    Audit,
    Collect,
    Define,
    Forget,
    Post,
    PutSnapshot,
    Rebase,
    RunRow,
    SetStatus,
    StoredStatus,
    Write,
)
from .schema import prepare

logger = logging.getLogger("engine.stores")

ADMISSION, SNAPSHOT = 0, -1
"""Places that name blobs, beside the numbers of records."""

_CACHED_RUNS = 50_000
_WAL_LIMIT_BYTES = 16 * 1024 * 1024
"""To which the log is cut when it starts over, as it does when nobody reads what is in it."""
_CHECKPOINT_PAGES = 4_000
"""Of 4 KB in the log, as much as it keeps anyway, until they are copied into the database, each once. With the 1,000 of
SQLite the ends of the indexes were copied, and the database synced, four times as often."""
_WAL_TOO_LONG_BYTES = 4 * _WAL_LIMIT_BYTES
"""From which on a commit waits until nobody reads what is in the log, so that it can start over."""
_COMMITS_UNWATCHED = 10
"""After so many, or one with blobs, it is looked how long the log is: that takes as long as a tenth of a commit."""
_PATIENCE_MILLISECONDS = 200
"""For our own readers, which read a page at a time. If that is not enough, it is tried again after some more growth."""

_TOO_LONG = (
    "%s-wal has %d MB and cannot start over, since something has been reading for long: look for another program with "
    "an open transaction"
)


@attrs.frozen
class _Kind:
    """Rows that are written alike; `{}` stands where the row's values go."""

    statement: str
    columns: int

    def of(self, rows: int) -> str:
        """The statement that writes so many rows."""
        row = f"({', '.join('?' * self.columns)})"
        return self.statement.format(", ".join([row] * rows))


_KINDS: Final[Mapping[str, _Kind]] = {
    "runs": _Kind("INSERT INTO runs VALUES {}", 13),
    "tags": _Kind("INSERT INTO tags VALUES {}", 4),
    "records": _Kind("INSERT INTO records (run, seq, data) VALUES {} ON CONFLICT DO NOTHING", 3),
    "blobs": _Kind("INSERT INTO blobs VALUES {} ON CONFLICT DO NOTHING", 2),
    "refs": _Kind("INSERT INTO refs VALUES {} ON CONFLICT DO NOTHING", 3),
    "audits": _Kind("INSERT INTO audits (id, at, run_id, data) VALUES {} ON CONFLICT DO NOTHING", 4),
    "statuses": _Kind(
        "UPDATE runs SET status = said.column2, ended_at = said.column3 FROM (VALUES {}) AS said "
        "WHERE number = said.column1",
        3,
    ),
}
"""In an order in which they can be written."""

# So many rows in one statement. The driver lets go of the interpreter for each execution and waits to have it back,
# beside a busy loop up to 5 ms: a hundred rows one by one took 2.5 times as long as these, and twice the processor.
_AT_ONCE: Final = (64, 16, 4, 1)
_STATEMENTS: Final = {
    # Blobs may be large, and the driver copies what it is given.
    kind: [(rows, each.of(rows)) for rows in (_AT_ONCE if kind != "blobs" else (1,))]
    for kind, each in _KINDS.items()
}

FORGET_SMALL_THINGS = (
    "DELETE FROM snapshots WHERE run = ?",
    "DELETE FROM inbox WHERE run = ?",
    "DELETE FROM refs WHERE run = ?",
    "DELETE FROM runs WHERE number = ?",
)


class Writer(sqlite3.Connection):
    """Applies writes; it knows the runs' numbers that it has met."""

    def start(self, file: str) -> None:
        """Make ready: right after it was opened, before anything else."""
        prepare(self, file)
        self.execute("PRAGMA fullfsync = ON")  # macOS: or a sync stops in the disk's own cache
        self.execute("PRAGMA checkpoint_fullfsync = ON")
        self.execute(f"PRAGMA journal_size_limit = {_WAL_LIMIT_BYTES}")
        self.execute(f"PRAGMA wal_autocheckpoint = {_CHECKPOINT_PAGES}")
        self.execute("PRAGMA synchronous = NORMAL")
        # A file that is locked, or may only be read, is to be heard of now. To begin is not enough for the latter.
        self.execute("BEGIN IMMEDIATE")
        self.execute("UPDATE synced SET times = times")
        self.execute("ROLLBACK")
        self._file = file
        self._synced = False
        self._waiting: dict[str, list[tuple[Any, ...]]] = {kind: [] for kind in _KINDS if kind != "statuses"}
        self._statuses: dict[int, tuple[int, StoredStatus, float | None]] = {}
        self._numbers: dict[str, int] = {}
        # Numbers may be left out, but never come back.
        self._next = 1 + self._last_number()
        self._log_too_long = _WAL_TOO_LONG_BYTES
        self._unwatched = 0
        self._warned = False

    def commit_writes(self, writes: Sequence[Write], sync: bool) -> None:
        """Apply all of these, or none."""
        if not writes and not sync:
            return
        if sync is not self._synced:
            # In a WAL, FULL syncs the log after each commit, with all that came before it there; NORMAL leaves that to
            # the checkpoints. Either way the log is synced before it is copied into the database.
            self.execute(f"PRAGMA synchronous = {'FULL' if sync else 'NORMAL'}")
            self._synced = sync
        try:
            self.execute("BEGIN IMMEDIATE")
            for write in writes:
                self._apply(write)
            new = self._write_waiting()
            if sync and not new:  # nothing may have changed, and what does not change is not synced
                self.execute("UPDATE synced SET times = times + 1")
            self.execute("COMMIT")
        except BaseException:
            for rows in self._waiting.values():
                rows.clear()
            self._statuses.clear()
            self._numbers.clear()  # the runs that this commit has admitted are not there
            raise
        self._unwatched += 1
        if self._unwatched >= _COMMITS_UNWATCHED:
            self._unwatched = 0
            self._bound_log()

    def number_of(self, run_id: str) -> int | None:
        """The number of a run, if it is there."""
        number = self._numbers.get(run_id)
        if number is None:
            found = self.execute("SELECT number FROM runs WHERE run_id = ?", (run_id,)).fetchone()
            if found is not None:
                number = found[0]
                self._learn(run_id, found[0])
        return number

    def forget_run(self, run_id: str, number: int) -> None:
        """Remove a run, but for its records."""
        (tags, submitted_at) = self.execute(
            "SELECT tags, submitted_at FROM runs WHERE number = ?", (number,)
        ).fetchone()
        if tags is not None:
            self.executemany(
                "DELETE FROM tags WHERE name = ? AND value = ? AND submitted_at = ? AND run = ?",
                [(name, value, submitted_at, number) for name, value in orjson.loads(tags).items()],
            )
        for statement in FORGET_SMALL_THINGS:
            self.execute(statement, (number,))
        self._numbers.pop(run_id, None)

    def _last_number(self) -> int:
        (last,) = self.execute(
            "SELECT max(number) FROM (SELECT number FROM runs UNION ALL SELECT run FROM gone)"
        ).fetchone()
        return last or 0

    def _learn(self, run_id: str, number: int) -> None:
        if len(self._numbers) >= _CACHED_RUNS:
            self._write_waiting()  # or the runs admitted by this commit could not be found
            self._numbers.clear()
        self._numbers[run_id] = number

    def _apply(self, write: Write) -> None:
        match write:
            case Append():  # most are, and to take them apart here would take twice as long
                number = self.number_of(write.run_id)
                if number is not None:
                    self._waiting["records"].append((number, write.seq, write.data))
                    if write.blobs or write.refs:
                        self._name(number, write.seq, write.blobs, write.refs)
            case Admit(row, data, blobs):
                if self.number_of(row.run_id) is None:
                    self._admit(row, data, blobs)
            case SetStatus(run_id, status, at):
                number = self.number_of(run_id)
                if number is not None:
                    self._statuses[number] = (number, status, at)  # of two the later
            case Define(graph, version, fingerprint, text):
                self.execute("REPLACE INTO definitions VALUES (?, ?, ?, ?)", (graph, version, fingerprint, text))
            case Audit(id, at, run_id, data):
                self._waiting["audits"].append((id, at, run_id, data))
            case _:
                number = self.number_of(write.run_id)
                if number is not None:
                    self._write_waiting()
                    self._change(number, write)

    def _admit(self, row: RunRow, data: bytes, blobs: Mapping[str, bytes]) -> None:
        if row.key is not None:
            self._refuse_taken_key(row.key)
        number = self._next
        self._next += 1
        self._learn(row.run_id, number)
        tags = orjson.dumps(dict(row.tags)).decode() if row.tags else None
        self._waiting["runs"].append(
            (
                number,
                row.run_id,
                row.graph,
                row.version,
                row.fingerprint,
                row.submitted_at,
                tags,
                row.priority,
                row.key,
                row.deadline,
                row.depth,
                row.status,
                row.ended_at,
            )
        )
        self._waiting["tags"] += [(name, value, row.submitted_at, number) for name, value in row.tags.items()]
        self._waiting["records"].append((number, ADMISSION, data))
        if blobs:
            self._name(number, ADMISSION, blobs)

    def _refuse_taken_key(self, key: str) -> None:
        self._write_waiting()  # another run of this commit may have it
        owner = self.execute("SELECT run_id FROM runs WHERE key = ?", (key,)).fetchone()
        if owner is not None:
            raise KeyTaken(key, owner[0])

    def _change(self, number: int, write: PutSnapshot | Post | Collect | Rebase | Forget) -> None:
        match write:
            case PutSnapshot():
                self._put_snapshot(number, write)
            case Post(_, id, data):
                self.execute(
                    "INSERT INTO inbox (run, id, data) VALUES (?, ?, ?) ON CONFLICT DO NOTHING", (number, id, data)
                )
            case Collect(_, ids):
                self.executemany("DELETE FROM inbox WHERE run = ? AND id = ?", [(number, id) for id in ids])
            case Rebase(_, version, fingerprint):
                self.execute(
                    "UPDATE runs SET version = ?, fingerprint = ? WHERE number = ?", (version, fingerprint, number)
                )
            case Forget(run_id):
                self.forget_run(run_id, number)
                self.execute("DELETE FROM records WHERE run = ?", (number,))
            case _:
                assert_never(write)

    def _put_snapshot(self, number: int, write: PutSnapshot) -> None:
        put = self.execute(
            "INSERT INTO snapshots VALUES (?, ?, ?) ON CONFLICT (run) DO UPDATE "
            "SET seq = excluded.seq, data = excluded.data WHERE excluded.seq > seq",
            (number, write.seq, write.data),
        )
        if put.rowcount:
            self.execute("DELETE FROM refs WHERE run = ? AND seq = ?", (number, SNAPSHOT))
            self._name(number, SNAPSHOT, write.blobs, write.refs)
        if write.drop:
            for table in ("records", "refs"):
                self.execute(f"DELETE FROM {table} WHERE run = ? AND seq BETWEEN 1 AND ?", (number, write.drop))

    def _name(self, number: int, place: int, blobs: Mapping[str, bytes], refs: Sequence[str] = ()) -> None:
        if blobs:
            self._unwatched = _COMMITS_UNWATCHED
            self._waiting["blobs"] += blobs.items()
        self._waiting["refs"] += [(number, place, digest) for digest in {*blobs, *refs}]

    def _write_waiting(self) -> bool:
        """Write what was gathered; says whether a row of it is new, and so the file not what it was."""
        new = 0
        for kind, rows in self._waiting.items():
            if rows:
                new += self._write_rows(kind, rows)
                rows.clear()
        if self._statuses:
            self._write_rows("statuses", list(self._statuses.values()))
            self._statuses.clear()
        return new > 0

    def _write_rows(self, kind: str, rows: Sequence[tuple[Any, ...]]) -> int:
        written, begin, left = 0, 0, len(rows)
        for at_once, statement in _STATEMENTS[kind]:
            while left >= at_once:
                some = rows[begin : begin + at_once]
                written += self.execute(statement, list(chain.from_iterable(some))).rowcount
                begin, left = begin + at_once, left - at_once
        return written

    def _bound_log(self) -> None:
        try:
            size = os.stat(f"{self._file}-wal").st_size
        except OSError:
            return  # whoever took it away will be heard of by the next commit
        if size <= self._log_too_long:
            return
        (busy_milliseconds,) = self.execute("PRAGMA busy_timeout").fetchone()
        self.execute(f"PRAGMA busy_timeout = {_PATIENCE_MILLISECONDS}")
        (busy, _, _) = self.execute("PRAGMA wal_checkpoint(RESTART)").fetchone()
        self.execute(f"PRAGMA busy_timeout = {busy_milliseconds}")
        self._log_too_long = size + _WAL_LIMIT_BYTES if busy else _WAL_TOO_LONG_BYTES
        if busy and not self._warned:
            logger.warning(_TOO_LONG, self._file, size >> 20, extra=about())
        self._warned = bool(busy)
