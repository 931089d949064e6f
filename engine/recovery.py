"""From what a store has of a run to the run itself, where it was.

What was decided is not decided again: the records are applied, and only what was in flight starts anew. A run that
had ended is read the same way, to be looked at, retried or forked.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, Iterable, Mapping, Sequence
from typing import Any

import attrs

from .format import digests_in, unpack_admission, unpack_record, unpack_snapshot
from .ports import Store
from .runs import Run as Machine
from .snapshot import Snapshot
from .stored import RunRow, StoredRun
from .tokens import Command, Record

PAGE = 500


@attrs.frozen
class Found:
    """A run as it was stored, with its blobs."""

    row: RunRow
    run: StoredRun
    blobs: Mapping[str, bytes]

    @property
    def values(self) -> dict[str, Any]:
        """What it was submitted on."""
        return unpack_admission(self.run.admission, self.blobs)

    def records(self) -> list[Record]:
        """Those after the snapshot, if there is one."""
        return [unpack_record(data, self.blobs) for _, data in self.run.records]

    @property
    def seq(self) -> int:
        """The number of its last record."""
        if self.run.records:
            return self.run.records[-1][0]
        return 0 if self.run.snapshot is None else self.run.snapshot[0]

    @property
    def begun(self) -> bool:
        """Whether anything has happened in it."""
        return bool(self.run.records) or self.run.snapshot is not None

    def rebuild(self, machine: Machine, now: float) -> list[Command]:
        """Bring a new machine to where the run was; gives what follows now, which is nothing for one that has ended."""
        records = self.records()
        return self._rebuild(machine, records, self.run.snapshot, now)

    def rebuild_from_first(self, machine: Machine, records: Sequence[Record], now: float) -> list[Command]:
        """The same, from all of its records, so that it knows all that was."""
        return self._rebuild(machine, list(records), None, now)

    def _rebuild(
        self, machine: Machine, records: list[Record], snapshot: tuple[int, bytes] | None, now: float
    ) -> list[Command]:
        if self.row.status == "cancelled" and not any(record.kind == "ended" for record in records[-1:]):
            # Cancelled while no engine could drive it, so nobody has recorded more than that.
            records += [Record("cancel"), Record("ended", update={"status": "cancelled"})]
        if snapshot is not None:
            return machine.restore(Snapshot(*unpack_snapshot(snapshot[1], self.blobs)), records, now)
        return machine.replay(machine.plan.state.build(self.values), records, now, self.row.submitted_at)


async def found(store: Store, runs: Sequence[StoredRun]) -> list[Found]:
    """These runs with their blobs, read at once."""
    blobs = await blobs_of(store, (part for run in runs for part in _parts(run)))
    return [Found(run.row, run, blobs) for run in runs]


async def unfinished(store: Store, graph: str, version: str) -> AsyncGenerator[Found, None]:
    """The runs of a graph that have not ended, oldest first."""
    after = 0
    while page := await store.unfinished(graph, version, after=after, limit=PAGE):
        after = page[-1].row.number
        for one in await found(store, page):
            yield one


async def blobs_of(store: Store, parts: Iterable[bytes]) -> Mapping[str, bytes]:
    """The blobs that these name, read at once."""
    wanted = list(dict.fromkeys(digest for data in parts for digest in digests_in(data)))
    return await store.blobs(wanted) if wanted else {}


def _parts(run: StoredRun) -> Iterable[bytes]:
    yield run.admission
    if run.snapshot is not None:
        yield run.snapshot[1]
    for _, data in run.records:
        yield data
