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


REFUSED = """
import os, signal
import anyio
from actors import new_waker
from actors.interrupts import uninterrupted
from engine.journal import _until_told

async def interrupt_and_tell(waker, done):
    await anyio.to_thread.run_sync(os.kill, os.getpid(), signal.SIGINT)
    await anyio.sleep(0.1)
    done.append(ValueError("refused"))
    waker.wake()

async def main():
    uninterrupted("engine")
    waker, done = new_waker(), []
    async with anyio.create_task_group() as group:
        group.start_soon(interrupt_and_tell, waker, done)
        await _until_told(waker, done)
        print(done)
        await anyio.sleep(60)

try:
    anyio.run(main, backend="trio")
except* KeyboardInterrupt:
    print("interrupted")
"""


def test_an_interrupt_while_an_admission_is_awaited_on_trio_comes_when_its_outcome_is_known() -> None:
    line = [sys.executable, "-c", REFUSED]
    ran = subprocess.run(line, cwd=ROOT, capture_output=True, text=True, timeout=120)

    assert (ran.stdout, ran.stderr) == ("[ValueError('refused')]\ninterrupted\n", "")
