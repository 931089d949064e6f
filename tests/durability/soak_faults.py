"""Services that are broken on purpose, each in one way: what a soak test that cannot find them would be worth nothing.

Served as `--graphs tests.durability.soak_faults:<name>`; naming one breaks the process that imports it.
"""

from __future__ import annotations

import itertools
from typing import Any, Final

from engine.handle import Run
from engine.journal import Entry, Journal
from engine.reader import EventReader
from engine.stored import Write
from engine.web import app
from tests.durability import soak_flows

_kept: Final[list[bytearray]] = []


def _early_ack() -> None:
    """Acknowledges a run before it is committed."""
    write = Journal.write

    async def written(self: Journal, *writes: Write, admits: str | None = None, **options: Any) -> None:
        if admits is None:
            await write(self, *writes, **options)
        else:
            self._add(Entry(writes, None, True, admits))

    Journal.write = written  # type: ignore[method-assign,assignment]


def _resume(by: int) -> None:
    begin = EventReader.__init__

    def begun(self: EventReader, run: Any, after: int = 0) -> None:
        begin(self, run, after + by if after else after)

    EventReader.__init__ = begun  # type: ignore[method-assign]


def _drop_event() -> None:
    """Leaves out one event where a stream is resumed."""
    _resume(1)


def _repeat_event() -> None:
    """Sends one event again where a stream is resumed."""
    _resume(-1)


def _leak() -> None:
    """Keeps 100 KB of each request."""
    ask = app.Application.__call__

    async def asked(self: Any, scope: Any, receive: Any, send: Any) -> None:
        _kept.append(bytearray(b"x" * 100_000))
        await ask(self, scope, receive, send)

    app.Application.__call__ = asked  # type: ignore[method-assign]


def _forget_signal() -> None:
    """Acknowledges every seventh signal, and forgets it."""
    signal, numbers = Run.signal, itertools.count(1)

    async def signalled(self: Run, *args: Any, **options: Any) -> None:
        if next(numbers) % 7:
            await signal(self, *args, **options)

    Run.signal = signalled  # type: ignore[method-assign]


FAULTS: Final = {
    fault.__name__.removeprefix("_"): fault for fault in (_early_ack, _drop_event, _repeat_event, _forget_signal, _leak)
}


def __getattr__(name: str) -> Any:
    if name not in FAULTS:
        raise AttributeError(name)
    FAULTS[name]()
    return soak_flows.graphs
