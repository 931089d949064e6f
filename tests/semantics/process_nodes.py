"""What nodes do to their state, for threads and for worker processes, which find functions by the name of a module."""

from __future__ import annotations

import operator
from typing import Annotated, Any

import attrs

from engine import Context, Goto, Reduce


@attrs.define
class Counted:
    n: int = 0
    notes: Annotated[list[str], Reduce(operator.add)] = attrs.field(factory=list)


@attrs.frozen
class Frozen:
    n: int = 0
    notes: Annotated[list[str], Reduce(operator.add)] = attrs.field(factory=list)


def in_place(state: dict[str, Any]) -> None:
    state["n"] = 5


def in_place_and_returned(state: dict[str, Any]) -> dict[str, Any]:
    state["n"] = 5
    return state


def removes(state: dict[str, Any]) -> None:
    del state["n"]


def passes_on(state: dict[str, Any]) -> dict[str, Any]:
    return {**state, "n": 1}


def contributes(state: dict[str, Any]) -> dict[str, Any]:
    return {"notes": ["more"]}


def goes(state: dict[str, Any]) -> Goto:
    return Goto("after", {**state, "n": 7})


def changes_a_value(state: dict[str, Any]) -> dict[str, Any]:
    state["notes"].append("sneaked in")
    return {"n": 1}


def changes_a_value_and_passes_it_on(state: dict[str, Any]) -> dict[str, Any]:
    state["deep"].append(1)
    return {**state}


def object_in_place(state: Counted) -> None:
    state.n = 9


def whole(state: Frozen) -> Frozen:
    return attrs.evolve(state, n=3)


def by_name(*, state: dict[str, Any] | None = None, ctx: Context) -> dict[str, Any]:
    return {"n": 2}


def with_params(state: dict[str, Any], by: int) -> dict[str, Any]:
    state["n"] += by
    return {**state}


def batch(states: list[dict[str, Any]]) -> list[Any]:
    states[0]["n"] = 11
    return [{**states[0]}]


def after(state: Any) -> None:
    """Where a Goto leads."""


def tells_context(state: Any, ctx: Context) -> dict[str, Any]:
    facts = (ctx.token, ctx.run_id, ctx.graph, ctx.node, ctx.activation, ctx.attempt, ctx.iteration)
    return {"facts": facts, "came": [(a.source, a.status) for a in ctx.arrivals], "deadline": ctx.deadline}


def tells_progress(state: Any, ctx: Context) -> None:
    ctx.progress(0.5)


def uses_tools(state: Any, ctx: Context) -> None:
    ctx.tools.call("anything")


def tells_error(state: Any, ctx: Context) -> dict[str, Any]:
    return {"error": (ctx.error.node, ctx.error.type, ctx.error.message)}


def fails(state: Any) -> None:
    raise ValueError("no")
