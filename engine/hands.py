"""The tasks of one graph: whoever has nothing else to do takes the next attempt, of whatever node.

A node is an actor with a mailbox, limits and a behaviour of its own (`nodes.Crew`), but its tasks are lent to it, as
threads are by a dispatcher of Akka's. With tasks of its own, a node cost 286 us and 15 KB before its first attempt (a
graph of 10,000 nodes 3 s), and each attempt a switch of tasks: 10 us where it is now 6.

One worker at a time looks after the queue. It runs attempt after attempt for as long as they do not wait, so a chain
of quick nodes goes from end to end without a turn of the loop. When one waits, the next worker is called: nothing in
the queue ever waits for a node that waits. A job has no cancel scope: only one that is cancelled or out of time costs
a new task.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Awaitable, Callable, Coroutine
from contextvars import Context as Variables
from contextvars import copy_context
from time import perf_counter
from typing import TYPE_CHECKING, Any, Final, Literal, Protocol

import anyio
from anyio.lowlevel import checkpoint

from actors import Actor, StopReason, Waker, new_waker
from actors.waker import cancel_requests, disown_cancellation

from .counts import Waits
from .timers import Timer, Timers

if TYPE_CHECKING:
    from anyio.abc import TaskGroup

# Jobs in a row that never wait, after which the loop gets a turn.
BURST: Final = 64
# Idle workers that are kept for good; and those that a burst leaves behind for the next one, which mostly comes within
# so many seconds: to wake one costs a third of what it costs to start its task, but each holds some 3 KB.
KEPT_IDLE: Final = 64
LEFT_IDLE: Final = 512
NEXT_BURST: Final = 1.0

Stopping = Literal["cancel", "timeout"]


class Worker:
    """A task, with the job that it has in hand."""

    __slots__ = ("begun", "handle", "job", "spent", "stopping", "timer", "waker")

    def __init__(self) -> None:
        self.job: Any = None
        self.begun = 0.0
        self.stopping: Stopping | None = None
        self.spent = False
        self.timer: Timer | None = None
        self.waker: Waker | None = None  # made when it is first idle: most that wait do so with a job

    if TYPE_CHECKING:
        handle: anyio.TaskHandle[None]

    def stop(self, how: Stopping) -> None:
        """Stop its job, and the task with it: a scope of its own for each job would cost more than a new task here."""
        if self.stopping is None:
            self.stopping = how
            self.spent = True
            self.handle.cancel()


class Borrower(Protocol):
    """Whose jobs the workers do; what a job is, is the borrower's business."""

    def begin(self, worker: Worker, job: Any) -> Awaitable[Any] | None:
        """Do the job as far as it goes without waiting: all of it, or give the rest to be awaited."""
        ...

    def end(self, worker: Worker, job: Any, returned: Any, raised: BaseException | None) -> None:
        """The rest of the job is done."""
        ...

    def put_back(self) -> None:
        """The workers are gone, and all jobs with them: none was done, as far as can be known."""
        ...

    def answer_orphans(self) -> None:
        """Every borrower's jobs are put back: answer for those that need not be done again."""
        ...

    def take_queued(self) -> None:
        """There are workers again."""
        ...


