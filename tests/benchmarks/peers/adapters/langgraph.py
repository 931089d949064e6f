"""LangGraph: a `StateGraph` compiled once, `ainvoke` for each run; durable with its SQLite saver.

What its documentation says on speed is which durability to choose: `exit` writes only at the end and so is not
durable in our sense; `async` (the default) writes while the next step runs, `sync` before it. Both are measured.
"""

from __future__ import annotations

import operator
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from itertools import count
from pathlib import Path
from typing import Annotated, Any, Literal, TypedDict

from langgraph.checkpoint.sqlite.aio import AsyncSqliteSaver
from langgraph.graph import END, START, StateGraph

from ..peer import Dag, Peer, Run, State, Work


class LangGraph(Peer):
    name = "langgraph"
    distributions = ("langgraph", "langgraph-checkpoint-sqlite")
    module = "langgraph.graph"
    configuration = "StateGraph over a TypedDict, no checkpointer; durable: AsyncSqliteSaver, durability='async'"
    durability: Literal["sync", "async"] = "async"

    @asynccontextmanager
    async def chain(self, works: Sequence[Work], beside: State | None = None) -> AsyncIterator[Run]:
        graph, initial = chain(works, beside).compile(), {"n": 0, **(beside or {})}
        config = {"recursion_limit": len(works) + 1}

        async def run() -> int:
            return (await graph.ainvoke(initial, config))["n"]

        yield run

    @asynccontextmanager
    async def fan(self, width: int) -> AsyncIterator[Run]:
        builder = StateGraph(TypedDict("Found", {"found": Annotated[list[int], operator.add]}))
        builder.add_node("start", nothing).add_node("join", nothing).add_edge(START, "start")
        branches = [f"b{number}" for number in range(width)]
        for number, name in enumerate(branches):
            builder.add_node(name, adding(number)).add_edge("start", name)
        graph = builder.add_edge(branches, "join").add_edge("join", END).compile()

        async def run() -> list[int]:
            return sorted((await graph.ainvoke({"found": []}))["found"])

        yield run

    @asynccontextmanager
    async def loop(self, iterations: int) -> AsyncIterator[Run]:
        async def count_one(state: State) -> dict[str, int]:
            return {"n": state["n"] + 1}

        builder = StateGraph(TypedDict("Counted", {"n": int}))
        builder.add_node("count", count_one).add_node("back", nothing)
        builder.add_edge(START, "count").add_edge("count", "back")
        builder.add_conditional_edges("back", lambda state: "count" if state["n"] < iterations else END, ["count", END])
        graph, config = builder.compile(), {"recursion_limit": 2 * iterations + 1}

        async def run() -> int:
            return (await graph.ainvoke({"n": 0}, config))["n"]

        yield run

    @asynccontextmanager
    async def dag(self, dag: Dag) -> AsyncIterator[Run]:
        builder = StateGraph(TypedDict("Nothing", {"nothing": int}))
        for number, (task, parents) in enumerate(zip(dag.tasks, dag.parents, strict=True)):
            builder.add_node(f"t{number}", doing(task))
            if not parents:
                builder.add_edge(START, f"t{number}")
            elif len(parents) == 1:
                builder.add_edge(f"t{parents[0]}", f"t{number}")
            else:
                builder.add_edge([f"t{parent}" for parent in parents], f"t{number}")
        for number in dag.sinks:
            builder.add_edge(f"t{number}", END)
        graph, config = builder.compile(), {"recursion_limit": len(dag.parents) + 1}

        async def run() -> None:
            await graph.ainvoke({"nothing": 0}, config)

        yield run

    @asynccontextmanager
    async def processor(self, work: Callable[[], None], branches: int) -> AsyncIterator[Run]:
        def burn(state: State) -> dict[str, int]:  # a plain function: LangGraph gives it a thread
            work()
            return {}

        builder = StateGraph(TypedDict("Nothing", {"nothing": int}))
        for number in range(branches):
            builder.add_node(f"cpu{number}", burn).add_edge(START, f"cpu{number}").add_edge(f"cpu{number}", END)
        graph = builder.compile()

        async def run() -> None:
            await graph.ainvoke({"nothing": 0})

        yield run

    @asynccontextmanager
    async def durable(self, works: Sequence[Work], folder: Path) -> AsyncIterator[Run]:
        threads = count()
        async with AsyncSqliteSaver.from_conn_string(f"{folder}/langgraph-{self.durability}.db") as saver:
            graph = chain(works, None).compile(checkpointer=saver)

            async def run() -> int:
                config = {"recursion_limit": len(works) + 1, "configurable": {"thread_id": str(next(threads))}}
                return (await graph.ainvoke({"n": 0}, config, durability=self.durability))["n"]

            yield run


class LangGraphSync(LangGraph):
    name = "langgraph sync"
    configuration = "durable: AsyncSqliteSaver, durability='sync'"
    durability = "sync"


def chain(works: Sequence[Work], beside: State | None) -> StateGraph[Any]:
    builder = StateGraph(
        TypedDict("Counted", {"n": int, **{key: type(value) for key, value in (beside or {}).items()}})
    )
    for number, work in enumerate(works):
        builder.add_node(f"n{number}", counting(work))
        builder.add_edge(f"n{number - 1}" if number else START, f"n{number}")
    return builder.add_edge(f"n{len(works) - 1}", END)


def counting(work: Work) -> Callable[[State], Any]:
    async def node(state: State) -> dict[str, int]:
        return {"n": await work(state)}

    return node


def adding(number: int) -> Callable[[State], Any]:
    async def node(state: State) -> dict[str, list[int]]:
        return {"found": [number]}

    return node


def doing(task: Callable[[], Any]) -> Callable[[State], Any]:
    async def node(state: State) -> dict[str, int]:
        await task()
        return {}

    return node


async def nothing(state: State) -> dict[str, int]:
    return {}
