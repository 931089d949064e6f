"""A run's branches as states: written to, merged where they meet or end, forgotten when nobody can tell."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from . import live
from .live import Live
from .merge import Branch, Meeting
from .plan import PlanEdge
from .state import Values
from .tokens import Activation, Ended
from .values import END
from .writes import Log, Trace, logged


class Branches(Live):
    """The layer that knows what branches carry."""

    __slots__ = ()

    def present_values(self) -> Values:
        """The state as it stands: everything live and ended merged, conflicts taken as "last"."""
        if self.over:
            return self.state
        branches: list[Branch] = [*self._ended_in_order()]
        live = sorted([*self.active, *self.failed_ones], key=lambda one: (one.node.index, one.number))
        branches += live
        for index in sorted(self.joins.at):
            branches += self.joins.at[index].tokens()
        if not branches:
            return {}
        return self._taken_as_last(END, branches)[0]

    def _branches(self) -> Iterator[Branch]:
        """All that carries a state: live, waiting, ended and failed."""
        yield from self.ended
        for one in (*self.failed_ones, *self.active):
            yield one
            yield from getattr(one, "arrived", ())
        for waiting in self.joins.at.values():
            yield from waiting.tokens()
        yield from (self.pool or {}).values()

    def _ended_in_order(self) -> list[Ended]:
        return sorted(self.ended, key=lambda ended: ended.place)

    def _merged(
        self, name: str, branches: Sequence[Branch], settled: frozenset[str] = frozenset()
    ) -> tuple[Values, Any]:
        if len(branches) == 1 and not getattr(branches[0], "folded", False):
            return branches[0].values, branches[0].log
        return self._meeting(name, settled=settled).merge(branches)

    def _taken_as_last(self, name: str, branches: Sequence[Branch]) -> tuple[Values, Any]:
        """For the record of a failure: whatever can be merged; the first branch if a reducer raises."""
        try:
            return self._meeting(name, last=True).merge(branches)
        except Exception:
            return branches[0].values, branches[0].log

    def _meeting(self, name: str, *, last: bool = False, settled: frozenset[str] = frozenset()) -> Meeting:
        reducers = self.plan.state.reducers
        return Meeting(name, reducers, self.tree.next_write, last or self.plan.conflicts_last, settled)

    def _write(self, activation: Activation, update: Mapping[str, Any], changed: Mapping[str, Any]) -> None:
        values, log = activation.values, activation.log
        if log is not None:
            changed = {**changed}
            reducers, name = self.plan.state.reducers, activation.node.name
            activation.log = log = logged(log, values, update, changed, reducers, name, self.tree.next_write)
            for key in update:
                trace = log.get(key)
                if trace is not None and trace.over and len(trace.over) > self._over_limits.get(key, live.MANY):
                    self._trim(log, key)
        if changed:
            activation.values = {**values, **changed}

    def _trim(self, log: Log, key: str) -> None:
        """Forget that this key's write supersedes others, where no token carries those any more.

        So what a key has been through does not grow, however often it is set beside a branch that waits.
        """
        present: set[int] = set()
        for branch in self._branches():
            trace = branch.log.get(key) if branch.log else None
            if trace is not None and len(trace.heads) + (trace.adds is not None) > 0:
                present.update(trace.ids())
        trace = log[key]
        kept = trace.over & present
        log[key] = Trace(trace.base, trace.heads, kept, trace.adds)
        self._over_limits = {**self._over_limits, key: max(live.MANY, 2 * len(kept))}

    def _forget(self, activation: Activation) -> None:
        """Where only this one token is left, nothing before this point needs to be told apart any more."""
        if (
            activation.log is not None
            and len(self.active) == 1
            and not self.joins.count
            and not self.failed_ones
            and not self.ended
            and not self.pool
        ):
            kept = {key: trace for key, trace in activation.log.items() if key in self.tracked}
            activation.log = kept if self.tracked else None

    def _end_token(self, activation: Activation, edge: PlanEdge | None, id: int, log: Any) -> None:
        place = (activation.node.index, activation.number, -1 if edge is None else edge.index)
        self.ended = live.appended(self.ended, Ended(place, id, activation.values, log))
        if len(self.ended) > self._ended_limit:
            self._fold_ended()

    def _fold_ended(self) -> None:
        """Make one of all tokens that ended at one node, which stand together in the final merge.

        So a loop that sends a branch to its end in each iteration does not pile up tokens.
        """
        by_node: dict[int, list[Ended]] = {}
        for ended in self._ended_in_order():
            by_node.setdefault(ended.place[0], []).append(ended)
        meeting = self._meeting(END)
        meeting.open = True
        self.ended = kept = list[Ended]()
        for group in by_node.values():
            try:
                values, log = meeting.merge(group)
            except Exception:
                kept += group  # A reducer raises: let it do so where that is reported.
            else:
                folded = Ended(group[-1].place, group[-1].id, values, log)
                folded.folded = True
                kept.append(folded)
        self._ended_limit = max(live.MANY, 2 * len(self.ended))
