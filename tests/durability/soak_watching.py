"""Clients that watch runs, over each kind of stream, and remember what they saw: nothing missing, nothing twice.

What happened right before a kill may not be on disk: its numbers come again after the restart, with what happened then
(engine/stores/README.md, "Live events"). So what came shortly before a kill may be other than what there is in the end;
nothing else.
"""

from __future__ import annotations

import socket
from collections.abc import Iterable, Mapping
from random import Random
from time import monotonic
from typing import Any, Final
from urllib.parse import quote

import anyio
import attrs
import orjson
import websockets
from anyio.abc import SocketStream
from websockets.asyncio.client import connect

from engine import EngineError
from engine.client import RemoteRun
from engine.client.sse import Parser
from tests.durability.soak_service import Service

UNSAFE_SECONDS: Final = 2.0
"""So long before a kill something may have been shown that was not on disk yet; with a store that is away, longer. And
so long after the service is back, a busy machine may not have read all that was shown before."""
GAP_SECONDS: Final = 0.1
SLOW_BYTES: Final = 16_384
SLOW_GAP: Final = 0.02
LOST: Final = "events_lost"

Fact = tuple[int, str, str | None, int | None, bytes]


@attrs.define
class Watched:
    """What one watcher saw of a run."""

    run_id: str
    how: str
    facts: list[Fact] = attrs.field(factory=list)
    times: list[float] = attrs.field(factory=list)
    resumed: int = 0
    faults: list[str] = attrs.field(factory=list)

    @property
    def seen(self) -> int:
        """The number of the last event."""
        return len(self.facts)

    def take(self, event: Mapping[str, Any]) -> None:
        """One event has come."""
        if lost := _lost(event, self.seen):
            self.facts += lost
            self.times += [monotonic()] * len(lost)
            return
        if event["seq"] != self.seen + 1:
            kind = "misses" if event["seq"] > self.seen + 1 else "has twice"
            if len(self.faults) < 3:
                self.faults.append(f"a watcher of {self.run_id} over {self.how} {kind} what is around {event['seq']}")
            if event["seq"] <= self.seen:
                return
            self.facts += [(0, "", None, None, b"")] * (event["seq"] - self.seen - 1)
            self.times += [monotonic()] * (event["seq"] - len(self.times) - 1)
        self.facts.append(fact_of(event))
        self.times.append(monotonic())

    def came_again(self, truth: list[Fact], unsafe: Iterable[tuple[float, float]]) -> int:
        """Compare with what there is in the end; how many events came again, as may be after a kill."""
        again = 0
        spans = list(unsafe)
        for seen, there, at in zip(self.facts, truth, self.times, strict=False):
            if seen != there and seen[0] and not (there[1] == LOST and seen[1] == "node_progress"):
                if any(begin <= at <= end for begin, end in spans):
                    again += 1
                else:
                    self.faults.append(f"a watcher of {self.run_id} over {self.how} saw {seen}, there is {there}")
        if self.seen != len(truth):
            self.faults.append(
                f"a watcher of {self.run_id} over {self.how} saw {self.seen} events, there are {len(truth)}, "
                f"the last of them {truth[-1] if truth else None}"
            )
        return again


def fact_of(event: Mapping[str, Any]) -> Fact:
    """What must be the same of an event whoever looks; its time may be that of another attempt."""
    data = orjson.dumps(event["data"], option=orjson.OPT_SORT_KEYS)
    return event["seq"], event["type"], event["node"], event["activation"], data


def _lost(event: Mapping[str, Any], seen: int) -> list[Fact]:
    """What nodes told of themselves is on no record, and the service says that it does not know it any more."""
    if event["type"] != LOST or event["data"]["first"] > seen + 1:
        return []
    return [(number, LOST, None, None, b"") for number in range(seen + 1, event["seq"] + 1)]


