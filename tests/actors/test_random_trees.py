"""Random supervision: what holds whatever crashes, stops and is asked for, in whatever order.

First the decisions alone, against the model (very many short lives); then whole trees on a fuzzed schedule.
"""

from __future__ import annotations

import contextlib
from collections import Counter
from collections.abc import Awaitable, Callable
from functools import partial
from math import inf
from typing import Any, Literal

import anyio
import attrs
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from actors import (
    Actor,
    ActorError,
    ActorRef,
    Backoff,
    ChildSpec,
    DeadLetter,
    NullObserver,
    Phase,
    State,
    StopReason,
    Supervisor,
    SupervisorRef,
    Terminated,
    TooManyRestarts,
    supervise,
)
from actors.lifecycle import KILLED, NORMAL, SHUTDOWN
from actors.ref import cell_of
from actors.spec import Restart, Strategy
from actors.testing import BACKENDS, Backend, run, tasks_left
from tests.actors.schedules import Boom
from tests.actors.schedules import quiet_log as quiet_log
from tests.actors.supervision_model import CRASH, SupervisionModel, spec

RESTARTS: list[Restart] = ["permanent", "transient", "temporary"]
STRATEGIES: list[Strategy] = ["one_for_one", "one_for_all", "rest_for_one"]

# The decisions alone


@attrs.frozen
class Options:
    """The policies of one child."""

    restart: Restart
    max_restarts: float
    backoff: Backoff | None
    significant: bool

    def spec(self, name: str) -> ChildSpec:
        return spec(
            name,
            restart=self.restart,
            max_restarts=self.max_restarts,
            backoff=self.backoff,
            significant=self.significant and self.restart != "permanent",
        )


options = st.builds(
    Options,
    st.sampled_from(RESTARTS),
    st.sampled_from([0, 1, 2, 3, inf]),
    st.sampled_from([None, None, Backoff(1, 4, jitter=0)]),
    st.sampled_from([False, False, False, True]),
)


class Life:
    """Plays one supervisor's life from a tape of numbers: each chooses among all that could happen next."""

    def __init__(self, strategy: Strategy, children: list[Options], added: Options, shared: float) -> None:
        specs = [] if strategy == "dynamic" else [child.spec(f"c{number}") for number, child in enumerate(children)]
        self.model = SupervisionModel(strategy, *specs, max_restarts=shared, period=5.0)
        self.added = added
        self.requests = 0
        self.model.begin()

    def step(self, choice: int) -> None:
        possible = list(self._from_below())
        possible += [*self._from_above()] if len(possible) < 2 or choice % 3 == 0 else []
        possible[choice % len(possible)]()

    def end(self) -> None:
        self.model.shut_down()
        while self.model.over is None:
            next(iter(self._from_below()))()

    def _from_below(self) -> list[Callable[[], object]]:
        events: list[Callable[[], object]] = []
        for name, where in self.model.running.items():
            match where:
                case "starting":
                    events += [partial(self.model.up, name)] * 3
                    events += [partial(self.model.end, name, reason) for reason in (CRASH, KILLED, NORMAL)]
                case "up":
                    events += [partial(self.model.end, name, reason) for reason in (CRASH, NORMAL, SHUTDOWN, KILLED)]
                case "stopping":
                    events += [partial(self.model.end, name, reason) for reason in (SHUTDOWN, KILLED, CRASH, NORMAL)]
        return [*events, *([self.model.fire] if self.model.timers else []), self._wait]

    def _from_above(self) -> list[Callable[[], object]]:
        self.requests += 1
        names = [*self.model.decisions.children, "unknown"]
        events: list[Callable[[], object]] = [self.model.shut_down]
        for number, name in enumerate(names):
            for ask in (self.model.terminate, self.model.restart, self.model.delete):
                events.append(partial(ask, name, (ask.__name__, self.requests, number)))
        new = self.added.spec(f"n{self.requests % 4}")
        return [*events, *[partial(self.model.add, new, ("add", self.requests))] * 3]

    def _wait(self) -> None:
        self.model.now += 1.5


