"""The engine: the one place where everything is put together."""

from __future__ import annotations

import logging
import re
import sys
import threading
from collections import Counter, OrderedDict
from collections.abc import Awaitable, Callable, Mapping
from contextlib import AsyncExitStack
from contextvars import ContextVar, copy_context
from functools import partial
from heapq import heapify, heappop, heappush
from random import Random
from time import perf_counter
from types import TracebackType
from typing import TYPE_CHECKING, Any, Final, Self
from uuid import uuid4

import anyio
import anyio.lowlevel
import attrs

from actors import Actor, ActorRef, ChildSpec, NullObserver, StopReason, Tree, Waker, new_waker, supervise

from .blocking import Backend, BlockingEngine
from .call import is_async
from .errors import EngineBusy, EngineClosed, EngineError, IdempotencyConflict, RunNotFound, RunTimeout, TooDeep
from .executors import ProcessExecutor, ThreadExecutor
from .graph import Graph
from .handle import Run
from .history import Event
from .logs import about
from .ports import Executor
from .registry import Registered, Registry
from .remembered import equal, remembered
from .result import RunResult
from .runs import Run as Machine
from .runs import Status
from .settings import Settings
from .state import Values
from .submitting import engine_faults, refuse, submission_faults, timeout_fault
from .timers import Timers

if TYPE_CHECKING:
    from prometheus_client.registry import CollectorRegistry

logger = logging.getLogger("engine")

# How many runs the one whose node submits now is inside of.
_depth: Final[ContextVar[int]] = ContextVar("workflow_engine_depth", default=0)

# What most submissions say of their run's id, key, tags and deadline.
_NONE_GIVEN: Final = (None, None, None, None)

# Runs that may wait for a place, where only `max_runs` was given.
QUEUE_FACTOR: Final = 10

Watcher = Callable[[Run, Event], object]


@attrs.frozen
class EngineStatistics:
    """What an engine has taken on."""

    running: int
    queued: int
    submitted: int
    ended: Mapping[str, int]
    refused: int


class _Blocking:
    """A method that, asked of the class, first makes an engine of its arguments."""

    def __init__(self, method: Callable[..., BlockingEngine]) -> None:
        self._method = method
        self.__doc__ = method.__doc__

    def __get__(self, engine: Engine | None, owner: type[Engine]) -> Callable[..., BlockingEngine]:
        if engine is not None:
            return partial(self._method, engine)

        def blocking(*args: Any, backend: Backend = "asyncio", **options: Any) -> BlockingEngine:
            return self._method(owner(*args, **options), backend)

        return blocking


