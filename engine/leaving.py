"""How an engine is left: what runs is waited for, or given up, and the store keeps what is not over."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING

import anyio

from .books import Books
from .door import Door
from .logs import about
from .watchers import Watchers

if TYPE_CHECKING:
    from .durable import Durable
    from .fleet import Fleet
    from .returning import Returning

logger = logging.getLogger("engine")


class Leaving:
    """The end of an engine's life, and what it has in common with waiting until nothing goes on."""

    def __init__(
        self,
        door: Door,
        books: Books,
        watchers: Watchers,
        durable: Durable | None,
        *,
        close_seconds: float,
    ) -> None:
        self.returning: Returning | None = None
        """Set once the engine is open, if it has a store."""
        self.fleet: Fleet | None = None
        """Set if it shares that."""
        self._door = door
        self._books = books
        self._watchers = watchers
        self._durable = durable
        self._close_seconds = close_seconds

    async def finish(self) -> None:
        """Wait for what is running; what only waits for a signal or a timer stays in the store, or is given up."""
        active = self._books.active
        if self._durable is not None and self.returning is not None:
            self._durable.tell_what_is_waited_for()
            await self.come_to_rest()
            await self._leave_to_the_store()
            return
        while active:
            await self.come_to_rest()
            left = [run for run in active.values() if run.counted]
            if left:
                logger.warning(
                    "leaving the engine cancels %d runs that only wait, since memory does not outlive it: %s",
                    len(left),
                    ", ".join(f"{run.id} of {run.graph!r} ({run.status})" for run in left),
                    extra=about(runs=[run.id for run in left]),
                )
            # Each may hold the place that a queued run waits for: that one begins now, and is waited for in its turn.
            for run in left:
                await run.cancel("the engine was left")
            for run in left:
                await run.wait()

    async def come_to_rest(self) -> None:
        """Wait until nothing goes on, but for runs that only wait."""
        active = self._books.active
        if self.returning is not None:
            returning = self.returning
            await self._watchers.until(lambda: returning.is_through)
        await self._watchers.until(lambda: all(run.at_rest for run in active.values() if run.counted))

    async def abandon(self, *, gives_up: bool = False) -> None:
        """Leave with what runs; who `gives_up` has waited before, and does not wait for a store in trouble again."""
        self._door.abandoned = True
        self._books.clear_queue()
        if self._durable is not None:
            seconds = 0.0 if gives_up and self._durable.journal.stuck else self._close_seconds
            with anyio.move_on_after(seconds, shield=True):
                await self._leave_to_the_store()
            return
        for run in list(self._books.active.values()):
            await run.cancel("the engine was left by an exception")
        with anyio.move_on_after(self._close_seconds, shield=True):
            await self._watchers.until(lambda: not self._books.active)

    async def _leave_to_the_store(self) -> None:
        """Let go of every run that is not over, once all that is decided is written: the next start goes on with it."""
        assert self._durable is not None
        try:
            await self._durable.journal.finish()
        finally:
            # Whatever could be written: nothing happens in them any more, and nobody may wait for them.
            for run in list(self._books.active.values()):
                run.let_go()
            self._books.active.clear()
            if self.fleet is not None:
                await self.fleet.leave()
