"""A member of a fleet, to be killed, stopped and cut off: it submits its share of the runs, and runs whatever it gets.

What it submits it submits under keys, again after a life that could not tell any more. What waits it signals, wherever
that is driven. It tells what was acknowledged, and leaves in order when it is told to (SIGTERM).
"""

from __future__ import annotations

import ctypes
import logging
import os
import signal
import time
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import anyio
import attrs

from engine import END, Context, Engine, EngineBusy, EngineError, Graph, LeaseLost, RunEnded, Sharing, StoreUnavailable
from engine.away import AwayRun
from tests.durability import lives
from tests.durability.lives import note
from tests.durability.under_load import KINDS, SIGNALS, graphs

AGAIN_SECONDS = 0.05
LONG_STEPS = 300
_NETWORK = 0x40000000  # CLONE_NEWNET


@attrs.frozen
class Share:
    """What a member is to do."""

    url: str
    lines: str
    sharing: Sharing
    first: int = 0
    last: int = 0
    """The numbers of the runs that it submits."""
    pause: float = 0.02
    """Between two of them."""
    max_runs: int = 10
    backend: str = "asyncio"
    log: str | None = None
    long: str | None = None
    """The id of a run that takes its time, which it submits and waits for."""
    namespace: str | None = None
    """The network that it is in."""


async def tick(state: dict[str, Any], context: Context) -> dict[str, Any]:
    """One step of a run that takes its time; tells who has taken it."""
    note("tick", context.run_id, context.activation, time.time())
    await anyio.sleep(0.02)
    return {"ticks": state.get("ticks", 0) + 1}


def long() -> Graph:
    """A run that is at work for some seconds."""
    graph = Graph("long").add_node("tick", tick)
    graph.add_edge("tick", "tick", when=lambda state: state["ticks"] < LONG_STEPS, max_iterations=LONG_STEPS + 1)
    return graph.add_edge("tick", END, otherwise=True).set_entry_point("tick")


def main(share: Share, life: int) -> None:
    """What the process does."""
    lives.open_lines(share.lines, life)
    if share.log is not None:
        logging.basicConfig(filename=share.log, format=f"{life} %(asctime)s %(message)s", level=logging.WARNING)
    else:
        logging.getLogger("engine").setLevel(logging.CRITICAL)
    if share.namespace is not None:
        _enter(share.namespace)
    library, options = {"uvloop": ("asyncio", {"use_uvloop": True})}.get(share.backend, (share.backend, {}))
    anyio.run(_live, share, life, backend=library, backend_options=options)
    note("left")


def _enter(namespace: str) -> None:
    """Of this thread, and so of all that it starts."""
    handle = os.open(f"/var/run/netns/{namespace}", os.O_RDONLY)
    if ctypes.CDLL(None, use_errno=True).setns(handle, _NETWORK):
        raise OSError(ctypes.get_errno(), f"cannot enter the network {namespace}")
    os.close(handle)


async def _live(share: Share, life: int) -> None:
    while True:
        try:
            await _be_a_member(share)
            return
        except StoreUnavailable:
            await anyio.sleep(AGAIN_SECONDS)  # the server is away: as whoever supervises a process starts it again


async def _be_a_member(share: Share) -> None:
    told = list(lives.lines_of(Path(share.lines)))
    try:
        async with Engine(share.url, shared=share.sharing, max_runs=share.max_runs, max_queued=100_000) as engine:
            for graph in (*graphs(), long()):
                engine.register(graph)
            note("joined", os.getpid())
            async with anyio.create_task_group() as group:
                group.start_soon(_leave_when_told)
                group.start_soon(_submit_all, engine, share, told)
                group.start_soon(_signal_all, engine, share, told)
                if share.long is not None:
                    group.start_soon(_see_through, engine, share.long)
    except* _Told:
        pass


class _Told(Exception):
    """It is to leave."""


async def _leave_when_told() -> None:
    with anyio.open_signal_receiver(signal.SIGTERM) as signals:
        async for _ in signals:
            raise _Told


async def patiently(act: Callable[[], Awaitable[Any]]) -> Any:
    """Again and again, as a client does: after a lost lease, while the server is away, while all are full."""
    while True:
        try:
            return await act()
        except (LeaseLost, StoreUnavailable, EngineBusy):
            await anyio.sleep(AGAIN_SECONDS)


async def _see_through(engine: Engine, run_id: str) -> None:
    """One run, from here, wherever it goes on; and another when that is over."""
    try:
        run = await engine.submit("long", {}, run_id=run_id)
        while isinstance(run, AwayRun):
            await anyio.sleep(AGAIN_SECONDS)  # it may have waited for a place: the run itself is wanted here
            run = await engine.get(run_id)
        result = await run.result()
    except LeaseLost:
        note("lost", run_id, time.time())
        result = await patiently(lambda: _result_of(engine, run_id))
    note("seen", run_id, result.state["ticks"])
    again = await patiently(lambda: engine.run("loop", {"n": 1}))
    note("again", again.status)


async def _result_of(engine: Engine, run_id: str) -> Any:
    return await (await engine.get(run_id)).result()


async def _submit_all(engine: Engine, share: Share, told: list[lives.Line]) -> None:
    done = {line.words[1] for line in told if line.what == "submitted"}
    for number in range(share.first, share.last):
        if (key := f"key-{number}") not in done:
            kind = KINDS[number % len(KINDS)]
            run = await patiently(lambda: engine.submit(kind, {"n": number}, idempotency_key=key))  # noqa: B023
            note("submitted", run.id, key)
            await anyio.sleep(share.pause)


async def _signal_all(engine: Engine, share: Share, told: list[lives.Line]) -> None:
    """Signal the waiting ones of its share, as they are submitted."""
    signalled = {line.words[1] for line in told if line.what == "signalled"}
    mine = {f"key-{number}" for number in range(share.first, share.last) if KINDS[number % len(KINDS)] == "waiting"}
    while mine:
        for line in list(lives.lines_of(Path(share.lines))):
            if line.what == "submitted" and line.words[1] in mine:
                mine.discard(line.words[1])
                await _signal(engine, line.words[0], signalled)
        await anyio.sleep(AGAIN_SECONDS)


async def _signal(engine: Engine, run_id: str, signalled: set[str]) -> None:
    for count in range(SIGNALS):
        name = f"{run_id}/{count + 1}"
        if name in signalled:
            continue

        async def send() -> None:
            await (await engine.get(run_id)).signal("go", name, id=name)  # noqa: B023

        try:
            await patiently(send)
        except RunEnded:
            return  # an earlier life had sent it, and could not tell any more
        except EngineError as error:
            note("wrong", run_id, repr(error).replace(" ", "_"))
            return
        note("signalled", run_id, name)
