"""What the rows of the service measure, as a process of its own: `python -m … KIND FILE`, which prints its port.

`ours` is the service with three small graphs, `many` the same with `GRAPHS` of `NODES` nodes more, which have all run.

`bare` is a Starlette route that parses the same body and does one insert, committed with all others that wait
meanwhile: what a service costs that only writes down what it is sent.
"""

from __future__ import annotations

import queue
import socket
import sqlite3
import sys
import threading
from time import time
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
    anyio.run(main, *sys.argv[1:], backend_options={"use_uvloop": True})
