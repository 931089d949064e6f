"""Bringing runs that have become an engine's own into its memory."""

from __future__ import annotations

import logging
from collections.abc import Collection, Sequence
from functools import partial

from anyio.lowlevel import checkpoint

from ..books import Books
from ..durable import Durable, patiently
from ..errors import EngineError, LeaseLost
from ..handle import Run
from ..kept import KeptRun
from ..logs import about
from ..recovery import Found, found
from ..returning import Returning
from ..sharing import Lease, judged
from ..stored import StoredRun
from .belongings import Belongings
from .standing import Standing

logger = logging.getLogger("engine")


class Bringer:
    """Lets runs go on here, as long as the lease is the one that they came under."""

    def __init__(self, standing: Standing, belongings: Belongings, durable: Durable, books: Books) -> None:
        self.returning: Returning
        """Set before it serves."""
        self._standing = standing
        self._belongings = belongings
        self._durable = durable
        self._books = books

    async def take_waiting(self, run_id: str) -> list[Run]:
        """Own a run if it still waits for an engine, and have it in memory."""
        belongings = self._belongings
        where = await belongings.own(run_id)
        if where is None or where.owner is not None or where.status != "running":
            if where is not None and not where.owner:
                belongings.release(run_id)  # it has ended meanwhile
            return []
        self._standing.counts.claimed += 1
        try:
            return await self.bring(await self._read([run_id]))
        except BaseException:
            belongings.unsure = True
            raise
        finally:
            belongings.coming.pop(run_id, None)

    async def bring(self, claimed: Sequence[StoredRun]) -> list[Run]:
        """Have these in memory, and let them go on."""
        runs: list[Run] = []
        standing, belongings = self._standing, self._belongings
        lease = standing.lease
        try:
            whole = await patiently(lambda: found(self._durable.store, claimed)) if claimed else []
            poison = await self._poison_among(whole)
            for stored in whole:
                if lease is None or standing.lease is not lease:
                    break  # somebody else's by now
                if (run := await self._bring_one(stored, lease, poison)) is not None:
                    runs.append(run)
                belongings.coming.pop(stored.row.run_id, None)
                await checkpoint()
        except BaseException:
            belongings.unsure = True
            raise
        finally:
            if standing.lease is lease:
                for stored_run in claimed:
                    belongings.coming.pop(stored_run.row.run_id, None)
        return runs

    async def _bring_one(self, stored: Found, lease: Lease, poison: Collection[str]) -> Run | None:
        run_id = stored.row.run_id
        self._books.drop(run_id)
        try:
            ended_by = stored.run.losses if run_id in poison else None
            run = await self.returning.bring(stored, partial(self._standing.check_lease, lease), ended_by)
        except LeaseLost:
            return None
        except Exception as error:
            self._belongings.unsure = True
            known = error if not isinstance(error, EngineError) else None
            logger.error("run %s cannot go on here: %s", run_id, error, exc_info=known, extra=about(run_id))
            return None
        if isinstance(run, KeptRun):
            self._belongings.parked[run_id] = None
        return run

    async def _poison_among(self, claimed: Sequence[Found]) -> Collection[str]:
        """Those that too many engines were lost with. Of the others that some were, it is known that they begin here.

        All at once, for one step to the server: one that is near the limit has been claimed alone.
        """
        most = self._standing.sharing.takeovers
        judgments = {stored.row.run_id: judged(stored.run.losses, stored.seq, most) for stored in claimed}
        for stored in claimed:
            if judgments[stored.row.run_id] != "innocent" and self.returning.only_waits(stored):
                judgments[stored.row.run_id] = "innocent"
                await checkpoint()
        if suspects := [run_id for run_id, judgment in judgments.items() if judgment == "suspect"]:
            await self._standing.member.begin(suspects)
        poison = {run_id for run_id, judgment in judgments.items() if judgment == "poison"}
        self._standing.counts.poisoned += len(poison)
        return poison

    async def _read(self, run_ids: Sequence[str]) -> list[StoredRun]:
        read = [await self._durable.store.read(run_id) for run_id in run_ids]
        return [run for run in read if run is not None]
