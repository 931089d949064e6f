"""The client against the real service, as a process, which is killed and starts anew while they talk."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import anyio
import httpx2
import pytest

from engine import Context, EngineClosed, Graph, HistoryGone, RunNotFound
from engine.client import AsyncClient, Client, Events, Patience, ServiceError
from engine.web.streams import StreamLimits
from tests.engine.restarted import LOOP, NOTED, TOLD_LOOP, Process
from tests.engine.web.real import Real, running
from tests.engine.web.services import ROOT

PATIENT = Patience(total=30, first_gap=0.02, longest_gap=0.2)


@pytest.fixture(params=[pytest.param("asyncio", id="uvicorn"), pytest.param("trio", id="hypercorn")])
def service(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Process]:
    """One that runs, on each of its backends."""
    found = Process(tmp_path, request.param)
    found.start()
    yield found
    found.stop()


@pytest.fixture(params=["asyncio", "trio"])
def anyio_backend(request: pytest.FixtureRequest) -> tuple[str, dict[str, Any]]:
    """The client's; uvloop adds nothing to what the service is tested with."""
    return request.param, {"use_uvloop": False} if request.param == "asyncio" else {}


@asynccontextmanager
async def client_of(service: Process) -> AsyncIterator[AsyncClient]:
    async with AsyncClient(service.url, patience=PATIENT) as client:
        yield client


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM], ids=["killed", "ended"])
async def test_a_stream_goes_on_when_the_service_starts_anew(service: Process, number: signal.Signals) -> None:
    async with client_of(service) as client:
        await client.define(LOOP)
        run = await client.submit("loop", {"pause": 0.01, "until": 120})
        seen = []
        async for event in run.events():
            seen.append(event)
            if event.seq == 100:
                await service.again(number)

        again = [event async for event in run.events()]

        assert [event.seq for event in seen] == list(range(1, len(seen) + 1))
        assert seen[-1].type == "run_succeeded"
        assert [(event.seq, event.type, event.node, event.activation) for event in seen] == [
            (event.seq, event.type, event.node, event.activation) for event in again
        ]
        assert (await run.result()).state["n"] == 120


async def test_what_nodes_told_before_a_restart_is_told_as_lost_and_the_stream_goes_on(service: Process) -> None:
    async with client_of(service) as client:
        await client.define(TOLD_LOOP)
        run = await client.submit("told", {"pause": 0.01, "until": 60})
        seen = []
        async for event in run.events():
            seen.append(event)
            if event.seq == 100:
                await service.again()

        again = [event async for event in run.events()]

        assert [event.seq for event in seen] == list(range(1, len(seen) + 1))
        assert "events_lost" not in [event.type for event in seen]
        assert [event.seq for event in again] == [event.seq for event in seen]
        assert {(one.type, other.type) for one, other in zip(seen, again, strict=True) if one.type != other.type} == {
            ("node_progress", "events_lost")
        }


async def test_submissions_that_a_crash_interrupts_make_one_run_each(service: Process) -> None:
    done: list[str] = []

    async def submit(client: AsyncClient, number: int) -> None:
        run = await client.submit("noted", {"name": f"run-{number}"}, tags={"number": str(number)})
        assert (await run.result()).state["name"] == f"run-{number}"
        done.append(run.id)

    async def crash() -> None:
        while len(done) < 5:  # noqa: ASYNC110  # somewhere in the middle
            await anyio.sleep(0.001)
        await service.again()

    async with client_of(service) as client:
        await client.define(NOTED)
        with anyio.fail_after(120):
            async with anyio.create_task_group() as group:
                group.start_soon(crash)
                for number in range(60):
                    group.start_soon(submit, client, number)

        runs = await client.runs(limit=None)
        assert sorted(run.id for run in runs) == sorted(done)
        assert sorted(int(run.tags["number"]) for run in runs) == list(range(60))
        assert {run.status for run in runs} == {"succeeded"}


async def test_a_result_is_waited_for_through_a_restart(service: Process) -> None:
    async with client_of(service) as client, anyio.create_task_group() as group:
        run = await client.submit(LOOP, {"pause": 0.01, "until": 60})
        group.start_soon(service.again)

        assert (await run.result(timeout=120)).state["n"] == 60


async def test_whoever_leaves_in_the_middle_leaves_nothing_open(service: Process) -> None:
    async with client_of(service) as client:
        run = await client.submit(LOOP, {"pause": 0.05, "until": 10_000})
        async for event in run.events():
            if event.seq > 3:
                break  # without closing: the client does
        stream = run.events()
        with anyio.move_on_after(0.2):
            async for _ in stream:
                pass
        resumed = await anext(stream)  # after having been cancelled

        assert resumed.seq == stream.seen
        assert len(client._streams) == 2
    assert not client._streams
    async with client_of(service) as client:
        await (await client.get(run.id)).cancel()


async def tell(state: dict[str, Any], ctx: Context) -> None:
    for _ in range(6_000):
        ctx.emit("x" * 4_000)


@pytest.fixture
def impatient() -> Iterator[Real]:
    """A service that cuts slow readers off at once. On uvicorn: on trio Hypercorn shields its sends, and never does."""
    with running("asyncio", streams=StreamLimits(slow=0.2)) as real:
        graph = Graph("telling", history=10_000).add_node("tell", tell).set_entry_point("tell")

        async def register() -> None:
            real.engine.register(graph)

        real.call(register)
        yield real


