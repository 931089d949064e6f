"""A round: a group of children that is stopped in reverse order, waits, and is started in order. Pure.

The first start of a supervisor is a round of all its children. Whoever is next is taken off a heap, so that an event
costs the same whether a supervisor has ten children or ten thousand, and a child can join late and still have its turn.
"""

from __future__ import annotations

from collections.abc import Iterable
from heapq import heapify, heappop, heappush
from typing import Literal

import attrs


@attrs.define
class Round:
    """A group on its way down and up again; members go by name and by place in the order of starting."""

    members: dict[str, int]
    doomed: set[str]  # those of the members that have to be stopped first
    stage: Literal["stopping", "waiting", "starting"]
    delay: float = attrs.field(default=0.0, kw_only=True)
    first: bool = attrs.field(default=False, kw_only=True)
    timer: int | None = attrs.field(default=None, init=False)
    _to_stop: list[tuple[int, str]] = attrs.field(init=False)
    _to_start: list[tuple[int, str]] = attrs.field(init=False)

    def __attrs_post_init__(self) -> None:
        self._to_stop = [(-self.members[name], name) for name in self.doomed]
        self._to_start = [(place, name) for name, place in self.members.items()]
        heapify(self._to_stop)
        heapify(self._to_start)

    @classmethod
    def first_start(cls, members: dict[str, int]) -> Round:
        """Start all for the first time."""
        return cls(members, set(), "starting", first=True)

    def restart_of(self, doomed: dict[str, int], delay: float) -> Round:
        """Make the round that follows when one more member fails.

        What this one has still to stop and to start is left to do; what it has started may stay.
        """
        still_doomed = self.doomed if self.stage == "stopping" else set()
        longest = delay if self.stage == "starting" else max(delay, self.delay)
        return Round(self.members | doomed, still_doomed | doomed.keys(), "stopping", delay=longest, first=self.first)

    def next_to_stop(self) -> str | None:
        """Take the last in order of those to be stopped."""
        while self._to_stop:
            place, name = heappop(self._to_stop)
            if self.members.get(name) == -place:
                return name
        return None

    def next_to_start(self) -> str | None:
        """Take the first in order of those to be started."""
        while self._to_start:
            place, name = heappop(self._to_start)
            if self.members.get(name) == place:
                return name
        return None

    def started_out_of_turn(self, name: str) -> None:
        """One that is started while others are being stopped has to be stopped with them."""
        if self.stage == "stopping" and name in self.doomed:
            heappush(self._to_stop, (-self.members[name], name))

    def forget(self, name: str) -> None:
        """Go on without a member that is gone; who comes by its name is another."""
        self.members.pop(name, None)
        self.doomed.discard(name)

    def has_any(self, names: Iterable[str]) -> bool:
        """Tell whether one of these is a member."""
        return any(name in self.members for name in names)
