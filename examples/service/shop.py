"""What the program had before there was an engine in it: a till."""

from __future__ import annotations

import sqlite3
import threading
from collections.abc import Sequence
from pathlib import Path
from time import time


class Till:
    """Payments in a file. A payment is known by its order: the same again is no second one."""

    def __init__(self, file: Path) -> None:
        self._lock = threading.Lock()
        self._rows = sqlite3.connect(file, check_same_thread=False)
        self._rows.execute("PRAGMA journal_mode=WAL")
        self._rows.execute("CREATE TABLE IF NOT EXISTS payments (number TEXT PRIMARY KEY, cents INTEGER, at REAL)")

    def take(self, payments: Sequence[tuple[str, int]]) -> None:
        """Take them all, or none."""
        now = time()
        with self._lock, self._rows:
            rows = [(number, cents, now) for number, cents in payments]
            self._rows.executemany("INSERT OR IGNORE INTO payments VALUES (?, ?, ?)", rows)

    def between(self, since: float, until: float) -> tuple[int, int]:
        """How many payments there were, and how much that was."""
        query = "SELECT count(*), coalesce(sum(cents), 0) FROM payments WHERE at >= ? AND at < ?"
        with self._lock:
            count, cents = self._rows.execute(query, (since, until)).fetchone()
        return count, cents

    def close(self) -> None:
        """Close the file."""
        self._rows.close()
