"""One engine among those that share a store: keeps its lease, claims runs, hears what is asked of them, follows others.

What is decided is in sharing.py. Nothing here may fail for good while the store is away: everything is tried again, and
what was missed is looked for, every `Sharing(poll=...)` at least. Each part of this is in a module of its own beside
this one; what they all go by is in standing.py.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterable, Sequence
from typing import TYPE_CHECKING, Any

import anyio

from ..away import AwayRun, Others
from ..books import Books
from ..durable import Durable
from ..errors import EngineClosed, LeaseLost
from ..following import Follower
from ..handle import Run
from ..ports import Member
from ..registry import Registered, Registry
from ..sharing import Sharing
from ..stored import RunRow
from .asking import Asking
from .belongings import Belongings
from .bringing import Bringer
from .claiming import Claims
from .lease_keeping import LeaseKeeper
from .looking import Looks
from .peers import Peers
from .standing import Standing

if TYPE_CHECKING:
    from ..app import Engine
    from ..returning import Returning


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
        self.standing = standing = Standing(sharing)
        self.belongings = belongings = Belongings(standing, durable, books)
        self.lease = LeaseKeeper(standing, durable, books, lost=self._lost, back=self._back)
        standing.lose = self.lose
        self._bringer = bringer = Bringer(standing, belongings, durable, books)
        self.claims = Claims(
            engine,
            standing,
            belongings,
            bringer,
            durable,
            registry,
            books,
            max_runs=max_runs,
            claims=claims,
            wake=wake,
        )
        self.peers = Peers(standing, self.claims, learn)
        self._asking = Asking(standing, belongings, bringer, durable, books)
        self._follower = Follower(durable, sharing, lambda: standing.member, standing.tried)
        self._looks = Looks(engine, self, standing, self._follower, durable, registry, books, learn=learn)
        self._durable = durable
        self._wake = wake

    # -- its life

    async def join(self, store: Any) -> None:
        """Share the store; raises `StoreUnavailable` if another engine has it for itself."""
        await self.lease.join(store)

    def begin(self, returning: Returning) -> None:
        """From here on runs may come."""
        self._bringer.returning = self._looks.returning = returning
        self._durable.journal.lost = self.lose
        self._durable.run_beside(self.serve)

    @property
    def name(self) -> str:
        """What its log calls it."""
        return self.standing.name

    @property
    def member(self) -> Member:
        """Once it has joined."""
        return self.standing.member

    async def serve(self) -> None:
        """Do all of that, until it is cancelled."""
        async with anyio.create_task_group() as group:
            for work in (
                self.lease.keep,
                self.lease.end_in_time,
                self.peers.take_over,
                self.claims.serve,
                self.peers.listen,
                self._asking.serve,
                self._follower.serve,
                self.peers.learn_graphs,
            ):
                group.start_soon(work)

    async def leave(self) -> None:
        """Give what is its own to the others."""
        self.standing.left = True
        for run in self._follower.runs:
            run.let_go()
        await self.lease.leave()

    def lose(self, error: LeaseLost) -> None:
        """The lease is over: others may have its runs by now. Stop all of them, write nothing more, tell who waits."""
        self.lease.lose(error)

    def _lost(self) -> None:
        self.belongings.lose_all()
        self._asking.lose_all()
        self._wake()

    def _back(self) -> None:
        self.claims.others_wait = True

    def check(self) -> None:
        """Raise `LeaseLost` while it has no lease: nothing can be accepted then."""
        self.standing.check()

    @property
    def trouble(self) -> LeaseLost | None:
        """Why it does nothing at present."""
        return self.standing.lost

    @property
    def is_through(self) -> bool:
        """Whether nothing is on its way in or out of memory."""
        return not self.belongings.coming and not self.belongings.leaving and not self.claims.reserved

    # -- new runs

    async def check_room(self, depth: int) -> None:
        """Raise `EngineBusy` if as many runs wait as may: in the store, for whatever engine has a place first."""
        await self.claims.check_room(depth)

    def begins_here(self, graph: str, depth: int) -> bool:
        """Whether a run that has just been submitted begins here at once."""
        return self.claims.begins_here(graph, depth)

    def queue(self, registered: Registered, row: RunRow) -> Run:
        """A run of its own is to wait for whatever engine has a place first; the handle of it."""
        self.belongings.release(row.run_id)
        return self._looks.waiting(registered, row)

    @property
    def is_full(self) -> bool:
        """Whether there is no place for one more."""
        return self.claims.is_full

    def place_free(self) -> None:
        """A run has ended, or a graph has come."""
        self.claims.place_free()

    def graph_has_come(self) -> None:
        """There may be runs that it can drive now."""
        self.claims.may_wait()

    def graph_is_defined(self) -> None:
        """Others should know it, too."""
        self.claims.tell("graphs")

    def want(self, run: Run) -> None:
        """A node of a run here waits for it: it must not wait for the very place that that run holds."""
        self.claims.want(run)

    # -- what is asked of runs

    async def ask(self, run_id: str, id: str, data: bytes) -> None:
        """Have its owner do something; see `Others`."""
        await self._asking.ask(run_id, id, data)

    async def cancel(self, run_id: str, reason: str | None) -> None:
        """Have it end; see `Others`."""
        await self._asking.cancel(run_id, reason)

    def handled(self, ids: Iterable[str]) -> None:
        """These have been done; they are out of the inbox once that is safe."""
        self._asking.handled(ids)

    # -- looking

    async def get(self, run_id: str) -> Run | None:
        """The run as it is now, wherever it is."""
        return await self._looks.get(run_id)

    async def fresh(self, run_id: str) -> Run:
        """The run as it is now; see `Others`."""
        return await self._looks.fresh(run_id)

    async def of_rows(self, rows: Sequence[RunRow]) -> list[Run]:
        """The runs of these rows."""
        return await self._looks.of_rows(rows)

    def attend(self, run: AwayRun) -> None:
        """Somebody waits for news of it; see `Others`."""
        if self.standing.left:
            raise EngineClosed()
        self._follower.attend(run)

    # -- a run that has ended and is to go on, or that nobody drives

    async def take_ended(self, run: Run) -> None:
        """Own a run that has failed, to try it again here. Raises `RunNotFound`, `RunEnded` if it is not as it was."""
        await self.belongings.take_ended(run)

    async def take_parked(self, run_id: str) -> None:
        """Own a run that nobody drives, to change it. Raises `RunNotFound`, or `EngineError` if somebody does."""
        await self.belongings.take_parked(run_id)

    def taken(self, run_id: str) -> None:
        """It goes on."""
        self.belongings.taken(run_id)

    def release(self, run_id: str) -> None:
        """It does not go on here after all."""
        self.belongings.release(run_id)
