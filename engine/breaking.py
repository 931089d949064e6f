"""A circuit breaker's decisions: what happened in, what may start out. No clock, no I/O."""

from __future__ import annotations

from collections import deque
from typing import Literal

from .options import Breaker

State = Literal["closed", "open", "half_open"]


class Circuit:
    """Whether a node may be called, given how it went lately, in all runs.

    Closed, all may start. After so many failures within so many seconds it is open: none may. When it has been open
    for `cooldown` seconds the next to ask is the trial, and as long as that has not ended nobody else may start. If
    it succeeds, the circuit is closed; if it fails, open again; if it is cancelled, the next to ask is the trial.
    What began before the circuit opened says nothing about how things are now.
    """

    __slots__ = ("_failures", "_trial", "_until", "breaker", "opened", "refused", "state")

    def __init__(self, breaker: Breaker) -> None:
        self.breaker = breaker
        self.state: State = "closed"
        self.opened = 0
        """How often it has opened."""
        self.refused = 0
        self._failures: deque[float] = deque(maxlen=breaker.failures)
        self._until = 0.0
        self._trial: object = None

    def change(self, breaker: Breaker) -> None:
        """Go by another policy: what has happened counts on; an open circuit is open for as long as it was to be."""
        self.breaker = breaker
        self._failures = deque(self._failures, maxlen=breaker.failures)

    def admits(self, who: object, now: float) -> float | None:
        """None if this one may start; else after how many seconds one may, 0 if that hangs on the trial."""
        if self.state == "closed":
            return None
        if self.state == "open":
            if now < self._until:
                self.refused += 1
                return self._until - now
            self.state = "half_open"
        if self._trial is None:
            self._trial = who
            return None
        self.refused += 1
        return 0.0

    def succeeded(self, who: object) -> None:
        """An attempt succeeded."""
        if self.state == "half_open" and who is self._trial:
            self.state = "closed"
            self._trial = None
            self._failures.clear()

    def failed(self, who: object, now: float) -> bool:
        """An attempt failed; whether that opened the circuit."""
        if self.state == "half_open" and who is self._trial:
            self._open(now)
            return True
        if self.state != "closed":
            return False
        self._failures.append(now)
        if len(self._failures) < self.breaker.failures or now - self._failures[0] > self.breaker.within:
            return False
        self._open(now)
        return True

    def dropped(self, who: object) -> None:
        """One that was admitted ended in neither way."""
        if who is self._trial:
            self._trial = None

    def _open(self, now: float) -> None:
        self.state = "open"
        self.opened += 1
        self._until = now + self.breaker.cooldown
        self._trial = None
        self._failures.clear()
