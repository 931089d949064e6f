"""The same in an ordinary trio program: nurseries, events and signals of its own, and one `async with`."""

from __future__ import annotations

import signal

import trio

from engine import Engine

from .pipeline import Archive, Gauge, Site, pipeline, summary


async def main(documents: int, stop_after: int) -> None:
    """Import them, until all are through or Ctrl-C, which lets those on their way come to their end."""
    site, archive, gauge, stop, beats = Site(), Archive(), Gauge(), trio.Event(), 0

    async def heartbeat() -> None:
        nonlocal beats
        while True:
            await trio.sleep(0.05)
            beats += 1
            if beats % 5 == 0:
                print(f"heartbeat {beats}: {gauge.begun} begun, {archive.written} written")

    async def interrupted() -> None:
        with trio.open_signal_receiver(signal.SIGINT) as signals:
            async for _ in signals:
                stop.set()

    async with trio.open_nursery() as nursery, Engine() as engine:
        nursery.start_soon(heartbeat)
        nursery.start_soon(interrupted)
        graph = pipeline(documents, site, archive, gauge, lambda: stop.is_set() or gauge.begun >= stop_after)
        result = await engine.run(graph)
        nursery.cancel_scope.cancel()
    print(summary(result.state["documents"], site, archive, gauge, beats))
