"""WebSockets: watch a run, or submit one and watch it.

Each message is one JSON object. Events have a `seq`; what is no event has none, and a `type` of its own:

- `accepted` (execute only): the run that was submitted. Its id is all that is needed to come back.
- `ping`: nothing has happened for a while.
- `result`: the run is over, and this is what has become of it; the socket is closed with 1000.
- `problem`: what went wrong, as a problem document; the socket is closed with 4000 + its status: 4404, 4422, 4429.
- `end`: the socket is closed for another `reason`: `draining` (1012), `idle` (4408), `too_slow` (1013).

Whoever takes nothing of what is sent for a while (20 s, `--slow-reader`) is cut off: 1013, "try again later", waits
behind what is on its way for as long again, and then the connection is reset. On uvicorn, who answers no pings either,
without anything being sent, is closed with 1011. Whoever is cut off, with a code or without, comes back to
`/ws/runs/{run_id}?after=<the last seq>` and misses nothing.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from contextlib import suppress
from typing import Any, Final

import anyio
import attrs

from ..handle import Run
from .models import Submission, read
from .problems import Refused, is_of_the_guard, of_error, shown
from .runs import run_of, submit
from .service import run_info, run_item
from .streams import TooSlow, Watch, event_json
from .table import Call
from .wire import Receive, Send, dumped, read_data, until_gone

CODES: Final = {"over": 1000, "draining": 1012, "idle": 4408, "too_slow": 1013, "lost": 4410}
"""Why a socket is closed."""

Begin = Callable[[Call, "Socket"], Awaitable[Run]]


class Gone(Exception):
    """The client has left."""


@attrs.define
class Socket:
    """One connection."""

    receive: Receive
    send: Send

    async def message(self, seconds: float) -> bytes:
        """The next message; raises `Refused` if none comes in time, `Gone`."""
        with anyio.move_on_after(seconds):
            message = await self.receive()
            if message["type"] == "websocket.disconnect":
                raise Gone
            text = message.get("text")
            return text.encode() if text is not None else message.get("bytes") or b""
        raise Refused(408, "no_message", f"a message was expected within {seconds:g} s: what to run the graph on")

    async def say(self, data: bytes) -> None:
        """Send a message."""
        await self.send({"type": "websocket.send", "text": data.decode()})

    async def close(self, code: int, reason: str = "") -> None:
        """End it."""
        await self.send({"type": "websocket.close", "code": code, "reason": reason})


async def watch_run(call: Call, socket: Socket) -> Run:
    """`WS /ws/runs/{run_id}`."""
    return await run_of(call)


def _submission(data: Any) -> Submission:
    return read(Submission, data)


async def execute_graph(call: Call, socket: Socket, submission: Callable[[Any], Submission] = _submission) -> Run:
    """`WS /ws/graphs/{name}/execute`: what is submitted comes in the first message."""
    call.service.engine.plan(call.path["name"], call.query["version"])  # unknown is told at once
    data = await read_data(await socket.message(call.service.streams.limits.first_message))
    call.note(acts=True)
    run = await submit(call, submission(data), call.path["name"], call.query["version"])
    await socket.say(dumped({"type": "accepted", "run": run_item(run)}))
    return run


async def serve_socket(call: Call, begin: Begin, receive: Receive, send: Send) -> None:
    """One connection from its acceptance to its end."""
    if (await receive())["type"] != "websocket.connect":
        return
    socket = Socket(receive, send)
    try:
        await send({"type": "websocket.accept"})
        run = await begin(call, socket)
        await _watch(call, run, socket)
    except (Gone, OSError):
        pass
    except Exception as error:
        if is_of_the_guard(error):
            raise
        refused = of_error(error)
        with suppress(OSError):  # some servers say so when the client has gone
            await socket.say(dumped({"type": "problem", "problem": shown(refused.problem)}))
            await socket.close(4000 + refused.problem.status, refused.problem.code)


async def _watch(call: Call, run: Run, socket: Socket) -> None:
    with Watch(call.service.streams, run, call.query["after"]) as watch:
        async with anyio.create_task_group() as group:
            group.start_soon(until_gone, socket.receive, group.cancel_scope)
            with suppress(OSError):  # some servers say so when the client has gone
                with suppress(TooSlow):
                    while await _send_page(socket, watch):
                        pass  # and hold no page of events while nothing happens
                await watch.last_word(call.scope, _end(socket, run, watch))
            group.cancel_scope.cancel()


async def _send_page(socket: Socket, watch: Watch) -> bool:
    """Send the next events; whether there may be more."""
    events = await watch.next()
    if events is None:
        return False
    for event in events:
        await watch.sent(socket.say(event_json(event)))
        watch.sent_up_to = event.seq
    if not events:
        await watch.sent(socket.say(b'{"type":"ping"}'))
    return True


async def _end(socket: Socket, run: Run, watch: Watch) -> None:
    reason = watch.reason or "over"
    if reason == "over":
        await socket.say(dumped({"type": "result", "run": run_info(run)}))
    elif watch.problem is not None:
        await socket.say(dumped({"type": "problem", "problem": watch.problem}))
    elif reason != "too_slow":  # to whom nothing more can be said
        await socket.say(dumped({"type": "end", "reason": reason, "after": watch.sent_up_to}))
    await socket.close(CODES[reason], reason)
