"""State inside a run: values per token, and who wrote what once a run has forked.

`StateType` is what the author's side hands over: how a node's input is made from
a run's values, and how its return value becomes an update.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Protocol

from .errors import StateFault, StateInvalid
from .values import Reducer, Update

Values = dict[str, Any]
"""A run's state as the machine holds it: one value per key."""


class StateType(Protocol):
    """A graph's state type, or a node's narrower view of it."""

    @property
    def reducers(self) -> Mapping[str, Reducer]:
        """The keys with a reducer."""

    def admit(self, state: Any) -> Values:
        """A new dict of the values of a state that comes from outside.

        Raises `StateInvalid` or `UnknownKey` with every fault and its path.
        """

    def seed(self, values: Values) -> Any:
        """What `admit` makes these very values of: where a state that was admitted before is to be begun on."""

    def give(self, values: Values) -> Any:
        """What one attempt of a node is given: a top level of its own, values shared (or copied, by isolation)."""

    def take(self, values: Values, given: Any, returned: Any) -> Update | None:
        """The update of an attempt that was given `give(values)` and returned `returned`; None if nothing changed.

        A mapping's own keys, then what was changed in place at the top level of
        `given`; or, of a whole state, the fields that differ, reducer keys among
        them as `Replace`. A reducer key whose value in a mapping is the very list,
        dict or set that the node was given is left out. Raises `UnknownKey`,
        `StateInvalid` or `StateMutated`. The update is not changed afterwards.
        """

    def build(self, values: Values) -> Any:
        """A whole state of this type, for conditions, routers, results: changing it changes no run."""

    def knows(self, key: str) -> bool:
        """May a state of this type have this key?"""

    def check(self, values: Mapping[str, Any], what: str = "the state") -> None:
        """Raise `StateInvalid` for values that do not fit their keys, every one with its path."""


_MISSING: Any = object()
_SHARED = (list, dict, set)


class DictState:
    """The state type of a plain `dict`: any keys, no types, perhaps reducers."""

    __slots__ = ("reducers",)

    def __init__(self, reducers: Mapping[str, Reducer] | None = None) -> None:
        self.reducers: Mapping[str, Reducer] = dict(reducers or {})

    def admit(self, state: Any) -> Values:
        if not isinstance(state, Mapping):
            fault = StateFault((), f"expected a dict, found {type(state).__name__}")
            raise StateInvalid.of("the state", [fault])
        return dict(state)

    def seed(self, values: Values) -> Any:
        return values

    def give(self, values: Values) -> Any:
        return values.copy()

    def take(self, values: Values, given: Any, returned: Any) -> Update | None:
        update: Values | None = None
        if len(given) < len(values):
            raise StateInvalid(f"keys cannot be removed: {sorted(values.keys() - given.keys())}")
        for key, value in given.items():
            if value is not values.get(key, _MISSING):
                if update is None:
                    update = {}
                update[key] = value
        if len(given) != len(values) and (gone := values.keys() - given.keys()):
            raise StateInvalid(f"keys cannot be removed: {sorted(gone)}")
        if returned is None or returned is given:
            return update
        if not isinstance(returned, Mapping):
            raise StateInvalid(f"a node returned {type(returned).__name__}, expected a mapping or None")
        if update is None and not self.reducers:
            return returned
        update = {**(update or {}), **returned}
        for key in self.reducers.keys() & update.keys():
            value = update[key]
            if isinstance(value, _SHARED) and value is values.get(key, _MISSING):
                del update[key]
        return update

    def build(self, values: Values) -> Any:
        return values.copy()

    def knows(self, key: str) -> bool:
        return True

    def check(self, values: Mapping[str, Any], what: str = "the state") -> None:
        """Everything fits."""
