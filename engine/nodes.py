"""A node at run time: an actor with a mailbox, limits and counts, shared by all runs of its graph.

Its tasks are those of its graph (`hands.py`). The scheduler hands an attempt straight to them, and a worker hands its
result straight to the scheduler, so an attempt that does not wait costs no task switch.
"""

from __future__ import annotations

import logging
import sys
from collections import OrderedDict
from collections.abc import Awaitable, Callable, Iterator, Mapping, Sequence
from math import inf
from time import perf_counter
from typing import Any, Final, Protocol

import anyio

from actors import StrayCancellation
from actors.waker import disown_cancellation

from .bodies import Body
from .counts import NODE_SECONDS, Histogram, Waits
from .driving import Driven
from .errors import NodeTimeout
from .gates import Gate
from .hands import Hands, Stopping, Worker
from .limits import Limits
from .logs import about
from .options import Batch, Rate
from .pace import Pace
from .plan import PlanEdge, PlanNode
from .timers import Timer, Timers
from .tokens import Activation

# Where nothing was ever queued: shared by all such crews, and never changed.
_NOBODY: Final[OrderedDict[Any, float]] = OrderedDict()
# Most attempts fall into the first bucket: a number does for those, and most nodes never have others.
QUICK: Final = NODE_SECONDS[0]
# A node that holds the loop for so long, in seconds, is told of. Half of it may be a busy machine's doing.
BLOCKING: Final = 0.5

logger = logging.getLogger("engine")


class Answers(Protocol):
    """Who is told what became of an attempt, which took so many seconds."""

    def attempt_succeeded(self, activation: Activation, attempt: int, returned: Any, seconds: float) -> None:
        """The function returned."""
        ...

    def attempt_failed(
        self, activation: Activation, attempt: int, error: BaseException, seconds: float, timed_out: bool
    ) -> None:
        """The function raised, or was stopped at its time-out."""
        ...

    def attempt_cancelled(self, activation: Activation, attempt: int, seconds: float) -> None:
        """A cancelled attempt is over."""
        ...

    def once_carried_out(self, activation: Activation, call: Callable[[], None]) -> None:
        """Call when the consequences of that have begun: with a journal, once the records of it are safe."""
        ...


