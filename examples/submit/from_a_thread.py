"""From threads: of a program whose engine is on a loop, and of one that has no loop at all."""

from __future__ import annotations

import threading
from typing import Literal

import anyio

from engine import Engine

from .flow import graph


async def beside_a_loop(threads: int, each: int) -> None:
    """Ordinary threads submit to the engine of this loop, and wait for their results."""
    print(f"\n== from other threads: {threads} of them, {each} runs each")
    totals: list[int] = []

    def work(first: int) -> None:
        there = engine.blocking()
        runs = [there.submit(graph, {"number": number}) for number in range(first, first + each)]
        totals.append(sum(run.result().state["postage"] for run in runs))

    async with Engine() as engine:
        workers = [threading.Thread(target=work, args=(100 * number,)) for number in range(threads)]
        for worker in workers:
            worker.start()
        for worker in workers:
            await anyio.to_thread.run_sync(worker.join)
        print(f"totals {sorted(totals)}, {engine.statistics().ended} by one engine")


def without_a_loop(backend: Literal["asyncio", "trio"]) -> None:
    """A program that does not await: the engine runs on a loop in a thread of its own."""
    with Engine.blocking(backend=backend) as engine:
        run = engine.submit(graph, {"number": 5})
        print(f"a program without a loop: {run.result().state}")
