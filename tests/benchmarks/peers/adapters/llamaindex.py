"""LlamaIndex Workflows: steps that take and return typed events; which step follows is the event's type."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from inspect import Parameter, Signature
from typing import Any

from workflows import Context, Workflow
from workflows.decorators import step
from workflows.events import Event, StartEvent, StopEvent

from ..peer import Dag, Peer, Run, State, Work


class Number(Event):
    n: int


class Found(Event):
    n: int


class Again(Event):
    n: int


class LlamaIndex(Peer):
    name = "llama-index-workflows"
    distributions = ("llama-index-workflows",)
    module = "workflows"
    configuration = "typed events, timeout=None; large state: in the context's store"
    cannot = {  # noqa: RUF012
        "durable": "no store on disk: a context is serialised by hand; a durable runtime is another package, on DBOS"
    }

    @asynccontextmanager
    async def chain(self, works: Sequence[Work], beside: State | None = None) -> AsyncIterator[Run]:
        flow = new_flow()
        taken: type[Event] = StartEvent
        for number, work in enumerate(works):
            given = StopEvent if number == len(works) - 1 else type(f"E{number}", (Number,), {})
            node = counting(work, given) if beside is None else looking(work, given, {} if number else beside)
            add_step(flow, f"n{number}", node, [taken], given)
            taken = given
        workflow = flow(timeout=None)

        async def run() -> int:
            return await workflow.run(n=0)

        yield run

    @asynccontextmanager
    async def fan(self, width: int) -> AsyncIterator[Run]:
        class Fan(Workflow):
            @step
            async def start(self, event: StartEvent) -> list[Number]:
                return [Number(n=number) for number in range(width)]

            @step(num_workers=width)
            async def branch(self, event: Number) -> Found:
                return Found(n=event.n)

            @step
            async def join(self, events: list[Found]) -> StopEvent:
                return StopEvent(result=sorted(event.n for event in events))

        workflow = Fan(timeout=None)

        async def run() -> list[int]:
            return await workflow.run()

        yield run

    @asynccontextmanager
    async def loop(self, iterations: int) -> AsyncIterator[Run]:
        class Loop(Workflow):
            @step
            async def start(self, event: StartEvent) -> Again:
                return Again(n=0)

            @step
            async def count(self, event: Again) -> Number:
                return Number(n=event.n + 1)

            @step
            async def back(self, event: Number) -> Again | StopEvent:
                return Again(n=event.n) if event.n < iterations else StopEvent(result=event.n)

        workflow = Loop(timeout=None)

        async def run() -> int:
            return await workflow.run()

        yield run

    @asynccontextmanager
    async def dag(self, dag: Dag) -> AsyncIterator[Run]:
        flow = new_flow()
        given = [type(f"Done{number}", (Event,), {}) for number in range(len(dag.tasks))]
        for number, (task, parents) in enumerate(zip(dag.tasks, dag.parents, strict=True)):
            taken = [given[parent] for parent in parents] or [StartEvent]
            add_step(flow, f"t{number}", doing(task, given[number]), taken, given[number])
        add_step(flow, "end", ending, [given[number] for number in dag.sinks], StopEvent)
        workflow = flow(timeout=None)

        async def run() -> None:
            await workflow.run()

        yield run

    @asynccontextmanager
    async def processor(self, work: Callable[[], None], branches: int) -> AsyncIterator[Run]:
        class Processor(Workflow):
            @step
            async def start(self, event: StartEvent) -> list[Number]:
                return [Number(n=number) for number in range(branches)]

            @step(num_workers=branches)
            def burn(self, event: Number) -> Found:  # a plain function: it gets a thread
                work()
                return Found(n=event.n)

            @step
            async def join(self, events: list[Found]) -> StopEvent:
                return StopEvent(result=len(events))

        workflow = Processor(timeout=None)

        async def run() -> None:
            await workflow.run()

        yield run


def new_flow() -> type[Workflow]:
    return type("Made", (Workflow,), {})


def add_step(
    flow: type[Workflow], name: str, function: Callable[..., Any], taken: list[type[Event]], given: type[Event]
) -> None:
    """Give a function, which takes events, the signature that says which, as if it were written so."""
    names = [f"event_{number}" for number in range(len(taken))]
    context = {"context": Context} if function.__name__ == "with_context" else {}
    function.__name__ = function.__qualname__ = name
    annotations = {**context, **dict(zip(names, taken, strict=True))}
    function.__annotations__ = {**annotations, "return": given}
    function.__signature__ = Signature(  # type: ignore[attr-defined]
        [Parameter(key, Parameter.POSITIONAL_OR_KEYWORD, annotation=value) for key, value in annotations.items()],
        return_annotation=given,
    )
    step(workflow=flow)(function)


def counting(work: Work, given: type[Event]) -> Callable[..., Any]:
    stops = issubclass(given, StopEvent)

    async def node(event_0: Any) -> Any:
        n = await work({"n": event_0.n})
        return given(result=n) if stops else given(n=n)

    return node


def looking(work: Work, given: type[Event], to_keep: State) -> Callable[..., Any]:
    """A step that looks into the context's store, where the first one puts what is beside the number.

    Not in the start event: the runtime makes a text of each event, and would do so with 5 MB.
    """
    stops = issubclass(given, StopEvent)

    async def with_context(context: Any, event_0: Any) -> Any:
        for key, value in to_keep.items():
            await context.store.set(key, value)
        n = await work({"n": event_0.n, "table": await context.store.get("table")})
        return given(result=n) if stops else given(n=n)

    return with_context


def doing(task: Callable[[], Any], given: type[Event]) -> Callable[..., Any]:
    async def node(**events: Any) -> Any:
        await task()
        return given()

    return node


async def ending(**events: Any) -> Any:
    return StopEvent(result=None)
