"""A run that ends every process that it runs in, among others that do not, in engines that somebody starts again."""

from __future__ import annotations

import logging
import os
import signal
import time
from pathlib import Path
from typing import Any

import anyio
import attrs

from engine import Context, Engine, Graph, Sharing
from tests.durability import lives
from tests.durability.fleet import ask
from tests.durability.lives import note

KILLED_AFTER = 0.3
RUNS = {"before": "innocent", "waits": "waits", "poison": "poison", "after": "innocent"}
"""What each life submits, by key."""
INNOCENT_SECONDS = 1.0
"""Longer than any process lives that has the poison in it: so an innocent run gets no further there either."""


@attrs.frozen
class Place:
    """Where an engine finds its runs, and tells what happened."""

    url: str
    lines: str
    sharing: Sharing
    backend: str


async def kill(state: dict[str, Any], context: Context) -> None:
    """Take the process along, as a crash in native code does."""
    note("kill", context.run_id, time.time())
    await anyio.sleep(KILLED_AFTER)
    os.kill(os.getpid(), signal.SIGSEGV)


async def work(state: dict[str, Any], context: Context) -> dict[str, Any]:
    """Take a while."""
    note("work", context.run_id, time.time())
    await anyio.sleep(INNOCENT_SECONDS)
    return {"done": True}


def graphs() -> tuple[Graph, ...]:
    """The poison, an innocent run, and one that waits for somebody."""
    return (
        Graph("poison").add_node("kill", kill).set_entry_point("kill"),
        Graph("innocent").add_node("work", work).set_entry_point("work"),
        Graph("waits").add_wait("wait", signal="go", into="it").set_entry_point("wait"),
    )


def main(place: Place, life: int) -> None:
    """What a process does."""
    lives.open_lines(place.lines, life)
    logging.getLogger("engine").setLevel(logging.CRITICAL)
    anyio.run(_live, place, backend=place.backend)


async def _live(place: Place) -> None:
    async with Engine(place.url, shared=place.sharing) as engine:
        for graph in graphs():
            engine.register(graph)
        note("joined", os.getpid())
        for key, graph in RUNS.items():
            await engine.submit(graph, {}, idempotency_key=key)
        await anyio.sleep_forever()


def let_loose(place: Place, engines: int, over: str, *, most: float = 180.0) -> int:
    """Start engines, and others for those that end, until a query has rows; how many were started in all."""
    number, processes = 0, dict[int, Any]()
    until = time.monotonic() + most
    try:
        while not ask(place.url, over):
            assert time.monotonic() < until, f"not over after {most:g} s: {ask(place.url, 'SELECT * FROM $.losses')}"
            for slot in range(engines):
                if slot not in processes or processes[slot].exitcode is not None:
                    number += 1
                    processes[slot] = lives.start(main, place, number)
            time.sleep(0.05)
    finally:
        for process in processes.values():
            process.kill()
            process.join()
    return number


def told(place: Place, what: str) -> list[lives.Line]:
    """What the lives told of that."""
    return [line for line in lives.lines_of(Path(place.lines)) if line.what == what]
