"""All deadlines of an engine in one heap, and one task that waits for the next of them.

A timer is a heap entry: no task, no cancel scope. The task is woken only when a timer is set that is due before all
others; with deadlines of equal length that is never.
"""

from __future__ import annotations

from collections.abc import Callable
from heapq import heapify, heappop, heappush
from itertools import count
from math import inf, isfinite
from typing import Any, Final

import anyio

from actors import Waker, new_waker

# Cancelled timers are left in the heap until they are many, and more than half of it.
MANY: Final = 1_000


class Timer:
    """One call that will be made unless it is cancelled."""

    __slots__ = ("_call", "_owner", "when")

    def __init__(self, owner: Timers, when: float, call: Callable[[], object]) -> None:
        self._owner = owner
        self._call: Callable[[], object] | None = call
        self.when = when

    def cancel(self) -> None:
        """Do not make the call; without effect once it is made."""
        if self._call is not None:
            self._call = None
            self._owner.cancelled_one()

    @property
    def live(self) -> bool:
        """Whether the call is still to be made."""
        return self._call is not None

    def fire(self) -> None:
        """Make the call, if it is still wanted."""
        call, self._call = self._call, None
        if call is not None:
            call()


class Timers:
    """Sets timers, and makes their calls from the task that runs `serve()`; the calls must not raise."""

    def __init__(self) -> None:
        self._heap: list[tuple[float, int, Timer]] = []
        self._numbers = count()
        self._cancelled = 0
        self._sleeping_until = -inf
        self._waker: Waker | None = None

    def after(self, seconds: float, call: Callable[[], Any]) -> Timer:
        """Make a call once so many seconds have passed."""
        return self.at(anyio.current_time() + seconds, call)

    def at(self, when: float, call: Callable[[], Any]) -> Timer:
        """Make a call at a time of the loop's clock."""
        if not isfinite(when):
            # It would make the heap lie about what is due next, for every run.
            raise ValueError(f"a timer is set for a time, not for {when!r}")
        timer = Timer(self, when, call)
        heappush(self._heap, (when, next(self._numbers), timer))
        if when < self._sleeping_until and self._waker is not None:
            self._waker.wake()
        return timer

    async def serve(self) -> None:
        """Make the calls when they are due, until cancelled."""
        self._waker = new_waker()
        while True:
            self._fire_due(anyio.current_time())
            self._sleeping_until = self._heap[0][0] if self._heap else inf
            if self._heap:
                with anyio.move_on_after(self._sleeping_until - anyio.current_time()):
                    await self._waker.park()
            else:
                await self._waker.park()

    def __len__(self) -> int:
        return len(self._heap) - self._cancelled

    def cancelled_one(self) -> None:
        """Count a timer that was cancelled, and clear them out once they are many."""
        self._cancelled += 1
        if self._cancelled > MANY and self._cancelled * 2 > len(self._heap):
            self._heap = [entry for entry in self._heap if entry[2].live]
            heapify(self._heap)
            self._cancelled = 0

    def _fire_due(self, now: float) -> None:
        while self._heap and self._heap[0][0] <= now:
            timer = heappop(self._heap)[2]
            if timer.live:
                timer.fire()
            else:
                self._cancelled -= 1
