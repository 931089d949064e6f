"""What users write: a class with a `receive`."""

from __future__ import annotations

import inspect
from collections.abc import Awaitable, Callable
from functools import partial
from typing import Any, ClassVar, Generic, TypeVar, cast

from anyio.lowlevel import checkpoint

from .cell import Cell, Stop, Terminated
from .channel import Channel
from .context import Context
from .errors import ActorError
from .lifecycle import State, StopReason
from .mailbox import BURST
from .message_type import checked_message_type
from .ref import cell_of
from .reply import Reply
from .waker import current_task

M = TypeVar("M")

_HOOKS = ("receive", "on_start", "on_stop", "on_terminated", "around")


class _NotYet:
    """Stands for the context until there is one."""

    def __get__(self, instance: object, owner: type) -> Any:
        if instance is None:
            return self
        raise AttributeError(f"{owner.__qualname__}.context is there from on_start on, not in __init__ yet")


class Actor(Generic[M]):
    """One thing that handles one message at a time and is restarted when it crashes.

    Subclass it and write `receive`; what it returns answers an `ask`. The state lives in the instance: each
    incarnation is a new one, made by the factory in the child's spec. `context` is there from `on_start` on.
    `accepts` may name the type of the messages (a class, a union, or a tuple of them): others are refused at the
    sender with `WrongMessage`. So are all, where there is no `receive`.
    """

    accepts: ClassVar[Any] = None
    context: Context = cast(Any, _NotYet())

    def __init_subclass__(cls, **kwargs: Any) -> None:
        super().__init_subclass__(**kwargs)
        for hook in _HOOKS:
            if hook in cls.__dict__ and not inspect.iscoroutinefunction(inspect.unwrap(cls.__dict__[hook])):
                raise TypeError(f"{cls.__qualname__}.{hook} must be an async function: write `async def {hook}`")
        checked_message_type(cls.accepts, f"{cls.__qualname__}.accepts")

    async def on_start(self) -> None:
        """Prepare; the actor is not started before this returns. Raising here is a failed start.

        A task group or cancel scope opened here must be closed here: for one that stays open there is `around`.
        """

    async def receive(self, message: M) -> object:
        """Handle one message; raising crashes this incarnation."""
        raise NotImplementedError(f"{type(self).__qualname__} has no receive()")

    async def on_terminated(self, terminated: Terminated) -> None:
        """A watched actor has ended for good."""

    async def on_stop(self, reason: StopReason) -> None:
        """Clean up: called once for each incarnation whose `on_start` returned, shielded, within a deadline."""

    async def around(self, serve: Callable[[], Awaitable[StopReason]]) -> StopReason:
        """Surround the handling of messages, `await serve()`, and return what it returns.

        Override it for helpers that live and die with this incarnation:

            async with anyio.create_task_group() as group:
                self.group = group
                reason = await serve()
                group.cancel_scope.cancel()
            return reason

        A helper that raises crashes the actor. What precedes `serve()` counts as starting: `start_timeout` bounds it.
        """
        return await serve()

    async def _actors_run(self, cell: Cell, started: Callable[[], object]) -> StopReason:
        # Not `_run`: users have methods and attributes of that name.
        reason = await self.around(partial(self._handle_messages, cell, started))
        if not isinstance(reason, StopReason):
            raise TypeError(
                f"{type(self).__qualname__}.around() returned {reason!r}, not what `await serve()` returned"
            )
        return reason

    async def _handle_messages(self, cell: Cell, started: Callable[[], object]) -> StopReason:
        """Handle messages, one at a time, until told to stop."""
        if cell.state is not State.STARTING:
            raise ActorError(f"actor {cell.path!r}: around() called serve() twice")
        cell.state = State.RUNNING
        cell.task = current_task()
        started()
        mailbox = cell.mailbox
        # What `take_nowait` does, without the call: an actor that waits for each message pays for it twice a message.
        control, data, producers = mailbox.lanes
        receive = self.receive
        in_a_row = 0
        while True:
            if in_a_row >= BURST:
                in_a_row = 0
                await checkpoint()
            item: Any
            if control:
                item = control.popleft()
            elif data:
                item = mailbox.take_nowait() if producers else data.popleft()
            else:
                in_a_row = 0
                item = message = origin = None  # an idle actor keeps no message alive
                await mailbox.changed()
                continue
            in_a_row += 1
            if isinstance(item, tuple):
                cell.in_hand = item
                message, origin = item
                if origin is None or origin.__class__ is Cell:
                    await receive(message)
                else:
                    await _receive_tagged(self, message, origin)
                cell.handled += 1
                cell.in_hand = None
            elif isinstance(item, Stop):
                return item.reason
            else:
                await _receive_terminated(cell, self, item)


def accepted_by(actor: Actor[Any] | type[Actor[Any]]) -> Any:
    """Return the type of the messages that an actor takes: without a `receive`, none."""
    kind = actor if isinstance(actor, type) else type(actor)
    if actor.accepts is None and kind.receive is Actor.receive:
        return ()
    return checked_message_type(actor.accepts, f"{kind.__qualname__}.accepts")


async def _receive_tagged(actor: Actor[Any], message: Any, origin: Channel[Any] | Reply[Any]) -> None:
    if isinstance(origin, Channel):
        origin.taken()
        await actor.receive(message)
    else:
        answer = await actor.receive(message)
        if not origin.deferred:
            origin.send(answer)


async def _receive_terminated(cell: Cell, actor: Actor[Any], terminated: Terminated) -> None:
    # Checked on delivery: after `unwatch`, and in a new incarnation, news on its way must not arrive.
    if cell.watching.pop(cell_of(terminated.ref), cell) is None:
        await actor.on_terminated(terminated)
