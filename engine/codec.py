"""Values to bytes and back, exactly: what comes back is of the same type and equal, or it was refused.

The bytes are JSON. What JSON loses is written as an object with the key `$`, which says what it is:
`{"$":"tuple","of":[1,2]}`, `{"$":"shop.orders:Order","id":7}`. A dict that has such a key itself, or keys that are no
strings, is written as its pairs. So most values, having nothing of the kind, are written by orjson as they are, and
read by it without a second look.

Kept are None, bool, int, float, str, bytes, bytearray, list, tuple, dict, set, frozenset, datetime, date, time,
timedelta, timezone, ZoneInfo, Decimal, Fraction, complex, UUID, range, paths; enum members, attrs objects, dataclass
objects and named tuples, of classes that can be found by name; and the engine's own Signal, ItemError, Replace and
Contributions. What is not kept is that two parts of a value are one object: each comes back by itself.

Not pickle, which runs what its data names; nor cattrs, which needs to be told the type and so cannot read a plain
`dict` state back.
"""

from __future__ import annotations

import math
import re
from base64 import b64decode, b64encode
from collections.abc import Callable, Iterable
from datetime import date, datetime, time, timedelta, timezone, tzinfo
from decimal import Decimal
from enum import Flag
from fractions import Fraction
from itertools import chain
from pathlib import PosixPath, PurePath, PurePosixPath, PureWindowsPath, WindowsPath
from typing import Any, Final
from uuid import UUID
from zoneinfo import ZoneInfo

import orjson

from .classes import MISSING, Shape, shape_named, shape_of
from .errors import ClassChanged, Damaged, EngineError, NotStorable
from .merge import Contributions
from .schema import LentDict
from .typecheck import shown
from .values import ItemError, Replace, Signal

TAG: Final = "$"
# Before a tag, in text that orjson wrote. Text that has it nowhere has no tags; in a string the quotes are escaped.
MARK: Final = b'"$":'

# orjson itself stops at 254 levels, and a tuple takes two.
MAX_DEPTH: Final = 100

_OPTIONS: Final = orjson.OPT_PASSTHROUGH_SUBCLASS | orjson.OPT_PASSTHROUGH_DATACLASS | orjson.OPT_PASSTHROUGH_DATETIME
_PATHS: Final = (PurePosixPath, PureWindowsPath, PosixPath, WindowsPath)
_LONG: Final = 2**63

Encode = Callable[[Any, int], Any]


class _Refused(Exception):
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


def pack(value: Any, where: str = "", *, owner: str = "") -> bytes:
    """The bytes of a value; `where` it is and whose (`owner`) begin the message of a `NotStorable`.

    What it refers to twice is written twice, so a value that refers to itself in many ways may grow beyond all bounds;
    one that contains itself is refused.
    """
    try:
        try:
            return orjson.dumps(_QUICK.value(value, 0), None, _OPTIONS)
        except TypeError:
            # Some string or number, or the key of a dict, that orjson does not take.
            return orjson.dumps(_EXACT.value(value, 0), None, _OPTIONS)
    except _Refused as refused:
        raise refused.told(where, owner) from None


def unpack(data: bytes) -> Any:
    """The value of bytes that `pack` wrote. Raises `Damaged`, or `ClassChanged` if a class is not what it was."""
    plain = parsed(data)
    return revived(plain) if MARK in data else plain


def parsed(data: bytes) -> Any:
    """The JSON of these bytes, tags and all."""
    try:
        return orjson.loads(data)
    except ValueError as error:
        raise Damaged(f"stored data is no JSON: {error}") from error


def revived(plain: Any) -> Any:
    """The value of parsed JSON; lists and dicts in it are changed in place."""
    try:
        return _revived(plain)
    except EngineError:
        raise
    except Exception as error:
        raise Damaged(f"stored data is not what the engine writes: {type(error).__name__}: {error}") from error


# --- writing --------------------------------------------------------------------------------------------


