"""What a supervisor decides: events in, commands out. Pure: no loop, no clock, no task.

The state machine knows for each child whether it should be up and where it is; a *round* is a group of children
that is being stopped, waited for and started again, in order (the first start is a round of all children).
`Supervision` never waits, so status, stop and terminate are answered in the middle of a restart storm.

A start that was asked for is a trial: whatever ends it before the child is up is its answer, and leaves things as
they were before. So no request ever waits for something that waits for its sender.

Departures from OTP, on purpose: budgets are counted per child; a child that was terminated, or a transient one that
ended normally, stays down in a group restart; the shared budget of a supervisor is off unless it is asked for.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from enum import Enum
from typing import Any, Final

import attrs

from .errors import ActorError, ActorStopped, ChildRunning, DuplicateChild, StartFailed, TooManyRestarts, UnknownChild
from .lifecycle import SHUTDOWN, StopReason, crashed
from .restarts import Budget, Delays, affected, is_abnormal, restarts
from .rounds import Round
from .shown import shown
from .spec import ChildSpec, Strategy


class Phase(Enum):
    """Where a child is, as its supervisor sees it."""

    DOWN = "down"
    STARTING = "starting"
    UP = "running"
    WAITING = "restarting"
    STOPPING = "stopping"


# -- commands


@attrs.frozen
class StartChild:
    """Run the next incarnation of a child."""

    name: str
    incarnation: int


@attrs.frozen
class StopChild:
    """Stop the running incarnation of a child."""

    name: str


@attrs.frozen
class FinishChild:
    """The child will not come back: settle its queue, asks and watchers."""

    name: str
    reason: StopReason


@attrs.frozen
class ForgetChild:
    """The child and its spec are gone: its name is free."""

    name: str


@attrs.frozen
class Wake:
    """Call `timer_fired(token)` after some seconds."""

    delay: float
    token: int


@attrs.frozen
class ReportRestart:
    """Say that a child is restarted, after a delay, because of a crash."""

    name: str
    incarnation: int
    delay: float
    reason: StopReason


@attrs.frozen
class ReportCrash:
    """Say that a child crashed, where no restart will tell of it."""

    name: str
    incarnation: int
    reason: StopReason


@attrs.frozen
class Answer:
    """Answer a request: with a child's name, or with an error."""

    request: Any
    result: str | ActorError


@attrs.frozen
class Ready:
    """All children of the first round are up, or a significant one is done already."""


@attrs.frozen
class Over:
    """Everything below is down, and why."""

    reason: StopReason


Command = (
    StartChild | StopChild | FinishChild | ForgetChild | Wake | ReportRestart | ReportCrash | Answer | Ready | Over
)


@attrs.define
class Child:
    """One child: its spec, where it is, and its budget."""

    spec: ChildSpec
    place: int  # in the order of starting
    budget: Budget
    delays: Delays
    phase: Phase = Phase.DOWN
    wanted: bool = True
    incarnation: int = 0
    timer: int | None = None
    starter: Any = None  # who waits for it to be up
    stoppers: list[Any] = attrs.field(factory=list)  # who wait for it to be down
    kept: bool = True  # also when it ends; false for one that was added and has never been up

    @property
    def is_alive(self) -> bool:
        """Whether it runs and nobody has told it to stop."""
        return self.phase in (Phase.STARTING, Phase.UP)

    @classmethod
    def of(cls, spec: ChildSpec, place: int) -> Child:
        """A child that is not started yet."""
        return cls(spec, place, Budget.of(spec), Delays(spec.backoff))


