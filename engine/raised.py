"""Errors as data and back: of the same class where it can be had, and with the same text in any case.

An error comes back without its constructor having run: its class is found by name among those imported, the built-in
class that it extends makes the object from its `args`, and its attributes are put into it. If what comes out does not
say what the original said, or there is no such class, a `RecordedError` that bears its name stands in. To be recorded
never fails: what cannot be kept of an error is kept as its `repr`. Tracebacks are not kept.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from types import GetSetDescriptorType, MemberDescriptorType
from typing import Any, Final

import attrs

from .classes import class_named, name_of
from .errors import Damaged, RecordedError
from .typecheck import shown

Keep = Callable[[Any], Any]
"""What a value is as JSON; raises if it cannot be kept."""
Restore = Callable[[Any], Any]

# Of the errors that an error is caused by, or groups: how deep, how many in a group, how many altogether.
# What lies beyond is kept without its own causes and members.
MOST_DEEP: Final = 50
MOST_MEMBERS: Final = 1_000
MOST_ERRORS: Final = 2_000
# Of the `repr` of what cannot be kept.
MOST_CHARACTERS: Final = 1_000


def error_as_data(error: BaseException, keep: Keep) -> dict[str, Any]:
    """What an error is as JSON. Never raises."""
    return _Recorder(keep).data(error, ())


def error_from_data(data: Any, restore: Restore) -> BaseException:
    """The error of what `error_as_data` gave. Raises `Damaged`."""
    if type(data) is not dict or type(data.get("type")) is not str:
        raise Damaged(f"a stored error is {shown(data)}, expected an object with a type")
    name, args = data["type"], data.get("args")
    values = None if args is None else [restore(arg) for arg in args]
    said = restore(data["said"]) if "said" in data else values[0] if values else ""
    members = [error_from_data(member, restore) for member in data.get("members", ())]
    facts = {key: restore(fact) for key, fact in data.get("facts", {}).items()}
    error = None if values is None else _rebuilt(name, values, members, facts, said)
    if error is None:
        error = RecordedError.of(name, said)
        for member in members:
            error.add_note(f"with {type(member).__name__}: {member}")
    for note in data.get("notes", ()):
        error.add_note(restore(note))
    if "cause" in data:
        error.__cause__ = error_from_data(data["cause"], restore)
    elif "context" in data:
        error.__context__ = error_from_data(data["context"], restore)
    error.__suppress_context__ = "cause" in data or bool(data.get("alone"))
    return error


# --- writing --------------------------------------------------------------------------------------------


class _Recorder:
    """Takes one error apart, with all that hangs on it."""

    def __init__(self, keep: Keep) -> None:
        self._keep = keep
        self._left = MOST_ERRORS

    def data(self, error: BaseException, above: tuple[int, ...]) -> dict[str, Any]:
        self._left -= 1
        said = _said(error)
        if isinstance(error, RecordedError):
            data = {"type": error.type_name, "said": self._kept(said)}
        elif len(above) > MOST_DEEP or self._left < 0:
            return {"type": name_of(type(error)), "said": self._kept(said)}
        else:
            try:
                data = self._own(error, said, (*above, id(error)))
            except Exception:  # from looking at the author's objects
                data = {"type": name_of(type(error)), "said": self._kept(said)}
        notes = getattr(error, "__notes__", None)
        if isinstance(notes, list):
            data["notes"] = [self._kept(note if type(note) is str else _repr(note)) for note in notes]
        self._add_chain(data, error, (*above, id(error)))
        return data

    def _own(self, error: BaseException, said: str, above: tuple[int, ...]) -> dict[str, Any]:
        data: dict[str, Any] = {"type": name_of(type(error))}
        args, facts = _parts_of(error)
        data["args"] = [self._kept(arg) for arg in args]
        if [said] != args:
            data["said"] = self._kept(said)
        if facts:
            data["facts"] = {name: self._kept(fact) for name, fact in facts.items()}
        if isinstance(error, BaseExceptionGroup):
            data["members"] = [self.data(member, above) for member in error.exceptions[:MOST_MEMBERS]]
        return data

    def _add_chain(self, data: dict[str, Any], error: BaseException, above: tuple[int, ...]) -> None:
        cause, context = error.__cause__, error.__context__
        if cause is not None:
            if id(cause) not in above:
                data["cause"] = self.data(cause, above)
        elif error.__suppress_context__:
            data["alone"] = True
        elif context is not None and id(context) not in above:
            data["context"] = self.data(context, above)

    def _kept(self, value: Any) -> Any:
        try:
            return self._keep(value)
        except Exception:  # whatever the author's objects raise when they are looked at
            if type(value) in (tuple, list):
                parts = type(value)([part if self._can_be_kept(part) else _repr(part) for part in value])
                if self._can_be_kept(parts):
                    return self._keep(parts)
            return self._keep(_repr(value))

    def _can_be_kept(self, value: Any) -> bool:
        try:
            self._keep(value)
        except Exception:
            return False
        return True


def _parts_of(error: BaseException) -> tuple[list[Any], dict[str, Any]]:
    """What its built-in class is made from, and its attributes."""
    if isinstance(error, BaseExceptionGroup):
        args, state = (error.message,), vars(error)
    else:
        # As pickle has it, but of the built-in class: an own `__reduce__` is code of the author's.
        reduced: Any = _built_in(type(error)).__reduce__(error)
        _, args, *states = reduced
        state = states[0] if states and isinstance(states[0], dict) else {}
    facts = {name: fact for name, fact in state.items() if name.isidentifier() and not name.startswith("__")}
    cls: Any = type(error)
    if attrs.has(cls):
        for field in attrs.fields(cls):
            if hasattr(error, field.name):
                facts[field.name] = getattr(error, field.name)
    return list(args), facts


def _built_in(cls: type[BaseException]) -> type[BaseException]:
    return next(base for base in cls.__mro__ if base.__module__ == "builtins")


def _said(error: BaseException) -> str:
    try:
        return str(error)
    except Exception as raised:
        return f"<{type(error).__name__} whose str raised {type(raised).__name__}>"


def _repr(value: Any) -> str:
    try:
        return repr(value)[:MOST_CHARACTERS]
    except Exception as raised:
        return f"<{type(value).__name__} whose repr raised {type(raised).__name__}>"


# --- reading --------------------------------------------------------------------------------------------


def _rebuilt(
    name: str,
    args: Sequence[Any],
    members: Sequence[BaseException],
    facts: Mapping[str, Any],
    said: str,
) -> BaseException | None:
    """The error as it was, or None if it cannot be had."""
    cls = class_named(name)
    if cls is None or not issubclass(cls, BaseException):
        return None
    base = _built_in(cls)
    parts = (*args, members) if issubclass(cls, BaseExceptionGroup) else args
    try:
        error = base.__new__(cls, *parts)
        base.__init__(error, *parts)
        for key, fact in facts.items():
            _put(error, key, fact)
        return error if type(error) is cls and str(error) == said else None
    except Exception:
        return None


def _put(error: BaseException, name: str, fact: Any) -> None:
    """Set an attribute, without any code of the class's own."""
    found = next((vars(cls)[name] for cls in type(error).__mro__ if name in vars(cls)), None)
    if type(found) in (MemberDescriptorType, GetSetDescriptorType) and not name.startswith("__"):
        object.__setattr__(error, name, fact)
    else:
        vars(error)[name] = fact
