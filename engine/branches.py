"""A run's branches as states: written to, merged where they meet or end, forgotten when nobody can tell."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

from . import live
from .carried import FILES, gathered
from .live import Live
from .merge import Branch, Meeting
from .plan import PlanEdge
from .state import Values
from .tokens import Activation, Ended
from .values import END
from .writes import PARTING, Log, Trace, effective, writes_in


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
            return self._initial
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
        self, name: str, branches: Sequence[Branch], settled: frozenset[str] = frozenset(), *, alone: bool = False
    ) -> tuple[Values, Log | None]:
        """What these are worth together; without a log if nothing else is live, or will be."""
        if len(branches) == 1 and not getattr(branches[0], "folded", False):
            return branches[0].values, branches[0].log
        if not self.plan.carries and _nobody_wrote(branches):
            return branches[0].values, None if alone and not self.tracked else PARTING
        meeting = self._meeting(name, settled=settled)
        if alone and not self.tracked:
            return self._with_files(meeting.values(branches), branches), None
        values, log = meeting.merge(branches)
        return self._with_files(values, branches), log

    def _taken_as_last(self, name: str, branches: Sequence[Branch]) -> tuple[Values, Log | None]:
        """For the record of a failure: whatever can be merged; the first branch if a reducer raises."""
        try:
            values, log = self._meeting(name, last=True).merge(branches)
        except Exception:
            return branches[0].values, branches[0].log
        return self._with_files(values, branches), log

    def _with_files(self, values: Values, branches: Sequence[Branch]) -> Values:
        """Newly merged values, with the files of all these branches."""
        if self.plan.carries:
            values[FILES] = gathered(branches)
        return values

    def _meeting(self, name: str, *, last: bool = False, settled: frozenset[str] = frozenset()) -> Meeting:
        reducers = self.plan.state.reducers
        return Meeting(name, reducers, self.tree.next_write, last or self.plan.conflicts_last, settled)

    def _write(self, activation: Activation, update: Mapping[str, Any], changed: Mapping[str, Any]) -> None:
        values, log = activation.values, activation.log
        if log is not None and FILES in update:
            # What is carried is no write: it is not merged by cause, but comes with the token that carries it.
            values = activation.values = {**values, FILES: changed[FILES]}
            update = {key: item for key, item in update.items() if key != FILES}
            changed = {key: value for key, value in changed.items() if key != FILES}
        if log is not None:
            written = effective(update, values, self.plan.state.reducers)
            if len(written) < len(update):
                changed = {key: value for key, value in changed.items() if key in written}
            if written:
                if log is not PARTING:
                    log = self._worked_in(log, written)
                tree, node = self.tree, activation.node
                activation.log = Log(log, written, values, node.name, tree.writes + 1)
                # Only what a subgraph gives can be several writes to one key.
                tree.writes += len(written) if node.kind == "function" else writes_in(written)
        if changed:
            activation.values = {**values, **changed}

    def _worked_in(self, log: Log, keys: Iterable[str]) -> Log:
        """The same with nothing left to work in, short enough for one more write to these keys."""
        traces = log.traces(self.plan.state.reducers)
        for key in keys:
            trace = traces.get(key)
            if trace is not None and len(trace.over) > self._over_limits.get(key, live.MANY):
                traces = {**traces, key: self._trimmed(key, trace)}
                log = Log.of(traces)
        return log

    def _trimmed(self, key: str, trace: Trace) -> Trace:
        """Forget that this key's write supersedes others, where no token carries those any more.

        So what a key has been through does not grow, however often it is set beside a branch that waits.
        """
        present: set[int] = set()
        for branch in self._branches():
            carried = branch.log.traces(self.plan.state.reducers).get(key) if branch.log is not None else None
            if carried is not None and len(carried.heads) + (carried.adds is not None) > 0:
                present.update(carried.ids())
        kept = trace.over & present
        self._over_limits = {**self._over_limits, key: max(live.MANY, 2 * len(kept))}
        return Trace(trace.base, trace.heads, kept, trace.adds)

    def _forget(self, activation: Activation) -> None:
        """Where only this one token is left, nothing before this point needs to be told apart any more."""
        if activation.log is not None and len(self.active) == 1 and self._no_other_branches():
            activation.log = self._kept(activation.log) if self.tracked else None

    def _kept(self, log: Log) -> Log:
        traces = log.traces(self.plan.state.reducers)
        return Log.of({key: trace for key, trace in traces.items() if key in self.tracked})

    def _no_other_branches(self) -> bool:
        """Whether nothing carries a state but activations that are live."""
        return not (self.joins.count or self.failed_ones or self.ended or self.pool)

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
                values = self._with_files(values, group)
                folded = Ended(group[-1].place, group[-1].id, values, log)
                folded.folded = True
                kept.append(folded)
        self._ended_limit = max(live.MANY, 2 * len(self.ended))


def _nobody_wrote(branches: Sequence[Branch]) -> bool:
    """Whether none of these wrote anything since they parted: what all carry is the same."""
    for branch in branches:  # noqa: SIM110  (`all` takes twice as long, for every join)
        if branch.log is not PARTING:
            return False
    return True
