"""What can be wrong with a graph whose names are sound: judged on its plan.

Each check is a function from the plan to problems, linear in the graph. Errors
are graphs that cannot do what their author means in any run; warnings are those
that probably do not.
"""

from __future__ import annotations

import ast
import inspect
import textwrap
from collections.abc import Callable, Iterable, Iterator
from typing import Any

import attrs

from .errors import GraphProblem
from .plan import JOIN_ALL, JOIN_COUNT, ChoiceDecl, Plan, PlanEdge, PlanNode
from .typecheck import fits, type_name
from .values import STOP
from .views import View

MOST_ENDS = 64  # Above this many ends their pairs are not compared: reading their sources takes too long.


@attrs.define
class Loose:
    """Nodes at which edges with other faults hang, which are not blamed for what those edges would have done."""

    sources: set[str] = attrs.field(factory=set)
    targets: set[str] = attrs.field(factory=set)
    anywhere: bool = False


def structure(plan: Plan, loose: Loose) -> Iterator[GraphProblem]:
    """Every problem and warning about how the nodes hang together."""
    yield from unreachable(plan, loose)
    yield from no_exit(plan, loose)
    yield from too_large_joins(plan, loose)
    yield from limits_outside_loops(plan)
    yield from capacities_without_a_hold(plan)
    yield from mismatched_channels(plan)
    yield from exclusive_joins(plan)
    yield from joins_fed_by_loops(plan)
    yield from conflicts_at_end(plan)


def _warning(code: str, where: str, message: str, hint: str) -> GraphProblem:
    return GraphProblem(code, where, message, hint, "warning")


def _spread(starts: Iterable[PlanNode], onward: Callable[[PlanNode], Iterable[PlanNode | None]]) -> set[int]:
    """The indices of all nodes met from `starts`, themselves among them."""
    pending = list(starts)
    seen = {node.index for node in pending}
    while pending:
        for node in onward(pending.pop()):
            if node is not None and node.index not in seen:
                seen.add(node.index)
                pending.append(node)
    return seen


def _targets(node: PlanNode) -> list[PlanNode | None]:
    return [edge.target for edge in node.outs]


# --- errors ---------------------------------------------------------------------------------------------


def unreachable(plan: Plan, loose: Loose) -> Iterator[GraphProblem]:
    """Nodes to which no way leads from the entry points."""
    if not plan.entries or loose.anywhere:
        return
    starts = [edge.target for edge in plan.entries if edge.target is not None]
    starts += [node for node in plan.nodes if node.name in loose.targets]
    seen = _spread(starts, _targets)
    if len(seen) < len(plan.nodes):
        for node in plan.nodes:
            if node.index not in seen:
                hint = "draw an edge to it, make it an entry point, or remove it"
                yield GraphProblem("unreachable", node.name, "no way leads here from the entry points", hint)


def no_exit(plan: Plan, loose: Loose) -> Iterator[GraphProblem]:
    """Loops that nothing leaves: a token in them can never come to an end."""
    ends = [node for node in plan.nodes if _may_end(node) or node.name in loose.sources]
    if len(ends) == len(plan.nodes):
        return
    leaving = _spread(ends, lambda node: [edge.source for edge in node.ins])
    reported: set[int] = set()
    for node in plan.nodes:
        group = plan.order.members[node.component]
        if node.index in leaving or node.component in reported:
            continue
        # Report the loop itself, not every node on the way to it.
        if any(edge.target and edge.target.component != node.component for edge in node.outs):
            continue
        if not all(_stays(plan.nodes[member]) for member in group):
            continue
        reported.add(node.component)
        round_trip = " -> ".join(plan.nodes[member].name for member in (*group[:6], group[0]))
        hint = f"draw an edge to END or to another node, e.g. add_edge({node.name!r}, END, when=...)"
        yield GraphProblem("no_exit", node.name, f"no way leads out of the loop {round_trip}", hint)


def _stays(node: PlanNode) -> bool:
    return all(edge.target is not None and edge.target.component == node.component for edge in node.outs)


def _may_end(node: PlanNode) -> bool:
    """A branch may end here. Any router may say END; a node with only goto and error edges may just return."""
    return not node.decided or bool(node.choices) or any(edge.target is None for edge in node.outs)


def too_large_joins(plan: Plan, loose: Loose) -> Iterator[GraphProblem]:
    """Joins that wait for more arrivals than they have edges."""
    for node in plan.nodes:
        join, edges = node.decl.join, len(node.ins)
        if type(join) is int and join > edges and node.name not in loose.targets and edges:
            message = f"it waits for {join} arrivals, but has {edges} incoming edge{'s' * (edges != 1)}"
            yield GraphProblem("bad_join", node.name, message, f"use join={edges}, or draw the missing edges")


