"""The two servers against clients who mean no good: in this process, over real sockets."""

from __future__ import annotations

import gc
import socket
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from typing import Any

import anyio
import anyio.to_thread
import pytest

from engine.web import server
from engine.web.guard import guarded
from engine.web.keys import Keys, new_key
from engine.web.limits import Limits
from engine.web.serving import listening
from engine.web.wire import ASGIApp
from tests.engine.web.asgi import swallow
from tests.ports import free_port

REQUEST = b"GET /hello HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n\r\n"
MEBIBYTE = 1024 * 1024
KEYS = Keys([new_key("me", ["admin"]).key])


@pytest.fixture
def run(anyio_backend_name: str) -> Any:
    return server.SERVERS["trio" if anyio_backend_name == "trio" else "asyncio"]


@asynccontextmanager
async def served(run: Any, app: ASGIApp, grace: float = 1.0) -> AsyncIterator[int]:
    """The port that the application is served on."""
    started, stopped = anyio.Event(), anyio.Event()
    with listening("127.0.0.1", free_port()) as listener:
        port = listener.getsockname()[1]
        async with anyio.create_task_group() as group:
            group.start_soon(run, app, listener, started.set, stopped.wait, grace)
            await started.wait()
            try:
                yield port
            finally:
                stopped.set()


def exchange(port: int, *parts: bytes, pause: float = 0.0) -> bytes:
    """What comes back for this, until the connection is closed; nothing if it is reset."""
    with socket.create_connection(("127.0.0.1", port), timeout=20) as connection:
        answer = b""
        try:
            for part in parts:
                connection.sendall(part)
                time.sleep(pause)
            while data := connection.recv(65536):
                answer += data
        except (ConnectionResetError, BrokenPipeError):
            pass
        return answer


def say(port: int, data: bytes, seconds: float = 0.3) -> None:
    """Send this, and read for a while."""
    with socket.create_connection(("127.0.0.1", port), timeout=seconds) as connection, suppress(OSError):
        connection.sendall(data)
        while connection.recv(65536):
            pass


async def talk(port: int, *parts: bytes, pause: float = 0.0) -> bytes:
    return await anyio.to_thread.run_sync(lambda: exchange(port, *parts, pause=pause), abandon_on_cancel=True)


async def test_it_serves_and_stops(run: Any) -> None:
    async with served(run, guarded(swallow)) as port:
        answer = await talk(port, REQUEST)

    assert answer.startswith(b"HTTP/1.1 200")
    assert answer.endswith(b"1\r\n0\r\n0\r\n\r\n")
    assert b"\r\nserver:" not in answer.lower()
    with pytest.raises(OSError, match="refused"):
        exchange(port, REQUEST)


async def test_an_answer_under_way_is_finished_when_it_stops(run: Any) -> None:
    begun = anyio.Event()

    async def slow(scope: Any, receive: Any, send: Any) -> None:
        begun.set()
        await anyio.sleep(0.3)
        await swallow(scope, receive, send)

    answers: list[bytes] = []

    async def ask(port: int) -> None:
        answers.append(await talk(port, REQUEST))

    async with anyio.create_task_group() as group, served(run, guarded(slow), grace=30.0) as port:
        group.start_soon(ask, port)
        await begun.wait()

    assert answers[0].startswith(b"HTTP/1.1 200")


async def test_what_is_no_request_is_refused_and_the_service_goes_on(run: Any) -> None:
    async with served(run, guarded(swallow)) as port:
        for nonsense in (b"\0" * 1000 + b"\r\n\r\n", b"GET\r\n\r\n", b"\x16\x03\x01\x02\x00" * 50):
            assert not (await talk(port, nonsense)).startswith(b"HTTP/1.1 2")
        assert (await talk(port, REQUEST)).startswith(b"HTTP/1.1 200")


HANDSHAKE = (
    b"GET /ws HTTP/1.1\r\nhost: localhost\r\nconnection: upgrade\r\nupgrade: websocket\r\n"
    b"sec-websocket-version: 13\r\nsec-websocket-key: dGhlIHNhbXBsZSBub25jZQ==\r\n"
)


