"""Values as JSON that people and programs read, whatever they are: how the command line and the service show a state.

What JSON has no word for is shown as what JSON Schema calls it: dates and times in ISO 8601, a duration in seconds,
bytes in base64, Decimal, UUID and path as text, an enum's member by its value (by its name if that is no data), tuples
and sets as arrays, attrs classes, dataclasses and exceptions as objects. NaN and the infinities are text. What is none
of this is shown as its `repr`. Nothing here fails: what is shown is not what is kept (that is codec.py's).
"""

from __future__ import annotations

import dataclasses
import enum
import math
from collections.abc import Iterable, Mapping, Sequence, Set
from typing import Any, Final

import attrs

from .errors import said_by
from .jsonschema import said_as_data

MOST_DEEP: Final = 200
"""Deeper than data is; whoever prints it would run out of stack."""


def readable(value: Any, depth: int = 0) -> Any:
    """The value as None, booleans, numbers, text, lists and dicts with text as keys."""
    match value:
        case enum.Enum():
            return _member(value)
        case None | bool() | str() | int():
            return value if value is None or type(value) in (bool, str, int) else _plain(value)
        case float():
            return value if math.isfinite(value) else str(float(value)).replace("inf", "Infinity").replace("nan", "NaN")
        case bytearray() | memoryview():
            value = bytes(value)
    if (said := said_as_data(value)) is not None:
        return said
    if depth >= MOST_DEEP:
        return "…"
    return _inside(value, depth + 1)


def _inside(value: Any, depth: int) -> Any:
    match value:
        case Mapping():
            return {_key(key): readable(item, depth) for key, item in value.items()}
        case Set():
            return sorted(_each(value, depth), key=repr)
        case Sequence():
            return _each(value, depth)
        case BaseException():
            return {"type": type(value).__name__, "message": said_by(value)}
    if not isinstance(value, type):
        if attrs.has(type(value)):
            return {
                field.alias: readable(getattr(value, field.name), depth)
                for field in attrs.fields(type(value))
                if not field.metadata.get("hidden")
            }
        if dataclasses.is_dataclass(value):
            fields = dataclasses.fields(value)
            return {field.name: readable(getattr(value, field.name), depth) for field in fields}
    return _shown(value)


def _each(values: Iterable[Any], depth: int) -> list[Any]:
    return [readable(item, depth) for item in values]


def _member(member: enum.Enum) -> Any:
    value = member.value
    return value if value is None or type(value) in (bool, str, int, float) else member.name


def _plain(value: Any) -> Any:
    """A subclass of a number or text as what it is one of."""
    return str.__str__(value) if isinstance(value, str) else int(value)


def _key(key: Any) -> str:
    shown = readable(key, MOST_DEEP - 1)
    if isinstance(shown, str):
        return shown
    return _shown(key) if isinstance(shown, list | dict) else str(shown)


def _shown(value: Any) -> str:
    try:
        return repr(value)
    except Exception as error:
        return f"<{type(value).__name__} whose repr raised {type(error).__name__}>"
