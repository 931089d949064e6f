"""Readers that stop reading the real `workflow-engine serve`, on both backends: cut off, told so, back again."""

from __future__ import annotations

import json
import re
import socket
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import attrs
import pytest

from tests.engine.cli.test_serve import Process, service
from tests.engine.web.real import WebSocket
from tests.engine.web.services import eventually

SLOW = 3.0
EVENTS = 1500
MEBIBYTE = 1024 * 1024
FLOWS = f"""
from engine import Context, Graph

async def flood(state: dict, ctx: Context):
    for number in range({EVENTS}):
        ctx.emit({{"number": number, "text": "x" * 10_000}})

flows = Graph("flood").add_node("flood", flood).add_wait("gate", signal="go", into="gone")
flows.add_edge("flood", "gate").set_entry_point("flood")
"""


@attrs.frozen
class Flooded:
    """A service with a run of 15 MB of events, which waits for a signal and so is not over."""

    service: Process
    run_id: str

    @property
    def port(self) -> int:
        """Where it listens."""
        return int(self.service.address.rpartition(":")[2])

    def open_streams(self) -> int:
        """As the service counts them."""
        text = self.service.ask("/metrics")[1]
        return sum(int(float(n)) for n in re.findall(r"^workflow_http_open_streams\{.*\} (\S+)$", text, re.M))

    def resident_bytes(self) -> int:
        """What memory the process takes."""
        pages = int(Path(f"/proc/{self.service.process.pid}/statm").read_text().split()[1])
        return pages * 4096

    def last_event(self) -> int:
        """The number of the newest event."""
        return int(self.service.ask(f"/api/runs/{self.run_id}")[1]["last_event"])


@pytest.fixture(scope="module", params=["asyncio", "trio"], ids=["uvicorn", "hypercorn"])
def flooded(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Flooded]:
    folder = tmp_path_factory.mktemp("slow")
    (folder / "flows.py").write_text(FLOWS)
    words = ["--graphs", "flows.py:flows", "--store", "memory:", "--port", "0", "--slow-reader", str(SLOW)]
    with service(folder, *words, "--backend", request.param) as served:
        run_id = served.ask("/api/graphs/flood/runs", {"state": {}})[1]["run_id"]
        eventually(lambda: served.ask(f"/api/runs/{run_id}")[1]["status"] == "waiting")
        yield Flooded(served, run_id)
        assert "ERROR" not in served.log
        assert "Traceback" not in served.log


class EventSource:
    """A client of server-sent events that reads when it is told to."""

    def __init__(self, flooded: Flooded, after: int = 0) -> None:
        self._socket = socket.create_connection(("127.0.0.1", flooded.port), timeout=20)
        path = f"/api/runs/{flooded.run_id}/events?after={after}"
        self._socket.sendall(f"GET {path} HTTP/1.1\r\nHost: localhost\r\n\r\n".encode())
        self._text = bytearray()

    def read(self, until: bytes | None = None) -> bytes:
        """All there is until the end of the answer, or so much that this is in it."""
        looked = 0
        while until is None or self._text.find(until, max(0, looked - len(until))) < 0:
            looked = len(self._text)
            try:
                data = self._socket.recv(MEBIBYTE)
            except ConnectionResetError:
                data = b""
            if not data:
                break
            self._text += data
            if until is None and self._text.endswith(b"0\r\n\r\n"):
                break
        return bytes(self._text)

    def close(self) -> None:
        """Leave."""
        self._socket.close()


def do_not_read(flooded: Flooded, seconds: float = 1.5 * SLOW) -> None:
    """Until it is cut off, and not for so long that it cannot be told any more."""
    before: list[int] = []

    def is_full() -> bool:
        nonlocal before
        time.sleep(0.2)
        before, now = unsent_bytes(flooded), before
        return before == now and any(now)

    eventually(is_full)  # from here on the service waits for the reader
    time.sleep(seconds)


def event_numbers(text: bytes) -> list[int]:
    """Of the events that came whole."""
    return [int(number) for number in re.findall(rb"^id: (\d+)\nevent: \w+\ndata: .*\n\n", unchunked(text), re.M)]


def unchunked(text: bytes) -> bytes:
    """The body of an answer in chunks; one that is cut off may end anywhere in a chunk."""
    at, found = text.index(b"\r\n\r\n") + 4, bytearray()
    while (end := text.find(b"\r\n", at)) >= 0 and (length := int(text[at:end], 16)):
        found += text[end + 2 : end + 2 + length]
        at = end + 2 + length + 2
    return bytes(found)


