"""Ctrl-C in the examples that drive others: they end at once, without a traceback, and leave no process behind."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PROGRAMS = {"submit": ["--runs", "20000"], "approval": [], "service.load": ["--seconds", "20"]}
# On trio an interrupt may come in the middle of what opens a task group, in anyio's code, and then it cannot be closed.
# The first line of this one is printed right before that.
LINES = {"submit": 2}


@pytest.mark.parametrize("backend", ["asyncio", "trio"])
@pytest.mark.parametrize("name", PROGRAMS)
def test_ctrl_c_ends_a_program_without_a_traceback(name: str, backend: str, tmp_path: Path) -> None:
    line = [sys.executable, "-u", "-m", f"examples.{name}", backend, *PROGRAMS[name]]
    with (tmp_path / "stderr").open("w+") as errors:
        # A group of its own, as a terminal makes it: Ctrl-C reaches all processes in it.
        process = subprocess.Popen(
            line, cwd=ROOT, stdout=subprocess.PIPE, stderr=errors, text=True, start_new_session=True
        )
        assert process.stdout is not None
        with process.stdout as told:
            for _ in range(LINES.get(name, 1)):
                assert told.readline()
            os.killpg(process.pid, signal.SIGINT)
            rest = told.read()  # to its end: until everyone who writes there has gone
        code = process.wait(30)
        errors.seek(0)
        said = errors.read()

    # CPython ends a module by the signal, which a shell calls 130 too, if the interrupt once came out of `exec("...")`,
    # as when a class is made while something is imported: though it was caught.
    assert code in (130, -signal.SIGINT), rest + said
    assert "Traceback" not in said
