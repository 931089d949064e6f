"""The life of a service, as a process of its own on both backends."""

import http.client
import signal
import socket
import time
from pathlib import Path
from typing import Any

import anyio
import pytest
from websockets.sync.client import connect

from engine.stores import open_store
from engine.web.keys import new_key
from engine.web.serving import (
    SAME_SIGNAL_SECONDS,
    CannotServe,
    Exposed,
    PortTaken,
    check_exposure,
    is_loopback,
    last_part,
    listening,
)
from tests.engine.web.services import Service, eventually, serving, start

AT_ONCE_SECONDS = 10.0
"""What a busy machine may take for what takes no time."""
GRACE = 8.0
"""A quarter of it is for the end of what came to rest: if that takes longer, something hangs."""


@pytest.fixture(params=["asyncio", "trio"])
def backend(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture
def options(backend: str, tmp_path: Path) -> dict[str, Any]:
    return {"folder": tmp_path, "backend": backend, "store": f"sqlite:///{tmp_path}/runs.db"}


def submit(service: Service, **state: Any) -> str:
    status, answer = service.ask("POST", "/api/runs", state)
    assert status == 202
    return str(answer["id"])


def begun(folder: Path, node: str = "slow") -> int:
    file = folder / "begun"
    return file.read_text().splitlines().count(node) if file.exists() else 0


def status_of(service: Service, run: str) -> str:
    return str(service.ask("GET", f"/api/runs/{run}")[1]["status"])


def kept(options: dict[str, Any], run_id: str) -> str:
    """The status of a run in the store, once nobody has it."""

    async def look() -> str:
        async with open_store(options["store"]) as store:
            run = await store.read(run_id)
            assert run is not None
            return run.row.status

    return anyio.run(look)


# --- draining -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_what_runs_comes_to_its_end_while_nothing_new_begins(options: dict[str, Any], number: signal.Signals) -> None:
    with serving(**options, grace=60.0) as service:
        run = submit(service, until="free")
        eventually(lambda: begun(options["folder"]))
        service.tell(number)
        eventually(lambda: service.ask("GET", "/ready")[0] == 503)
        refused, _ = service.ask("POST", "/api/runs", {})
        running = status_of(service, run)
        well = service.ask("GET", "/health")[0]
        (options["folder"] / "free").touch()
        code = service.wait()

    assert (refused, running, well, code) == (503, "running", 200, 0)
    assert kept(options, run) == "succeeded"


def test_what_is_not_done_within_the_grace_goes_on_at_the_next_start(options: dict[str, Any]) -> None:
    with serving(**options, grace=GRACE) as service:
        run = submit(service, until="free")
        eventually(lambda: begun(options["folder"]))
        told = service.tell()
        code = service.wait()
        took = time.monotonic() - told
        assert "the grace is over" in service.log
    assert (code, took < GRACE + AT_ONCE_SECONDS) == (0, True)

    (options["folder"] / "free").touch()
    with serving(**options) as service:
        eventually(lambda: begun(options["folder"]) == 2)
        eventually(lambda: status_of(service, run) == "succeeded")
        assert service.ask("GET", f"/api/runs/{run}")[1]["state"]["steps"] == ["first", "slow"]


@pytest.mark.parametrize(
    ("what", "node", "code"), [("thread_seconds", "in a thread", 0), ("block_seconds", "block", 1)]
)
def test_a_node_that_cannot_be_stopped_does_not_keep_the_process(
    options: dict[str, Any], what: str, node: str, code: int
) -> None:
    with serving(**options, grace=GRACE) as service:
        status, answer = service.ask("POST", "/api/runs", {what: 60})
        assert status == 202
        eventually(lambda: begun(options["folder"], node))
        told = service.tell()
        assert service.wait() == code
        took = time.monotonic() - told
    assert took < GRACE + AT_ONCE_SECONDS

    assert kept(options, answer["id"]) == "running"


def test_a_second_signal_ends_it_at_once(options: dict[str, Any]) -> None:
    with serving(**options, grace=60.0) as service:
        run = submit(service, until="never")
        eventually(lambda: begun(options["folder"]))
        service.tell()
        service.tell(signal.SIGINT)  # so soon after the first it is the same
        eventually(lambda: "draining" in service.log)
        time.sleep(SAME_SIGNAL_SECONDS * 1.2)
        assert service.process.poll() is None
        told = service.tell(signal.SIGINT)
        code = service.wait()
        took = time.monotonic() - told

    assert (code, took < AT_ONCE_SECONDS) == (130, True)
    assert kept(options, run) == "running"


def test_open_streams_end_themselves(options: dict[str, Any]) -> None:
    with serving(**options, grace=60.0) as service:
        events = http.client.HTTPConnection("127.0.0.1", service.port, timeout=60)
        events.request("GET", "/stream")
        stream = events.getresponse()
        assert stream.readline() == b": hello\n"
        with connect(f"ws://127.0.0.1:{service.port}/ws") as watcher:
            assert b'workflow_http_open_streams{kind="sse"} 1.0' in service.ask("GET", "/metrics")[1]
            assert b'workflow_http_open_streams{kind="websocket"} 1.0' in service.ask("GET", "/metrics")[1]
            told = service.tell()
            with pytest.raises(Exception, match="1012"):
                watcher.recv(timeout=60)
        rest = stream.read()
        events.close()
        code = service.wait()
        took = time.monotonic() - told

    assert rest == b"\nevent: draining\n\n"
    assert (code, took < 20) == (0, True)


def test_idle_connections_do_not_delay_the_end(options: dict[str, Any]) -> None:
    with serving(**options, grace=60.0) as service:
        idle = [socket.create_connection(("127.0.0.1", service.port)) for _ in range(50)]
        kept_alive = http.client.HTTPConnection("127.0.0.1", service.port)
        kept_alive.request("GET", "/health")
        kept_alive.getresponse().read()
        told = service.tell()
        code = service.wait()
        took = time.monotonic() - told
        for each in [*idle, kept_alive]:
            each.close()

    assert (code, took < 20) == (0, True)


# --- what cannot be served ------------------------------------------------------------------------------


def refused(seconds: float = 30, **options: Any) -> str:
    service = start(**options)
    assert service.wait(seconds) == 2
    assert service.process.stdout is not None
    assert service.process.stdout.read() == ""
    service.process.stdout.close()
    assert "Traceback" not in service.log
    return service.log


def test_a_port_that_is_taken_is_told(options: dict[str, Any]) -> None:
    with listening("127.0.0.1", 0) as other:
        said = refused(**options, port=other.getsockname()[1])

    assert "is taken by another program" in said
    assert not (options["folder"] / "runs.db").exists()


def test_a_store_that_cannot_be_had_is_told(options: dict[str, Any]) -> None:
    assert "StoreUnavailable" in refused(**{**options, "store": "sqlite:////proc/runs.db"})
    with serving(**options):
        assert "StoreUnavailable" in refused(**options)


def test_a_server_that_is_not_there_is_told_without_the_password(options: dict[str, Any]) -> None:
    with listening("127.0.0.1", 0) as closed:
        port = closed.getsockname()[1]
    said = refused(**{**options, "store": f"postgresql://user:hunter2@127.0.0.1:{port}/x"})

    assert "StoreUnavailable" in said
    assert "hunter2" not in said


def test_it_does_not_show_itself_to_others_without_a_key(options: dict[str, Any]) -> None:
    assert "Exposed" in refused(**options, host="0.0.0.0")
    with serving(**options, host="0.0.0.0", insecure=True) as service:
        assert service.ask("GET", "/api/ping")[0] == 200
        service.tell()
        service.wait()
    made = new_key("ops", ["read"])
    with serving(**options, host="0.0.0.0", keys=made.entry()) as service:
        assert service.ask("GET", "/api/ping")[0] == 401
        assert service.ask("GET", "/api/ping", headers={"x-api-key": made.text})[0] == 200
        assert made.text not in service.log


@pytest.mark.parametrize(
    ("host", "closed"),
    [
        ("127.0.0.1", True),
        ("127.9.9.9", True),
        ("::1", True),
        ("[::1]", True),
        ("localhost", True),
        ("0.0.0.0", False),
        ("::", False),
        ("192.0.2.1", False),
        ("", False),
        ("no.such.host.invalid", False),
    ],
)
def test_only_loopback_is_closed_to_others(host: str, closed: bool) -> None:
    assert is_loopback(host) is closed
    if not closed:
        with pytest.raises(Exposed, match="--insecure"):
            check_exposure(host, has_keys=False, insecure=False)
    check_exposure(host, has_keys=True, insecure=False)
    check_exposure(host, has_keys=False, insecure=True)


@pytest.mark.parametrize(("host", "port"), [("192.0.2.1", 0), ("no.such.host.invalid", 0), ("127.0.0.1", 99999)])
def test_what_cannot_be_listened_on_is_told(host: str, port: int) -> None:
    with pytest.raises(PortTaken), listening(host, port):
        pass
    assert issubclass(PortTaken, CannotServe)


def test_the_last_part_is_within_the_grace() -> None:
    for grace in (0.1, 1, 2, 5, 20, 600):
        assert 0 < last_part(grace) <= grace / 2
    assert (last_part(20), last_part(600)) == (4.0, 4.0)


# --- health ---------------------------------------------------------------------------------------------


def test_a_service_that_fell_back_to_memory_says_so(options: dict[str, Any]) -> None:
    with serving(**{**options, "store": "sqlite:////proc/runs.db"}, fallback="memory") as service:
        assert service.ask("GET", "/ready") == (200, {"status": "ok", "fallback": "memory"})
        assert "RUNS ARE NOT SAFE" in service.log


def test_log_lines_are_json_and_say_what_they_are_about(options: dict[str, Any]) -> None:
    with serving(**options) as service:
        service.ask("POST", "/api/runs", {}, {"x-request-id": "mine"})
        eventually(lambda: "succeeded" in service.log)
        service.tell()
        service.wait()
        lines = service.log_lines
        assert len(lines) == len(service.log.splitlines())

    (audit,) = [line for line in lines if line["logger"] == "engine.audit"]
    (ended,) = [line for line in lines if line.get("status") == "succeeded"]
    assert (audit["request"], audit["principal"], audit["origin"]) == ("mine", "anybody", "127.0.0.1")
    assert ended["run"] == audit["run"]
