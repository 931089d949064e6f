"""The same engine for those who do not await: sync programs and other threads.

The engine stays on its loop; a call from another thread is carried there and waits for the answer. Context variables
of the calling thread go along.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Coroutine, Iterator, Mapping, Sequence
from contextlib import ExitStack, suppress
from functools import partial
from types import TracebackType
from typing import TYPE_CHECKING, Any, Generic, Literal, Self, TypeVar, Unpack

import anyio
import anyio.lowlevel

from .errors import EngineClosed
from .file import File
from .graph import Graph
from .handle import Run
from .history import Event, LogEntry
from .limits import LimitChanges, Limits
from .listed import Submitted
from .result import RunResult
from .runs import Status

if TYPE_CHECKING:
    import anyio.from_thread

    from .app import Engine
    from .stored import Compacted
    from .tally import EngineStatistics
    from .watchers import Watcher

T = TypeVar("T")

Backend = Literal["asyncio", "trio"]


class BlockingEngine:
    """An engine whose methods block, for use in `with`.

    Of an engine that is not running it starts one, on a loop in a thread of its own. Of one that is running it is a
    bridge for other threads, and leaves the engine alone when it is left.
    """

    def __init__(self, engine: Engine, backend: Backend = "asyncio") -> None:
        self._engine = engine
        self._backend: Backend = backend
        self._stack = ExitStack()
        self._portal: anyio.from_thread.BlockingPortal | None = None

    def __enter__(self) -> Self:
        if not self._engine.is_open:
            if in_a_loop():
                raise RuntimeError(
                    "a blocking call in an event loop would stop all of it: await the engine, "
                    "in `async with Engine()`, or call from another thread"
                )
            with ExitStack() as stack:
                self._portal = stack.enter_context(anyio.from_thread.start_blocking_portal(self._backend))
                stack.enter_context(self._portal.wrap_async_context_manager(self._engine))
                self._stack = stack.pop_all()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> bool | None:
        if error is None or isinstance(error, Exception):
            return self._stack.__exit__(kind, error, traceback)
        # An interrupt is this thread's alone: in the loop's it would take down what has to clean up there.
        interrupted = EngineClosed("the engine's owner was interrupted")
        with suppress(EngineClosed):
            self._stack.__exit__(EngineClosed, interrupted, None)
        return False

    def submit(self, graph: Graph | str, state: Any = None, **options: Any) -> BlockingRun:
        """Start a run, or queue it: see `Engine.submit`."""
        return BlockingRun(self, self._await(lambda: self._engine.submit(graph, state, **options)))

    def run(self, graph: Graph | str, state: Any = None, **options: Any) -> RunResult:
        """Submit a run and wait for its result."""
        return self._await(lambda: self._engine.run(graph, state, **options))

    def get(self, run_id: str) -> BlockingRun:
        """The run of this id; raises `RunNotFound`."""
        return BlockingRun(self, self._await(lambda: self._engine.get(run_id)))

    def runs(self, **filters: Any) -> list[BlockingRun]:
        """The runs that match: see `Engine.runs`."""
        return [BlockingRun(self, run) for run in self._await(lambda: self._engine.runs(**filters))]

    def fork(self, run_id: str, at: str, update: Mapping[str, Any] | None = None) -> BlockingRun:
        """Start a new run from one activation of an older one: see `Engine.fork`."""
        return BlockingRun(self, self._await(lambda: self._engine.fork(run_id, at, update)))

    def migrate(self, run_id: str) -> BlockingRun:
        """Let a run whose graph has changed go on: see `Engine.migrate`."""
        return BlockingRun(self, self._await(lambda: self._engine.migrate(run_id)))

    def compact(
        self,
        *,
        keep_seconds: float | None = None,
        keep_count: int | None = None,
        keep_audit_seconds: float | None = None,
    ) -> Compacted:
        """Remove ended runs from the store: see `Engine.compact`."""
        return self._await(
            lambda: self._engine.compact(
                keep_seconds=keep_seconds, keep_count=keep_count, keep_audit_seconds=keep_audit_seconds
            )
        )

    def drain(self, timeout: float | None = None) -> list[BlockingRun]:
        """Refuse new runs and wait until none is running; returns those that still are when time is up."""
        return [BlockingRun(self, run) for run in self._await(lambda: self._engine.drain(timeout))]

    def register(self, graph: Graph) -> None:
        """Make a graph known by its name and version."""
        self.call(self._engine.register, graph)

    def limits(self, graph: Graph | str, node: str, *, version: str | None = None) -> Limits:
        """What holds for a node at present: see `Engine.limits`."""
        return self.call(lambda: self._engine.limits(graph, node, version=version))

    def set_limits(
        self, graph: Graph | str, node: str, *, version: str | None = None, **changes: Unpack[LimitChanges]
    ) -> Limits:
        """Change what holds for a node over all runs: see `Engine.set_limits`."""
        return self.call(lambda: self._engine.set_limits(graph, node, version=version, **changes))

    def graphs(self) -> list[tuple[str, str]]:
        """Name and version of each graph."""
        return self.call(self._engine.graphs)

    def subscribe(self, callback: Watcher) -> Callable[[], None]:
        """Call `callback(run, event)` for each event of every run, in the engine's thread; returns what ends it."""
        end = self.call(self._engine.subscribe, callback)
        return lambda: self.call(end)

    def statistics(self) -> EngineStatistics:
        """A snapshot."""
        return self.call(self._engine.statistics)

    @property
    def metrics(self) -> Any:
        """The engine's `prometheus_client` registry."""
        return self._engine.metrics

    # -- for its runs

    def call(self, function: Callable[..., T], *args: Any) -> T:
        """Call a plain function in the engine's thread."""

        async def call() -> T:
            return function(*args)

        return self._await(call)

    def _await(self, begin: Callable[[], Coroutine[Any, Any, T]]) -> T:
        engine = self._engine
        if self._portal is not None:
            answer: T = self._portal.call(begin)
            return answer
        if not engine.is_open or engine.token is None:
            raise EngineClosed()
        if engine.thread == threading.get_ident():
            raise RuntimeError(
                "a blocking call in the engine's own thread would wait for itself: await the engine there"
            )
        answer = anyio.from_thread.run(begin, token=engine.token)
        return answer


