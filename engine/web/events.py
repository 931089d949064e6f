"""A run's events as server-sent events: `id` is an event's number, so a client that comes back misses none.

The last event is `end`, and says why: `over` (do not come back), `draining`, `idle` or `too_slow` (come back with
`Last-Event-ID`, as `EventSource` does by itself), `lost` (what follows is not kept any more). Who comes back to a run
that is over and has seen everything gets 204, upon which `EventSource` stays away. Who does not even take the `end`,
having been too slow, is reset.
"""

from __future__ import annotations

from contextlib import suppress
from typing import Final

import anyio
import attrs

from ..errors import HistoryGone
from ..handle import Run
from ..history import Event
from .problems import Refused
from .runs import run_of
from .service import Service
from .streams import TooSlow, Watch, event_json
from .table import Call
from .wire import Answer, Receive, Scope, Send, dumped, until_gone

HEADERS: Final = [
    (b"content-type", b"text/event-stream; charset=utf-8"),
    (b"cache-control", b"no-store"),
    (b"x-accel-buffering", b"no"),  # or nginx keeps events until it has a page of them
]
COME_BACK: Final = b"retry: 1000\n\n"
PIECE_BYTES: Final = 32_000
"""Events go out together, for small ones are many; but a page of large ones is no memory to spend on each reader."""
PING: Final = b": ping\n\n"


async def stream_events(call: Call) -> Answer | EventStream:
    """`GET /api/runs/{run_id}/events`."""
    run = await run_of(call)
    after = call.query["Last-Event-ID"]
    after = call.query["after"] if after is None else after
    machine = getattr(run, "machine", None)
    if machine is None:
        raise Refused(409, "not_here", f"run {run.id!r} has no events here: {run.explain('')}")
    if run.over and after >= machine.history.seq:
        return Answer(204)
    if after + 1 < (first := machine.history.first_kept) and run.past() is None:
        raise HistoryGone(after + 1, first)  # while there is still an answer to say it with
    return EventStream(call.service, run, after)


@attrs.frozen
class EventStream:
    """Sends a run's events until something ends it."""

    service: Service
    run: Run
    after: int

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Send them; ends at once when the client goes."""
        await send({"type": "http.response.start", "status": 200, "headers": HEADERS})
        if scope["method"] == "HEAD":
            await send({"type": "http.response.body", "body": b""})
            return
        with Watch(self.service.streams, self.run, self.after) as watch:
            gone = True
            async with anyio.create_task_group() as group:
                group.start_soon(until_gone, receive, group.cancel_scope)
                with suppress(OSError):  # some servers say so when the client has gone
                    await self._send(send, watch)
                    gone = False
                group.cancel_scope.cancel()
        # By itself: the end of an answer is told as the end of its client, too, and Hypercorn does not finish with a
        # connection if what told it is cancelled in the middle of that.
        if not gone:
            await self._end(scope, send, watch)

    async def _send(self, send: Send, watch: Watch) -> None:
        try:
            await watch.sent(_put(send, COME_BACK))
            while await _send_page(send, watch):
                pass  # and hold no page of events while nothing happens
        except TooSlow:
            pass

    async def _end(self, scope: Scope, send: Send, watch: Watch) -> None:
        end = {"reason": watch.reason, "status": self.run.status, "after": watch.sent_up_to, "problem": watch.problem}
        with suppress(OSError):
            await watch.last_word(scope, _put(send, b"event: end\ndata: " + dumped(end) + b"\n\n", more=False))


async def _send_page(send: Send, watch: Watch) -> bool:
    """Send the next events, or a ping; whether there may be more."""
    events = await watch.next()
    if events is None:
        return False
    piece = bytearray()
    for event in events:
        piece += _lines(event)
        if len(piece) > PIECE_BYTES or event is events[-1]:
            await watch.sent(_put(send, bytes(piece)))
            watch.sent_up_to = event.seq
            piece.clear()
    if not events:
        await watch.sent(_put(send, PING))
    return True


def _lines(event: Event) -> bytes:
    return b"id: %d\nevent: %s\ndata: %s\n\n" % (event.seq, event.type.encode(), event_json(event))


async def _put(send: Send, body: bytes, more: bool = True) -> None:
    await send({"type": "http.response.body", "body": body, "more_body": more})
