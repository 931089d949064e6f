"""A graph as plain data, whose nodes are data too.

The same `GraphSpec` is read by the interpreter and built as a real graph, so nothing here may know
the rules of execution: this file says what nodes, conditions and routers *answer*, never what
follows from an answer. Everything is hashable and prints as the Python that makes it.
"""

from collections.abc import Callable, Mapping
from typing import Any

import attrs
from attrs import frozen

END = "END"
STOP = "STOP"

State = Mapping[str, Any]

# A key's own way to combine values. "twice" is neither associative nor commutative.
REDUCERS: Mapping[str, Callable[[Any, Any], Any]] = {
    "append": lambda value, new: value + new,
    "twice": lambda value, new: (2 * value + new) % 1009,
    "sum": lambda value, new: value + new,
    "max": max,
}
ERRORS: Mapping[str, type[Exception]] = {
    "ValueError": ValueError, "KeyError": KeyError, "LookupError": LookupError, "Exception": Exception,
}  # fmt: skip


def number_in(state: State, key: str) -> int:
    """What conditions and values see of a key: a number, the length of a list, 0 if it is missing."""
    value = state.get(key, 0)
    return value if isinstance(value, int) else len(value or ())


@frozen
class Value:
    """What is written: `const`, `plus` (a key plus c), `mix` (all keys and the number),
    `tag` (a list with the activation), `name` (a list with the node), `tags` (a whole new list)."""

    kind: str
    key: str = ""
    c: int = 0
    mod: int = 5

    def of(self, state: State, node: str, number: int) -> Any:
        match self.kind:
            case "const":
                return self.c
            case "plus":
                return (number_in(state, self.key) + self.c) % self.mod
            case "mix":
                return (sum(number_in(state, key) for key in state) + self.c * number) % self.mod
            case "tag":
                return [f"{node}#{number}"]
            case "name":
                return [node]
            case "tags":
                return [f"{node}#{number}", number_in(state, self.key)]
        raise AssertionError(self.kind)


@frozen
class Replaced:
    """Stands for `engine.Replace(value)`."""

    value: Any


@frozen
class Change:
    key: str
    value: Value
    replace: bool = False


@frozen
class Condition:
    """`mod`: key % mod == c; `less`: key < c; `never`; `boom` raises."""

    kind: str
    key: str = ""
    c: int = 0
    mod: int = 2

    def __call__(self, state: State) -> bool:
        match self.kind:
            case "mod":
                return number_in(state, self.key) % self.mod == self.c
            case "less":
                return number_in(state, self.key) < self.c
            case "never":
                return False
            case "boom":
                raise ZeroDivisionError("boom")
        raise AssertionError(self.kind)


@frozen
class Edge:
    source: str
    target: str
    kind: str = "plain"  # plain | when | otherwise | error
    when: Condition | None = None
    on_error: str = "Exception"
    max_iterations: int | None = None
    on_limit: str | None = None


@frozen
class Choice:
    """A router that picks an answer by a key's value; with `labels` it answers `to_x` for `x`."""

    node: str
    targets: tuple[str, ...]
    key: str
    answers: tuple[str | tuple[str, ...] | None, ...]
    labels: bool = False

    def __call__(self, state: State) -> str | tuple[str, ...] | None:
        return self.answers[number_in(state, self.key) % len(self.answers)]


@frozen
class Jump:
    """Answer `Goto(targets)` if the condition holds for the state that the node was given."""

    when: Condition
    targets: tuple[str, ...]


@frozen
class Fault:
    """Raise `errors[0]`, `errors[1]`, … on the first attempts of activation `number` (None: of each)."""

    number: int | None
    errors: tuple[str, ...]


@frozen
class Retry:
    attempts: int
    on: str = "Exception"


