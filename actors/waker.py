"""Parking and waking one task: the only file (besides `testing`) that knows which backend is running.

Everything above is built on this one primitive. It decides the speed of the runtime: a raw future or a
rescheduled task costs about half of an `anyio.Event` and a sixth of an anyio memory stream per hop. The portable
`EventWaker` serves backends we do not know, and the tests as the oracle.

The promise, the same for all three: `wake()` makes a parked `park()` return; with nobody parked it does nothing
(so look for work before you park, without an `await` between). A cancelled `park()` leaves no trace.

A wake-up from another thread would be lost or late, so it raises `WrongThread`, and whoever wakes does so before it
changes anything. Only where somebody is parked: there it costs nothing beside the switch of tasks, elsewhere a
tenth of a message. A thread of our own wakes by way of a poster: `post(waker.wake)`.
"""

from __future__ import annotations

import functools
import sys
from collections.abc import Awaitable, Callable
from threading import get_ident
from typing import TYPE_CHECKING, Any, Protocol

import anyio

from .errors import WrongThread

# Neither backend is imported before one runs: asyncio takes as long as a tenth of the engine.

if TYPE_CHECKING:
    import asyncio

    import trio


class Waker(Protocol):
    """Parks one task until it is woken."""

    def park(self) -> Awaitable[object]:
        """Wait until `wake()`; only one task may be parked at a time."""
        ...

    def wake(self) -> None:
        """Let the parked task go on; does nothing when none is parked. Raises `WrongThread`."""
        ...


class AsyncioWaker:
    """A bare future: no coroutine frame of its own between the waiter and the loop."""

    __slots__ = ("_future", "_new_future", "_thread")

    def __init__(self) -> None:
        self._thread = get_ident()
        import asyncio

        self._new_future = asyncio.get_running_loop().create_future
        self._future: asyncio.Future[None] | None = None

    def park(self) -> Awaitable[None]:
        """Wait until `wake()`."""
        self._future = future = self._new_future()
        return future

    def wake(self) -> None:
        """Let the parked task go on."""
        future = self._future
        if future is not None:
            if get_ident() != self._thread:
                raise _wrong_thread()
            self._future = None
            if not future.done():
                future.set_result(None)


class TrioWaker:
    """A rescheduled task."""

    __slots__ = ("_lowlevel", "_task", "_thread")

    def __init__(self) -> None:
        import trio.lowlevel

        self._thread = get_ident()
        self._lowlevel = trio.lowlevel
        self._task: trio.lowlevel.Task | None = None

    def park(self) -> Awaitable[object]:
        """Wait until `wake()`."""
        self._task = self._lowlevel.current_task()
        return self._lowlevel.wait_task_rescheduled(self._abort)

    def wake(self) -> None:
        """Let the parked task go on."""
        task = self._task
        if task is not None:
            if get_ident() != self._thread:
                raise _wrong_thread()
            self._task = None
            self._lowlevel.reschedule(task)

    def _abort(self, _raise_cancel: Any) -> trio.lowlevel.Abort:
        self._task = None
        return self._lowlevel.Abort.SUCCEEDED


class EventWaker:
    """The portable one, on `anyio.Event`."""

    __slots__ = ("_event", "_thread")

    def __init__(self) -> None:
        self._thread = get_ident()
        self._event: anyio.Event | None = None

    def park(self) -> Awaitable[None]:
        """Wait until `wake()`."""
        self._event = anyio.Event()
        return self._event.wait()

    def wake(self) -> None:
        """Let the parked task go on."""
        event = self._event
        if event is not None:
            if get_ident() != self._thread:
                raise _wrong_thread()
            self._event = None
            event.set()


def new_waker() -> Waker:
    """Make the fastest waker for the backend that is running."""
    if in_trio():
        return TrioWaker()
    try:
        return AsyncioWaker()
    except RuntimeError:
        return EventWaker()


outside: set[object] = set()
"""What tasks wait for that no loop sees, such as a call in a thread of our own; a virtual clock stands still for it."""

Poster = Callable[[Callable[[], object]], object]
"""Has a function called soon in a loop's thread. Raises `RuntimeError` once that loop is gone."""


def new_poster() -> Poster:
    """Make what another thread calls to reach this loop, without waiting until it is reached.

    The functions are called in the order in which one thread gave them, and must not raise: there is nobody to raise
    to. Those that a loop has not called when it ends are dropped. On a backend that we do not know, the thread waits.
    """
    if in_trio():
        run_sync_soon: Poster = sys.modules["trio"].lowlevel.current_trio_token().run_sync_soon
        return run_sync_soon
    import asyncio

    try:
        return asyncio.get_running_loop().call_soon_threadsafe
    except RuntimeError:
        return _patient_poster()


def _patient_poster() -> Poster:
    """Make the portable one, on anyio's token: it is right anywhere, but keeps the thread waiting."""
    import anyio.from_thread
    import anyio.lowlevel

    return functools.partial(anyio.from_thread.run_sync, token=anyio.lowlevel.current_token())


def current_task() -> object:
    """Return the running task, good for comparing identities only."""
    if in_trio():
        return sys.modules["trio"].lowlevel.current_task()
    import asyncio

    return asyncio.current_task()


def is_stray_cancellation() -> bool:
    """Tell whether a cancellation just caught was asked for by nobody.

    Call it in the `except` clause, inside the scope that could have been cancelled. On asyncio a task group that
    sees such an exception in a child cancels all siblings and then ends without any exception, so it must not
    get that far.
    """
    if in_trio():
        return bool(sys.modules["trio"].current_effective_deadline() > float("-inf"))
    import asyncio

    task = asyncio.current_task()
    return not anyio.get_current_task().has_pending_cancellation() and (task is None or task.cancelling() == 0)


def disown_cancellation() -> bool:
    """As `is_stray_cancellation`, for a task whose own code alone can name it: requests to cancel it count for nothing.

    Takes back what that code did by `asyncio.current_task().cancel()`; otherwise it would hit whatever the task does
    next.
    """
    if in_trio():
        return is_stray_cancellation()
    if anyio.get_current_task().has_pending_cancellation():
        return False
    import asyncio

    task = asyncio.current_task()
    while task is not None and task.cancelling():
        task.uncancel()
    return True


def cancel_requests() -> Callable[[], int]:
    """What tells, at little cost, how often the current task was asked natively to be cancelled."""
    if in_trio():
        return _none
    import asyncio

    task = asyncio.current_task()
    return _none if task is None else task.cancelling


def _none() -> int:
    return 0


def _wrong_thread() -> WrongThread:
    return WrongThread(
        "actors are reached from the thread of their loop only: from another one use anyio.from_thread.run(ref.tell, …)"
    )


def in_trio() -> bool:
    """Whether a task of trio is running."""
    # Asked first: trio in guest mode runs on top of an asyncio loop.
    trio_module = sys.modules.get("trio")
    return trio_module is not None and trio_module.lowlevel.in_trio_task()
