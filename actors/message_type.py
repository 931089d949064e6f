"""The type of messages that an actor or a channel declares."""

from __future__ import annotations

from typing import Any


def checked_message_type(declared: Any, place: str) -> Any:
    """Return a type that messages can be checked against (or `None`, for any message), or say what is wrong."""
    try:
        isinstance(None, () if declared is None else declared)
    except TypeError as error:
        raise TypeError(
            f"{place}: messages cannot be checked against {declared!r}; "
            "it takes a class, a union or a tuple of classes, or None for any message"
        ) from error
    return declared
