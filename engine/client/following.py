"""A run's events from a service, without gaps and doubles, whatever becomes of the connection.

The stream ends when the run is over. When the connection is lost, the service starts anew, or this reader was too slow
for it, another connection begins after the last event that came: events have numbers. There is no task behind this, so
nothing outlives the client; while nobody reads, nothing happens but that the network holds what it can.
"""

from __future__ import annotations

from collections import deque
from collections.abc import AsyncIterator
from contextlib import suppress
from time import monotonic
from types import TracebackType
from typing import Any, Final, Self
from urllib.parse import quote

import anyio
import orjson

from ..errors import EngineError, HistoryGone
from ..history import Event
from .faults import ServiceError, error_of
from .needed import httpx2
from .patience import BUSY, retry_after
from .sse import Message, Parser
from .told import event_of
from .transport import Transport, refusal

SILENCE_SECONDS: Final = 60.0
"""A service says something every 15 s; after so long without anything the connection is dead."""


class Events:
    """The events of a run that follow a number, until the run is over: for `async for`, once.

    Who leaves before the end may `aclose()` it, or use it in `async with`; at the latest the client does so.
    """

    def __init__(self, transport: Transport, run_id: str, after: int, open_streams: set[Events]) -> None:
        self._transport = transport
        self._run_id = run_id
        self._attempts = transport.attempts()
        self._open = open_streams
        self._ready: deque[Event] = deque()
        self._seen = after
        self._given = after
        self._response: httpx2.Response | None = None
        self._chunks: AsyncIterator[bytes] | None = None
        self._parser = Parser()
        self._since = 0.0
        self._over = False
        self._failed: EngineError | None = None

    @property
    def seen(self) -> int:
        """The number of the last event that was given: to go on from there, `events(after=…)`."""
        return self._given

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> Event:
        while not self._ready:
            if self._failed is not None:
                raise self._failed
            if self._over:
                raise StopAsyncIteration
            await self._read()
        event = self._ready.popleft()
        self._given = event.seq
        return event

    async def aclose(self) -> None:
        """Close the connection; there are no more events."""
        self._over = True
        self._ready.clear()
        await self._hang_up()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        await self.aclose()

    # -- inside

    async def _read(self) -> None:
        """Read something, or connect, or wait for that."""
        try:
            if self._chunks is None:
                await self._connect()
                return
            chunk = await anext(self._chunks, b"")
        except httpx2.TransportError as error:
            await self._hang_up()
            await self._wait_or_fail(self._transport.unreachable(error))
            return
        except BaseException:
            # Cancelled in the middle: what was on its way is lost, and comes again by its number.
            await self._hang_up()
            raise
        if not chunk:
            await self._hang_up()
            await self._wait_or_fail(self._transport.unreachable(ConnectionError("the stream ended in the middle")))
            return
        for message in self._parser.feed(chunk):
            await self._take(message)
            if self._chunks is None:
                break

    async def _connect(self) -> None:
        transport = self._transport
        request = transport.http.build_request(
            "GET",
            f"/api/runs/{quote(self._run_id, safe='')}/events",
            headers={"last-event-id": str(self._seen), "accept": "text/event-stream", "cache-control": "no-store"},
        )
        timeout: dict[str, Any] = request.extensions["timeout"]
        timeout["read"] = max(SILENCE_SECONDS, timeout["read"])
        response = self._response = await transport.http.send(request, stream=True)
        self._open.add(self)
        if response.status_code == 200:
            self._parser, self._since = Parser(), monotonic()
            self._chunks = aiter(response.aiter_bytes())
            return
        if response.status_code == 204:
            await self._hang_up()
            self._over = True
            return
        await response.aread()
        await self._hang_up()
        asked = retry_after(response.headers)
        if response.status_code in BUSY and (asked is not None or response.status_code != 429):
            await self._wait_or_fail(refusal(response), asked or 0.0)
            return
        self._failed = refusal(response)

    async def _take(self, message: Message) -> None:
        if message.type == "end" and message.id is None:
            await self._hang_up()
            await self._ended(orjson.loads(message.data))
            return
        event = event_of(message.data)
        if event.seq <= self._seen:
            return  # a proxy that kept an answer, say
        if event.seq != self._seen + 1:
            # Cannot be, as the service promises; whoever counts on it must not be left believing it.
            self._failed = HistoryGone(self._seen + 1, event.seq)
            await self._hang_up()
            return
        self._attempts.went_well()
        self._seen = event.seq
        self._ready.append(event)

    async def _ended(self, why: dict[str, Any]) -> None:
        match why.get("reason"):
            case "over":
                self._over = True
            case "lost":
                problem = why.get("problem")
                status = problem.get("status", 500) if isinstance(problem, dict) else 500
                self._failed = error_of(status, problem, "its stream ended, and it did not say why")
            case reason:  # draining, idle, too_slow: come back
                said = ServiceError(f"the stream of run {self._run_id!r} ended: {reason}", status=503, code=str(reason))
                await self._wait_or_fail(said)

    async def _wait_or_fail(self, error: EngineError, at_least: float = 0.0) -> None:
        gap = self._attempts.gap(monotonic(), at_least)
        if gap is None:
            self._failed = error
        elif not self._ready:
            await anyio.sleep(gap)

    async def _hang_up(self) -> None:
        response, chunks, self._response, self._chunks = self._response, self._chunks, None, None
        self._open.discard(self)
        if chunks is not None:
            if monotonic() - self._since >= self._transport.patience.longest_gap:
                self._attempts.went_well()  # it was good for a while, though nothing may have happened in the run
            await _finish(chunks)
        if response is not None:
            with anyio.CancelScope(shield=True):
                await response.aclose()


async def _finish(chunks: AsyncIterator[bytes]) -> None:
    """End the async generators that are behind this: what cancels the innermost one's wait goes up through all.

    Closing the outermost would leave the others to the garbage collector, of which trio warns, and rightly.
    """
    with anyio.CancelScope(shield=True) as scope, suppress(httpx2.TransportError, StopAsyncIteration):
        scope.cancel()
        while True:
            await anext(chunks)
