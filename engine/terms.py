"""The closures that conditions are made of. Each reads a value off a state, or tells by its `fail` why it cannot.

A closure evaluates its parts before its own `try`, so that what fails in a part is told of that part. A `try` costs
nothing while nothing is raised.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Final, NoReturn, TypeVar

from .errors import ConditionFailed
from .operations import MISSING, Comparison, absent, item, named, seen

T = TypeVar("T")
Read = Callable[[Any], Any]
"""From a state to a value; for a path also to MISSING."""
Holds = Callable[[Any], bool]
Fail = Callable[[Exception | str], NoReturn]
"""Raises `ConditionFailed` for a place in the text."""


def guarded(holds: Callable[[Any], T], fail: Fail) -> Callable[[Any], T]:
    """The same, and whatever an object of the author's may raise in it is told as `ConditionFailed`."""

    def checked(state: Any) -> T:
        try:
            return holds(state)
        except ConditionFailed:
            raise
        except Exception as error:
            fail(error)

    return checked


# --- reading --------------------------------------------------------------------------------------------


def constant(value: Any) -> Read:
    """Always this value."""
    return lambda state: value


def itself(state: Any) -> Any:
    """The state."""
    return state


def key_of_state(name: str) -> Read:
    """What the state has under a name: what nearly every condition reads."""

    def find(state: Any) -> Any:
        return state.get(name, MISSING) if type(state) is dict else named(state, name)

    return find


def key_of(parent: Read, name: str) -> Read:
    """What the value of a path has under a name."""

    def find(state: Any) -> Any:
        value = parent(state)
        return value.get(name, MISSING) if type(value) is dict else named(value, name)

    return find


def item_of(parent: Read, index: Read) -> Read:
    """What the value of a path has at an index."""

    def find(state: Any) -> Any:
        value = parent(state)
        return MISSING if value is MISSING else item(value, index(state))

    return find


def absence(said: str, parent: Read, explain: Read | None, index: Read, fail: Fail) -> Read:
    """Tells why a path ends at this step, if it does not end before it already."""

    def tell(state: Any) -> NoReturn:
        value = parent(state)
        if value is MISSING and explain is not None:
            explain(state)
        fail(absent(said, value, index(state)))

    return tell


def present(find: Read, explain: Read, fail: Fail) -> Read:
    """The value of a path, which must be there."""

    def read(state: Any) -> Any:
        try:
            value = find(state)
        except ConditionFailed:
            raise
        except Exception as error:
            fail(error)
        if value is MISSING:
            explain(state)
        return value

    return read


def has(find: Read) -> Holds:
    """Whether a path can be read to its end."""

    def there(state: Any) -> bool:
        try:
            return find(state) is not MISSING
        except ConditionFailed:  # by an index within it
            return False

    return there


def get(find: Read, default: Read) -> Read:
    """The value of a path, or a default where it cannot be read."""

    def read(state: Any) -> Any:
        try:
            value = find(state)
        except ConditionFailed:
            value = MISSING
        return default(state) if value is MISSING else value

    return read


# --- truth ----------------------------------------------------------------------------------------------


def _is_true(value: Any, fail: Fail) -> bool:
    try:
        return bool(value)
    except Exception as error:
        fail(error)


def truth(read: Read, fail: Fail) -> Holds:
    """Whether a value counts as true."""

    def holds(state: Any) -> bool:
        value = read(state)
        return value if value is True or value is False else _is_true(value, fail)

    return holds


def negation(holds: Holds) -> Holds:
    """`not`."""
    return lambda state: not holds(state)


def conjunction(parts: Sequence[Holds]) -> Holds:
    """`and` of what is true or false."""
    if len(parts) == 2:
        first, second = parts
        return lambda state: first(state) and second(state)

    def holds(state: Any) -> bool:
        for part in parts:  # noqa: SIM110  # a generator takes three times as long
            if not part(state):
                return False
        return True

    return holds


def disjunction(parts: Sequence[Holds]) -> Holds:
    """`or` of what is true or false."""
    if len(parts) == 2:
        first, second = parts
        return lambda state: first(state) or second(state)

    def holds(state: Any) -> bool:
        for part in parts:  # noqa: SIM110  # likewise
            if part(state):
                return True
        return False

    return holds


def first_of(parts: Sequence[tuple[Read, Fail]], true: bool) -> Read:
    """The first value that counts as true (`or`), or as false (`and`); else the last."""
    *others, (last, _) = parts

    def read(state: Any) -> Any:
        for part, fail in others:
            value = part(state)
            if _is_true(value, fail) is true:
                return value
        return last(state)

    return read


def chosen(test: Holds, yes: Read, no: Read) -> Read:
    """`yes if test else no`."""
    return lambda state: yes(state) if test(state) else no(state)


# --- comparing ------------------------------------------------------------------------------------------

_BUILT_IN: Final = (bool, int, float, str, list, tuple, set, frozenset, dict, type(None))


def compared(left: Read, compare: Comparison, sign: str, right: Read, fail: Fail) -> Holds:
    """`left sign right`."""

    def holds(state: Any) -> bool:
        one, other = left(state), right(state)
        try:
            return bool(compare(one, other))
        except Exception as error:
            _incomparable(one, sign, other, error, fail)

    return holds


def compared_with(left: Read, compare: Comparison, sign: str, value: Any, fail: Fail) -> Holds:
    """The same with a constant on the right, as nearly every comparison has it."""

    def holds(state: Any) -> bool:
        one = left(state)
        try:
            return bool(compare(one, value))
        except Exception as error:
            _incomparable(one, sign, value, error, fail)

    return holds


def chained(first: Read, links: Sequence[tuple[Comparison, str, Read, Fail]]) -> Holds:
    """`0 < x < 1`: each value is read once, and none after what does not hold."""

    def holds(state: Any) -> bool:
        one = first(state)
        for compare, sign, read, fail in links:
            other = read(state)
            try:
                if not compare(one, other):
                    return False
            except Exception as error:
                _incomparable(one, sign, other, error, fail)
            one = other
        return True

    return holds


def _incomparable(one: Any, sign: str, other: Any, error: Exception, fail: Fail) -> NoReturn:
    if isinstance(error, TypeError) and type(one) in _BUILT_IN and type(other) in _BUILT_IN:
        fail(f"cannot tell whether {seen(one)} {sign} {seen(other)}")
    fail(error)


# --- calling --------------------------------------------------------------------------------------------


def applied(function: Callable[..., Any], arguments: Sequence[Read], fail: Fail) -> Read:
    """`function(*arguments)`."""
    if len(arguments) == 1:
        (only,) = arguments

        def read_one(state: Any) -> Any:
            value = only(state)
            try:
                return function(value)
            except Exception as error:
                fail(error)

        return read_one

    def read(state: Any) -> Any:
        values = [argument(state) for argument in arguments]
        try:
            return function(*values)
        except Exception as error:
            fail(error)

    return read


def display(make: type[list[Any]] | type[tuple[Any, ...]], parts: Sequence[Read]) -> Read:
    """`[a, b]` or `(a, b)`."""
    return lambda state: make([part(state) for part in parts])
