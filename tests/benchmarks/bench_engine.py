"""The engine: what a node, a branch, an iteration, a run and an item cost, beside the least that could do it."""

from __future__ import annotations

import gc
import operator
import subprocess
import sys
import tracemalloc
from collections.abc import Awaitable, Callable, Iterable
from functools import cache, partial
from itertools import pairwise
from typing import Any

import anyio
from attrs import frozen

from engine import END, Engine, Graph
from engine.conditions import compile_condition

from . import bare, cpu_work
from .harness import On, Row, clock, now

CHAIN = 100
WIDTH = 100
State = dict[str, Any]


# --- nodes ----------------------------------------------------------------------------------------------


async def step(state: State) -> State:
    """A trivial node on a dict of three keys."""
    return {"n": state["n"] + 1}


@frozen
class Three:
    """The same three keys as a class."""

    n: int = 0
    name: str = "x"
    rows: tuple[int, ...] = ()


async def attrs_step(state: Three) -> State:
    return {"n": state.n + 1}


async def add_one(state: State) -> State:
    return {"found": [1]}


async def nothing(state: State) -> None:
    pass


def three() -> State:
    return {"n": 0, "name": "x", "rows": []}


# --- graphs, each made once: a plan is kept between the rounds ---------------------------------------------


def line(name: str, function: Any, length: int, **settings: Any) -> Graph:
    """One node after the other."""
    graph = Graph(name, **settings)
    names = [f"n{number}" for number in range(length)]
    for node in names:
        graph.add_node(node, function)
    for source, target in pairwise(names):
        graph.add_edge(source, target)
    return graph.set_entry_point(names[0])


@cache
def chain_graph() -> Graph:
    return line("chain", step, CHAIN)


@cache
def attrs_graph() -> Graph:
    return line("attrs chain", attrs_step, CHAIN, state=Three)


@cache
def fan_graph() -> Graph:
    graph = Graph("fan", reducers={"found": operator.add}).add_node("start", nothing).add_node("join", nothing)
    branches = [f"b{number}" for number in range(WIDTH)]
    for name in branches:
        graph.add_node(name, add_one)
    return graph.add_edge("start", branches).add_edge(branches, "join").set_entry_point("start")


def looping(iterations: int, look: Callable[[int], None] = lambda n: None) -> Graph:
    """Two nodes, round and round; `look` is called with the number of each round."""

    async def count(state: State) -> State:
        look(state["n"])
        return {"n": state["n"] + 1}

    graph = Graph("loop").add_node("count", count).add_node("back", nothing)
    graph.add_edge("count", "back").set_entry_point("count")
    graph.add_edge("back", "count", when=lambda state: state["n"] < iterations, max_iterations=iterations)
    return graph.add_edge("back", END, otherwise=True)


@cache
def five_graph() -> Graph:
    async def sleep(state: State) -> None:
        await anyio.sleep(0.001)

    graph = Graph("five")
    for name in ("a", "b", "d", "e"):
        graph.add_node(name, step)
    graph.add_node("c", sleep)
    for source, target in ("ab", "bc", "cd", "de"):
        graph.add_edge(source, target)
    return graph.set_entry_point("a")


@cache
def big_graph() -> Graph:
    return line("big", step, 20)


@cache
def map_graph() -> Graph:
    async def worker(item: int) -> int:
        return item

    return Graph("map").add_map("map", worker, over="rows", into="found").set_entry_point("map")


@cache
def cpu_graph(run_in: str, width: int) -> Graph:
    names = [f"cpu{number}" for number in range(width)]
    graph = Graph("cpu").add_node("start", nothing)
    for name in names:
        graph.add_node(name, cpu_work.burn, run_in=run_in)
    return graph.add_edge("start", names).set_entry_point("start")


# --- measures -------------------------------------------------------------------------------------------


