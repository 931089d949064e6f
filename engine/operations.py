"""What a condition can do with values: read a key or an item, compare, calculate, call a function.

All of it is decided by the types of the values, so nothing that an object says of itself (an attribute, a method, a
property of no declared field) is asked. Only three things run code of a value's own class: comparing it, asking whether
it is true, and reading a declared field of it; that is how dates compare. (A class that extends a list or a mapping is
also asked for its length and items.) Everything takes time linear in the values it is given at most, and what it makes
is bounded, whatever a state holds.

`Refused` says why something cannot be done with the values found; whoever calls knows where in the text that is.
"""

from __future__ import annotations

import dataclasses
import functools
import operator
from collections.abc import Callable, Mapping
from typing import Any, Final

import attrs

from .kinds import ANYTHING, FILLED, INTEGER, NUMBER, STRING, Kind, either
from .schema import did_you_mean

# The bounds of what is made. A product of two integers takes no time at this size, and an id of 128 bits fits easily.
INTEGER_BITS: Final = 256
MOST_ITEMS: Final = 100_000
"""The longest text or list that is put together."""
MOST_DIGITS: Final = 100
"""Of `round(x, digits)`; for 10**9 of them Python would make that number."""

MISSING: Final[Any] = attrs.NOTHING

_TOO_LARGE: Final = 1 << INTEGER_BITS
_FILLED: Final = (list, tuple, set, frozenset)
_SIZED: Final = (str, *_FILLED, Mapping)
_MOST_NEAR: Final = 100
"""Among how many keys of a mapping a similar one is looked for, and of how many characters."""


class Refused(Exception):
    """Why something cannot be done with these values."""


def seen(value: Any) -> str:
    """A value for a message. Nothing of its own class is run, and it is short however large the value is."""
    cls = type(value)
    if cls is int and abs(value) >= _TOO_LARGE:
        return f"an integer of {value.bit_length()} bits"
    if cls in (bool, int, float, type(None)):
        return repr(value)
    if cls is str:
        return repr(value) if len(value) <= 40 else f"{value[:37]!r}..."
    if cls in (list, tuple, set, frozenset, dict):
        size = len(value)
        return f"a {cls.__name__} of {size} item{'s' * (size != 1)}" if size else f"an empty {cls.__name__}"
    return f"an object of the class {cls.__name__!r}"


# --- reading --------------------------------------------------------------------------------------------


@functools.lru_cache(maxsize=1024)
def fields_of(cls: type) -> frozenset[str]:
    """The fields of an attrs class or a dataclass that may be read: those declared, but for private ones."""
    names: list[str] = []
    if attrs.has(cls):
        names = [field.name for field in attrs.fields(cls)]
    elif dataclasses.is_dataclass(cls):
        names = [field.name for field in dataclasses.fields(cls)]
    return frozenset(name for name in names if not name.startswith("_"))


def named(value: Any, name: str) -> Any:
    """What a mapping or an object has under this name, or MISSING."""
    cls: Any = type(value)
    if issubclass(cls, dict):
        # Not `value[name]`: a defaultdict would make it.
        return dict.get(value, name, MISSING)
    if name in fields_of(cls):
        return getattr(value, name, MISSING)
    if issubclass(cls, Mapping):
        try:
            return value[name]
        except KeyError:
            return MISSING
    return MISSING


def item(value: Any, index: Any) -> Any:
    """`value[index]`, or MISSING."""
    cls = type(value)
    if type(index) is str:
        return named(value, index)
    if issubclass(cls, list | tuple | str):
        return value[index] if type(index) is int and -len(value) <= index < len(value) else MISSING
    if issubclass(cls, dict):
        try:
            return dict.get(value, index, MISSING)
        except TypeError:  # of an index that cannot be hashed
            return MISSING
    return MISSING


def absent(said: str, value: Any, index: Any) -> str:
    """Why there is nothing under a name or an index of a value, which the text calls `said`."""
    cls: Any = type(value)
    if issubclass(cls, list | tuple | str) and type(index) is int:
        return f"{said} is {seen(value)}, so there is no [{index}]"
    names: list[str] | None = None
    if issubclass(cls, dict):
        names = [name for name in dict.keys(value) if type(name) is str and len(name) <= _MOST_NEAR]
        names = names if len(names) <= _MOST_NEAR else []
    elif fields_of(cls):
        names = sorted(fields_of(cls))
    if names is None:
        return f"{said} is {seen(value)}, which has no {seen(index)}"
    hint = did_you_mean(index, names) if type(index) is str else ""
    return f"{said} has no {seen(index)}" + (f", {hint}" if hint else "")


# --- comparing ------------------------------------------------------------------------------------------


def contains(value: Any, found: Any) -> bool:
    """`value in found`."""
    cls = type(found)
    if not issubclass(cls, _SIZED):
        raise Refused(f"nothing is in {seen(found)}")
    if issubclass(cls, str) and not issubclass(type(value), str):
        raise Refused(f"only a text is in a text, found {seen(value)}")
    return value in found


def contains_not(value: Any, found: Any) -> bool:
    """`value not in found`."""
    return not contains(value, found)


Comparison = Callable[[Any, Any], Any]

ORDERS: Final[Mapping[str, Comparison]] = {
    "<": operator.lt,
    "<=": operator.le,
    ">": operator.gt,
    ">=": operator.ge,
}
EQUALITIES: Final[Mapping[str, Comparison]] = {"==": operator.eq, "!=": operator.ne}
MEMBERSHIPS: Final[Mapping[str, Comparison]] = {"in": contains, "not in": contains_not}


