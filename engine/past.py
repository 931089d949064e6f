"""What was before all that a run in memory knows: read from its records, as far as they are kept.

A run that went on from a snapshot knows only what came after. Its log before that is told by its records alone. Which
nodes were visited, and what events there were, comes out only if they are applied from the first one on.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import TYPE_CHECKING

from .errors import HistoryGone
from .history import Event, History, RawLog, described
from .plan import Plan
from .replay import Again, begin
from .runs import Run
from .tokens import Record

if TYPE_CHECKING:
    from .durable import Durable

_NO_LIMIT = 1 << 62


def log_rows(plan: Plan | None, records: Iterable[Record]) -> Iterator[RawLog]:
    """The entries of the log that these records tell of; without the plan a wait's has no keys."""
    for record in records:
        if not record.status:
            continue
        name = "".join(f"{node}#{number}/" for node, number, _ in record.path) + record.node
        if record.item >= 0:
            name += f"[{record.item}]"
        error = None if record.error is None or record.status == "succeeded" else described(record.error)
        keys = _keys(plan, record) if record.status == "succeeded" else ()
        yield (name, record.activation, record.attempts, record.status, record.started, record.time, error, keys)


def _keys(plan: Plan | None, record: Record) -> tuple[str, ...]:
    if record.update is not None:
        return tuple(record.update) if record.item < 0 else ()
    if record.signal is None or plan is None:
        return ()
    for node, _, _ in record.path:
        inner = plan.by_name[node].decl.subgraph
        assert inner is not None
        plan = inner.plan
    wait = plan.by_name[record.node].decl.wait
    # The payload is in the record of the signal, and not written twice.
    return () if wait is None else (wait.into,)


class Past:
    """The events of a run from its first on, worked out from its records."""

    def __init__(self, durable: Durable, run: Run) -> None:
        self._durable = durable
        self._past = Run(run.plan, run.id)
        self._past.tree.history = History(_NO_LIMIT)
        self._again = Again(self._past)
        self._read = 0
        self._ahead: list[Event] = []
        """Those that were worked out and not asked for yet: memory may have forgotten them when they are."""

    async def events(self, after: int, before: int) -> list[Event]:
        """Some of those between these numbers, the next ones after earlier calls; none are left if it is empty.

        Raises `HistoryGone` if records of some are gone.
        """
        while True:
            self._ahead = [event for event in self._ahead if event.seq > after]
            if found := [event for event in self._ahead if event.seq < before]:
                return found
            if self._past.history.seq >= before - 1 or not (page := await self._next_page(after, before)):
                return []
            for _, record in page:
                self._again.apply(record)
            self._read = page[-1][0]
            history = self._past.history
            self._ahead += history.events(history.first_kept - 1)
            history.forget()

    async def _next_page(self, after: int, before: int) -> Sequence[tuple[int, Record]]:
        page = await self._durable.some_records(self._past.id, self._read)
        if not page:
            # What memory knows is on its way at least.
            await self._durable.journal.flush(gives_up=True)
            page = await self._durable.some_records(self._past.id, self._read)
        if not self._read:
            await self._begin(page, after, before)
        if page and page[0][0] != self._read + 1:
            raise HistoryGone(after + 1, before)
        return page

    async def _begin(self, page: Sequence[tuple[int, Record]], after: int, before: int) -> None:
        run = self._past
        stored = await self._durable.load(run.id)
        if stored is None or not page or page[0][0] != 1 or page[0][1].kind == "forked":
            raise HistoryGone(after + 1, before)
        begin(run, stored.row.submitted_at)
        run._enter(run.plan.state.admit(run.plan.state.seed(stored.values)))
