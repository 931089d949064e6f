"""Examples that are processes: started, read, ended, whatever becomes of the test."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

ROOT = Path(__file__).parent.parent.parent
HELD = re.compile(r"^node '.+' of '.+' has held the event loop for .+\n", re.MULTILINE)
"""What the engine says also of a node in which the machine had no turn for us: these look alike to it."""


def environment() -> dict[str, str]:
    """Ours, in which a warning is an error, and without settings of whoever runs the tests."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith("WORKFLOW_")}
    paths = [str(ROOT), *filter(None, [kept.get("PYTHONPATH")])]
    return {**kept, "PYTHONPATH": os.pathsep.join(paths), "PYTHONWARNINGS": "error", "PYTHONUNBUFFERED": "1"}


def said_by(*words: str, code: int = 0, seconds: float = 120) -> str:
    """What `python -m …` prints; another exit code, or anything on stderr, is an error."""
    line = [sys.executable, "-m", *words]
    ran = subprocess.run(line, cwd=ROOT, env=environment(), capture_output=True, text=True, timeout=seconds)
    if HELD.search(ran.stderr):  # a node that blocks does so again
        ran = subprocess.run(line, cwd=ROOT, env=environment(), capture_output=True, text=True, timeout=seconds)
    assert (ran.returncode, ran.stderr) == (code, ""), ran.stdout + ran.stderr
    return ran.stdout


@contextmanager
def begun(*words: str) -> Iterator[subprocess.Popen[str]]:
    """`python -m …` as a process, which is killed at the end if it has not ended."""
    line = [sys.executable, "-m", *words]
    with subprocess.Popen(
        line, cwd=ROOT, env=environment(), stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as process:
        try:
            yield process
        finally:
            process.kill()


def address_in(process: subprocess.Popen[str]) -> str:
    """The first address that it prints."""
    assert process.stdout is not None
    for line in process.stdout:
        if found := re.search(r"http://[\d.]+:\d+", line):
            return found[0]
    raise AssertionError(f"it names no address: {process.communicate(timeout=10)}")
