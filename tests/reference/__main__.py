"""`python -m tests.reference --graphs 100000`: the reference against itself, at length, with statistics."""

import argparse
import sys
import time
from concurrent.futures import ProcessPoolExecutor

from .agreement import Tally, tally
from .generate import ANY, EXACT, RACY, SMALL, Profile

LARGE = Profile(nodes=12)
PROFILES = {"exact": EXACT, "small": SMALL, "large": LARGE, "any": ANY, "racy": RACY}
CHUNK = 500


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.reference", description=__doc__)
    parser.add_argument("--graphs", type=int, default=10_000)
    parser.add_argument("--seed", type=int, default=0, help="the first of the seeds, one per graph")
    parser.add_argument("--profile", choices=PROFILES, default="exact")
    options = parser.parse_args()
    began, total = time.monotonic(), Tally()
    last = options.seed + options.graphs
    chunks = [range(first, min(first + CHUNK, last)) for first in range(options.seed, last, CHUNK)]
    with ProcessPoolExecutor() as pool:
        for part in pool.map(tally, chunks, [PROFILES[options.profile]] * len(chunks)):
            total.graphs += part.graphs
            total.activations += part.activations
            total.facts += part.facts
            total.unsteady += part.unsteady
            for report in part.unsteady:
                print(report, end="\n\n", flush=True)
    print(total)
    print(f"{len(total.unsteady)} depend on timing; {time.monotonic() - began:.0f} s")
    return 1 if total.unsteady else 0


if __name__ == "__main__":
    sys.exit(main())
