"""Activations that run no function of their own: waits, maps, subgraphs."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from .errors import NodeTimeout
from .history import LogStatus
from .maps import MapWork, worker_plan
from .merge import new_values
from .plan import Plan
from .routes import error_way
from .settling import Settling
from .state import Values
from .tokens import CANCELLING, INSIDE, PARKED, RETRYING, RUNNING, Activation, ClearTimer, Item, Outcome, SetTimer
from .values import ItemError
from .waits import what_it_gives
from .writes import Contributions, same, tracked_items

if TYPE_CHECKING:
    from .runs import Run


class Inside(Settling):
    """The layer for what goes on inside an activation."""

    __slots__ = ()

    def _park(self, activation: Activation) -> None:
        wait = activation.node.decl.wait
        assert wait is not None
        activation.status = PARKED
        activation.state = self.tree.now
        self.tree.signals.parked[activation] = None
        if wait.timeout is not None:
            self.tree.out.append(SetTimer(activation, "wait", wait.timeout))
        self.tree.defer(self._match_signals)

    def _match_signals(self) -> None:
        while (found := self.tree.signals.match()) is not None:
            activation, signal = found
            activation.signal = signal.serial
            if activation.run.in_map and self.tree.journal:
                item = _item_around(activation)
                item.consumed = (*item.consumed, signal)
            wait = activation.node.decl.wait
            if wait is not None and wait.timeout is not None:
                self.tree.out.append(ClearTimer(activation))
            activation.run._wait_over(activation, what_it_gives(activation.node, signal))

    def _wait_timed_out(self, activation: Activation) -> None:
        node = activation.node
        wait = node.decl.wait
        assert wait is not None
        assert wait.timeout is not None
        error = NodeTimeout(node.name, wait.timeout)
        edge = error_way(node, error, activation.counts)
        if edge is not None:
            self._log(activation, "timed_out", error, activation.state)
            self._finish(activation, Outcome(edge=edge, error=error))
        else:
            self._wait_over(activation, {wait.into: None})

    def _wait_over(self, activation: Activation, update: dict[str, Any]) -> None:
        started = activation.state
        self._complete(activation, update, started)

    def _complete(self, activation: Activation, returned: Any, started: float) -> None:
        """A wait, map or subgraph is done: its update goes the way of any other."""
        node, values = activation.node, activation.values
        packed = None
        try:
            update = node.input.take(values, node.input.give(values), returned) if returned else None
            if update and node.kind == "map":
                packed = self._packed(activation, update)
            changed = new_values(values, update or {}, self.plan.state.reducers)
        except Exception as error:
            self._log(activation, "failed", error, started)
            activation.status = RUNNING
            self._give_up(activation, error)
            return
        self._log(activation, "succeeded", None, started, tuple(update or ()))
        data = (activation.attempt, tuple(update or ()))
        self.history.event("node_succeeded", self.tree.now, self.prefix + node.name, activation.number, data)
        outcome = Outcome(update, changed)
        outcome.packed = packed
        self._finish(activation, outcome)

    def _begin_map(self, activation: Activation) -> None:
        decl = activation.node.decl.map
        assert decl is not None
        try:
            activation.state = (self.tree.now, activation.node.input.give(activation.values))
        except Exception as error:
            self._cannot_begin(activation, error)
            return
        activation.status = INSIDE
        work = getattr(activation, "work", None)
        if work is None:
            work = activation.work = MapWork(activation, decl)
        if self.tree.replaying:
            return  # nothing is read from the source before it is known which items are finished
        work.begin(self.run)

    def _go_on_with_map(self, activation: Activation) -> None:
        """After a replay: read the items again, and run those that are not finished."""
        activation.state = (activation.state[0], activation.node.input.give(activation.values))
        activation.work.begin(self.run)

    def start_item(self, item: Item) -> None:
        self._order_item(item)

    def await_retry(self, item: Item, due: float) -> None:
        """An item that failed before a replay gets its next attempt when that is due."""
        item.status = RETRYING
        item.due = due
        self.tree.out.append(SetTimer(item, "retry", max(0.0, due - self.tree.now)))

    def record_failed_item(self, item: Item, error: BaseException, kept: ItemError | None) -> None:
        if self.journals:
            record = self._record("item", item)
            record.error = error
            if kept is not None:
                record.update = {item.work.decl.into: kept}
                record.packed = self._packed(item, record.update)

    def _order_item(self, item: Activation) -> None:
        decl = item.node.decl.map
        assert decl is not None
        plan = worker_plan(decl)
        if plan is None:
            item.status = RUNNING
            self.tree.executing += 1
            self.tree.out.append(item)
            return
        initial = item.state if decl.item is None else {decl.item: item.state}
        self._open_child(item, plan, lambda: plan.state.admit(initial), frozenset())

    def _item_succeeded(self, activation: Activation, returned: Any, started: float | None) -> None:
        assert isinstance(activation, Item)
        self.tree.executing -= 1
        self._item_done(activation, returned, started)

    def _item_done(self, item: Item, result: Any, started: float | None) -> None:
        """An item has its result: once that is recorded, it never runs again."""
        if self.journals:
            update = {item.work.decl.into: result}
            try:
                packed = self._packed(item, update)
            except Exception as error:
                self._log(item, "failed", error, started)
                self._attempt_failed(item, error, 0.5)
                return
            record = self._record("item", item)
            record.update, record.packed = update, packed
        item.work.succeeded(self.run, item, result)

    def map_over(self, activation: Activation, work: MapWork) -> None:
        self.tree.defer(lambda: self._map_over(activation, work))

    def _map_over(self, activation: Activation, work: MapWork) -> None:
        if activation.status == CANCELLING:
            self._log(activation, "cancelled", None, activation.state[0])
            self._gone(activation)
        if activation.status != INSIDE:
            return
        decl, found = work.decl, work.outcome()
        started = activation.state[0]
        if isinstance(found, BaseException):
            self._log(activation, "failed", found, started)
            self._give_up(activation, found)
        else:
            self._complete(activation, {decl.into: found}, started)

    def _begin_inside(self, activation: Activation) -> None:
        decl = activation.node.decl.subgraph
        assert decl is not None
        plan, mine = decl.plan, self.plan.state
        tracked = frozenset(key for key in plan.state.reducers if decl.leave.get(key, key) in mine.reducers)

        def passed_in() -> Values:
            return plan.state.admit(
                {
                    inner: value
                    for key, value in activation.values.items()
                    if plan.state.knows(inner := decl.enter.get(key, key))
                }
            )

        self._open_child(activation, plan, passed_in, tracked)

    def _open_child(
        self, activation: Activation, plan: Plan, initial: Callable[[], Values], tracked: frozenset[str]
    ) -> None:
        activation.begun = self.tree.now
        try:
            values = initial()
        except Exception as error:
            self._cannot_begin(activation, error)
            return
        activation.status = INSIDE
        activation.timed_out = False
        child = activation.child = type(self.run)(plan, self.root.id, parent=activation)
        child.tracked = tracked
        child._final_settled = frozenset()
        activation.entered_with = values.copy()
        if activation.node.timeout is not None:
            self.tree.out.append(SetTimer(activation, "timeout", activation.node.timeout))
        child._enter(values)

    def _inside_over(self, activation: Activation, child: Run) -> None:
        """The run inside a subgraph activation, or of a map's item, has ended."""
        if getattr(activation, "child", None) is not child or activation.status not in (INSIDE, CANCELLING):
            return
        if activation.status == CANCELLING:
            self._log(activation, "cancelled", None, activation.begun)
            self._gone(activation)
            return
        if activation.node.timeout is not None and not activation.timed_out:
            self.tree.out.append(ClearTimer(activation))
        if child._state == "succeeded":
            self._inside_succeeded(activation, child)
        else:
            error: BaseException
            if activation.timed_out:
                assert activation.node.timeout is not None
                error = NodeTimeout(activation.node.name, activation.node.timeout)
            else:
                assert child.error is not None
                error = child.error
            status: LogStatus = "timed_out" if activation.timed_out else "failed"
            self._log(activation, status, error, activation.begun)
            self._attempt_failed(activation, error, 0.5)

    def _inside_succeeded(self, activation: Activation, child: Run) -> None:
        if activation.index >= 0:
            assert isinstance(activation, Item)
            self._item_done(activation, child.plan.state.build(child.state), None)
            return
        decl = activation.node.decl.subgraph
        assert decl is not None
        log = child.ended[-1].log if child.ended else None
        traces = {} if log is None else log.traces(child.plan.state.reducers)
        update: dict[str, Any] = {}
        before: Values = activation.entered_with
        for key, value in child.state.items():
            outer = decl.leave.get(key, key)
            if not self.plan.state.knows(outer):
                continue
            if key in child.tracked:
                if key in traces:
                    update[outer] = Contributions(tracked_items(traces[key]))
            elif key not in before or not same(before[key], value):
                update[outer] = value
        self._complete_raw(activation, update)

    def _complete_raw(self, activation: Activation, update: dict[str, Any]) -> None:
        started, packed = activation.begun, None
        try:
            if update:
                packed = self._packed(activation, update)
            changed = new_values(activation.values, update, self.plan.state.reducers)
        except Exception as error:
            self._log(activation, "failed", error, started)
            self._give_up(activation, error)
            return
        self._log(activation, "succeeded", None, started, tuple(update))
        data = (activation.attempt, tuple(update))
        name = self.prefix + activation.node.name
        self.history.event("node_succeeded", self.tree.now, name, activation.number, data)
        outcome = Outcome(update, changed)
        outcome.packed = packed
        self._finish(activation, outcome)


def _item_around(activation: Activation) -> Item:
    """The item that is recorded, of those that an activation is inside of: the outermost."""
    run = activation.run
    while run.parent is not None and run.parent.run.in_map:
        run = run.parent.run
    assert isinstance(run.parent, Item)
    return run.parent
