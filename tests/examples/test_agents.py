"""Planner, workers and critic: the same transcript on every backend, and each failure where it belongs."""

from __future__ import annotations

from functools import cache

import pytest

from engine import Engine
from examples.agents.__main__ import QUESTIONS, told
from examples.agents.graph import AT_ONCE, ROUNDS, research, tools
from examples.agents.model import Model
from tests.examples.processes import said_by


@cache
def transcript(library: str) -> str:
    return said_by("examples.agents", library)


@pytest.mark.parametrize("library", ["asyncio", "trio"], ids="on-{}".format)
def test_the_transcript_tells_of_retries_limits_and_error_edges(library: str) -> None:
    said = transcript(library)

    assert "worker on 'Tower': 2 facts match 'Tower'" in said  # a worker that failed, told with its reason
    assert "result: the Eiffel Tower and the Tokyo Tower: 663 m in all." in said
    assert "writer: I do not write about tombs; so here is a plain list" in said
    assert "(retries: 5, loops ended by their limit: 1)" in said
    assert said == transcript("asyncio")


async def test_one_question_ends_after_its_rounds_and_its_model_is_not_asked_by_more_than_it_can_take() -> None:
    model = Model()
    async with Engine("memory://", tools=tools()) as engine:
        graph = research(model)
        state = {"about": [*QUESTIONS["stones"], *QUESTIONS["clouds"]], "known": {}, "said": []}
        runs = [await engine.submit(graph, state) for _ in range(5)]
        for run in runs:
            await run.result()

    assert model.most["ask"] == AT_ONCE
    assert all(told(run) == told(runs[0]) for run in runs)
    assert sum("planner" in line for line in runs[0].state["said"]) == ROUNDS
    assert runs[0].counters["loop_limits"] == 1
    assert len(runs[0].state["known"]) == 4
