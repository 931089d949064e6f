"""What an error of SQLite means to the operator: where it was, what it was, what to do."""

from __future__ import annotations

import os
import sqlite3

from ...errors import StoreUnavailable

_WHAT: dict[int, tuple[str, str]] = {
    sqlite3.SQLITE_FULL: ("the disk is full", "make room on it; work then goes on by itself"),
    sqlite3.SQLITE_BUSY: (
        "another program holds a lock on it",
        "look for an open transaction in another program, such as the sqlite3 shell, and end it",
    ),
    sqlite3.SQLITE_READONLY: (
        "it cannot be written to",
        "give this user the right to write to the file and to its folder",
    ),
    sqlite3.SQLITE_PERM: ("access was refused", "give this user the right to write to the file and to its folder"),
    sqlite3.SQLITE_CANTOPEN: ("it cannot be opened", "look at the rights on the file and on its folder"),
    sqlite3.SQLITE_NOTADB: ("it is not an SQLite database", "use another file"),
    sqlite3.SQLITE_CORRUPT: ("it is damaged", "take it from a backup, or see what `sqlite3 FILE .recover` can save"),
    sqlite3.SQLITE_IOERR: ("reading or writing it failed", "look at the disk"),
}

_HARMLESS = {sqlite3.SQLITE_FULL, sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED, sqlite3.SQLITE_NOMEM}
_DAMAGE = {"SQLITE_CORRUPT", "SQLITE_NOTADB"}

_LITTLE_BYTES = 1_000_000
"""Where less is free, an error in writing comes of it: a log's index grows by 32 KB at a time, a file by pages."""


def code_of(error: sqlite3.Error) -> int:
    """The kind of error, one of the primary result codes; 0 if it is not from SQLite itself."""
    return getattr(error, "sqlite_errorcode", 0) & 0xFF


def is_outside(error: sqlite3.Error) -> bool:
    """Whether the cause is in the world rather than in what we asked for."""
    return code_of(error) in _WHAT or isinstance(error, sqlite3.OperationalError)


def breaks_the_connection(error: sqlite3.Error) -> bool:
    """Whether the next call should come by a new connection."""
    return code_of(error) not in _HARMLESS


def unavailable(file: str, error: sqlite3.Error) -> StoreUnavailable:
    """The error for the operator."""
    code = code_of(error)
    what, cure = _WHAT.get(code, ("it does not work", "see the cause"))
    if code == sqlite3.SQLITE_IOERR and _free_bytes(os.path.dirname(file)) < _LITTLE_BYTES:
        what, cure = _WHAT[sqlite3.SQLITE_FULL]
    name = getattr(error, "sqlite_errorname", type(error).__name__)
    return StoreUnavailable(
        f"the store {file} is not available: {what} ({name}: {error}); {cure}", facts={"file": file, "code": name}
    )


def is_damage(error: StoreUnavailable) -> bool:
    """Whether an error says that the file is damaged."""
    return str(error.facts.get("code", "")).startswith(tuple(_DAMAGE))


def _free_bytes(folder: str) -> int:
    if not hasattr(os, "statvfs"):
        return _LITTLE_BYTES
    try:
        disk = os.statvfs(folder)
    except OSError:
        return _LITTLE_BYTES
    return disk.f_bavail * disk.f_frsize
