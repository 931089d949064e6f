"""A program to be killed: one run with everything in it, another that fails, is told so, and is retried.

Each node leaves a line in a file when it starts and one when it has returned, with the token of its activation, so
that whoever looks at the file afterwards knows what ran how often, and in which life of the program.
"""

from __future__ import annotations

import logging
import os
import signal
import time
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any, Literal

import anyio
import anyio.lowlevel
import orjson

from engine import Context, Engine, Graph, Retry, Run, RunEnded, RunFailed, RunNotFound
from engine.ports import Store
from engine.stored import Write
from engine.stores import open_store
from tests.durability.lives import note, open_lines

Which = Literal["everything", "failing", "processes"]
When = Literal["before", "after"]


class _Noted:
    def __init__(self, context: Context) -> None:
        self.token = context.token

    def __enter__(self) -> None:
        note("start", self.token)

    def __exit__(self, kind: object, error: object, traceback: object) -> None:
        if kind is None:
            note("end", self.token)


async def begin(state: dict[str, Any], context: Context) -> dict[str, Any]:
    with _Noted(context):
        return {"items": list(range(state["size"])), "log": ["begin"]}


async def left(state: dict[str, Any], context: Context) -> dict[str, Any]:
    with _Noted(context):
        await anyio.sleep(0.001)
        return {"rounds": state.get("rounds", 0) + 1, "log": [f"left {context.iteration}"]}


async def flaky(state: dict[str, Any], context: Context) -> dict[str, Any]:
    with _Noted(context):
        if context.attempt == 1:
            raise OSError("the first attempt fails")
        return {"flaky": context.attempt}


async def effect(state: dict[str, Any], context: Context) -> dict[str, Any]:
    with _Noted(context):
        note("effect", context.token)
        return {"log": ["effect"]}


async def squared(item: int) -> int:
    await anyio.lowlevel.checkpoint()
    return item * item


async def broken(state: dict[str, Any], context: Context) -> None:
    with _Noted(context):
        raise ValueError("it always fails")


async def repaired(state: dict[str, Any], context: Context) -> dict[str, Any]:
    with _Noted(context):
        assert context.error is not None
        return {"log": [f"repaired {context.error.type}"]}


async def meet(state: dict[str, Any], context: Context) -> dict[str, Any]:
    with _Noted(context):
        return {"sum": sum(state["squares"]) + state["rounds"]}


async def inner(state: dict[str, Any], context: Context) -> dict[str, Any]:
    with _Noted(context):
        return {"inner": state.get("inner", 0) + 1}


async def begin_round(state: dict[str, Any], context: Context) -> dict[str, Any]:
    with _Noted(context):
        return {"outer": state.get("outer", 0) + 1, "turns": 0}


async def turn(state: dict[str, Any], context: Context) -> dict[str, Any]:
    with _Noted(context):
        return {"turns": state["turns"] + 1, "all_turns": state.get("all_turns", 0) + 1}


async def quick(state: dict[str, Any], context: Context) -> dict[str, Any]:
    with _Noted(context):
        return {context.node: context.activation}


async def never(state: dict[str, Any], context: Context) -> None:
    with _Noted(context):
        await anyio.sleep_forever()


def threaded(state: dict[str, Any], context: Context) -> dict[str, Any]:
    with _Noted(context):
        time.sleep(0.001)
        return {"threaded": True}


async def doubled(state: dict[str, Any], context: Context) -> dict[str, Any]:
    return {"value": 2 * state["value"]}


def everything() -> Graph:
    """Forks, joins of every kind, loops, maps, a wait, retries, an error edge, a thread, effects."""
    sub = Graph("sub").add_node("first", inner).add_node("second", inner)
    sub.add_edge("first", "second").set_entry_point("first")
    worker = Graph("worker").add_node("one", doubled).add_node("two", doubled)
    worker.add_edge("one", "two").set_entry_point("one")
    found = Graph("everything", reducers={"log": list.__add__})
    found.add_node("begin", begin).add_node("left", left)
    found.add_node("flaky", flaky, retry=Retry(attempts=3, delay=0.001, jitter=0))
    found.add_map("squares", squared, over="items", into="squares", concurrency=2)
    found.add_map("fours", worker, over="items", item="value", into="fours", concurrency=2)
    found.add_node("broken", broken).add_node("repaired", repaired)
    found.add_node("sub", sub).add_node("effect", effect, effect=True)
    # Two loops, one in the other.
    found.add_node("round", begin_round).add_node("turn", turn)
    found.add_edge("round", "turn").add_edge("turn", "turn", when=lambda state: state["turns"] < 2, max_iterations=5)
    found.add_edge("turn", "round", when=lambda s: s["turns"] >= 2 and s["outer"] < 2, max_iterations=5)
    # Joins that need not all, and cancel the rest.
    found.add_node("a", quick).add_node("b", quick).add_node("slow", never)
    found.add_node("two", quick, join=2, rest="cancel")
    found.add_node("c", quick).add_node("slower", never).add_node("first", quick, join="first", rest="cancel")
    found.add_edge(["a", "b", "slow"], "two").add_edge(["c", "slower"], "first")
    found.add_node("thread", threaded, run_in="thread")
    found.add_node("meet", meet).add_wait("wait", signal="go", into="signalled", timeout=60).add_node("last", inner)
    found.add_edge("begin", ["left", "squares", "fours", "broken", "sub", "round", "a", "b", "slow", "c", "slower"])
    found.add_edge("left", "left", when=lambda state: state["rounds"] < 3, max_iterations=5)
    found.add_edge("left", "flaky", otherwise=True)
    found.add_edge("broken", "repaired", on_error=ValueError)
    found.add_edge("sub", "effect").add_edge("two", "thread").add_edge("turn", "meet", otherwise=True)
    found.add_edge(["flaky", "squares", "fours", "repaired", "effect", "thread", "first"], "meet")
    found.add_edge("meet", "wait").add_edge("wait", "last").set_entry_point("begin")
    return found


