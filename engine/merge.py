"""Merging by cause: what branches that meet are worth together.

A token of a run that never forked carries values and nothing else; once a run has
forked, writes.py tells what each has seen. Several writes that set one key and
that nothing supersedes are concurrent: equal, or a conflict.

Rejected: vector clocks per node, which cannot tell apart two activations of one
node that run side by side.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Protocol

from .errors import MergeConflict, noted
from .values import Reducer, Replace
from .writes import (
    MISSING,
    NOTHING,
    PARTING,
    Adds,
    Contributions,
    Log,
    Number,
    Trace,
    Traces,
    Values,
    Write,
    in_order,
    same,
)


def new_values(values: Values, update: Mapping[str, Any], reducers: Mapping[str, Reducer]) -> Values:
    """The new value of each key of an update: set, or reduced. Raises what a reducer raises."""
    changed: Values = {}
    for key, item in update.items():
        kind, reducer, value = type(item), reducers.get(key), values.get(key, MISSING)
        if kind is Replace:
            changed[key] = item.value
        elif kind is Contributions:
            for part in item.items:
                if type(part) is Replace:
                    value = part.value
                elif reducer is None or value is MISSING:
                    value = part
                else:
                    value = reduced(key, reducer, value, part)
            changed[key] = value
        elif reducer is None or value is MISSING:
            changed[key] = item
        else:
            changed[key] = reduced(key, reducer, value, item)
    return changed


def folded(key: str, reducer: Reducer, value: Any, items: Sequence[Any]) -> Any:
    """What a reducer makes of a value and all of these, one after the other."""
    try:
        for item in items:
            value = reducer(value, item)
    except Exception as error:
        noted(error, f"raised by the reducer of {key!r}")
        raise
    return value


def reduced(key: str, reducer: Reducer, value: Any, item: Any) -> Any:
    """What a reducer makes of both; what it raises says that it was this one."""
    try:
        return reducer(value, item)
    except Exception as error:
        noted(error, f"raised by the reducer of {key!r}")
        raise


class Branch(Protocol):
    """What is merged: a token, or whatever carries the same two things."""

    @property
    def values(self) -> Values: ...
    @property
    def log(self) -> Log | None: ...


class Meeting:
    """Where branches meet: its name for messages, and how conflicts are settled there."""

    __slots__ = ("last", "name", "number", "open", "reducers", "settled")

    def __init__(
        self,
        name: str,
        reducers: Mapping[str, Reducer],
        number: Number,
        last: bool,
        settled: frozenset[str] = frozenset(),
    ) -> None:
        self.name = name
        self.reducers = reducers
        self.number = number
        self.last = last
        self.settled = settled
        """Keys whose conflicts are taken as "last" here, since they are about to be set anyway."""
        self.open = False
        """Not the last word: conflicts stay open, for the merge that this is a part of."""

    def merge(self, branches: Sequence[Branch]) -> tuple[Values, Log]:
        """Values and log of branches that meet, given in the order of their edges."""
        values = branches[0].values.copy()
        traces: Traces = {}
        carried: dict[str, list[tuple[Trace, Branch]]] = {}
        for branch in branches:
            for key, trace in branch.log.traces(self.reducers).items() if branch.log is not None else ():
                of_key = carried.get(key)
                if of_key is None:
                    carried[key] = [(trace, branch)]
                elif of_key[-1][0] is not trace:
                    of_key.append((trace, branch))
        for key, found in carried.items():
            first, branch = found[0]
            if len(found) == 1 and len(first.heads) < 2:
                # One branch alone wrote it, or all carry the same writes: no need to look closer.
                values[key], traces[key] = branch.values[key], first
            else:
                values[key], traces[key] = self._merge_key(key, [t for t, _ in found], branch.values[key])
        return values, Log.of(traces) if traces else PARTING

    def values(self, branches: Sequence[Branch]) -> Values:
        """The values alone, where nothing else is live: who wrote what does not matter from here on."""
        values = self._values_of_steps(branches)
        return self.merge(branches)[0] if values is None else values

    def _values_of_steps(self, branches: Sequence[Branch]) -> Values | None:
        """For branches of one step each since they parted, whose writes are plainly apart: None if that is not so."""
        values = branches[0].values.copy()
        contributed: dict[str, list[Any]] = {}
        seen: set[int] = set()
        for branch in branches:
            log = branch.log
            if log is PARTING:
                continue
            if log is None or log.before is not PARTING or log.first in seen:
                return None
            seen.add(log.first)
            for key, item in log.update.items():
                further = contributed.get(key)
                if type(item) is Replace or type(item) is Contributions:
                    return None
                if further is None:
                    contributed[key] = []
                    values[key] = branch.values[key]
                elif key in self.reducers:
                    further.append(item)
                else:
                    return None
        for key, further in contributed.items():
            if further:
                values[key] = folded(key, self.reducers[key], values[key], further)
        return values

    def _merge_key(self, key: str, traces: Sequence[Trace], first_value: Any) -> tuple[Any, Trace]:
        over = NOTHING.union(*[trace.over for trace in traces])
        heads = {write.id: write for trace in traces for write in trace.heads if write.id not in over}
        adds: dict[int, Write] = {}
        for trace in traces:
            newest = trace.adds
            if newest is not None:
                for write in in_order(newest) if newest.before is not None else (newest.write,):
                    if write.id not in over:
                        adds[write.id] = write
        live = tuple(heads.values())
        conflict = not self.open and any(not same(live[0].value, write.value) for write in live[1:])
        if conflict and not (self.last or key in self.settled):
            raise MergeConflict(key, [w.node for w in live], [w.value for w in live], self.name)
        start, rest = live[0].value if live else traces[0].base, list(adds.values())
        if conflict:
            start = next(w for t in reversed(traces) for w in reversed(t.heads) if w.id in heads).value
        else:
            # The first branch's value is already the fold of a prefix, unless something of it was superseded.
            done = traces[0].adds.size if traces[0].adds is not None else 0
            kept = all(write.id in adds for write in in_order(traces[0].adds))
            if kept and (not live or (bool(traces[0].heads) and traces[0].heads[0] is live[0])):
                start, rest = first_value, rest[done:]
        value = start
        for write in rest:
            value = write.value if value is MISSING else reduced(key, self.reducers[key], value, write.value)
        base = traces[0].base
        if self.open:
            # Which of several heads comes last is where it was carried last.
            live = tuple(dict.fromkeys(w for t in reversed(traces) for w in reversed(t.heads) if w.id in heads))[::-1]
            value = live[0].value if live else base
            for write in adds.values():
                value = write.value if value is MISSING else reduced(key, self.reducers[key], value, write.value)
        if conflict:
            # Settling a conflict is a write by the joining activation, which has seen all of them.
            settled = Write(self.number(), value, self.name)
            return value, Trace(base, (settled,), over.union(heads, adds), None)
        chain: Adds | None = None
        for write in adds.values():
            chain = Adds(write, chain)
        return value, Trace(base, live, over, chain)
