"""From the command line: the result is JSON on stdout, the exit code tells how it went, and a key makes it one run."""

from __future__ import annotations

import json
import shlex
import sys
from pathlib import Path
from typing import Any

import anyio

FLOW = str(Path(__file__).parent / "flow.py")


async def one_run_of_two(backend: str, store: str) -> None:
    """The same line twice, and one that fails."""
    print("\n== from the command line")
    words = ["run", FLOW, "--store", store, "--backend", backend, "--quiet"]
    for state, key in (({"number": 7}, "parcel 7"), ({"number": 7}, "parcel 7"), ({"number": 99}, "parcel 99")):
        code, told = await command([*words, "--state", json.dumps(state), "--key", key])
        print(f"  exit code {code}, run {told['run_id'][-8:]}, {told['status']}: {told['state']}")


async def command(words: list[str]) -> tuple[int, Any]:
    """Exit code and result."""
    shown = ["workflow-engine", *(Path(word).name if word == FLOW else word for word in words)]
    print("$", shlex.join([word for word in shown if not word.startswith("sqlite")]).replace(" --store", ""))
    done = await anyio.run_process([sys.executable, "-m", "engine", *words], check=False, stderr=sys.stderr)
    return done.returncode, json.loads(done.stdout)
