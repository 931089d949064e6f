"""What every executor of our own has: a limit, a life, and numbers."""

from __future__ import annotations

import os

import anyio

from ..errors import EngineClosed


def processors() -> int:
    """How many processors this process may use, which in a container is fewer than there are."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


class Places:
    """A bounded number of places, taken first come first served, while the executor is open."""

    def __init__(self, limit: int) -> None:
        if limit < 1:
            raise ValueError(f"an executor's limit is at least 1, got {limit!r}")
        self.limit = limit
        self.started = 0
        self.killed = 0
        self.restarts = 0
        # Made when opened, since it belongs to a loop; None is closed.
        self._free: anyio.Semaphore | None = None

    @property
    def running(self) -> int:
        """Calls that hold a place."""
        return self.limit - self._free.value if self._free else 0

    @property
    def waiting(self) -> int:
        """Calls that wait for a place."""
        return self._free.statistics().tasks_waiting if self._free else 0

    def _open(self) -> None:
        self.started = self.killed = self.restarts = 0
        # Fast: a free place costs no turn of the loop.
        self._free = anyio.Semaphore(self.limit, fast_acquire=True)

    def _close(self) -> None:
        self._free = None

    async def _take(self) -> anyio.Semaphore:
        """Wait for a place; release what this returns."""
        free = self._free
        if free is None:
            raise _closed(self)
        await free.acquire()
        if free is not self._free:
            free.release()  # to the next who waits, and so finds out as well
            raise _closed(self)
        self.started += 1
        return free


def _closed(executor: object) -> EngineClosed:
    return EngineClosed(f"{type(executor).__name__} is closed; use it inside `async with`")