class Engine:
    """Runs graphs, inside `async with Engine() as engine`.

    Leaving without an exception waits for the runs that are running; runs that only wait for a signal or a timer
    are cancelled then, with a warning that names them. Leaving with an exception cancels. Nothing is left behind.
    """

    def __init__(
        self,
        store: str | None = None,
        *,
        tools: Any = None,
        files: Any = None,
        executors: Mapping[str, Executor] | None = None,
        max_runs: int | None = None,
        max_queued: int | None = None,
        durability: str = "standard",
        metrics: bool = True,
        settings: Settings | None = None,
    ) -> None:
        if store not in (None, "memory", "memory://"):
            raise ValueError(f"unknown store {store!r}: this version keeps runs in memory only; leave it out")
        if durability not in ("standard", "strict", "relaxed"):
            raise ValueError(f"unknown durability {durability!r}: it is one of standard, strict, relaxed")
        refuse("Engine", engine_faults(tools, executors, max_runs, max_queued, settings, Settings))
        self.tools = tools
        self.files = files
        self.watched = False
        self._watchers: dict[object, Watcher] = {}
        self._settings = settings or Settings()
        self._arguments = {
            "tools": tools,
            "files": files,
            "executors": executors,
            "max_runs": max_runs,
            "max_queued": max_queued,
            "durability": durability,
            "metrics": metrics,
            "settings": settings,
        }
        self._past: list[EngineStatistics] = []
        self._executors = dict(executors or {})
        self._max_runs = max_runs
        self._max_queued = (max_runs or 0) * QUEUE_FACTOR if max_queued is None else max_queued
        self._timers = Timers()
        # Threads of their own: a source that blocks must not take a place that its own items wait for.
        self._sources = ThreadExecutor(self._settings.threads)
        names = ("thread", "process", *self._executors)
        self._registry = Registry(self._timers, tools, Random(), self._sources, names)
        self._active: dict[str, Run] = {}
        self._ended: OrderedDict[str, Run] = OrderedDict()
        # Those that wait for a place, with what begins them.
        self._queue: list[tuple[int, int, Run, Callable[[], None]]] = []
        self._running = 0
        # With what they were submitted on, as it was then.
        self._by_key: dict[str, tuple[Run, Values]] = {}
        self._submitted = 0
        self._refused = 0
        self._rejected: dict[str, int] = {}
        self._show_metrics = metrics
        self._metrics: CollectorRegistry | None = None
        self._restarts = _Restarts()
        self._actors = Tree(self._restarts)
        self._entered: list[Executor] = []
        self._open = False
        self.thread: int | None = None
        self.token: Any = None
        self._draining = False
        self._abandoned = False
        self._idle: dict[Waker, None] = {}
        self._stack: AsyncExitStack | None = None

    # -- its life

    @property
    def is_open(self) -> bool:
        """Whether it has been entered and not been left."""
        return self._open

    async def __aenter__(self) -> Self:
        if self._stack is not None:
            raise EngineClosed("an engine is entered once: make another")
        executors: dict[str, Executor] = {
            "thread": ThreadExecutor(self._settings.threads),
            "process": ProcessExecutor(self._settings.processes),
            **self._executors,
        }
        async with AsyncExitStack() as stack:
            places: dict[str, tuple[Executor, int]] = {}
            for name, executor in executors.items():
                entered = await stack.enter_async_context(executor)
                self._entered.append(entered)
                places[name] = (entered, entered.limit)
            self._entered.append(await stack.enter_async_context(self._sources))
            self._registry.open(places)
            self._root = await stack.enter_async_context(
                supervise([ChildSpec("timers", _Clockwork, (self._timers,))], name="engine", tree=self._actors)
            )
            self._stack = stack.pop_all()
        self.thread = threading.get_ident()
        self.token = anyio.lowlevel.current_token()
        self._open = True
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> bool:
        assert self._stack is not None
        self._draining = True
        try:
            if error is None:
                await self._finish()
            else:
                await self._abandon()
        except BaseException:
            kind, error, traceback = sys.exc_info()
            self._open = False
            await self._abandon()
            await self._stack.__aexit__(kind, error, traceback)
            raise
        self._open = False
        return bool(await self._stack.__aexit__(kind, error, traceback))

    async def drain(self, timeout: float | None = None) -> list[Run]:
        """Refuse new runs and wait until none is running; returns those that still are when time is up.

        What a node submits is no new run, but part of one that is waited for.
        """
        refuse("drain", [("timeout", fault)] if (fault := timeout_fault(timeout)) else ())
        self._draining = True
        with anyio.move_on_after(timeout):
            await self._until(lambda: not self._active)
        return list(self._active.values())

    # -- runs

    async def submit(
        self,
        graph: Graph | str,
        state: Any = None,
        *,
        run_id: str | None = None,
        idempotency_key: str | None = None,
        tags: Mapping[str, str] | None = None,
        deadline: float | None = None,
        priority: int = 0,
    ) -> Run:
        """Start a run, or queue it; returns once it is safe, which in memory is at once.

        Refuses before anything is accepted: `GraphInvalid`, `StateInvalid`, `UnknownKey`, `EngineBusy`,
        `EngineClosed`. `deadline` is in seconds from now. Higher priorities start first, then older runs.
        """
        if (run_id, idempotency_key, tags, deadline) != _NONE_GIVEN or type(priority) is not int:
            refuse("submit", submission_faults(run_id, idempotency_key, tags, deadline, priority))
        try:
            self._check_open()
            registered = self._registry.find(graph) if isinstance(graph, str) else self._registry.register(graph)
            await registered.start(self._root)
            # Nothing waits from here on: what is checked still holds when the run is in the books.
            self._check_open()
            state = {} if state is None else state
            kept: Values = {}
            if idempotency_key is not None:
                values = registered.plan.state.admit(state)
                known = self._by_key.get(idempotency_key)
                if known is not None:
                    if known[0].registered is not registered or not equal(known[1], values):
                        raise IdempotencyConflict(idempotency_key, known[0].id)
                    return known[0]
                # Before the run begins, whose nodes may change what they must not.
                kept = remembered(values)
            run = self._admit(registered, run_id, tags or {}, priority)
            seconds = deadline if deadline is not None else registered.plan.decl.deadline
            if seconds is not None:
                run.set_deadline(seconds, anyio.current_time() + seconds, self._timers)
            try:
                self._begin_or_queue(run, state)
            except BaseException:
                self._submitted -= 1
                run.forget_deadline()
                raise
            if idempotency_key is not None:
                run.key = idempotency_key
                self._by_key[idempotency_key] = (run, kept)
            registered.counts.submitted += 1
            return run
        except EngineError as error:
            reason = _reason(error)
            self._rejected[reason] = self._rejected.get(reason, 0) + 1
            raise

    async def run(self, graph: Graph | str, state: Any = None, **options: Any) -> RunResult:
        """Submit a run and wait for its result."""
        return await (await self.submit(graph, state, **options)).result()

    async def get(self, run_id: str) -> Run:
        """The run of this id; raises `RunNotFound`, also for one that ended too many runs ago."""
        found = self._active.get(run_id) or self._ended.get(run_id)
        if found is None:
            raise RunNotFound(run_id)
        return found

    async def runs(
        self,
        status: Status | None = None,
        graph: str | None = None,
        tags: Mapping[str, str] | None = None,
        since: float | None = None,
        limit: int = 100,
        after: str | None = None,
    ) -> list[Run]:
        """The runs that match, oldest first, at most `limit`; `after` is the id of the last one seen."""
        everything = sorted([*self._ended.values(), *self._active.values()], key=lambda run: run.number)
        if after is not None:
            number = (await self.get(after)).number
            everything = [run for run in everything if run.number > number]
        wanted = tags or {}
        return [
            run
            for run in everything
            if (status is None or run.status == status)
            and (graph is None or run.graph == graph)
            and (since is None or run.submitted_at >= since)
            and all(run.tags.get(name) == value for name, value in wanted.items())
        ][:limit]

    # -- for those who do not await

    def run_sync(
        self, graph: Graph | str, state: Any = None, *, backend: Backend = "asyncio", **options: Any
    ) -> RunResult:
        """Run a graph and return its result, for scripts; of an engine that is running, from another thread.

        For one that is not running, each call is an engine of its own with the same arguments, graphs and subscribers,
        on a loop of its own; `statistics()` counts their runs, `metrics` does not.
        """
        engine = self if self._open else self._another()
        try:
            with engine.blocking(backend) as blocking:
                return blocking.run(graph, state, **options)
        except BaseExceptionGroup as group:
            leaf = _only_leaf(group)
            if isinstance(group, Exception) or isinstance(leaf, Exception | BaseExceptionGroup):
                raise
            raise leaf from None  # an interrupt is no less one for having passed a task group
        finally:
            if engine is not self:
                self._past.append(engine.statistics())

    @_Blocking
    def blocking(self, backend: Backend = "asyncio") -> BlockingEngine:
        """This engine for sync programs and other threads, in `with`; on the class, a new one: `Engine.blocking()`."""
        return BlockingEngine(self, backend)

    # -- graphs, watchers, numbers

    def register(self, graph: Graph) -> None:
        """Make a graph known by its name and version, so that it can be submitted by name."""
        self._registry.register(graph)

    def graphs(self) -> list[tuple[str, str]]:
        """Name and version of each graph, in the order of their registration."""
        return [(known.plan.name, known.plan.version) for known in self._registry.all()]

    def subscribe(self, callback: Watcher) -> Callable[[], None]:
        """Call `callback(run, event)` for each event of every run, in the loop; returns what ends it.

        What the callback raises is logged and harms no run.
        """
        given: object = callback
        if not callable(given) or is_async(given):
            raise TypeError(f"subscribe({given!r}): must be a plain function of a run and an event, called in the loop")
        subscription = object()
        self._watchers[subscription] = callback
        for run in self._active.values():
            run.told = run.machine.history.seq
        self._look()

        def end() -> None:
            self._watchers.pop(subscription, None)
            self._look()

        return end

    def statistics(self) -> EngineStatistics:
        """A snapshot."""
        ended: Counter[str] = Counter()
        for known in self._registry.all():
            ended.update(known.counts.ended)
        submitted, refused = self._submitted, self._refused
        for past in self._past:
            ended.update(past.ended)
            submitted += past.submitted
            refused += past.refused
        return EngineStatistics(self._running, len(self._queue), submitted, dict(ended), refused)

    @property
    def metrics(self) -> CollectorRegistry:
        """A `prometheus_client` registry of this engine alone, empty with `Engine(metrics=False)`; for any thread."""
        if self._metrics is None:
            # Not at the top: it brings an HTTP server along, 50 ms for everybody who imports the engine.
            from .metrics import EngineNumbers, GraphNumbers, registry_of

            def graphs() -> list[GraphNumbers]:
                return [
                    GraphNumbers(known.plan.name, known.counts, known.scheduler.all_crews, known.scheduler.hands.lag)
                    for known in self._registry.all()
                ]

            numbers = EngineNumbers(
                graphs=graphs,
                in_flight=lambda: Counter(run.graph for run in list(self._active.values()) if run.counted),
                queued=lambda: [(run.graph, run.submitted_at) for *_, run, _ in self._queue.copy() if not run.over],
                rejected=self._rejected,
                dead_letters=self._actors.letters.counts.copy,
                restarts=lambda: self._restarts.count,
                abandoned=lambda: sum(executor.abandoned for executor in self._entered),
            )
            self._metrics = registry_of(numbers if self._show_metrics else None)
        return self._metrics

    # -- for its runs

    def notice(self, run: Run) -> None:
        """A run has changed, and somebody cares: watchers, or who waits for the engine to come to rest."""
        if self._watchers:
            self._tell(run)
        for waker in self._idle:
            waker.wake()

    def run_over(self, run: Run) -> None:
        """A run has ended: keep it among the ended ones, and let the next in the queue begin."""
        if self._active.pop(run.id, None) is None:
            return
        registered = run.registered
        counts = registered.counts
        counts.ended[run.status] = counts.ended.get(run.status, 0) + 1
        self._ended[run.id] = run
        while len(self._ended) > self._settings.keep_runs:
            gone = self._ended.popitem(last=False)[1]
            if gone.key is not None:
                self._by_key.pop(gone.key, None)
        if run.counted:
            counts.durations.add(perf_counter() - run.begun_at)
            run.counted = False
            self._running -= 1
            self._begin_queued()
        elif self._queue:
            self._queue = [entry for entry in self._queue if entry[2] is not run]
            heapify(self._queue)
        self.notice(run)

    def waited_for(self, run: Run) -> None:
        """Let a queued run begin, whatever the places, if it is a node that waits for it.

        Or it might wait for the very place that the run of that node holds, or one that it is inside of: for ever.
        """
        if not _depth.get():
            return
        for index, (_, _, queued, begin) in enumerate(self._queue):
            if queued is run:
                del self._queue[index]
                heapify(self._queue)
                self._begin(run)
                begin()
                return

    def check_retry(self, run: Run) -> None:
        """Raise what forbids that a failed run goes on, before anything has changed."""
        self._check_open()
        if run.deadline_at is not None and run.deadline_at <= anyio.current_time():
            assert run.deadline_seconds is not None
            raise RunTimeout(run.id, run.deadline_seconds, "it is too late for a retry, submit another run")
        self._check_room()

    def revive(self, run: Run, update: Mapping[str, Any] | None) -> None:
        """A run that had failed goes on, once there is a place for it."""
        self._ended.pop(run.id, None)
        run.rearm(self._timers)
        if self._is_full:
            self._enqueue(run, partial(run.go_on, update))
        else:
            self._begin(run)
            run.go_on(update)

    # -- inside

    def _another(self) -> Engine:
        another = Engine(**self._arguments)
        for known in self._registry.all():
            another._registry.register(known.plan)
        another._watchers = self._watchers
        another._look()
        return another

    def _check_open(self) -> None:
        if not self._open:
            raise EngineClosed()
        # What a node submits belongs to a run that is still waited for.
        if self._abandoned or (self._draining and not _depth.get()):
            raise EngineClosed("the engine is draining: it takes no more runs")

    def _check_room(self) -> None:
        if self._is_full and len(self._queue) >= self._max_queued:
            self._refused += 1
            raise EngineBusy(f"{self._running} runs are running, {len(self._queue)} are queued: the engine is full")

    def _admit(self, registered: Registered, run_id: str | None, tags: Mapping[str, str], priority: int) -> Run:
        """Accept a run, or say why not, before anything of it is there."""
        depth = _depth.get()
        if depth >= self._settings.max_depth:
            raise TooDeep(depth)
        if run_id is not None and (run_id in self._active or run_id in self._ended):
            raise EngineError(f"a run has the id {run_id!r} already; leave run_id out to get a new one")
        self._check_room()
        machine = Machine(registered.plan, run_id or uuid4().hex)
        machine.tree.counts = registered.counts
        variables = copy_context()
        variables.run(_depth.set, depth + 1)
        self._submitted += 1
        return Run(self, registered, machine, variables, tags=tags, priority=priority, number=self._submitted)

    @property
    def _is_full(self) -> bool:
        return self._max_runs is not None and self._running >= self._max_runs

    def _begin_or_queue(self, run: Run, state: Any) -> None:
        if self._is_full:
            # As it is now: the submitter may change it while the run is queued.
            kind = run.registered.plan.state
            self._enqueue(run, partial(run.begin_queued, kind.build(kind.admit(state))))
            return
        self._begin(run)
        try:
            run.begin(state)
        except BaseException:
            del self._active[run.id]
            run.counted = False
            self._running -= 1
            raise

    def _enqueue(self, run: Run, begin: Callable[[], None]) -> None:
        self._active[run.id] = run
        heappush(self._queue, (-run.priority, run.number, run, begin))

    def _begin(self, run: Run) -> None:
        self._active[run.id] = run
        run.counted = True
        run.begun_at = perf_counter()
        self._running += 1

    def _begin_queued(self) -> None:
        while self._queue and not self._is_full:
            run, begin = heappop(self._queue)[2:]
            if not run.over:
                self._begin(run)
                begin()

    async def _finish(self) -> None:
        """Wait for what is running; give up, loudly, what only waits for a signal or a timer."""
        while self._active:
            await self._until(lambda: all(run.machine.at_rest for run in self._active.values() if run.counted))
            left = [run for run in self._active.values() if run.counted]
            if left:
                logger.warning(
                    "leaving the engine cancels %d runs that only wait, since memory does not outlive it: %s",
                    len(left),
                    ", ".join(f"{run.id} of {run.graph!r} ({run.status})" for run in left),
                    extra=about(runs=[run.id for run in left]),
                )
            # Each may hold the place that a queued run waits for: that one begins now, and is waited for in its turn.
            for run in left:
                await run.cancel("the engine was left")
            for run in left:
                await run.wait()

    async def _abandon(self) -> None:
        self._abandoned = True
        self._queue.clear()
        for run in list(self._active.values()):
            await run.cancel("the engine was left by an exception")
        with anyio.move_on_after(self._settings.close_seconds, shield=True):
            await self._until(lambda: not self._active)

    async def _until(self, condition: Callable[[], bool]) -> None:
        waker = new_waker()
        self._idle[waker] = None
        self._look()
        try:
            while not condition():
                await waker.park()
        finally:
            del self._idle[waker]
            self._look()

    def _look(self) -> None:
        # One flag for the hot path.
        self.watched = bool(self._watchers or self._idle)

    def _tell(self, run: Run) -> None:
        history = run.machine.history
        for event in history.events(max(run.told, history.first_kept - 1)):
            run.told = event.seq
            for watcher in list(self._watchers.values()):
                try:
                    watcher(run, event)
                except Exception:
                    logger.exception(
                        "a subscriber raised on an event of run %s", run.id, extra=about(run.id, run.graph)
                    )


