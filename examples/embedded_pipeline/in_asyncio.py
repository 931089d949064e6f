"""An ordinary asyncio program with the pipeline in it: tasks, events and signals of its own, and one `async with`."""

from __future__ import annotations

import asyncio
import signal
from contextlib import suppress

from engine import Engine

from .pipeline import Archive, Gauge, Site, pipeline, summary


async def main(documents: int, stop_after: int) -> None:
    """Import them, until all are through or Ctrl-C, which lets those on their way come to their end."""
    site, archive, gauge, stop, beats = Site(), Archive(), Gauge(), asyncio.Event(), 0

    async def heartbeat() -> None:
        nonlocal beats
        while True:
            await asyncio.sleep(0.05)
            beats += 1
            if beats % 5 == 0:
                print(f"heartbeat {beats}: {gauge.begun} begun, {archive.written} written")

    with suppress(NotImplementedError):  # where loops know no signals, Ctrl-C cancels
        asyncio.get_running_loop().add_signal_handler(signal.SIGINT, stop.set)
    async with asyncio.TaskGroup() as tasks, Engine() as engine:
        beating = tasks.create_task(heartbeat())
        graph = pipeline(documents, site, archive, gauge, lambda: stop.is_set() or gauge.begun >= stop_after)
        result = await engine.run(graph)
        beating.cancel()
    print(summary(result.state["documents"], site, archive, gauge, beats))
