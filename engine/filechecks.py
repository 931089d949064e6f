"""Can what comes along an edge be taken where it leads? Judged when a graph is compiled, on media types alone.

A node that says it makes files gives those; any other passes on what it was given. So what can come along each edge is
known before anything runs, except for what the run itself is given and what a subgraph makes.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from .errors import GraphProblem
from .filetyping import Made, Makes, Takes, goes_to
from .mediatypes import ANYTHING, media_range
from .plan import JOIN_ALL, Plan, PlanEdge, PlanNode

Flow = dict[tuple[str | None, str, str], Made]
"""By who made it, its role and its range."""


def _made(node: str | None, what: Makes) -> Flow:
    return {(node, what.role, what.range): Made(node, what)}


def flows(plan: Plan) -> tuple[list[Flow], list[Flow]]:
    """What can come into each node, and what can go out of it; by the node's index."""
    into: list[Flow] = [{} for _ in plan.nodes]
    out: list[Flow] = [_own(node) for node in plan.nodes]
    pending: list[PlanNode] = []
    for edge in plan.entries:
        if edge.target is not None:
            into[edge.target.index].update(_made(None, Makes(ANYTHING)))
    pending += plan.nodes
    while pending:
        node = pending.pop()
        if not _is_maker(node):
            out[node.index].update(into[node.index])
        for edge in node.outs:
            target = edge.target
            if target is None:
                continue
            given = along(edge, into, out)
            there = into[target.index]
            if not given.keys() <= there.keys():
                there.update(given)
                pending.append(target)
    return into, out


def along(edge: PlanEdge, into: Sequence[Flow], out: Sequence[Flow]) -> Flow:
    """What can come along an edge: of an error edge what its source was given."""
    if edge.source is None:
        return _made(None, Makes(ANYTHING))
    return into[edge.source.index] if edge.kind == "error" else out[edge.source.index]


def _is_maker(node: PlanNode) -> bool:
    return bool(_makes(node)) or node.decl.subgraph is not None


def _makes(node: PlanNode) -> tuple[Makes, ...]:
    return getattr(node.decl.options, "makes", ())


def _takes(node: PlanNode) -> tuple[Takes, ...]:
    return getattr(node.decl.options, "takes", ())


def _own(node: PlanNode) -> Flow:
    found: Flow = {}
    for what in _makes(node):
        found |= _made(node.name, what)
    if node.decl.subgraph is not None:
        found |= _made(node.name, Makes(ANYTHING))  # its nodes say more, but any of them may come last
    return found


def file_channels(plan: Plan) -> Iterator[GraphProblem]:
    """Edges along which nothing that comes can be taken, parameters that nothing can go to, or too much."""
    into, out = flows(plan)
    sure = _sure(plan)
    for node in plan.nodes:
        takes = _takes(node)
        if not takes:
            continue
        refused = [edge for edge in node.ins if edge.source is not None and _is_refused(along(edge, into, out), takes)]
        for edge in refused:
            given = " and ".join(map(str, along(edge, into, out).values()))
            wanted = ", ".join(map(str, takes))
            message = f"nothing that comes along it can be taken: {given}; {node.name!r} takes {wanted}"
            hint = "let the one produce what the other accepts, or lead the edge elsewhere"
            yield GraphProblem("type_mismatch", edge.name, message, hint)
        if not refused:
            yield from _missing(node, takes, into[node.index])
        yield from _ambiguous(sure, node, takes, into, out)


def _is_refused(given: Flow, takes: Sequence[Takes]) -> bool:
    return bool(given) and not any(goes_to(takes, one.what) for one in given.values())


def _missing(node: PlanNode, takes: Sequence[Takes], given: Flow) -> Iterator[GraphProblem]:
    if not given:
        return
    for to in takes:
        if not to.many and not to.optional and not any(to in goes_to(takes, one.what) for one in given.values()):
            there = ", ".join(map(str, given.values()))
            message = f"no file that comes can go to its parameter {to}; what comes is {there}"
            yield GraphProblem("type_mismatch", node.name, message, "let something before it produce one")


def _ambiguous(
    sure: set[int], node: PlanNode, takes: Sequence[Takes], into: Sequence[Flow], out: Sequence[Flow]
) -> Iterator[GraphProblem]:
    for one in into[node.index].values():
        found = [] if media_range(one.what.range).is_range else goes_to(takes, one.what)
        if len(found) > 1:
            candidates = " and ".join(map(str, found))
            message = f"{one} can go to {candidates}, and nothing says to which"
            hint = "give the parameters different media types, or name one as the file's role is named"
            yield GraphProblem("type_mismatch", node.name, message, hint)
    for to in takes:
        rivals = [] if to.many else _rivals(sure, node, to, takes, into, out)
        if len(rivals) > 1:
            candidates = ", ".join(map(str, rivals))
            message = f"its parameter {to} takes one file, and these come together: {candidates}"
            hint = "annotate it list[File], or name roles: produces={'...': '...'}"
            yield GraphProblem("type_mismatch", node.name, message, hint)


def _rivals(
    sure: set[int], node: PlanNode, to: Takes, takes: Sequence[Takes], into: Sequence[Flow], out: Sequence[Flow]
) -> list[Made]:
    """The files that are sure to come together for one parameter."""
    found: Flow = {}
    for edge in node.ins:
        if edge.source is None or edge.kind != "plain":
            continue
        certain = edge.source.index in sure and (len(node.ins) == 1 or node.join == JOIN_ALL)
        mine = {
            key: one
            for key, one in along(edge, into, out).items()
            # Only what its own source makes, and always the same: what is passed on may come on one of many ways.
            if one.node == edge.source.name
            and not media_range(one.what.range).is_range
            and goes_to(takes, one.what) == [to]
        }
        if len(mine) > 1 or (mine and certain):
            found |= mine
    if any(one.what.role == to.parameter for one in found.values()):
        found = {key: one for key, one in found.items() if one.what.role == to.parameter}
    return list(found.values())


def _sure(plan: Plan) -> set[int]:
    """The nodes that every run comes to."""
    pending = [edge.target for edge in plan.entries if edge.target is not None]
    seen = {node.index for node in pending}
    while pending:
        for edge in pending.pop().plains:
            if edge.target is not None and edge.target.index not in seen:
                seen.add(edge.target.index)
                pending.append(edge.target)
    return seen
