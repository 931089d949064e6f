"""The audit log: who did what to which run, when, from where, and what came of it.

Each line goes to the logger `engine.audit` at once, and into the store with the next commit of the journal, which the
action does not wait for: a crash in that moment costs the line in the store, not the one in the log. While the store
cannot write, at most `MOST_WAITING` lines wait for it; what comes then is counted, and said to be missing in a line of
its own once the store is back. So a store that is away costs no memory, and no line is missed silently.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from time import time
from typing import Final

import attrs
import orjson

from .ids import new_id
from .journal import Journal
from .logs import about
from .stored import Audit

logger = logging.getLogger("engine.audit")

MOST_WAITING: Final = 2_000
LONGEST: Final = 200
"""Of each text: some come from strangers. A real run's id that is longer is told in full by the run itself."""


@attrs.frozen(kw_only=True)
class AuditLine:
    """Somebody has done something, or tried to."""

    who: str
    """The name of a key, never the key."""
    action: str
    """As a route names it: `POST /api/runs/{run_id}/cancel`."""
    outcome: str
    """What was answered: `202`, or `404`."""
    origin: str
    """The address that it came from."""
    at: float = attrs.field(factory=time)
    run_id: str | None = None
    graph: str | None = None
    request: str | None = None
    """The id of the request, which is in the service's log, too."""

    def stored(self) -> Audit:
        """The line for a store."""
        said = {"who": self.who, "action": self.action, "outcome": self.outcome, "origin": self.origin}
        if self.graph is not None:
            said["graph"] = self.graph
        if self.request is not None:
            said["request"] = self.request
        short = {name: _printable(value) for name, value in said.items()}
        run_id = None if self.run_id is None else _printable(self.run_id)
        return Audit(new_id(), self.at, run_id, orjson.dumps(short))

    @classmethod
    def of(cls, kept: Audit) -> AuditLine:
        """The line that a store has kept."""
        return cls(at=kept.at, run_id=kept.run_id, **orjson.loads(kept.data))


class AuditLog:
    """Writes lines; without a journal to the logger only."""

    def __init__(self, journal: Journal | None) -> None:
        self._journal = journal
        self._waiting = 0
        self._missing = 0
        self.dropped = 0
        """Lines that are in the logger's hands only, since too many waited for the store."""

    def add(self, line: AuditLine) -> None:
        """Keep a line; never waits, never raises for what the store does."""
        if logger.isEnabledFor(logging.INFO):
            extra = about(line.run_id, line.graph, principal=line.who, request=line.request, origin=line.origin)
            logger.info("%s %s %s", line.who, line.action, line.outcome, extra=extra)
        if self._journal is None:
            return
        if self._waiting >= MOST_WAITING:
            self._missing += 1
            self.dropped += 1
            return
        self._put(line.stored())

    def _put(self, line: Audit) -> None:
        assert self._journal is not None
        self._waiting += 1
        self._journal.put([line], self._written)

    def _written(self) -> None:
        self._waiting -= 1
        if self._missing and not self._waiting:
            missing, self._missing = self._missing, 0
            logger.warning("%d lines of the audit log are not in the store, which was away", missing, extra=about())
            line = AuditLine(who="engine", action="missing", outcome=f"{missing} lines", origin="")
            self._put(line.stored())


def audit_lines(kept: Sequence[tuple[int, Audit]]) -> list[tuple[int, AuditLine]]:
    """Numbered lines as a store gives them."""
    return [(number, AuditLine.of(audit)) for number, audit in kept]


def _printable(text: str) -> str:
    """Text that every store takes, in a line that cannot be taken for two."""
    if len(text) <= LONGEST and text.isascii() and text.isprintable():
        return text
    cut = text[:LONGEST].encode(errors="replace").decode()
    return "".join(character if character.isprintable() else "\N{REPLACEMENT CHARACTER}" for character in cut)
