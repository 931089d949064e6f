"""A few connections that read, beside the one that writes."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable
from typing import Concatenate, ParamSpec, TypeVar

import anyio

from ...errors import EngineClosed
from .link import Link, connect

P = ParamSpec("P")
T = TypeVar("T")


class Readers:
    """Reads go to whichever connection is free; who finds none waits, first come first served."""

    def __init__(self, file: str, busy_seconds: float, limit: int) -> None:
        self._file = file
        self._busy_seconds = busy_seconds
        self._limit = limit
        self._free = anyio.Semaphore(limit, fast_acquire=True)
        self._idle: list[Link[sqlite3.Connection]] = []
        self._closed = False

    async def run(
        self, function: Callable[Concatenate[sqlite3.Connection, P], T], *args: P.args, **kwargs: P.kwargs
    ) -> T:
        """Call the function with a connection."""
        async with self._free:
            if self._closed:
                raise closed()
            link = self._idle.pop() if self._idle else Link("engine-sqlite-reader", self._file, self._open)
            try:
                return await link.run(function, *args, **kwargs)
            finally:
                self._idle.append(link)

    async def close(self) -> None:
        """Close them all, once what is being read has been read."""
        self._closed = True
        with anyio.CancelScope(shield=True):
            for _ in range(self._limit):
                await self._free.acquire()
            for link in self._idle:
                await link.close()
        for _ in range(self._limit):
            self._free.release()  # whoever still waits finds out

    def _open(self) -> sqlite3.Connection:
        connection = connect(self._file, "rw", self._busy_seconds, sqlite3.Connection)
        connection.execute("PRAGMA query_only = ON")
        return connection


def closed() -> EngineClosed:
    """The error for calls outside of a store's life."""
    return EngineClosed("the store is closed; use it inside `async with`")
