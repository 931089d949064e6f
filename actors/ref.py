"""What others hold of an actor: where to send, ask, watch and stop."""

from __future__ import annotations

from typing import Any, Final, Generic, TypeVar, overload

import anyio
import attrs

from .cell import Cell, current_cell, mailbox_full, put
from .channel import Channel
from .errors import ActorStopped, AskCycle, AskTimeout, MailboxClosed, MailboxFull, WrongMessage
from .lifecycle import NORMAL, State, StopReason
from .reply import Reply
from .waker import current_task

M = TypeVar("M", contravariant=True)
R = TypeVar("R", covariant=True)
T = TypeVar("T")

# As in Erlang and Akka: long enough for a healthy actor, short enough to be noticed.
ASK_SECONDS: Final = 5.0


class Request(Generic[R]):
    """A base for messages that are asked: `ask()` of a `Request[R]` returns an `R`."""


@attrs.frozen
class ActorStatistics:
    """What an actor has done and what lies before it."""

    state: State
    incarnation: int
    handled: int
    queued: int
    waiting_senders: int
    dropped: int


class ActorRef(Generic[M]):
    """The address of an actor; it stays good through restarts.

    `tell` never raises for the receiver's faults: what cannot be delivered is a dead letter.
    """

    __slots__ = ("_cell",)

    def __init__(self, cell: Cell) -> None:
        self._cell = cell

    @property
    def name(self) -> str:
        """The actor's name, unique under its supervisor."""
        return self._cell.name

    @property
    def path(self) -> str:
        """The names from the root of the tree down to this actor."""
        return self._cell.path

    @property
    def state(self) -> State:
        """Where the actor is in its life."""
        return self._cell.state

    @property
    def incarnation(self) -> int:
        """How often it has been started."""
        return self._cell.incarnation

    async def tell(self, message: M) -> None:
        """Send a message; waits for room where the mailbox blocks, otherwise does as its overflow policy says.

        Cancelled while it waits, it has sent nothing. An actor that tells itself is never made to wait: a full
        mailbox of its own is `MailboxFull`.
        """
        cell = self._checked(message)
        sender = current_cell.get()
        if cell.mailbox.offer((message, sender)):
            return
        try:
            await put(cell, (message, sender))
        except MailboxClosed:
            cell.dead_letter(message, sender)

    def tell_nowait(self, message: M) -> None:
        """Send a message now; raises `MailboxFull` where `tell` would wait or is told to fail."""
        cell = self._cell
        if cell.accepts is not None:
            self._checked(message)
        sender = current_cell.get()
        if cell.mailbox.offer((message, sender)):
            return
        try:
            cell.mailbox.put_nowait((message, sender))
        except MailboxClosed:
            cell.dead_letter(message, sender)
        except MailboxFull:
            raise mailbox_full(cell) from None

    def tell_urgent(self, message: M) -> None:
        """Send a message that overtakes all ordinary ones, whatever the capacity: for orders, not for load."""
        cell = self._checked(message)
        sender = current_cell.get()
        try:
            cell.mailbox.put_control((message, sender))
        except MailboxClosed:
            cell.dead_letter(message, sender)

    @overload
    async def ask(self, message: Request[R], *, timeout: float | None = ...) -> R: ...
    @overload
    async def ask(self, message: M, *, timeout: float | None = ...) -> object: ...
    async def ask(self, message: Any, *, timeout: float | None = ASK_SECONDS) -> Any:
        """Send a message and wait for what the handler returns.

        Cancelling the caller, or a timeout, does not cancel the actor: it may still act on the request, and its
        answer is then a dead letter. Raises `ActorStopped` for a dead actor or one that stops before it answers,
        `ActorCrashed` when it crashes on the message, `AskTimeout` (counted with the wait for room), and
        `AskCycle` at once when the actor is itself waiting for the caller.
        """
        if timeout is not None and not timeout > 0:
            raise ValueError(f"ask(timeout={timeout!r}): must be more than 0 seconds, or None to wait for ever")
        cell = self._checked(message)
        asker = current_cell.get()
        reply: Reply[Any] = Reply(cell, asker)
        # Only the task that handles messages makes its actor wait; one that the actor started beside it does not.
        waiting = asker if asker is not None and asker.task is current_task() else None
        if waiting is not None:
            _refuse_cycle(waiting, cell)
            waiting.awaits = reply
        try:
            with anyio.move_on_after(timeout):
                await put(cell, (message, reply))
                await reply.wait()
        except MailboxClosed:
            raise ActorStopped(f"actor {cell.path!r} is stopped ({cell.reason})") from None
        finally:
            if waiting is not None:
                waiting.awaits = None
            if not reply.settled:
                reply.abandon()
        if not reply.settled:
            raise AskTimeout(f"actor {cell.path!r} did not answer within {timeout:g} s")
        return reply.result()

    def channel(self, source: str, *, type: type[T] | None = None, capacity: int = 64) -> Channel[T]:
        """Open a typed channel from `source` to this actor."""
        return Channel(source, self._cell.path, self._cell, type=type, capacity=capacity)

    def stop(self) -> None:
        """Ask the actor to end before its next message; for its supervisor that is a normal end."""
        self._cell.request_stop(NORMAL)

    def drain(self) -> None:
        """Ask the actor to end once it has handled all that is queued now."""
        self._cell.request_drain()

    async def wait_stopped(self) -> StopReason:
        """Wait until the actor has ended for good; at once if it has."""
        cell = self._cell
        await cell.stopped.wait()
        assert cell.reason is not None
        return cell.reason

    def statistics(self) -> ActorStatistics:
        """Return a snapshot."""
        cell = self._cell
        mailbox = cell.mailbox.statistics()
        return ActorStatistics(
            state=cell.state,
            incarnation=cell.incarnation,
            handled=cell.handled,
            queued=mailbox.control + mailbox.data,
            waiting_senders=mailbox.waiting_producers,
            dropped=mailbox.dropped,
        )

    def __eq__(self, other: object) -> bool:
        return isinstance(other, ActorRef) and other._cell is self._cell

    def __hash__(self) -> int:
        return hash(self._cell)

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {self.path} {self._cell.state.value}>"

    def _checked(self, message: object) -> Cell:
        cell = self._cell
        if cell.accepts is not None and not isinstance(message, cell.accepts):
            raise WrongMessage.found(f"actor {cell.path!r}", cell.accepts, message)
        return cell


def _refuse_cycle(asker: Cell, asked: Cell) -> None:
    """Raise `AskCycle` where the asked actor waits, directly or by asks of others, for the asker.

    A reply that an actor took over may come from anyone, so nobody is known to be waited for there.
    """
    links = [asker, asked]
    while links[-1] is not asker:
        awaited = links[-1].awaits
        if awaited is None or awaited.settled or awaited.deferred:
            return
        links.append(awaited.asked)
    raise AskCycle(" asks ".join(repr(link.path) for link in links) + ": none could ever answer")


def cell_of(ref: ActorRef[Any]) -> Cell:
    """The cell behind a ref, for the runtime's own files."""
    return ref._cell
