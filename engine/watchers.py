"""Who looks at an engine: subscribers to the events of its runs, and those who wait for it to come to rest."""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import TYPE_CHECKING

from actors import Waker, new_waker

from .books import Books
from .call import is_async
from .handle import Run
from .history import Event
from .logs import about

if TYPE_CHECKING:
    from .app import Engine

logger = logging.getLogger("engine")

Watcher = Callable[[Run, Event], object]


class Watchers:
    """Tells all who look. That there are any is a flag of the engine, for the hot path."""

    def __init__(self, engine: Engine, books: Books) -> None:
        self._engine = engine
        self._books = books
        self._watchers: dict[object, Watcher] = {}
        self._idle: dict[Waker, None] = {}

    def subscribe(self, callback: Watcher) -> Callable[[], None]:
        """Call it for each event of every run from now on; returns what ends that."""
        given: object = callback
        if not callable(given) or is_async(given):
            raise TypeError(f"subscribe({given!r}): must be a plain function of a run and an event, called in the loop")
        subscription = object()
        self._watchers[subscription] = callback
        for run in self._books.active.values():
            run.told = run.machine.history.seq
        self._look()

        def end() -> None:
            self._watchers.pop(subscription, None)
            self._look()

        return end

    def join(self, others: Watchers) -> None:
        """Tell the subscribers of another engine, too."""
        self._watchers = others._watchers
        self._look()

    def notice(self, run: Run) -> None:
        """A run has changed, and somebody cares."""
        if self._watchers:
            self._tell(run)
        self.wake_idle()

    def wake_idle(self) -> None:
        """Those who wait for the engine to come to rest had better look again."""
        for waker in self._idle:
            waker.wake()

    async def until(self, condition: Callable[[], bool]) -> None:
        """Wait for what the end of a run, or what else is noticed, may bring about."""
        waker = new_waker()
        self._idle[waker] = None
        self._look()
        try:
            while not condition():
                await waker.park()
        finally:
            del self._idle[waker]
            self._look()

    def _look(self) -> None:
        self._engine.watched = bool(self._watchers or self._idle)

    def _tell(self, run: Run) -> None:
        history = run.machine.history
        for event in history.events(max(run.told, history.first_kept - 1)):
            run.told = event.seq
            for watcher in list(self._watchers.values()):
                try:
                    watcher(run, event)
                except Exception:
                    logger.exception(
                        "a subscriber raised on an event of run %s", run.id, extra=about(run.id, run.graph)
                    )