@pytest.mark.parametrize(
    "data",
    [
        HANDSHAKE + b"\r\n\x81\x83\x00\x00\x00\x00abc",
        HANDSHAKE + b"\r\n" + REQUEST,
        HANDSHAKE + b"content-length: 3\r\n\r\nabcdef",
        HANDSHAKE + b"transfer-encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\n\r\n",
        HANDSHAKE + b"expect: 100-continue\r\n\r\n",
        b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + b"\xff" * 100,
        b"GET / HTTP/1.1\r\nhost: localhost\r\nconnection: upgrade, http2-settings\r\nupgrade: h2c\r\n"
        b"http2-settings: !!!\r\n\r\n",
        b"GET / HTTP/1.1\r\nhost: localhost\r\nexpect: 100-continue\r\ncontent-length: 5\r\n\r\n\xff\x00\r\n" + REQUEST,
    ],
    ids=["frame", "request", "body", "chunks", "expect", "http/2", "h2c", "pipelined"],
)
async def test_no_connection_ends_another(run: Any, data: bytes, caplog: pytest.LogCaptureFixture) -> None:
    with anyio.fail_after(120):
        async with served(run, guarded(swallow, keys=KEYS)) as port:
            for _ in range(3):
                await anyio.to_thread.run_sync(say, port, data)
            answer = await talk(port, b"GET /health HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n\r\n")

    assert answer.startswith(b"HTTP/1.1 200")
    assert not [line.getMessage() for line in caplog.records if line.levelname in ("ERROR", "CRITICAL")]


@pytest.mark.parametrize(
    "piece", [b"x-header: " + b"v" * 4000 + b"\r\n", b"v" * 4000], ids=["many headers", "one header"]
)
async def test_headers_without_an_end_are_cut_off(run: Any, piece: bytes) -> None:
    async with served(run, guarded(swallow)) as port:
        endless = [b"GET / HTTP/1.1\r\nhost: localhost\r\n", *([b"x: "] if not piece.endswith(b"\n") else [])]
        with socket.create_connection(("127.0.0.1", port), timeout=20) as connection:

            def flood() -> int:
                sent = 0
                try:
                    for part in endless:
                        connection.sendall(part)
                    while sent < 64 * MEBIBYTE:
                        connection.sendall(piece)
                        sent += len(piece)
                except OSError:
                    pass
                return sent

            sent = await anyio.to_thread.run_sync(flood)
        assert (await talk(port, REQUEST)).startswith(b"HTTP/1.1 200")

    assert sent < 16 * MEBIBYTE, "what the sockets hold, and no more"


async def test_an_address_without_an_end_is_cut_off(run: Any) -> None:
    async with served(run, guarded(swallow)) as port:
        answer = await talk(port, b"GET /" + b"a" * MEBIBYTE)

    assert not answer.startswith(b"HTTP/1.1 2")


async def test_a_body_of_two_lengths_is_refused(run: Any) -> None:
    head = b"POST / HTTP/1.1\r\nhost: localhost\r\ncontent-length: 4\r\ntransfer-encoding: chunked\r\n\r\n"
    async with served(run, guarded(swallow)) as port:
        answer = await talk(port, head + b"1\r\nx\r\n0\r\n\r\n" + REQUEST)

    # Nothing at all if the connection was reset, since what follows is not read.
    assert answer.count(b"HTTP/1.1 400") == answer.count(b"HTTP/1.1")


async def test_trailers_without_an_end_are_cut_off(run: Any) -> None:
    head = (
        b"POST / HTTP/1.1\r\nhost: localhost\r\ntransfer-encoding: chunked\r\nconnection: close\r\n\r\n1\r\nx\r\n0\r\n"
    )
    async with served(run, guarded(swallow)) as port:
        answer = await talk(port, head, *[b"x-t: " + b"v" * 4000 + b"\r\n"] * 300)
        assert (await talk(port, REQUEST)).startswith(b"HTTP/1.1 200")

    assert len(answer) < 10_000


