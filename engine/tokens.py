"""What moves through a run: tokens, activations, the commands that start them, and the records they leave.

Plain slots classes rather than attrs: several of these are made for every
activation, and a frozen attrs class costs about four times as much to make.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, Final, Literal

import attrs

from .history import LogStatus
from .plan import PlanEdge, PlanNode
from .values import Arrival
from .writes import Log, Values

if TYPE_CHECKING:
    from .maps import MapWork
    from .runs import Run
    from .waits import KeptSignal

Counts = dict[int, int]
"""Loop -> how often its limited edge was taken since the token came in from outside."""

Descent = dict[int, frozenset[int]]
"""`first`/`k` join on a cycle -> which of its activations a token descends from."""


@attrs.frozen
class ErrorInfo:
    """What `ctx.error` says to the target of an error edge."""

    node: str
    activation: int
    type: str
    message: str
    attempts: int
    exception: BaseException | None = attrs.field(default=None, eq=False, repr=False)


class Token:
    """One state on its way, come by `edge` from the activation `number` of the edge's source."""

    __slots__ = ("counts", "descent", "edge", "error", "id", "log", "number", "values")

    def __init__(
        self,
        id: int,
        edge: PlanEdge,
        number: int,
        values: Values,
        log: Log | None,
        counts: Counts | None,
        descent: Descent | None,
        error: ErrorInfo | None,
    ) -> None:
        self.id = id
        self.edge = edge
        self.number = number
        self.values = values
        self.log = log
        self.counts = counts
        self.descent = descent
        self.error = error


# How an activation stands. Up to SETTLED it is live: it counts as being at its node.
HELD: Final = 0
"""Not yet started: the run is paused."""
RUNNING: Final = 1
RETRYING: Final = 2
"""Waiting for the timer of its next attempt."""
PARKED: Final = 3
"""A wait whose signal has not come."""
INSIDE: Final = 4
"""Its subgraph or its map's items are at work."""
DONE: Final = 5
"""It has its outcome and waits for its turn to be settled."""
CANCELLING: Final = 6
"""Told to stop; its worker has not answered yet."""
NOT_BEGUN: Final = 7
"""Its input could not be made: there is no attempt, and the failure is about to be handled."""
SETTLED: Final = 8
FAILED: Final = 9
CANCELLED: Final = 10

Stage = Literal["node", "routing", "start"]
"""Where an activation failed: in its node, after it had succeeded, or before it could run."""


class Activation:
    """One execution of one node in one run. Among a run's commands, the order to start its next attempt.

    A worker needs `node`, `number`, `attempt`, `state` (what to call the function
    with), `error`, `iteration` and `arrivals`; the answer goes to `run.succeeded`
    or `run.failed`, with the attempt's number.
    """

    __slots__ = (
        "ahead",
        "arrived",
        "attempt",
        "base",
        "begun",
        "behind",
        "came_from",
        "child",
        "counts",
        "descent",
        "due",
        "ended_as",
        "entered",
        "entered_with",
        "error",
        "failed_ways",
        "log",
        "node",
        "number",
        "outcome",
        "run",
        "signal",
        "stage",
        "state",
        "status",
        "timed_out",
        "tokens",
        "values",
        "work",
    )

    index = -1
    """The item's number, for an item of a map; -1 for any other activation."""

    def __init__(
        self,
        run: Run,
        node: PlanNode,
        number: int,
        values: Values,
        log: Log | None,
        counts: Counts | None,
        descent: Descent | None,
        tokens: tuple[int, ...],
        entered: PlanEdge,
        came_from: int,
    ) -> None:
        self.run = run
        self.node = node
        self.number = number
        self.values = values
        self.log = log
        self.counts = counts
        self.descent = descent
        self.tokens = tokens
        self.entered = entered
        self.came_from = came_from
        self.status = RUNNING
        self.attempt = 1
        self.state: Any = None
        self.error: ErrorInfo | None = None
        self.ahead: Activation | None = None
        self.behind: Activation | None = None
        # The other slots are for what few activations need; they are set when it comes to that.

    if TYPE_CHECKING:
        arrived: tuple[Token, ...]
        """The tokens that a join consumed."""
        base: int
        """Attempts made before the run was retried."""
        begun: float
        """When the run inside it began, or went on for a further attempt."""
        child: Run | None
        due: float
        """When the timer of its next attempt fires."""
        ended_as: tuple[LogStatus, float] | None
        """How its newest attempt ended and when that had begun, until a record says so."""
        entered_with: Values
        failed_ways: frozenset[int]
        outcome: Outcome | None
        signal: int
        stage: Stage
        timed_out: bool
        work: MapWork

    @property
    def name(self) -> str:
        """The node's name with the path of the subgraphs it is in: `sub#1/inner`."""
        return self.run.prefix + self.node.name

    @property
    def id(self) -> str:
        return f"{self.run.prefix}{self.node.name}#{self.number}"

    @property
    def token(self) -> str:
        """The stable idempotency token: the same for every attempt, whatever happens."""
        return f"{self.run.root.id}/{self.id}"

    @property
    def iteration(self) -> int:
        return 1 + max(self.counts.values()) if self.counts else 1

    @property
    def arrivals(self) -> tuple[Arrival, ...]:
        """How each incoming edge stood when this started."""
        tokens: tuple[Token, ...] = getattr(self, "arrived", ())
        came = {token.edge.slot: token.number for token in tokens} or {self.entered.slot: self.came_from}
        failed: frozenset[int] = getattr(self, "failed_ways", frozenset())
        found = []
        for edge in self.node.ins:
            if edge.slot in came:
                number = came[edge.slot] if edge.source is not None else None
                found.append(Arrival(edge.source_name, "arrived", number))
            else:
                found.append(Arrival(edge.source_name, "failed" if edge.slot in failed else "skipped"))
        return tuple(found)

    def __repr__(self) -> str:
        return f"<Activation {self.id} attempt {self.attempt} status {self.status}>"


