"""What can be said about a graph without running it: edges in order, reach, components, loops."""

from functools import cache

from attrs import frozen

from .spec import END, STOP, Choice, Condition, GraphSpec


@frozen
class Channel:
    """One edge of a graph as the rules count them: entries first, then what was drawn, then gotos."""

    index: int
    source: str | None  # None: being an entry point is an incoming edge too
    target: str
    kind: str  # entry | plain | when | otherwise | error | choice | goto
    when: Condition | None = None
    on_error: str = ""
    choice: Choice | None = None
    max_iterations: int | None = None
    on_limit: str = "exit"


class Topology:
    def __init__(self, spec: GraphSpec) -> None:
        self.spec = spec
        self.names = [node.name for node in spec.nodes]
        self.edges = _edges(spec)
        self.into = {name: [e for e in self.edges if e.target == name] for name in self.names}
        self.out = {name: [e for e in self.edges if e.source == name] for name in self.names}
        self.components = self._components()
        limited = [edge for edge in self.edges if edge.max_iterations is not None]
        self.limits = {edge.index: (edge.max_iterations, edge.on_limit) for edge in limited}
        for edge in self._closing_unlimited_cycles():
            self.limits[edge.index] = (spec.max_iterations, "fail")
        self.loops = {index: self._loop(self.edges[index]) for index in self.limits}
        self.reaches = cache(self._reaches)

    def successors(self, node: str) -> list[str]:
        return [edge.target for edge in self.out[node] if edge.target not in (END, STOP)]

    def _reaches(self, start: str, goal: str, avoiding: str | None = None, unlimited: bool = False) -> bool:
        """Whether a path leads from start to goal; a path of no edges counts."""
        found, todo = set(), [start]
        while todo:
            node = todo.pop()
            if node == avoiding or node in found or node in (END, STOP):
                continue
            found.add(node)
            todo += [e.target for e in self.out[node] if not (unlimited and e.max_iterations is not None)]
        return goal in found

    def _components(self) -> dict[str, int]:
        """The strongly connected component of each node, numbered in topological order."""
        reach = {a: {b for b in self.names if self._reaches(a, b)} for a in self.names}
        groups = {frozenset(b for b in reach[a] if a in reach[b]) for a in self.names}
        # Who reaches more comes first: what reaches a component reaches all that the component does.
        order = sorted(groups, key=lambda group: -max(len(reach[name]) for name in group))
        return {name: position for position, group in enumerate(order) for name in group}

    def _loop(self, edge: Channel) -> frozenset[str]:
        """The target and the nodes of its component that reach the source without passing the target."""
        source, head = edge.source, edge.target
        assert source is not None
        same = [name for name in self.names if self.components[name] == self.components[head]]
        return frozenset(name for name in same if name == head or self._reaches(name, source, avoiding=head))

    def _closing_unlimited_cycles(self) -> list[Channel]:
        """Edges that close, in a depth-first walk from the entries, a cycle without a limit of its own."""
        closing: list[Channel] = []
        done: set[str] = set()

        def walk(node: str, path: tuple[str, ...]) -> None:
            for edge in self.out[node]:
                if edge.target in (END, STOP):
                    continue
                if edge.target in (*path, node):
                    if edge.max_iterations is None and self._reaches(edge.target, node, unlimited=True):
                        closing.append(edge)
                elif edge.target not in done:
                    walk(edge.target, (*path, node))
            done.add(node)

        for entry in self.spec.entries:
            if entry not in done:
                walk(entry, ())
        return closing


def _edges(spec: GraphSpec) -> list[Channel]:
    found: list[Channel] = []

    def add(source: str | None, target: str, kind: str, **more: object) -> None:
        found.append(Channel(len(found), source, target, kind, **more))  # type: ignore[arg-type]

    for name in spec.entries:
        add(None, name, "entry")
    for route in spec.routes:
        if isinstance(route, Choice):
            for target in route.targets:
                add(route.node, target, "choice", choice=route)
        else:
            limit = {"max_iterations": route.max_iterations, "on_limit": route.on_limit or "exit"}
            add(route.source, route.target, route.kind, when=route.when, on_error=route.on_error, **limit)
    for node in spec.nodes:
        for target in node.goto:
            if not any(e.source == node.name and e.target == target for e in found):
                add(node.name, target, "goto")
    return found


topology = cache(Topology)
