"""Following the runs of other engines, by what the store has of them: often while somebody waits, else now and then."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from functools import partial
from typing import Final
from weakref import WeakSet

import anyio

from .away import AwayRun
from .bell import Bell
from .durable import Durable
from .ports import Member
from .sharing import Sharing
from .stored import Whereabouts

# How soon news of a run that somebody waits for is looked for, and how rarely in the end while there is none.
SOONEST: Final = 0.02
RAREST: Final = 0.25

Tried = Callable[[Callable[[], Awaitable[None]], str], Awaitable[bool]]
"""Does something, and tells if it does not work."""


class Follower:
    """Brings those up to date that somebody still holds."""

    def __init__(self, durable: Durable, sharing: Sharing, member: Callable[[], Member], tried: Tried) -> None:
        self._durable = durable
        self._sharing = sharing
        self._member = member
        self._tried = tried
        self._followed: WeakSet[AwayRun] = WeakSet()
        self._changed = False
        self._bell = Bell()

    @property
    def runs(self) -> list[AwayRun]:
        """Those that it follows."""
        return list(self._followed)

    def add(self, run: AwayRun) -> None:
        """Follow it for as long as somebody holds it."""
        self._followed.add(run)

    def attend(self, run: AwayRun) -> None:
        """Somebody waits for news of it."""
        self._followed.add(run)
        self._bell.ring()

    async def serve(self) -> None:
        """Follow them, until it is cancelled."""
        pause, all_at = SOONEST, 0.0
        while True:
            now = anyio.current_time()
            everything = now >= all_at
            if everything:
                all_at = now + self._sharing.poll
            self._changed = False
            await self._tried(partial(self._news, everything), "cannot follow the runs of other engines")
            pause = SOONEST if self._changed else min(2 * pause, RAREST)
            if await self._bell.wait(min(pause, self._sharing.poll)):
                pause = SOONEST

    async def _news(self, everything: bool) -> None:
        # In a call of its own: what is held here is followed for ever.
        runs = [one for one in self._followed if not one.over and (everything or one.is_read or one.is_waited_for)]
        if runs:
            self._changed = await self._look_for_news(runs, everything)

    async def _look_for_news(self, runs: Sequence[AwayRun], everything: bool) -> bool:
        places = await self._member().whereabouts([run.id for run in runs])
        changed = False
        for run in runs:
            where = places.get(run.id)
            if where is None:
                run.is_gone()
                continue
            ended = where.status != "running"
            if where == run.where and where.seq == run.seq:
                continue
            if not (ended or everything or run.is_read):
                run.where = where  # who waits for the end alone need not know all that happens before
                continue
            await self._bring_up_to_date(run, where)
            run.tell()
            changed = True
        return changed

    async def _bring_up_to_date(self, run: AwayRun, where: Whereabouts) -> None:
        """Records are read after the whereabouts: so of a run that has ended all are there."""
        complete = run.has_begun
        while complete and run.seq < where.seq:
            page = await self._durable.some_records(run.id, run.seq)
            complete = bool(page) and run.add(page)
        if not complete or run.seq < where.seq:
            stored = await self._durable.load(run.id)
            if stored is None:
                return
            run.read(stored, where)
        run.moved(where)