@frozen
class Map:
    """Items are `(index, number)`; `over` a key that holds such items, or a function of the state."""

    into: str
    over: str | None = None  # a key holding items, else a function that reads `count`
    count: str = ""
    mul: int = 2
    bad: int | None = None  # items whose number % 3 is this fail …
    bad_attempts: int = 9  # … on this many attempts
    on_item_error: str = "fail"

    def items(self, state: State) -> list[tuple[int, int]]:
        size = number_in(state, self.count)
        return [(index, size + index) for index in range(size % 4)]

    def result(self, item: tuple[int, int]) -> int:
        return item[1] * self.mul

    def item_error(self, item: tuple[int, int], attempt: int) -> str | None:
        return "ValueError" if item[1] % 3 == self.bad and attempt <= self.bad_attempts else None


@frozen
class Answer:
    """What an activation returns. `form`: mapping | whole (a whole state) | inplace (returns None)."""

    changes: Mapping[str, Any]
    form: str = "mapping"
    goto: tuple[str, ...] | None = None


@frozen
class Node:
    name: str
    changes: tuple[Change, ...] = ()
    form: str = "mapping"
    join: str | int = "all"  # all | any | first | a number; the rest is absorbed
    jump: Jump | None = None
    goto: tuple[str, ...] = ()
    faults: tuple[Fault, ...] = ()
    retry: tuple[Retry, ...] = ()
    map: Map | None = None

    def error(self, number: int, attempt: int) -> str | None:
        for fault in self.faults:
            if fault.number in (None, number) and attempt <= len(fault.errors):
                return fault.errors[attempt - 1]
        return None

    def answer(self, state: State, number: int) -> Answer:
        changes: dict[str, Any] = {}
        for change in self.changes:
            value = change.value.of(state, self.name, number)
            changes[change.key] = Replaced(value) if change.replace else value
        if self.jump is not None and self.jump.when(state):
            return Answer(changes, "mapping", self.jump.targets)
        return Answer(changes, self.form)


@frozen
class GraphSpec:
    nodes: tuple[Node, ...]
    routes: tuple[Edge | Choice, ...]  # in order of declaration
    entries: tuple[str, ...]
    initial: tuple[tuple[str, Any], ...] = ()
    reducers: tuple[tuple[str, str], ...] = ()
    typed: bool = False  # an attrs class with the keys of `initial`, else a plain dict
    max_iterations: int = 3
    max_activations: int = 150
    on_failure: str = "cancel"
    conflicts: str = "error"

    def node(self, name: str) -> Node:
        return next(node for node in self.nodes if node.name == name)


def start_state(spec: GraphSpec) -> dict[str, Any]:
    """The initial state: a fresh dict with fresh lists."""
    return {key: list(value) if isinstance(value, tuple) else value for key, value in spec.initial}


def describe(spec: GraphSpec) -> str:
    """A few lines that a person can redraw the graph from."""
    defaults = GraphSpec((), (), ())
    lines = [
        f"entries {', '.join(spec.entries)}",
        f"initial {start_state(spec)}, reducers {dict(spec.reducers)}",
    ]
    for name in ("typed", "max_iterations", "on_failure", "conflicts"):
        if getattr(spec, name) != getattr(defaults, name):
            lines.append(f"{name} = {getattr(spec, name)!r}")
    lines += [f"node {as_code(node)}" for node in spec.nodes]
    lines += [f"  {as_code(route)}" for route in spec.routes]
    return "\n".join(lines)


def as_code(thing: Any) -> str:
    """The Python that makes it, without the fields that have their default."""
    if isinstance(thing, tuple):
        return "(" + ", ".join(as_code(part) for part in thing) + ("," if len(thing) == 1 else "") + ")"
    if not attrs.has(type(thing)):
        return repr(thing)
    shown = [
        as_code(getattr(thing, field.name)) if field.default is attrs.NOTHING
        else f"{field.name}={as_code(getattr(thing, field.name))}"
        for field in attrs.fields(type(thing))
        if getattr(thing, field.name) != field.default
    ]  # fmt: skip
    return f"{type(thing).__name__}({', '.join(shown)})"