# --- calculating ----------------------------------------------------------------------------------------


def number(value: Any) -> int | float:
    """A number that is bounded, of a built-in type; True is none."""
    cls = type(value)
    if cls is float:
        return value  # type: ignore[no-any-return]
    if cls is not int:
        if issubclass(cls, float):
            return float.__float__(value)
        if cls is bool or not issubclass(cls, int):
            raise Refused(f"{seen(value)} is no number")
        value = int.__int__(value)
    if -_TOO_LARGE < value < _TOO_LARGE:
        return value  # type: ignore[no-any-return]
    raise Refused(f"{seen(value)} is too large to calculate with, {INTEGER_BITS} bits are allowed")


def _calculate(apply: Callable[[Any, Any], Any]) -> Callable[[Any, Any], int | float]:
    def calculated(left: Any, right: Any) -> int | float:
        return number(apply(number(left), number(right)))

    return calculated


def _add(left: Any, right: Any) -> Any:
    for joined in (str, list, tuple):
        if issubclass(type(left), joined) and issubclass(type(right), joined):
            if len(left) + len(right) > MOST_ITEMS:
                raise Refused(f"the sum would be longer than {MOST_ITEMS:,}")
            return joined.__add__(left, right)
    return number(number(left) + number(right))


CALCULATIONS: Final[Mapping[str, Callable[[Any, Any], Any]]] = {
    "+": _add,
    "-": _calculate(operator.sub),
    "*": _calculate(operator.mul),
    "/": _calculate(operator.truediv),
    "//": _calculate(operator.floordiv),
    "%": _calculate(operator.mod),
}


def minus(value: Any) -> int | float:
    """`-value`."""
    return -number(value)


# --- functions ------------------------------------------------------------------------------------------


def _filled(value: Any) -> Any:
    if not issubclass(type(value), _FILLED):
        raise Refused(f"expected a list, found {seen(value)}")
    return value


def _text(value: Any) -> str:
    if not issubclass(type(value), str):
        raise Refused(f"expected a text, found {seen(value)}")
    return value  # type: ignore[no-any-return]


def _size(value: Any) -> int:
    if not issubclass(type(value), _SIZED):
        raise Refused(f"{seen(value)} has no length")
    return len(value)


def _extreme(name: str, pick: Callable[..., Any]) -> Callable[..., Any]:
    def picked(*values: Any) -> Any:
        if len(values) == 1 and not _filled(values[0]):
            raise Refused(f"{seen(values[0])} has no {name}")
        return pick(*values)

    return picked


def _round(value: Any, digits: Any = None) -> int | float:
    if digits is None:
        return number(round(number(value)))
    if type(digits) is not int or abs(digits) > MOST_DIGITS:
        raise Refused(f"the digits are an integer up to {MOST_DIGITS}, found {seen(digits)}")
    return number(round(number(value), digits))


BOOLEAN: Final = Kind(frozenset({"boolean"}))
_INTEGER: Final = Kind(INTEGER)
_STRING: Final = Kind(STRING)
SIZED: Final = STRING | FILLED | {"object"}


@attrs.frozen
class Function:
    """A function of conditions: how many arguments, what they may be, and what comes out."""

    run: Callable[..., Any]
    takes: tuple[frozenset[str], ...]
    gives: Callable[[list[Kind]], Kind]
    fewest: int = 1
    most: int | None = 1
    example: str = ""


def _extreme_kind(arguments: list[Kind]) -> Kind:
    if len(arguments) > 1:
        return either(arguments)
    return arguments[0].items() if arguments[0].items else ANYTHING


def _number_kind(arguments: list[Kind]) -> Kind:
    return Kind(arguments[0].may_be & NUMBER)


FUNCTIONS: Final[Mapping[str, Function]] = {
    "len": Function(_size, (SIZED,), lambda _: _INTEGER, example="len(state.rows)"),
    "min": Function(_extreme("smallest", min), (FILLED,), _extreme_kind, most=None, example="min(state.scores)"),
    "max": Function(_extreme("largest", max), (FILLED,), _extreme_kind, most=None, example="max(state.scores)"),
    "abs": Function(lambda value: abs(number(value)), (NUMBER,), _number_kind, example="abs(state.change)"),
    "round": Function(
        _round,
        (NUMBER, INTEGER),
        lambda arguments: _INTEGER if len(arguments) == 1 else _number_kind(arguments),
        most=2,
        example="round(state.score, 2)",
    ),
    "any": Function(lambda value: any(_filled(value)), (FILLED,), lambda _: BOOLEAN, example="any(state.flags)"),
    "all": Function(lambda value: all(_filled(value)), (FILLED,), lambda _: BOOLEAN, example="all(state.flags)"),
    "lower": Function(lambda value: str.lower(_text(value)), (STRING,), lambda _: _STRING, example="lower(state.name)"),
    "upper": Function(lambda value: str.upper(_text(value)), (STRING,), lambda _: _STRING, example="upper(state.name)"),
    "startswith": Function(
        lambda value, start: str.startswith(_text(value), _text(start)),
        (STRING, STRING),
        lambda _: BOOLEAN,
        fewest=2,
        most=2,
        example='startswith(state.name, "a")',
    ),
    "endswith": Function(
        lambda value, end: str.endswith(_text(value), _text(end)),
        (STRING, STRING),
        lambda _: BOOLEAN,
        fewest=2,
        most=2,
        example='endswith(state.name, "a")',
    ),
}
