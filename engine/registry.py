"""The graphs an engine knows, by name and version, each with its scheduler and its place in the supervision tree."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from random import Random
from typing import Any, Final

import anyio

from actors import ChildSpec, DuplicateChild, Supervisor, SupervisorRef

from .batches import BatchCrew
from .bodies import AsyncBody, Body, ElsewhereBody, LoopBody
from .elsewhere import RemoteBody, stays_on
from .errors import GraphConflict, GraphInvalid, GraphNotFound, GraphProblem
from .filebody import FileBody
from .gates import Gate
from .graph import Graph
from .guarded import GuardedCrew
from .hands import Hands, NodesActor
from .limits import Limits, label_of
from .nodes import Crew, Places
from .nodespec import NodeSpec
from .plan import Plan, PlanEdge, PlanNode, all_nodes
from .ports import Executor
from .sameness import same_plan
from .scheduler import AnyCrew, Scheduler
from .timers import Timers
from .tokens import Activation
from .tools import version_order


class Registered:
    """One graph: its plan, its scheduler, and the actors of its nodes, which start with its first run."""

    def __init__(self, plan: Plan, scheduler: Scheduler, graph: Graph | None = None, generation: int = 1) -> None:
        self.plan: Final = plan
        self.scheduler: Final = scheduler
        self.counts: Final = scheduler.counts
        self.graph: Final = graph
        self.revisions: Final = None if graph is None else graph.revisions
        self.generation: Final = generation
        """Which it is of those that were made of one graph, as its tools were replaced."""
        self.forgotten = False
        """Whether it is not known any more, and no run of it may begin or go on."""
        self._child = ""
        self._starting: anyio.Lock | None = None
        self._asked = False
        self._started = False

    async def start(self, root: SupervisorRef) -> None:
        """Give its nodes a supervisor, once."""
        if self._started or self.forgotten:
            return
        if self._starting is None:
            self._starting = anyio.Lock()
        async with self._starting:
            if not self._started:
                again = f" ({self.generation})" if self.generation > 1 else ""
                self._child = f"graph {self.plan.name} {self.plan.version}{again}".replace("/", "|")
                nodes = ChildSpec("nodes", NodesActor, (self.scheduler.hands,))
                asked, self._asked = self._asked, True
                try:
                    await root.start_child(Supervisor.spec(self._child, [nodes]))
                except DuplicateChild:
                    if not asked:
                        raise
                    # One who was cancelled while it waited has left it there, up or on its way.
                self._started = True

    async def stop(self, root: SupervisorRef) -> None:
        """End its nodes for good: no run of it goes on."""
        if self._started:
            await root.terminate_child(self._child)
            await root.delete_child(self._child)


class Registry:
    """What is registered, and what making a node's crew needs."""

    def __init__(
        self, timers: Timers, tools: Any, random: Random, sources: Executor, executors: Iterable[str] = ()
    ) -> None:
        self._graphs: dict[tuple[str, str], Registered] = {}
        self._newest: dict[str, Registered] = {}
        self._replaced: list[Registered] = []
        self._timers = timers
        self._tools = tools
        self._random = random
        self._sources = sources
        self._names = {"loop", *executors}
        """What `run_in` may say, also before the executors are there."""
        self._executors: dict[str, tuple[Executor, Places]] = {}

    def open(self, executors: Mapping[str, tuple[Executor, int]]) -> None:
        """Run nodes by these executors, each with so many places."""
        # In place: graphs that were registered before hold it too.
        self._executors.update({name: (executor, Places(limit)) for name, (executor, limit) in executors.items()})

    def register(self, graph: Graph | Plan) -> Registered:
        """Make a graph known; raises `GraphInvalid`, or `GraphConflict` if its name and version are another's."""
        plan = graph if isinstance(graph, Plan) else graph.compile(self._tools)
        key = (plan.name, plan.version)
        known = self._graphs.get(key)
        if known is None:
            return self._make(plan, graph if isinstance(graph, Graph) else None)
        if known.plan is plan:
            return known
        if graph is known.graph and graph.revisions == known.revisions:
            # Nothing in it has changed but, perhaps, its tools.
            return known if _tools_in(plan) == _tools_in(known.plan) else self._replace(known, plan)
        if not same_plan(known.plan, plan):
            raise GraphConflict(*key)
        return known

    def compile_again(self) -> list[GraphInvalid]:
        """Have runs that begin from now on call the tools as they are now; those whom these do not fit keep theirs."""
        refused: list[GraphInvalid] = []
        for known in self.all():
            if known.graph is not None and known.graph.tool_names and known.graph.revisions == known.revisions:
                try:
                    plan = known.graph.compile(self._tools)
                    if _tools_in(plan) != _tools_in(known.plan):
                        self._replace(known, plan)
                except GraphInvalid as error:
                    refused.append(error)
        return refused

    def _replace(self, known: Registered, plan: Plan) -> Registered:
        """Another plan of the same graph, for runs that begin from now on."""
        new = self._make(plan, known.graph, known.generation + 1)
        new.scheduler.limits.update(known.scheduler.limits)
        if self._newest[plan.name] is known:
            self._newest[plan.name] = new
        # A run of it that has failed may be tried again for as long as somebody holds it: so its actors stay.
        self._replaced.append(known)
        return new

    def _make(self, plan: Plan, graph: Graph | None, generation: int = 1) -> Registered:
        self._check_executors(plan)
        hands = Hands(plan.name, self._timers)
        make = CrewMaker(self._timers, self._executors, hands)
        scheduler = Scheduler(plan, self._timers, hands, make, random=self._random.random, sources=self._sources)
        registered = Registered(plan, scheduler, graph, generation)
        self._graphs[plan.name, plan.version] = registered
        if generation == 1:
            self._make_newest(registered)
        return registered

    def _make_newest(self, known: Registered) -> None:
        """Have it mean the name alone, unless that means a higher version: as with tools, 1.10 comes after 1.9."""
        there = self._newest.get(known.plan.name)
        if there is None or version_order(known.plan.version) >= version_order(there.plan.version):
            self._newest[known.plan.name] = known

    def forget(self, known: Registered) -> None:
        """Know it no more."""
        del self._graphs[known.plan.name, known.plan.version]
        known.forgotten = True
        if self._newest[known.plan.name] is known:
            del self._newest[known.plan.name]
            for other in self.all():
                if other.plan.name == known.plan.name:
                    self._make_newest(other)

    def find(self, name: str, version: str | None = None) -> Registered:
        """The graph of this name and version; without one, the newest of the name."""
        found = self._newest.get(name) if version is None else self._graphs.get((name, version))
        if found is None:
            versions = [version for other, version in self._graphs if other == name]
            raise GraphNotFound(name, sorted(versions or self._newest), version if versions else None)
        return found

    def get(self, name: str, version: str) -> Registered | None:
        """The graph of this name and version, if it is known."""
        return self._graphs.get((name, version))

    def all(self) -> list[Registered]:
        """Every graph, in the order of their registration."""
        return list(self._graphs.values())

    def ever(self) -> list[Registered]:
        """The same with those whose tools were replaced, of which runs may be in flight."""
        return [*self._replaced, *self._graphs.values()]

    def generations(self, known: Registered) -> list[Registered]:
        """A graph with those that were replaced by it, of which runs may be in flight."""
        key = (known.plan.name, known.plan.version)
        return [one for one in self.ever() if (one.plan.name, one.plan.version) == key]

    def place(self, name: str) -> tuple[Executor, Places]:
        """An executor with its places."""
        return self._executors[name]

    def _check_executors(self, plan: Plan) -> None:
        known = self._names | self._executors.keys()
        problems = [
            GraphProblem(
                "bad_option",
                node.name,
                f"run_in={node.options.run_in!r} is no executor of this engine",
                f"known are {', '.join(sorted(known))}; others are given as Engine(executors={{...}})",
            )
            for node in all_nodes(plan)
            if isinstance(node.options, NodeSpec) and node.options.run_in not in known
        ]
        if problems:
            raise GraphInvalid.of(plan.name, problems)


