"""A program that is interrupted at any moment, again and again: `python -m tests.engine.interrupted trio 0 20`.

As by a Ctrl-C: what a timer calls, in the middle of whatever runs, is what the signal would. Says how often the
interrupt came out of the program as it should; raises otherwise, and hangs if anything waits for ever.
"""

import random
import signal
import sys
from collections.abc import Callable
from pathlib import Path
from tempfile import TemporaryDirectory
from types import FrameType
from typing import Any

import anyio

from engine import Engine, Graph

SUBMITTERS = 8


def graph() -> Graph:
    """A fork and a join, a node that waits and one in a thread."""

    async def wait(state: dict[str, Any]) -> dict[str, Any]:
        await anyio.sleep(0.001)
        return {"waited": True}

    made = Graph("g").add_node("start", lambda state: {"n": state["n"] + 1}, run_in="loop").add_node("wait", wait)
    made.add_node("thread", lambda state: {"threaded": True}).add_node("join", lambda state: None, run_in="loop")
    return made.add_edge("start", ["wait", "thread"]).add_edge(["wait", "thread"], "join").set_entry_point("start")


async def work(store: str | None, arm: Callable[[], None]) -> None:
    """Runs without end."""

    async def submit(engine: Engine, number: int) -> None:
        while True:
            run = await engine.submit(graph(), {"n": number})
            await run.result()

    async with Engine(store) as engine, anyio.create_task_group() as group:
        for number in range(SUBMITTERS):
            group.start_soon(submit, engine, number)
        await engine.run(graph(), {"n": 0})
        arm()
        while True:
            await engine.run(graph(), {"n": 0})


def interrupt(signum: int, frame: FrameType | None) -> None:
    """Do what a Ctrl-C would do at this very place."""
    heard: Any = signal.getsignal(signal.SIGINT)
    heard(signal.SIGINT, frame)


def interrupted_once(backend: str, store: str | None, seconds: float) -> None:
    """Interrupt it so long after it has begun to work. Raises what comes out besides the interrupt."""
    was_interrupted = False
    try:
        anyio.run(work, store, lambda: signal.setitimer(signal.ITIMER_REAL, seconds), backend=backend)
    except* KeyboardInterrupt:
        was_interrupted = True
    assert was_interrupted


def main(backend: str, seed: int, times: int) -> int:
    """How often it was interrupted in order."""
    chance = random.Random(seed)
    signal.signal(signal.SIGALRM, interrupt)
    for number in range(times):
        with TemporaryDirectory() as folder:
            store = f"sqlite:///{Path(folder, 'runs.db')}" if number % 2 else None
            interrupted_once(backend, store, chance.uniform(0.0001, 0.1))
    return times


if __name__ == "__main__":
    print(main(sys.argv[1], int(sys.argv[2]), int(sys.argv[3])))
