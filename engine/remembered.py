"""A state as it was when it was submitted, to be compared with one that comes later.

A copy, or whoever changes a list of theirs afterwards would change what was remembered. But what is equal to itself
alone (a client, a lock) is kept as it is, since no copy would ever be equal to it; so is an array, whose `==` gives
no answer.
"""

from __future__ import annotations

import copy
from collections.abc import Mapping
from typing import Any

from .fingerprint import reachable


def remembered(values: Mapping[str, Any]) -> dict[str, Any]:
    """A copy that nobody else can change."""
    memo = {id(item): item for item in reachable(values) if _stays(item)}
    found = {}
    for name, value in values.items():
        try:
            found[name] = copy.deepcopy(value, memo)
        except Exception:
            found[name] = value
    return found


def _stays(item: Any) -> bool:
    kind: Any = type(item)
    return kind.__eq__ is object.__eq__ or hasattr(kind, "tobytes")


def equal(one: Any, other: Any) -> bool:
    """Whether they are; what cannot be compared is not."""
    try:
        return bool(one == other)
    except Exception:
        return False
