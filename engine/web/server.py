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
from collections.abc import Awaitable, Callable, Coroutine, Iterator
from contextlib import contextmanager, suppress
from importlib import import_module
from typing import Any, Final, Protocol

import anyio

from .guard import ASGIApp

logger = logging.getLogger("engine.web")

BACKLOG: Final = 1024
HEADER_BYTES: Final = 64 * 1024
"""Where the connection is closed; the guard answers for less. Hypercorn takes less than that by itself."""
HEADER_SECONDS: Final = 10.0
IDLE_SECONDS: Final = 30.0
QUIET_SECONDS: Final = 5.0
PING_SECONDS: Final = 20.0
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

    class Embedded(uvicorn.Server):
        @contextmanager
        def capture_signals(self) -> Iterator[None]:
            yield  # they are serving.py's

        async def startup(self, sockets: list[socket.socket] | None = None) -> None:
            await super().startup(sockets)
            started()

    config = uvicorn.Config(
        _answered(app),
        http=_bounded_protocol(),
        ws="websockets-sansio",
        ws_max_size=MESSAGE_BYTES,
        ws_ping_interval=PING_SECONDS,
        ws_ping_timeout=PING_SECONDS,
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

        def on_headers_complete(self) -> None:
            self._heading = False
            self._stop_waiting()
            super().on_headers_complete()

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


async def serve_on_trio(
    app: ASGIApp,
    listener: socket.socket,
    started: Started,
    stopped: Callable[[], Awaitable[None]],
    last_seconds: float,
) -> None:
    """Serve with Hypercorn until `stopped()` returns; what is under way then has `last_seconds`."""
    from hypercorn.config import Config
    from hypercorn.trio import serve

    _contain_connections()
    config = Config()
    config.bind = [f"fd://{listener.detach()}"]
    config.backlog = BACKLOG
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

    async with anyio.create_task_group() as group:
        # A lifespan that fails is none to Hypercorn; the guard passes it on, and there is no engine of ours in it.
        await group.start(_serve_with(serve, _without_lifespan(_as_if_gone(app)), config, stopped))
        started()


def _contain_connections() -> None:
    """Have what Hypercorn raises over a connection end that connection alone.

    It ends the server with all others, otherwise: bytes behind the head of a WebSocket are enough, which h11 takes for
    a body and then cannot answer, and anybody can send them who reaches the port.
    """
    from hypercorn.events import Closed
    from hypercorn.trio.tcp_server import TCPServer

    below: Any = import_module("hypercorn.trio.tcp_server")

    class Contained(TCPServer):
        async def protocol_send(self, event: Any) -> None:
            try:
                await super().protocol_send(event)
            except below.trio.BusyResourceError:  # it is being closed in just this moment
                await self.protocol.handle(Closed())

        async def run(self) -> None:
            try:
                await super().run()
            except* Exception as group:
                logger.warning("a connection was ended, since the server failed at it: %s", _said(group))
                logger.debug("where it failed", exc_info=True)

    worker: Any = import_module("hypercorn.trio.run")  # which makes one for each connection
    if worker.TCPServer is TCPServer:
        worker.TCPServer = Contained


def _said(error: BaseException) -> str:
    if isinstance(error, BaseExceptionGroup):
        return "; ".join(map(_said, error.exceptions))
    return f"{type(error).__name__}: {error}"


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


def _serve_with(
    serve: Callable[..., Awaitable[None]], app: ASGIApp, config: object, stopped: Callable[[], Awaitable[None]]
) -> Callable[..., Coroutine[Any, Any, None]]:
    async def run(*, task_status: Any) -> None:
        await serve(app, config, shutdown_trigger=stopped, task_status=task_status)

    return run


def _without_lifespan(app: ASGIApp) -> ASGIApp:
    async def served(scope: Any, receive: Any, send: Any) -> None:
        if scope["type"] != "lifespan":
            await app(scope, receive, send)
            return
        while (await receive())["type"] != "lifespan.shutdown":
            await send({"type": "lifespan.startup.complete"})
        await send({"type": "lifespan.shutdown.complete"})

    return served


SERVERS: Final[dict[str, Server]] = {"asyncio": serve_on_asyncio, "trio": serve_on_trio}
