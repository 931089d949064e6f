"""Haystack: components joined by their sockets, run by the pipeline's `run_async`."""

from __future__ import annotations

import os

os.environ["HAYSTACK_TELEMETRY_ENABLED"] = "False"  # read when it is imported

from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from typing import Any

from haystack import Pipeline, component
from haystack.core.component.types import GreedyVariadic, Variadic

from ..peer import Dag, Peer, Run, State, Work


class Haystack(Peer):
    name = "haystack"
    distributions = ("haystack-ai",)
    module = "haystack"
    configuration = "Pipeline.run_async, concurrency_limit as wide as the graph, telemetry off"
    cannot = {"durable": "keeps nothing by itself: a snapshot is written at a breakpoint or after an error"}  # noqa: RUF012

    @asynccontextmanager
    async def chain(self, works: Sequence[Work], beside: State | None = None) -> AsyncIterator[Run]:
        pipeline = Pipeline()
        for number, work in enumerate(works):
            pipeline.add_component(f"n{number}", Count(work, beside or {}))
            if number:
                pipeline.connect(f"n{number - 1}.n", f"n{number}.n")
        last, data = f"n{len(works) - 1}", {"n": 0, **(beside or {})}

        async def run() -> int:
            return (await pipeline.run_async(data))[last]["n"]

        yield run

    @asynccontextmanager
    async def fan(self, width: int) -> AsyncIterator[Run]:
        pipeline = Pipeline()
        pipeline.add_component("start", Start())
        pipeline.add_component("join", Join())
        for number in range(width):
            pipeline.add_component(f"b{number}", Branch(number))
            pipeline.connect("start.go", f"b{number}.go")
            pipeline.connect(f"b{number}.number", "join.numbers")

        async def run() -> list[int]:
            done = await pipeline.run_async({"start": {"go": True}}, concurrency_limit=width)
            return sorted(done["join"]["found"])

        yield run

    @asynccontextmanager
    async def loop(self, iterations: int) -> AsyncIterator[Run]:
        pipeline = Pipeline(max_runs_per_component=iterations + 1)
        pipeline.add_component("count", CountAgain())
        pipeline.add_component("back", Back(iterations))
        pipeline.connect("count.n", "back.n")
        pipeline.connect("back.again", "count.n")

        async def run() -> int:
            return (await pipeline.run_async({"count": {"n": 0}}))["back"]["done"]

        yield run

    @asynccontextmanager
    async def dag(self, dag: Dag) -> AsyncIterator[Run]:
        pipeline = Pipeline()
        for number, (task, parents) in enumerate(zip(dag.tasks, dag.parents, strict=True)):
            pipeline.add_component(f"t{number}", Task(task, parents))
        for number, parents in enumerate(dag.parents):
            for parent in parents:
                pipeline.connect(f"t{parent}.done", f"t{number}.after_{parent}")
        data = {f"t{number}": {"go": True} for number in dag.sources}

        async def run() -> None:
            await pipeline.run_async(data, concurrency_limit=len(dag.tasks))

        yield run

    @asynccontextmanager
    async def processor(self, work: Callable[[], None], branches: int) -> AsyncIterator[Run]:
        pipeline = Pipeline()
        for number in range(branches):
            pipeline.add_component(f"cpu{number}", Burn(work))
        data = {f"cpu{number}": {"go": True} for number in range(branches)}

        async def run() -> None:
            await pipeline.run_async(data, concurrency_limit=branches)

        yield run


class Both:
    """A component has to have `run`, too; here only `run_async` is used."""

    def run(self, **inputs: Any) -> dict[str, Any]:
        raise NotImplementedError("only run_async is measured")


@component
class Count(Both):
    def __init__(self, work: Work, beside: State) -> None:
        self.work = work
        component.set_input_types(self, n=int, **{key: type(value) for key, value in beside.items()})
        component.set_output_types(self, n=int)

    async def run_async(self, **inputs: Any) -> dict[str, Any]:
        return {"n": await self.work(inputs)}


@component
class Start(Both):
    def __init__(self) -> None:
        component.set_input_types(self, go=bool)
        component.set_output_types(self, go=bool)

    async def run_async(self, **inputs: Any) -> dict[str, Any]:
        return {"go": True}


@component
class Branch(Both):
    def __init__(self, number: int) -> None:
        self.number = number
        component.set_input_types(self, go=bool)
        component.set_output_types(self, number=int)

    async def run_async(self, **inputs: Any) -> dict[str, Any]:
        return {"number": self.number}


@component
class Join(Both):
    def __init__(self) -> None:
        component.set_input_types(self, numbers=Variadic[int])
        component.set_output_types(self, found=list[int])

    async def run_async(self, **inputs: Any) -> dict[str, Any]:
        return {"found": list(inputs["numbers"])}


@component
class CountAgain(Both):
    def __init__(self) -> None:
        component.set_input_types(self, n=GreedyVariadic[int])
        component.set_output_types(self, n=int)

    async def run_async(self, **inputs: Any) -> dict[str, Any]:
        return {"n": inputs["n"][0] + 1}


@component
class Back(Both):
    def __init__(self, iterations: int) -> None:
        self.iterations = iterations
        component.set_input_types(self, n=int)
        component.set_output_types(self, again=int, done=int)

    async def run_async(self, **inputs: Any) -> dict[str, Any]:
        return {"again" if inputs["n"] < self.iterations else "done": inputs["n"]}


@component
class Task(Both):
    def __init__(self, task: Callable[[], Any], parents: Sequence[int]) -> None:
        self.task = task
        component.set_input_types(self, **({f"after_{parent}": bool for parent in parents} or {"go": bool}))
        component.set_output_types(self, done=bool)

    async def run_async(self, **inputs: Any) -> dict[str, Any]:
        await self.task()
        return {"done": True}


@component
class Burn:
    """A plain `run` and nothing else: the pipeline gives it a thread."""

    def __init__(self, work: Callable[[], None]) -> None:
        self.work = work

    @component.output_types(done=bool)
    def run(self, go: bool) -> dict[str, Any]:
        self.work()
        return {"done": True}
