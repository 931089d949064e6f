"""Was a value changed in place? Compare its fingerprint from before with one from after.

A fingerprint follows containers and objects down to what cannot change. It
compares identities, not equality: an item replaced by an equal one is a change
too, and objects that define no `==` do not look changed when they are not. It
keeps alive what it saw, so no identity is used twice meanwhile.
"""

from __future__ import annotations

import collections
import types
from collections.abc import Iterator
from typing import Any

_FIXED = (
    str,
    bytes,
    int,
    float,
    complex,
    type(None),
    type,
    types.FunctionType,
    types.BuiltinFunctionType,
    types.MethodType,
    types.ModuleType,
)


class _Same:
    """Equal only to a mark of the same object."""

    __slots__ = ("item",)

    def __init__(self, item: Any) -> None:
        self.item = item

    def __eq__(self, other: object) -> bool:
        return isinstance(other, _Same) and self.item is other.item

    def __hash__(self) -> int:
        return id(self.item)


def fingerprint(value: Any) -> list[Any]:
    """Everything reachable from a value, in order; two are equal if nothing was changed in between."""
    trace: list[Any] = []
    seen: set[int] = set()
    pending = [value]
    while pending:
        item = pending.pop()
        trace.append(_Same(item))
        if isinstance(item, _FIXED) or id(item) in seen:
            continue
        seen.add(id(item))
        if (raw := _raw(item)) is not None:
            trace.append(raw)
            continue
        inside = _inside(item)
        trace.append(len(inside))
        pending.extend(reversed(inside))
    return trace


def reachable(value: Any) -> Iterator[Any]:
    """Every object that a fingerprint follows."""
    return (mark.item for mark in fingerprint(value) if isinstance(mark, _Same))


def _raw(item: Any) -> bytes | None:
    """The bytes of a buffer: what a bytearray, an array or a numpy array holds."""
    if isinstance(item, bytearray):
        return bytes(item)
    copied = getattr(item, "tobytes", None)
    return copied() if callable(copied) and not isinstance(item, type) else None


def _inside(item: Any) -> list[Any]:
    parts: list[Any] = []
    if isinstance(item, dict):
        parts += (part for pair in item.items() for part in pair)
    elif isinstance(item, list | tuple | collections.deque):
        parts += item
    elif isinstance(item, set | frozenset):
        parts += sorted(item, key=id)
    for name, part in getattr(item, "__dict__", {}).items():
        parts += (name, part)
    for cls in type(item).__mro__:
        slots = cls.__dict__.get("__slots__", ())
        for slot in (slots,) if isinstance(slots, str) else slots:
            if slot not in ("__dict__", "__weakref__") and hasattr(item, slot):
                parts.append(getattr(item, slot))
    return parts
