"""A state type that is data: keys with JSON types, defaults and reducers by name, as a definition declares them.

To everything else it is one more type for a `dict` state (schema.py). The types of Python that JSON has words for can
be said in these words, and the other way round, so a graph with a `TypedDict` or an attrs class becomes data too.
"""

from __future__ import annotations

import collections.abc
import types
import typing
from collections.abc import Mapping, Sequence
from enum import Enum
from typing import Any, Final

import attrs

from .typecheck import type_name, unwrap

PYTHON: Final[Mapping[str, Any]] = types.MappingProxyType(
    {
        "string": str,
        "integer": int,
        "number": float,
        "boolean": bool,
        "array": list,
        "object": dict,
        "null": types.NoneType,
        "any": Any,
    }
)
"""What each word means; an `integer` fits a `number`."""

_WORDS = {python: word for word, python in PYTHON.items()} | {object: "any", None: "null"}


class Absent(Enum):
    """There is no default; pickled, it stays the one it is."""

    ABSENT = "absent"


ABSENT: Final = Absent.ABSENT


class NoWord(ValueError):
    """A type that JSON has no word for."""


@attrs.frozen
class DataType:
    """One or more words, and for an array what its items are."""

    words: tuple[str, ...] = ("any",)
    items: DataType | None = None

    @property
    def python(self) -> Any:
        """The same for Python."""
        found: Any = None
        for word in self.words:
            one = PYTHON[word]
            if word == "array" and self.items is not None:
                one = list[self.items.python]  # type: ignore[name-defined]  # made at run time
            if one is Any:
                return Any
            found = one if found is None else found | one
        return found

    def to_dict(self) -> dict[str, Any]:
        """As in a definition."""
        if self.words == ("any",):
            return {}
        found: dict[str, Any] = {"type": self.words[0] if len(self.words) == 1 else list(self.words)}
        if self.items is not None and self.items.words != ("any",):
            found["items"] = self.items.to_dict()
        return found

    @classmethod
    def of(cls, python: Any) -> DataType:
        """The words for a type of Python; raises `NoWord`."""
        python = unwrap(python)
        origin, arguments = typing.get_origin(python), typing.get_args(python)
        if origin in (typing.Union, types.UnionType):
            return cls._union([cls.of(argument) for argument in arguments])
        if origin in (list, collections.abc.Sequence, collections.abc.MutableSequence):
            return cls(("array",), cls.of(arguments[0]))
        if origin in (dict, collections.abc.Mapping, collections.abc.MutableMapping) and arguments[0] is str:
            if unwrap(arguments[1]) in (Any, object):
                return cls(("object",))
        elif origin is None:
            try:
                return cls((_WORDS[python],))
            except (KeyError, TypeError):
                pass
        raise NoWord(type_name(python))

    @classmethod
    def _union(cls, parts: Sequence[DataType]) -> DataType:
        items = {part.items for part in parts if part.words == ("array",)}
        if len(items) > 1:
            raise NoWord("a union of lists")
        words = tuple(dict.fromkeys(word for part in parts for word in part.words))
        return cls(("any",)) if "any" in words else cls(words, next(iter(items), None))


@attrs.frozen
class DataKey:
    """One key: its type, whether it must be given, its value if it is not, how contributions are combined."""

    type: DataType = attrs.field(factory=DataType)
    required: bool = False
    default: Any = ABSENT
    reduce: str | None = None
    description: str = ""

    def to_dict(self) -> dict[str, Any]:
        """As in a definition."""
        found = self.type.to_dict()
        if self.required:
            found["required"] = True
        if self.default is not ABSENT:
            found["default"] = self.default
        if self.reduce is not None:
            found["reduce"] = self.reduce
        if self.description:
            found["description"] = self.description
        return found


@attrs.frozen
class DataState:
    """The state of a graph that was written as data."""

    name: str
    keys: Mapping[str, DataKey] = attrs.field(hash=False)

    def to_dict(self) -> dict[str, Any]:
        """As in a definition."""
        return {name: key.to_dict() for name, key in self.keys.items()}
