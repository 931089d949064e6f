"""The real service as a process that may be killed and started again, on the same port and store."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
from pathlib import Path

import anyio

from tests.engine.web.services import ROOT, eventually
from tests.ports import free_port

TOOLS = """
from pathlib import Path
import anyio
from engine import Context, tool

@tool
async def step(state: dict):
    await anyio.sleep(state.get("pause", 0))
    return {"n": state.get("n", 0) + 1}

@tool
async def told_step(state: dict, ctx: Context):
    ctx.emit(state.get("n", 0))
    await anyio.sleep(state.get("pause", 0))
    return {"n": state.get("n", 0) + 1}

@tool
async def note(state: dict):
    with open("began", "a") as file:
        file.write(state["name"] + "\\n")
    return {}
"""
LOOP = {
    "name": "loop",
    "entry_point": "step",
    "state": {"n": {"type": "integer", "default": 0}, "pause": {"type": "number", "default": 0},
              "until": {"type": "integer"}},
    "nodes": [{"name": "step"}],
    "edges": [{"source": "step", "target": "step", "when": "state.n < state.until", "max_iterations": 100000},
              {"source": "step", "target": "END", "otherwise": True}],
}  # fmt: skip
TOLD_LOOP = {**LOOP, "name": "told", "nodes": [{"name": "step", "tool": "told_step"}]}
NOTED = {"name": "noted", "entry_point": "note", "nodes": [{"name": "note"}]}


class Process:
    """A service on a port of its own, which may be killed and started again."""

    def __init__(self, folder: Path, backend: str, *words: str) -> None:
        self.folder = folder
        self._words = [
            "--backend",
            backend,
            "--store",
            "sqlite:///runs.db",
            "--tools",
            "my_tools",
            "--grace",
            "0.6",
            *words,
        ]
        (folder / "my_tools.py").write_text(TOOLS)
        self.port = free_port()
        self.url = f"http://127.0.0.1:{self.port}"
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        environment = {name: value for name, value in os.environ.items() if not name.startswith("WORKFLOW_")}
        log = self.folder / "log"
        with log.open("a") as file:
            begun = log.stat().st_size
            self._process = process = subprocess.Popen(
                [sys.executable, "-m", "engine", "serve", "--port", str(self.port), *self._words],
                cwd=self.folder,
                stderr=file,
                env={**environment, "PYTHONPATH": f"{ROOT}:{self.folder}"},
            )
        eventually(lambda: process.poll() is not None or re.search("serving http", log.read_text()[begun:]))
        assert process.poll() is None, log.read_text()

    def stop(self, number: signal.Signals = signal.SIGKILL) -> None:
        if self._process is not None:
            self._process.send_signal(number)
            self._process.wait(30)
            self._process = None

    async def again(self, number: signal.Signals = signal.SIGKILL) -> None:
        await anyio.to_thread.run_sync(self.stop, number)
        await anyio.to_thread.run_sync(self.start)
