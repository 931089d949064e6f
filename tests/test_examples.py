"""Every example runs to its end and does what it says."""

import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent


def run_example(*arguments: str) -> str:
    """What an example prints; a failure or a warning is an error."""
    command = [sys.executable, "-W", "error", "-m", *arguments]
    ran = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=180)
    assert ran.returncode == 0, ran.stderr
    return ran.stdout


@pytest.mark.parametrize("library", [["asyncio"], ["trio"]], ids=["on-asyncio", "on-trio"])
def test_fetchers_get_every_page_but_the_broken_one(library: list[str]) -> None:
    lines = run_example("examples.fetchers", *library).splitlines()

    assert len([line for line in lines if line.startswith("page ")]) == 60
    assert lines[-2] == "59 pages fetched, 12 of them only after a crash; given up: [13]"
    assert lines[-1] == "15 crashes survived, 74 requests served"
