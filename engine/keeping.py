"""One run's way into the journal: its decisions are written before their consequences start.

The commands of an event come in with the records of what was decided among them. The records are packed and queued;
the commands behind them are held until those are safe, and what comes after waits in line. With `relaxed` durability
records follow the run, and only its end waits for them.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import partial
from typing import Any, Final, Literal

import attrs

from .errors import NotStorable
from .format import pack_record, pack_snapshot, pack_values
from .journal import Journal
from .keeper import CarryOut
from .logs import about
from .nodespec import NodeSpec
from .plan import Plan, all_nodes
from .runs import Run
from .stored import Append, PutSnapshot, SetStatus, StoredStatus, Write
from .tokens import Command, Record, RunDone

logger = logging.getLogger("engine")

Durability = Literal["standard", "strict", "relaxed"]

# Records that survive a power cut, too, with `standard` durability: somebody outside was told of them.
_TOLD: Final = frozenset({"signal", "pause", "resume", "cancel", "retry", "ended"})
# Entries that may wait for the store before even relaxed runs wait for it.
MOST_BEHIND: Final = 10_000
# A snapshot is due after so many records, and so many times what the last one weighed, whichever is more.
SNAPSHOT_RECORDS: Final = 1_000
SNAPSHOT_FACTOR: Final = 4


@attrs.define
class _Held:
    """Commands that wait until what stands before them is safe, and what is to be called then."""

    commands: list[Command]
    afterwards: Sequence[Callable[[], None]] = ()


class RunJournal:
    """What `Run(journal=...)` is given: packs what it records, and holds its commands back."""

    __slots__ = (
        "_beside",
        "_bytes",
        "_effects",
        "_held",
        "_journal",
        "_keeps",
        "_mode",
        "_records",
        "_snapshot_bytes",
        "_stopped",
        "run_id",
        "seq",
    )

    def __init__(
        self,
        journal: Journal,
        run_id: str,
        mode: Durability,
        effects: frozenset[str],
        *,
        keeps: int | None,
        seq: int = 0,
    ) -> None:
        self.run_id = run_id
        self.seq = seq
        """Of the last record."""
        self._journal = journal
        self._mode = mode
        self._effects = effects
        self._keeps = keeps
        # No deque: an empty one takes ten times the memory, and few runs ever wait for more than one commit.
        self._held: list[_Held] = []
        self._records = 0
        self._bytes = 0
        self._snapshot_bytes = 0
        self._stopped = False
        self._beside: list[Write] | None = None

    @contextmanager
    def beside(self, *writes: Write) -> Iterator[None]:
        """Have these written with what follows from what is done within: both, or none."""
        self._beside = list(writes)
        try:
            yield
        finally:
            left, self._beside = self._beside, None
            if left and not self._stopped:
                self._journal.put(left)

    def stop(self) -> None:
        """The engine failed on the run: what it has recorded stays as it is, and nothing more follows from it."""
        self._stopped = True

    def drop(self) -> None:
        """The lease is over under which it was kept: what is not written is not, and nothing follows from any of it."""
        self._stopped = True
        held, self._held = self._held, []
        for one in held:
            for call in one.afterwards:
                call()  # what is no more the run's own: a place on an edge

    def update(self, values: Mapping[str, Any], where: str) -> Any:
        """Packed values; raises `NotStorable` for what would not come back as it is."""
        return pack_values(values, where)

    @property
    def behind(self) -> bool:
        """Whether something is not safe yet that commands wait for."""
        return bool(self._held)

    async def safe(self) -> None:
        """Wait until all that was kept so far is."""
        if self._held or self._mode == "relaxed":
            await self._journal.flush()

    def keep(self, run: Run, commands: Sequence[Command], carry_out: CarryOut) -> Sequence[Command]:
        """The commands that may be carried out now; the others are when what stands before them is safe."""
        if self._stopped:
            return ()
        writes: list[Write] = []
        left: list[Command] = []
        sync = self._mode == "strict"
        ends = False
        for command in commands:
            if isinstance(command, Record):
                writes.append(self._append(command))
                sync = sync or command.kind in _TOLD or (bool(self._effects) and command.node in self._effects)
                if command.kind == "retry":
                    writes.append(SetStatus(self.run_id, "running"))
                continue
            if isinstance(command, RunDone):
                writes.append(SetStatus(self.run_id, _ended(run), run.tree.now))
                ends = sync = True
            left.append(command)
        if writes and self._beside:
            writes += self._beside
            self._beside = None
        if writes and self._snapshot_due and not ends and run.status != "queued":
            writes += self._snapshot(run)
        if not writes and not self._held:
            return left
        if not writes:
            self._held[-1].commands.extend(left)
            return ()
        if self._mode == "relaxed" and not ends and not self._held and self._journal.backlog < MOST_BEHIND:
            self._journal.put(writes, sync=sync)
            return left
        self._held.append(_Held(left))
        self._journal.put(writes, partial(self._let_go, run, carry_out), sync=sync)
        return ()

    def afterwards(self, call: Callable[[], None]) -> None:
        """Call when all commands so far may be carried out and have been: now, or behind those that are held."""
        if self._held:
            held = self._held[-1]
            held.afterwards = (*held.afterwards, call)
        else:
            call()

    def _let_go(self, run: Run, carry_out: CarryOut) -> None:
        held = self._held.pop(0)
        if not self._stopped:
            carry_out(run, held.commands)
        for call in held.afterwards:
            call()

    def _append(self, record: Record) -> Append:
        packed = pack_record(record)
        self.seq += 1
        self._records += 1
        self._bytes += len(packed.data)
        return Append(self.run_id, self.seq, packed.data, packed.blobs, packed.refs)

    @property
    def _snapshot_due(self) -> bool:
        return self._records >= SNAPSHOT_RECORDS and self._bytes >= SNAPSHOT_FACTOR * self._snapshot_bytes

    def _snapshot(self, run: Run) -> list[Write]:
        self._records = self._bytes = 0
        try:
            packed = pack_snapshot(run.snapshot())
        except NotStorable as error:
            # Subgraphs inside of subgraphs can nest it too deep: the run goes on from its records then.
            logger.warning("run %s is kept without a snapshot: %s", self.run_id, error, extra=about(self.run_id))
            return []
        self._snapshot_bytes = len(packed.data)
        drop = 0 if self._keeps is None else max(0, self.seq - self._keeps)
        return [PutSnapshot(self.run_id, self.seq, packed.data, packed.blobs, packed.refs, drop)]


def effects_of(plan: Plan) -> frozenset[str]:
    """The names of nodes marked `effect=True`, those inside subgraphs among them."""
    nodes = all_nodes(plan)
    return frozenset(node.name for node in nodes if isinstance(node.options, NodeSpec) and node.options.effect)


def _ended(run: Run) -> StoredStatus:
    status = run.status
    assert status in ("succeeded", "failed", "cancelled")
    return status
