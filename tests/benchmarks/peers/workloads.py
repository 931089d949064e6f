"""What every engine is asked to do, how one knows that it did, and what we promised.

A job prepares itself with an adapter, is told when a run begins, and checks each result after the clock was stopped.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from functools import partial
from pathlib import Path
from typing import Any, Final, Literal, Protocol

from attrs import define, field, frozen

from ..bench_engine import big_state
from ..cpu_work import burn
from .peer import Dag, Peer, Prepared, State, Work
from .scientific import Scientific, load

US: Final = 1e6
MS: Final = 1e3
COUNT_TO: Final = 6_000_000  # some 0.3 s of a processor


class WrongResult(Exception):
    """An engine gave a result, or an order of tasks, that is not the right one: its time does not count."""


class Job(Protocol):
    def prepare(self, peer: Peer, folder: Path) -> Prepared: ...

    def begin(self) -> None:
        """A run is about to start."""

    def check(self, result: Any) -> None:
        """Raise `WrongResult` unless that is what the run should have given."""


async def count(state: State) -> int:
    return state["n"] + 1


async def sleep_a_little(state: State) -> int:
    await asyncio.sleep(0.001)
    return state["n"]


async def look_up(state: State) -> int:
    return state["n"] + state["table"]["key 1"]


@frozen
class Expected:
    """A job whose result is known."""

    prepared: Callable[[Peer, Path], Prepared]
    result: Any

    def prepare(self, peer: Peer, folder: Path) -> Prepared:
        return self.prepared(peer, folder)

    def begin(self) -> None:
        pass

    def check(self, result: Any) -> None:
        if result != self.result:
            raise WrongResult(f"expected {self.result!r:.80}, got {result!r:.80}")


def chain(*works: Work, beside: Callable[[], State] | None = None, result: int) -> Expected:
    return Expected(lambda peer, folder: peer.chain(works, beside() if beside else None), result)


@define
class Tasks:
    """Tasks that wait for others; each must run once, and after its parents."""

    shape: Scientific
    sleeping: bool
    _steps: list[int] = field(factory=list)  # n: task n began, ~n: it ended

    def prepare(self, peer: Peer, folder: Path) -> Prepared:
        make = self._sleeper if self.sleeping else self._visitor
        return peer.dag(Dag(self.shape.parents, [make(task) for task in range(len(self.shape.parents))]))

    def begin(self) -> None:
        self._steps.clear()

    def check(self, result: Any) -> None:
        count_of = len(self.shape.parents)
        began = {step: place for place, step in enumerate(self._steps) if step >= 0}
        ended = {~step: place for place, step in enumerate(self._steps) if step < 0}
        if len(self._steps) != 2 * count_of or len(began) != count_of or len(ended) != count_of:
            raise WrongResult(f"{count_of} tasks were to run once each, {len(self._steps) / 2:g} ran")
        for task, parents in enumerate(self.shape.parents):
            for parent in parents:
                if ended[parent] > began[task]:
                    raise WrongResult(f"task {task} began before {parent}, which it waits for, had ended")

    def _visitor(self, task: int) -> Callable[[], Awaitable[None]]:
        async def visit() -> None:
            self._steps.append(task)
            self._steps.append(~task)

        return visit

    def _sleeper(self, task: int) -> Callable[[], Awaitable[None]]:
        seconds = self.shape.seconds[task]

        async def visit() -> None:
            self._steps.append(task)
            await asyncio.sleep(seconds)
            self._steps.append(~task)

        return visit


@define
class Held:
    """Runs that wait in the middle of three nodes until all of them are there."""

    waiting: int = 0
    go: asyncio.Event = field(factory=asyncio.Event)

    def prepare(self, peer: Peer, folder: Path) -> Prepared:
        return peer.chain((count, self._wait, count))

    def begin(self) -> None:
        pass

    def check(self, result: Any) -> None:
        if result != 2:
            raise WrongResult(f"expected 2, got {result!r:.80}")

    async def _wait(self, state: State) -> int:
        self.waiting += 1
        await self.go.wait()
        return state["n"]


@frozen
class Workload:
    """One line of the table.

    A figure is what a run takes, or all of `at_once`, divided by `parts`. `anew` counts the building of the graph and
    its first run; `kind` is what is measured.
    """

    name: str
    unit: str
    factor: float  # of seconds
    job: Callable[[], Job]
    parts: float = 1
    at_once: int = 1
    kind: Literal["run", "anew", "memory", "import"] = "run"
    at_least: Mapping[str, float] = field(factory=dict)  # peer -> how many times faster we want to be
    limit: float | None = None  # of our own figure
    short: bool = False  # part of the short form


def uneven_diamond() -> Tasks:
    """Two branches, short then long and long then short: with a barrier between them it takes 190 ms, not 120."""
    return Tasks(Scientific("diamond", ((), (0,), (1,), (0,), (3,), (2, 4)), (0, 0.02, 0.09, 0.09, 0.02, 0.01)), True)


def plain_work(loops: int) -> None:
    burn({"loops": loops})


def fills_processors() -> Expected:
    # The same number for all, not the same time: each would find another number, the more so beside other work.
    work = partial(plain_work, COUNT_TO)
    return Expected(lambda peer, folder: peer.processor(work, 4), None)


def durable_chain() -> Expected:
    return Expected(lambda peer, folder: peer.durable((count,) * 20, folder), 20)


def workloads(quick: bool) -> list[Workload]:
    """All of them; a quick run has fewer and smaller ones."""
    in_flight, nodes = (1_000, 2_000) if quick else (5_000, 10_000)
    at_once, iterations = (500, 200) if quick else (2_000, 1_000)
    five = (count, count, sleep_a_little, count, count)
    found = [
        Workload(
            "chain of 100, per node",
            "us",
            US,
            lambda: chain(*(count,) * 100, result=100),
            parts=100,
            at_least={"langgraph": 25, "pydantic-graph classic": 1},
            short=True,
        ),
        Workload(
            "fan to 100 and join, per branch",
            "us",
            US,
            lambda: Expected(lambda peer, folder: peer.fan(100), list(range(100))),
            parts=100,
            at_least={"langgraph": 25},
            short=True,
        ),
        Workload(
            f"loop of 2 nodes, {iterations:,} times, per node",
            "us",
            US,
            lambda: Expected(lambda peer, folder: peer.loop(iterations), iterations),
            parts=2 * iterations,
            at_least={"langgraph": 40},
            short=True,
        ),
        Workload("uneven diamond, critical path 120 ms", "ms", MS, uneven_diamond, limit=120 * 1.03),
        Workload(
            f"{at_once:,} runs of 5 nodes at once, per run",
            "us",
            US,
            lambda: chain(*five, result=4),
            parts=at_once,
            at_once=at_once,
            at_least={"langgraph": 40},
            short=True,
        ),
        Workload("durable chain of 20, per node", "us", US, durable_chain, parts=20, short=True),
        Workload(
            "50 durable chains of 20 at once, per node",
            "us",
            US,
            durable_chain,
            parts=1_000,
            at_once=50,
            at_least={"langgraph": 30, "langgraph sync": 30, "dbos": 50},
            short=True,
        ),
        Workload(f"{in_flight:,} runs in flight, each", "KB", 1 / 1024, Held, parts=in_flight, kind="memory"),
        Workload(
            "20 nodes beside 10,000 entries and 5 MB, per node",
            "us",
            US,
            lambda: chain(*(look_up,) * 20, beside=beside, result=20),
            parts=20,
        ),
        Workload(
            f"{nodes:,} nodes: build and run once, per node",
            "us",
            US,
            lambda: chain(*(count,) * nodes, result=nodes),
            parts=nodes,
            kind="anew",
            short=True,
        ),
        Workload(f"4 branches that count to {COUNT_TO:,}", "s", 1, fills_processors),
        Workload("import", "s", 1, Held, kind="import"),
    ]
    for name, size in (("montage", 100), ("montage", 2_000), ("epigenomics", 2_000), ("blast", 2_000)):
        if quick and size == 2_000:
            size = 500
        found.append(
            Workload(
                f"{name} of {len(load(name, size).parents):,} tasks, no work, per task",
                "us",
                US,
                partial(_scientific, name, size, False),
                parts=len(load(name, size).parents),
                at_least={"langgraph": 25} if (name, size) == ("montage", 2_000) else {},
                short=(name, size) == ("montage", 2_000),
            )
        )
    for name in ("montage", "epigenomics", "blast"):
        shape = load(name, 500)
        found.append(
            Workload(
                f"{name} of {len(shape.parents)} tasks that sleep, critical path {1_000 * SLEEPS:g} ms",
                "ms",
                MS,
                partial(_scientific, name, 500, True),
            )
        )
    return found


SLEEPS: Final = 0.5  # the critical path of sleeping tasks, in seconds


def _scientific(name: str, size: int, sleeping: bool) -> Tasks:
    return Tasks(load(name, size).lasting(SLEEPS), sleeping)


def beside() -> State:
    state = big_state()
    return {key: state[key] for key in ("table", "blob")}
