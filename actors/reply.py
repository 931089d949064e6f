"""The one-shot reply to an `ask`."""

from __future__ import annotations

from typing import TYPE_CHECKING, Generic, TypeVar

from .letters import DeadLetter
from .waker import Waker, new_waker

if TYPE_CHECKING:
    from .cell import Cell

R = TypeVar("R")


class Reply(Generic[R]):
    """Where the answer to one `ask` goes, once."""

    __slots__ = ("_abandoned", "_error", "_settled", "_value", "_waker", "asked", "deferred", "sender")

    def __init__(self, asked: Cell, sender: Cell | None) -> None:
        self.asked = asked
        self.sender = sender
        self.deferred = False
        self._settled = False
        self._abandoned = False
        self._value: R | None = None
        self._error: Exception | None = None
        self._waker: Waker | None = None

    def send(self, value: R) -> None:
        """Answer. A second answer, or one that nobody waits for any more, is a dead letter."""
        if self._settled or self._abandoned:
            target = "a caller outside the tree" if self.sender is None else self.sender.path
            self.asked.tree.letters.record(DeadLetter(value, target, self.asked.path, "late_reply"))
        else:
            self._settle()
            self._value = value

    def fail(self, error: Exception) -> None:
        """Let the `ask` raise; without effect where it was answered or given up already."""
        if not self._settled and not self._abandoned:
            self._settle()
            self._error = error

    @property
    def settled(self) -> bool:
        """Whether there is an answer or an error."""
        return self._settled

    @property
    def abandoned(self) -> bool:
        """Whether nobody waits any more."""
        return self._abandoned

    def defer(self) -> None:
        """Let what `receive` returns be no answer."""
        self.deferred = True
        if not self._settled and not self._abandoned:
            self.asked.deferred[self] = None

    def abandon(self) -> None:
        """Nobody waits any more."""
        self._abandoned = True
        self.asked.deferred.pop(self, None)

    async def wait(self) -> None:
        """Return when settled."""
        if not self._settled:
            self._waker = new_waker()
            await self._waker.park()

    def result(self) -> R:
        """Return the answer or raise the error; only once settled."""
        assert self._settled
        if self._error is not None:
            raise self._error
        return self._value  # type: ignore[return-value]  # an answer of type R, possibly None itself

    def _settle(self) -> None:
        if self._waker is not None:
            self._waker.wake()  # first: from another thread it raises, and nothing has changed
        self._settled = True
        self.asked.deferred.pop(self, None)
