"""Soak a real service: mixed load by clients of every kind, while it is killed with -9, drained, and loses its store.

    python -m tests.durability.soak --minutes 10 [--backend asyncio|trio] [--store sqlite|postgres] [--seed 7]

In the first part the service is ended again and again, at the worst moments that can be arranged: right when a run is
acknowledged. In the second it runs on, so that its memory can be looked at. In the end everything that was acknowledged
must be in the store, once, with the right result, and every watcher must have seen each event, once. Prints what it did
and what was lost, and exits with 1 if that is anything. `--fault` breaks the service on purpose (soak_faults.py).
"""

from __future__ import annotations

import argparse
import random
import signal
import tempfile
from collections import Counter
from contextlib import ExitStack
from pathlib import Path
from time import monotonic
from typing import Any, Final

import anyio
import anyio.to_thread
import attrs

from engine import Engine, Settings
from engine.format import unpack_record
from engine.ports import Store
from engine.stored import Query
from engine.stores import open_store
from tests.durability.soak_faults import FAULTS
from tests.durability.soak_flows import expected, graphs
from tests.durability.soak_load import Load, Tally
from tests.durability.soak_service import KEPT_RUNS, Service
from tests.servers import PostgresServer

WORKERS: Final = 16
UNREST: Final = 0.55
"""The part of the time in which the service is ended again and again."""
WARM: Final = 0.3
"""The part of its last life after which its memory is looked at: by then it has met everything once."""
LEAST_ENDS: Final = 2
"""That often it is ended at least, however long a start takes."""
SAMPLE_SECONDS: Final = 0.5
LEAST_SAMPLES: Final = 8
LEAST_RUNS: Final = 150
"""So many runs must have come while its memory was looked at, or nothing can be said of it."""
LONGER_SECONDS: Final = 60.0
"""At most, for a machine that does not come so far in time."""
FINISH_SECONDS: Final = 180.0
PAGE: Final = 1_000
BYTES_OF_A_RUN: Final = 24_000
"""At most, of one that has ended and is still kept in memory, with its log and events."""
BYTES_OF_CHANCE: Final = 24 * 1024 * 1024
SHOWN: Final = 20
MEGABYTE: Final = 1024 * 1024


