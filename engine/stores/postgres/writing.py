"""A commit: one transaction, one way to the server and back, and a statement for all writes of a kind.

Measured with records of 200 bytes, in batches of 512: arrays in binary, unnested, 49,000 records a second; arrays as
text 21,000; COPY into a temporary table 24,000; `executemany` 18,000; a statement for each 5,000.

**What `sync` means here: nothing.** Every commit is flushed to the server's disk. With `synchronous_commit = off` one
would survive `kill -9` of this process, but not a crash of the server, or that of any of its backends; and this
process would live on, and write what follows the records that were lost. A run with a gap can never go on. SQLite can
do without the flush, since there what loses the records takes the engine with it. Whatever is stronger, as waiting
for standbys, stays as the server has it.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import orjson
import psycopg
from psycopg import errors

from ...errors import KeyTaken
from ...stored import Admit, Audit, Define, Forget, Rebase, RunRow, Write
from .batches import Batch, Named, batches, named
from .leases import LeaseRow
from .schema import query
from .text import held, indexed, told

_MOST_BYTES = 64 * 1024 * 1024
"""In one statement, if it is more than a single value: the server takes no message of a gigabyte."""
_SNAPSHOT = -1

_BEGIN = "BEGIN ISOLATION LEVEL READ COMMITTED READ WRITE"
_READY = """
    SELECT pg_advisory_xact_lock_shared($guard$),
        CASE current_setting('synchronous_commit') WHEN 'off' THEN set_config('synchronous_commit', 'on', true) END
"""
_DEFINE = """
    INSERT INTO $.definitions (graph, version, fingerprint, text)
    SELECT * FROM unnest(%b::text[], %b::text[], %b::text[], %b::text[])
    ON CONFLICT (graph, version, fingerprint) DO UPDATE SET text = excluded.text
"""
# A run that is there already is left alone; a key that is there is an error, which undoes all.
_ADMIT = """
    INSERT INTO $.runs (run_id, graph, version, fingerprint, submitted_at, tags, priority, key, deadline, depth,
        status, ended_at, owner)
    SELECT given.run_id, graph, version, fingerprint, submitted_at, tags::jsonb, priority, key, deadline, depth,
        status, ended_at, %b::int8
    FROM unnest(%b::text[], %b::text[], %b::text[], %b::text[], %b::float8[], %b::text[], %b::int8[], %b::text[],
        %b::float8[], %b::int8[], %b::text[], %b::float8[]) WITH ORDINALITY
        AS given (run_id, graph, version, fingerprint, submitted_at, tags, priority, key, deadline, depth, status,
        ended_at, nth)
    ORDER BY nth
    ON CONFLICT (run_id) DO NOTHING
"""
# Before the records, while it can be told which are new. Blobs are stored in one order, or two engines that store the
# same wait for each other.
_NAME = """
    WITH named AS (
        SELECT number, place, digest, data
        FROM unnest(%b::text[], %b::int8[], %b::int8[], %b::text[], %b::bytea[])
            AS given (run_id, place, seq, digest, data)
        JOIN $.runs USING (run_id)
        WHERE NOT EXISTS (SELECT FROM $.{there})
    ), stored AS (
        INSERT INTO $.blobs (digest, data)
        SELECT DISTINCT ON (digest) digest, data FROM named WHERE data IS NOT NULL ORDER BY digest
        ON CONFLICT DO NOTHING
    )
    INSERT INTO $.refs (run, place, digest) SELECT DISTINCT number, place, digest FROM named ON CONFLICT DO NOTHING
"""
_NAME_IN_RECORDS = _NAME.replace("{there}", "records AS old WHERE old.run = number AND old.seq = given.seq")
_NAME_IN_SNAPSHOTS = _NAME.replace("{there}", "snapshots AS old WHERE old.run = number AND old.seq >= given.seq")
_APPEND = """
    INSERT INTO $.records (run, seq, data)
    SELECT number, seq, data
    FROM unnest(%b::text[], %b::int8[], %b::bytea[]) AS given (run_id, seq, data) JOIN $.runs USING (run_id)
    ON CONFLICT DO NOTHING
"""
_UNNAME_SNAPSHOTS = """
    DELETE FROM $.refs
    USING unnest(%b::text[], %b::int8[]) AS given (run_id, seq) JOIN $.runs USING (run_id)
    WHERE refs.run = number AND place = -1
        AND NOT EXISTS (SELECT FROM $.snapshots WHERE snapshots.run = number AND snapshots.seq >= given.seq)
"""
_PUT_SNAPSHOTS = """
    INSERT INTO $.snapshots (run, seq, data)
    SELECT number, seq, data
    FROM unnest(%b::text[], %b::int8[], %b::bytea[]) AS given (run_id, seq, data) JOIN $.runs USING (run_id)
    ON CONFLICT (run) DO UPDATE SET seq = excluded.seq, data = excluded.data WHERE snapshots.seq < excluded.seq
