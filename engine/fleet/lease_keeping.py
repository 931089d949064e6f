"""Keeping an engine's lease: renewing it, ending what goes on under it when it is lost, and coming back."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable
from functools import partial
from time import monotonic
from typing import Any, Final, cast

import anyio

from ..books import Books
from ..durable import Durable
from ..errors import LeaseLost, StoreUnavailable
from ..keeper import keeper_of
from ..keeping import RunJournal
from ..logs import about
from ..ports import SharedStore
from ..sharing import Lease
from .standing import Standing

logger = logging.getLogger("engine")

# How long an engine that is left may take to tell the others; if it cannot, they know when its lease is over.
LEAVE_SECONDS: Final = 5.0
NAMED_RUNS: Final = 5


class LeaseKeeper:
    """Keeps the lease, from joining to leaving."""

    def __init__(
        self,
        standing: Standing,
        durable: Durable,
        books: Books,
        *,
        lost: Callable[[], None],
        back: Callable[[], None],
    ) -> None:
        self._until = 0.0
        """When the lease is over, on a clock that any thread may read."""
        self._standing = standing
        self._durable = durable
        self._books = books
        self._when_lost = lost
        """What forgets all that was its own."""
        self._when_back = back

    async def join(self, store: Any) -> None:
        """Share the store; raises `StoreUnavailable` if another engine has it for itself."""
        standing = self._standing
        shared = cast(SharedStore, store)
        asked = anyio.current_time()
        standing.joined = await shared.share(standing.name, standing.sharing.lease)
        standing.lease = await self._begun(asked)

    async def _begun(self, asked: float) -> Lease:
        """The lease that has just been given. It counts from when it was asked for, unless that is long ago."""
        standing = self._standing
        if anyio.current_time() - asked > standing.sharing.renew:
            asked = anyio.current_time()
            await standing.member.renew()
        lease = Lease(standing.sharing, asked)
        self._note(lease)
        return lease

    def _note(self, lease: Lease) -> None:
        self._until = monotonic() + lease.until - anyio.current_time()

    @property
    def seconds_left(self) -> float:
        """Of the lease, if it is not renewed; 0 if there is none. For any thread."""
        return max(0.0, self._until - monotonic()) if self._standing.lease is not None else 0.0

    async def leave(self) -> None:
        """Give what is its own to the others."""
        standing = self._standing
        if standing.joined is None or standing.lease is None:
            return
        standing.lease = None
        with anyio.move_on_after(LEAVE_SECONDS, shield=True):
            try:
                await standing.joined.leave()
            except (StoreUnavailable, LeaseLost) as error:
                logger.warning("the other engines take over when the lease of %s is over: %s", standing.name, error)

    async def keep(self) -> None:
        """Renew it in time, and begin another when it is lost, until the engine is left."""
        standing = self._standing
        while not standing.left:
            lease, now = standing.lease, anyio.current_time()
            wait = standing.sharing.poll
            if lease is None:
                if not await standing.tried(self._rejoin, "cannot come back to the other engines", patience=1):
                    wait = min(wait, standing.sharing.renew / 10)
            elif now < lease.due:
                wait = lease.due - now
            elif await standing.tried(partial(self._renew, lease), "cannot renew its lease"):
                wait = 0.0
            else:
                standing.counts.renewals_failed += 1
                wait = lease.wait_after_failure(anyio.current_time())
            await standing.bells["lease"].wait(wait)

    async def _renew(self, lease: Lease) -> None:
        asked = anyio.current_time()
        try:
            await self._standing.member.renew()
        except LeaseLost as error:
            self._standing.lose(error)
            return
        if self._standing.lease is lease:
            lease.renewed(asked)
            self._note(lease)

    async def _rejoin(self) -> None:
        standing = self._standing
        if standing.left:
            return
        asked = anyio.current_time()
        await standing.member.join()
        lease = await self._begun(asked)
        if standing.left:
            return
        standing.lease, standing.lost = lease, None
        self._when_back()
        self._durable.journal.go_on()
        logger.warning("engine %s is back among the others, with a new lease", standing.name)
        standing.ring("claims", "inbox")

    async def end_in_time(self) -> None:
        """End it by our own clock, while the server cannot be asked, until the engine is left."""
        standing = self._standing
        while not standing.left:
            lease, now = standing.lease, anyio.current_time()
            if lease is not None and lease.is_over(now):
                standing.lose(LeaseLost(standing.name, f"it could not renew it for {standing.sharing.lease:g} s"))
            await anyio.sleep(standing.sharing.poll if lease is None else min(max(lease.until - now, 0.0), 60.0))

    def lose(self, error: LeaseLost) -> None:
        """The lease is over: others may have its runs by now. Stop all of them, write nothing more, tell who waits."""
        standing = self._standing
        if standing.lease is None:
            return
        standing.lease, standing.lost = None, error
        standing.counts.leases_lost += 1
        books = self._books
        runs = list(books.active.values())
        logger.error(
            "engine %s has lost its lease, since %s: %d runs stop here and go on elsewhere: %s",
            *(standing.name, error.found, len(runs), _named(run.id for run in runs)),
            extra=about(runs=[run.id for run in runs]),
        )
        self._durable.journal.cut(error)
        for run in runs:
            if isinstance(keeper := keeper_of(run.machine), RunJournal):
                keeper.drop()
            run.let_go(error)
        books.abandon_all()
        self._when_lost()
        standing.ring("lease")


def _named(ids: Iterable[str]) -> str:
    given = list(ids)
    more = f" and {len(given) - NAMED_RUNS} more" if len(given) > NAMED_RUNS else ""
    return (", ".join(given[:NAMED_RUNS]) or "none") + more
