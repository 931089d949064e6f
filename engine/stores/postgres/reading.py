"""What is read of runs. Each reading sees the database as it was at one moment, between two commits."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Sequence
from typing import Any

import orjson
import psycopg

from ...errors import RunNotFound
from ...stored import Audit, Fault, Losses, Query, RunRow, StoredRun
from ..faults import Outline, fault_of_ref, faults_of_blob, faults_of_run
from .schema import query
from .text import held, told

_BEGIN = "BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY"
_ROW = """number, run_id, graph, version, fingerprint, submitted_at, tags::text, priority, key, deadline, depth,
    status, ended_at"""
_ADMISSION = "coalesce((SELECT data FROM $.records WHERE run = number AND seq = 0), '')"
_BY_ID = "SELECT number FROM $.runs WHERE run_id = %s"
_UNFINISHED = """
    SELECT number FROM $.runs
    WHERE status = 'running' AND graph = %s AND version = %s AND number > %s ORDER BY number LIMIT %s
"""
_RUNS = f"""
    SELECT {_ROW}, {_ADMISSION}, snapshots.seq, snapshots.data, losses.times, losses.seq, losses.engines
    FROM $.runs LEFT JOIN $.snapshots ON snapshots.run = number LEFT JOIN $.losses ON losses.run = number
    WHERE number IN ({{chosen}}) ORDER BY number
"""
_RECORDS_OF_RUNS = """
    SELECT records.run, records.seq, records.data
    FROM $.records LEFT JOIN $.snapshots ON snapshots.run = records.run
    WHERE records.run IN ({chosen}) AND records.seq > coalesce(snapshots.seq, 0) ORDER BY records.run, records.seq
"""
_INBOX_OF_RUNS = "SELECT run, id, data FROM $.inbox WHERE run IN ({chosen}) ORDER BY run, place"
_RECORDS = """
    SELECT seq, data FROM $.records
    WHERE run = (SELECT number FROM $.runs WHERE run_id = %s) AND seq > greatest(%s, 0) ORDER BY seq LIMIT %s
"""
_BY_KEY = f"SELECT {_ROW}, {_ADMISSION} FROM $.runs WHERE key = %s"
_PLACE = "SELECT submitted_at, number FROM $.runs WHERE run_id = %s"
_BLOBS = "SELECT digest, data FROM $.blobs WHERE digest = ANY(%b::text[])"
_DEFINITIONS = "SELECT graph, version, fingerprint, text FROM $.definitions"

_OUTLINES = """
    SELECT number, run_id, status, ended_at,
        coalesce(bool_or(records.seq = 0), false), count(*) FILTER (WHERE records.seq > 0),
        coalesce(min(records.seq) FILTER (WHERE records.seq > 0), 0),
        coalesce(max(records.seq) FILTER (WHERE records.seq > 0), 0), snapshots.seq
    FROM (SELECT * FROM $.runs WHERE number > %s ORDER BY number LIMIT 1000) AS runs
    LEFT JOIN $.records ON records.run = number LEFT JOIN $.snapshots ON snapshots.run = number
    GROUP BY number, run_id, status, ended_at, snapshots.seq ORDER BY number
"""
_MISSING_BLOBS = """
    SELECT DISTINCT run_id, digest FROM $.refs JOIN $.runs ON number = run
    WHERE NOT EXISTS (SELECT FROM $.blobs WHERE blobs.digest = refs.digest) ORDER BY run_id, digest
