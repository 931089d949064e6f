"""Runs that come back from the store: those that go on at a start, and those that somebody asks for."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import aclosing
from functools import partial
from time import time
from typing import Any, Final, Protocol

import anyio
from anyio.lowlevel import checkpoint, checkpoint_if_cancelled

from actors import SupervisorRef

from .books import Books
from .durable import Durable
from .errors import EngineClosed, EngineError, GraphNotFound, LeaseLost, RunNotFound, VersionMismatch
from .forking import what_a_fork_needs
from .handing import hand_over
from .handle import Run
from .identity import definition_text
from .ids import new_id
from .keeping import RunJournal
from .kept import KeptRun, Unrecoverable
from .logs import about
from .migration import differences
from .past import log_rows
from .plan import Plan
from .recovery import FORKED, Found
from .registry import Registered, Registry
from .runs import Run as Machine
from .runs import Status
from .stored import Losses, Query, RunRow, StoredStatus
from .timers import Timers
from .tokens import Record

logger = logging.getLogger("engine")

_ENDED: Final = ("succeeded", "failed", "cancelled")


class MakeRun(Protocol):
    """Makes a run that nothing has happened to."""

    def __call__(
        self,
        registered: Registered,
        run_id: str,
        journal: RunJournal | None,
        depth: int,
        tags: Mapping[str, str],
        priority: int,
        submitted_at: float | None = None,
    ) -> Run: ...


class Shared(Protocol):
    """The other engines, of a store that several share."""

    @property
    def is_through(self) -> bool:
        """Whether nothing is on its way in or out of memory."""
        ...

    @property
    def trouble(self) -> LeaseLost | None:
        """Why nothing goes on here at present."""
        ...

    def graph_has_come(self) -> None:
        """There may be runs that can be driven now."""
        ...

    def handled(self, ids: Iterable[str]) -> None:
        """These have been handed over."""
        ...

    async def get(self, run_id: str) -> Run | None:
        """The run, wherever it is."""
        ...

    async def of_rows(self, rows: Sequence[RunRow]) -> list[Run]:
        """The runs of these rows."""
        ...

    async def take_parked(self, run_id: str) -> None:
        """Own a run that nobody drives, to change it."""
        ...

    def release(self, run_id: str) -> None:
        """Own it no more."""
        ...

    def taken(self, run_id: str) -> None:
        """It is in memory."""
        ...


class Returning:
    """Brings stored runs back into memory."""

    def __init__(
        self,
        durable: Durable,
        registry: Registry,
        books: Books,
        timers: Timers,
        root: SupervisorRef,
        make_run: MakeRun,
        wake: Any,
        shared: Shared | None = None,
    ) -> None:
        self._durable = durable
        self._registry = registry
        self._books = books
        self._timers = timers
        self._root = root
        self._make_run = make_run
        self._wake = wake
        self._shared = shared
        self._begun: set[Registered] = set()
        self._at_work = 0
        self._stuck: set[Registered] = set()
        """Those whose runs could not be read when it was tried last."""
        self._parked: dict[str, Exception] = {}
        self._changed: set[str] = set()
        """Parked runs that may not be as they were read."""
        self._unread: dict[str, int] = {}
        """Runs that went on from a snapshot, and its number, until somebody asks for what was before."""

    @property
    def is_through(self) -> bool:
        """Whether all unfinished runs of the known graphs are in memory, as far as the store gives them."""
        return self._at_work <= len(self._stuck) and (self._shared is None or self._shared.is_through)

    # -- those that go on

    def recover(self, registered: Registered) -> None:
        """Let the unfinished runs of a graph go on, in the background; once."""
        if self._shared is not None:
            self._shared.graph_has_come()
        elif registered not in self._begun:
            self._begun.add(registered)
            self._at_work += 1
            self._books.gather()
            self._durable.run_beside(partial(self._recover, registered))

    async def _recover(self, registered: Registered) -> None:
        await registered.start(self._root)
        delay = 0.05
        while True:
            try:
                async with aclosing(self._durable.unfinished(registered.plan)) as unfinished:
                    async for stored in unfinished:
                        await self._bring_back(stored)
                        await checkpoint()
                break
            except Exception as error:
                self._has_what_there_is(registered)
                self._stuck.add(registered)
                known = error if not isinstance(error, EngineError) else None
                logger.error(
                    "cannot read the runs of %r to go on with: %s", registered.plan.name, error, exc_info=known
                )
                self._wake()
            await anyio.sleep(delay)
            delay = min(2 * delay, 5.0)
        self._has_what_there_is(registered)
        self._at_work -= 1
        self._stuck.discard(registered)
        self._wake()

    def _has_what_there_is(self, registered: Registered) -> None:
        """Nobody waits longer for those of a graph that may still be read, once they are or cannot be."""
        if registered not in self._stuck:
            self._books.gathered()

    async def bring(self, stored: Found, check: Callable[[], None] | None = None, poison: Losses | None = None) -> Run:
        """The same of a run of a shared store; `check` raises if it may not go on here any more.

        If it is `poison`, it ends at once, without anything of it being let go on.
        """
        return await self._bring_back(stored, check, poison)

    def only_waits(self, stored: Found) -> bool:
        """Whether nothing of it would be at work here, for all that is known of its graph."""
        try:
            registered = self._registered(stored.row)
            if stored.row.fingerprint != self._durable.fingerprint(registered.plan):
                return True
            trial = Machine(registered.plan, stored.row.run_id)
            stored.rebuild(trial, time(), held=True)
        except Exception:
            return True  # it will be parked, which says why
        return trial.is_parked and not stored.waits_for_a_place

    async def _bring_back(
        self, stored: Found, check: Callable[[], None] | None = None, poison: Losses | None = None
    ) -> Run:
        """A stored run as it was; one that has not ended goes on if its graph is here, and is what it was."""
        there = self._books.get(stored.row.run_id)
        if there is not None:
            return there
        row = stored.row
        try:
            registered = self._registered(row)
        except GraphNotFound as error:
            return self._park(stored, error)
        await registered.start(self._root)
        fingerprint = self._durable.fingerprint(registered.plan)
        if row.fingerprint != fingerprint:
            return self._park(stored, VersionMismatch(row.graph, row.fingerprint, fingerprint, run_id=row.run_id))
        complete = await self._complete(stored)
        while row.run_id in self._changed:
            # Signalled or cancelled by one who did not know that it is about to go on.
            self._changed.discard(row.run_id)
            fresh = await self._durable.load(row.run_id)
            if fresh is not None:
                stored, complete = fresh, await self._complete(fresh)
        if self._durable.journal.closed:
            raise EngineClosed()
        if check is not None:
            check()
        # Nothing waits from here on, so nobody else brings it back meanwhile.
        return self._books.get(row.run_id) or self._resume(registered, stored, complete, poison)

    def _registered(self, row: RunRow) -> Registered:
        """What is known as its graph now."""
        registered = self._registry.get(row.graph, row.version)
        if registered is None:
            known = [f"{one.plan.name} {one.plan.version}" for one in self._registry.all()]
            raise GraphNotFound(row.graph, known, row.version)
        return registered

    async def _complete(self, stored: Found) -> list[Record]:
        """All records of a run that has ended, if its snapshot need not stand for some that are gone."""
        if stored.run.snapshot is None or stored.row.status not in _ENDED:
            return []
        earlier = await self._durable.records_until(stored.row.run_id, stored.run.snapshot[0])
        if not earlier or earlier[0][0] != 1 or earlier[0][1].kind == "forked":
            return []
        return [*(record for _, record in earlier), *stored.records()]

    def _park(self, stored: Found, why: Exception) -> Run:
        row = stored.row
        if row.status == "running" and row.run_id not in self._parked:
            self._parked[row.run_id] = why
            logger.warning(
                "run %s of %r does not go on: %s", row.run_id, row.graph, why, extra=about(row.run_id, row.graph)
            )
        return KeptRun(self._durable, row, why, live=self._books.get, changes=self._changed.add)

    def _resume(
        self, registered: Registered, stored: Found, complete: Sequence[Record], poison: Losses | None = None
    ) -> Run:
        row = stored.row
        journal = self._durable.journal_for(registered.plan, row.run_id, stored.seq)
        run = self._make_run(
            registered, row.run_id, journal, row.depth, row.tags, row.priority, submitted_at=row.submitted_at
        )
        run.key = row.key
        machine = run.machine
        held = row.status == "running" and self._books.has_to_wait and stored.waits_for_a_place
        # Before it begins it is told what was asked of it: to pause, or not to begin at all.
        told_first = self._shared is not None and bool(stored.run.inbox) and not held and stored.waits_for_a_place
        held = held or (row.status == "running" and told_first) or poison is not None
        begin: Callable[[], None]
        try:
            if held and stored.is_untouched and poison is None:
                machine.expect(stored.values)
                begin = partial(run.begin_queued, registered.plan.state.seed(stored.values))
            elif complete:
                commands = stored.rebuild_from_first(machine, complete, time())
                begin = partial(run.go_on_from, commands)
            else:
                commands = stored.rebuild(machine, time(), held=held)
                begin = run.go_live if held else partial(run.go_on_from, commands)
                if stored.run.snapshot is not None:
                    self._unread[row.run_id] = stored.run.snapshot[0]
        except Exception as error:
            logger.exception("run %s cannot be read back", row.run_id, extra=about(row.run_id, row.graph))
            return self._park(stored, Unrecoverable(row.run_id, error))
        if row.deadline is not None:
            left = row.submitted_at + row.deadline - time()
            run.set_deadline(row.deadline, anyio.current_time() + left, self._timers)
        run.told = machine.history.seq  # of what was before, subscribers were told before
        if not held and machine.over and not commands:
            run.forget_deadline()
            run.ended_before()
            self._books.keep(run)
            return run
        self._durable.recovered += 1
        if poison is not None:
            self._books.end(run)
            run.take_poison(poison)
            return run
        if held:
            # As it was: it can be signalled, paused and cancelled like any that is queued.
            self._books.enqueue(run, begin)
        else:
            self._books.begin(run)
            begin()
        self._hand_over(run, stored)
        if told_first:
            self._books.begin_now(run)
        return run

    def _hand_over(self, run: Run, stored: Found) -> None:
        """Give it the signals that came while it was nowhere, and what else was asked of it."""
        if self._shared is not None:
            self._shared.handled(id for id, _ in stored.run.inbox)
        hand_over(run, stored.run.inbox, stored.blobs)

    # -- those that somebody asks for

    async def get(self, run_id: str) -> Run | None:
        """The run of this id, if the store has it."""
        if self._shared is not None:
            return await self._shared.get(run_id)
        stored = await self._durable.load(run_id)
        if stored is None:
            return None
        run = await self._bring_back(stored)
        await self.recall(run)
        return run

    async def recall(self, run: Run) -> None:
        """Somebody has asked for it: read what is kept of its log from before its snapshot.

        Not before, since that takes longer than to let it go on.
        """
        last = self._unread.get(run.id)
        if last is None:
            return
        records = await self._durable.records_until(run.id, last)
        if self._unread.pop(run.id, None) is not None:
            run.machine.history.recall(list(log_rows(run.machine.plan, [record for _, record in records])))

    async def find(
        self,
        status: Status | None,
        graph: str | None,
        tags: Mapping[str, str],
        since: float | None,
        limit: int,
        after: str | None,
    ) -> list[Run]:
        """The runs that match, oldest first; what only memory knows of their status is asked of each."""
        await self._durable.journal.flush(gives_up=True)
        known: tuple[StoredStatus, ...] = ()
        if status is not None:
            known = (status,) if status in _ENDED else ("running",)
        found: list[Run] = []
        while len(found) < limit:
            query = Query(status=known, graph=graph, tags=tags, since=since, after=after, limit=limit)
            page = await self._durable.find(query)
            for run in await self._runs_of(page):
                if status in (None, run.status):
                    found.append(run)
            if len(page) < limit:
                break
            after = page[-1].run_id
        return found[:limit]

    async def _runs_of(self, rows: Sequence[RunRow]) -> list[Run]:
        if self._shared is not None:
            return await self._shared.of_rows(rows)
        runs = [self._books.get(row.run_id) or await self.get(row.run_id) for row in rows]
        return [run for run in runs if run is not None]

    async def fork(self, run_id: str, at: str, update: Mapping[str, Any] | None) -> Run:
        """A new run from one activation of an older one."""
        stored = await self._durable.load(run_id)
        if stored is None:
            raise RunNotFound(run_id)
        row = stored.row
        registered = self._registered(row)
        records = await self._durable.all_records(run_id, stored.seq)
        await self._check_same(row, registered.plan, what_a_fork_needs(records, at), None)
        await registered.start(self._root)
        await checkpoint_if_cancelled()  # from here on a cancellation means that the store has it
        self._books.check_room()
        forked_id = new_id()
        journal = self._durable.journal_for(registered.plan, forked_id, FORKED)
        run = self._make_run(registered, forked_id, journal, row.depth, row.tags, row.priority)
        state = registered.plan.state.seed(stored.values)
        forked = _forked(run.machine, run_id, state, records, at, update)
        self._books.admitting[forked_id] = run  # the store may have it a moment before it is told here
        try:
            fingerprint = self._durable.fingerprint(registered.plan)
            await self._durable.admit_fork(run.machine, stored, fingerprint, forked)
        except Exception:
            raise
        except BaseException:
            self._admitted(run)  # whoever asked for it is gone, but the store has it (see Journal.write)
            raise
        finally:
            del self._books.admitting[forked_id]
        self._admitted(run)
        return run

    async def _check_same(
        self, row: RunRow, plan: Plan, records: Iterable[Record], snapshot: Mapping[str, Any] | None
    ) -> None:
        """Raise `VersionMismatch` if some of what these mention means something else on this plan."""
        now = self._durable.fingerprint(plan)
        if row.fingerprint == now:
            return
        before = await self._durable.definition(row.fingerprint)
        if before is None:
            reasons = ["the store does not have the definition that it began on, so nobody can tell what has changed"]
        else:
            reasons = differences(before, definition_text(plan), records, snapshot)
        if reasons:
            raise VersionMismatch(row.graph, row.fingerprint, now, run_id=row.run_id, reasons=reasons)

    def _admitted(self, run: Run) -> None:
        """The store has it."""
        self._books.submitted += 1
        run.registered.counts.submitted += 1
        if self._durable.journal.closed:
            run.let_go()  # it goes on at the next start
        elif self._shared is not None and self._shared.trouble is not None:
            run.let_go(self._shared.trouble)  # it goes on elsewhere
        elif run.ending:
            self._books.end(run)
        else:
            self._books.place(run, run.go_live)

    async def migrate(self, run_id: str) -> Run:
        """Let a parked run go on, on what its graph is now, if its records mean the same there."""
        stored = await self._durable.load(run_id)
        if stored is None:
            raise RunNotFound(run_id)
        there = self._books.get(run_id)
        if there is not None:
            return there
        if self._shared is None:
            return await self._migrate(stored)
        await self._shared.take_parked(run_id)
        try:
            taken = await self._durable.load(run_id)  # as it was when it became our own
            if taken is None:
                raise RunNotFound(run_id)
            moved = await self._migrate(taken)
        except BaseException:
            self._shared.release(run_id)
            raise
        self._shared.taken(run_id)
        return moved

    async def _migrate(self, stored: Found) -> Run:
        row = stored.row
        run_id = row.run_id
        registered = self._registry.find(row.graph)
        fingerprint = self._durable.fingerprint(registered.plan)
        await self._check_same(row, registered.plan, stored.records(), stored.snapshot())
        trial = self._make_run(registered, run_id, None, row.depth, row.tags, row.priority)
        try:
            stored.rebuild(trial.machine, time())
        except Exception as error:
            reasons = [f"its records do not fit: {error}"]
            raise VersionMismatch(row.graph, row.fingerprint, fingerprint, run_id=run_id, reasons=reasons) from error
        await self._durable.rebase(row, registered.plan.version, fingerprint)
        self._parked.pop(run_id, None)
        moved = await self._durable.load(run_id)
        assert moved is not None
        return await self._bring_back(moved)


def _forked(
    machine: Machine, origin: str, state: Any, records: Sequence[Record], at: str, update: Mapping[str, Any] | None
) -> Record:
    """Make a new machine a fork of a run with these records; gives the record of that."""
    try:
        (forked,) = machine.fork(state, records, at, time(), update, of=origin, held=True)
    except EngineError:
        raise
    except Exception as error:
        raise Unrecoverable(origin, error) from error
    assert isinstance(forked, Record)
    return forked