def limits_outside_loops(plan: Plan) -> Iterator[GraphProblem]:
    """Limits on edges that close no cycle."""
    for edge in plan.decl.edges:
        if isinstance(edge, ChoiceDecl) or (edge.max_iterations is None and edge.on_limit is None):
            continue
        source, target = plan.by_name[edge.source], plan.by_name.get(edge.target)
        if target is None or source.component != target.component:
            option = "max_iterations" if edge.max_iterations is not None else "on_limit"
            where = f"{edge.source} -> {edge.target}"
            hint = "put it on the edge that leads back, or leave it out"
            yield GraphProblem("limit_outside_loop", where, f"{option} on an edge that closes no loop", hint)


def capacities_without_a_hold(plan: Plan) -> Iterator[GraphProblem]:
    """Capacities on edges out of what holds no worker, so that nothing could wait there to start."""
    for edge in plan.decl.edges:
        if isinstance(edge, ChoiceDecl) or edge.capacity is None:
            continue
        source = plan.by_name[edge.source]
        if source.kind != "function":
            what = {"subgraph": "a subgraph", "map": "a map", "wait": "a wait"}[source.kind]
            hint = "bound the node before it, or its own concurrency"
            where = f"{edge.source} -> {edge.target}"
            yield GraphProblem("bad_option", where, f"capacity on an edge out of {what}, which cannot be held", hint)


def mismatched_channels(plan: Plan) -> Iterator[GraphProblem]:
    """Edges whose source declares a key as one type and whose target reads it as another.

    With a declared state both are held against it already; this is for open ones.
    """
    if getattr(plan.state, "closed", False):
        return
    gives = {node.index: found for node in plan.nodes if (found := node.decl.options.gives)}
    if not gives:
        return
    for edge in plan.edges:
        if edge.source is None or edge.target is None or edge.kind == "error":
            continue
        view = edge.target.decl.view
        wants = view.narrow.keys if isinstance(view, View) else {}
        for name, tp in gives.get(edge.source.index, {}).items():
            if name in wants and not fits(tp, wants[name].type):
                message = (
                    f"{edge.source.name!r} gives {name!r} as {type_name(tp)}, "
                    f"{edge.target.name!r} wants it as {type_name(wants[name].type)}"
                )
                yield GraphProblem("type_mismatch", edge.name, message, "make the two types agree")


# --- warnings -------------------------------------------------------------------------------------------


def exclusive_joins(plan: Plan) -> Iterator[GraphProblem]:
    """Joins for k arrivals where fewer branches can be on their way at once."""
    for node in plan.nodes:
        if node.join == JOIN_COUNT and 1 < node.needed <= len(node.ins):
            most = _most_arrivals(node)
            if most < node.needed:
                message = f"it waits for {node.needed} arrivals, but at most {most} of its branches are taken at once"
                hint = f"use join={most} or join='all'" if most > 1 else "use join='all' or join='any'"
                yield _warning("exclusive_join", node.name, message, hint)


def _most_arrivals(join: PlanNode) -> int:
    """How many of a join's branches can run at once, of those that one decision starts."""
    free = 0
    starts: dict[int, set[int]] = {}
    decider: dict[int, PlanNode] = {}
    for edge in join.ins:
        start = _decision(edge)
        if start is None or start.source is None:
            free += 1
        else:
            starts.setdefault(start.source.index, set()).add(start.index)
            decider[start.source.index] = start.source
    return free + sum(_most_taken(decider[index], edges) for index, edges in starts.items())


def _decision(edge: PlanEdge) -> PlanEdge | None:
    """Up a branch to the edge that decides whether it is taken; None if nothing simple does."""
    seen: set[int] = set()
    while edge.kind == "plain":
        source = edge.source
        if source is None or len(source.ins) != 1 or source.index in seen:
            return None
        seen.add(source.index)
        edge = source.ins[0]
    return edge if edge.kind in ("when", "otherwise", "choice", "error") else None


def _most_taken(node: PlanNode, edges: set[int]) -> int:
    """How many of these edges out of a node one activation can take; of a router's, one."""

    def among(group: Iterable[PlanEdge]) -> int:
        return sum(edge.index in edges for edge in group)

    chosen = among(node.whens) + sum(min(1, among(choice.edges)) for choice in node.choices)
    return max(chosen, among(node.otherwise), min(1, among(node.errors)))


