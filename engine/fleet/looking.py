"""Runs as they are now, wherever they are: here in memory, at another engine, or waiting for one in the store."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from typing import TYPE_CHECKING, Final

import anyio

from ..away import AwayKeptRun, AwayRun, Others
from ..books import Books
from ..durable import Durable, patiently
from ..errors import GraphNotFound, RunNotFound, VersionMismatch
from ..following import Follower
from ..handle import Run
from ..keeper import keeper_of
from ..keeping import RunJournal
from ..recovery import Found
from ..registry import Registered, Registry
from ..returning import Returning
from ..stored import RunRow, StoredRun, Whereabouts
from .standing import Standing

if TYPE_CHECKING:
    from ..app import Engine

# How often it is asked whether the store has a run that is being accepted.
ACCEPTED_SECONDS: Final = 0.005


class Looks:
    """Finds runs, and has those of others followed."""

    def __init__(
        self,
        engine: Engine,
        others: Others,
        standing: Standing,
        follower: Follower,
        durable: Durable,
        registry: Registry,
        books: Books,
        *,
        learn: Callable[[], Awaitable[None]],
    ) -> None:
        self.returning: Returning
        """Set before it serves."""
        self._engine = engine
        self._others = others
        self._standing = standing
        self._follower = follower
        self._durable = durable
        self._registry = registry
        self._books = books
        self._learn = learn

    async def get(self, run_id: str) -> Run | None:
        """The run as it is now, wherever it is."""
        await self._accepted(run_id)
        run = self._books.active.get(run_id)
        if run is not None:
            await self.returning.recall(run)
            return run
        places = await patiently(lambda: self._standing.member.whereabouts([run_id]))
        return await self._look_at(places[run_id]) if run_id in places else None

    async def fresh(self, run_id: str) -> Run:
        """The run as it is now; see `Others`."""
        run = await self.get(run_id)
        if run is None:
            raise RunNotFound(run_id)
        return run

    async def of_rows(self, rows: Sequence[RunRow]) -> list[Run]:
        """The runs of these rows."""
        places = await patiently(lambda: self._standing.member.whereabouts([row.run_id for row in rows]))
        runs = [
            self._books.active.get(row.run_id) or await self._look_at(places[row.run_id])
            for row in rows
            if row.run_id in places
        ]
        return [run for run in runs if run is not None]

    def waiting(self, registered: Registered, row: RunRow) -> Run:
        """The handle of a run that has just been submitted, and waits for an engine."""
        stored = Found(row, StoredRun(row, b"", None, ()), {})
        where = Whereabouts(run_id=row.run_id, status="running", owner=None, seq=0)
        return self._followed(registered, stored, where)

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
            return AwayKeptRun(self._durable, row, registered, self._others, where)
        return self._followed(registered, stored, where)

    def _followed(self, registered: Registered, stored: Found, where: Whereabouts) -> AwayRun:
        away = AwayRun(self._engine, registered, self._others, stored, where)
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
