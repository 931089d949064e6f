"""For tests: run on any backend, with time that jumps and an order that a seed decides; and a probe.

Two rules stand behind `run()`:

- **Time jumps, it never runs.** With `virtual_time` the clock starts at 0.0 and stands still while anything
  can run; once nothing can, it moves to the next timer. So an hour of backoff costs microseconds, and no
  deadline depends on how slow the machine is. While a worker thread works or a file is watched, the loop
  waits for it for `patience_seconds` of real time before it jumps.
- **Task steps are shuffled, callbacks are not.** Tasks that are ready together form a batch; the seed orders
  each batch, and all of it runs before the next one begins. That is what trio promises, and all that portable
  code may rely on. The order of plain `call_soon` callbacks is asyncio's promise to transports and futures
  and stays as it is.

trio has both (`MockClock`, and the seed that its own tests use). For asyncio two mixins stand in front of a
loop's `call_soon`, `call_at` and `time`. A selector that jumps and a shuffled `loop._ready` were the other
way, but for asyncio only: uvloop keeps its queue and its timers in C, yet there too a task is stepped by a
call to `loop.call_soon` and sleeps by a call to `loop.call_later`, and a subclass sees both.

The same seed replays the same order if the program is otherwise deterministic. Threads, files and real timers
are not, nor is a program that itself walks through a set. trio's seed is a global of the process: run one
fuzzed trio loop at a time.

Known limits:

- On uvloop files and sockets are not seen: the clock may jump while data is on its way, and a program that
  waits for data alone, without any timer, is a `Deadlock` once the patience is used up.
- A thread that waits for the loop (`anyio.from_thread`) is a busy one, so each jump it needs costs the
  patience. On asyncio so does an abandoned thread, until it ends.
- Threads started by other means than `anyio.to_thread` and `run_in_executor` are not seen, unless whoever waits for
  one says so in `actors.waker.outside`. That is one set for all loops of the process.
- `anyio.wait_all_tasks_blocked` polls by sleeping 0.1 s on asyncio, so there it moves the clock.
"""

from __future__ import annotations

import asyncio
import contextlib
import contextvars
import functools
import heapq
import itertools
import math
import random
import selectors
import sys
import time
import weakref
from collections.abc import Awaitable, Callable, Iterable, Iterator
from typing import TYPE_CHECKING, Any, Final, Generic, Literal, TypeVar, TypeVarTuple, get_args

import anyio
import attrs

from .actor import Actor
from .cell import Terminated
from .ref import ActorRef
from .waker import outside

if TYPE_CHECKING:
    from concurrent.futures import Executor

    import trio.lowlevel
    import trio.testing

__all__ = ["anyio_backend", "Backend", "BACKENDS", "Deadlock", "Probe", "ProbeActor", "run", "tasks_left"]

T = TypeVar("T")
Ts = TypeVarTuple("Ts")

Backend = Literal["asyncio", "uvloop", "trio"]
BACKENDS: Final[tuple[Backend, ...]] = get_args(Backend)

# Long enough for a thread on a crowded machine; paid only when something outside is really outstanding.
_DEFAULT_PATIENCE_SECONDS: Final = 1.0
# How often an idle loop looks for what threads and files bring: short beside any work worth a thread.
_POLL_SECONDS: Final = 0.0005
# A callback of the first quiet turn may still be queued behind the look at it; after the second none can be.
_QUIET_TURNS: Final = 2


class Deadlock(Exception):
    """Nothing can ever happen again: no task can run, no timer is set, no thread or file is waited for."""


def run(
    main: Callable[[*Ts], Awaitable[T]],
    *args: *Ts,
    backend: Backend = "asyncio",
    seed: int | None = None,
    virtual_time: bool = False,
    patience_seconds: float = _DEFAULT_PATIENCE_SECONDS,
) -> T:
    """Run an async function to its end on a backend and return its result.

    With a `seed`, the order in which ready tasks run is drawn from it; without, it is the backend's own. With
    `virtual_time`, time jumps, and a program that can never go on is cancelled and `Deadlock` raised,
    which says where each task waits. With patience 0 the clock jumps without regard to threads and files.
    """
    if not virtual_time:
        name, options = anyio_backend(backend, seed=seed)
        return anyio.run(main, *args, backend=name, backend_options=options)

    guard = _DeadlockGuard()

    @functools.wraps(main)
    async def guarded(*args: *Ts) -> T:
        with guard.watching():
            return await main(*args)
        raise AssertionError("only a deadlock cancels this scope, and it is raised below")

    name, options = _options(backend, seed=seed, virtual_time=True, patience_seconds=patience_seconds, guard=guard)
    try:
        return anyio.run(guarded, *args, backend=name, backend_options=options)
    finally:
        # Whatever the cancelled program made of it, the deadlock came first.
        if guard.deadlock is not None:
            raise guard.deadlock


