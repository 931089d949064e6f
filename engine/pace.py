"""How often a node may start: at most so many times in any stretch of so many seconds, over all runs.

Not a token bucket: one of depth n that gains n a second lets 2n start within its first second. Services that refuse
what is too much count in windows, so here no window holds more, wherever it begins.
"""

from __future__ import annotations

from collections import deque
from math import floor
from typing import Final

from .options import Rate

# Starts are remembered one by one up to here; of higher rates in this many slots.
MOST_KEPT: Final = 1_000


class Pace:
    """The starts that count still, and the decision whether there may be one more. Reads no clock."""

    __slots__ = ("_grain", "_most", "_seconds", "_slots", "_taken", "rate")

    def __init__(self, rate: Rate, before: Pace | None = None) -> None:
        """`before` is what held until now: its starts go on counting."""
        self.rate: Final = rate
        # Of a fraction: 0.5/s is one in two seconds, 2.5/s two in 0.8.
        self._most = floor(rate.count) or 1
        self._seconds = rate.seconds * self._most / rate.count
        self._grain = self._seconds / MOST_KEPT if self._most > MOST_KEPT else 0.0
        # When the first start of a slot was, when the last, and how many there were.
        self._slots: deque[tuple[float, float, int]] = deque() if before is None else before._slots
        self._taken = sum(slot[2] for slot in self._slots)

    def take(self, now: float) -> float:
        """Take a start (0), or say how many seconds to wait for one."""
        slots = self._slots
        while slots and now - slots[0][1] >= self._seconds:
            self._taken -= slots.popleft()[2]
        if self._taken >= self._most:
            return max(slots[0][1] + self._seconds - now, 1e-6)
        self._taken += 1
        if slots and now - slots[-1][0] < self._grain:
            slots[-1] = (slots[-1][0], now, slots[-1][2] + 1)
        else:
            slots.append((now, now, 1))
        return 0.0
