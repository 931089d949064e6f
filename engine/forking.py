"""A fork by cause: a new run from one activation of another, which keeps all that this one did not cause.

What is kept no longer happens in the order that the rules would give, so tokens are
not delivered while the run is rebuilt but lie in a pool, from which each record takes
what it consumed. Inside of subgraphs nothing is told apart: a subgraph that was not
finished runs again as a whole, and so does a map.

It takes all records of the run: what a snapshot stands for cannot be taken apart.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from .errors import ActivationNotFound, EngineError, JoinStarved, RecordsGone
from .joins import Wave
from .merge import new_values
from .plan import JOIN_COUNT, Plan
from .replay import begin, decide, outcome_of, take_out, tell
from .tokens import DONE, RUNNING, SETTLED, Activation, Record, Token

if TYPE_CHECKING:
    from .runs import Run

_DECISIONS = ("settled", "error_edge", "failed", "cancelled")

Key = tuple[str, int]


def fork(
    run: Run,
    state: Any,
    records: Sequence[Record],
    at: str,
    update: Mapping[str, Any] | None,
    now: float,
    of: str,
) -> Record:
    """Bring a new run to where everything has happened in the run `of` that its activation `at` did not cause.

    Gives the record of that, which says nothing of that run. Nothing is ordered before it goes live.
    """
    key = _named(at)
    _check_complete(run.plan, records, of)
    again, kept = _split(records, key)
    if not any(_key(record) == key for record in again):
        known = [f"{record.node}#{record.activation}" for record in records if _is_decision(record)]
        raise ActivationNotFound(of, at, list(dict.fromkeys(known)))
    forked = Record("forked", now, node=key[0], activation=key[1])
    begin(run, now)
    run.pool = {}
    run._enter(run.plan.state.admit(state))
    fork = _Fork(run, records)
    for record in kept:
        run.tree.now = record.time
        fork.keep(record)
    run.tree.now = now
    for record in again:
        activation = fork.recreate(record)
        if _key(record) == key:
            forked.update, forked.packed = run._checked("fork", update, [activation.values])
            if forked.update:
                changed = new_values(activation.values, forked.update, run.plan.state.reducers)
                run._write(activation, forked.update, changed)
    _free_numbers(run, records, [*kept, *again])
    _release(run)
    return forked


def what_a_fork_needs(records: Sequence[Record], at: str) -> list[Record]:
    """Those of a run's records whose meaning a fork at this activation depends on."""
    name, number = _named(at)
    forked = Record("forked", node=name, activation=number)
    return [record for record in (*what_was_kept(records, forked), forked) if not record.path]


def what_was_kept(records: Sequence[Record], forked: Record) -> list[Record]:
    """What of a run's records a fork of it began with, so that those of the fork follow them.

    What its update changed looks like what a retry changed: the activation had failed, and was tried again with it.
    """
    key = _key(forked)
    again, kept = _split(records, key)
    done = {_key(record) for record in kept if _is_decision(record)}
    failed = {_key(record) for record in again if _key(record) != key}
    found = []
    for record in records:
        owner = record.path[0][:2] if record.path else _key(record)
        tried_again = owner in failed and record.kind == "failed" and _is_decision(record)
        if record.kind in ("signal", "retry") or owner in done or tried_again:
            found.append(record)
    if forked.update:
        (named,) = [record for record in again if _key(record) == key]
        failure = Record("failed", forked.time, (), *key, named.attempts, named.consumed, error=EngineError("forked"))
        # The first of these ends what had failed before: the update is not for that.
        found += [Record("retry", forked.time), failure, Record("retry", forked.time, update=forked.update)]
    return found


def _named(at: str) -> Key:
    name, _, digits = str(at).rpartition("#")
    return name, int(digits) if digits.isdecimal() else 0


def _key(record: Record) -> Key:
    return record.node, record.activation


def _is_decision(record: Record) -> bool:
    """About an activation of the run itself."""
    return record.kind in _DECISIONS and not record.path and record.activation > 0


def _check_complete(plan: Plan, records: Sequence[Record], of: str) -> None:
    known = set(range(1, len(plan.entries) + 1))
    for record in records:
        if _is_decision(record):
            if not known.issuperset(record.consumed):
                raise RecordsGone(of, f"those of what led to {record.node}#{record.activation} are missing")
            known.update(id for _, id in record.emitted)


def _split(records: Sequence[Record], at: Key) -> tuple[list[Record], list[Record]]:
    """The records to run again (the one named, and what failed beside it), and those to keep.

    What the named one caused is in neither.
    """
    caused: set[int] = set()
    again: list[Record] = []
    kept: list[Record] = []
    for record in records:
        if not _is_decision(record):
            kept += [record] if record.kind == "signal" else []
            continue
        if caused.isdisjoint(record.consumed):
            named = _key(record) == at
            if not named and record.kind != "failed":
                kept.append(record)
                continue
            again = [r for r in again if _key(r) != _key(record)]
            again.append(record)
            if not named:
                continue
        caused.update(id for _, id in record.emitted)
    done = {_key(record) for record in kept}
    return [record for record in again if _key(record) not in done], kept


