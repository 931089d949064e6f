"""The graphs of an engine: made known, found, defined as data, forgotten, and held to limits.

The registry has those that are known here. What the store keeps of them, and what other engines have made known, comes
together with it here.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from actors import SupervisorRef

from .books import Books
from .door import Door
from .errors import EngineError, GraphInUse, GraphNotFound, UnknownNode
from .graph import Graph
from .limits import LimitChanges, Limits, change_faults, changed, labelled
from .locks import Locks
from .logs import about
from .plan import Plan, PlanNode
from .registry import Registered, Registry
from .submitting import refuse
from .tally import Tally

if TYPE_CHECKING:
    from .durable import Durable
    from .fleet import Fleet
    from .returning import Returning

logger = logging.getLogger("engine")


class Catalogue:
    """Knows the graphs of an engine, by name and version."""

    def __init__(
        self,
        registry: Registry,
        tools: Any,
        door: Door,
        books: Books,
        tally: Tally,
        locks: Locks,
        durable: Durable | None,
        *,
        recovers: bool,
    ) -> None:
        self.returning: Returning | None = None
        """Set once the engine is open, if it has a store."""
        self.fleet: Fleet | None = None
        """Set if it shares that."""
        self._registry = registry
        self._tools = tools
        self._door = door
        self._books = books
        self._tally = tally
        self._locks = locks
        self._durable = durable
        self._recovers = recovers

    # -- made known

    def register(self, graph: Graph) -> Registered:
        """Make a graph known; what the store has of its runs goes on."""
        given: Any = graph
        if callable(given) and not isinstance(given, Graph | Plan):
            name = getattr(given, "__name__", "node")
            raise TypeError(
                f"expected a graph or the name of one, found the function {name!r}; to run it alone: "
                f"Graph({name!r}).add_node({name!r}, {name}).set_entry_point({name!r})"
            )
        known = self._registry.register(graph)
        if self._door.open:
            self.recover(known)
        return known

    def recover(self, known: Registered) -> None:
        """Let its unfinished runs go on, unless that was not wanted."""
        if self.returning is not None and self._recovers:
            self.returning.recover(known)

    def know_again(self) -> None:
        """Make the graphs known whose definitions the store keeps; those that cannot be are told in the log."""
        assert self._durable is not None
        for (name, version), data in self._durable.kept.items():
            if self._registry.get(name, version) is not None:
                continue
            try:
                self._registry.register(Graph.from_dict(data, tools=self._tools))
            except EngineError as error:
                logger.warning(
                    "graph %r version %r, which the store keeps, is not known: %s",
                    name,
                    version,
                    error,
                    extra=about(graph=name),
                )

    async def learn(self) -> None:
        """Know the graphs that other engines have defined since."""
        assert self._durable is not None
        before = len(self._registry.all())
        await self._durable.read_definitions()
        self.know_again()
        if self.fleet is not None and len(self._registry.all()) > before:
            self.fleet.graph_has_come()

    async def define(self, data: Mapping[str, Any]) -> Graph:
        """Make a graph known from its definition as data, and keep that in the store, if there is one."""
        graph = Graph.from_dict(data, tools=self._tools)
        async with self._locks.of("graph", graph.name):
            there = self._registry.get(graph.name, graph.version)
            known = self._registry.register(graph)
            if self._durable is not None and (there is None or there.forgotten):
                try:
                    await self._durable.keep_definition(known.plan, dict(data))
                except BaseException:
                    self._registry.forget(known)
                    raise
                if self.fleet is not None:
                    self.fleet.graph_is_defined()
            self.recover(known)
        return known.graph or graph

    async def forget(self, name: str, version: str, root: SupervisorRef) -> None:
        """Know a graph no more, in the store either."""
        async with self._locks.of("graph", name):
            known = self._registry.find(name, version)
            unfinished = None if self._durable is None else await self._durable.unfinished_of(name, version)
            # Nothing waits from here until it is unknown: a submission under way sees that it is.
            active = self._books.of_graph(name, version)
            if active or unfinished is not None:
                raise GraphInUse(name, version, active[0].id if active else str(unfinished))
            self._registry.forget(known)
            self._tally.keep_ended(known)
            await known.stop(root)
            if self._durable is not None and (name, version) in self._durable.kept:
                await self._durable.forget_definition(known.plan)

    # -- found

    async def find(self, name: str, version: str | None) -> Registered:
        """The graph of this name and version, or its newest, though it may be another engine that knows it."""
        try:
            return self._registry.find(name, version)
        except GraphNotFound:
            if self.fleet is None:
                raise
        await self.learn()
        return self._registry.find(name, version)

    def check_known(self, registered: Registered) -> None:
        """Raise `GraphNotFound` if it has been forgotten."""
        if registered.forgotten:
            raise GraphNotFound(registered.plan.name, [name for name, _ in self.names()])

    def names(self) -> list[tuple[str, str]]:
        """Name and version of each graph, in the order of their registration."""
        return [(known.plan.name, known.plan.version) for known in self._registry.all()]

    # -- held to limits

    def limits(self, graph: Graph | str, node: str, version: str | None) -> Limits:
        """What holds for a node at present, over all runs."""
        known, found = self._node_of(graph, node, version)
        return known.scheduler.limits.get(node) or Limits.of(found.decl.options)

    def set_limits(self, graph: Graph | str, node: str, version: str | None, changes: LimitChanges) -> Limits:
        """Change what holds for a node over all runs, from now on."""
        known, found = self._node_of(graph, node, version)
        refuse("set_limits", change_faults(found, changes))
        limits = changed(self.limits(graph, node, version), changes)
        for one in self._registry.generations(known):
            one.scheduler.set_limits(node, limits)
        return limits

    def _node_of(self, graph: Graph | str, node: str, version: str | None) -> tuple[Registered, PlanNode]:
        known = self._registry.find(graph, version) if isinstance(graph, str) else self._registry.register(graph)
        nodes = dict(labelled(known.plan))
        if node not in nodes:
            raise UnknownNode(node, list(nodes))
        return known, nodes[node]
