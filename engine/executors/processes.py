"""Functions in worker processes: for work that fills a processor, and for work that must really end when told to.

Why not `multiprocessing` or `anyio.to_process`: both import the parent's script into each worker at its start, which
acts twice when it has no guard; a pool of the first cannot kill the one call that takes too long. Here

- a worker is a fresh interpreter, never a fork of one that has threads. It starts with the first call that finds none
  idle and is used again and again; one that was killed or died is replaced by the next call;
- the parent's script is imported only to find a function that is defined in it;
- calls and results travel on a socket of their own, so prints go where the parent's go;
- a worker leads a process group. Ctrl-C does not reach it, and killing it kills what it has started;
- the kernel kills that group when the parent is gone, however it went.

No task and no thread belongs to a worker: whoever calls waits for the socket.
"""

from __future__ import annotations

import contextlib
import logging
import os
import pickle
import signal
import socket
import subprocess
import sys
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

import anyio

from ..errors import NotTransferable, WorkerLost
from ..logs import about
from . import worker as wire
from .places import BaseExecutor, _closed, processors
from .work import Capabilities, Work, shown_function

logger = logging.getLogger(__name__)

# A worker told to end has this long for its own clean-up, such as `atexit`; then it is killed.
EXIT_SECONDS = 1.0
# A killed process is gone within milliseconds, unless it is stuck in the kernel (a dead network disk).
REAP_SECONDS = 5.0
_POLL_SECONDS = 0.002

_BOOT = """
import sys
from importlib.util import module_from_spec, spec_from_file_location
alias, file, channel, lifeline = sys.argv[1:]
spec = spec_from_file_location(alias, file)
sys.modules[alias] = module = module_from_spec(spec)
spec.loader.exec_module(module)
module.main(int(channel), int(lifeline))
"""


class ProcessExecutor(BaseExecutor):
    """An `Executor` on a pool of worker processes. Needs POSIX.

    What travels is pickled: the function by reference, so it stands at the top level of a module; arguments and
    result by value. Context variables, loggers and whatever else the parent has set up stay behind. A `sys.exit()` in
    the function ends its worker (`WorkerLost`). Cancelled, `submit` kills the worker and what it has started, and has
    reaped it once it raises.
    """

    capabilities = Capabilities(stops=True, loses_workers=True)

    def __init__(self, limit: int | None = None) -> None:
        """Run at most `limit` processes, by default one per processor; each starts when it is first needed."""
        super().__init__(processors() if limit is None else limit)
        self._idle: list[_Worker] = []
        self._busy: set[_Worker] = set()
        self._to_replace = 0
        self._generation = 0
        self._settings: dict[str, Any] = {}

    async def renew(self) -> None:
        """Have calls from now on find the modules as they are on disk: those in hand end in the workers they have."""
        self._generation += 1
        idle, self._idle = self._idle, []
        await _dismiss(idle)

    async def submit(self, work: Work) -> Any:
        """Call the function in a worker; see `Executor.submit`."""
        function = work.function
        request = _request(function, work.args, work.kwargs)
        free = await self._take()
        try:
            worker = self._idle_worker() or self._new_worker()
            self._busy.add(worker)
            try:
                reply = await worker.ask(request)
            except EOFError:
                await worker.reap()
                if free is not self._free:
                    raise _closed(self) from None
                self._to_replace += 1
                raise WorkerLost(work.name, worker.process.pid, worker.process.returncode) from None
            except BaseException:
                self.killed += 1
                self._to_replace += 1
                worker.kill()
                await worker.reap()
                raise
            finally:
                self._busy.discard(worker)
            if free is not self._free:
                await worker.reap()  # killed by leaving, just after it had answered
            elif worker.generation == self._generation:
                self._idle.append(worker)
            else:
                await _dismiss([worker])
        finally:
            free.release()
        return _outcome(reply, function, worker.process.pid)

    def _idle_worker(self) -> _Worker | None:
        while self._idle:
            worker = self._idle.pop()  # the one used last: its memory is warm
            if worker.process.poll() is None:
                return worker
            worker.close()  # it died while it had nothing to do, so nobody has lost anything
            self._to_replace += 1
        return None

    def _new_worker(self) -> _Worker:
        worker = _Worker(self._settings, self._generation)
        if self._to_replace:
            self._to_replace -= 1
            self.restarts += 1
        return worker

    async def start(self) -> None:
        """Know what workers need; they start with the calls."""
        if wire_in_worker().loading_main:
            raise RuntimeError(
                "a worker process imports this script to find a function in it, and may not start workers of its own "
                'meanwhile; put what starts the engine under `if __name__ == "__main__":`, or the node\'s function '
                "into a module"
            )
        # What comes back from workers may name this module, or something of the script, by what they are called there.
        sys.modules.setdefault(wire.ALIAS, wire)
        if main := sys.modules.get("__main__"):
            sys.modules.setdefault("__mp_main__", main)
        self._settings = _settings()
        self._to_replace = 0
        self._open()

    async def close(self) -> None:
        """End the workers: those with a call in hand at once."""
        self._close()
        busy, idle, self._idle = list(self._busy), self._idle, []
        for worker in busy:
            worker.kill()
        await _dismiss(idle)
        with anyio.move_on_after(REAP_SECONDS, shield=True):
            for worker in busy:
                # Its caller, which still looks at its channel, reaps it and raises.
                await worker.reaped.wait()


