"""Random graphs of the reference on a store, left in the middle again and again.

A life is one engine on the store. It is left by an exception after a number of commits drawn from a seed; either as a
program would leave it, or, `dead`, as one that is killed: from that commit on nothing reaches the store. Another goes
on. Whatever happens, the runs come to what the reference says, and nothing that is on record as over begins again.

At length: `python -m tests.semantics.durable_graphs --store sqlite --graphs 10000`.
"""

import argparse
import random
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from functools import partial
from pathlib import Path
from typing import Any

import anyio
import attrs

from actors import testing
from actors.testing import tasks_left
from engine import Context, Engine, Event, Run, RunNotFound, Settings, StoreUnavailable, keeping
from engine.format import digests_in, unpack_record
from engine.ports import Store
from engine.stored import Write
from tests.contracts.stores import FACTORIES, Make, memory
from tests.faulty_store import FaultyStore
from tests.reference.build import Build, outcome_of, random_pause
from tests.reference.compare import differences
from tests.reference.generate import random_spec
from tests.reference.outcome import Outcome
from tests.reference.spec import GraphSpec, Node, describe
from tests.semantics.engine_graphs import TOGETHER, Timing, packs, profile, quiet

# Of a life that is not left; and after so many lives, so that a run comes to its end.
MOST_COMMITS = 40
MOST_LIVES = 8
# A snapshot after so many records, in every second life: as it is, no random graph is long enough for one.
RECORDS_OF_A_SNAPSHOT = 5


def faulty(folder: Path) -> Make:
    """A store in memory that fails now and then, each time it is opened with other faults."""
    make, seeds = memory(folder), iter(range(1_000_000))
    return lambda: FaultyStore(make(), (folder.name, next(seeds)), entering=True)


# What tests/contracts has is here, too: PostgreSQL and Redis, once their factories are there.
STORES: dict[str, Callable[[Path], Make]] = {**FACTORIES, "faulty": faulty}
IN_VIRTUAL_TIME = ("memory", "faulty")


class Crashed(Exception):
    """Leaves an engine in the middle of its work."""


class Mortal:
    """A store that tells when so many commits have come; if `dead`, it takes nothing more."""

    def __init__(self, store: Store, commits: int | None, dead: bool) -> None:
        self.store = store
        self.left = commits
        self.dead = dead
        self.over = anyio.Event()

    async def commit(self, writes: Sequence[Write], *, sync: bool = False) -> None:
        if self.left is None:
            await self.store.commit(writes, sync=sync)
        elif self.left > 0 or not self.dead:
            self.left -= 1
            try:
                await self.store.commit(writes, sync=sync)
            finally:
                if self.left <= 0:
                    self.over.set()
        else:
            raise StoreUnavailable("its process is dead")

    async def __aenter__(self) -> "Mortal":
        await self.store.__aenter__()
        return self

    async def __aexit__(self, *error: Any) -> None:
        await self.store.__aexit__(*error)

    def __getattr__(self, name: str) -> Any:
        return getattr(self.store, name)


class NotedBuild(Build):
    """Notes what begins, by life."""

    def __init__(self, spec: GraphSpec, seed: int, concurrency: int | None) -> None:
        self.life = 1
        self.began: Counter[tuple[int, str]] = Counter()
        super().__init__(spec, random_pause(seed, anyio.sleep), concurrency=concurrency)

    def _function(self, node: Node) -> Any:
        inner = super()._function(node)

        async def run(state: Any, ctx: Context) -> Any:
            self.began[self.life, f"{node.name}#{ctx.activation}"] += 1
            return await inner(state, ctx)

        return run

    def _worker(self, node: Node) -> Any:
        inner = super()._worker(node)

        async def run(item: Any, ctx: Context) -> Any:
            self.began[self.life, f"{node.name}#{ctx.activation}[{item[0]}]"] += 1
            return await inner(item, ctx)

        return run


@attrs.define
class Story:
    """What became of one graph over all lives."""

    spec: GraphSpec
    outcome: Outcome
    lives: int
    again: list[str]
    """What was on record as over, and began all the same."""


def run_over_lives(specs: Sequence[GraphSpec], timing: Timing, store: str, crashes: bool = True) -> list[Story]:
    """Run some graphs at once on a store, in as many engines as it takes."""
    with tempfile.TemporaryDirectory() as above:
        folder = Path(above) / str(timing.seed)  # faults are drawn from its name
        folder.mkdir()
        virtual = store in IN_VIRTUAL_TIME
        return testing.run(
            _run_over_lives, specs, timing, STORES[store](folder), crashes,
            backend=timing.backend, seed=timing.seed, virtual_time=virtual,
        )  # fmt: skip


async def _run_over_lives(specs: Sequence[GraphSpec], timing: Timing, make: Make, crashes: bool) -> list[Story]:
    dice = random.Random(f"lives {timing.seed}")
    builds = [NotedBuild(spec, timing.seed + index, timing.concurrency) for index, spec in enumerate(specs)]
    outcomes: dict[int, Outcome] = {}
    recorded: dict[tuple[int, int], set[str]] = {}
    life = 0
    while len(outcomes) < len(specs):
        life += 1
        commits = dice.randrange(1, MOST_COMMITS) if crashes and life < MOST_LIVES else None
        for index, build in enumerate(builds):
            build.life = life
            recorded[life, index] = await _on_record(make, f"run {index}") if crashes else set()
        with _snapshots_every(RECORDS_OF_A_SNAPSHOT if crashes and dice.randrange(2) else keeping.SNAPSHOT_RECORDS):
            await _live(Mortal(make(), commits, dice.randrange(2) == 0), builds, outcomes)
    assert tasks_left() == []
    stories = []
    for index, build in enumerate(builds):
        again = [
            f"{token} was over before life {began}" for began, token in build.began if token in recorded[began, index]
        ]
        outcome = outcomes[index]
        for key in [key for key in outcome.activations if key[2] is None]:
            outcome.activations[key] = 1  # of a map, told by the events of each life
        if crashes:
            # What was in flight was done again: as often as it was seen, it counts once.
            outcome.activations = Counter({*outcome.activations})
            outcome.iterations = None if outcome.iterations is None else Counter({*outcome.iterations})
        stories.append(Story(build.spec, outcome, life, again))
    return stories


