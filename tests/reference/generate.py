"""Random graphs, valid by construction, and a count of what they are good for.

One generator serves two sources of chance: a seeded `random.Random` (fast, for long runs) and
hypothesis (for its shrinking). Nothing is drawn and then thrown away: where a graph would be
invalid or would mean different things to different readers, it is changed and the change counted.
"""

import random
from collections import Counter
from collections.abc import Callable, Sequence
from typing import Any, Protocol, TypeVar

from attrs import evolve, frozen
from hypothesis import strategies as st

from .spec import (
    END,
    STOP,
    Change,
    Choice,
    Condition,
    Edge,
    Fault,
    GraphSpec,
    Jump,
    Map,
    Node,
    Retry,
    Value,
)
from .topology import Topology

T = TypeVar("T")


class Chance(Protocol):
    def below(self, n: int) -> int: ...
    def pick(self, options: Sequence[T]) -> T: ...
    def yes(self, percent: int) -> bool: ...


class Dice:
    """Chance from a callable that draws an integer from 0 to n - 1; 0 is always the plainest outcome."""

    def __init__(self, draw: Callable[[int], int]) -> None:
        self.below = draw

    def pick(self, options: Sequence[T]) -> T:
        return options[self.below(len(options))]

    def yes(self, percent: int) -> bool:
        return self.below(100) >= 100 - percent


@frozen
class Profile:
    """What may occur; percentages. `exact` promises (see compare.py) hold without `joins` and `stop`."""

    nodes: int = 8
    back_edges: int = 55  # … that there are any
    failures: int = 30  # … of graphs with faults in them
    maps: int = 15
    joins: tuple[str | int, ...] = ("all",)
    stop: int = 0
    plain: bool = False  # no choices: what waits at joins is known beforehand, unless something fails


EXACT = Profile()
SMALL = Profile(nodes=5)
ANY = Profile(nodes=6, joins=("any",))
PLAIN = Profile(nodes=9, back_edges=0, failures=60, plain=True)
RACY = Profile(nodes=5, joins=("all", "any", "first", 2), stop=30, failures=20)

NUMBERS = ("x", "y", "z")
REDUCED = (("notes", "append"), ("total", "twice"))