async def watch_with_client(run: RemoteRun, chance: Random) -> Watched:
    """With the client, which resumes by itself; and by leaving now and then, and beginning again."""
    watched = Watched(run.id, "the client's events()")
    while True:
        leaves_at = watched.seen + chance.randrange(1, 40)
        async with run.events(watched.seen) as events:
            async for event in events:
                watched.take(event.to_dict())
                if watched.seen >= leaves_at:
                    break
            else:
                return watched
        watched.resumed += 1


async def watch_over_websocket(service: Service, run_id: str, chance: Random) -> Watched:
    """Until the socket says that the run is over."""
    watched = Watched(run_id, "a WebSocket")
    while True:
        leaves_at = watched.seen + chance.randrange(1, 60)
        address = f"ws://127.0.0.1:{service.port}/ws/runs/{quote(run_id, safe='')}?after={watched.seen}"
        try:
            async with connect(address, additional_headers=_headers(service), open_timeout=10) as link:
                async for text in link:
                    message = orjson.loads(text)
                    if "seq" in message:
                        watched.take(message)
                    elif message["type"] == "result":
                        return watched
                    elif message["type"] == "problem" and message["problem"]["status"] not in (503, 429):
                        watched.faults.append(f"a WebSocket that watches {run_id} was told {message['problem']}")
                        return watched
                    if watched.seen >= leaves_at:
                        break
        except (OSError, EOFError, TimeoutError, websockets.exceptions.WebSocketException):
            pass  # the service is down, or goes down
        watched.resumed += 1
        await anyio.sleep(GAP_SECONDS * chance.random())


async def watch_slowly(service: Service, run_id: str) -> Watched:
    """By hand over a small window, a few bytes at a time, as a reader does that cannot keep up."""
    watched = Watched(run_id, "a slow event stream")
    while True:
        try:
            async with await _narrow(service.port) as link:
                lines = [f"GET /api/runs/{quote(run_id, safe='')}/events HTTP/1.0", "Host: localhost"]
                lines += [f"{name}: {value}" for name, value in _headers(service).items()]
                await link.send("\r\n".join([*lines, f"Last-Event-ID: {watched.seen}", "", ""]).encode())
                if await _read_slowly(link, watched):
                    return watched
        except (OSError, anyio.EndOfStream, anyio.BrokenResourceError):
            pass
        watched.resumed += 1
        await anyio.sleep(GAP_SECONDS)


async def _read_slowly(link: SocketStream, watched: Watched) -> bool:
    """Whether the run was over."""
    head = b""
    while b"\r\n\r\n" not in head:
        head += await link.receive(SLOW_BYTES)
    status, (head, _, rest) = int(head.split()[1]), head.partition(b"\r\n\r\n")
    if status == 204:
        return True
    if status != 200:
        if status not in (429, 503):
            watched.faults.append(f"a slow watcher of {watched.run_id} was answered {status}: {rest[:500]!r}")
        return status not in (429, 503)
    parser = Parser()
    while True:
        for message in parser.feed(rest):
            data = orjson.loads(message.data)
            if message.id is not None:
                watched.take(data)
            elif data["reason"] == "over":
                return True
        await anyio.sleep(SLOW_GAP)
        rest = await link.receive(SLOW_BYTES)


async def _narrow(port: int) -> SocketStream:
    raw = socket.socket()
    raw.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, SLOW_BYTES)
    raw.settimeout(5)
    try:
        raw.connect(("127.0.0.1", port))  # on this machine: it is there or it is not
        return await SocketStream.from_socket(raw)
    except BaseException:
        raw.close()
        raise


async def truth_of(run: RemoteRun) -> list[Fact] | None:
    """All events of a run that is over; None if they are not kept."""
    try:
        async with run.events() as events:
            found: list[Fact] = []
            async for event in events:
                one = event.to_dict()
                found += _lost(one, len(found)) or [fact_of(one)]
            return found
    except EngineError as error:
        if getattr(error, "code", "") == "not_here":
            return None
        raise


def _headers(service: Service) -> dict[str, str]:
    return {"Authorization": f"Bearer {service.key}"}
