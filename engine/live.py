"""What is live in a run: the lowest layer of `Run`, which the layers above it make move.

A `Run` is written as layers, one concern each, each knowing only those below:
live (what there is), branches (what it is worth together), starting, stopping,
settling, inside (waits, maps, subgraphs), going_on (after a failure), quick (the
short way), and on top, in runs.py, the events. What a layer needs of one above it is declared here.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, Final, Literal, TypeVar

from .errors import NodeFailed, PoisonRun, RunCancelled, RunFailed, RunTimeout
from .history import History, LogStatus, RawLog, described
from .joins import Joins
from .packing import Packer
from .plan import Plan, PlanEdge, PlanNode
from .state import Values
from .tokens import (
    CANCELLING,
    HELD,
    INSIDE,
    NOT_BEGUN,
    PARKED,
    RETRYING,
    RUNNING,
    Activation,
    Descent,
    Ended,
    Item,
    Record,
    RecordKind,
    Token,
)
from .tree import Tree
from .waits import KeptSignal

if TYPE_CHECKING:
    from .runs import Run

Status = Literal["queued", "running", "waiting", "paused", "succeeded", "failed", "cancelled"]
Ending = Literal["", "succeeded", "failed", "cancelled"]
Path = tuple[tuple[str, int, int], ...]

T = TypeVar("T")

_NONE: Final[Mapping[Any, Any]] = MappingProxyType({})
_NO_LIMIT: Final = 1 << 62
_NO_VALUES: Final[Values] = {}
_NO_KEYS: Final = frozenset[str]()  # an empty one takes 216 bytes, of which each run had two
MANY: Final = 64
"""How much may pile up before it is worth looking for what can be forgotten; then twice what was left."""


def _goes_on(activation: Activation) -> bool:
    """Whether a live activation, with no attempt at work in the whole run, still comes on by itself."""
    status = activation.status
    if status != INSIDE:
        return status in (RETRYING, CANCELLING)
    child = getattr(activation, "child", None)
    return not child.at_rest if child is not None else activation.work.goes_on(_goes_on)


def _is_parked(activation: Activation) -> bool:
    child: Run | None = getattr(activation, "child", None)
    if activation.status == INSIDE and child is not None:
        return child.is_parked
    if activation.status == RUNNING:
        return activation.run.tree.paused  # then it is held when the run goes on
    return activation.status in (PARKED, HELD)


class Live:
    """A run's data, and what can be asked about it."""

    __slots__ = (
        "_end_conflict",
        "_ended_limit",
        "_final_settled",
        "_initial",
        "_limit",
        "_lingering",
        "_over_limits",
        "_state",
        "_verdict",
        "active",
        "cancel_reason",
        "ended",
        "ending",
        "error",
        "failed_ones",
        "failures",
        "id",
        "in_map",
        "joins",
        "journals",
        "last",
        "next_token",
        "numbers",
        "parent",
        "plan",
        "pool",
        "prefix",
        "reserved",
        "root",
        "run",
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
        journal: Packer | bool | None = None,
        parent: Activation | None = None,
    ) -> None:
        self.run: Run = self  # type: ignore[assignment]  # itself, as what the layers above make of it
        self.plan = plan
        self.id = run_id
        self.parent = parent
        if parent is None:
            self.tree = Tree(plan.decl.history, journal)
            self.root: Run = self.run
            self.prefix = ""
        else:
            self.tree = parent.run.tree
            self.root = parent.run.root
            self.prefix = parent.id + "/"
        self.in_map: bool = parent is not None and (parent.index >= 0 or parent.run.in_map)
        self.journals = bool(self.tree.journal) and not self.in_map
        """Are its decisions recorded? Those inside a map's items are not: an item is recorded as a whole."""
        self.pool: dict[int, Token] | None = None
        """While a fork is rebuilt: the tokens that no record has consumed yet."""
        self.numbers = [0] * len(plan.nodes)
        self.last: list[Activation | None] = [None] * len(plan.nodes)
        """Each node's newest live activation; from it `ahead` leads to the older ones."""
        self.active: dict[Activation, None] = {}
        self.joins = Joins(self.run)
        # What few runs need is one and the same empty thing in all others, and never changed in place.
        self.ended: Sequence[Ended] = ()
        self.failed_ones: Sequence[Activation] = ()
        self.failures: Sequence[NodeFailed] = ()
        self.reserved: Mapping[int, Sequence[int]] = _NONE
        """Numbers that activations of these nodes get before any new ones."""
        self.unstarted: Mapping[int, int] = _NONE
        """How many activations of these nodes got a number and never ran."""
        self.next_token = 0
        self.started = 0
        limit = plan.decl.max_activations
        self._limit = _NO_LIMIT if limit is None else limit
        self._lingering = 0
        self.ending: Ending = ""
        self._state: Status = "queued"
        self._initial: Values = _NO_VALUES
        """The values at its start, while it is queued, or if they may turn out to be those at its end."""
        self.state: Values = _NO_VALUES
        """The values at the end of the run; at a failure, those at that point."""
        self.error: RunFailed | RunCancelled | None = None
        self.cancel_reason: str | None = None
        self.tracked: frozenset[str] = _NO_KEYS
        self._end_conflict = False
        self._ended_limit = MANY
        self._over_limits: Mapping[str, int] = _NONE
        self._verdict: RunTimeout | PoisonRun | None = None
        """What ended it as a whole."""
        self._final_settled: frozenset[str] = _NO_KEYS

    @property
    def over(self) -> bool:
        return self._state in ("succeeded", "failed", "cancelled")

    @property
    def status(self) -> Status:
        if self._state != "running":
            return self._state
        if self.tree.replaying:
            return "queued"  # it is as it was, and held until there is a place for it
        if self.tree.paused:
            return "paused"
        return "waiting" if not self.tree.executing and not self.tree.held and not self.ending else "running"

    @property
    def at_rest(self) -> bool:
        """Whether nothing goes on in it until something comes from outside: a signal, a wait's time-out, `resume`."""
        if self._state != "running" or self.tree.executing or self.ending:
            return False
        return not any(_goes_on(activation) for activation in self.active)

    @property
    def is_parked(self) -> bool:
        """Whether all that is live in it, and may be held, waits for something from outside."""
        return all(_is_parked(activation) for activation in self.active)

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
        return self.tree.unconsumed

    def label(self, node: PlanNode) -> str:
        """How a node is called in metrics: without the numbers of the activations that it is inside of."""
        return node.name if self.parent is None else f"{self.plan.name}.{node.name}"

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

    @property
    def path(self) -> Path:
        parent = self.parent
        if parent is None:
            return ()
        return (*parent.run.path, (parent.node.name, parent.number, parent.index))

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

    def _number(self, node: PlanNode) -> int:
        reserved = self.reserved.get(node.index)
        if reserved:
            self.reserved = {**self.reserved, node.index: reserved[1:]}
            return reserved[0]
        self.numbers[node.index] = number = self.numbers[node.index] + 1
        return number

    def _reserve(self, node: PlanNode, number: int) -> None:
        self.reserved = {**self.reserved, node.index: (*self.reserved.get(node.index, ()), number)}

    def _remember(self, kind: RecordKind, fact: Any = None, packed: Any = None) -> None:
        if self.tree.journal:
            record = Record(kind, self.tree.now)
            record.seq = self.tree.history.seq
            record.signal = fact
            record.packed = packed
            self.tree.out.append(record)

    def _record(self, kind: RecordKind, activation: Activation) -> Record:
        """Record something about an activation, and how its attempt ended if nothing has told yet."""
        tree = self.tree
        record = Record(
            kind,
            tree.now,
            () if self.parent is None else self.path,
            activation.node.name,
            activation.number,
            activation.attempt,
            activation.tokens,
        )
        ended: tuple[LogStatus, float] | None = getattr(activation, "ended_as", None)
        record.seq = tree.history.seq
        if ended is not None:
            record.status, record.started = ended
            activation.ended_as = None
            if record.status == "succeeded" and kind != "gone" and not self.ending:
                record.seq -= 1  # there is an event of it already
        if isinstance(activation, Item):
            record.item = activation.index
            if activation.consumed:
                record.signal, activation.consumed = tuple(signal.serial for signal in activation.consumed), ()
        tree.out.append(record)
        return record

    def _record_outcome(self, kind: RecordKind, activation: Activation) -> Record:
        """The same, with the outcome: all of it, unless an earlier record has that."""
        record = self._record(kind, activation)
        record.stage = getattr(activation, "stage", "node")
        record.signal = getattr(activation, "signal", None)
        outcome = activation.outcome
        if outcome is not None:
            record.error = outcome.error
            if not outcome.recorded:
                outcome.recorded = True
                record.update, record.packed, record.goto = outcome.update, outcome.packed, outcome.goto
                if kind == "done" and outcome.edge is not None:
                    record.edge = outcome.edge.index
        return record

    def _step(
        self, activation: Activation, raw: RawLog, update: Mapping[str, Any] | None, packed: Any, edge: PlanEdge
    ) -> Record:
        """The record of one that succeeded and goes on along one edge, with the token made last."""
        record = Record(
            "settled",
            raw[5],
            () if self.parent is None else self.path,
            activation.node.name,
            activation.number,
            activation.attempt,
            activation.tokens,
            update,
        )
        record.seq = self.tree.history.seq
        record.packed = packed
        record.status, record.started = raw[3], raw[4]
        record.emitted = ((edge.index, self.next_token),)
        return record

    def _packed(self, activation: Activation, update: Mapping[str, Any]) -> Any:
        """What the journal makes of an update; raises what says that it cannot be kept."""
        pack = self.tree.pack
        if pack is None or not self.journals:
            return None
        item = f"[{activation.index}]" if activation.index >= 0 else ""
        return pack(update, f"node {activation.name + item!r}")

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
        if self.journals:
            activation.ended_as = (status, start)

    def _ended_inside(self, activation: Activation, outcome: str) -> None:
        """Count an activation that is over and whose node runs no function: nobody else does."""
        counts = self.tree.counts
        if counts is not None and not self.tree.replaying and activation.index < 0:
            counts.ended_inside(self.label(activation.node), outcome)

    def _soon(self, activation: Activation) -> None:
        """Settle it once the decision at hand is complete, if its turn has come."""
        self.tree.defer(lambda: self._turns(activation))

    def _defer(self, action: Callable[[], None]) -> None:
        self.tree.defer(action)

    def _cannot_begin(self, activation: Activation, error: Exception) -> None:
        """No attempt could be made, since its input could not: it has failed once the decision at hand is complete."""
        activation.status = NOT_BEGUN
        self._defer(partial(self._has_not_begun, activation, error))

    def _has_not_begun(self, activation: Activation, error: Exception) -> None:
        # What failed before it may have ended the run, and this with it: nobody answers for what has not begun.
        if activation.status == NOT_BEGUN:
            self._log(activation, "failed", error, None)
            self._attempt_failed(activation, error, 0.5)

    # --- what the layers above do -------------------------------------------------------------------

    def _turns(self, activation: Activation | None) -> None:
        raise NotImplementedError

    def _join(self) -> None:
        raise NotImplementedError

    def _fail_start(self, activation: Activation) -> None:
        raise NotImplementedError

    def _attempt_failed(self, activation: Activation, error: BaseException, random: float) -> None:
        raise NotImplementedError

    def _park(self, activation: Activation) -> None:
        raise NotImplementedError

    def _begin_map(self, activation: Activation) -> None:
        raise NotImplementedError

    def _order_item(self, item: Activation) -> None:
        raise NotImplementedError

    def _begin_inside(self, activation: Activation) -> None:
        raise NotImplementedError


def appended(items: Sequence[T], item: T) -> list[T]:
    """A sequence with one more: the same list, unless it was not one yet."""
    if isinstance(items, list):
        items.append(item)
        return items
    return [*items, item]