async def fails_first(state: dict[str, Any], context: Context) -> dict[str, Any]:
    with _Noted(context):
        if "mended" not in state:
            raise ValueError(f"{context.node} is not mended")
        return {context.node: "mended"}


def failing() -> Graph:
    """Two branches fail while another runs to its end; a retry mends them."""
    found = Graph("failing", reducers={"log": list.__add__}, on_failure="continue").add_node("begin", begin)
    found.add_node("one", fails_first).add_node("two", fails_first, retry=Retry(attempts=2, delay=0.001, jitter=0))
    found.add_node("left", left).add_node("effect", effect, effect=True).add_node("after", quick)
    found.add_edge("begin", ["one", "two", "left"]).add_edge("one", "after")
    found.add_edge("left", "left", when=lambda state: state["rounds"] < 3, max_iterations=5)
    return found.add_edge("left", "effect", otherwise=True).set_entry_point("begin")


def computed(state: dict[str, Any]) -> dict[str, Any]:
    # Elsewhere no line is left: what ran is told by the log.
    return {"computed": state.get("computed", 0) + 1}


def processes() -> Graph:
    """Nodes in processes of their own, which a kill takes along, side by side and one after the other."""
    found = Graph("processes", reducers={"log": list.__add__}).add_node("begin", begin)
    found.add_node("one", computed, run_in="process").add_node("left", left).add_node("two", computed, run_in="process")
    found.add_node("last", inner).add_edge("begin", ["one", "left"]).add_edge("one", "two")
    return found.add_edge(["left", "two"], "last").set_entry_point("begin")


class Killed:
    """A store that kills its own process with -9, right before or after the n-th commit."""

    def __init__(self, store: Store, when: When, commits: int) -> None:
        self._store = store
        self._when = when
        self._left = commits

    async def commit(self, writes: Sequence[Write], *, sync: bool = False) -> None:
        self._left -= 1
        if not self._left and self._when == "before":
            os.kill(os.getpid(), signal.SIGKILL)
        await self._store.commit(writes, sync=sync)
        if not self._left:
            os.kill(os.getpid(), signal.SIGKILL)

    async def __aenter__(self) -> Killed:
        await self._store.__aenter__()
        return self

    async def __aexit__(self, *error: Any) -> None:
        await self._store.__aexit__(*error)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._store, name)


async def live(url: str, which: Which, when: When, commits: int, durability: Any) -> dict[str, Any]:
    """One life: take the run up, or submit it, and see it to its end, unless killed."""
    store: Any = Killed(open_store(url), when, commits)
    async with Engine(store, durability=durability) as engine:
        engine.register(everything())
        engine.register(failing())
        engine.register(processes())
        try:
            run = await engine.get("the run")
        except RunNotFound:
            run = await engine.submit(which, {"size": 4, "log": []}, run_id="the run")
            await run.pause()
        if run.status == "paused":
            await run.resume()
        match which:
            case "everything":
                return await _with_everything(run)
            case "failing":
                return await _failing(run)
            case "processes":
                return _told(run, (await run.result(timeout=30)).state)


async def _with_everything(run: Run) -> dict[str, Any]:
    if not run.over:
        with suppress(RunEnded):  # it may have ended since
            await run.signal("go", "now", id="only once")
    return _told(run, (await run.result(timeout=30)).state)


async def _failing(run: Run) -> dict[str, Any]:
    try:
        result = await run.result(timeout=30)
    except RunFailed as failed:
        names = sorted(str(error) for error in failed.exceptions)
        note("failed", *[name.replace(" ", "_") for name in names])
        await run.retry({"mended": True})
        result = await run.result(timeout=30)
    return _told(run, result.state)


def _told(run: Run, state: dict[str, Any]) -> dict[str, Any]:
    return {
        "status": run.status,
        "state": state,
        "log": [one.to_dict() for one in run.log],
        "counters": run.counters,
        "visited": sorted(run.visited),
    }


def main(
    url: str,
    lines: str,
    life: int,
    answer: str,
    backend: str,
    which: Which,
    when: When,
    commits: int,
    durability: str,
) -> None:
    """What the process does; the answer is there if it came to its end."""
    open_lines(lines, life)
    logging.getLogger("engine").setLevel(logging.CRITICAL)
    found = anyio.run(live, url, which, when, commits, durability, backend=backend)
    Path(answer).write_bytes(orjson.dumps(found, default=str))
