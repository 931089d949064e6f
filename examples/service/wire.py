"""A connection that does as little as it can, so that a driver measures the service and not itself.

A full HTTP client takes 0.8 ms of processor for each request, this 0.2; all of an order takes the shop 2.
"""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any, Self
from urllib.parse import urlsplit

import anyio
from anyio.streams.buffered import BufferedByteReceiveStream
from attrs import frozen

MOST = 16 * 1024 * 1024


@frozen
class Answer:
    """What came back."""

    status: int
    headers: dict[str, str]
    body: bytes

    def json(self) -> Any:
        """The body as data; raises `ValueError` unless it is of success."""
        if not 200 <= self.status < 300:
            raise ValueError(f"answered {self.status}: {self.body.decode()}")
        return json.loads(self.body)


class Connection:
    """HTTP/1.1 on one connection, one request at a time, for servers that say how long their answers are."""

    def __init__(self, stream: anyio.abc.SocketStream, host: str) -> None:
        self._stream = stream
        self._reader = BufferedByteReceiveStream(stream)
        self._host = host

    @classmethod
    @asynccontextmanager
    async def to(cls, url: str) -> AsyncIterator[Self]:
        """One to the host of an address."""
        parts = urlsplit(url)
        async with await anyio.connect_tcp(parts.hostname or "127.0.0.1", parts.port or 80) as stream:
            yield cls(stream, parts.netloc)

    async def ask(self, method: str, path: str, data: Any = None) -> Answer:
        """Send a request and read its answer."""
        body = b"" if data is None else json.dumps(data).encode()
        head = f"{method} {path} HTTP/1.1\r\nhost: {self._host}\r\ncontent-length: {len(body)}\r\n"
        await self._stream.send(f"{head}content-type: application/json\r\n\r\n".encode() + body)
        said = (await self._reader.receive_until(b"\r\n\r\n", 64 * 1024)).decode("latin-1")
        first, *lines = said.split("\r\n")
        headers = {name.lower(): value.strip() for name, _, value in (line.partition(":") for line in lines)}
        length = int(headers["content-length"])
        if length > MOST:
            raise ValueError(f"an answer of {length} bytes")
        return Answer(int(first.split()[1]), headers, await self._reader.receive_exactly(length) if length else b"")