class _Encoder:
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
            datetime: self._datetime,
            time: self._time,
            **_LEAVES,
            **dict.fromkeys(_PATHS, self._path),
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
        except _Refused as refused:
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
        except _Refused as refused:
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
        except _Refused as refused:
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
        except _Refused as refused:
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

    def _path(self, value: PurePath, depth: int) -> Any:
        return {TAG: type(value).__name__, "of": self.value(str(value), depth)}

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
        shape = shape_of(cls)
        if isinstance(shape, str):
            raise _Refused(a(cls), _cure(cls, shape))
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
            raise _Refused(f"a member of {shape.name} that has no name", "keep its value")
        return {TAG: shape.name, "value": _int(int(value._value_), 0)}

    def _object(self, shape: Shape, value: Any, depth: int) -> Any:
        if depth > MAX_DEPTH:
            raise _too_deep()
        strays = shape.strays(value)
        if strays:
            raise _Refused(f"{a(type(value))} with an attribute {strays[0]!r} that is no field", "make it a field")
        plain: dict[str, Any] = {TAG: shape.name}
        name = ""
        try:
            for field in shape.fields:
                name = field.name
                item = getattr(value, name, MISSING)
                if item is not MISSING:
                    plain[name] = self.value(item, depth + 1)
                elif field.has_default or not field.may_be_unset:
                    raise _Refused("a field that was never set", "set it, or declare it with init=False")
        except _Refused as refused:
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


def _zone(value: ZoneInfo, depth: int) -> Any:
    if value.key is None:
        raise _Refused("a ZoneInfo without a key", "make it with ZoneInfo(name)")
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
    ZoneInfo: _zone,
    Decimal: _as_text("Decimal"),
    Fraction: _numbers("Fraction", lambda value: (value.numerator, value.denominator)),
    complex: _complex,
    UUID: _as_text("UUID"),
    range: _numbers("range", lambda value: (value.start, value.stop, value.step)),
}
_QUICK: Final = _Encoder(exact=False)
_EXACT: Final = _Encoder(exact=True)


# --- messages -------------------------------------------------------------------------------------------


def a(cls: type) -> str:
    """A class for a message: `a socket`, `an Order`."""
    name = cls.__name__
    return f"a{'n' if name[:1].lower() in 'aeio' else ''} {name}"


def shown_key(key: Any) -> str:
    """A key of a dict, as it is within a path."""
    return repr(key) if type(key) is str and len(key) <= 60 else shown(key)


def _too_deep() -> _Refused:
    return _Refused(f"a value nested more than {MAX_DEPTH} deep", "flatten it, or keep it as text")


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


# --- reading --------------------------------------------------------------------------------------------


def _revived(plain: Any) -> Any:
    cls = type(plain)
    if cls is dict:
        if TAG in plain:
            return _tagged(plain)
        for key, item in plain.items():
            if type(item) is dict or type(item) is list:
                plain[key] = _revived(item)
    elif cls is list:
        for index, item in enumerate(plain):
            if type(item) is dict or type(item) is list:
                plain[index] = _revived(item)
    return plain


def _tagged(plain: dict[str, Any]) -> Any:
    tag = plain.pop(TAG)
    if type(tag) is not str:
        raise Damaged(f"stored data has the tag {shown(tag)}, expected a name")
    if ":" in tag:
        return _of_class(shape_named(tag), plain)
    decode = _DECODERS.get(tag)
    if decode is None:
        raise Damaged(f"stored data has the tag {shown(tag)}, which this version does not know")
    try:
        return decode(**plain)
    except (Damaged, ClassChanged):
        raise
    except Exception as error:
        raise Damaged(f"a stored {tag} cannot be read: {type(error).__name__}: {error}") from error


def _of_class(shape: Shape, plain: dict[str, Any]) -> Any:
    for name, item in plain.items():
        if type(item) is dict or type(item) is list:
            plain[name] = _revived(item)
    if shape.kind != "enum":
        return shape.build(plain)
    match plain:
        case {"name": str(name), **rest} if not rest:
            return shape.member(name)
        case {"value": int(value), **rest} if not rest:
            return shape.flags(value)
    raise Damaged(f"a stored member of {shape.name} has neither a name nor a value, but {shown(plain)}")


def _typed(plain: Any, cls: type) -> Any:
    if type(plain) is not cls:
        raise Damaged(f"stored data has {shown(plain)}, expected {a(cls)}")
    return plain


