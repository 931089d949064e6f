"""What goes over the wire, in plain values: paths, queries, bodies and answers, with no server and no engine in sight.

JSON is read by the same reader as definitions: duplicate keys, NaN, numbers of ten thousand digits and what is nested
too deep are refused with their place. So are lone surrogates, which no store and no UTF-8 text can hold.
"""

from __future__ import annotations

import json
import re
import socket
import struct
from collections.abc import Awaitable, Callable, Mapping, MutableMapping
from contextlib import suppress
from typing import Any, Final, Protocol
from urllib.parse import parse_qsl, unquote_to_bytes

import anyio
import anyio.to_thread
import attrs
import orjson

from ..shapes import below
from ..texts import MOST_BYTES, MOST_DEEP, NotData, check_data, read_json

Scope = MutableMapping[str, Any]
Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
ASGIApp = Callable[[Scope, Receive, Send], Awaitable[None]]

JSON: Final = "application/json"
CUT_OFF: Final = "workflow.cut_off"
"""An ASGI extension of our servers: what it has under `now` closes the connection, whatever has not been taken."""
IN_THE_LOOP: Final = 64_000
"""A longer body is read in a thread: a megabyte takes 30 ms, in which nothing else would happen."""


class ClientGone(Exception):
    """The client left before its request was there as a whole."""


class BodyTooLarge(Exception):
    """The body is longer than any that is read."""


# --- paths and queries ----------------------------------------------------------------------------------


def segments(scope: Scope) -> list[str] | None:
    """The parts of the path below where the application is mounted, each decoded; None if one is no UTF-8.

    They are taken from the path as it was sent, if the server tells, so that a graph may be called "a/b" (`a%2Fb`).
    """
    path, root = scope["path"], scope.get("root_path", "").rstrip("/")
    raw: bytes | None = scope.get("raw_path")
    above = root.count("/") if root and (path == root or path.startswith(f"{root}/")) else 0
    sent = raw.partition(b"?")[0] if raw else path.encode("utf-8", "surrogatepass")
    try:
        parts = [_decoded(part) if raw else part.decode() for part in sent.split(b"/")]
    except UnicodeDecodeError:
        return None
    return parts[1 + above :]


def _decoded(part: bytes) -> str:
    return (unquote_to_bytes(part) if b"%" in part else part).decode()


def query_of(scope: Scope) -> dict[str, list[str]]:
    """What the query says, by name."""
    said: dict[str, list[str]] = {}
    if text := scope.get("query_string", b""):
        for name, value in parse_qsl(text.decode("latin-1"), keep_blank_values=True, errors="replace"):
            said.setdefault(name, []).append(value)
    return said


# --- bodies ---------------------------------------------------------------------------------------------


async def body_of(receive: Receive) -> bytes:
    """The body as a whole; raises `ClientGone`, `BodyTooLarge`."""
    message = await receive()
    if message["type"] == "http.request" and not message.get("more_body", False):
        body: bytes = message.get("body", b"")
        if len(body) > MOST_BYTES:
            raise BodyTooLarge
        return body
    parts, size = [], 0
    while True:
        if message["type"] == "http.disconnect":
            raise ClientGone
        parts.append(message.get("body", b""))
        size += len(parts[-1])
        if size > MOST_BYTES:
            raise BodyTooLarge
        if not message.get("more_body", False):
            return b"".join(parts)
        message = await receive()


async def read_data(body: bytes) -> Any:
    """The data of a JSON text; raises `NotData`."""
    if len(body) <= IN_THE_LOOP:
        return parsed(body)
    return await anyio.to_thread.run_sync(parsed, body)


def parsed(body: bytes) -> Any:
    """The same at once."""
    data = read_json(body)
    if _needs_a_look(body):
        check_data(data)
    if (b"\\ud" in body or b"\\uD" in body) and (at := _surrogate_in(data)) is not None:
        raise NotData(at, "half of a surrogate pair is no text", "write a character beyond U+FFFF as two escapes")
    return data


_BEYOND_FLOATS: Final = re.compile(rb"[eE]\+?[0-9]{3}|[0-9]{300}")


def _needs_a_look(body: bytes) -> bool:
    """Whether it may be nested too deep, or hold a number that is too large for one: few bodies do."""
    return body.count(b"[") + body.count(b"{") > MOST_DEEP or _BEYOND_FLOATS.search(body) is not None


def _surrogate_in(data: Any) -> str | None:
    """The JSON pointer of the first text that UTF-8 cannot say."""
    pending = [("", data)]
    while pending:
        at, value = pending.pop()
        if isinstance(value, str):
            if not _is_text(value):
                return at
        elif isinstance(value, dict):
            if not all(map(_is_text, value)):
                return at
            pending += [(below(at, key), item) for key, item in value.items()]
        elif isinstance(value, list):
            pending += [(f"{at}/{index}", item) for index, item in enumerate(value)]
    return None


def _is_text(value: str) -> bool:
    try:
        value.encode()
    except UnicodeEncodeError:
        return False
    return True


# --- answers --------------------------------------------------------------------------------------------


class Sends(Protocol):
    """What answers by itself, piece by piece: a stream."""

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None: ...


@attrs.frozen
class Answer:
    """A whole answer: data that is sent as JSON, or bytes that are sent as they are."""

    status: int = 200
    data: Any = None
    headers: Mapping[str, str] = {}
    content_type: str = JSON

    def body(self) -> bytes:
        """As it is sent."""
        if self.status in (204, 304):
            return b""
        return self.data if isinstance(self.data, bytes) else dumped(self.data)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Send it; to a HEAD only what would come before the body."""
        body = self.body()
        headers = [(name.lower().encode(), header_value(value)) for name, value in self.headers.items()]
        if self.status not in (204, 304):
            headers += [(b"content-type", self.content_type.encode()), (b"content-length", b"%d" % len(body))]
        await send({"type": "http.response.start", "status": self.status, "headers": headers})
        await send({"type": "http.response.body", "body": b"" if scope["method"] == "HEAD" else body})


# --- ends -----------------------------------------------------------------------------------------------


async def until_gone(receive: Receive, scope: anyio.CancelScope) -> None:
    """Cancel this once the client has left.

    What is sent to one that has gone raises nothing on some servers: so somebody has to listen.
    """
    while not (await receive())["type"].endswith(".disconnect"):
        pass
    scope.cancel()


def cut_off(scope: Scope) -> None:
    """Close a connection whose client takes nothing; does nothing on servers that cannot."""
    if (extension := (scope.get("extensions") or {}).get(CUT_OFF)) is not None:
        extension["now"]()


def without_linger(connection: Any) -> None:
    """Have the kernel forget what was not taken, too, when this socket is closed."""
    with suppress(OSError):
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))


def header_value(value: str) -> bytes:
    """Text as a header may hold it: on one line, in ASCII."""
    if value.isascii() and value.isprintable():
        return value.encode()
    return "".join(c if " " <= c <= "~" else "?" for c in value).encode()


def dumped(data: Any) -> bytes:
    """Data as JSON; attrs objects in it as objects."""
    try:
        return orjson.dumps(data, default=_fields)
    except TypeError:
        # A number beyond 64 bits, or text that UTF-8 cannot say: the slow way has an escape for them.
        return json.dumps(data, default=_fields, separators=(",", ":")).encode()


_NAMES: Final[dict[type, tuple[str, ...]]] = {}


def _fields(value: Any) -> dict[str, Any]:
    names = _NAMES.get(type(value))
    if names is None:
        names = _NAMES[type(value)] = tuple(field.name for field in attrs.fields(type(value)))
    return {name: getattr(value, name) for name in names}
