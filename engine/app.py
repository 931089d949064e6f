"""The engine: the one place where everything is put together."""

from __future__ import annotations

import logging
import sys
import threading
from collections.abc import Callable, Mapping
from contextlib import AsyncExitStack
from functools import partial
from random import Random
from time import perf_counter
from types import TracebackType
from typing import TYPE_CHECKING, Any, Final, Literal, NoReturn, Self, Unpack

import anyio
import anyio.lowlevel
import attrs

from actors import ChildSpec, State, Tree, supervise
from actors.interrupts import uninterrupted

from .admission import Admission, Options
from .beside import Beside
from .blocking import Backend, BlockingEngine, BlockingMethod, run_blocking
from .books import Books
from .catalogue import Catalogue
from .door import Door, nesting
from .errors import EngineClosed, EngineError, IdempotencyConflict, RunNotFound, RunTimeout
from .executors import ProcessExecutor, ThreadExecutor
from .executors.worker import backend_here
from .files.choosing import check_files, files_for
from .filestart import with_files
from .graph import Graph
from .handle import Run
from .leaving import Leaving
from .limits import LimitChanges, Limits
from .loading import Reloaded, prepare_reload, tools_of
from .locks import Locks
from .logs import about
from .plan import Plan
from .ports import Executor, Store
from .registry import Registry
from .remembered import equal, remembered
from .resolving import Functions, PortsResolver, Resolver
from .result import RunResult
from .runs import Status
from .settings import Settings
from .sharing import Sharing
from .state import Values
from .stored import Kept
from .submitting import engine_faults, keep_faults, refuse, sharing_faults, submission_faults, timeout_fault
from .tally import EngineStatistics, Restarts, Tally
from .timers import Timers
from .toolbox import Threads
from .watchers import Watcher, Watchers

if TYPE_CHECKING:
    from prometheus_client.registry import CollectorRegistry

    from .auditing import AuditLine, AuditLog, AuditPage
    from .durable import Durable
    from .fleet import Fleet
    from .keeping import Durability
    from .past import Past
    from .returning import Returning
    from .stored import Compacted
    from .vitals import Vitals

logger = logging.getLogger("engine")

# What most submissions say of their run's id, key, tags and deadline.
_NONE_GIVEN: Final = (None, None, None, None)

