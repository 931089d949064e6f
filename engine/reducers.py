"""Finding the reducer of a key in its annotation, and what is wrong with one, before and while it is used."""

from __future__ import annotations

import inspect
import typing
from typing import Any

import attrs

from .errors import StateMutated
from .fingerprint import fingerprint
from .named import REDUCERS
from .typecheck import shown
from .values import Reduce, Reducer


@attrs.frozen
class CheckedReducer:
    """A reducer that is found out when it changes what it is given, for `isolation="check"`."""

    key: str
    function: Reducer

    def __call__(self, value: Any, contribution: Any) -> Any:
        before = fingerprint(value), fingerprint(contribution)
        result = self.function(value, contribution)
        if before != (fingerprint(value), fingerprint(contribution)):
            raise StateMutated(None, self.key)
        return result


def annotated_reducer(tp: Any) -> Any:
    """The reducer in `Annotated[list, Reduce(f)]` or `Annotated[list, f]`; of several the last, or None.

    A class among the annotations is no reducer: other libraries put theirs there.
    """
    while typing.get_origin(tp) in (typing.Required, typing.NotRequired):
        tp = typing.get_args(tp)[0]
    if typing.get_origin(tp) is not typing.Annotated:
        return None
    found = None
    for note in tp.__metadata__:
        if isinstance(note, Reduce):
            found = note.function
        elif callable(note) and not isinstance(note, type):
            found = note
    return found


def by_name(reducer: Any) -> Any:
    """The reducer of a name, if it is a name that one has; else what was given."""
    return REDUCERS.get(reducer, reducer) if isinstance(reducer, str) else reducer


def reducer_fault(reducer: Any) -> str:
    """What is wrong with a reducer, as the end of a sentence, or an empty string."""
    if isinstance(reducer, str):
        return f"is called {reducer!r}, and no reducer is"
    if not callable(reducer):
        return f"is {shown(reducer)}, not a function"
    if inspect.iscoroutinefunction(reducer):
        return "is async; it must be a plain function"
    try:
        inspect.signature(reducer).bind(None, None)
    except TypeError:
        return f"({getattr(reducer, '__name__', reducer)}) does not take two arguments"
    except ValueError:
        # Some built-in functions have no signature to look at; they are taken at their word.
        return ""
    return ""
