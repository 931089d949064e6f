"""SIGHUP, for whoever has something to read anew: not in the handler of the signal, which may interrupt anything."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from functools import partial

import anyio.to_thread

from actors.waker import new_poster, new_waker


class Hangups:
    """Signals that have come, and who waits for them."""

    def __init__(self) -> None:
        self._told = False
        self._wake: Callable[[], object] | None = None

    def tell(self) -> None:
        """One has come. From a signal handler, too."""
        self._told = True
        if self._wake is not None:
            with suppress(RuntimeError):  # its loop is gone
                self._wake()

    async def each(self, act: Callable[[], object]) -> None:
        """Do this in a thread for each; several that come meanwhile are one. Ends only by being cancelled."""
        waker = new_waker()
        self._wake = partial(new_poster(), waker.wake)
        try:
            while True:
                while not self._told:
                    await waker.park()
                self._told = False
                await anyio.to_thread.run_sync(act)
        finally:
            self._wake = None
