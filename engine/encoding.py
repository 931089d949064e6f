"""What a value is as JSON, with tags for what JSON loses; codec.py says how they look."""

from __future__ import annotations

import math
from base64 import b64encode
from collections.abc import Callable, Iterable
from datetime import date, datetime, time, timedelta, timezone
from decimal import Decimal
from enum import Flag
from fractions import Fraction
from itertools import chain
from pathlib import PosixPath, PurePath, PurePosixPath, PureWindowsPath, WindowsPath
from typing import Any, Final
from uuid import UUID

from .classes import MISSING, Shape, shape_of
from .errors import NotStorable
from .file import File
from .schema import LentDict
from .typecheck import shown
from .values import ItemError, Replace, Signal
from .writes import Contributions

TAG: Final = "$"
# orjson itself stops at 254 levels, and a tuple takes two.
MAX_DEPTH: Final = 100
PATHS: Final = (PurePosixPath, PureWindowsPath, PosixPath, WindowsPath)

_LONG: Final = 2**63

Encode = Callable[[Any, int], Any]


class Refused(Exception):
    """Something that cannot be kept, and the way to it: containers with the part of each, from the inside out."""

    def __init__(self, what: str, cure: str) -> None:
        self.what = what
        self.cure = cure
        self.way: list[tuple[str, int]] = []

    def through(self, part: str, container: Any) -> None:
        self.way.append((part, id(container)))

    def told(self, where: str, owner: str) -> NotStorable:
        way = self.way[::-1]
        seen: set[int] = set()
        for depth, (_, container) in enumerate(way):
            if container in seen:
                path = where + "".join(part for part, _ in way[:depth])
                return NotStorable("a value that contains itself", path.lstrip("."), "leave that part out", owner)
            seen.add(container)
        path = where + "".join(part for part, _ in way)
        return NotStorable(self.what, path if len(way) < MAX_DEPTH else f"{path[:100]}…", self.cure, owner)


