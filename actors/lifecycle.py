"""The states of an actor and the reasons for which it stops.

NEW -> STARTING -> RUNNING -> (RESTARTING -> STARTING)* -> STOPPING -> STOPPED
"""

from __future__ import annotations

from enum import Enum
from typing import Literal

import attrs

from .shown import shown


class State(Enum):
    """Where an actor is in its life."""

    NEW = "new"
    STARTING = "starting"
    RUNNING = "running"
    RESTARTING = "restarting"
    STOPPING = "stopping"
    STOPPED = "stopped"


Kind = Literal["normal", "shutdown", "crashed", "killed"]


@attrs.frozen
class StopReason:
    """Why an actor, or one incarnation of it, ended.

    `normal`: by its own wish. `shutdown`: its supervisor asked, and it came. `crashed`: by the exception in
    `cause`. `killed`: it was cancelled, by its supervisor when time was up or from outside.
    """

    kind: Kind
    cause: BaseException | None = None

    def __str__(self) -> str:
        return self.kind if self.cause is None else f"{self.kind} by {shown(self.cause)}"


NORMAL = StopReason("normal")
SHUTDOWN = StopReason("shutdown")
KILLED = StopReason("killed")


def crashed(cause: BaseException) -> StopReason:
    """The reason of an actor that was ended by an exception."""
    return StopReason("crashed", cause)
