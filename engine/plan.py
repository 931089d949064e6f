"""The frozen plan of a graph: what the author declared, turned into indices, adjacency and reach.

Declarations (`GraphDecl` and what it holds) are what the author's side hands
over; names, in the order in which they were written. `compile_plan` turns them
into a `Plan`: nodes and edges by index, each node's ways in and out, components,
loops. It refuses nothing: faults are found before (on the declarations) or after
(on the plan, which knows cycles and reach), all at once, by whoever compiles.

What could be quadratic (reach masks per join edge, bodies of loops) is worked
out when first asked for and kept. Nothing else of a plan ever changes, so runs
share it freely within one event loop.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any, Final, Literal

import attrs

from .filestate import FilesInput
from .retry import ErrorTypes, Retry
from .state import StateType
from .theory import Order, Reach, closing_edges
from .values import END, STOP

NodeKind = Literal["function", "subgraph", "map", "wait"]
EdgeKind = Literal["entry", "plain", "when", "otherwise", "choice", "error", "goto"]
JoinPolicy = Literal["all", "any", "first"] | int
Condition = Callable[[Any], object]
Router = Callable[[Any], object]

# --- declarations ---------------------------------------------------------------------------------------


@attrs.frozen(kw_only=True)
class SubgraphDecl:
    """A graph as a node: its plan and how keys pass between the two states."""

    plan: Plan
    enter: Mapping[str, str] = {}
    """Parent's key -> child's key, where they differ."""
    leave: Mapping[str, str] = {}
    """Child's key -> parent's key, where they differ."""


@attrs.frozen(kw_only=True)
class MapDecl:
    """A worker run once for each item. `worker` is a function, or the plan of a worker subgraph."""

    worker: Callable[..., Any] | Plan
    over: str | Callable[[Any], Any]
    into: str
    item: str | None = None
    concurrency: int = 64
    on_item_error: Literal["fail", "skip", "keep"] = "fail"


@attrs.frozen(kw_only=True)
class WaitDecl:
    """Parks its token until one of these signals comes."""

    signals: tuple[str, ...]
    into: str
    timeout: float | None = None


@attrs.frozen(kw_only=True)
class NodeDecl:
    """One node as written. `options` is the scheduler's business and passed through unread."""

    name: str
    kind: NodeKind = "function"
    join: JoinPolicy = "all"
    rest: Literal["absorb", "cancel"] = "absorb"
    goto: tuple[str, ...] = ()
    retry: tuple[Retry, ...] = ()
    timeout: float | None = None
    view: StateType | None = None
    """What the node is given, where that is less than the graph's state."""
    function: Callable[..., Any] | None = None
    subgraph: SubgraphDecl | None = None
    map: MapDecl | None = None
    wait: WaitDecl | None = None
    options: Any = None


@attrs.frozen(kw_only=True)
class EdgeDecl:
    """One edge as written: plain, or with exactly one of `when`, `otherwise`, `on_error`."""

    source: str
    target: str
    when: Condition | str | None = None
    """Text until it is compiled."""
    otherwise: bool = False
    on_error: ErrorTypes | None = None
    max_iterations: int | None = None
    on_limit: Literal["exit", "fail"] | None = None
    capacity: int | None = None


@attrs.frozen(kw_only=True)
class ChoiceDecl:
    """A router and what its answers mean: label -> target, in order of declaration."""

    source: str
    router: Router | str
    """Text until it is compiled."""
    targets: Mapping[str, str]


@attrs.frozen(kw_only=True)
class GraphDecl:
    """A whole graph as written. Edges and choices stand in one list, in the order of their declaration."""

    name: str
    version: str = "1"
    state: StateType
    nodes: tuple[NodeDecl, ...]
    edges: tuple[EdgeDecl | ChoiceDecl, ...]
    entries: tuple[str, ...]
    max_iterations: int = 1000
    max_activations: int | None = None
    on_failure: Literal["cancel", "continue"] = "cancel"
    conflicts: Literal["error", "last"] = "error"
    history: int = 10_000
    deadline: float | None = None
    carries: bool = False
    """Files travel through it, or through a graph that it is inside of, or that is inside of it."""


# --- the plan -------------------------------------------------------------------------------------------

JOIN_NONE: Final = 0
"""One incoming edge, or `any`: every token runs the node by itself."""
JOIN_ALL: Final = 1
JOIN_COUNT: Final = 2
"""`first` and `k`: the k-th arrival of a wave runs the node."""


