"""Random graphs of the reference, run by the engine: in virtual time, under schedules drawn from seeds.

What may vary and must not show: the backend, the order in which ready tasks run, how long each attempt takes, and
how many workers a node has. An `Engine` lives for a handful of graphs, whose runs overlap in it.
"""

from __future__ import annotations

import functools
import logging
import random
from collections import Counter
from collections.abc import Awaitable, Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager

import anyio
from attrs import frozen

from actors import testing
from actors.testing import BACKENDS, Backend, tasks_left
from engine import Engine, GraphInvalid, Run, RunCancelled
from tests.reference.build import Build, random_pause, run_in_engine
from tests.reference.compare import check, differences
from tests.reference.generate import ANY, EXACT, RACY, Profile, random_spec
from tests.reference.interpreter import interpret
from tests.reference.outcome import Outcome
from tests.reference.spec import GraphSpec

WORKERS = (None, 1, 2)
# As many graphs as share an engine: enough to overlap, few enough that one that hangs is soon found.
TOGETHER = 10


@frozen
class Timing:
    """All that decides the timing of a run: the same one gives the same run again."""

    backend: Backend = "asyncio"
    seed: int = 0
    concurrency: int | None = None


def timing(seed: int) -> Timing:
    """A timing for a graph's seed: over nine of them each backend meets each number of workers."""
    return Timing(BACKENDS[seed % 3], seed, WORKERS[seed // 3 % 3])


def profile(seed: int) -> Profile:
    """Mostly graphs of which everything is promised; one in ten with `any` joins, one in ten where timing may show."""
    return {8: ANY, 9: RACY}.get(seed % 10, EXACT)


Disturbance = Callable[[Engine, random.Random], Awaitable[None]]


async def nothing(engine: Engine, rng: random.Random) -> None:
    """Leave the runs in peace."""


def run_together(
    specs: Sequence[GraphSpec], timing: Timing, disturbance: Disturbance = nothing
) -> list[Outcome | RunCancelled]:
    """Run some graphs at once in one engine, disturbed by something, and see that nothing is left of them."""
    return testing.run(
        _run_all, specs, timing, disturbance, backend=timing.backend, seed=timing.seed, virtual_time=True
    )


async def _run_all(
    specs: Sequence[GraphSpec], timing: Timing, disturbance: Disturbance
) -> list[Outcome | RunCancelled]:
    outcomes: list[Outcome | RunCancelled] = [Outcome()] * len(specs)

    async def run_one(index: int) -> None:
        pause = random_pause(timing.seed + index, anyio.sleep)
        try:
            outcomes[index] = await run_in_engine(engine, specs[index], pause, timing.concurrency)
        except RunCancelled as cancelled:
            outcomes[index] = cancelled

    with anyio.fail_after(60):
        async with Engine() as engine, anyio.create_task_group() as around:
            around.start_soon(disturbance, engine, random.Random(timing.seed))
            async with anyio.create_task_group() as group:
                for index in range(len(specs)):
                    group.start_soon(run_one, index)
            around.cancel_scope.cancel()
    assert tasks_left() == []
    return outcomes


def run_alone(timing: Timing, spec: GraphSpec, seed: int) -> Outcome:
    """Run one graph, for finding the smallest one that goes wrong; `seed` varies the timing."""
    try:
        Build(spec).graph.compile()
    except GraphInvalid:
        return interpret(spec)  # made too small: there is nothing to see here
    return whole(run_together([spec], Timing(timing.backend, timing.seed + seed, timing.concurrency)))[0]


def whole(outcomes: Iterable[Outcome | RunCancelled]) -> list[Outcome]:
    """Outcomes of runs that nobody cancelled."""
    return [outcome for outcome in outcomes if isinstance(outcome, Outcome)]


async def pausing(engine: Engine, rng: random.Random) -> None:
    """Pause runs for a while, again and again."""

    async def one(run: Run) -> None:
        await run.pause()
        await anyio.sleep(rng.random() * 0.01)
        await run.resume()

    async with anyio.create_task_group() as group:
        while True:
            await anyio.sleep(rng.random() * 0.002)
            for run in await engine.runs():
                if not run.over and run.status != "paused":
                    group.start_soon(one, run)


async def crashing(engine: Engine, rng: random.Random) -> None:
    """Crash the actor of each graph's nodes now and then, as often as its supervisor bears."""

    async def bomb() -> None:
        raise ZeroDivisionError("a bomb in the engine")

    crashes: Counter[str] = Counter()
    while True:
        await anyio.sleep(rng.random() * 0.002)
        for run in await engine.runs():
            if not run.over and crashes[run.graph] < 3:
                crashes[run.graph] += 1
                run.registered.scheduler.hands.run_beside(bomb)


async def cancelling(engine: Engine, rng: random.Random) -> None:
    """Cancel runs at random moments."""
    while True:
        await anyio.sleep(rng.random() * 0.002)
        for run in await engine.runs():
            if rng.random() < 0.2:
                await run.cancel()


def disagreements(seeds: Sequence[int], timing: Timing) -> Iterator[str]:
    """Run the graph of each seed and say where the engine and the reference disagree."""
    with quiet():
        specs = [random_spec(seed, profile(seed)) for seed in seeds]
        try:
            outcomes = whole(run_together(specs, timing))
        except Exception as error:
            yield f"graphs {list(seeds)} with {timing}: {error!r}"
            return
        for seed, spec, outcome in zip(seeds, specs, outcomes, strict=True):
            if lines := differences(spec, outcome):
                yield "\n".join([f"graph {seed} with {timing}:", *lines, _smallest(spec, timing)])


def _smallest(spec: GraphSpec, timing: Timing) -> str:
    for seed in range(5):
        try:
            check(spec, functools.partial(run_alone, timing), seed)
        except AssertionError as error:
            return str(error)
    return "(it does not happen when the graph runs alone)"


def packs(seeds: Iterable[int], backend: Backend | None = None, number: int = 0) -> Iterator[tuple[list[int], Timing]]:
    """Seeds in handfuls that share a timing, those of one backend or of all; `number` is that of the first."""
    seeds = list(seeds)
    for first in range(0, len(seeds), TOGETHER):
        chosen = timing(number)
        number += 1
        if backend in (None, chosen.backend):
            yield seeds[first : first + TOGETHER], Timing(chosen.backend, seeds[first], chosen.concurrency)


def all_disagreements(seeds: Sequence[int]) -> list[str]:
    """Where the engine and the reference disagree on the graphs of these seeds, over all timings."""
    number = seeds[0] // TOGETHER
    return [line for pack in packs(seeds, number=number) for line in disagreements(*pack)]


@contextmanager
def quiet() -> Iterator[None]:
    """Nobody reads the warnings about thousands of random graphs, and about bombs."""
    logging.disable(logging.CRITICAL)
    try:
        yield
    finally:
        logging.disable(logging.NOTSET)
