"""Classes by name, and objects without their constructors: what a stored value needs to come back.

A name in stored data is looked up in modules that are imported already, and must be that of an enum, an attrs class,
a dataclass or a named tuple. Nothing that data names is imported or called, so whoever can write to a store can make
no more than wrong values.
"""

from __future__ import annotations

import dataclasses
import enum
import functools
import sys
from collections.abc import Mapping
from types import ModuleType
from typing import Any, Final, Literal

import attrs

from .errors import ClassChanged

MISSING: Final[Any] = object()
# Where attrs keeps a hash that it works out once (`cache_hash=True`); it must be there, empty, in an object made anew.
_CACHED_HASH: Final = "_attrs_cached_hash"
# In objects, but no part of what they are: that, and what `Box[int](1)` leaves behind.
_NO_FIELDS: Final = frozenset({_CACHED_HASH, "__orig_class__"})


class Field:
    """A field of a class, and what stands in it if stored data has nothing for it."""

    __slots__ = ("_default", "may_be_unset", "name")

    def __init__(self, name: str, default: Any = MISSING, may_be_unset: bool = False) -> None:
        self.name = name
        self._default = default
        self.may_be_unset = may_be_unset

    @property
    def has_default(self) -> bool:
        return self._default is not MISSING

    def default(self, owner: Any) -> Any:
        """What a new object of the class has in this field."""
        match self._default:
            case attrs.Attribute() as field:
                return _attrs_default(field, owner)
            case dataclasses.Field() as field:
                return field.default if field.default_factory is dataclasses.MISSING else field.default_factory()
            case plain:
                return plain


class Shape:
    """How objects of a class are taken apart and put together."""

    __slots__ = ("_hash_is_cached", "cls", "fields", "kind", "name", "names")

    def __init__(self, cls: type, kind: Literal["object", "tuple", "enum"], fields: tuple[Field, ...]) -> None:
        self.cls = cls
        self.kind = kind
        self.name = name_of(cls)
        self.fields = fields
        self.names = frozenset(field.name for field in fields)
        hashed = getattr(getattr(cls, "__hash__", None), "__code__", None)
        self._hash_is_cached = hashed is not None and _CACHED_HASH in hashed.co_names

    def strays(self, value: Any) -> list[str]:
        """Attributes of an object that are in none of its fields, and cannot be worked out from them."""
        own = getattr(value, "__dict__", None)
        if not own or own.keys() <= self.names:
            return []
        known = self.names | _NO_FIELDS
        return [name for name in own if name not in known and not self._is_cached_property(name)]

    def _is_cached_property(self, name: str) -> bool:
        return any(isinstance(vars(cls).get(name), functools.cached_property) for cls in self.cls.__mro__)

    def build(self, values: Mapping[str, Any]) -> Any:
        """An object with these fields. Neither its constructor nor its validators run."""
        for name in values:
            if name not in self.names:
                raise ClassChanged(
                    self.name,
                    f"a stored {self.name} has a field {name!r}, which the class has no more; "
                    f"known are {', '.join(map(repr, sorted(self.names))) or 'none'}",
                )
        if self.kind == "tuple":
            return tuple.__new__(self.cls, [self._given(values, field, None) for field in self.fields])
        made: Any = object.__new__(self.cls)
        if self._hash_is_cached:
            object.__setattr__(made, _CACHED_HASH, None)
        for field in self.fields:
            value = self._given(values, field, made)
            if value is not MISSING:
                object.__setattr__(made, field.name, value)
        return made

    def _given(self, values: Mapping[str, Any], field: Field, made: Any) -> Any:
        value = values.get(field.name, MISSING)
        if value is not MISSING or (field.may_be_unset and not field.has_default):
            return value
        if field.has_default:
            return field.default(made)
        raise ClassChanged(
            self.name,
            f"a stored {self.name} has nothing for the field {field.name!r}, which the class has now; "
            f"give it a default",
        )

    def member(self, name: str) -> Any:
        """The member of an enum with this name."""
        found = self.cls.__members__.get(name)  # type: ignore[attr-defined]  # the class is an enum
        if found is None:
            raise ClassChanged(self.name, f"a stored {self.name}.{name} is no member of the enum any more")
        return found

    def flags(self, value: int) -> Any:
        """The members of a flag that make up this value, as one."""
        known = self.cls._value2member_map_.get(value)  # type: ignore[attr-defined]  # as above
        if known is not None:
            return known
        if not issubclass(self.cls, enum.Flag):
            raise ClassChanged(self.name, f"a stored {self.name} has the value {value}, which no member has")
        try:
            # What `cls(value)` does, without a `_missing_` of the class's own.
            return enum.Flag._missing_.__func__(self.cls, value)  # type: ignore[attr-defined]  # a classmethod
        except ValueError as error:
            raise ClassChanged(self.name, f"a stored {self.name} has the value {value}: {error}") from None


