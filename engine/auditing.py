"""The audit log: who did what to which run, when, from where, and what came of it.

Each line goes to the logger `engine.audit` at once, and into the store with the next commit of the journal, which the
action does not wait for: a crash in that moment costs the line in the store, not the one in the log. While the store
cannot write, at most `MOST_WAITING` lines wait for it; what comes then is counted, and said to be missing in a line of
its own once the store is back. So a store that is away costs no memory, and no line is missed silently.
"""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable, Sequence
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
PAGE: Final = 1_000
SCANNED: Final = 10_000
"""So many lines are looked at for one page of a search: who did what has no index."""
LATE_SECONDS: Final = 3_600.0
"""Lines are in the order they were written, and so nearly in that of their times; clocks are set back by less."""
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


@attrs.frozen
class AuditPage:
    """Part of the audit log."""

    lines: Sequence[tuple[int, AuditLine]]
    """With their numbers."""
    next: int | None
    """The number after which to look on; None if there is no more. A search may give pages with little in them."""


Read = Callable[[int, int], Awaitable[Sequence[tuple[int, AuditLine]]]]
"""Gives so many lines after a number."""


async def search(
    read: Read, *, who: str | None, since: float | None, after: int, limit: int, newest_first: bool
) -> AuditPage:
    """The lines of somebody, since a time: at most `limit`, out of at most `SCANNED` that are looked at."""
    found: list[tuple[int, AuditLine]] = []
    size = min(limit + 1, PAGE) if who is None and since is None else PAGE
    for _ in range(max(1, SCANNED // size)):
        lines = await read(after, size)
        for number, line in lines:
            if len(found) == limit:
                return AuditPage(found, after)
            if newest_first and since is not None and line.at < since - LATE_SECONDS:
                return AuditPage(found, None)
            after = number
            if who in (None, line.who) and (since is None or line.at >= since):
                found.append((number, line))
        if len(lines) < size:
            return AuditPage(found, None)
    return AuditPage(found, after)


def audit_lines(kept: Sequence[tuple[int, Audit]]) -> list[tuple[int, AuditLine]]:
    """Numbered lines as a store gives them."""
    return [(number, AuditLine.of(audit)) for number, audit in kept]


def _printable(text: str) -> str:
    """Text that every store takes, in a line that cannot be taken for two."""
    if len(text) <= LONGEST and text.isascii() and text.isprintable():
        return text
    cut = text[:LONGEST].encode(errors="replace").decode()
    return "".join(character if character.isprintable() else "\N{REPLACEMENT CHARACTER}" for character in cut)
