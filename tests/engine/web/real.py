"""The application behind a real server, uvicorn or Hypercorn, in a thread of this process and a loop of its own."""

from __future__ import annotations

import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

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
        assert ready.wait(30)
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
