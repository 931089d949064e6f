"""Does a value fit a type? Strictly, with the path of every fault, and without changing anything.

A type is turned once into a function `check(value, path, faults)`; `None` stands
for a type that everything fits. Nothing is coerced: 1.9 is no `int`, "5" is no
`int`, and `True` is no `int` either, since in JSON they are different things.
The one widening is the one every type checker makes: an `int` fits `float`.

Rejected: cattrs, which converts (1.9 becomes 1) unless every hook is replaced,
and stops at the first fault of a container.
"""

from __future__ import annotations

import collections.abc
import dataclasses
import enum
import inspect
import sys
import types
import typing
from collections.abc import Callable
from typing import Any

import attrs

from .errors import Path, StateFault

Check = Callable[[Any, Path, list[StateFault]], None]

_NUMBERS: dict[type, tuple[type, ...]] = {float: (float, int), complex: (complex, float, int)}
_ANYTHING = (Any, object, typing.Never, typing.NoReturn)


def type_name(tp: Any) -> str:
    """A type as its author wrote it: `list[str] | None`."""
    if tp is type(None):
        return "None"
    if typing.get_origin(tp) is typing.Annotated:
        return type_name(typing.get_args(tp)[0])
    if is_union(tp):
        return " | ".join(type_name(arg) for arg in typing.get_args(tp))
    if isinstance(tp, type) and not isinstance(tp, types.GenericAlias):
        return tp.__name__
    origin: Any = typing.get_origin(tp)
    args = typing.get_args(tp)
    if isinstance(origin, type) and args and origin is not collections.abc.Callable:
        # As written, and without the modules that `str` puts before the names of classes.
        return f"{origin.__name__}[{', '.join('...' if arg is ... else type_name(arg) for arg in args)}]"
    return str(tp).replace("typing.", "")


def is_union(tp: Any) -> bool:
    return typing.get_origin(tp) in (typing.Union, types.UnionType)


def unwrap(tp: Any) -> Any:
    """The type below `Annotated`, `Required`, `NotRequired`, `ReadOnly`-likes, `Final` and `NewType`."""
    while True:
        origin = typing.get_origin(tp)
        if origin in (typing.Annotated, typing.Required, typing.NotRequired, typing.Final, typing.ClassVar):
            tp = typing.get_args(tp)[0]
        elif hasattr(tp, "__supertype__"):
            tp = tp.__supertype__
        elif hasattr(tp, "__value__") and hasattr(tp, "__type_params__"):
            tp = tp.__value__
        else:
            return tp


def shown(value: Any) -> str:
    """A value for a message: short, with its type, whatever its `repr` does."""
    if value is None:
        return "None"
    try:
        text = repr(value)
    except Exception:
        return f"a {type(value).__name__}"
    if len(text) > 60:
        text = text[:57] + "..."
    return f"{text} ({type(value).__name__})"


