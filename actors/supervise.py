"""The root of a tree: a supervisor that lives as long as an `async with`."""

from __future__ import annotations

from collections.abc import Iterable
from functools import partial
from math import inf
from types import TracebackType
from typing import Any

import anyio

from .cell import Cell
from .errors import ActorError
from .incarnation import run_incarnation
from .interrupts import uninterrupted
from .lifecycle import KILLED, SHUTDOWN, State, StopReason
from .observer import Observer
from .spec import ChildSpec, Strategy, checked_specs
from .supervisor import Supervisor, SupervisorRef
from .tree import Tree
from .waker import current_task


class supervise:
    """Run children under a root supervisor for the time of an `async with`, which gives its `SupervisorRef`.

    Entering returns once all children are up, and raises `StartFailed` when one does not come up. Leaving stops
    them in reverse order, also after an exception of the body, and waits for them: nothing outlives the block. When
    the root gives up, the body is cancelled and `TooManyRestarts` raised in its place. A root that is shut down by
    a significant child's end leaves the body alone: `await root.wait_stopped()` tells.
    """

    def __init__(
        self,
        children: Iterable[ChildSpec] = (),
        *,
        name: str = "root",
        strategy: Strategy = "one_for_one",
        max_restarts: float = inf,
        period: float = 5.0,
        observer: Observer | None = None,
        tree: Tree | None = None,
    ) -> None:
        make = partial(Supervisor, checked_specs(children), strategy=strategy, max_restarts=max_restarts, period=period)
        make()  # what is wrong with it shows here
        self._spec = ChildSpec(name, make, shutdown=inf, start_timeout=inf)
        if tree is not None and observer is not None:
            raise TypeError("supervise() takes an observer or a tree, which has one: supervise(tree=Tree(observer))")
        self._tree = Tree(observer) if tree is None else tree
        self._cell = Cell(name, name, self._tree, accepts=Supervisor.accepts)
        self._cell.ref = SupervisorRef(self._cell)
        self._reason: StopReason | None = None
        self._was_up = False
        self._in_body = False

    async def __aenter__(self) -> SupervisorRef:
        if self._cell.state is not State.NEW:
            raise ActorError("a tree is entered once: call supervise() again")
        uninterrupted("actors")
        self._task = current_task()
        self._ready = anyio.Event()
        self._group = anyio.create_task_group()
        await self._group.__aenter__()
        try:
            self._cell.state = State.STARTING
            self._cell.incarnation = 1
            self._cell.scope = anyio.CancelScope()
            self._group.start_soon(self._run, name=self._cell.path)
            await self._ready.wait()
        except BaseException as error:
            if await self._leave(error):
                raise self._failure() from error
            raise
        # A significant child may be done already, and the root with it: then it was up, and there is a body to run.
        if self._reason is not None and not (self._was_up and self._reason.kind in ("normal", "shutdown")):
            await self._leave(None)
            raise self._failure()
        self._in_body = True
        return SupervisorRef(self._cell)

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> bool:
        if current_task() is not self._task:
            raise ActorError(f"tree {self._cell.path!r} is left in another task than the one that entered it")
        self._in_body = False
        if error is None or isinstance(error, Exception):
            # In order even after a failure of the body: handing it to the group would cancel all children at once.
            self._cell.request_stop(SHUTDOWN)
            await self._leave(None)
            swallowed = False
        else:
            swallowed = await self._leave(error)
        if self._reason is not None and self._reason.kind == "crashed":
            if isinstance(error, Exception):
                raise ExceptionGroup(f"both the body and the tree {self._cell.path!r} failed", [error, self._failure()])
            raise self._failure()
        return swallowed

    async def _leave(self, error: BaseException | None) -> bool:
        try:
            return bool(await self._group.__aexit__(type(error) if error else None, error, None))
        except BaseExceptionGroup as group:
            interrupt = _sole_interrupt(group)
            if interrupt is None:
                raise
            # As itself, so that `except KeyboardInterrupt` sees it; its own cause stays its cause.
            raise interrupt from interrupt.__cause__

    async def _run(self) -> None:
        try:
            self._reason = await run_incarnation(self._cell, self._spec, self._started)
        except BaseException:
            self._reason = KILLED
            raise
        finally:
            assert self._reason is not None
            self._cell.finish(self._reason)
            self._tree.letters.flush()
            self._ready.set()
        if self._reason.kind == "crashed" and self._in_body:
            self._group.cancel_scope.cancel()

    def _started(self) -> None:
        self._was_up = True
        self._ready.set()

    def _failure(self) -> Exception:
        cause: Any = None if self._reason is None else self._reason.cause
        return cause if isinstance(cause, Exception) else ActorError(f"tree {self._cell.path!r} ended: {self._reason}")


def _sole_interrupt(group: BaseExceptionGroup[BaseException]) -> BaseException | None:
    """Return the one interrupt that a group was raised for, cancellations aside; there may be none."""
    rest: BaseException | None = group.split(anyio.get_cancelled_exc_class())[1]
    while isinstance(rest, BaseExceptionGroup):
        if len(rest.exceptions) != 1:
            return None
        rest = rest.exceptions[0]
    return None if isinstance(rest, Exception) else rest
