"""The engine: the one place where everything is put together."""

from __future__ import annotations

import logging
import re
import sys
import threading
from collections import Counter
from collections.abc import Callable, Mapping
from contextlib import AsyncExitStack
from contextvars import ContextVar, copy_context
from functools import partial
from pathlib import Path
from random import Random
from time import perf_counter
from types import TracebackType
from typing import TYPE_CHECKING, Any, Final, Literal, NoReturn, Self, Unpack

import anyio
import anyio.lowlevel
import attrs

from actors import ActorRef, ChildSpec, NullObserver, State, Tree, Waker, new_waker, supervise

from .beside import Beside
from .blocking import Backend, BlockingEngine
from .books import Books
from .call import is_async
from .carried import FILES
from .errors import (
    EngineClosed,
    EngineError,
    EphemeralRefused,
    FileMismatch,
    GraphInUse,
    GraphNotFound,
    IdempotencyConflict,
    KeyTaken,
    RunIdTaken,
    RunNotFound,
    RunTimeout,
    StateFault,
    StateInvalid,
    TooDeep,
    UnknownNode,
)
from .executors import ProcessExecutor, ThreadExecutor
from .executors.worker import backend_here
from .file import File
from .filebody import kept_inside
from .files.files import Files
from .files.inputs import input_files
from .files.memory import MemoryFiles
from .files.urls import files_beside, open_files
from .graph import Graph
from .handle import Run
from .history import Event
from .ids import new_id
from .limits import LimitChanges, Limits, change_faults, changed, labelled
from .loading import Reloaded, prepare_reload, tools_of
from .locks import Locks
from .logs import about
from .plan import Plan, PlanNode
from .ports import Executor, Store
from .registry import Registered, Registry
from .remembered import equal, remembered
from .resolving import Functions, PortsResolver, Resolver
from .result import RunResult
from .runs import Run as Machine
from .runs import Status
from .settings import Settings
from .sharing import Sharing
from .state import Values
from .stored import Kept, RunRow
from .submitting import engine_faults, keep_faults, refuse, sharing_faults, submission_faults, timeout_fault
from .timers import Timers
from .toolbox import Threads

if TYPE_CHECKING:
    from prometheus_client.registry import CollectorRegistry

    from .auditing import AuditLine, AuditLog, AuditPage
    from .durable import Durable
    from .fleet import Fleet
    from .keeping import Durability, RunJournal
    from .past import Past
    from .returning import Returning
    from .stored import Compacted
    from .vitals import Vitals

logger = logging.getLogger("engine")

# How many runs the one whose node submits now is inside of.
_depth: Final[ContextVar[int]] = ContextVar("workflow_engine_depth", default=0)

# What most submissions say of their run's id, key, tags and deadline.
_NONE_GIVEN: Final = (None, None, None, None)

