"""Watching runs: what a stream sends next, whatever it is sent over, and what ends a stream.

A stream holds one page of events at a time. Whoever reads too slowly is cut off: what has been sent has numbers, so
nothing is lost by beginning again after the last one. While nothing happens a ping goes out now and then. A stream that
had nothing but pings for long ends, and so do all when the engine drains.
"""

from __future__ import annotations

from collections.abc import Awaitable
from typing import Any, Final, Literal, Self

import anyio
import anyio.lowlevel
import attrs

from ..app import Engine
from ..errors import EngineClosed, EngineError, LeaseLost
from ..handle import Run
from ..history import Event
from ..readable import readable
from .problems import of_error, shown
from .wire import Scope, cut_off, dumped

Reason = Literal["over", "draining", "idle", "too_slow", "lost"]
PING: Final = b"ping"
LAST_WORD_SECONDS: Final = 0.2
"""How long the last word may take while the service ends."""


@attrs.frozen(kw_only=True)
class StreamLimits:
    """How patient streams are, in seconds."""

    ping: float = 15.0
    """After so long without an event a ping is sent."""
    slow: float = 20.0
    """So long may one send take until the reader is cut off; and as long again may it take for being told so."""
    idle: float = 3600.0
    """After so long without an event the stream ends."""
    first_message: float = 30.0
    """So long may a client take to say what it wants to be run."""


class TooSlow(Exception):
    """A reader does not keep up."""


class Streams:
    """The open streams of one application."""

    def __init__(self, engine: Engine, limits: StreamLimits) -> None:
        self.limits: Final = limits
        self._open: dict[Waiting, None] = {}
        self._draining = False
        engine.on_drain(self.end)

    def __len__(self) -> int:
        return len(self._open)

    def add(self, waiting: Waiting) -> None:
        """It is to end when all do; at once, if they have."""
        self._open[waiting] = None
        if self._draining:
            waiting.end()

    def remove(self, waiting: Waiting) -> None:
        """It has ended."""
        del self._open[waiting]

    def end(self) -> None:
        """Have every stream end itself."""
        self._draining = True
        for waiting in list(self._open):
            waiting.end()


class Waiting:
    """Something that waits, and that the end of the engine wakes."""

    __slots__ = ("_scope", "_streams", "draining")

    def __init__(self, streams: Streams) -> None:
        self._streams = streams
        self._scope: anyio.CancelScope | None = None
        self.draining = False

    def __enter__(self) -> Self:
        self._streams.add(self)
        return self

    def __exit__(self, *_: object) -> None:
        self._streams.remove(self)

    def end(self) -> None:
        """Wait no more."""
        self.draining = True
        if self._scope is not None:
            self._scope.cancel()

    async def wait(self, waited: Awaitable[Any], seconds: float | None) -> bool:
        """Wait so long at most; whether it came to its end."""
        with anyio.move_on_after(0 if self.draining else seconds) as self._scope:
            await waited
            return True
        return False


class Watch(Waiting):
    """One stream of a run's events. There may be thousands in which nothing happens, so it holds next to nothing."""

    __slots__ = ("_quiet", "_reader", "problem", "reason", "sent_up_to")

    def __init__(self, streams: Streams, run: Run, after: int) -> None:
        super().__init__(streams)
        self._reader = run.reader(after)
        self._quiet = 0.0
        self.sent_up_to = after
        """The number of the last event that was sent as a whole."""
        self.reason: Reason | None = None
        """Why it has ended."""
        self.problem: dict[str, Any] | None = None

    async def next(self) -> list[Event] | None:
        """The next events; an empty list if it is time for a ping; None at the end, which `reason` tells."""
        limits = self._streams.limits
        if self._quiet >= limits.idle:
            self.reason = "idle"
            return None
        # Written out: each call on the way to where it waits takes half a kilobyte of each stream.
        try:
            with anyio.move_on_after(0 if self.draining else limits.ping) as self._scope:
                page = await self._reader.page()
                self._quiet = 0.0
                self.reason = None if page else "over"
                return page or None
        except (EngineClosed, LeaseLost):
            self.reason = "draining"
            return None
        except EngineError as error:
            self.reason = "lost"
            self.problem = shown(of_error(error).problem)
            return None
        self._quiet += limits.ping
        self.reason = "draining" if self.draining else None
        return None if self.draining else []

    async def sent(self, sending: Awaitable[None]) -> None:
        """Send something; raises `TooSlow` if the reader does not take it, in time or before the service ends."""
        # Already in hand, it goes out though the service ends, to whoever reads.
        with anyio.move_on_after(LAST_WORD_SECONDS if self.draining else self._streams.limits.slow) as self._scope:
            await sending
            return
        self.reason = "draining" if self.draining else "too_slow"
        raise TooSlow

    async def last_word(self, scope: Scope, saying: Awaitable[None]) -> None:
        """Say how it ended; who does not take even that is cut off."""
        with anyio.move_on_after(LAST_WORD_SECONDS if self.draining else self._streams.limits.slow) as self._scope:
            await saying
            return
        cut_off(scope)
        await anyio.lowlevel.checkpoint()  # the server notices, and does not complain that the answer has no end


def event_data(event: Event) -> dict[str, Any]:
    """An event as it is sent."""
    return {
        "seq": event.seq,
        "type": event.type,
        "time": event.time,
        "node": event.node,
        "activation": event.activation,
        "data": readable(event.data),
    }


def event_json(event: Event) -> bytes:
    """The same as JSON."""
    return dumped(event_data(event))
