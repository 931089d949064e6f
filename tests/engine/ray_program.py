"""An engine on a cluster, in a process of its own that may be killed: backend, address, folder, what to do."""

from __future__ import annotations

import signal
import sys
import time
from pathlib import Path
from typing import Any

import anyio

from engine import Engine, Graph, RunFailed
from engine.executors import RayExecutor
from tests.engine import ray_nodes


def told(folder: str, name: str, text: str = "") -> None:
    """Leave a file for the test to find, whole."""
    Path(folder, f".{name}").write_text(text)
    Path(folder, f".{name}").rename(Path(folder, name))


async def there(folder: str, name: str) -> None:
    """Wait for a file of another process."""
    while not await anyio.Path(folder, name).exists():  # noqa: ASYNC110  # it is another process
        await anyio.sleep(0.02)


def on_terminate(number: int, frame: Any) -> None:
    """The handler that must still be there."""


async def run_for_ever(address: str, folder: str) -> None:
    """Run a body that never ends."""
    graph = Graph("g").add_node("count", ray_nodes.count, run_in="cluster").set_entry_point("count")
    async with Engine(executors={"cluster": RayExecutor(address)}) as engine:
        await engine.run(graph, {"folder": folder})


async def live_on(address: str, folder: str) -> None:
    """Have a node wait while the control plane is gone, and go on for as long as asked."""
    graph = Graph("g").add_node("quick", ray_nodes.quick, run_in="cluster").set_entry_point("quick")
    waiting = Graph("w").add_node("wait", ray_nodes.wait_until_told, run_in="cluster").set_entry_point("wait")
    executor = RayExecutor(address, lost_after=None)
    async with Engine(executors={"cluster": executor}) as engine:
        await engine.run(graph, {})
        under_way = await engine.submit(waiting, {"folder": folder})
        told(folder, "ready")
        await there(folder, "killed")
        later = [await engine.submit(graph, {}) for _ in range(3)]
        began = time.monotonic()
        seen = ""
        while time.monotonic() - began < float(sys.argv[5]):
            await anyio.sleep(0.5)
            seen = executor.health().trouble or seen
        states = [run.status for run in (under_way, *later)]
        told(folder, "alive", f"{states}\n{seen}")
        for run in (under_way, *later):
            await run.cancel()


async def give_up(address: str, folder: str) -> None:
    """Have a node fail when the control plane has been silent for too long."""
    graph = Graph("w").add_node("wait", ray_nodes.wait_until_told, run_in="cluster").set_entry_point("wait")
    async with Engine(executors={"cluster": RayExecutor(address, lost_after=15)}) as engine:
        run = await engine.submit(graph, {"folder": folder})
        await there(folder, "begun")
        told(folder, "ready")
        try:
            await run.result()
        except RunFailed as failed:
            told(folder, "failed", type(failed.failures[0].cause).__name__)


async def keep_the_handler(address: str, folder: str) -> None:
    """Find the handler of SIGTERM as it was."""
    graph = Graph("g").add_node("quick", ray_nodes.quick, run_in="cluster").set_entry_point("quick")
    async with Engine(executors={"cluster": RayExecutor(address)}) as engine:
        await engine.run(graph, {})
        told(folder, "handler", str(signal.getsignal(signal.SIGTERM) is on_terminate))


if __name__ == "__main__":
    signal.signal(signal.SIGTERM, on_terminate)
    anyio.run(globals()[sys.argv[4]], sys.argv[2], sys.argv[3], backend=sys.argv[1])
