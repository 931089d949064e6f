"""What a decision costs, without an event loop: `python -m tests.benchmarks.bench_decisions`.

Each row is the machine's own share of one activation: consume its token, find
its update, route it, start the next one.
"""

from __future__ import annotations

import gc
import itertools
import operator
import time
from collections.abc import Callable
from typing import Any

from engine.plan import EdgeDecl, GraphDecl, NodeDecl, Plan, compile_plan
from engine.runs import Run
from engine.schema import read_schema
from engine.tokens import Activation, Record
from tests.driver import edge, graph, same


def schema(**reducers: Any) -> Any:
    return read_schema(dict, reducers)[0]


def drive(run: Run, state: Any, answer: Callable[[Activation], Any]) -> int:
    """Run to the end, first come first served; gives the number of activations."""
    commands = [*run.start(state, 0.0)]
    steps = 0
    while commands:
        following: list[Any] = []
        for command in commands:
            if type(command) is Activation:
                steps += 1
                following += run.succeeded(command, 1, answer(command), 0.0, 0.0)
        commands = following
    assert run.status == "succeeded", run.error
    return steps


def best(what: str, make: Callable[[], tuple[Plan, Any]], answer: Callable[[Activation], Any]) -> float:
    """Microseconds per activation, the best of several runs."""
    found = 1e9
    plan, state = make()
    for _ in range(5):
        gc.collect()
        run = Run(plan, "run")
        began = time.perf_counter()
        steps = drive(run, state, answer)
        found = min(found, (time.perf_counter() - began) / steps * 1e6)
    print(f"{what:40} {found:8.2f} us per activation")
    return found


def chain(length: int) -> tuple[Plan, Any]:
    nodes = {f"n{i}": same for i in range(length)}
    plan = graph(nodes, " -> ".join(nodes), state=schema())
    return plan, {"a": 1, "b": 2, "c": 3}


def fan(width: int) -> tuple[Plan, Any]:
    names = [f"w{i}" for i in range(width)]
    nodes = {"start": same, **dict.fromkeys(names, same), "join": same}
    edges = [f"start -> {name} -> join" for name in names]
    return graph(nodes, *edges, state=schema(n=operator.add)), {"n": []}


def loop(iterations: int) -> tuple[Plan, Any]:
    plan = graph(
        {"a": same, "b": same},
        "a -> b",
        edge("b -> a", when=lambda s: s["i"] < iterations, max_iterations=iterations + 1),
        edge("b -> END", otherwise=True),
        state=schema(),
    )
    return plan, {"i": 0, "b": 2, "c": 3}


def layers(count: int, width: int) -> GraphDecl:
    """Every node but the first layer's is a join of three."""
    names = [[f"n{i}_{j}" for j in range(width)] for i in range(count)]
    edges = [
        EdgeDecl(source=a[(j + k) % width], target=b[j])
        for a, b in itertools.pairwise(names)
        for j in range(width)
        for k in range(3)
    ]
    flat = [name for layer in names for name in layer]
    return GraphDecl(
        name="layers",
        state=schema(),
        nodes=tuple(NodeDecl(name=name) for name in flat),
        edges=tuple(edges),
        entries=tuple(names[0]),
    )


def line(count: int) -> GraphDecl:
    return GraphDecl(
        name="line",
        state=schema(),
        nodes=tuple(NodeDecl(name=f"n{i}") for i in range(count)),
        edges=tuple(EdgeDecl(source=f"n{i}", target=f"n{i + 1}") for i in range(count - 1)),
        entries=("n0",),
    )


def large(what: str, make: Callable[[], GraphDecl]) -> None:
    gc.collect()
    began = time.perf_counter()
    decl = make()
    built = time.perf_counter()
    plan = compile_plan(decl)
    compiled = time.perf_counter()
    run = Run(plan, "run")
    drive(run, {"a": 1}, lambda activation: None)
    ended = time.perf_counter()
    n = len(decl.nodes)
    print(
        f"{what:40} {n:7} nodes: build {(built - began) / n * 1e6:6.2f}, "
        f"compile {(compiled - built) / n * 1e6:6.2f}, run {(ended - compiled) / n * 1e6:6.2f} us per node"
    )


def recovery(runs: int, length: int) -> None:
    """Runs are rebuilt from all of their records but the last."""
    plan, state = chain(length)
    records: list[Record] = []
    commands = [*Run(plan, "run", journal=True).start(state, 0.0)]
    while commands:
        following: list[Any] = []
        for command in commands:
            if type(command) is Activation:
                following += command.run.succeeded(command, 1, {"a": command.node.index}, 1.0, 0.5)
            elif type(command) is Record:
                records.append(command)
        commands = following
    gc.collect()
    began = time.perf_counter()
    for _ in range(runs):
        Run(plan, "run", journal=True).replay(state, records[:-1], 2.0, 0.0)
    seconds = time.perf_counter() - began
    each = seconds / runs / (len(records) - 1) * 1e6
    print(f"{f'recovery of {runs} chains of {length}':40} {each:8.2f} us per record, {seconds:.3f} s in all")


def main() -> None:
    best("chain of 1000, nothing changed", lambda: chain(1000), lambda a: None)
    best("chain of 1000, one key changed", lambda: chain(1000), lambda a: {"a": a.number})
    best("fan-out 1 -> 100 -> join, reducer", lambda: fan(100), lambda a: {"n": [a.node.index]})
    best("fan-out 1 -> 1000 -> join, reducer", lambda: fan(1000), lambda a: {"n": [a.node.index]})
    best("loop of 2 nodes, 10,000 iterations", lambda: loop(10_000), lambda a: {"i": a.state["i"] + 1})
    recovery(1000, 20)
    for count in (10_000, 100_000):
        large("line", lambda count=count: line(count))  # type: ignore[misc]
    for count in (1000, 10_000):
        large("layers of 10, all joins", lambda count=count: layers(count, 10))  # type: ignore[misc]
    large("layers of 1000, all joins", lambda: layers(100, 1000))


if __name__ == "__main__":
    main()
