"""Removing what need not be kept, in steps so short that commits hardly notice.

Each step is a transaction of the writer's. A run goes first, with all that is small, and its number is noted in
`gone`; its records follow in steps of their own, now or, after a crash, in the next compaction.
"""

from __future__ import annotations

import sqlite3

from ...stored import Kept
from .writing import Writer

_RUNS_AT_ONCE = 100
_RECORDS_AT_ONCE = 1000
_BLOBS_AT_ONCE = 20
"""Few: they are large."""
_AUDITS_AT_ONCE = 1000
_PAGES_AT_ONCE = 200


def remove_runs(writer: Writer, keep: Kept, now: float) -> int:
    """Remove some of the runs that need not be kept; returns how many."""
    writer.execute("BEGIN IMMEDIATE")
    past = _past(writer, keep, now)
    for number, run_id in past:
        writer.execute("INSERT INTO gone VALUES (?)", (number,))
        writer.forget_run(run_id, number)
    writer.execute("COMMIT")
    return len(past)


def _past(connection: sqlite3.Connection, keep: Kept, now: float) -> list[tuple[int, str]]:
    found: list[tuple[int, str]] = []
    # Each graph's name by a jump in the index: there are few.
    graphs = connection.execute(
        "WITH RECURSIVE g (name) AS (SELECT min(graph) FROM runs UNION ALL "
        "SELECT (SELECT min(graph) FROM runs WHERE graph > name) FROM g WHERE name IS NOT NULL) "
        "SELECT name FROM g WHERE name IS NOT NULL"
    ).fetchall()
    ended = "SELECT number, run_id FROM runs WHERE graph = ? AND ended_at IS NOT NULL AND status <> 'running'"
    for (graph,) in graphs:
        limit = _RUNS_AT_ONCE - len(found)
        if keep.count is not None and limit:
            found += connection.execute(
                f"{ended} ORDER BY ended_at DESC, number DESC LIMIT ? OFFSET ?", (graph, limit, keep.count)
            )
        elif keep.seconds is not None and limit:
            found += connection.execute(
                f"{ended} AND ended_at < ? ORDER BY ended_at LIMIT ?", (graph, now - keep.seconds, limit)
            )
    return found


def remove_records(writer: Writer) -> tuple[int, bool]:
    """Remove some records of removed runs; returns how many, and whether there may be more."""
    writer.execute("BEGIN IMMEDIATE")
    found = writer.execute(
        "SELECT r.id, r.seq FROM gone AS g CROSS JOIN records AS r ON r.run = g.run LIMIT ?", (_RECORDS_AT_ONCE,)
    ).fetchall()
    writer.executemany("DELETE FROM records WHERE id = ?", [(id,) for id, _ in found])
    more = len(found) == _RECORDS_AT_ONCE
    if not more:
        writer.execute("DELETE FROM gone")
    writer.execute("COMMIT")
    return sum(seq > 0 for _, seq in found), more


def remove_blobs(writer: Writer, after: str | None) -> tuple[int, str | None]:
    """Remove some blobs that nothing names; returns how many, and the last one looked at if there may be more."""
    writer.execute("BEGIN IMMEDIATE")
    unnamed = writer.execute(
        "SELECT digest FROM blobs AS b WHERE (?1 IS NULL OR digest > ?1) "
        "AND NOT EXISTS (SELECT 1 FROM refs AS r WHERE r.digest = b.digest) ORDER BY digest LIMIT ?2",
        (after, _BLOBS_AT_ONCE),
    ).fetchall()
    writer.executemany("DELETE FROM blobs WHERE digest = ?", unnamed)
    writer.execute("COMMIT")
    return len(unnamed), unnamed[-1][0] if len(unnamed) == _BLOBS_AT_ONCE else None


def remove_audits(writer: Writer, before: float) -> int:
    """Remove some lines of the audit log from before a time; returns how many."""
    writer.execute("BEGIN IMMEDIATE")
    removed = writer.execute(
        "DELETE FROM audits WHERE number IN (SELECT number FROM audits WHERE at < ? LIMIT ?)", (before, _AUDITS_AT_ONCE)
    ).rowcount
    writer.execute("COMMIT")
    return removed


def give_space_back(writer: Writer) -> bool:
    """Give some free pages back to the file system; returns whether there are more."""
    (before,) = writer.execute("PRAGMA freelist_count").fetchone()
    writer.execute(f"PRAGMA incremental_vacuum({_PAGES_AT_ONCE})").fetchall()
    (after,) = writer.execute("PRAGMA freelist_count").fetchone()
    if 0 < after < before:
        return True
    writer.execute("PRAGMA wal_checkpoint(PASSIVE)").fetchall()
    return False
