"""An engine's memory beyond its life: the store, the journal that writes to it, and what it tells of runs."""

from __future__ import annotations

import logging
from collections.abc import AsyncGenerator, Awaitable, Callable, Sequence
from functools import partial
from math import inf
from time import time
from typing import TYPE_CHECKING, Any, Final, TypeVar

import anyio
import attrs
from anyio.abc import TaskGroup

from .auditing import AuditLine, AuditLog, audit_lines
from .counts import Histogram
from .errors import EngineError, RecordsGone, StoreUnavailable
from .forking import what_was_kept
from .format import (
    digests_in,
    file_mark,
    file_marks,
    pack_admission,
    pack_record,
    pack_snapshot,
    unpack_admission,
    unpack_record,
)
from .identity import definition_digest, definition_in, definition_text, with_definition
from .journal import BATCH_RECORDS, COMMIT_SECONDS, FIRST_DELAY, PATIENCE, Journal
from .keeping import Durability, RunJournal, effects_of
from .orders import signal
from .plan import Plan
from .ports import Store
from .recovery import FORKED, Found, blobs_of, found, unfinished
from .runs import Run
from .stored import Admit, Append, Compacted, Define, Kept, Post, PutSnapshot, Query, Rebase, RunRow
from .stores import open_store
from .stores.memory import MemoryStore
from .tokens import Record

# How often it is looked for runs that need not be kept, and how many times as long as it took it is left alone after:
# what is removed must cost those that run a hundredth at most.
KEEP_SECONDS: Final = 60.0
KEEP_FACTOR: Final = 100
COLLECT_SECONDS: Final = 3600.0

T = TypeVar("T")

if TYPE_CHECKING:
    from .handle import Run as Handle

logger = logging.getLogger("engine")


