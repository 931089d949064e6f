"""One engine among those that share a store: keeps its lease, claims runs, hears what is asked of them, follows others.

What is decided is in sharing.py. Nothing here may fail for good while the store is away: everything is tried again, and
what was missed is looked for, every `Sharing(poll=...)` at least.
"""

from __future__ import annotations

import logging
import os
import socket
from collections.abc import Awaitable, Callable, Iterable, Sequence
from functools import partial
from time import time
from typing import TYPE_CHECKING, Any, Final, cast

import anyio
from anyio.lowlevel import checkpoint

from .away import AwayKeptRun, AwayRun, Others
from .bell import Bell
from .books import Books
from .durable import Durable, patiently
from .errors import (
    EngineBusy,
    EngineClosed,
    EngineError,
    GraphNotFound,
    LeaseLost,
    RunEnded,
    RunNotFound,
    StoreUnavailable,
    VersionMismatch,
)
from .following import Follower
from .handing import hand_over
from .handle import Run
from .keeper import keeper_of
from .keeping import RunJournal
from .kept import KeptRun
from .logs import about
from .orders import is_cancel, order
from .ports import Member, SharedStore
from .recovery import Found, found
from .registry import Registered, Registry
from .sharing import Lease, Sharing, begins_at_once, places_for
from .stored import Kind, RunRow, SetStatus, StoredRun, Whereabouts

if TYPE_CHECKING:
    from .app import Engine
    from .returning import Returning

logger = logging.getLogger("engine")

# How long it listens at a time.
LISTEN_SECONDS: Final = 60.0
# How long an engine that is left may take to tell the others; if it cannot, they know when its lease is over.
LEAVE_SECONDS: Final = 5.0
# How often it is asked whether the store has a run that is being accepted.
ACCEPTED_SECONDS: Final = 0.005
NAMED_RUNS: Final = 5
# How often in a row something may fail before it is told: a connection is lost now and then, and made anew.
PATIENCE: Final = 3