class Crew:
    """What is known of one node across runs: its limits, its queue, its attempts in hand, its counts.

    Graphs have many nodes, and the collector looks at all that these hold whenever it looks at everything: so a crew
    has slots, and holds nothing that few of them need.
    """

    __slots__ = (
        "_answers",
        "_back",
        "_body",
        "_free_for_all",
        "_gates_in",
        "_gates_out",
        "_hands",
        "_is_async",
        "_orphans",
        "_pace",
        "_places",
        "_quick",
        "_quick_seconds",
        "_slow",
        "_timeout",
        "_timers",
        "_waits",
        "at_work",
        "busy",
        "cancelled",
        "done",
        "failed",
        "limit",
        "name",
        "node",
        "ready",
        "retries",
    )

    batch: Batch | None = None
    batches: int = 0
    """How many calls took several attempts at once."""
    circuit: None = None
    results: None = None

    def __init__(
        self,
        node: PlanNode,
        name: str,
        body: Body,
        answers: Answers,
        timers: Timers,
        hands: Hands,
        *,
        concurrency: int | None,
        rate: Rate | None = None,
        places: Places | None = None,
        gates_in: Mapping[PlanEdge, Gate] = {},
        gates_out: Sequence[Gate] = (),
    ) -> None:
        self.node: Final = node
        self.name: Final = name
        self.limit: float = inf if concurrency is None else concurrency
        self.ready: OrderedDict[Activation, float] = _NOBODY  # with the time since when each has waited
        self.busy: dict[Activation, Worker | None] = {}  # None until a worker has begun
        self._orphans: Sequence[Activation] = ()
        self.at_work = 0  # jobs with the workers, which `limit` bounds; a batch is one job
        self._waits: Waits | None = None
        self.done = 0
        self.failed = 0
        self.cancelled = 0
        self.retries = 0
        self._quick = 0
        self._quick_seconds = 0.0
        self._slow: Histogram | None = None
        self._body = body
        self._answers = answers
        self._timers = timers
        self._timeout = node.timeout
        self._is_async = getattr(node.decl.options, "is_async", False)
        self._pace = None if rate is None else Pace(rate)
        self._places = places
        self._gates_in = gates_in
        self._gates_out = gates_out
        self._free_for_all = self._is_free_for_all()
        self._back: Timer | None = None
        self._hands = hands
        hands.lend_to(self)

    # -- what can be seen

    @property
    def is_map(self) -> bool:
        """Whether its attempts are the items of a map."""
        return self.node.kind == "map"

    @property
    def limits(self) -> Limits:
        """What holds at present."""
        concurrency = None if self.limit == inf else int(self.limit)
        return Limits(concurrency=concurrency, rate=None if self._pace is None else self._pace.rate, batch=self.batch)

    @property
    def in_flight(self) -> int:
        """Attempts with the workers."""
        return len(self.busy)

    @property
    def queued(self) -> int:
        """Attempts that wait until the limits allow them."""
        return len(self.ready)

    @property
    def unlimited(self) -> bool:
        """Whether no attempt ever waits."""
        return self._free_for_all and self.limit == inf

    @property
    def tries_again(self) -> bool:
        """Whether a failed attempt may be followed by another."""
        return bool(self.node.retry)

    @property
    def durations(self) -> Histogram:
        """How many of its attempts took how long."""
        found = Histogram(NODE_SECONDS)
        if self._slow is not None:
            found.include(self._slow)
        found.seconds += self._quick_seconds
        found.buckets[0] += self._quick
        return found

    @property
    def mailbox_waits(self) -> Waits:
        """How often its attempts were queued, and how long in all."""
        return self._waits or Waits()

    @property
    def tokens_waiting(self) -> int | None:
        """Tokens that wait, ready to run, on incoming edges with a capacity; None if there are no such edges."""
        return sum(gate.depth for gate in self._gates_in.values()) if self._gates_in else None

    # -- the scheduler's side

    def start(self, activation: Activation) -> None:
        """Hand an attempt to the workers, or queue it until the limits allow that."""
        if not self.ready and self.at_work < self.limit and (self._free_for_all or self._admitted()):
            self.at_work += 1
            self.busy[activation] = None
            self._hands.give(self, activation)
        else:
            self._enqueue(activation)

    def _enqueue(self, activation: Activation) -> None:
        self._line()[activation] = perf_counter()
        if self._gates_in:
            for gate in self._gates_of(activation):
                gate.enter()

    def _line(self) -> OrderedDict[Activation, float]:
        if self.ready is _NOBODY:
            self.ready = OrderedDict()
        return self.ready

    def change(self, limits: Limits) -> None:
        """Go by other limits from now on; what has begun goes on, and what was started within the rate counts."""
        self.limit = inf if limits.concurrency is None else limits.concurrency
        before = self._pace
        if limits.rate is None:
            self._pace = None
        elif before is None or limits.rate != before.rate:
            self._pace = Pace(limits.rate, before)
        self._free_for_all = self._is_free_for_all()
        if self._back is not None:
            self._back.cancel()
            self._back = None
        if self.ready:
            self.take_queued()

    def _is_free_for_all(self) -> bool:
        return self._pace is None and self._places is None and not self._gates_out

    def answer_to(self, answers: Answers) -> Answers:
        """Answer to these from now on; returns those who were answered until now."""
        before, self._answers = self._answers, answers
        return before

    def withdraw(self) -> list[Activation]:
        """Take back all attempts that have not begun, in their order."""
        begun = self.busy
        taken = [*(one for one, worker in begun.items() if worker is None), *self.ready]
        for activation in list(self.ready):
            self._waited(activation, self.ready.pop(activation))
        for activation in taken:
            if activation in begun:
                self._revoke(activation)
        return taken

    def _revoke(self, activation: Activation) -> None:
        """Take back one that a worker has not come to yet."""
        del self.busy[activation]
        self._job_over()
        self._give_gates_back()

    def cancel(self, activation: Activation) -> bool:
        """Stop an attempt; true if it has not begun and so is over already."""
        worker = self.busy.get(activation)
        if worker is not None:
            worker.stop("cancel")
            return False
        since = self.ready.pop(activation, None)
        if since is not None:
            self._waited(activation, since)
        elif activation in self.busy:
            self._revoke(activation)
        self.cancelled += 1
        return True

    # -- the workers' side

    def begin(self, worker: Worker, job: Any) -> Awaitable[Any] | None:
        """Take an attempt's first step. Most end there and are answered; of others, the rest is to be awaited."""
        activation: Activation = job
        if self.busy.get(activation, worker) is not None:
            return None  # cancelled before it began
        self.busy[activation] = worker
        worker.job = activation
        worker.begun = begun = perf_counter()
        # Its time runs from here, but an attempt that ends at its first step needs no timer.
        due = 0.0 if self._timeout is None else anyio.current_time() + self._timeout
        try:
            running = self._body.begin(activation)
        except BaseException as error:
            self.end(worker, activation, None, error)
            return None
        if running.__class__ is Driven:
            if perf_counter() - begun > BLOCKING:
                self._say_that_it_blocks(perf_counter() - begun)
            if due:
                self._stop_at(due, worker, activation)
            return running
        if worker.stopping is not None:
            self.end(worker, activation, running, None)
            return None
        # The way of nearly every attempt: what `end` does for one that succeeded and has no timer, written out.
        seconds = perf_counter() - begun
        if seconds <= QUICK:
            self._quick += 1
            self._quick_seconds += seconds
        else:
            self._took(seconds)
            if seconds > BLOCKING:
                self._say_that_it_blocks(seconds)
        self.done += 1
        del self.busy[activation]
        self.at_work -= 1
        if self._places is not None:
            self._places.give_back()
        if self.ready:
            self.take_queued()
        self._answers.attempt_succeeded(activation, activation.attempt, running, seconds)
        if self._gates_out:
            self._answers.once_carried_out(activation, self._give_gates_back)
        return None

    def end(self, worker: Worker, job: Any, returned: Any, raised: BaseException | None) -> None:
        """Answer for an attempt that is over."""
        activation: Activation = job
        seconds = perf_counter() - worker.begun
        attempt = activation.attempt
        error, stopping = self._outcome(worker, returned, raised)
        del self.busy[activation]
        self._job_over()
        self._answer(activation, attempt, returned, error, stopping, seconds)
        if self._gates_out:
            self._answers.once_carried_out(activation, self._give_gates_back)

    def _outcome(
        self, worker: Worker, returned: Any, raised: BaseException | None
    ) -> tuple[BaseException | None, Stopping | None]:
        """What an attempt raised, and how it was stopped; the worker is free then."""
        error = raised if raised is None or isinstance(raised, Exception) else self._supervised(raised, worker)
        if type(error) is RuntimeError and isinstance(error.__cause__, StopIteration) and not self._is_async:
            # No coroutine can raise it, not even one that brings what a thread has raised.
            error = error.__cause__
        stopping, worker.stopping = worker.stopping, None
        worker.job = None
        if worker.timer is not None:
            worker.timer.cancel()
            worker.timer = None
        return error, stopping

    def _answer(
        self,
        activation: Activation,
        attempt: int,
        returned: Any,
        error: BaseException | None,
        stopping: Stopping | None,
        seconds: float,
    ) -> None:
        # One may have swallowed its cancellation: it was stopped all the same. At a time-out whatever it raises is the
        # time-out's affair; an error of its own while it is cancelled must not be lost, two may fail at once.
        if stopping == "cancel" and error is None:
            self.cancelled += 1
            self._answers.attempt_cancelled(activation, attempt, seconds)
        elif stopping == "timeout":
            self._count(seconds, False)
            late = NodeTimeout(activation.name, self._timeout or 0.0)
            self._answers.attempt_failed(activation, attempt, late, seconds, True)
        elif error is not None:
            self._count(seconds, False)
            self._answers.attempt_failed(activation, attempt, error, seconds, False)
        else:
            self._count(seconds, True)
            self._answers.attempt_succeeded(activation, attempt, returned, seconds)

    def _supervised(self, raised: BaseException, worker: Worker) -> BaseException | None:
        """The failure that a cancellation nobody asked for is, or an exit; raises what must not be supervised on."""
        cancelled = _cancellations()
        if not isinstance(raised, (*cancelled, BaseExceptionGroup, KeyboardInterrupt)):
            return raised  # a node's own affair: `sys.exit()` ends no more than a function
        rest: BaseException | None = raised
        if isinstance(raised, cancelled):
            rest = None
        elif isinstance(raised, BaseExceptionGroup):
            rest = raised.split(cancelled)[1]
        if isinstance(rest, KeyboardInterrupt):
            raise raised
        if isinstance(rest, BaseExceptionGroup) and rest.subgroup(KeyboardInterrupt) is not None:
            raise raised
        if worker.stopping is not None:
            return rest
        if not disown_cancellation():
            raise raised
        if rest is not None:
            return rest
        error = StrayCancellation(f"node {self.node.name!r} raised a cancellation that nobody asked for")
        error.__cause__ = raised
        return error

    def _job_over(self) -> None:
        """Let the next have the place of one that is over; before the answer, which may bring more work."""
        self.at_work -= 1
        if self._places is not None:
            self._places.give_back()
        if self.ready:
            self.take_queued()

    def take_queued(self) -> None:
        """Start what is queued, as far as the limits allow."""
        while self.ready and self.at_work < self.limit:
            if not self._free_for_all and not self._admitted():
                return
            self.at_work += 1
            self._hands.give(self, self._take())

    def _take(self) -> Any:
        activation, since = self.ready.popitem(last=False)
        self._waited(activation, since)
        self.busy[activation] = None
        return activation

    def put_back(self) -> None:
        """The workers are gone: what they had in hand goes back to the head of the queue, unless it was cancelled."""
        for activation in reversed(list(self.busy)):
            if self._is_cancelled(activation):
                self._orphans = [*self._orphans, activation]
            else:
                self._line()[activation] = perf_counter()
                self.ready.move_to_end(activation, last=False)
                for gate in self._gates_of(activation):
                    gate.enter()
            self._give_gates_back()
        self.busy.clear()
        if self._places is not None:
            for _ in range(self.at_work):
                self._places.give_back()
        self.at_work = 0

    def answer_orphans(self) -> None:
        """Answer for what was being cancelled when the workers went; what follows may be more work for any node."""
        orphans, self._orphans = self._orphans, ()
        for activation in orphans:
            self.cancelled += 1
            self._answers.attempt_cancelled(activation, activation.attempt, 0.0)

    def _is_cancelled(self, activation: Activation) -> bool:
        worker = self.busy[activation]
        return worker is not None and worker.stopping == "cancel"

    def _stop_at(self, due: float, worker: Worker, job: Any) -> None:
        def time_out() -> None:
            if worker.job is job:
                worker.stop("timeout")

        worker.timer = self._timers.at(due, time_out)

    def lets_out(self, call_when_open: Callable[[], object]) -> bool:
        """Whether edges allow a result that no attempt here has found: a place on each is kept for it then.

        Where they do not, the call is made once they do.
        """
        if not all(gate.is_open(call_when_open) for gate in self._gates_out):
            return False
        for gate in self._gates_out:
            gate.reserved += 1
        return True

    def let_out(self, activation: Activation) -> None:
        """It has been answered so: the places are given back once its tokens are on their way."""
        if self._gates_out:
            self._answers.once_carried_out(activation, self._give_gates_back)

    def waits_in_front(self, activation: Activation, *, still: bool) -> None:
        """It waits to be answered so, or does no longer: what came with it counts as waiting on its edges."""
        for gate in self._gates_of(activation) if self._gates_in else ():
            if still:
                gate.enter()
            else:
                gate.leave()

    def _give_gates_back(self) -> None:
        for gate in self._gates_out:
            gate.give_back()

    # -- counting and pacing

    def _count(self, seconds: float, succeeded: bool) -> None:
        self._took(seconds)
        if succeeded:
            self.done += 1
        else:
            self.failed += 1

    def _took(self, seconds: float) -> None:
        if seconds <= QUICK:
            self._quick += 1
            self._quick_seconds += seconds
            return
        if self._slow is None:
            self._slow = Histogram(NODE_SECONDS)
        self._slow.add(seconds)

    def _say_that_it_blocks(self, seconds: float) -> None:
        """Once for each node: its author has a machine to find out how often."""
        if self._hands.tell_once(self.name):
            logger.warning(
                "node %r of %r has held the event loop for %.1f s, and everything else with it: await what it waits "
                "for, or make it a plain function (`def`), which runs in a thread",
                self.name,
                self._hands.graph,
                seconds,
                extra=about(graph=self._hands.graph, node=self.name),
            )

    def _waited(self, activation: Activation, since: float) -> None:
        if self._waits is None:
            self._waits = Waits()
        self._waits.add(perf_counter() - since)
        if self._gates_in:
            for gate in self._gates_of(activation):
                gate.leave()

    def _gates_of(self, activation: Activation) -> Iterator[Gate]:
        tokens = getattr(activation, "arrived", ())
        for edge in [token.edge for token in tokens] or [activation.entered]:
            if edge in self._gates_in:
                yield self._gates_in[edge]

    def _admitted(self) -> bool:
        """Whether edges, executor and rate allow a start now; where not, `take_queued` is called once they do."""
        if not all(gate.is_open(self.take_queued) for gate in self._gates_out):
            return False
        if self._places is not None and not self._places.take(self):
            return False
        wait = 0.0 if self._pace is None else self._pace.take(anyio.current_time())
        if wait <= 0:
            for gate in self._gates_out:
                gate.reserved += 1
            return True
        if self._places is not None:
            self._places.give_back()
        if self._back is None or not self._back.live:
            self._back = self._timers.after(wait, self.take_queued)
        return False


