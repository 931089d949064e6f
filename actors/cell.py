"""The cell of an actor: what survives its restarts.

It holds the mailbox, the counters and the bonds with other actors, and says what becomes of messages, asks and
watchers when an incarnation ends and when the actor ends. It runs nothing by itself. The numbers are plain
integers, read when somebody asks for them.
"""

from __future__ import annotations

from contextvars import ContextVar
from typing import TYPE_CHECKING, Any, Final

import attrs

from .capacity import Overflow
from .channel import Channel
from .errors import ActorCrashed, ActorStopped, MailboxFull
from .flag import Flag
from .letters import DeadLetter, DeadReason
from .lifecycle import NORMAL, SHUTDOWN, State, StopReason
from .mailbox import Mailbox
from .reply import Reply
from .shown import shown
from .tree import Tree
from .waker import current_task

if TYPE_CHECKING:
    from anyio import CancelScope

    from .actor import Actor
    from .ref import ActorRef

# The actor on whose behalf the running task works; tasks that an actor starts inherit it.
current_cell: Final[ContextVar[Cell | None]] = ContextVar("current_cell", default=None)


@attrs.frozen
class Stop:
    """A control item: end, before anything else that waits."""

    reason: StopReason
    by: int | None = None  # the incarnation whose own wish it is, which ends with that incarnation


@attrs.frozen
class Terminated:
    """A watched actor has ended for good."""

    ref: ActorRef[Any]
    reason: StopReason


# A message with where it came from (a cell, a channel, a reply that is waited for, or nobody), or a control item.
Item = tuple[Any, Any] | Stop | Terminated


class _Redelivered(tuple[Any, Any]):
    """A message, with where it came from, that has crashed its actor before."""

    attempt: int