def _free_numbers(run: Run, records: Sequence[Record], taken: Sequence[Record]) -> None:
    """What happens again gets the numbers that it had, as far as it goes."""
    numbers = {_key(record) for record in taken}
    freed: dict[int, list[int]] = {}
    for record in records:
        if _is_decision(record):
            key = _key(record)
            if key not in numbers:
                numbers.add(key)
                index = run.plan.by_name[record.node].index
                freed.setdefault(index, []).append(record.activation)
                run.numbers[index] = max(run.numbers[index], record.activation)
    run.reserved = {index: sorted(those) for index, those in freed.items()}


class _Fork:
    """Lets the kept records happen, each with what earlier records say of its activation."""

    def __init__(self, run: Run, records: Sequence[Record]) -> None:
        self.run = run
        self.told: dict[Key, Record] = {}
        """Outcomes on record before their activations were settled."""
        self.patches: dict[Key, list[tuple[int, Mapping[str, Any], bool]]] = {}
        """What retries of the run set: which retry, its update, and whether after the activation's own update."""
        self.consumed: dict[Key, list[int]] = {}
        """Signals that waits inside of an activation took."""
        self._stamps: dict[int, int] = {}
        self._read(records)

    def _read(self, records: Sequence[Record]) -> None:
        failed: dict[Key, Record] = {}
        for position, record in enumerate(records):
            if record.kind == "retry":
                for key, failure in failed.items():
                    if record.update and not isinstance(failure.error, JoinStarved):
                        of_key = self.patches.setdefault(key, [])
                        of_key.append((position, record.update, failure.stage == "routing"))
                failed = {}
                continue
            serials = record.signal if record.item >= 0 else (record.signal,)
            if record.kind != "signal" and record.signal is not None and (record.path or record.item >= 0):
                owner = record.path[0][:2] if record.path else _key(record)
                self.consumed.setdefault(owner, []).extend(serials)
            if record.path:
                continue
            if record.kind == "done":
                self.told[_key(record)] = record
            elif record.kind == "failed":
                failed[_key(record)] = record
                if record.stage == "routing" and record.status:
                    self.told[_key(record)] = record

    def keep(self, record: Record) -> None:
        run = self.run
        if record.kind == "signal":
            _, name, payload, id = record.signal
            run.tree.signals.accept(name, payload, id)
            return
        activation = self.recreate(record)
        first = record if record.status else self.told.get(_key(record), record)
        take_out(run, activation, first)
        if first.status:
            tell(run, activation, first)
        if first is not record:
            activation.outcome = outcome_of(run, activation, first, first.edge)
            activation.status = DONE
        activation.attempt = record.attempts or 1
        for serial in self.consumed.get(_key(record), ()):
            run.tree.signals.take_out(serial)
        after = [update for _, update, after in self.patches.get(_key(record), ()) if after]
        if after and getattr(activation, "outcome", None) is not None:
            assert activation.outcome is not None
            activation.outcome.patch = after[-1]
        if record.emitted:
            run.next_token = record.emitted[0][1] - 1
        decide(run, activation, record)
        assert run.pool is not None
        for id in record.absorbed:
            token = run.pool.pop(id, None)
            if token is not None:
                _absorbed(run, token)

    def recreate(self, record: Record) -> Activation:
        """The activation of a record, live again with the tokens that it consumed."""
        run = self.run
        assert run.pool is not None
        node = run.plan.by_name[record.node]
        tokens = [run.pool.pop(id) for id in record.consumed]
        activation = run.gather(node, tokens, record.activation)[0]
        run.numbers[node.index] = max(run.numbers[node.index], record.activation)
        run._link(activation)
        run.started += 1
        name = run.prefix + node.name
        run.history.started(run.tree.now, name, activation.number, 1)
        if node.join == JOIN_COUNT and len(tokens) < len(node.ins):
            waiting = run.joins.open(node)
            wave = Wave()
            wave.activation = record.activation
            wave.delivered = {token.edge.slot for token in tokens}
            waiting.waves.append(wave)
        for position, update, after in self.patches.get(_key(record), ()):
            if not after:
                self._patch(activation, position, update)
        return activation

    def _patch(self, activation: Activation, position: int, update: Mapping[str, Any]) -> None:
        """One and the same write wherever a retry made it, so that it meets itself again as one."""
        tree = self.run.tree
        newest = tree.writes
        tree.writes = self._stamps.setdefault(position, newest)
        changed = new_values(activation.values, update, self.run.plan.state.reducers)
        self.run._write(activation, update, changed)
        tree.writes = max(newest, self._stamps[position] + len(update))


def _absorbed(run: Run, token: Token) -> None:
    assert token.edge.target is not None
    waiting = run.joins.at.get(token.edge.target.index)
    for wave in waiting.waves if waiting is not None else ():
        if wave.activation and token.edge.slot not in wave.delivered:
            wave.delivered.add(token.edge.slot)
            return


def _release(run: Run) -> None:
    """Deliver what is left in the pool."""
    assert run.pool is not None
    left, run.pool = sorted(run.pool.values(), key=lambda token: token.id), None
    for activation in run.active:
        if activation.status != SETTLED:
            activation.status = RUNNING
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
