"""What the service runs while it is soaked: a graph for each kind of run, each with one right result."""

from __future__ import annotations

from typing import Any, Final

import anyio

from engine import END, Context, Graph

State = dict[str, Any]
ROUNDS: Final = 8
SIGNALS: Final = 2
FLOOD: Final = 300
FLOOD_BYTES: Final = 4_000


async def add(state: State, context: Context) -> State:
    return {context.node: state["n"] + 1}


async def step(state: State, context: Context) -> State:
    await anyio.sleep(0.02 * (state["n"] % 4))
    context.emit({"round": state.get("rounds", 0)})
    return {"rounds": state.get("rounds", 0) + 1}


async def branch(state: State, context: Context) -> State:
    await anyio.sleep(0.01 * (state["n"] % 3))
    return {context.node: state["n"] * 2}


async def take(state: State) -> State:
    return {"taken": [state["signal"]]}


async def mend(state: State) -> State:
    if not state.get("mended"):
        raise ValueError("it has to be mended first")
    return {"done": True}


async def sleep(state: State) -> None:
    await anyio.sleep(3_600)


async def flood(state: State, context: Context) -> State:
    for number in range(FLOOD):
        context.emit({"number": number, "ballast": "x" * FLOOD_BYTES})
        await anyio.sleep(0.005)
    return {"flooded": FLOOD}


def _chain() -> Graph:
    graph = Graph("chain").set_entry_point("one")
    for name in ("one", "two", "three"):
        graph.add_node(name, add)
    return graph.add_edge("one", "two").add_edge("two", "three")


def _loop() -> Graph:
    graph = Graph("loop").add_node("step", step).set_entry_point("step")
    graph.add_edge("step", "step", when=lambda state: state["rounds"] < ROUNDS, max_iterations=100)
    return graph.add_edge("step", END, otherwise=True)


def _fan() -> Graph:
    graph = Graph("fan").add_node("one", add).add_node("last", add).set_entry_point("one")
    for name in ("left", "middle", "right"):
        graph.add_node(name, branch)
    return graph.add_edge("one", ["left", "middle", "right"]).add_edge(["left", "middle", "right"], "last")


def _gated() -> Graph:
    graph = Graph("gated", reducers={"taken": list.__add__}).add_node("one", add).set_entry_point("one")
    graph.add_wait("gate", signal="go", into="signal").add_node("take", take)
    graph.add_edge("one", "gate").add_edge("gate", "take")
    graph.add_edge("take", "gate", when=lambda state: len(state["taken"]) < SIGNALS, max_iterations=10)
    return graph.add_edge("take", END, otherwise=True)


def _broken() -> Graph:
    graph = Graph("broken").add_node("one", add).add_node("mend", mend).set_entry_point("one")
    return graph.add_edge("one", "mend")


graphs = [
    _chain(),
    _loop(),
    _fan(),
    _gated(),
    _broken(),
    Graph("sleeper").add_node("sleep", sleep).set_entry_point("sleep"),
    Graph("flood").add_node("flood", flood).set_entry_point("flood"),
]


def expected(kind: str, n: int, key: str) -> tuple[str, State]:
    """The status and the state that a run of this kind must end with."""
    match kind:
        case "chain":
            return "succeeded", {"n": n, "one": n + 1, "two": n + 1, "three": n + 1}
        case "loop":
            return "succeeded", {"n": n, "rounds": ROUNDS}
        case "fan":
            branches = dict.fromkeys(("left", "middle", "right"), 2 * n)
            return "succeeded", {"n": n, "one": n + 1, **branches, "last": n + 1}
        case "gated":
            taken = [signal_of(key, number) for number in range(SIGNALS)]
            return "succeeded", {"n": n, "one": n + 1, "signal": taken[-1], "taken": taken}
        case "broken":
            return "succeeded", {"n": n, "one": n + 1, "mended": True, "done": True}
        case "flood":
            return "succeeded", {"n": n, "flooded": FLOOD}
    return "cancelled", {"n": n}


def signal_of(key: str, number: int) -> str:
    """What a run is given as its signal of this number, and that signal's id."""
    return f"{key}/{number}"
