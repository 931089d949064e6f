"""What makes a graph the one that a stored run began on.

A run goes on from its records only where they still mean what they meant: on the same nodes, edges, joins, limits and
keys. Functions, conditions and policies (retry, timeout, concurrency) may change from start to start: what they
decided is on record, and what they will decide is for the new ones. So a mended node is picked up by a run in flight.

Tools count as their nodes name them: another tool, or another version where one is asked for (`clean@2`), makes another
definition. A name alone asks for the newest, which may be a mended one, as any function may.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from hashlib import sha256
from typing import Any

from .plan import ChoiceDecl, EdgeDecl, NodeDecl, Plan


def definition_text(plan: Plan) -> str:
    """The definition in words, JSON for people and tools; equal texts mean that runs may go on."""
    return json.dumps(_of_plan(plan), indent=1)


def definition_digest(text: str) -> str:
    """The short name of a definition."""
    return sha256(text.encode()).hexdigest()[:32]


def with_definition(text: str, data: Mapping[str, Any]) -> str:
    """The same, and with it the definition that the graph was made of, so that it can be made again."""
    return json.dumps({**json.loads(text), "definition": data}, indent=1)


def definition_in(text: str) -> dict[str, Any] | None:
    """The definition that a graph was made of, if it is kept."""
    found = json.loads(text).get("definition") if '"definition": {' in text else None
    return found if isinstance(found, dict) else None


def _of_plan(plan: Plan) -> dict[str, Any]:
    decl = plan.decl
    return {
        "name": decl.name,
        "version": decl.version,
        "state": _of_state(decl.state),
        "entries": list(decl.entries),
        "nodes": [_of_node(node) for node in decl.nodes],
        "edges": [_of_edge(edge) for edge in decl.edges],
        "max_iterations": decl.max_iterations,
        "conflicts": decl.conflicts,
        "on_failure": decl.on_failure,
        # Said only where it is so: graphs of before are what they were.
        **({"files": True} if decl.carries else {}),
    }


def _of_state(state: Any) -> dict[str, Any]:
    keys: Mapping[str, Any] = getattr(state, "keys", {})
    shown = {name: str(getattr(key.type, "__qualname__", key.type)) for name, key in keys.items()}
    return {"type": getattr(state, "name", "dict"), "keys": shown, "reducers": sorted(state.reducers)}


def _of_node(node: NodeDecl) -> dict[str, Any]:
    found: dict[str, Any] = {"name": node.name, "kind": node.kind, "join": node.join}
    if node.rest != "absorb":
        found["rest"] = node.rest
    if tool := getattr(node.options, "tool", None):
        found["tool"] = tool
    if node.goto:
        found["goto"] = list(node.goto)
    if node.subgraph is not None:
        found["subgraph"] = _of_plan(node.subgraph.plan)
        found["enter"], found["leave"] = dict(node.subgraph.enter), dict(node.subgraph.leave)
    if node.map is not None:
        found["over"] = node.map.over if isinstance(node.map.over, str) else None
        found["into"], found["item"] = node.map.into, node.map.item
        if isinstance(node.map.worker, Plan):
            found["worker"] = _of_plan(node.map.worker)
    if node.wait is not None:
        found["signals"], found["into"] = list(node.wait.signals), node.wait.into
    return found


def _of_edge(edge: EdgeDecl | ChoiceDecl) -> dict[str, Any]:
    if isinstance(edge, ChoiceDecl):
        return {"source": edge.source, "choice": dict(edge.targets)}
    kind = "plain"
    if edge.when is not None:
        kind = "when"
    elif edge.otherwise:
        kind = "otherwise"
    elif edge.on_error is not None:
        kind = "error"
    found: dict[str, Any] = {"source": edge.source, "target": edge.target, "kind": kind}
    if edge.max_iterations is not None:
        found["max_iterations"] = edge.max_iterations
    return found
