"""The two servers behind one face: uvicorn on asyncio, which knows no trio, and Hypercorn on trio. The only file that
names either.

Both serve a socket that was bound here before anything else was opened, neither touches signals or logging, and both
stop when told to: no more connections, answers that are under way get some seconds, then they are cancelled.

What strangers can do to memory ends here, before there is a request that the guard could refuse: a header without an
end, one that comes byte by byte, connections that say nothing. httptools knows no such limits, so uvicorn's protocol
is told them; Hypercorn has its own.
"""

from __future__ import annotations

import logging
import socket
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager, suppress
from typing import Any, Final, Protocol

import anyio

from .guard import BODY_IS_THERE
from .wire import CUT_OFF, ASGIApp, without_linger

logger = logging.getLogger("engine.web")

BACKLOG: Final = 1024
HEADER_BYTES: Final = 64 * 1024
"""Where the connection is closed; the guard answers for less. Hypercorn takes less than that by itself."""
HEADER_SECONDS: Final = 10.0
IDLE_SECONDS: Final = 30.0
QUIET_SECONDS: Final = 5.0
PING_SECONDS: Final = 20.0
PONG_SECONDS: Final = 30.0
"""More than a send may take: who does not read is told by a code of ours that it was too slow, before uvicorn's."""
LAST_SECONDS: Final = 10.0
"""What a client that answers no pings has not taken after so long is thrown away."""
UNTAKEN_SECONDS: Final = 60
"""A connection is reset whose client has taken nothing of an answer for so long; streams are less patient."""
UNSENT_BYTES: Final = 256 * 1024
"""What the kernel keeps of what is for one client, beyond what that has room for: otherwise up to 4 MiB."""
MESSAGE_BYTES: Final = 4 * 1024 * 1024

Started = Callable[[], object]
Server = Callable[[ASGIApp, socket.socket, Started, Callable[[], Awaitable[None]], float], Awaitable[None]]
"""Serves an application on a listening socket, says when it has started, and stops once what it waits for has come."""


class _Stoppable(Protocol):
    should_exit: bool


async def serve_on_asyncio(
    app: ASGIApp,
    listener: socket.socket,
    started: Started,
    stopped: Callable[[], Awaitable[None]],
    last_seconds: float,
) -> None:
    """Serve with uvicorn until `stopped()` returns; what is under way then has `last_seconds`."""
    import uvicorn

    _bound(listener)

    class Embedded(uvicorn.Server):
        @contextmanager
        def capture_signals(self) -> Iterator[None]:
            yield  # they are serving.py's

        async def startup(self, sockets: list[socket.socket] | None = None) -> None:
            await super().startup(sockets)
            started()

        async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
            await super().shutdown(sockets)
            # They wait for clients that take nothing; a loop that closes with them open waits, too.
            for connection in list(self.server_state.connections):
                _reset(connection.transport)

    config = uvicorn.Config(
        _answered(app),
        http=_bounded_protocol(),
        ws=_patient_socket(),
        ws_max_size=MESSAGE_BYTES,
        ws_ping_interval=PING_SECONDS,
        ws_ping_timeout=PONG_SECONDS,
        ws_per_message_deflate=False,  # a small message may become a large one
        lifespan="off",  # the engine is not this server's
        log_config=None,
        access_log=False,
        server_header=False,
        proxy_headers=False,  # whoever has a proxy tells it not to pass on what clients say of themselves
        backlog=BACKLOG,
        timeout_keep_alive=int(IDLE_SECONDS),
    )
    config.timeout_graceful_shutdown = last_seconds  # type: ignore[assignment]  # it is given to wait_for
    logging.getLogger("uvicorn.error").setLevel(logging.WARNING)
    server = Embedded(config)
    async with anyio.create_task_group() as group:
        group.start_soon(_stop, server, stopped)
        await server.serve([listener])
        group.cancel_scope.cancel()


def _answered(app: ASGIApp) -> ASGIApp:
    """uvicorn takes a WebSocket that was refused with an answer for one that was forgotten, which is an error to it."""
    from uvicorn.protocols.utils import ClientDisconnected

    async def served(scope: Any, receive: Any, send: Any) -> None:
        refused = False

        async def sent(message: Any) -> None:
            nonlocal refused
            await send(message)
            refused = message["type"] == "websocket.http.response.body" and not message.get("more_body", False)

        await app(scope, receive, sent if scope["type"] == "websocket" else send)
        if refused:
            raise ClientDisconnected  # over, that is, and no more to be said

    return served


async def _stop(server: _Stoppable, stopped: Callable[[], Awaitable[None]]) -> None:
    await stopped()
    server.should_exit = True


