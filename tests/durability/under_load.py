"""What is killed at random: a program that takes up its runs, submits more by the dozen, and signals those that wait.

It tells what was acknowledged. What it does not know to be submitted, it submits again, under the same key.
"""

from __future__ import annotations

import logging
import random
import time
from collections import Counter
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import anyio

from engine import Context, Engine, Graph, Retry, RunEnded
from tests.durability import lives
from tests.durability.lives import note

State = dict[str, Any]
MOST_AT_ONCE = 40
DOZEN = 12
KINDS = ("loop", "spread", "waiting")
SIGNALS = 2


# --- what is run ----------------------------------------------------------------------------------------


def noted(work: Callable[[State, Context], Awaitable[State]]) -> Any:
    """A node that tells when it starts, and when it is about to return."""

    async def node(state: State, context: Context) -> State:
        note("start", context.token)
        found = await work(state, context)
        note("end", context.token)
        return found

    return node


@noted
async def step(state: State, context: Context) -> State:
    await anyio.sleep(0.0005 * (state["n"] % 3))
    return {"steps": state.get("steps", 0) + 1}


@noted
async def flaky(state: State, context: Context) -> State:
    if context.attempt == 1:
        raise OSError("the first attempt fails")
    return {"attempt": context.attempt}


@noted
async def effect(state: State, context: Context) -> State:
    note("effect", context.token)
    return {"effects": ["done"]}


@noted
async def inner(state: State, context: Context) -> State:
    return {"value": state["value"] * 2}


@noted
async def ready(state: State, context: Context) -> State:
    return {"items": list(range(state["n"] % 5 + 1))}


def graphs() -> list[Graph]:
    """One for each kind of run."""
    retry = Retry(attempts=3, delay=0.001, jitter=0)
    loop = (
        Graph("loop", reducers={"effects": list.__add__}).add_node("step", step).add_node("flaky", flaky, retry=retry)
    )
    loop.add_node("effect", effect, effect=True).add_node("last", step)
    loop.add_edge("step", "step", when=lambda state: state["steps"] < 4, max_iterations=10)
    loop.add_edge("step", "flaky", otherwise=True).add_edge("flaky", "effect").add_edge("effect", "last")
    loop.set_entry_point("step")

    worker = Graph("worker").add_node("first", inner).add_node("second", inner).add_edge("first", "second")
    worker.set_entry_point("first")
    spread = Graph("spread", reducers={"effects": list.__add__}).add_node("ready", ready)
    spread.add_map("map", worker, over="items", item="value", into="mapped", concurrency=3)
    spread.add_node("effect", effect, effect=True).add_node("step", step).add_node("sub", _sub())
    spread.add_edge("ready", ["map", "effect", "sub"]).add_edge(["map", "effect", "sub"], "step")
    spread.set_entry_point("ready")

    waiting = Graph("waiting", reducers={"signalled": list.__add__}).add_node("step", step)
    waiting.add_wait("wait", signal="go", into="signal").add_node("take", take)
    waiting.add_edge("step", "wait").add_edge("wait", "take")
    waiting.add_edge("take", "wait", when=lambda state: len(state["signalled"]) < SIGNALS, max_iterations=10)
    waiting.add_edge("take", "flaky", otherwise=True).add_node("flaky", flaky, retry=retry)
    waiting.set_entry_point("step")
    return [loop, spread, waiting]


def _sub() -> Graph:
    sub = Graph("sub", reducers={"effects": list.__add__}).add_node("one", effect, effect=True).add_node("two", step)
    return sub.add_edge("one", "two").set_entry_point("one")


@noted
async def take(state: State, context: Context) -> State:
    return {"signalled": [state["signal"]]}


def expected(kind: str, n: int, run_id: str) -> State:
    """The state that a run of this kind must end with."""
    match kind:
        case "loop":
            return {"n": n, "steps": 5, "attempt": 2, "effects": ["done"]}
        case "spread":
            items = list(range(n % 5 + 1))
            mapped = [{"value": item * 4} for item in items]
            return {"n": n, "items": items, "mapped": mapped, "effects": ["done", "done"], "steps": 2}
    names = [f"{run_id}/{number}" for number in range(1, SIGNALS + 1)]
    return {"n": n, "steps": 1, "signal": names[-1], "signalled": names, "attempt": 2}


# --- a life ---------------------------------------------------------------------------------------------


