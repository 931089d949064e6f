"""The floor: what one would write by hand on asyncio, with no engine. Nothing is recorded, limited or retried."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Sequence
from concurrent.futures import ProcessPoolExecutor
from contextlib import asynccontextmanager
from pathlib import Path

from engine.stores.thread import DriverThread

from ...bench_durable import Bare
from ..peer import Dag, Peer, Run, State, Work


class Floor(Peer):
    name = "asyncio"
    distributions = ()
    module = "asyncio"
    configuration = "await, gather and one task per branch; durable: one INSERT and COMMIT per step in a thread"

    @asynccontextmanager
    async def chain(self, works: Sequence[Work], beside: State | None = None) -> AsyncIterator[Run]:
        initial = {"n": 0, **(beside or {})}

        async def run() -> int:
            state = initial
            for work in works:
                state = {**state, "n": await work(state)}
            return state["n"]

        yield run

    @asynccontextmanager
    async def fan(self, width: int) -> AsyncIterator[Run]:
        async def branch(number: int) -> list[int]:
            return [number]

        async def run() -> list[int]:
            found = await asyncio.gather(*(branch(number) for number in range(width)))
            return sorted(number for numbers in found for number in numbers)

        yield run

    @asynccontextmanager
    async def loop(self, iterations: int) -> AsyncIterator[Run]:
        async def count(state: State) -> int:
            return state["n"] + 1

        async def back(state: State) -> None:
            pass

        async def run() -> int:
            state = {"n": 0}
            while state["n"] < iterations:
                state = {**state, "n": await count(state)}
                await back(state)
            return state["n"]

        yield run

    @asynccontextmanager
    async def dag(self, dag: Dag) -> AsyncIterator[Run]:
        children = dag.children
        needed = [len(parents) for parents in dag.parents]

        async def run() -> None:
            missing = needed.copy()

            async def carry_out(task: int) -> None:
                await dag.tasks[task]()
                for child in children[task]:
                    missing[child] -= 1
                    if not missing[child]:
                        group.create_task(carry_out(child))

            async with asyncio.TaskGroup() as group:
                for task in dag.sources:
                    group.create_task(carry_out(task))

        yield run

    @asynccontextmanager
    async def processor(self, work: Callable[[], None], branches: int) -> AsyncIterator[Run]:
        loop = asyncio.get_running_loop()
        with ProcessPoolExecutor() as pool:

            async def run() -> None:
                await asyncio.gather(*(loop.run_in_executor(pool, work) for _ in range(branches)))

            yield run

    @asynccontextmanager
    async def durable(self, works: Sequence[Work], folder: Path) -> AsyncIterator[Run]:
        bare, thread = Bare(f"{folder}/floor.db"), DriverThread("floor")
        await thread.run(bare.synchronous, "NORMAL")

        async def run() -> int:
            state = {"n": 0}
            for seq, work in enumerate(works):
                state = {**state, "n": await work(state)}
                await thread.run(bare.commit, seq)
            return state["n"]

        yield run
        await thread.run(bare.close)
        thread.close()