class Item(Activation):
    """One item of a map. To a scheduler it is an activation: started, answered and cancelled alike."""

    __slots__ = ("consumed", "index")

    def __init__(self, owner: Activation, work: MapWork, index: int, item: Any) -> None:
        super().__init__(
            owner.run,
            owner.node,
            owner.number,
            owner.values,
            None,
            owner.counts,
            None,
            owner.tokens,
            owner.entered,
            owner.came_from,
        )
        self.index = index
        self.consumed: tuple[KeptSignal, ...] = ()
        """Signals that waits inside it took, until a record says so."""
        self.work = work
        self.state = item
        self.error = owner.error

    @property
    def id(self) -> str:
        return f"{self.run.prefix}{self.node.name}#{self.number}[{self.index}]"


class Outcome:
    """How an activation ended, kept until its turn to be settled."""

    __slots__ = ("changed", "edge", "error", "fault", "goto", "packed", "patch", "recorded", "route", "update")

    def __init__(
        self,
        update: Mapping[str, Any] | None = None,
        changed: Mapping[str, Any] | None = None,
        goto: tuple[str, ...] | None = None,
        edge: PlanEdge | None = None,
        error: BaseException | None = None,
    ) -> None:
        self.update = update
        self.changed = changed
        """The new value of each key of the update."""
        self.goto = goto
        self.edge = edge
        """The error edge to go along."""
        self.error = error
        self.route: tuple[Sequence[PlanEdge], Sequence[PlanEdge]] | None = None
        """The edges to take, if they are decided already, and those at their limit."""
        self.fault: Exception | None = None
        """What deciding raised."""
        self.patch: Mapping[str, Any] | None = None
        """What a retry of the run sets after the activation's own update."""
        self.packed: Any = None
        """The update as the journal packed it."""
        self.recorded = False
        """A record has it already."""


class Ended:
    """A token that came to an end: at `END`, or at a node with no way on. `place` orders the final merge.

    Or, if `folded`, several of one node: conflicts between those are still to be found.
    """

    __slots__ = ("folded", "id", "log", "place", "values")

    def __init__(self, place: tuple[int, int, int], id: int, values: Values, log: Log | None) -> None:
        self.place = place
        self.id = id
        self.values = values
        self.log = log
        self.folded = False


# --- commands -------------------------------------------------------------------------------------------


class CancelNode:
    """Stop this activation's attempt; answer with `run.cancelled` (or `failed`) once it is over."""

    __slots__ = ("activation",)

    def __init__(self, activation: Activation) -> None:
        self.activation = activation


TimerPurpose = Literal["retry", "wait", "timeout"]


class SetTimer:
    """Call `run.timer_fired(activation, purpose)` after a delay. One timer per activation at a time."""

    __slots__ = ("activation", "delay", "purpose")

    def __init__(self, activation: Activation, purpose: TimerPurpose, delay: float) -> None:
        self.activation = activation
        self.purpose: TimerPurpose = purpose
        self.delay = delay


class ClearTimer:
    __slots__ = ("activation",)

    def __init__(self, activation: Activation) -> None:
        self.activation = activation


