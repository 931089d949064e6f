"""Real Ray clusters for tests: a head and two workers, as daemons on free ports, gone when they are closed."""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import psutil
import pytest

from tests.ports import free_port

ROOT = Path(__file__).parent.parent

MISSING = (
    "" if find_spec("ray") else "Ray is not installed: pip install 'workflow-engine[ray]'; .ci/run does, and runs these"
)


class Cluster:
    """A cluster of our own. Its processes are known by its folder, which each names in its command."""

    def __init__(self, **environment: str) -> None:
        self.extra = environment
        # Short: the paths of sockets have a hundred bytes.
        self.folder = tempfile.mkdtemp(prefix="ray", dir="/tmp")
        self.port = free_port()
        self.address = f"127.0.0.1:{self.port}"
        self.start_head()
        for name in ("w1", "w2"):
            self._start(f"--address={self.address}", "--num-cpus=2", f'--resources={{"{name}": 1}}')

    def start_head(self) -> None:
        """Start the control plane, and a node that runs nothing."""
        self._start("--head", f"--port={self.port}", "--num-cpus=0", "--include-dashboard=false")

    def _start(self, *options: str) -> None:
        given = [*options, "--node-ip-address=127.0.0.1", "--object-store-memory=300000000", "--disable-usage-stats"]
        log = Path(self.folder, "start.log")
        with log.open("ab") as output:
            started = subprocess.run(
                [sys.executable, "-m", "ray.scripts.scripts", "start", *given],
                env=self.environment(),
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                timeout=240,
            )
        if started.returncode:
            self.close()
            pytest.fail(f"ray start {' '.join(given)} failed:\n{log.read_text()[-4000:]}")

    def environment(self) -> dict[str, str]:
        """What its daemons, and programs that use it, are started with."""
        return {
            **os.environ,
            "RAY_TMPDIR": self.folder,
            "RAY_USAGE_STATS_ENABLED": "0",
            "RAY_USAGE_STATS_REPORT_URL": "http://127.0.0.1:9",
            "PYTHONPATH": str(ROOT),
            **self.extra,
        }

    def processes(self, word: str = "") -> list[psutil.Process]:
        """Its daemons, those with a word in their command."""
        found = []
        for process in psutil.process_iter():
            with contextlib.suppress(psutil.Error):
                command = " ".join(process.cmdline())
                if f"{self.folder}/" in command and word in command:
                    found.append(process)
        return found

    def kill_control_plane(self) -> None:
        """Kill -9 the process that knows of all others."""
        servers = [one for one in self.processes("gcs_server") if "gcs_server" in one.name()]
        assert servers, "there is no control plane to be killed"
        for server in servers:
            os.kill(server.pid, signal.SIGKILL)

    def close(self) -> None:
        """Kill all that belongs to it."""
        daemons = self.processes()
        inside = [child for daemon in daemons for child in _children(daemon)]
        for process in {one.pid: one for one in (*daemons, *inside)}.values():
            with contextlib.suppress(psutil.Error):
                process.kill()
        psutil.wait_procs([*daemons, *inside], timeout=10)
        shutil.rmtree(self.folder, ignore_errors=True)


def _children(process: psutil.Process) -> list[psutil.Process]:
    try:
        children: list[Any] = process.children(recursive=True)
    except psutil.Error:
        return []
    return children


def until(condition: Any, seconds: float = 60) -> None:
    """Wait, in no loop, until something holds."""
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "it did not come about in time"
        time.sleep(0.01)


@pytest.fixture(scope="session")
def ray_cluster() -> Iterator[Cluster]:
    """One for all tests that do it no harm, and this process's connection to it, which is kept between them."""
    if MISSING:
        pytest.skip(MISSING)
    cluster = Cluster()
    from engine.executors.ray_link import link_to

    os.environ.update({name: value for name, value in cluster.environment().items() if name.startswith("RAY_")})
    try:
        link = link_to(cluster.address, {"log_to_driver": False})
        link.open().result(120)
        yield cluster
        link.close().result(60)
    finally:
        cluster.close()