def anyio_backend(
    backend: Backend,
    *,
    seed: int | None = None,
    virtual_time: bool = False,
    patience_seconds: float = _DEFAULT_PATIENCE_SECONDS,
) -> tuple[str, dict[str, Any]]:
    """Return a backend's name and options, in the form anyio's pytest fixture takes as a param.

    `@pytest.fixture(params=[anyio_backend(name, virtual_time=True) for name in BACKENDS])`. Deadlocks are
    found by `run()` only: under the fixture a program that waits for ever does so.
    """
    return _options(backend, seed=seed, virtual_time=virtual_time, patience_seconds=patience_seconds, guard=None)


def tasks_left() -> list[str]:
    """Return the names, sorted, of all tasks that are alive, but for the current one and trio's own."""
    current = sys.modules["trio"].lowlevel.current_task() if _in_trio() else asyncio.current_task()
    return sorted(name for task, name, _ in _tasks() if task is not current)


@attrs.define(eq=False)
class Probe(Generic[T]):
    """Keeps what it is given and lets a test wait for it; not for use from other threads."""

    items: list[T] = attrs.field(factory=list)
    _changed: anyio.Event | None = attrs.field(default=None, init=False)

    def record(self, item: T) -> None:
        """Add an item and wake those who wait for it."""
        self.items.append(item)
        if self._changed is not None:
            self._changed.set()
            self._changed = None

    async def wait_for(self, wanted: int | Callable[[T], bool], *, timeout_seconds: float = 5.0) -> T:
        """Return the n-th item (from 1), or the first that satisfies the predicate, recorded already or not.

        Raises `TimeoutError` if it has not come in time. Cancelling loses nothing: items stay recorded.
        """
        if isinstance(wanted, int) and wanted < 1:
            raise ValueError(f"items are counted from 1, cannot wait for number {wanted!r}")
        seen = 0
        with anyio.move_on_after(timeout_seconds):
            while True:
                for item in itertools.islice(self.items, seen, None):
                    seen += 1
                    if seen == wanted if isinstance(wanted, int) else wanted(item):
                        return item
                if self._changed is None:
                    self._changed = anyio.Event()
                await self._changed.wait()
        what = f"item {wanted!r}" if isinstance(wanted, int) else "an item that satisfies the predicate"
        raise TimeoutError(f"waited {timeout_seconds!r} s for {what}, got {len(self.items)}: {self.items!r}")


class ProbeActor(Actor[Any]):
    """Records each message, and the end of each actor that it is to watch, in a probe.

    `ChildSpec("probe", ProbeActor, (probe,))`: the probe belongs to the test, so it outlives a restart.
    """

    def __init__(self, probe: Probe[Any], watch: Iterable[ActorRef[Any]] = ()) -> None:
        self.probe = probe
        self.watch = list(watch)

    async def on_start(self) -> None:
        """Begin to watch."""
        for ref in self.watch:
            self.context.watch(ref)

    async def receive(self, message: Any) -> None:
        """Record a message."""
        self.probe.record(message)

    async def on_terminated(self, terminated: Terminated) -> None:
        """Record the news."""
        self.probe.record(terminated)


class _DeadlockGuard:
    """Cancels the program of `run()` once its clock finds that nothing can ever happen."""

    def __init__(self) -> None:
        self.deadlock: Deadlock | None = None
        self._scope: anyio.CancelScope | None = None

    @contextlib.contextmanager
    def watching(self) -> Iterator[None]:
        with anyio.CancelScope() as self._scope:
            try:
                yield
            finally:
                # The loop's own shutdown may wait for threads that we know nothing of.
                self._scope = None

    def end_program(self, last_resort: Callable[[], object]) -> None:
        """Cancel the program; if that was done and its clean-up is stuck too, use the last resort."""
        if self._scope is None:
            return
        if self.deadlock is not None:
            last_resort()
            return
        waiting = "; ".join(f"{name!r} at {_where(coroutine)}" for _, name, coroutine in _tasks())
        self.deadlock = Deadlock(f"no task can run and no timer is set, waiting are: {waiting}")
        self._scope.cancel()