# So long run() waits for a run that waits for a signal before it says so.
_SILENT_SECONDS: Final = 2.0

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

    `files` says where the contents of files are kept: an address (`s3://bucket/prefix`), a folder, or a `FileStore`;
    for one store only, since what its runs do not name is removed when it is compacted.
    Left out, they are beside a SQLite file, in memory if the runs are, and otherwise nowhere. A `resolver` finds
    functions, gathers files and keeps them in the engine's stead.

    With `keep=Kept(seconds=..., count=...)` ended runs that need not be kept are removed from the store by and by.

    With `shared=True`, or `shared=Sharing(...)`, other engines may have the same PostgreSQL store at the same time, if
    they say so, too. Each run is driven by one of them, and goes on with another if that one dies.
    """

    def __init__(
        self,
        store: Store | str | None = None,
        *,
        tools: Any = None,
        files: Any = None,
        executors: Mapping[str, Executor] | None = None,
        max_runs: int | None = None,
        max_queued: int | None = None,
        durability: Durability = "standard",
        metrics: bool = True,
        settings: Settings | None = None,
        fallback: Literal["memory"] | None = None,
        keep: Kept | None = None,
        resolver: Resolver | None = None,
        shared: bool | Sharing = False,
    ) -> None:
        if durability not in ("standard", "strict", "relaxed"):
            raise ValueError(f"unknown durability {durability!r}: it is one of standard, strict, relaxed")
        if fallback not in (None, "memory"):
            raise ValueError(f"unknown fallback {fallback!r}: it is 'memory', or left out")
        faults = [*engine_faults(tools, executors, max_runs, max_queued, settings, Settings), *keep_faults(keep, store)]
        refuse("Engine", [*faults, *sharing_faults(shared, store, fallback)])
        self.tools: Final = tools_of(tools)
        """The registry of its tools: the process-wide one unless others were given."""
        self.threads: Threads | None = None
        self.files: Final = _files(files, store)
        """Keeps and finds the contents of files."""
        self.resolver: Final[Resolver] = PortsResolver(self.tools, self.files) if resolver is None else resolver
        """Where nodes' functions and files come from, and go."""
        self.watched = False
        self._watchers: dict[object, Watcher] = {}
        self._settings = settings or Settings()
        self._arguments = {
            "store": store,
            "tools": self.tools,
            "files": files,
            "executors": executors,
            "max_runs": max_runs,
            "max_queued": max_queued,
            "durability": durability,
            "metrics": metrics,
            "settings": settings,
            "fallback": fallback,
            "keep": keep,
            "resolver": resolver,
            "shared": shared,
        }
        self._past: list[EngineStatistics] = []
        self._executors = dict(executors or {})
        self._timers = Timers()
        # Threads of their own: a source that blocks must not take a place that its own items wait for.
        self._sources = ThreadExecutor(self._settings.threads)
        names = ("thread", "process", *self._executors)
        functions = self.tools if resolver is None else Functions(resolver, self.tools)
        self._registry = Registry(self._timers, functions, Random(), self._sources, names)
        self._durable: Durable | None = None
        self._returning: Returning | None = None
        self._locks = Locks()
        if store is not None:
            from .durable import Durable  # a quarter of the engine, for those who have a store

            fall_back = fallback is not None
            self._durable = Durable(store, durability, fall_back=fall_back, prune=self._settings.prune)
            if keep is not None:
                collect = partial(self.files.collect, self._durable.named_files)
                self._durable.run_beside(partial(self._durable.keep_only, keep, collect))
        self._books = Books(max_runs, max_queued, self._settings.keep_runs)
        self._books.others_bring_back = store is not None
        self._fleet: Fleet | None = None
        if shared and self._durable is not None:
            from .fleet import Fleet  # for those who share

            self._fleet = Fleet(
                self,
                Sharing() if shared is True else shared,
                self._durable,
                self._registry,
                self._books,
                max_runs=max_runs,
                claims=self._settings.recover,
                learn=self._learn,
                wake=self._wake_idle,
            )
            self._durable.share = self._fleet.join
        # With what they were submitted on, as it was then.
        self._by_key: dict[str, tuple[Run, Values]] = {}
        self._rejected: dict[str, int] = {}
        self._show_metrics = metrics
        self._metrics: CollectorRegistry | None = None
        self._restarts = _Restarts()
        self._actors = Tree(self._restarts)
        self._entered: list[tuple[str, Executor]] = []
        self._open = False
        self._audit_log: AuditLog | None = None
        self.thread: int | None = None
        self.token: Any = None
        self._draining = False
        self._drain_callbacks: list[Callable[[], object]] = []
        self._abandoned = False
        self._idle: dict[Waker, None] = {}
        self._stack: AsyncExitStack | None = None

    # -- its life

    @property
    def is_open(self) -> bool:
        """Whether it has been entered and not been left."""
        return self._open

    @property
    def is_draining(self) -> bool:
        """Whether it takes no new runs any more."""
        return self._draining

    def on_drain(self, callback: Callable[[], object]) -> None:
        """Have this called, in the loop, when the engine begins to drain: at once if it does already."""
        if self._draining:
            callback()
        else:
            self._drain_callbacks.append(callback)

    def _begin_draining(self) -> None:
        self._draining = True
        callbacks, self._drain_callbacks = self._drain_callbacks, []
        for callback in callbacks:
            callback()

    def __enter__(self) -> NoReturn:
        raise TypeError(
            "an engine is entered with `async with Engine() as engine`; in a program that does not await: "
            "`with Engine.blocking() as engine`"
        )

    def __exit__(self, *_: object) -> None:
        raise AssertionError("it cannot be entered that way")

    async def __aenter__(self) -> Self:
        if self._stack is not None:
            raise EngineClosed("an engine is entered once: make another")
        executors: dict[str, Executor] = {
            "thread": ThreadExecutor(self._settings.threads),
            "process": ProcessExecutor(self._settings.processes),
            **self._executors,
        }
        async with AsyncExitStack() as stack:
            children = [ChildSpec("timers", Beside, ("timers", self._timers.serve))]
            if self._durable is not None:
                await self._durable.open(stack.enter_async_context)
                _check_files(self._durable.store, self.files)
                children.append(ChildSpec("journal", Beside, ("journal", self._durable.serve)))
            places: dict[str, tuple[Executor, int]] = {}
            for name, executor in executors.items():
                await self._start(name, executor, stack)
                places[name] = (executor, executor.limit)
            await self._start("items", self._sources, stack)
            self._registry.open(places)
            self.threads = Threads(*self._registry.place("thread"), backend_here(), threading.get_ident())
            self.files.open()
            stack.callback(self.files.close)
            self._root = await stack.enter_async_context(supervise(children, name="engine", tree=self._actors))
            self._stack = stack.pop_all()
        self.thread = threading.get_ident()
        self.token = anyio.lowlevel.current_token()
        self._open = True
        if self._durable is not None:
            from .returning import Returning

            self._returning = Returning(
                self._durable,
                self._registry,
                self._books,
                self._timers,
                self._root,
                self._made,
                self._wake_idle,
                self._fleet,
            )
            if self._fleet is not None:
                self._fleet.begin(self._returning)
            self._know_again(self._durable)
            for known in self._registry.all():
                self._recover(known)
        return self

    async def _start(self, name: str, executor: Executor, stack: AsyncExitStack) -> None:
        # Closed also if starting fails or is cancelled half-way: what it had begun must not stay behind.
        stack.push_async_callback(executor.close)
        await executor.start()
        self._entered.append((name, executor))

    def _know_again(self, durable: Durable) -> None:
        """Make the graphs known whose definitions the store keeps; those that cannot be are told in the log."""
        for (name, version), data in durable.kept.items():
            if self._registry.get(name, version) is not None:
                continue
            try:
                self._registry.register(Graph.from_dict(data, tools=self.tools))
            except EngineError as error:
                logger.warning(
                    "graph %r version %r, which the store keeps, is not known: %s",
                    name,
                    version,
                    error,
                    extra=about(graph=name),
                )

    async def _learn(self) -> None:
        """Know the graphs that other engines have defined since."""
        assert self._durable is not None
        before = len(self._registry.all())
        await self._durable.read_definitions()
        self._know_again(self._durable)
        if self._fleet is not None and len(self._registry.all()) > before:
            self._fleet.graph_has_come()

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> bool:
        assert self._stack is not None
        self._begin_draining()
        try:
            if error is None:
                await self._finish()
            else:
                await self._abandon()
        except BaseException:
            kind, error, traceback = sys.exc_info()
            self._open = False
            await self._abandon(gives_up=True)
            await self._stack.__aexit__(kind, error, traceback)
            raise
        self._open = False
        return bool(await self._stack.__aexit__(kind, error, traceback))

    async def drain(self, timeout: float | None = None) -> list[Run]:
        """Refuse new runs and wait until none is running; returns those that still are when time is up.

        What a node submits is no new run, but part of one that is waited for.
        """
        refuse("drain", [("timeout", fault)] if (fault := timeout_fault(timeout)) else ())
        self._begin_draining()
        with anyio.move_on_after(timeout):
            await self._until(lambda: not self._books.active)
        return list(self._books.active.values())

    async def settle(self, timeout: float | None = None) -> bool:
        """Refuse new runs and wait until nothing goes on any more; whether that came about in time.

        As `drain`, but runs that only wait, for a signal or a timer, are not waited for: what leaving the engine then
        finds is what it can leave to the store at once.
        """
        refuse("settle", [("timeout", fault)] if (fault := timeout_fault(timeout)) else ())
        self._begin_draining()
        with anyio.move_on_after(timeout):
            await self._come_to_rest()
            return True
        return False

    @property
    def vitals(self) -> Vitals:
        """Whether it is well, at this moment; looks at memory only, and may be asked by any thread."""
        from .vitals import Vitals

        alive = self._open and not self._abandoned and self._root.state is State.RUNNING
        durable = self._durable
        if durable is None or not self._open:
            return Vitals(alive=alive, draining=self._draining)
        trouble = durable.journal.trouble if self._fleet is None else self._fleet.trouble or durable.journal.trouble
        return Vitals(
            alive=alive,
            draining=self._draining,
            store=durable.store.facts.url,
            fell_back=durable.fell_back,
            trouble=None if trouble is None else str(trouble),
        )

    async def check_store(self) -> None:
        """Return if the store answers; raises `StoreUnavailable` at once if it cannot be read or written."""
        if not self._open:
            raise EngineClosed()
        if self._durable is not None:
            if self._fleet is not None:
                self._fleet.check()
            self._durable.check_writable()
            await self._durable.store.find_key("")

    # -- runs

    async def submit(
        self,
        graph: Graph | str,
        state: Any = None,
        *,
        version: str | None = None,
        run_id: str | None = None,
        idempotency_key: str | None = None,
        tags: Mapping[str, str] | None = None,
        deadline: float | None = None,
        priority: int = 0,
        files: Mapping[str, Any] | None = None,
    ) -> Run:
        """Start a run, or queue it; returns once it is safe, which in memory is at once.

        Refuses before anything is accepted: `GraphInvalid`, `StateInvalid`, `UnknownKey`, `EngineBusy`,
        `EngineClosed`. A name without a `version` means its newest one: 1.10 comes after 1.9. `deadline` is in
        seconds from now. Higher priorities start first, then older runs. Ids, keys and tags take at most 512 bytes of
        UTF-8 each, and no NUL, whatever the store.

        `files` are those that the entry points are given, by their roles: each a `File`, a path, or bytes. They are
        kept before anything is accepted.
        """
        if (run_id, idempotency_key, tags, deadline) != _NONE_GIVEN or priority != 0 or type(priority) is not int:
            refuse("submit", submission_faults(run_id, idempotency_key, tags, deadline, priority))
        try:
            self._check_open()
            registered = await self._find(graph, version) if isinstance(graph, str) else self._register(graph)
            await registered.start(self._root)
            if registered.plan.carries or files:
                state = await self._with_files(registered.plan, state, files)
            # Nothing waits from here on: what is checked still holds when the run is in the books.
            self._check_open()
            values = registered.plan.state.admit({} if state is None else state)
            seconds = registered.plan.decl.deadline if deadline is None else deadline
            due = None if seconds is None else anyio.current_time() + seconds
            options = Options(run_id, idempotency_key, tags or {}, seconds, due, priority)
            if self._durable is not None:
                return await self._submit_durably(self._durable, registered, values, options)
            kept: Values = {}
            if idempotency_key is not None:
                known = self._by_key.get(idempotency_key)
                if known is not None:
                    first, input = known
                    if first.registered is not registered or not equal(input, values):
                        theirs, ours = (first.graph, first.version), (registered.plan.name, registered.plan.version)
                        raise IdempotencyConflict.between(idempotency_key, first.id, theirs, ours)
                    return first
                # Before the run begins, whose nodes may change what they must not.
                kept = remembered(values)
            run = self._admit(registered, options)
            self._take_on(run, values, options)
            if idempotency_key is not None:
                run.key = idempotency_key
                self._by_key[idempotency_key] = (run, kept)
            return run
        except EngineError as error:
            reason = _reason(error)
            self._rejected[reason] = self._rejected.get(reason, 0) + 1
            raise

    async def _with_files(self, plan: Plan, state: Any, files: Mapping[str, Any] | None) -> Any:
        """The state as it is admitted, all files in it and beside it kept."""
        if not plan.carries:
            raise FileMismatch("START", f"no node of graph {plan.name!r} takes files", list(files or ()))

        async def keep(file: File) -> File:
            if file.ephemeral and self._durable is not None:
                raise EphemeralRefused(
                    f"the run is submitted on the ephemeral file {file.name!r}, which it would need after a crash, and "
                    f"nothing makes it again; give it without ephemeral=True"
                )
            return await self.files.keep(file)

        if isinstance(state, Mapping) and FILES in state:
            raise StateInvalid.of("the initial state", [StateFault((FILES,), "the key is the engine's own")])
        # What does not fit is refused before anything is kept for it.
        values = plan.state.admit({} if state is None else state)
        given = input_files(files or {})
        found = [(role, "", number, await keep(file)) for number, (role, file) in enumerate(given)]
        kept: Values = await kept_inside(values, keep)
        return plan.state.seed({**kept, FILES: tuple(found)} if found or FILES not in kept else kept)

    async def _find(self, name: str, version: str | None) -> Registered:
        try:
            return self._registry.find(name, version)
        except GraphNotFound:
            if self._fleet is None:
                raise
        await self._learn()
        return self._registry.find(name, version)

    def _take_on(self, run: Run, values: Values, options: Options) -> None:
        """Start it, or queue it, with its deadline."""
        if options.due is not None:
            assert options.deadline is not None
            run.set_deadline(options.deadline, options.due, self._timers)
        try:
            self._begin_or_queue(run, values)
        except BaseException:
            self._books.submitted -= 1
            run.forget_deadline()
            raise
        run.registered.counts.submitted += 1

    async def _submit_durably(self, durable: Durable, registered: Registered, values: Values, options: Options) -> Run:
        """Start it once the store has it."""
        durable.check_writable()
        plan, key, fleet = registered.plan, options.key, self._fleet
        if key is None and options.run_id is None:
            if fleet is not None:
                await fleet.check_room(_depth.get())
                self._check_open()
            return await self._admit_durably(durable, registered, values, options)
        async with self._locks.of("key", key), self._locks.of("run", options.run_id):
            if (known := await self._known_by_key(durable, plan, key, values)) is not None:
                return known
            if options.run_id is not None and await durable.load(options.run_id) is not None:
                raise RunIdTaken(options.run_id)
            if fleet is not None:
                await fleet.check_room(_depth.get())
            self._check_open()
            return await self._admit_durably(durable, registered, values, options)

    async def _admit_durably(self, durable: Durable, registered: Registered, values: Values, options: Options) -> Run:
        # Before there is a run, and nothing waits until the journal asks, too: what comes later finds the store has it.
        await anyio.lowlevel.checkpoint_if_cancelled()
        plan, books = registered.plan, self._books
        run = self._admit(registered, options)
        run.key = options.key
        run.machine.expect(values)
        books.admitting[run.id] = run  # the store may have it a moment before it is told here
        row: RunRow | None = None
        try:
            row = await durable.admit(run, plan, values, deadline=options.deadline, depth=_depth.get())
        except Exception as error:
            books.submitted -= 1
            if not isinstance(error, KeyTaken):
                raise
            # Another engine, or whoever writes to the store besides, was quicker by a moment.
            if (known := await self._known_by_key(durable, plan, options.key, values)) is not None:
                return known
            raise IdempotencyConflict(error.key, error.run_id, "at the same moment") from None
        except BaseException:
            # Whoever submitted it is gone, but the store has it (see Journal.write).
            self._admitted(run, None, values, options)
            raise
        finally:
            del books.admitting[run.id]
        return self._admitted(run, row, values, options)

    async def _known_by_key(self, durable: Durable, plan: Plan, key: str | None, values: Values) -> Run | None:
        """The run that was submitted under this key before; raises `IdempotencyConflict` if it is of something else."""
        known = None if key is None else await durable.by_key(key)
        if known is None or key is None:
            return None
        row, input = known
        theirs, ours = (row.graph, row.version), (plan.name, plan.version)
        if theirs != ours or not equal(input, values):
            raise IdempotencyConflict.between(key, row.run_id, theirs, ours)
        return await self.get(row.run_id)

    def _admitted(self, run: Run, row: RunRow | None, values: Values, options: Options) -> Run:
        """The store has it."""
        assert self._durable is not None
        fleet = self._fleet
        if self._durable.journal.closed:
            run.let_go()  # it goes on at the next start
        elif fleet is not None and fleet.trouble is not None:
            run.let_go(fleet.trouble)  # it goes on elsewhere
        elif run.ending:
            self._books.end(run)  # somebody has cancelled it, who had its id
        elif fleet is not None and row is not None and not fleet.begins_here(run.graph, _depth.get()):
            run.registered.counts.submitted += 1
            return fleet.queue(run.registered, row)
        else:
            self._take_on(run, values, options)
        return run

    async def run(self, graph: Graph | str, state: Any = None, **options: Any) -> RunResult:
        """Submit a run and wait for its result."""
        run = await self.submit(graph, state, **options)
        if run.registered.plan.signals:
            with anyio.move_on_after(_SILENT_SECONDS):
                return await run.result()
            self._say_that_it_waits(run)
        return await run.result()

    def _say_that_it_waits(self, run: Run) -> None:
        """Whoever called `run()` has no handle: a signal that nobody can send would be waited for in silence."""
        if run.status == "waiting":
            logger.warning(
                "run() waits for run %s of %r, which waits for a signal (its graph knows %s): send it by "
                "`(await engine.get(%r)).signal(...)`, or submit() the run and have it in hand",
                run.id,
                run.graph,
                ", ".join(map(repr, sorted(run.registered.plan.signals))),
                run.id,
                extra=about(run.id, run.graph),
            )

    async def get(self, run_id: str) -> Run:
        """The run of this id; raises `RunNotFound`, in memory also for one that ended too many runs ago."""
        found = self._books.get(run_id) if self._fleet is None else None  # else it may have gone on elsewhere since
        if found is None and self._returning is not None:
            found = await self._returning.get(run_id)
        elif found is not None and self._returning is not None:
            await self._returning.recall(found)
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
        if self._returning is not None:
            return await self._returning.find(status, graph, tags or {}, since, limit, after)
        everything = sorted([*self._books.ended.values(), *self._books.active.values()], key=lambda run: run.number)
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

    async def fork(self, run_id: str, at: str, update: Mapping[str, Any] | None = None) -> Run:
        """Start a new run from one activation (`"score#2"`) of an older run, by cause.

        Everything that it did not cause is kept; it runs again with its tokens, after `update` to what it is given.
        The older run's record does not change. Needs a store: without one nothing is kept to fork from. Returns when
        the fork is safe; it waits for a place like any other run.

        Raises `ActivationNotFound`; what is wrong with the update; `HistoryGone` if records of the run, or of one that
        it is a fork of, are gone; `VersionMismatch` if what the fork keeps means something else on the graph of now.
        """
        self._check_open()
        if self._returning is None:
            raise EngineError(
                "fork needs the records of the run: give the engine a store, Engine('memory://') at least"
            )
        return await self._returning.fork(run_id, at, update)

    async def migrate(self, run_id: str) -> Run:
        """Let a run whose graph has changed go on, on the newest version, if its records fit that one.

        Records name edges by their places: those that they mention must be there what they were, as must the nodes that
        have run, and of a run with a snapshot everything. Raises `VersionMismatch` with each `reasons` if that is not
        so, or if nobody can tell since the store does not have the definition that it began on; then nothing has
        changed.
        """
        self._check_open()
        if self._returning is None:
            raise RunNotFound(run_id)
        return await self._returning.migrate(run_id)

    async def compact(
        self,
        *,
        keep_seconds: float | None = None,
        keep_count: int | None = None,
        keep_audit_seconds: float | None = None,
    ) -> Compacted:
        """Remove ended runs from the store: those that ended longer ago, or all but the newest of each graph.

        The contents of files that no run names any more go with them, unless they were kept within a day: what is
        uploaded now may be about to be named.

        Lines of the audit log stay, whatever becomes of the runs, but for those older than `keep_audit_seconds`.
        """
        self._check_open()
        if self._durable is None:
            raise EngineError("there is no store to compact: runs in memory are limited by Settings(keep_runs=...)")
        from .stored import Kept

        removed = await self._durable.compact(
            Kept(seconds=keep_seconds, count=keep_count, audit_seconds=keep_audit_seconds)
        )
        files = await self.files.collect(self._durable.named_files)
        return attrs.evolve(removed, files=files)

    # -- the audit log

    def audit(self, line: AuditLine) -> None:
        """Write down who did what: to the logger `engine.audit`, and into the store if there is one."""
        if self._audit_log is None:
            from .auditing import AuditLog

            self._audit_log = AuditLog(None) if self._durable is None else self._durable.audit_log
        self._audit_log.add(line)

    async def audits(
        self, run_id: str | None = None, *, after: int = 0, limit: int = 100, newest_first: bool = False
    ) -> list[tuple[int, AuditLine]]:
        """Lines of the audit log with their numbers, all or those about one run; `after` is the last number seen."""
        return await self._audited().audits(run_id, after, limit, newest_first)

    async def audit_page(
        self,
        run_id: str | None = None,
        *,
        who: str | None = None,
        since: float | None = None,
        after: int = 0,
        limit: int = 100,
        newest_first: bool = False,
    ) -> AuditPage:
        """Part of the audit log, and where it goes on: about one run, by the holder of one key, since a time."""
        from .auditing import search

        durable = self._audited()
        return await search(
            lambda after, size: durable.audits(run_id, after, size, newest_first),
            who=who,
            since=since,
            after=after,
            limit=limit,
            newest_first=newest_first,
        )

    def _audited(self) -> Durable:
        if not self._open:
            raise EngineClosed()
        if self._durable is None:
            raise EngineError(
                "there is no store that keeps an audit log: it is written to the logger engine.audit only"
            )
        return self._durable

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

    # -- tools

    async def reload_tools(self) -> Reloaded:
        """Import tools anew whose modules have changed, for runs that begin from now on.

        Runs in flight keep what they began with (in worker processes they cannot: their next call there fails with
        `NotTransferable`). Raises `ToolsNotLoaded`, or another fault of the new code; then nothing has changed. Graphs
        that the new tools do not fit keep the old ones, and are told in `refused`. Classes that states are made of
        belong in modules without tools: a class that is imported anew is another class.
        """
        self._check_open()
        assert self.threads is not None
        async with self._locks.of("tools", "all"):
            prepared = await self.threads.run(prepare_reload, [self.tools], {})
            # Nothing waits from here on: no run may begin with tools of both.
            committed: Reloaded = prepared.commit()
            reloaded: Reloaded = attrs.evolve(committed, refused=tuple(self._registry.compile_again()))
            if reloaded.modules:
                for _, executor in self._entered:
                    if isinstance(executor, ProcessExecutor):
                        await executor.renew()
        return reloaded

    # -- graphs, watchers, numbers

    def register(self, graph: Graph) -> None:
        """Make a graph known by its name and version, so that it can be submitted by name."""
        self._register(graph)

    def _register(self, graph: Graph) -> Registered:
        given: Any = graph
        if callable(given) and not isinstance(given, Graph | Plan):
            name = getattr(given, "__name__", "node")
            raise TypeError(
                f"expected a graph or the name of one, found the function {name!r}; to run it alone: "
                f"Graph({name!r}).add_node({name!r}, {name}).set_entry_point({name!r})"
            )
        known = self._registry.register(graph)
        if self._open:
            self._recover(known)
        return known

    def _recover(self, known: Registered) -> None:
        if self._returning is not None and self._settings.recover:
            self._returning.recover(known)

    async def define(self, data: Mapping[str, Any]) -> Graph:
        """Make a graph known from its definition as data, and keep that in the store, if there is one.

        So it is there again after a restart, and its unfinished runs go on, without anybody defining it once more.
        Raises `GraphInvalid`, `GraphConflict`, `StoreUnavailable`; then nothing is kept.
        """
        self._check_open()
        graph = Graph.from_dict(data, tools=self.tools)
        async with self._locks.of("graph", graph.name):
            there = self._registry.get(graph.name, graph.version)
            known = self._registry.register(graph)
            if self._durable is not None and (there is None or there.forgotten):
                try:
                    await self._durable.keep_definition(known.plan, dict(data))
                except BaseException:
                    self._registry.forget(known)
                    raise
                if self._fleet is not None:
                    self._fleet.graph_is_defined()
            self._recover(known)
        return known.graph or graph

    async def forget(self, name: str, version: str) -> None:
        """Know a graph no more, in the store either. Raises `GraphNotFound`, or `GraphInUse` while runs need it.

        Of its runs that have ended no more than that can be told once they are out of memory.
        """
        self._check_open()
        async with self._locks.of("graph", name):
            known = self._registry.find(name, version)
            unfinished = None if self._durable is None else await self._durable.unfinished_of(name, version)
            # Nothing waits from here until it is unknown: a submission under way sees that it is.
            active = self._books.of_graph(name, version)
            if active or unfinished is not None:
                raise GraphInUse(name, version, active[0].id if active else str(unfinished))
            self._registry.forget(known)
            self._past.append(EngineStatistics(0, 0, 0, dict(known.counts.ended), 0))
            await known.stop(self._root)
            if self._durable is not None and (name, version) in self._durable.kept:
                await self._durable.forget_definition(known.plan)

    def graph(self, name: str, version: str | None = None) -> Graph | None:
        """The graph of this name and version, or its newest; None if it was given as a plan. Or `GraphNotFound`."""
        return self._registry.find(name, version).graph

    def plan(self, name: str, version: str | None = None) -> Plan:
        """What that graph was compiled to, as the engine runs it."""
        return self._registry.find(name, version).plan

    def limits(self, graph: Graph | str, node: str, *, version: str | None = None) -> Limits:
        """What holds for a node at present, over all runs; raises `GraphNotFound`, or `UnknownNode`."""
        known, found = self._node_of(graph, node, version)
        return known.scheduler.limits.get(node) or Limits.of(found.decl.options)

    def set_limits(
        self, graph: Graph | str, node: str, *, version: str | None = None, **changes: Unpack[LimitChanges]
    ) -> Limits:
        """Change what holds for a node over all runs, from now on: `rate`, `concurrency`, `batch`, `breaker`, `cache`.

        None takes a limit away, what is left out stays. Nothing that has begun is stopped; what waits starts as soon as
        the new limits allow it. It holds as long as this engine does, also for runs that begin later; another engine
        goes by the graph. A node of a graph inside is named as in the metrics, `inner.node`. Call it in the loop.
        """
        self._check_open()
        known, found = self._node_of(graph, node, version)
        refuse("set_limits", change_faults(found, changes))
        limits = changed(self.limits(graph, node, version=version), changes)
        for one in self._registry.generations(known):
            one.scheduler.set_limits(node, limits)
        return limits

    def _node_of(self, graph: Graph | str, node: str, version: str | None) -> tuple[Registered, PlanNode]:
        known = self._registry.find(graph, version) if isinstance(graph, str) else self._registry.register(graph)
        nodes = dict(labelled(known.plan))
        if node not in nodes:
            raise UnknownNode(node, list(nodes))
        return known, nodes[node]

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
        for run in self._books.active.values():
            run.told = run.machine.history.seq
        self._look()

        def end() -> None:
            self._watchers.pop(subscription, None)
            self._look()

        return end

    def statistics(self) -> EngineStatistics:
        """A snapshot."""
        ended: Counter[str] = Counter()
        for known in self._registry.ever():
            ended.update(known.counts.ended)
        books = self._books
        submitted, refused = books.submitted, books.refused
        for past in self._past:
            ended.update(past.ended)
            submitted += past.submitted
            refused += past.refused
        return EngineStatistics(books.running, len(books.queued), submitted, dict(ended), refused)

    @property
    def metrics(self) -> CollectorRegistry:
        """A `prometheus_client` registry of this engine alone, empty with `Engine(metrics=False)`; for any thread."""
        if self._metrics is None:
            # Not at the top: it brings an HTTP server along, 50 ms for everybody who imports the engine.
            from .metrics import EngineNumbers, FleetNumbers, GraphNumbers, JournalNumbers, registry_of

            def graphs() -> list[GraphNumbers]:
                return [
                    GraphNumbers(known.plan.name, known.counts, known.scheduler.all_crews, known.scheduler.hands.lag)
                    for known in self._registry.ever()
                ]

            durable = self._durable
            kept = None
            if durable is not None:
                recovered, available = lambda: durable.recovered, lambda: durable.available
                kept = JournalNumbers(
                    durable.commit_seconds,
                    durable.batch_records,
                    recovered,
                    available,
                    lambda: durable.audit_log.dropped,
                )
            fleet = self._fleet
            numbers = EngineNumbers(
                graphs=graphs,
                in_flight=lambda: Counter(run.graph for run in list(self._books.active.values()) if run.counted),
                queued=lambda: [(run.graph, run.submitted_at) for run in self._books.queued],
                rejected=self._rejected,
                dead_letters=self._actors.letters.counts.copy,
                restarts=lambda: self._restarts.count,
                executors=lambda: [(name, executor.health()) for name, executor in self._entered],
                journal=kept,
                fleet=None if fleet is None else FleetNumbers(fleet.standing.counts, lambda: fleet.lease.seconds_left),
            )
            self._metrics = registry_of(numbers if self._show_metrics else None)
        return self._metrics

    # -- for its runs

    def past(self, run: Run) -> Past | None:
        """What tells of events that memory does not keep any more."""
        if self._durable is None or not self._open:
            return None
        from .past import Past

        return Past(self._durable, run.machine)

    def notice(self, run: Run) -> None:
        """A run has changed, and somebody cares: watchers, or who waits for the engine to come to rest."""
        if self._watchers:
            self._tell(run)
        self._wake_idle()

    def run_over(self, run: Run) -> None:
        """A run has ended: keep it among the ended ones, and let the next in the queue begin."""
        counted = run.counted
        forgotten = self._books.close(run)
        if forgotten is None:
            return
        for gone in forgotten:
            if gone.key is not None:
                self._by_key.pop(gone.key, None)
        counts = run.registered.counts
        counts.ended[run.status] = counts.ended.get(run.status, 0) + 1
        if counted:
            counts.durations.add(perf_counter() - run.begun_at)
            self._books.begin_queued()
            if self._fleet is not None:
                self._fleet.place_free()
        self.notice(run)

    def waited_for(self, run: Run) -> None:
        """Let a queued run begin, whatever the places, if it is a node that waits for it.

        Or it might wait for the very place that the run of that node holds, or one that it is inside of: for ever.
        """
        if not _depth.get():
            return
        self._books.begin_now(run)
        if self._fleet is not None:
            self._fleet.want(run)

    async def check_kept(self, run: Run) -> None:
        """Raise `RunNotFound` if the store has removed a run that ended: what goes on there would be kept nowhere."""
        if self._fleet is not None and self._open:
            await self._fleet.take_ended(run)
        elif self._durable is not None and self._open and not await self._durable.has(run.id):
            raise RunNotFound(run.id, "it has been removed from the store since it ended; submit another")

    def stays_ended(self, run: Run) -> None:
        """It does not go on after all."""
        if self._fleet is not None:
            self._fleet.release(run.id)

    def check_retry(self, run: Run) -> None:
        """Raise what forbids that a failed run goes on, before anything has changed."""
        self._check_open()
        self._check_known(run.registered)
        if run.deadline_at is not None and run.deadline_at <= anyio.current_time():
            assert run.deadline_seconds is not None
            raise RunTimeout(run.id, run.deadline_seconds, "it is too late for a retry, submit another run")
        self._books.check_room()

    def revive(self, run: Run) -> None:
        """A run that had failed, and is held since its retry, goes on once there is a place for it."""
        self._books.reopen(run)
        if self._fleet is not None:
            self._fleet.taken(run.id)
        run.revived()
        run.rearm(self._timers)
        self._books.place(run, run.go_live)

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

    def _check_known(self, registered: Registered) -> None:
        if registered.forgotten:
            raise GraphNotFound(registered.plan.name, [name for name, _ in self.graphs()])

    def _admit(self, registered: Registered, options: Options) -> Run:
        """Accept a run, or say why not, before anything of it is there."""
        depth = _depth.get()
        if depth >= self._settings.max_depth:
            raise TooDeep(depth)
        self._check_known(registered)
        if options.run_id is not None and self._books.get(options.run_id) is not None:
            raise RunIdTaken(options.run_id)
        self._books.check_room()
        run_id = options.run_id or new_id()
        journal = None if self._durable is None else self._durable.journal_for(registered.plan, run_id)
        self._books.submitted += 1
        return self._made(registered, run_id, journal, depth, options.tags, options.priority)

    def _made(
        self,
        registered: Registered,
        run_id: str,
        journal: RunJournal | None,
        depth: int,
        tags: Mapping[str, str],
        priority: int,
        submitted_at: float | None = None,
    ) -> Run:
        """A run that nothing has happened to."""
        machine = Machine(registered.plan, run_id, journal=journal)
        machine.tree.counts = registered.counts
        variables = copy_context()
        variables.run(_depth.set, depth + 1)
        books = self._books
        books.made += 1
        return Run(
            self,
            registered,
            machine,
            variables,
            tags=tags,
            priority=priority,
            number=books.made,
            submitted_at=submitted_at,
        )

    def _begin_or_queue(self, run: Run, values: Values) -> None:
        books = self._books
        if books.is_full:
            run.machine.expect(values)
            books.enqueue(run, partial(run.begin, values))
            return
        books.begin(run)
        try:
            run.begin(values)
        except BaseException:
            books.give_back(run)
            raise

    async def _finish(self) -> None:
        """Wait for what is running; what only waits for a signal or a timer stays in the store, or is given up."""
        active = self._books.active
        if self._durable is not None and self._returning is not None:
            self._durable.tell_what_is_waited_for()
            await self._come_to_rest()
            await self._leave_to_the_store()
            return
        while active:
            await self._come_to_rest()
            left = [run for run in active.values() if run.counted]
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

    async def _come_to_rest(self) -> None:
        active = self._books.active
        if self._returning is not None:
            returning = self._returning
            await self._until(lambda: returning.is_through)
        await self._until(lambda: all(run.at_rest for run in active.values() if run.counted))

    async def _abandon(self, *, gives_up: bool = False) -> None:
        """Leave with what runs; who `gives_up` has waited before, and does not wait for a store in trouble again."""
        self._abandoned = True
        self._books.clear_queue()
        if self._durable is not None:
            seconds = 0.0 if gives_up and self._durable.journal.stuck else self._settings.close_seconds
            with anyio.move_on_after(seconds, shield=True):
                await self._leave_to_the_store()
            return
        for run in list(self._books.active.values()):
            await run.cancel("the engine was left by an exception")
        with anyio.move_on_after(self._settings.close_seconds, shield=True):
            await self._until(lambda: not self._books.active)

    async def _leave_to_the_store(self) -> None:
        """Let go of every run that is not over, once all that is decided is written: the next start goes on with it."""
        assert self._durable is not None
        try:
            await self._durable.journal.finish()
        finally:
            # Whatever could be written: nothing happens in them any more, and nobody may wait for them.
            for run in list(self._books.active.values()):
                run.let_go()
            self._books.active.clear()
            if self._fleet is not None:
                await self._fleet.leave()

    def _wake_idle(self) -> None:
        for waker in self._idle:
            waker.wake()

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


