"""States of graphs through which files travel: the same types as ever, which do not show what is carried beside them.

The files of a token are under a key of its values (carried.py). Whoever gets a state made of those values (a node, a
condition, a caller) gets it without that key; what a node made comes back as an update of it.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import cache
from typing import Any, TypeVar

import attrs

from .carried import FILES, Carried, without_files
from .errors import StateFault, StateInvalid
from .schema import Schema
from .state import StateType, Values
from .values import Reducer

T = TypeVar("T")


@attrs.frozen(eq=False)
class Seed:
    """Values that were admitted before, with the files that come with them."""

    values: Values


@attrs.frozen(eq=False)
class Produced:
    """What a node returned, its files apart: None if it says of none that it makes them, and passes on what came."""

    update: Any
    files: tuple[Carried, ...] | None


def with_files(schema: Schema) -> Schema:
    """The same state type for a graph through which files travel."""
    made = schema.evolve()
    kind: Any = type(schema)
    made.__class__ = _carrying(kind)
    return made


@cache
def _carrying(kind: Any) -> Any:
    return type(f"Carrying{kind.__name__}", (_Carrying, kind), {})


class _Carrying(Schema):
    """Put before a kind of schema: keeps the files out of what that one sees."""

    def admit(self, state: Any) -> Values:
        if isinstance(state, Seed):
            return state.values
        if isinstance(state, Mapping) and FILES in state:
            given = state[FILES]
            if not isinstance(given, tuple):
                # Only the engine puts files there, for itself.
                raise StateInvalid.of("the initial state", [StateFault((FILES,), "the key is the engine's own")])
            return {**super().admit({key: value for key, value in state.items() if key != FILES}), FILES: given}
        return super().admit(state)

    def seed(self, values: Values) -> Any:
        return Seed(values)

    def build(self, values: Values) -> Any:
        return super().build(without_files(values))

    def visible(self, values: Values) -> Values:
        return super().visible(without_files(values))

    def take(self, values: Values, given: Any, returned: Any) -> Values | None:
        return _own(super().take(without_files(values), given, returned))

    def knows(self, key: str) -> bool:
        return key == FILES or super().knows(key)

    def _fitting(self, values: Values, update: Values) -> Values:
        return super()._fitting(without_files(values), update)


def _own(update: T) -> T:
    """An update of an author's, who must not set what the engine carries."""
    if isinstance(update, Mapping) and FILES in update:
        raise StateInvalid.of("the update", [StateFault((FILES,), "the key is the engine's own")])
    return update


class FilesInput:
    """What a node of such a graph is given, and how what it returned becomes an update."""

    def __init__(self, inner: Any) -> None:
        self.narrow = getattr(inner, "narrow", inner)
        self._inner: StateType = inner
        self.reducers: Mapping[str, Reducer] = inner.reducers

    def admit(self, state: Any) -> Values:
        return self._inner.admit(state)

    def seed(self, values: Values) -> Any:
        return self._inner.seed(values)

    def build(self, values: Values) -> Any:
        return self._inner.build(without_files(values))

    def give(self, values: Values) -> Any:
        return self._inner.give(without_files(values))

    def take(self, values: Values, given: Any, returned: Any) -> Mapping[str, Any] | None:
        seen = without_files(values)
        if type(returned) is not Produced:
            return _own(self._inner.take(seen, given, returned))
        update = _own(self._inner.take(seen, given, returned.update))
        if returned.files is None:
            return update
        return {**(update or {}), FILES: returned.files}

    def knows(self, key: str) -> bool:
        return self._inner.knows(key)

    def check(self, values: Mapping[str, Any], what: str = "the state") -> None:
        self._inner.check(values, what)
