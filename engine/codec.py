"""Values to bytes and back, exactly: what comes back is of the same type and equal, or it was refused.

The bytes are JSON. What JSON loses is written as an object with the key `$`, which says what it is:
`{"$":"tuple","of":[1,2]}`, `{"$":"shop.orders:Order","id":7}`. A dict that has such a key itself, or keys that are no
strings, is written as its pairs. So most values, having nothing of the kind, are written by orjson as they are, and
read by it without a second look.

Kept are None, bool, int, float, str, bytes, bytearray, list, tuple, dict, set, frozenset, datetime, date, time,
timedelta, timezone, ZoneInfo, Decimal, Fraction, complex, UUID, range, paths; enum members, attrs objects, dataclass
objects and named tuples, of classes that can be found by name; and the engine's own File (its contents are elsewhere),
Signal, ItemError, Replace and Contributions. What is not kept is that two parts of a value are one object: each comes
back by itself.

Not pickle, which runs what its data names; nor cattrs, which needs to be told the type and so cannot read a plain
`dict` state back.
"""

from __future__ import annotations

from typing import Any, Final

import orjson

from .decoding import revived
from .encoding import EXACT, QUICK, Refused
from .errors import Damaged

# Before a tag, in text that orjson wrote. Text that has it nowhere has no tags; in a string the quotes are escaped.
MARK: Final = b'"$":'

_OPTIONS: Final = orjson.OPT_PASSTHROUGH_SUBCLASS | orjson.OPT_PASSTHROUGH_DATACLASS | orjson.OPT_PASSTHROUGH_DATETIME


def pack(value: Any, where: str = "", *, owner: str = "") -> bytes:
    """The bytes of a value; `where` it is and whose (`owner`) begin the message of a `NotStorable`.

    What it refers to twice is written twice, so a value that refers to itself in many ways may grow beyond all bounds;
    one that contains itself is refused.
    """
    try:
        try:
            return orjson.dumps(QUICK.value(value, 0), None, _OPTIONS)
        except TypeError:
            # Some string or number, or the key of a dict, that orjson does not take.
            return orjson.dumps(EXACT.value(value, 0), None, _OPTIONS)
    except Refused as refused:
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
