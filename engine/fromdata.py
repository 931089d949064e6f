"""Reading data into what a type asks for: a name into the member of an enum, text into a date, a list into a tuple.

Strict, as `typecheck.py` is: what fits as it is stays as it is, the rest must be the form as data that the type's JSON
Schema describes (`jsonschema.py`). "5" is no int, and 1.9 none either.
"""

from __future__ import annotations

import base64
import collections.abc
import dataclasses
import datetime
import decimal
import enum
import pathlib
import typing
import uuid
from collections.abc import Callable, Mapping
from typing import Any, Final

import attrs

from .errors import Path, StateFault
from .jsonschema import enum_names, fields_of
from .schema import did_you_mean
from .typecheck import Check, Checks, is_union, shown, type_name, unwrap

Faults = list[StateFault]

_NOT_DATA: Final[Any] = object()


def _seconds(value: Any) -> datetime.timedelta:
    return datetime.timedelta(seconds=value)


def _bytes(value: str) -> bytes:
    return base64.b64decode(value, validate=True)


# What reads each, from what, and what that should have been.
_TEXTS: Final[dict[type, tuple[tuple[type, ...], Callable[[Any], Any], str]]] = {
    datetime.datetime: ((str,), datetime.datetime.fromisoformat, "a date and time such as '2024-05-01T12:00:00Z'"),
    datetime.date: ((str,), datetime.date.fromisoformat, "a date such as '2024-05-01'"),
    datetime.time: ((str,), datetime.time.fromisoformat, "a time such as '12:30:00'"),
    datetime.timedelta: ((int, float), _seconds, "a number of seconds"),
    decimal.Decimal: ((str, int, float), lambda value: decimal.Decimal(str(value)), "a decimal number"),
    uuid.UUID: ((str,), uuid.UUID, "a UUID"),
    bytes: ((str,), _bytes, "bytes in base64"),
}


