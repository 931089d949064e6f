"""What goes to the service, as JSON: states of any kind, graphs, and files that define one."""

from __future__ import annotations

import datetime
import decimal
import enum
import math
import pathlib
import uuid
from collections.abc import Mapping, Set
from typing import Any, Final

import attrs

from ..errors import EngineError
from ..graph import Graph
from ..readable import MOST_DEEP, readable
from ..texts import NotData, read_json, read_yaml

_AS_SHOWN: Final = (
    enum.Enum,
    datetime.datetime,
    datetime.date,
    datetime.time,
    datetime.timedelta,
    decimal.Decimal,
    uuid.UUID,
    pathlib.PurePath,
    bytes,
    bytearray,
    memoryview,
)

Definition = Graph | Mapping[str, Any] | pathlib.PurePath
"""A graph as it may be given: itself, as data (or its steps), or the file that defines it."""


class NotSendable(EngineError, TypeError):
    """A value that JSON has no word for; the service could not know what it was."""

    def __init__(self, path: str, message: str) -> None:
        super().__init__(f"{path}: {message}")
        self.path = path


def sendable(value: Any, path: str = "state", depth: int = 0) -> Any:
    """The value as JSON has it, read back by the types of the graph's state; raises `NotSendable` with its place."""
    if depth > MOST_DEEP:
        raise NotSendable(path[:100], f"is nested more than {MOST_DEEP} deep")
    match value:
        case enum.Enum():
            return readable(value)
        case None | bool() | str() | int():
            return value
        case float():
            if not math.isfinite(value):
                raise NotSendable(path, f"{value} is no JSON number")
            return value
        case Mapping():
            return {_key(key, path): sendable(item, f"{path}.{key}", depth + 1) for key, item in value.items()}
        case list() | tuple():
            return [sendable(item, f"{path}[{index}]", depth + 1) for index, item in enumerate(value)]
        case Set():
            return [sendable(item, path, depth + 1) for item in value]
    if isinstance(value, _AS_SHOWN):
        return readable(value)
    if attrs.has(type(value)) and not isinstance(value, type):
        fields = attrs.fields(type(value))
        return {
            field.alias: sendable(getattr(value, field.name), f"{path}.{field.name}", depth + 1) for field in fields
        }
    raise NotSendable(path, f"a {type(value).__name__} cannot be sent; give plain data or attrs objects")


def _key(key: object, path: str) -> str:
    if not isinstance(key, str):
        raise NotSendable(path, f"the key {key!r} is no text, which JSON needs")
    return key


def definition_of(graph: Definition) -> dict[str, Any]:
    """A graph as data; raises `GraphInvalid` if it is made of functions, which cannot be sent."""
    if isinstance(graph, Graph):
        return graph.to_dict()
    if isinstance(graph, pathlib.PurePath):
        return _read(pathlib.Path(graph))
    return dict(sendable(graph, "definition"))


def _read(file: pathlib.Path) -> dict[str, Any]:
    try:
        data = (read_yaml if file.suffix in (".yaml", ".yml") else read_json)(file.read_bytes())
    except NotData as error:
        raise error.as_invalid() from None
    if not isinstance(data, dict):
        raise ValueError(f"{file} holds no definition: expected an object, found {type(data).__name__}")
    return data