@attrs.define(eq=False, slots=True, repr=False)
class PlanEdge:
    """One edge. `source` is None for an entry; `target` is None for `END` and `STOP`."""

    index: int
    kind: EdgeKind
    source: PlanNode | None
    target: PlanNode | None
    target_name: str
    condition: Condition | None = None
    on_error: ErrorTypes | None = None
    limit: int | None = None
    on_limit: Literal["exit", "fail"] = "fail"
    capacity: int | None = None
    slot: int = -1
    """Its place among the target's incoming edges."""
    implicit: bool = False
    """Not written: a router may always answer `END` or `STOP`."""
    cyclic: bool = False
    """Both ends lie in one component: taking it can lead back to where it began."""
    loop: Loop | None = None
    """The loop that this edge closes, if it has a limit."""
    stays: dict[int, bool] | None = None
    """Loops -> whether who takes this edge stays in them, as far as anybody has asked."""

    @property
    def source_name(self) -> str:
        return self.source.name if self.source is not None else "START"

    @property
    def name(self) -> str:
        return f"{self.source_name} -> {self.target_name}"

    def __repr__(self) -> str:
        return f"<PlanEdge {self.index} {self.name} ({self.kind})>"


@attrs.define(eq=False, slots=True, repr=False)
class PlanChoice:
    """A router with its edges: one per distinct target, and every label that leads there."""

    router: Router
    by_label: dict[str, PlanEdge]
    edges: tuple[PlanEdge, ...]


@attrs.define(eq=False, slots=True, repr=False)
class PlanNode:
    """One node with its ways in and out, sorted by how they are decided."""

    index: int
    name: str
    kind: NodeKind
    decl: NodeDecl
    component: int
    rank: int
    cyclic: bool
    """It lies on some cycle."""
    join: int = JOIN_NONE
    needed: int = 1
    """For `first` and `k`: how many arrivals run it."""
    rest_cancel: bool = False
    ins: tuple[PlanEdge, ...] = ()
    outs: tuple[PlanEdge, ...] = ()
    """All ways out in order of declaration, error edges included; goto edges last."""
    plains: tuple[PlanEdge, ...] = ()
    whens: tuple[PlanEdge, ...] = ()
    choices: tuple[PlanChoice, ...] = ()
    otherwise: tuple[PlanEdge, ...] = ()
    errors: tuple[PlanEdge, ...] = ()
    gotos: dict[str, PlanEdge] = attrs.field(factory=dict)
    decided: bool = False
    """It has edges that are decided: to take none of them is `NoRoute`."""
    conditional: bool = False
    """Some of its edges depend on the state."""
    straight: PlanEdge | None = None
    """Its one way on, if that is unconditional, unlimited and into a `simple` node: the fast path."""
    always: tuple[PlanEdge, ...] | None = None
    """The edges it takes whatever the state and the counts, if that is so."""
    moves: tuple[PlanEdge, ...] | None = None
    """The same edges, if each leads to a function that runs at once or to an `all` join: the short way of a fork."""
    may_stop: bool = False
    simple: bool = False
    """A run's only token, when it comes here, runs a function at once."""
    input: StateType = attrs.field(default=None)
    """What it is given: the graph's state, or its view of it."""
    retry: tuple[Retry, ...] = ()
    timeout: float | None = None

    def __repr__(self) -> str:
        return f"<PlanNode {self.index} {self.name}>"


@attrs.define(eq=False, slots=True, repr=False)
class Loop:
    """What an edge with a limit closes. The body is worked out when the edge is first taken."""

    index: int
    edge: PlanEdge
    _order: Order
    _body: frozenset[int] | None = None

    @property
    def body(self) -> frozenset[int]:
        if self._body is None:
            assert self.edge.source is not None
            assert self.edge.target is not None
            self._body = self._order.loop_body(self.edge.source.index, self.edge.target.index)
        return self._body

    def keeps(self, edge: PlanEdge) -> bool:
        """Does a token that takes this edge stay inside the loop?"""
        body = self.body
        source, target = edge.source, edge.target
        return source is not None and target is not None and source.index in body and target.index in body


