"""A lease as a row: what every transaction of an engine that shares its store holds on to."""

from __future__ import annotations

import attrs
import psycopg

from ...errors import EngineError, LeaseLost, RunIdTaken
from .text import told

# Raised by the functions in schema.py.
_LOST, _TAKEN = "WE001", "WE002"


@attrs.frozen
class LeaseRow:
    """One lease of an engine: it holds as long as the row has this epoch and has not expired."""

    engine: int
    epoch: int
    name: str

    def refusal(self, error: psycopg.Error) -> EngineError | None:
        """What the server means by an error of a transaction under this lease, if it is about that."""
        if error.diag.sqlstate == _LOST:
            return self.lost()
        if error.diag.sqlstate == _TAKEN:
            return RunIdTaken(told(error.diag.message_detail or ""))
        return None

    def lost(self) -> LeaseLost:
        """The server does not know it any more."""
        return LeaseLost(self.name, "it did not renew it in time")