class _Idleness:
    """Tells whether everything has stood still for long enough to do something about it."""

    def __init__(self, patience_seconds: float) -> None:
        self.patience_seconds = patience_seconds
        self._quiet_turns = 0
        self._since = 0.0

    def interrupt(self) -> None:
        self._quiet_turns = 0

    def is_settled(self) -> bool:
        """Count one more turn of the loop in which nothing was seen to happen."""
        self._quiet_turns += 1
        if self._quiet_turns == _QUIET_TURNS:
            self._since = time.monotonic()
        return self._quiet_turns >= _QUIET_TURNS

    def is_out_of_patience(self) -> bool:
        """Sleep for a moment, for real, unless the patience is used up."""
        if time.monotonic() - self._since >= self.patience_seconds:
            return True
        time.sleep(_POLL_SECONDS)
        return False


def _options(
    backend: Backend,
    *,
    seed: int | None,
    virtual_time: bool,
    patience_seconds: float,
    guard: _DeadlockGuard | None,
) -> tuple[str, dict[str, Any]]:
    match backend:
        case "trio":
            return "trio", _trio_options(seed, virtual_time, patience_seconds, guard)
        case "asyncio":
            loop_class: type[Any] = asyncio.SelectorEventLoop
        case "uvloop":
            import uvloop

            loop_class = uvloop.Loop
        case _:
            raise ValueError(f"unknown backend {backend!r}, expected one of {BACKENDS!r}")

    mixins: list[type[Any]] = []
    arguments: dict[str, Any] = {}
    if seed is not None:
        mixins.append(_ShuffledSteps)
        arguments["seed"] = seed
    if virtual_time:
        mixins.append(_VirtualTime)
        arguments |= {"patience_seconds": patience_seconds, "guard": guard}
    # Of its base's module, by which the curious (our tests' conftest is one) tell a uvloop.
    namespace = {"__module__": loop_class.__module__}
    test_loop_class = type(f"Test{loop_class.__name__}", (*mixins, loop_class), namespace)
    return "asyncio", {"loop_factory": functools.partial(test_loop_class, **arguments)}


class _ShuffledSteps(asyncio.AbstractEventLoop):
    """Runs the task steps of each batch in an order drawn from the seed.

    For every step the loop below gets a placeholder, which runs whichever step is drawn. Tasks are numbered
    as they appear: the order in which they *became* ready may come from a walk through a set (anyio cancels
    its tasks in such a walk) and must not show.
    """

    def __init__(self, *, seed: int, **arguments: Any) -> None:
        self._random = random.Random(seed)
        self._numbers: weakref.WeakKeyDictionary[asyncio.Task[Any], int] = weakref.WeakKeyDictionary()
        self._next_number = itertools.count()
        self._batch: list[asyncio.Handle] = []
        self._next_batch: list[tuple[int, asyncio.Handle]] = []
        # Not the task's: that one is entered by the step, and a context cannot be entered twice.
        self._placeholder_context = contextvars.Context()
        super().__init__(**arguments)

    def call_soon(
        self,
        callback: Callable[[*Ts], object],
        *args: *Ts,
        context: contextvars.Context | None = None,
    ) -> asyncio.Handle:
        # The test asyncio itself uses, for its debug messages, to know a task's step.
        task = getattr(callback, "__self__", None)
        if not isinstance(task, asyncio.Task):
            return super().call_soon(callback, *args, context=context)
        super().call_soon(self._run_next_step, context=self._placeholder_context)
        step = asyncio.Handle(callback, args, self, context)
        if task not in self._numbers:
            self._numbers[task] = next(self._next_number)
        self._next_batch.append((self._numbers[task], step))
        return step

    def _run_next_step(self) -> None:
        if not self._batch:
            self._batch = [step for _, step in sorted(self._next_batch, key=lambda numbered: numbered[0])]
            self._next_batch.clear()
            self._random.shuffle(self._batch)
        _run_handle(self._batch.pop())


