"""An actor that keeps one piece of work going beside its mailbox: the timers, the journal."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Coroutine
from typing import Any

import anyio

from actors import Actor, StopReason


class Beside(Actor[Any]):
    """Does its work for as long as it lives; started anew, it does it anew."""

    def __init__(self, name: str, work: Callable[[], Coroutine[Any, Any, None]]) -> None:
        self.name = name
        self.work = work

    async def around(self, serve: Callable[[], Awaitable[StopReason]]) -> StopReason:
        """Keep the work's task beside the mailbox."""
        reason: StopReason | None = None
        async with anyio.create_task_group() as group:
            group.start_soon(self.work)
            reason = await serve()
            group.cancel_scope.cancel()
        if reason is None:
            raise RuntimeError(f"the task of the {self.name} was cancelled from within")
        return reason

    async def receive(self, message: object) -> None:
        """Take orders only."""