async def test_a_client_that_sends_a_head_byte_by_byte_is_left(run: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(server, "HEADER_SECONDS", 2.0)
    async with served(run, guarded(swallow)) as port:
        began = time.monotonic()
        loris = [socket.create_connection(("127.0.0.1", port), timeout=20) for _ in range(100)]
        try:
            for connection in loris[:50]:
                connection.sendall(b"GET / HT")
            assert (await talk(port, REQUEST)).startswith(b"HTTP/1.1 200")
            for connection in loris:
                left = await anyio.to_thread.run_sync(_is_left, connection)
                assert left
        finally:
            for connection in loris:
                connection.close()

    assert time.monotonic() - began < 15


def _is_left(connection: socket.socket) -> bool:
    try:
        return connection.recv(1000) == b"" or _is_left(connection)
    except ConnectionResetError:
        return True


async def test_a_head_that_comes_in_pieces_in_time_is_served(run: Any) -> None:
    async with served(run, guarded(swallow)) as port:
        pieces = [REQUEST[at : at + 10] for at in range(0, len(REQUEST), 10)]

        assert (await talk(port, *pieces, pause=0.01)).startswith(b"HTTP/1.1 200")


async def test_bodies_that_are_too_large_cost_no_memory(run: Any) -> None:
    head = b"POST / HTTP/1.1\r\nhost: localhost\r\ntransfer-encoding: chunked\r\n\r\n"
    chunk = b"100000\r\n" + b"x" * MEBIBYTE + b"\r\n"
    async with served(run, guarded(swallow, limits=Limits(body_bytes=MEBIBYTE))) as port:
        await talk(port, head, chunk, chunk)
        before = _resident()
        answers = [await talk(port, head, *[chunk] * 20) for _ in range(10)]
        grown = _resident() - before

        assert (await talk(port, REQUEST)).startswith(b"HTTP/1.1 200")
    # Who goes on sending may be reset before the answer has been read.
    assert all(answer == b"" or answer.startswith(b"HTTP/1.1 413") for answer in answers)
    assert grown < 30 * MEBIBYTE, f"{grown / MEBIBYTE:.1f} MB"


async def test_a_body_that_stops_coming_is_given_up(run: Any) -> None:
    head = b"POST / HTTP/1.1\r\nhost: localhost\r\ncontent-length: 1000\r\n\r\nx"
    async with served(run, guarded(swallow, limits=Limits(body_seconds=0.2))) as port:
        answer = await talk(port, head)

    assert answer.startswith(b"HTTP/1.1 408")


async def test_ten_thousand_quick_connects_leave_nothing(run: Any) -> None:
    def connect(number: int) -> None:
        for each in range(number):
            with socket.create_connection(("127.0.0.1", port), timeout=20) as connection:
                if each % 2:
                    connection.sendall(b"GET /" if each % 4 == 1 else REQUEST)

    async def over() -> None:
        with anyio.fail_after(120):
            while len(anyio.get_running_tasks()) > tasks + 5:  # noqa: ASYNC110  # nobody tells
                await anyio.sleep(0.1)
        gc.collect()

    async with served(run, guarded(swallow)) as port:
        assert (await talk(port, REQUEST)).startswith(b"HTTP/1.1 200")
        tasks = len(anyio.get_running_tasks())
        await anyio.to_thread.run_sync(connect, 5_000)
        await over()
        before = _resident()  # what was taken at the peak is kept for the next one
        await anyio.to_thread.run_sync(connect, 5_000)
        assert (await talk(port, REQUEST)).startswith(b"HTTP/1.1 200")
        await over()
        grown = _resident() - before

    assert grown < 10 * MEBIBYTE, f"{grown / MEBIBYTE:.1f} MB"


def _resident() -> int:
    with open("/proc/self/statm") as file:
        return int(file.read().split()[1]) * 4096
