"""The floor once more, on anyio's task groups instead of asyncio's tasks."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager

import anyio
import anyio.to_process

from ..peer import Dag, Run
from .floor_asyncio import Floor


class AnyioFloor(Floor):
    name = "anyio"
    distributions = ("anyio",)
    module = "anyio"
    configuration = "await, and a task group with one task per branch; chains and loops are asyncio's own awaits"

    @asynccontextmanager
    async def fan(self, width: int) -> AsyncIterator[Run]:
        async def run() -> list[int]:
            found: list[int] = []

            async def branch(number: int) -> None:
                found.append(number)

            async with anyio.create_task_group() as group:
                for number in range(width):
                    group.start_soon(branch, number)
            return sorted(found)

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
                        group.start_soon(carry_out, child)

            async with anyio.create_task_group() as group:
                for task in dag.sources:
                    group.start_soon(carry_out, task)

        yield run

    @asynccontextmanager
    async def processor(self, work: Callable[[], None], branches: int) -> AsyncIterator[Run]:
        async def run() -> None:
            async with anyio.create_task_group() as group:
                for _ in range(branches):
                    group.start_soon(anyio.to_process.run_sync, work)

        yield run