"""
_DROP = """
    WITH dropped AS (
        SELECT number, seq FROM unnest(%b::text[], %b::int8[]) AS given (run_id, seq) JOIN $.runs USING (run_id)
    ), unnamed AS (
        DELETE FROM $.refs USING dropped WHERE run = number AND place BETWEEN 1 AND seq
    )
    DELETE FROM $.records USING dropped WHERE run = number AND records.seq BETWEEN 1 AND dropped.seq
"""
_POST = """
    INSERT INTO $.inbox (run, id, data)
    SELECT number, id, data
    FROM unnest(%b::text[], %b::text[], %b::bytea[]) WITH ORDINALITY AS given (run_id, id, data, nth)
    JOIN $.runs USING (run_id) ORDER BY nth
    ON CONFLICT DO NOTHING
"""
_COLLECT = """
    DELETE FROM $.inbox
    USING unnest(%b::text[], %b::text[]) AS given (run_id, id) JOIN $.runs USING (run_id)
    WHERE inbox.run = number AND inbox.id = given.id
"""
# A commit whose answer was lost is made again: by then another engine may go on with what has ended here.
_SET_STATUS = """
    UPDATE $.runs SET status = given.status, ended_at = given.at,
        owner = CASE given.status WHEN 'running' THEN owner ELSE 0 END
    FROM unnest(%b::text[], %b::text[], %b::float8[]) AS given (run_id, status, at)
    WHERE runs.run_id = given.run_id AND (%b::int8 = 0 OR coalesce(owner, 0) IN (0, %b::int8))
"""
# Of a run that has ended: what was asked of it and it did not hear in time. It must not hear it if it is tried again.
_FORGET_ORDERS = """
    DELETE FROM $.inbox USING $.runs
    WHERE run = number AND run_id = ANY(%b::text[]) AND owner = 0 AND id LIKE chr(1) || '%%'
"""
_REBASE = """
    UPDATE $.runs SET version = given.version, fingerprint = given.fingerprint
    FROM unnest(%b::text[], %b::text[], %b::text[]) AS given (run_id, version, fingerprint)
    WHERE runs.run_id = given.run_id
"""
_AUDIT = """
    INSERT INTO $.audits (id, at, run_id, data)
    SELECT id, at, run_id, data
    FROM unnest(%b::text[], %b::float8[], %b::text[], %b::bytea[]) WITH ORDINALITY AS given (id, at, run_id, data, nth)
    ORDER BY nth
    ON CONFLICT DO NOTHING
"""
_FORGET = """
    WITH gone AS (DELETE FROM $.runs WHERE run_id = ANY(%b::text[]) RETURNING number),
        records AS (DELETE FROM $.records USING gone WHERE run = number),
        snapshots AS (DELETE FROM $.snapshots USING gone WHERE run = number),
        inbox AS (DELETE FROM $.inbox USING gone WHERE run = number),
        losses AS (DELETE FROM $.losses USING gone WHERE run = number)
    DELETE FROM $.refs USING gone WHERE run = number