class BlockingMethod:
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


def run_blocking(
    engine: Engine, backend: Backend, graph: Graph | str, state: Any, options: Mapping[str, Any]
) -> RunResult:
    """Run a graph on an engine, which is started for it unless it is running."""
    try:
        with engine.blocking(backend) as blocking:
            return blocking.run(graph, state, **options)
    except BaseExceptionGroup as group:
        leaf = _only_leaf(group)
        if isinstance(group, Exception) or isinstance(leaf, Exception | BaseExceptionGroup):
            raise
        raise leaf from None  # an interrupt is no less one for having passed a task group


def _only_leaf(group: BaseExceptionGroup[BaseException]) -> BaseException:
    leaf: BaseException = group
    while isinstance(leaf, BaseExceptionGroup) and len(leaf.exceptions) == 1:
        leaf = leaf.exceptions[0]
    return leaf


def in_a_loop() -> bool:
    """Whether the caller runs in an event loop."""
    try:
        anyio.lowlevel.current_token()
    except anyio.NoEventLoopError:
        return False
    return True


R = TypeVar("R", bound=Submitted)


class BlockingFacts(Generic[R]):
    """What is known of a run without asking for it."""

    __slots__ = ("_run",)

    _run: R

    @property
    def id(self) -> str:
        """The run's id."""
        return self._run.id

    @property
    def graph(self) -> str:
        """The name of its graph."""
        return self._run.graph

    @property
    def version(self) -> str:
        """The version of its graph."""
        return self._run.version

    @property
    def tags(self) -> Mapping[str, str]:
        """What it was submitted with."""
        return self._run.tags

    @property
    def priority(self) -> int:
        """What it was submitted with."""
        return self._run.priority

    @property
    def submitted_at(self) -> float:
        """When it was submitted."""
        return self._run.submitted_at


class BlockingRun(BlockingFacts[Run]):
    """A run whose methods block."""

    __slots__ = ("_engine",)

    def __init__(self, engine: BlockingEngine, run: Run) -> None:
        self._engine = engine
        self._run = run

    @property
    def counters(self) -> dict[str, int]:
        """Activations, retries and loop limits hit."""
        return self._engine.call(lambda: self._run.counters)

    @property
    def log_dropped(self) -> int:
        """How many older entries the log does not have any more."""
        return self._engine.call(lambda: self._run.log_dropped)

    @property
    def visited_dropped(self) -> int:
        """How many older activations `visited` does not have any more."""
        return self._engine.call(lambda: self._run.visited_dropped)

    @property
    def events_dropped(self) -> int:
        """How many older events are gone."""
        return self._engine.call(lambda: self._run.events_dropped)

    @property
    def status(self) -> Status:
        """Where the run is."""
        return self._engine.call(lambda: self._run.status)

    @property
    def state(self) -> Any:
        """The state as it stands."""
        return self._engine.call(lambda: self._run.state)

    @property
    def files(self) -> tuple[File, ...]:
        """The files as they stand."""
        return self._engine.call(lambda: self._run.files)

    @property
    def log(self) -> list[LogEntry]:
        """One entry for each attempt that has ended."""
        return self._engine.call(lambda: self._run.log)

    @property
    def visited(self) -> Sequence[str]:
        """The node of each activation in the order of their starts."""
        return self._engine.call(lambda: self._run.visited)

    def result(self, timeout: float | None = None) -> RunResult:
        """Wait for the result; raises `RunFailed`, `RunCancelled` or `TimeoutError`."""
        return self._engine._await(lambda: self._run.result(timeout))

    def wait(self) -> Status:
        """Wait until the run is over, and tell how it ended."""
        return self._engine._await(self._run.wait)

    def events(self, after: int = 0) -> Iterator[Event]:
        """Every event with a larger sequence number, those that are kept and then live, until the run is over."""
        events = self._run.events(after)

        async def next_one() -> Event | None:
            return await anext(events, None)

        while (event := self._engine._await(next_one)) is not None:
            yield event

    def cancel(self, reason: str | None = None) -> None:
        """Ask the run to end."""
        self._engine._await(lambda: self._run.cancel(reason))

    def signal(self, name: str, payload: Any = None, id: str | None = None) -> None:
        """Give the run a signal."""
        self._engine._await(lambda: self._run.signal(name, payload, id))

    def pause(self) -> None:
        """Hold new activations."""
        self._engine._await(self._run.pause)

    def resume(self) -> None:
        """Let what `pause()` held go."""
        self._engine._await(self._run.resume)

    def retry(self, update: Mapping[str, Any] | None = None) -> None:
        """Run a failed run on from its failure."""
        self._engine._await(lambda: self._run.retry(update))

    def explain(self, node: str) -> str:
        """Say what a node is waiting for."""
        return self._engine.call(self._run.explain, node)

    def __repr__(self) -> str:
        return f"<BlockingRun {self.id}>"
