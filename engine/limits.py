"""What holds for a node across runs, and may be changed while they go on."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, TypedDict

import attrs

from .nodespec import NodeSpec
from .options import Batch, Breaker, Cache, Rate, node_option_faults, parse_rate
from .plan import NodeDecl, Plan, PlanNode


@attrs.frozen(kw_only=True)
class Limits:
    """The limits of one node, for all runs of its graph together; None is no limit."""

    concurrency: int | None = None
    rate: Rate | None = None
    batch: Batch | None = None
    breaker: Breaker | None = None
    cache: Cache | None = None

    @classmethod
    def of(cls, spec: NodeSpec) -> Limits:
        """Those that a graph's author gave."""
        return cls(
            concurrency=spec.concurrency, rate=spec.rate, batch=spec.batch, breaker=spec.breaker, cache=spec.cache
        )


class LimitChanges(TypedDict, total=False):
    """Limits as they are given; what is left out stays."""

    concurrency: int | None
    rate: str | float | None
    batch: Batch | None
    breaker: Breaker | None
    cache: Cache | None


def changed(limits: Limits, changes: Mapping[str, Any]) -> Limits:
    """The limits with these changes, which `change_faults` finds nothing wrong with."""
    given = dict(changes)
    if given.get("rate") is not None:
        given["rate"] = parse_rate(given["rate"])
    return attrs.evolve(limits, **given)


def change_faults(planned: PlanNode, changes: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    """(option, fault) for each change that this node cannot take."""
    node = planned.decl
    for name in changes.keys() - LimitChanges.__annotations__.keys():
        yield name, f"is no limit; those are {', '.join(LimitChanges.__annotations__)}"
    yield from node_option_faults(changes)
    if not runs_function(node):
        yield "", f"node {node.name!r} runs no function of its own, so it has no limits; those of the nodes inside do"
        return
    if "batch" in changes and (changes["batch"] is None) != (node.options.batch is None):
        gets = "one state" if node.options.batch is None else "a list of states"
        yield "batch", f"cannot be added or taken away at run time: the function of node {node.name!r} takes {gets}"
    if isinstance(cache := changes.get("cache"), Cache):
        if fault := cache_fault(node.options, cache):
            yield "cache", fault
        near = (planned, *(edge.source for edge in planned.ins))
        if node.options.cache is None and any(one is not None and one.decl.options.keep_remote for one in near):
            yield "cache", "cannot be added at run time where values stay on a cluster: give it in the graph"
        state: Any = planned.input
        for key in cache.keys:
            if not state.knows(key):
                yield "cache", f"names {key!r}, which the state does not have"


def cache_fault(spec: NodeSpec, cache: Any) -> str:
    """Why a node cannot have a cache, or not this one."""
    if spec.effect:
        return "is for a node that may be left out: this one has effect=True; drop one of them"
    if spec.takes or spec.makes:
        return "is for values: this node takes or makes files, which are kept by their contents anyhow; drop it"
    if spec.map_takes_state and getattr(cache, "key", None) is None:
        return "needs a key here: the function takes the item and the state; give Cache(key=function of the item)"
    if spec.is_map and isinstance(getattr(cache, "key", None), str | tuple):
        return "names keys of the state, but a map's function gets items; give Cache(key=function of the item)"
    return ""


def runs_function(node: NodeDecl) -> bool:
    """Whether a node calls a function itself."""
    return node.kind == "function" or (node.map is not None and not isinstance(node.map.worker, Plan))


def labelled(plan: Plan) -> Iterator[tuple[str, PlanNode]]:
    """Each node with the name that it has in metrics: of a graph inside, `graph.node`."""
    for node in plan.nodes:
        yield label_of(plan, node, inside=False), node
        yield from _inside(node)


def _inside(node: PlanNode) -> Iterator[tuple[str, PlanNode]]:
    decl = node.decl
    inner = decl.subgraph.plan if decl.subgraph is not None else decl.map and decl.map.worker
    if isinstance(inner, Plan):
        for one in inner.nodes:
            yield label_of(inner, one, inside=True), one
            yield from _inside(one)


def label_of(plan: Plan, node: PlanNode, *, inside: bool) -> str:
    """The name of a node in metrics and in `set_limits`."""
    return (f"{plan.name}.{node.name}" if inside else node.name).replace("/", "|")
