"""Four claims and a crash: `python -m examples.approval [asyncio|trio]`."""

from __future__ import annotations

import argparse
import os
import re
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import anyio

try:
    import click  # noqa: F401  # for the service
    import uvicorn  # noqa: F401

    from engine import RunEnded
    from engine.client import AsyncClient
except ImportError as missing:
    if missing.name not in ("click", "uvicorn", "httpx2"):
        raise
    sys.exit(f"error: this example needs {missing.name}: pip install -e '.[cli,client,serve,trio]'")

CLAIMS = {"ada": 12_00, "bob": 480_00, "cleo": 99_00, "dora": 75_00}


async def before(address: str) -> None:
    """Hand the claims in, and see who waits."""
    async with AsyncClient(address) as client:
        runs = {
            who: await client.submit(
                "taxis" if who == "dora" else "expenses", {"who": who, "cents": cents}, run_id=f"claim-of-{who}"
            )
            for who, cents in CLAIMS.items()
        }
        await runs["ada"].result()
        for run in list(runs.values())[1:]:
            async for event in run.events():
                if event.type == "node_started" and event.node == "approval":
                    break
            await run.refresh()
        print(*(f"  {who}: {run.status}" for who, run in runs.items()), sep="\n")


async def after(address: str) -> None:
    """The same claims, at another process: one is approved, one refused, one forgotten."""
    async with AsyncClient(address) as client:
        print("waiting, as the store has it:", *sorted(run.id for run in await client.runs("waiting")))
        bob, cleo = await client.get("claim-of-bob"), await client.get("claim-of-cleo")
        for _ in range(2):  # she clicks twice: a signal counts once for each id
            with suppress(RunEnded):  # by her first click
                await bob.signal("decision", {"approved": True, "by": "eve"}, id="eve-on-bob")
        await cleo.signal("decision", {"approved": False, "by": "eve", "why": "no receipt"})
        for who in CLAIMS:
            result = await (await client.get(f"claim-of-{who}")).result(timeout=60)
            print(f"  {' -> '.join(result.state['story'])}")


@contextmanager
def a_service(folder: Path, backend: str) -> Iterator[tuple[subprocess.Popen[str], str]]:
    """`workflow-engine serve` as a process, on the store of that folder; and its address."""
    words = ["serve", "--graphs", "examples.approval.served:graphs", "--store", f"sqlite:///{folder}/runs.db"]
    settings = {"APPROVAL_PAID": str(folder / "paid.txt")}
    line = [sys.executable, "-m", "engine", *words, "--port", "0", "--backend", backend, "--log-level", "warning"]
    with subprocess.Popen(line, env={**os.environ, **settings}, stderr=subprocess.PIPE, text=True) as process:
        assert process.stderr is not None
        try:
            found = re.search(r"serving (http://[\d.:]+)", said := process.stderr.readline())
            if found is None:
                sys.exit(f"error: the service did not start: {said}{process.stderr.read()}")
            yield process, found[1]
        finally:
            process.terminate()
            process.communicate()


def main() -> None:
    """In a folder that is gone afterwards."""
    parser = argparse.ArgumentParser(prog="python -m examples.approval")
    parser.add_argument("backend", nargs="?", choices=("asyncio", "trio"), default="asyncio")
    backend = parser.parse_args().backend
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        with a_service(folder, backend) as (process, address):
            print(f"four claims, handed in at process {process.pid}")
            anyio.run(before, address, backend=backend)
            process.send_signal(signal.SIGKILL)
            process.wait()
        print(f"kill -9 of {process.pid}\n")
        with a_service(folder, backend) as (process, address):
            print(f"process {process.pid} goes on; eve decides two of them, and nobody the last")
            anyio.run(after, address, backend=backend)
        payments = (folder / "paid.txt").read_text().splitlines()
        print("\nthe payments, each with its token:", *payments, sep="\n  ")


if __name__ == "__main__":
    code = 130
    try:
        main()
        code = 0
    except* KeyboardInterrupt:  # on trio it may come in a group
        print("interrupted", file=sys.stderr)
    sys.exit(code)
