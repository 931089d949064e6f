"""The scheduler of one graph: receives, decides, carries out. The only driver of `runs.py`.

It is an actor in all that matters: events come one at a time, nothing else touches its runs, and nothing in it
waits. But its turn is taken by whoever brings the event (a worker with a result, a caller with a signal, the timers),
inside their own task, so that an event costs no task switch. An event that comes while another is being handled
waits in the inbox until that one's consequences have started.
"""

from __future__ import annotations

import logging
from collections import deque
from collections.abc import Callable, Iterable, Sequence
from functools import partial
from time import time
from typing import Any, Final, Protocol

from .counts import RunCounts
from .guarded import GuardedCrew
from .hands import Hands
from .items import ItemSource
from .keeper import keeper_of
from .limits import Limits, labelled
from .logs import about
from .nodes import Crew
from .plan import Plan, PlanNode
from .ports import Executor
from .runs import Run
from .timers import Timer, Timers
from .tokens import Activation, CancelNode, ClearTimer, CloseItems, Command, PullItems, Record, RunDone, SetTimer

logger = logging.getLogger("engine")


class Owner(Protocol):
    """Who drives a run outside its graph: told when something can be read, and when it is over."""

    def changed(self) -> None:
        """Something has been added to the run's history."""
        ...

    def run_over(self) -> None:
        """The run has ended and nothing of it is left running."""
        ...

    def broke(self, error: Exception) -> None:
        """The engine itself failed on this run."""
        ...

    @property
    def detached(self) -> bool:
        """Whether this engine has let go of the run, which goes on from the store when one starts again."""
        ...


AnyCrew = Crew | GuardedCrew


