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

from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from functools import partial
from typing import Any, Final, Literal

from . import replay
from .errors import (
    ActivationLimit,
    JoinStarved,
    NodeFailed,
    NodeTimeout,
    RunCancelled,
    RunEnded,
    RunFailed,
    RunTimeout,
    UnknownSignal,
)
from .history import History, LogStatus, RawLog, described
from .joins import Joins
from .maps import MapWork, worker_plan
from .merge import Branch, Contributions, Log, Meeting, Trace, logged, new_values, same, tracked_items
from .plan import Plan, PlanEdge, PlanNode
from .retry import retry_delay
from .routes import choose, error_way, follow, largest, travel
from .state import Values
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
    SETTLED,
    Activation,
    CancelNode,
    ClearTimer,
    Command,
    Counts,
    Descent,
    Ended,
    ErrorInfo,
    Item,
    Outcome,
    Record,
    RecordKind,
    RunDone,
    SetTimer,
    Stage,
    TimerPurpose,
    Token,
)
from .values import END, STOP, Goto
from .waits import KeptSignal, Signals, names, what_it_gives

Status = Literal["queued", "running", "waiting", "paused", "succeeded", "failed", "cancelled"]
Ending = Literal["", "succeeded", "failed", "cancelled"]
Path = tuple[tuple[str, int, int], ...]

_NO_LIMIT: Final = 1 << 62
_MANY: Final = 64
"""How much may pile up before it is worth looking for what can be forgotten; then twice what was left."""


class Tree:
    """What a run shares with the runs of its subgraphs."""

    __slots__ = (
        "careful",
        "executing",
        "held",
        "history",
        "journal",
        "later",
        "loop_limits",
        "now",
        "out",
        "owner",
        "paused",
        "replaying",
        "retries",
        "signals",
        "was_waiting",
        "writes",
    )

    def __init__(self, history: int, journal: bool) -> None:
        self.owner: Any = None
        """Whoever drives the run; nothing here looks at it."""
        self.out: list[Command] = []
        self.history = History(history)
        self.journal = journal
        self.now = 0.0
        self.paused = False
        self.replaying = False
        self.careful = journal
        """Something forbids the short way through a chain: a journal, a pause, a replay."""
        self.held: dict[Activation, None] = {}
        self.signals = Signals()
        self.later: deque[Callable[[], None]] = deque()
        """What must wait until the decision at hand is complete."""
        self.executing = 0
        """Attempts that were ordered and have not ended."""
        self.retries = 0
        self.loop_limits = 0
        self.writes = 0
        self.was_waiting = False

    def next_write(self) -> int:
        self.writes += 1
        return self.writes