def _cancellations() -> tuple[type[BaseException], ...]:
    """What a node may raise as a cancellation: on trio asyncio's too, from a loop of its own in a thread."""
    asyncio = sys.modules.get("asyncio")
    own = anyio.get_cancelled_exc_class()
    return (own,) if asyncio is None else (own, asyncio.CancelledError)


class Queued(Protocol):
    """Who waits for places: a crew, or a call that is no node's."""

    def take_queued(self) -> None:
        """There is a place."""
        ...


class Places:
    """The places of an executor, shared by the crews that use it: a time-out must not run while a call is queued."""

    def __init__(self, number: int) -> None:
        self.free = number
        self._waiting: dict[Queued, None] = {}
        self._called: Queued | None = None

    def take(self, crew: Queued) -> bool:
        """Take a place; a crew that gets none is called when there is one, first come first served."""
        if self.free and (not self._waiting or crew is self._called):
            self.free -= 1
            return True
        self._waiting.setdefault(crew)
        return False

    def leave(self, crew: Queued) -> None:
        """Wait no more."""
        self._waiting.pop(crew, None)

    def give_back(self) -> None:
        """Give a place back, and call those who wait for one."""
        self.free += 1
        while self.free and self._waiting:
            self._called = crew = next(iter(self._waiting))
            del self._waiting[crew]
            crew.take_queued()
            self._called = None
