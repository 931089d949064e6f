"""pydantic-graph's first API, a class per node whose `run` returns the next: the last release that has it.

Version 2 took it out, so it cannot stand beside the builder in one environment: see `OWN_FOLDER` in `installed.py`.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from itertools import count
from pathlib import Path
from typing import Any

from pydantic_graph import BaseNode, End, Graph, GraphRunContext
from pydantic_graph.persistence.file import FileStatePersistence

from ..peer import Peer, Run, State, Work


class Classic(Peer):
    name = "pydantic-graph classic"
    distributions = ("pydantic-graph",)
    module = "pydantic_graph"
    configuration = "Graph(auto_instrument=False), a dict as the state; durable: FileStatePersistence, a file per run"
    cannot = {  # noqa: RUF012
        "fan": "a node returns one next node: nothing runs side by side",
        "dag": "a node returns one next node: nothing runs side by side",
        "processor": "a node returns one next node: nothing runs side by side",
    }

    @asynccontextmanager
    async def chain(self, works: Sequence[Work], beside: State | None = None) -> AsyncIterator[Run]:
        nodes, initial = classes(works), {"n": 0, **(beside or {})}
        graph = Graph(nodes=nodes, state_type=dict, auto_instrument=False)

        async def run() -> int:
            return (await graph.run(nodes[0](), state=initial.copy())).output

        yield run

    @asynccontextmanager
    async def loop(self, iterations: int) -> AsyncIterator[Run]:
        @dataclass
        class Count(BaseNode[dict[str, int], None, int]):
            async def run(self, context: GraphRunContext[dict[str, int]]) -> Back:
                context.state["n"] += 1
                return Back()

        @dataclass
        class Back(BaseNode[dict[str, int], None, int]):
            async def run(self, context: GraphRunContext[dict[str, int]]) -> Count | End[int]:
                return Count() if context.state["n"] < iterations else End(context.state["n"])

        graph = Graph(nodes=(Count, Back), auto_instrument=False)

        async def run() -> int:
            return (await graph.run(Count(), state={"n": 0})).output

        yield run

    @asynccontextmanager
    async def durable(self, works: Sequence[Work], folder: Path) -> AsyncIterator[Run]:
        nodes, numbers = classes(works), count()
        graph = Graph(nodes=nodes, state_type=dict, auto_instrument=False, run_end_type=int)

        async def run() -> int:
            kept = FileStatePersistence(folder / f"{next(numbers)}.json")
            return (await graph.run(nodes[0](), state={"n": 0}, persistence=kept)).output

        yield run


def classes(works: Sequence[Work]) -> list[type[Any]]:
    """A class for each work, in their order; each names the next as what it returns."""
    made: list[type[Any]] = []
    following: type[Any] | None = None
    for number in reversed(range(len(works))):
        following = node_class(f"N{number}", works[number], following)
        made.append(following)
    return made[::-1]


def node_class(name: str, work: Work, following: type[Any] | None) -> type[Any]:
    if following is None:

        async def run(self: Any, context: GraphRunContext[Any]) -> Any:
            context.state["n"] = await work(context.state)
            return End(context.state["n"])

    else:

        async def run(self: Any, context: GraphRunContext[Any]) -> Any:
            context.state["n"] = await work(context.state)
            return following()

    run.__annotations__["return"] = End[int] if following is None else following
    return dataclass(type(name, (BaseNode,), {"run": run, "__module__": __name__}))
