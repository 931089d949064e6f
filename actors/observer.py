"""What a tree tells about itself while it runs, for logs, metrics and tests."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Protocol

if TYPE_CHECKING:
    from .letters import DeadLetter
    from .lifecycle import StopReason
    from .ref import ActorRef


class Observer(Protocol):
    """Sees each change in the life of the actors of one tree.

    Called in the loop, between messages: it must be quick and must not raise (what it raises is logged and goes
    no further). Nothing here is called once per message. A dead letter that `dead_letter` itself brings about is
    counted and logged, but not shown to it.
    """

    def started(self, ref: ActorRef[Any], incarnation: int) -> None:
        """An incarnation is up: its `on_start` has returned."""
        ...

    def crashed(self, ref: ActorRef[Any], incarnation: int, cause: BaseException) -> None:
        """An incarnation ended by an exception, or did not come up."""
        ...

    def restarting(self, ref: ActorRef[Any], incarnation: int, delay: float) -> None:
        """The next incarnation will be started after `delay` seconds."""
        ...

    def stopped(self, ref: ActorRef[Any], reason: StopReason) -> None:
        """The actor has ended for good."""
        ...

    def unkillable(self, ref: ActorRef[Any]) -> None:
        """The actor was cancelled and goes on running; its supervisor goes on waiting."""
        ...

    def dead_letter(self, letter: DeadLetter) -> None:
        """A message could not be delivered."""
        ...


class NullObserver:
    """The default: sees everything and says nothing. A base for observers that care about a part only."""

    def started(self, ref: ActorRef[Any], incarnation: int) -> None:
        """Do nothing."""

    def crashed(self, ref: ActorRef[Any], incarnation: int, cause: BaseException) -> None:
        """Do nothing."""

    def restarting(self, ref: ActorRef[Any], incarnation: int, delay: float) -> None:
        """Do nothing."""

    def stopped(self, ref: ActorRef[Any], reason: StopReason) -> None:
        """Do nothing."""

    def unkillable(self, ref: ActorRef[Any]) -> None:
        """Do nothing."""

    def dead_letter(self, letter: DeadLetter) -> None:
        """Do nothing."""