@settings(max_examples=1500, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(
    st.sampled_from([*STRATEGIES, "dynamic"]),
    st.lists(options, max_size=4),
    options,
    st.sampled_from([inf, inf, 2]),
    st.lists(st.integers(0, 5000), max_size=60),
)
def test_whatever_happens_to_a_supervisor_the_model_agrees_and_it_ends(
    strategy: Strategy, children: list[Options], added: Options, shared: float, tape: list[int]
) -> None:
    life = Life(strategy, children, added, shared)
    for choice in tape:
        if life.model.over is not None:
            break
        life.step(choice)
    life.end()


# Whole trees


@attrs.frozen
class Leaf:
    """A worker; it does not come up in the incarnations named."""

    restart: Restart
    max_restarts: float
    backoff: Backoff | None
    shutdown: float
    failing: frozenset[int]


@attrs.frozen
class Branch:
    """A supervisor of some children, or a dynamic one of any number."""

    strategy: Strategy
    children: tuple[Leaf | Branch, ...]
    max_restarts: float


def leaves() -> st.SearchStrategy[Leaf]:
    return st.builds(
        Leaf,
        st.sampled_from(RESTARTS),
        st.sampled_from([1, 2, 3]),
        st.sampled_from([None, None, Backoff(0.5, 2, jitter=0.5)]),
        st.sampled_from([0, 1, 5]),
        st.frozensets(st.sampled_from([2, 3, 4]), max_size=2),
    )


def branches(depth: int) -> st.SearchStrategy[Branch]:
    children = st.one_of(leaves(), leaves(), branches(depth - 1)) if depth > 1 else leaves()
    static = st.builds(
        Branch,
        st.sampled_from(STRATEGIES),
        st.lists(children, min_size=1, max_size=3).map(tuple),
        st.sampled_from([1, 3]),
    )
    dynamic = st.builds(Branch, st.just("dynamic"), st.tuples(leaves()), st.just(3))
    return st.one_of(static, static, dynamic) if depth < 3 else static


Kind = Literal["crash", "stop", "work", "terminate", "restart", "delete", "add", "watch", "ask", "pause"]
KINDS: list[Kind] = ["crash", "stop", "work", "terminate", "restart", "delete", "add", "watch", "ask", "pause"]
actions = st.lists(
    st.tuples(st.sampled_from([*KINDS, "crash", "crash", "work"]), st.integers(0, 1000)), min_size=1, max_size=25
)


class World(NullObserver):
    """The record of one tree's life, which checks what may never happen as it happens."""

    def __init__(self) -> None:
        self.alive: dict[str, int] = {}  # path -> incarnation
        self.problems: list[str] = []
        self.sent: list[int] = []
        self.handled: Counter[int] = Counter()
        self.letters: list[DeadLetter] = []
        self.refs: set[ActorRef[Any]] = set()
        self.ends: Counter[ActorRef[Any]] = Counter()
        self.charges: dict[ActorRef[Any], list[float]] = {}
        self.watched: set[ActorRef[Any]] = set()
        self.heard: Counter[ActorRef[Any]] = Counter()
        self.stops: list[str] | None = None
        self.budgets: dict[str, float] = {}

    # -- as an observer

    def started(self, ref: ActorRef[Any], incarnation: int) -> None:
        self.refs.add(ref)

    def stopped(self, ref: ActorRef[Any], reason: StopReason) -> None:
        self.ends[ref] += 1

    def crashed(self, ref: ActorRef[Any], incarnation: int, cause: BaseException) -> None:
        if isinstance(cause, TooManyRestarts) and cause.crashes != self.budgets[cause.child] + 1:
            self.problems.append(f"{cause} though it may have {self.budgets[cause.child]}")
        if not isinstance(cause, Boom | TooManyRestarts):
            self.problems.append(f"{ref} crashed by {cause!r}")

    def restarting(self, ref: ActorRef[Any], incarnation: int, delay: float) -> None:
        now = anyio.current_time()
        charges = self.charges.setdefault(ref, [])
        charges.append(now)
        if sum(now - time <= 5 for time in charges) > self.budgets[ref.name]:
            self.problems.append(f"{ref} is over its budget")

    def dead_letter(self, letter: DeadLetter) -> None:
        if isinstance(letter.message, int):
            self.letters.append(letter)

    # -- for the workers

    def begins(self, path: str, incarnation: int) -> None:
        if path in self.alive:
            self.problems.append(f"{path} runs twice: as {self.alive[path]} and {incarnation}")
        self.alive[path] = incarnation

    def ends_here(self, path: str, incarnation: int) -> None:
        if self.alive.pop(path, None) != incarnation:
            self.problems.append(f"{path} as {incarnation} ended, but did not run")
        if self.stops is not None:
            self.stops.append(path)

    def number(self, *, even: bool) -> int:
        number = 2 * len(self.sent) + (0 if even else 1)
        self.sent.append(number)
        return number


class RandomWorker(Actor[Any]):
    """Tells the world of its life. Even numbers crash it, odd ones take time."""

    def __init__(self, world: World, failing: frozenset[int]) -> None:
        self.world = world
        self.failing = failing

    async def on_start(self) -> None:
        await anyio.lowlevel.checkpoint()
        if self.context.incarnation in self.failing:
            raise Boom
        self.world.begins(self.context.ref.path, self.context.incarnation)

    async def receive(self, message: int | tuple[int]) -> None:
        if isinstance(message, tuple):
            return
        try:
            await anyio.lowlevel.checkpoint()
            if message % 2 == 0:
                raise Boom
            await anyio.sleep(message % 10 / 5)
        except Boom:
            self.world.handled[message] += 1
            raise
        self.world.handled[message] += 1

    async def on_stop(self, reason: StopReason) -> None:
        await anyio.lowlevel.checkpoint()
        self.world.ends_here(self.context.ref.path, self.context.incarnation)


class Watcher(Actor[Any]):
    """Is the first to start and the last to stop, and hears of the ends of all it watches."""

    def __init__(self, world: World) -> None:
        self.world = world

    async def receive(self, ref: ActorRef[Any]) -> None:
        if ref not in self.world.watched:
            self.world.watched.add(ref)
            self.context.watch(ref)

    async def on_terminated(self, terminated: Terminated) -> None:
        self.world.heard[terminated.ref] += 1


class Tree:
    """A random tree, and whoever does random things to it."""

    def __init__(self, plan: Branch, world: World) -> None:
        self.plan = plan
        self.world = world
        self.names = 0

    def spec(self, plan: Leaf | Branch) -> ChildSpec:
        self.names += 1
        name = f"{type(plan).__name__}{self.names}".lower()
        self.world.budgets[name] = plan.max_restarts
        if isinstance(plan, Branch):
            children = [self.spec(child) for child in plan.children]
            return attrs.evolve(Supervisor.spec(name, children, strategy=plan.strategy), max_restarts=plan.max_restarts)
        return ChildSpec(
            name,
            RandomWorker,
            (self.world, plan.failing),
            restart=plan.restart,
            max_restarts=plan.max_restarts,
            backoff=plan.backoff,
            shutdown=plan.shutdown,
            capacity=1000,
        )

    async def live(self, actions: list[tuple[Kind, int]], settle: bool) -> None:
        """Run the tree, do the actions, end it; then look at what is left."""
        watcher = ChildSpec("watcher", Watcher, (self.world,), capacity=1000)
        children = [watcher, self.spec(self.plan)]
        self.world.budgets["watcher"] = 0
        async with anyio.create_task_group() as group:
            try:
                async with supervise(children, observer=self.world) as root:
                    self.watcher = root.child("watcher")
                    for kind, number in actions:
                        with contextlib.suppress(ActorError):  # the tree may give up meanwhile
                            await self.act(root, group, kind, number)
                    if settle:
                        await anyio.sleep(1000)
                        self.check_at_rest(root)
                        self.world.stops = []
                        order = self.order(root)
            except TooManyRestarts:
                settle = False
        self.check_the_end()
        if settle:
            # Those of a dynamic supervisor stop together.
            together = {path: path.rpartition("/")[0] if "/spawned" in path else path for path in order}
            assert self.world.stops is not None
            assert [together[path] for path in self.world.stops] == [together[path] for path in reversed(order)]

    async def act(self, root: SupervisorRef, group: anyio.abc.TaskGroup, kind: Kind, number: int) -> None:
        if kind == "pause":
            await anyio.sleep(number % 7 / 2)
            return
        places = [place for place in self.places(root) if place[1] != "watcher"]
        if not places:
            return
        parent, name = places[number % len(places)]
        ref = parent.child(name)
        self.world.refs.add(ref)
        match kind:
            case "crash" | "work" | "stop" | "ask" | "watch":
                await self.send(group, ref, kind, number)
            case "terminate":
                group.start_soon(self.request, partial(parent.terminate_child, name))
            case "restart":
                group.start_soon(self.request, partial(parent.restart_child, name))
            case "delete":
                group.start_soon(self.request, partial(parent.delete_child, name))
            case "add":
                group.start_soon(self.request, partial(self.add, parent, number))
        for _ in range(number % 4):
            await anyio.lowlevel.checkpoint()

    async def send(self, group: anyio.abc.TaskGroup, ref: ActorRef[Any], kind: Kind, number: int) -> None:
        if kind == "watch":
            await self.watcher.ask(ref)
        elif kind == "stop" or cell_of(ref).accepts is not None:  # a supervisor takes no numbers
            ref.stop()
        elif kind == "ask":
            group.start_soon(self.request, partial(ref.ask, (number,), timeout=None))
        else:
            ref.tell_nowait(self.world.number(even=kind == "crash"))

    async def request(self, ask: Callable[[], Awaitable[Any]]) -> None:
        # Whatever the answer, one comes: the group around the tree waits for it, and nothing else ends the wait.
        with contextlib.suppress(ActorError):
            await ask()

    async def add(self, parent: SupervisorRef, number: int) -> None:
        supervisor: Any = cell_of(parent).actor
        if supervisor is not None and supervisor._pattern is not None:
            self.names += 1
            name = f"spawned{self.names}"
            self.world.budgets[name] = supervisor._pattern.max_restarts
            await parent.spawn(name=name)
        else:
            plan = Leaf(RESTARTS[number % 3], number % 4, None, number % 3, frozenset({1} if number % 5 == 0 else ()))
            await parent.start_child(self.spec(plan))

    # -- looking

    def places(self, parent: SupervisorRef) -> list[tuple[SupervisorRef, str]]:
        """Every child in the tree with its supervisor, in the order of starting."""
        places = []
        for child in parent.status():
            places.append((parent, child.name))
            below = parent.child(child.name)
            if isinstance(below, SupervisorRef) and isinstance(cell_of(below).actor, Supervisor):
                places += self.places(below)
        return places

    def order(self, root: SupervisorRef) -> list[str]:
        """The paths of all workers that are up, in the order of starting."""
        paths = [f"{parent.path}/{name}" for parent, name in self.places(root)]
        return [path for path in paths if path in self.world.alive]

    def check_at_rest(self, root: SupervisorRef) -> None:
        """Nothing happens any more: who is wanted is up, who is not is down, and the world saw the same."""
        up = {}
        for parent, name in self.places(root):
            child = cell_of(parent).actor._decisions.children[name]  # type: ignore[union-attr]
            ref = parent.child(name)
            assert child.phase is (Phase.UP if child.wanted else Phase.DOWN), f"{ref} is lost"
            assert ref.state is (State.RUNNING if child.wanted else State.STOPPED)
            assert child.incarnation == ref.incarnation
            if child.wanted and isinstance(cell_of(ref).actor, RandomWorker):
                up[ref.path] = ref.incarnation
        assert self.world.alive == up

    def check_the_end(self) -> None:
        world = self.world
        assert world.problems == []
        assert world.alive == {}
        assert {ref: world.ends[ref] for ref in world.refs} == dict.fromkeys(world.refs, 1)
        assert set(world.ends.values()) <= {1}
        accounted = world.handled + Counter(letter.message for letter in world.letters)
        assert accounted == Counter(world.sent)
        assert world.heard == Counter(world.watched)


trees = branches(3)


@pytest.mark.parametrize("backend", BACKENDS)
@settings(
    max_examples=60,
    deadline=None,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.function_scoped_fixture],
)
@given(trees, actions, st.booleans(), st.integers(0, 1000))
def test_whatever_happens_to_a_tree_nobody_is_lost_or_runs_twice_and_nothing_is_left(
    backend: Backend, quiet_log: None, plan: Branch, actions: list[tuple[Kind, int]], settle: bool, seed: int
) -> None:
    async def main() -> None:
        await Tree(plan, World()).live(actions, settle)
        assert tasks_left() == []

    run(main, backend=backend, seed=seed, virtual_time=True)