class FromData:
    """Reads values for types; remembers what it found out about each type."""

    def __init__(self) -> None:
        self._checks = Checks()

    def read(self, tp: Any, value: Any, path: Path, faults: Faults) -> Any:
        """The value as the type asks for it; where it does not fit, it is given back and `faults` say why."""
        try:
            return self._read(tp, value, path, faults)
        except RecursionError:
            faults.append(StateFault(path, "contains itself, or is nested too deep"))
            return value

    def check_of(self, tp: Any) -> Check | None:
        """What says whether a value fits the type as it is; None if every value does."""
        return self._checks.of(tp)

    def _read(self, tp: Any, value: Any, path: Path, faults: Faults) -> Any:
        check = self._checks.of(tp)
        if check is None:
            return value
        found: Faults = []
        check(value, path, found)
        if not found:
            return value
        tp = unwrap(tp)
        tried: Faults = []
        read = self._converted(tp, value, path, tried)
        if read is _NOT_DATA:
            faults.extend(found)
            return value
        faults.extend(tried)
        return read

    def _converted(self, tp: Any, value: Any, path: Path, faults: Faults) -> Any:
        """What data of this type means; `_NOT_DATA` if it is not even the right kind of data."""
        if is_union(tp):
            return self._union(typing.get_args(tp), value, path)
        origin = typing.get_origin(tp)
        if origin is typing.Literal:
            members = [choice for choice in typing.get_args(tp) if isinstance(choice, enum.Enum)]
            return next((member for member in members if _is_member(member, value)), _NOT_DATA)
        plain, args = origin or tp, typing.get_args(tp)
        if not isinstance(plain, type):
            return _NOT_DATA
        if plain in _TEXTS:
            return _text(plain, value, path, faults)
        if issubclass(plain, enum.Enum):
            return _member(plain, value, path, faults)
        if issubclass(plain, pathlib.PurePath):
            return plain(value) if isinstance(value, str) else _NOT_DATA
        if typing.is_typeddict(tp) or attrs.has(plain) or dataclasses.is_dataclass(plain):
            return self._object(tp, value, path, faults) if isinstance(value, Mapping) else _NOT_DATA
        if isinstance(value, list | tuple):
            return self._array(plain, args, value, path, faults)
        if isinstance(value, Mapping) and issubclass(plain, collections.abc.Mapping) and len(args) == 2:
            return self._mapping(args, value, path, faults)
        return _NOT_DATA

    def _union(self, members: tuple[Any, ...], value: Any, path: Path) -> Any:
        for member in members:
            tried: Faults = []
            read = self._read(member, value, path, tried)
            if not tried:
                return read
        return _NOT_DATA

    def _array(self, plain: type, args: tuple[Any, ...], value: Any, path: Path, faults: Faults) -> Any:
        if issubclass(plain, tuple):
            types = _types_of_items(args, len(value))
            if types is None or plain is not tuple:
                return _NOT_DATA
            return tuple(self._each(types, value, path, faults))
        if not issubclass(plain, collections.abc.Iterable):
            return _NOT_DATA
        items = self._each([args[0] if args else Any] * len(value), value, path, faults)
        if not issubclass(plain, collections.abc.Set):
            return items if issubclass(list, plain) else _NOT_DATA
        try:
            return frozenset(items) if issubclass(plain, frozenset) else set(items)
        except TypeError:
            faults.append(StateFault(path, "holds lists or objects, which cannot be in a set"))
            return value

    def _each(self, types: list[Any], value: Any, path: Path, faults: Faults) -> list[Any]:
        return [
            self._read(tp, item, (*path, index), faults)
            for index, (tp, item) in enumerate(zip(types, value, strict=True))
        ]

    def _mapping(self, args: tuple[Any, ...], value: Mapping[Any, Any], path: Path, faults: Faults) -> Any:
        read = {}
        for key, item in value.items():
            place = (*path, key if isinstance(key, int) else str(key))
            read[self._name(args[0], key, place, faults)] = self._read(args[1], item, place, faults)
        return read

    def _name(self, tp: Any, key: Any, path: Path, faults: Faults) -> Any:
        """A key of a mapping, of which data has only texts."""
        if unwrap(tp) is int and isinstance(key, str) and key.removeprefix("-").isdecimal() and key.isascii():
            return int(key)
        return self._read(tp, key, path, faults)

    def _object(self, tp: Any, value: Mapping[Any, Any], path: Path, faults: Faults) -> Any:
        before = len(faults)
        fields = {field.argument: field for field in fields_of(tp)}
        for name, field in fields.items():
            if name not in value and not field.optional:
                faults.append(StateFault((*path, name), "missing"))
        given = {}
        for name, item in value.items():
            if name not in fields:
                hint = did_you_mean(name, fields)
                message = f"{type_name(tp)} has no such {'key' if typing.is_typeddict(tp) else 'field'}"
                faults.append(StateFault((*path, str(name)), message + (f"; {hint}" if hint else "")))
            else:
                given[name] = self._read(fields[name].type, item, (*path, name), faults)
        if len(faults) > before:
            return value
        if typing.is_typeddict(tp):
            return given
        try:
            return tp(**given)
        except Exception as error:
            faults.append(StateFault(path, f"{type_name(tp)} refused it: {error}"))
            return value


def _is_member(member: enum.Enum, value: Any) -> bool:
    names = enum_names(type(member))
    return any(found is member and type(name) is type(value) and name == value for name, found in names.items())


def _member(plain: type[enum.Enum], value: Any, path: Path, faults: Faults) -> Any:
    for member in plain:
        if _is_member(member, value):
            return member
    choices = ", ".join(map(repr, list(enum_names(plain))[:8]))
    faults.append(StateFault(path, f"expected {plain.__name__} (one of {choices}), found {shown(value)}"))
    return value


def _text(plain: type, value: Any, path: Path, faults: Faults) -> Any:
    kinds, read, form = _TEXTS[plain]
    if isinstance(value, bool) or not isinstance(value, kinds):
        return _NOT_DATA
    try:
        return read(value)
    except (ValueError, ArithmeticError):
        faults.append(StateFault(path, f"expected {form}, found {shown(value)}"))
        return value


def _types_of_items(args: tuple[Any, ...], count: int) -> list[Any] | None:
    """The types of a tuple's items, if it may have so many."""
    if not args:
        return [Any] * count
    if len(args) == 2 and args[1] is ...:
        return [args[0]] * count
    return list(args) if len(args) == count else None