def _tools_in(plan: Plan) -> list[int]:
    """The functions of the nodes that name a tool, each by its identity."""
    nodes = [node for node in all_nodes(plan) if getattr(node.options, "tool", None) is not None]
    return [id(node.function if node.map is None else node.map.worker) for node in nodes]


class CrewMaker:
    """Makes the crews of one graph's nodes, those of its subgraphs among them."""

    def __init__(
        self,
        timers: Timers,
        executors: Mapping[str, tuple[Executor, Places]],
        hands: Hands,
    ) -> None:
        self.gates: dict[PlanEdge, Gate] = {}
        self._timers = timers
        self._executors = executors
        self._hands = hands
        self._names: set[str] = set()

    def __call__(self, activation: Activation, answers: Scheduler) -> AnyCrew:
        """The crew of an activation's node."""
        node, run = activation.node, activation.run
        spec: NodeSpec = node.decl.options
        label = label_of(run.plan, node, inside=run.parent is not None)
        limits = answers.limits.get(label) or Limits.of(spec)
        body, places = self._body(node, spec, carries=run.plan.carries)
        options: dict[str, Any] = {} if limits.batch is None else {"batch": limits.batch}
        crew = (Crew if limits.batch is None else BatchCrew)(
            node,
            self._unused(label),
            body,
            answers,
            self._timers,
            self._hands,
            concurrency=limits.concurrency,
            rate=limits.rate,
            places=places,
            gates_in=self._gates(node.ins if node.kind == "function" else ()),
            gates_out=tuple(self._gates(node.outs).values()),
            **options,
        )
        return crew if limits.breaker is None and limits.cache is None else GuardedCrew(crew, limits)

    def _gates(self, edges: Iterable[PlanEdge]) -> dict[PlanEdge, Gate]:
        """The gates of those edges that have one; a map's items are no tokens on its edges."""
        found = [edge for edge in edges if edge.capacity is not None and edge.loop is None]
        for edge in found:
            if edge not in self.gates:
                self.gates[edge] = Gate(edge.name, edge.capacity or 1)
        return {edge: self.gates[edge] for edge in found}

    def _body(self, node: PlanNode, spec: NodeSpec, *, carries: bool) -> tuple[Body, Places | None]:
        is_map = node.decl.map is not None
        function: Callable[..., Any] | Any = node.decl.map.worker if node.decl.map is not None else node.decl.function
        if not carries:
            return self._plain_body(function, node, is_map, carries=carries)

        def make(called: Callable[..., Any]) -> Body:
            return self._plain_body(called, node, is_map, carries=carries)[0]

        def of(other: PlanNode) -> Body:
            return self._body(other, other.decl.options, carries=True)[0]

        return FileBody(function, spec, is_map, make, of), self._plain_body(function, node, is_map, carries=carries)[1]

    def _plain_body(
        self, function: Callable[..., Any], node: PlanNode, is_map: bool, *, carries: bool
    ) -> tuple[Body, Places | None]:
        spec: NodeSpec = node.decl.options
        if spec.is_async and spec.run_in in ("loop", "thread"):
            return AsyncBody(*spec.call.bound(function), is_map), None
        if spec.run_in == "loop":
            return LoopBody(*spec.call.bound(function), is_map), None
        executor, places = self._executors[spec.run_in]
        if executor.capabilities.shares_memory:
            return ElsewhereBody(*spec.call.bound(function), is_map, executor), places
        # Of a graph that carries files, what a node returns is looked at here.
        may = spec.keep_remote and executor.capabilities.keeps_remote and not is_map and not carries
        keeps = may and stays_on(node)
        return RemoteBody(function, spec.call, is_map, executor, spec.resources, keeps), places

    def _unused(self, name: str) -> str:
        found, number = name, 1
        while found in self._names:
            number += 1
            found = f"{name} {number}"
        self._names.add(found)
        return found