class Plan:
    """A compiled graph. See `compile_plan`."""

    __slots__ = (
        "_bound",
        "_component_reach",
        "_edge_reach",
        "absorbs",
        "by_name",
        "carries",
        "conflicts_last",
        "continue_on_failure",
        "decl",
        "edges",
        "entries",
        "loops",
        "name",
        "nodes",
        "order",
        "signals",
        "state",
        "sure",
        "version",
    )

    def __init__(self, decl: GraphDecl, nodes: tuple[PlanNode, ...], edges: tuple[PlanEdge, ...], order: Order) -> None:
        self.decl = decl
        self.name = decl.name
        self.version = decl.version
        self.state = decl.state
        self.nodes = nodes
        self.edges = edges
        self.order = order
        self.by_name = {node.name: node for node in nodes}
        self.entries = tuple(edge for edge in edges if edge.kind == "entry")
        self.loops = tuple(edge.loop for edge in edges if edge.loop is not None)
        self.conflicts_last = decl.conflicts == "last"
        self.carries = decl.carries
        self.continue_on_failure = decl.on_failure == "continue"
        self.signals = frozenset(_signals(decl))
        self.absorbs = any(node.join == JOIN_COUNT for node in nodes)
        """Has joins at which tokens may end without effect."""
        self.sure = _is_sure(nodes, order)
        """Unless something fails, a token comes to each of its joins by each way: none has to ask what it waits for."""
        self._bound: dict[int, dict[int, frozenset[int]]] = {}
        self._edge_reach: dict[int, Reach] = {}
        self._component_reach: dict[int, Reach] = {}

    def reach(self, edge: PlanEdge) -> Reach:
        """The nodes from which this edge's source can be reached without passing its target."""
        found = self._edge_reach.get(edge.index)
        if found is None:
            assert edge.target is not None
            sources = [] if edge.source is None else [edge.source.index]
            found = self._edge_reach[edge.index] = Reach(self.order, sources, edge.target.index)
        return found

    def reach_component(self, component: int) -> Reach:
        """The nodes from which this component can be reached by any path, its own members among them."""
        found = self._component_reach.get(component)
        if found is None:
            found = self._component_reach[component] = Reach(self.order, self.order.members[component])
        return found

    def bound_for(self, join: PlanNode) -> dict[int, frozenset[int]]:
        """The nodes that can do nothing but arrive at this join, with the slots that they can use."""
        found = self._bound.get(join.index)
        if found is None:
            found = self._bound[join.index] = _bound_for(join)
        return found

    def __repr__(self) -> str:
        return f"<Plan {self.name!r} {self.version!r}, {len(self.nodes)} nodes, {len(self.edges)} edges>"


def _is_sure(nodes: Sequence[PlanNode], order: Order) -> bool:
    """Whether every join is an `all` join that each of its ways brings exactly one token, unless something fails."""
    if not any(node.join for node in nodes):
        return False  # nothing to be sure of
    once: set[int] = set()
    for index in order.node_of_rank:
        node = nodes[index]
        runs_once = node.join == JOIN_ALL or (node.join == JOIN_NONE and len(node.ins) == 1)
        if runs_once and not node.cyclic and all(_surely_taken(edge, once) for edge in node.ins):
            once.add(index)
        elif node.join:
            return False
    return True


def _surely_taken(edge: PlanEdge, once: set[int]) -> bool:
    """Whether it is an entry, or its source runs once and then takes it, whatever the state."""
    source = edge.source
    if source is None:
        return True
    return edge.kind == "plain" and source.always is not None and not source.gotos and source.index in once


def _bound_for(join: PlanNode) -> dict[int, frozenset[int]]:
    before: dict[int, PlanNode] = {}
    found = [edge.source for edge in join.ins if edge.source is not None]
    while found:
        node = found.pop()
        if node.index not in before and node is not join:
            before[node.index] = node
            found.extend(edge.source for edge in node.ins if edge.source is not None)
    bound = {index: node for index, node in before.items() if node.decided}
    changed = True
    while changed:
        escaping = [
            node
            for node in bound.values()
            if any(e.target is None or (e.target is not join and e.target.index not in bound) for e in node.outs)
        ]
        for node in escaping:
            del bound[node.index]
        changed = bool(escaping)
    slots: dict[int, set[int]] = {index: set() for index in bound}
    changed = True
    while changed:
        changed = False
        for node in bound.values():
            mine = slots[node.index]
            before_size = len(mine)
            for edge in node.outs:
                if edge.target is join:
                    mine.add(edge.slot)
                elif edge.target is not None:
                    mine |= slots[edge.target.index]
            changed = changed or len(mine) != before_size
    return {index: frozenset(found_slots) for index, found_slots in slots.items()}


def takers_of(plan: Plan, signal: str) -> Iterator[tuple[StateType, str] | None]:
    """The key that each wait for a signal puts its payload under; None where anything may come."""
    for decl in plan.decl.nodes:
        if decl.wait is not None and signal in decl.wait.signals:
            # One of several comes as a `Signal`, and what goes to a reducer may be of another type than its key.
            plain = len(decl.wait.signals) == 1 and decl.wait.into not in plan.decl.state.reducers
            yield (plan.decl.state, decl.wait.into) if plain else None
        if decl.subgraph is not None:
            yield from takers_of(decl.subgraph.plan, signal)
        if decl.map is not None and isinstance(decl.map.worker, Plan):
            yield from takers_of(decl.map.worker, signal)


