"""Which runs begin here: those that are submitted here while there is a place, and those that are claimed."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from ..away import AwayRun
from ..books import Books
from ..durable import Durable, patiently
from ..errors import EngineBusy
from ..handle import Run
from ..registry import Registry
from ..sharing import begins_at_once, places_for, wary_from
from ..stored import Kind
from .belongings import Belongings
from .bringing import Bringer
from .standing import Standing

if TYPE_CHECKING:
    from ..app import Engine


class Claims:
    """Claims runs that wait for an engine, and gives back what is not to be its own."""

    def __init__(
        self,
        engine: Engine,
        standing: Standing,
        belongings: Belongings,
        bringer: Bringer,
        durable: Durable,
        registry: Registry,
        books: Books,
        *,
        max_runs: int | None,
        claims: bool,
        wake: Callable[[], None],
    ) -> None:
        self.are_wanted = claims
        """Whether it drives runs of others at all."""
        self.others_wait = True
        """Whether runs may be waiting that this engine could drive."""
        self.reserved = 0
        """Places for runs that are being claimed."""
        self._engine = engine
        self._standing = standing
        self._belongings = belongings
        self._bringer = bringer
        self._durable = durable
        self._registry = registry
        self._books = books
        self._max_runs = max_runs
        self._max_queued = books.most_queued
        self._wake = wake
        self._telling: dict[str, None] = {}
        self._wanted: dict[str, None] = {}
        """Runs that a node here waits for: they begin whatever the places."""

    # -- new runs

    async def check_room(self, depth: int) -> None:
        """Raise `EngineBusy` if as many runs wait as may: in the store, for whatever engine has a place first."""
        self._standing.check()
        if self._max_runs is None or depth or not (self.is_full or self.others_wait):
            return
        leaving = self._belongings.leaving.copy()
        waiting = await patiently(lambda: self._standing.member.queued(self._max_queued + 1, list(leaving)))
        waiting += len(self._belongings.leaving.keys() - leaving.keys())  # since it was asked
        if waiting >= self._max_queued and self.is_full:
            self._books.refused += 1
            raise EngineBusy(f"{self._books.running} runs are running here, {waiting} wait for an engine: all are full")

    def begins_here(self, graph: str, depth: int) -> bool:
        """Whether a run that has just been submitted begins here at once."""
        return begins_at_once(
            is_full=self.is_full,
            others_wait=self.others_wait,
            inside=bool(depth) or not self.are_wanted,
            is_limited=graph in self._standing.sharing.graph_runs,
        )

    @property
    def is_full(self) -> bool:
        """Whether there is no place for one more."""
        return self._max_runs is not None and self._taken >= self._max_runs

    @property
    def _taken(self) -> int:
        books = self._books
        return books.running + len(books.queued) + self.reserved + len(self._belongings.coming)

    # -- what has changed

    def place_free(self) -> None:
        """A run has ended, or a graph has come."""
        if self.others_wait:
            self._standing.ring("claims")

    def may_wait(self) -> None:
        """There may be runs that it can drive now."""
        self.others_wait = True
        self._standing.ring("claims")

    def tell(self, word: str) -> None:
        """Others should hear this."""
        self._telling[word] = None
        self._standing.ring("claims")

    def want(self, run: Run) -> None:
        """A node of a run here waits for it: it must not wait for the very place that that run holds."""
        if isinstance(run, AwayRun) and run.where.owner is None and not run.over:
            self._wanted[run.id] = None
            self._standing.ring("claims")

    def kinds(self) -> list[Kind]:
        """What it can run."""
        return [
            (known.plan.name, known.plan.version, self._durable.fingerprint(known.plan))
            for known in self._registry.all()
        ]

    # -- claims

    async def serve(self) -> None:
        """Claim whenever there is a reason to, until it is cancelled."""
        standing, belongings = self._standing, self._belongings
        while True:
            if standing.lease is not None:
                await standing.tried(self._tell_what_is_to_be_told, "cannot tell the other engines")
                if belongings.unsure:
                    await standing.tried(belongings.find_lost, "cannot see which runs are its own")
                await standing.tried(self._give_back, "cannot give runs to the other engines")
                if self.are_wanted and not self._engine.is_draining:
                    if not await standing.tried(self._claim_what_there_is, "cannot claim runs"):
                        belongings.unsure = True
                    await standing.tried(self._claim_the_wanted, "cannot claim runs that nodes wait for")
                self._wake()
            await standing.bells["claims"].wait(standing.sharing.poll)

    async def _tell_what_is_to_be_told(self) -> None:
        for word in list(self._telling):
            await self._standing.member.tell(word)
            self._telling.pop(word, None)

    async def _give_back(self) -> None:
        if await self._belongings.give_back():
            self.others_wait = True

    async def _claim_what_there_is(self) -> None:
        standing = self._standing
        while True:
            places = places_for(max_runs=self._max_runs, taken=self._taken, at_once=standing.sharing.claim)
            if not places or self._engine.is_draining or standing.lease is None:
                return
            kinds, lease = self.kinds(), standing.lease
            self.others_wait = False  # unless somebody says so meanwhile
            self.reserved += places
            try:
                claimed = await standing.member.claim(
                    kinds, places, standing.sharing.graph_runs, wary_from(standing.sharing.takeovers)
                )
                if standing.lease is not lease:
                    return  # they are for anybody again
                standing.counts.claimed += len(claimed)
                self._belongings.coming.update((run.row.run_id, None) for run in claimed)
            except BaseException:
                self.others_wait = True
                raise
            finally:
                self.reserved -= places
            if len(claimed) == places:
                self.others_wait = True
            await self._bringer.bring(claimed)
            if len(claimed) < places:
                return

    async def _claim_the_wanted(self) -> None:
        for run_id in list(self._wanted):
            await self._bringer.take_waiting(run_id)
            self._wanted.pop(run_id, None)
