"""Whether two graphs mean the same, so that a graph built anew for each submission is not taken for another one.

Functions are the same when they have the same code, defaults and closure: a builder that is called twice makes
functions that are not identical, and a lambda that closes over another value is another condition. What can be changed
is the same only if it is one and the same object: two lists may be equal today, but a run of one graph must never
write into the list of another.
"""

from __future__ import annotations

import datetime
import decimal
import fractions
import functools
import pathlib
import re
import types
import uuid
from collections.abc import Callable, Mapping
from typing import Any, Final

import attrs

from .plan import Plan
from .schema import Schema, is_frozen
from .views import View

_ENGINE: Final = __name__.partition(".")[0] + "."
_FIXED: Final = (
    bool,
    int,
    float,
    complex,
    str,
    bytes,
    range,
    datetime.date,
    datetime.time,
    datetime.timedelta,
    datetime.tzinfo,
    decimal.Decimal,
    fractions.Fraction,
    pathlib.PurePath,
    re.Pattern,
    uuid.UUID,
)


def same_plan(one: Plan, other: Plan) -> bool:
    """Whether two compiled graphs mean the same."""
    return one is other or _same(one.decl, other.decl, set())


def _same(one: Any, other: Any, seen: set[tuple[int, int]]) -> bool:
    """Whether two parts of a declaration say the same. What is written there as data is compared as data."""
    if one is other:
        return True
    match one, other:
        case Plan(), Plan():
            return _same(one.decl, other.decl, seen)
        case ((tuple() | list()), (tuple() | list())):
            return len(one) == len(other) and all(_same(a, b, seen) for a, b in zip(one, other, strict=True))
        case Mapping(), Mapping():
            return list(one) == list(other) and all(_same(one[key], other[key], seen) for key in one)
        case ((Schema() | View()), (Schema() | View())):
            return one == other
    if type(one) is type(other) and attrs.has(type(one)) and type(one).__module__.startswith(_ENGINE):
        return _same_fields(one, other, seen, _same)
    return _same_thing(one, other, seen)


def _same_thing(one: Any, other: Any, seen: set[tuple[int, int]]) -> bool:
    """Whether it makes no difference which of two things a function holds: they are one, or nobody can change them."""
    if one is other:
        return True
    if type(one) is not type(other):
        return False
    match one:
        case types.FunctionType():
            # A function may close over itself. Only functions are noted: they live on, what is made here does not,
            # and another thing could have its identity next.
            pair = (id(one), id(other))
            again = pair in seen
            seen.add(pair)
            return again or _same_function(one, other, seen)
        case types.MethodType():
            return one.__self__ is other.__self__ and _same_thing(one.__func__, other.__func__, seen)
        case functools.partial():
            mine = (one.func, one.args, *one.keywords.items())
            return _same_thing(mine, (other.func, other.args, *other.keywords.items()), seen)
        case tuple():
            return len(one) == len(other) and all(_same_thing(a, b, seen) for a, b in zip(one, other, strict=True))
        case frozenset():
            return all(isinstance(item, _FIXED) for item in one) and bool(one == other)
    if attrs.has(type(one)) and is_frozen(type(one)):
        return _same_fields(one, other, seen, _same_thing)
    return isinstance(one, _FIXED) and _equal(one, other)


def _same_fields(one: Any, other: Any, seen: set[tuple[int, int]], same: Callable[..., bool]) -> bool:
    fields = [field.name for field in attrs.fields(type(one)) if field.eq]
    return all(same(getattr(one, name), getattr(other, name), seen) for name in fields)


def _same_function(one: types.FunctionType, other: types.FunctionType, seen: set[tuple[int, int]]) -> bool:
    cells = [tuple(_contents(cell) for cell in function.__closure__ or ()) for function in (one, other)]
    return (
        one.__code__ == other.__code__
        and one.__module__ == other.__module__
        and _same_thing(one.__defaults__, other.__defaults__, seen)
        and _same_thing(_items(one.__kwdefaults__), _items(other.__kwdefaults__), seen)
        and _same_thing(cells[0], cells[1], seen)
    )


def _items(mapping: Mapping[str, Any] | None) -> tuple[Any, ...]:
    return tuple((mapping or {}).items())


def _contents(cell: types.CellType) -> Any:
    try:
        return cell.cell_contents
    except ValueError:
        return cell  # not filled yet, so nobody can say


def _equal(one: Any, other: Any) -> bool:
    try:
        return bool(one == other)
    except Exception:
        return False  # what cannot be compared is another
