"""What every executor of our own has: a limit, a life, and numbers."""

from __future__ import annotations

import os
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from types import TracebackType
from typing import Any, ClassVar, Self

import anyio

from ..errors import EngineClosed
from .work import Capabilities, Health, Work, done_by


def processors() -> int:
    """How many processors this process may use, which in a container is fewer than there are."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


class BaseExecutor(ABC):
    """An `Executor` of a bounded number of places, taken first come first served while it is open.

    Who makes one of their own writes `submit`, and `start`, `cancel` and `close` where there is something to do.
    `submit` holds a place meanwhile: `async with self.place(): ...`
    """

    capabilities: ClassVar[Capabilities] = Capabilities()

    def __init__(self, limit: int) -> None:
        if limit < 1:
            raise ValueError(f"an executor's limit is at least 1, got {limit!r}")
        self.limit = limit
        self.started = 0
        self.killed = 0
        self.restarts = 0
        # Made when opened, since it belongs to a loop; None is closed.
        self._free: anyio.Semaphore | None = None
        self._in_place: set[anyio.CancelScope] = set()

    @property
    def running(self) -> int:
        """Calls that hold a place."""
        return self.limit - self._free.value if self._free else 0

    @property
    def waiting(self) -> int:
        """Calls that wait for a place."""
        return self._free.statistics().tasks_waiting if self._free else 0

    @property
    def abandoned(self) -> int:
        """Calls given up that go on all the same, now."""
        return 0

    def health(self) -> Health:
        """How it is."""
        return Health(
            running=self.running,
            waiting=self.waiting,
            started=self.started,
            killed=self.killed,
            abandoned=self.abandoned,
            restarts=self.restarts,
        )

    async def run(self, function: Callable[..., Any], args: Sequence[Any] = (), kwargs: Mapping[str, Any] = {}) -> Any:
        """Call a function; being cancelled stops it, as far as that can be done."""
        return await done_by(self, Work(function, args, kwargs))

    async def start(self) -> None:
        """Be ready for calls."""
        self._open()

    @abstractmethod
    async def submit(self, work: Work) -> Any:
        """Make the call and return its result; see `Executor.submit`."""

    async def cancel(self, work: Work) -> bool:
        """Stop work whose `submit` was cancelled; whether it is known to be over."""
        return self.capabilities.stops

    async def close(self) -> None:
        """Take no more calls, and cancel those that hold a `place()`."""
        self._close()
        for scope in list(self._in_place):
            scope.cancel()

    async def __aenter__(self) -> Self:
        await self.start()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        await self.close()

    def place(self) -> _Place:
        """A place, waited for and given back: `async with executor.place()`; raises `EngineClosed` when that is so."""
        return _Place(self)

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


class _Place:
    """One place of an executor, for as long as a call takes; closing the executor ends that with `EngineClosed`."""

    def __init__(self, executor: BaseExecutor) -> None:
        self._executor = executor
        self._scope = anyio.CancelScope()

    async def __aenter__(self) -> None:
        self._free = await self._executor._take()
        self._executor._in_place.add(self._scope)
        self._scope.__enter__()

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        executor = self._executor
        executor._in_place.discard(self._scope)
        try:
            self._scope.__exit__(kind, error, traceback)
            if self._scope.cancelled_caught:
                raise _closed(executor) from None
        finally:
            self._free.release()


def _closed(executor: object) -> EngineClosed:
    return EngineClosed(f"{type(executor).__name__} is closed; use it inside `async with`")