class _Restarts(NullObserver):
    """Counts what supervisors start anew."""

    def __init__(self) -> None:
        self.count = 0

    def restarting(self, ref: ActorRef[Any], incarnation: int, delay: float) -> None:
        """One more."""
        self.count += 1


class _Clockwork(Actor[Any]):
    """The actor that runs the timers."""

    def __init__(self, timers: Timers) -> None:
        self.timers = timers

    async def around(self, serve: Callable[[], Awaitable[StopReason]]) -> StopReason:
        reason: StopReason | None = None
        async with anyio.create_task_group() as group:
            group.start_soon(self.timers.serve)
            reason = await serve()
            group.cancel_scope.cancel()
        if reason is None:
            raise RuntimeError("the task of the timers was cancelled from within")
        return reason

    async def receive(self, message: object) -> None:
        """Take orders only."""


def _reason(error: EngineError) -> str:
    """An error's class as a label: `engine_busy`."""
    return re.sub(r"(?<=.)(?=[A-Z])", "_", type(error).__name__).lower()


def _only_leaf(group: BaseExceptionGroup[BaseException]) -> BaseException:
    leaf: BaseException = group
    while isinstance(leaf, BaseExceptionGroup) and len(leaf.exceptions) == 1:
        leaf = leaf.exceptions[0]
    return leaf
