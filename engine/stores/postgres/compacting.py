"""Removal of what need not be kept, in steps: a commit waits for one of them at most.

Space is given back by PostgreSQL's own autovacuum. To do it here would keep a connection for as long as it takes.
"""

from __future__ import annotations

from collections.abc import Sequence

import psycopg

from ...stored import Compacted, Kept
from .schema import query

RUNS_IN_A_STEP = 200
BLOBS_IN_A_STEP = 500
_AUDITS_IN_A_STEP = 5000

_PAST = """
    SELECT number FROM (
        SELECT number, ended_at, row_number() OVER (PARTITION BY graph ORDER BY ended_at DESC, number DESC) AS place
        FROM $.runs WHERE status <> 'running' AND ended_at IS NOT NULL
    ) AS ended
    WHERE ended_at < %s::float8 OR place > %s::int8 ORDER BY number
"""
_UNNAMED = "SELECT digest FROM $.blobs WHERE NOT EXISTS (SELECT FROM $.refs WHERE refs.digest = blobs.digest)"
_ALONE = "SELECT pg_advisory_xact_lock($guard$)"
# Again, whether it has ended: it may have gone on since.
_REMOVE_RUNS = """
    WITH gone AS (
        DELETE FROM $.runs WHERE number = ANY(%s::int8[]) AND status <> 'running' RETURNING number
    ), records AS (DELETE FROM $.records USING gone WHERE run = number RETURNING seq),
        snapshots AS (DELETE FROM $.snapshots USING gone WHERE run = number),
        inbox AS (DELETE FROM $.inbox USING gone WHERE run = number),
        losses AS (DELETE FROM $.losses USING gone WHERE run = number),
        refs AS (DELETE FROM $.refs USING gone WHERE run = number)
    SELECT (SELECT count(*) FROM gone), (SELECT count(*) FROM records WHERE seq > 0)
"""
_REMOVE_BLOBS = """
    DELETE FROM $.blobs
    WHERE digest = ANY(%s::text[]) AND NOT EXISTS (SELECT FROM $.refs WHERE refs.digest = blobs.digest)
"""

_REMOVE_AUDITS = """
    DELETE FROM $.audits WHERE number IN (SELECT number FROM $.audits WHERE at < %s::float8 LIMIT %s)
"""


def past(connection: psycopg.Connection, schema: str, keep: Kept, now: float) -> Sequence[int]:
    """The numbers of the runs that need not be kept."""
    before = None if keep.seconds is None else now - keep.seconds
    return [number for (number,) in connection.execute(query(_PAST, schema), [before, keep.count])]


def unnamed(connection: psycopg.Connection, schema: str) -> Sequence[str]:
    """The digests of blobs, as stored, that nothing names."""
    return [digest for (digest,) in connection.execute(query(_UNNAMED, schema))]


def remove_runs(connection: psycopg.Connection, schema: str, numbers: Sequence[int]) -> Compacted:
    """Remove these, with all that is theirs."""
    with connection.transaction():
        connection.execute(query(_ALONE, schema))
        row = connection.execute(query(_REMOVE_RUNS, schema), [list(numbers)]).fetchone()
    assert row is not None
    return Compacted(runs=row[0], records=row[1])


def remove_blobs(connection: psycopg.Connection, schema: str, digests: Sequence[str]) -> int:
    """Remove these, if still nothing names them; how many that were."""
    with connection.transaction():
        connection.execute(query(_ALONE, schema))
        return connection.execute(query(_REMOVE_BLOBS, schema), [list(digests)]).rowcount


def remove_audits(connection: psycopg.Connection, schema: str, before: float) -> int:
    """Remove some lines of the audit log from before a time; how many that were."""
    return connection.execute(query(_REMOVE_AUDITS, schema), [before, _AUDITS_IN_A_STEP]).rowcount
