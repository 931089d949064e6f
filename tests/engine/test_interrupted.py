"""A Ctrl-C at any moment: a program with an engine ends by it, and by nothing else, and does not hang."""

import random
import subprocess
import sys

import pytest

from tests.engine.web.services import ROOT

TIMES = 30


@pytest.mark.parametrize("backend", ["asyncio", "trio"])
def test_an_interrupt_at_any_moment_comes_out_as_it_is(backend: str) -> None:
    seed = str(random.randrange(1 << 32))
    line = [sys.executable, "-m", "tests.engine.interrupted", backend, seed, str(TIMES)]
    ran = subprocess.run(line, cwd=ROOT, capture_output=True, text=True, timeout=240)

    assert (ran.returncode, ran.stdout) == (0, f"{TIMES}\n"), f"seed {seed}: {ran.stdout}{ran.stderr}"
