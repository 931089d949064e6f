"""The value of tagged JSON, making nothing but what the tags may name."""

from __future__ import annotations

import re
from base64 import b64decode
from collections.abc import Callable
from datetime import date, datetime, time, timedelta, timezone, tzinfo
from decimal import Decimal
from fractions import Fraction
from pathlib import PurePath
from typing import Any, Final
from uuid import UUID

from .classes import Shape, shape_named
from .encoding import PATHS, TAG, a
from .errors import ClassChanged, Damaged, EngineError
from .file import File
from .typecheck import shown
from .values import ItemError, Replace, Signal
from .writes import Contributions


def revived(plain: Any) -> Any:
    """The value of parsed JSON; lists and dicts in it are changed in place."""
    try:
        return _revived(plain)
    except EngineError:
        raise
    except Exception as error:
        raise Damaged(f"stored data is not what the engine writes: {type(error).__name__}: {error}") from error


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


def _read_zone(of: Any) -> tzinfo:
    from zoneinfo import ZoneInfo  # for whoever needs it: it looks for the system's tables of time zones

    return ZoneInfo(_typed(of, str))


def _read_signal(name: Any, payload: Any) -> Signal:
    return Signal(_typed(_revived(name), str), _revived(payload))


def _read_item_error(index: Any, type: Any, message: Any) -> ItemError:
    return ItemError(_typed(_revived(index), int), _typed(_revived(type), str), _typed(_revived(message), str))


def _read_file(
    digest: Any, name: Any, media_type: Any, size: Any, created: Any, metadata: Any = None, ephemeral: Any = False
) -> File:
    return File(
        name=_typed(_revived(name), str),
        media_type=_typed(media_type, str),
        size=_typed(size, int),
        digest=_typed(digest, str),
        metadata={} if metadata is None else _typed(_revived(metadata), dict),
        created=datetime.fromisoformat(_typed(created, str)),
        ephemeral=_typed(ephemeral, bool),
    )


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
    "file": _read_file,
    "datetime": _read_datetime,
    "date": lambda of: date.fromisoformat(_typed(of, str)),
    "time": _read_time,
    "timedelta": lambda of: timedelta(*_ints(of, 3)),
    "timezone": _read_timezone,
    "ZoneInfo": _read_zone,
    "Decimal": lambda of: Decimal(_typed(of, str)),
    "Fraction": lambda of: Fraction(*_ints(of, 2)),
    "complex": _read_complex,
    "UUID": lambda of: UUID(_typed(of, str)),
    "range": lambda of: range(*_ints(of, 3)),
    **{cls.__name__: _path_decoder(cls) for cls in PATHS},
}