class Run:
    """One run of a plan on one initial state, or the inside of one subgraph activation."""

    __slots__ = (
        "_end_conflict",
        "_ended_limit",
        "_final_settled",
        "_initial",
        "_limit",
        "_lingering",
        "_over_limits",
        "_state",
        "_timeout",
        "active",
        "cancel_reason",
        "ended",
        "ending",
        "epoch",
        "error",
        "failed_ones",
        "failures",
        "id",
        "in_map",
        "joins",
        "last",
        "next_token",
        "numbers",
        "parent",
        "plan",
        "pool",
        "prefix",
        "reserved",
        "root",
        "started",
        "state",
        "tracked",
        "tree",
        "unstarted",
    )

    def __init__(
        self,
        plan: Plan,
        run_id: str,
        *,
        journal: bool = False,
        parent: Activation | None = None,
    ) -> None:
        self.plan = plan
        self.id = run_id
        self.parent = parent
        if parent is None:
            self.tree = Tree(plan.decl.history, journal)
            self.root: Run = self
            self.prefix = ""
        else:
            self.tree = parent.run.tree
            self.root = parent.run.root
            self.prefix = parent.id + "/"
        self.in_map: bool = parent is not None and (parent.index >= 0 or parent.run.in_map)
        self.pool: dict[int, Token] | None = None
        """While a fork is rebuilt: the tokens that no record has consumed yet."""
        self.numbers = [0] * len(plan.nodes)
        self.last: list[Activation | None] = [None] * len(plan.nodes)
        """Each node's newest live activation; from it `ahead` leads to the older ones."""
        self.active: dict[Activation, None] = {}
        self.joins = Joins(self)
        self.ended: list[Ended] = []
        self.failed_ones: list[Activation] = []
        self.failures: list[NodeFailed] = []
        self.reserved: dict[int, list[int]] = {}
        self.unstarted: dict[int, int] = {}
        self.next_token = 0
        self.started = 0
        self.epoch = 0
        limit = plan.decl.max_activations
        self._limit = _NO_LIMIT if limit is None else limit
        self._lingering = 0
        self.ending: Ending = ""
        self._state: Status = "queued"
        self._initial: Values = {}
        self.state: Values = {}
        """The values at the end of the run; at a failure, those at that point."""
        self.error: RunFailed | RunCancelled | None = None
        self.cancel_reason: str | None = None
        self.tracked: frozenset[str] = frozenset()
        self._end_conflict = False
        self._ended_limit = _MANY
        self._over_limits: dict[str, int] = {}
        self._timeout: RunTimeout | None = None
        self._final_settled: frozenset[str] = frozenset()

    # --- events: the run as a whole -----------------------------------------------------------------

    def start(self, state: Any, now: float) -> list[Command]:
        """Begin on a state from outside; one that does not fit raises before anything has happened."""
        values = self.plan.state.admit(state)
        tree = self.tree
        tree.now = now
        tree.history.event("run_submitted", now)
        tree.history.event("run_started", now)
        self._enter(values)
        return self._commands()

    def replay(self, state: Any, records: Iterable[Record], now: float) -> list[Command]:
        """Instead of `start`: go on from where these records of the run end; orders what was in flight."""
        replay.replay(self, state, records, now)
        return self._commands()

    def fork(
        self,
        state: Any,
        records: Sequence[Record],
        at: str,
        now: float,
        update: Mapping[str, Any] | None = None,
    ) -> list[Command]:
        """Instead of `start`: go on from the activation `at` (`score#2`) of the run with these records.

        Everything that `at` did not cause is kept; it runs again with its tokens,
        after `update` to what it is given, and so does what had failed beside it.
        """
        replay.fork(self, state, records, at, update, now)
        return self._commands()

    def pause(self, now: float) -> list[Command]:
        """Hold new activations; what runs goes on, and so do retries and the time-outs of waits."""
        self._remember("pause")
        self.tree.now = now
        self.tree.paused = True
        self.tree.careful = True
        return self._commands()

    def resume(self, now: float) -> list[Command]:
        tree = self.tree
        self._remember("resume")
        tree.now = now
        tree.paused = False
        tree.careful = tree.journal
        held, tree.held = list(tree.held), {}
        for activation in held:
            activation.run._order(activation)
        return self._commands()

    def cancel(self, now: float, reason: str | None = None) -> list[Command]:
        """Ask the run to end; idempotent, and nothing to a run that is over."""
        self.tree.now = now
        if self._state in ("queued", "running") and not self.ending:
            self.cancel_reason = reason
            self._remember("cancel", reason)
            self._stop("cancelled")
        return self._commands()

    def deadline_hit(self, now: float, seconds: float) -> list[Command]:
        self.tree.now = now
        if self._state in ("queued", "running") and self.ending in ("", "failed"):
            self._timeout = RunTimeout(self.id, seconds)
            self._remember("deadline", seconds)
            if not self.ending:
                self._stop("failed")
        return self._commands()

    def signal(self, name: str, payload: Any, now: float, id: str | None = None) -> list[Command]:
        """Keep a signal until a wait takes it. Raises `UnknownSignal` or `RunEnded`."""
        tree = self.tree
        if self.over:
            raise RunEnded(self.id, self.status)
        if name not in self.plan.signals:
            raise UnknownSignal(name, sorted(self.plan.signals))
        tree.now = now
        kept = tree.signals.accept(name, payload, id)
        if kept is not None:
            self._remember("signal", (kept.serial, name, payload, id))
            tree.later.append(self._match_signals)
        return self._commands()

    def _remember(self, kind: RecordKind, fact: Any = None) -> None:
        if self.tree.journal:
            record = Record(kind)
            record.signal = fact
            self.tree.out.append(record)

    def retry(self, now: float, update: Mapping[str, Any] | None = None) -> list[Command]:
        """Run a failed run on from its failure, after `update` to what the failed activations were given."""
        if self._state != "failed":
            raise RunEnded(self.id, self.status)
        self.tree.now = now
        checked = self._checked(update)
        if self.tree.journal:
            self.tree.out.append(Record("retry", update=checked))
        self._go_on(checked)
        return self._commands()

    # --- events: attempts ---------------------------------------------------------------------------

    def succeeded(
        self, activation: Activation, attempt: int, returned: Any, now: float, started: float | None = None
    ) -> list[Command]:
        """The attempt's function returned. A late answer, to an attempt that was given up, is dropped."""
        tree = self.tree
        tree.now = now
        if activation.status != RUNNING or activation.attempt != attempt:
            return self._late(activation, attempt, returned, None, started)
        if activation.index >= 0:
            return self._item_succeeded(activation, returned)
        node = activation.node
        goto = None
        try:
            if isinstance(returned, Goto):
                goto, returned = returned.targets, returned.update
            update = node.input.take(activation.values, activation.state, returned)
            reducers = self.plan.state.reducers
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
            and activation.descent is None
            and goto is None
            and not tree.careful
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
                    self, target, number, values, None, 0, counts, None, (token,), edge, activation.number
                )
                self.last[index] = following
                del self.active[activation]
                self.active[following] = None
                tree.history.step(raw, edge.target_name, self.prefix + target.name, number)
                try:
                    following.state = target.input.give(values)
                except Exception as error:
                    return self.failed(following, 1, error, now, now)
                return [following]
        tree.executing -= 1
        tree.history.entry(raw)
        tree.history.event("node_succeeded", now, raw[0], raw[1], (attempt, raw[7]))
        self._finish(activation, outcome if outcome is not None else Outcome(update, changed, goto))
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
            return self._late(activation, attempt, None, error, started)
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
            self._record_attempt(activation)
            self._order_attempt(activation)
        elif purpose == "wait" and activation.status == PARKED:
            tree.signals.parked.pop(activation, None)
            self._wait_timed_out(activation)
        elif purpose == "timeout" and activation.status == INSIDE:
            child = getattr(activation, "child", None)
            if child is not None:
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

    # --- what can be asked --------------------------------------------------------------------------

    @property
    def over(self) -> bool:
        return self._state in ("succeeded", "failed", "cancelled")

    @property
    def status(self) -> Status:
        if self._state != "running":
            return self._state
        if self.tree.paused:
            return "paused"
        return "waiting" if not self.tree.executing and not self.tree.held and not self.ending else "running"

    @property
    def history(self) -> History:
        return self.tree.history

    @property
    def not_run(self) -> list[str]:
        """The nodes that never ran."""
        return [node.name for node in self.plan.nodes if self.numbers[node.index] <= self.unstarted.get(node.index, 0)]

    @property
    def counters(self) -> dict[str, int]:
        """Activations (of this run and its subgraphs), retries, loop limits hit."""
        tree = self.tree
        return {
            "activations": tree.history.visits,
            "retries": tree.retries,
            "loop_limits": tree.loop_limits,
        }

    @property
    def unconsumed(self) -> tuple[KeptSignal, ...]:
        return self.tree.signals.unconsumed

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

    def is_active(self, node: PlanNode) -> bool:
        return self.last[node.index] is not None

    def activations_at(self, node: PlanNode) -> Iterator[Activation]:
        """The live activations of a node, newest first."""
        found = self.last[node.index]
        while found is not None:
            yield found
            found = found.ahead

    def places(self) -> Iterator[tuple[int, Descent | None]]:
        """The rank and descent of every live token."""
        for activation in self.active:
            yield activation.node.rank, activation.descent
        for waiting in self.joins.at.values():
            for token in waiting.tokens():
                yield waiting.node.rank, token.descent

    # --- starting -----------------------------------------------------------------------------------

    def _enter(self, values: Values) -> None:
        self._state = "running"
        self._initial = values
        entries = self.plan.entries
        log: Log | None = {} if len(entries) > 1 or self.tracked else None
        for edge in entries:
            self._deliver(edge, 0, values, log, None, None, None, None)
        self._join()

    def _deliver(
        self,
        edge: PlanEdge,
        came_from: int,
        values: Values,
        log: Any,
        counts: Counts | None,
        descent: Descent | None,
        error: ErrorInfo | None,
        record: Record | None,
    ) -> None:
        """A token takes an edge into a node: it starts it, or joins those that wait there."""
        node = edge.target
        assert node is not None
        self.next_token += 1
        if node.join or self.pool is not None:
            token = Token(self.next_token, edge, came_from, values, log, self.epoch, counts, descent, error)
            if self.pool is not None:
                self.pool[token.id] = token
                return
            if not self.joins.arrive(token):
                if record is not None:
                    record.absorbed.append(token.id)
                data = {"edge": edge.name}
                self.history.event("token_absorbed", self.tree.now, self.prefix + node.name, None, data)
            return
        activation = Activation(
            self,
            node,
            self._number(node),
            values,
            log,
            self.epoch,
            counts,
            descent,
            (self.next_token,),
            edge,
            came_from,
        )
        activation.error = error
        self._begin(activation, None)

    def _number(self, node: PlanNode) -> int:
        reserved = self.reserved.get(node.index)
        if reserved:
            return reserved.pop(0)
        self.numbers[node.index] = number = self.numbers[node.index] + 1
        return number

    def start_join(self, node: PlanNode, tokens: list[Token], fault: Exception | None = None) -> int:
        """Run a join with these tokens, given in the order of their edges; gives the activation's number."""
        number = self._number(node)
        failed_ways = self._failed_ways(node, tokens)
        if fault is None and failed_ways and node.needed == len(node.ins):
            fault = self._lacking(node, tokens, failed_ways)
        activation, conflict = self.gather(node, tokens, number)
        if failed_ways:
            activation.failed_ways = failed_ways
        self._begin(activation, fault or conflict)
        return number

    def gather(self, node: PlanNode, tokens: Sequence[Token], number: int) -> tuple[Activation, Exception | None]:
        """An activation with all that these tokens carry, and what is wrong with merging them."""
        conflict: Exception | None = None
        try:
            values, log = self._merged(node.name, tokens)
        except Exception as error:
            conflict = error
            values, log = self._taken_as_last(node.name, tokens)
        activation = Activation(
            self,
            node,
            number,
            values,
            log,
            max(token.epoch for token in tokens),
            largest(token.counts for token in tokens),
            self._descent(node, tokens, number),
            tuple(token.id for token in tokens),
            tokens[0].edge,
            tokens[0].number,
        )
        activation.error = next((token.error for token in tokens if token.error is not None), None)
        activation.arrived = tuple(tokens)
        return activation, conflict

    def _taken_as_last(self, name: str, branches: Sequence[Branch]) -> tuple[Values, Any]:
        """For the record of a failure: whatever can be merged; the first branch if a reducer raises."""
        try:
            return self._meeting(name, last=True).merge(branches)
        except Exception:
            return branches[0].values, branches[0].log

    def _merged(
        self, name: str, branches: Sequence[Branch], settled: frozenset[str] = frozenset()
    ) -> tuple[Values, Any]:
        if len(branches) == 1 and not getattr(branches[0], "folded", False):
            return branches[0].values, branches[0].log
        return self._meeting(name, settled=settled).merge(branches)

    def _meeting(self, name: str, *, last: bool = False, settled: frozenset[str] = frozenset()) -> Meeting:
        reducers = self.plan.state.reducers
        return Meeting(name, reducers, self.tree.next_write, last or self.plan.conflicts_last, settled)

    def _descent(self, node: PlanNode, tokens: Sequence[Token], number: int) -> Descent | None:
        """The `first` and k joins that the activation's tokens descend from and can come back to."""
        merged: Descent = {}
        for token in tokens:
            for join, numbers in (token.descent or {}).items():
                merged[join] = merged.get(join, frozenset()) | numbers
        if node.cyclic and node.join == 2:
            waiting = self.joins.at.get(node.index)
            open_waves = {wave.activation for wave in waiting.waves} if waiting is not None else set()
            merged[node.index] = (merged.get(node.index, frozenset()) & open_waves) | {number}
        return merged or None

    def _failed_ways(self, node: PlanNode, tokens: Sequence[Token]) -> frozenset[int]:
        """The incoming edges that brought nothing and that a failed activation could have reached."""
        if not self.failed_ones:
            return frozenset()
        came = {token.edge.slot for token in tokens}
        ranks = 0
        here = False
        for activation in self.failed_ones:
            here = here or activation.node is node
            ranks |= 1 << activation.node.rank
        if here:
            for edge in node.outs:
                if edge.target is not None:
                    ranks |= 1 << edge.target.rank
        return frozenset(
            edge.slot
            for edge in node.ins
            if edge.slot not in came and ((here and edge.source is node) or self.plan.reach(edge).among(ranks) >= 0)
        )

    def _lacking(self, node: PlanNode, tokens: Sequence[Token], failed_ways: frozenset[int]) -> JoinStarved:
        came = {token.edge.slot for token in tokens}
        arrived = [edge.source_name for edge in node.ins if edge.slot in came]
        missing = [edge.source_name for edge in node.ins if edge.slot in failed_ways]
        fault = JoinStarved(node.name, len(arrived) + len(missing), arrived, missing)
        fault.__cause__ = self.failures[0]
        return fault

    def _begin(self, activation: Activation, fault: Exception | None) -> None:
        """A new activation is live; start it, unless something forbids that from the outset."""
        self._link(activation)
        if self.started >= self._limit:
            fault = ActivationLimit(self._limit, activation.node.name)
        if fault is not None:
            activation.stage = "start"
            activation.status = DONE
            activation.outcome = Outcome(error=fault)
            index = activation.node.index
            self.unstarted[index] = self.unstarted.get(index, 0) + 1
            self._defer(lambda: self._fail_start(activation))
            return
        self.started += 1
        tree, node = self.tree, activation.node
        if node.kind != "function" or tree.paused:
            self._run_node(activation)
            return
        name = self.prefix + node.name
        tree.history.visit(name)
        tree.history.event("node_started", tree.now, name, activation.number, 1)
        try:
            activation.state = node.input.give(activation.values)
        except Exception as error:
            self._defer(partial(self._attempt_failed, activation, error, 0.5))
            return
        tree.executing += 1
        tree.out.append(activation)

    def _run_node(self, activation: Activation) -> None:
        tree = self.tree
        if tree.paused:
            activation.status = HELD
            tree.held[activation] = None
        else:
            self._order(activation)

    def _order(self, activation: Activation) -> None:
        """Start a live activation's work, by what its node is."""
        node, tree = activation.node, self.tree
        name = self.prefix + node.name
        tree.history.visit(name)
        tree.history.event("node_started", tree.now, name, activation.number, activation.attempt)
        self._order_attempt(activation)

    def _order_attempt(self, activation: Activation) -> None:
        node = activation.node
        if activation.index >= 0:
            self._order_item(activation)
        elif node.kind == "function":
            try:
                activation.state = node.input.give(activation.values)
            except Exception as error:
                activation.status = RUNNING
                self._defer(partial(self._attempt_failed, activation, error, 0.5))
                return
            activation.status = RUNNING
            self.tree.executing += 1
            self.tree.out.append(activation)
        elif node.kind == "wait":
            self._park(activation)
        elif node.kind == "map":
            self._begin_map(activation)
        else:
            self._begin_inside(activation)

    def _record_attempt(self, activation: Activation) -> None:
        if self.journals and activation.index < 0:
            node, number, attempt = activation.node.name, activation.number, activation.attempt
            self.tree.out.append(Record("attempt", self.path, node, number, attempt))

    @property
    def journals(self) -> bool:
        """Are its decisions recorded? Those inside a map's items are not: a map is recorded as a whole."""
        return self.tree.journal and not self.in_map

    def _link(self, activation: Activation) -> None:
        """Count it as being at its node, in the order of activation numbers."""
        index = activation.node.index
        behind: Activation | None = None
        ahead = self.last[index]
        if ahead is None:
            self.last[index] = activation
            self.active[activation] = None
            if self.joins.count:
                self.joins.started(activation.node)
            return
        while ahead is not None and ahead.number > activation.number:
            behind, ahead = ahead, ahead.ahead
        activation.ahead, activation.behind = ahead, behind
        if ahead is not None:
            ahead.behind = activation
        if behind is not None:
            behind.ahead = activation
        else:
            self.last[index] = activation
        self.active[activation] = None
        if self.joins.count:
            self.joins.started(activation.node)

    def _leave(self, activation: Activation, status: int) -> Activation | None:
        """It is no longer live; gives the next activation of its node."""
        activation.status = status
        del self.active[activation]
        ahead, behind = activation.ahead, activation.behind
        if ahead is not None:
            ahead.behind = behind
        if behind is not None:
            behind.ahead = ahead
        else:
            self.last[activation.node.index] = ahead
        activation.ahead = activation.behind = None
        if self.joins.count and self.last[activation.node.index] is None:
            self.joins.left(activation.node)
        return behind

    # --- ending an attempt --------------------------------------------------------------------------

    def _attempt_failed(self, activation: Activation, error: BaseException, random: float) -> None:
        tree, node = self.tree, activation.node
        base = getattr(activation, "base", 0)
        delay = retry_delay(node.retry, error, activation.attempt - base, random) if node.retry else None
        if delay is not None and not self.ending:
            activation.status = RETRYING
            tree.retries += 1
            data = {"attempt": activation.attempt, "delay": delay, "error": described(error)}
            tree.history.event("node_retrying", tree.now, self.prefix + node.name, activation.number, data)
            tree.out.append(SetTimer(activation, "retry", delay))
        elif activation.index >= 0:
            assert isinstance(activation, Item)
            activation.work.failed(self, activation, error)
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

    # --- settling: decide, then apply -----------------------------------------------------------------

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
        patch = getattr(activation, "patch", None)
        if patch:
            self._write(activation, patch, new_values(activation.values, patch, self.plan.state.reducers))

    def _write(self, activation: Activation, update: Mapping[str, Any], changed: Mapping[str, Any]) -> None:
        values, log = activation.values, activation.log
        if log is not None:
            changed = dict(changed)
            reducers, name = self.plan.state.reducers, activation.node.name
            activation.log = log = logged(log, values, update, changed, reducers, name, self.tree.next_write)
            for key in update:
                if key in log and len(log[key].over) > self._over_limits.get(key, _MANY):
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
        self._over_limits[key] = max(_MANY, 2 * len(kept))

    def _branches(self) -> Iterator[Branch]:
        """All that carries a state: live, waiting, ended and failed."""
        yield from self.ended
        for one in (*self.failed_ones, *self.active):
            yield one
            yield from getattr(one, "arrived", ())
        for waiting in self.joins.at.values():
            yield from waiting.tokens()
        yield from (self.pool or {}).values()

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
        record = None
        if self.journals:
            record = self._record(kind, activation)
            record.limits = tuple(edge.index for edge in limits)
            first = self.next_token + 1
            record.emitted = tuple((edge.index, first + i) for i, edge in enumerate(taken))
        for edge in limits:
            tree.loop_limits += 1
            data = {"edge": edge.name, "limit": edge.limit}
            tree.history.event("loop_limit", tree.now, name, activation.number, data)
        log = activation.log
        if log is None and len(taken) > 1:
            log = {}
        error = None
        if outcome.edge is not None:
            assert outcome.error is not None
            error = _error_info(activation, outcome.error)
        stop = False
        if any(edge.target_name == STOP for edge in taken):
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

    def _kept_descent(self, descent: Descent, target: PlanNode) -> Descent | None:
        nodes = self.plan.nodes
        kept = {join: n for join, n in descent.items() if nodes[join].component == target.component}
        return kept or None

    def _end_token(self, activation: Activation, edge: PlanEdge | None, id: int, log: Any) -> None:
        place = (activation.node.index, activation.number, -1 if edge is None else edge.index)
        self.ended.append(Ended(place, id, activation.values, log, self.epoch))
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
        self.ended = []
        for group in by_node.values():
            try:
                values, log = meeting.merge(group)
            except Exception:
                self.ended += group  # A reducer raises: let it do so where that is reported.
            else:
                folded = Ended(group[-1].place, group[-1].id, values, log, self.epoch)
                folded.folded = True
                self.ended.append(folded)
        self._ended_limit = max(_MANY, 2 * len(self.ended))

    def _record(self, kind: RecordKind, activation: Activation) -> Record:
        outcome = activation.outcome
        record = Record(
            kind,
            self.path,
            activation.node.name,
            activation.number,
            activation.attempt,
            activation.tokens,
            outcome.update if outcome is not None else None,
            outcome.error if outcome is not None else None,
        )
        record.stage = getattr(activation, "stage", "node")
        record.signal = getattr(activation, "signal", None)
        self.tree.out.append(record)
        return record

    @property
    def path(self) -> Path:
        parent = self.parent
        if parent is None:
            return ()
        return (*parent.run.path, (parent.node.name, parent.number, parent.index))

    def _join(self) -> None:
        """After every change: start the joins that can go, and end the run if nothing is live."""
        if self.pool is not None:
            return
        if self.joins.count and not self.ending:
            self.joins.go()
        if not self.active and not self.joins.count and not self.ending:
            self._finish_run()

    # --- failing, stopping, ending ------------------------------------------------------------------

    def _fail(self, activation: Activation, error: BaseException, stage: Stage) -> None:
        tree, node = self.tree, activation.node
        attempts = 0 if stage == "start" else activation.attempt
        self.failures.append(NodeFailed(node.name, activation.number, attempts, error))
        data = {"attempts": attempts, "error": described(error)}
        tree.history.event("node_failed", tree.now, self.prefix + node.name, activation.number, data)
        activation.stage = stage
        if self.journals:
            self._record("failed", activation).error = error
        self.failed_ones.append(activation)
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
        self.ended = [Ended((0, 0, 0), 0, activation.values, activation.log, self.epoch)]
        self._stop("succeeded")

    def halt(self, activation: Activation) -> bool:
        """Cancel a live activation or item. True if it is gone already."""
        tree, status = self.tree, activation.status
        if status in (DONE, CANCELLING, CANCELLED):
            return status == CANCELLED
        name = self.prefix + activation.node.name
        if activation.index < 0:
            tree.history.event("node_cancelled", tree.now, name, activation.number)
        activation.status = CANCELLED
        if status == RUNNING:
            activation.status = CANCELLING
            self._lingering += 1
            tree.out.append(CancelNode(activation))
        elif status == HELD:
            tree.held.pop(activation, None)
        elif status == RETRYING:
            tree.out.append(ClearTimer(activation))
        elif status == PARKED:
            tree.signals.parked.pop(activation, None)
            if activation.node.decl.wait is not None and activation.node.decl.wait.timeout is not None:
                tree.out.append(ClearTimer(activation))
        elif status == INSIDE:
            activation.status = CANCELLING
            self._lingering += 1
            child: Run | None = getattr(activation, "child", None)
            if child is not None:
                child._stop("cancelled") if not child.ending else None
            else:
                activation.work.stop(self)
                activation.work.fill(self)
        return activation.status == CANCELLED

    def cancel_late(self, activation: Activation) -> None:
        """Cancel what could only arrive at a join that needs it no more (`rest="cancel"`)."""
        tree = self.tree
        name = self.prefix + activation.node.name
        activation.outcome = None
        if tree.replaying:
            return
        if self.journals:
            self._record("cancelled", activation)
        self.halt(activation)
        status = activation.status
        behind = self._leave(activation, status)
        tree.history.event("token_absorbed", tree.now, name, activation.number)
        if behind is not None:
            self._soon(behind)

    def _gone(self, activation: Activation) -> None:
        """The worker of a cancelled activation or item is gone."""
        if activation.status == CANCELLING:
            self._lingering -= 1
        activation.status = CANCELLED
        if activation.index >= 0:
            assert isinstance(activation, Item)
            activation.work.dropped(self, activation)
        self._maybe_over()

    def _late(
        self,
        activation: Activation,
        attempt: int,
        returned: Any,
        error: BaseException | None,
        started: float | None,
    ) -> list[Command]:
        """An answer to an attempt that is being cancelled, or was given up."""
        if activation.status != CANCELLING or activation.attempt != attempt:
            return self._commands()
        self.tree.executing -= 1
        self._log(activation, "succeeded" if error is None else "failed", error, started)
        if activation.index >= 0 or activation not in self.active or self.ending != "failed":
            self._gone(activation)
        elif error is not None:
            self._lingering -= 1
            activation.outcome = Outcome(error=error)
            self._fail(activation, error, "node")
            self._maybe_over()
        else:
            # It was quicker than its cancellation: on a retry of the run it need not run again.
            self._lingering -= 1
            self._keep_outcome(activation, returned)
            self._maybe_over()
        return self._commands()

    def _keep_outcome(self, activation: Activation, returned: Any) -> None:
        goto = None
        try:
            if isinstance(returned, Goto):
                goto, returned = returned.targets, returned.update
            update = activation.node.input.take(activation.values, activation.state, returned)
            changed = new_values(activation.values, update or {}, self.plan.state.reducers)
        except Exception as error:
            activation.outcome = Outcome(error=error)
            self._fail(activation, error, "node")
        else:
            activation.outcome = Outcome(update, changed, goto)
            activation.status = DONE

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
                values, log = self._merged(END, branches, self._final_settled)
            except Exception as error:
                if self.journals:
                    self.tree.out.append(Record("failed", self.path, END, error=error))
                self._fail_end(error)
                return
            self.ended = [Ended((0, 0, 0), 0, values, log, self.epoch)]
        self.ending = "succeeded"
        self._maybe_over()

    def _fail_end(self, error: BaseException) -> None:
        """What came to its end cannot be merged."""
        self._end_conflict = True
        self.failures.append(NodeFailed(END, 0, 0, error))
        self.ending = "failed"
        self._maybe_over()

    def _ended_in_order(self) -> list[Ended]:
        return sorted(self.ended, key=lambda ended: ended.place)

    def _end(self, ending: Ending) -> None:
        tree = self.tree
        if ending == "succeeded":
            # Tokens that a join absorbed end without effect; if all were, nothing has changed.
            self.state = self.ended[-1].values if self.ended else self._initial
        else:
            self.state = self.present_values()
        if ending == "failed":
            timeout = [] if self._timeout is None else [self._timeout]
            self.error = RunFailed.of(self.id, self.plan.name, [*self.failures, *timeout])
        elif ending == "cancelled":
            self.error = RunCancelled(self.id, self.cancel_reason)
        assert ending != ""
        self._state = ending
        if self.parent is not None:
            parent = self.parent
            tree.later.append(lambda: parent.run._inside_over(parent, self))
            return
        data = {"error": str(self.error)} if self.error is not None else None
        tree.history.event(f"run_{ending}", tree.now, None, None, data)
        if tree.journal:
            tree.out.append(Record("ended", update={"status": ending}))
        tree.out.append(RunDone(self))

    # --- waits --------------------------------------------------------------------------------------

    def _park(self, activation: Activation) -> None:
        wait = activation.node.decl.wait
        assert wait is not None
        activation.status = PARKED
        activation.state = self.tree.now
        self.tree.signals.parked[activation] = None
        if wait.timeout is not None:
            self.tree.out.append(SetTimer(activation, "wait", wait.timeout))
        self.tree.later.append(self._match_signals)

    def _match_signals(self) -> None:
        while (found := self.tree.signals.match()) is not None:
            activation, signal = found
            activation.signal = signal.serial
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
        try:
            update = node.input.take(values, node.input.give(values), returned) if returned else None
            changed = new_values(values, update or {}, self.plan.state.reducers)
        except Exception as error:
            self._log(activation, "failed", error, started)
            activation.status = RUNNING
            self._give_up(activation, error)
            return
        self._log(activation, "succeeded", None, started, tuple(update or ()))
        data = (activation.attempt, tuple(update or ()))
        self.history.event("node_succeeded", self.tree.now, self.prefix + node.name, activation.number, data)
        self._finish(activation, Outcome(update, changed))

    # --- maps ---------------------------------------------------------------------------------------

    def _begin_map(self, activation: Activation) -> None:
        decl = activation.node.decl.map
        assert decl is not None
        activation.status = INSIDE
        work = getattr(activation, "work", None)
        if work is None:
            work = activation.work = MapWork(activation, decl)
        activation.state = (self.tree.now, activation.node.input.give(activation.values))
        work.begin(self)

    def start_item(self, item: Item) -> None:
        self._order_item(item)

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

    def _item_succeeded(self, activation: Activation, returned: Any) -> list[Command]:
        assert isinstance(activation, Item)
        self.tree.executing -= 1
        activation.work.succeeded(self, activation, returned)
        return self._commands()

    def map_over(self, activation: Activation, work: MapWork) -> None:
        self.tree.later.append(lambda: self._map_over(activation, work))

    def _map_over(self, activation: Activation, work: MapWork) -> None:
        if activation.status == CANCELLING:
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

    # --- subgraphs ----------------------------------------------------------------------------------

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

        activation.state = self.tree.now
        self._open_child(activation, plan, passed_in, tracked)

    def _open_child(
        self, activation: Activation, plan: Plan, initial: Callable[[], Values], tracked: frozenset[str]
    ) -> None:
        activation.status = INSIDE
        activation.timed_out = False
        try:
            values = initial()
        except Exception as error:
            self._defer(partial(self._attempt_failed, activation, error, 0.5))
            return
        child = activation.child = Run(plan, self.root.id, parent=activation)
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
        if activation.node.timeout is not None and not activation.timed_out:
            self.tree.out.append(ClearTimer(activation))
        if activation.status == CANCELLING:
            self._log(activation, "cancelled", None, None)
            self._gone(activation)
        elif child._state == "succeeded":
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
            self._log(activation, status, error, None)
            self._attempt_failed(activation, error, 0.5)

    def _inside_succeeded(self, activation: Activation, child: Run) -> None:
        if activation.index >= 0:
            assert isinstance(activation, Item)
            activation.work.succeeded(self, activation, child.plan.state.build(child.state))
            return
        decl = activation.node.decl.subgraph
        assert decl is not None
        log = child.ended[-1].log or {} if child.ended else {}
        update: dict[str, Any] = {}
        before: Values = activation.entered_with
        for key, value in child.state.items():
            outer = decl.leave.get(key, key)
            if not self.plan.state.knows(outer):
                continue
            if key in child.tracked:
                if key in log:
                    update[outer] = Contributions(tracked_items(log[key]))
            elif key not in before or not same(before[key], value):
                update[outer] = value
        self._complete_raw(activation, update)

    def _complete_raw(self, activation: Activation, update: dict[str, Any]) -> None:
        started = activation.state
        try:
            changed = new_values(activation.values, update, self.plan.state.reducers)
        except Exception as error:
            self._log(activation, "failed", error, started)
            self._give_up(activation, error)
            return
        self._log(activation, "succeeded", None, started, tuple(update))
        data = (activation.attempt, tuple(update))
        name = self.prefix + activation.node.name
        self.history.event("node_succeeded", self.tree.now, name, activation.number, data)
        self._finish(activation, Outcome(update, changed))

    # --- going on after a failure -------------------------------------------------------------------

    def _checked(self, update: Mapping[str, Any] | None) -> Mapping[str, Any] | None:
        """The update as the state takes it; raises what an update that does not fit raises."""
        if not update:
            return None
        values = self.failed_ones[0].values if self.failed_ones else self.state
        return self.plan.state.take(values, self.plan.state.give(values), update)

    def _go_on(self, update: Mapping[str, Any] | None) -> None:
        failed, self.failed_ones = self.failed_ones, []
        self.failures = []
        self.error = None
        self._timeout = None
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
            self._soon(activation)
        self._defer(self._join)

    def _patch_ended(self, update: Mapping[str, Any] | None) -> None:
        if not update:
            return
        values, log = self._merged(END, self._ended_in_order(), frozenset(update))
        changed = new_values(values, update, self.plan.state.reducers)
        self.ended = [Ended((0, 0, 0), 0, {**values, **changed}, log, self.epoch)]

    def _revive(self, activation: Activation, update: Mapping[str, Any] | None) -> None:
        """A failed activation is live again: routed again if its node had succeeded, else tried again."""
        stage = activation.stage
        index = activation.node.index
        arrived = getattr(activation, "arrived", ())
        if stage == "start" and isinstance(getattr(activation.outcome, "error", None), JoinStarved):
            # What it lacked may come now: its tokens wait again, and its number is kept for it.
            self.reserved.setdefault(index, []).append(activation.number)
            self.unstarted[index] -= 1
            for token in arrived:
                self.joins.arrive(token)
            return
        if stage == "start":
            self.unstarted[index] -= 1
            if len(arrived) > 1:
                values, log = self._merged(activation.node.name, arrived, frozenset(update or ()))
                activation.values, activation.log = values, log
        self._link(activation)
        if stage == "routing":
            activation.status = DONE
            activation.patch = update or {}
            return
        if update:
            changed = new_values(activation.values, update, self.plan.state.reducers)
            self._write(activation, update, changed)
        self._again(activation)

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
        self._record_attempt(activation)
        if child is not None and child._state in ("failed", "cancelled"):
            activation.status = INSIDE
            activation.timed_out = False
            child._go_on(None)
            return
        if activation.node.kind == "map":
            activation.work = MapWork(activation, activation.node.decl.map)  # type: ignore[arg-type]
        self._order_attempt(activation)

    # --- small things -------------------------------------------------------------------------------

    def _soon(self, activation: Activation) -> None:
        """Settle it once the decision at hand is complete, if its turn has come."""
        self.tree.later.append(lambda: self._turns(activation))

    def _defer(self, action: Callable[[], None]) -> None:
        self.tree.later.append(action)

    def _log(
        self,
        activation: Activation,
        status: LogStatus,
        error: BaseException | None,
        started: float | None,
        keys: tuple[str, ...] = (),
    ) -> None:
        now = self.tree.now
        name = activation.name if activation.index < 0 else f"{activation.name}[{activation.index}]"
        shown = None if error is None else described(error)
        start = now if started is None else started
        self.tree.history.entry((name, activation.number, activation.attempt, status, start, now, shown, keys))

    def _commands(self) -> list[Command]:
        tree = self.tree
        if not tree.replaying:
            while tree.later:
                tree.later.popleft()()
            if not tree.executing or tree.was_waiting:
                self._tell_waiting()
        out, tree.out = tree.out, []
        return out

    def _tell_waiting(self) -> None:
        tree, waiting = self.tree, self.root.status == "waiting"
        if waiting and not tree.was_waiting:
            tree.history.event("run_waiting", tree.now)
        tree.was_waiting = waiting

    def explain(self, name: str) -> str:
        """What a node is doing or waiting for, in words."""
        node = self.plan.by_name[name]
        said = [_doing(activation) for activation in self.activations_at(node)][::-1]
        for edge, places in self.joins.waits_for(node):
            where = ", ".join(places)
            said.append(
                f"waits for {edge.name!r}: a token at {where} can still come by it"
                if places
                else f"lacks {edge.name!r}, by which nothing can come any more"
            )
        waiting = self.joins.at.get(node.index)
        if waiting is not None and waiting.count:
            came = ", ".join(repr(token.edge.name) for token in waiting.tokens())
            said.insert(0, f"holds {came}")
        if not said:
            said = [f"never ran ({name!r})" if name in self.not_run else "has nothing to do"]
        return f"{name}: " + "; ".join(said)


def _doing(activation: Activation) -> str:
    number = f"#{activation.number}"
    match activation.status:
        case s if s == HELD:
            return f"{number} is held: the run is paused"
        case s if s == RETRYING:
            return f"{number} waits for its attempt {activation.attempt + 1}"
        case s if s == PARKED:
            return f"{number} waits for the signal {' or '.join(map(repr, names(activation.node)))}"
        case s if s == DONE:
            return f"{number} is done and waits for its turn after #{activation.number - 1}"
        case s if s == CANCELLING:
            return f"{number} is being cancelled"
        case _:
            return f"{number} is running (attempt {activation.attempt})"


def _error_info(activation: Activation, error: BaseException) -> ErrorInfo:
    return ErrorInfo(
        activation.node.name,
        activation.number,
        type(error).__name__,
        str(error),
        activation.attempt,
        error,
    )
