"""Ctrl-C: the first is something to act on, the second ends the process at once, whatever it is doing.

Neither backend's own way will do: both need the loop to turn, which a node that blocks it keeps it from.
"""

from __future__ import annotations

import os
import signal
import socket
import sys
import threading
from collections.abc import Callable
from types import FrameType, TracebackType
from typing import Any, NoReturn, Self

import anyio

_SIGNALS = (signal.SIGINT, signal.SIGTERM)


class Interrupts:
    """Takes the signals that ask this process to end, inside `with`, in the main thread."""

    def __init__(self, leave: Callable[[], None]) -> None:
        self.number = 0
        """The signal that came, if one did."""
        self._leave = leave
        self._previous: dict[int, Any] = {}

    @property
    def code(self) -> int:
        """The exit code by which a shell is told: 130 for Ctrl-C."""
        return 128 + self.number

    def __enter__(self) -> Self:
        self._heard, self._tells = socket.socketpair()
        self._tells.setblocking(False)
        if threading.current_thread() is threading.main_thread():
            for number in _SIGNALS:
                self._previous[number] = signal.signal(number, self._came)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        for number, handler in self._previous.items():
            signal.signal(number, handler)
        self._heard.close()
        self._tells.close()

    async def wait(self) -> None:
        """Wait for the first."""
        await anyio.wait_readable(self._heard)

    def _came(self, number: int, _frame: FrameType | None) -> None:
        if self.number:
            self._leave_at_once()
        self.number = number
        self._tells.send(b"!")

    def _leave_at_once(self) -> NoReturn:
        try:
            self._leave()
            sys.stderr.flush()
        finally:
            os._exit(self.code)
