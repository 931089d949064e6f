"""Running one incarnation of an actor, from its factory to the end of its `on_stop`.

Whatever ends it becomes a `StopReason`; only a cancellation from outside and `KeyboardInterrupt`, `SystemExit`
and their like go further, and they take the tree down with them.
"""

from __future__ import annotations

import inspect
import logging
from collections.abc import Awaitable, Callable
from math import inf
from typing import Any, TypeVar

import anyio

from .actor import Actor, accepted_by
from .cell import Cell, current_cell
from .context import Context
from .errors import ActorError, StartTimeout, StopTimeout, StrayCancellation
from .lifecycle import KILLED, State, StopReason, crashed
from .shown import shown
from .spec import ChildSpec
from .waker import current_task, is_stray_cancellation

T = TypeVar("T")

logger = logging.getLogger("actors")


async def run_incarnation(cell: Cell, spec: ChildSpec, started: Callable[[], object]) -> StopReason:
    """Run one incarnation to its end and say why it ended.

    Raises only what must not be supervised; the incarnation has been cleaned up then, too.
    """
    current_cell.set(cell)
    cell.task = current_task()
    scope = cell.scope  # made by the supervisor, so that it can be cancelled before this task has run at all
    assert scope is not None
    reason = KILLED
    try:
        with scope:
            reason = await _supervised(cell, _live(cell, spec, started))
    except Exception as error:
        reason = crashed(error)
    else:
        if scope.cancel_called:
            reason = KILLED  # also when the handler swallowed its cancellation
    finally:
        # Also on the way out of a cancellation or an interrupt: nothing that was started is left uncleaned.
        reason = await _clean_up(cell, spec, reason)
    return reason


async def _supervised(cell: Cell, work: Awaitable[T]) -> T:
    """Await the work; make what can be supervised an `Exception`: a cancellation, too, that nobody asked for."""
    try:
        return await work
    except anyio.get_cancelled_exc_class() as cancellation:
        if not is_stray_cancellation():
            raise
        raise _stray(cell) from cancellation
    except ExceptionGroup:
        raise
    except BaseExceptionGroup as group:
        rest = group.split(anyio.get_cancelled_exc_class())[1]
        if rest is None and is_stray_cancellation():
            raise _stray(cell) from group
        if not isinstance(rest, ExceptionGroup):  # an interrupt among them, or cancellations only
            raise
        # Errors beside a cancellation that was asked for are errors; asyncio's groups show nothing else.
        raise rest from None


def _stray(cell: Cell) -> StrayCancellation:
    return StrayCancellation(f"actor {cell.path!r} raised a cancellation that nobody asked for")


async def _live(cell: Cell, spec: ChildSpec, started: Callable[[], object]) -> StopReason:
    actor = _made(cell, spec)
    # Here at the latest: what a factory that is no class makes is known only once it has made it.
    cell.accepts = accepted_by(actor)
    actor.context = Context(cell)
    kind = type(actor)
    if spec.start_timeout == inf or (kind.on_start is Actor.on_start and kind.around is Actor.around):
        await actor.on_start()
        cell.actor = actor
        return await actor._actors_run(cell, started)
    return await _start_in_time(cell, actor, spec, started)


def _made(cell: Cell, spec: ChildSpec) -> Actor[Any]:
    try:
        actor = spec.factory(*spec.args)
    except TypeError as error:
        if error.__traceback__ is not None and error.__traceback__.tb_next is not None:
            raise  # out of the factory itself
        name = getattr(spec.factory, "__qualname__", None) or shown(spec.factory)
        raise TypeError(
            f"the factory {name} of {cell.path!r} cannot be called with {shown(spec.args)}: {error}"
        ) from error
    if inspect.iscoroutine(actor):
        actor.close()
        raise TypeError(f"the factory of {cell.path!r} is async: make the actor at once and do what waits in on_start")
    if not isinstance(actor, Actor):
        raise TypeError(f"the factory of {cell.path!r} made {shown(actor)}, which is no Actor")
    if "context" in vars(actor):
        raise ActorError(
            f"the factory of {cell.path!r} made an actor that has run as {actor.context.ref.path!r}: "
            "it makes a new one at each call"
        )
    return actor


async def _start_in_time(cell: Cell, actor: Actor[Any], spec: ChildSpec, started: Callable[[], object]) -> StopReason:
    """Give it the spec's `start_timeout` to come up, `on_start` and the beginning of `around` together."""
    late = StartTimeout(f"actor {cell.path!r} did not start within {spec.start_timeout:g} s")
    with anyio.move_on_after(spec.start_timeout) as scope:

        def up() -> None:
            scope.deadline = inf
            started()

        await actor.on_start()
        cell.actor = actor  # also of one that is late: what it has opened, its `on_stop` closes
        if not scope.cancel_called:
            return await actor._actors_run(cell, up)
    raise late


async def _clean_up(cell: Cell, spec: ChildSpec, reason: StopReason) -> StopReason:
    cell.state = State.STOPPING
    cell.settle_in_hand(reason)
    actor = cell.actor
    try:
        if actor is not None and type(actor).on_stop is not Actor.on_stop:
            with anyio.move_on_after(spec.stop_timeout, shield=True) as scope:
                await _supervised(cell, actor.on_stop(reason))
            if scope.cancel_called:
                raise StopTimeout(f"actor {cell.path!r}: on_stop did not return within {spec.stop_timeout:g} s")
    except Exception as error:
        # The first cause is the one that supervision acts on; a failing clean-up makes a crash of a good end only.
        logger.warning("on_stop of %s raised %s", cell.path, shown(error), exc_info=error)
        if reason.kind != "crashed":
            reason = crashed(error)
    finally:
        cell.end_incarnation(reason)
    return reason
