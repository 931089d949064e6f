"""This engine, as its README tells one to use it."""

from __future__ import annotations

import operator
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

from engine import END, Engine, Graph

from ..peer import Dag, Durability, Peer, Run, State, Work


class Ours(Peer):
    name = "workflow-engine"
    distributions = ("workflow-engine",)
    module = "engine"
    configuration = "Engine(), a dict as the state; durable: sqlite:// in WAL mode, standard"
    durability: Durability = "standard"

    @asynccontextmanager
    async def chain(self, works: Sequence[Work], beside: State | None = None) -> AsyncIterator[Run]:
        graph, initial = chain(works), {"n": 0, **(beside or {})}
        async with Engine() as engine:
            engine.register(graph)

            async def run() -> int:
                return (await engine.run(graph, initial)).state["n"]

            yield run

    @asynccontextmanager
    async def fan(self, width: int) -> AsyncIterator[Run]:
        graph = Graph("fan", reducers={"found": operator.add}).add_node("start", nothing).add_node("join", nothing)
        branches = [f"b{number}" for number in range(width)]
        for number, name in enumerate(branches):
            graph.add_node(name, adding(number))
        graph.add_edge("start", branches).add_edge(branches, "join").set_entry_point("start")
        async with Engine() as engine:

            async def run() -> list[int]:
                return sorted((await engine.run(graph, {"found": []})).state["found"])

            yield run

    @asynccontextmanager
    async def loop(self, iterations: int) -> AsyncIterator[Run]:
        async def count(state: State) -> dict[str, int]:
            return {"n": state["n"] + 1}

        graph = Graph("loop").add_node("count", count).add_node("back", nothing).add_edge("count", "back")
        graph.add_edge("back", "count", when=lambda state: state["n"] < iterations, max_iterations=iterations)
        graph.add_edge("back", END, otherwise=True).set_entry_point("count")
        async with Engine() as engine:

            async def run() -> int:
                return (await engine.run(graph, {"n": 0})).state["n"]

            yield run

    @asynccontextmanager
    async def dag(self, dag: Dag) -> AsyncIterator[Run]:
        graph = Graph("dag")
        for number, task in enumerate(dag.tasks):
            graph.add_node(f"t{number}", doing(task))
        for number, parents in enumerate(dag.parents):
            for parent in parents:
                graph.add_edge(f"t{parent}", f"t{number}")
        graph.set_entry_point(*(f"t{number}" for number in dag.sources))
        async with Engine() as engine:
            engine.register(graph)

            async def run() -> None:
                await engine.run(graph, {})

            yield run

    @asynccontextmanager
    async def processor(self, work: Callable[[], None], branches: int) -> AsyncIterator[Run]:
        names = [f"cpu{number}" for number in range(branches)]
        graph = Graph("cpu").add_node("start", nothing)
        for name in names:
            graph.add_node(name, _Called(work), run_in="process")
        graph.add_edge("start", names).set_entry_point("start")
        async with Engine() as engine:

            async def run() -> None:
                await engine.run(graph, {})

            yield run

    @asynccontextmanager
    async def durable(self, works: Sequence[Work], folder: Path) -> AsyncIterator[Run]:
        graph = chain(works)
        async with Engine(f"sqlite:///{folder}/{self.durability}.db", durability=self.durability) as engine:
            engine.register(graph)

            async def run() -> int:
                return (await engine.run(graph, {"n": 0})).state["n"]

            yield run


class OursStrict(Ours):
    name = "workflow-engine strict"
    configuration = "durable: sqlite:// in WAL mode, strict: every commit is synced to the disk"
    durability: Durability = "strict"


def chain(works: Sequence[Work]) -> Graph:
    graph = Graph("chain")
    for number, work in enumerate(works):
        graph.add_node(f"n{number}", counting(work))
        if number:
            graph.add_edge(f"n{number - 1}", f"n{number}")
    return graph.set_entry_point("n0")


def counting(work: Work) -> Callable[[State], Any]:
    async def node(state: State) -> dict[str, int]:
        return {"n": await work(state)}

    return node


def adding(number: int) -> Callable[[State], Any]:
    async def node(state: State) -> dict[str, list[int]]:
        return {"found": [number]}

    return node


def doing(task: Callable[[], Any]) -> Callable[[State], Any]:
    async def node(state: State) -> None:
        await task()

    return node


async def nothing(state: State) -> None:
    pass


class _Called:
    """A function of a state, which a worker process can import."""

    def __init__(self, work: Callable[[], None]) -> None:
        self.work = work

    def __call__(self, state: State) -> None:
        self.work()
