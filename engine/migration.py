"""Whether a run that began on one definition of its graph may go on, or be forked, on another.

Records name edges by their places among all edges of the graph, snapshots name nodes by theirs as well. Nothing is
translated: whatever a journal mentions must stand, and be, on the definition now what it was on the one that the run
began on. What it does not mention may be anything. The order of edges is entries, those that were written, those that
only `goto=` names, and the ends that a choice may always answer; so a new edge moves the last two kinds.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

import attrs

from .plan import ChoiceDecl, EdgeDecl, GraphDecl, NodeDecl, Plan, PlanEdge, compile_plan
from .state import DictState
from .tokens import Record

Definition = Mapping[str, Any]
"""What identity.py writes of a graph."""
Level = tuple[str, ...]
"""The nodes of a graph, of one inside it, and so on: the way to a subgraph."""

_OF_THE_GRAPH = ("conflicts", "on_failure")
_ELSEWHERE = frozenset({"name", "goto", "subgraph", "worker"})
"""What a node's definition holds beside what makes the node itself."""


@attrs.define
class _Mentioned:
    nodes: set[str] = attrs.field(factory=set)
    edges: set[int] = attrs.field(factory=set)
    keys: set[str] = attrs.field(factory=set)
    """Those that an update has set."""


def differences(before: str, now: str, records: Iterable[Record], snapshot: Mapping[str, Any] | None) -> list[str]:
    """What these records, and the snapshot before them, mention and means something else now, each in words."""
    old, new = json.loads(before), json.loads(now)
    found: list[str] = []
    if old.get("files") and not new.get("files"):
        found.append("files traveled through the graph and do not any more, so those of the run would be lost")
    if snapshot is not None:
        for level in _levels(old):
            found += _moved(level, _inside(old, level), _inside(new, level), joins_wait=_joins_wait(snapshot))
    for level, mentioned in _mentioned(records).items():
        found += _changed(level, _inside(old, level), _inside(new, level), mentioned)
    return list(dict.fromkeys(found))


def _mentioned(records: Iterable[Record]) -> dict[Level, _Mentioned]:
    found: dict[Level, _Mentioned] = {}
    for record in records:
        level: Level = ()
        for node, _, _ in record.path:
            found.setdefault(level, _Mentioned()).nodes.add(node)
            level = (*level, node)
        here = found.setdefault(level, _Mentioned())
        if record.activation:
            here.nodes.add(record.node)
            here.keys.update(record.update or ())
        here.edges.update(edge for edge, _ in record.emitted)
        here.edges.update(record.limits)
        if record.edge >= 0:
            here.edges.add(record.edge)
    return found


def _changed(level: Level, old: Definition | None, new: Definition | None, mentioned: _Mentioned) -> Iterator[str]:
    if old is None or new is None:
        return  # that its node is no subgraph any more is said of the node
    before, now = _skeleton(old), _skeleton(new)
    of = f" of {'/'.join(level)!r}" if level else ""
    for name in _OF_THE_GRAPH:
        if old[name] != new[name]:
            yield f"{name}{of} was {old[name]!r} and is {new[name]!r}"
    if old["entries"] != new["entries"]:
        yield f"the entry points{of} were {_names(old['entries'])} and are {_names(new['entries'])}"
    for key in sorted(mentioned.keys & (set(old["state"]["reducers"]) ^ set(new["state"]["reducers"]))):
        yield f"key {key!r}{of} {'has lost its' if key in old['state']['reducers'] else 'has got a'} reducer"
    nodes = set(mentioned.nodes)
    for index in sorted(mentioned.edges):
        if index < len(before.edges):
            edge = before.edges[index]
            yield from _edge_moved(of, edge, now)
            nodes.update([] if edge.target is None else [edge.target.name])
    yield from _nodes_changed(of, nodes, old, new)


