"""What the tests through the engine are made of: nodes that sleep and note when they ran, graphs from a line."""

from __future__ import annotations

import asyncio
import os
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from itertools import pairwise
from pathlib import Path
from typing import Any

import anyio
import attrs
import pytest

from engine import Engine, Graph, NodeFailed, Run, RunFailed, RunResult

Function = Callable[..., Any]


class Times:
    """When each node started and ended, on the clock of the loop, from the first start on."""

    def __init__(self) -> None:
        self.began: float | None = None
        self.starts: dict[str, list[float]] = {}
        self.ends: dict[str, list[float]] = {}
        self.order: list[str] = []
        self.running = 0
        self.most = 0

    def node(self, name: str, seconds: float = 0.0, **update: Any) -> Function:
        """A node that sleeps, then returns its update."""

        async def function(state: Any) -> dict[str, Any]:
            async with self.noted(name):
                await anyio.sleep(seconds)
            return update

        return function

    def noted(self, name: str) -> _Noted:
        return _Noted(self, name)

    def now(self) -> float:
        """Seconds since the first start, to the microsecond."""
        time = anyio.current_time()
        if self.began is None:
            self.began = time
        return round(time - self.began, 6)

    def start(self, name: str) -> float:
        """When a node started that ran once."""
        (only,) = self.starts[name]
        return only

    def end(self, name: str) -> float:
        (only,) = self.ends[name]
        return only

    @property
    def total(self) -> float:
        return max(time for times in self.ends.values() for time in times)


class _Noted:
    def __init__(self, times: Times, name: str) -> None:
        self.times = times
        self.name = name

    async def __aenter__(self) -> None:
        times = self.times
        times.starts.setdefault(self.name, []).append(times.now())
        times.order.append(self.name)
        times.running += 1
        times.most = max(times.most, times.running)

    async def __aexit__(self, *_: object) -> None:
        self.times.running -= 1
        self.times.ends.setdefault(self.name, []).append(self.times.now())


def graph(nodes: dict[str, Any], *edges: str, entries: str | list[str] | None = None, **options: Any) -> Graph:
    """A graph of functions (or tuples of one and its options), with edges as `"a -> b, c -> d"`."""
    made = Graph(options.pop("name", "test"), **options)
    for name, what in nodes.items():
        function, more = what if isinstance(what, tuple) else (what, {})
        made.add_node(name, function, **more)
    for edge in edges:
        stops = [[name.strip() for name in part.split(",")] for part in edge.split("->")]
        for sources, targets in pairwise(stops):
            made.add_edge(sources, targets)
    return made.set_entry_point(entries or next(iter(nodes)))


async def same(state: Any) -> None:
    """A node that changes nothing."""


def sets(**update: Any) -> Function:
    async def function(state: Any) -> dict[str, Any]:
        return dict(update)

    return function


def fails(error: BaseException, after: float = 0.0) -> Function:
    async def function(state: Any) -> None:
        await anyio.sleep(after)
        raise error

    return function


def sleeps(seconds: float, **update: Any) -> Function:
    async def function(state: Any) -> dict[str, Any]:
        await anyio.sleep(seconds)
        return update

    return function


async def forever(state: Any) -> None:
    await anyio.sleep_forever()


async def result_of(made: Graph, state: Any = None, **options: Any) -> RunResult:
    """Run a graph in an engine of its own."""
    async with Engine() as engine:
        return await engine.run(made, state, **options)


async def ended(made: Graph, state: Any = None, **options: Any) -> Run:
    """Run a graph in an engine of its own, to whatever end."""
    async with Engine() as engine:
        run = await engine.submit(made, state, **options)
        await run.wait()
    return run


async def failure_of(made: Graph, state: Any = None, **options: Any) -> NodeFailed:
    """The only failure of a graph, run in an engine of its own."""
    run = await ended(made, state, **options)
    with failing() as failed:
        await run.result()
    (only,) = failed
    return only


@contextmanager
def failing() -> Iterator[list[NodeFailed]]:
    """Expect `RunFailed`, and give what failed."""
    found: list[NodeFailed] = []
    with pytest.raises(RunFailed) as raised:
        yield found
    found += raised.value.failures


def types(run: Run) -> list[str]:
    """The types of a run's events."""
    return [event.type for event in run.machine.history.events()]


async def stray() -> BaseException:
    """A genuine cancellation, kept from a scope that is long gone."""
    kept: BaseException | None = None
    with anyio.CancelScope() as scope:
        scope.cancel()
        try:
            await anyio.sleep(1)
        except anyio.get_cancelled_exc_class() as error:
            kept = error
            raise
    assert kept is not None
    return kept


def crash(engine: Engine, graph: str = "test") -> None:
    """Crash the actor that works for a graph's nodes, as a fault of the engine's own would."""

    async def bomb() -> None:
        raise ZeroDivisionError("a bomb in the engine")

    engine._registry.find(graph).scheduler.hands.run_beside(bomb)


# --- for worker processes, which find functions by the name of their module -------------------------------


def hang_in_process(state: dict[str, str]) -> None:
    """Tell the process's number in a file, then never return."""
    Path(state["path"]).write_text(str(os.getpid()))
    while True:
        time.sleep(1000)


def square(state: dict[str, Any]) -> dict[str, Any]:
    return {"square": state["x"] ** 2, "pid": os.getpid()}


@attrs.frozen
class OnlyX:
    """What a process needs of a state that holds more."""

    x: int


def square_of_view(view: OnlyX) -> dict[str, int]:
    return {"square": view.x**2}


def raise_in_process(state: Any) -> None:
    raise LookupError("in the process")


def raise_cancellation(state: Any) -> None:
    raise asyncio.CancelledError("from a loop of its own")
