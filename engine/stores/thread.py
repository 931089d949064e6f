"""One thread for a driver that blocks.

Not anyio's threads: a call there costs two to three times as much, any of them may get it, and on asyncio they keep
the interpreter from ending while a driver hangs. Not the executor's either: its callers may give a thread up, and a
connection that is in use by a thread which was given up cannot be used by another.
"""

from __future__ import annotations

import contextlib
import queue
import threading
from collections.abc import Callable
from typing import Any, TypeVar, TypeVarTuple

import anyio

from actors.waker import Poster, Waker, new_poster, new_waker, outside

T = TypeVar("T")
Ts = TypeVarTuple("Ts")


class _Call:
    """A call on its way to the thread and back."""

    __slots__ = ("_claim", "args", "done", "error", "function", "result", "waker")

    def __init__(self, function: Callable[..., Any], args: tuple[Any, ...], waker: Waker) -> None:
        self.function = function
        self.args = args
        self.waker = waker
        self.done = False
        self.result: Any = None
        self.error: BaseException | None = None
        self._claim = threading.Lock()

    def claim(self) -> bool:
        """Whether this is the first to ask: the thread, which begins it, or the caller, who withdraws it."""
        return self._claim.acquire(blocking=False)

    def make(self) -> None:
        try:
            self.result = self.function(*self.args)
        except BaseException as error:
            self.error = error
        self.done = True

    def outcome(self) -> Any:
        error, self.error = self.error, None
        if error is None:
            return self.result
        try:
            raise error
        finally:
            del error  # or its traceback keeps itself alive


class DriverThread:
    """Makes calls in a thread of its own, one at a time, in the order in which they were asked for.

    It belongs to the loop that it is made in. A call that has begun is never given up: its caller, even if cancelled,
    waits until it is over. One that waits for its turn is withdrawn if its caller is cancelled, and has done nothing.
    """

    def __init__(self, name: str) -> None:
        self._calls: queue.SimpleQueue[_Call | None] = queue.SimpleQueue()
        # A daemon: if the loop ends without closing this, the interpreter can end all the same.
        self._thread = threading.Thread(target=_work, args=(self._calls, new_poster()), name=name, daemon=True)
        self._thread.start()

    async def run(self, function: Callable[[*Ts], T], *args: *Ts) -> T:
        """Call the function in the thread and return what it returns, or raise what it raises."""
        call = _Call(function, args, new_waker())
        outside.add(call)
        self._calls.put(call)
        try:
            while not call.done:
                await call.waker.park()
        except BaseException as error:
            # A generator that is thrown away cannot wait.
            if not call.claim() and not isinstance(error, GeneratorExit):
                await _over(call)
            raise
        finally:
            outside.discard(call)
        result: T = call.outcome()
        return result

    def close(self) -> None:
        """End the thread; nobody may be waiting for a call any more."""
        self._calls.put(None)
        self._thread.join()  # at once: it has nothing else to do


async def _over(call: _Call) -> None:
    """Wait until a call is over, whatever happens meanwhile."""
    with anyio.CancelScope(shield=True):
        while not call.done:
            # No scope shields against a native cancellation. It need not be kept: another is on its way already.
            with contextlib.suppress(anyio.get_cancelled_exc_class()):
                await call.waker.park()


def _work(calls: queue.SimpleQueue[_Call | None], post: Poster) -> None:
    while (call := calls.get()) is not None:
        if call.claim():
            call.make()
            with contextlib.suppress(RuntimeError):  # the loop is gone, and whoever waited with it
                post(call.waker.wake)
        del call  # an idle thread must keep nothing alive