class _VirtualTime(asyncio.AbstractEventLoop):
    """Keeps the timers itself and jumps from one to the next whenever the loop below has nothing to run.

    A callback that comes back on every turn watches for that. It keeps the loop from ever waiting in its
    selector, so waiting for the outside is done by a short real sleep per turn.
    """

    def __init__(self, *, patience_seconds: float, guard: _DeadlockGuard | None, **arguments: Any) -> None:
        self._now = 0.0
        self._timers: list[tuple[float, int, asyncio.TimerHandle]] = []
        self._next_timer = itertools.count()
        self._idleness = _Idleness(patience_seconds)
        self._guard = guard
        self._own_context = contextvars.Context()
        self._executor_calls = 0
        self._something_happened = False
        super().__init__(**arguments)

    def time(self) -> float:
        return self._now

    def call_at(
        self,
        when: float,
        callback: Callable[[*Ts], object],
        *args: *Ts,
        context: contextvars.Context | None = None,
    ) -> asyncio.TimerHandle:
        timer = asyncio.TimerHandle(when, callback, args, self, context)
        heapq.heappush(self._timers, (when, next(self._next_timer), timer))
        self._something_happened = True
        return timer

    def call_later(
        self,
        delay: float,
        callback: Callable[[*Ts], object],
        *args: *Ts,
        context: contextvars.Context | None = None,
    ) -> asyncio.TimerHandle:
        return self.call_at(self._now + delay, callback, *args, context=context)

    def call_soon(
        self,
        callback: Callable[[*Ts], object],
        *args: *Ts,
        context: contextvars.Context | None = None,
    ) -> asyncio.Handle:
        self._something_happened = True
        return super().call_soon(callback, *args, context=context)

    def run_in_executor(self, executor: Executor | None, func: Callable[[*Ts], T], *args: *Ts) -> asyncio.Future[T]:
        future = super().run_in_executor(executor, func, *args)
        self._executor_calls += 1
        future.add_done_callback(self._forget_executor_call)
        return future

    async def shutdown_default_executor(self, *timeout: Any) -> None:
        # From Python 3.12 on with a time limit, while a thread joins the threads.
        self._executor_calls += 1
        try:
            await super().shutdown_default_executor(*timeout)
        finally:
            self._executor_calls -= 1

    def run_forever(self) -> None:
        self._watch = super().call_soon(self._watch_for_idleness, context=self._own_context)
        try:
            super().run_forever()
        finally:
            self._watch.cancel()

    def _watch_for_idleness(self) -> None:
        self._watch = super().call_soon(self._watch_for_idleness, context=self._own_context)
        # Those set for now or before do not wait until nothing else can run.
        self._fire_timers()
        if self._something_happened:
            self._something_happened = False
            self._idleness.interrupt()
        elif self._idleness.is_settled():
            self._go_on()

    def _go_on(self) -> None:
        outside = self._is_waiting_for_the_outside()
        due = self._next_due()
        if (outside or due is None) and not self._idleness.is_out_of_patience():
            return
        if due is not None:
            self._now = due
            self._fire_timers()
        elif not outside and self._guard is not None:
            self._guard.end_program(last_resort=self.stop)

    def _next_due(self) -> float | None:
        while self._timers and self._timers[0][2].cancelled():
            heapq.heappop(self._timers)
        return self._timers[0][0] if self._timers else None

    def _fire_timers(self) -> None:
        while self._timers and self._timers[0][0] <= self._now:
            _, _, timer = heapq.heappop(self._timers)
            self._something_happened = True
            # Through the ready queue: a timer may yet cancel the next, and must not starve the loop by
            # setting another for now.
            super().call_soon(_run_handle, timer, context=self._own_context)

    def _is_waiting_for_the_outside(self) -> bool:
        # uvloop has no selector; one file is the loop's own, by which threads and signals wake it.
        selector: selectors.BaseSelector | None = getattr(self, "_selector", None)
        files = 0 if selector is None else len(selector.get_map()) - 1
        return self._executor_calls + _busy_worker_threads(self) + files + len(outside) > 0

    def _forget_executor_call(self, _future: asyncio.Future[Any]) -> None:
        self._executor_calls -= 1

    def _timer_handle_cancelled(self, handle: asyncio.TimerHandle) -> None:
        # A cancelled timer stays in the heap until its time comes, which is soon.
        pass


def _run_handle(handle: asyncio.Handle) -> None:
    if not handle.cancelled():
        handle._run()


def _busy_worker_threads(loop: asyncio.AbstractEventLoop) -> int:
    # anyio tells nobody; its limiters count borrowers, but there may be any number of them.
    from anyio._backends import _asyncio as anyio_asyncio
    from anyio.lowlevel import _run_vars

    variables: dict[Any, Any] = _run_vars.get(loop, {})
    workers = variables.get(anyio_asyncio._threadpool_workers, ())
    idle_workers = variables.get(anyio_asyncio._threadpool_idle_workers, ())
    return len(workers) - len(idle_workers)