class Encoder:
    """What a value is as JSON: the same object, if nothing in it needs a tag.

    The quick one leaves to orjson to refuse an int, a str or a key that it cannot write, and the exact one, which
    looks at each, comes in only then.
    """

    __slots__ = ("_by_type", "_exact", "_plain")

    def __init__(self, exact: bool) -> None:
        self._exact = exact
        self._plain: frozenset[type] = frozenset({bool, type(None)} if exact else {bool, type(None), int, str})
        self._by_type: dict[type, Encode] = {
            float: _float,
            dict: self._dict,
            LentDict: self._dict,
            list: self._list,
            tuple: lambda value, depth: self._tagged("tuple", value, depth),
            set: lambda value, depth: self._tagged("set", value, depth),
            frozenset: lambda value, depth: self._tagged("frozenset", value, depth),
            Contributions: lambda value, depth: self._tagged("contributions", value.items, depth),
            Replace: self._replace,
            Signal: self._signal,
            ItemError: self._item_error,
            File: self._file,
            datetime: self._datetime,
            time: self._time,
            **_LEAVES,
            **dict.fromkeys(PATHS, self._path),
        }
        if exact:
            self._by_type |= {int: _int, str: _str}

    def value(self, value: Any, depth: int) -> Any:
        cls = type(value)
        if cls in self._plain:
            return value
        encode = self._by_type.get(cls)
        if encode is None:
            encode = self._by_type[cls] = self._of_class(value)
        return encode(value, depth)

    def _dict(self, value: dict[Any, Any], depth: int) -> Any:
        if TAG in value or (self._exact and not all(map(_is_text, value))):
            return self._pairs(value, depth)
        if depth > MAX_DEPTH:
            raise _too_deep()
        plain = self._plain
        changed: dict[Any, Any] | None = None
        key: Any = None
        try:
            for key, item in value.items():
                cls = type(item)
                if cls in plain or (cls is float and item - item == 0.0):
                    continue
                new = self.value(item, depth + 1)
                if new is not item:
                    if changed is None:
                        changed = dict(value)
                    changed[key] = new
        except Refused as refused:
            refused.through(f"[{shown_key(key)}]", value)
            raise
        if changed is not None:
            return changed
        return value if type(value) is dict else dict(value)

    def _pairs(self, value: dict[Any, Any], depth: int) -> Any:
        if depth > MAX_DEPTH:
            raise _too_deep()
        pairs: list[Any] = []
        key: Any = None
        part = "a key of it"
        try:
            for key, item in value.items():
                part = f" (the key {shown_key(key)})"
                pairs.append(self.value(key, depth + 1))
                part = f"[{shown_key(key)}]"
                pairs.append(self.value(item, depth + 1))
        except Refused as refused:
            refused.through(part, value)
            raise
        return {TAG: "dict", "of": pairs}

    def _list(self, value: list[Any], depth: int) -> Any:
        kinds = set(map(type, value))
        if kinds <= self._plain or (kinds == _FLOATS and all(map(math.isfinite, value))):
            return value
        if kinds == _DICTS and len(value) > _MANY and depth < MAX_DEPTH and not self._exact and _are_plain_rows(value):
            return value
        items = self._items(value, value, depth)
        return value if items is None else items

    def _tagged(self, tag: str, value: Iterable[Any], depth: int) -> Any:
        items = list(value)
        return {TAG: tag, "of": self._items(items, value, depth) or items}

    def _items(self, items: list[Any], owner: Any, depth: int) -> list[Any] | None:
        """What they are as JSON, or None if they are that already."""
        if depth > MAX_DEPTH:
            raise _too_deep()
        plain, changed, index = self._plain, None, 0
        try:
            for index, item in enumerate(items):
                if type(item) in plain:
                    continue
                new = self.value(item, depth + 1)
                if new is not item:
                    if changed is None:
                        changed = list(items)
                    changed[index] = new
        except Refused as refused:
            refused.through(
                f"[{index}]" if isinstance(owner, list | tuple) else f" (in a {type(owner).__name__})", owner
            )
            raise
        return changed

    def _inside(self, value: Any, owner: Any, part: str, depth: int) -> Any:
        if depth > MAX_DEPTH:
            raise _too_deep()
        try:
            return self.value(value, depth + 1)
        except Refused as refused:
            refused.through(part, owner)
            raise

    def _replace(self, value: Replace, depth: int) -> Any:
        return {TAG: "replace", "of": self._inside(value.value, value, ".value", depth)}

    def _signal(self, value: Signal, depth: int) -> Any:
        name = self._inside(value.name, value, ".name", depth)
        return {TAG: "signal", "name": name, "payload": self._inside(value.payload, value, ".payload", depth)}

    def _item_error(self, value: ItemError, depth: int) -> Any:
        values = {name: self.value(getattr(value, name), depth + 1) for name in ("index", "type", "message")}
        return {TAG: "item_error", **values}

    def _file(self, value: File, depth: int) -> Any:
        if not (value.is_kept or (value.ephemeral and value.digest)):
            cure = "keep it first, with engine.files.keep; in a node, declare produces=, or a File in the state's type"
            raise Refused(f"the file {value.name!r}, whose contents are not kept yet,", cure)
        plain: dict[str, Any] = {TAG: "file"}
        if value.ephemeral:
            plain["ephemeral"] = True  # before the digest: so it does not look like one whose contents are kept
        plain |= {"digest": value.digest, "name": self.value(value.name, depth)}
        plain |= {"media_type": value.media_type, "size": value.size, "created": value.created.isoformat()}
        if value.metadata:
            plain["metadata"] = self.value(dict(value.metadata), depth + 1)
        return plain

    def _path(self, value: PurePath, depth: int) -> Any:
        text = str(value)
        again = type(value)(text)
        if again.parts != value.parts:  # an odd one of Windows, such as `//a/`
            raise Refused(f"{a(type(value))} that its text does not stand for", "keep its parts")
        return {TAG: type(value).__name__, "of": self.value(text, depth)}

    # -- times

    def _datetime(self, value: datetime, depth: int) -> Any:
        return self._moment("datetime", value, depth)

    def _time(self, value: time, depth: int) -> Any:
        return self._moment("time", value, depth)

    def _moment(self, tag: str, value: datetime | time, depth: int) -> Any:
        zone = value.tzinfo
        plain: dict[str, Any] = {TAG: tag}
        if zone is None or (type(zone) is timezone and len(_facts_of(zone)) == 1):
            plain["of"] = value.isoformat()
        else:
            plain["of"] = value.replace(tzinfo=None).isoformat()
            plain["tz"] = self._inside(zone, value, ".tzinfo", depth)
        if value.fold:
            plain["fold"] = 1
        return plain

    # -- objects of classes

    def _of_class(self, value: Any) -> Encode:
        cls = type(value)
        if (cls.__module__, cls.__qualname__) == ("zoneinfo", "ZoneInfo"):
            return _zone  # known by name: importing it costs a search for the system's tables
        shape = shape_of(cls)
        if isinstance(shape, str):
            raise Refused(a(cls), _cure(cls, shape))
        match shape.kind:
            case "enum":
                return lambda value, depth: self._member(shape, value)
            case "tuple":
                return lambda value, depth: self._object(shape, value, depth)
            case "object":
                return lambda value, depth: self._object(shape, value, depth)

    def _member(self, shape: Shape, value: Any) -> Any:
        name = value._name_
        if name is not None and shape.cls.__members__.get(name) is value:  # type: ignore[attr-defined]  # an enum
            return {TAG: shape.name, "name": self.value(name, 0)}
        if not isinstance(value, Flag):
            raise Refused(f"a member of {shape.name} that has no name", "keep its value")
        return {TAG: shape.name, "value": _int(int(value._value_), 0)}

    def _object(self, shape: Shape, value: Any, depth: int) -> Any:
        if depth > MAX_DEPTH:
            raise _too_deep()
        strays = shape.strays(value)
        if strays:
            raise Refused(f"{a(type(value))} with an attribute {strays[0]!r} that is no field", "make it a field")
        plain: dict[str, Any] = {TAG: shape.name}
        name = ""
        try:
            for field in shape.fields:
                name = field.name
                item = getattr(value, name, MISSING)
                if item is not MISSING:
                    plain[name] = self.value(item, depth + 1)
                elif field.has_default or not field.may_be_unset:
                    raise Refused("a field that was never set", "set it, or declare it with init=False")
        except Refused as refused:
            refused.through(f".{name}", value)
            raise
        return plain


