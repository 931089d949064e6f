"""A long run: how much of it the store keeps, and how long it takes to go on with it after a kill in the middle.

python -m tests.durability.long_run --iterations 1000000
"""

from __future__ import annotations

import argparse
import logging
import os
import random
import signal
import tempfile
import time
from pathlib import Path
from typing import Any

import anyio
import attrs

from engine import END, Engine, Graph, RunNotFound, Settings
from engine.stores import open_store
from tests.durability import lives
from tests.durability.lives import note

State = dict[str, Any]


async def step(state: State) -> State:
    if state["n"] + 1 == state["kill_at"]:
        note("killed", time.time())
        os.kill(os.getpid(), signal.SIGKILL)
    return {"n": state["n"] + 1}


async def step_on(state: State) -> State:
    if not _again:
        _again.append(True)
        note("again", state["n"], time.time())
    return {"n": state["n"] + 1}


_again: list[bool] = []


def counting(function: Any = step) -> Graph:
    """A loop of one node."""
    graph = Graph("counting").add_node("step", function).set_entry_point("step")
    graph.add_edge("step", "step", when=lambda state: state["n"] < state["rounds"], max_iterations=1 << 40)
    return graph.add_edge("step", END, otherwise=True)


def main(url: str, lines: str, life: int, rounds: int, kill_at: int, prune: bool) -> None:
    """One life: the first is killed in the middle, the second comes to the end."""
    lives.open_lines(lines, life)
    logging.getLogger("engine").setLevel(logging.ERROR)
    _again.clear()
    anyio.run(_live, url, life, rounds, kill_at, prune)


async def _live(url: str, life: int, rounds: int, kill_at: int, prune: bool) -> None:
    note("begins", time.time())
    async with Engine(url, durability="relaxed", settings=Settings(prune=prune)) as engine:
        engine.register(counting(step if life == 1 else step_on))
        try:
            run = await engine.get("long")
        except RunNotFound:
            run = await engine.submit("counting", {"n": 0, "rounds": rounds, "kill_at": kill_at}, run_id="long")
        result = await run.result()
        note("ended", result.state["n"], len(run.log), run.log_dropped, run.counters["activations"])


@attrs.frozen(kw_only=True)
class Found:
    """What came out."""

    iterations: int
    records: int
    """In the store, in the end."""
    most_bytes: int
    """Of the records, the snapshot and the admission."""
    snapshot_at: int
    recovery_seconds: float
    """From the start of the engine to the first step that was made again or anew."""
    repeated: int
    """Iterations that were made again: those that had not been recorded."""
    seconds: float
    log: int
    dropped: int


def run_and_kill(url: str, folder: Path, iterations: int, *, prune: bool = True) -> Found:
    """Let it count so far, and kill it after nine tenths of that."""
    lines = folder / f"lines {iterations}"
    kill_at = iterations * 9 // 10 + 1
    began = time.perf_counter()
    patience = 60 + iterations / 500
    assert not lives.has_ended_well(lives.start(main, url, str(lines), 1, iterations, kill_at, prune), patience)
    assert lives.has_ended_well(lives.start(main, url, str(lines), 2, iterations, kill_at, prune), patience)
    seconds = time.perf_counter() - began
    told = {(line.life, line.what): line.words for line in lives.lines_of(lines)}
    n, again = told[2, "again"]
    end, log, dropped, activations = told[2, "ended"]
    assert (int(end), int(activations)) == (iterations, iterations)
    records, size, snapshot = anyio.run(_stored, url)
    return Found(
        iterations=iterations,
        records=records,
        most_bytes=size,
        snapshot_at=snapshot,
        recovery_seconds=float(again) - float(told[2, "begins"][0]),
        repeated=kill_at - 1 - int(n),
        seconds=seconds,
        log=int(log),
        dropped=int(dropped),
    )


async def _stored(url: str) -> tuple[int, int, int]:
    async with open_store(url) as store:
        run = await store.read("long")
        assert run is not None
        assert not await store.verify()
        after, count, size = 0, 0, len(run.admission)
        while page := await store.records("long", after=after):
            after = page[-1][0]
            count += len(page)
            size += sum(len(data) for _, data in page)
        if run.snapshot is not None:
            size += len(run.snapshot[1])
        return count, size, run.snapshot[0] if run.snapshot else 0


def by_hand() -> None:
    """From the command line."""
    parser = argparse.ArgumentParser(prog="python -m tests.durability.long_run", description=by_hand.__doc__)
    parser.add_argument("--iterations", type=int, nargs="*", default=[2_000, 20_000])
    parser.add_argument("--keep", action="store_true", help="do not prune")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        for iterations in arguments.iterations:
            file = Path(folder) / f"{random.randrange(1 << 32)}.db"
            print(run_and_kill(f"sqlite:///{file}", Path(folder), iterations, prune=not arguments.keep))
            print(f"the file has {file.stat().st_size:,} bytes", flush=True)


if __name__ == "__main__":
    by_hand()
