"""A run as its submitter holds it: look, wait, signal, cancel. The decisions are in `runs.py`."""

from __future__ import annotations

import logging
import threading
from collections.abc import Awaitable, Callable, Mapping
from contextvars import Context as Variables
from functools import partial
from time import time
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, Final

import anyio
from anyio.lowlevel import checkpoint

from actors import Waker, new_waker

from .carried import files_of
from .context import Context
from .errors import EngineClosed, EngineError, LeaseLost, RunCancelled, RunEnded, RunFailed
from .file import File
from .history import LogEntry
from .keeper import keeper_of
from .logs import NodeLogger, about
from .reader import EventReader, Events
from .resolving import Resolver
from .result import RunResult
from .runs import Run as Machine
from .runs import Status
from .state import Values
from .stored import Losses
from .submitting import refuse, signal_faults, text_fault, timeout_fault
from .timers import Timer, Timers
from .tokens import RUNNING, Activation, Command
from .toolbox import ToolBox

if TYPE_CHECKING:
    import anyio.from_thread

    from .app import Engine
    from .past import Past
    from .registry import Registered

_NO_TAGS: Final[Mapping[str, str]] = MappingProxyType({})
_NO_VARIABLES: Final = Variables()

logger = logging.getLogger("engine")
# Failures that the log line of a run's end tells; the rest it counts.
NAMED_FAILURES: Final = 3

node_logger = logging.getLogger("engine.node")


