"""Hypercorn's protocols on trio, with sends that can be given up.

Hypercorn shields each send from cancellation, since half a frame on the wire cannot be taken back: so whoever sends to
a client that does not read waits for ever, whatever time it has given itself, and a service cannot end. Here what is
left of a send that was given up is kept and goes out before anything else does. So the last word to a reader, the close
of a WebSocket, comes behind whole frames; and who does not take even that is cut off by `cut_off` in the scope's
extensions, see `wire.py`.
"""

from __future__ import annotations

import logging
import socket
from collections.abc import Awaitable, Callable
from functools import partial
from typing import Any

import trio
from hypercorn.config import Config
from hypercorn.events import Closed, Event, RawData
from hypercorn.trio.tcp_server import TCPServer
from hypercorn.trio.worker_context import WorkerContext
from hypercorn.typing import ConnectionState
from hypercorn.utils import wrap_app

from .wire import CUT_OFF, ASGIApp, without_linger

logger = logging.getLogger("engine.web")


async def serve(
    app: ASGIApp,
    config: Config,
    listener: socket.socket,
    started: Callable[[], object],
    stopped: Callable[[], Awaitable[None]],
) -> None:
    """Serve until `stopped()` returns; what is under way then has `config.graceful_timeout`. Asks for no lifespan."""
    context = WorkerContext(None)
    served: Any = wrap_app(app, config.wsgi_max_body_size, "asgi")  # type: ignore[arg-type]  # its scopes are TypedDicts
    listeners = [trio.SocketListener(trio.socket.from_stdlib_socket(listener))]
    connected = partial(Connection, served, config, context, ConnectionState({}))
    async with trio.open_nursery() as connections:
        async with trio.open_nursery() as accepting:
            await accepting.start(partial(trio.serve_listeners, connected, listeners, handler_nursery=connections))
            started()
            await stopped()
            accepting.cancel_scope.cancel()
        await context.terminated.set()
        connections.cancel_scope.deadline = trio.current_time() + config.graceful_timeout


def _said(error: BaseException) -> str:
    if isinstance(error, BaseExceptionGroup):
        return "; ".join(map(_said, error.exceptions))
    return f"{type(error).__name__}: {error}"


class Connection(TCPServer):
    """One connection."""

    stream: trio.SocketStream  # type: ignore[assignment]  # whoever wants TLS has a proxy

    def __init__(self, app: Any, *rest: Any) -> None:
        async def with_cut_off(scope: Any, *arguments: Any) -> None:
            if scope.get("http_version") == "2":
                # Hypercorn takes it without being asked; uvicorn does not, and none of our limits was made for it.
                self.cut_off()
                return
            scope["extensions"][CUT_OFF] = {"now": self.cut_off}
            await app(scope, *arguments)

        super().__init__(with_cut_off, *rest)  # type: ignore[arg-type]
        self._rest = memoryview(b"")

    def cut_off(self) -> None:
        """Close it at once, whatever has not been taken."""
        without_linger(self.stream.socket)
        self.stream.socket.close()

    async def run(self) -> None:
        """Serve it; what Hypercorn raises over it ends this connection alone.

        It would end the server with all others. Bytes behind the head of a WebSocket are enough, which h11 takes for a
        body and then cannot answer, and anybody can send them who reaches the port.
        """
        try:
            await super().run()
        except* Exception as group:
            logger.warning("a connection was ended, since the server failed at it: %s", _said(group))
            logger.debug("where it failed", exc_info=True)

    async def protocol_send(self, event: Event) -> None:
        """Send it; when this is cancelled before it began to go out, it does not, otherwise the next one sends on."""
        if not isinstance(event, RawData):
            await super().protocol_send(event)
            return
        try:
            async with self.send_lock:
                await self._send_rest()
                self._rest = memoryview(event.data)
                await self._send_rest()
        except (
            OSError,
            trio.ClosedResourceError,
            trio.BusyResourceError,
        ):  # busy: it is being closed in just this moment
            await self.protocol.handle(Closed())

    async def _send_rest(self) -> None:
        while self._rest:
            # Sends some of it or is cancelled, but never both; `send_all` would leave unknown how much went out.
            self._rest = self._rest[await self.stream.socket.send(self._rest) :]