# So long run() waits for a run that waits for a signal before it says so.
_SILENT_SECONDS: Final = 2.0


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
        self.files: Final = files_for(files, store)
        """Keeps and finds the contents of files."""
        self.resolver: Final[Resolver] = PortsResolver(self.tools, self.files) if resolver is None else resolver
        """Where nodes' functions and files come from, and go."""
        self.watched = False
        """Whether anybody looks at its runs, in one flag for the hot path."""
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
        self.watchers: Final = Watchers(self, self._books)
        """Those who do."""
        restarts = Restarts()
        self._actors = Tree(restarts)
        self._entered: list[tuple[str, Executor]] = []
        self._tally = Tally(
            self._registry,
            self._books,
            self._durable,
            self._entered,
            self._actors,
            restarts,
            shows_metrics=metrics,
        )
        self._door = Door()
        self._leaving = Leaving(
            self._door, self._books, self.watchers, self._durable, close_seconds=self._settings.close_seconds
        )
        self._catalogue = Catalogue(
            self._registry,
            self.tools,
            self._door,
            self._books,
            self._tally,
            self._locks,
            self._durable,
            recovers=self._settings.recover,
        )
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
                learn=self._catalogue.learn,
                wake=self.watchers.wake_idle,
            )
            self._durable.share = self._fleet.join
            self._catalogue.fleet = self._leaving.fleet = self._tally.fleet = self._fleet
        self._admission = Admission(
            self,
            self._door,
            self._catalogue,
            self._books,
            self._timers,
            self._locks,
            self._durable,
            self._fleet,
            max_depth=self._settings.max_depth,
        )
        self._audit_log: AuditLog | None = None
        self.thread: int | None = None
        self.token: Any = None
        self._stack: AsyncExitStack | None = None

    # -- its life

    @property
    def is_open(self) -> bool:
        """Whether it has been entered and not been left."""
        return self._door.open

    @property
    def is_draining(self) -> bool:
        """Whether it takes no new runs any more."""
        return self._door.draining

    def on_drain(self, callback: Callable[[], object]) -> None:
        """Have this called, in the loop, when the engine begins to drain: at once if it does already."""
        self._door.on_drain(callback)

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
        uninterrupted("engine")
        executors: dict[str, Executor] = {
            "thread": ThreadExecutor(self._settings.threads),
            "process": ProcessExecutor(self._settings.processes),
            **self._executors,
        }
        async with AsyncExitStack() as stack:
            children = [ChildSpec("timers", Beside, ("timers", self._timers.serve))]
            if self._durable is not None:
                await self._durable.open(stack.enter_async_context)
                check_files(self._durable.store, self.files)
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
        self._door.open = True
        if self._durable is not None:
            from .returning import Returning

            self._returning = Returning(
                self._durable,
                self._registry,
                self._books,
                self._timers,
                self._root,
                self._admission.make,
                self.watchers.wake_idle,
                self._fleet,
            )
            self._catalogue.returning = self._leaving.returning = self._returning
            if self._fleet is not None:
                self._fleet.begin(self._returning)
            self._catalogue.know_again()
            for known in self._registry.all():
                self._catalogue.recover(known)
        return self

    async def _start(self, name: str, executor: Executor, stack: AsyncExitStack) -> None:
        # Closed also if starting fails or is cancelled half-way: what it had begun must not stay behind.
        stack.push_async_callback(executor.close)
        await executor.start()
        self._entered.append((name, executor))

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> bool:
        assert self._stack is not None
        self._door.drain()
        try:
            if error is None:
                await self._leaving.finish()
            else:
                await self._leaving.abandon()
        except BaseException:
            kind, error, traceback = sys.exc_info()
            self._door.open = False
            await self._leaving.abandon(gives_up=True)
            await self._stack.__aexit__(kind, error, traceback)
            raise
        self._door.open = False
        return bool(await self._stack.__aexit__(kind, error, traceback))

    async def drain(self, timeout: float | None = None) -> list[Run]:
        """Refuse new runs and wait until none is running; returns those that still are when time is up.

        What a node submits is no new run, but part of one that is waited for.
        """
        refuse("drain", [("timeout", fault)] if (fault := timeout_fault(timeout)) else ())
        self._door.drain()
        with anyio.move_on_after(timeout):
            await self.watchers.until(lambda: not self._books.active)
        return list(self._books.active.values())

    async def settle(self, timeout: float | None = None) -> bool:
        """Refuse new runs and wait until nothing goes on any more; whether that came about in time.

        As `drain`, but runs that only wait, for a signal or a timer, are not waited for: what leaving the engine then
        finds is what it can leave to the store at once.
        """
        refuse("settle", [("timeout", fault)] if (fault := timeout_fault(timeout)) else ())
        self._door.drain()
        with anyio.move_on_after(timeout):
            await self._leaving.come_to_rest()
            return True
        return False

    @property
    def vitals(self) -> Vitals:
        """Whether it is well, at this moment; looks at memory only, and may be asked by any thread."""
        from .vitals import Vitals

        alive = self._door.open and not self._door.abandoned and self._root.state is State.RUNNING
        durable = self._durable
        if durable is None or not self._door.open:
            return Vitals(alive=alive, draining=self._door.draining)
        trouble = durable.journal.trouble if self._fleet is None else self._fleet.trouble or durable.journal.trouble
        return Vitals(
            alive=alive,
            draining=self._door.draining,
            store=durable.store.facts.url,
            fell_back=durable.fell_back,
            trouble=None if trouble is None else str(trouble),
        )

    async def check_store(self) -> None:
        """Return if the store answers; raises `StoreUnavailable` at once if it cannot be read or written."""
        if not self._door.open:
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
            self._door.check()
            registered = (
                await self._catalogue.find(graph, version)
                if isinstance(graph, str)
                else self._catalogue.register(graph)
            )
            await registered.start(self._root)
            if registered.plan.carries or files:
                recorded = self._durable is not None
                state = await with_files(registered.plan, state, files, self.files, recorded=recorded)
            # Nothing waits from here on: what is checked still holds when the run is in the books.
            self._door.check()
            values = registered.plan.state.admit({} if state is None else state)
            seconds = registered.plan.decl.deadline if deadline is None else deadline
            due = None if seconds is None else anyio.current_time() + seconds
            options = Options(run_id, idempotency_key, tags or {}, seconds, due, priority)
            admission = self._admission
            if self._durable is not None:
                return await admission.submit_durably(self._durable, registered, values, options)
            kept: Values = {}
            if idempotency_key is not None:
                known = admission.by_key.get(idempotency_key)
                if known is not None:
                    first, input = known
                    if first.registered is not registered or not equal(input, values):
                        theirs, ours = (first.graph, first.version), (registered.plan.name, registered.plan.version)
                        raise IdempotencyConflict.between(idempotency_key, first.id, theirs, ours)
                    return first
                # Before the run begins, whose nodes may change what they must not.
                kept = remembered(values)
            run = admission.admit(registered, options)
            admission.take_on(run, values, options)
            if idempotency_key is not None:
                run.key = idempotency_key
                admission.by_key[idempotency_key] = (run, kept)
            return run
        except EngineError as error:
            self._tally.reject(error)
            raise

    async def run(self, graph: Graph | str, state: Any = None, **options: Any) -> RunResult:
        """Submit a run and wait for its result."""
        run = await self.submit(graph, state, **options)
        told = not run.registered.plan.signals
        while not told:  # it may be at work for any time before it waits
            with anyio.move_on_after(_SILENT_SECONDS):
                return await run.result()
            told = self._say_that_it_waits(run)
        return await run.result()

    def _say_that_it_waits(self, run: Run) -> bool:
        """Whoever called `run()` has no handle: a signal that nobody can send would be waited for in silence."""
        if run.status != "waiting":
            return False
        logger.warning(
            "run() waits for run %s of %r, which waits for a signal (its graph knows %s): send it by "
            "`(await engine.get(%r)).signal(...)`, or submit() the run and have it in hand",
            run.id,
            run.graph,
            ", ".join(map(repr, sorted(run.registered.plan.signals))),
            run.id,
            extra=about(run.id, run.graph),
        )
        return True

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
        number = None if after is None else (await self.get(after)).number
        return self._books.find(status, graph, tags or {}, since, limit, number)

    async def fork(self, run_id: str, at: str, update: Mapping[str, Any] | None = None) -> Run:
        """Start a new run from one activation (`"score#2"`) of an older run, by cause.

        Everything that it did not cause is kept; it runs again with its tokens, after `update` to what it is given.
        The older run's record does not change. Needs a store: without one nothing is kept to fork from. Returns when
        the fork is safe; it waits for a place like any other run.

        Raises `ActivationNotFound`; what is wrong with the update; `HistoryGone` if records of the run, or of one that
        it is a fork of, are gone; `VersionMismatch` if what the fork keeps means something else on the graph of now.
        """
        self._door.check()
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
        self._door.check()
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
        self._door.check()
        if self._durable is None:
            raise EngineError("there is no store to compact: runs in memory are limited by Settings(keep_runs=...)")
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
        if not self._door.open:
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
        engine = self if self._door.open else self._another()
        try:
            return run_blocking(engine, backend, graph, state, options)
        finally:
            if engine is not self:
                self._tally.keep(engine.statistics())

    @BlockingMethod
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
        self._door.check()
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
        self._catalogue.register(graph)

    async def define(self, data: Mapping[str, Any]) -> Graph:
        """Make a graph known from its definition as data, and keep that in the store, if there is one.

        So it is there again after a restart, and its unfinished runs go on, without anybody defining it once more.
        Raises `GraphInvalid`, `GraphConflict`, `StoreUnavailable`; then nothing is kept.
        """
        self._door.check()
        return await self._catalogue.define(data)

    async def forget(self, name: str, version: str) -> None:
        """Know a graph no more, in the store either. Raises `GraphNotFound`, or `GraphInUse` while runs need it.

        Of its runs that have ended no more than that can be told once they are out of memory.
        """
        self._door.check()
        await self._catalogue.forget(name, version, self._root)

    def graph(self, name: str, version: str | None = None) -> Graph | None:
        """The graph of this name and version, or its newest; None if it was given as a plan. Or `GraphNotFound`."""
        return self._registry.find(name, version).graph

    def plan(self, name: str, version: str | None = None) -> Plan:
        """What that graph was compiled to, as the engine runs it."""
        return self._registry.find(name, version).plan

    def limits(self, graph: Graph | str, node: str, *, version: str | None = None) -> Limits:
        """What holds for a node at present, over all runs; raises `GraphNotFound`, or `UnknownNode`."""
        return self._catalogue.limits(graph, node, version)

    def set_limits(
        self, graph: Graph | str, node: str, *, version: str | None = None, **changes: Unpack[LimitChanges]
    ) -> Limits:
        """Change what holds for a node over all runs, from now on: `rate`, `concurrency`, `batch`, `breaker`, `cache`.

        None takes a limit away, what is left out stays. Nothing that has begun is stopped; what waits starts as soon as
        the new limits allow it. It holds as long as this engine does, also for runs that begin later; another engine
        goes by the graph. A node of a graph inside is named as in the metrics, `inner.node`. Call it in the loop.
        """
        self._door.check()
        return self._catalogue.set_limits(graph, node, version, changes)

    def graphs(self) -> list[tuple[str, str]]:
        """Name and version of each graph, in the order of their registration."""
        return self._catalogue.names()

    def subscribe(self, callback: Watcher) -> Callable[[], None]:
        """Call `callback(run, event)` for each event of every run, in the loop; returns what ends it.

        What the callback raises is logged and harms no run.
        """
        return self.watchers.subscribe(callback)

    def statistics(self) -> EngineStatistics:
        """A snapshot."""
        return self._tally.statistics()

    @property
    def metrics(self) -> CollectorRegistry:
        """A `prometheus_client` registry of this engine alone, empty with `Engine(metrics=False)`; for any thread."""
        return self._tally.metrics

    # -- for its runs

    def past(self, run: Run) -> Past | None:
        """What tells of events that memory does not keep any more."""
        if self._durable is None or not self._door.open:
            return None
        from .past import Past

        return Past(self._durable, run.machine)

    def run_over(self, run: Run) -> None:
        """A run has ended: keep it among the ended ones, and let the next in the queue begin."""
        counted = run.counted
        forgotten = self._books.close(run)
        if forgotten is None:
            return
        for gone in forgotten:
            if gone.key is not None:
                self._admission.by_key.pop(gone.key, None)
        counts = run.registered.counts
        counts.ended[run.status] = counts.ended.get(run.status, 0) + 1
        if counted:
            counts.durations.add(perf_counter() - run.begun_at)
            self._books.begin_queued()
            if self._fleet is not None:
                self._fleet.place_free()
        self.watchers.notice(run)

    def waited_for(self, run: Run) -> None:
        """Let a queued run begin, whatever the places, if it is a node that waits for it.

        Or it might wait for the very place that the run of that node holds, or one that it is inside of: for ever.
        """
        if not nesting.get():
            return
        self._books.begin_now(run)
        if self._fleet is not None:
            self._fleet.want(run)

    async def check_kept(self, run: Run) -> None:
        """Raise `RunNotFound` if the store has removed a run that ended: what goes on there would be kept nowhere."""
        if self._fleet is not None and self._door.open:
            await self._fleet.take_ended(run)
        elif self._durable is not None and self._door.open and not await self._durable.has(run.id):
            raise RunNotFound(run.id, "it has been removed from the store since it ended; submit another")

    def stays_ended(self, run: Run) -> None:
        """It does not go on after all."""
        if self._fleet is not None:
            self._fleet.release(run.id)

    def check_retry(self, run: Run) -> None:
        """Raise what forbids that a failed run goes on, before anything has changed."""
        self._door.check()
        self._catalogue.check_known(run.registered)
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
        another.watchers.join(self.watchers)
        return another
