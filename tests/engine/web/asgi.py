"""Calling an ASGI application without a server: requests as lists of messages, answers as they came."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

import anyio
import attrs
import orjson

from engine.web.wire import ASGIApp, Message, Receive, Scope, Send


@attrs.define
class Answer:
    """What came back."""

    messages: list[Message] = attrs.field(factory=list)

    @property
    def status(self) -> int:
        """Of the answer."""
        return int(self.messages[0]["status"])

    @property
    def headers(self) -> dict[str, str]:
        """By name in lower case."""
        return {name.decode().lower(): value.decode() for name, value in self.messages[0]["headers"]}

    @property
    def body(self) -> bytes:
        """All of it."""
        return b"".join(message.get("body", b"") for message in self.messages[1:])

    @property
    def problem(self) -> Any:
        """As a problem document."""
        assert self.headers["content-type"] == "application/problem+json"
        return orjson.loads(self.body)


def http(path: str = "/", method: str = "GET", headers: Mapping[str, str] = {}, **more: Any) -> Scope:
    """A request's scope."""
    return {
        "type": "http",
        "method": method,
        "path": path,
        "root_path": "",
        "scheme": "http",
        "http_version": "1.1",
        "client": ("203.0.113.7", 5000),
        "headers": [(name.encode(), value.encode()) for name, value in {"host": "localhost", **headers}.items()],
        **more,
    }


def websocket(path: str = "/ws", headers: Mapping[str, str] = {}, **more: Any) -> Scope:
    """A WebSocket's scope."""
    scope = http(path, "", headers)
    del scope["method"]
    return {**scope, "type": "websocket", "scheme": "ws", "subprotocols": [], "extensions": {}, **more}


async def call(app: ASGIApp, scope: Scope, parts: Iterable[bytes | Message] = ()) -> Answer:
    """Send a request with these parts of a body (or these messages), and wait for the end of the application."""
    answer = Answer()
    left = list(parts)

    async def receive() -> Message:
        if not left:
            if scope["type"] == "http" and answer.messages == [] and not parts:
                return {"type": "http.request", "body": b"", "more_body": False}
            await anyio.sleep_forever()
        part = left.pop(0)
        return {"type": "http.request", "body": part, "more_body": bool(left)} if isinstance(part, bytes) else part

    async def send(message: Message) -> None:
        answer.messages.append(message)

    await app(scope, receive, send)
    return answer


async def hello(scope: Scope, receive: Receive, send: Send) -> None:
    """Answers with who asked."""
    principal = scope["state"].get("principal")
    await send({"type": "http.response.start", "status": 200, "headers": [(b"content-type", b"text/plain")]})
    await send({"type": "http.response.body", "body": b"nobody" if principal is None else principal.name.encode()})


async def swallow(scope: Scope, receive: Receive, send: Send) -> None:
    """Reads the body and answers with its size."""
    size, more = 0, True
    while more:
        message = await receive()
        size += len(message.get("body", b""))
        more = message.get("more_body", False)
    await send({"type": "http.response.start", "status": 200, "headers": []})
    await send({"type": "http.response.body", "body": b"%d" % size})