@attrs.define
class Report:
    """What was done, and what was lost."""

    seed: int
    backend: str
    store: str
    minutes: float
    tally: Tally = attrs.field(factory=Tally)
    lives: int = 0
    kills: int = 0
    at_acknowledgements: int = 0
    drains: list[float] = attrs.field(factory=list)
    away: list[tuple[float, float]] = attrs.field(factory=list)
    memory: list[tuple[float, int, int]] = attrs.field(factory=list)
    """Of the last life: when, bytes, and runs that had been acknowledged."""
    stored: int = 0
    records: int = 0

    @property
    def faults(self) -> list[str]:
        """All that is wrong."""
        return self.tally.faults

    def look_at_memory(self) -> None:
        """It must not grow but by the runs that it keeps on purpose, of which there is an end."""
        if len(self.memory) < 4:
            return
        (_, before, runs), (_, after, more) = self._ends()
        kept = max(0, min(more, KEPT_RUNS) - runs)
        most = BYTES_OF_CHANCE + BYTES_OF_A_RUN * kept
        if after - before > most:
            self.tally.fault(f"memory grew by {(after - before) / MEGABYTE:.1f} MB, {most / MEGABYTE:.1f} are allowed")

    def _ends(self) -> tuple[tuple[float, int, int], tuple[float, int, int]]:
        """The lower middle of the first and of the last quarter of the samples."""
        quarter = max(2, len(self.memory) // 4)

        def middle(part: list[tuple[float, int, int]]) -> tuple[float, int, int]:
            found: tuple[float, int, int] = sorted(part, key=lambda sample: sample[1])[(len(part) - 1) // 2]
            return found

        return middle(self.memory[:quarter]), middle(self.memory[-quarter:])

    def __str__(self) -> str:
        done = self.tally.done
        lines = [
            f"seed {self.seed}: {self.minutes:g} minutes on {self.backend} with {self.store}",
            f"{self.lives} lives: {self.kills} killed with -9, {self.at_acknowledgements} of them right when a run was "
            f"acknowledged; {len(self.drains)} told to end, which took {max(self.drains, default=0):.1f} s at most",
        ]
        if self.away:
            gone = ", ".join(f"{end - begin:.1f}" for begin, end in self.away)
            lines.append(f"the store was away {len(self.away)} times: {gone} s")
        lines += [f"{count:>9,} {what}" for what, count in sorted(done.items())]
        lines.append(f"in the end {self.stored:,} runs with {self.records:,} records are in the store")
        if len(self.memory) >= 4:
            (_, before, runs), (_, after, more) = self._ends()
            seconds = self.memory[-1][0] - self.memory[0][0]
            lines.append(
                f"memory of the last life over {seconds:.0f} s: {before / MEGABYTE:.1f} MB after {runs:,} runs, "
                f"{after / MEGABYTE:.1f} MB after {more:,} (it keeps {KEPT_RUNS:,})"
            )
        if self.faults:
            return "\n".join([*lines, f"{len(self.faults)} FAULTS", *self.faults[:SHOWN]])
        return "\n".join([*lines, "lost: nothing"])


class Soak:
    """One soak, from the first start to the last look into the store."""

    def __init__(self, folder: Path, report: Report, postgres: PostgresServer | None, fault: str = "") -> None:
        self._report = report
        self._postgres = postgres
        self._url = f"sqlite:///{folder}/runs.db" if postgres is None else postgres.url
        self._chance = random.Random(report.seed)
        self._service = Service(folder, self._url, report.backend, fault)
        self._load = Load(self._service, self._chance, report.tally)
        self._seconds = report.minutes * 60

    async def run(self, workers: int = WORKERS) -> None:
        """Everything that is found goes into the report."""
        try:
            await self._service.start()
            await self._under_load(workers)
            if self._service.ready:
                await self._service.drain()
        finally:
            self._service.close()
            self._report.tally.faults += self._service.faults
            self._report.lives = self._service.lives
            self._report.kills = len(self._service.kills)
            self._report.drains = self._service.drains
            self._report.away = self._load.away
        if "Traceback" in self._service.log:
            self._report.tally.fault(f"there is a traceback in the log:\n{_traceback_in(self._service.log)}")
        self._report.look_at_memory()
        await check_store(self._url, self._report)

    async def _under_load(self, workers: int) -> None:
        finished = False
        with anyio.move_on_after(self._seconds + FINISH_SECONDS):
            async with anyio.create_task_group() as group:
                group.start_soon(self._load.run, workers)
                await self._unrest()
                await self._rest()
                self._load.stop.set()
            finished = True
        if not finished:
            left = {kind: count for kind, count in self._load.under_way.items() if count}
            self._report.tally.fault(f"{FINISH_SECONDS:g} s after the load stopped there was still something: {left}")

    async def _unrest(self) -> None:
        """The service is ended again and again."""
        until = monotonic() + self._seconds * UNREST
        longest = min(12.0, self._seconds / 12)
        ways = ["kill", "kill at acknowledgement", "drain"] + ["store"] * (self._postgres is not None)
        left: list[str] = []
        while monotonic() < until or len(self._service.kills) + len(self._service.drains) < LEAST_ENDS:
            await anyio.sleep(self._chance.uniform(0.2, longest))
            left = left or self._chance.sample(ways, len(ways))  # each of them as often, in any order
            match left.pop():
                case "kill":
                    self._service.kill()
                    await self._service.again()
                case "kill at acknowledgement":
                    await self._load.kill_at_acknowledgement(self._chance)
                    self._report.at_acknowledgements += 1
                case "drain":
                    await self._service.drain()
                    await self._service.start()
                case "store":
                    await self._store_goes_away()
            self._look_whether_it_lives()

    async def _store_goes_away(self) -> None:
        assert self._postgres is not None
        began = monotonic()
        await anyio.to_thread.run_sync(self._postgres.kill)
        await anyio.sleep(self._chance.uniform(0.5, 4))
        await anyio.to_thread.run_sync(self._postgres.start)
        self._load.away.append((began, monotonic()))

    async def _rest(self) -> None:
        """It goes on without being disturbed, and its memory is looked at."""
        begin = monotonic()
        until, warm = begin + self._seconds * (1 - UNREST), begin + self._seconds * (1 - UNREST) * WARM
        before = self._report.tally.done["acknowledged"]
        while monotonic() < until or (monotonic() < until + LONGER_SECONDS and not self._has_looked_enough()):
            await anyio.sleep(SAMPLE_SECONDS)
            self._look_whether_it_lives()
            if self._service.ready and monotonic() > warm:
                runs = self._report.tally.done["acknowledged"] - before
                self._report.memory.append((monotonic(), self._service.resident_bytes(), runs))

    def _has_looked_enough(self) -> bool:
        memory = self._report.memory
        return len(memory) >= LEAST_SAMPLES and memory[-1][2] - memory[0][2] >= LEAST_RUNS

    def _look_whether_it_lives(self) -> None:
        if why := self._service.ended_by_itself():
            self._report.tally.fault(why)
            raise AssertionError(f"seed {self._report.seed}: {why}")


async def check_store(url: str, report: Report) -> None:
    """What was acknowledged is there, once, with the right result; and nothing is there that was not sent."""
    tally = report.tally
    async with open_store(url) as store:
        tally.faults += [f"the store is damaged: {fault}" for fault in await store.verify()]
        keys = await _look_at_records(store, report)
    tally.faults += [f"key {key} has {count} runs" for key, count in keys.items() if count > 1]
    async with Engine(url, settings=Settings(recover=False)) as engine:
        for graph in graphs:
            engine.register(graph)
        found: set[str] = set()
        after: str | None = None
        while page := await engine.runs(limit=PAGE, after=after):
            after = page[-1].id
            for run in page:
                found.add(run.id)
                key = tally.acknowledged.get(run.id)
                if key is not None:
                    status, state = expected(*tally.sent[key], key)
                    if (run.status, dict(run.state)) != (status, state):
                        tally.fault(f"run {run.id} of {run.graph} is stored as {run.status} {run.state}")
    for run_id, key in tally.acknowledged.items():
        if run_id not in found:
            tally.fault(f"run {run_id} with key {key} was acknowledged, and is lost")
    report.stored = len(found)


async def _look_at_records(store: Store, report: Report) -> Counter[str]:
    keys: Counter[str] = Counter()
    after: str | None = None
    while page := await store.find(Query(after=after, limit=PAGE)):
        after = page[-1].run_id
        for row in page:
            if row.key is None or row.key not in report.tally.sent:
                report.tally.fault(f"run {row.run_id} was submitted by nobody, under key {row.key!r}")
                continue
            keys[row.key] += 1
            stored = await store.read(row.run_id)
            assert stored is not None
            report.records += len(stored.records)
            ends = sum(unpack_record(data).kind == "ended" for _, data in stored.records)
            if row.graph != "broken" and ends != 1 and row.run_id in report.tally.acknowledged:
                report.tally.fault(f"run {row.run_id} of {row.graph} ended {ends} times")
    return keys


def _traceback_in(log: str) -> str:
    return log[log.index("Traceback") :][:8_000]


def soak(folder: Path, minutes: float, seed: int, backend: str, store: str, fault: str = "", **options: Any) -> Report:
    """Do it, and tell what came out."""
    report = Report(seed, backend, store, minutes)
    with ExitStack() as stack:
        postgres = stack.enter_context(PostgresServer()) if store == "postgres" else None
        anyio.run(Soak(folder, report, postgres, fault).run, *options.values())
    return report


def by_hand() -> None:
    """From the command line."""
    parser = argparse.ArgumentParser(prog="python -m tests.durability.soak", description=by_hand.__doc__)
    parser.add_argument("--minutes", type=float, default=10)
    parser.add_argument("--seed", type=int, default=random.randrange(1 << 32))
    parser.add_argument("--backend", choices=["asyncio", "trio"], default="asyncio")
    parser.add_argument("--store", choices=["sqlite", "postgres"], default="sqlite")
    parser.add_argument("--fault", choices=sorted(FAULTS), default="", help="break the service on purpose")
    given = parser.parse_args()
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # and leave no service behind
    with tempfile.TemporaryDirectory() as folder:
        report = soak(Path(folder), given.minutes, given.seed, given.backend, given.store, given.fault)
    print(report)
    raise SystemExit(bool(report.faults))


if __name__ == "__main__":
    by_hand()
