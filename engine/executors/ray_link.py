"""This process's one connection to a Ray cluster: every call of Ray is made on one thread of ours.

On the event loop a thousand submissions would stall it by a third of a second; from the main thread `ray.init` would
replace the handler of SIGTERM. What must be set before Ray is imported is set here, where nobody else has set it.
"""

from __future__ import annotations

import logging
import os
import queue
import sys
import threading
from collections.abc import Callable
from importlib import import_module
from time import monotonic
from typing import TYPE_CHECKING, Any, Final

from ..errors import ClusterLost

if TYPE_CHECKING:
    from concurrent.futures import Future

logger = logging.getLogger("engine")

ENVIRONMENT: Final = {
    # Otherwise Ray ends our process when its control plane has been silent for a minute.
    "RAY_gcs_rpc_server_reconnect_timeout_s": "1000000000",
    # A host that is gone is seen after 14 seconds instead of 439.
    "RAY_grpc_client_keepalive_time_ms": "5000",
    "RAY_grpc_client_keepalive_timeout_ms": "5000",
    "RAY_USAGE_STATS_ENABLED": "0",
    # Of an attempt that is lost only one of its two objects is asked for, and what became of it is told by the engine.
    "RAY_IGNORE_UNHANDLED_ERRORS": "1",
}
PROBE_SECONDS: Final = 5.0
# Of the probes: two that have found nothing are no accident any more.
SILENT_SECONDS: Final = 12.0
# A control plane that is gone answers nobody who says good-bye.
CLOSE_SECONDS: Final = 5.0


class RayLink:
    """A connection, shared by all executors of this process that use the same address."""

    def __init__(self, address: str, options: dict[str, Any]) -> None:
        self.address = address
        self.answered = monotonic()
        """When the control plane was last heard of."""
        self.silent = False
        self._options = options
        self._users = 0
        self._orders: queue.SimpleQueue[Callable[[], object] | None] = queue.SimpleQueue()
        self._closing = threading.Event()
        self._made_here = False
        self._thread = threading.Thread(target=self._serve, name="engine-ray", daemon=True)

    # -- for any thread

    def do(self, order: Callable[[], object]) -> None:
        """Have something done on Ray's thread, in order; it must not raise."""
        self._orders.put(order)

    @property
    def silence(self) -> float:
        """For how many seconds the control plane has not answered; 0 while that is nothing unusual."""
        seconds = monotonic() - self.answered
        return seconds if seconds > SILENT_SECONDS else 0.0

    def open(self) -> Future[None]:
        """Connect, once; done when that is through."""
        from concurrent.futures import Future

        opened: Future[None] = Future()
        self._users += 1
        if self._users == 1:
            self._thread.start()
            self.do(lambda: self._connect(opened))
        else:
            self.do(lambda: opened.set_result(None))
        return opened

    def close(self) -> Future[None]:
        """Disconnect once nobody uses it any more; done when that is through."""
        from concurrent.futures import Future

        closed: Future[None] = Future()
        self._users -= 1
        if self._users:
            closed.set_result(None)
            return closed
        self._closing.set()
        self.do(lambda: self._disconnect(closed))
        self._orders.put(None)
        return closed

    # -- Ray's thread

    def _serve(self) -> None:
        while (order := self._orders.get()) is not None:
            try:
                order()
            except BaseException:  # nobody else could hear of it
                logger.exception("an order to Ray failed")

    def _connect(self, opened: Future[None]) -> None:
        try:
            ray = imported_ray()
            if not ray.is_initialized():
                ray.init(address=self.address, configure_logging=False, **self._options)
                self._made_here = True
        except BaseException as error:
            opened.set_exception(_explained(error, self.address))
            return
        self.answered = monotonic()
        threading.Thread(target=self._probe, name="engine-ray-probe", daemon=True).start()
        threading.Thread(target=self._watch, name="engine-ray-watch", daemon=True).start()
        opened.set_result(None)

    def _disconnect(self, closed: Future[None]) -> None:
        try:
            if self._made_here:
                imported_ray().shutdown()
        except Exception:
            logger.warning("Ray could not be left in an orderly way", exc_info=True)
        finally:
            closed.set_result(None)

    # -- threads that look after it

    def _probe(self) -> None:
        """Ask the control plane for something, again and again; while it is gone, one question waits for ever."""
        ray = imported_ray()
        while not self._closing.wait(PROBE_SECONDS):
            try:
                ray.nodes()
            except Exception as error:
                logger.debug("the control plane of the cluster did not answer: %s", error)
            else:
                self.answered = monotonic()

    def _watch(self) -> None:
        """Say when it falls silent, and when it is back."""
        while not self._closing.wait(1.0):
            silence = self.silence
            if silence and not self.silent:
                self.silent = True
                logger.warning(
                    "the control plane of the cluster at %s has not answered for %.0f s: nodes that run there wait",
                    self.address,
                    silence,
                )
            elif self.silent and not silence:
                self.silent = False
                logger.warning("the control plane of the cluster at %s answers again", self.address)


def imported_ray() -> Any:
    """Ray, with what has to be said before it is imported."""
    if "ray" not in sys.modules:
        for name, value in ENVIRONMENT.items():
            os.environ.setdefault(name, value)
    elif unset := [name for name in ENVIRONMENT if name not in os.environ]:
        logger.warning(
            "Ray was imported before the engine could set %s: when its control plane is lost, Ray may end this "
            "process; set them in the environment, or import ray later",
            ", ".join(unset),
        )
        for name in unset:
            os.environ[name] = ENVIRONMENT[name]  # for what it starts, and so as to say this once
    try:
        return import_module("ray")
    except ImportError as error:
        raise ImportError(
            "RayExecutor needs the package ray: pip install 'workflow-engine[ray]'", name=error.name
        ) from error


def _explained(error: BaseException, address: str) -> BaseException:
    if isinstance(error, ConnectionError | TimeoutError):
        hint = "is it running there, and if it asks for a token, is RAY_AUTH_MODE=token set here with that token?"
        lost = ClusterLost(address, f"cannot be reached ({error}); {hint}")
        lost.__cause__ = error
        return lost
    return error


_links: dict[str, RayLink] = {}
_lock = threading.Lock()


def link_to(address: str, options: dict[str, Any]) -> RayLink:
    """The connection to this cluster, made if it is the first; Ray allows one for each process at a time."""
    with _lock:
        for other, link in list(_links.items()):
            if link._closing.is_set() or not link._users:
                del _links[other]
            elif other != address:
                raise ValueError(
                    f"this process uses the cluster at {other!r}; Ray allows one at a time, not {address!r} too"
                )
        if address not in _links:
            _links[address] = RayLink(address, options)
        return _links[address]
