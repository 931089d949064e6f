"""Dead letters: every message that could not be delivered is counted, shown to the observer and logged.

So that a storm of them cannot drown the log, the first few of each target in a stretch of time are logged one by
one; the rest of the stretch becomes one line with their number.
"""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Callable, Sequence
from time import monotonic
from typing import Any, Final, Literal

import attrs

from .shown import shown

logger = logging.getLogger("actors")

LOGGED_PER_STRETCH: Final = 10
STRETCH_SECONDS: Final = 10.0

DeadReason = Literal["stopped", "overflow", "late_reply", "poison", "cancelled"]


@attrs.frozen
class DeadLetter:
    """A message that could not be delivered: to whom, from whom, and why.

    `stopped`: the target is dead, or died before it came to the message. `overflow`: a full mailbox dropped it.
    `late_reply`: nobody waits for the reply any more, or had one already. `poison`: it crashed its actor as often
    as redelivery allows. `cancelled`: it was in the hand of an actor that was killed.
    """

    message: object
    target: str
    sender: str | None
    reason: DeadReason


@attrs.define
class _Stretch:
    since: float
    logged: int = 0
    held_back: int = 0


class DeadLetters:
    """The dead letters of one tree."""

    def __init__(self, observe: Callable[[DeadLetter], Any], *, clock: Callable[[], float] = monotonic) -> None:
        self.counts: Counter[DeadReason] = Counter()
        self._observe = observe
        self._clock = clock
        self._stretches: dict[str, _Stretch] = {}
        self._next_sweep = clock() + STRETCH_SECONDS

    def record(self, letter: DeadLetter) -> None:
        """Account for one letter."""
        self._account(letter)
        stretch = self._stretch_of(letter.target)
        if stretch.logged < LOGGED_PER_STRETCH:
            stretch.logged += 1
            logger.warning(
                "dead letter for %s from %s (%s): %s",
                letter.target,
                letter.sender,
                letter.reason,
                shown(letter.message),
            )
        else:
            stretch.held_back += 1

    def record_all(self, letters: Sequence[DeadLetter]) -> None:
        """Account for what one target left behind, in one line of the log."""
        for letter in letters:
            self._account(letter)
        if letters:
            first = letters[0]
            logger.warning(
                "%d dead letters for %s (%s), the first %s",
                len(letters),
                first.target,
                first.reason,
                shown(first.message),
            )

    def flush(self) -> None:
        """Log what is still held back; called when the tree ends."""
        for target in list(self._stretches):
            self._end_stretch(target)

    def _account(self, letter: DeadLetter) -> None:
        self.counts[letter.reason] += 1
        self._observe(letter)

    def _stretch_of(self, target: str) -> _Stretch:
        now = self._clock()
        if now >= self._next_sweep:
            self._next_sweep = now + STRETCH_SECONDS
            for old in [name for name, stretch in self._stretches.items() if now - stretch.since >= STRETCH_SECONDS]:
                self._end_stretch(old)
        stretch = self._stretches.get(target)
        if stretch is not None and now - stretch.since >= STRETCH_SECONDS:
            self._end_stretch(target)
        return self._stretches.setdefault(target, _Stretch(now))

    def _end_stretch(self, target: str) -> None:
        held_back = self._stretches.pop(target).held_back
        if held_back:
            logger.warning("%d more dead letters for %s within %g s", held_back, target, STRETCH_SECONDS)