async def _dismiss(idle: Sequence[_Worker]) -> None:
    """Have workers end that have nothing to do; not to be cancelled."""
    for worker in idle:
        worker.hang_up()
    with anyio.move_on_after(EXIT_SECONDS, shield=True):
        for worker in idle:
            await worker.wait_dead()
    for worker in idle:
        worker.kill()
        await worker.reap()


class _Worker:
    """A worker process and our end of its channel."""

    def __init__(self, settings: Mapping[str, Any], generation: int) -> None:
        self.generation = generation
        self.channel, theirs = socket.socketpair()
        # We hold the writing end, write nothing and never close it before the worker is dead.
        their_lifeline, self._lifeline = os.pipe()
        with theirs:
            try:
                self.process = _spawn(theirs.fileno(), their_lifeline)
            except BaseException:
                self.channel.close()
                os.close(self._lifeline)
                raise
            finally:
                os.close(their_lifeline)
        self.channel.setblocking(False)
        self.reaped = anyio.Event()
        # They come with the first call; those after it have an empty part in this place.
        [self._settings] = wire.dump(settings)

    async def ask(self, request: Sequence[wire.Part]) -> list[bytearray]:
        """Send a call and wait for its answer; raises `EOFError` when the process dies."""
        settings, self._settings = self._settings, wire.Part()
        try:
            await self._send(wire.to_send([settings, *request]))
            return await self._receive()
        except ConnectionError:
            raise EOFError from None

    async def _send(self, chunks: Iterable[memoryview]) -> None:
        for view in chunks:
            while view:
                try:
                    view = view[self.channel.send(view) :]
                except BlockingIOError:
                    await anyio.wait_writable(self.channel)

    async def _receive(self) -> list[bytearray]:
        reading = wire.to_receive()
        view = next(reading)
        try:
            while True:
                # Before each read, though more may be there: a large result must not keep the loop from all else.
                await anyio.wait_readable(self.channel)
                with contextlib.suppress(BlockingIOError):
                    view = reading.send(self._read(view))
        except StopIteration as end:
            parts: list[bytearray] = end.value
            return parts

    def _read(self, view: memoryview) -> int:
        count = self.channel.recv_into(view)
        if not count:
            raise EOFError
        return count

    def hang_up(self) -> None:
        """Tell an idle worker that nothing more will come, upon which it exits."""
        self.channel.close()

    def kill(self) -> None:
        """Kill the process and all of its group, at once."""
        # Only while it has not been reaped is the number certain to be its own.
        if self.process.returncode is None:
            with contextlib.suppress(ProcessLookupError, PermissionError):
                os.killpg(self.process.pid, signal.SIGKILL)

    async def reap(self) -> None:
        """Wait until a dying process has been reaped, and give back what was held for it; not to be cancelled."""
        with anyio.move_on_after(REAP_SECONDS, shield=True):
            await self.wait_dead()
        self.kill()  # what it had started
        if self.process.poll() is None:
            pid = self.process.pid
            logger.warning("worker process %d does not die of SIGKILL; it is left behind", pid, extra=about())
        self.close()
        self.reaped.set()

    async def wait_dead(self) -> None:
        """Wait for the end of the process, without reaping it."""
        try:
            fd = os.pidfd_open(self.process.pid)
        except (AttributeError, OSError):  # not Linux, or one that cannot
            while self.process.poll() is None:  # noqa: ASYNC110  # nothing else would tell
                await anyio.sleep(_POLL_SECONDS)
            return
        try:
            await anyio.wait_readable(fd)
        finally:
            os.close(fd)

    def close(self) -> None:
        """Give back the file descriptors."""
        self.channel.close()
        if self._lifeline >= 0:
            os.close(self._lifeline)
            self._lifeline = -1


