"""Rebuilding a run from its records: recovery, and a fork by cause.

Recovery applies each record through the same `Run.apply` as the decision that
wrote it. No router and no condition is asked again, so changed code cannot
rewrite history; reducers are, since records keep contributions, not results.
What has no record was in flight, and starts again.

A fork keeps every record that one activation did not cause. Those no longer
happen in the order that the rules would give, so tokens are not delivered while
it is rebuilt but lie in a pool, from which each record takes what it consumed.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from .errors import RunTimeout
from .joins import Wave
from .merge import new_values
from .plan import JOIN_COUNT
from .tokens import (
    CANCELLED,
    DONE,
    HELD,
    INSIDE,
    PARKED,
    RUNNING,
    SETTLED,
    Activation,
    Outcome,
    Record,
    SetTimer,
    Token,
)

if TYPE_CHECKING:
    from .runs import Run

_DECISIONS = ("settled", "error_edge", "failed", "cancelled")


class ReplayError(ValueError):
    """The records do not belong to this plan, or something is missing among them."""


# --- recovery -------------------------------------------------------------------------------------------


def replay(run: Run, state: Any, records: Iterable[Record], now: float) -> None:
    """Bring a new run to where its records end, and order what was in flight."""
    tree = run.tree
    tree.replaying = tree.careful = True
    tree.now = now
    tree.history.began(now)
    run._enter(run.plan.state.admit(state))
    for record in records:
        _apply(run, record)
    tree.out.clear()
    tree.later = ()
    tree.executing = 0
    tree.replaying = False
    tree.careful = tree.journal or tree.paused
    order_again(run)


def _apply(root: Run, record: Record) -> None:
    run = _run_at(root, record)
    match record.kind:
        case "signal":
            _, name, payload, id = record.signal
            root.tree.signals.accept(name, payload, id)
        case "pause" | "resume":
            root.tree.paused = record.kind == "pause"
        case "cancel":
            root.cancel_reason = record.signal
            root._stop("cancelled")
        case "deadline":
            root._timeout = RunTimeout(root.id, record.signal)
            if not root.ending:
                root._stop("failed")
        case "retry":
            root._go_on(record.update)
        case "ended":
            _end(root, (record.update or {})["status"])
        case "attempt":
            _attempt(run, _find(run, record), record.attempts)
        case _:
            _decision(run, record)


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
        for activation in run.activations_at(node):
            if activation.number == number:
                return activation
    raise ReplayError(f"run {run.id!r} has no live activation {name}#{number} for its record")


def _attempt(run: Run, activation: Activation, attempt: int) -> None:
    activation.attempt = attempt
    if activation.node.kind in ("subgraph", "map"):
        run._order_attempt(activation)


def _decision(run: Run, record: Record) -> None:
    if record.kind == "failed" and not record.activation:
        run._fail_end(record.error)  # type: ignore[arg-type]  # a failed record has its error
        return
    activation = _find(run, record)
    tree = run.tree
    tree.signals.parked.pop(activation, None)
    tree.let_go(activation)
    if record.signal is not None:
        tree.signals.consumed(record.signal)
    activation.attempt = max(record.attempts, 1)
    decide(run, activation, record)


def decide(run: Run, activation: Activation, record: Record) -> None:
    """What was decided about a live activation happens to it (again)."""
    edges = run.plan.edges
    taken = [edges[index] for index, _ in record.emitted]
    if record.emitted and run.next_token + 1 != record.emitted[0][1]:
        raise ReplayError(f"{record!r} emits token {record.emitted[0][1]}, expected {run.next_token + 1}")
    activation.status = DONE
    if record.kind == "settled" or (record.kind == "failed" and record.stage == "routing"):
        changed = new_values(activation.values, record.update or {}, run.plan.state.reducers)
        activation.outcome = Outcome(record.update, changed)
    else:
        edge = taken[0] if record.kind == "error_edge" else None
        activation.outcome = Outcome(edge=edge, error=record.error)
    match record.kind:
        case "settled":
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


def _end(run: Run, status: Any) -> None:
    for activation in run.active:
        if activation.status != DONE:
            activation.status = CANCELLED
    run._lingering = 0
    if status == "succeeded" and not run.ending:
        run.tree.replaying = False
        run._finish_run()
        run.tree.replaying = True
    else:
        run.ending = status
        run._end(status)


def order_again(run: Run) -> None:
    """Order everything that is live and has no outcome: whatever worked on it is gone."""
    if run.over:
        return
    if run.ending:
        for activation in run.active:
            if activation.status != DONE:
                activation.status = CANCELLED
        run._lingering = 0
        run._maybe_over()
        return
    for activation in list(run.active):
        _order_again(run, activation)
    run._defer(run._join)


def _order_again(run: Run, activation: Activation) -> None:
    tree = run.tree
    kind = activation.node.kind
    child: Run | None = getattr(activation, "child", None)
    if activation.status == DONE:
        if getattr(activation, "stage", "node") == "start":
            run._defer(lambda: run._fail_start(activation))
        else:
            run._soon(activation)
    elif activation.status == HELD or (tree.paused and activation.status == RUNNING):
        activation.status = HELD
        tree.hold(activation)
    elif activation.status == PARKED:
        wait = activation.node.decl.wait
        if wait is not None and wait.timeout is not None:
            tree.out.append(SetTimer(activation, "wait", wait.timeout))
        run._defer(run._match_signals)
    elif kind == "subgraph" and child is not None and activation.status == INSIDE:
        if activation.node.timeout is not None:
            tree.out.append(SetTimer(activation, "timeout", activation.node.timeout))
        order_again(child)
    else:
        if kind == "map":
            del activation.work
        run._order_attempt(activation)


# --- a fork by cause ------------------------------------------------------------------------------------


def fork(
    run: Run,
    state: Any,
    records: Sequence[Record],
    at: str,
    update: Mapping[str, Any] | None,
    now: float,
) -> None:
    """Bring a new run to where everything has happened that the activation `at` did not cause."""
    name, _, digits = at.rpartition("#")
    number = int(digits) if digits.isdecimal() else 0
    again, kept = _split(records, name, number)
    if not any((record.node, record.activation) == (name, number) for record in again):
        raise ReplayError(f"no activation {at!r} is on record")
    tree = run.tree
    tree.replaying = tree.careful = True
    tree.now = now
    tree.history.began(now)
    run.pool = {}
    run._enter(run.plan.state.admit(state))
    for record in kept:
        if record.kind in _DECISIONS:
            _force(run, record)
        else:
            _, signal, payload, id = record.signal
            tree.signals.accept(signal, payload, id)
    for record in again:
        activation = _recreate(run, record)
        if (record.node, record.activation) == (name, number) and update:
            checked = run.plan.state.take(activation.values, run.plan.state.give(activation.values), update)
            changed = new_values(activation.values, checked or {}, run.plan.state.reducers)
            run._write(activation, checked or {}, changed)
    _free_numbers(run, records, [*kept, *again])
    _release(run)


def _free_numbers(run: Run, records: Sequence[Record], taken: Sequence[Record]) -> None:
    """What happens again gets the numbers that it had, as far as it goes."""
    numbers = {(record.node, record.activation) for record in taken}
    freed: dict[int, list[int]] = {}
    for record in records:
        if record.kind in _DECISIONS and not record.path and record.activation:
            key = (record.node, record.activation)
            if key not in numbers:
                numbers.add(key)
                index = run.plan.by_name[record.node].index
                freed.setdefault(index, []).append(record.activation)
                run.numbers[index] = max(run.numbers[index], record.activation)
    run.reserved = {index: sorted(those) for index, those in freed.items()}


def _split(records: Sequence[Record], name: str, number: int) -> tuple[list[Record], list[Record]]:
    """The records to run again (the one named, and what failed beside it), and those to keep.

    What the named one caused is in neither. Inside of subgraphs nothing is told
    apart: a subgraph that was not finished runs again as a whole.
    """
    caused: set[int] = set()
    again: list[Record] = []
    kept: list[Record] = []
    for record in records:
        if record.path or (record.kind == "failed" and not record.activation):
            continue
        if record.kind not in _DECISIONS:
            kept += [record] if record.kind == "signal" else []
            continue
        if caused.isdisjoint(record.consumed):
            named = (record.node, record.activation) == (name, number)
            if not named and record.kind != "failed":
                kept.append(record)
                continue
            again = [r for r in again if (r.node, r.activation) != (record.node, record.activation)]
            again.append(record)
            if not named:
                continue
        caused.update(id for _, id in record.emitted)
    done = {(record.node, record.activation) for record in kept}
    return [record for record in again if (record.node, record.activation) not in done], kept


def _force(run: Run, record: Record) -> None:
    activation = _recreate(run, record)
    if record.signal is not None:
        run.tree.signals.consumed(record.signal)
    activation.attempt = max(record.attempts, 1)
    if record.emitted:
        run.next_token = record.emitted[0][1] - 1
    decide(run, activation, record)
    assert run.pool is not None
    for id in record.absorbed:
        token = run.pool.pop(id, None)
        if token is not None:
            _absorbed(run, token)


def _recreate(run: Run, record: Record) -> Activation:
    """The activation of a record, live again with the tokens that it consumed."""
    assert run.pool is not None
    node = run.plan.by_name[record.node]
    tokens = [run.pool.pop(id) for id in record.consumed]
    activation = run.gather(node, tokens, record.activation)[0]
    run.numbers[node.index] = max(run.numbers[node.index], record.activation)
    run._link(activation)
    run.started += 1
    name = run.prefix + node.name
    run.history.visit(name)
    run.history.event("node_started", run.tree.now, name, activation.number, 1)
    if node.join == JOIN_COUNT and len(tokens) < len(node.ins):
        waiting = run.joins.open(node)
        wave = Wave()
        wave.activation = record.activation
        wave.delivered = {token.edge.slot for token in tokens}
        waiting.waves.append(wave)
    return activation


def _absorbed(run: Run, token: Token) -> None:
    assert token.edge.target is not None
    waiting = run.joins.at.get(token.edge.target.index)
    for wave in waiting.waves if waiting is not None else ():
        if wave.activation and token.edge.slot not in wave.delivered:
            wave.delivered.add(token.edge.slot)
            return


def _release(run: Run) -> None:
    """Deliver what is left in the pool, and let the run go on."""
    assert run.pool is not None
    tree = run.tree
    left, run.pool = sorted(run.pool.values(), key=lambda token: token.id), None
    tree.out.clear()
    tree.later = ()
    tree.executing = 0
    tree.replaying = False
    tree.careful = tree.journal
    for activation in list(run.active):
        if activation.status != SETTLED:
            activation.status = RUNNING
            run._order_attempt(activation)
    last = run.next_token
    for token in left:
        run.next_token = token.id - 1
        run._deliver(
            token.edge,
            token.number,
            token.values,
            token.log,
            token.counts,
            token.descent,
            token.error,
            None,
        )
    run.next_token = max(last, run.next_token)
    run._defer(run._join)
