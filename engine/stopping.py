"""How activations fail and are cancelled, and how a run comes to its end."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from .errors import ActivationLimit, NodeFailed, RunCancelled, RunFailed
from .history import described
from .live import Ending, appended
from .merge import new_values
from .packing import changes
from .retry import retry_delay
from .routes import error_way
from .starting import Starting
from .tokens import (
    CANCELLED,
    CANCELLING,
    DONE,
    FAILED,
    HELD,
    INSIDE,
    PARKED,
    RETRYING,
    RUNNING,
    Activation,
    CancelNode,
    ClearTimer,
    Ended,
    Item,
    Outcome,
    Record,
    RunDone,
    Stage,
)
from .values import END, Goto

if TYPE_CHECKING:
    from .runs import Run


class Stopping(Starting):
    """The layer that ends things."""

    __slots__ = ()

    def _fail(self, activation: Activation, error: BaseException, stage: Stage) -> None:
        tree, node = self.tree, activation.node
        self.joins.distrust()
        attempts = 0 if stage == "start" else activation.attempt
        self.failures = appended(self.failures, NodeFailed(node.name, activation.number, attempts, error))
        activation.stage = stage
        if self.journals and not tree.replaying:
            self._record_outcome("failed", activation).error = error
        data = {"attempts": attempts, "error": described(error)}
        tree.history.event("node_failed", tree.now, self.prefix + node.name, activation.number, data)
        if node.kind != "function":
            self._ended_inside(activation, "failed")
        self.failed_ones = appended(self.failed_ones, activation)
        behind = self._leave(activation, FAILED)
        if not self.plan.continue_on_failure or isinstance(error, ActivationLimit):
            if not self.ending:
                self._stop("failed")
        else:
            self._join()
            if behind is not None:
                self._soon(behind)

    def _fail_start(self, activation: Activation) -> None:
        """It failed before it ran, so there is no turn to wait for."""
        if activation.status == DONE and activation in self.active and not self.ending:
            assert activation.outcome is not None
            assert activation.outcome.error is not None
            self._fail(activation, activation.outcome.error, "start")

    def _stop(self, ending: Ending) -> None:
        """End the run: cancel all that is at work, and be over once it is gone."""
        self.ending = ending
        for activation in list(self.active):
            self.halt(activation)
        self._maybe_over()

    def _halt_at(self, activation: Activation) -> None:
        """A token reached `STOP`: its state is the run's, whatever else was under way."""
        self.ended = [Ended((0, 0, 0), 0, activation.values, activation.log)]
        self._stop("succeeded")

    def halt(self, activation: Activation) -> bool:
        """Cancel a live activation or item. True if it is gone already."""
        tree, status = self.tree, activation.status
        if status in (DONE, CANCELLING, CANCELLED):
            return status == CANCELLED
        name = self.prefix + activation.node.name
        if activation.index < 0:
            tree.history.event("node_cancelled", tree.now, name, activation.number)
            if activation.node.kind != "function":
                self._ended_inside(activation, "cancelled")
        activation.status = CANCELLED
        if status == RUNNING:
            activation.status = CANCELLING
            self._lingering += 1
            tree.out.append(CancelNode(activation))
        elif status == HELD:
            tree.let_go(activation)
        elif status == RETRYING:
            tree.out.append(ClearTimer(activation))
        elif status == PARKED:
            tree.signals.parked.pop(activation, None)
            self._log(activation, "cancelled", None, activation.state)
            activation.ended_as = None  # no record says so: a replay gets here by itself
            if activation.node.decl.wait is not None and activation.node.decl.wait.timeout is not None:
                tree.out.append(ClearTimer(activation))
        elif status == INSIDE:
            activation.status = CANCELLING
            self._lingering += 1
            child: Run | None = getattr(activation, "child", None)
            if child is not None:
                if activation.node.timeout is not None and not activation.timed_out:
                    tree.out.append(ClearTimer(activation))
                child._stop("cancelled") if not child.ending else None
            else:
                activation.work.stop(self.run)
                activation.work.fill(self.run)
        return activation.status == CANCELLED

    def cancel_late(self, activation: Activation) -> None:
        """Cancel what could only arrive at a join that needs it no more (`rest="cancel"`)."""
        tree = self.tree
        name = self.prefix + activation.node.name
        activation.outcome = None
        if self.journals and not tree.replaying:
            self._record("cancelled", activation)
        self.halt(activation)
        status = activation.status
        behind = self._leave(activation, status)
        tree.history.event("token_absorbed", tree.now, name, activation.number)
        if behind is not None:
            self._soon(behind)

    def _gone(self, activation: Activation) -> None:
        """The worker of a cancelled activation or item is gone."""
        if self.journals:
            self._record("gone", activation)
        if activation.status == CANCELLING:
            self._lingering -= 1
        activation.status = CANCELLED
        if activation.index >= 0:
            assert isinstance(activation, Item)
            activation.work.dropped(self.run, activation)
        self._maybe_over()

    def _late(
        self,
        activation: Activation,
        attempt: int,
        returned: Any,
        error: BaseException | None,
        started: float | None,
    ) -> None:
        """An answer to an attempt that is being cancelled, or was given up."""
        if activation.status != CANCELLING or activation.attempt != attempt:
            return
        self.tree.executing -= 1
        self._log(activation, "succeeded" if error is None else "failed", error, started)
        if activation.index >= 0 or activation not in self.active or self.ending != "failed":
            self._gone(activation)
        elif error is not None and not self._may_go_on(activation, error):
            self._lingering -= 1
            activation.outcome = Outcome(error=error)
            self._fail(activation, error, "node")
            self._maybe_over()
        elif error is not None:
            self._gone(activation)
        else:
            # It was quicker than its cancellation: on a retry of the run it need not run again.
            self._lingering -= 1
            self._keep_outcome(activation, returned)
            self._maybe_over()

    def _may_go_on(self, activation: Activation, error: BaseException) -> bool:
        """Whether this would have been no failure, had the run not been ending: on a retry it is tried again."""
        node, attempt = activation.node, activation.attempt - getattr(activation, "base", 0)
        caught = error_way(node, error, activation.counts) if node.errors else None
        return caught is not None or retry_delay(node.retry, error, attempt, 0.5) is not None

    def _keep_outcome(self, activation: Activation, returned: Any) -> None:
        goto, packed = None, None
        reducers = self.plan.state.reducers
        try:
            if isinstance(returned, Goto):
                goto, returned = returned.targets, returned.update
            update = activation.node.input.take(activation.values, activation.state, returned)
            if update and self.journals:
                update = changes(update, activation.values, reducers)
                packed = self._packed(activation, update)
            changed = new_values(activation.values, update or {}, reducers)
        except Exception as error:
            activation.outcome = Outcome(error=error)
            self._fail(activation, error, "node")
        else:
            activation.outcome = Outcome(update, changed, goto)
            activation.outcome.packed = packed
            activation.status = DONE
            if self.journals:
                self._record_outcome("done", activation)

    def _maybe_over(self) -> None:
        if self.ending and not self._lingering and not self.over and not self.tree.replaying:
            self._end(self.ending)

    def _finish_run(self) -> None:
        """Nothing is live any more: merge what came to its end."""
        if self.failures or self.tree.replaying:
            if not self.tree.replaying:
                self.ending = "failed"
                self._maybe_over()
            return
        branches = self._ended_in_order()
        if branches:
            try:
                values, log = self._merged(END, branches, self._final_settled, alone=True)
            except Exception as error:
                if self.journals:
                    record = Record("failed", self.tree.now, self.path, END, error=error)
                    record.seq = self.tree.history.seq
                    self.tree.out.append(record)
                self._fail_end(error)
                return
            self.ended = [Ended((0, 0, 0), 0, values, log)]
        self.ending = "succeeded"
        self._maybe_over()

    def _fail_end(self, error: BaseException) -> None:
        """What came to its end cannot be merged."""
        self._end_conflict = True
        self.failures = appended(self.failures, NodeFailed(END, 0, 0, error))
        data = {"attempts": 0, "error": described(error)}
        self.tree.history.event("node_failed", self.tree.now, self.prefix + END, None, data)
        self.ending = "failed"
        self._maybe_over()

    def _end(self, ending: Ending) -> None:
        tree = self.tree
        if ending == "succeeded":
            # Tokens that a join absorbed end without effect; if all were, nothing has changed.
            self.state = self.ended[-1].values if self.ended else self._initial
            if self.parent is None:
                self.ended = ()  # its state is all that anybody asks for; a parent asks for what was contributed
        else:
            self.state = self.present_values()
        if ending == "failed":
            verdict = [] if self._verdict is None else [self._verdict]
            self.error = RunFailed.of(self.id, self.plan.name, [*self.failures, *verdict])
        elif ending == "cancelled":
            self.error = RunCancelled(self.id, self.cancel_reason)
        assert ending != ""
        self._state = ending
        if self.parent is not None:
            parent = self.parent
            tree.defer(lambda: parent.run._inside_over(parent, self.run))
            return
        self._remember("ended")
        if tree.journal:
            record = tree.out[-1]
            assert isinstance(record, Record)
            record.update = {"status": ending}
        data = {"error": str(self.error)} if self.error is not None else None
        tree.history.event(f"run_{ending}", tree.now, None, None, data)
        tree.out.append(RunDone(self.run))
