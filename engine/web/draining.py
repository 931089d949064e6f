"""That the service is about to end, for whoever has to know: streams, waiting requests, `/ready`."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from functools import partial

from actors.waker import new_poster, new_waker


class Draining:
    """A flag that is set once, and an event that tasks wait for.

    - `begun` may be read, and `begin()` called, from any thread and from a signal handler: there is no lock in it
      that the interrupted code could hold. `begin()` sets the flag first and then wakes; who waits puts itself on the
      list first and then looks at the flag: so none is missed.
    - `wait()` works in any event loop, on asyncio, uvloop and trio, in several at once. It is no anyio event, which
      belongs to one loop and may not be set from a thread.

    What a stream does: `await draining.wait()` in the task that also waits for the client to go, then end: an event
    stream just ends (the client comes back with `Last-Event-ID`), a WebSocket is closed with 1012, "service restart",
    a `?wait=` answers 202 with what is known. It need not hurry: there is the grace, less its last part.
    """

    def __init__(self) -> None:
        self._begun = False
        self._wakes: dict[object, Callable[[], object]] = {}

    @property
    def begun(self) -> bool:
        """Whether the service takes no new runs any more."""
        return self._begun

    def begin(self) -> None:
        """The service is to end. Calling it again does nothing."""
        if self._begun:
            return
        self._begun = True
        for wake in list(self._wakes.values()):
            with suppress(RuntimeError):  # its loop is gone, and who waited with it
                wake()

    async def wait(self) -> None:
        """Return once it has begun."""
        if self._begun:
            return
        waker, me = new_waker(), object()
        self._wakes[me] = partial(new_poster(), waker.wake)
        try:
            while not self._begun:
                await waker.park()
        finally:
            del self._wakes[me]
