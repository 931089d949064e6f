"""The runs that are an engine's own and not in memory: on their way in, on their way out, or to be kept as they are.

**Why no two engines write one run.** The server checks a commit for its engine's lease, not for whose each run is:
that would cost every batch. It need not, since a run changes hands in two ways only. When a lease is over, whoever
takes over, this engine with its next lease included, changes the row that every commit under it holds FOR SHARE; so
a commit comes before that as a whole, and is read by who goes on, or it is refused. And while its lease holds, a run
leaves an engine by the engine's own doing: when it has ended, by the commit that says so, after which nothing is put
into the journal for it; or when it is given back, here, after the journal has been flushed. What is left is a commit
made again since its answer was lost: records that are there stay as they are, and an end is not set for a run that
another engine goes on with by then (see `_SET_STATUS` of the store).
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from ..books import Books
from ..durable import Durable
from ..errors import EngineError, LeaseLost, RunEnded, RunNotFound
from ..handle import Run
from ..keeper import keeper_of
from ..keeping import RunJournal
from ..stored import Whereabouts
from .standing import Standing


class Belongings:
    """What is its own, by the ids of the runs."""

    def __init__(self, standing: Standing, durable: Durable, books: Books) -> None:
        self.coming: dict[str, None] = {}
        """Runs that are its own and on their way into memory."""
        self.leaving: dict[str, None] = {}
        """Runs that are its own and are to be anybody's."""
        self.parked: dict[str, None] = {}
        """Runs that are its own, and that it cannot drive after all."""
        self.unsure = False
        """Whether something may be its own that it does not know of."""
        self._standing = standing
        self._durable = durable
        self._books = books

    def lose_all(self) -> None:
        """The lease is over: nothing is."""
        for those in (self.coming, self.leaving, self.parked):
            those.clear()
        self.unsure = False

    async def own(self, run_id: str) -> Whereabouts | None:
        """Own it, if nobody else does, and have it on its way; where it was before."""
        standing = self._standing
        standing.check()
        lease, was_coming = standing.lease, run_id in self.coming
        self.coming[run_id] = None  # before it is: or it might be taken for one that has been lost, and given back
        owned = False
        try:
            where = await standing.member.take(run_id)
            standing.check()
            if standing.lease is not lease:
                raise LeaseLost(standing.name, "it was away while a run became its own")
            owned = where is not None and not where.owner
            return where
        except BaseException:
            self.unsure = True  # the answer is lost: it may be its own
            standing.ring("claims")
            raise
        finally:
            if not owned and not was_coming:
                self.coming.pop(run_id, None)

    async def take_ended(self, run: Run) -> None:
        """Own a run that has failed, to try it again here. Raises `RunNotFound`, `RunEnded` if it is not as it was."""
        where = await self.own(run.id)
        if where is None:
            raise RunNotFound(run.id, "it has been removed from the store since it ended; submit another")
        keeper = keeper_of(run.machine)
        if where.owner or where.status != "failed" or not isinstance(keeper, RunJournal) or keeper.seq != where.seq:
            if not where.owner:
                self.release(run.id)
            raise RunEnded(run.id, where.status, "it has gone on since, in another engine; engine.get(run_id) gives it")

    async def take_parked(self, run_id: str) -> None:
        """Own a run that nobody drives, to change it. Raises `RunNotFound`, or `EngineError` if somebody does."""
        where = await self.own(run_id)
        if where is None:
            raise RunNotFound(run_id)
        if where.owner and where.owner != self._standing.member.id:
            raise EngineError(f"run {run_id!r} is driven by another engine: it need not be changed to go on")
        self.coming[run_id] = None  # if it was its own before, too

    def taken(self, run_id: str) -> None:
        """It goes on."""
        self.coming.pop(run_id, None)

    def release(self, run_id: str) -> None:
        """It does not go on here after all."""
        self.coming.pop(run_id, None)
        self.leaving[run_id] = None
        self._standing.ring("claims")

    async def give_back(self) -> bool:
        """Have those that are to leave be anybody's; whether there were any."""
        if leaving := await self._written(self.leaving):
            await self._standing.member.give_back(leaving)
            for run_id in leaving:
                self.leaving.pop(run_id, None)
        return bool(leaving)

    async def find_lost(self) -> None:
        """Have what became its own by an act whose answer was lost be among those that are to leave."""
        known = {*self._known()}
        owned = await self._standing.member.owned()
        known |= {*self._known()}
        self.leaving.update((run_id, None) for run_id in owned if run_id not in known)
        self.unsure = False

    async def _written(self, runs: Mapping[str, None]) -> list[str]:
        """Those of which nothing more is on its way into the store: one that gets them must not have it come after."""
        those = list(runs)
        if those:
            await self._durable.journal.flush(gives_up=True)
        return [run_id for run_id in those if run_id in runs]  # the lease may have been lost meanwhile

    def _known(self) -> Iterable[str]:
        return (*self._books.active, *self._books.admitting, *self.coming, *self.leaving, *self.parked)
