"""The service as a process of its own."""

from __future__ import annotations

import http.client
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import attrs

ROOT = Path(__file__).parents[3]
START_SECONDS = 60.0


@attrs.define
class Service:
    """A process that serves, and what it said."""

    process: subprocess.Popen[str]
    log_file: Path
    address: str = ""

    @property
    def port(self) -> int:
        """Where it listens."""
        return int(self.address.rpartition(":")[2])

    @property
    def log(self) -> str:
        """What it has logged so far."""
        return self.log_file.read_text()

    @property
    def log_lines(self) -> list[dict[str, Any]]:
        """As data."""
        return [json.loads(line) for line in self.log.splitlines() if line.startswith("{")]

    def ask(
        self, method: str, path: str, body: Any = None, headers: Mapping[str, str] = {}, timeout: float = 30
    ) -> tuple[int, Any]:
        """Status and answer of one request."""
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=timeout)
        try:
            data = body if isinstance(body, bytes | None) else json.dumps(body).encode()
            connection.request(method, path, data, dict(headers))
            answer = connection.getresponse()
            said = answer.read()
            return answer.status, json.loads(said) if "json" in answer.headers.get("content-type", "") else said
        finally:
            connection.close()

    def tell(self, number: signal.Signals = signal.SIGTERM) -> float:
        """Send a signal; the time it was sent."""
        self.process.send_signal(number)
        return time.monotonic()

    def wait(self, seconds: float = 30) -> int:
        """The exit code."""
        return self.process.wait(seconds)

    def resident_bytes(self) -> int:
        """What memory it takes."""
        pages = int(Path(f"/proc/{self.process.pid}/statm").read_text().split()[1])
        return pages * os.sysconf("SC_PAGE_SIZE")


def start(folder: Path, **options: Any) -> Service:
    """Start one and return at once."""
    log = folder / f"log-{time.monotonic_ns()}"
    with log.open("w") as file:
        process = subprocess.Popen(
            [sys.executable, "-m", "tests.engine.web.program", json.dumps({"folder": str(folder), **options})],
            stdout=subprocess.PIPE,
            stderr=file,
            stdin=subprocess.DEVNULL,
            text=True,
            cwd=ROOT,
            env={**os.environ, "PYTHONPATH": str(ROOT), "PYTHONWARNINGS": "error"},
        )
    return Service(process, log)


@contextmanager
def serving(folder: Path, **options: Any) -> Iterator[Service]:
    """One that takes requests; killed at the end if it has not ended."""
    service = start(folder, **options)
    try:
        assert service.process.stdout is not None
        service.address = service.process.stdout.readline().strip()
        assert service.address, service.log
        yield service
    finally:
        service.process.kill()
        service.process.wait()
        assert service.process.stdout is not None
        service.process.stdout.close()


def eventually(what: Any, seconds: float = 60) -> Any:
    """What this gives, once that is true."""
    until = time.monotonic() + seconds
    while not (found := what()):
        assert time.monotonic() < until, "it did not come about in time"
        time.sleep(0.02)
    return found
