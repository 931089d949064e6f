"""The life of a service: bind, open the engine, serve, drain, end.

**In this order**, since each step is the cheapest that may fail: who may reach it (`Exposed`), the port (`PortTaken`),
the store. Nothing is left behind by one that fails.

**Draining.** SIGTERM and SIGINT are the same. What happens then, in `grace` seconds at most:
1. at once, in the signal's handler: `draining` begins. `/ready` is 503, streams end themselves, connections close
   after their answer; the engine refuses new runs (503 with Retry-After). The port stays open: whoever looks at a run
   or cancels one still can.
2. Nodes that are running go on, and get all of the grace but its last part.
3. The port is closed, and answers that are under way get half of the last part.
4. The engine is left: what has not come to rest is stopped, and its runs stay in the store, for the next start.

A timer of its own thread ends the process when the grace is over, whatever hangs: a node that blocks the loop, a store
that does not answer. That is no worse than a power cut, which the store survives by its promise. A second signal does
the same at once.
"""

from __future__ import annotations

import errno
import gc
import logging
import os
import signal
import socket
import sys
import threading
from collections.abc import Callable, Coroutine, Iterator, Sequence
from contextlib import contextmanager, suppress
from ipaddress import ip_address
from time import monotonic
from types import FrameType
from typing import Any, Final

import anyio
import attrs

from ..app import Engine
from ..blocking import Backend
from ..graph import Graph
from ..logs import about
from .draining import Draining
from .hangups import Hangups
from .server import BACKLOG, SERVERS
from .wire import ASGIApp

logger = logging.getLogger("engine.web")

_LAST_PART: Final = 0.25
_LONGEST_LAST_PART: Final = 4.0
SAME_SIGNAL_SECONDS: Final = 0.5
"""What comes so soon after the first is the same: `timeout`, and a shell at Ctrl-C, tell a process and its group."""
YOUNG_OBJECTS: Final = 5_000
"""So many more objects until the collector looks at the new ones: those of a hundred submissions. Python's is 700."""
_SIGNALS: Final = (signal.SIGTERM, signal.SIGINT)


class CannotServe(Exception):
    """A service that cannot be started as it was asked for: what is in the way, and the cure."""


class Exposed(CannotServe):
    """It would be open to everybody who can reach it."""


class PortTaken(CannotServe):
    """Something else listens there, or the address is none of this machine's."""


@attrs.frozen(kw_only=True)
class Service:
    """What to serve, and where. Made by whoever knows the settings: the command line, or a program."""

    engine: Callable[[], Engine]
    """Makes the engine, on whose store and limits that is."""
    application: Callable[[Engine, Draining], ASGIApp]
    """Makes the application once the engine is open: `create_app`, or any other."""
    graphs: Sequence[Graph] = ()
    """Registered before the port is open: their unfinished runs go on."""
    beside: Sequence[Callable[[Engine], Coroutine[Any, Any, None]]] = ()
    """What goes on while it serves, and is cancelled when it drains."""
    host: str = "127.0.0.1"
    port: int = 8000
    """0 for any that is free."""
    backend: Backend = "asyncio"
    grace: float = 20.0
    has_keys: bool = False
    insecure: bool = False
    """Whether it may be reached by other machines without a key."""
    reread: Callable[[], object] | None = None
    """What SIGHUP does, in a thread, from when it serves until it drains. Without it a SIGHUP ends the process."""
    started: Callable[[str], object] = lambda address: None
    """Called with its address once it takes requests."""


def serve(service: Service) -> None:
    """Serve until SIGTERM or SIGINT; returns once it has ended in order.

    Raises `CannotServe`, and what entering the engine raises: `StoreUnavailable`, before anything is open. Belongs in
    the main thread, since signals do.
    """
    check_exposure(service.host, has_keys=service.has_keys, insecure=service.insecure)
    with listening(service.host, service.port) as listener:
        _allow_many_connections()
        draining, hangups = Draining(), Hangups()
        options = {"use_uvloop": True} if service.backend == "asyncio" and _has_uvloop() else {}
        with _signals(draining, service.grace), _hanging_up(hangups if service.reread else None):
            anyio.run(_Life(service, draining, hangups, listener).run, backend=service.backend, backend_options=options)


def check_exposure(host: str, *, has_keys: bool, insecure: bool) -> None:
    """Raise `Exposed` for a service without keys that other machines can reach."""
    if not (has_keys or insecure or is_loopback(host)):
        raise Exposed(
            f"{host} can be reached by other machines, and without keys everybody may do everything: make a key "
            f"(workflow-engine keys new NAME --scope admin) and name its file with --keys, listen on 127.0.0.1, or "
            f"say --insecure if something else keeps strangers out"
        )


def is_loopback(host: str) -> bool:
    """Whether only this machine can reach it: by every address that the name has."""
    try:
        return ip_address(host.strip("[]")).is_loopback
    except ValueError:
        pass
    try:
        found = socket.getaddrinfo(host, None, type=socket.SOCK_STREAM)
    except OSError:
        return False
    return bool(found) and all(ip_address(str(address[0]).partition("%")[0]).is_loopback for *_, address in found)


@contextmanager
def listening(host: str, port: int) -> Iterator[socket.socket]:
    """A socket that listens there; raises `PortTaken`."""
    if not 0 <= port < 65536:
        raise PortTaken(f"{port} is no port: name one below 65536, or 0 for any that is free")
    try:
        family, kind, protocol, _, address = socket.getaddrinfo(
            host.strip("[]"), port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
        )[0]
    except (OSError, OverflowError, UnicodeError) as error:
        raise PortTaken(f"{host}:{port} is no address to listen on: {error}") from None
    listener = socket.socket(family, kind, protocol)
    try:
        if os.name == "posix":  # elsewhere it lets two programs have one port
            listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        try:
            listener.bind(address)
            listener.listen(BACKLOG)
        except OSError as error:
            raise PortTaken(_why_not(host, port, error)) from None
        listener.setblocking(False)
        yield listener
    finally:
        with suppress(OSError):
            listener.close()


