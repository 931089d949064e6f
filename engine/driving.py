"""Running a node's coroutine in a context of its own, inside a worker's task.

A worker serves many runs, and each activation must see the context variables of whoever submitted its run, and may
set some without the next activation of the same worker seeing that. A task per activation would do it for 20 us; one
`Context.run` per step does it for a tenth of one. Most coroutines end at their first step, and cost no `await`.
"""

from __future__ import annotations

from collections.abc import Coroutine, Generator
from contextvars import Context
from typing import Any


class Driven:
    """Await the rest of a coroutine whose first step has been taken in `context` and gave `first`."""

    __slots__ = ("_context", "_coroutine", "_first", "closed")

    def __init__(self, context: Context, coroutine: Coroutine[Any, Any, Any], first: Any) -> None:
        self._context = context
        self._coroutine = coroutine
        self._first = first
        self.closed = False

    def __await__(self) -> Generator[Any, Any, Any]:
        # What a backend's primitives yield is passed on untouched, so futures and traps work as if awaited here.
        run, coroutine = self._context.run, self._coroutine
        wanted = self._first
        try:
            while True:
                try:
                    came = yield wanted
                except GeneratorExit:
                    self.closed = True
                    coroutine.close()
                    raise
                except BaseException as error:
                    wanted = run(coroutine.throw, error)
                else:
                    wanted = run(coroutine.send, came)
        except StopIteration as stop:
            return stop.value
