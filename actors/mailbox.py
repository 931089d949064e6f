"""A mailbox for one consumer, with two lanes.

The *control* lane is unbounded and always served first: a full mailbox must never make an actor unstoppable.
The *data* lane is bounded. An item is never handed to a waiting task; it lies in a deque until it is taken, so a
cancelled `get()` loses nothing (an anyio memory stream loses one item when its receiver is cancelled natively).

A producer that has to wait gets a *reservation* when room is made, in the order of arrival, and puts its item
itself when it runs again. A producer cancelled at that very moment gives the reservation to the next one and has
put nothing. The consumer is woken before an item is put: what raises there (`WrongThread`) has put nothing.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Awaitable, Callable
from enum import Enum
from typing import Final, Generic, Literal, TypeVar

import attrs
from anyio.lowlevel import checkpoint

from .capacity import Overflow, checked_capacity, checked_overflow
from .errors import EndOfMailbox, MailboxClosed, MailboxFull
from .waker import Waker, new_waker

T = TypeVar("T")

# Items taken in a row before the loop gets a turn: without it siblings starve, with it an item costs 0.2 us more.
BURST: Final = 64


class _Empty(Enum):
    EMPTY = 0


EMPTY: Final = _Empty.EMPTY


@attrs.frozen
class MailboxStatistics:
    """What a mailbox holds and has seen."""

    control: int
    data: int
    capacity: int
    waiting_producers: int
    dropped: int
    closed: bool


class _Producer:
    __slots__ = ("granted", "waker")

    def __init__(self) -> None:
        self.granted = False
        self.waker = new_waker()


class Mailbox(Generic[T]):
    """Two lanes of items for one consumer; see the module for the promises.

    `on_drop` is called with each item that an overflow policy throws away.
    """

    __slots__ = (
        "_burst",
        "_closed",
        "_control",
        "_data",
        "_dropped",
        "_on_drop",
        "_producers",
        "_reserved",
        "_waker",
        "capacity",
        "overflow",
    )

    def __init__(
        self, capacity: int = 64, overflow: Overflow = "block", *, on_drop: Callable[[T], object] | None = None
    ) -> None:
        self.capacity: Final = checked_capacity(capacity)
        self.overflow: Final = checked_overflow(overflow)
        self._on_drop = on_drop
        self._control: deque[T] = deque()
        self._data: deque[T] = deque()
        self._producers: list[_Producer] = []  # rarely long; an empty deque is eleven times as large
        self._reserved = 0
        self._dropped = 0
        self._closed = False
        self._burst = 0
        self._waker: Waker | None = None  # made by the consumer: a mailbox may be built before any loop runs

    # -- producers

    def offer(self, item: T) -> bool:
        """Put an item on the data lane if it is open and has room; tells whether it did."""
        if self._closed or len(self._data) + self._reserved >= self.capacity:
            return False
        if self._waker is not None:
            self._waker.wake()
        self._data.append(item)
        return True

    def put_nowait(self, item: T) -> None:
        """Put an item on the data lane, now.

        With no room: raises `MailboxFull` under the policies `block` and `fail`, drops an item under the others.
        """
        if self.offer(item):
            return
        if self._closed:
            raise MailboxClosed("the mailbox is closed")
        self._overflowed(item)

    async def put(self, item: T) -> None:
        """Put an item on the data lane, waiting for room under the policy `block`, first come first served.

        Cancelled, it has put nothing. Does not yield when there is room.
        """
        if self.offer(item):
            return
        if self.overflow == "block" and not self._closed:
            await self._wait_for_room()
            self.admit(item)
        else:
            self.put_nowait(item)

    def admit(self, item: T) -> None:
        """Put an item on the data lane whatever its capacity: for those whose own credits bound what they send."""
        if self._closed:
            raise MailboxClosed("the mailbox is closed")
        if self._waker is not None:
            self._waker.wake()
        self._data.append(item)

    def put_back(self, item: T) -> None:
        """Return an item that was taken to the head of the data lane, whatever its capacity."""
        self._data.appendleft(item)

    def put_control(self, item: T) -> None:
        """Put an item on the control lane: it overtakes all data and is never refused for lack of room."""
        if self._closed:
            raise MailboxClosed("the mailbox is closed")
        if self._waker is not None:
            self._waker.wake()
        self._control.append(item)

    def close(self) -> None:
        """Refuse all further items; what is there can still be taken. Waiting producers get `MailboxClosed`."""
        self._closed = True
        for producer in self._producers:
            producer.waker.wake()
        self._producers.clear()
        if self._waker is not None:
            self._waker.wake()

    # -- the consumer

    def take_nowait(self) -> T | Literal[_Empty.EMPTY]:
        """Take the next item, or `EMPTY`."""
        if self._control:
            return self._control.popleft()
        if self._data:
            item = self._data.popleft()
            if self._producers:
                self._pass_room_on()
            return item
        return EMPTY

    async def get(self) -> T:
        """Take the next item, waiting for one; raises `EndOfMailbox` once closed and empty.

        Cancelled, it has taken nothing. Does not yield while items are there, but for one turn in `BURST`.
        """
        if self._burst >= BURST:
            self._burst = 0
            await checkpoint()
        while (item := self.take_nowait()) is EMPTY:
            self._burst = 0
            await self.changed()
        self._burst += 1
        return item

    def changed(self) -> Awaitable[object]:
        """Await this right after `take_nowait()` gave nothing: it returns when something may have come.

        Raises `EndOfMailbox` once closed. No coroutine of its own: that would be a tenth of what a message costs.
        """
        if self._closed:
            raise EndOfMailbox("the mailbox is closed and empty")
        if self._waker is None:
            self._waker = new_waker()
        return self._waker.park()

    def withdraw(self, is_void: Callable[[T], bool]) -> None:
        """Throw away the control items that mean nothing any more."""
        if self._control:
            kept = [item for item in self._control if not is_void(item)]
            self._control.clear()
            self._control.extend(kept)

    def drain(self) -> list[T]:
        """Take all that is left, control first."""
        leftovers = [*self._control, *self._data]
        self._control.clear()
        self._data.clear()
        self._pass_room_on()
        return leftovers

    @property
    def lanes(self) -> tuple[deque[T], deque[T], list[_Producer]]:
        """The lanes themselves and who waits, for the one consumer; where nobody waits it may take items by itself."""
        return self._control, self._data, self._producers

    # -- everyone

    @property
    def closed(self) -> bool:
        """Whether further items are refused."""
        return self._closed

    def __len__(self) -> int:
        return len(self._control) + len(self._data)

    def statistics(self) -> MailboxStatistics:
        """Return a snapshot."""
        return MailboxStatistics(
            control=len(self._control),
            data=len(self._data),
            capacity=self.capacity,
            waiting_producers=len(self._producers),
            dropped=self._dropped,
            closed=self._closed,
        )

    # -- inside

    def _overflowed(self, item: T) -> None:
        if self.overflow == "drop_oldest":
            self._drop(self._data.popleft())
            self._data.append(item)
        elif self.overflow == "drop_newest":
            self._drop(item)
        else:
            raise MailboxFull(f"the mailbox is full: it holds {len(self._data)} items of {self.capacity}")

    def _drop(self, item: T) -> None:
        self._dropped += 1
        if self._on_drop is not None:
            self._on_drop(item)

    async def _wait_for_room(self) -> None:
        producer = _Producer()
        self._producers.append(producer)
        try:
            while not producer.granted and not self._closed:
                await producer.waker.park()
        except BaseException:
            if producer.granted:
                self._reserved -= 1
                self._pass_room_on()
            elif producer in self._producers:
                self._producers.remove(producer)
            raise
        if producer.granted:
            self._reserved -= 1

    def _pass_room_on(self) -> None:
        while self._producers and len(self._data) + self._reserved < self.capacity:
            producer = self._producers.pop(0)
            producer.granted = True
            self._reserved += 1
            producer.waker.wake()