"""
_HOLD = "SELECT $.hold(%b::int8, %b::int8)"
# One that is there already may be an engine's that shares the tables: then this one would run it, too.
_OWN = "SELECT $.own(%b::int8, %b::text[])"
_OWNERS = "SELECT key, run_id FROM $.runs WHERE key = ANY(%b::text[]) OR run_id = ANY(%b::text[])"

Statement = tuple[str, Sequence[Any]]


def commit(connection: psycopg.Connection, schema: str, writes: Sequence[Write], lease: LeaseRow | None = None) -> None:
    """Make them, all or none; raises `KeyTaken`. Within a lease, which must hold: `LeaseLost`, `RunIdTaken`."""
    statements = [statement for batch in batches(writes) for statement in _statements(batch, lease)]
    try:
        with connection.pipeline():
            connection.execute(_BEGIN, prepare=True)
            connection.execute(query(_READY, schema), prepare=True)
            if lease is not None:
                connection.execute(query(_HOLD, schema), [lease.engine, lease.epoch], prepare=True)
            for template, parameters in statements:
                connection.execute(query(template, schema), parameters, prepare=True)
            connection.execute("COMMIT", prepare=True)
    except errors.UniqueViolation as error:
        connection.rollback()
        if error.diag.constraint_name == "runs_key" and (taken := _taken(connection, schema, writes)):
            raise taken from None
        # Its owner is gone since, or another engine has just admitted the same run.
        raise errors.SerializationFailure(str(error)) from error
    except psycopg.Error as error:
        if lease is None or (refused := lease.refusal(error)) is None:
            raise
        connection.rollback()
        raise refused from None


def _statements(batch: Batch, lease: LeaseRow | None) -> Iterator[Statement]:
    """What makes a batch, in the order of its fields."""
    if batch.definitions:
        yield _DEFINE, _columns([_definition(define) for define in batch.definitions.values()])
    if batch.runs:
        owner = 0 if lease is None else lease.engine
        yield _ADMIT, [owner, *_columns([_row(row) for row in batch.runs.values()])]
        if lease is not None:
            yield _OWN, [owner, [held(run_id) for run_id in batch.runs]]
    for rows in _portions([_name(name, name[1]) for name in batch.named]):
        yield _NAME_IN_RECORDS, _columns(rows)
    for records in _portions([(held(run), seq, data) for (run, seq), data in batch.records.items()]):
        yield _APPEND, _columns(records)
    if batch.snapshots:
        yield from _snapshots(batch)
    if batch.dropped:
        yield _DROP, _columns([(held(run), seq) for run, seq in batch.dropped.items()])
    for posted in _portions([(held(post.run_id), indexed(post.id, "signal"), post.data) for post in batch.posted]):
        yield _POST, _columns(posted)
    if batch.collected:
        yield _COLLECT, _columns([(held(run), held(id)) for run, id in batch.collected])
    if batch.statuses:
        own = 0 if lease is None else lease.engine
        rows = [(held(run), held(set.status), set.at) for run, set in batch.statuses.items()]
        yield _SET_STATUS, [*_columns(rows), own, own]
        ended = [held(run) for run, set in batch.statuses.items() if set.status != "running"]
        if lease is not None and ended:
            yield _FORGET_ORDERS, [ended]
    if batch.rebased:
        yield _REBASE, _columns([_rebase(rebase) for rebase in batch.rebased.values()])
    for lines in _portions([_audit(line) for line in batch.audited]):
        yield _AUDIT, _columns(lines)
    if batch.forgotten:
        yield _FORGET, [[held(run) for run in batch.forgotten]]


def _snapshots(batch: Batch) -> Iterator[Statement]:
    newest = batch.snapshots.values()
    yield _UNNAME_SNAPSHOTS, _columns([(held(put.run_id), put.seq) for put in newest])
    names = [_name(name, put.seq) for put in newest for name in named(put.run_id, _SNAPSHOT, put.blobs, put.refs)]
    for portion in _portions(names):
        yield _NAME_IN_SNAPSHOTS, _columns(portion)
    for puts in _portions([(held(put.run_id), put.seq, put.data) for put in newest]):
        yield _PUT_SNAPSHOTS, _columns(puts)


def _row(row: RunRow) -> tuple[Any, ...]:
    return (
        indexed(row.run_id, "run"),
        indexed(row.graph, "graph"),
        indexed(row.version, "version"),
        held(row.fingerprint),
        row.submitted_at,
        orjson.dumps({held(name): held(value) for name, value in row.tags.items()}).decode(),
        row.priority,
        None if row.key is None else indexed(row.key, "idempotency key"),
        row.deadline,
        row.depth,
        held(row.status),
        row.ended_at,
    )


def _name(name: Named, seq: int) -> tuple[Any, ...]:
    run_id, place, digest, data = name
    return held(run_id), place, seq, indexed(digest, "blob"), data


def _definition(define: Define) -> tuple[str, ...]:
    graph, version = indexed(define.graph, "graph"), indexed(define.version, "version")
    return graph, version, held(define.fingerprint), held(define.text)


def _rebase(rebase: Rebase) -> tuple[str, ...]:
    return held(rebase.run_id), indexed(rebase.version, "version"), held(rebase.fingerprint)


def _audit(line: Audit) -> tuple[Any, ...]:
    run_id = None if line.run_id is None else indexed(line.run_id, "run")
    return indexed(line.id, "line of the audit log"), line.at, run_id, line.data


def _columns(rows: Sequence[tuple[Any, ...]]) -> Sequence[list[Any]]:
    return [list(column) for column in zip(*rows, strict=True)]


def _portions(rows: list[tuple[Any, ...]]) -> Iterator[list[tuple[Any, ...]]]:
    """The rows, whose last columns are data, in parts that fit into statements."""
    portion: list[tuple[Any, ...]] = []
    size = 0
    for row in rows:
        more = len(row[-1] or b"")
        if portion and size + more > _MOST_BYTES:
            yield portion
            portion, size = [], 0
        portion.append(row)
        size += more
    if portion:
        yield portion


def _taken(connection: psycopg.Connection, schema: str, writes: Sequence[Write]) -> KeyTaken | None:
    """Which key it was: walk through who has which, as the database did."""
    admitted = {write.row.run_id: write.row.key for write in writes if isinstance(write, Admit)}
    ids = [*admitted, *(write.run_id for write in writes if isinstance(write, Forget))]
    keys = [held(key) for key in admitted.values() if key is not None]
    found = connection.execute(query(_OWNERS, schema), [keys, [held(run) for run in ids]]).fetchall()
    owned = {told(run): None if key is None else told(key) for key, run in found}
    for write in writes:
        if isinstance(write, Forget):
            owned.pop(write.run_id, None)
        elif isinstance(write, Admit) and write.row.run_id not in owned:
            key = write.row.key
            owner = next((run for run, other in owned.items() if key is not None and other == key), None)
            if key is not None and owner is not None:
                return KeyTaken(key, owner)
            owned[write.row.run_id] = key
    return None
