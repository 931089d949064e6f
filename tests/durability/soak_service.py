"""The service that is soaked, as a process of its own: started, killed, drained, and started again on the same port."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Final

import anyio
import anyio.to_thread
import httpx2

from engine.web.keys import new_key
from tests.ports import free_port

ROOT: Final = Path(__file__).parents[2]
START_SECONDS: Final = 60.0
GRACE: Final = 2.0
KEPT_RUNS: Final = 500
"""So that memory is as full as it gets after some seconds, and flat from there on if nothing is lost of it."""


class Service:
    """`workflow-engine serve`, with a key; it may be ended in any way, at any time."""

    def __init__(self, folder: Path, store: str, backend: str, fault: str = "") -> None:
        key = new_key("soak", ["admin"])
        (folder / "keys.toml").write_text(key.entry())
        self.key = key.text
        self.port = free_port()
        self.url = f"http://127.0.0.1:{self.port}"
        self.lives = 0
        self.ready = False
        """Whether it takes requests, as far as is known."""
        self.kills: list[float] = []
        self.drains: list[float] = []
        """How long each took."""
        self.returns: list[float] = []
        """When it was ready, in each of its lives."""
        self._to_start = 0.0
        self.faults: list[str] = []
        self._log = folder / "service.log"
        self._folder = folder
        graphs = f"tests.durability.soak_faults:{fault}" if fault else "tests.durability.soak_flows:graphs"
        self._words = ["--graphs", graphs, "--backend", backend, "--port", str(self.port), "--keys", "keys.toml"]
        self._words += ["--grace", str(GRACE), "--log-level", "warning", "--max-runs", "16", "--max-queued", "24"]
        self._words += ["--keep-runs", str(KEPT_RUNS)]
        self._store = store
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def log(self) -> str:
        """What all of its lives said."""
        return self._log.read_text(errors="replace")

    async def start(self) -> None:
        """Return once it is ready."""
        kept = {name: value for name, value in os.environ.items() if not name.startswith("WORKFLOW_")}
        variables = {**kept, "PYTHONPATH": str(ROOT), "WORKFLOW_STORE": self._store}
        command = [sys.executable, "-W", "error", "-m", "engine", "serve", *self._words]
        with self._log.open("ab") as log:
            self._process = subprocess.Popen(  # noqa: ASYNC220  # it takes a millisecond
                command, cwd=self._folder, env=variables, stdin=subprocess.DEVNULL, stdout=log, stderr=log
            )
        self.lives += 1
        began = time.monotonic()
        async with httpx2.AsyncClient(base_url=self.url) as http:
            with anyio.fail_after(START_SECONDS):
                while not await self._is_ready(http):  # noqa: ASYNC110  # it is another process
                    await anyio.sleep(0.05)
        self.returns.append(time.monotonic())
        self._to_start = self.returns[-1] - began
        self.ready = True

    async def _is_ready(self, http: httpx2.AsyncClient) -> bool:
        assert self._process is not None
        if self._process.poll() is not None:
            raise AssertionError(f"the service ended with {self._process.returncode} as it started:\n{self.log}")
        try:
            return (await http.get("/ready")).status_code == 200
        except httpx2.TransportError:
            return False

    def kill(self) -> None:
        """End it as a crash does, at this very moment."""
        if self._process is not None and self.ready:
            self.ready = False
            self._process.kill()
            self.kills.append(time.monotonic())

    async def again(self) -> None:
        """Start it anew, after it was killed."""
        assert self._process is not None
        await anyio.to_thread.run_sync(self._process.wait)
        await self.start()

    async def drain(self) -> None:
        """End it in order: within its grace, and with nothing left open."""
        assert self._process is not None
        self.ready = False
        began = time.monotonic()
        self._process.send_signal(signal.SIGTERM)
        with anyio.move_on_after(GRACE + 10):
            await anyio.to_thread.run_sync(self._process.wait, abandon_on_cancel=True)
        took, code = time.monotonic() - began, self._process.poll()
        self.drains.append(took)
        if code != 0:
            self.faults.append(f"told to end, it ended with {code} after {took:.1f} s")
        # A busy machine is given a second, or as long as it needed for the start.
        elif took > GRACE + max(1.0, self._to_start):
            self.faults.append(f"told to end, it took {took:.1f} s, and the grace is {GRACE:g} s")
        if code is None:
            self._process.kill()
            await anyio.to_thread.run_sync(self._process.wait)

    def away(self) -> list[tuple[float, float]]:
        """From when to when it was not there, for each kill: what came in between is of the life that was killed."""
        return [(kill, min((back for back in self.returns if back > kill), default=kill)) for kill in self.kills]

    def close(self) -> None:
        """Leave nothing behind."""
        self.ready = False
        if self._process is not None:
            self._process.kill()
            self._process.wait()

    def ended_by_itself(self) -> str:
        """How, if it did."""
        if self.ready and self._process is not None and self._process.poll() is not None:
            return f"the service ended by itself with {self._process.returncode}:\n{self.log[-2000:]}"
        return ""

    def resident_bytes(self) -> int:
        """What memory it takes."""
        assert self._process is not None
        pages = int(Path(f"/proc/{self._process.pid}/statm").read_text().split()[1])
        return pages * os.sysconf("SC_PAGE_SIZE")