async def test_a_reader_that_was_too_slow_and_cut_off_misses_nothing(
    impatient: Real, monkeypatch: pytest.MonkeyPatch
) -> None:
    connections: list[int] = []
    connect = Events._connect

    async def counted(self: Events) -> None:
        connections.append(self._seen)
        await connect(self)

    monkeypatch.setattr(Events, "_connect", counted)
    async with AsyncClient(f"http://127.0.0.1:{impatient.port}", patience=PATIENT) as client:
        run = await client.submit("telling")
        await run.wait()
        seen = []
        async for event in run.events():
            seen.append(event.seq)
            if len(connections) == 1 and event.seq % 500 == 10:
                await anyio.sleep(1.0)  # reads nothing, while more waits to be sent than a network holds

        assert seen == list(range(1, run.info.last_event + 1))
        assert len(seen) > 6_000
        assert len(connections) > 1


# --- by programs that block -----------------------------------------------------------------------------

SCRIPT = """
import sys
from engine.client import Client

with Client(sys.argv[1], backend=sys.argv[2]) as client:
    client.define({"name": "noted", "entry_point": "note", "nodes": [{"name": "note"}]})
    run = client.submit("noted", {"name": "script"})
    print([event.type for event in run.events()][-1], run.status, run.state, run.visited, len(run.log))
    print(client.get(run.id).result(timeout=5).state, [found.id == run.id for found in client.runs()])
"""


@pytest.mark.parametrize("own", ["asyncio", "trio"], ids=["one", "other"])
def test_a_plain_script_uses_it(service: Process, own: str, tmp_path: Path) -> None:
    words = [sys.executable, "-W", "error", "-c", SCRIPT, service.url, own]
    ran = subprocess.run(
        words, capture_output=True, text=True, timeout=60, env={**os.environ, "PYTHONPATH": str(ROOT)}, cwd=tmp_path
    )

    assert ran.stderr == ""
    assert ran.stdout == ("run_succeeded succeeded {'name': 'script'} ['note'] 1\n{'name': 'script'} [True]\n")


def test_threads_share_a_client(service: Process) -> None:
    found: list[tuple[int, int]] = []

    def work(client: Client, number: int) -> None:
        for _ in range(5):
            result = client.run("loop", {"n": number, "until": number + 2})
            found.append((number, result.state["n"]))

    with Client(service.url, patience=PATIENT) as client:
        client.define(LOOP)
        threads = [threading.Thread(target=work, args=(client, number)) for number in range(8)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(120)

        assert sorted(found) == sorted((number, number + 2) for number in range(8) for _ in range(5))
        assert len(client.runs(limit=None)) == 40
        with pytest.raises(RunNotFound):
            client.get("nobody")
    with pytest.raises(EngineClosed):
        client.graphs()


async def test_it_refuses_to_block_an_event_loop() -> None:
    with pytest.raises(RuntimeError, match="AsyncClient"), Client("http://127.0.0.1:9"):
        pass


# --- message by message ---------------------------------------------------------------------------------


def said(*numbers: int) -> bytes:
    events = [{"seq": n, "type": "t", "time": 0.0, "node": None, "activation": None, "data": {}} for n in numbers]
    return b"".join(b"id: %d\nevent: t\ndata: %s\n\n" % (e["seq"], json.dumps(e).encode()) for e in events)


def end(reason: str, problem: Any = None) -> bytes:
    return b"event: end\ndata: " + json.dumps({"reason": reason, "problem": problem}).encode() + b"\n\n"


class Scripted(httpx2.AsyncBaseTransport):
    """Answers with these, one after the other, and notes from where it was asked to go on."""

    def __init__(self, *answers: bytes | int) -> None:
        self._answers = list(answers)
        self.after: list[str] = []

    async def handle_async_request(self, request: httpx2.Request) -> httpx2.Response:
        if request.url.path == "/api/runs/r":
            item = {"run_id": "r", "graph": "g", "version": "1", "status": "running", "submitted_at": 0.0, "tags": {},
                    "priority": 0}  # fmt: skip
            return httpx2.Response(200, json=item)
        self.after.append(request.headers["last-event-id"])
        answer = self._answers.pop(0)
        if isinstance(answer, int):
            return httpx2.Response(answer, headers={"retry-after": "0.01"})
        return httpx2.Response(200, content=answer)


async def read(script: Scripted, after: int = 0, patience: float = 60.0) -> list[int]:
    patient = Patience(total=patience, first_gap=0.01)
    async with AsyncClient("http://service", transport=script, patience=patient) as client:
        run = await client.get("r")
        return [event.seq async for event in run.events(after)]


@pytest.mark.parametrize("cut", [b"", said(3)[:-1], end("too_slow"), end("idle"), end("draining"), b": ping\n\n"])
async def test_whatever_ends_a_stream_it_goes_on_after_the_last_event(cut: bytes) -> None:
    script = Scripted(said(1, 2) + cut, 503, said(3, 4), 429, b"", said(5) + end("over"))

    assert await read(script) == [1, 2, 3, 4, 5]
    assert script.after == ["0", "2", "2", "4", "4", "4"]


async def test_what_comes_twice_is_given_once() -> None:
    assert await read(Scripted(said(1, 2), said(1, 2, 3), 204)) == [1, 2, 3]


async def test_a_gap_is_an_error_rather_than_a_loss() -> None:
    with pytest.raises(HistoryGone) as raised:
        await read(Scripted(said(1, 3)))

    assert (raised.value.asked, raised.value.kept_from) == (2, 3)


async def test_events_that_are_gone_are_told_as_the_engine_does() -> None:
    problem = {"status": 410, "code": "history_gone", "detail": "gone", "facts": {"asked": 2, "kept_from": 9}}

    with pytest.raises(HistoryGone) as raised:
        await read(Scripted(said(1) + end("lost", problem)))

    assert raised.value.kept_from == 9


async def test_a_stream_that_never_gets_on_is_given_up() -> None:
    with pytest.raises(ServiceError, match="draining"):
        await read(Scripted(*[end("draining")] * 100), patience=1.0)