def joins_fed_by_loops(plan: Plan) -> Iterator[GraphProblem]:
    """Joins that a loop sends several tokens to without passing through them: they pair by order, not by round."""
    leaks = [edge for edge in plan.edges if _leaks(edge)]
    if not leaks:
        return
    wet = _spread([edge.target for edge in leaks if edge.target is not None], _targets)
    leaking = {edge.index for edge in leaks}
    for node in plan.nodes:
        if node.join != JOIN_ALL:
            continue
        fed = [
            edge.source.name
            for edge in node.ins
            if edge.source is not None
            and edge.source.component != node.component
            and (edge.index in leaking or edge.source.index in wet)
        ]
        if len(set(fed)) > 1:
            names = ", ".join(map(repr, fed))
            message = f"a loop feeds it through {names}: it pairs their tokens by order, not by round"
            yield _warning("loop_feeds_join", node.name, message, "make the loop's body a subgraph, or join inside it")


def _leaks(edge: PlanEdge) -> bool:
    """It leaves a loop in the same step in which another edge goes on with the loop."""
    source = edge.source
    if source is None or not source.cyclic or edge.target is None or edge.target.component == source.component:
        return False
    return any(other.cyclic and _together(edge, other) for other in source.outs)


def _together(one: PlanEdge, other: PlanEdge) -> bool:
    """Whether one activation can take both edges of its node (a router is taken to choose one)."""
    kinds = {one.kind, other.kind}
    if "error" in kinds or "goto" in kinds or one is other:
        return False
    if "otherwise" in kinds:
        return kinds <= {"otherwise", "plain"}
    return kinds != {"choice"} or not any(
        one in choice.edges and other in choice.edges for choice in (one.source.choices if one.source else ())
    )


def conflicts_at_end(plan: Plan) -> Iterator[GraphProblem]:
    """Two ends that are both reached for certain and both write a key for certain."""
    if plan.conflicts_last:
        return
    sure = _spread(
        [edge.target for edge in plan.entries if edge.target is not None],
        lambda node: [edge.target for edge in node.plains],
    )
    ends = [node for node in plan.nodes if node.index in sure and not _goes_on(node)]
    if not 1 < len(ends) <= MOST_ENDS:
        return
    writer: dict[str, PlanNode] = {}
    for node in ends:
        for key in sorted(written_keys(node)):
            if key in plan.state.reducers:
                continue
            if key in writer:
                message = f"it and {writer[key].name!r} both end the run and write {key!r}"
                hint = f"give {key!r} a reducer, join the two, or use conflicts='last'"
                yield _warning("write_conflict_at_end", node.name, message, hint)
            else:
                writer[key] = node


def _goes_on(node: PlanNode) -> bool:
    ways = (*node.plains, *node.whens, *node.otherwise, *node.gotos.values())
    return bool(node.choices) or any(edge.target is not None or edge.target_name == STOP for edge in ways)


def written_keys(node: PlanNode) -> frozenset[str]:
    """The keys that every activation of a node writes: declared, or read off its function."""
    if node.decl.map is not None:
        return frozenset({node.decl.map.into})
    if node.decl.wait is not None:
        return frozenset({node.decl.wait.into})
    if node.decl.options is not None and node.decl.options.produces is not None:
        return frozenset(node.decl.options.produces)
    return keys_returned(node.decl.function) if node.decl.function is not None else frozenset()


def keys_returned(function: Any) -> frozenset[str]:
    """The keys in every dict that a function returns, if all it returns are dicts written out; else none."""
    try:
        tree = ast.parse(textwrap.dedent(inspect.getsource(inspect.unwrap(function)))).body[0]
    except (OSError, TypeError, SyntaxError, IndexError, ValueError):
        return frozenset()
    if not isinstance(tree, ast.FunctionDef | ast.AsyncFunctionDef) or not isinstance(tree.body[-1], ast.Return):
        return frozenset()
    found = [_literal_keys(node.value) for node in _returns(tree)]
    return frozenset.intersection(*found) if found else frozenset()


def _returns(tree: ast.AST) -> Iterator[ast.Return]:
    for node in ast.iter_child_nodes(tree):
        if isinstance(node, ast.Return):
            yield node
        elif not isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda | ast.ClassDef):
            yield from _returns(node)


def _literal_keys(value: ast.expr | None) -> frozenset[str]:
    if not isinstance(value, ast.Dict):
        return frozenset()
    return frozenset(key.value for key in value.keys if isinstance(key, ast.Constant) and isinstance(key.value, str))
