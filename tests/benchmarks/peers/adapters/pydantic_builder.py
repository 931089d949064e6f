"""pydantic-graph's `GraphBuilder`: steps over one state object that all of them change."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from typing import Any, Literal

from pydantic_graph import GraphBuilder, StepContext, reduce_list_append, reduce_null

from ..peer import Dag, Peer, Run, State, Work

Context = StepContext[dict[str, Any], None, Any]


class Builder(Peer):
    name = "pydantic-graph builder"
    distributions = ("pydantic-graph",)
    module = "pydantic_graph"
    configuration = "GraphBuilder(auto_instrument=False), a dict as the state"
    cannot = {  # noqa: RUF012
        "processor": "steps are coroutines, and nothing runs a plain function elsewhere",
        "durable": "the builder's graphs keep nothing: state persistence went with version 1",
    }

    @asynccontextmanager
    async def chain(self, works: Sequence[Work], beside: State | None = None) -> AsyncIterator[Run]:
        builder = new_builder(int)
        last: Any = builder.start_node
        for number, work in enumerate(works):
            step = builder.step(counting(work), node_id=f"n{number}")
            builder.add(builder.edge_from(last).to(step))
            last = step
        builder.add(builder.edge_from(last).to(builder.end_node))
        graph, initial = builder.build(), {"n": 0, **(beside or {})}

        async def run() -> int:
            return await graph.run(state=initial.copy())

        yield run

    @asynccontextmanager
    async def fan(self, width: int) -> AsyncIterator[Run]:
        builder = new_builder(list)
        start = builder.step(nothing, node_id="start")
        join = builder.join(reduce_list_append, initial_factory=list, node_id="join")
        branches = [builder.step(giving(number), node_id=f"b{number}") for number in range(width)]
        builder.add(
            builder.edge_from(builder.start_node).to(start),
            builder.edge_from(start).to(*branches),
            builder.edge_from(*branches).to(join),
            builder.edge_from(join).to(builder.end_node),
        )
        graph = builder.build()

        async def run() -> list[int]:
            return sorted(await graph.run(state={}))

        yield run

    @asynccontextmanager
    async def loop(self, iterations: int) -> AsyncIterator[Run]:
        async def count(context: Context) -> None:
            context.state["n"] += 1

        async def back(context: Context) -> Literal["again"] | int:
            return "again" if context.state["n"] < iterations else context.state["n"]

        builder = new_builder(int)
        counted, decided = builder.step(count, node_id="count"), builder.step(back, node_id="back")
        choice = (
            builder.decision().branch(builder.match(str).to(counted)).branch(builder.match(int).to(builder.end_node))
        )
        builder.add(
            builder.edge_from(builder.start_node).to(counted),
            builder.edge_from(counted).to(decided),
            builder.edge_from(decided).to(choice),
        )
        graph = builder.build()

        async def run() -> int:
            return await graph.run(state={"n": 0})

        yield run

    @asynccontextmanager
    async def dag(self, dag: Dag) -> AsyncIterator[Run]:
        builder = new_builder(type(None))
        steps = [builder.step(doing(task), node_id=f"t{number}") for number, task in enumerate(dag.tasks)]
        entries: list[Any] = steps.copy()  # what leads to a task: the join before it, where it has several parents
        for number, parents in enumerate(dag.parents):
            if len(parents) > 1:
                entries[number] = builder.join(reduce_null, initial=None, node_id=f"j{number}")
                builder.add(builder.edge_from(entries[number]).to(steps[number]))
        end: Any = builder.end_node
        if len(dag.sinks) > 1:
            end = builder.join(reduce_null, initial=None, node_id="all")
            builder.add(builder.edge_from(end).to(builder.end_node))
        builder.add(builder.edge_from(builder.start_node).to(*(entries[number] for number in dag.sources)))
        for number, children in enumerate(dag.children):
            builder.add(builder.edge_from(steps[number]).to(*[entries[child] for child in children] or [end]))
        graph = builder.build()

        async def run() -> None:
            await graph.run(state={})

        yield run


def new_builder(output: type) -> Any:
    return GraphBuilder(state_type=dict, output_type=output, auto_instrument=False)


def counting(work: Work) -> Callable[[Context], Any]:
    async def step(context: Context) -> int:
        context.state["n"] = await work(context.state)
        return context.state["n"]

    return step


def giving(number: int) -> Callable[[Context], Any]:
    async def step(context: Context) -> int:
        return number

    return step


def doing(task: Callable[[], Any]) -> Callable[[Context], Any]:
    async def step(context: Context) -> None:
        await task()

    return step


async def nothing(context: Context) -> None:
    pass