def _signals(decl: GraphDecl) -> Iterable[str]:
    for node in decl.nodes:
        if node.wait is not None:
            yield from node.wait.signals
        if node.subgraph is not None:
            yield from node.subgraph.plan.signals
        if node.map is not None and isinstance(node.map.worker, Plan):
            yield from node.map.worker.signals


def all_nodes(plan: Plan) -> Iterator[NodeDecl]:
    """Its nodes and those of the graphs inside it."""
    for node in plan.decl.nodes:
        yield node
        inner = node.subgraph.plan if node.subgraph is not None else node.map and node.map.worker
        if isinstance(inner, Plan):
            yield from all_nodes(inner)


def compile_plan(decl: GraphDecl) -> Plan:
    """The plan of a graph whose names are sound: every edge's ends exist, every option is in range.

    Linear in nodes and edges. What needs the plan to be judged (a limit on an edge
    that is not `cyclic`, nodes out of reach, joins that a loop feeds) is left to
    whoever compiles for an author.
    """
    names = {node.name: index for index, node in enumerate(decl.nodes)}
    rows = _edge_rows(decl)
    successors: list[list[int]] = [[] for _ in decl.nodes]
    for row in rows:
        if row.source is not None and row.target in names:
            successors[names[row.source]].append(names[row.target])
    order = Order(successors)
    nodes = tuple(_plan_node(decl, node, index, order) for index, node in enumerate(decl.nodes))
    edges = tuple(_plan_edge(index, row, names, nodes) for index, row in enumerate(rows))
    _limit_loops(decl, nodes, edges, order)
    _wire(rows, nodes, edges)
    return Plan(decl, nodes, edges, order)


@attrs.define(slots=True)
class _Row:
    """An edge before it has its indices; `written` is the declaration it came from."""

    kind: EdgeKind
    source: str | None
    target: str
    written: EdgeDecl | ChoiceDecl | None = None
    implicit: bool = False


def _edge_rows(decl: GraphDecl) -> list[_Row]:
    """Every edge in the order that joins and merges go by: entries, explicit ones, then gotos."""
    rows = [_Row("entry", None, name) for name in decl.entries]
    written: set[tuple[str, str]] = set()
    for edge in decl.edges:
        if isinstance(edge, ChoiceDecl):
            rows += [_Row("choice", edge.source, target, edge) for target in dict.fromkeys(edge.targets.values())]
            written.update((edge.source, target) for target in edge.targets.values())
        else:
            rows.append(_Row(_kind_of(edge), edge.source, edge.target, edge))
            written.add((edge.source, edge.target))
    for node in decl.nodes:
        rows += [
            _Row("goto", node.name, target) for target in dict.fromkeys(node.goto) if (node.name, target) not in written
        ]
    for edge in decl.edges:
        if isinstance(edge, ChoiceDecl):
            named = set(edge.targets.values())
            rows += [_Row("choice", edge.source, t, edge, True) for t in (END, STOP) if t not in named]
    return rows


def _kind_of(edge: EdgeDecl) -> EdgeKind:
    if edge.on_error is not None:
        return "error"
    if edge.when is not None:
        return "when"
    return "otherwise" if edge.otherwise else "plain"


def _plan_node(graph: GraphDecl, decl: NodeDecl, index: int, order: Order) -> PlanNode:
    component = order.component[index]
    given = decl.view or graph.state
    return PlanNode(
        index=index,
        name=decl.name,
        kind=decl.kind,
        decl=decl,
        component=component,
        rank=order.rank[index],
        cyclic=order.cyclic[component],
        rest_cancel=decl.rest == "cancel",
        retry=decl.retry,
        timeout=decl.timeout,
        input=FilesInput(given) if graph.carries else given,
    )


def _plan_edge(index: int, row: _Row, names: Mapping[str, int], nodes: Sequence[PlanNode]) -> PlanEdge:
    source = None if row.source is None else nodes[names[row.source]]
    target = None if row.target in (END, STOP) else nodes[names[row.target]]
    cyclic = source is not None and target is not None and source.component == target.component
    edge = PlanEdge(index, row.kind, source, target, row.target, cyclic=cyclic, implicit=row.implicit)
    if isinstance(row.written, EdgeDecl):
        assert not isinstance(row.written.when, str)
        edge.condition = row.written.when
        edge.on_error = row.written.on_error
        edge.limit = row.written.max_iterations
        # A limit that the author gave is a way out; one that only the graph gives is a fault when it is hit.
        edge.on_limit = row.written.on_limit or ("fail" if row.written.max_iterations is None else "exit")
        edge.capacity = row.written.capacity
    return edge


