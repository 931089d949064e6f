"""From code: thousands of runs, each safe on disk before it is begun, and each of them once."""

from __future__ import annotations

from collections import Counter
from itertools import count as numbers_from
from time import perf_counter

import anyio

from engine import Engine

from .ending import ends_of
from .flow import graph

AT_ONCE = 200
SUBMITTERS = 32
"""A submission returns when it is on disk. Those that are under way at the same time share one commit."""


async def thousands(count: int, store: str) -> None:
    """Submit them, take results as they come, then submit all of them again."""
    async with Engine(store, max_runs=AT_ONCE, max_queued=count) as engine:
        print(f"== from code: {count:,} runs, at most {AT_ONCE} at once")
        began = perf_counter()
        ended: Counter[str] = Counter()
        cents = 0
        async with anyio.create_task_group() as group:
            with ends_of(engine) as ends:
                group.start_soon(submit_all, engine, count)
                async for run in ends:
                    ended[run.status] += 1
                    cents += run.state.get("postage", 0)
                    if ended.total() * 4 % count < 4:
                        took = perf_counter() - began
                        print(f"{ended.total():6,} ended after {took:.2f} s: {dict(ended)}, postage {cents / 100:.2f}")
                    if ended.total() == count:
                        break
        print(f"{count / (perf_counter() - began):,.0f} runs/s, each of them on disk from its first step to its last")

        began = perf_counter()
        await submit_all(engine, count)
        begun = engine.statistics().submitted - count
        print(f"all of them again, same keys: {begun} new runs, {count / (perf_counter() - began):,.0f} answers/s")


async def submit_all(engine: Engine, count: int) -> None:
    """From several tasks; the number of a parcel is its key."""
    numbers = numbers_from()

    async def submit() -> None:
        while (number := next(numbers)) < count:
            await engine.submit(graph, {"number": number}, idempotency_key=f"parcel {number}")

    async with anyio.create_task_group() as group:
        for _ in range(SUBMITTERS):
            group.start_soon(submit)


async def until(seconds: float, count: int) -> None:
    """Take what is there in time, and cancel the rest."""
    print(f"\n== on a deadline: {count} runs that take up to {2 * seconds:g} s, and {seconds:g} s of patience")
    async with Engine() as engine:
        with ends_of(engine) as ends:
            runs = [
                await engine.submit(graph, {"number": number, "slow": 2 * seconds * number / count})
                for number in range(count)
            ]
            there = 0
            with anyio.move_on_after(seconds):
                async for _ in ends:
                    there += 1
            late = [run for run in runs if not run.over]
            for run in late:
                await run.cancel("out of time")
            for run in late:
                await run.wait()
        statuses = Counter(run.status for run in runs)
        print(f"{there} in time; now {', '.join(f'{number} {status}' for status, number in sorted(statuses.items()))}")

        # Or the run has a deadline of its own, which the engine keeps, whoever is there to look.
        run = await engine.submit(graph, {"number": 1, "slow": 60}, deadline=0.05)
        print(f"a run with deadline=0.05: {await run.wait()}, {run.error.exceptions[0]}")  # type: ignore[union-attr]
