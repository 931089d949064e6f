"""One node's workers: an actor per node, shared by all runs of its graph.

A `Crew` holds what survives a crash of the actor: the queue, the attempts in hand, the limits and the counts. The
actor (`NodeActor`) holds the tasks. The scheduler hands an attempt straight to an idle worker, and a worker hands its
result straight to the scheduler, so a node costs one task switch. A worker has one cancel scope for all its attempts;
only an attempt that is cancelled or out of time costs a new one.
"""

from __future__ import annotations

from bisect import bisect_left
from collections import OrderedDict, deque
from collections.abc import Awaitable, Callable, Coroutine, Iterator, Mapping, Sequence
from math import inf
from time import perf_counter, time
from typing import Any, Final, Literal, Protocol

import anyio
from anyio.abc import TaskGroup
from anyio.lowlevel import checkpoint

from actors import Actor, StopReason, StrayCancellation, new_waker
from actors.waker import is_stray_cancellation

from .bodies import Body
from .driving import Driven
from .errors import NodeTimeout
from .gates import Gate
from .options import Rate
from .plan import PlanEdge, PlanNode
from .timers import Timer, Timers
from .tokens import Activation

# An attempt that never waits gives the loop a turn this often.
BURST: Final = 64
# Idle workers that are kept for the next burst; each keeps a task.
KEPT_IDLE: Final = 64
# Upper bounds in seconds of the histogram of a node's durations.
BOUNDS: Final = (0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0)

Stopping = Literal["cancel", "timeout"]


class Answers(Protocol):
    """Who is told what became of an attempt."""

    def attempt_succeeded(self, activation: Activation, attempt: int, returned: Any, started: float) -> None:
        """The function returned."""
        ...

    def attempt_failed(
        self, activation: Activation, attempt: int, error: BaseException, started: float, timed_out: bool
    ) -> None:
        """The function raised, or was stopped at its time-out."""
        ...

    def attempt_cancelled(self, activation: Activation, attempt: int, started: float | None) -> None:
        """A cancelled attempt is over."""
        ...


class Worker:
    """A task of a crew, with the attempt it is to take next (`job`) and the one it has in hand (`current`)."""

    __slots__ = ("current", "job", "retired", "scope", "started", "stopping", "timer", "waker")

    def __init__(self) -> None:
        self.job: Activation | None = None
        self.current: Activation | None = None
        self.stopping: Stopping | None = None
        self.started = 0.0
        self.timer: Timer | None = None
        self.retired = False
        self.waker = new_waker()
        self.scope = anyio.CancelScope()


