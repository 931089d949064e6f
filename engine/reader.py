"""Reading a run's events from any number on, page by page, while they come.

A reader holds one page at a time, however far behind it is: who cannot keep up costs no memory, and what it has not
read yet is read from the run's history, or from its journal.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from typing import TYPE_CHECKING, Final, NoReturn

from .history import Event

if TYPE_CHECKING:
    from .handle import Run
    from .past import Past

PAGE: Final = 512
"""Events that are made at once. A history keeps them closer: a fork is one entry, however many ways it goes."""


class EventReader:
    """The events of one run for one who reads them."""

    __slots__ = ("_past", "_run", "seen")

    def __init__(self, run: Run, after: int = 0) -> None:
        self.seen = max(after, 0)
        """The number of the last event that was read."""
        self._run = run
        self._past: Past | None = None

    async def page(self) -> list[Event]:
        """The next events, as soon as there are some; none once the run is over and all are read.

        It may be cancelled while it waits, and called again. Raises `HistoryGone`, `EngineClosed`.
        """
        while True:
            found = await self._older() or self._run.machine.history.events(self.seen, PAGE)
            if found:
                self.seen = found[-1].seq
                return found
            if self._run.over:
                return []
            await self._run.until_changed()

    async def _older(self) -> list[Event]:
        """What memory does not keep any more, if the journal has it."""
        first = self._run.machine.history.first_kept
        if self.seen + 1 >= first:
            return []
        self._past = self._past or self._run.past()
        if self._past is None:
            return []
        older = await self._past.events(self.seen, first)
        if not older:
            self.seen, self._past = first - 1, None
        return older


class Events(AsyncIterator[Event]):
    """The events of a run, one by one. Made by `Run.events`.

    No generator, though that would be shorter: one that is left in the middle, by a `break` or a cancellation, has to
    be closed by whoever left it, and trio warns of each that was not.
    """

    def __init__(self, reader: EventReader) -> None:
        self._reader: EventReader | None = reader
        self._ready: Iterator[Event] = iter(())

    def __iter__(self) -> NoReturn:
        raise TypeError(
            "the events of a run come one by one: `async for event in run.events()`; in a program that does not "
            "await, of a run of `Engine.blocking()`"
        )

    async def __anext__(self) -> Event:
        event = next(self._ready, None)
        if event is None and self._reader is not None:
            self._ready = iter(await self._reader.page())
            event = next(self._ready, None)
        if event is None:
            await self.aclose()
            raise StopAsyncIteration
        return event

    async def aclose(self) -> None:
        """Read no more. Nobody has to call it, but `contextlib.aclosing` may."""
        self._reader, self._ready = None, iter(())
