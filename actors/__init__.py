"""A small supervised actor runtime on anyio, the same on asyncio and trio."""

from .actor import Actor
from .cell import Terminated
from .channel import Channel, ChannelStatistics, Destination
from .context import Context
from .errors import (
    ActorCrashed,
    ActorError,
    ActorRestarting,
    ActorStopped,
    AskCycle,
    AskTimeout,
    ChildRunning,
    DuplicateChild,
    EndOfMailbox,
    MailboxClosed,
    MailboxFull,
    NoCredit,
    StartFailed,
    StartTimeout,
    StopTimeout,
    StrayCancellation,
    TooManyRestarts,
    UnknownChild,
    WrongMessage,
    WrongThread,
)
from .letters import DeadLetter, DeadLetters
from .lifecycle import State, StopReason
from .mailbox import Mailbox, MailboxStatistics
from .observer import NullObserver, Observer
from .ref import ActorRef, ActorStatistics, Request
from .reply import Reply
from .spec import Backoff, ChildSpec
from .supervise import supervise
from .supervision import Phase
from .supervisor import ChildStatus, Supervisor, SupervisorRef
from .tree import Tree
from .waker import AsyncioWaker, EventWaker, TrioWaker, Waker, new_waker

__all__ = [
    "Actor",
    "ActorCrashed",
    "ActorError",
    "ActorRef",
    "ActorRestarting",
    "ActorStatistics",
    "ActorStopped",
    "AskCycle",
    "AskTimeout",
    "AsyncioWaker",
    "Backoff",
    "Channel",
    "ChannelStatistics",
    "ChildRunning",
    "ChildSpec",
    "ChildStatus",
    "Context",
    "DeadLetter",
    "DeadLetters",
    "Destination",
    "DuplicateChild",
    "EndOfMailbox",
    "EventWaker",
    "Mailbox",
    "MailboxClosed",
    "MailboxFull",
    "MailboxStatistics",
    "new_waker",
    "NoCredit",
    "NullObserver",
    "Observer",
    "Phase",
    "Reply",
    "Request",
    "StartFailed",
    "StartTimeout",
    "State",
    "StopReason",
    "StopTimeout",
    "StrayCancellation",
    "supervise",
    "Supervisor",
    "SupervisorRef",
    "Terminated",
    "TooManyRestarts",
    "Tree",
    "TrioWaker",
    "UnknownChild",
    "Waker",
    "WrongMessage",
    "WrongThread",
]