class Crew:
    """What is known of one node across runs: its limits, its queue, its attempts in hand, its counts."""

    def __init__(
        self,
        node: PlanNode,
        name: str,
        body: Body,
        answers: Answers,
        timers: Timers,
        *,
        concurrency: int | None,
        rate: Rate | None = None,
        places: Places | None = None,
        gates_in: Mapping[PlanEdge, Gate] = {},
        gates_out: Sequence[Gate] = (),
        clock: Callable[[], float] = time,
    ) -> None:
        self.node: Final = node
        self.name: Final = name
        self.limit: Final = inf if concurrency is None else concurrency
        self.ready: OrderedDict[Activation, float] = OrderedDict()  # with the time since when each has waited
        self.busy: dict[Activation, Worker] = {}
        self.seconds_waited = 0.0
        self.done = 0
        self.failed = 0
        self.cancelled = 0
        self.seconds = 0.0
        self.buckets = [0] * (len(BOUNDS) + 1)
        self.abandoned = 0
        self._body = body
        self._answers = answers
        self._timers = timers
        self._clock = clock
        self._timeout = node.timeout
        self._pace = None if rate is None else _Pace(rate)
        self._places = places
        self._gates_in = gates_in
        self._gates_out = gates_out
        self._free_for_all = rate is None and places is None and not gates_out
        self._beside: list[Callable[[], Coroutine[Any, Any, None]]] = []
        self._idle: list[Worker] = []
        self._workers = 0
        self._group: TaskGroup | None = None
        self._back: Timer | None = None

    # -- the scheduler's side

    def start(self, activation: Activation) -> bool:
        """Hand an attempt to a worker, or queue it; tells whether a worker has it."""
        hands = self._group is not None and not self.ready and (self._idle or self._workers < self.limit)
        if hands and (self._free_for_all or self._admitted()):
            self._give(self._idle.pop() if self._idle else self._hire(), activation)
            return True
        self._enqueue(activation)
        return False

    def _enqueue(self, activation: Activation) -> None:
        self.ready[activation] = perf_counter()
        if self._gates_in:
            for gate in self._gates_of(activation):
                gate.enter()

    def cancel(self, activation: Activation) -> bool:
        """Stop an attempt; true if it was only queued and so is over already."""
        worker = self.busy.get(activation)
        if worker is None:
            since = self.ready.pop(activation, None)
            if since is not None:
                self._waited(activation, since)
            self.cancelled += 1
            return True
        if worker.stopping is None:
            worker.stopping = "cancel"
            worker.scope.cancel()
        return False

    @property
    def working(self) -> bool:
        """Whether the actor is there."""
        return self._group is not None

    # -- the actor's side

    def opened(self, group: TaskGroup) -> None:
        """The actor is up: take what is queued."""
        self._group = group
        for work in self._beside:
            group.start_soon(work)
        self._beside.clear()
        self.take_queued()

    def run_beside(self, work: Callable[[], Coroutine[Any, Any, None]]) -> None:
        """Run something else in the actor's group, now or when it is up."""
        if self._group is None:
            self._beside.append(work)
        else:
            self._group.start_soon(work)

    def closed(self) -> None:
        """The actor is down: what its workers had in hand goes back to the head of the queue."""
        self._group = None
        self._idle.clear()
        self._workers = 0
        for activation in reversed(list(self.busy)):
            self.ready[activation] = perf_counter()
            self.ready.move_to_end(activation, last=False)
            for gate in self._gates_of(activation):
                gate.enter()
            for gate in self._gates_out:
                gate.give_back()
            if self._places is not None:
                self._places.give_back()
        self.busy.clear()

    # -- workers

    def _hire(self) -> Worker:
        assert self._group is not None
        worker = Worker()
        self._workers += 1
        self._group.start_soon(self._work, worker, self._group, name=self.name)
        return worker

    def _give(self, worker: Worker, activation: Activation) -> None:
        self.busy[activation] = worker
        worker.job = activation
        worker.waker.wake()

    async def _work(self, worker: Worker, group: TaskGroup) -> None:
        while not worker.retired and self._group is group:
            with anyio.CancelScope() as worker.scope:
                await self._serve(worker)
            if worker.current is not None:
                self._end_stopped(worker, worker.current)

    async def _serve(self, worker: Worker) -> None:
        """Take attempts until one is stopped from outside, which uses the worker's scope up."""
        in_a_row = 0
        while not worker.retired:
            activation = worker.job
            if activation is None:
                in_a_row = 0
                await worker.waker.park()
                continue
            in_a_row += 1
            if in_a_row > BURST:
                in_a_row = 0
                await checkpoint()
            worker.job = None
            worker.current = activation
            if not await self._attempt(worker, activation):
                return

    async def _attempt(self, worker: Worker, activation: Activation) -> bool:
        """Run one attempt and answer; false if it was stopped from outside."""
        if worker.stopping is not None:
            return False
        attempt = activation.attempt
        worker.started = started = self._clock()
        if self._timeout is not None:
            worker.timer = self._timers.after(self._timeout, lambda: self._time_out(worker, activation))
        error: BaseException | None = None
        returned = None
        begun = perf_counter()
        try:
            running = self._body.begin(activation)
            returned = await running if running.__class__ is Driven else running
        except Exception as raised:
            error = raised
        except BaseException as raised:
            error = self._supervised(raised)
        if worker.stopping is not None:
            return False  # it swallowed its cancellation, or raised something else: it was stopped all the same
        self._count(perf_counter() - begun, error is None)
        self._free(worker, activation)
        if error is None:
            self._answers.attempt_succeeded(activation, attempt, returned, started)
        else:
            self._answers.attempt_failed(activation, attempt, error, started, False)
        for gate in self._gates_out:
            gate.give_back()
        return True

    def _supervised(self, raised: BaseException) -> Exception:
        """The failure that a cancellation nobody asked for is; raises what must not be supervised on."""
        cancelled = anyio.get_cancelled_exc_class()
        rest = raised.split(cancelled)[1] if isinstance(raised, BaseExceptionGroup) else None
        only_strays = isinstance(raised, cancelled | BaseExceptionGroup) and is_stray_cancellation()
        if only_strays and isinstance(rest, Exception):
            return rest
        if not only_strays or rest is not None:
            raise raised
        error = StrayCancellation(f"node {self.node.name!r} raised a cancellation that nobody asked for")
        error.__cause__ = raised
        return error

    def _end_stopped(self, worker: Worker, activation: Activation) -> None:
        if self._group is None:
            return  # the actor is down; `closed` has put the attempt back
        stopping, worker.stopping = worker.stopping, None
        attempt, started = activation.attempt, worker.started
        seconds = self._timeout or 0.0
        late = NodeTimeout(activation.name, seconds)
        self._free(worker, activation)
        if stopping == "timeout":
            self._count(seconds, False)
            self._answers.attempt_failed(activation, attempt, late, started, True)
        else:
            self.cancelled += 1
            self._answers.attempt_cancelled(activation, attempt, started or None)
        for gate in self._gates_out:
            gate.give_back()

    def _free(self, worker: Worker, activation: Activation) -> None:
        """Let a worker take the next attempt; before the answer, whose consequences may be work for it."""
        del self.busy[activation]
        worker.current = None
        worker.started = 0.0
        if worker.timer is not None:
            worker.timer.cancel()
            worker.timer = None
        if self._places is not None:
            self._places.give_back()
        if self.ready and (self._free_for_all or self._admitted()):
            self._take(worker)
        elif len(self._idle) < KEPT_IDLE:
            self._idle.append(worker)
        else:
            worker.retired = True
            self._workers -= 1

    def _take(self, worker: Worker) -> None:
        activation, since = self.ready.popitem(last=False)
        self._waited(activation, since)
        self._give(worker, activation)

    def take_queued(self) -> None:
        """Start what is queued, as far as the limits allow."""
        while self.ready and self._group is not None and (self._idle or self._workers < self.limit):
            if not self._free_for_all and not self._admitted():
                return
            self._take(self._idle.pop() if self._idle else self._hire())

    def _time_out(self, worker: Worker, activation: Activation) -> None:
        if worker.current is activation and worker.stopping is None:
            worker.stopping = "timeout"
            worker.scope.cancel()

    # -- counting and pacing

    def _count(self, seconds: float, succeeded: bool) -> None:
        self.seconds += seconds
        self.buckets[bisect_left(BOUNDS, seconds)] += 1
        if succeeded:
            self.done += 1
        else:
            self.failed += 1

    def _waited(self, activation: Activation, since: float) -> None:
        self.seconds_waited += perf_counter() - since
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


