"""What is wrong with a number, a name or an exception type that was given as an option."""

from __future__ import annotations

import math
import numbers
from typing import Any, Final

from .typecheck import shown

# Of a name, in UTF-8. An index of PostgreSQL takes 2,700 bytes, two of these stand in one, and what it has to escape
# takes twice the room. The same for every store, so that what one of them holds any other can.
MOST_NAME_BYTES: Final = 512

Fault = str
"""What is wrong, as the end of a sentence that begins with the option; empty if nothing is."""


def is_finite(value: Any) -> bool:
    """Neither infinite nor NaN, nor an integer that no float can hold."""
    try:
        return math.isfinite(value)
    except OverflowError:
        return False


def positive_fault(value: Any, *, whole: bool = False, zero: bool = False) -> Fault:
    """A number above zero (or from zero on), finite, and whole if asked."""
    wanted = f"a {'whole ' if whole else ''}number {'of at least 0' if zero else 'above 0'}"
    kind = numbers.Integral if whole else numbers.Real
    if isinstance(value, bool) or not isinstance(value, kind) or not is_finite(value):
        return f"must be {wanted}, found {shown(value)}"
    if value < 0 or (value == 0 and not zero):
        return f"must be {wanted}, found {value!r}"
    return ""


def name_fault(value: Any, *, empty: bool = False) -> Fault:
    """Text that can name something in any store: an id, a key, a tag, a graph."""
    if not isinstance(value, str) or not (value or empty):
        return f"must be text, found {shown(value)}"
    if "\0" in value:
        return f"must not have a NUL character in it, found {shown(value)}"
    try:
        size = len(value.encode())
    except UnicodeEncodeError:
        return f"must be text that UTF-8 can say, without half a surrogate pair, found {shown(value)}"
    if size > MOST_NAME_BYTES:
        return f"must take at most {MOST_NAME_BYTES} bytes in UTF-8, found {size:,}: {shown(value)}"
    return ""


def errors_fault(value: Any) -> Fault:
    """Exception types, as in an `except` clause."""
    kinds = value if isinstance(value, tuple) else (value,)
    if kinds and all(isinstance(kind, type) and issubclass(kind, BaseException) for kind in kinds):
        return ""
    return f"must be an exception type or a tuple of them, found {shown(value)}"
