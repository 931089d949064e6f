"""What the rows of the service measure, as a process of its own: `python -m … KIND FILE`, which prints its port.

`ours` is the service with three small graphs, `many` the same with `GRAPHS` of `NODES` nodes more, which have all run.

`alone FILE TIMES` submits the same runs with no HTTP at all, and prints what that took.

`bare` is a Starlette route that parses the same body and does one insert, committed with all others that wait
meanwhile: what a service costs that only writes down what it is sent.
"""

from __future__ import annotations

import queue
import socket
import sqlite3
import sys
import threading
from time import perf_counter, process_time, time
from typing import Any

import anyio
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse
from starlette.routing import Route

from actors.waker import new_poster, new_waker
from engine import Context, Engine, Graph
from engine.web import create_app
from engine.web.limits import Limits
from engine.web.server import SERVERS
from engine.web.serving import collecting_less_often

State = dict[str, Any]


async def step(state: State) -> State:
    return {"n": state["n"] + 1}


async def emit(state: State, ctx: Context) -> None:
    """Tells the time, a thousand times a second."""
    begin = anyio.current_time()
    for number in range(state["events"]):
        await anyio.sleep_until(begin + number / 1000)
        ctx.emit(time())


def graphs() -> list[Graph]:
    three = Graph("three").add_node("a", step).add_node("b", step).add_node("c", step)
    three.add_edge("a", "b").add_edge("b", "c").set_entry_point("a")
    idle = Graph("idle").add_wait("a", signal="go", into="x").set_entry_point("a")
    ticking = Graph("ticking").add_wait("a", signal="go", into="x").add_node("b", emit).add_edge("a", "b")
    return [three, idle, ticking.set_entry_point("a")]


GRAPHS, NODES = 100, 20


async def run_many(engine: Engine) -> None:
    """Run graphs until every node of theirs has its numbers."""
    for number in range(GRAPHS):
        graph = Graph(f"graph {number}").set_entry_point("node 0")
        for node in range(NODES):
            graph.add_node(f"node {node}", step)
            if node:
                graph.add_edge(f"node {node - 1}", f"node {node}")
        await engine.run(graph, {"n": 0})


class Writer:
    """Inserts from a thread, all that wait in one commit."""

    def __init__(self, file: str) -> None:
        self._queue: queue.SimpleQueue[Any] = queue.SimpleQueue()
        self._file = file
        threading.Thread(target=self._write, daemon=True).start()

    async def insert(self, data: str) -> None:
        waker, done = new_waker(), list[bool]()
        post = new_poster()
        self._queue.put((data, lambda: post(lambda: (done.append(True), waker.wake()))))
        while not done:
            await waker.park()

    def _write(self) -> None:
        connection = sqlite3.connect(self._file, isolation_level=None)
        connection.execute("PRAGMA journal_mode = WAL")
        connection.execute("PRAGMA synchronous = FULL")
        connection.execute("CREATE TABLE runs (id INTEGER PRIMARY KEY, data TEXT)")
        while True:
            batch = [self._queue.get()]
            while not self._queue.empty():
                batch.append(self._queue.get())
            connection.execute("BEGIN IMMEDIATE")
            connection.executemany("INSERT INTO runs (data) VALUES (?)", [(data,) for data, _ in batch])
            connection.execute("COMMIT")
            for _, told in batch:
                told()


def bare(file: str) -> Starlette:
    writer = Writer(file)

    async def submit(request: Request) -> JSONResponse:
        body = await request.json()
        await writer.insert(str(body))
        return JSONResponse({"run_id": "x", "graph": request.path_params["name"], "status": "running"}, 202)

    return Starlette(routes=[Route("/api/graphs/{name}/runs", submit, methods=["POST"])])


CONNECTIONS = 32
STATE = {"n": 1, "text": "what a submission may say"}
TAGS = {"team": "reviews"}


async def submit_alone(file: str, times: int) -> None:
    """The service without HTTP: print the seconds, and those of the processor, that so many submissions take."""

    async def some(engine: Engine, count: int) -> None:
        for _ in range(count):
            await engine.submit("three", STATE, tags=TAGS)

    async def all_of(engine: Engine, count: int) -> None:
        async with anyio.create_task_group() as group:
            for _ in range(CONNECTIONS):
                group.start_soon(some, engine, count // CONNECTIONS)

    async with Engine(f"sqlite:///{file}") as engine:
        for graph in graphs():
            engine.register(graph)
        with collecting_less_often():
            await all_of(engine, times // 4)
            began, spent = perf_counter(), process_time()
            await all_of(engine, times)
            print(perf_counter() - began, process_time() - spent)


async def main(kind: str, file: str) -> None:
    listener = socket.create_server(("127.0.0.1", 0), backlog=1024)
    async with Engine(None if kind == "bare" else f"sqlite:///{file}") as engine:
        for graph in graphs():
            engine.register(graph)
        if kind == "many":
            await run_many(engine)
        app: Any = bare(file) if kind == "bare" else create_app(engine, limits=Limits(anybody_rate=None))
        port = listener.getsockname()[1]
        with collecting_less_often():  # as `workflow-engine serve` does
            await SERVERS["asyncio"](app, listener, lambda: print(port, flush=True), anyio.sleep_forever, 1.0)


if __name__ == "__main__":
    if sys.argv[1] == "alone":
        anyio.run(submit_alone, sys.argv[2], int(sys.argv[3]), backend_options={"use_uvloop": True})
    else:
        anyio.run(main, *sys.argv[1:], backend_options={"use_uvloop": True})