def main(url: str, lines: str, life: int, seed: int, ready: Any, last: bool) -> None:
    """What the process does."""
    chance = random.Random(f"{seed} {life}")
    lives.open_lines(lines, life)
    logging.getLogger("engine").setLevel(logging.ERROR)
    backend, options = chance.choice([("asyncio", {}), ("asyncio", {"use_uvloop": True}), ("trio", {})])
    told = list(lives.lines_of(Path(lines)))
    assert time.time.__module__ == "tests.durability.steady", "the forkserver has not loaded the steady clock first"
    note("begins", time.time())
    anyio.run(_live, url, told, life, chance, ready, last, backend=backend, backend_options=options)


async def _live(url: str, told: list[lives.Line], life: int, chance: random.Random, ready: Any, last: bool) -> None:
    mode: Any = chance.choice(["standard", "standard", "strict", "relaxed"])
    async with Engine(url, durability=mode) as engine:
        late = not last and chance.random() < 0.2
        if not late:
            register(engine)
        ready.send("open")
        client = Client(engine, told, life, chance)
        if late:
            # Nobody drives the runs yet: what they are signalled waits in the store.
            await client.signal_all()
            register(engine)
        async with anyio.create_task_group() as group:
            group.start_soon(client.signal_for_ever)
            await (client.finish() if last else client.submit_for_ever())
            group.cancel_scope.cancel()


def register(engine: Engine) -> None:
    for graph in graphs():
        engine.register(graph)


class Client:
    """Submits and signals, and tells what was acknowledged; it knows what earlier lives told."""

    def __init__(self, engine: Engine, told: list[lives.Line], life: int, chance: random.Random) -> None:
        self.engine = engine
        self.life = life
        self.chance = chance
        acknowledged = [line.words for line in told if line.what == "submitted"]
        signalled = Counter(run for run, _ in {tuple(line.words) for line in told if line.what == "signalled"})
        self.waiting = {run: signalled[run] for run, kind, *_ in acknowledged if kind == "waiting"}
        self.runs = [run for run, *_ in acknowledged]
        keys = {words[3] for words in acknowledged}
        submitting = dict.fromkeys(tuple(line.words) for line in told if line.what == "submitting")
        self.unknown = [(kind, int(n), key) for kind, n, key in submitting if key not in keys]

    async def submit_for_ever(self) -> None:
        for kind, n, key in self.unknown:
            await self.submit(kind, n, key)
        n = 0
        while True:
            if self.engine.statistics().running < MOST_AT_ONCE:
                async with anyio.create_task_group() as group:
                    for _ in range(DOZEN):
                        n += 1
                        kind = self.chance.choice(KINDS)
                        key = f"{self.life}-{n}" if self.chance.random() < 0.3 else ""
                        group.start_soon(self.submit, kind, n, key)
            await anyio.sleep(0.002)

    async def submit(self, kind: str, n: int, key: str) -> None:
        if key:
            note("submitting", kind, n, key)
        run = await self.engine.submit(kind, {"n": n}, idempotency_key=key or None)
        note("submitted", run.id, kind, n, key or "-")
        self.runs.append(run.id)
        if kind == "waiting":
            self.waiting.setdefault(run.id, 0)

    async def signal_for_ever(self) -> None:
        while True:
            await self.signal_all()
            await anyio.sleep(0.002)

    async def signal_all(self) -> None:
        for run_id, count in list(self.waiting.items()):
            if count >= SIGNALS:
                continue
            run = await self.engine.get(run_id)
            name = f"{run_id}/{count + 1}"
            try:
                await run.signal("go", name, id=name)
            except RunEnded:
                self.waiting[run_id] = SIGNALS  # the last life had sent it, and could not tell any more
                continue
            note("signalled", run_id, name)
            self.waiting[run_id] = count + 1

    async def finish(self) -> None:
        for kind, n, key in self.unknown:
            await self.submit(kind, n, key)
        for run in list(self.runs):
            await (await self.engine.get(run)).wait()
        # Those that were on disk and not acknowledged, too.
        for found in await self.engine.runs(limit=1_000_000):
            if found.id not in self.waiting and found.graph == "waiting":
                self.waiting[found.id] = 0
        for found in await self.engine.runs(limit=1_000_000):
            state = (await found.result()).state
            if state != expected(found.graph, state["n"], found.id):
                note("wrong", found.id, found.graph, repr(state).replace(" ", ""))
        note("finished")