class Checks:
    """Makes checks and remembers them, so that a type that contains itself ends."""

    def __init__(self) -> None:
        self._made: dict[Any, Check | None] = {}

    def of(self, tp: Any) -> Check | None:
        """The check for this type, or None if every value fits it."""
        tp = unwrap(tp)
        try:
            if tp in self._made:
                return self._made[tp]
        except TypeError:
            return self._make(tp)
        # A type that contains itself finds this stand-in meanwhile, which looks again when it is used.
        self._made[tp] = lambda *found: self._later(tp, *found)
        check = self._made[tp] = self._make(tp)
        return check

    def _later(self, tp: Any, value: Any, path: Path, faults: list[StateFault]) -> None:
        if check := self._made[tp]:
            check(value, path, faults)

    def _make(self, tp: Any) -> Check | None:
        if tp in _ANYTHING or isinstance(tp, typing.TypeVar | str | typing.ForwardRef):
            return None
        if tp is None:
            tp = type(None)
        if is_union(tp):
            return self._union(tp)
        origin = typing.get_origin(tp)
        if origin is typing.Literal:
            return _literal(tp)
        if origin is not None:
            return self._generic(tp, origin, typing.get_args(tp))
        if typing.is_typeddict(tp):
            return self._typed_dict(tp)
        if isinstance(tp, type):
            return self._class(tp)
        return None

    def _class(self, tp: type) -> Check | None:
        if getattr(tp, "_is_protocol", False) and not getattr(tp, "_is_runtime_protocol", False):
            return None
        if issubclass(tp, int) and tp is int:
            return _expect(tp, lambda value: isinstance(value, int) and not isinstance(value, bool))
        if tp in _NUMBERS:
            numbers = _NUMBERS[tp]
            return _expect(tp, lambda v: isinstance(v, numbers) and not isinstance(v, bool))
        plain = _expect(tp, lambda value: isinstance(value, tp))
        if attrs.has(tp) or dataclasses.is_dataclass(tp):
            return self._fields(tp, plain)
        return plain

    def _fields(self, tp: type, plain: Check) -> Check:
        """A nested attrs or data class: its type first, then each field, which it did not check itself."""
        hints = safe_hints(tp)
        names = [f.name for f in (attrs.fields(tp) if attrs.has(tp) else dataclasses.fields(tp))]
        checks = {name: check for name in names if (check := self.of(hints.get(name, Any)))}

        def check_fields(value: Any, path: Path, faults: list[StateFault]) -> None:
            before = len(faults)
            plain(value, path, faults)
            if len(faults) == before:
                for name, check in checks.items():
                    if hasattr(value, name):
                        check(getattr(value, name), (*path, name), faults)

        return check_fields

    def _typed_dict(self, tp: Any) -> Check:
        hints = safe_hints(tp)
        checks = {name: self.of(hint) for name, hint in hints.items()}
        required = required_keys(tp, hints)

        def check_keys(value: Any, path: Path, faults: list[StateFault]) -> None:
            if not isinstance(value, collections.abc.Mapping):
                faults.append(StateFault(path, f"expected {tp.__name__} (a dict), found {shown(value)}"))
                return
            for name in sorted(required - value.keys()):
                faults.append(StateFault((*path, name), "missing"))
            for name, item in value.items():
                if name not in checks:
                    faults.append(StateFault((*path, str(name)), f"{tp.__name__} has no such key"))
                elif check := checks[name]:
                    check(item, (*path, name), faults)

        return check_keys

    def _union(self, tp: Any) -> Check | None:
        members = [self.of(arg) for arg in typing.get_args(tp)]
        if None in members:
            return None
        checks = typing.cast(list[Check], members)
        some = [check for check, arg in zip(checks, typing.get_args(tp), strict=True) if arg is not type(None)]
        name = type_name(tp)

        def check_union(value: Any, path: Path, faults: list[StateFault]) -> None:
            best: list[StateFault] = []
            for check in checks:
                found: list[StateFault] = []
                check(value, path, found)
                if not found:
                    return
                # A member that failed inside the value says more than "is none of them".
                if len(found[0].path) > len(path) and (not best or len(some) == 1):
                    best = found
            faults.extend(best or [StateFault(path, f"expected {name}, found {shown(value)}")])

        return check_union

    def _generic(self, tp: Any, origin: Any, args: tuple[Any, ...]) -> Check | None:
        if not isinstance(origin, type):
            return None
        if origin is collections.abc.Callable:
            return _expect(tp, callable)
        if origin is type:
            return _expect(tp, lambda value: isinstance(value, type))
        plain = self._class(origin) or _expect(tp, lambda value: True)
        if origin is tuple:
            return self._tuple(tp, args)
        if issubclass(origin, collections.abc.Mapping) and len(args) == 2:
            return self._mapping(plain, *map(self.of, args))
        if issubclass(origin, collections.abc.Collection) and len(args) == 1:
            return _items(plain, self.of(args[0]))
        return plain

    def _tuple(self, tp: Any, args: tuple[Any, ...]) -> Check:
        is_tuple = _expect(tp, lambda value: isinstance(value, tuple))
        if len(args) == 2 and args[1] is Ellipsis:
            return _items(is_tuple, self.of(args[0]))
        right = _expect(tp, lambda value: isinstance(value, tuple) and len(value) == len(args))
        checks = [self.of(arg) for arg in args]

        def check_tuple(value: Any, path: Path, faults: list[StateFault]) -> None:
            before = len(faults)
            right(value, path, faults)
            if len(faults) == before:
                for index, (item, check) in enumerate(zip(value, checks, strict=True)):
                    if check:
                        check(item, (*path, index), faults)

        return check_tuple

    def _mapping(self, plain: Check, keys: Check | None, values: Check | None) -> Check:
        def check_mapping(value: Any, path: Path, faults: list[StateFault]) -> None:
            before = len(faults)
            plain(value, path, faults)
            if len(faults) > before:
                return
            for key, item in value.items():
                place = (*path, key if isinstance(key, int) else str(key))
                if keys:
                    keys(key, place, faults)
                if values:
                    values(item, place, faults)

        return check_mapping if keys or values else plain


def _expect(tp: Any, holds: Callable[[Any], bool]) -> Check:
    def check(value: Any, path: Path, faults: list[StateFault]) -> None:
        if not holds(value):
            faults.append(StateFault(path, f"expected {describe(tp)}, found {shown(value)}"))

    return check


def describe(tp: Any) -> str:
    """A type's name, with the choices of an enum."""
    if isinstance(tp, type) and issubclass(tp, enum.Enum):
        members = ", ".join(member.name for member in list(tp)[:8])
        return f"{tp.__name__} (one of {members})"
    return type_name(tp)


