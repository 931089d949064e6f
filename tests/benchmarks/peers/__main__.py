"""Measure this engine and its rivals side by side: `python -m tests.benchmarks.peers [--quick]`."""

from __future__ import annotations

import argparse
import subprocess
import sys
import time
from pathlib import Path
from typing import Final

from .comparison import Method, compare, processes
from .installed import ADAPTERS, CLASSIC, FLOOR, OURS, OWN_FOLDER
from .report import Report, describe_machine
from .workloads import workloads

MEASURED: Final = Path(__file__).parent / "measured"
README: Final = Path(__file__).parents[3] / "README.md"
FULL = Method(rounds=5, budget=0.3, patience=20, quick=False)
QUICK = Method(rounds=3, budget=0.1, patience=10, quick=True)


def main() -> None:
    """Measure and write the table, the figures as JSON and the plot; what is missed is marked, it is no failure."""
    parser = argparse.ArgumentParser(prog="python -m tests.benchmarks.peers", description=__doc__)
    parser.add_argument("--quick", action="store_true", help="smaller and fewer: a glance, not figures to quote")
    parser.add_argument("--only", default="", help="workloads whose name contains this")
    parser.add_argument("--peers", help="engines, separated by commas; ours and the floor are always there")
    parser.add_argument("--rounds", type=int, help="rounds instead of the usual number")
    parser.add_argument("--into", type=Path, default=Path("build/peers"), help="folder for peers.{md,json,svg}")
    parser.add_argument(
        "--readme", action="store_true", help=f"put the table into README.md, and the files into {MEASURED.name}/"
    )
    parser.add_argument("--list", action="store_true", help="name engines and workloads, and measure nothing")
    parser.add_argument("--install-classic", action="store_true", help=f"put {CLASSIC} into a folder of its own")
    arguments = parser.parse_args()
    if arguments.install_classic:
        return install_classic()
    method = QUICK if arguments.quick else FULL
    if arguments.rounds:
        method = Method(arguments.rounds, method.budget, method.patience, method.quick)
    chosen = [workload for workload in workloads(method.quick) if arguments.only in workload.name]
    wanted = set(arguments.peers.split(",")) | {OURS, FLOOR} if arguments.peers else set(ADAPTERS)
    if unknown := wanted - set(ADAPTERS):
        parser.error(f"no engine is called {sorted(unknown)}; there are {', '.join(ADAPTERS)}")
    if arguments.list:
        print("engines:", *ADAPTERS, "", "workloads:", *(workload.name for workload in chosen), sep="\n")
        return None
    before, start = describe_machine(), time.monotonic()
    with processes([name for name in ADAPTERS if name in wanted]) as peers:
        engines = {name: process.hello for name, process in peers.items()}
        lines = []
        for workload in chosen:
            began = time.monotonic()
            lines.append(compare(peers, workload, method, tell_on_terminal))
            tell_on_terminal("")
            print(f"{workload.name}: {time.monotonic() - began:.0f} s", file=sys.stderr, flush=True)
    report = Report(engines, lines, method, [before, describe_machine()], time.monotonic() - start)
    for file in report.write(MEASURED if arguments.readme else arguments.into):
        print(f"wrote {file}", file=sys.stderr)
    if arguments.readme:
        report.put_into(README)
    print(report.table())


def tell_on_terminal(line: str) -> None:
    """Where it is, on a terminal only."""
    if sys.stderr.isatty():
        print(f"\r\x1b[K{line}", end="", file=sys.stderr, flush=True)


def install_classic() -> None:
    """pydantic-graph's first API, beside the version that the extra installs."""
    folder = OWN_FOLDER["pydantic-graph classic"]
    command = ["pip", "install", "--quiet", "--no-deps", "--upgrade", "--target", str(folder), CLASSIC]
    subprocess.run([sys.executable, "-m", *command], check=True)


if __name__ == "__main__":
    main()
