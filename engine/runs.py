"""One run as a state machine: events in (method calls), commands out (their results). Pure.

It does no I/O, reads no clock and rolls no dice: times and random numbers come in
with the events. Every public method named as something that happened returns the
commands that follow from it, in the order in which they are to be carried out;
with `journal=True` a `Record` stands before the consequences of each decision.

What an event leads to is split in two. *Deciding* runs the author's conditions,
routers and reducers and ends in the edges taken. *Applying* moves tokens and asks
no author's code for a way; replay.py drives it from records instead.

A run that never forked has one token and no bookkeeping that grows: `log is None`
says that nobody else carries anything of it. A dict of values is never changed
once it exists, so tokens share it and whoever reads it may keep it.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from . import forking, replay, restore
from .errors import PoisonRun, RunEnded, RunTimeout, UnknownSignal
from .explain import explain
from .history import RawLog
from .live import Status as Status
from .merge import new_values
from .packing import changes
from .plan import PlanEdge, PlanNode
from .quick import Quick
from .routes import choose, travel
from .snapshot import Snapshot
from .snapshot import snapshot as take_snapshot
from .state import Values
from .tokens import (
    CANCELLING,
    INSIDE,
    PARKED,
    RETRYING,
    RUNNING,
    SETTLED,
    Activation,
    Command,
    Counts,
    Outcome,
    Record,
    TimerPurpose,
)
from .values import Goto
from .waits import check_payload


class Run(Quick):
    """One run of a plan on one initial state, or the inside of one subgraph activation."""

    __slots__ = ()

    def expect(self, values: Values) -> None:
        """It is queued, and will begin on these: until then they are its state."""
        self._initial = values

    def start(self, state: Any, now: float) -> list[Command]:
        """Begin on a state from outside; one that does not fit raises before anything has happened."""
        return self.begin(self.plan.state.admit(state), now)

    def begin(self, values: Values, now: float) -> list[Command]:
        """As `start`, on values that were admitted already."""
        tree = self.tree
        tree.now = now
        tree.history.began(now)
        self._enter(values)
        return self._commands()

    def replay(
        self, state: Any, records: Iterable[Record], now: float, began: float | None = None, *, held: bool = False
    ) -> list[Command]:
        """Instead of `start`: go on from where these records of the run end; orders what was in flight.

        `now` is the present time: what is left of timeouts and of the delays of retries
        counts from it. `began`, if it is known, is when the run was started. If it is
        `held`, nothing follows before `go_live`: until then it is queued.
        """
        replay.replay(self, state, records, now if began is None else began)
        return [] if held else self.go_live(now)

    def snapshot(self) -> Snapshot:
        """All that is live, for `restore`. Take it between events, of a run that has a journal."""
        return take_snapshot(self)

    def restore(
        self, snapshot: Snapshot, records: Iterable[Record], now: float, *, held: bool = False
    ) -> list[Command]:
        """Instead of `start`: go on from a snapshot and the records after it; otherwise as `replay`."""
        restore.restore(self, snapshot, records)
        return [] if held else self.go_live(now)

    def go_live(self, now: float) -> list[Command]:
        """It has a place: order all that is live, and has been held or was in flight in another life."""
        records = [command for command in self.tree.out if isinstance(command, Record)]
        replay.go_live(self, now)
        self.tree.out[:0] = records
        return self._commands()

    def fork(
        self,
        state: Any,
        records: Sequence[Record],
        at: str,
        now: float,
        update: Mapping[str, Any] | None = None,
        *,
        of: str = "",
        held: bool = False,
    ) -> list[Command]:
        """Instead of `start`: go on from the activation `at` (`score#2`) of the run `of`, which has these records.

        Everything that `at` did not cause is kept; it runs again with its tokens,
        after `update` to what it is given, and so does what had failed beside it.
        Raises `ActivationNotFound`, what is wrong with the update, or `RecordsGone` if
        these are not all records of that run. `held` is as for `replay`; then the record
        of the fork is the only command.
        """
        record = forking.fork(self, state, records, at, update, now, of or self.id)
        return [record] if held else self.go_live(now)

    def pause(self, now: float) -> list[Command]:
        """Hold new activations; what runs goes on, and so do retries and the time-outs of waits."""
        self.tree.now = now
        self._remember("pause")
        self.tree.paused = True
        self.tree.careful = True
        return self._commands()

    def resume(self, now: float) -> list[Command]:
        self.tree.now = now
        self._remember("resume")
        self._let_on()
        return self._commands()

    def cancel(self, now: float, reason: str | None = None) -> list[Command]:
        """Ask the run to end; idempotent, and nothing to a run that is over."""
        self.tree.now = now
        if self._state in ("queued", "running") and not self.ending:
            self.cancel_reason = reason
            self._remember("cancel", reason)
            self._stop("cancelled")
        return self._ended_if_held(now)

    def deadline_hit(self, now: float, seconds: float) -> list[Command]:
        self.tree.now = now
        if self._state in ("queued", "running") and self.ending in ("", "failed"):
            self._verdict = RunTimeout(self.id, seconds)
            self._remember("deadline", seconds)
            if not self.ending:
                self._stop("failed")
        return self._ended_if_held(now)

    def engines_died(self, now: float, times: int, engines: Sequence[str]) -> list[Command]:
        """It is held, and is not let go on any more: so many engines in a row died with it, at last these."""
        self.tree.now = now
        if self._state in ("queued", "running") and self.ending in ("", "failed"):
            self._verdict = PoisonRun(self.id, times, engines)
            self._remember("poison", (times, list(engines)))
            if not self.ending:
                self._stop("failed")
        return self._ended_if_held(now)

    def _ended_if_held(self, now: float) -> list[Command]:
        """Nothing works on a run that is held: if it is to end, it has ended."""
        return self.go_live(now) if self.ending and self.tree.replaying else self._commands()

    def signal(self, name: str, payload: Any, now: float, id: str | None = None) -> list[Command]:
        """Keep a signal until a wait takes it. Raises `UnknownSignal`, `RunEnded`, `StateInvalid`, …

        One whose id came before is that one, and nothing happens: not even `RunEnded`, for it may be what ended the
        run, and comes again since its sender was never told.
        """
        tree = self.tree
        if self.over:
            if tree.signals.came_before(id):
                return self._commands()
            raise RunEnded(self.id, self.status)
        if name not in self.plan.signals:
            raise UnknownSignal(name, sorted(self.plan.signals))
        check_payload(self.plan, name, payload)
        packed = None if tree.pack is None else tree.pack({name: payload}, f"signal {name!r}")
        tree.now = now
        kept = tree.signals.accept(name, payload, id)
        if kept is not None:
            self._remember("signal", (kept.serial, name, payload, id), packed)
            tree.defer(self._match_signals)
        return self._commands()

    def retry(self, now: float, update: Mapping[str, Any] | None = None, *, held: bool = False) -> list[Command]:
        """Run a failed run on from its failure, after `update` to what the failed activations were given.

        If it is `held`, that is on record, and nothing follows before `go_live`: until then it is queued.
        """
        if self._state != "failed":
            raise RunEnded(self.id, self.status)
        given = [activation.values for activation in self.failed_ones] or [self.state]
        checked, packed = self._checked("retry", update, given)
        self.tree.now = now
        if self.tree.journal:
            record = Record("retry", now, update=checked)
            record.seq = self.tree.history.seq
            record.packed = packed
            self.tree.out.append(record)
        if held:
            self.tree.replaying = self.tree.careful = True
        self._go_on(checked)
        return self._commands()

    def succeeded(
        self, activation: Activation, attempt: int, returned: Any, now: float, started: float | None = None
    ) -> list[Command]:
        """The attempt's function returned. A late answer, to an attempt that was given up, is dropped."""
        tree = self.tree
        tree.now = now
        if activation.status != RUNNING or activation.attempt != attempt:
            self._late(activation, attempt, returned, None, started)
            return self._commands()
        if activation.index >= 0:
            self._item_succeeded(activation, returned, started)
            return self._commands()
        node = activation.node
        goto = packed = None
        try:
            if isinstance(returned, Goto):
                goto, returned = returned.targets, returned.update
            update = node.input.take(activation.values, activation.state, returned)
            reducers = self.plan.state.reducers
            if update and self.journals:
                update = changes(update, activation.values, reducers)
                packed = self._packed(activation, update)
            changed = new_values(activation.values, update, reducers) if update and reducers else update
        except Exception as error:
            return self.failed(activation, attempt, error, now, started)
        raw: RawLog = (
            self.prefix + node.name,
            activation.number,
            attempt,
            "succeeded",
            now if started is None else started,
            now,
            None,
            tuple(update) if update else (),
        )
        outcome = None
        if (
            activation.log is None
            and (node.straight is not None or node.moves is None)
            and activation.descent is None
            and goto is None
            and not tree.careful
            and not self.reserved
            and self.started < self._limit
        ):
            # One token and nobody else: what _settle does, without the detours, if it goes straight on.
            values = activation.values
            if changed:
                values = {**values, **changed}
            edge = node.straight
            if edge is None:
                outcome = Outcome(update, changed)
                edge = self._one_way(node, values, activation.counts, outcome)
            if edge is not None:
                counts = activation.counts
                if counts is not None or edge.loop is not None:
                    counts = travel(self.plan, counts, edge)
                activation.status = SETTLED
                self.last[node.index] = None
                target: PlanNode = edge.target  # type: ignore[assignment]  # straight ways lead to nodes
                index = target.index
                self.numbers[index] = number = self.numbers[index] + 1
                self.next_token = token = self.next_token + 1
                self.started += 1
                following = Activation(
                    self, target, number, values, None, counts, None, (token,), edge, activation.number
                )
                self.last[index] = following
                del self.active[activation]
                self.active[following] = None
                if self.journals:
                    tree.out.append(self._step(activation, raw, update, packed, edge))
                tree.history.step(raw, edge.target_name, self.prefix + target.name, number)
                try:
                    following.state = target.input.give(values)
                except Exception as error:
                    return self.failed(following, 1, error, now, now)
                if self.journals:
                    tree.out.append(following)
                    return self._commands()
                return [following]
        elif (
            goto is None
            and not tree.careful
            and not self.journals
            and self._move_on(activation, update, changed or {}, raw)
        ):
            return self._commands()
        tree.executing -= 1
        tree.history.entry(raw)
        tree.history.event("node_succeeded", now, raw[0], raw[1], (attempt, raw[7]))
        if outcome is None:
            outcome = Outcome(update, changed, goto)
        if self.journals:
            outcome.packed = packed
            activation.ended_as = (raw[3], raw[4])
        self._finish(activation, outcome)
        return self._commands()

    def _one_way(self, node: PlanNode, values: Values, counts: Counts | None, outcome: Outcome) -> PlanEdge | None:
        """The only edge taken, if it runs a function by itself; else the decision is left in the outcome."""
        if not node.decided:
            return None
        try:
            outcome.route = taken, limits = choose(node, counts, lambda: self.plan.state.build(values))
        except Exception as error:
            outcome.fault = error
            return None
        if len(taken) != 1 or limits:
            return None
        target = taken[0].target
        return taken[0] if target is not None and target.simple else None

    def failed(
        self,
        activation: Activation,
        attempt: int,
        error: BaseException,
        now: float,
        started: float | None = None,
        random: float = 0.5,
        timed_out: bool = False,
    ) -> list[Command]:
        """The attempt raised, or was stopped at its timeout. `random`, from [0, 1), spreads the retry."""
        tree = self.tree
        tree.now = now
        if activation.status != RUNNING or activation.attempt != attempt:
            self._late(activation, attempt, None, error, started)
            return self._commands()
        tree.executing -= 1
        self._log(activation, "timed_out" if timed_out else "failed", error, started)
        self._attempt_failed(activation, error, random)
        return self._commands()

    def cancelled(
        self, activation: Activation, attempt: int, now: float, started: float | None = None
    ) -> list[Command]:
        """The attempt that a `CancelNode` was about is over."""
        self.tree.now = now
        if activation.status == CANCELLING and activation.attempt == attempt:
            self.tree.executing -= 1
            self._log(activation, "cancelled", None, started)
            self._gone(activation)
        return self._commands()

    def timer_fired(self, activation: Activation, purpose: TimerPurpose, now: float) -> list[Command]:
        tree = self.tree
        tree.now = now
        if purpose == "retry" and activation.status == RETRYING:
            activation.attempt += 1
            if self.journals and activation.index < 0 and activation.node.kind == "subgraph":
                self._record("attempt", activation)  # what is recorded inside belongs to this one
            self._order_attempt(activation)
        elif purpose == "wait" and activation.status == PARKED:
            tree.signals.parked.pop(activation, None)
            self._wait_timed_out(activation)
        elif purpose == "timeout" and activation.status == INSIDE:
            child = getattr(activation, "child", None)
            if child is not None:
                if self.journals and activation.index < 0:
                    self._record("timeout", activation)
                activation.timed_out = True
                child._stop("cancelled")
        return self._commands()

    def items_given(self, activation: Activation, items: Sequence[Any], more: bool, now: float) -> list[Command]:
        """Answer to `PullItems`: the next items of a map, and whether there may be more."""
        self.tree.now = now
        work = getattr(activation, "work", None)
        if work is not None and activation.status in (INSIDE, CANCELLING):
            work.given(self, items, more)
        return self._commands()

    def items_failed(self, activation: Activation, error: BaseException, now: float) -> list[Command]:
        """Answer to `PullItems`: the source of the items raised."""
        self.tree.now = now
        work = getattr(activation, "work", None)
        if work is not None and activation.status == INSIDE:
            work.source_failed(self, error)
            work.fill(self)
        return self._commands()

    def _commands(self) -> list[Command]:
        tree = self.tree
        if tree.replaying:
            # It is held. What is live is ordered when it goes live, what is to be decided is decided then.
            out, tree.out = tree.out, []
            return [command for command in out if isinstance(command, Record)]
        while tree.later:
            actions, tree.later = tree.later, ()
            for action in actions:
                action()
        if not tree.executing or tree.was_waiting:
            self._tell_waiting()
        out, tree.out = tree.out, []
        return out

    def _tell_waiting(self) -> None:
        tree, waiting = self.tree, self.root.status == "waiting"
        if waiting and not tree.was_waiting:
            if tree.journal:
                if not any(isinstance(command, Record) for command in tree.out):
                    self._remember("waiting")
                newest = next(command for command in reversed(tree.out) if isinstance(command, Record))
                newest.waits = True
            tree.history.event("run_waiting", tree.now)
        tree.was_waiting = waiting

    def explain(self, name: str) -> str:
        """What a node is doing or waiting for, in words."""
        return explain(self, name)