class Places:
    """The places of an executor, shared by the crews that use it: a time-out must not run while a call is queued."""

    def __init__(self, number: int) -> None:
        self.free = number
        self._waiting: dict[Crew, None] = {}
        self._called: Crew | None = None

    def take(self, crew: Crew) -> bool:
        """Take a place; a crew that gets none is called when there is one, first come first served."""
        if self.free and (not self._waiting or crew is self._called):
            self.free -= 1
            return True
        self._waiting.setdefault(crew)
        return False

    def give_back(self) -> None:
        """Give a place back, and call those who wait for one."""
        self.free += 1
        while self.free and self._waiting:
            self._called = crew = next(iter(self._waiting))
            del self._waiting[crew]
            crew.take_queued()
            self._called = None


class _Pace:
    """At most so many starts in any stretch of so many seconds."""

    __slots__ = ("_rate", "_starts")

    def __init__(self, rate: Rate) -> None:
        self._rate = rate
        self._starts: deque[float] = deque()

    def take(self, now: float) -> float:
        """Take a start (0), or say how many seconds to wait for one."""
        starts, rate = self._starts, self._rate
        while starts and now - starts[0] >= rate.seconds:
            starts.popleft()
        if len(starts) < rate.count:
            starts.append(now)
            return 0.0
        return max(starts[0] + rate.seconds - now, 1e-6)


class NodeActor(Actor[Any]):
    """The supervised actor of one node: while it is up, its crew has workers."""

    def __init__(self, crew: Crew) -> None:
        self.crew = crew

    async def around(self, serve: Callable[[], Awaitable[StopReason]]) -> StopReason:
        """Keep a group of workers beside the mailbox."""
        async with anyio.create_task_group() as group:
            self.crew.opened(group)
            try:
                reason = await serve()
            finally:
                self.crew.closed()
                group.cancel_scope.cancel()
        return reason

    async def receive(self, message: object) -> None:
        """Take orders only: to stop comes from the supervisor, and work does not come by mail."""
