"""A small service for tests of its life: the real engine, servers and guard, around a few routes of its own.

`python -m tests.engine.web.program '{"store": …, "backend": …}'` prints its address as its first line.
"""

from __future__ import annotations

import json
import sys
import time
from pathlib import Path
from typing import Any

import anyio
from prometheus_client import generate_latest
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response, StreamingResponse
from starlette.routing import Route, WebSocketRoute
from starlette.websockets import WebSocket

from engine import Engine, EngineClosed, EngineError, Graph, Settings
from engine.logging_json import logging_to
from engine.web.draining import Draining
from engine.web.guard import guarded
from engine.web.health import Readiness, health
from engine.web.keys import Keys
from engine.web.limits import Limits
from engine.web.measures import numbers_of
from engine.web.principals import allowed
from engine.web.serving import CannotServe, Service, last_part, serve
from engine.web.wire import ASGIApp


def graph_in(folder: str) -> Graph:
    """Each node writes down that it began and ended."""

    async def first(state: dict[str, Any]) -> dict[str, Any]:
        return {"steps": [*state.get("steps", []), "first"]}

    async def slow(state: dict[str, Any]) -> dict[str, Any]:
        with (Path(folder) / "begun").open("a") as file:
            file.write("slow\n")
        while "until" in state and not await anyio.Path(folder, state["until"]).exists():  # noqa: ASYNC110
            await anyio.sleep(0.01)
        return {"steps": [*state["steps"], "slow"]}

    def in_a_thread(state: dict[str, Any]) -> dict[str, Any]:
        with (Path(folder) / "begun").open("a") as file:
            file.write("in a thread\n")
        time.sleep(state.get("thread_seconds", 0))
        return {}

    async def block(state: dict[str, Any]) -> dict[str, Any]:
        with (Path(folder) / "begun").open("a") as file:
            file.write("block\n")
        until = time.monotonic() + state.get("block_seconds", 0)
        while time.monotonic() < until:
            pass
        return {}

    graph = Graph("slow").add_node("first", first).add_node("slow", slow)
    graph.add_node("in_a_thread", in_a_thread).add_node("block", block)
    graph.add_edge("first", "slow").add_edge("slow", "in_a_thread").add_edge("in_a_thread", "block")
    return graph.set_entry_point("first")


def application(engine: Engine, draining: Draining, **options: Any) -> ASGIApp:
    """The routes."""

    async def submit(request: Request) -> Response:
        try:
            run = await engine.submit("slow", await request.json())
        except EngineClosed as error:
            return JSONResponse({"detail": str(error)}, 503, {"retry-after": "1"})
        request.scope["state"]["run_id"] = run.id
        return JSONResponse({"id": run.id}, 202)

    async def look(request: Request) -> Response:
        allowed(request.scope, "read")
        run = await engine.get(request.path_params["run_id"])
        return JSONResponse({"status": run.status, "state": dict(run.state) if run.status == "succeeded" else None})

    readiness = Readiness(engine, draining)

    async def well(_: Request) -> Response:
        status, document = health(engine)
        return JSONResponse(document, status)

    async def ready(_: Request) -> Response:
        status, document = await readiness.check()
        return JSONResponse(document, status)

    async def ping(_: Request) -> Response:
        return JSONResponse({})

    async def metrics(_: Request) -> Response:
        return Response(generate_latest(engine.metrics), media_type="text/plain")

    async def stream(_: Request) -> Response:
        async def lines() -> Any:
            yield b": hello\n\n"
            await draining.wait()
            yield b"event: draining\n\n"

        return StreamingResponse(lines(), media_type="text/event-stream")

    async def watch(socket: WebSocket) -> None:
        await socket.accept()

        async def leave() -> None:
            await draining.wait()
            await socket.close(1012)
            group.cancel_scope.cancel()

        async with anyio.create_task_group() as group:
            group.start_soon(leave)
            while (await socket.receive())["type"] != "websocket.disconnect":
                pass
            group.cancel_scope.cancel()

    routes = [
        Route("/health", well),
        Route("/ready", ready),
        Route("/api/runs", submit, methods=["POST"]),
        Route("/api/runs/{run_id}", look),
        Route("/api/ping", ping),
        Route("/metrics", metrics),
        Route("/stream", stream),
        WebSocketRoute("/ws", watch),
    ]
    return guarded(
        Starlette(routes=routes),
        draining=draining,
        numbers=numbers_of(engine.metrics),
        audit=engine.audit,
        **options,
    )


def main(options: dict[str, Any]) -> int:
    """The exit code."""
    keys = None if options.get("keys") is None else Keys.parse(options["keys"])
    limits = Limits(**options.get("limits", {}))
    grace = options.get("grace", 5.0)
    service = Service(
        engine=lambda: Engine(
            options.get("store"),
            settings=Settings(close_seconds=last_part(grace) / 2),
            fallback=options.get("fallback"),
        ),
        application=lambda engine, draining: application(engine, draining, keys=keys, limits=limits),
        graphs=[graph_in(options["folder"])],
        host=options.get("host", "127.0.0.1"),
        port=options.get("port", 0),
        backend=options["backend"],
        grace=grace,
        has_keys=keys is not None,
        insecure=options.get("insecure", False),
        started=lambda address: print(address, flush=True),
    )
    try:
        with logging_to(sys.stderr, "info", "json"):
            serve(service)
    except (CannotServe, EngineError) as error:
        print(f"{type(error).__name__}: {error}", file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main(json.loads(sys.argv[1])))
