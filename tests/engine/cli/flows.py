"""Graphs for the command line to run; copied beside where it runs."""

from __future__ import annotations

import datetime
import os
import subprocess
import threading
import time
from pathlib import Path
from typing import Any

import anyio
from attrs import frozen

from engine import END, Context, Graph, tool


def note(*words: object) -> None:
    """Leave a line behind, for the test to count."""
    with Path("notes").open("a") as file:
        print(*words, file=file, flush=True)


# --- what ends by itself

hello = Graph("hello")


@hello.node
def greet(state: dict[str, Any]) -> dict[str, Any]:
    print("a node prints")
    return {"greeting": f"hello {state.get('name', 'you')}"}


hello.set_entry_point("greet")

noisy = Graph("noisy")


@noisy.node
def write(state: dict[str, Any]) -> dict[str, Any]:
    print("a node prints")
    os.write(1, b"a library writes\n")
    subprocess.run(["echo", "a program writes"], check=True)
    return {"quiet": False}


noisy.set_entry_point("write")

broken = Graph("broken")


@broken.node
async def divide(state: dict[str, Any]) -> dict[str, Any]:
    return {"result": 1 / state.get("by", 0)}


broken.set_entry_point("divide")

# --- loop, parallel part, map, wait

everything = Graph("everything")


@everything.node
async def start(state: dict[str, Any]) -> dict[str, Any]:
    return {"rows": list(range(state.get("count", 8)))}


def double(item: int) -> int:
    time.sleep(0.01)
    return item * 2


@everything.node
async def beside(state: dict[str, Any], ctx: Context) -> dict[str, Any]:
    ctx.progress(0.5, "half of it")
    await anyio.sleep(state.get("seconds", 0.02))
    return {"beside": True}


@everything.node
async def again(state: dict[str, Any]) -> dict[str, Any]:
    await anyio.sleep(0.01)
    return {"rounds": state.get("rounds", 0) + 1}


everything.add_map("double", double, over="rows", into="doubled", concurrency=1)
everything.add_edge("start", ["double", "beside"]).add_edge(["double", "beside"], "again")
everything.add_edge("again", "again", when=lambda state: state["rounds"] < 3, max_iterations=9)
everything.add_wait("approve", signal="approved", into="approval")
everything.add_edge("again", "approve", otherwise=True).add_edge("approve", END)
everything.set_entry_point("start")

# --- what goes on until somebody ends it

steps = Graph("steps")


async def step(state: dict[str, Any], ctx: Context) -> dict[str, Any]:
    note("begun", ctx.node)
    while ctx.node == "two" and not await anyio.Path("go").exists():  # noqa: ASYNC110  # the test is another process
        await anyio.sleep(0.01)
    note("done", ctx.node)
    return {ctx.node: True}


for name in ("one", "two", "three"):
    steps.add_node(name, step)
steps.add_edge("one", "two").add_edge("two", "three").set_entry_point("one")

stuck = Graph("stuck")


@stuck.node(run_in="loop")
def block(state: dict[str, Any]) -> dict[str, Any]:
    note("blocks")
    threading.Event().wait(60)
    return {}


stuck.set_entry_point("block")

# --- a state of a class


@frozen
class Order:
    due: datetime.date
    items: tuple[str, ...] = ()


order = Graph("order", state=Order)


@order.node
async def ship(state: Order) -> dict[str, Any]:
    return {"items": (*state.items, f"by {state.due:%d.%m.}")}


order.set_entry_point("ship")


@tool
def shout(text: str, times: int = 1) -> dict[str, Any]:
    """Says it louder."""
    return {"text": text.upper() + "!" * times}


# --- the tools of order.json


@tool
def fetch_items(state: dict[str, Any]) -> dict[str, Any]:
    """What is to be checked."""
    return {"items": list(range(state["count"]))}


@tool
async def check_stock(state: dict[str, Any], ctx: Context, seconds: float = 0.0) -> dict[str, Any]:
    """Looks into the store."""
    ctx.progress(0.5, "half of it")
    await anyio.sleep(seconds)
    return {"log": "stock"}


@tool
def price(item: int, factor: int = 1) -> int:
    """Of one item."""
    time.sleep(0.03)
    return item * factor


@tool
async def raise_quality(state: dict[str, Any]) -> dict[str, Any]:
    """A bit better."""
    await anyio.sleep(0.01)
    return {"quality": state["quality"] + 0.25, "log": "raised"}


@tool
async def report(state: dict[str, Any]) -> dict[str, Any]:
    """The end."""
    return {"log": "reported"}