class Hands:
    """The workers of a graph, and the jobs that may start."""

    def __init__(self, graph: str, timers: Timers) -> None:
        self.graph: Final = graph
        """The name of the graph whose nodes they work for."""
        self.queue: deque[tuple[Borrower, Any]] = deque()
        self.workers = 0
        self.lag = Waits()
        self._called_at = 0.0
        self._told: set[str] = set()
        self._borrowers: list[Borrower] = []
        self._idle: list[Worker] = []
        self._fewest_idle = 0
        self._timers = timers
        self._looks_again = False
        self._group: TaskGroup | None = None
        self._variables = Variables()
        # Whether somebody is on the way to the queue; also while there is nobody to send.
        self._attended = True
        self._beside: dict[Callable[[], Coroutine[Any, Any, None]], None] = {}

    def tell_once(self, what: str) -> bool:
        """Whether this has not been told before."""
        if what in self._told:
            return False
        self._told.add(what)
        return True

    def lend_to(self, borrower: Borrower) -> None:
        """Know whom to tell when the workers are gone."""
        self._borrowers.append(borrower)

    def give(self, borrower: Borrower, job: Any) -> None:
        """Queue a job that may start."""
        self.queue.append((borrower, job))
        if not self._attended:
            self._call()

    def run_beside(self, work: Callable[[], Coroutine[Any, Any, None]]) -> None:
        """Run something else in the actor's group, now or when it is up; once more if that goes down meanwhile."""
        self._beside[work] = None
        if self._group is not None:
            self._group.start_soon(self._do_beside, work)

    async def _do_beside(self, work: Callable[[], Coroutine[Any, Any, None]]) -> None:
        try:
            await work()
        except Exception:
            del self._beside[work]
            raise
        del self._beside[work]

    # -- the actor's side

    def opened(self, group: TaskGroup) -> None:
        """The actor is up: take what is queued."""
        self._group = group
        self._variables = copy_context()
        for work in self._beside:
            group.start_soon(self._do_beside, work)
        for borrower in self._borrowers:
            borrower.take_queued()
        self._attended = False
        if self.queue:
            self._call()

    def closed(self) -> None:
        """The actor is down: what its workers had in hand goes back."""
        self._group = None
        self._attended = True
        self._idle.clear()
        self._fewest_idle = 0
        self.workers = 0
        self.queue.clear()
        for borrower in self._borrowers:
            borrower.put_back()
        for borrower in self._borrowers:
            borrower.answer_orphans()

    # -- workers

    def _call(self) -> None:
        """Send a worker to the queue."""
        self._attended = True
        self._called_at = perf_counter()
        if self._idle:
            worker = self._idle.pop()
            if len(self._idle) < self._fewest_idle:
                self._fewest_idle = len(self._idle)
            assert worker.waker is not None
            worker.waker.wake()
        else:
            # Not in the caller's context variables, which would live as long as the worker does. A copy, since where
            # tasks start eagerly this one may call the next before it is back.
            self._variables.copy().run(self._start)

    def _start(self) -> None:
        assert self._group is not None
        self.workers += 1
        worker = Worker()
        worker.handle = self._group.start_soon(self._work, worker, self._group, name=f"nodes of {self.graph}")

    async def _work(self, worker: Worker, group: TaskGroup) -> None:
        """Do jobs until one is stopped, which ends the task, or there are workers enough."""
        self.lag.add(perf_counter() - self._called_at)
        queue, idle, asked_to_cancel = self.queue, self._idle, cancel_requests()
        in_a_row = 0
        # One that was called as the actor went down finds the group gone, and takes nothing: that would go with it.
        while not worker.spent and self._group is group:
            if not queue:
                self._attended = False
                if len(idle) >= LEFT_IDLE:
                    self.workers -= 1
                    return
                idle.append(worker)
                if len(idle) > KEPT_IDLE and not self._looks_again:
                    self._look_again()
                worker.job = borrower = job = rest = returned = raised = None  # an idle worker keeps no state alive
                in_a_row = 0
                try:
                    if worker.waker is None:
                        worker.waker = new_waker()
                    await worker.waker.park()
                except BaseException as error:
                    self._go_on_after(error, worker)
                if worker.spent and self._group is group:
                    self.workers -= 1
                    return
                self.lag.add(perf_counter() - self._called_at)
                continue
            in_a_row += 1
            if in_a_row > BURST:
                in_a_row = 0
                try:
                    await checkpoint()
                except BaseException as error:
                    self._go_on_after(error, worker)
                continue
            borrower, job = queue.popleft()
            rest = borrower.begin(worker, job)
            if rest is not None:
                self._attended = False
                if queue:
                    self._call()
                returned, raised = None, None
                try:
                    returned = await rest
                except BaseException as error:
                    if isinstance(error, GeneratorExit) and getattr(rest, "closed", True):
                        raise  # not the job's own: the loop is over
                    raised = error
                if self._group is not group:
                    return  # the actor is down, and the job has been put back
                # What the answer leads to is for this worker: nobody need be called for it.
                self._attended = True
                borrower.end(worker, job, returned, raised)
                in_a_row = 0
            if asked_to_cancel():
                # The job asked for the cancellation of this task and was gone before it came: not to hit the next.
                in_a_row = BURST
        if self._group is not group:
            return
        self.workers -= 1
        self._attended = False
        if queue:
            self._call()

    def _look_again(self) -> None:
        self._looks_again = True
        self._fewest_idle = len(self._idle)
        self._timers.after(NEXT_BURST, self._let_go)

    def _let_go(self) -> None:
        """Let those end that nobody has needed for a while."""
        self._looks_again = False
        for _ in range(min(self._fewest_idle, len(self._idle)) - KEPT_IDLE):
            worker = self._idle.pop()
            worker.spent = True
            assert worker.waker is not None
            worker.waker.wake()
        if len(self._idle) > KEPT_IDLE:
            self._look_again()

    def _go_on_after(self, error: BaseException, worker: Worker) -> None:
        """Do nothing about a cancellation between jobs that nobody asked for but a job that is gone."""
        if worker in self._idle:
            self._idle.remove(worker)
        if not isinstance(error, anyio.get_cancelled_exc_class()) or not disown_cancellation():
            raise error


class NodesActor(Actor[Any]):
    """The supervised actor that holds the tasks of a graph's nodes."""

    def __init__(self, hands: Hands) -> None:
        self.hands = hands

    async def around(self, serve: Callable[[], Awaitable[StopReason]]) -> StopReason:
        """Keep a group of workers beside the mailbox."""
        reason: StopReason | None = None
        async with anyio.create_task_group() as group:
            self.hands.opened(group)
            try:
                reason = await serve()
            finally:
                self.hands.closed()
                group.cancel_scope.cancel()
        if reason is None:
            # For the supervisor to start it again: what the workers had in hand has been put back.
            raise RuntimeError(f"the tasks of the nodes of {self.hands.graph} were cancelled from within")
        return reason

    async def receive(self, message: object) -> None:
        """Take orders only: to stop comes from the supervisor, and work does not come by mail."""