def _trio_options(
    seed: int | None, virtual_time: bool, patience_seconds: float, guard: _DeadlockGuard | None
) -> dict[str, Any]:
    options: dict[str, Any] = {"instruments": []}
    if seed is not None:
        options["instruments"].append(_TrioSeed(seed))
    if virtual_time:
        import trio.testing

        options["clock"] = clock = trio.testing.MockClock(autojump_threshold=0)
        options["instruments"].append(_TrioIdleness(clock, patience_seconds, guard))
    return options


class _TrioSeed:
    """An instrument that seeds the order of trio's batches for the length of a run."""

    def __init__(self, seed: int) -> None:
        self._seed = seed

    def before_run(self) -> None:
        from trio._core import _run

        self._saved = _run._ALLOW_DETERMINISTIC_SCHEDULING, _run._r.getstate()
        _run._ALLOW_DETERMINISTIC_SCHEDULING = True  # type: ignore[misc] # meant to be set, by pytest-trio
        _run._r.seed(self._seed)

    def after_run(self) -> None:
        from trio._core import _run

        _run._ALLOW_DETERMINISTIC_SCHEDULING, state = self._saved  # type: ignore[misc]
        _run._r.setstate(state)


class _TrioIdleness:
    """An instrument that teaches `MockClock` to wait for the outside, and finds deadlocks."""

    def __init__(self, clock: trio.testing.MockClock, patience_seconds: float, guard: _DeadlockGuard | None) -> None:
        self._clock = clock
        self._idleness = _Idleness(patience_seconds)
        self._guard = guard

    def after_task_step(self, _task: trio.lowlevel.Task) -> None:
        self._idleness.interrupt()
        threshold = self._idleness.patience_seconds if self._is_waiting_for_the_outside() else 0.0
        # Setting it has effects of its own in guest mode.
        if self._clock.autojump_threshold != threshold:
            self._clock.autojump_threshold = threshold

    def after_io_wait(self, _timeout: float) -> None:
        from trio.lowlevel import current_statistics

        statistics = current_statistics()
        if (
            statistics.tasks_runnable
            or statistics.run_sync_soon_queue_size
            or statistics.seconds_to_next_deadline < math.inf
            or self._is_waiting_for_the_outside()
        ):
            self._idleness.interrupt()
        elif self._idleness.is_settled() and self._idleness.is_out_of_patience() and self._guard is not None:
            self._guard.end_program(last_resort=_lift_trio_shields)

    def _is_waiting_for_the_outside(self) -> bool:
        from trio.lowlevel import current_statistics
        from trio.testing import active_thread_count

        files: Any = current_statistics().io_statistics
        waiting = getattr(files, "tasks_waiting_read", 0) + getattr(files, "tasks_waiting_write", 0)
        waiting += getattr(files, "tasks_waiting", 0)  # kqueue does not tell them apart
        # One of them is trio's own, by which threads and signals wake it.
        return active_thread_count() > 0 or waiting > 1 or len(outside) > 0


def _lift_trio_shields() -> None:
    for task, _, _ in _tasks():
        status = task._cancel_status
        while status is not None:
            status._scope.shield = False
            status = status._parent


def _in_trio() -> bool:
    trio_module = sys.modules.get("trio")
    return trio_module is not None and trio_module.lowlevel.in_trio_run()


def _tasks() -> Iterator[tuple[Any, str, Any]]:
    """Yield each task of the running loop, with its name and coroutine."""
    if _in_trio():
        for trio_task in _trio_tasks():
            yield trio_task, trio_task.name, trio_task.coro
    else:
        for task in asyncio.all_tasks():
            yield task, task.get_name(), task.get_coro()


def _trio_tasks() -> Iterator[trio.lowlevel.Task]:
    root: trio.lowlevel.Task | None = sys.modules["trio"].lowlevel.current_root_task()
    # trio's own tasks live in the outer nurseries of its root, the program in the innermost.
    nurseries = [] if root is None else root.child_nurseries[-1:]
    while nurseries:
        for task in nurseries.pop().child_tasks:
            nurseries.extend(task.child_nurseries)
            yield task


def _where(coroutine: Any) -> str:
    """Name the line on which a coroutine waits: the program's own, not that of a library below it."""
    place = "an unknown place"
    while coroutine is not None:
        frame = getattr(coroutine, "cr_frame", None) or getattr(coroutine, "gi_frame", None)
        if frame is not None and frame.f_globals.get("__name__", "").split(".")[0] not in {
            "anyio",
            "asyncio",
            "trio",
        }:
            place = f"{frame.f_code.co_filename}:{frame.f_lineno} in {frame.f_code.co_qualname}"
        coroutine = getattr(coroutine, "cr_await", None) or getattr(coroutine, "gi_yieldfrom", None)
    return place