async def per_node(graph: Callable[[], Graph], state: Callable[[], Any], times: int, parts: int) -> float:
    """Microseconds of a run, submitted and waited for, by each of its parts; the first run starts the actors."""
    async with Engine() as engine:
        await engine.run(graph(), state())
        start = now()
        for _ in range(times):
            await engine.run(graph(), state())
        return (now() - start) / times / parts * 1e6


def chain(times: int) -> Callable[[], Awaitable[float]]:
    return partial(per_node, chain_graph, three, times, CHAIN)


async def loop(iterations: int) -> float:
    """Microseconds per activation."""
    async with Engine() as engine:
        graph = looping(iterations)
        await engine.run(graph, {**three(), "n": iterations - 1})
        start = now()
        await engine.run(graph, three())
        return (now() - start) / (2 * iterations) * 1e6


async def loop_memory(iterations: int) -> float:
    """KB by which the memory of one run peaks higher in its last third than in the third before.

    By then its history is full, and grows and is cut back in turns.
    """
    peaks = []

    def look(number: int) -> None:
        if number == max(0, iterations * 3 // 8 - 15_000):
            # What the full history drops later must have been counted when it came in.
            tracemalloc.start()
        elif number in (iterations * 3 // 8, iterations * 5 // 8, iterations - 1):
            peaks.append(tracemalloc.get_traced_memory()[1])
            tracemalloc.reset_peak()

    try:
        async with Engine() as engine:
            await engine.run(looping(iterations, look), {"n": 0})
    finally:
        tracemalloc.stop()
    return (peaks[2] - peaks[1]) / 1024


async def many_runs(count: int) -> float:
    """Microseconds per run of so many that are submitted at once and sleep side by side."""
    async with Engine() as engine:
        await engine.run(five_graph(), three())
        start = now()
        runs = [await engine.submit(five_graph(), three()) for _ in range(count)]
        for run in runs:
            await run.wait()
        return (now() - start) / count * 1e6


async def memory_in_flight(count: int) -> float:
    """KB that each of so many runs keeps above its state, while one of its nodes waits.

    Its state is three dicts: what came in, what the first node made of it, and what the second was given.
    """
    waiting = 0
    all_there, go = anyio.Event(), anyio.Event()

    async def wait(state: State) -> None:
        nonlocal waiting
        waiting += 1
        if waiting == count:
            all_there.set()
        await go.wait()

    graph = Graph("held").add_node("before", step).add_node("wait", wait).add_node("after", step)
    graph.add_edge("before", "wait").add_edge("wait", "after").set_entry_point("before")
    async with Engine() as engine:
        engine.register(graph)
        states = [three() for _ in range(count)]
        gc.collect()
        tracemalloc.start()
        try:
            before = tracemalloc.get_traced_memory()[0]
            runs = [await engine.submit(graph, state) for state in states]
            await all_there.wait()
            gc.collect()
            held = tracemalloc.get_traced_memory()[0] - before
        finally:
            tracemalloc.stop()
        go.set()
        for run in runs:
            await run.wait()
        return (held / count - 3 * sys.getsizeof(three())) / 1024


@cache
def big_state() -> State:
    return {"n": 0, "table": {f"key {number}": number for number in range(10_000)}, "blob": bytes(5_000_000)}


async def build(count: int) -> float:
    """Microseconds per node to write a graph down."""
    start = now()
    line("large", nothing, count)
    return (now() - start) / count * 1e6


async def compile_graph(count: int) -> float:
    """Microseconds per node to compile it."""
    graph = line("large", nothing, count)
    start = now()
    graph.compile()
    return (now() - start) / count * 1e6


@cache
def large_graph(count: int) -> Graph:
    graph = line(f"large {count}", nothing, count)
    graph.compile()
    return graph


async def first_run(count: int) -> float:
    """Microseconds per node of one run on a new engine, where every node runs for the first time."""
    async with Engine() as engine:
        engine.register(large_graph(count))
        start = now()
        await engine.run(large_graph(count), {})
        return (now() - start) / count * 1e6


async def second_run(count: int) -> float:
    """Microseconds per node of a run after that."""
    async with Engine() as engine:
        await engine.run(large_graph(count), {})
        start = now()
        await engine.run(large_graph(count), {})
        return (now() - start) / count * 1e6


async def map_items(count: int) -> float:
    """Microseconds per item of a map."""
    items = list(range(count))
    async with Engine() as engine:
        await engine.run(map_graph(), {"rows": items[:100]})
        start = now()
        await engine.run(map_graph(), {"rows": items})
        return (now() - start) / count * 1e6


async def cpu_branches(run_in: str, width: int, seconds: float) -> float:
    """Seconds for so many branches that each fill a processor; the workers are up before."""
    state = {"loops": int(_speed() * seconds)}
    async with Engine() as engine:
        await engine.run(cpu_graph(run_in, width), {"loops": 1})
        start = now()
        await engine.run(cpu_graph(run_in, width), state)
        return now() - start


@cache
def _speed() -> int:
    return cpu_work.loops_per_second()


async def serial(width: int, seconds: float) -> float:
    """Seconds for the same work one after the other."""
    state = {"loops": int(_speed() * seconds)}
    start = now()
    for _ in range(width):
        cpu_work.burn(state)
    return now() - start


HEAVY = {"trio", "uvloop", "starlette", "uvicorn", "hypercorn", "click", "rich", "psycopg", "coredis", "obstore", "ray"}
IMPORT = """
import sys, time
start = time.CLOCK()
import engine
print(time.CLOCK() - start, *sys.modules)
"""


async def import_time() -> float:
    """Seconds to import the engine in a new interpreter; no backend, web server or driver may come along."""
    code = IMPORT.replace("CLOCK", clock().__name__)
    done = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True)  # noqa: ASYNC221
    seconds, *modules = done.stdout.split()
    if too_heavy := HEAVY.intersection(modules):
        raise RuntimeError(f"importing the engine brings {sorted(too_heavy)} along")
    return float(seconds)


# --- the table ------------------------------------------------------------------------------------------


async def judge(condition: Callable[[State], object], times: int) -> float:
    """Microseconds for each evaluation of a condition."""
    state = {"quality": 0.5, "rows": [1, 2, 3], "name": "x"}
    began = now()
    for _ in range(times):
        condition(state)
    return (now() - began) / times * 1e6


async def compile_text(times: int) -> float:
    """Microseconds for each condition that is compiled and checked against its state's schema."""
    schema = {"quality": "number", "rows": "array", "name": "string"}
    began = now()
    for _ in range(times):
        compile_condition("state.quality < 0.95 and has(state.rows)", schema)
    return (now() - began) / times * 1e6


def rows(quick: bool) -> Iterable[Row]:
    """The rows of the engine; a quick run measures fewer rounds of them, not other things."""
    times = 10 if quick else 50
    on_asyncio = ["asyncio"]
    streams = partial(bare.pipeline_of_streams, step, three(), CHAIN, times)
    awaits = partial(bare.loop_of_awaits, step, three(), CHAIN, times)
    yield Row(
        "chain of 100 nodes, per node",
        "us",
        chain(times),
        {"streams": streams, "bare awaits": awaits},
        at_most={"streams": 0.45},
        promised_on=on_asyncio,
    )
    yield Row(
        "chain of 100, against asyncio",
        "us",
        chain(times),
        {"asyncio": On("asyncio", chain(times))},
        at_least={"asyncio": 1.4},
        backends=["uvloop"],
    )
    yield Row(
        "chain of 100, against asyncio",
        "us",
        chain(times),
        {"asyncio": On("asyncio", chain(times))},
        at_most={"asyncio": 1.7},
        backends=["trio"],
    )
    yield Row(
        "chain of 100 on attrs, per node",
        "us",
        partial(per_node, attrs_graph, Three, times, CHAIN),
        {"on a dict": chain(times)},
        at_most={"on a dict": 1.5},
        promised_on=on_asyncio,
    )
    found = {"n": 0, "name": "x", "found": []}
    yield Row(
        "fan-out 1 to 100 and join, per branch",
        "us",
        partial(per_node, fan_graph, found.copy, times, WIDTH),
        {"task per branch": partial(bare.branches_over_streams, add_one, found, WIDTH, times)},
        at_most={"task per branch": 0.25},
        promised_on=on_asyncio,
    )
    yield Row(
        "loop of 2 nodes, 1,000 iterations, per activation",
        "us",
        partial(loop, 1_000),
        {"chain": chain(times)},
        at_most={"chain": 1.2},
        promised_on=on_asyncio,
    )
    long = 20_000 if quick else 1_000_000
    yield Row(
        f"loop of 2 nodes, {long:,} iterations, per activation",
        "us",
        partial(loop, long),
        {"chain": chain(times)},
        at_most={"chain": 1.2},
        promised_on=on_asyncio,
        most_rounds=3 if quick else 2,
    )
    yield Row(f"memory grown over {long // 2:,} iterations", "KB", partial(loop_memory, long), limit=100, most_rounds=1)
    yield Row(
        "2,000 runs at once of 5 nodes, one sleeps 1 ms, per run",
        "us",
        partial(many_runs, 2_000),
        limit=100,
        promised_on=on_asyncio,
    )
    in_flight = 1_000 if quick else 5_000
    yield Row(f"{in_flight:,} runs in flight, each", "KB", partial(memory_in_flight, in_flight), limit=8, most_rounds=1)
    yield Row(
        "20 nodes beside 10,000 entries and 5 MB, per node",
        "us",
        partial(per_node, big_graph, big_state, times, 20),
        {"small state": partial(per_node, big_graph, three, times, 20)},
        at_most={"small state": 1.2},
        promised_on=on_asyncio,
    )
    yield from _large(quick)
    yield Row(
        "map over 10,000 items, per item",
        "us",
        partial(map_items, 10_000),
        {"1,000 items": partial(map_items, 1_000)},
        at_most={"1,000 items": 1.2},
        limit=15,
        promised_on=on_asyncio,
    )
    yield Row(
        "4 branches of 0.3 s in processes",
        "s",
        partial(cpu_branches, "process", 4, 0.3),
        {"serial": partial(serial, 4, 0.3)},
        at_most={"serial": 0.6},
        backends=on_asyncio if quick else ["asyncio", "trio"],
        most_rounds=2 if quick else 5,
    )
    yield Row(
        "a condition, evaluated",
        "us",
        partial(judge, compile_condition("state.quality < 0.95 and has(state.rows)"), 100_000),
        {"the same as a lambda": partial(judge, lambda state: state["quality"] < 0.95 and "rows" in state, 100_000)},
        limit=3,
        backends=on_asyncio,
    )
    yield Row(
        "a condition, compiled and checked",
        "us",
        partial(compile_text, 1_000),
        backends=on_asyncio,
    )
    yield Row("import engine", "s", import_time, limit=0.25, backends=on_asyncio)


def _large(quick: bool) -> Iterable[Row]:
    """Graphs of 10,000 nodes, and that 100,000 take no more than 12 times as long."""
    measures = {"build": build, "compile": compile_graph, "first run": first_run, "next run": second_run}
    for what, measure in measures.items():
        on_loop = measure in (first_run, second_run)
        yield Row(
            f"{what} of 10,000 nodes, per node",
            "us",
            partial(measure, 10_000),
            limit=20,
            backends=["asyncio", "uvloop", "trio"] if on_loop and not quick else ["asyncio"],
            promised_on=["asyncio"],
            most_rounds=3,
        )
        if not quick:
            yield Row(
                f"{what} of 100,000 nodes, per node",
                "us",
                partial(measure, 100_000),
                {"10,000 nodes": partial(measure, 10_000)},
                at_most={"10,000 nodes": 1.2},
                backends=["asyncio"],
                most_rounds=2,
            )
