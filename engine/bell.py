"""What one task rings for another that looks for something from time to time."""

from __future__ import annotations

import anyio
import attrs
from anyio.lowlevel import checkpoint

from actors import Waker, new_waker


@attrs.define
class Bell:
    """Wakes one who waits, or who will next."""

    _rung: bool = False
    _waker: Waker | None = None

    def ring(self) -> None:
        """Wake."""
        self._rung = True
        if self._waker is not None:
            self._waker.wake()

    async def wait(self, seconds: float) -> bool:
        """Until it rings, so long at most; whether it did."""
        if not self._rung:
            self._waker = new_waker()
            try:
                with anyio.move_on_after(seconds):
                    await self._waker.park()
            finally:
                self._waker = None
        else:
            await checkpoint()
        rung, self._rung = self._rung, False
        return rung
