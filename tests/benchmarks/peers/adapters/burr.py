"""Burr: actions over one state; an application is a run, over a graph that is built once."""

from __future__ import annotations

from collections.abc import AsyncGenerator, AsyncIterator, Callable, Generator, Sequence
from contextlib import asynccontextmanager
from itertools import count, pairwise
from pathlib import Path
from typing import Any

from burr.core import ApplicationBuilder, ApplicationContext, GraphBuilder, State, action, expr
from burr.core.parallelism import MapStates
from burr.integrations.persisters.b_aiosqlite import AsyncSQLitePersister

from ..peer import Peer, Run, Work
from ..peer import State as Beside

ONE_AT_A_TIME = "one action runs at a time; side by side is only a map inside one action, not a graph of tasks"


class Burr(Peer):
    name = "burr"
    distributions = ("apache-burr",)
    module = "burr.core"
    configuration = "async actions, no tracker; fan: MapStates; durable: AsyncSQLitePersister on a file in WAL mode"
    cannot = {"dag": ONE_AT_A_TIME}  # noqa: RUF012

    @asynccontextmanager
    async def chain(self, works: Sequence[Work], beside: Beside | None = None) -> AsyncIterator[Run]:
        graph, last, initial = chain(works, list(beside or {})), f"n{len(works) - 1}", {"n": 0, **(beside or {})}

        async def run() -> int:
            application = ApplicationBuilder().with_graph(graph).with_state(**initial).with_entrypoint("n0").build()
            return (await application.arun(halt_after=[last]))[2]["n"]

        yield run

    @asynccontextmanager
    async def fan(self, width: int) -> AsyncIterator[Run]:
        @action(reads=[], writes=[])
        async def start(state: State) -> State:
            return state

        @action(reads=["number"], writes=["found"])
        async def branch(state: State) -> State:
            return state.update(found=[state["number"]])

        class Branches(MapStates):
            def action(self, state: State, inputs: dict[str, Any]) -> Any:
                return branch

            async def states(
                self, state: State, context: ApplicationContext, inputs: dict[str, Any]
            ) -> AsyncGenerator[State, None]:
                for number in range(width):
                    yield state.update(number=number)

            async def reduce(self, state: State, states: AsyncGenerator[State, None]) -> State:
                found: list[int] = []
                async for each in states:
                    found += each["found"]
                return state.update(found=found)

            def is_async(self) -> bool:
                return True

            reads, writes = [], ["found"]

        graph = (
            GraphBuilder()
            .with_actions(start=start, branches=Branches())
            .with_transitions(("start", "branches"))
            .build()
        )

        async def run() -> list[int]:
            application = ApplicationBuilder().with_graph(graph).with_state(found=[]).with_entrypoint("start").build()
            return sorted((await application.arun(halt_after=["branches"]))[2]["found"])

        yield run

    @asynccontextmanager
    async def loop(self, iterations: int) -> AsyncIterator[Run]:
        @action(reads=["n"], writes=["n"])
        async def counting(state: State) -> State:
            return state.update(n=state["n"] + 1)

        @action(reads=[], writes=[])
        async def nothing(state: State) -> State:
            return state

        graph = (
            GraphBuilder()
            .with_actions(count=counting, back=nothing, end=nothing)
            .with_transitions(("count", "back"), ("back", "count", expr(f"n < {iterations}")), ("back", "end"))
            .build()
        )

        async def run() -> int:
            application = ApplicationBuilder().with_graph(graph).with_state(n=0).with_entrypoint("count").build()
            return (await application.arun(halt_after=["end"]))[2]["n"]

        yield run

    @asynccontextmanager
    async def processor(self, work: Callable[[], None], branches: int) -> AsyncIterator[Run]:
        @action(reads=[], writes=[])
        def burn(state: State) -> State:
            work()
            return state

        class Branches(MapStates):  # plain functions get Burr's threads
            def action(self, state: State, inputs: dict[str, Any]) -> Any:
                return burn

            def states(self, state: State, context: ApplicationContext, inputs: dict[str, Any]) -> Generator[State]:
                for _ in range(branches):
                    yield state

            def reduce(self, state: State, states: Generator[State]) -> State:
                list(states)
                return state

            reads, writes = [], []

        graph = GraphBuilder().with_actions(branches=Branches()).build()

        async def run() -> None:
            application = ApplicationBuilder().with_graph(graph).with_state().with_entrypoint("branches").build()
            await application.arun(halt_after=["branches"])

        yield run

    @asynccontextmanager
    async def durable(self, works: Sequence[Work], folder: Path) -> AsyncIterator[Run]:
        graph, last, numbers = chain(works, []), f"n{len(works) - 1}", count()
        persister = await AsyncSQLitePersister.from_values(f"{folder}/burr.db")
        await persister.connection.execute("PRAGMA journal_mode=WAL")  # it would not do so itself
        await persister.initialize()

        async def run() -> int:
            application = await (
                ApplicationBuilder()
                .with_graph(graph)
                .with_identifiers(app_id=str(next(numbers)))
                .with_state(n=0)
                .with_entrypoint("n0")
                .with_state_persister(persister)
                .abuild()
            )
            return (await application.arun(halt_after=[last]))[2]["n"]

        yield run
        await persister.cleanup()


def chain(works: Sequence[Work], beside: list[str]) -> Any:
    names = [f"n{number}" for number in range(len(works))]
    actions = {name: counting(work, ["n", *beside]) for name, work in zip(names, works, strict=True)}
    builder = GraphBuilder().with_actions(**actions)
    return builder.with_transitions(*pairwise(names)).build()


def counting(work: Work, reads: list[str]) -> Any:
    @action(reads=reads, writes=["n"])
    async def node(state: State) -> State:
        return state.update(n=await work(state))

    return node
