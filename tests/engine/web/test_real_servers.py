"""Streams and requests through real servers: uvicorn on asyncio, Hypercorn on trio; with curl where it is there."""

from __future__ import annotations

import json
import shutil
import socket
import subprocess
import time
from collections.abc import Iterator
from contextlib import ExitStack
from typing import Any

import httpx2
import pytest

from engine.web.streams import StreamLimits
from tests.engine.web.real import Real, WebSocket, running
from tests.engine.web.served import COUNTING, GATED

LIMITS = StreamLimits(ping=0.1, slow=0.5)


@pytest.fixture(scope="module", params=["asyncio", "trio"], ids=["uvicorn", "hypercorn"])
def real(request: pytest.FixtureRequest) -> Iterator[Real]:
    with running(request.param, streams=LIMITS) as server:
        for definition in (COUNTING, GATED):
            server.call(server.engine.define, definition)
        yield server


@pytest.fixture
def http(real: Real) -> Iterator[httpx2.Client]:
    with httpx2.Client(base_url=f"http://127.0.0.1:{real.port}", timeout=10) as client:
        yield client


def submitted(http: httpx2.Client, graph: str = "gated", **body: Any) -> str:
    answer = http.post(f"/api/graphs/{graph}/runs", json=body)
    assert answer.status_code == 202, answer.text
    return str(answer.json()["run_id"])


def test_a_graph_is_executed_over_a_socket(real: Real) -> None:
    with WebSocket(real, "/ws/graphs/counting/execute") as socket:
        socket.send({"state": {"n": 1}})
        found = socket.rest()

    assert [message["type"] for message in found] == [
        "accepted",
        "run_submitted",
        "run_started",
        "node_started",
        "node_succeeded",
        "run_succeeded",
        "result",
    ]
    assert (socket.close_code, found[-1]["run"]["state"]) == (1000, {"n": 2})


def test_a_socket_tells_what_is_wrong(real: Real) -> None:
    with WebSocket(real, "/ws/runs/nothing") as socket:
        found = socket.rest()

    assert (found[0]["problem"]["code"], socket.close_code) == ("run_not_found", 4404)


def test_a_socket_is_resumed(real: Real, http: httpx2.Client) -> None:
    run_id = submitted(http)
    with WebSocket(real, f"/ws/runs/{run_id}") as socket:
        first = [socket.receive() for _ in range(2)]
    http.post(f"/api/runs/{run_id}/signal", json={"name": "go"})
    with WebSocket(real, f"/ws/runs/{run_id}?after=2") as socket:
        rest = [message["seq"] for message in socket.rest() if "seq" in message]

    assert [message["seq"] for message in first if message] == [1, 2]
    assert rest == list(range(3, 3 + len(rest)))


def test_events_are_streamed_with_pings_and_resumed(http: httpx2.Client) -> None:
    run_id = submitted(http)
    lines: list[str] = []
    with http.stream("GET", f"/api/runs/{run_id}/events", headers={"Last-Event-ID": "1"}) as answer:
        for line in answer.iter_lines():
            lines.append(line)
            if line == ": ping":
                http.post(f"/api/runs/{run_id}/signal", json={"name": "go"})

    ids = [int(line[4:]) for line in lines if line.startswith("id: ")]
    assert answer.headers["content-type"].startswith("text/event-stream")
    assert ids == list(range(2, 2 + len(ids)))
    assert lines[-2].startswith('data: {"reason":"over"')


@pytest.mark.parametrize("version", ["1.0", "1.1"])
def test_a_stream_that_is_over_lets_its_connection_go(real: Real, http: httpx2.Client, version: str) -> None:
    run_id = submitted(http, "counting")
    http.get(f"/api/runs/{run_id}?wait=60")
    with socket.create_connection(("127.0.0.1", real.port), timeout=60) as link:
        head = f"GET /api/runs/{run_id}/events HTTP/{version}\r\nHost: localhost\r\nConnection: close\r\n\r\n"
        link.sendall(head.encode())
        said = b"".join(iter(lambda: link.recv(65536), b""))

    assert b'{"reason":"over"' in said


def test_clients_that_vanish_are_noticed(real: Real, http: httpx2.Client) -> None:
    run_id = submitted(http)
    with ExitStack() as stack:
        sockets = [stack.enter_context(WebSocket(real, f"/ws/runs/{run_id}")) for _ in range(10)]
        for each in sockets:
            each.receive()
        open_before = _streams(http)
        for each in sockets:
            each.vanish()

        assert open_before >= 10
        deadline = time.monotonic() + 60
        while _streams(http) > open_before - 10:
            assert time.monotonic() < deadline
            time.sleep(0.05)


def _streams(http: httpx2.Client) -> int:
    lines = http.get("/metrics").text.splitlines()
    (line,) = [line for line in lines if line.startswith('workflow_http_open_streams{kind="websocket"}')]
    return int(float(line.rpartition(" ")[2]))


@pytest.mark.skipif(shutil.which("curl") is None, reason="there is no curl here")
def test_curl_submits_waits_and_follows(real: Real) -> None:
    def curl(*arguments: str) -> str:
        ran = subprocess.run(["curl", "-sS", "-m", "60", *arguments], capture_output=True, text=True, check=True)
        return ran.stdout

    base = f"http://127.0.0.1:{real.port}"
    sent = curl(
        "-H", "content-type: application/json", "-d", '{"state":{"n":5}}', f"{base}/api/graphs/counting/runs?wait=60"
    )
    followed = curl("-N", f"{base}/api/runs/{json.loads(sent)['run_id']}/events")
    refused = curl("-o", "/dev/null", "-w", "%{http_code}", "-d", "n=5", f"{base}/api/graphs/counting/runs")
    odd = curl("-o", "/dev/null", "-w", "%{http_code}", "--path-as-is", f"{base}/docs/../../etc/passwd")

    assert json.loads(sent)["state"] == {"n": 6}
    assert "event: run_succeeded\n" in followed
    assert (refused, odd) == ("415", "404")


@pytest.mark.parametrize("backend", ["asyncio", "trio"])
def test_open_streams_end_when_the_engine_drains(backend: str) -> None:
    with running(backend) as real, httpx2.Client(base_url=f"http://127.0.0.1:{real.port}") as http:
        real.call(real.engine.define, GATED)
        run_id = submitted(http)
        with WebSocket(real, f"/ws/runs/{run_id}") as socket:
            socket.receive()
            real.call(real.engine.drain, 0)
            found = socket.rest()
        refused = http.post("/api/graphs/gated/runs", json={})

    assert (found[-1]["reason"], socket.close_code) == ("draining", 1012)
    assert refused.status_code == 503


@pytest.mark.skipif(shutil.which("curl") is None, reason="needs curl")
def test_nobody_is_served_over_http_2(real: Real, http: httpx2.Client) -> None:
    words = ["curl", "-sS", "-m", "5", "--http2-prior-knowledge", f"http://127.0.0.1:{real.port}/health"]
    answer = subprocess.run(words, capture_output=True, text=True, timeout=60)

    assert (answer.returncode != 0, '"status"' in answer.stdout) == (True, False), answer
    assert http.get("/health").status_code == 200
