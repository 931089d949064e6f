"""What is asked of a run that another engine drives: kept in its inbox until that engine has done it.

Signals are there, too, as they always were. An order's id begins with a character that no sensible signal's does, so
that a store can tell them apart.
"""

from __future__ import annotations

from typing import Any, Final, Literal
from uuid import uuid4

from .codec import pack
from .errors import NotStorable
from .format import file_marks

ORDER: Final = "\x01"

What = Literal["cancel", "pause", "resume"]


def order(what: What, reason: str | None = None) -> tuple[str, bytes]:
    """Its id, and what is kept of it."""
    return f"{ORDER}{what} {uuid4().hex}", pack({"do": what, "reason": reason}, owner=what)


def is_cancel(id: str) -> bool:
    """Whether an id is that of an order to end."""
    return id.startswith(f"{ORDER}cancel ")


def signal(name: str, payload: Any, id: str | None) -> tuple[str, bytes]:
    """The same of a signal; raises `NotStorable`, also for a file."""
    # As a whole: an inbox names no blobs. Its id counts for a signal that was given none, too, since it may be
    # handed over once more after a crash.
    id = uuid4().hex if id is None else id
    owner = f"signal {name!r}"
    data = pack({"name": name, "payload": payload, "id": id}, owner=owner)
    if file_marks(data):
        cure = "an inbox keeps no files: signal it at the engine that has it in hand, or send the file's digest"
        raise NotStorable("a file for a run that this engine does not have in hand", "payload", cure, owner)
    return id, data