def _are_plain_rows(rows: list[dict[Any, Any]]) -> bool:
    """Whether orjson can write all of these dicts as they are, in time that C takes rather than Python."""
    if not _ROW_TYPES.issuperset(map(type, rows[0].values())) or TAG in set(chain.from_iterable(rows)):
        return False
    cells = list(chain.from_iterable(map(dict.values, rows)))
    kinds = set(map(type, cells))
    if not kinds <= _ROW_TYPES:
        return False
    return float not in kinds or all(map(math.isfinite, [cell for cell in cells if type(cell) is float]))


def _int(value: int, depth: int) -> Any:
    # In hexadecimal: Python limits how many decimal digits it reads.
    return value if -_LONG <= value < _LONG else {TAG: "int", "of": hex(value)}


def _float(value: float, depth: int) -> Any:
    return value if math.isfinite(value) else {TAG: "float", "of": repr(value)}


def _str(value: str, depth: int) -> Any:
    if _is_text(value):
        return value
    return {TAG: "str", "of": b64encode(value.encode("utf-8", "surrogatepass")).decode()}


def _is_text(value: Any) -> bool:
    """Whether this is a string that UTF-8 can hold: one without lone surrogates."""
    if type(value) is not str:
        return False
    try:
        return value.isascii() or bool(value.encode())
    except UnicodeEncodeError:
        return False


def _binary(tag: str) -> Encode:
    return lambda value, depth: {TAG: tag, "of": b64encode(value).decode()}


def _numbers(tag: str, take: Callable[[Any], tuple[int, ...]]) -> Encode:
    return lambda value, depth: {TAG: tag, "of": [_int(int(number), 0) for number in take(value)]}


def _complex(value: complex, depth: int) -> Any:
    return {TAG: "complex", "of": [_float(value.real, 0), _float(value.imag, 0)]}


def _facts_of(value: timezone) -> tuple[Any, ...]:
    """Its offset, and its name if it was given one."""
    facts: tuple[Any, ...] = value.__getinitargs__()  # type: ignore[attr-defined]  # what pickle uses
    return facts


def _timezone(value: timezone, depth: int) -> Any:
    offset, *name = _facts_of(value)
    return {TAG: "timezone", "of": list(_parts_of(offset)), **({"name": _str(name[0], 0)} if name else {})}


def _parts_of(value: timedelta) -> tuple[int, int, int]:
    return value.days, value.seconds, value.microseconds


def _zone(value: Any, depth: int) -> Any:
    if value.key is None:
        raise Refused("a ZoneInfo without a key", "make it with ZoneInfo(name)")
    return {TAG: "ZoneInfo", "of": value.key}


def _as_text(tag: str) -> Encode:
    return lambda value, depth: {TAG: tag, "of": str(value)}


# The sets of types that a list is recognised by; below `_MANY` items it does not pay to look at them all at once.
_FLOATS: Final = {float}
_DICTS: Final = {dict}
_ROW_TYPES: Final = frozenset({bool, type(None), int, str, float})
_MANY: Final = 8
_LEAVES: Final[dict[type, Encode]] = {
    bytes: _binary("bytes"),
    bytearray: _binary("bytearray"),
    date: _as_text("date"),
    timedelta: _numbers("timedelta", _parts_of),
    timezone: _timezone,
    Decimal: _as_text("Decimal"),
    Fraction: _numbers("Fraction", lambda value: (value.numerator, value.denominator)),
    complex: _complex,
    UUID: _as_text("UUID"),
    range: _numbers("range", lambda value: (value.start, value.stop, value.step)),
}
QUICK: Final = Encoder(exact=False)
EXACT: Final = Encoder(exact=True)


# --- messages -------------------------------------------------------------------------------------------


def a(cls: type) -> str:
    """A class for a message: `a socket`, `an Order`."""
    name = cls.__name__
    return f"a{'n' if name[:1].lower() in 'aeio' else ''} {name}"


def shown_key(key: Any) -> str:
    """A key of a dict, as it is within a path."""
    return repr(key) if type(key) is str and len(key) <= 60 else shown(key)


def _too_deep() -> Refused:
    return Refused(f"a value nested more than {MAX_DEPTH} deep", "flatten it, or keep it as text")


def _cure(cls: type, known: str) -> str:
    if known:
        return known
    for base in (dict, list, set, frozenset, bool, int, float, str, bytes, bytearray, datetime, date, Decimal, UUID):
        if issubclass(cls, base):
            return f"turn it into a plain {base.__name__}"
    if hasattr(cls, "tolist"):
        return "turn it into plain data, with .tolist()"
    if hasattr(cls, "model_dump"):
        return "turn it into plain data, with .model_dump(), or make it an attrs class or a dataclass"
    return "return plain data, or keep what it takes to open it again"
