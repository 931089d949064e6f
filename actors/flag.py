"""Something that happens once, and that any number of tasks may wait for."""

from __future__ import annotations

from .waker import Waker, new_waker


class Flag:
    """A flag that is raised once; a tenth of the size of an `anyio.Event`, and there is one in every actor."""

    __slots__ = ("_wakers", "is_set")

    def __init__(self) -> None:
        self.is_set = False
        self._wakers: dict[Waker, None] | None = None

    def set(self) -> None:
        """Raise the flag and wake all who wait for it."""
        self.is_set = True
        for waker in self._wakers or ():
            waker.wake()

    async def wait(self) -> None:
        """Return once the flag is raised; at once if it is."""
        if self.is_set:
            return
        if self._wakers is None:
            self._wakers = {}
        waker = new_waker()
        self._wakers[waker] = None
        try:
            while not self.is_set:
                await waker.park()
        finally:
            del self._wakers[waker]
