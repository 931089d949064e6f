"""Which edges an activation takes, and what becomes of its loop counts on the way. Pure functions.

Routers and conditions are the author's code: whatever they raise goes through.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import Any

from .errors import LoopLimit, NoRoute, UnknownRoute, noted
from .plan import Plan, PlanChoice, PlanEdge, PlanNode
from .retry import matches
from .tokens import Counts

Route = tuple[Sequence[PlanEdge], Sequence[PlanEdge]]
"""The edges taken, in order of declaration, and those not taken because of their limit."""

_NOTHING: Route = ((), ())


def at_limit(edge: PlanEdge, counts: Counts | None) -> bool:
    loop = edge.loop
    if loop is None:
        return False
    count = counts.get(loop.index, 0) if counts else 0
    assert edge.limit is not None
    return count >= edge.limit


def choose(node: PlanNode, counts: Counts | None, look: Callable[[], Any]) -> Route:
    """The edges taken after a node succeeded; `look()` gives the state after its update."""
    if not node.decided:
        return _NOTHING  # Only gotos and error edges, or nothing at all: the branch ends.
    if not node.conditional:
        return _allowed(node, node.plains, counts)
    state = look()
    if not node.choices and not node.plains:
        return _first_whens(node, state, counts)
    wanted = set(node.plains)
    for choice in node.choices:
        wanted.update(chosen(node, choice, state))
    wanted.update(edge for edge in node.whens if _holds(edge, state))
    taken, limits = _select(wanted, counts)
    if node.otherwise and not any(edge.kind != "plain" for edge in taken):
        more, more_limits = _select(node.otherwise, counts)
        taken, limits = sorted([*taken, *more], key=_index), limits + more_limits
    return _some(node, taken, limits)


def _first_whens(node: PlanNode, state: Any, counts: Counts | None) -> Route:
    """The usual branch: edges with conditions and perhaps an `otherwise`, nothing else."""
    wanted = [edge for edge in node.whens if _holds(edge, state)]
    limits: Sequence[PlanEdge] = ()
    for edge in wanted:
        if edge.loop is not None:
            wanted, limits = _select(wanted, counts)
            break
    if wanted:
        return wanted, limits
    for edge in node.otherwise:
        if edge.loop is not None:
            taken, more = _select(node.otherwise, counts)
            return _some(node, taken, [*limits, *more])
    return _some(node, node.otherwise, limits)


def _holds(edge: PlanEdge, state: Any) -> bool:
    assert edge.condition is not None
    try:
        return bool(edge.condition(state))
    except Exception as error:
        noted(error, f"raised by the condition of {edge.name}")
        raise


def _allowed(node: PlanNode, edges: Sequence[PlanEdge], counts: Counts | None) -> Route:
    for edge in edges:
        if edge.loop is not None:
            return _some(node, *_select(edges, counts))
    return edges, ()


def _select(edges: Iterable[PlanEdge], counts: Counts | None) -> tuple[list[PlanEdge], list[PlanEdge]]:
    """Of the edges that would be taken those that may be, and those at their limit, in order."""
    taken: list[PlanEdge] = []
    limits: list[PlanEdge] = []
    for edge in sorted(edges, key=_index):
        if not at_limit(edge, counts):
            taken.append(edge)
        elif edge.on_limit == "fail":
            raise limit_error(edge)
        else:
            limits.append(edge)
    return taken, limits


def limit_error(edge: PlanEdge) -> LoopLimit:
    assert edge.limit is not None
    return LoopLimit(edge.source_name, edge.name, edge.limit)


def _some(node: PlanNode, taken: Sequence[PlanEdge], limits: Sequence[PlanEdge]) -> Route:
    if not taken:
        tried = [edge.target_name for edge in node.outs if edge.kind not in ("error", "goto") and not edge.implicit]
        raise NoRoute(node.name, tried)
    return taken, limits


def _index(edge: PlanEdge) -> int:
    return edge.index


def chosen(node: PlanNode, choice: PlanChoice, state: Any) -> list[PlanEdge]:
    """The edges that a router's answer names."""
    try:
        answer = choice.router(state)
    except Exception as error:
        noted(error, f"raised by the router of {node.name!r}")
        raise
    if answer is None:
        return []
    names = [answer] if isinstance(answer, str) else answer
    if not isinstance(names, list | tuple | set | frozenset):
        raise UnknownRoute(node.name, answer, list(choice.by_label))
    found = []
    for name in names:
        edge = choice.by_label.get(name) if isinstance(name, str) else None
        if edge is None:
            raise UnknownRoute(node.name, name, list(choice.by_label))
        found.append(edge)
    return found


def follow(node: PlanNode, names: Sequence[str], counts: Counts | None) -> Route:
    """The edges that a `Goto` names; at its limit it is `LoopLimit`, whatever the edge says."""
    taken = set()
    for name in names:
        edge = node.gotos.get(name)
        if edge is None:
            raise UnknownRoute(node.name, name, list(node.gotos))
        taken.add(edge)
    in_order = sorted(taken, key=_index)
    for edge in in_order:
        if at_limit(edge, counts):
            raise limit_error(edge)
    if not in_order:
        raise NoRoute(node.name, ["Goto()"])
    return in_order, ()


def error_way(node: PlanNode, error: BaseException, counts: Counts | None) -> PlanEdge | None:
    """The first error edge that matches, if there is one that is not at its limit."""
    for edge in node.errors:
        if edge.on_error is not None and matches(error, edge.on_error) and not at_limit(edge, counts):
            return edge
    return None


def travel(plan: Plan, counts: Counts | None, edge: PlanEdge) -> Counts | None:
    """The loop counts of a token after it has taken an edge: kept inside a loop, forgotten on leaving it."""
    loop = edge.loop
    if counts is None:
        return None if loop is None else {loop.index: 1}
    if not edge.cyclic:
        return None  # it leads out of all of them
    stays = edge.stays
    if stays is None:
        stays = edge.stays = {}
    for index in counts:
        inside = stays.get(index)
        if inside is None:
            inside = stays[index] = plan.loops[index].keeps(edge)
        if not inside:
            counts = {index: count for index, count in counts.items() if plan.loops[index].keeps(edge)}
            break
    if loop is not None:
        return {**counts, loop.index: counts.get(loop.index, 0) + 1}
    return counts or None


def largest(all_counts: Iterable[Counts | None]) -> Counts | None:
    """What a join makes of its tokens' counts."""
    merged: Counts = {}
    for counts in all_counts:
        if counts:
            for index, count in counts.items():
                if count > merged.get(index, 0):
                    merged[index] = count
    return merged or None
