"""Every way to submit a run: `python -m examples.submit [asyncio|trio] [--runs N]`."""

from __future__ import annotations

import argparse
import logging
import sys
import tempfile

import anyio

from . import from_a_thread, from_the_command_line, in_code

try:
    import click  # noqa: F401  # for the command line
    import uvicorn  # noqa: F401  # for the service

    from . import over_http
except ImportError as missing:
    if missing.name not in ("click", "uvicorn", "httpx2"):
        raise
    sys.exit(f"error: this example needs {missing.name}: pip install -e '.[cli,client,serve,trio]'")


async def ways(backend: str, runs: int, folder: str) -> None:
    """One after the other."""
    await in_code.thousands(runs, f"sqlite:///{folder}/code.db")
    await in_code.until(0.3, 60)
    await from_a_thread.beside_a_loop(4, 25)
    await from_the_command_line.one_run_of_two(backend, f"sqlite:///{folder}/command.db")
    await over_http.with_the_client(max(8, runs // 20), backend, f"sqlite:///{folder}/service.db")


def main() -> None:
    """In a folder that is gone afterwards."""
    parser = argparse.ArgumentParser(prog="python -m examples.submit")
    parser.add_argument("backend", nargs="?", choices=("asyncio", "trio"), default="asyncio")
    parser.add_argument("--runs", type=int, default=3_000, help="from code; a twentieth of it over HTTP (3000)")
    options = parser.parse_args()
    logging.getLogger("engine").setLevel(logging.ERROR)  # parcels without address are meant to fail
    with tempfile.TemporaryDirectory() as folder:
        anyio.run(ways, options.backend, options.runs, folder, backend=options.backend)
    print()
    from_a_thread.without_a_loop(options.backend)


if __name__ == "__main__":
    code = 130
    try:
        main()
        code = 0
    except* KeyboardInterrupt:  # on trio it may come in a group
        print("interrupted", file=sys.stderr)
    sys.exit(code)
