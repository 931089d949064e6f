"""What is in the file, and how a file of an earlier version becomes one of this.

Records are a log with an index, not a table in the order of its runs: the records of a hundred runs that end up in
one commit then are on a few pages in a row instead of on a hundred. Measured with a hundred runs at once and records
of 200 bytes: 2.4 times as fast as a table without rowid by (run, seq) or by both packed into one integer, a quarter
of the bytes written, and 242 bytes on disk for each record instead of 252 and 249.
"""

from __future__ import annotations

import sqlite3

from ...errors import StoreUnavailable

APPLICATION = 0x77666531
"""In the header of the file: "wfe1"."""

_FIRST = """
CREATE TABLE runs (
    number INTEGER PRIMARY KEY,
    run_id TEXT NOT NULL UNIQUE,
    graph TEXT NOT NULL,
    version TEXT NOT NULL,
    fingerprint TEXT NOT NULL,
    submitted_at REAL NOT NULL,
    tags TEXT, -- JSON, NULL without any
    priority INTEGER NOT NULL,
    key TEXT,
    deadline REAL,
    depth INTEGER NOT NULL,
    status TEXT NOT NULL,
    ended_at REAL
);
CREATE UNIQUE INDEX runs_key ON runs (key) WHERE key IS NOT NULL;
CREATE INDEX runs_submitted ON runs (submitted_at);
CREATE INDEX runs_graph ON runs (graph, submitted_at);
CREATE INDEX runs_status ON runs (status, submitted_at);
CREATE INDEX runs_unfinished ON runs (graph, version) WHERE status = 'running';
CREATE INDEX runs_ended ON runs (graph, ended_at) WHERE ended_at IS NOT NULL;

-- Each tag is a list of runs in the order of their submission, so one that most runs have is as good as a rare one.
CREATE TABLE tags (
    name TEXT NOT NULL,
    value TEXT NOT NULL,
    submitted_at REAL NOT NULL,
    run INTEGER NOT NULL,
    PRIMARY KEY (name, value, submitted_at, run)
) WITHOUT ROWID;

-- Number 0 is the admission.
CREATE TABLE records (
    id INTEGER PRIMARY KEY,
    run INTEGER NOT NULL,
    seq INTEGER NOT NULL,
    data BLOB NOT NULL
);
CREATE UNIQUE INDEX records_place ON records (run, seq);

CREATE TABLE snapshots (run INTEGER PRIMARY KEY, seq INTEGER NOT NULL, data BLOB NOT NULL);

CREATE TABLE inbox (place INTEGER PRIMARY KEY, run INTEGER NOT NULL, id TEXT NOT NULL, data BLOB NOT NULL);
CREATE UNIQUE INDEX inbox_id ON inbox (run, id);

CREATE TABLE blobs (digest TEXT NOT NULL UNIQUE, data BLOB NOT NULL);

-- Who names a blob: the number of a record, 0 for the admission, -1 for the snapshot.
CREATE TABLE refs (
    run INTEGER NOT NULL,
    seq INTEGER NOT NULL,
    digest TEXT NOT NULL,
    PRIMARY KEY (run, seq, digest)
) WITHOUT ROWID;
CREATE INDEX refs_digest ON refs (digest);

CREATE TABLE definitions (
    graph TEXT NOT NULL,
    version TEXT NOT NULL,
    fingerprint TEXT NOT NULL,
    text TEXT NOT NULL,
    PRIMARY KEY (graph, version)
) WITHOUT ROWID;

-- Removed runs whose records have not been removed yet.
CREATE TABLE gone (run INTEGER PRIMARY KEY);

-- A commit that changes nothing is not synced, and what was committed before it neither: so one that is to be synced
-- counts here.
CREATE TABLE synced (times INTEGER NOT NULL);
INSERT INTO synced VALUES (0);
"""

# By fingerprint, too: runs that began on an older definition of a version are still there.
_DEFINITIONS_BY_FINGERPRINT = """
CREATE TABLE every_definition (
    graph TEXT NOT NULL,
    version TEXT NOT NULL,
    fingerprint TEXT NOT NULL,
    text TEXT NOT NULL,
    PRIMARY KEY (graph, version, fingerprint)
) WITHOUT ROWID;
INSERT INTO every_definition SELECT graph, version, fingerprint, text FROM definitions;
DROP TABLE definitions;
ALTER TABLE every_definition RENAME TO definitions;
"""

STEPS = [_FIRST, _DEFINITIONS_BY_FINGERPRINT]
"""What makes each version of the one before; what has once been released is never changed."""


def prepare(connection: sqlite3.Connection, file: str) -> None:
    """Make the file's tables, or those of an earlier version into ours."""
    version = _number(connection, "PRAGMA user_version")
    if version == 0:
        _refuse_what_is_not_ours(connection, file)
        # Before there is any table, or never: pages that are free can be given back later.
        connection.execute("PRAGMA auto_vacuum = INCREMENTAL")
    if version > len(STEPS):
        raise StoreUnavailable(
            f"{file} was written by a newer version of the engine (its schema is {version}, this one knows up to "
            f"{len(STEPS)}): update the engine, or use another file",
            facts={"file": file, "schema": version, "known": len(STEPS)},
        )
    (mode,) = connection.execute("PRAGMA journal_mode = WAL").fetchone()
    if mode != "wal":
        raise StoreUnavailable(
            f"{file} cannot have a write-ahead log (its journal mode stays {mode!r}), as on some network file systems: "
            f"use a local disk",
            facts={"file": file, "journal_mode": mode},
        )
    for number, step in enumerate(STEPS[version:], version + 1):
        connection.executescript(
            f"BEGIN IMMEDIATE; {step}; PRAGMA user_version = {number}; PRAGMA application_id = {APPLICATION}; COMMIT;"
        )


def _refuse_what_is_not_ours(connection: sqlite3.Connection, file: str) -> None:
    tables = [name for (name,) in connection.execute("SELECT name FROM sqlite_master WHERE type = 'table' LIMIT 3")]
    if tables:
        raise StoreUnavailable(
            f"{file} is a database of another program (it has tables {', '.join(map(repr, tables))}): use another file",
            facts={"file": file, "tables": tables},
        )


def _number(connection: sqlite3.Connection, query: str) -> int:
    number: int = connection.execute(query).fetchone()[0]
    return number