def address_of(listener: socket.socket) -> str:
    """Where it is reached, with the port that it really has."""
    host, port = listener.getsockname()[:2]
    return f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"


def _why_not(host: str, port: int, error: OSError) -> str:
    match error.errno:
        case errno.EADDRINUSE:
            return (
                f"port {port} of {host} is taken by another program: end that one, or name another --port (0: any free)"
            )
        case errno.EACCES:
            return f"port {port} of {host} needs rights that this process has not: name one from 1024 on"
        case errno.EADDRNOTAVAIL:
            return f"{host} is no address of this machine: name one that is, or 0.0.0.0 for all"
    return f"{host}:{port} cannot be listened on: {error.strerror}"


def last_part(grace: float) -> float:
    """How much of the grace is for closing the port and leaving the engine: a quarter, but a second if there is one."""
    return min(_LONGEST_LAST_PART, max(grace * _LAST_PART, min(1.0, grace / 2)))


class _Life:
    """From the open port to the closed one."""

    def __init__(self, service: Service, draining: Draining, hangups: Hangups, listener: socket.socket) -> None:
        self._service = service
        self._draining = draining
        self._hangups = hangups
        self._listener = listener
        self._last_part = last_part(service.grace)

    async def run(self) -> None:
        with anyio.CancelScope() as scope:
            async with self._service.engine() as engine:
                for graph in self._service.graphs:
                    engine.register(graph)
                with collecting_less_often():
                    at_rest = await self._serve(engine)
                if not at_rest:
                    logger.warning("the grace is over: what still runs is stopped, its runs go on at the next start")
                    # As an exception would: leaving the engine in order waits for what runs.
                    scope.cancel()
                    await anyio.lowlevel.checkpoint()

    async def _serve(self, engine: Engine) -> bool:
        """Serve until it drains and has drained; whether everything came to rest."""
        service, address = self._service, address_of(self._listener)
        app = service.application(engine, self._draining)
        closing = anyio.Event()
        settled = False

        def started() -> None:
            logger.info("serving %s on %s", address, service.backend, extra=about(address=address))
            service.started(address)

        async with anyio.create_task_group() as group:

            async def server() -> None:
                run = SERVERS[service.backend]
                await run(app, self._listener, started, closing.wait, self._last_part / 2)
                if not closing.is_set():
                    raise RuntimeError("the server has ended by itself")

            group.start_soon(server)
            async with anyio.create_task_group() as beside:
                for work in service.beside:
                    beside.start_soon(work, engine)
                if service.reread is not None:
                    beside.start_soon(self._hangups.each, service.reread)
                await self._draining.wait()
                beside.cancel_scope.cancel()
            logger.info("draining: no new runs, %g s for what is running", service.grace, extra=about())
            settled = await engine.settle(service.grace - self._last_part)
            closing.set()
        return settled


@contextmanager
def _signals(draining: Draining, grace: float) -> Iterator[None]:
    """Drain on the first signal, end at once on the second, or when the grace is over."""
    over = threading.Event()
    first = 0.0

    def end_when_over() -> None:
        if not over.wait(grace):
            logger.critical("the grace is over and something hangs: ending now; the store has what was acknowledged")
            _end(1)

    def told(number: int, _: FrameType | None) -> None:
        nonlocal first
        if draining.begun:
            if monotonic() - first > SAME_SIGNAL_SECONDS:
                _end(128 + number)
            return
        first = monotonic()
        threading.Thread(target=end_when_over, name="engine-grace", daemon=True).start()
        draining.begin()

    before = {number: signal.signal(number, told) for number in _SIGNALS}
    try:
        yield
    finally:
        over.set()
        for number, handler in before.items():
            signal.signal(number, handler)


@contextmanager
def _hanging_up(hangups: Hangups | None) -> Iterator[None]:
    """Have SIGHUP tell, where there is one and somebody wants to know."""
    if hangups is None or not hasattr(signal, "SIGHUP"):
        yield
        return
    before = signal.signal(signal.SIGHUP, lambda number, frame: hangups.tell())
    try:
        yield
    finally:
        signal.signal(signal.SIGHUP, before)


def _end(code: int) -> None:
    with suppress(Exception):
        sys.stdout.flush()
        sys.stderr.flush()
    os._exit(code)


def _allow_many_connections() -> None:
    """As many open files as this process may have: a stream is one, and the usual limit is 1,024."""
    try:
        import resource
    except ImportError:  # Windows has no such limit
        return
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    with suppress(ValueError, OSError):
        resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))


@contextmanager
def collecting_less_often() -> Iterator[None]:
    """Have Python's collector take this process for one that serves: for whoever owns it, no library may do so.

    What is there when it begins to serve stays, and need not be looked at again. And what a submission makes outlives
    the next 700 objects: so it was handed on to the older generations, which were then searched for it again and again.
    """
    before = gc.get_threshold()
    gc.collect()
    gc.freeze()
    gc.set_threshold(YOUNG_OBJECTS, *before[1:])
    try:
        yield
    finally:
        gc.set_threshold(*before)
        gc.unfreeze()


def _has_uvloop() -> bool:
    from importlib.util import find_spec

    return find_spec("uvloop") is not None