class Scheduler:
    """Drives all runs of one graph; also `nodes.Answers`, to which workers bring their results."""

    def __init__(
        self,
        plan: Plan,
        timers: Timers,
        hands: Hands,
        make_crew: Callable[[Activation, Scheduler], AnyCrew],
        *,
        clock: Callable[[], float] = time,
        random: Callable[[], float],
        sources: Executor,
    ) -> None:
        self.plan: Final = plan
        self.hands: Final = hands
        self.crews: dict[PlanNode, AnyCrew] = {}
        self.limits: Final[dict[str, Limits]] = {}
        """Those that were changed since the graph was made, by the node's name in metrics."""
        self.counts: Final = RunCounts()
        self._timers = timers
        self._make_crew = make_crew
        self._clock = clock
        self._random = random
        self._threads = sources
        self._set: dict[Activation, Timer] = {}
        self._sources: dict[Activation, ItemSource] = {}
        self._inbox: deque[tuple[Run, Callable[[], list[Command]]]] = deque()
        self._in_turn = False

    # -- events from outside

    def event(self, run: Run, happened: Callable[[], list[Command]]) -> None:
        """Let something happen to a run, and carry out what follows, now or after the event at hand."""
        if self._in_turn:
            self._inbox.append((run, happened))
            return
        self._in_turn = True
        try:
            self._turn(run, happened)
            while self._inbox:
                self._turn(*self._inbox.popleft())
        finally:
            self._in_turn = False

    def now(self) -> float:
        """The time that goes into logs and events."""
        return self._clock()

    def abandon(self, run: Run) -> None:
        """Stop whatever still runs of a run that the engine failed on; its answers are dropped."""
        for crew in self.crews.values():
            for activation in [*crew.busy, *crew.ready]:
                if activation.run.root is run:
                    crew.cancel(activation)
        for timers in (self._set, self._sources):
            for activation in [one for one in timers if one.run.root is run]:
                stopped: Any = timers.pop(activation)
                stopped.cancel() if isinstance(stopped, Timer) else stopped.close()

    def set_limits(self, label: str, limits: Limits) -> None:
        """Have other limits hold for a node from now on, whether it has run or not."""
        self.limits[label] = limits
        for name, node in labelled(self.plan):
            crew = self.crews.get(node)
            if name != label or crew is None:
                continue
            if isinstance(crew, Crew) and (limits.breaker is not None or limits.cache is not None):
                # What it has in hand it goes on with, and answers by way of the new one.
                self.crews[node] = GuardedCrew(crew, limits)
            else:
                crew.change(limits)

    def all_crews(self) -> list[AnyCrew]:
        """Those of the nodes that have run; safe from another thread."""
        return list(self.crews.values())

    # -- events from workers

    def attempt_succeeded(self, activation: Activation, attempt: int, returned: Any, seconds: float) -> None:
        """A node's function returned."""
        run = activation.run
        root = run.root
        now = self._clock()
        if self._in_turn:
            happened = partial(run.succeeded, activation, attempt, returned, now, now - seconds)
            self._inbox.append((root, happened))
            return
        # The way of every node of every run: what `event` does, without making a closure.
        self._in_turn = True
        try:
            try:
                commands = run.succeeded(activation, attempt, returned, now, now - seconds)
            except Exception as error:
                self._broke(root, error)
            else:
                if root.tree.journal:
                    self._remember_and_act(root, commands)
                else:
                    self._carry_out(root, commands)
            while self._inbox:
                self._turn(*self._inbox.popleft())
        finally:
            self._in_turn = False

    def attempt_failed(
        self, activation: Activation, attempt: int, error: BaseException, seconds: float, timed_out: bool
    ) -> None:
        """A node's function raised, or was stopped at its time-out."""
        run = activation.run
        now, random = self._clock(), self._random()
        self.event(run.root, lambda: run.failed(activation, attempt, error, now, now - seconds, random, timed_out))

    def attempt_cancelled(self, activation: Activation, attempt: int, seconds: float) -> None:
        """A cancelled attempt is over."""
        run = activation.run
        now = self._clock()
        self.event(run.root, lambda: run.cancelled(activation, attempt, now, now - seconds))

    def once_carried_out(self, activation: Activation, call: Callable[[], None]) -> None:
        """Call when the commands of all that has happened to its run so far have been carried out."""
        if self._in_turn:
            # What it is to come after may wait for its turn itself.
            self._inbox.append((activation.run.root, partial(self._afterwards, activation, call)))
        else:
            self._afterwards(activation, call)

    def _afterwards(self, activation: Activation, call: Callable[[], None]) -> list[Command]:
        keeper = keeper_of(activation.run)
        if keeper is None:
            call()
        else:
            keeper.afterwards(call)
        return []

    # -- events from the sources of maps

    def items_given(self, activation: Activation, items: Sequence[Any], more: bool) -> None:
        """A map's source gave items."""
        run = activation.run
        if not more:
            del self._sources[activation]  # a further attempt reads from the beginning
        self.event(run.root, lambda: run.items_given(activation, items, more, self._clock()))

    def items_failed(self, activation: Activation, error: Exception) -> None:
        """A map's source raised."""
        run = activation.run
        del self._sources[activation]
        self.event(run.root, lambda: run.items_failed(activation, error, self._clock()))

    # -- one event

    def _turn(self, run: Run, happened: Callable[[], list[Command]]) -> None:
        try:
            commands = happened()
        except Exception as error:
            self._broke(run, error)
        else:
            if run.tree.journal:
                self._remember_and_act(run, commands)
            else:
                self._carry_out(run, commands)

    def _remember_and_act(self, run: Run, commands: Sequence[Command]) -> None:
        """Do what was decided once the records of it are safe."""
        keeper = keeper_of(run)
        assert keeper is not None
        try:
            commands = keeper.keep(run, commands, self._safe)
        except Exception as error:
            self._broke(run, error)
            return
        if commands:
            self._carry_out(run, commands)

    def _safe(self, run: Run, commands: Sequence[Command]) -> None:
        """The records that these commands follow from are safe now."""
        owner: Owner = run.tree.owner
        if owner.detached:
            return
        self._in_turn = True
        try:
            self._carry_out(run, commands)
            while self._inbox:
                self._turn(*self._inbox.popleft())
        finally:
            self._in_turn = False

    def _carry_out(self, run: Run, commands: Iterable[Command]) -> None:
        crews = self.crews
        for command in commands:
            if isinstance(command, Activation):
                (crews.get(command.node) or self._crew_of(command)).start(command)
            else:
                self._do(command)
        run.tree.owner.changed()

    def _do(self, command: Command) -> None:
        match command:
            case CancelNode():
                self._cancel(command.activation)
            case SetTimer():
                self._set_timer(command)
            case ClearTimer():
                self._clear_timer(command.activation)
            case PullItems():
                self._pull(command)
            case CloseItems():
                source = self._sources.pop(command.activation, None)
                if source is not None:
                    source.close()
            case RunDone():
                command.run.tree.owner.run_over()
            case Record():
                raise AssertionError("a record is the journal's, and no command")

    def _broke(self, run: Run, error: Exception) -> None:
        logger.exception("the engine failed on run %s", run.id, exc_info=error, extra=about(run.id, run.plan.name))
        run.tree.owner.broke(error)

    # -- commands

    def _crew_of(self, activation: Activation) -> AnyCrew:
        crew = self.crews[activation.node] = self._make_crew(activation, self)
        return crew

    def _cancel(self, activation: Activation) -> None:
        crew = self.crews.get(activation.node)
        if crew is None or crew.cancel(activation):  # without a crew it has not begun either
            run, attempt = activation.run, activation.attempt
            self.event(run.root, lambda: run.cancelled(activation, attempt, self._clock()))

    def _set_timer(self, command: SetTimer) -> None:
        activation, purpose = command.activation, command.purpose
        self._clear_timer(activation)
        if purpose == "retry":
            self._count_retry(activation)

        def fire() -> None:
            self._set.pop(activation, None)
            run = activation.run
            self.event(run.root, lambda: run.timer_fired(activation, purpose, self._clock()))

        self._set[activation] = self._timers.after(command.delay, fire)

    def _count_retry(self, activation: Activation) -> None:
        crew = self.crews.get(activation.node)
        if crew is not None:
            crew.retries += 1
        else:
            self.counts.retried_inside(activation.run.label(activation.node))

    def _clear_timer(self, activation: Activation) -> None:
        timer = self._set.pop(activation, None)
        if timer is not None:
            timer.cancel()

    def _pull(self, command: PullItems) -> None:
        activation = command.activation
        source = self._sources.get(activation)
        if source is None:
            source = self._sources[activation] = ItemSource(activation, self, self._threads, self._timers)
            # As a node does, it sees the context variables of whoever submitted the run.
            activation.run.tree.owner.variables.copy().run(self.hands.run_beside, source.serve)
        source.want(command.count)