async def _live(store: Mortal, builds: Sequence[NotedBuild], outcomes: dict[int, Outcome]) -> None:
    """One life."""

    async def run_one(engine: Engine, index: int) -> None:
        build = builds[index]
        try:
            run = await engine.get(f"run {index}")
        except RunNotFound:
            run = await engine.submit(build.graph, build.initial(), run_id=f"run {index}")
        outcome = await outcome_of(run, build)
        outcomes[index] = outcome

    async def die() -> None:
        await store.over.wait()
        raise Crashed

    try:
        with anyio.fail_after(60):
            engine: Any = Engine(store, settings=Settings(prune=False, close_seconds=0.2))  # type: ignore[arg-type]
            async with engine:
                engine.subscribe(partial(_note, {build.graph.name: build for build in builds}))
                async with anyio.create_task_group() as group:
                    group.start_soon(die)
                    for build in builds:
                        engine.register(build.graph)
                    async with anyio.create_task_group() as runs:
                        for index in range(len(builds)):
                            if index not in outcomes:
                                runs.start_soon(run_one, engine, index)
                    group.cancel_scope.cancel()
    except* (Crashed, StoreUnavailable):
        pass  # also of a store that could not be entered


async def _on_record(make: Make, run_id: str) -> set[str]:
    """What is on record as over: activations, and items."""
    async with _below(make()) as store:
        records = await store.records(run_id)
        digests = list(dict.fromkeys(digest for _, data in records for digest in digests_in(data)))
        blobs = await store.blobs(digests)
    assert [seq for seq, _ in records] == list(range(1, len(records) + 1)), "no record is missing"
    found = set()
    for _, data in records:
        record = unpack_record(data, blobs)
        if record.kind == "item":
            found.add(f"{record.node}#{record.activation}[{record.item}]")
        elif record.kind in ("settled", "error_edge", "done", "failed") and record.activation:
            found.add(f"{record.node}#{record.activation}")
    return found


def _note(builds: dict[str, NotedBuild], run: Run, event: Event) -> None:
    """Of maps only events tell, and those before a snapshot are not there in later lives."""
    build = builds[run.graph]
    if event.type == "node_started" and any(node.name == event.node and node.map for node in build.spec.nodes):
        build.activations[event.node, event.activation, None] += 1


def _below(store: Any) -> Store:
    below: Store = store.inner if isinstance(store, FaultyStore) else store
    return below


class _snapshots_every:
    def __init__(self, records: int) -> None:
        self.records = records

    def __enter__(self) -> None:
        self.before = keeping.SNAPSHOT_RECORDS, keeping.SNAPSHOT_FACTOR
        if self.records != self.before[0]:
            keeping.SNAPSHOT_RECORDS, keeping.SNAPSHOT_FACTOR = self.records, 0  # type: ignore[misc]

    def __exit__(self, *_: object) -> None:
        keeping.SNAPSHOT_RECORDS, keeping.SNAPSHOT_FACTOR = self.before  # type: ignore[misc]


def disagreements(seeds: Sequence[int], timing: Timing, store: str, crashes: bool = True) -> Iterator[str]:
    """Run the graph of each seed and say where it does not come to what the reference says."""
    with quiet():
        specs = [random_spec(seed, profile(seed)) for seed in seeds]
        try:
            stories = run_over_lives(specs, timing, store, crashes)
        except Exception as error:
            yield f"graphs {list(seeds)} with {timing}: {error!r}"
            return
        for seed, story in zip(seeds, stories, strict=True):
            lines = story.again + differences(story.spec, story.outcome)
            if lines:
                yield "\n".join(
                    [f"graph {seed} of {list(seeds)}, {story.lives} lives, {timing}:", *lines, describe(story.spec)]
                )


def all_disagreements(store: str, crashes: bool, seeds: Sequence[int]) -> list[str]:
    """Over all timings."""
    number = seeds[0] // TOGETHER
    return [line for pack in packs(seeds, number=number) for line in disagreements(*pack, store, crashes)]


def main() -> int:
    """Run random graphs on a store at length, crashing, and show where they disagree with the reference."""
    parser = argparse.ArgumentParser(prog="python -m tests.semantics.durable_graphs", description=main.__doc__)
    parser.add_argument("--graphs", type=int, default=2_000)
    parser.add_argument("--seed", type=int, default=0, help="the first of the seeds, one per graph")
    parser.add_argument("--store", choices=STORES, default="memory")
    parser.add_argument("--quietly", action="store_true", help="without crashes")
    options = parser.parse_args()
    began, found = time.monotonic(), 0
    last = options.seed + options.graphs
    seeds = [range(first, min(first + 50, last)) for first in range(options.seed, last, 50)]
    with ProcessPoolExecutor() as pool:
        for lines in pool.map(partial(all_disagreements, options.store, not options.quietly), seeds):
            found += len(lines)
            for line in lines:
                print(line, end="\n\n", flush=True)
    print(f"{options.graphs} graphs, {found} disagreements, {time.monotonic() - began:.0f} s")
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main())
