"""Connections to a server that comes and goes, each in a thread of its own.

Threads, and not psycopg's async face: that knows asyncio only.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar

import anyio
import psycopg

from ..thread import DriverThread
from .address import Address
from .faults import PASSING, refused, unreachable

T = TypeVar("T")

ATTEMPTS = 3
"""Of one piece of work. Every piece may be done again, whether or not the last attempt had its effect."""


class Link:
    """A connection, made when it is needed, and made anew when it was lost."""

    def __init__(self, address: Address, begin: Callable[[psycopg.Connection], None] | None = None) -> None:
        self._address = address
        self._connection: psycopg.Connection | None = None
        self.begin = begin
        """What a new connection begins with."""

    def use(self, work: Callable[[psycopg.Connection], T]) -> T:
        """Do the work on a connection; raises `StoreUnavailable`.

        A connection that was made earlier may have been lost since, with the server running again long ago. So this
        alone is no reason to fail: only what happens on a new one is. What an error leaves of a connection is not
        used again, so no work finds one in the middle of a transaction.
        """
        for attempt in range(1, ATTEMPTS + 1):
            fresh = self._connection is None
            try:
                return work(self._connected())
            except psycopg.Error as error:
                lost = self._connection is None or self._connection.broken
                self.close()
                if attempt == ATTEMPTS or not (isinstance(error, PASSING) or (lost and not fresh)):
                    raise refused(error, self._address.shown) from error
            except BaseException:
                if self._connection is not None and (fresh or not self._is_idle(self._connection)):
                    self.close()
                raise
        raise AssertionError("the last attempt returns or raises")

    def close(self) -> None:
        """Leave the server; a later use comes back."""
        connection, self._connection = self._connection, None
        if connection is not None:
            connection.close()

    def _connected(self) -> psycopg.Connection:
        if self._connection is None:
            try:
                self._connection = psycopg.connect(**self._address.options, autocommit=True)
            except psycopg.Error as error:
                raise unreachable(error, self._address.shown) from error
            if self.begin is not None:
                self.begin(self._connection)
        return self._connection

    @staticmethod
    def _is_idle(connection: psycopg.Connection) -> bool:
        return connection.info.transaction_status == psycopg.pq.TransactionStatus.IDLE


class Links:
    """So many connections at most, each used by one at a time; others wait for one to be free."""

    def __init__(
        self, name: str, most: int, address: Address, begin: Callable[[psycopg.Connection], None] | None = None
    ) -> None:
        self._name = name
        self._most = most
        self._address = address
        self._begin = begin
        self._places = anyio.Semaphore(most)
        self._idle: list[tuple[DriverThread, Link]] = []

    async def use(self, work: Callable[[psycopg.Connection], T]) -> T:
        """Do the work on one of them; see `Link.use`. Work that has begun is over when this is, even if cancelled."""
        async with self._places:
            thread, link = self._idle.pop() if self._idle else self._another()
            try:
                return await thread.run(link.use, work)
            finally:
                self._idle.append((thread, link))

    def _another(self) -> tuple[DriverThread, Link]:
        return DriverThread(self._name), Link(self._address, self._begin)

    async def begin_with(self, begin: Callable[[psycopg.Connection], None]) -> None:
        """Do this now, and whenever one of them is made anew. For links of which there is one."""
        async with self._places:
            thread, link = self._idle.pop()
            try:
                await thread.run(link.use, begin)
                link.begin = begin
            finally:
                self._idle.append((thread, link))

    async def close(self) -> None:
        """Wait until none is in use, and end them."""
        with anyio.CancelScope(shield=True):
            for _ in range(self._most):
                await self._places.acquire()
            while self._idle:
                thread, link = self._idle.pop()
                await thread.run(link.close)
                thread.close()