@attrs.frozen
class Options:
    """What a submission says beside its graph and state."""

    run_id: str | None
    key: str | None
    tags: Mapping[str, str]
    deadline: float | None
    """In seconds from its submission, its own or its graph's."""
    due: float | None
    """The same on the loop's clock."""
    priority: int


def _files(files: Any, store: Store | str | None) -> Files:
    """Where files are kept, by what was said of it, or of the store."""
    if isinstance(files, Files):
        return files
    if isinstance(files, str | Path):
        return Files(open_files(files))
    if files is not None:
        return Files(files)
    if store is None:
        return Files(MemoryFiles(forgets=True))
    beside = files_beside(store) if isinstance(store, str) else None
    return Files(beside, "this store keeps no files beside its runs; say where: Engine(..., files='s3://bucket')")


def _check_files(store: Store, files: Files) -> None:
    """Refuse to have runs survive and what they name not."""
    if store.facts.durable and files.has_store and not files.store.durable:
        raise ValueError(
            f"the files of {store.facts.url} would be in memory only ({files.store.url}), and missing when its runs go "
            f"on after a restart; say files=a folder, or files='s3://bucket'"
        )


class _Restarts(NullObserver):
    """Counts what supervisors start anew."""

    def __init__(self) -> None:
        self.count = 0

    def restarting(self, ref: ActorRef[Any], incarnation: int, delay: float) -> None:
        """One more."""
        self.count += 1


def _reason(error: EngineError) -> str:
    """An error's class as a label: `engine_busy`."""
    return re.sub(r"(?<=.)(?=[A-Z])", "_", type(error).__name__).lower()


def _only_leaf(group: BaseExceptionGroup[BaseException]) -> BaseException:
    leaf: BaseException = group
    while isinstance(leaf, BaseExceptionGroup) and len(leaf.exceptions) == 1:
        leaf = leaf.exceptions[0]
    return leaf