def test_a_socket_that_is_not_read_is_closed_with_its_code_and_resumed_without_loss(flooded: Flooded) -> None:
    with WebSocket(flooded, f"/ws/runs/{flooded.run_id}") as reader:
        read = [reader.receive() for _ in range(3)]
        do_not_read(flooded)
        read += reader.rest()
    numbers = [message["seq"] for message in read if message and "seq" in message]
    with WebSocket(flooded, f"/ws/runs/{flooded.run_id}?after={numbers[-1]}") as again:
        while numbers[-1] < flooded.last_event():
            message = again.receive()
            assert message is not None
            numbers.append(message["seq"])

    assert reader.close_code == 1013
    assert len(read) < EVENTS, "it was cut off before it had all"
    assert numbers == list(range(1, len(numbers) + 1))
    assert len(numbers) > EVENTS


def test_a_stream_that_is_not_read_is_ended_and_resumed_without_loss(flooded: Flooded) -> None:
    reader = EventSource(flooded)
    reader.read(until=b"id: 3\n")
    do_not_read(flooded)
    text = reader.read()
    reader.close()
    numbers = event_numbers(text)
    last = flooded.last_event()
    again = EventSource(flooded, after=numbers[-1])
    numbers += event_numbers(again.read(until=f"id: {last}\nevent: run_waiting\n".encode()))
    again.close()

    end = unchunked(text).rpartition(b"event: end\ndata: ")[2]
    assert json.loads(end)["reason"] == "too_slow"
    assert json.loads(end)["after"] <= numbers[-1] < EVENTS + 10
    assert numbers[: last - 1] == list(range(1, last))


@pytest.mark.parametrize("kind", ["socket", "stream"])
def test_whoever_never_reads_again_is_let_go(flooded: Flooded, kind: str) -> None:
    eventually(lambda: flooded.open_streams() == 0)
    reader: Any = WebSocket(flooded, f"/ws/runs/{flooded.run_id}") if kind == "socket" else EventSource(flooded)
    eventually(lambda: flooded.open_streams() == 1)
    began = time.monotonic()
    eventually(lambda: flooded.open_streams() == 0, 10 * SLOW)
    seconds = time.monotonic() - began
    eventually(lambda: not unsent_bytes(flooded))  # the kernel has forgotten it, too
    reader.close()

    assert seconds < 5 * SLOW


def unsent_bytes(flooded: Flooded) -> list[int]:
    """What the kernel keeps of what the service has sent, for each connection that is open or being closed."""
    lines = [line.split() for line in Path("/proc/net/tcp").read_text().splitlines()]
    ours = [line for line in lines if line[1] == f"0100007F:{flooded.port:04X}" and line[3] in ("01", "04", "08", "09")]
    return [int(line[4].partition(":")[0], 16) for line in ours]


def test_many_readers_that_do_not_read_take_little_memory(flooded: Flooded) -> None:
    eventually(lambda: flooded.open_streams() == 0)
    before = flooded.resident_bytes()
    readers = [WebSocket(flooded, f"/ws/runs/{flooded.run_id}") for _ in range(15)]
    streams = [EventSource(flooded) for _ in range(15)]
    most, until = 0, time.monotonic() + 3 * SLOW
    while time.monotonic() < until:
        most = max(most, flooded.resident_bytes() + sum(unsent_bytes(flooded)))
        time.sleep(0.05)
    for reader in readers:
        reader.close()
    for stream in streams:
        stream.close()

    assert most - before < 30 * MEBIBYTE, "of 450 MB that they have not read"


@pytest.mark.parametrize("backend", ["asyncio", "trio"])
def test_the_service_ends_in_time_though_somebody_does_not_read(tmp_path: Path, backend: str) -> None:
    (tmp_path / "flows.py").write_text(FLOWS)
    words = ["--graphs", "flows.py:flows", "--store", "memory:", "--port", "0", "--grace", "20"]
    with service(tmp_path, *words, "--backend", backend) as served:
        flooded = Flooded(served, served.ask("/api/graphs/flood/runs", {"state": {}})[1]["run_id"])
        eventually(lambda: served.ask(f"/api/runs/{flooded.run_id}")[1]["status"] == "waiting")
        reader, stream = WebSocket(flooded, f"/ws/runs/{flooded.run_id}"), EventSource(flooded)
        eventually(lambda: flooded.open_streams() == 2)
        do_not_read(flooded, 0.0)
        served.process.terminate()
        began = time.monotonic()
        code = served.process.wait(30)
        seconds = time.monotonic() - began
        reader.close()
        stream.close()

        assert (code, "hangs" in served.log) == (0, False), served.log
    assert seconds < 16