def _bounded_protocol() -> type[Any]:
    """uvicorn's protocol with an end to what a request may say before it is one."""
    import httptools
    from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

    class Bounded(HttpToolsProtocol):
        _heading = True
        """Whether what comes now is the head of a request."""
        _size = 0
        _timer: Any = None

        def connection_made(self, transport: Any) -> None:
            super().connection_made(transport)
            self._timer = self.loop.call_later(HEADER_SECONDS, self._give_up)

        def connection_lost(self, exc: Exception | None) -> None:
            self._stop_waiting()
            super().connection_lost(exc)

        def data_received(self, data: bytes) -> None:
            if self._heading:
                self._size += len(data)
            super().data_received(data)
            if not self._heading or self.transport.is_closing():
                return
            if self._size > HEADER_BYTES:
                self.send_400_response("The headers are too large.")
            elif self._timer is None:
                self._timer = self.loop.call_later(HEADER_SECONDS, self._give_up)

        def on_message_begin(self) -> None:
            self._heading, self._size = True, 0
            super().on_message_begin()

        def on_header(self, name: bytes, value: bytes) -> None:
            self._size += len(name) + len(value)
            if self._size > 2 * HEADER_BYTES:  # of a trailer, too, which would be kept as well
                raise httptools.HttpParserInvalidMethodError("The headers are too large.")
            super().on_header(name, value)

        def on_message_complete(self) -> None:
            super().on_message_complete()
            # Mostly before the application is called at all: it need not watch how long the body takes.
            self.scope.setdefault("extensions", {})[BODY_IS_THERE] = {}

        def on_headers_complete(self) -> None:
            self._heading = False
            self._stop_waiting()
            super().on_headers_complete()
            self.scope.setdefault("extensions", {})[CUT_OFF] = {"now": self._cut_off}

        def _cut_off(self) -> None:
            _reset(self.transport)

        def handle_websocket_upgrade(self) -> None:
            self._stop_waiting()
            super().handle_websocket_upgrade()

        def _stop_waiting(self) -> None:
            if self._timer is not None:
                self._timer.cancel()
                self._timer = None

        def _give_up(self) -> None:
            self._timer = None
            if self._heading and not self.transport.is_closing():
                self.transport.close()

    return Bounded


def _patient_socket() -> type[Any]:
    """uvicorn's WebSockets for readers that do not read, whom we cut off, and for thousands that are open for long."""
    from uvicorn.protocols.websockets.websockets_sansio_impl import WebSocketsSansIOProtocol

    class Patient(WebSocketsSansIOProtocol):
        def handle_connect(self, event: Any) -> None:
            super().handle_connect(event)
            if self.tasks:  # the handshake was good
                self.scope["extensions"][CUT_OFF] = {"now": self._cut_off}

        async def send(self, message: Any) -> None:
            if message["type"] == "websocket.close":
                self.stop_keepalive()  # it waits until the client reads, and goes out with its own code
            await super().send(message)
            if message["type"] == "websocket.accept":
                # The handshake: a tenth of what a socket takes that only watches; nobody looks at it again.
                self.request = self.response = None  # type: ignore[assignment]

        def keepalive_timeout(self) -> None:
            super().keepalive_timeout()
            # What the client has not taken keeps the connection open, and the application is told of no end.
            self.queue.put_nowait({"type": "websocket.disconnect", "code": 1011})
            self.loop.call_later(LAST_SECONDS, self._cut_off)

        def _cut_off(self) -> None:
            _reset(self.transport)

    return Patient


def _bound(listener: socket.socket) -> None:
    """Limit what its connections have of the kernel's memory and patience, where the kernel can be told."""
    for option, value in (("TCP_USER_TIMEOUT", UNTAKEN_SECONDS * 1000), ("TCP_NOTSENT_LOWAT", UNSENT_BYTES)):
        if (number := getattr(socket, option, None)) is not None:
            with suppress(OSError):
                listener.setsockopt(socket.IPPROTO_TCP, number, value)


def _reset(transport: Any) -> None:
    if (connection := transport.get_extra_info("socket")) is not None:
        without_linger(connection)
    transport.abort()


async def serve_on_trio(
    app: ASGIApp,
    listener: socket.socket,
    started: Started,
    stopped: Callable[[], Awaitable[None]],
    last_seconds: float,
) -> None:
    """Serve with Hypercorn until `stopped()` returns; what is under way then has `last_seconds`."""
    from hypercorn.config import Config

    from .trio_worker import serve

    _bound(listener)
    config = Config()
    config.graceful_timeout = last_seconds
    config.include_server_header = False
    # Of a connection that says nothing, or not enough; and so long Hypercorn keeps one whose client has left.
    config.keep_alive_timeout = min(HEADER_SECONDS, QUIET_SECONDS)
    config.websocket_max_message_size = MESSAGE_BYTES
    # Its first ping goes out right behind what is said first, and a close soon after shuts the connection without
    # waiting: a client that answers the ping then meets an error, and gives up what it has not read (210 of 400 times
    # with websockets' own). The application pings in messages, and cuts off who does not read.
    config.websocket_ping_interval = None
    config.accesslog = None
    config.errorlog = logging.getLogger("hypercorn.error")
    config.errorlog.setLevel(logging.WARNING)
    await serve(_as_if_gone(app), config, listener, started, stopped)


class _Gone(OSError):
    """Nothing more can be said to this client."""


def _as_if_gone(app: ASGIApp) -> ASGIApp:
    """A client that broke the rules so that h11 will not answer it is told from one that has left by nobody."""
    import h11

    async def served(scope: Any, receive: Any, send: Any) -> None:
        async def sent(message: Any) -> None:
            try:
                await send(message)
            except h11.LocalProtocolError as error:
                raise _Gone(str(error)) from error

        with suppress(_Gone):
            await app(scope, receive, sent)

    return served


SERVERS: Final[dict[str, Server]] = {"asyncio": serve_on_asyncio, "trio": serve_on_trio}