class PullItems:
    """Take up to `count` more items from the map's source; answer with `run.items_given`.

    The first time, `activation.state` is what a function `over` is called with.
    """

    __slots__ = ("activation", "count")

    def __init__(self, activation: Activation, count: int) -> None:
        self.activation = activation
        self.count = count


class CloseItems:
    """No more items are wanted: close the map's source, if it was opened. No answer is expected."""

    __slots__ = ("activation",)

    def __init__(self, activation: Activation) -> None:
        self.activation = activation


class RunDone:
    """The run has ended and nothing of it is left running."""

    __slots__ = ("run",)

    def __init__(self, run: Run) -> None:
        self.run = run


RecordKind = Literal[
    "settled",
    "error_edge",
    "failed",
    "cancelled",
    "done",
    "retrying",
    "attempt",
    "timeout",
    "item",
    "gone",
    "waiting",
    "signal",
    "pause",
    "resume",
    "cancel",
    "deadline",
    "poison",
    "retry",
    "ended",
    "forked",
]


class Record:
    """What the journal keeps of one decision; among the commands it stands before its consequences.

    Decisions about an activation: `settled`, `error_edge`, `failed`, `cancelled` (no
    longer needed by a join); `done`, its outcome, if its turn to be settled has not
    come: the later record does not repeat that; `retrying`, an attempt that failed
    and will be followed by another; `attempt`, a subgraph's next attempt begins;
    `timeout`, it has taken too long and is being cancelled;
    `item`, an item of a map is finished; `gone`, a cancelled attempt is over.
    About the run: `waiting` (for something outside), `signal`, `pause`, `resume`,
    `cancel`, `deadline`, `poison`, `retry`, `ended`; `forked`, the first one of a run that began
    as a fork: at which activation, with which update, and (`signal`) of which run, as it
    was after how many records.

    What happens inside of a map's items has no records: the item has one.
    """

    __slots__ = (
        "absorbed",
        "activation",
        "attempts",
        "consumed",
        "delay",
        "edge",
        "emitted",
        "error",
        "goto",
        "item",
        "kind",
        "limits",
        "node",
        "packed",
        "path",
        "seq",
        "signal",
        "stage",
        "started",
        "status",
        "time",
        "update",
        "waits",
    )

    def __init__(
        self,
        kind: RecordKind,
        time: float = 0.0,
        path: tuple[tuple[str, int, int], ...] = (),
        node: str = "",
        activation: int = 0,
        attempts: int = 0,
        consumed: Sequence[int] = (),
        update: Mapping[str, Any] | None = None,
        error: BaseException | None = None,
    ) -> None:
        self.kind: RecordKind = kind
        self.time = time
        """Of the decision, and so of the end of the attempt that led to it, if there was one."""
        self.seq = 0
        """The number of the newest event before those that this record stands for."""
        self.path = path
        """The subgraph activations it happened in: `(("sub", 1, -1),)`; the third is the item's index in a map."""
        self.node = node
        self.activation = activation
        self.attempts = attempts
        """Which attempt it was, or how many were made; 0 if the activation could not run."""
        self.consumed = consumed
        """The tokens that the activation began with."""
        self.update = update
        """What the activation changed, with contributions to reducers. An item's result stands under the map's `into`;
        the status of a run that `ended` under `status`."""
        self.error = error
        self.packed: Any = None
        """What the journal made of the update (or payload) before anything was decided."""
        self.status: LogStatus | Literal[""] = ""
        """How an attempt ended, if this record is the first to say so: then there is a log entry of it."""
        self.started = 0.0
        """When that attempt began."""
        self.emitted: Sequence[tuple[int, int]] = ()
        """The route: indices of edges, and the ids of the tokens that went along them."""
        self.absorbed: list[int] = []
        """Tokens that ended at a join without effect."""
        self.limits: Sequence[int] = ()
        """Edges not taken because of their limit."""
        self.goto: tuple[str, ...] | None = None
        self.edge = -1
        """The error edge that a `done` activation will go along."""
        self.stage: Stage = "node"
        self.item = -1
        """Index of the item of a map that this is about."""
        self.delay = 0.0
        """Seconds from `time` until the next attempt."""
        self.signal: Any = None
        """The serial number of the signal that ended a wait (those inside of an item: a tuple). What was signalled:
        `(serial, name, payload, id)`. A `cancel`'s reason; a `deadline`'s seconds."""
        self.waits = False
        """From here on the run waits for something outside."""

    def __repr__(self) -> str:
        return f"<Record {self.kind} {self.node}#{self.activation} -> {self.emitted}>"


Command = Activation | CancelNode | SetTimer | ClearTimer | PullItems | CloseItems | RunDone | Record