def _limit_loops(decl: GraphDecl, nodes: Sequence[PlanNode], edges: Sequence[PlanEdge], order: Order) -> None:
    """Give every cycle a limit: the author's, else the graph's on the edges that close it."""
    if any(order.cyclic):
        outs: list[list[tuple[int, int]]] = [[] for _ in nodes]
        for edge in edges:
            if edge.source is not None and edge.target is not None and edge.limit is None:
                outs[edge.source.index].append((edge.index, edge.target.index))
        roots = [edge.target.index for edge in edges if edge.kind == "entry" and edge.target is not None]
        for index in closing_edges(len(nodes), roots, outs):
            edges[index].limit = decl.max_iterations
    loops = 0
    for edge in edges:
        if edge.limit is not None and edge.cyclic:
            edge.loop = Loop(loops, edge, order)
            loops += 1


def _wire(rows: Sequence[_Row], nodes: Sequence[PlanNode], edges: Sequence[PlanEdge]) -> None:
    """Tell each node its edges, sorted by how they are decided."""
    ins: list[list[PlanEdge]] = [[] for _ in nodes]
    outs: list[list[PlanEdge]] = [[] for _ in nodes]
    choices: dict[int, dict[int, tuple[ChoiceDecl, list[PlanEdge]]]] = {}
    for row, edge in zip(rows, edges, strict=True):
        if edge.target is not None:
            edge.slot = len(ins[edge.target.index])
            ins[edge.target.index].append(edge)
        if edge.source is None:
            continue
        outs[edge.source.index].append(edge)
        if isinstance(row.written, ChoiceDecl):
            of_node = choices.setdefault(edge.source.index, {})
            of_node.setdefault(id(row.written), (row.written, []))[1].append(edge)
    for node, node_ins, node_outs in zip(nodes, ins, outs, strict=True):
        node.ins = tuple(node_ins)
        _wire_outs(node, tuple(node_outs))
        if node.index in choices:
            node.choices = tuple(_plan_choice(*written) for written in choices[node.index].values())
        node.decided = bool(node.plains or node.whens or node.otherwise or node.choices)
        node.conditional = bool(node.whens or node.choices or node.otherwise)
        if node.plains and not node.conditional and all(edge.loop is None for edge in node.plains):
            node.always = node.plains
        node.may_stop = any(edge.target_name == STOP for edge in node.outs)
        _set_join(node)
        node.simple = node.join != JOIN_COUNT and node.kind == "function"
    for node in nodes:
        node.straight = _straight_way(node)
        if node.always is not None and all(_is_move(edge.target) for edge in node.always):
            node.moves = node.always


def _wire_outs(node: PlanNode, outs: tuple[PlanEdge, ...]) -> None:
    def of(*kinds: EdgeKind) -> tuple[PlanEdge, ...]:
        return tuple(edge for edge in outs if edge.kind in kinds)

    if not outs:
        return
    node.outs = outs
    if len(outs) == 1 and outs[0].kind == "plain":
        node.plains = outs
    else:
        node.plains, node.whens, node.otherwise = of("plain"), of("when"), of("otherwise")
        node.errors = of("error")
    for name in node.decl.goto:
        along = [edge for edge in outs if edge.target_name == name]
        node.gotos[name] = next((edge for edge in along if edge.kind == "plain"), along[0])


def _plan_choice(written: ChoiceDecl, edges: list[PlanEdge]) -> PlanChoice:
    by_target = {edge.target_name: edge for edge in edges}
    # A target may be named as itself too, whatever its label, unless a label means something else.
    by_label = by_target | {label: by_target[target] for label, target in written.targets.items()}
    assert not isinstance(written.router, str)
    return PlanChoice(written.router, by_label, tuple(edges))


def _straight_way(node: PlanNode) -> PlanEdge | None:
    if len(node.plains) != 1 or node.conditional:
        return None
    edge = node.plains[0]
    target = edge.target
    return edge if target is not None and target.simple and edge.loop is None else None


def _is_move(target: PlanNode | None) -> bool:
    return target is not None and (target.join == JOIN_ALL or (target.join == JOIN_NONE and target.kind == "function"))


def _set_join(node: PlanNode) -> None:
    policy = node.decl.join
    if len(node.ins) < 2 or policy == "any":
        return
    if policy == "all":
        node.join, node.needed = JOIN_ALL, len(node.ins)
    else:
        node.join, node.needed = JOIN_COUNT, 1 if policy == "first" else policy
