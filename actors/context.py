"""What an actor can see of itself and ask of the runtime."""

from __future__ import annotations

from typing import Any

from .cell import Cell
from .channel import Channel
from .errors import ActorError
from .lifecycle import NORMAL
from .ref import ActorRef, cell_of
from .reply import Reply


class Context:
    """What one incarnation of an actor can see of itself and ask of the runtime; valid while it lives."""

    __slots__ = ("_cell", "incarnation")

    def __init__(self, cell: Cell) -> None:
        self._cell = cell
        self.incarnation = cell.incarnation

    @property
    def ref(self) -> ActorRef[Any]:
        """The actor's own ref, to give to others."""
        return self._cell.ref

    @property
    def attempt(self) -> int:
        """Which try of the message in hand this is: more than 1 only after a crash with `redeliver`."""
        return self._cell.attempt_in_hand(self._cell.in_hand)

    @property
    def origin(self) -> ActorRef[Any] | Channel[Any] | None:
        """Where the message in hand came from: an actor, a channel, or neither (a task outside the tree)."""
        origin = self._origin()
        if isinstance(origin, Reply):
            origin = origin.sender
        return origin.ref if isinstance(origin, Cell) else origin

    def defer_reply(self) -> Reply[Any]:
        """Take over answering the `ask` in hand: what `receive` returns is not sent, `reply.send(…)` is.

        An incarnation that ends first fails the ask.
        """
        origin = self._origin()
        if not isinstance(origin, Reply):
            raise ActorError(f"actor {self._cell.path!r}: the message in hand was told, not asked")
        origin.defer()
        return origin

    def watch(self, ref: ActorRef[Any]) -> None:
        """Get `on_terminated` exactly once when that actor has ended for good, also if it has already.

        A restart is no end. An actor's own restart forgets what it watched.
        """
        self._cell.watch(cell_of(ref))

    def unwatch(self, ref: ActorRef[Any]) -> None:
        """Get nothing about that actor any more, from now on."""
        self._cell.unwatch(cell_of(ref))

    def stop(self) -> None:
        """End normally once the message in hand is handled."""
        self._cell.request_stop(NORMAL, by=self.incarnation)

    def _origin(self) -> Any:
        item = self._cell.in_hand
        return item[1] if isinstance(item, tuple) else None
