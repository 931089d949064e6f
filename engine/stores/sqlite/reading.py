"""What is read, each in one transaction, so that it fits together."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import orjson

from ...errors import RunNotFound
from ...stored import Query, RunRow, StoredRun

_COLUMNS = (
    "u.run_id, u.graph, u.version, u.fingerprint, u.submitted_at, u.tags, u.priority, u.key, u.deadline, u.depth, "
    "u.status, u.ended_at, u.number"
)

_RUNS = f"""
SELECT {_COLUMNS}, a.data, s.seq, s.data
FROM runs AS u LEFT JOIN records AS a ON a.run = u.number AND a.seq = 0 LEFT JOIN snapshots AS s ON s.run = u.number
"""
_RECORDS = """
SELECT r.run, r.seq, r.data FROM runs AS u CROSS JOIN records AS r
ON r.run = u.number AND r.seq > coalesce((SELECT max(s.seq, 0) FROM snapshots AS s WHERE s.run = u.number), 0)
"""
_INBOXES = "SELECT i.run, i.id, i.data FROM runs AS u CROSS JOIN inbox AS i ON i.run = u.number"

_ONE = "WHERE u.run_id = ?"
_UNFINISHED = "WHERE u.status = 'running' AND u.graph = ? AND u.version = ? AND u.number > ?"

_BLOBS_AT_ONCE = 500
"""An SQLite older than 3.32 takes 999 parameters."""


def read(connection: sqlite3.Connection, run_id: str) -> StoredRun | None:
    """One run."""
    with _one_view(connection):
        runs = _runs(connection, _ONE, _ONE, (run_id,), (run_id,), 1)
    return runs[0] if runs else None


def unfinished(connection: sqlite3.Connection, graph: str, version: str, after: int, limit: int) -> list[StoredRun]:
    """Some runs of a graph that have not ended."""
    among = (graph, version, after)
    with _one_view(connection):
        last = connection.execute(
            f"SELECT max(number) FROM (SELECT u.number FROM runs AS u {_UNFINISHED} ORDER BY u.number LIMIT ?)",
            (*among, limit),
        ).fetchone()[0]
        if last is None:
            return []
        return _runs(connection, _UNFINISHED, f"{_UNFINISHED} AND u.number <= ?", among, (*among, last), limit)


def _runs(
    connection: sqlite3.Connection,
    where: str,
    where_of_parts: str,
    among: Sequence[Any],
    among_of_parts: Sequence[Any],
    limit: int,
) -> list[StoredRun]:
    records: dict[int, list[tuple[int, bytes]]] = {}
    for number, seq, data in connection.execute(
        f"{_RECORDS} {where_of_parts} ORDER BY u.number, r.seq", among_of_parts
    ):
        records.setdefault(number, []).append((seq, data))
    inboxes: dict[int, list[tuple[str, bytes]]] = {}
    for number, id, data in connection.execute(f"{_INBOXES} {where_of_parts} ORDER BY i.place", among_of_parts):
        inboxes.setdefault(number, []).append((id, data))
    return [
        StoredRun(
            row := row_of(found[:13]),
            found[13] or b"",
            None if found[14] is None else (found[14], found[15]),
            records.get(row.number, []),
            inboxes.get(row.number, []),
        )
        for found in connection.execute(f"{_RUNS} {where} ORDER BY u.number LIMIT ?", (*among, limit))
    ]


def records(connection: sqlite3.Connection, run_id: str, after: int, limit: int) -> list[tuple[int, bytes]]:
    """Some records of a run."""
    return connection.execute(
        "SELECT seq, data FROM records WHERE run = (SELECT number FROM runs WHERE run_id = ?) AND seq > ? "
        "ORDER BY seq LIMIT ?",
        (run_id, max(after, 0), limit),
    ).fetchall()


def find(connection: sqlite3.Connection, query: Query) -> list[RunRow]:
    """The runs that match."""
    with _one_view(connection):
        seen = None
        if query.after is not None:
            seen = connection.execute(
                "SELECT submitted_at, number FROM runs WHERE run_id = ?", (query.after,)
            ).fetchone()
            if seen is None:
                raise RunNotFound(query.after)
        return [row_of(found) for found in connection.execute(*statement_of(query, seen))]


def statement_of(query: Query, seen: tuple[float, int] | None) -> tuple[str, list[Any]]:
    """A query as SQL, which walks along an index in the order that is asked for, so that a page costs a page."""
    source, time, number = "runs AS u", "u.submitted_at", "u.number"
    conditions: list[str] = []
    values: list[Any] = []

    def add(condition: str, *more: Any) -> None:
        conditions.append(condition)
        values.extend(more)

    for place, (name, value) in enumerate(query.tags.items()):
        if place == 0:
            # CROSS: the tag leads, and its list is in order.
            source, time, number = "tags AS t CROSS JOIN runs AS u ON u.number = t.run", "t.submitted_at", "t.run"
            add("t.name = ? AND t.value = ?", name, value)
        else:
            add(
                "EXISTS (SELECT 1 FROM tags AS o WHERE o.name = ? AND o.value = ? "
                "AND o.submitted_at = t.submitted_at AND o.run = t.run)",
                name,
                value,
            )
    if query.graph is not None:
        add("u.graph = ?", query.graph)
    if len(query.status) == 1:
        add("u.status = ?", query.status[0])
    elif query.status:
        # `+`: the index of several statuses would not be in order.
        add(f"+u.status IN ({', '.join('?' * len(query.status))})", *query.status)
    if query.since is not None:
        add(f"{time} >= ?", query.since)
    if query.until is not None:
        add(f"{time} < ?", query.until)
    if seen is not None:
        add(f"({time}, {number}) {'<' if query.newest_first else '>'} (?, ?)", *seen)
    where = f"WHERE {' AND '.join(conditions)}" if conditions else ""
    way = "DESC" if query.newest_first else "ASC"
    return f"SELECT {_COLUMNS} FROM {source} {where} ORDER BY {time} {way}, {number} {way} LIMIT ?", [
        *values,
        query.limit,
    ]


def find_key(connection: sqlite3.Connection, key: str) -> tuple[RunRow, bytes] | None:
    """The run with a key."""
    found = connection.execute(f"{_RUNS} WHERE u.key = ?", (key,)).fetchone()
    return found and (row_of(found[:13]), found[13] or b"")


def blobs(connection: sqlite3.Connection, digests: Sequence[str]) -> Mapping[str, bytes]:
    """The blobs that are there."""
    found: dict[str, bytes] = {}
    for start in range(0, len(digests), _BLOBS_AT_ONCE):
        some = digests[start : start + _BLOBS_AT_ONCE]
        marks = ", ".join("?" * len(some))
        found.update(connection.execute(f"SELECT digest, data FROM blobs WHERE digest IN ({marks})", some))
    return found


def definitions(connection: sqlite3.Connection) -> list[tuple[str, str, str, str]]:
    """All definitions."""
    return connection.execute(
        "SELECT graph, version, fingerprint, text FROM definitions ORDER BY graph, version, fingerprint"
    ).fetchall()


def row_of(found: Sequence[Any]) -> RunRow:
    """A row as it was given."""
    (run_id, graph, version, fingerprint, submitted_at, tags, priority, key, deadline, depth, status, at, number) = (
        found
    )
    return RunRow(
        run_id=run_id,
        graph=graph,
        version=version,
        fingerprint=fingerprint,
        submitted_at=submitted_at,
        tags={} if tags is None else orjson.loads(tags),
        priority=priority,
        key=key,
        deadline=deadline,
        depth=depth,
        status=status,
        ended_at=at,
        number=number,
    )


@contextmanager
def _one_view(connection: sqlite3.Connection) -> Iterator[None]:
    connection.execute("BEGIN")
    yield
    connection.execute("COMMIT")  # after an error the link rolls back
