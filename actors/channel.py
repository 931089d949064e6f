"""A typed channel: one edge between two actors, with a capacity counted in credits.

Items land in the destination's mailbox, tagged with the channel: one wake-up, no select over many streams. The
capacity is enforced as credits given out by whoever schedules, *before* the sender starts to work, and never by
blocking the sender in `send`: blocking bounded edges in a cyclic graph deadlock.
"""

from __future__ import annotations

from types import UnionType
from typing import Any, Final, Generic, Protocol, TypeVar

import anyio
import attrs

from .capacity import checked_capacity
from .errors import MailboxClosed, NoCredit, WrongMessage
from .message_type import checked_message_type

T = TypeVar("T")


class Destination(Protocol):
    """Where a channel ends: it takes what a credit has made room for."""

    def admit(self, item: tuple[object, object]) -> None:
        """Take an item tagged with its origin; raises `MailboxClosed` when it takes no more."""
        ...

    def dead_letter(self, message: object, sender: object) -> None:
        """Account for a message that came too late."""
        ...


@attrs.frozen
class ChannelStatistics:
    """What a channel holds and has seen."""

    depth: int
    high_water: int
    sent: int
    received: int
    dropped: int
    credits: int
    seconds_waited_for_credit: float


class Channel(Generic[T]):
    """An edge from `source` to `destination` that at most `capacity` items wait on.

    Whoever schedules calls `reserve()` before the sender's work starts and, if that says no, tries again once
    `on_credit` is called. `send_nowait()` uses one reservation up. A credit comes back when the destination takes
    the item, when it turns out to be dead, or by `cancel_reservation()`. `on_credit` runs in the middle of whatever
    gave the credit back, the destination's loop mostly: it must be quick and must not raise.
    """

    __slots__ = (
        "_destination",
        "_high_water",
        "_received",
        "_reserved",
        "_sent",
        "_waited",
        "_waiting_since",
        "capacity",
        "destination",
        "dropped",
        "on_credit",
        "source",
        "type",
    )

    def __init__(
        self,
        source: str,
        destination: str,
        target: Destination,
        *,
        type: type[T] | UnionType | None = None,
        capacity: int = 64,
    ) -> None:
        self.source: Final = source
        self.destination: Final = destination
        self.type: Final = checked_message_type(type, f"channel {source!r} -> {destination!r}")
        self.capacity: Final = checked_capacity(capacity)
        self.on_credit: Any = None
        self.dropped = 0
        self._destination = target
        self._reserved = 0
        self._sent = 0
        self._received = 0
        self._high_water = 0
        self._waiting_since: float | None = None
        self._waited = 0.0

    def reserve(self) -> bool:
        """Take a credit if there is one; tells whether there was."""
        if self.credits > 0:
            self._reserved += 1
            return True
        if self._waiting_since is None:
            self._waiting_since = anyio.current_time()
        return False

    def cancel_reservation(self) -> None:
        """Give back a credit that was reserved and is not needed."""
        if not self._reserved:
            raise NoCredit(f"channel {self.source!r} -> {self.destination!r}: nothing is reserved")
        self._reserved -= 1
        self._credit_came_back()

    def send_nowait(self, message: T) -> None:
        """Send on a credit reserved before; never blocks, and never raises for a dead destination.

        Raises `WrongMessage` for a message of another type and `NoCredit` without a reservation.
        """
        if self.type is not None and not isinstance(message, self.type):
            raise WrongMessage.found(f"channel {self.source!r} -> {self.destination!r}", self.type, message)
        if not self._reserved:
            raise NoCredit(f"channel {self.source!r} -> {self.destination!r}: reserve a credit before you send")
        self._reserved -= 1
        self._sent += 1
        try:
            self._destination.admit((message, self))
        except MailboxClosed:
            self._destination.dead_letter(message, self)
            self.drop()
        else:
            if self.depth > self._high_water:
                self._high_water = self.depth

    def taken(self) -> None:
        """The destination has taken one item: its credit comes back. Called by the runtime."""
        self._received += 1
        self._credit_came_back()

    def returned(self) -> None:
        """An item that was taken lies at the destination again, to be tried again. Called by the runtime."""
        self._received -= 1

    def drop(self) -> None:
        """One item on its way is gone: its credit comes back. Called by the runtime, which makes a dead letter."""
        self.dropped += 1
        self._credit_came_back()

    @property
    def depth(self) -> int:
        """How many items lie at the destination, not yet taken."""
        return self._sent - self._received - self.dropped

    @property
    def credits(self) -> int:
        """How many more items could be sent now."""
        # An item that came back may find its credit given to another.
        return max(0, self.capacity - self._reserved - self.depth)

    def statistics(self) -> ChannelStatistics:
        """Return a snapshot."""
        return ChannelStatistics(
            depth=self.depth,
            high_water=self._high_water,
            sent=self._sent,
            received=self._received,
            dropped=self.dropped,
            credits=self.credits,
            seconds_waited_for_credit=self._waited,
        )

    def __repr__(self) -> str:
        return f"<Channel {self.source!r} -> {self.destination!r} {self.depth}/{self.capacity}>"

    def _credit_came_back(self) -> None:
        if self._waiting_since is not None:
            self._waited += anyio.current_time() - self._waiting_since
            self._waiting_since = None
            if self.on_credit is not None:
                self.on_credit()
