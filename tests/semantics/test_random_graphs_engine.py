"""Random graphs: the engine against the reference interpreter, and against itself.

A longer run: `python -m tests.semantics.random_graphs --engine --graphs 100000`.
"""

from __future__ import annotations

from collections import Counter

import pytest

from actors.testing import BACKENDS, Backend
from engine import RunCancelled
from tests.reference.compare import differences
from tests.reference.generate import random_spec
from tests.reference.outcome import Outcome
from tests.reference.spec import GraphSpec
from tests.semantics.engine_graphs import (
    WORKERS,
    Disturbance,
    Timing,
    cancelling,
    crashing,
    disagreements,
    packs,
    pausing,
    quiet,
    run_together,
    whole,
)

GRAPHS = 2_400
GRAPHS_WITH_ITSELF = 40
GRAPHS_DISTURBED = 100
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
        outcomes = [whole(run_together(specs, timing)) for timing in timings]

    for seed, *of_one_graph in zip(seeds, *outcomes, strict=True):
        first, *others = [promised(outcome) for outcome in of_one_graph]
        for timing, other in zip(timings[1:], others, strict=True):
            assert other == first, f"graph {seed} ends differently with {timing}"


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("disturbance", [pausing, crashing])
def test_neither_pauses_nor_crashes_of_the_engines_actors_change_what_a_run_comes_to(
    backend: Backend, disturbance: Disturbance
) -> None:
    for first in range(200_000, 200_000 + GRAPHS_DISTURBED, 10):
        specs = [spec for seed in range(first, first + 10) if not has_map(spec := random_spec(seed))]
        with quiet():
            outcomes = whole(run_together(specs, Timing(backend, first), disturbance))

        for number, (spec, outcome) in enumerate(zip(specs, outcomes, strict=True)):
            if disturbance is crashing:
                # What was in hand is done again: as often as it was seen, it counts once.
                outcome.activations = Counter({*outcome.activations})
                outcome.iterations = Counter({*(outcome.iterations or ())})
            assert differences(spec, outcome) == [], f"graph {number} of {first}"


@pytest.mark.parametrize("backend", BACKENDS)
def test_a_run_that_is_cancelled_at_any_moment_ends_and_leaves_nothing(backend: Backend) -> None:
    cancelled = 0
    for first in range(300_000, 300_000 + GRAPHS_DISTURBED, 10):
        specs = [random_spec(seed) for seed in range(first, first + 10)]
        with quiet():
            outcomes = run_together(specs, Timing(backend, first), cancelling)

        cancelled += sum(isinstance(outcome, RunCancelled) for outcome in outcomes)
    assert cancelled > GRAPHS_DISTURBED / 10


def has_map(spec: GraphSpec) -> bool:
    return any(node.map is not None for node in spec.nodes)


def promised(outcome: Outcome) -> object:
    """All of a run's outcome; of a run that an error cut short, that it failed."""
    if outcome.status == "failed":
        return "failed"
    return outcome.state, outcome.activations, outcome.iterations, outcome.routes
