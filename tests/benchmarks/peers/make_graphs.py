"""Make `graphs/*.json` anew: `PYTHONHASHSEED=0 python -m tests.benchmarks.peers.make_graphs` (needs the extra `bench`).

The recipes of wfcommons were learnt from traces of real runs. A file keeps what matters here and no more: for each
task, in topological order, its kind, the tasks it waits for, and how long it takes. Seeds are fixed, so that the same
version of wfcommons gives the same files.
"""

from __future__ import annotations

import json
import random
import sys
from importlib.metadata import version
from pathlib import Path
from typing import Any, Final

import networkx
import numpy
from wfcommons import WorkflowGenerator
from wfcommons.wfchef.recipes import BlastRecipe, EpigenomicsRecipe, MontageRecipe

from .scientific import FOLDER

RECIPES: Final = {"montage": MontageRecipe, "epigenomics": EpigenomicsRecipe, "blast": BlastRecipe}
SIZES: Final = (100, 500, 2_000)
SEED: Final = 7


def make(name: str, size: int) -> dict[str, Any]:
    """One workflow of about so many tasks: a recipe rounds down to what its patterns allow."""
    random.seed(SEED)
    numpy.random.seed(SEED)
    made = WorkflowGenerator(RECIPES[name].from_num_tasks(size)).build_workflow()
    order = list(networkx.lexicographical_topological_sort(made))
    places = {task: place for place, task in enumerate(order)}
    return {
        "name": name,
        "seed": SEED,
        "wfcommons": version("wfcommons"),
        "kinds": [task.rsplit("_", 1)[0] for task in order],
        "seconds": [made.tasks[task].runtime for task in order],
        "parents": [sorted(places[parent] for parent in made.predecessors(task)) for task in order],
    }


def write(folder: Path) -> list[Path]:
    """Write all of them, and say where."""
    written = []
    for name in RECIPES:
        for size in SIZES:
            written.append(folder / f"{name}-{size}.json")
            fields = (f"{json.dumps(key)}: {json.dumps(value)}" for key, value in make(name, size).items())
            written[-1].write_text("{\n" + ",\n".join(fields) + "\n}\n")
    return written


if __name__ == "__main__":
    if sys.flags.hash_randomization:
        raise SystemExit(
            "wfcommons walks through sets of text: set PYTHONHASHSEED=0, so that the files come out the same"
        )
    for file in write(FOLDER):
        print(file.name, file.stat().st_size)