class Cell:
    """One actor through all its incarnations."""

    __slots__ = (
        "accepts",
        "actor",
        "awaits",
        "deferred",
        "handled",
        "in_hand",
        "incarnation",
        "mailbox",
        "name",
        "parent",
        "path",
        "reason",
        "redeliver",
        "ref",
        "scope",
        "state",
        "stopped",
        "task",
        "tree",
        "watchers",
        "watching",
    )

    ref: ActorRef[Any]

    def __init__(
        self,
        name: str,
        path: str,
        tree: Tree,
        *,
        capacity: int = 64,
        overflow: Overflow = "block",
        accepts: Any = None,
        redeliver: int = 0,
        parent: Cell | None = None,
    ) -> None:
        self.name: Final = name
        self.parent: Final = parent
        self.path: Final = path
        self.tree: Final = tree
        self.accepts = accepts
        self.redeliver: Final = redeliver
        self.mailbox: Final[Mailbox[Item]] = Mailbox(capacity, overflow, on_drop=self._overflowed)
        self.state = State.NEW
        self.incarnation = 0
        self.handled = 0
        self.reason: StopReason | None = None
        self.actor: Actor[Any] | None = None
        self.scope: CancelScope | None = None
        self.task: object = None
        self.in_hand: Item | None = None
        self.awaits: Reply[Any] | None = None  # what the task that handles messages waits for
        self.deferred: dict[Reply[Any], None] = {}  # not a set: an empty one is three times as large
        self.watchers: dict[Cell, None] = {}
        self.watching: dict[Cell, None] = {}
        self.stopped = Flag()

    # -- orders

    def request_stop(self, reason: StopReason, by: int | None = None) -> None:
        """Ask the running incarnation to end before its next message; without effect on a dead actor."""
        if self.state is not State.STOPPED and by in (None, self.incarnation):
            self.mailbox.put_control(Stop(reason, by))

    def request_drain(self) -> None:
        """Ask it to end after all that is queued now."""
        if self.state is not State.STOPPED:
            self.mailbox.admit(Stop(NORMAL))

    def cancel(self) -> None:
        """Cancel the running incarnation."""
        assert self.scope is not None
        self.scope.cancel()

    # -- messages

    def admit(self, item: tuple[object, object]) -> None:
        """Take what a channel has a credit for."""
        self.mailbox.admit(item)

    def dead_letter(self, message: object, sender: object, reason: DeadReason = "stopped") -> None:
        """Account for a message that this actor will not get."""
        self.tree.letters.record(self._letter(message, sender, reason))

    def attempt_in_hand(self, item: Item | None) -> int:
        """Count which try of this item it is: more than 1 only where crashes redeliver."""
        return item.attempt if isinstance(item, _Redelivered) else 1

    # -- ends

    def settle_in_hand(self, reason: StopReason) -> None:
        """Say what becomes of the message in hand of an incarnation that ends; an ask must not wait for `on_stop`."""
        item, self.in_hand = self.in_hand, None
        if isinstance(item, tuple):
            self._settle_in_hand(item, reason)

    def end_incarnation(self, reason: StopReason) -> None:
        """Settle what is left of the ended incarnation; what is queued stays."""
        self.state = State.STOPPING
        for reply in list(self.deferred):
            reply.fail(self._error_for(reason))
        self.deferred.clear()
        for target in self.watching:
            target.watchers.pop(self, None)
        self.watching.clear()
        # It may have ended without reading its supervisor's order, which the next incarnation must not obey. Nor
        # must that one end because this one was asked to end twice.
        obeyed = (SHUTDOWN, NORMAL) if reason.kind == "normal" else (SHUTDOWN,)
        self.mailbox.withdraw(
            lambda item: isinstance(item, Stop) and (item.reason in obeyed or item.by == self.incarnation)
        )
        self.actor = None
        self.scope = None
        self.task = None

    def finish(self, reason: StopReason) -> None:
        """End for good: the queue becomes dead letters, asks raise `ActorStopped`, watchers are told, once."""
        if self.state is State.STOPPED:
            return
        self.state = State.STOPPED
        self.reason = reason
        self.mailbox.close()
        self._bury(self.mailbox.drain(), reason)
        watchers, self.watchers = self.watchers, {}
        for watcher in watchers:
            watcher.hear_of(self, reason)
        self.stopped.set()
        self.tree.observe(self.tree.observer.stopped, self.ref, reason)

    # -- bonds

    def watch(self, target: Cell) -> None:
        """Be told once when the target has ended; at once if it has."""
        if target in self.watching:
            return
        self.watching[target] = None
        if target.reason is not None:
            self.hear_of(target, target.reason)
        else:
            target.watchers[self] = None

    def unwatch(self, target: Cell) -> None:
        """Be told nothing any more, not even what is on its way."""
        self.watching.pop(target, None)
        target.watchers.pop(self, None)

    def hear_of(self, target: Cell, reason: StopReason) -> None:
        """Queue the news of a watched actor's end."""
        if self.state is not State.STOPPED:
            self.mailbox.put_control(Terminated(target.ref, reason))

    # -- inside

    def _settle_in_hand(self, item: tuple[Any, Any], reason: StopReason) -> None:
        message, origin = item
        attempts = self.attempt_in_hand(item)
        again = attempts <= self.redeliver
        if reason.kind == "crashed" and again:
            self._put_back(item, attempts + 1)
        elif isinstance(origin, Reply):
            origin.fail(self._error_for(reason))
        elif reason.kind == "crashed":
            if self.redeliver:
                self.dead_letter(message, origin, "poison")
        elif again:
            self._put_back(item, attempts)
        else:
            self.dead_letter(message, origin, "cancelled")

    def _put_back(self, item: tuple[Any, Any], attempt: int) -> None:
        origin = item[1]
        if isinstance(origin, Channel):
            origin.returned()
        elif isinstance(origin, Reply):
            # What this try took over answering is the next one's to answer, or to take over again.
            origin.deferred = False
            self.deferred.pop(origin, None)
        again = _Redelivered(item)
        again.attempt = attempt
        self.mailbox.put_back(again)

    def _bury(self, leftovers: list[Item], reason: StopReason) -> None:
        letters = []
        for item in leftovers:
            if not isinstance(item, tuple):
                continue
            message, origin = item
            if isinstance(origin, Reply):
                origin.fail(ActorStopped(f"actor {self.path!r} stopped ({reason}) before it answered"))
                continue
            letters.append(self._letter(message, origin, "cancelled" if reason.kind == "killed" else "stopped"))
            if isinstance(origin, Channel):
                origin.drop()
        if reason.kind == "killed":
            self.tree.letters.record_all(letters)
        else:
            for letter in letters:
                self.tree.letters.record(letter)

    def _overflowed(self, item: Item) -> None:
        if isinstance(item, Stop):
            # All that was queued before this drain is handled or dropped: it is its turn.
            self.mailbox.put_control(item)
            return
        assert isinstance(item, tuple)
        message, origin = item
        if isinstance(origin, Reply):
            origin.fail(MailboxFull(f"the mailbox of {self.path!r} dropped the request: it is full"))
            return
        if isinstance(origin, Channel):
            origin.drop()
        self.dead_letter(message, origin, "overflow")

    def _letter(self, message: object, sender: object, reason: DeadReason) -> DeadLetter:
        path = sender.path if isinstance(sender, Cell) else sender.source if isinstance(sender, Channel) else None
        return DeadLetter(message, self.path, path, reason)

    def _error_for(self, reason: StopReason) -> Exception:
        if reason.kind == "crashed":
            error = ActorCrashed(f"actor {self.path!r} crashed before it answered: {shown(reason.cause)}")
            error.__cause__ = reason.cause
            return error
        return ActorStopped(f"actor {self.path!r} stopped ({reason}) before it answered")


async def put(cell: Cell, item: tuple[object, object]) -> None:
    """Put an item in the data lane of a cell, waiting for room; raises `MailboxClosed` when it is dead.

    The task that handles an actor's messages would wait for ever for room in its mailbox, so that is `MailboxFull`.
    """
    mailbox = cell.mailbox
    try:
        if current_cell.get() is cell and cell.task is current_task():
            mailbox.put_nowait(item)
        else:
            await mailbox.put(item)
    except MailboxFull:
        raise mailbox_full(cell) from None


def mailbox_full(cell: Cell) -> MailboxFull:
    """Build the error of a sender that finds no room and is not to wait for it."""
    capacity = cell.mailbox.capacity
    return MailboxFull(f"the mailbox of {cell.path!r} is full: it holds {capacity} messages; see ChildSpec.capacity")