def _moved(level: Level, old: Definition | None, new: Definition | None, *, joins_wait: bool) -> Iterator[str]:
    """What a snapshot may mention, which is everything."""
    assert old is not None
    of = f" of {'/'.join(level)!r}" if level else ""
    if new is None:
        yield f"node {'/'.join(level)!r} is no subgraph any more"
        return
    before, now = _skeleton(old), _skeleton(new)
    everything = _Mentioned({node.name for node in before.nodes}, {edge.index for edge in before.edges})
    everything.keys.update(old["state"]["reducers"], new["state"]["reducers"])
    yield from _changed(level, old, new, everything)
    for node in before.nodes:
        found = now.by_name.get(node.name)
        if found is not None and found.index != node.index:
            yield f"node {node.name!r}{of} was number {node.index} and is number {found.index}"
        elif found is not None and joins_wait and found.rank != node.rank:
            yield f"joins of the run wait, and node {node.name!r}{of} has another place in the order of the graph"
    for loop, other in zip(before.loops, [*now.loops, *[None] * len(before.loops)], strict=False):
        if other is None or other.edge.index != loop.edge.index:
            yield f"edge {loop.edge.name!r}{of} closed loop number {loop.index} and does not any more"


def _edge_moved(of: str, edge: PlanEdge, now: Plan) -> Iterator[str]:
    there = now.edges[edge.index] if edge.index < len(now.edges) else None
    if there is None:
        yield f"edge {_shown(edge)}{of}, number {edge.index} of the edges, is not there any more"
    elif (there.kind, there.name) != (edge.kind, edge.name):
        yield f"edge {_shown(edge)}{of} was number {edge.index} of the edges, where {_shown(there)} stands now"


def _nodes_changed(of: str, names: Iterable[str], old: Definition, new: Definition) -> Iterator[str]:
    before, now = ({node["name"]: node for node in graph["nodes"]} for graph in (old, new))
    for name in sorted(names):
        if name in before and name not in now:
            yield f"node {name!r}{of} is not there any more"
        elif name in before:
            for part in sorted((before[name].keys() | now[name].keys()) - _ELSEWHERE):
                was, is_ = before[name].get(part), now[name].get(part)
                if was != is_:
                    yield f"{part} of node {name!r}{of} was {was!r} and is {is_!r}"


def _shown(edge: PlanEdge) -> str:
    return repr(edge.name) if edge.kind == "plain" else f"{edge.name!r} ({edge.kind})"


def _names(names: Iterable[str]) -> str:
    return ", ".join(map(repr, names))


def _levels(graph: Definition, level: Level = ()) -> Iterator[Level]:
    """The graph itself, and every subgraph in it; what happens inside a map's items no journal tells."""
    yield level
    for node in graph["nodes"]:
        if "subgraph" in node:
            yield from _levels(node["subgraph"], (*level, node["name"]))


def _inside(graph: Definition, level: Level) -> Definition | None:
    for name in level:
        inner = [node["subgraph"] for node in graph["nodes"] if node["name"] == name and "subgraph" in node]
        if not inner:
            return None
        graph = inner[0]
    return graph


def _joins_wait(data: Any) -> bool:
    """Whether a snapshot remembers what a join waits for: by ranks, which one more node or edge may change."""
    if isinstance(data, Mapping):
        waits = bool(data.get("joins")) or any(data.get("questions", ()))
        return waits or any(_joins_wait(part) for part in data.values())
    return isinstance(data, list) and any(_joins_wait(part) for part in data)


def _skeleton(graph: Definition) -> Plan:
    """The plan of a definition: its nodes, edges and loops, with nothing that could run."""
    nodes = [
        NodeDecl(name=node["name"], join=node["join"], goto=tuple(node.get("goto", ()))) for node in graph["nodes"]
    ]
    decl = GraphDecl(
        name=graph["name"],
        state=DictState(),
        nodes=tuple(nodes),
        edges=tuple(_edge(edge) for edge in graph["edges"]),
        entries=tuple(graph["entries"]),
        max_iterations=graph["max_iterations"],
    )
    return compile_plan(decl)


def _edge(edge: Mapping[str, Any]) -> EdgeDecl | ChoiceDecl:
    if "choice" in edge:
        return ChoiceDecl(source=edge["source"], router=bool, targets=edge["choice"])
    kind = edge["kind"]
    return EdgeDecl(
        source=edge["source"],
        target=edge["target"],
        when=bool if kind == "when" else None,
        otherwise=kind == "otherwise",
        on_error=Exception if kind == "error" else None,
        max_iterations=edge.get("max_iterations"),
    )
