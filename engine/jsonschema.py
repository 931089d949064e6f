"""Types as JSON Schema (2020-12): what a value looks like as data.

For people and programs that fill in a form: `fromdata.py` reads what fits such a schema back into the type. A type that
has no form as data (a connection, a data frame) is shown by its name alone, and only Python can give it.
"""

from __future__ import annotations

import base64
import collections.abc
import dataclasses
import datetime
import decimal
import enum
import math
import pathlib
import typing
import uuid
from collections.abc import Callable, Iterator, Mapping
from typing import Any, Final

import attrs

from .typecheck import is_union, required_keys, safe_hints, type_name

Schema = dict[str, Any]

DIALECT: Final = "https://json-schema.org/draft/2020-12/schema"

_PLAIN: Final[dict[Any, Schema]] = {
    int: {"type": "integer"},
    float: {"type": "number"},
    str: {"type": "string"},
    bool: {"type": "boolean"},
    type(None): {"type": "null"},
    bytes: {"type": "string", "contentEncoding": "base64"},
    datetime.datetime: {"type": "string", "format": "date-time"},
    datetime.date: {"type": "string", "format": "date"},
    datetime.time: {"type": "string", "format": "time"},
    datetime.timedelta: {"type": "number", "description": "seconds"},
    decimal.Decimal: {"type": ["string", "number"], "format": "decimal"},
    uuid.UUID: {"type": "string", "format": "uuid"},
}


@attrs.frozen
class ClassField:
    """A field of a class, as its constructor takes it."""

    name: str
    argument: str
    type: Any
    optional: bool
    default: Any
    """`attrs.NOTHING` if there is none, or none that is the same each time."""


class Schemas:
    """Makes schemas that share their definitions: classes by name, so that one may contain itself."""

    def __init__(self) -> None:
        self.definitions: dict[str, Schema] = {}
        self._names: dict[Any, str] = {}

    def of(self, tp: Any) -> Schema:
        """The schema of a type; what it refers to is in `definitions`."""
        origin = typing.get_origin(tp)
        if origin is typing.Annotated:
            return _described(self.of(typing.get_args(tp)[0]), typing.get_args(tp)[1:])
        if origin in (typing.Required, typing.NotRequired, typing.Final, typing.ClassVar):
            return self.of(typing.get_args(tp)[0])
        if hasattr(tp, "__supertype__"):  # a NewType
            return self.of(tp.__supertype__)
        if hasattr(tp, "__value__") and hasattr(tp, "__type_params__"):  # `type X = ...`
            return self._defined(tp, tp.__name__, lambda: self.of(tp.__value__))
        if tp is None:
            tp = type(None)
        if is_union(tp):
            return self._union(typing.get_args(tp))
        if origin is typing.Literal:
            return _literal(typing.get_args(tp))
        if origin is not None:
            return self._generic(tp, origin, typing.get_args(tp))
        if isinstance(tp, type):
            return self._class(tp)
        return {}

    def _defined(self, key: Any, name: str, make: Callable[[], Schema]) -> Schema:
        found = self._names.get(key)
        if found is None:
            found, number = name, 2
            while found in self.definitions:
                found, number = f"{name}_{number}", number + 1
            self._names[key] = found
            self.definitions[found] = {}  # its place, should it be met again on the way
            self.definitions[found] = make()
        return {"$ref": f"#/$defs/{found}"}

    def _union(self, members: tuple[Any, ...]) -> Schema:
        found: list[Schema] = []
        for member in members:
            schema = self.of(member)
            if schema == {}:
                return {}
            if schema not in found:
                found.append(schema)
        return found[0] if len(found) == 1 else {"anyOf": found}

    def _class(self, tp: type) -> Schema:
        if tp in _PLAIN:
            return dict(_PLAIN[tp])
        if tp is object or tp is typing.Any:  # a class, from Python 3.11 on
            return {}
        if typing.is_typeddict(tp) or attrs.has(tp) or dataclasses.is_dataclass(tp):
            return self._defined(tp, tp.__name__, lambda: self._object(tp))
        if issubclass(tp, enum.Enum):
            return _enum(tp)
        if issubclass(tp, pathlib.PurePath):
            return {"type": "string", "format": "path"}
        if issubclass(tp, list | tuple | set | frozenset):
            return self._generic(tp, tp, ())
        if issubclass(tp, collections.abc.Mapping):
            return {"type": "object"}
        return {"title": type_name(tp)}

    def _generic(self, tp: Any, origin: Any, args: tuple[Any, ...]) -> Schema:
        if not isinstance(origin, type):
            return {}
        if issubclass(origin, tuple):
            return self._tuple(args)
        if issubclass(origin, collections.abc.Mapping):
            return self._mapping(args)
        if issubclass(origin, collections.abc.Set):
            return {"type": "array", **self._items(args), "uniqueItems": True}
        if issubclass(origin, collections.abc.Iterable) and len(args) <= 1 and not attrs.has(origin):
            return {"type": "array", **self._items(args)}
        plain = self._class(origin)
        return plain if plain != {"title": origin.__name__} else {"title": type_name(tp)}

    def _items(self, args: tuple[Any, ...]) -> Schema:
        items = self.of(args[0]) if args else {}
        return {"items": items} if items else {}

    def _tuple(self, args: tuple[Any, ...]) -> Schema:
        if not args:
            return {"type": "array"}
        if len(args) == 2 and args[1] is ...:
            return {"type": "array", **self._items(args[:1])}
        items = [self.of(arg) for arg in args if arg != ()]
        found: Schema = {"type": "array", "minItems": len(items), "maxItems": len(items)}
        return {**found, "prefixItems": items} if items else found

    def _mapping(self, args: tuple[Any, ...]) -> Schema:
        found: Schema = {"type": "object"}
        if len(args) != 2:
            return found
        keys, values = self.of(args[0]), self.of(args[1])
        if "enum" in keys or "const" in keys:
            found["propertyNames"] = keys
        elif keys.get("type") == "integer":
            found["propertyNames"] = {"pattern": "^-?[0-9]+$"}
        if values:
            found["additionalProperties"] = values
        return found

    def _object(self, tp: Any) -> Schema:
        found: Schema = {"type": "object", "properties": {}}
        required = []
        for field in fields_of(tp):
            schema = self.of(field.type)
            if not field.optional:
                required.append(field.argument)
            found["properties"][field.argument] = with_default(schema, field.default)
        if required:
            found["required"] = required
        found["additionalProperties"] = False
        return found


