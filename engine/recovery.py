"""From what a store has of a run to the run itself, where it was.

What was decided is not decided again: the records are applied, and only what was in flight starts anew. A run that
had ended is read the same way, to be looked at, retried or forked.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, Iterable, Mapping, Sequence
from typing import Any, Final

import attrs

from .format import digests_in, unpack_admission, unpack_record, unpack_snapshot
from .ports import Store
from .runs import Run as Machine
from .snapshot import Snapshot
from .stored import RunRow, StoredRun
from .tokens import Command, Record

PAGE = 500
FORKED: Final = 1
"""The number of the record that a fork begins with, and so of its first snapshot."""
_FROM_OUTSIDE: Final = frozenset({"signal", "pause", "resume"})


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

    def snapshot(self) -> Mapping[str, Any] | None:
        """What the snapshot says, its values and errors aside, if there is one."""
        return None if self.run.snapshot is None else unpack_snapshot(self.run.snapshot[1], self.blobs)[0]

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
    def is_untouched(self) -> bool:
        """Whether nothing has happened to it since it was admitted."""
        return not self.run.records and self.run.snapshot is None

    @property
    def waits_for_a_place(self) -> bool:
        """Whether it was submitted, forked or retried, and nothing has happened since but from outside."""
        waits = self.run.snapshot is None or self.run.snapshot[0] == FORKED
        for record in self.records():
            waits = record.kind == "retry" or (waits and record.kind in _FROM_OUTSIDE)
        return waits

    def was_signalled(self, id: str) -> bool:
        """Whether a signal of this id has come, be it that no engine had the run in hand."""
        snapshot = self.snapshot() or {}
        before = (snapshot.get("tree", {}).get("signals") or {}).get("ids", ())
        recorded = (record.signal[3] for record in self.records() if record.kind == "signal")
        return id in before or id in recorded or any(id == posted for posted, _ in self.run.inbox)

    def rebuild(self, machine: Machine, now: float, *, held: bool = False) -> list[Command]:
        """Bring a new machine to where the run was; gives what follows now, which is nothing for one that has ended.

        One that is `held` is queued until it goes live.
        """
        return self._rebuild(machine, self.records(), self.run.snapshot, now, held)

    def rebuild_from_first(self, machine: Machine, records: Sequence[Record], now: float) -> list[Command]:
        """The same, from all of its records, so that it knows all that was."""
        return self._rebuild(machine, list(records), None, now, False)

    def _rebuild(
        self, machine: Machine, records: list[Record], snapshot: tuple[int, bytes] | None, now: float, held: bool
    ) -> list[Command]:
        if self.row.status == "cancelled" and not any(record.kind == "ended" for record in records[-1:]):
            # Cancelled while no engine could drive it, so nobody has recorded more than that.
            records += [Record("cancel"), Record("ended", update={"status": "cancelled"})]
        if snapshot is not None:
            return machine.restore(Snapshot(*unpack_snapshot(snapshot[1], self.blobs)), records, now, held=held)
        return machine.replay(machine.plan.state.seed(self.values), records, now, self.row.submitted_at, held=held)


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
