"""The application behind a real server, uvicorn or Hypercorn, in a thread of this process and a loop of its own."""

from __future__ import annotations

import json
import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, Protocol, Self

import anyio
import anyio.from_thread
import attrs

from engine import Engine
from engine.web import create_app
from engine.web.server import SERVERS
from tests.engine.web.served import TOOLS


@attrs.frozen
class Real:
    """A server that takes requests."""

    engine: Engine
    port: int
    token: Any

    def call(self, function: Any, *args: Any) -> Any:
        """Call something async in the engine's loop."""
        return anyio.from_thread.run(function, *args, token=self.token)


@contextmanager
def running(backend: str, store: Any = None, **options: Any) -> Iterator[Real]:
    """Serve until the end of the body."""
    ready, found, failed = threading.Event(), list[Real](), list[BaseException]()
    listener = socket.create_server(("127.0.0.1", 0))
    port = listener.getsockname()[1]
    ends = list[anyio.Event]()

    async def main() -> None:
        async with Engine(store, tools=TOOLS) as engine:
            end = anyio.Event()
            ends.append(end)
            found.append(Real(engine, port, anyio.lowlevel.current_token()))
            app = create_app(engine, **options)
            await SERVERS[backend](app, listener, ready.set, end.wait, 1.0)

    def in_a_thread() -> None:
        try:
            anyio.run(main, backend=backend)
        except BaseException as error:
            failed.append(error)
        finally:
            ready.set()

    thread = threading.Thread(target=in_a_thread, name=f"server on {backend}")
    thread.start()
    try:
        assert ready.wait(60)
        assert not failed, failed
        yield found[0]
    finally:
        if ends:
            found[0].call(_set, ends[0])
        thread.join(30)
    if failed:
        raise failed[0]


async def _set(event: anyio.Event) -> None:
    event.set()


class Served(Protocol):
    """Whatever listens."""

    @property
    def port(self) -> int:
        """Where."""


class WebSocket:
    """A WebSocket client that reads all there is: that of `websockets` drops what came just before the close."""

    def __init__(self, real: Served, path: str) -> None:
        self._socket = socket.create_connection(("127.0.0.1", real.port), timeout=60)
        lines = [
            f"GET {path} HTTP/1.1",
            "Host: localhost",
            "Upgrade: websocket",
            "Connection: Upgrade",
            "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==",
            "Sec-WebSocket-Version: 13",
        ]
        self._socket.sendall("\r\n".join([*lines, "", ""]).encode())
        self._file = self._socket.makefile("rb")
        self.status = int(self._file.readline().split()[1])
        while self._file.readline().strip():
            pass
        self.close_code: int | None = None

    def send(self, data: Any) -> None:
        """Send JSON."""
        text = json.dumps(data).encode()
        assert len(text) < 126
        self._socket.sendall(bytes([0x81, 0x80 | len(text), 0, 0, 0, 0]) + text)

    def receive(self) -> dict[str, Any] | None:
        """The next message; None when it is closed."""
        while True:
            kind, length = self._file.read(2)
            if length > 125:
                length = int.from_bytes(self._file.read(2 if length == 126 else 8))
            data = self._file.read(length)
            if kind & 15 == 8:
                self.close_code = int.from_bytes(data[:2])
                return None
            if kind & 15 == 1:
                found: dict[str, Any] = json.loads(data)
                return found

    def rest(self) -> list[dict[str, Any]]:
        """All messages until the end."""
        return list(iter(self.receive, None))

    def vanish(self) -> None:
        """Go without a word."""
        self._socket.shutdown(socket.SHUT_RDWR)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Let it go, read or not."""
        self._file.close()
        self._socket.close()
