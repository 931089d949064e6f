"""The short form, for every commit: `python -m tests.benchmarks.peers.short [--record]`.

Our rows and the floor only. It fails if ours takes more than 40 per cent longer, measured in floors, than was recorded
in `recorded.json`: a ratio of two programs that ran in turn on one machine means much the same on another. A single
measurement on a machine that others use, too, proves nothing, so what seems slow is measured once more, for longer,
and only what is slow both times fails.

What is durable is kept in memory if the system has a folder for that: a commit's price is the code's then, not the
disk's. Two threads share each step there, so these rows double beside other work, and the floor's do not: those two are
recorded as they were on a busy machine (4 and 1.35 floors; 2.05 and 0.47 on a quiet one).
"""

from __future__ import annotations

import argparse
import json
import platform
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Final

from .comparison import Line, Method, compare, processes, ratios_to_floor
from .installed import FLOOR, OURS
from .workloads import Workload, workloads

RECORDED: Final = Path(__file__).parent / "recorded.json"
WORSE_BY: Final = 0.40
FIRST: Final = Method(rounds=5, budget=0.1, patience=60, quick=False)
AGAIN: Final = Method(rounds=9, budget=0.2, patience=60, quick=False)
IN_MEMORY: Final = Path("/dev/shm")

Measurement = Callable[[Sequence[Workload], Method], Mapping[str, float]]


def measure(chosen: Sequence[Workload], method: Method) -> Mapping[str, float]:
    """The ratio of ours to the floor for each workload, in new processes."""
    lines: list[Line] = []
    with processes([OURS, FLOOR], str(IN_MEMORY) if IN_MEMORY.is_dir() else None) as peers:
        for workload in chosen:
            lines.append(compare(peers, workload, method))
            for name, measured in lines[-1].peers.items():
                if not measured.figures:
                    raise RuntimeError(f"{workload.name}: {name} has no figure: {measured.reason}")
    return ratios_to_floor(lines)


def slower(recorded: Mapping[str, float], measured: Mapping[str, float]) -> list[str]:
    """The names of the workloads whose ratio got worse by more than is allowed."""
    return [name for name, ratio in measured.items() if ratio > recorded[name] * (1 + WORSE_BY)]


def judge(chosen: Sequence[Workload], recorded: Mapping[str, float], measured_by: Measurement) -> list[str]:
    """Measure, and measure again what seems slow; print all of it, and give what is slow both times."""
    first = measured_by(chosen, FIRST)
    suspects = slower(recorded, first)
    again = measured_by([workload for workload in chosen if workload.name in suspects], AGAIN) if suspects else {}
    slow = slower(recorded, again)
    print("| work | recorded, in floors | now | a second time |\n|---|---|---|---|")
    for name, ratio in first.items():
        second = f"{again[name]:.3g}{' SLOW' if name in slow else ''}" if name in again else ""
        print(f"| {name} | {recorded[name]:.3g} | {ratio:.3g} | {second} |", flush=True)
    return slow


def main() -> int:
    """Compare with what was recorded, or record; 1 if a workload got slower."""
    parser = argparse.ArgumentParser(prog="python -m tests.benchmarks.peers.short", description=__doc__)
    parser.add_argument("--record", action="store_true", help="write what is measured now, on a quiet machine")
    parser.add_argument("--recorded", type=Path, default=RECORDED, help="the file to compare with, or to write")
    parser.add_argument("--only", default="", help="workloads whose name contains this")
    arguments = parser.parse_args()
    chosen = [each for each in workloads(quick=False) if each.short and arguments.only in each.name]
    if arguments.record:
        return record(arguments.recorded, measure(chosen, AGAIN))
    recorded = json.loads(arguments.recorded.read_text())["ratios"]
    if unknown := [each.name for each in chosen if each.name not in recorded]:
        print(f"{arguments.recorded.name} does not have {unknown}: record them with --record", file=sys.stderr)
        return 2
    if slow := judge(chosen, recorded, measure):
        print(
            f"slower by more than {WORSE_BY:.0%} than recorded, twice: {', '.join(slow)}; find out why, or, if that is "
            "what it has to cost, record it anew with --record and say so in the commit",
            file=sys.stderr,
        )
        return 1
    return 0


def record(file: Path, ratios: Mapping[str, float]) -> int:
    """Keep the ratios, three digits of them, in the order of the workloads."""
    kept = {name: float(f"{ratio:.3g}") for name, ratio in ratios.items()}
    on = f"{platform.python_implementation()} {platform.python_version()}"
    file.write_text(json.dumps({"python": on, "ratios": kept}, indent=1) + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