def _list_of(of: Any) -> list[Any]:
    items: list[Any] = _typed(_revived(of), list)
    return items


def _ints(of: Any, count: int) -> list[int]:
    numbers = [_typed(number, int) for number in _list_of(of)]
    if len(numbers) != count:
        raise Damaged(f"stored data has {len(numbers)} numbers, expected {count}")
    return numbers


def _read_int(of: str) -> int:
    if not re.fullmatch("-?0x[0-9a-f]+", _typed(of, str)):
        raise Damaged(f"stored data has the number {shown(of)}, expected hexadecimal digits")
    return int(of, 16)


def _read_float(of: str) -> float:
    if of not in ("nan", "inf", "-inf"):
        raise Damaged(f"stored data has the number {shown(of)}, expected nan, inf or -inf")
    return float(of)


def _read_complex(of: list[Any]) -> complex:
    real, imaginary = _list_of(of)
    return complex(_typed(real, float), _typed(imaginary, float))


def _read_bytes(of: str) -> bytes:
    return b64decode(_typed(of, str), validate=True)


def _read_str(of: str) -> str:
    return _read_bytes(of).decode("utf-8", "surrogatepass")


def _read_dict(of: list[Any]) -> dict[Any, Any]:
    flat = _list_of(of)
    return dict(zip(flat[::2], flat[1::2], strict=True))


def _read_datetime(of: str, fold: int = 0, tz: Any = None) -> datetime:
    read = datetime.fromisoformat(_typed(of, str))
    return read.replace(fold=fold, tzinfo=read.tzinfo if tz is None else _zone_of(tz))


def _read_time(of: str, fold: int = 0, tz: Any = None) -> time:
    read = time.fromisoformat(_typed(of, str))
    return read.replace(fold=fold, tzinfo=read.tzinfo if tz is None else _zone_of(tz))


def _zone_of(plain: Any) -> tzinfo:
    zone = _revived(plain)
    if not isinstance(zone, tzinfo):
        raise Damaged(f"a stored time zone is {shown(zone)}")
    return zone


def _read_timezone(of: list[int], name: Any = None) -> timezone:
    offset = timedelta(*_ints(of, 3))
    return timezone(offset) if name is None else timezone(offset, _typed(_revived(name), str))


def _read_signal(name: Any, payload: Any) -> Signal:
    return Signal(_typed(_revived(name), str), _revived(payload))


def _read_item_error(index: Any, type: Any, message: Any) -> ItemError:
    return ItemError(_typed(_revived(index), int), _typed(_revived(type), str), _typed(_revived(message), str))


def _path_decoder(cls: type[PurePath]) -> Callable[..., Any]:
    return lambda of: cls(_typed(_revived(of), str))


_DECODERS: Final[dict[str, Callable[..., Any]]] = {
    "int": _read_int,
    "float": _read_float,
    "str": _read_str,
    "bytes": _read_bytes,
    "bytearray": lambda of: bytearray(_read_bytes(of)),
    "dict": _read_dict,
    "tuple": lambda of: tuple(_list_of(of)),
    "set": lambda of: set(_list_of(of)),
    "frozenset": lambda of: frozenset(_list_of(of)),
    "contributions": lambda of: Contributions(_list_of(of)),
    "replace": lambda of: Replace(_revived(of)),
    "signal": _read_signal,
    "item_error": _read_item_error,
    "datetime": _read_datetime,
    "date": lambda of: date.fromisoformat(_typed(of, str)),
    "time": _read_time,
    "timedelta": lambda of: timedelta(*_ints(of, 3)),
    "timezone": _read_timezone,
    "ZoneInfo": lambda of: ZoneInfo(_typed(of, str)),
    "Decimal": lambda of: Decimal(_typed(of, str)),
    "Fraction": lambda of: Fraction(*_ints(of, 2)),
    "complex": _read_complex,
    "UUID": lambda of: UUID(_typed(of, str)),
    "range": lambda of: range(*_ints(of, 3)),
    **{cls.__name__: _path_decoder(cls) for cls in _PATHS},
}
