"""Random graphs: the engine against the reference interpreter, and against itself.

A longer run: `python -m tests.semantics.random_graphs --engine --graphs 100000`.
"""

from __future__ import annotations

import pytest

from actors.testing import BACKENDS, Backend
from tests.reference.generate import random_spec
from tests.reference.outcome import Outcome
from tests.semantics.engine_graphs import WORKERS, Timing, disagreements, packs, quiet, run_together

GRAPHS = 2_400
GRAPHS_WITH_ITSELF = 40
SCHEDULES = 2


@pytest.mark.parametrize("backend", BACKENDS)
def test_engine_and_reference_agree_on_activations_routes_and_final_state(backend: Backend) -> None:
    found = [line for seeds, timing in packs(range(GRAPHS), backend) for line in disagreements(seeds, timing)]

    assert not found, "\n\n".join(found)


def test_the_engine_agrees_with_itself_over_schedules_backends_and_numbers_of_workers() -> None:
    seeds = range(100_000, 100_000 + GRAPHS_WITH_ITSELF)
    specs = [random_spec(seed) for seed in seeds]
    timings = [Timing(b, seed, workers) for b in BACKENDS for workers in WORKERS for seed in range(SCHEDULES)]
    with quiet():
        outcomes = [run_together(specs, timing) for timing in timings]

    for seed, *of_one_graph in zip(seeds, *outcomes, strict=True):
        first, *others = [promised(outcome) for outcome in of_one_graph]
        for timing, other in zip(timings[1:], others, strict=True):
            assert other == first, f"graph {seed} ends differently with {timing}"


def promised(outcome: Outcome) -> object:
    """All of a run's outcome; of a run that an error cut short, that it failed."""
    if outcome.status == "failed":
        return "failed"
    return outcome.state, outcome.activations, outcome.iterations, outcome.routes