def fields_of(tp: Any) -> Iterator[ClassField]:
    """The fields of a `TypedDict`, an attrs class or a dataclass, as they are given to make one."""
    hints = safe_hints(tp)
    if typing.is_typeddict(tp):
        required = required_keys(tp, hints)
        for name, hint in hints.items():
            yield ClassField(name, name, hint, name not in required, attrs.NOTHING)
        return
    if attrs.has(tp):
        for field in attrs.fields(tp):
            if field.init and not field.metadata.get("hidden"):
                hint = hints.get(field.name, field.type if field.type is not None else Any)
                made = isinstance(field.default, attrs.Factory)  # type: ignore[arg-type]  # typed as a function
                optional = field.default is not attrs.NOTHING
                default = attrs.NOTHING if made else field.default
                yield ClassField(field.name, field.alias or field.name, hint, optional, default)
        return
    for each in dataclasses.fields(tp):
        if each.init:
            missing = dataclasses.MISSING
            optional = each.default is not missing or each.default_factory is not missing
            default = attrs.NOTHING if each.default is missing else each.default
            yield ClassField(each.name, each.name, hints.get(each.name, Any), optional, default)


def _described(schema: Schema, notes: tuple[Any, ...]) -> Schema:
    """With what `Annotated` says: in words (a text, or a `documentation`, PEP 727), or in JSON Schema (a dict)."""
    for note in notes:
        text = note if isinstance(note, str) else getattr(note, "documentation", None)
        if isinstance(text, str):
            schema = {**schema, "description": text}
        elif isinstance(note, dict):
            schema = {**schema, **note}
    return schema


def _literal(choices: tuple[Any, ...]) -> Schema:
    data = [choice.value if isinstance(choice, enum.Enum) else choice for choice in choices]
    return {"const": data[0]} if len(data) == 1 else {"enum": data}


def enum_names(tp: type[enum.Enum]) -> dict[Any, enum.Enum]:
    """The members by what they are as data: their values where all of these are data, otherwise their names."""
    values = [member.value for member in tp]
    if all(value is None or isinstance(value, str | int | float | bool) for value in values):
        return {member.value: member for member in tp}
    return {member.name: member for member in tp}


def _enum(tp: type[enum.Enum]) -> Schema:
    return {"enum": list(enum_names(tp)), "title": tp.__name__}


def with_default(schema: Schema, default: Any) -> Schema:
    """With the default, if there is one that can be shown as data."""
    if default is attrs.NOTHING:
        return schema
    try:
        return {**schema, "default": to_data(default)}
    except (TypeError, RecursionError):
        return schema


def said_as_data(value: Any) -> str | float | None:
    """How JSON says a single value for which it has no word of its own; None if it is no such value."""
    match value:
        case datetime.datetime() | datetime.date() | datetime.time():
            return value.isoformat()
        case datetime.timedelta():
            return value.total_seconds()
        case decimal.Decimal() | uuid.UUID() | pathlib.PurePath():
            return str(value)
        case bytes():
            return base64.b64encode(value).decode()
    return None


def to_data(value: Any) -> Any:
    """A value as the data that its type's schema describes; raises `TypeError` where there is none."""
    match value:
        case enum.Enum():
            names = enum_names(type(value))
            return next(name for name, member in names.items() if member is value)
        case None | bool() | int() | str():
            return value
        case float():
            if math.isfinite(value):
                return value
        case list() | tuple():
            return [to_data(item) for item in value]
        case set() | frozenset():
            return sorted((to_data(item) for item in value), key=repr)
        case Mapping():
            return {_key(key): to_data(item) for key, item in value.items()}
    if (said := said_as_data(value)) is not None:
        return said
    if attrs.has(type(value)) or (dataclasses.is_dataclass(value) and not isinstance(value, type)):
        return {field.argument: to_data(getattr(value, field.name)) for field in fields_of(type(value))}
    raise TypeError(f"{type_name(type(value))} has no form as data")


def _key(key: Any) -> str:
    data = to_data(key)
    if isinstance(data, str | int) and not isinstance(data, bool):
        return str(data)
    raise TypeError(f"{key!r} cannot be the name of a property")
