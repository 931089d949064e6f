"""Who wrote what since a run forked: what a branch carries beside its values.

Once a run has forked, each token carries a `Log`: for each key written since the
last point where one token was live, its `Trace`. A trace names writes by number;
the numbers mean nothing but identity, so two tokens that carry the same write
carry the same number. All of it is shared between tokens and never changed in place.

A plain key and a key with a reducer are one thing here. A write that *sets*
(any write to a plain key, a `Replace`) is a head and supersedes all that its
node had seen; a contribution is an add on top.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from itertools import count
from typing import Any, Final

from .values import Reducer, Replace

Values = dict[str, Any]
Number = Callable[[], int]

MISSING: Any = object()
NOTHING: frozenset[int] = frozenset()


class Write:
    """One change of one key by one activation (`node` as shown in messages)."""

    __slots__ = ("id", "node", "value")

    def __init__(self, id: int, value: Any, node: str) -> None:
        self.id = id
        self.value = value
        self.node = node


class Adds:
    """Contributions, newest first: a list that branches share and append to without copying."""

    __slots__ = ("before", "size", "write")

    def __init__(self, write: Write, before: Adds | None) -> None:
        self.write = write
        self.before = before
        self.size: int = before.size + 1 if before is not None else 1


def in_order(adds: Adds | None) -> list[Write]:
    """The contributions, oldest first."""
    found = []
    while adds is not None:
        found.append(adds.write)
        adds = adds.before
    found.reverse()
    return found


class Trace:
    """What one key has been through: base value, live setting writes, what those superseded, contributions."""

    __slots__ = ("adds", "base", "heads", "over")

    def __init__(self, base: Any, heads: tuple[Write, ...], over: frozenset[int], adds: Adds | None) -> None:
        self.base = base
        self.heads = heads
        self.over = over
        self.adds = adds

    def ids(self) -> Iterable[int]:
        yield from (write.id for write in self.heads)
        adds = self.adds
        while adds is not None:
            yield adds.write.id
            adds = adds.before

    def superseded(self) -> frozenset[int]:
        """What a write that has seen all of this supersedes."""
        return self.over.union(self.ids())


Traces = dict[str, Trace]


class Log:
    """The traces of one branch.

    The last update is worked into them only when somebody asks: most branches meet the others after a step, and for
    that it is enough to know where they parted and what each wrote. Before the next update it is worked in, so
    that no branch drags a chain of them along.
    """

    __slots__ = ("_node", "_traces", "_values", "before", "first", "update")

    def __init__(self, before: Log | None, update: Mapping[str, Any], values: Values, node: str, first: int) -> None:
        self.before = before
        """The log that `update` came on top of; None if all is worked in."""
        self.update = update
        self.first = first
        """The number of the update's first write."""
        self._values = values
        self._node = node
        self._traces: Traces | None = None

    @classmethod
    def of(cls, traces: Traces) -> Log:
        log = cls(None, {}, {}, "", 0)
        log._traces = traces
        return log

    def traces(self, reducers: Mapping[str, Reducer]) -> Traces:
        """For each key that was written, what it has been through."""
        found = self._traces
        if found is None:
            assert self.before is not None
            before = self.before.traces(reducers)
            found = self._traces = logged(before, self.update, self._values, reducers, self._node, self.first)
            self.before = None
            self.update = self._values = {}
        return found


PARTING: Final = Log.of({})
"""Where branches part, nothing has been written."""


class Contributions:
    """Several contributions of one activation to one key (a subgraph's), perhaps after a `Replace`."""

    __slots__ = ("items",)

    def __init__(self, items: Sequence[Any]) -> None:
        self.items = tuple(items)

    def __repr__(self) -> str:
        return f"Contributions({list(self.items)!r})"


def same(one: Any, other: Any) -> bool:
    """The same object, or of one type and equal; a comparison that raises or gives no bool means different."""
    if one is other:
        return True
    if type(one) is not type(other):
        return False
    try:
        return (one == other) is True
    except Exception:
        return False


def logged(
    traces: Traces,
    update: Mapping[str, Any],
    values: Values,
    reducers: Mapping[str, Reducer],
    node: str,
    first: int,
) -> Traces:
    """The traces after an update of a node that was given `values`; its writes are numbered from `first` on."""
    after, number = traces.copy(), count(first)
    for key, item in update.items():
        trace = traces.get(key)
        if trace is None:
            trace = Trace(values.get(key, MISSING), (), NOTHING, None)
        for part in item.items if type(item) is Contributions else (item,):
            if key in reducers and type(part) is not Replace:
                adds = Adds(Write(next(number), part, node), trace.adds)
                trace = Trace(trace.base, trace.heads, trace.over, adds)
            else:
                value = part.value if type(part) is Replace else part
                trace = Trace(trace.base, (Write(next(number), value, node),), trace.superseded(), None)
        after[key] = trace
    return after


def effective(update: Mapping[str, Any], values: Values, reducers: Mapping[str, Reducer]) -> Mapping[str, Any]:
    """An update without the keys that it sets to what they were: those would make conflicts out of nothing."""
    idle: set[str] | None = None
    for key, item in update.items():
        kind = type(item)
        if kind is Contributions and len(item.items) == 1:
            item = item.items[0]
            kind = type(item)
        if kind is Replace:
            item = item.value
        elif key in reducers:
            continue
        if same(item, values.get(key, MISSING)):
            idle = {*(idle or ()), key}
    return update if idle is None else {key: item for key, item in update.items() if key not in idle}


def writes_in(update: Mapping[str, Any]) -> int:
    """How many numbers an update's writes need."""
    return sum(len(item.items) if type(item) is Contributions else 1 for item in update.values())


def tracked_items(trace: Trace) -> list[Any]:
    """A key's writes since its base, as update items: what a subgraph hands to its parent one by one."""
    start = [Replace(trace.heads[0].value)] if trace.heads else []
    return [*start, *(write.value for write in in_order(trace.adds))]
