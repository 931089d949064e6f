"""Whether two graphs mean the same, so that a graph built anew for each submission is not taken for another one.

Functions are the same when they have the same code, defaults and closure: a builder that is called twice makes
functions that are not identical, and a lambda that closes over another value is another condition.
"""

from __future__ import annotations

import functools
import types
from collections.abc import Mapping
from typing import Any

import attrs

from .plan import Plan


def same_plan(one: Plan, other: Plan) -> bool:
    """Whether two compiled graphs mean the same."""
    return one is other or _same(one.decl, other.decl, set())


def _same(one: Any, other: Any, seen: set[tuple[int, int]]) -> bool:
    if one is other:
        return True
    match one, other:
        case types.FunctionType(), types.FunctionType():
            # A function may close over itself. Only functions are noted: they live on, what is made here does not,
            # and another thing could have its identity next.
            pair = (id(one), id(other))
            again = pair in seen
            seen.add(pair)
            return again or _same_function(one, other, seen)
        case types.MethodType(), types.MethodType():
            return one.__self__ is other.__self__ and _same(one.__func__, other.__func__, seen)
        case functools.partial(), functools.partial():
            mine, theirs = (one.func, one.args, one.keywords), (other.func, other.args, other.keywords)
            return _same(mine, theirs, seen)
        case Plan(), Plan():
            return _same(one.decl, other.decl, seen)
        case ((tuple() | list()), (tuple() | list())):
            return len(one) == len(other) and all(_same(a, b, seen) for a, b in zip(one, other, strict=True))
        case Mapping(), Mapping():
            return list(one) == list(other) and all(_same(one[key], other[key], seen) for key in one)
    if type(one) is type(other) and attrs.has(type(one)):
        fields = [field.name for field in attrs.fields(type(one)) if field.eq]
        return all(_same(getattr(one, name), getattr(other, name), seen) for name in fields)
    return _equal(one, other)


def _same_function(one: types.FunctionType, other: types.FunctionType, seen: set[tuple[int, int]]) -> bool:
    cells = [[_contents(cell) for cell in function.__closure__ or ()] for function in (one, other)]
    return (
        one.__code__ == other.__code__
        and one.__module__ == other.__module__
        and _same(one.__defaults__, other.__defaults__, seen)
        and _same(one.__kwdefaults__, other.__kwdefaults__, seen)
        and _same(cells[0], cells[1], seen)
    )


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