def name_of(cls: type) -> str:
    """`module:Class`."""
    return f"{cls.__module__}:{cls.__qualname__}"


def class_named(name: str) -> type | None:
    """The class of this name, if it is in a module that is imported."""
    module, _, qualname = name.partition(":")
    found: Any = sys.modules.get(module)
    for part in qualname.split("."):
        # Not getattr: a module or a class may run code to answer it.
        if not issubclass(type(found), type | ModuleType):
            return None
        found = object.__getattribute__(found, "__dict__").get(part)
    return found if issubclass(type(found), type) else None


_shapes: dict[type, Shape] = {}


def shape_of(cls: type) -> Shape | str:
    """How its objects are taken apart; or why they cannot be, as what to do about it."""
    shape = _shapes.get(cls)
    if shape is not None:
        return shape
    found = _new_shape(cls)
    if isinstance(found, Shape):
        if class_named(found.name) is not cls:
            return f"define {cls.__qualname__} at the top level of its module, where it can be found again"
        _shapes[cls] = found
    return found


def shape_named(name: str) -> Shape:
    """The same for a name in stored data. Raises `ClassChanged`."""
    cls = class_named(name)
    if cls is None:
        module, _, qualname = name.partition(":")
        cure = (
            "the module has no such class now: leave it there under its old name"
            if module in sys.modules
            else f"import {module} before the engine starts"
        )
        raise ClassChanged(
            name, f"a stored value is of the class {qualname!r} of {module!r}, which is not here; {cure}"
        )
    shape = _shapes.get(cls) or _new_shape(cls)
    if isinstance(shape, str):
        raise ClassChanged(
            name,
            f"a stored value is of the class {name}, which is no enum, attrs class, dataclass or named tuple now",
        )
    _shapes[cls] = shape
    return shape


def _new_shape(cls: type) -> Shape | str:
    if issubclass(cls, enum.Enum):
        return Shape(cls, "enum", ())
    if issubclass(cls, BaseException):
        return "keep its message, or raise it"
    if issubclass(cls, tuple):
        names = getattr(cls, "_fields", None)
        if type(names) is not tuple or not hasattr(cls, "_make"):
            return "turn it into a plain tuple"
        defaults = getattr(cls, "_field_defaults", {})
        return Shape(cls, "tuple", tuple(Field(name, defaults.get(name, MISSING)) for name in names))
    if attrs.has(cls):
        fields = tuple(_attrs_field(field) for field in attrs.fields(cls))
    elif dataclasses.is_dataclass(cls):
        fields = tuple(_dataclass_field(field) for field in dataclasses.fields(cls))
    else:
        return ""
    return _hidden(cls) or Shape(cls, "object", fields)


def _hidden(cls: type) -> str:
    """What is wrong with a class whose objects hold more than its fields."""
    try:
        object.__new__(cls)
    except TypeError:
        return "it extends a built-in type: make that a field"
    for base in cls.__mro__[:-1]:
        slots = base.__dict__.get("__slots__", ())
        if not ("__attrs_attrs__" in base.__dict__ or "__dataclass_fields__" in base.__dict__):
            for slot in (slots,) if isinstance(slots, str) else slots:
                if slot not in ("__dict__", "__weakref__"):
                    return f"its base {base.__qualname__} has the slot {slot!r}: make that a field"
    return ""


def _attrs_field(field: attrs.Attribute[Any]) -> Field:
    default = MISSING if field.default is attrs.NOTHING else field
    return Field(field.name, default, may_be_unset=not field.init)


def _attrs_default(field: attrs.Attribute[Any], owner: Any) -> Any:
    value: Any = field.default
    if isinstance(value, attrs.Factory):  # type: ignore[arg-type]  # typed as a function, but a class
        value = value.factory(owner) if value.takes_self else value.factory()
    convert: Any = field.converter
    if isinstance(convert, attrs.Converter):
        rich: Any = convert  # its attributes have no types
        return rich.converter(value, *[owner] * rich.takes_self, *[field] * rich.takes_field)
    return value if convert is None else convert(value)


def _dataclass_field(field: dataclasses.Field[Any]) -> Field:
    missing = field.default is dataclasses.MISSING and field.default_factory is dataclasses.MISSING
    return Field(field.name, MISSING if missing else field, may_be_unset=not field.init)