def _literal(tp: Any) -> Check:
    choices = typing.get_args(tp)

    def check(value: Any, path: Path, faults: list[StateFault]) -> None:
        if not any(type(value) is type(choice) and value == choice for choice in choices):
            expected = " | ".join(map(repr, choices))
            faults.append(StateFault(path, f"expected {expected}, found {shown(value)}"))

    return check


def _items(plain: Check, item_check: Check | None) -> Check:
    def check(value: Any, path: Path, faults: list[StateFault]) -> None:
        before = len(faults)
        plain(value, path, faults)
        if len(faults) > before or item_check is None or isinstance(value, str | bytes):
            return
        for index, item in enumerate(value):
            item_check(item, (*path, index), faults)

    return check


def safe_hints(tp: Any, names: dict[str, Any] | None = None) -> dict[str, Any]:
    """The annotations of a class; one that cannot be resolved stays as the string it was written as."""
    try:
        return typing.get_type_hints(tp, localns=names, include_extras=True)
    except Exception:
        return _hints_one_by_one(tp, names)


def required_keys(tp: Any, hints: dict[str, Any]) -> frozenset[str]:
    """The keys that a `TypedDict` must have; Python itself does not know where annotations are strings."""
    required = set(tp.__required_keys__)
    for name, hint in hints.items():
        while typing.get_origin(hint) is typing.Annotated:
            hint = typing.get_args(hint)[0]
        if typing.get_origin(hint) is typing.NotRequired:
            required.discard(name)
        elif typing.get_origin(hint) is typing.Required:
            required.add(name)
    return frozenset(required)


def _hints_one_by_one(tp: Any, names: dict[str, Any] | None) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for base in reversed(getattr(tp, "__mro__", (tp,))):
        scope = {**vars(sys.modules.get(base.__module__, typing)), **(names or {}), base.__name__: base}
        for name, hint in inspect.get_annotations(base).items():
            probe = type("probe", (), {"__annotations__": {name: hint}})
            try:
                found[name] = typing.get_type_hints(probe, scope, scope, include_extras=True)[name]
            except Exception:
                found[name] = hint.__forward_arg__ if isinstance(hint, typing.ForwardRef) else hint
    return found


# --- can a value of one type be given where another is expected? ----------------------------------------


def fits(given: Any, expected: Any) -> bool:
    """Whether what is declared as `given` may be read as `expected`; only plain contradictions are not."""
    given, expected = unwrap(given), unwrap(expected)
    if given == expected or _open(given) or _open(expected):
        return True
    if is_union(given):
        return any(fits(arg, expected) for arg in typing.get_args(given))
    if is_union(expected):
        return any(fits(given, arg) for arg in typing.get_args(expected))
    if typing.Literal in (typing.get_origin(given), typing.get_origin(expected)):
        return _literals_fit(given, expected)
    one, other = _class_of(given), _class_of(expected)
    if one is None or other is None:
        return True
    if typing.is_typeddict(given) and typing.is_typeddict(expected):
        return True
    if other in _NUMBERS and one in _NUMBERS[other]:
        return True
    if one is bool and other is int:
        return False
    related = issubclass(one, other) or issubclass(other, one)
    if not related:
        # Two classes that are not final might still have a common subclass; built-in values have not.
        return not _solid(one) and not _solid(other)
    return _args_fit(given, expected)


def _open(tp: Any) -> bool:
    return tp in _ANYTHING or isinstance(tp, str | typing.TypeVar | typing.ForwardRef)


def _class_of(tp: Any) -> type | None:
    if tp is None:
        return type(None)
    if typing.is_typeddict(tp):
        return dict
    tp = typing.get_origin(tp) or tp
    return tp if isinstance(tp, type) else None


_SOLID = (int, float, complex, str, bytes, list, dict, set, frozenset, tuple, type(None))


def _solid(tp: type) -> bool:
    return issubclass(tp, _SOLID) or attrs.has(tp) or dataclasses.is_dataclass(tp) or issubclass(tp, enum.Enum)


def _args_fit(given: Any, expected: Any) -> bool:
    mine, theirs = typing.get_args(given), typing.get_args(expected)
    if not mine or not theirs or len(mine) != len(theirs):
        return True
    return all(fits(a, b) for a, b in zip(mine, theirs, strict=True) if a is not ... and b is not ...)


def _literals_fit(given: Any, expected: Any) -> bool:
    def values(tp: Any) -> tuple[Any, ...] | None:
        return typing.get_args(tp) if typing.get_origin(tp) is typing.Literal else None

    mine, theirs = values(given), values(expected)
    if mine is not None and theirs is not None:
        return any(type(a) is type(b) and a == b for a in mine for b in theirs)
    choices, other = (mine, expected) if mine is not None else (theirs, given)
    return any(fits(type(choice), other) for choice in choices or ())
