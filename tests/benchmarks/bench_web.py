"""The service: submissions over HTTP, and watching over WebSockets, each against a process of its own."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import AsyncIterator, Iterable
from contextlib import asynccontextmanager
from functools import partial
from pathlib import Path
from statistics import median
from tempfile import TemporaryDirectory
from time import perf_counter, time
from typing import Any, Literal

import anyio
import attrs
from anyio.abc import SocketStream
from websockets.asyncio.client import connect

from .harness import Row
from .web_service import CONNECTIONS, GRAPHS, NODES

ROOT = Path(__file__).parents[2]
BODY = b'{"state": {"n": 1, "text": "what a submission may say"}, "tags": {"team": "reviews"}}'
SUBMIT = (
    b"POST /api/graphs/%s/runs HTTP/1.1\r\nhost: localhost\r\ncontent-type: application/json\r\n"
    b"content-length: %d\r\n\r\n%s"
)
UPGRADE = (
    b"GET /ws/runs/%s HTTP/1.1\r\nhost: localhost\r\nupgrade: websocket\r\nconnection: upgrade\r\n"
    b"sec-websocket-key: dGhlIHNhbXBsZSBub25jZQ==\r\nsec-websocket-version: 13\r\n\r\n"
)

SCRAPE = b"GET /metrics HTTP/1.1\r\nhost: localhost\r\n\r\n"

Kind = Literal["ours", "bare", "many"]


@attrs.frozen
class Served:
    """A process that serves."""

    process: subprocess.Popen[bytes]
    port: int

    @property
    def processor_seconds(self) -> float:
        """What it has spent."""
        fields = Path(f"/proc/{self.process.pid}/stat").read_text().rpartition(")")[2].split()
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")

    @property
    def megabytes(self) -> float:
        """What it holds."""
        pages = int(Path(f"/proc/{self.process.pid}/statm").read_text().split()[1])
        return pages * os.sysconf("SC_PAGE_SIZE") / 1e6

    async def connect(self) -> SocketStream:
        return await anyio.connect_tcp("127.0.0.1", self.port)


@asynccontextmanager
async def served(kind: Kind) -> AsyncIterator[Served]:
    with TemporaryDirectory() as folder:
        command = [sys.executable, "-m", "tests.benchmarks.web_service", kind, f"{folder}/runs.db"]
        process = subprocess.Popen(command, stdout=subprocess.PIPE, cwd=ROOT)  # noqa: ASYNC220  # before anything is timed
        try:
            assert process.stdout is not None
            yield Served(process, int(await anyio.to_thread.run_sync(process.stdout.readline)))
        finally:
            process.kill()
            process.wait()
            assert process.stdout is not None
            process.stdout.close()


async def ask(stream: SocketStream, request: bytes, status: int = 202) -> bytes:
    """Send a request; the body of its answer, which must have this status."""
    await stream.send(request)
    answer = await stream.receive()
    while b"\r\n\r\n" not in answer:
        answer += await stream.receive()
    head, _, body = answer.partition(b"\r\n\r\n")
    length = int(head.lower().partition(b"content-length:")[2].partition(b"\r\n")[0])
    while len(body) < length:
        body += await stream.receive()
    assert head.startswith(b"HTTP/1.1 %d" % status), answer
    return body


async def submissions(kind: Kind, times: int, what: Literal["us", "cpu"]) -> float:
    """Microseconds, or milliseconds of the server's processor, for each of so many submissions."""
    request = SUBMIT % (b"three", len(BODY), BODY)

    async def some(stream: SocketStream, count: int) -> None:
        for _ in range(count):
            await ask(stream, request)

    async def all_of(streams: list[SocketStream], count: int) -> None:
        async with anyio.create_task_group() as group:
            for stream in streams:
                group.start_soon(some, stream, count // CONNECTIONS)

    async with served(kind) as service:
        streams = [await service.connect() for _ in range(CONNECTIONS)]
        await all_of(streams, times // 4)
        spent, began = service.processor_seconds, perf_counter()
        await all_of(streams, times)
        seconds = perf_counter() - began
        spent = service.processor_seconds - spent
        for stream in streams:
            await stream.aclose()
    return seconds / times * 1e6 if what == "us" else spent / times * 1e3


async def submissions_alone(times: int, what: Literal["us", "cpu"]) -> float:
    """The same for the engine alone, in a process of its own: no server, no client."""
    with TemporaryDirectory() as folder:
        command = [sys.executable, "-m", "tests.benchmarks.web_service", "alone", f"{folder}/runs.db", str(times)]
        done = await anyio.run_process(command, cwd=ROOT, stderr=None)
    seconds, spent = map(float, done.stdout.split())
    return seconds / times * 1e6 if what == "us" else spent / times * 1e3


async def watching(events: int) -> float:
    """Milliseconds within which 99 of 100 events arrive, of a thousand a second; none may be lost."""
    async with served("ours") as service:
        stream = await service.connect()
        body = b'{"state": {"events": %d}}' % events
        run = json.loads(await ask(stream, SUBMIT % (b"ticking", len(body), body)))["run_id"]
        late, numbers = [], []
        async with connect(f"ws://127.0.0.1:{service.port}/ws/runs/{run}", compression=None) as socket:
            signal = b'{"name": "go"}'
            path = f"/api/runs/{run}/signal".encode()
            await ask(
                stream, b"POST %s HTTP/1.1\r\nhost: localhost\r\ncontent-length: %d\r\n\r\n%s" % (path, 14, signal)
            )
            async for text in socket:
                message: dict[str, Any] = json.loads(text)
                if "seq" in message:
                    numbers.append(message["seq"])
                if message["type"] == "node_progress":
                    late.append(time() - message["data"]["event"])
        await stream.aclose()
    assert numbers == list(range(1, len(numbers) + 1))
    assert len(late) == events
    return sorted(late)[int(events * 0.99)] * 1e3


async def scrape(times: int) -> float:
    """Milliseconds that a scrape takes, the median of so many."""
    async with served("many") as service:
        stream = await service.connect()
        found = await ask(stream, SCRAPE, 200)
        assert found.count(b"\nworkflow_activations_total{") >= GRAPHS * NODES, found[-1000:]
        took = []
        for _ in range(times):
            began = perf_counter()
            await ask(stream, SCRAPE, 200)
            took.append(perf_counter() - began)
        await stream.aclose()
    return median(took) * 1e3


async def idle_watchers(count: int) -> float:
    """Megabytes that so many sockets take, which watch a run in which nothing happens."""
    async with served("ours") as service:
        stream = await service.connect()
        run = json.loads(await ask(stream, SUBMIT % (b"idle", 2, b"{}")))["run_id"]
        streams = [await watcher(service, run)]  # the first one loads what all need
        before = service.megabytes
        for _ in range(count):
            streams.append(await watcher(service, run))
        found = service.megabytes - before
        for each in [stream, *streams]:
            await anyio.aclose_forcefully(each)
    return found


async def watcher(service: Served, run: str) -> SocketStream:
    """A socket that has seen all that has happened."""
    stream = await service.connect()
    await stream.send(UPGRADE % run.encode())
    got = b""
    while b"run_waiting" not in got:
        got += await stream.receive()
    return stream


def rows(quick: bool) -> Iterable[Row]:
    """The rows of the service, which runs on uvicorn and uvloop whatever asks it."""
    times = 1_600 if quick else 6_400
    yield Row(
        "POST of a run of 3 nodes, 32 connections, SQLite standard",
        "us",
        partial(submissions, "ours", times, "us"),
        {
            "a bare route": partial(submissions, "bare", times, "us"),
            "the engine without HTTP": partial(submissions_alone, times, "us"),
        },
        at_most={"a bare route": 2.0},
        backends=("asyncio",),
    )
    yield Row(
        "POST of a run of 3 nodes, processor of the server",
        "ms",
        partial(submissions, "ours", times, "cpu"),
        {
            "a bare route": partial(submissions, "bare", times, "cpu"),
            "the engine without HTTP": partial(submissions_alone, times, "cpu"),
        },
        limit=2.0,
        backends=("asyncio",),
    )
    yield Row(
        "1,000 events a second over a WebSocket, 99 of 100 within",
        "ms",
        partial(watching, 1_000 if quick else 5_000),
        limit=20.0,
        backends=("asyncio",),
        most_rounds=3,
    )
    yield Row(
        f"a scrape with {GRAPHS} graphs of {NODES} nodes",
        "ms",
        partial(scrape, 10 if quick else 50),
        limit=50.0,
        backends=("asyncio",),
        most_rounds=3,
    )
    yield Row(
        "2,000 idle watchers",
        "MB",
        partial(idle_watchers, 2_000),
        limit=60.0,
        backends=("asyncio",),
        most_rounds=1,
    )
