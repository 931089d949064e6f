"""Print the benchmark's table: `python -m tests.benchmarks [--quick] [--only TEXT] [--backend NAME]`."""

from __future__ import annotations

import argparse
import platform
from itertools import chain

from . import bench_actors, bench_durable, bench_engine, bench_examples, bench_web
from .harness import available_backends, count_processor_time, measure, table


def main() -> None:
    """Measure and print; a target that is missed is marked in the table, it is no failure of the command."""
    parser = argparse.ArgumentParser(prog="python -m tests.benchmarks")
    parser.add_argument(
        "--quick", action="store_true", help="fewer messages and rounds: a glance, not a figure to quote"
    )
    parser.add_argument("--only", default="", help="rows whose name contains this")
    parser.add_argument("--backend", choices=available_backends(), help="one backend only")
    parser.add_argument("--rounds", type=int, help="counted rounds (3 when quick, otherwise 7)")
    parser.add_argument(
        "--cpu", action="store_true", help="processor time instead of time on the wall: for a machine others use, too"
    )
    arguments = parser.parse_args()
    if arguments.cpu:
        count_processor_time()
    rounds = arguments.rounds or (3 if arguments.quick else 7)
    backends = [arguments.backend] if arguments.backend else available_backends()
    results = (
        measure(row, backend, rounds)
        for row in chain.from_iterable(
            file.rows(arguments.quick)
            for file in (bench_actors, bench_engine, bench_durable, bench_examples, bench_web)
        )
        if arguments.only in row.name
        for backend in row.backends
        if backend in backends
    )
    print(f"{platform.python_implementation()} {platform.python_version()}, medians of {rounds} rounds")
    for line in table(results):
        print(line, flush=True)


if __name__ == "__main__":
    main()
