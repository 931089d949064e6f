"""Sync functions in threads of our own.

Not anyio's threads, for three reasons. On asyncio these are not daemons: one call that never returns keeps the
interpreter from ever ending. Their limiters differ: on trio an abandoned thread holds its place, on asyncio it does
not. And they cost two to three times as much.

A thread tells that it is done by a byte on a socket for which the caller waits. So it never touches an event loop,
which may be gone when an abandoned thread ends; the code is the same on each backend; and a virtual clock sees a
file that is waited for and does not jump.
"""

from __future__ import annotations

import contextlib
import contextvars
import itertools
import queue
import socket
import sys
import threading
from typing import Any

import anyio

from .places import BaseExecutor, _closed, processors
from .work import Capabilities, Work

_Job = tuple[contextvars.Context, Work]
_numbers = itertools.count(1)


class _Thread(threading.Thread):
    """Takes one job at a time from its inbox, until it finds None there."""

    def __init__(self, given_up: set[_Thread]) -> None:
        # A daemon: a call that never returns must not keep the interpreter from ending.
        super().__init__(name=f"engine-thread-{next(_numbers)}", daemon=True)
        self.inbox: queue.SimpleQueue[_Job | None] = queue.SimpleQueue()
        self.result: Any = None
        self.error: BaseException | None = None
        self.done, self._tell = socket.socketpair()
        self.done.setblocking(False)
        self._given_up = given_up

    def run(self) -> None:
        with self._tell:
            while self._work():
                pass
        self._given_up.discard(self)

    def _work(self) -> bool:
        job = self.inbox.get()
        if job is None:
            return False
        context, work = job
        try:
            self.result = context.run(work)
        except BaseException as error:
            self.error = error
        # An idle thread must keep no state alive; and the caller has closed its end if it gave this up.
        del job, context, work
        with contextlib.suppress(OSError):
            self._tell.send(b".")
        return True

    def end(self) -> None:
        """Let it end after the call in hand, whose outcome nobody wants."""
        self.inbox.put(None)
        self.done.close()

    def outcome(self) -> Any:
        result, error = self.result, self.error
        self.result = self.error = None
        if error is None:
            return result
        try:
            raise error
        finally:
            del error  # or this frame and the error would keep each other


class ThreadExecutor(BaseExecutor):
    """An `Executor` on threads, which see the context variables of whoever calls `submit`. It cannot stop one."""

    capabilities = Capabilities(shares_memory=True, sees_context=True)

    def __init__(self, limit: int | None = None) -> None:
        """Run at most `limit` calls at once, by default 4 more than there are processors, but at most 32."""
        super().__init__(min(32, processors() + 4) if limit is None else limit)
        self._idle: list[_Thread] = []
        self._busy: set[_Thread] = set()
        self._given_up: set[_Thread] = set()

    @property
    def abandoned(self) -> int:
        """Threads given up that have not ended yet, those from before it was last entered included."""
        return len(self._given_up)

    async def submit(self, work: Work) -> Any:
        """Call the function in a thread; see `Executor.submit`. Cancelled, it leaves the thread to itself."""
        free = await self._take()
        try:
            thread = self._idle.pop() if self._idle else self._new_thread()
            self._busy.add(thread)
            try:
                thread.inbox.put((_context(), work))
                await _wait(thread.done)
            except anyio.ClosedResourceError:
                self._give_up(thread)
                raise _closed(self) from None
            except BaseException:
                self._give_up(thread)
                raise
            finally:
                self._busy.discard(thread)
            if free is self._free:
                self._idle.append(thread)
            else:
                thread.end()
            return thread.outcome()
        finally:
            free.release()

    def _new_thread(self) -> _Thread:
        thread = _Thread(self._given_up)
        thread.start()
        return thread

    def _give_up(self, thread: _Thread) -> None:
        # Counted before it is told to end, which takes it out again.
        self._given_up.add(thread)
        thread.end()

    async def close(self) -> None:
        """End the threads that are idle, and leave the others to themselves."""
        self._close()
        for thread in self._busy:
            anyio.notify_closing(thread.done)  # whoever waits for it gives it up
        idle, self._idle = self._idle, []
        for thread in idle:
            thread.end()
        for thread in idle:
            thread.join()  # at once: it waits for its inbox only


def _context() -> contextvars.Context:
    context = contextvars.copy_context()
    if sniffio := sys.modules.get("sniffio"):
        # Or whoever calls `anyio.run` in the thread is told that a loop is running there already.
        context.run(sniffio.current_async_library_cvar.set, None)
    return context


async def _wait(done: socket.socket) -> None:
    while True:
        await anyio.wait_readable(done)
        with contextlib.suppress(BlockingIOError):
            done.recv(1)
            return
