"""Back-pressure on one edge: `capacity=n` lets at most n tokens wait on it, ready to run.

A gate counts the tokens that lie in the queue of the edge's target, and the places reserved by activations of its
source that have started and may still send one. While both together fill it, new activations of the source wait to
start; whatever has started is never blocked. Edges that close a cycle have no gate, so a full cycle cannot lock.
"""

from __future__ import annotations

from collections.abc import Callable
from time import perf_counter


class Gate:
    """The count of one edge with a capacity, over all runs of its graph."""

    __slots__ = ("_since", "_waiting", "capacity", "depth", "high_water", "name", "reserved", "seconds_waited")

    def __init__(self, name: str, capacity: int) -> None:
        self.name = name
        self.capacity = capacity
        self.depth = 0
        self.high_water = 0
        self.reserved = 0
        self.seconds_waited = 0.0
        self._waiting: dict[Callable[[], object], None] = {}
        self._since = 0.0

    @property
    def has_room(self) -> bool:
        """Whether one more token may come to wait."""
        return self.reserved + self.depth < self.capacity

    def is_open(self, call_when_open: Callable[[], object]) -> bool:
        """Whether one more may start; where not, the call is made once one may, after those that asked before."""
        if self.has_room:
            return True
        if not self._waiting:
            self._since = perf_counter()
        self._waiting[call_when_open] = None
        return False

    def enter(self) -> None:
        """A token waits on the edge."""
        self.depth += 1
        self.high_water = max(self.high_water, self.depth)

    def leave(self) -> None:
        """A token that waited has been taken, or is gone."""
        self.depth -= 1
        self._let_in()

    def give_back(self) -> None:
        """A reserved place is not needed any more."""
        self.reserved -= 1
        self._let_in()

    def _let_in(self) -> None:
        if self._waiting and self.has_room:
            waiting, self._waiting = self._waiting, {}
            self.seconds_waited += perf_counter() - self._since
            for call in waiting:
                call()  # whoever finds no room any more asks again
