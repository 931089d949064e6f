"""Views: a node's narrower input, an attrs class or a `TypedDict` of some of the state's keys."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from .errors import GraphProblem, StateFault, StateInvalid
from .schema import Schema, Values, did_you_mean
from .typecheck import fits, type_name


class View:
    """A node's narrower input: reads only its own keys, writes by the rules of the whole state."""

    def __init__(self, whole: Schema, narrow: Schema) -> None:
        self.whole = whole
        self.narrow = narrow
        self.reducers = whole.reducers
        self.keys = frozenset(narrow.keys)

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, View):
            return NotImplemented
        return self.whole == other.whole and self.narrow == other.narrow

    def __hash__(self) -> int:
        return hash((self.whole, self.narrow))

    def admit(self, state: Any) -> Values:
        return self.whole.admit(state)

    def knows(self, key: str) -> bool:
        return self.whole.knows(key)

    def check(self, values: Mapping[str, Any], what: str = "the state") -> None:
        self.whole.check(values, what)

    def _seen(self, values: Values) -> Values:
        return {name: values[name] for name in self.narrow.keys if name in values}

    def _complete(self, values: Values) -> Values:
        seen = self._seen(values)
        missing = [k.name for k in self.narrow.keys.values() if k.required and k.name not in seen]
        if missing:
            faults = [StateFault((name,), "missing") for name in missing]
            raise StateInvalid.of(f"the input {self.narrow.name}", faults, node=self.narrow.node or None)
        return seen

    def build(self, values: Values) -> Any:
        return self.narrow.build(self._complete(values))

    def seed(self, values: Values) -> Any:
        return self.whole.seed(values)

    def give(self, values: Values) -> Any:
        return self.narrow.give(self._complete(values))

    def take(self, values: Values, given: Any, returned: Any) -> Values | None:
        return self.narrow.taken(self.whole, values, self._seen(values), given, returned)


def view_of(whole: Schema, narrow: Schema, where: str) -> tuple[View, list[GraphProblem]]:
    """A view of `whole`, and a problem for every key that cannot be read as the view has it."""
    problems = []
    for name, key in narrow.keys.items():
        mine = whole.keys.get(name)
        if mine is None and whole.closed:
            message = f"its input {narrow.name} has {name!r}, which the state {whole.name} does not have"
            problems.append(GraphProblem("unknown_key", where, message, did_you_mean(name, whole.keys)))
        elif mine is not None and not fits(mine.type, key.type):
            wanted, found = type_name(key.type), type_name(mine.type)
            message = f"its input {narrow.name} wants {name!r} as {wanted}, the state has it as {found}"
            problems.append(GraphProblem("type_mismatch", where, message, "make the two types agree"))
    return View(whole, narrow), problems
