"""What moves through a run: tokens, activations, the commands that start them, and the records they leave.

Plain slots classes rather than attrs: several of these are made for every
activation, and a frozen attrs class costs about four times as much to make.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, Final, Literal

import attrs

from .plan import PlanEdge, PlanNode
from .values import Arrival
from .writes import Log, Values

if TYPE_CHECKING:
    from .maps import MapWork
    from .runs import Run

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

    __slots__ = ("index",)

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
        self.work = work
        self.state = item
        self.error = owner.error

    @property
    def id(self) -> str:
        return f"{self.run.prefix}{self.node.name}#{self.number}[{self.index}]"


class Outcome:
    """How an activation ended, kept until its turn to be settled."""

    __slots__ = ("changed", "edge", "error", "fault", "goto", "patch", "route", "update")

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
    "attempt",
    "signal",
    "pause",
    "resume",
    "cancel",
    "deadline",
    "retry",
    "ended",
]


class Record:
    """What the journal keeps of one decision; among the commands it stands before its consequences.

    `path` names the subgraph activations it happened in: `(("sub", 1, -1),)`, the
    third number being the item's index in a map. `emitted` is the route: edge
    indices and token ids; `absorbed` the tokens that ended at a join without effect.
    """

    __slots__ = (
        "absorbed",
        "activation",
        "attempts",
        "consumed",
        "emitted",
        "error",
        "kind",
        "limits",
        "node",
        "path",
        "signal",
        "stage",
        "update",
    )

    def __init__(
        self,
        kind: RecordKind,
        path: tuple[tuple[str, int, int], ...] = (),
        node: str = "",
        activation: int = 0,
        attempts: int = 0,
        consumed: tuple[int, ...] = (),
        update: Mapping[str, Any] | None = None,
        error: BaseException | None = None,
    ) -> None:
        self.kind: RecordKind = kind
        self.path = path
        self.node = node
        self.activation = activation
        self.attempts = attempts
        self.consumed = consumed
        self.update = update
        self.error = error
        self.emitted: tuple[tuple[int, int], ...] = ()
        self.absorbed: list[int] = []
        self.limits: tuple[int, ...] = ()
        self.stage: Stage = "node"
        self.signal: Any = None

    def as_dict(self) -> dict[str, Any]:
        return {name: getattr(self, name) for name in self.__slots__}

    def __repr__(self) -> str:
        return f"<Record {self.kind} {self.node}#{self.activation} -> {self.emitted}>"


Command = Activation | CancelNode | SetTimer | ClearTimer | PullItems | CloseItems | RunDone | Record
