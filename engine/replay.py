"""Rebuilding a run from its records: recovery.

Each record is applied through the same functions as the decision that wrote it. No
router and no condition is asked again, so changed code cannot rewrite history;
reducers are, since records keep contributions, not results. What has no record was
in flight, and starts again.

What is promised beyond the state: log, visited nodes, counters and events are those
of the run as it was up to the last record, with the same numbers and times, nothing
twice. Not recorded, and so not there again, are a node's own progress events, and
what happens inside of a map's items: the numbers of those events are left out, and the
counters do not count it.
Of an attempt that was cut short by the crash there is nothing: it is tried again
under the same number.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

from .errors import EngineError, PoisonRun, RunTimeout
from .history import described
from .live import Ending
from .merge import new_values
from .tokens import (
    CANCELLED,
    DONE,
    HELD,
    INSIDE,
    PARKED,
    RETRYING,
    RUNNING,
    Activation,
    Outcome,
    Record,
    SetTimer,
)
from .waits import what_it_gives

if TYPE_CHECKING:
    from .runs import Run


class ReplayError(EngineError, ValueError):
    """The records do not belong to this plan, or something is missing among them."""


def replay(run: Run, state: Any, records: Iterable[Record], began: float) -> None:
    """Bring a new run to where its records end; what was in flight is ordered when it goes live."""
    begin(run, began)
    run._enter(run.plan.state.admit(state))
    apply_all(run, records)


def begin(run: Run, began: float) -> None:
    """From here on decisions come from records."""
    tree = run.tree
    tree.replaying = tree.careful = True
    run.joins.distrust()
    tree.now = began
    tree.history.began(began)


def go_live(run: Run, now: float) -> None:
    """From here on the run decides for itself. Whatever worked on it is gone, and ordered again."""
    tree = run.tree
    tree.now = now
    tree.out.clear()
    tree.later = ()
    tree.executing = 0
    tree.replaying = False
    tree.careful = tree.paused
    order_again(run)


# --- records --------------------------------------------------------------------------------------------


def apply_all(root: Run, records: Iterable[Record]) -> None:
    """Let happen again what is on record."""
    again = Again(root)
    for record in records:
        again.apply(record)


class Again:
    """Lets happen again what is on record, one by one."""

    def __init__(self, root: Run) -> None:
        self._root = root
        self._rejoin = False

    def apply(self, record: Record) -> None:
        """What was decided is decided."""
        root, tree = self._root, self._root.tree
        if self._rejoin and not _settles_what_is_done(root, record):
            # What a retry revived may leave joins with nothing to wait for.
            _join_all(root)
            self._rejoin = False
        tree.now = record.time
        if record.seq > tree.history.seq:
            tree.history.lost_until(record.seq, record.time)  # what nodes told of themselves is not on record
        if record.kind == "retry":
            self._rejoin = True
        _apply(root, record)
        tree.out.clear()
        tree.later = ()
        tree.was_waiting = record.waits
        if record.waits:
            tree.history.event("run_waiting", record.time)


def _apply(root: Run, record: Record) -> None:
    match record.kind:
        case "settled" | "error_edge" | "failed" | "cancelled":
            _decision(_run_at(root, record), record)
        case "done":
            _done(_run_at(root, record), record)
        case "item":
            _item(_run_at(root, record), record)
        case "retrying":
            _retrying(_run_at(root, record), record)
        case "attempt":
            run = _run_at(root, record)
            activation = _find(run, record)
            activation.attempt = record.attempts
            run._order_attempt(activation)
        case "timeout":
            activation = _find(_run_at(root, record), record)
            assert activation.child is not None
            activation.timed_out = True
            activation.child._stop("cancelled")
        case "gone":
            _gone(root, record)
        case _:
            _of_the_run(root, record)


def _of_the_run(root: Run, record: Record) -> None:
    match record.kind:
        case "signal":
            _, name, payload, id = record.signal
            root.tree.signals.accept(name, payload, id)
        case "pause":
            root.tree.paused = True
        case "resume":
            root._let_on()
        case "cancel":
            root.cancel_reason = record.signal
            root._stop("cancelled")
        case "deadline":
            root._verdict = RunTimeout(root.id, record.signal)
            if not root.ending:
                root._stop("failed")
        case "poison":
            root._verdict = PoisonRun(root.id, *record.signal)
            if not root.ending:
                root._stop("failed")
        case "retry":
            root._go_on(record.update)
        case "ended":
            _end(root, (record.update or {})["status"])
        case "waiting":
            pass
        case _:
            raise ReplayError(f"{record!r} is of an unknown kind")


def _run_at(root: Run, record: Record) -> Run:
    run = root
    for node, number, _ in record.path:
        child = getattr(_activation(run, node, number), "child", None)
        if child is None:
            raise ReplayError(f"{node}#{number} has no run inside, but {record!r} says so")
        run = child
    return run


def _find(run: Run, record: Record) -> Activation:
    return _activation(run, record.node, record.activation)


def _activation(run: Run, name: str, number: int) -> Activation:
    node = run.plan.by_name.get(name)
    if node is not None:
        activation = run.last[node.index]
        while activation is not None:
            if activation.number == number:
                return activation
            activation = activation.ahead
    raise ReplayError(f"run {run.id!r} has no live activation {name}#{number} for its record")


def _decision(run: Run, record: Record) -> None:
    if record.kind == "failed" and not record.activation:
        run._fail_end(record.error)  # type: ignore[arg-type]  # a failed record has its error
        return
    if record.kind == "cancelled":
        return  # the join that it was too late for has cancelled it again
    activation = _find(run, record)
    if record.consumed != activation.tokens:
        raise ReplayError(f"{record!r} consumed tokens {record.consumed}, it has {activation.tokens} here")
    take_out(run, activation, record)
    if record.status:
        tell(run, activation, record)
    decide(run, activation, record)
    if record.kind == "failed" and (child := getattr(activation, "child", None)) is not None:
        # If nothing went wrong inside, it was what came out of it.
        _close(child, "failed" if child.failures else "succeeded")


def take_out(run: Run, activation: Activation, record: Record) -> None:
    """It waits for nothing any more: neither for a signal, nor for `resume`."""
    tree = run.tree
    if activation.status == PARKED:
        tree.signals.parked.pop(activation, None)
    if tree.held:
        tree.let_go(activation)
    if record.signal is not None:
        signal = tree.signals.take_out(record.signal)
        if record.update is None and record.status and signal is not None:
            # The journal need not write a payload twice.
            node, values = activation.node, activation.values
            record.update = node.input.take(values, node.input.give(values), what_it_gives(node, signal))
    activation.attempt = record.attempts or 1


def tell(run: Run, activation: Activation, record: Record) -> None:
    """How an attempt ended, for those who read the log."""
    history, now, node = run.tree.history, record.time, activation.node
    name = run.prefix + node.name
    if record.status == "succeeded":
        keys = tuple(record.update) if record.update else ()
        history.entry((name, activation.number, record.attempts, "succeeded", record.started, now, None, keys))
        history.event("node_succeeded", now, name, activation.number, (record.attempts, keys))
    else:
        _tell_attempt(run, name, record)


def _tell_attempt(run: Run, name: str, record: Record) -> None:
    assert record.status != ""
    item = f"{name}[{record.item}]" if record.item >= 0 else name
    error = None if record.error is None else described(record.error)
    run.history.entry((item, record.activation, record.attempts, record.status, record.started, record.time, error, ()))


def decide(run: Run, activation: Activation, record: Record) -> None:
    """What was decided about a live activation happens to it (again)."""
    edges = run.plan.edges
    taken = [edges[index] for index, _ in record.emitted]
    if record.emitted and run.next_token + 1 != record.emitted[0][1]:
        raise ReplayError(f"{record!r} emits token {record.emitted[0][1]}, expected {run.next_token + 1}")
    if activation.status != DONE or record.status or record.kind == "error_edge":
        activation.outcome = outcome_of(run, activation, record, record.emitted[0][0] if record.emitted else -1)
    activation.status = DONE
    match record.kind:
        case "settled":
            assert activation.outcome is not None
            run.update(activation, activation.outcome)
            run.apply(activation, "settled", taken, [edges[index] for index in record.limits])
        case "error_edge":
            run.apply(activation, "error_edge", taken, ())
        case "failed":
            assert record.error is not None
            run._fail(activation, record.error, record.stage)
        case _:
            run._leave(activation, CANCELLED)
            run._join()


def outcome_of(run: Run, activation: Activation, record: Record, edge: int) -> Outcome:
    """The outcome that a record tells of; `edge` is that along which an error goes, if one does."""
    if record.kind == "error_edge" or record.edge >= 0:
        outcome = Outcome(edge=run.plan.edges[edge], error=record.error)
    elif record.error is not None and record.stage != "routing":
        outcome = Outcome(error=record.error)
    else:
        changed = new_values(activation.values, record.update, run.plan.state.reducers) if record.update else {}
        outcome = Outcome(record.update, changed, record.goto)
    outcome.recorded = True
    return outcome


def _done(run: Run, record: Record) -> None:
    activation = _find(run, record)
    take_out(run, activation, record)
    if run.ending:
        _tell_attempt(run, run.prefix + record.node, record)  # it was quicker than its cancellation
    elif record.status:
        tell(run, activation, record)
    activation.outcome = outcome_of(run, activation, record, record.edge)
    activation.status = DONE


def _retrying(run: Run, record: Record) -> None:
    activation = _find(run, record)
    tree, node = run.tree, activation.node
    assert record.error is not None
    name, due = run.prefix + node.name, record.time + record.delay
    _consume(run, record)
    if record.status:
        _tell_attempt(run, name, record)
    tree.retries += 1
    data = {"attempt": record.attempts, "delay": record.delay, "error": described(record.error)}
    tree.history.event("node_retrying", record.time, name, activation.number, data)
    if record.item >= 0:
        activation.work.attempts[record.item] = (record.attempts, due)
        return
    activation.attempt = record.attempts
    activation.status = RETRYING
    activation.due = due


def _item(run: Run, record: Record) -> None:
    _consume(run, record)
    if record.status:
        _tell_attempt(run, run.prefix + record.node, record)
    _find(run, record).work.was_finished(record.item, record.update, record.error)


def _gone(root: Run, record: Record) -> None:
    """A cancelled attempt is over. It need not be live: what a join needed no more has left at once."""
    name = "".join(f"{node}#{number}/" for node, number, _ in record.path) + record.node
    _consume(root, record)
    if record.status:
        _tell_attempt(root, name, record)
    try:
        activation = _find(_run_at(root, record), record)
    except ReplayError:
        return
    if record.item < 0:
        activation.attempt = max(activation.attempt, record.attempts)


def _consume(run: Run, record: Record) -> None:
    for serial in record.signal or ():
        run.tree.signals.take_out(serial)


# --- ends and new beginnings ----------------------------------------------------------------------------


def _settles_what_is_done(root: Run, record: Record) -> bool:
    if record.kind not in ("settled", "error_edge", "failed") or not record.activation:
        return False
    try:
        return _find(_run_at(root, record), record).status == DONE
    except ReplayError:
        return False


def _join_all(run: Run) -> None:
    if run.ending:
        return
    run._join()
    for activation in list(run.active):
        child = getattr(activation, "child", None)
        if child is not None and activation.status == INSIDE:
            _join_all(child)


def _end(run: Run, status: Any) -> None:
    _let_go(run)
    if status == "succeeded" and not run.ending:
        run.tree.replaying = False
        run._finish_run()
        run.tree.replaying = True
    else:
        run.ending = status
        run._end(status)


def _let_go(run: Run) -> None:
    """Whatever worked on a run that is ending is gone."""
    for activation in run.active:
        if activation.status != DONE:
            activation.status = CANCELLED
            if (child := getattr(activation, "child", None)) is not None:
                _close(child, "cancelled")
    run._lingering = 0


def _close(child: Run, ending: Ending) -> None:
    """The run inside an activation that is over is over itself."""
    if not child.over:
        _let_go(child)
        child.ending = child.ending or ending
        child._end(child.ending)


# --- what was in flight ---------------------------------------------------------------------------------


def order_again(run: Run) -> None:
    """Order everything that is live and has no outcome: whatever worked on it is gone."""
    run._lingering = 0
    if run.over or run.status == "queued":
        return
    if run.ending:
        _let_go(run)
        run._maybe_over()
        return
    for activation in list(run.active):
        _order_again(run, activation)
    run._defer(run._join)


def _order_again(run: Run, activation: Activation) -> None:
    tree = run.tree
    status, kind = activation.status, activation.node.kind
    child: Run | None = getattr(activation, "child", None)
    if status == DONE:
        if getattr(activation, "stage", "node") == "start":
            run._defer(lambda: run._fail_start(activation))
        else:
            run._soon(activation)
    elif status == HELD:
        tree.hold(activation, tree.held.get(activation, False))
    elif status == RUNNING and tree.paused:
        activation.status = HELD
        tree.hold(activation, begun=True)
    elif status == RETRYING:
        tree.out.append(SetTimer(activation, "retry", max(0.0, activation.due - tree.now)))
    elif status == PARKED:
        wait = activation.node.decl.wait
        if wait is not None and wait.timeout is not None:
            tree.out.append(SetTimer(activation, "wait", _left(wait.timeout, activation.state, tree.now)))
        run._defer(run._match_signals)
    elif kind == "subgraph" and child is not None and status == INSIDE:
        if activation.node.timeout is not None and not activation.timed_out:
            left = _left(activation.node.timeout, activation.begun, tree.now)
            tree.out.append(SetTimer(activation, "timeout", left))
        order_again(child)
    elif kind == "map" and status == INSIDE:
        run._go_on_with_map(activation)
    else:
        run._order_attempt(activation)


def _left(seconds: float, since: float, now: float) -> float:
    return max(0.0, seconds - max(0.0, now - since))
