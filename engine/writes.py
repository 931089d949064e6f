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
from typing import Any

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


Log = dict[str, Trace]


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
    log: Log,
    values: Values,
    update: Mapping[str, Any],
    changed: Values,
    reducers: Mapping[str, Reducer],
    node: str,
    number: Number,
) -> Log:
    """The log after an update. `changed` loses the keys that the update set to what they were.

    `values` are those before the update.
    """
    after = log.copy()
    for key, item in update.items():
        before = values.get(key, MISSING)
        trace = log.get(key)
        if key in reducers and type(item) is not Replace and type(item) is not Contributions:
            # What nearly every write to such a key is: one contribution.
            write = Write(number(), item, node)
            if trace is None:
                after[key] = Trace(before, (), NOTHING, Adds(write, None))
            else:
                after[key] = Trace(trace.base, trace.heads, trace.over, Adds(write, trace.adds))
            continue
        if trace is None:
            trace = Trace(before, (), NOTHING, None)
        parts = item.items if type(item) is Contributions else (item,)
        for part in parts:
            sets = key not in reducers or type(part) is Replace
            if sets:
                value = part.value if type(part) is Replace else part
                if len(parts) == 1 and same(value, before):
                    # Setting a key to what it is would make a conflict out of nothing.
                    changed.pop(key, None)
                    break
                trace = Trace(trace.base, (Write(number(), value, node),), trace.superseded(), None)
            else:
                adds = Adds(Write(number(), part, node), trace.adds)
                trace = Trace(trace.base, trace.heads, trace.over, adds)
        else:
            after[key] = trace
    return after


def tracked_items(trace: Trace) -> list[Any]:
    """A key's writes since its base, as update items: what a subgraph hands to its parent one by one."""
    start = [Replace(trace.heads[0].value)] if trace.heads else []
    return [*start, *(write.value for write in in_order(trace.adds))]