"""
_WRONG_BLOBS = "SELECT digest, data FROM $.blobs WHERE encode(sha256(data), 'hex') <> digest ORDER BY digest"
_LEFT_OVER = "SELECT DISTINCT run FROM $.{table} WHERE NOT EXISTS (SELECT FROM $.runs WHERE number = run)"
_TABLES_OF_RUNS = ("records", "snapshots", "inbox", "refs", "losses")


class Reader:
    """Reads the tables of a schema over a connection."""

    def __init__(self, connection: psycopg.Connection, schema: str) -> None:
        self._connection = connection
        self._schema = schema

    def run(self, run_id: str) -> StoredRun | None:
        """See `Store.read`."""
        found = self._runs(_BY_ID, [held(run_id)])
        return found[0] if found else None

    def unfinished(self, graph: str, version: str, after: int, limit: int) -> Sequence[StoredRun]:
        """See `Store.unfinished`."""
        return self._runs(_UNFINISHED, [held(graph), held(version), after, limit])

    def chosen(self, chosen: str, parameters: Sequence[Any]) -> Sequence[StoredRun]:
        """The runs whose numbers a query gives, by these."""
        return self._runs(chosen, parameters)

    def records(self, run_id: str, after: int, limit: int) -> Sequence[tuple[int, bytes]]:
        """See `Store.records`."""
        return self._rows(_RECORDS, [held(run_id), after, limit])

    def find(self, wanted: Query) -> Sequence[RunRow]:
        """See `Store.find`."""
        conditions, parameters = ["true"], list[Any]()

        def only(condition: str, *values: Any) -> None:
            conditions.append(condition)
            parameters.extend(values)

        if wanted.status:
            only("status = ANY(%b::text[])", [held(status) for status in wanted.status])
        if wanted.graph is not None:
            only("graph = %s", held(wanted.graph))
        if wanted.tags:
            tags = {held(name): held(value) for name, value in wanted.tags.items()}
            only("tags <> '{}' AND tags @> %s::jsonb", orjson.dumps(tags).decode())
        if wanted.since is not None:
            only("submitted_at >= %s", wanted.since)
        if wanted.until is not None:
            only("submitted_at < %s", wanted.until)
        if wanted.after is not None:
            place = self._rows(_PLACE, [held(wanted.after)])
            if not place:
                raise RunNotFound(wanted.after)
            only(f"(submitted_at, number) {'<' if wanted.newest_first else '>'} (%s, %s)", *place[0])
        order = "submitted_at DESC, number DESC" if wanted.newest_first else "submitted_at, number"
        template = f"SELECT {_ROW} FROM $.runs WHERE {' AND '.join(conditions)} ORDER BY {order} LIMIT %s"
        return [_row(row) for row in self._rows(template, [*parameters, wanted.limit])]

    def by_key(self, key: str) -> tuple[RunRow, bytes] | None:
        """See `Store.find_key`."""
        found = self._rows(_BY_KEY, [held(key)])
        return (_row(found[0][:-1]), found[0][-1]) if found else None

    def blobs(self, digests: Sequence[str]) -> dict[str, bytes]:
        """See `Store.blobs`."""
        return {told(digest): data for digest, data in self._rows(_BLOBS, [[held(digest) for digest in digests]])}

    def definitions(self) -> Sequence[tuple[str, str, str, str]]:
        """See `Store.definitions`."""
        found = [tuple(map(told, row)) for row in self._rows(_DEFINITIONS)]
        return sorted((graph, version, fingerprint, text) for graph, version, fingerprint, text in found)

    def audits(self, run_id: str | None, after: int, limit: int, newest_first: bool) -> Sequence[tuple[int, Audit]]:
        """See `Store.audits`."""
        backwards = newest_first and after
        conditions, parameters = [f"number {'<' if backwards else '>'} %s"], list[Any]([after])
        if run_id is not None:
            conditions.append("run_id = %s")
            parameters.append(held(run_id))
        template = (
            f"SELECT number, id, at, run_id, data FROM $.audits WHERE {' AND '.join(conditions)} "
            f"ORDER BY number {'DESC' if newest_first else 'ASC'} LIMIT %s"
        )
        return [
            (number, Audit(told(id), at, None if about is None else told(about), data))
            for number, id, at, about, data in self._rows(template, [*parameters, limit])
        ]

    def faults_of_runs(self, after: int) -> tuple[Sequence[Fault], int | None]:
        """What is wrong with the next runs by number, and the last of these numbers; None if there are no more."""
        rows = self._rows(_OUTLINES, [after])
        faults = [fault for row in rows for fault in faults_of_run(_outline(row[1:]))]
        return faults, rows[-1][0] if rows else None

    def faults_of_the_rest(self) -> Iterator[Fault]:
        """What is wrong with blobs, and what is left of runs that are gone."""
        for run_id, digest in self._rows(_MISSING_BLOBS):
            yield fault_of_ref(told(run_id), told(digest))
        for digest, data in self._rows(_WRONG_BLOBS):
            yield from faults_of_blob(told(digest), data)
        for table in _TABLES_OF_RUNS:
            for (number,) in self._rows(_LEFT_OVER.replace("{table}", table)):
                yield Fault(f"run number {number}", f"its {table} are there, but the run is not")

    def _rows(self, template: str, parameters: Sequence[Any] = ()) -> list[tuple[Any, ...]]:
        return self._connection.execute(query(template, self._schema), parameters, binary=True).fetchall()

    def _runs(self, chosen: str, parameters: Sequence[Any]) -> Sequence[StoredRun]:
        """In one way to the server and back."""
        execute = self._connection.execute
        with self._connection.pipeline():
            execute(_BEGIN)
            runs, records, inboxes = (
                execute(query(template.replace("{chosen}", chosen), self._schema), parameters, binary=True)
                for template in (_RUNS, _RECORDS_OF_RUNS, _INBOX_OF_RUNS)
            )
            execute("COMMIT")
        records_of = defaultdict[int, list[tuple[int, bytes]]](list)
        for number, seq, data in records.fetchall():
            records_of[number].append((seq, data))
        inbox_of = defaultdict[int, list[tuple[str, bytes]]](list)
        for number, id, data in inboxes.fetchall():
            inbox_of[number].append((told(id), data))
        return [_stored(row, records_of[row[0]], inbox_of[row[0]]) for row in runs.fetchall()]


def _stored(
    row: tuple[Any, ...], records: Sequence[tuple[int, bytes]], inbox: Sequence[tuple[str, bytes]]
) -> StoredRun:
    *columns, admission, seq, snapshot, times, lost_at, engines = row
    losses = None if times is None else Losses(times, lost_at, tuple(engines))
    return StoredRun(_row(columns), admission, None if seq is None else (seq, snapshot), records, inbox, losses)


def _row(columns: Sequence[Any]) -> RunRow:
    number, run_id, graph, version, fingerprint, submitted_at, tags, priority, key, deadline, depth, status, at = (
        columns
    )
    return RunRow(
        run_id=told(run_id),
        graph=told(graph),
        version=told(version),
        fingerprint=told(fingerprint),
        submitted_at=submitted_at,
        tags={told(name): told(value) for name, value in orjson.loads(tags).items()},
        priority=priority,
        key=None if key is None else told(key),
        deadline=deadline,
        depth=depth,
        status=told(status),  # type: ignore[arg-type]  # verify() says if it is none of these
        ended_at=at,
        number=number,
    )


def _outline(columns: Sequence[Any]) -> Outline:
    run_id, status, ended_at, admitted, count, first, last, snapshot = columns
    return Outline(
        run_id=told(run_id),
        status=told(status),
        ended_at=ended_at,
        admitted=admitted,
        count=count,
        first=first,
        last=last,
        snapshot=snapshot,
    )
