"""Looking for damage, in parts: nobody is kept from writing, nor the log from starting over."""

from __future__ import annotations

import sqlite3

from ...stored import Fault
from ..faults import Outline, fault_of_ref, faults_of_blob, faults_of_run

_RUNS_AT_ONCE = 500
_BLOBS_AT_ONCE = 10
_FAULTS = 100
"""So many of one kind say enough."""

_OUTLINES = """
SELECT number, run_id, status, ended_at,
    EXISTS (SELECT 1 FROM records WHERE run = number AND seq = 0),
    (SELECT count(*) FROM records WHERE run = number AND seq > 0),
    (SELECT min(seq) FROM records WHERE run = number AND seq > 0),
    (SELECT max(seq) FROM records WHERE run = number AND seq > 0),
    (SELECT seq FROM snapshots WHERE run = number)
FROM runs WHERE number > ? ORDER BY number LIMIT ?
"""

_ORPHANS = {
    "records": "SELECT DISTINCT run FROM records WHERE run NOT IN (SELECT number FROM runs UNION SELECT run FROM gone)",
    "snapshots": "SELECT run FROM snapshots WHERE run NOT IN (SELECT number FROM runs)",
    "signals": "SELECT DISTINCT run FROM inbox WHERE run NOT IN (SELECT number FROM runs)",
    "names of blobs": "SELECT DISTINCT run FROM refs WHERE run NOT IN (SELECT number FROM runs)",
    "tags": "SELECT DISTINCT run FROM tags WHERE run NOT IN (SELECT number FROM runs)",
}


def pages(connection: sqlite3.Connection, file: str) -> list[Fault]:
    """What SQLite itself finds in the file."""
    found = connection.execute(f"PRAGMA integrity_check({_FAULTS})").fetchall()
    return [Fault(file, message) for (message,) in found if message != "ok"]


def runs(connection: sqlite3.Connection, after: int) -> tuple[list[Fault], int | None]:
    """What is wrong with some runs, and the number of the last of them if there may be more."""
    faults: list[Fault] = []
    number = None
    for number, *found in connection.execute(_OUTLINES, (after, _RUNS_AT_ONCE)):  # noqa: B007
        run_id, status, ended_at, admitted, count, first, last, snapshot = found
        faults += faults_of_run(
            Outline(
                run_id=run_id,
                status=status,
                ended_at=ended_at,
                admitted=bool(admitted),
                count=count,
                first=first or 0,
                last=last or 0,
                snapshot=snapshot,
            )
        )
    return faults, number


def connections(connection: sqlite3.Connection) -> list[Fault]:
    """What names something that is not there."""
    missing = connection.execute(
        "SELECT DISTINCT u.run_id, r.digest FROM refs AS r JOIN runs AS u ON u.number = r.run "
        "WHERE NOT EXISTS (SELECT 1 FROM blobs AS b WHERE b.digest = r.digest) ORDER BY u.number, r.digest LIMIT ?",
        (_FAULTS,),
    )
    faults = [fault_of_ref(run_id, digest) for run_id, digest in missing]
    for what, query in _ORPHANS.items():
        for (number,) in connection.execute(f"{query} LIMIT {_FAULTS}"):
            faults.append(Fault(f"run number {number}", f"there are {what} of it, but no run"))
    return faults


def blobs(connection: sqlite3.Connection, after: str | None) -> tuple[list[Fault], str | None]:
    """What is wrong with some blobs, and the digest of the last of them if there may be more."""
    faults: list[Fault] = []
    digest = None
    for digest, data in connection.execute(
        "SELECT digest, data FROM blobs WHERE ?1 IS NULL OR digest > ?1 ORDER BY digest LIMIT ?2",
        (after, _BLOBS_AT_ONCE),
    ):
        faults += faults_of_blob(digest, data)
    return faults, digest