class Durable:
    """What an engine with a store has more than one without."""

    def __init__(self, store: Store | str, mode: Durability, *, fall_back: bool, prune: bool) -> None:
        self.mode: Final = mode
        self.share: Callable[[Store], Awaitable[None]] | None = None
        """What is done to have it with others, instead of claiming it."""
        self.recovered = 0
        """Runs that went on from the store."""
        self.fell_back = False
        """Whether runs are in memory only, since the store could not be reached."""
        self._store = open_store(store) if isinstance(store, str) else store
        self._fall_back = fall_back
        self._prune = prune
        self.commit_seconds: Final = Histogram(COMMIT_SECONDS)
        self.batch_records: Final = Histogram(BATCH_RECORDS)
        self._journal: Journal | None = None
        self.audit_log = AuditLog(None)
        self._group: TaskGroup | None = None
        self._work: list[Callable[[], Awaitable[None]]] = []
        self._defined: set[tuple[str, str, str]] = set()
        self.kept: dict[tuple[str, str], dict[str, Any]] = {}
        """Definitions that graphs were made of, by name and version, as they are in the store."""
        self._known: dict[Plan, tuple[str, frozenset[str]]] = {}

    # -- its life

    async def open(self, enter: Callable[[Store], Awaitable[Store]]) -> None:
        """Open the store, or do without it if that was asked for."""
        try:
            store = await self._entered(enter, self._store)
        except StoreUnavailable as error:
            if not self._fall_back:
                raise
            self.fell_back = True
            logger.error("RUNS ARE NOT SAFE: the store cannot be reached, so they are kept in memory only: %s", error)
            store = await self._entered(enter, MemoryStore())
        self._journal = Journal(store, self.commit_seconds, self.batch_records)
        self.audit_log = AuditLog(self._journal)

    async def _entered(self, enter: Callable[[Store], Awaitable[Store]], given: Store) -> Store:
        store = await enter(given)
        await patiently(store.claim if self.share is None else partial(self.share, store))
        await self.read_definitions(store)
        return store

    async def read_definitions(self, store: Store | None = None) -> None:
        """Know what the store keeps by now."""
        store = store or self.store
        for name, version, fingerprint, text in await patiently(store.definitions):
            self._defined.add((name, version, fingerprint))
            if (data := definition_in(text)) is not None:
                self.kept[name, version] = data

    @property
    def journal(self) -> Journal:
        """Once it is open."""
        assert self._journal is not None
        return self._journal

    @property
    def store(self) -> Store:
        """The one in use."""
        return self.journal.store

    @property
    def available(self) -> bool:
        """Whether the store that was asked for takes writes."""
        return not self.fell_back and self._journal is not None and self._journal.trouble is None

    # -- new runs

    def check_writable(self) -> None:
        """Refuse a new run while nothing can be written."""
        if self.journal.trouble is not None:
            raise self.journal.trouble

    def fingerprint(self, plan: Plan) -> str:
        """Of its definition; the first time, that is stored, too."""
        return self._of(plan)[0]

    async def definition(self, fingerprint: str) -> str | None:
        """The definition of this fingerprint, if the store has it."""
        await self.journal.flush(gives_up=True)
        found = await patiently(self.store.definitions)
        return next((text for _, _, known, text in found if known == fingerprint), None)

    def journal_for(self, plan: Plan, run_id: str, seq: int = 0) -> RunJournal:
        """The way into the journal for one run."""
        effects = self._of(plan)[1]
        keeps = plan.decl.history if self._prune else None
        return RunJournal(self.journal, run_id, self.mode, effects, keeps=keeps, seq=seq)

    def _of(self, plan: Plan) -> tuple[str, frozenset[str]]:
        known = self._known.get(plan)
        if known is None:
            text = definition_text(plan)
            known = self._known[plan] = definition_digest(text), effects_of(plan)
            if (plan.name, plan.version, known[0]) not in self._defined:
                self.journal.put([Define(plan.name, plan.version, known[0], text)])
        return known

    async def keep_definition(self, plan: Plan, data: dict[str, Any]) -> None:
        """Keep what a graph was made of; returns when it is safe. Raises `StoreUnavailable`."""
        text = definition_text(plan)
        name, version, fingerprint = plan.name, plan.version, definition_digest(text)
        # Before it is written: who asks for its fingerprint meanwhile must not write it again, without the data.
        self._defined.add((name, version, fingerprint))
        try:
            await self.journal.write(Define(name, version, fingerprint, with_definition(text, data)), gives_up=True)
        except BaseException:
            self._defined.discard((name, version, fingerprint))
            raise
        self.kept[name, version] = data

    async def forget_definition(self, plan: Plan) -> None:
        """Keep no more than what tells whether a run fits it; returns when that is so."""
        text = definition_text(plan)
        name, version = plan.name, plan.version
        await self.journal.write(Define(name, version, definition_digest(text), text), gives_up=True)
        self.kept.pop((name, version), None)

    async def unfinished_of(self, name: str, version: str) -> str | None:
        """The id of a run of this graph that has not ended, if there is one."""
        await self.journal.flush(gives_up=True)
        found = await patiently(lambda: self.store.unfinished(name, version, limit=1))
        return found[0].row.run_id if found else None

    async def admit(
        self, run: Handle, plan: Plan, values: dict[str, Any], *, deadline: float | None, depth: int
    ) -> RunRow:
        """Returns when the run is safe; raises `NotStorable`, `StoreUnavailable`, `KeyTaken`, `RunIdTaken`."""
        packed = pack_admission(values)
        row = RunRow(
            run_id=run.id,
            graph=run.graph,
            version=run.version,
            fingerprint=self.fingerprint(plan),
            submitted_at=run.submitted_at,
            tags=dict(run.tags),
            priority=run.priority,
            key=run.key,
            deadline=deadline,
            depth=depth,
        )
        await self.journal.write(Admit(row, packed.data, packed.blobs), admits=row.run_id)
        return row

    # -- what is there

    async def by_key(self, key: str) -> tuple[RunRow, dict[str, Any]] | None:
        """The run with this idempotency key, and what it was submitted on."""
        there = await patiently(lambda: self.store.find_key(key))
        if there is None:
            return None
        row, admission = there
        blobs = await patiently(lambda: blobs_of(self.store, [admission]))
        return row, unpack_admission(admission, blobs)

    async def load(self, run_id: str) -> Found | None:
        """A run as it was written last; raises `StoreUnavailable` if that cannot be known."""
        await self.journal.flush(gives_up=True)
        there = await patiently(lambda: self.store.read(run_id))
        if there is None:
            return None
        return (await patiently(lambda: found(self.store, [there])))[0]

    async def find(self, query: Query) -> Sequence[RunRow]:
        """The rows that match."""
        return await patiently(lambda: self.store.find(query))

    def unfinished(self, plan: Plan) -> AsyncGenerator[Found, None]:
        """Runs of a graph to go on with."""
        return unfinished(self.store, plan.name, plan.version)

    async def admit_fork(self, run: Run, origin: Found, fingerprint: str, forked: Record) -> None:
        """Returns when a run that was forked is safe: what it was submitted on, where, and where it stands."""
        row = attrs.evolve(
            origin.row,
            run_id=run.id,
            fingerprint=fingerprint,
            submitted_at=run.tree.now,
            key=None,
            deadline=None,
            status="running",
            ended_at=None,
        )
        admission, stands = origin.run.admission, pack_snapshot(run.snapshot())
        blobs = {digest: origin.blobs[digest] for digest in digests_in(admission)}
        blobs |= file_marks(admission, *blobs.values())
        forked.signal = origin.row.run_id, origin.seq
        first = pack_record(forked)
        await self.journal.write(
            Admit(row, admission, blobs),
            Append(run.id, FORKED, first.data, first.blobs, first.refs),
            PutSnapshot(run.id, FORKED, stands.data, stands.blobs, stands.refs),
            admits=run.id,
        )

    async def all_records(self, run_id: str, last: int) -> list[Record]:
        """The records of a run up to a number, those that it began with among them if it is a fork.

        Raises `RecordsGone` if one of them is not there.
        """
        forks: list[tuple[Record, list[Record]]] = []
        wanted = run_id
        while True:
            numbered = await self.records_until(wanted, last)
            records = [record for _, record in numbered]
            if len(records) != last:
                kept_from = numbered[0][0] if numbered else last + 1
                raise RecordsGone(run_id, _what_is_missing(run_id, wanted, kept_from, last), kept_from)
            if not records or records[0].kind != "forked":
                break
            forks.append((records[0], records[1:]))
            wanted, last = records[0].signal
        for forked, own in reversed(forks):
            records = [*what_was_kept(records, forked), *own]
        return records

    async def records_until(self, run_id: str, last: int | None) -> list[tuple[int, Record]]:
        """The records that are kept of a run, up to a number, with theirs."""
        found: list[tuple[int, Record]] = []
        after = 0
        while (last is None or after < last) and (page := await self.some_records(run_id, after)):
            found += page if last is None else [numbered for numbered in page if numbered[0] <= last]
            after = page[-1][0]
        return found

    async def some_records(self, run_id: str, after: int) -> list[tuple[int, Record]]:
        """The first of the records that are kept after a number, with theirs."""
        page = await patiently(lambda: self.store.records(run_id, after=after))
        blobs = await patiently(lambda: blobs_of(self.store, (data for _, data in page)))
        return [(seq, unpack_record(data, blobs)) for seq, data in page]

    async def rebase(self, row: RunRow, version: str, fingerprint: str) -> None:
        """The run goes on under another definition."""
        await self.journal.write(Rebase(row.run_id, version, fingerprint))

    async def post(self, run_id: str, name: str, payload: Any, id: str) -> None:
        """Keep a signal for a run that is not in memory."""
        await self.journal.write(Post(run_id, *signal(name, payload, id)))

    async def audits(
        self, run_id: str | None, after: int, limit: int, newest_first: bool
    ) -> list[tuple[int, AuditLine]]:
        """Lines of the audit log, those that were added until now included."""
        await self.journal.flush(gives_up=True)
        read = partial(self.store.audits, run_id=run_id, after=after, limit=limit, newest_first=newest_first)
        return audit_lines(await patiently(read))

    async def compact(self, keep: Kept) -> Compacted:
        """Remove what need not be kept."""
        await self.journal.flush(gives_up=True)
        return await patiently(lambda: self.store.compact(keep, now=time()))

    async def named_files(self, digests: Sequence[str]) -> set[str]:
        """Those of these digests whose contents something in the store names."""
        await self.journal.flush(gives_up=True)
        return await named_files(self.store, digests)

    async def has(self, run_id: str) -> bool:
        """Whether the store has this run."""
        return await patiently(lambda: self.store.read(run_id)) is not None

    async def keep_only(self, keep: Kept, collect: Callable[[], Awaitable[int]]) -> None:
        """Remove what need not be kept, at once and from time to time, and the files that nothing names any more."""
        collected = -inf
        while not self.journal.closed:
            began = anyio.current_time()
            try:
                removed = await self.compact(keep)
                if began - collected >= COLLECT_SECONDS:
                    collected = began
                    await collect()
            except Exception as error:
                known = error if not isinstance(error, EngineError) else None
                logger.warning("nothing is removed from the store at present: %s", error, exc_info=known)
            else:
                if removed.runs:
                    logger.info("%d ended runs were removed from the store", removed.runs)
            await anyio.sleep(max(KEEP_SECONDS, KEEP_FACTOR * (anyio.current_time() - began)))

    # -- work beside the engine's

    def run_beside(self, work: Callable[[], Awaitable[None]]) -> None:
        """Do this in the background, as long as the engine is there."""
        self._work.append(work)
        if self._group is not None:
            self._group.start_soon(self._do, work)

    def tell_what_is_waited_for(self) -> None:
        """The engine is being left: say so from now on whenever the store keeps it."""
        self.run_beside(self.journal.tell_what_is_waited_for)

    async def serve(self) -> None:
        """Write, and do the work beside, for as long as it is not cancelled."""
        async with anyio.create_task_group() as group:
            self._group = group
            for work in self._work:
                group.start_soon(self._do, work)
            try:
                await self.journal.serve()
            finally:
                self._group = None

    async def _do(self, work: Callable[[], Awaitable[None]]) -> None:
        await work()
        self._work.remove(work)


def _what_is_missing(run_id: str, wanted: str, kept_from: int, last: int) -> str:
    where = "" if wanted == run_id else f"run {wanted!r}, of which it is a fork, "
    if kept_from > last:
        return f"{where}has none of its first {last}, or is gone itself"
    return f"{where}lacks those before number {kept_from}"


async def named_files(store: Store, digests: Sequence[str]) -> set[str]:
    """Those of these digests whose contents something in a store names."""
    marks = {file_mark(digest): digest for digest in digests}
    there = await patiently(lambda: store.blobs(list(marks)))
    return {marks[mark] for mark in there}


async def patiently(call: Callable[[], Awaitable[T]]) -> T:
    """Read, and read again for a moment if the store cannot be reached: a connection is made anew meanwhile.

    What has been patient itself, as claiming a store is, is not asked again: it would be told so half a minute late.
    """
    delay, began = FIRST_DELAY, anyio.current_time()
    while True:
        try:
            return await call()
        except StoreUnavailable:
            if delay > PATIENCE or anyio.current_time() - began > 2 * PATIENCE:
                raise
        await anyio.sleep(delay)
        delay *= 2