class Generator:
    def __init__(self, chance: Chance, profile: Profile) -> None:
        self.chance, self.profile = chance, profile
        self.changed: Counter[str] = Counter()

    def spec(self) -> GraphSpec:
        chance = self.chance
        size = 2 + max(chance.below(self.profile.nodes - 1), chance.below(self.profile.nodes - 1))
        names = [chr(ord("a") + index) for index in range(size)]
        self.numbers = NUMBERS[: 1 + chance.below(3)]
        self.typed = chance.yes(25)
        self.faulty = chance.yes(self.profile.failures)
        entries = [names[0]] + [name for name in names[1:] if chance.yes(10)]
        routes = self.routes(names, entries)
        nodes = tuple(self.node(name) for name in names)
        spec = GraphSpec(
            nodes=self.with_gotos(nodes, routes, names),
            routes=tuple(routes),
            entries=tuple(entries),
            initial=self.initial(),
            reducers=REDUCED,
            typed=self.typed,
            max_iterations=2 + chance.below(4),
            on_failure="continue" if chance.yes(60) else "cancel",
            conflicts="last" if chance.yes(50) else "error",
        )
        spec = self.with_joins(self.with_limits(self.with_exits(self.with_repairs(spec))))
        return without_numbers(spec) if self.profile.joins == ("any",) else spec

    # --- state and nodes

    def initial(self) -> tuple[tuple[str, Any], ...]:
        rows = tuple((index, index + 1) for index in range(self.chance.below(4)))
        keys: dict[str, Any] = {key: self.chance.below(3) for key in self.numbers}
        if self.typed or self.chance.yes(50):  # else a reducer's first contribution becomes the value
            keys |= {"notes": ("start",), "total": 1}
        return (*keys.items(), ("rows", rows), ("got", ()))

    def condition(self) -> Condition:
        chance, key = self.chance, self.chance.pick((*self.numbers, "notes", "total"))
        mod = 2 + chance.below(2)
        kinds = (Condition("mod", key, chance.below(mod), mod), Condition("less", key, 2 + chance.below(5)))
        return kinds[chance.yes(60)]

    def value(self) -> Value:
        chance, key = self.chance, self.chance.pick(self.numbers)
        kinds = (
            Value("plus", key, 1 + chance.below(2), 5),
            Value("const", c=chance.below(3)),
            Value("mix", c=1, mod=5),
        )
        return chance.pick(kinds)

    def changes(self) -> tuple[Change, ...]:
        chance, found = self.chance, {}
        if chance.yes(70):
            found["notes"] = Change("notes", Value("tag"))
        if chance.yes(30):
            found["total"] = Change("total", self.value())
        for key in self.numbers:
            if chance.yes(35):
                found[key] = Change(key, self.value())
        if chance.yes(8):
            found["notes"] = Change("notes", Value("tags", chance.pick(self.numbers)), replace=True)
        if chance.yes(4):
            found["total"] = Change("total", self.value(), replace=True)
        return tuple(found.values())

    def node(self, name: str) -> Node:
        chance = self.chance
        node = Node(name, self.changes())
        if chance.yes(self.profile.maps):
            return evolve(node, changes=(), map=self.map(), retry=self.retry())
        if chance.yes(15):
            node = evolve(node, form="whole")
        elif not self.typed and chance.yes(15) and not any(c.key in dict(REDUCED) for c in node.changes):
            node = evolve(node, form="inplace")
        if self.faulty and chance.yes(30):
            node = evolve(node, faults=(self.fault(),), retry=self.retry())
        elif self.faulty and self.typed and node.form == "mapping" and chance.yes(10):
            node = evolve(node, changes=(*node.changes, Change("nonsense", Value("const"))))
        return node

    def map(self) -> Map:
        chance = self.chance
        found = Map("got", chance.pick(("rows", None)), chance.pick(self.numbers), 1 + chance.below(3))
        if chance.yes(40 if self.faulty else 15):
            policy = chance.pick(("fail", "skip", "keep")) if self.faulty else chance.pick(("skip", "keep"))
            found = evolve(found, bad=chance.below(3), bad_attempts=chance.pick((9, 1)), on_item_error=policy)
        return evolve(found, into="notes") if chance.yes(10) and found.bad is None else found

    def fault(self) -> Fault:
        chance = self.chance
        errors = tuple(chance.pick(("ValueError", "KeyError")) for _ in range(1 + chance.below(3)))
        return Fault(chance.pick((None, 1, 2)), errors)

    def retry(self) -> tuple[Retry, ...]:
        chance = self.chance
        rules = [Retry(1 + chance.below(3), chance.pick(("Exception", "ValueError", "LookupError")))]
        if chance.yes(20):
            rules.append(Retry(3))
        return tuple(rules) if chance.yes(50) else ()

    # --- edges

    def routes(self, names: Sequence[str], entries: Sequence[str]) -> list[Edge | Choice]:
        """Everyone is reached from somebody declared before; then more edges, forward and back."""
        chance = self.chance
        pairs: list[tuple[str, str]] = []
        for position, name in enumerate(names[1:], start=1):
            if name not in entries or chance.yes(50):
                pairs.append((names[position - 1 - chance.below(min(position, 4))], name))
        for _ in range(chance.below(2 * len(names))):
            first, second = sorted((chance.below(len(names)), chance.below(len(names))))
            if first != second:
                pairs.append((names[first], names[second]))
        back: set[tuple[str, str]] = set()
        if chance.yes(self.profile.back_edges):
            for _ in range(1 + chance.below(3)):
                first, second = sorted((chance.below(len(names)), chance.below(len(names))))
                back.add((names[second], names[first]))
        ordered = [*dict.fromkeys(pairs), *sorted(back)]
        if chance.yes(50):
            ordered.sort(key=lambda pair: chance.below(1000))
        return self.kinds(ordered, back)

    def kinds(self, pairs: Sequence[tuple[str, str]], back: set[tuple[str, str]]) -> list[Edge | Choice]:
        """Say of each pair how it is routed; edges back are conditional, or all would be endless forks."""
        chance, routes, choosing = self.chance, list[Edge | Choice](), dict[str, list[str]]()
        for pair in pairs:
            source, target = pair
            roll = 0 if self.profile.plain else chance.below(100)
            if roll < (8 if pair in back else 76):
                routes.append(Edge(source, target))
            elif roll < (75 if pair in back else 87):
                routes.append(Edge(source, target, "when", self.condition()))
                if chance.yes(5):  # conditional edges between the same nodes are separate edges
                    routes.append(Edge(source, target, "when", self.condition()))
            elif roll < 95:
                if source not in choosing:
                    routes.append(Choice(source, (), "", ()))
                choosing.setdefault(source, []).append(target)
            else:
                routes.append(Edge(source, target, "error", on_error=chance.pick(("Exception", "ValueError"))))
        return [self.choice(r.node, choosing[r.node]) if isinstance(r, Choice) else r for r in routes]

    def choice(self, node: str, targets: list[str]) -> Choice:
        chance = self.chance
        if len(targets) == 1 or chance.yes(40):
            targets = [*targets, END]
        answers: list[str | tuple[str, ...] | None] = list(targets)
        if chance.yes(30):
            answers.append(tuple(targets))
        if chance.yes(10):
            answers.append(chance.pick((None, ())))
        key = chance.pick((*self.numbers, "notes"))
        return Choice(node, tuple(targets), key, tuple(answers), labels=chance.yes(30))

    def with_gotos(
        self, nodes: Sequence[Node], routes: Sequence[Edge | Choice], names: Sequence[str]
    ) -> tuple[Node, ...]:
        """Some nodes may jump: to new places, or along their plain and conditional edges."""
        chance, found = self.chance, []
        for node in nodes:
            if node.map is None and not self.profile.plain and chance.yes(6):
                taken = {
                    r.target for r in routes if isinstance(r, Edge) and r.source == node.name and r.kind == "error"
                }
                taken |= {t for r in routes if isinstance(r, Choice) and r.node == node.name for t in r.targets}
                free = [name for name in (*names, END) if name not in taken]
                targets = tuple(dict.fromkeys(chance.pick(free) for _ in range(1 + chance.below(2)))) if free else ()
                if targets:
                    node = evolve(node, form="mapping", goto=targets, jump=Jump(self.condition(), targets))
            found.append(node)
        return tuple(found)

    # --- what makes it valid, and the same to every reader

    def with_repairs(self, spec: GraphSpec) -> GraphSpec:
        """Some of the nodes that may fail get an error edge, if need be to the end."""
        chance, routes = self.chance, list(spec.routes)
        for node in spec.nodes:
            fails = node.faults or (node.map is not None and node.map.bad is not None)
            if fails and chance.yes(60):
                used = {r.target for r in routes if isinstance(r, Edge) and r.source == node.name}
                used |= {t for r in routes if isinstance(r, Choice) and r.node == node.name for t in r.targets}
                free = [name for name in (END, *(n.name for n in spec.nodes)) if name not in {*used, *node.goto}]
                if free:
                    error = chance.pick(("Exception", "ValueError", "LookupError"))
                    routes.append(Edge(node.name, chance.pick(free), "error", on_error=error))
        return evolve(spec, routes=tuple(routes))

    def with_exits(self, spec: GraphSpec) -> GraphSpec:
        """Conditional nodes get an `otherwise` (mostly), and every node a way out of the graph."""
        chance, routes = self.chance, list(spec.routes)
        for node in spec.nodes:
            mine = [r for r in routes if (r.source if isinstance(r, Edge) else r.node) == node.name]
            conditional = [r for r in mine if isinstance(r, Choice) or r.kind == "when"]
            plain = any(isinstance(r, Edge) and r.kind == "plain" for r in mine)
            if conditional and not plain and chance.yes(85 if self.faulty else 97):
                used = {t for r in mine for t in ([r.target] if isinstance(r, Edge) else r.targets)}
                later = [n.name for n in spec.nodes if n.name > node.name and n.name not in {*used, *node.goto}]
                target = chance.pick(later) if later and chance.yes(50) else END
                if target not in used:
                    routes.append(Edge(node.name, target, "otherwise"))
            elif chance.yes(self.profile.stop // 3) and not node.goto:
                routes.append(Edge(node.name, STOP, "when", self.condition()))
            elif conditional and self.faulty and chance.yes(10) and not node.goto:
                routes.append(Edge(node.name, END, "when", Condition("boom")))
        spec = evolve(spec, routes=tuple(routes))
        while stuck := _stuck(spec):  # last declared first: that is where a loop is left
            self.changed["exit added"] += 1
            spec = evolve(spec, routes=(*spec.routes, Edge(stuck[-1], END)))
        return spec

    def with_limits(self, spec: GraphSpec) -> GraphSpec:
        """Some edges in cycles get limits of their own, mostly those that close them."""
        graph, routes = Topology(spec), list(spec.routes)
        for position, route in enumerate(routes):
            if not isinstance(route, Edge) or route.target in (END, STOP):
                continue
            in_cycle = graph.components[route.source] == graph.components[route.target]
            closes = route.target <= route.source
            if in_cycle and graph.reaches(route.target, route.source) and self.chance.yes(85 if closes else 15):
                on_limit = self.chance.pick((None, None, "exit", "fail"))
                routes[position] = evolve(route, max_iterations=self.chance.below(4) + 1, on_limit=on_limit)
        limited = evolve(spec, routes=tuple(routes))
        if set(Topology(limited).limits) - _own(limited) != _closing_without_limited(limited):
            # Where the graph's own limit falls depends on how "left without a limit" is read.
            self.changed["own limits dropped"] += 1
            return spec
        return limited

    def with_joins(self, spec: GraphSpec) -> GraphSpec:
        if self.profile.joins == ("all",):
            return spec
        into, nodes = Topology(spec).into, []
        for node in spec.nodes:
            join = self.chance.pick(self.profile.joins) if len(into[node.name]) > 1 else "all"
            nodes.append(evolve(node, join=join))
        return evolve(spec, nodes=tuple(nodes))


def without_numbers(spec: GraphSpec) -> GraphSpec:
    """The same graph where nothing depends on an activation's number or on the order of branches.

    With `any` joins timing shows in both; the rest of the outcome must not depend on it.
    """
    nodes = []
    for node in spec.nodes:
        changes = [
            evolve(c, value=evolve(c.value, kind="name", c=0)) if c.value.kind == "tag" else c for c in node.changes
        ]
        changes = [evolve(c, value=evolve(c.value, c=0)) if c.value.kind == "mix" else c for c in changes]
        faults = tuple(evolve(fault, number=None) for fault in node.faults)
        nodes.append(evolve(node, changes=tuple(c for c in changes if not c.replace), faults=faults))
    return evolve(spec, nodes=tuple(nodes), reducers=(("notes", "append"), ("total", "sum")), conflicts="error")


def _stuck(spec: GraphSpec) -> list[str]:
    """Nodes from which no END and no dead end can be reached by ordinary edges."""
    after: dict[str, set[str]] = {node.name: set() for node in spec.nodes}
    for route in spec.routes:
        if isinstance(route, Choice):
            after[route.node] |= set(route.targets)
        elif route.kind != "error":
            after[route.source].add(route.target)
    leaving = {END, STOP} | {n.name for n in spec.nodes if not after[n.name] and not n.goto}
    while grown := {name for name, targets in after.items() if targets & leaving} - leaving:
        leaving |= grown
    return [node.name for node in spec.nodes if node.name not in leaving]


def _own(spec: GraphSpec) -> set[int]:
    return {edge.index for edge in Topology(spec).edges if edge.max_iterations is not None}


def _closing_without_limited(spec: GraphSpec) -> set[int]:
    """The other reading: leave limited edges out, then walk, from the entries and then from what is left."""
    graph = Topology(spec)
    closing: set[int] = set()
    done: set[str] = set()

    def walk(node: str, path: tuple[str, ...]) -> None:
        for edge in graph.out[node]:
            if edge.max_iterations is None and edge.target not in (END, STOP):
                if edge.target in (*path, node):
                    closing.add(edge.index)
                elif edge.target not in done:
                    walk(edge.target, (*path, node))
        done.add(node)

    for name in (*spec.entries, *graph.names):
        if name not in done:
            walk(name, ())
    return closing


def random_spec(seed: int, profile: Profile = EXACT, changed: Counter[str] | None = None) -> GraphSpec:
    """The same seed and profile give the same graph."""
    generator = Generator(Dice(random.Random(seed).randrange), profile)
    spec = generator.spec()
    if changed is not None:
        changed += generator.changed
    return spec


@st.composite
def specs(draw: st.DrawFn, profile: Profile = EXACT) -> GraphSpec:
    """The same graphs for hypothesis."""
    return Generator(Dice(lambda n: draw(st.integers(0, n - 1))), profile).spec()
