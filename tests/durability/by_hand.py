"""Submit a hundred runs, kill the process with -9 in the middle, start it again: all finish, each effect once.

python -m tests.durability.by_hand
"""

from __future__ import annotations

import argparse
import logging
import tempfile
import time
from collections import Counter
from itertools import pairwise
from pathlib import Path
from typing import Any

import anyio

from engine import Context, Engine, Graph
from tests.durability import lives
from tests.durability.lives import note

NODES = ("fetch", "charge", "pack", "send")


async def work(state: dict[str, Any], context: Context) -> dict[str, Any]:
    note("begun", context.token)
    await anyio.sleep(0.05)
    note("effect", context.token)
    return {context.node: True}


def order() -> Graph:
    """Four nodes in a line, each with an effect outside."""
    graph = Graph("order").set_entry_point(NODES[0])
    for name in NODES:
        graph.add_node(name, work, effect=True)
    for before, after in pairwise(NODES):
        graph.add_edge(before, after)
    return graph


def main(url: str, lines: str, life: int, runs: int) -> None:
    """The program: the same in each of its lives."""
    lives.open_lines(lines, life)
    logging.getLogger("engine").setLevel(logging.ERROR)
    anyio.run(_live, url, runs)


async def _live(url: str, runs: int) -> None:
    async with Engine(url) as engine:
        engine.register(order())
        async with anyio.create_task_group() as group:
            for number in range(runs):
                group.start_soon(_submit, engine, number)
        for run in await engine.runs(limit=runs + 1):
            result = await run.result()
            note("ended", run.id, result.status)


async def _submit(engine: Engine, number: int) -> None:
    run = await engine.submit("order", {"number": number}, idempotency_key=f"order {number}")
    note("submitted", run.id)


def try_it(url: str, folder: Path, runs: int) -> list[str]:
    """What happened, in lines for people; raises if it was not what must be."""
    lines = folder / "lines"
    said = []
    first = lives.start(main, url, str(lines), 1, runs)
    while sum(line.what == "effect" for line in lives.lines_of(lines)) < runs * len(NODES) / 2:
        assert first.exitcode is None
        time.sleep(0.001)
    first.kill()
    first.join()
    told = list(lives.lines_of(lines))
    submitted = {line.words[0] for line in told if line.what == "submitted"}
    effects = Counter(line.words[0] for line in told if line.what == "effect")
    said.append(f"killed with -9: {len(submitted)} runs acknowledged, {len(effects)} effects made")
    began = time.perf_counter()
    assert lives.has_ended_well(lives.start(main, url, str(lines), 2, runs))
    said.append(f"started again: over after {time.perf_counter() - began:.2f} s")
    told = list(lives.lines_of(lines))
    ended = Counter(line.words[0] for line in told if line.what == "ended" and line.words[1] == "succeeded")
    effects = Counter(line.words[0] for line in told if line.what == "effect")
    said.append(f"{len(ended)} of {runs} runs succeeded, each of them once: {set(ended.values()) == {1}}")
    for node in NODES:
        counts = Counter(count for token, count in effects.items() if f"/{node}#" in token)
        said.append(f"{node:>7}: {sum(counts.values())} activations; effects made: {_shown(counts)}")
    assert ended.keys() >= submitted
    assert len(ended) == runs
    assert len(effects) == runs * len(NODES)
    return said


def _shown(counts: Counter[int]) -> str:
    often = {1: "once", 2: "twice (in flight at the kill)"}
    return ", ".join(f"{number} {often.get(times, f'{times} times')}" for times, number in sorted(counts.items()))


def by_hand() -> None:
    """From the command line."""
    parser = argparse.ArgumentParser(prog="python -m tests.durability.by_hand", description=by_hand.__doc__)
    parser.add_argument("--runs", type=int, default=100)
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        print("\n".join(try_it(f"sqlite:///{folder}/runs.db", Path(folder), arguments.runs)))


if __name__ == "__main__":
    by_hand()
