"""The supervisor: an actor that starts, watches, restarts and stops other actors.

`supervision` decides; this file acts. One task group per supervisor, each child in a cancel scope of its own. The
runner of a child catches what it raises and posts it as an event; nothing but interrupts and cancellations from
outside reaches the group. Starting, stopping and waiting run beside the supervisor's own loop, never in it, so that
it always answers.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable
from functools import partial
from math import inf
from typing import Any, ClassVar, NoReturn, assert_never

import anyio
import attrs
from anyio.lowlevel import checkpoint

from .actor import Actor, accepted_by
from .cell import Cell, Stop, current_cell
from .errors import (
    ActorError,
    ActorRestarting,
    ActorStopped,
    AskCycle,
    MailboxClosed,
    StartFailed,
    UnknownChild,
    WrongMessage,
)
from .flag import Flag
from .incarnation import run_incarnation
from .lifecycle import KILLED, SHUTDOWN, State, StopReason
from .mailbox import BURST
from .ref import ActorRef, cell_of
from .reply import Reply
from .restarts import Budget
from .shown import shown
from .spec import MAX_RESTARTS, PERIOD_SECONDS, ChildSpec, Restart, Strategy, checked_specs, checked_strategy
from .supervision import (
    Answer,
    Command,
    FinishChild,
    ForgetChild,
    Over,
    Phase,
    Ready,
    ReportCrash,
    ReportRestart,
    StartChild,
    StopChild,
    Supervision,
    Wake,
)
from .waker import current_task

logger = logging.getLogger("actors")


@attrs.frozen
class ChildStatus:
    """One child as its supervisor sees it.

    `crashes` are those that its budget counted when it crashed last: what has left the period since is still there.
    """

    name: str
    phase: Phase
    incarnation: int
    restart: Restart
    crashes: int


# -- requests, and events from the tasks beside the loop


@attrs.frozen
class _Add:
    spec: ChildSpec


@attrs.frozen
class _Spawn:
    args: tuple[Any, ...]
    name: str | None


@attrs.frozen
class _Restart:
    name: str


@attrs.frozen
class _Terminate:
    name: str


@attrs.frozen
class _Delete:
    name: str


@attrs.frozen
class _Started:
    name: str
    incarnation: int


@attrs.frozen
class _Exited:
    name: str
    incarnation: int
    reason: StopReason
    was_up: bool


@attrs.frozen
class _TimerFired:
    token: int


class Supervisor(Actor[Any]):
    """Keeps its children running by a strategy and within a budget, and stops them in reverse start order.

    `one_for_one` restarts the child that crashed, `one_for_all` all of them, `rest_for_one` it and those started
    after it. `dynamic` takes exactly one spec, the pattern of any number of children made by `spawn`, which are
    stopped in parallel. `max_restarts` within `period` bounds the restarts of all children together (off by
    default: each child has a budget of its own).
    """

    accepts: ClassVar[Any] = ()  # its requests come by its ref's methods, which check them

    def __init__(
        self,
        children: Iterable[ChildSpec] = (),
        *,
        strategy: Strategy = "one_for_one",
        max_restarts: float = inf,
        period: float = 5.0,
    ) -> None:
        specs = checked_specs(children)
        self._pattern: ChildSpec | None = None
        if checked_strategy(strategy) == "dynamic":
            if len(specs) != 1:
                raise ValueError(f"a dynamic supervisor takes one spec, the pattern of its children, got {len(specs)}")
            self._pattern = specs.pop()
        Budget(max_restarts, period)  # what is wrong with it shows here
        self._cells: dict[str, Cell] = {}
        self._exits: dict[str, Flag] = {}
        self._spawned = 0
        self.unkillable = 0
        self._make_decisions = partial(
            Supervision, strategy=strategy, specs=specs, max_restarts=max_restarts, period=period
        )

    @classmethod
    def spec(
        cls,
        name: str,
        children: Iterable[ChildSpec] = (),
        *,
        strategy: Strategy = "one_for_one",
        max_restarts: float = inf,
        period: float = 5.0,
        own_max_restarts: float = MAX_RESTARTS,
        own_period: float = PERIOD_SECONDS,
        **options: Any,
    ) -> ChildSpec:
        """Describe a supervisor as a child of another; it gets all the time that its own children need to stop.

        `max_restarts` and `period` are the budget that its children share, as in `Supervisor()`; `own_max_restarts`
        and `own_period` are its own in the supervisor above, as a `ChildSpec` has them.
        """
        options |= {"max_restarts": own_max_restarts, "period": own_period}
        make = partial(cls, checked_specs(children), strategy=strategy, max_restarts=max_restarts, period=period)
        make()  # what is wrong with it shows here, not at its first start
        return ChildSpec(name, make, **{"shutdown": inf, **options})

    # -- what its ref reads

    def child(self, name: str) -> ActorRef[Any]:
        """Return the ref of a child."""
        if name not in self._cells:
            raise UnknownChild(f"supervisor {self._cell.path!r} has no child {name!r}")
        return self._cells[name].ref

    def status(self) -> tuple[ChildStatus, ...]:
        """Return a snapshot of the children in start order."""
        return tuple(
            ChildStatus(
                name, self._decisions.phase_of(name), child.incarnation, child.spec.restart, child.budget.crashes
            )
            for name, child in self._decisions.children.items()
        )

    # -- the loop

    async def _actors_run(self, cell: Cell, started: Callable[[], object]) -> StopReason:
        self._cell = cell
        self._tell_started = started
        self._over: StopReason | None = None
        self._lost: list[str] = []
        self._decisions = self._make_decisions(cell.path, jitter=cell.tree.jitter)
        # What the tasks of the last incarnation reported too late would be taken for news of this one's children.
        cell.mailbox.withdraw(lambda item: isinstance(item, _Started | _Exited | _TimerFired))
        for child in self._decisions.children.values():
            self._cells[child.spec.name] = self._new_cell(child.spec)
        try:
            async with anyio.create_task_group() as group:
                self._group = group
                self._carry_out(self._decisions.begin())
                await self._serve(cell)
                group.cancel_scope.cancel()  # timers that nobody waits for any more
        finally:
            # However it ended: nobody may wait for a child that was down just then and will not come back.
            for orphan in self._cells.values():
                orphan.finish(KILLED)
        over: StopReason | None = self._over
        if over is None:
            # On asyncio a child's task that is cancelled natively cancels its group, which then ends in silence.
            who = f"actor {self._lost[0]!r}" if self._lost else f"a child of {cell.path!r}"
            raise ActorError(f"{who} was cancelled from outside the tree")
        if over.cause is not None:
            raise over.cause
        return over

    async def _serve(self, cell: Cell) -> None:
        in_a_row = 0
        while self._over is None:
            in_a_row = (in_a_row + 1) % BURST
            if not in_a_row:
                await checkpoint()
            self._carry_out(self._handle(await cell.mailbox.get()))

    def _handle(self, item: Any) -> list[Command]:
        match item:
            case _Started(name, incarnation):
                return self._decisions.started(name) if self._is_current(name, incarnation) else []
            case _Exited(name, _, reason, was_up):
                self._cells[name].state = State.RESTARTING  # unless a command says otherwise
                return self._decisions.exited(name, reason, anyio.current_time(), was_up=was_up)
            case _TimerFired(token):
                return self._decisions.timer_fired(token)
            case Stop(reason):
                return self._decisions.shut_down(reason)
            case (request, reply):
                return self._handle_request(request, reply)
            case _:
                return []  # the end of a watched actor; a supervisor watches none

    def _handle_request(self, request: Any, origin: Any) -> list[Command]:
        reply = origin if isinstance(origin, Reply) else None  # nobody waits for what `spawn_soon` asks
        if reply is not None:
            reply.defer()
        try:
            return self._decide(request, reply)
        except Exception as error:
            # The ref checks what it is given; what gets past it must not take the children down.
            self._answer(reply, error)
            return []

    def _decide(self, request: Any, reply: Reply[Any] | None) -> list[Command]:
        match request:
            case _Add(spec):
                return self._decisions.add(spec, reply)
            case _Spawn():
                return self._decisions.add(self._spec_of(request), reply)
            case _Restart(name):
                return self._decisions.restart(name, reply)
            case _Terminate(name):
                return self._decisions.terminate(name, reply)
            case _Delete(name):
                return self._decisions.delete(name, reply)
            case _:
                raise AssertionError(f"checked by the ref: {request!r}")

    def _spec_of(self, request: _Spawn) -> ChildSpec:
        assert self._pattern is not None
        name = request.name
        while name is None or (request.name is None and name in self._decisions.children):
            self._spawned += 1
            name = f"{self._pattern.name}-{self._spawned}"
        return attrs.evolve(self._pattern, name=name, args=(*self._pattern.args, *request.args))

    def _is_current(self, name: str, incarnation: int) -> bool:
        child = self._decisions.children.get(name)
        return child is not None and child.incarnation == incarnation

    # -- acting

    def _carry_out(self, commands: list[Command]) -> None:
        for command in commands:
            self._do(command)

    def _do(self, command: Command) -> None:
        match command:
            case StartChild(name, incarnation):
                self._launch(self._decisions.children[name].spec, incarnation)
            case StopChild(name):
                # Here and now: in a task of its own the order could come late and meet the next incarnation.
                self._cells[name].request_stop(SHUTDOWN)
                spec = self._decisions.children[name].spec
                self._group.start_soon(self._see_it_stop, self._cells[name], spec, self._exits[name])
            case FinishChild(name, reason):
                self._cells[name].finish(reason)
            case ForgetChild(name):
                del self._cells[name]
                self._exits.pop(name, None)
            case Wake(delay, token):
                self._group.start_soon(self._sleep, delay, token)
            case ReportRestart():
                self._report(command)
            case ReportCrash(name, incarnation, reason):
                text = "%s ended as incarnation %d (%s), for which it is not restarted"
                logger.error(text, self._cells[name].path, incarnation, reason, exc_info=reason.cause)
            case Answer(reply, result):
                self._answer(reply, result)
            case Ready():
                self._cell.state = State.RUNNING
                self._tell_started()
            case Over(reason):
                self._over = reason
            case _:
                assert_never(command)

    def _launch(self, spec: ChildSpec, incarnation: int) -> None:
        cell = self._cells.get(spec.name)
        if cell is None or cell.state is State.STOPPED:
            self._cells[spec.name] = cell = self._new_cell(spec)
        cell.state = State.STARTING
        cell.incarnation = incarnation
        cell.scope = anyio.CancelScope()
        self._exits[spec.name] = exited = Flag()
        self._group.start_soon(self._run_child, cell, spec, incarnation, exited, name=cell.path)

    def _new_cell(self, spec: ChildSpec) -> Cell:
        kind = _called_in_the_end(spec.factory)
        cell = Cell(
            spec.name,
            f"{self._cell.path}/{spec.name}",
            self._cell.tree,
            capacity=spec.capacity,
            overflow=spec.overflow,
            accepts=accepted_by(kind) if isinstance(kind, type) and issubclass(kind, Actor) else None,
            redeliver=spec.redeliver,
            parent=self._cell,
        )
        cell.ref = SupervisorRef(cell) if isinstance(kind, type) and issubclass(kind, Supervisor) else ActorRef(cell)
        return cell

    async def _run_child(self, cell: Cell, spec: ChildSpec, incarnation: int, exited: Flag) -> None:
        was_up = False

        def started() -> None:
            nonlocal was_up
            was_up = True
            cell.tree.observe(cell.tree.observer.started, cell.ref, incarnation)
            self._post(_Started(cell.name, incarnation))

        try:
            reason = await run_incarnation(cell, spec, started)
        except BaseException:
            self._lost.append(cell.path)
            cell.finish(KILLED)
            raise
        exited.set()
        if reason.kind == "crashed":
            cell.tree.observe(cell.tree.observer.crashed, cell.ref, incarnation, reason.cause)
        self._post(_Exited(cell.name, incarnation, reason, was_up))

    async def _see_it_stop(self, cell: Cell, spec: ChildSpec, exited: Flag) -> None:
        if spec.shutdown > 0:
            with anyio.move_on_after(None if spec.shutdown == inf else spec.shutdown):
                await exited.wait()
        if exited.is_set:
            return
        cell.cancel()
        with anyio.move_on_after(spec.grace):
            await exited.wait()
        if not exited.is_set:
            # A task or a thread cannot be killed, only a process can: say so and go on waiting.
            self.unkillable += 1
            logger.error("actor %s was cancelled %g s ago and still runs; waiting for it", cell.path, spec.grace)
            cell.tree.observe(cell.tree.observer.unkillable, cell.ref)

    async def _sleep(self, delay: float, token: int) -> None:
        await anyio.sleep(delay)
        self._post(_TimerFired(token))

    def _post(self, event: Any) -> None:
        self._cell.mailbox.put_control(event)

    def _report(self, report: ReportRestart) -> None:
        cell = self._cells[report.name]
        logger.warning(
            "restarting %s as incarnation %d in %g s: it ended (%s)",
            cell.path,
            report.incarnation,
            report.delay,
            report.reason,
            exc_info=report.reason.cause,
        )
        cell.tree.observe(cell.tree.observer.restarting, cell.ref, report.incarnation, report.delay)

    def _answer(self, reply: Reply[Any] | None, result: str | Exception) -> None:
        if reply is None:
            if isinstance(result, Exception):
                logger.error("supervisor %s could not spawn: %s", self._cell.path, result, exc_info=result)
        elif isinstance(result, Exception):
            if reply.abandoned and isinstance(result, StartFailed):
                logger.error("supervisor %s: %s, and nobody waits for it", self._cell.path, result, exc_info=result)
            reply.fail(result)
        elif not reply.settled:
            reply.send(self._cells[result].ref if result in self._cells else None)


class SupervisorRef(ActorRef[Any]):
    """The address of a supervisor, with what one can ask of it. It answers in the middle of a restart storm, too."""

    __slots__ = ()

    def child(self, name: str) -> ActorRef[Any]:
        """Return the ref of a child; it stays good through restarts. Raises `UnknownChild`."""
        return self._supervisor().child(_checked_name("child", name))

    def supervisor(self, name: str) -> SupervisorRef:
        """Return the ref of a child that is itself a supervisor."""
        ref = self._supervisor().child(_checked_name("supervisor", name))
        actor = cell_of(ref).actor
        if actor is not None and not isinstance(actor, Supervisor):
            raise TypeError(f"actor {ref.path!r} is no supervisor, it is {shown(actor)}")
        return SupervisorRef(cell_of(ref))

    def status(self) -> tuple[ChildStatus, ...]:
        """Return a snapshot of the children in start order."""
        return self._supervisor().status()

    @property
    def unkillable(self) -> int:
        """How many of its children were cancelled and went on running for longer than their `grace`."""
        return self._supervisor().unkillable

    async def start_child(self, spec: ChildSpec) -> ActorRef[Any]:
        """Start one more child and wait until it is up; cancelling the wait leaves the child.

        Raises `DuplicateChild`, or `StartFailed` (nothing is kept of it then).
        """
        if not isinstance(spec, ChildSpec):
            raise TypeError(f"start_child() takes a ChildSpec, got {shown(spec)}")
        if self._supervisor()._pattern is not None:
            raise ValueError(f"supervisor {self.path!r} is dynamic: its children come from spawn()")
        started: ActorRef[Any] = await self._request(_Add(spec))
        return started

    async def spawn(self, *args: Any, name: str | None = None) -> ActorRef[Any]:
        """Start one more child of a dynamic supervisor, its factory called with `args`, and wait until it is up.

        Cancelling the wait leaves the child; give it a name to be able to terminate it then.
        Raises `DuplicateChild`, or `StartFailed` (nothing is kept of it then).
        """
        started: ActorRef[Any] = await self._request(self._checked_spawn(args, name))
        return started

    def spawn_soon(self, *args: Any, name: str | None = None) -> None:
        """Start one more child of a dynamic supervisor without waiting for it.

        One that does not come up is charged to its budget and tried again; a name in use is an error in the log.
        """
        request = self._checked_spawn(args, name)
        try:
            self._cell.mailbox.put_control((request, current_cell.get()))
        except MailboxClosed:
            self._cell.dead_letter(request, current_cell.get())

    async def terminate_child(self, name: str) -> None:
        """Stop a child for good and wait until it is down; its spec is kept (that of a temporary one is not).

        Raises `UnknownChild`, and `AskCycle` where the caller would wait for its own end.
        """
        self._refuse_own_end(_checked_name("terminate_child", name))
        await self._request(_Terminate(name))

    async def restart_child(self, name: str) -> ActorRef[Any]:
        """Start a child that is down for good, under a new ref and with a fresh budget, and wait until it is up.

        In the back-off of its group it waits for its turn. Raises `UnknownChild` or `ChildRunning`.
        """
        started: ActorRef[Any] = await self._request(_Restart(_checked_name("restart_child", name)))
        return started

    async def delete_child(self, name: str) -> None:
        """Forget a child that is down for good. Raises `UnknownChild` or `ChildRunning`."""
        await self._request(_Delete(_checked_name("delete_child", name)))

    def _checked(self, message: object) -> NoReturn:
        raise WrongMessage(
            f"supervisor {self.path!r} takes no messages, got {type(message).__name__}: use start_child(), spawn(), "
            "terminate_child() and their like, or tell one of its children"
        )

    def _supervisor(self) -> Supervisor:
        actor = self._cell.actor
        if actor is None:
            kind = ActorRestarting if self.state in (State.STARTING, State.RESTARTING) else ActorStopped
            raise kind(f"supervisor {self.path!r} is {self.state.value}")
        if not isinstance(actor, Supervisor):
            raise TypeError(f"actor {self.path!r} is no supervisor, it is {shown(actor)}")
        return actor

    def _checked_spawn(self, args: tuple[Any, ...], name: str | None) -> _Spawn:
        pattern = self._supervisor()._pattern
        if pattern is None:
            raise ValueError(f"supervisor {self.path!r} is not dynamic: use start_child(spec)")
        if name is not None:
            attrs.evolve(pattern, name=name)  # what is wrong with it is the caller's fault, not the supervisor's
        return _Spawn(args, name)

    async def _request(self, request: Any) -> Any:
        reply: Reply[Any] = Reply(self._cell, current_cell.get())
        try:
            self._cell.mailbox.put_control((request, reply))
            await reply.wait()
        except MailboxClosed:
            raise ActorStopped(f"supervisor {self.path!r} is stopped ({self._cell.reason})") from None
        finally:
            if not reply.settled:
                reply.abandon()
        return reply.result()

    def _refuse_own_end(self, name: str) -> None:
        asker = current_cell.get()
        if asker is None or asker.task is not current_task():
            return
        target = self._supervisor()._cells.get(name)
        link: Cell | None = asker
        while link is not None:
            if link is target:
                raise AskCycle(f"actor {asker.path!r} would wait for its own end; use context.stop()")
            link = link.parent


def _checked_name(method: str, name: str) -> str:
    if not isinstance(name, str):
        raise TypeError(f"{method}() takes a child's name, got {shown(name)}")
    return name


def _called_in_the_end(factory: Any) -> Any:
    while isinstance(factory, partial):
        factory = factory.func
    return factory
