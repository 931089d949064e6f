"""What is wrong with a number or an exception type that was given as an option."""

from __future__ import annotations

import math
import numbers
from typing import Any

from .typecheck import shown

Fault = str
"""What is wrong, as the end of a sentence that begins with the option; empty if nothing is."""


def positive_fault(value: Any, *, whole: bool = False, zero: bool = False) -> Fault:
    """A number above zero (or from zero on), finite, and whole if asked."""
    wanted = f"a {'whole ' if whole else ''}number {'of at least 0' if zero else 'above 0'}"
    kind = numbers.Integral if whole else numbers.Real
    if isinstance(value, bool) or not isinstance(value, kind) or not math.isfinite(value):
        return f"must be {wanted}, found {shown(value)}"
    if value < 0 or (value == 0 and not zero):
        return f"must be {wanted}, found {value!r}"
    return ""


def errors_fault(value: Any) -> Fault:
    """Exception types, as in an `except` clause."""
    kinds = value if isinstance(value, tuple) else (value,)
    if kinds and all(isinstance(kind, type) and issubclass(kind, BaseException) for kind in kinds):
        return ""
    return f"must be an exception type or a tuple of them, found {shown(value)}"
