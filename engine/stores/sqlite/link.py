"""A connection in a thread of its own, which is made anew when it broke."""

from __future__ import annotations

import contextlib
import sqlite3
from collections.abc import Callable
from pathlib import Path
from typing import Concatenate, Generic, ParamSpec, TypeVar

import anyio

from ..thread import DriverThread
from .errors import breaks_the_connection, is_outside, unavailable

C = TypeVar("C", bound=sqlite3.Connection)
P = ParamSpec("P")
T = TypeVar("T")


def connect(file: str, mode: str, busy_seconds: float, factory: type[C]) -> C:
    """Open the file: mode "rw" if it must be there, "rwc" to make it."""
    return sqlite3.connect(
        f"{Path(file).as_uri()}?mode={mode}",
        uri=True,
        timeout=busy_seconds,
        isolation_level=None,  # we say ourselves where a transaction begins
        factory=factory,
    )


class Link(Generic[C]):
    """Calls functions with the connection, in its thread."""

    def __init__(self, name: str, file: str, open: Callable[[], C]) -> None:
        self._thread = DriverThread(name)
        self._file = file
        self._open = open
        self._connection: C | None = None

    async def run(self, function: Callable[Concatenate[C, P], T], *args: P.args, **kwargs: P.kwargs) -> T:
        """Call the function; no transaction is left open, and `StoreUnavailable` raised for what the world did."""
        return await self._thread.run(lambda: self._call(function, *args, **kwargs))

    async def close(self) -> None:
        """Close the connection and end the thread."""
        with anyio.CancelScope(shield=True):
            await self._thread.run(self._drop)
        self._thread.close()

    def _call(self, function: Callable[Concatenate[C, P], T], *args: P.args, **kwargs: P.kwargs) -> T:
        try:
            if self._connection is None:
                self._connection = self._open()
            return function(self._connection, *args, **kwargs)
        except sqlite3.Error as error:
            self._recover(broken=breaks_the_connection(error))
            if is_outside(error):
                raise unavailable(self._file, error) from error
            raise
        except BaseException:
            self._recover(broken=False)
            raise

    def _recover(self, *, broken: bool) -> None:
        if self._connection is not None and self._connection.in_transaction:
            try:
                self._connection.execute("ROLLBACK")
            except sqlite3.Error:
                broken = True
        if broken:
            self._drop()

    def _drop(self) -> None:
        connection, self._connection = self._connection, None
        if connection is not None:
            with contextlib.suppress(sqlite3.Error):
                connection.close()
