"""The door of an engine: whether it takes anything on, as it is opened, drains and is left."""

from __future__ import annotations

from collections.abc import Callable
from contextvars import ContextVar
from typing import Final

from .errors import EngineClosed

# How many runs the one whose node submits now is inside of.
nesting: Final[ContextVar[int]] = ContextVar("workflow_engine_depth", default=0)


class Door:
    """Open once the engine has been entered, until it has been left."""

    def __init__(self) -> None:
        self.open = False
        self.draining = False
        """Whether it takes no new runs any more."""
        self.abandoned = False
        """Whether what runs is not waited for."""
        self._drain_callbacks: list[Callable[[], object]] = []

    def check(self) -> None:
        """Raise `EngineClosed` unless a run may be submitted now."""
        if not self.open:
            raise EngineClosed()
        # What a node submits belongs to a run that is still waited for.
        if self.abandoned or (self.draining and not nesting.get()):
            raise EngineClosed("the engine is draining: it takes no more runs")

    def on_drain(self, callback: Callable[[], object]) -> None:
        """Have this called when draining begins: at once if it has."""
        if self.draining:
            callback()
        else:
            self._drain_callbacks.append(callback)

    def drain(self) -> None:
        """Take no new runs any more."""
        self.draining = True
        callbacks, self._drain_callbacks = self._drain_callbacks, []
        for callback in callbacks:
            callback()