class Fleet(Others):
    """This engine's place among the others."""

    def __init__(
        self,
        engine: Engine,
        sharing: Sharing,
        durable: Durable,
        registry: Registry,
        books: Books,
        *,
        max_runs: int | None,
        claims: bool,
        learn: Callable[[], Awaitable[None]],
        wake: Callable[[], None],
    ) -> None:
        self.name: Final = f"{socket.gethostname()}:{os.getpid()}"
        self.returning: Returning
        """Set before it serves."""
        self.leases_lost = 0
        self.taken_over = 0
        """Runs of other engines that it has made free for anybody."""
        self._engine = engine
        self._sharing = sharing
        self._durable = durable
        self._registry = registry
        self._books = books
        self._max_runs = max_runs
        self._max_queued = books.most_queued
        self._claims = claims
        self._learn = learn
        self._wake = wake
        self._member: Member | None = None
        self._lease: Lease | None = None
        self._lost: LeaseLost | None = None
        self._left = False
        self._coming: dict[str, None] = {}
        """Runs that are its own and on their way into memory."""
        self._leaving: dict[str, None] = {}
        """Runs that are its own and are to be anybody's."""
        self._parked: dict[str, None] = {}
        """Runs that are its own, and that it cannot drive after all."""
        self._telling: dict[str, None] = {}
        self._wanted: dict[str, None] = {}
        """Runs that a node here waits for: they begin whatever the places."""
        self._reserved = 0
        self._others_wait = True
        """Whether runs may be waiting that this engine could drive."""
        self._unsure = False
        """Whether something may be its own that it does not know of."""
        self._follower = Follower(durable, sharing, lambda: self.member, self._tried)
        self._strangers: dict[Kind, None] = {}
        """What it has said that it cannot run."""
        self._failures: dict[str, int] = {}
        """In a row, of what does not work at present."""
        self._handled: dict[str, None] = {}
        """What has been done of inboxes, until it is seen that it is out of them."""
        self._bells = {name: Bell() for name in ("lease", "claims", "inbox", "graphs")}

    # -- its life

    async def join(self, store: Any) -> None:
        """Share the store; raises `StoreUnavailable` if another engine has it for itself."""
        shared = cast(SharedStore, store)
        asked = anyio.current_time()
        self._member = await shared.share(self.name, self._sharing.lease)
        self._lease = await self._begun(asked)

    async def _begun(self, asked: float) -> Lease:
        """The lease that has just been given. It counts from when it was asked for, unless that is long ago."""
        if anyio.current_time() - asked > self._sharing.renew:
            asked = anyio.current_time()
            await self.member.renew()
        return Lease(self._sharing, asked)

    def begin(self, returning: Returning) -> None:
        """From here on runs may come."""
        self.returning = returning
        self._durable.journal.lost = self.lose
        self._durable.run_beside(self.serve)

    @property
    def member(self) -> Member:
        """Once it has joined."""
        assert self._member is not None
        return self._member

    async def serve(self) -> None:
        """Do all of that, until it is cancelled."""
        async with anyio.create_task_group() as group:
            for work in (
                self._keep_the_lease,
                self._end_the_lease,
                self._take_over,
                self._claim,
                self._listen,
                self._hear_orders,
                self._follower.serve,
                self._learn_graphs,
            ):
                group.start_soon(work)

    async def leave(self) -> None:
        """Give what is its own to the others."""
        self._left = True
        for run in self._follower.runs:
            run.let_go()
        if self._member is None or self._lease is None:
            return
        self._lease = None
        with anyio.move_on_after(LEAVE_SECONDS, shield=True):
            try:
                await self._member.leave()
            except (StoreUnavailable, LeaseLost) as error:
                logger.warning("the other engines take over when the lease of %s is over: %s", self.name, error)

    def check(self) -> None:
        """Raise `LeaseLost` while it has no lease: nothing can be accepted then."""
        if self._lost is not None:
            raise LeaseLost(self._lost.engine, self._lost.found)

    @property
    def trouble(self) -> LeaseLost | None:
        """Why it does nothing at present."""
        return self._lost

    @property
    def is_through(self) -> bool:
        """Whether nothing is on its way in or out of memory."""
        return not self._coming and not self._leaving and not self._reserved

    # -- its lease

    async def _keep_the_lease(self) -> None:
        while not self._left:
            lease, now = self._lease, anyio.current_time()
            wait = self._sharing.poll
            if lease is None:
                if not await self._tried(self._rejoin, "cannot come back to the other engines", patience=1):
                    wait = min(wait, self._sharing.renew / 10)
            elif now < lease.due:
                wait = lease.due - now
            elif await self._tried(partial(self._renew, lease), "cannot renew its lease"):
                wait = 0.0
            else:
                wait = lease.wait_after_failure(anyio.current_time())
            await self._bells["lease"].wait(wait)

    async def _renew(self, lease: Lease) -> None:
        asked = anyio.current_time()
        try:
            await self.member.renew()
        except LeaseLost as error:
            self.lose(error)
            return
        if self._lease is lease:
            lease.renewed(asked)

    async def _rejoin(self) -> None:
        if self._left:
            return
        asked = anyio.current_time()
        await self.member.join()
        lease = await self._begun(asked)
        if self._left:
            return
        self._lease, self._lost = lease, None
        self._others_wait = True
        self._durable.journal.go_on()
        logger.warning("engine %s is back among the others, with a new lease", self.name)
        self._ring("claims", "inbox")

    async def _end_the_lease(self) -> None:
        """By our own clock, while the server cannot be asked."""
        while not self._left:
            lease, now = self._lease, anyio.current_time()
            if lease is not None and lease.is_over(now):
                self.lose(LeaseLost(self.name, f"it could not renew it for {self._sharing.lease:g} s"))
            await anyio.sleep(self._sharing.poll if lease is None else min(max(lease.until - now, 0.0), 60.0))

    def lose(self, error: LeaseLost) -> None:
        """The lease is over: others may have its runs by now. Stop all of them, write nothing more, tell who waits."""
        if self._lease is None:
            return
        self._lease, self._lost = None, error
        self.leases_lost += 1
        books = self._books
        runs = list(books.active.values())
        logger.error(
            "engine %s has lost its lease, since %s: %d runs stop here and go on elsewhere: %s",
            *(self.name, error.found, len(runs), _named(run.id for run in runs)),
            extra=about(runs=[run.id for run in runs]),
        )
        self._durable.journal.cut(error)
        for run in runs:
            if isinstance(keeper := keeper_of(run.machine), RunJournal):
                keeper.drop()
            run.let_go(error)
        books.abandon_all()
        for those in (self._coming, self._leaving, self._parked, self._handled):
            those.clear()
        self._unsure = False
        self._wake()
        self._ring("lease")

    # -- other engines

    async def _take_over(self) -> None:
        while True:
            if self._lease is not None:
                await self._tried(self._take_over_once, "cannot look after the leases of other engines")
            await anyio.sleep(self._sharing.poll)

    async def _take_over_once(self) -> None:
        for gone in await self.member.take_over():
            self.taken_over += gone.runs
            logger.warning("engine %s is gone: its %d runs go on elsewhere", gone.name, gone.runs)
            self._ring("claims")

    async def _listen(self) -> None:
        missed = {"graphs"}  # what may have been said before it listened; runs that wait are looked for anyhow
        while True:
            words: set[str] = set()

            async def listen() -> None:
                words.update(await self.member.heard(0.0 if missed else LISTEN_SECONDS))  # noqa: B023  # called at once

            if not await self._tried(listen, "does not hear the other engines at present, but looks"):
                missed = {"queued", "inbox", "graphs"}
                await anyio.sleep(self._sharing.poll)
            else:
                words |= missed
                missed = set()
            if "queued" in words:
                self._others_wait = True
                self._ring("claims")
            self._ring(*(words & {"inbox", "graphs"}))

    async def _learn_graphs(self) -> None:
        look_at = anyio.current_time() + self._sharing.lease
        while True:
            # All of them are read: so it is done when somebody says that there are more, and rarely else.
            if await self._bells["graphs"].wait(max(0.0, look_at - anyio.current_time())):
                await self._tried(self._learn, "cannot read the graphs that others have defined")
            if anyio.current_time() >= look_at and self._claims:
                look_at = anyio.current_time() + self._sharing.lease
                await self._tried(self._tell_of_strangers, "cannot see which runs wait")

    async def _tell_of_strangers(self) -> None:
        """Say once which runs have waited for long and cannot run here: perhaps nobody can run them."""
        for kind, runs in (await self.member.strangers(self._kinds(), self._sharing.lease)).items():
            if kind not in self._strangers:
                self._strangers[kind] = None
                self._ring("graphs")  # perhaps it is defined, and nobody has heard it
                name, version, fingerprint = kind
                logger.warning(
                    "%d runs of %r version %r wait for an engine that knows it as %s…: this one does not",
                    *(runs, name, version, fingerprint[:12]),
                    extra=about(graph=name),
                )

    # -- new runs

    async def check_room(self, depth: int) -> None:
        """Raise `EngineBusy` if as many runs wait as may: in the store, for whatever engine has a place first."""
        self.check()
        if self._max_runs is None or depth or not (self.is_full or self._others_wait):
            return
        waiting = await patiently(lambda: self.member.queued(self._max_queued + 1))
        if waiting + len(self._leaving) >= self._max_queued and self.is_full:
            self._books.refused += 1
            raise EngineBusy(f"{self._books.running} runs are running here, {waiting} wait for an engine: all are full")

    def begins_here(self, graph: str, depth: int) -> bool:
        """Whether a run that has just been submitted begins here at once."""
        return begins_at_once(
            is_full=self.is_full,
            others_wait=self._others_wait,
            inside=bool(depth) or not self._claims,
            is_limited=graph in self._sharing.graph_runs,
        )

    def queue(self, registered: Registered, row: RunRow) -> Run:
        """A run of its own is to wait for whatever engine has a place first; the handle of it."""
        self._leaving[row.run_id] = None
        self._ring("claims")
        stored = Found(row, StoredRun(row, b"", None, ()), {})
        where = Whereabouts(run_id=row.run_id, status="running", owner=None, seq=0)
        away = AwayRun(self._engine, registered, self, stored, where)
        self._follower.add(away)
        return away

    @property
    def is_full(self) -> bool:
        """Whether there is no place for one more."""
        return self._max_runs is not None and self._taken >= self._max_runs

    @property
    def _taken(self) -> int:
        books = self._books
        return books.running + len(books.queued) + self._reserved

    def place_free(self) -> None:
        """A run has ended, or a graph has come."""
        if self._others_wait:
            self._ring("claims")

    def graph_has_come(self) -> None:
        """There may be runs that it can drive now."""
        self._others_wait = True
        self._ring("claims")

    def graph_is_defined(self) -> None:
        """Others should know it, too."""
        self._telling["graphs"] = None
        self._ring("claims")

    def want(self, run: Run) -> None:
        """A node of a run here waits for it: it must not wait for the very place that that run holds."""
        if isinstance(run, AwayRun) and run.where.owner is None and not run.over:
            self._wanted[run.id] = None
            self._ring("claims")

    # -- claims

    async def _claim(self) -> None:
        while True:
            if self._lease is not None:
                await self._tried(self._tell, "cannot tell the other engines")
                await self._tried(self._give_back, "cannot give runs to the other engines")
                if self._unsure:
                    await self._tried(self._find_lost, "cannot see which runs are its own")
                if self._claims and not self._engine.is_draining:
                    if not await self._tried(self._claim_what_there_is, "cannot claim runs"):
                        self._unsure = True
                    await self._tried(self._claim_the_wanted, "cannot claim runs that nodes wait for")
                self._wake()
            await self._bells["claims"].wait(self._sharing.poll)

    async def _tell(self) -> None:
        for word in list(self._telling):
            await self.member.tell(word)
            self._telling.pop(word, None)

    async def _give_back(self) -> None:
        leaving = list(self._leaving)
        if leaving:
            await self.member.give_back(leaving)
            for run_id in leaving:
                self._leaving.pop(run_id, None)
            self._others_wait = True

    async def _find_lost(self) -> None:
        """Give back what became its own by an act whose answer was lost."""
        known = {*self._books.active, *self._books.admitting, *self._coming, *self._leaving, *self._parked}
        owned = await self.member.owned()
        known |= {*self._books.active, *self._books.admitting, *self._coming, *self._leaving, *self._parked}
        if lost := [run_id for run_id in owned if run_id not in known]:
            await self.member.give_back(lost)
        self._unsure = False

    async def _claim_what_there_is(self) -> None:
        while True:
            places = places_for(max_runs=self._max_runs, taken=self._taken, at_once=self._sharing.claim)
            if not places or self._engine.is_draining or self._lease is None:
                return
            kinds, lease = self._kinds(), self._lease
            self._others_wait = False  # unless somebody says so meanwhile
            self._reserved += places
            try:
                claimed = await self.member.claim(kinds, places, self._sharing.graph_runs)
                if self._lease is not lease:
                    return  # they are for anybody again
                self._coming.update((run.row.run_id, None) for run in claimed)
            except BaseException:
                self._others_wait = True
                raise
            finally:
                self._reserved -= places
            if len(claimed) == places:
                self._others_wait = True
            await self._bring(claimed)
            if len(claimed) < places:
                return

    async def _claim_the_wanted(self) -> None:
        for run_id in list(self._wanted):
            await self._take_waiting(run_id)
            self._wanted.pop(run_id, None)

    async def _take_waiting(self, run_id: str) -> list[Run]:
        """Own a run if it still waits for an engine, and have it in memory."""
        where = await self._own(run_id)
        if where is None or where.owner is not None or where.status != "running":
            if where is not None and not where.owner:
                self.release(run_id)  # it has ended meanwhile
            return []
        try:
            return await self._bring(await self._read([run_id]))
        except BaseException:
            self._unsure = True
            raise
        finally:
            self._coming.pop(run_id, None)

    async def _own(self, run_id: str) -> Whereabouts | None:
        """Own it, if nobody else does, and have it on its way; where it was before."""
        self.check()
        lease, was_coming = self._lease, run_id in self._coming
        self._coming[run_id] = None  # before it is: or it might be taken for one that has been lost, and given back
        owned = False
        try:
            where = await self.member.take(run_id)
            self.check()
            if self._lease is not lease:
                raise LeaseLost(self.name, "it was away while a run became its own")
            owned = where is not None and not where.owner
            return where
        except BaseException:
            self._unsure = True  # the answer is lost: it may be its own
            self._ring("claims")
            raise
        finally:
            if not owned and not was_coming:
                self._coming.pop(run_id, None)

    def _kinds(self) -> list[Kind]:
        """What it can run."""
        return [
            (known.plan.name, known.plan.version, self._durable.fingerprint(known.plan))
            for known in self._registry.all()
        ]

    async def _read(self, run_ids: Sequence[str]) -> list[StoredRun]:
        read = [await self._durable.store.read(run_id) for run_id in run_ids]
        return [run for run in read if run is not None]

    async def _bring(self, claimed: Sequence[StoredRun]) -> list[Run]:
        """Have these in memory, and let them go on."""
        runs: list[Run] = []
        lease = self._lease
        try:
            for stored in await patiently(lambda: found(self._durable.store, claimed)) if claimed else ():
                if lease is None or self._lease is not lease:
                    break  # somebody else's by now
                if (run := await self._bring_one(stored, lease)) is not None:
                    runs.append(run)
                self._coming.pop(stored.row.run_id, None)
                await checkpoint()
        except BaseException:
            self._unsure = True
            raise
        finally:
            if self._lease is lease:
                for stored_run in claimed:
                    self._coming.pop(stored_run.row.run_id, None)
        return runs

    async def _bring_one(self, stored: Found, lease: Lease) -> Run | None:
        run_id = stored.row.run_id
        self._books.drop(run_id)
        try:
            run = await self.returning.bring(stored, partial(self._check_lease, lease))
        except LeaseLost:
            return None
        except Exception as error:
            self._unsure = True
            known = error if not isinstance(error, EngineError) else None
            logger.error("run %s cannot go on here: %s", run_id, error, exc_info=known, extra=about(run_id))
            return None
        if isinstance(run, KeptRun):
            self._parked[run_id] = None
        return run

    def _check_lease(self, lease: Lease) -> None:
        if self._lease is not lease:
            raise LeaseLost(self.name, "it was away for too long")

    # -- what is asked of runs

    async def ask(self, run_id: str, id: str, data: bytes) -> None:
        """Have its owner do something; see `Others`."""
        if await self._here(run_id, id, data):
            return
        self.check()
        where = await self.member.post(run_id, id, data)
        if where is None:
            raise RunNotFound(run_id)
        if where.status != "running":
            raise RunEnded(run_id, where.status)
        if where.owner == self.member.id:
            self._ring("inbox")

    async def cancel(self, run_id: str, reason: str | None) -> None:
        """Have it end; see `Others`."""
        id, data = order("cancel", reason)
        if await self._here(run_id, id, data):
            return
        self.check()
        where = await self.member.post(run_id, id, data)
        if where is None:
            raise RunNotFound(run_id)
        if where.status == "running" and where.owner is None:
            # Nobody drives it, and nobody may for long; whoever takes it before us finds the order.
            for run in await self._take_waiting(run_id):
                if isinstance(run, KeptRun):
                    await self._cancel_parked(run_id)
        elif where.owner == self.member.id:
            self._ring("inbox")

    async def _here(self, run_id: str, id: str, data: bytes) -> bool:
        """Do it at once, if the run is in memory here."""
        run = self._books.active.get(run_id)
        if run is None or isinstance(run, KeptRun):
            return False
        hand_over(run, [(id, data)])
        keeper = keeper_of(run.machine)
        if keeper is not None and not run.over:
            await keeper.safe()
        return True

    async def _cancel_parked(self, run_id: str) -> None:
        await self._durable.journal.write(SetStatus(run_id, "cancelled", time()))
        self._parked.pop(run_id, None)

    async def _hear_orders(self) -> None:
        while True:
            await self._bells["inbox"].wait(self._sharing.poll)
            if self._lease is not None:
                await self._tried(self._do_what_is_asked, "cannot see what is asked of its runs")

    async def _do_what_is_asked(self) -> None:
        lease, done = self._lease, set(self._handled)
        asked = await self.member.inbox()
        if self._lease is not lease:
            return
        for id in done - {id for inbox in asked.values() for id, _ in inbox}:
            self._handled.pop(id, None)
        for run_id, inbox in asked.items():
            run = self._books.active.get(run_id)
            if run is not None and not run.ending:
                new = [(id, data) for id, data in inbox if id not in self._handled]
                self.handled([id for id, _ in new])
                hand_over(run, new)
            elif run_id in self._parked and any(is_cancel(id) for id, _ in inbox):
                await self._cancel_parked(run_id)

    def handled(self, ids: Iterable[str]) -> None:
        """These have been done; they are out of the inbox once that is safe."""
        self._handled.update(dict.fromkeys(ids))

    # -- looking

    async def get(self, run_id: str) -> Run | None:
        """The run as it is now, wherever it is."""
        await self._accepted(run_id)
        run = self._books.active.get(run_id)
        if run is not None:
            await self.returning.recall(run)
            return run
        places = await patiently(lambda: self.member.whereabouts([run_id]))
        return await self._look_at(places[run_id]) if run_id in places else None

    async def fresh(self, run_id: str) -> Run:
        """The run as it is now; see `Others`."""
        run = await self.get(run_id)
        if run is None:
            raise RunNotFound(run_id)
        return run

    async def of_rows(self, rows: Sequence[RunRow]) -> list[Run]:
        """The runs of these rows."""
        places = await patiently(lambda: self.member.whereabouts([row.run_id for row in rows]))
        runs = [
            self._books.active.get(row.run_id) or await self._look_at(places[row.run_id])
            for row in rows
            if row.run_id in places
        ]
        return [run for run in runs if run is not None]

    async def _accepted(self, run_id: str) -> None:
        """Wait while it is on its way into the store: nobody knows before whether it begins here."""
        while run_id in self._books.admitting:  # noqa: ASYNC110  # as long as a commit, and seldom
            await anyio.sleep(ACCEPTED_SECONDS)

    async def _look_at(self, where: Whereabouts) -> Run | None:
        run_id = where.run_id
        await self._accepted(run_id)
        known = self._books.get(run_id)
        if known is not None:
            keeper = keeper_of(known.machine)
            is_here = run_id in self._books.active
            if is_here or (where.status != "running" and isinstance(keeper, RunJournal) and keeper.seq == where.seq):
                return known
            self._books.drop(run_id)  # it has gone on elsewhere since
        stored = await self._durable.load(run_id)
        if stored is None:
            return None
        row = stored.row
        if row.status != "running":
            run = await self.returning.bring(stored)
            await self.returning.recall(run)
            return run
        registered = await self._registered(row)
        if isinstance(registered, Exception):
            return AwayKeptRun(self._durable, row, registered, self, where)
        away = AwayRun(self._engine, registered, self, stored, where)
        self._follower.add(away)
        return away

    async def _registered(self, row: RunRow) -> Registered | Exception:
        known = self._registry.get(row.graph, row.version)
        if known is None:
            await self._learn()
            known = self._registry.get(row.graph, row.version)
        if known is None:
            names = [f"{one.plan.name} {one.plan.version}" for one in self._registry.all()]
            return GraphNotFound(row.graph, names, row.version)
        fingerprint = self._durable.fingerprint(known.plan)
        if row.fingerprint != fingerprint:
            return VersionMismatch(row.graph, row.fingerprint, fingerprint, run_id=row.run_id)
        return known

    # -- a run that has ended and is to go on

    async def take_ended(self, run: Run) -> None:
        """Own a run that has failed, to try it again here. Raises `RunNotFound`, `RunEnded` if it is not as it was."""
        where = await self._own(run.id)
        if where is None:
            raise RunNotFound(run.id, "it has been removed from the store since it ended; submit another")
        keeper = keeper_of(run.machine)
        if where.owner or where.status != "failed" or not isinstance(keeper, RunJournal) or keeper.seq != where.seq:
            if not where.owner:
                self.release(run.id)
            raise RunEnded(run.id, where.status, "it has gone on since, in another engine; engine.get(run_id) gives it")

    def taken(self, run_id: str) -> None:
        """It goes on."""
        self._coming.pop(run_id, None)

    def release(self, run_id: str) -> None:
        """It does not go on here after all."""
        self._coming.pop(run_id, None)
        self._leaving[run_id] = None
        self._ring("claims")

    async def take_parked(self, run_id: str) -> None:
        """Own a run that nobody drives, to change it. Raises `RunNotFound`, or `EngineError` if somebody does."""
        where = await self._own(run_id)
        if where is None:
            raise RunNotFound(run_id)
        if where.owner and where.owner != self.member.id:
            raise EngineError(f"run {run_id!r} is driven by another engine: it need not be changed to go on")
        self._coming[run_id] = None  # if it was its own before, too

    # -- following runs of others

    def attend(self, run: AwayRun) -> None:
        """Somebody waits for news of it; see `Others`."""
        if self._left:
            raise EngineClosed()
        self._follower.attend(run)

    # -- inside

    def _ring(self, *names: str) -> None:
        for name in names:
            self._bells[name].ring()

    async def _tried(self, act: Callable[[], Awaitable[None]], failed: str, *, patience: int = PATIENCE) -> bool:
        """Whether it could be done. What fails is told once, when it has failed more often than it may."""
        lease = self._lease
        try:
            await act()
        except LeaseLost as error:
            if lease is not None and self._lease is lease and not self._left:
                self.lose(error)
            return False
        except EngineClosed:
            return False
        except Exception as error:
            self._failures[failed] = failures = self._failures.get(failed, 0) + 1
            known = error if not isinstance(error, EngineError) else None
            if failures == (patience if known is None else 1):
                logger.warning("engine %s %s: %s", self.name, failed, error, exc_info=known)
            if known is not None:
                await anyio.sleep(self._sharing.poll)
            return False
        self._failures.pop(failed, None)
        return True


def _named(ids: Iterable[str]) -> str:
    given = list(ids)
    more = f" and {len(given) - NAMED_RUNS} more" if len(given) > NAMED_RUNS else ""
    return (", ".join(given[:NAMED_RUNS]) or "none") + more