class Supervision:
    """The decisions of one supervisor. Each method takes an event and returns the commands that follow from it."""

    def __init__(
        self,
        name: str,
        strategy: Strategy,
        specs: Iterable[ChildSpec] = (),
        *,
        max_restarts: float = float("inf"),
        period: float = 5.0,
        jitter: Callable[[], float] = lambda: 0.0,
    ) -> None:
        self.name: Final = name
        self.strategy: Final = strategy
        self.children: dict[str, Child] = {}
        self._names_in: dict[Phase, set[str]] = {phase: set() for phase in Phase}
        self._places = 0
        for spec in specs:
            if spec.name in self.children:
                raise DuplicateChild(f"supervisor {name!r} has two children named {spec.name!r}")
            self._new_child(spec)
        self.ending: StopReason | None = None
        self._over = False
        self._shared = Budget(max_restarts, period)
        self._jitter = jitter
        self._tokens = 0
        self._timers: dict[int, str] = {}
        self._to_stop: list[str] | None = None  # once all is ending, in start order
        self._round: Round | None = None
        self._out: list[Command] = []

    # -- events

    def begin(self) -> list[Command]:
        """Start all children, in order, each once the one before is up."""
        self._round = Round.first_start({name: child.place for name, child in self.children.items()})
        return self._advance()

    def started(self, name: str) -> list[Command]:
        """A child is up."""
        child = self.children[name]
        if child.phase is Phase.STARTING:
            self._move(child, Phase.UP)
            child.kept = True
            if child.starter is not None:
                self._out.append(Answer(child.starter, name))
                child.starter = None
        return self._advance()

    def exited(self, name: str, reason: StopReason, now: float, *, was_up: bool) -> list[Command]:
        """A child's incarnation has ended; `was_up` tells whether it had started."""
        child = self.children[name]
        before = child.phase
        self._move(child, Phase.DOWN)
        stoppers, child.stoppers = child.stoppers, []
        if child.starter is not None:
            self._start_on_request_failed(child, reason, stopped=before is Phase.STOPPING)
        elif before is Phase.STOPPING or self.ending is not None:
            self._ended_on_order(child, reason)
        elif not was_up and is_abnormal(reason) and child.incarnation == 1 and self._is_first_round():
            self._first_start_failed(child, reason)
        elif self._is_about_to_be_stopped(child) and restarts(child.spec.restart, reason):
            self._ended_on_order(child, reason)  # it went before its turn came
        else:
            self._ended_by_itself(child, reason, now)
        self._out.extend(Answer(request, name) for request in stoppers)
        return self._advance()

    def timer_fired(self, token: int) -> list[Command]:
        """A delay asked for by `Wake` is over."""
        if self._round is not None and self._round.timer == token:
            self._round.stage, self._round.timer = "starting", None
        child = self.children.get(self._timers.pop(token, ""))
        if child is not None and child.timer == token and child.phase is Phase.WAITING:
            self._start(child)
        return self._advance()

    def shut_down(self, reason: StopReason = SHUTDOWN) -> list[Command]:
        """Stop all children in reverse order, then be over."""
        if self.ending is None:
            self.ending = reason
        return self._advance()

    # -- requests

    def add(self, spec: ChildSpec, request: Any) -> list[Command]:
        """Start one more child; answered once it is up. One that fails to start is not kept."""
        if self.ending is not None:
            self._refuse(request, ActorStopped(f"supervisor {self.name!r} is stopping"))
        elif spec.name in self.children:
            self._refuse(request, DuplicateChild(f"supervisor {self.name!r} has a child {spec.name!r} already"))
        else:
            child = self._new_child(spec)
            child.starter, child.kept = request, False
            self._start(child)
        return self._advance()

    def restart(self, name: str, request: Any) -> list[Command]:
        """Start a child that is down for good; answered once it is up."""
        child = self._known(name, request)
        if child is not None and (child.phase is not Phase.DOWN or self._is_coming_up(child)):
            self._refuse(request, ChildRunning(f"child {name!r} of {self.name!r} is {self.phase_of(name).value}"))
        elif child is not None:
            child.wanted = True
            child.starter = request
            # Whoever had it stopped and started again knows of its crashes, so they are forgiven.
            child.budget, child.delays = Budget.of(child.spec), Delays(child.spec.backoff)
            if not self._waits_with_its_group(name):
                self._start(child)
                if self._round is not None:
                    self._round.started_out_of_turn(name)
        return self._advance()

    def terminate(self, name: str, request: Any) -> list[Command]:
        """Stop a child for good and keep its spec; answered once it is down."""
        child = self._known(name, request)
        if child is None:
            return self._advance()
        was_coming_up = child.phase is Phase.WAITING or self._is_coming_up(child)
        child.wanted = False
        if child.phase in (Phase.DOWN, Phase.WAITING):
            self._move(child, Phase.DOWN)
            if child.starter is not None:
                self._call_start_off(child)
            elif was_coming_up:
                self._end_for_good(child, SHUTDOWN)
            self._out.append(Answer(request, name))
        else:
            child.stoppers.append(request)
            if child.phase is not Phase.STOPPING:
                self._stop(child)
        return self._advance()

    def delete(self, name: str, request: Any) -> list[Command]:
        """Forget a child that is down for good."""
        child = self._known(name, request)
        if child is not None and (child.phase is not Phase.DOWN or self._is_coming_up(child)):
            phase = self.phase_of(name).value
            self._refuse(request, ChildRunning(f"child {name!r} of {self.name!r} is {phase}: terminate it"))
        elif child is not None:
            self._forget(child)
            self._out.append(Answer(request, name))
        return self._advance()

    # -- what may be asked at any time

    def phase_of(self, name: str) -> Phase:
        """Tell where a child is; one that waits for the others of its group counts as restarting."""
        child = self.children[name]
        is_back_soon = child.phase is Phase.DOWN and child.incarnation > 0 and self._is_coming_up(child)
        return Phase.WAITING if is_back_soon else child.phase

    # -- what follows from an end

    def _ended_on_order(self, child: Child, reason: StopReason) -> None:
        self._report_crash(child, reason)
        temporary = child.spec.restart == "temporary"
        if not child.wanted or self.ending is not None or (temporary and reason.kind != "normal"):
            self._end_for_good(child, reason)
        elif reason.kind == "normal" and not restarts(child.spec.restart, reason):
            self._ended_for_good_by_itself(child, reason)  # it was done before the order reached it

    def _ended_by_itself(self, child: Child, reason: StopReason, now: float) -> None:
        name = child.spec.name
        if not restarts(child.spec.restart, reason):
            self._report_crash(child, reason)
            self._ended_for_good_by_itself(child, reason)
        elif self._charged(child, reason, now):
            # A permanent child that ends normally is charged as well: it would spin unseen otherwise.
            delay = child.delays.next(now, self._jitter())
            self._out.append(ReportRestart(name, child.incarnation + 1, delay, reason))
            self._restart_with_its_group(child, delay)
        else:
            self._end_for_good(child, reason)

    def _ended_for_good_by_itself(self, child: Child, reason: StopReason) -> None:
        self._end_for_good(child, reason)
        if child.spec.significant:
            self.ending = SHUTDOWN
            if self._is_first_round():
                self._out.append(Ready())

    def _report_crash(self, child: Child, reason: StopReason) -> None:
        if reason.kind == "crashed":
            self._out.append(ReportCrash(child.spec.name, child.incarnation, reason))

    def _charged(self, child: Child, reason: StopReason, now: float) -> bool:
        own, shared = child.budget.charge(now), self._shared.charge(now)
        if own and shared:
            return True
        spent = self._shared if own else child.budget
        error = TooManyRestarts(self.name, child.spec.name, spent.crashes, spent.period, shared=spent is self._shared)
        error.__cause__ = reason.cause
        self.ending = crashed(error)
        return False

    def _restart_with_its_group(self, child: Child, delay: float) -> None:
        if self.strategy in ("one_for_one", "dynamic"):
            self._start_after(child, delay)
            return
        names = affected(self.strategy, list(self.children), child.spec.name)
        doomed = {name: self.children[name].place for name in names}
        if self._round is None:
            self._round = Round(doomed, set(doomed), "stopping", delay=delay)
        else:
            self._round = self._round.restart_of(doomed, delay)

    def _first_start_failed(self, child: Child, reason: StopReason) -> None:
        error = _start_failed(child, reason)
        self._end_for_good(child, reason)
        self.ending = crashed(error)

    def _start_on_request_failed(self, child: Child, reason: StopReason, *, stopped: bool) -> None:
        starter, child.starter = child.starter, None
        self._end_for_good(child, reason)
        self._out.append(Answer(starter, self._was_stopped(child) if stopped else _start_failed(child, reason)))

    def _call_start_off(self, child: Child) -> None:
        """It was to start with its group and is to do so no more; its last end has been settled before."""
        starter, child.starter, child.wanted = child.starter, None, False
        self._out.append(Answer(starter, self._was_stopped(child)))

    def _was_stopped(self, child: Child) -> ActorStopped:
        return ActorStopped(f"child {child.spec.name!r} of {self.name!r} was stopped while it started")

    # -- going on from here

    def _advance(self) -> list[Command]:
        if self.ending is not None:
            self._go_on_stopping()
        elif self._round is not None:
            self._go_on_with(self._round)
        out, self._out = self._out, []
        return out

    def _go_on_stopping(self) -> None:
        assert self.ending is not None
        if self._to_stop is None:
            self._to_stop = self._begin_stopping(self.ending)
        if not self._names_in[Phase.STOPPING]:
            self._stop_last_of(self._to_stop)
        if not self._over and len(self._names_in[Phase.DOWN]) == len(self.children):
            self._over = True
            self._out.append(Over(self.ending))

    def _begin_stopping(self, reason: StopReason) -> list[str]:
        self._round = None
        for child in self.children.values():
            if child.wanted and child.phase in (Phase.DOWN, Phase.WAITING):
                # At once: a sibling that waits for it could not end before it is told.
                self._move(child, Phase.DOWN)
                if child.starter is None:
                    self._finish(child, reason)
                else:
                    self._call_start_off(child)
        alive = [name for name, child in self.children.items() if child.is_alive]
        if self.strategy != "dynamic":
            return alive
        for name in alive:
            self._stop(self.children[name])
        return []

    def _stop_last_of(self, names: list[str]) -> None:
        while names:
            child = self.children.get(names.pop())
            if child is not None and child.is_alive:
                self._stop(child)
                return

    def _go_on_with(self, group: Round) -> None:
        if group.has_any(self._names_in[Phase.STOPPING]):
            return
        if group.stage == "stopping":
            while (name := group.next_to_stop()) is not None:
                if self.children[name].is_alive:
                    self._stop(self.children[name])
                    return
            group.stage = "waiting" if group.delay > 0 else "starting"
            if group.delay > 0:
                group.timer = self._wake_after(group.delay)
        if group.stage == "starting" and not group.has_any(self._names_in[Phase.STARTING]):
            self._start_next_of(group)

    def _start_next_of(self, group: Round) -> None:
        while (name := group.next_to_start()) is not None:
            child = self.children[name]
            if child.phase is Phase.DOWN and child.wanted:
                self._start(child)
                return
        self._round = None
        if group.first:
            self._out.append(Ready())

    # -- single steps

    def _new_child(self, spec: ChildSpec) -> Child:
        self._places += 1
        self.children[spec.name] = child = Child.of(spec, self._places)
        self._names_in[child.phase].add(spec.name)
        return child

    def _move(self, child: Child, phase: Phase) -> None:
        self._names_in[child.phase].remove(child.spec.name)
        self._names_in[phase].add(child.spec.name)
        child.phase, child.timer = phase, None

    def _start(self, child: Child) -> None:
        self._move(child, Phase.STARTING)
        child.incarnation += 1
        self._out.append(StartChild(child.spec.name, child.incarnation))

    def _start_after(self, child: Child, delay: float) -> None:
        if delay <= 0:
            self._start(child)
        else:
            self._move(child, Phase.WAITING)
            child.timer = self._wake_after(delay)
            self._timers[child.timer] = child.spec.name

    def _wake_after(self, delay: float) -> int:
        self._tokens += 1
        self._out.append(Wake(delay, self._tokens))
        return self._tokens

    def _stop(self, child: Child) -> None:
        self._move(child, Phase.STOPPING)
        self._out.append(StopChild(child.spec.name))

    def _end_for_good(self, child: Child, reason: StopReason) -> None:
        child.wanted = False
        self._finish(child, reason)
        if not child.kept or child.spec.restart == "temporary" or self.strategy == "dynamic":
            self._forget(child)

    def _forget(self, child: Child) -> None:
        name = child.spec.name
        del self.children[name]
        self._names_in[child.phase].remove(name)
        if self._round is not None:
            self._round.forget(name)
        self._out.append(ForgetChild(name))

    def _finish(self, child: Child, reason: StopReason) -> None:
        self._out.append(FinishChild(child.spec.name, reason))

    def _refuse(self, request: Any, error: ActorError) -> None:
        self._out.append(Answer(request, error))

    def _known(self, name: str, request: Any) -> Child | None:
        if self.ending is not None:
            self._refuse(request, ActorStopped(f"supervisor {self.name!r} is stopping"))
            return None
        if name not in self.children:
            self._refuse(request, UnknownChild(f"supervisor {self.name!r} has no child {name!r}"))
            return None
        return self.children[name]

    def _is_first_round(self) -> bool:
        return self._round is not None and self._round.first

    def _is_about_to_be_stopped(self, child: Child) -> bool:
        return self._round is not None and self._round.stage == "stopping" and child.spec.name in self._round.doomed

    def _waits_with_its_group(self, name: str) -> bool:
        """Tell whether a start now would be out of turn and may wait: none of the group runs and could wait for it."""
        return self._round is not None and self._round.stage == "waiting" and name in self._round.members

    def _is_coming_up(self, child: Child) -> bool:
        return child.wanted and self._round is not None and child.spec.name in self._round.members


def _start_failed(child: Child, reason: StopReason) -> StartFailed:
    error = StartFailed(child.spec.name, shown(reason.cause) if reason.cause else str(reason))
    error.__cause__ = reason.cause
    return error