class Run:
    """One execution of a graph. Made by `Engine.submit`."""

    __slots__ = (
        "__weakref__",
        "_broken",
        "_done",
        "_engine",
        "_readers",
        "_scheduler",
        "_timer",
        "_waiters",
        "begun_at",
        "counted",
        "deadline_at",
        "deadline_seconds",
        "detached",
        "graph",
        "id",
        "key",
        "lost",
        "machine",
        "number",
        "priority",
        "registered",
        "submitted_at",
        "tags",
        "told",
        "tools",
        "variables",
        "version",
    )

    def __init__(
        self,
        engine: Engine,
        registered: Registered,
        machine: Machine,
        variables: Variables,
        *,
        tags: Mapping[str, str],
        priority: int,
        number: int,
        submitted_at: float | None = None,
    ) -> None:
        self.id: Final = machine.id
        self.graph: Final = machine.plan.name
        self.version: Final = machine.plan.version
        self.tags: Final = dict(tags) if tags else _NO_TAGS
        self.priority: Final = priority
        self.submitted_at: Final = time() if submitted_at is None else submitted_at
        self.number: Final = number
        self.key: str | None = None
        self.registered: Final = registered
        self.machine: Final = machine
        self.variables = variables
        # As they are now: what replaces one of them later is for runs that begin then.
        self.tools: Final = engine.tools.current
        self.deadline_at: float | None = None
        self.deadline_seconds: float | None = None
        self.told = 0
        self.counted = False
        self.detached = False
        """The engine was left; the run goes on from the store at the next start."""
        self.lost: LeaseLost | None = None
        self.begun_at = 0.0
        self._engine = engine
        self._scheduler = registered.scheduler
        # Readers are woken by every event, waiters by the end alone: one who waits must cost a node nothing.
        self._readers: dict[Waker, None] | None = None
        self._waiters: dict[Waker, None] | None = None
        self._broken: Exception | None = None
        self._done = False
        self._timer: Timer | None = None
        machine.tree.owner = self

    # -- look

    @property
    def status(self) -> Status:
        """Where the run is: queued, running, waiting, paused, succeeded, failed or cancelled."""
        if self._broken is not None:
            return "failed"
        status = self.machine.status
        # What the store does not know yet nobody may rely on.
        return "running" if self.machine.over and not self._done else status

    @property
    def over(self) -> bool:
        """Whether it has ended, nothing of it is left running, and the store knows."""
        return self._done

    @property
    def ending(self) -> bool:
        """Whether its end is decided, though the store may not know yet."""
        return self._done or self.machine.over

    @property
    def error(self) -> Exception | None:
        """Why it has no result, once it is over: `RunFailed`, `RunCancelled`; None if it succeeded."""
        return self._error() if self.over else None

    @property
    def state(self) -> Any:
        """The state as it stands: of a run that is not over, everything live and ended merged."""
        return self.machine.plan.state.build(self.machine.present_values())

    @property
    def files(self) -> tuple[File, ...]:
        """The files as they stand: of a run that is over, what it made last on each of its ways."""
        return files_of(self.machine.present_values()) if self.machine.plan.carries else ()

    @property
    def log(self) -> list[LogEntry]:
        """One entry for each attempt that has ended, the newest `Graph(history=…)` of them."""
        return self.machine.history.log()

    @property
    def visited(self) -> list[str]:
        """The node of each activation in the order of their starts, as many as the history keeps."""
        return self.machine.history.visited()

    @property
    def counters(self) -> dict[str, int]:
        """Activations, retries and loop limits hit."""
        return self.machine.counters

    @property
    def log_dropped(self) -> int:
        """How many older entries the log does not have any more."""
        return self.machine.history.log_dropped

    @property
    def visited_dropped(self) -> int:
        """How many older activations `visited` does not have any more."""
        return self.machine.history.visited_dropped

    @property
    def events_dropped(self) -> int:
        """How many older events are gone: `events(after=run.events_dropped)` begins with the first that is kept."""
        return self.machine.history.events_dropped

    def explain(self, node: str) -> str:
        """Say what a node is waiting for, or what has become of it."""
        return self.machine.explain(node)

    def events(self, after: int = 0) -> Events:
        """Every event with a larger sequence number, those that are kept and then live, until the run is over.

        Misses none: raises `HistoryGone` if one that was asked for is not kept any more. With a durable store those
        that memory does not keep are worked out from the journal, if that is complete. May be left at any point.
        """
        return Events(self.reader(after))

    def reader(self, after: int = 0) -> EventReader:
        """The same page by page, for who would rather not wait for each: `while page := await reader.page()`."""
        return EventReader(self, after)

    # -- wait

    async def wait(self) -> Status:
        """Wait until the run is over, however it ends, and tell how it did."""
        while not self.over:
            if self._waiters is None:
                self._waiters = {}
            self._check_attached()
            await self._until_woken(self._waiters)
        # A failure event comes before the exception, whatever order the backend wakes tasks in.
        while self._readers:
            await checkpoint()
        return self.status

    async def result(self, timeout: float | None = None) -> RunResult:
        """Wait for the result; raises `RunFailed` or `RunCancelled`, or `TimeoutError` (the run goes on)."""
        if timeout is not None and (fault := timeout_fault(timeout)):
            raise ValueError(f"result: timeout {fault}")
        if timeout is None:
            await self.wait()  # nearly always: a scope costs what a node costs
        else:
            with anyio.move_on_after(timeout):
                await self.wait()
        if not self.over:
            raise TimeoutError(f"run {self.id!r} is not over after {timeout:g} s; it goes on ({self.status})")
        error = self._error()
        if error is not None:
            raise error
        return RunResult.of(self.machine)

    # -- act

    async def cancel(self, reason: str | None = None) -> None:
        """Ask the run to end; idempotent, and without effect on one that is over. `wait()` tells when it is."""
        if reason is not None and (fault := text_fault(reason)):
            raise ValueError(f"cancel: reason {fault}")
        if self.over:
            return
        self._check_attached()
        self.take_cancel(reason)
        await self._safe()

    async def signal(self, name: str, payload: Any = None, id: str | None = None) -> None:
        """Give the run a signal, kept until a wait takes it; raises `UnknownSignal`, `RunEnded`.

        Counts once per `id`: given again it is the same signal, and no `RunEnded` though it may have ended the run.
        """
        refuse("signal", signal_faults(name, id))
        self._check_attached()
        self.take_signal(name, payload, id)
        await self._safe()

    async def pause(self) -> None:
        """Hold new activations; what runs goes on, and so do retries and the time-outs of waits."""
        self._check_attached()
        self.take_pause()
        await self._safe()

    async def resume(self) -> None:
        """Let what `pause()` held go."""
        self._check_attached()
        self.take_resume()
        await self._safe()

    async def retry(self, update: Mapping[str, Any] | None = None) -> None:
        """Run a failed run on from its failure, with `update` applied to what the failed activations were given.

        Returns when that is safe; the run waits for a place like any other. Raises `RunEnded`, `EngineBusy`,
        `RunTimeout` if its deadline has passed, `RunNotFound` if the store has removed it, or what is wrong with the
        update; then nothing has changed.
        """
        self._check_failed()
        await self._engine.check_kept(self)
        try:
            self._check_failed()  # nothing waits from here on
            self._engine.check_retry(self)
            self._check_attached()
            self._checked_event(lambda now: self.machine.retry(now, update, held=True))
        except BaseException:
            self._engine.stays_ended(self)
            raise
        self._engine.revive(self)
        await self._safe()

    # -- for those who read it

    def past(self) -> Past | None:
        """What tells of events that memory does not keep any more."""
        return self._engine.past(self)

    def until_changed(self) -> Awaitable[None]:
        """Wait until something is added to its history, or it is over."""
        if self._readers is None:
            self._readers = {}
        self._check_attached()
        return self._until_woken(self._readers)

    # -- for those who drive it

    def take_signal(self, name: str, payload: Any, id: str | None) -> None:
        """A signal has come."""
        self._checked_event(lambda now: self.machine.signal(name, payload, now, id))

    def take_cancel(self, reason: str | None) -> None:
        """It is to end."""
        self._event(lambda now: self.machine.cancel(now, reason))

    def take_pause(self) -> None:
        """It is to hold new activations."""
        self._event(self.machine.pause)

    def take_resume(self) -> None:
        """It is to let them go."""
        self._event(self.machine.resume)

    def take_poison(self, losses: Losses) -> None:
        """It is held, and not to go on: engines were lost with it too often."""
        self._event(lambda now: self.machine.engines_died(now, losses.times, losses.engines))

    def begin(self, values: Values) -> None:
        """Start it on values that were admitted."""
        machine, now = self.machine, self._scheduler.now()
        self._scheduler.event(machine, lambda: machine.begin(values, now))

    def begin_queued(self, state: Any) -> None:
        """Start it from the queue; the state was checked when it was submitted."""
        self._event(lambda now: self.machine.start(state, now))

    def go_on_from(self, commands: list[Command]) -> None:
        """Carry out what follows from where its records end."""
        self._event(lambda now: commands)

    def go_live(self) -> None:
        """It was held until there is a place for it, and has one."""
        self._event(self.machine.go_live)

    def revived(self) -> None:
        """It is to go on after its end."""
        self._done = False

    def let_go(self, lost: LeaseLost | None = None) -> None:
        """The engine is left, or has lost the run to another; it stays as it is in the store."""
        self.detached = True
        self.lost = lost
        self.forget_deadline()
        self._scheduler.abandon(self.machine)
        for waker in (*(self._readers or ()), *(self._waiters or ())):
            waker.wake()

    def ended_before(self) -> None:
        """It had ended when it was read from the store."""
        self._done = True

    def set_deadline(self, seconds: float, at: float, timers: Timers) -> None:
        """The run must be over at this time."""
        self.deadline_seconds = seconds
        self.deadline_at = at
        self._timer = timers.at(at, self._deadline_hit)

    def rearm(self, timers: Timers) -> None:
        """It goes on after its end, and its deadline with it."""
        if self.deadline_at is not None:
            self._timer = timers.at(self.deadline_at, self._deadline_hit)

    def forget_deadline(self) -> None:
        """It will never begin, or is over."""
        if self._timer is not None:
            self._timer.cancel()

    def changed(self) -> None:
        """Something has been added to its history."""
        if self._readers:
            for waker in self._readers:
                waker.wake()
        if self._engine.watched:
            self._engine.watchers.notice(self)

    def run_over(self) -> None:
        """It has ended and nothing of it is left running."""
        self._done = True
        self.forget_deadline()
        if self.machine.status != "failed":
            # It cannot go on: what its submitter had set need not stay alive as long as the run is kept.
            self.variables = _NO_VARIABLES
        if self._broken is None:
            self._log_end()
        for waker in (*(self._readers or ()), *(self._waiters or ())):
            waker.wake()
        self._engine.run_over(self)

    def broke(self, error: Exception) -> None:
        """The engine failed on it."""
        if not self.over:
            self._broken = error
            if (keeper := keeper_of(self.machine)) is not None:
                keeper.stop()
            self._scheduler.abandon(self.machine)
            self.machine.history.event("run_failed", self._scheduler.now(), None, None, {"error": str(self._error())})
            self.run_over()
            self.changed()

    def context_for(self, activation: Activation) -> Context:
        """What a node sees of itself and its run."""
        name, number = activation.name, activation.number
        return Context(
            run_id=self.id,
            graph=self.graph,
            node=name,
            activation=number,
            attempt=activation.attempt,
            iteration=activation.iteration,
            error=activation.error,
            arrivals=activation.arrivals,
            deadline=self.deadline_at,
            tools=ToolBox(self.tools, self._engine.threads, partial(self.context_for, activation)),
            files=self._engine.files,
            logger=NodeLogger(node_logger, about(self.id, self.graph, name, activation=number)),
            report=partial(self._report, activation, activation.attempt),
        )

    @property
    def resolver(self) -> Resolver:
        """Where its nodes' files come from, and go."""
        return self._engine.resolver

    def __repr__(self) -> str:
        return f"<Run {self.id} of {self.graph!r}, {self.status}>"

    # -- inside

    @property
    def at_rest(self) -> bool:
        """Whether nothing goes on in it until something comes from outside, and all of that is safe."""
        keeper = keeper_of(self.machine)
        return self.machine.at_rest and (keeper is None or not keeper.behind)

    async def _safe(self) -> None:
        """Wait until what has happened so far is safe."""
        keeper = keeper_of(self.machine)
        if keeper is not None and not self.over:
            await keeper.safe()

    def _check_attached(self) -> None:
        if self.lost is not None:
            raise LeaseLost(self.lost.engine, self.lost.found, self.id)
        if self.detached:
            raise EngineClosed(f"run {self.id!r} stays in the store ({self.status}): it goes on when an engine starts")

    def _check_failed(self) -> None:
        if self.status != "failed":
            raise RunEnded(self.id, self.status, "only a run that has failed can be retried")
        if self._broken is not None:
            raise RunEnded(self.id, self.status, "the engine itself failed on it, so nobody knows what to go on from")

    def _deadline_hit(self) -> None:
        seconds = self.deadline_seconds
        assert seconds is not None
        self._event(lambda now: self.machine.deadline_hit(now, seconds))

    def _log_end(self) -> None:
        status = self.machine.status
        level = logging.WARNING if status == "failed" else logging.INFO
        if not logger.isEnabledFor(level):
            return
        failures = self.machine.failures
        extra = about(self.id, self.graph, failures[0].node if failures else None, status=status)
        logger.log(level, "run %s of %r %s%s", self.id, self.graph, status, _why(self.machine), extra=extra)

    def _error(self) -> EngineError | RunFailed | RunCancelled | None:
        """Why there is no result, for one who asked for it: raising it must change nobody else's."""
        error: RunFailed | RunCancelled | None = self.machine.error
        if self._broken is not None:
            failed = EngineError(f"the engine itself failed on run {self.id!r}: {self._broken!r}")
            failed.__cause__ = self._broken
            return failed
        if isinstance(error, RunFailed):
            return error.derive(error.exceptions)
        return None if error is None else RunCancelled(error.run_id, error.reason)

    def _report(self, activation: Activation, attempt: int, type: str, data: Mapping[str, Any]) -> None:
        if threading.get_ident() != self._engine.thread:
            # A node in a thread: histories belong to the loop.
            anyio.from_thread.run_sync(self._report, activation, attempt, type, data, token=self._engine.token)
        elif activation.status == RUNNING and activation.attempt == attempt and not self.over:
            # One that was given up, a thread past its time-out, has nothing more to say.
            self.machine.history.event(type, time(), activation.name, activation.number, dict(data))
            self.changed()

    def _event(self, happened: Callable[[float], list[Command]]) -> None:
        self._scheduler.event(self.machine, lambda: happened(self._scheduler.now()))

    def _checked_event(self, happened: Callable[[float], list[Command]]) -> None:
        """An event that refuses what is wrong with it: the caller's mistake, not the engine's."""
        refused: list[Exception] = []

        def checked(now: float) -> list[Command]:
            try:
                return happened(now)
            except Exception as error:
                refused.append(error)
                return []

        self._event(checked)
        if refused:
            raise refused[0]

    async def _until_woken(self, among: dict[Waker, None]) -> None:
        if not self.counted:
            self._engine.waited_for(self)
        waker = new_waker()
        among[waker] = None
        try:
            await waker.park()
        finally:
            del among[waker]


def _why(machine: Machine) -> str:
    """How a run came to such an end, for a line of a log."""
    error = machine.error
    if isinstance(error, RunFailed):
        more = len(error.exceptions) - NAMED_FAILURES
        shown = "; ".join(str(one) for one in error.exceptions[:NAMED_FAILURES])
        return f": {shown}; and {more} more" if more > 0 else f": {shown}"
    return f": {error.reason}" if error is not None and error.reason else ""
