"""What is asked of runs, at whichever engine: it reaches the one that drives them."""

from __future__ import annotations

from collections.abc import Iterable
from time import time

from ..books import Books
from ..durable import Durable
from ..errors import RunEnded, RunNotFound
from ..handing import hand_over
from ..keeper import keeper_of
from ..kept import KeptRun
from ..orders import is_cancel, order
from ..stored import SetStatus, Whereabouts
from .belongings import Belongings
from .bringing import Bringer
from .standing import Standing


class Asking:
    """Passes on what is asked here of others' runs, and does what others ask of its own."""

    def __init__(
        self, standing: Standing, belongings: Belongings, bringer: Bringer, durable: Durable, books: Books
    ) -> None:
        self._standing = standing
        self._belongings = belongings
        self._bringer = bringer
        self._durable = durable
        self._books = books
        self._handled: dict[str, None] = {}
        """What has been done of inboxes, until it is seen that it is out of them."""

    def lose_all(self) -> None:
        """The lease is over: what was done was not, perhaps."""
        self._handled.clear()

    async def ask(self, run_id: str, id: str, data: bytes) -> None:
        """Have its owner do something; see `Others`."""
        where = await self._asked(run_id, id, data)
        if where is not None and where.status != "running":
            raise RunEnded(run_id, where.status)

    async def cancel(self, run_id: str, reason: str | None) -> None:
        """Have it end; see `Others`."""
        where = await self._asked(run_id, *order("cancel", reason))
        if where is not None and where.status == "running" and where.owner is None:
            # Nobody drives it, and nobody may for long; whoever takes it before us finds the order.
            for run in await self._bringer.take_waiting(run_id):
                if isinstance(run, KeptRun):
                    await self._cancel_parked(run_id)

    async def _asked(self, run_id: str, id: str, data: bytes) -> Whereabouts | None:
        """Do it, or put it where the run's owner finds it: where that is, unless it was done here."""
        if await self._here(run_id, id, data):
            return None
        standing = self._standing
        standing.check()
        where = await standing.member.post(run_id, id, data)
        if where is None:
            raise RunNotFound(run_id)
        if where.status == "running" and where.owner == standing.member.id:
            standing.ring("inbox")
        return where

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
        self._belongings.parked.pop(run_id, None)

    async def serve(self) -> None:
        """Do what others ask, until it is cancelled."""
        standing = self._standing
        while True:
            await standing.bells["inbox"].wait(standing.sharing.poll)
            if standing.lease is not None:
                await standing.tried(self._do_what_is_asked, "cannot see what is asked of its runs")

    async def _do_what_is_asked(self) -> None:
        lease, done = self._standing.lease, set(self._handled)
        asked = await self._standing.member.inbox()
        if self._standing.lease is not lease:
            return
        for id in done - {id for inbox in asked.values() for id, _ in inbox}:
            self._handled.pop(id, None)
        for run_id, inbox in asked.items():
            run = self._books.active.get(run_id)
            if run is not None and not run.ending:
                new = [(id, data) for id, data in inbox if id not in self._handled]
                self.handled([id for id, _ in new])
                hand_over(run, new)
            elif run_id in self._belongings.parked and any(is_cancel(id) for id, _ in inbox):
                await self._cancel_parked(run_id)

    def handled(self, ids: Iterable[str]) -> None:
        """These have been done; they are out of the inbox once that is safe."""
        self._handled.update(dict.fromkeys(ids))
