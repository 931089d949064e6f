"""From the outcome of an attempt to tokens on their way: deciding, then applying."""

from __future__ import annotations

from collections.abc import Sequence

from .errors import said_by
from .history import described
from .merge import new_values
from .plan import PlanEdge
from .retry import retry_delay
from .routes import choose, error_way, follow, travel
from .stopping import Stopping
from .tokens import DONE, RETRYING, SETTLED, Activation, ErrorInfo, Item, Outcome, RecordKind, SetTimer
from .values import STOP
from .writes import PARTING


class Settling(Stopping):
    """The layer that settles activations, in the order of each node's."""

    __slots__ = ()

    def _attempt_failed(self, activation: Activation, error: BaseException, random: float) -> None:
        tree, node = self.tree, activation.node
        base = getattr(activation, "base", 0)
        delay = retry_delay(node.retry, error, activation.attempt - base, random) if node.retry else None
        if delay is not None and not self.ending:
            if self.journals:
                record = self._record("retrying", activation)
                record.error, record.delay = error, delay
            activation.status = RETRYING
            activation.due = tree.now + delay
            tree.retries += 1
            data = {"attempt": activation.attempt, "delay": delay, "error": described(error)}
            tree.history.event("node_retrying", tree.now, self.prefix + node.name, activation.number, data)
            tree.out.append(SetTimer(activation, "retry", delay))
        elif activation.index >= 0:
            assert isinstance(activation, Item)
            activation.work.failed(self.run, activation, error)
        else:
            self._give_up(activation, error)

    def _give_up(self, activation: Activation, error: BaseException) -> None:
        """After the last attempt: along an error edge, or the activation has failed."""
        node = activation.node
        edge = error_way(node, error, activation.counts) if node.errors else None
        outcome = Outcome(edge=edge, error=error)
        if edge is None and not self.plan.continue_on_failure:
            # A failure that ends the run does so at once, whatever its turn.
            activation.outcome = outcome
            self._fail(activation, error, "node")
        else:
            self._finish(activation, outcome)

    def _finish(self, activation: Activation, outcome: Outcome) -> None:
        activation.outcome = outcome
        activation.status = DONE
        if activation.ahead is None:
            self._turns(activation)
        if activation.status == DONE and self.journals:
            self._record_outcome("done", activation)  # its turn has not come: it must not run again

    def _turns(self, activation: Activation | None) -> None:
        """Settle activations of one node in their order, as far as they have their outcomes."""
        while (
            activation is not None
            and activation.status == DONE
            and activation.ahead is None
            and not self.ending
            and not self.tree.replaying
        ):
            behind = activation.behind
            self._settle(activation)
            activation = behind

    def _settle(self, activation: Activation) -> None:
        outcome = activation.outcome
        assert outcome is not None
        if outcome.error is not None:
            if outcome.edge is None:
                self._fail(activation, outcome.error, getattr(activation, "stage", "node"))
            else:
                self.apply(activation, "error_edge", (outcome.edge,), ())
            return
        node = activation.node
        before = activation.values, activation.log
        self.update(activation, outcome)
        try:
            if outcome.fault is not None:
                raise outcome.fault
            if outcome.route is not None:
                taken, limits = outcome.route
                outcome.route = None
            elif outcome.goto is None and node.always is not None:
                taken, limits = node.always, ()
            elif outcome.goto is not None:
                taken, limits = follow(node, outcome.goto, activation.counts)
            else:
                build = self.plan.state.build
                taken, limits = choose(node, activation.counts, lambda: build(activation.values))
        except Exception as error:
            # The record shows the state as it was before: the update led nowhere.
            activation.values, activation.log = before
            outcome.fault = None
            self._fail(activation, error, "routing")
            return
        self.apply(activation, "settled", taken, limits)

    def update(self, activation: Activation, outcome: Outcome) -> None:
        """Apply an activation's update to its values."""
        self._forget(activation)
        if outcome.update:
            assert outcome.changed is not None
            self._write(activation, outcome.update, outcome.changed)
        if outcome.patch:
            changed = new_values(activation.values, outcome.patch, self.plan.state.reducers)
            self._write(activation, outcome.patch, changed)

    def apply(
        self,
        activation: Activation,
        kind: RecordKind,
        taken: Sequence[PlanEdge],
        limits: Sequence[PlanEdge],
    ) -> None:
        """Move the activation's token along these edges. No author's code is asked where it goes."""
        tree, node = self.tree, activation.node
        name = self.prefix + node.name
        outcome = activation.outcome
        assert outcome is not None
        self._leave(activation, SETTLED)
        if node.kind != "function":
            self._ended_inside(activation, "succeeded" if outcome.error is None else "failed")
        record = None
        if self.journals and not tree.replaying:
            record = self._record_outcome(kind, activation)
            record.limits = tuple(edge.index for edge in limits)
            first = self.next_token + 1
            record.emitted = tuple((edge.index, first + i) for i, edge in enumerate(taken))
        for edge in limits:
            tree.loop_limits += 1
            if tree.counts is not None and not tree.replaying:
                tree.counts.loop_limit(self.label(node))
            data = {"edge": edge.name, "limit": edge.limit}
            tree.history.event("loop_limit", tree.now, name, activation.number, data)
        log = activation.log
        if log is None and len(taken) > 1:
            log = PARTING
        error = None
        if outcome.edge is not None:
            assert outcome.error is not None
            self.joins.distrust()
            error = _error_info(activation, outcome.error)
            data = {"attempts": activation.attempt, "error": described(outcome.error), "caught": True}
            tree.history.event("node_failed", tree.now, name, activation.number, data)
        stop = False
        if node.may_stop and any(edge.target_name == STOP for edge in taken):
            taken = [edge for edge in taken if edge.target_name == STOP]
        for edge in taken:
            tree.history.event("edge_taken", tree.now, name, activation.number, edge.target_name)
            target = edge.target
            if target is not None:
                counts = activation.counts
                if counts is not None or edge.loop is not None:
                    counts = travel(self.plan, counts, edge)
                descent = activation.descent
                if descent is not None:
                    descent = self._kept_descent(descent, target)
                self._deliver(edge, activation.number, activation.values, log, counts, descent, error, record)
            else:
                self.next_token += 1
                if edge.target_name == STOP:
                    stop = True
                else:
                    self._end_token(activation, edge, self.next_token, log)
        if not taken:
            self._end_token(activation, None, 0, log)
        if stop:
            self._halt_at(activation)
        else:
            self._join()

    def _join(self) -> None:
        """After every change: start the joins that can go, and end the run if nothing is live."""
        if self.pool is not None:
            return
        if self.joins.count and not self.ending:
            self.joins.go()
        if not self.active and not self.joins.count and not self.ending:
            self._finish_run()


def _error_info(activation: Activation, error: BaseException) -> ErrorInfo:
    return ErrorInfo(
        activation.node.name,
        activation.number,
        type(error).__name__,
        said_by(error),
        activation.attempt,
        error,
    )
