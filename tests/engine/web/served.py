"""An application in the same process, and ways to talk to it: with httpx2, and message by message where it streams."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager, suppress
from typing import Any, Self

import anyio
import attrs
import httpx2
from anyio.abc import TaskGroup
from anyio.streams.memory import MemoryObjectReceiveStream, MemoryObjectSendStream

from engine import Context, Engine, ToolRegistry
from engine.web import create_app

State = dict[str, Any]
TOOLS = ToolRegistry()


@TOOLS.tool
async def count(state: State) -> State:
    """Adds one to `n`."""
    return {"n": state.get("n", 0) + 1}


@TOOLS.tool
async def tell(state: State, ctx: Context, times: int = 1) -> None:
    """Emits events."""
    for number in range(times):
        ctx.emit(number)


@TOOLS.tool
async def fail(state: State) -> None:
    """Fails, unless it is told to go on."""
    if not state.get("mended"):
        raise ValueError("it is broken")


COUNTING: State = {"name": "counting", "entry_point": "count", "nodes": [{"name": "count"}]}
GATED: State = {
    "name": "gated",
    "entry_point": "count",
    "nodes": [{"name": "count"}, {"name": "gate", "wait": {"signal": "go", "into": "gone"}}],
    "edges": [{"source": "count", "target": "gate"}],
}
FAILING: State = {"name": "failing", "entry_point": "fail", "nodes": [{"name": "fail"}]}


@attrs.frozen
class Served:
    """An engine, its application, and a client of that."""

    engine: Engine
    app: Any
    http: httpx2.AsyncClient

    async def ask(self, method: str, path: str, body: Any = None, **options: Any) -> httpx2.Response:
        """Send a request, with JSON if there is a body."""
        if body is not None:
            options["json"] = body
        return await self.http.request(method, path, **options)

    async def submitted(self, definition: State = GATED, state: State | None = None) -> str:
        """The id of a run of a graph that is defined first."""
        await self.engine.define(definition)
        answer = await self.ask("POST", f"/api/graphs/{definition['name']}/runs", {"state": state or {}})
        assert answer.status_code == 202, answer.text
        return str(answer.json()["run_id"])


class Body(httpx2.AsyncByteStream):
    """The body of a request, of which an application may leave some."""

    def __init__(self, stream: httpx2.AsyncByteStream) -> None:
        self._parts: Any = aiter(stream)

    def __aiter__(self) -> AsyncIterator[bytes]:
        return self

    async def __anext__(self) -> bytes:
        part: bytes = await anext(self._parts)
        return part

    async def aclose(self) -> None:
        """Nothing is left open."""
        await self._parts.aclose()


class Transport(httpx2.ASGITransport):
    """Calls an application, and closes what it has not read of a body.

    httpx2 leaves that to the garbage collector, and Trio warns of it, in whatever test runs by then.
    """

    async def handle_async_request(self, request: httpx2.Request) -> httpx2.Response:
        """See `httpx2.AsyncBaseTransport`."""
        stream = request.stream
        assert isinstance(stream, httpx2.AsyncByteStream)
        request.stream = body = Body(stream)
        try:
            return await super().handle_async_request(request)
        finally:
            await body.aclose()
            request.stream = stream


@asynccontextmanager
async def served(store: Any = None, *, app: Any = None, **options: Any) -> AsyncIterator[Served]:
    """An engine with its application; runs that wait are cancelled at the end."""
    of_engine = {name: options.pop(name) for name in ("max_runs", "max_queued", "files") if name in options}
    async with Engine(store, tools=TOOLS, **of_engine) as engine:
        made = create_app(engine, **options)
        outer = made if app is None else app(made)
        async with httpx2.AsyncClient(transport=Transport(outer), base_url="http://service") as client:
            yield Served(engine, outer, client)


# --- message by message ---------------------------------------------------------------------------------


class Connection:
    """One ASGI connection, seen from the server: messages go in and come out one at a time, and nobody has to read."""

    def __init__(self, app: Any, scope: dict[str, Any], group: TaskGroup) -> None:
        self._in, self._received = anyio.create_memory_object_stream[dict[str, Any]](100)
        self._sent, self._out = anyio.create_memory_object_stream[dict[str, Any]](0)
        self.over = anyio.Event()
        group.start_soon(self._run, app, scope)

    async def _run(self, app: Any, scope: dict[str, Any]) -> None:
        await app(scope, self._receive, self._send)
        self.over.set()
        self._sent.close()

    async def _receive(self) -> dict[str, Any]:
        return await self._received.receive()

    async def _send(self, message: Any) -> None:
        with suppress(anyio.BrokenResourceError):  # as servers do it when the client has gone
            await self._sent.send(dict(message))

    @property
    def inbound(self) -> MemoryObjectSendStream[dict[str, Any]]:
        """What the client sends."""
        return self._in

    @property
    def outbound(self) -> MemoryObjectReceiveStream[dict[str, Any]]:
        """What it gets."""
        return self._out

    def close(self) -> None:
        """Nothing is left open."""
        for stream in (self._in, self._received, self._sent, self._out):
            stream.close()


class Socket(Connection):
    """A WebSocket."""

    async def say(self, data: Any) -> None:
        """Send JSON, or text as it is."""
        text = data if isinstance(data, str) else json.dumps(data)
        await self.inbound.send({"type": "websocket.receive", "text": text})

    async def next(self) -> dict[str, Any]:
        """The next message as data, or the close."""
        message = await self.outbound.receive()
        found: dict[str, Any] = json.loads(message["text"]) if message["type"] == "websocket.send" else message
        return found

    async def until(self, type: str) -> Sequence[dict[str, Any]]:
        """All messages up to the first of this type."""
        found = [await self.next()]
        while found[-1]["type"] != type:
            found.append(await self.next())
        return found

    async def leave(self) -> None:
        """The client goes."""
        await self.inbound.send({"type": "websocket.disconnect", "code": 1001})


class EventSource(Connection):
    """A stream of server-sent events."""

    status = 0
    _text = ""

    async def start(self) -> Self:
        """Wait for the head of the answer."""
        self.status = (await self.outbound.receive())["status"]
        return self

    async def next(self) -> dict[str, str]:
        """The next event: its fields; a comment has none."""
        while "\n\n" not in self._text:
            message = await self.outbound.receive()
            self._text += message.get("body", b"").decode()
        block, _, self._text = self._text.partition("\n\n")
        return dict(line.split(": ", 1) for line in block.split("\n") if not line.startswith(":"))

    async def until(self, event: str) -> Sequence[dict[str, str]]:
        """All events up to the first of this type."""
        found = [await self.next()]
        while found[-1].get("event") != event:
            found.append(await self.next())
        return found

    async def leave(self) -> None:
        """The client goes."""
        await self.inbound.send({"type": "http.disconnect"})


@asynccontextmanager
async def connected(app: Any, path: str, *, kind: type[Connection] = Socket, **headers: str) -> AsyncIterator[Any]:
    """A connection to an application; it must be over soon after the body."""
    target, _, query = path.partition("?")
    is_socket = kind is Socket
    scope = {
        "type": "websocket" if is_socket else "http",
        "asgi": {"version": "3.0"},
        "http_version": "1.1",
        "scheme": "ws" if is_socket else "http",
        "method": "GET",
        "path": target,
        "raw_path": target.encode(),
        "root_path": "",
        "query_string": query.encode(),
        "headers": [(name.replace("_", "-").encode(), value.encode()) for name, value in headers.items()],
        "client": ("127.0.0.1", 1),
        "server": ("service", 80),
        "subprotocols": [],
        "extensions": {},
    }
    if is_socket:
        del scope["method"]
    async with anyio.create_task_group() as group:
        connection = kind(app, scope, group)
        try:
            if is_socket:
                await connection.inbound.send({"type": "websocket.connect"})
                assert (await connection.outbound.receive())["type"] == "websocket.accept"
            else:
                await connection.inbound.send({"type": "http.request", "body": b"", "more_body": False})
            yield connection
            with anyio.fail_after(30):
                connection.outbound.close()
                await connection.inbound.send(
                    {"type": "websocket.disconnect", "code": 1001} if is_socket else {"type": "http.disconnect"}
                )
                await connection.over.wait()
        finally:
            group.cancel_scope.cancel()
            connection.close()
