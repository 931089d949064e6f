"""Every error of the runtime, split by who must act: the caller, the author of an actor, the owner of a tree."""

from __future__ import annotations

from .shown import shown


class ActorError(Exception):
    """The base of all errors that `actors` raises by itself."""


# For the caller of a mailbox or a ref.


class MailboxFull(ActorError):
    """The data lane has no room and the caller asked not to wait."""


class MailboxClosed(ActorError):
    """The mailbox takes no more items."""


class EndOfMailbox(ActorError):
    """The mailbox is closed and empty: its consumer is done."""


class NoCredit(ActorError):
    """A channel was sent to without a credit: whoever schedules must reserve one first."""


class WrongMessage(ActorError, TypeError):
    """The message is not of the type that the actor or channel declares."""

    @classmethod
    def found(cls, place: str, expected: object, message: object) -> WrongMessage:
        """Build the error with its place, what was expected and what came."""
        if expected == ():
            return cls(
                f"{place} takes no messages, got {type(message).__name__}: it has no receive(), or `accepts` is empty"
            )
        return cls(f"{place} takes {_name(expected)}, got {type(message).__name__}: {shown(message)}")


class ActorStopped(ActorError):
    """The actor is stopped, or stopped before it answered."""


class ActorRestarting(ActorStopped):
    """The supervisor is on its way up again and does not know its children yet: try again later."""


class ActorCrashed(ActorError):
    """The actor crashed on the message, or with it in hand; the cause is chained."""


class WrongThread(ActorError, RuntimeError):
    """An actor was reached from another thread than its loop's; nothing has been sent."""


class AskTimeout(ActorError, TimeoutError):
    """No reply came in time; the actor may still act on the request."""


class AskCycle(ActorError):
    """The ask would wait for an actor that is itself waiting for this one."""


# For the author of an actor.


class StrayCancellation(ActorError):
    """A handler raised a cancellation that nobody asked for (a cancelled future it awaited, say)."""


class StartTimeout(ActorError, TimeoutError):
    """`on_start` did not return within the spec's `start_timeout`."""


class StopTimeout(ActorError, TimeoutError):
    """`on_stop` did not return within the spec's `stop_timeout` and was cancelled."""


# For the owner of a supervision tree.


class StartFailed(ActorError):
    """A child did not come up; the cause is chained, the name is in `child`."""

    def __init__(self, child: str, problem: str) -> None:
        super().__init__(f"child {child!r} did not start: {problem}")
        self.child = child

    def __reduce__(self) -> tuple[object, ...]:
        return (_rebuild, (type(self), self.args, self.__dict__))


class TooManyRestarts(ActorError):
    """A restart budget is spent: everything below is stopped; the last crash is the cause."""

    def __init__(self, supervisor: str, child: str, crashes: int, period: float, *, shared: bool = False) -> None:
        whose = f"children, the last {child!r}," if shared else f"child {child!r}"
        super().__init__(f"supervisor {supervisor!r} gave up: {crashes} restarts of its {whose} within {period:g} s")
        self.supervisor = supervisor
        self.child = child
        self.crashes = crashes

    def __reduce__(self) -> tuple[object, ...]:
        return (_rebuild, (type(self), self.args, self.__dict__))


class DuplicateChild(ActorError):
    """The supervisor has a child of that name already."""


class UnknownChild(ActorError):
    """The supervisor has no child of that name."""


class ChildRunning(ActorError):
    """The child is running (or about to): terminate it first."""


def _name(expected: object) -> str:
    if isinstance(expected, tuple):
        return f"({', '.join(_name(option) for option in expected)})"
    return getattr(expected, "__name__", None) or str(expected)


def _rebuild(cls: type[ActorError], args: tuple[object, ...], state: dict[str, object]) -> ActorError:
    error = cls.__new__(cls)
    error.args = args
    error.__dict__.update(state)
    return error
