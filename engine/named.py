"""Reducers and errors by name, for graphs that are data.

A definition runs no code, so it can name only what is here: these reducers, Python's own errors and the engine's.
"""

from __future__ import annotations

import builtins
import operator
from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import Any, Final

from . import errors

Reducer = Callable[[Any, Any], Any]


def append(value: list[Any], contribution: Any) -> list[Any]:
    """The list with the contribution as one more item."""
    return [*value, contribution]


def extend(value: list[Any], contribution: list[Any]) -> list[Any]:
    """The list with the items of the contribution after its own."""
    return [*value, *contribution]


def merge(value: Mapping[str, Any], contribution: Mapping[str, Any]) -> dict[str, Any]:
    """The mapping with the contribution's keys over its own."""
    return {**value, **contribution}


def union(value: Any, contribution: Any) -> Any:
    """The list (or set) with the items of the contribution that it does not have yet."""
    if isinstance(value, set | frozenset):
        return value.union(contribution)
    found = list(value)
    known: set[Any] = set()
    strange: list[Any] = []
    for item in found:
        _know(item, known, strange)
    for item in contribution:
        if _know(item, known, strange):
            found.append(item)
    return found


def _know(item: Any, known: set[Any], strange: list[Any]) -> bool:
    """Whether the item is new. Lists and mappings cannot be in a set, and `True` is not the same item as 1."""
    try:
        key = (type(item), item)
        new = key not in known
        known.add(key)
    except TypeError:
        new = all(type(one) is not type(item) or one != item for one in strange)
        strange.append(item)
    return new


REDUCERS: Final[Mapping[str, Reducer]] = MappingProxyType(
    {
        "append": append,
        "extend": extend,
        "add": operator.add,
        "max": max,
        "min": min,
        "merge": merge,
        "union": union,
    }
)

_ORDERED: Final = ("number", "integer", "string", "array")
FITTING: Final[Mapping[str, tuple[str, ...]]] = MappingProxyType(
    {
        **dict.fromkeys(("append", "extend", "union"), ("array",)),
        "merge": ("object",),
        **dict.fromkeys(("add", "max", "min"), _ORDERED),
    }
)
"""What each can be used on, in the words of JSON."""

_SAME: Mapping[Any, str] = {list.__add__: "extend", dict.__or__: "merge"}


def reducer_name(reducer: Reducer) -> str | None:
    """The name of a reducer, if it has one."""
    for name, known in REDUCERS.items():
        if known is reducer:
            return name
    try:
        return _SAME.get(reducer)
    except TypeError:
        return None


def _error_classes() -> dict[str, type[BaseException]]:
    found = {
        name: kind
        for module in (builtins, errors)
        for name, kind in vars(module).items()
        # No warnings, nothing that ends a program, and no second names (IOError).
        if isinstance(kind, type) and issubclass(kind, Exception) and not issubclass(kind, Warning)
        if kind.__name__ == name and name not in _NEWER and not name.startswith("_")
    }
    return dict(sorted(found.items()))


_NEWER = {"PythonFinalizationError"}
"""In some versions of Python only: a definition is to mean the same in all."""

ERRORS: Final[Mapping[str, type[BaseException]]] = MappingProxyType(_error_classes())


def error_name(kind: type[BaseException]) -> str | None:
    """The name of an error class, if a definition may name it."""
    return kind.__name__ if ERRORS.get(kind.__name__) is kind else None
