"""Going on after a failure: `run.retry()`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import partial
from typing import TYPE_CHECKING, Any

from .errors import JoinStarved, StateInvalid
from .history import described
from .inside import Inside
from .maps import MapWork
from .merge import new_values
from .plan import PlanNode
from .state import Values
from .tokens import CANCELLED, DONE, INSIDE, Activation, Ended, Outcome, SetTimer
from .typecheck import shown
from .values import END

if TYPE_CHECKING:
    from .runs import Run


class GoingOn(Inside):
    """The layer that revives what had failed."""

    __slots__ = ()

    def _let_on(self) -> None:
        """Start what a pause has held back."""
        tree = self.tree
        tree.paused = False
        tree.careful = tree.replaying
        held, tree.held = tree.held, {}
        for activation, begun in held.items():
            if begun:
                activation.run._order_attempt(activation)
            else:
                activation.run._order(activation)

    def _checked(
        self, call: str, update: Mapping[str, Any] | None, given: Sequence[Values]
    ) -> tuple[Mapping[str, Any] | None, Any]:
        """The update of a `retry` or `fork` as the state takes it, and what the journal makes of it.

        `given` is what it is applied to. Raises `StateInvalid`, `UnknownKey` or `NotStorable`, which name the call.
        """
        if update is None:
            return None, None
        what, state = f"the update of {call}()", self.plan.state
        if not isinstance(update, Mapping):
            raise StateInvalid(f"{what} is {shown(update)}, expected a mapping of keys to new values")
        try:
            checked = state.take(given[0], state.give(given[0]), update) or None
        except StateInvalid as error:
            raise (type(error).of(what, error.faults) if error.faults else error) from None
        if checked is None:
            return None, None
        try:
            for values in given:
                new_values(values, checked, state.reducers)
        except Exception as error:
            said = ", ".join([described(error), *getattr(error, "__notes__", ())])
            raise StateInvalid(f"{what} cannot be combined with what is there: {said}") from error
        pack = self.tree.pack
        return checked, None if pack is None else pack(checked, what)

    def _go_on(self, update: Mapping[str, Any] | None) -> None:
        failed, self.failed_ones = self.failed_ones, ()
        self.failures = ()
        self.error = None
        self._verdict = None
        self.ending = ""
        self._state = "running"
        if self._end_conflict:
            self._end_conflict = False
            self._final_settled = frozenset(update or ())
            self._patch_ended(update)
        # One and the same write wherever it goes, so that it meets itself again as one.
        stamp = self.tree.writes
        for activation in failed:
            self.tree.writes = stamp
            self._revive(activation, update)
        self.tree.writes = max(self.tree.writes, stamp + len(update or ()))
        for activation in list(self.active):
            if activation.status == CANCELLED:
                self._again(activation)
        for activation in list(self.active):
            if activation.status == DONE and getattr(activation, "stage", "node") == "start":
                self._defer(partial(self._fail_start, activation))
            else:
                self._soon(activation)
        self._defer(self._join)

    def _patch_ended(self, update: Mapping[str, Any] | None) -> None:
        if not update:
            return
        try:
            values, log = self._merged(END, self._ended_in_order(), frozenset(update))
        except Exception:
            return  # It does not settle everything: the final merge says so again.
        changed = new_values(values, update, self.plan.state.reducers)
        self.ended = [Ended((0, 0, 0), 0, {**values, **changed}, log)]

    def _revive(self, activation: Activation, update: Mapping[str, Any] | None) -> None:
        """A failed activation is live again: routed again if its node had succeeded, else tried again."""
        stage = activation.stage
        arrived = getattr(activation, "arrived", ())
        if stage == "start" and isinstance(getattr(activation.outcome, "error", None), JoinStarved):
            # What it lacked may come now: its tokens wait again, and its number is kept for it.
            self._reserve(activation.node, activation.number)
            self._started_after_all(activation.node)
            for token in arrived:
                self.joins.arrive(token)
            return
        if stage == "start":
            try:
                if len(arrived) > 1:
                    values, log = self._merged(activation.node.name, arrived, frozenset(update or ()))
                    activation.values, activation.log = values, log
            except Exception as error:
                self._link(activation)
                activation.status = DONE
                activation.outcome = Outcome(error=error)
                self._defer(partial(self._fail_start, activation))
                return
            self._started_after_all(activation.node)
        self._link(activation)
        if stage == "routing":
            activation.status = DONE
            assert activation.outcome is not None
            activation.outcome.patch = update
            return
        if update:
            changed = new_values(activation.values, update, self.plan.state.reducers)
            self._write(activation, update, changed)
        self._again(activation)

    def _started_after_all(self, node: PlanNode) -> None:
        self.unstarted = {**self.unstarted, node.index: self.unstarted[node.index] - 1}

    def _again(self, activation: Activation) -> None:
        """Further attempts of an activation that was cut short."""
        child: Run | None = getattr(activation, "child", None)
        if getattr(activation, "stage", "node") == "start":
            activation.stage = "node"
            self.started += 1
            self._run_node(activation)
            return
        activation.base = activation.attempt
        activation.attempt += 1
        if child is not None and child._state in ("failed", "cancelled"):
            activation.status = INSIDE
            activation.timed_out = False
            activation.begun = self.tree.now
            if activation.node.timeout is not None:
                self.tree.out.append(SetTimer(activation, "timeout", activation.node.timeout))
            child._go_on(None)
            return
        if activation.node.kind == "map":
            work = getattr(activation, "work", None)
            before = 0 if work is None else len(work.results)
            activation.work = MapWork(activation, activation.node.decl.map, before)  # type: ignore[arg-type]
        self._order_attempt(activation)
