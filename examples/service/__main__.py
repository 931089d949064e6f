"""Serve the shop until Ctrl-C: `python -m examples.service [asyncio|trio] [--port N] [--folder DIR]`."""

from __future__ import annotations

import argparse
import logging
import signal
import socket
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, cast

import anyio

from engine.web.draining import Draining
from engine.web.serving import CannotServe, address_of, listening

try:
    import hypercorn
    import hypercorn.trio
    import uvicorn
    from fastapi import FastAPI

    from .app import create
except ModuleNotFoundError as missing:
    if (missing.name or "").partition(".")[0] not in ("fastapi", "uvicorn", "hypercorn", "trio"):
        raise
    sys.exit(f"error: this example needs {missing.name}: pip install -e '.[examples,serve,trio]'")


class Server(uvicorn.Server):
    """uvicorn that leaves signals to us."""

    @contextmanager
    def capture_signals(self) -> Iterator[None]:
        """Take none."""
        yield


async def on_asyncio(app: FastAPI, listener: socket.socket, draining: Draining, grace: int) -> None:
    """Serve with uvicorn."""
    server = Server(uvicorn.Config(app, log_config=None, access_log=False, timeout_graceful_shutdown=grace))

    async def end() -> None:
        await draining.wait()
        server.should_exit = True

    async with anyio.create_task_group() as group:
        group.start_soon(end)
        await server.serve([listener])
        group.cancel_scope.cancel()
    if not server.started:
        sys.exit("error: the application did not start")


async def on_trio(app: FastAPI, listener: socket.socket, draining: Draining, grace: int) -> None:
    """Serve with Hypercorn."""
    config = hypercorn.Config()
    config.bind = [f"fd://{listener.detach()}"]
    config.graceful_timeout = grace
    config.errorlog = logging.getLogger("hypercorn.error")  # else to stderr, and each start is an error there
    await hypercorn.trio.serve(cast(Any, app), config, shutdown_trigger=draining.wait)


def main() -> None:
    """Bind, then serve: so a port that is taken is told before anything is begun."""
    parser = argparse.ArgumentParser(prog="python -m examples.service")
    parser.add_argument("backend", nargs="?", choices=("asyncio", "trio"), default="asyncio")
    parser.add_argument("--port", type=int, default=8000, help="0 for any that is free (8000)")
    parser.add_argument("--folder", type=Path, default=Path("build/service"), help="for runs and till (build/service)")
    parser.add_argument("--every", type=float, default=10.0, help="seconds between two counts of the takings (10)")
    parser.add_argument("--grace", type=int, default=5, help="seconds for connections to end (5)")
    options = parser.parse_args()
    options.folder.mkdir(parents=True, exist_ok=True)
    try:
        # The engine's own way to a socket: its answers are not held back (TCP_NODELAY), which costs 40 ms a request
        # with sockets that are made by `socket.create_server`.
        with listening("127.0.0.1", options.port) as listener:
            _serve(options, listener)
    except CannotServe as error:
        sys.exit(f"error: {error}")


def _serve(options: argparse.Namespace, listener: socket.socket) -> None:
    address, draining = address_of(listener), Draining()

    def ready() -> None:
        print(f"serving {address}/docs, the engine at {address}/workflows/docs, numbers at {address}/metrics")
        print(f"runs and till are in {options.folder}; Ctrl-C ends it, and the next start goes on", flush=True)

    app = create(options.folder.absolute(), every=options.every, draining=draining, ready=ready)
    # Streams hear of a signal at once, and end: the servers wait for them before they leave the lifespan.
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda *_: draining.begin())
    serve = on_asyncio if options.backend == "asyncio" else on_trio
    anyio.run(serve, app, listener, draining, options.grace, backend=options.backend)


if __name__ == "__main__":
    main()