def wire_in_worker() -> Any:
    """The module `worker` as this process runs it, if this is a worker; else ours."""
    return sys.modules.get(wire.ALIAS, wire)


def _spawn(channel: int, lifeline: int) -> subprocess.Popen[bytes]:
    flags = subprocess._args_from_interpreter_flags()  # type: ignore[attr-defined]  # as multiprocessing does
    return subprocess.Popen(
        # -P: nothing in the current folder can take the place of a standard module before the path is set.
        [sys.executable, *flags, "-P", "-c", _BOOT, wire.ALIAS, wire.__file__, str(channel), str(lifeline)],
        stdin=subprocess.DEVNULL,
        pass_fds=(channel, lifeline),
        process_group=0,
    )


def _settings() -> dict[str, Any]:
    main = sys.modules.get("__main__")
    spec = getattr(main, "__spec__", None)
    file = getattr(main, "__file__", None)
    return {
        "path": [os.path.abspath(entry) if entry == "" else entry for entry in sys.path],
        "argv": list(sys.argv),
        "main_name": spec.name if spec else None,
        "main_file": os.path.abspath(file) if file else None,
        "backend": wire.backend_here(),
    }


def _request(function: Callable[..., Any], args: Sequence[Any], kwargs: Mapping[str, Any]) -> list[wire.Part]:
    sent = function.in_worker() if isinstance(function, wire.Observed) else function
    try:
        called = wire.Part([pickle.dumps(sent, wire.PROTOCOL)])
    except Exception as error:
        raise NotTransferable(shown_function(function), "function", str(error)) from error
    try:
        return [called, *wire.dump((args, kwargs))]
    except Exception as error:
        where = wire.culprit(kwargs, "kwargs") if _fits(args) else wire.culprit(args, "args")
        raise NotTransferable(shown_function(function), "arguments", str(error), where) from error


def _fits(value: Any) -> bool:
    try:
        pickle.dumps(value, wire.PROTOCOL)
    except Exception:
        return False
    return True


def _outcome(reply: list[bytearray], function: Callable[..., Any], pid: int) -> Any:
    try:
        how, value, text = wire.load(reply)
    except Exception as error:
        raise NotTransferable(shown_function(function), "result", f"{type(error).__name__}: {error}") from error
    if how == "returned":
        return value
    if how == "refused":
        what, where = value
        raise NotTransferable(shown_function(function), what, text, where)
    try:
        value.add_note(f"in worker process {pid}:\n{text}")
        raise value
    finally:
        del value  # or this frame and the error would keep each other
