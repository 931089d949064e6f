"""A graph is known by name and version; another one under the same is refused, the same one built anew is not."""

import operator
from typing import Any

import anyio
import anyio.lowlevel
import pytest

from engine import Engine, Graph, GraphConflict, GraphInvalid, GraphNotFound


def nothing(state: dict[str, int]) -> None: ...


def build(factor: int = 2, *, condition: bool = True, **options: Any) -> Graph:
    graph = Graph("built", reducers={"notes": operator.add})

    @graph.node(**options)
    async def multiply(state: dict[str, int]) -> dict[str, int]:
        return {"x": state["x"] * factor}

    @graph.node(run_in="loop")
    def end(state: dict[str, int]) -> None: ...

    graph.add_edge("multiply", "end", when=lambda state: state["x"] < 100 or condition)
    return graph.set_entry_point("multiply")


async def test_the_same_graph_built_anew_is_no_other() -> None:
    async with Engine() as engine:
        for _ in range(3):
            assert (await engine.run(build(), {"x": 1})).state == {"x": 2}

        assert engine.graphs() == [("built", "1")]


@pytest.mark.parametrize(
    "other",
    [build(3), build(condition=False), build(timeout=1), build().add_node("more", nothing).add_edge("end", "more")],
    ids=["closure", "condition", "option", "node"],
)
async def test_another_graph_under_the_same_name_and_version_is_refused(other: Graph) -> None:
    async with Engine() as engine:
        engine.register(build())
        with pytest.raises(GraphConflict, match="give the changed one another version"):
            await engine.submit(other, {"x": 1})


async def test_versions_live_side_by_side_and_a_name_means_the_newest() -> None:
    async with Engine() as engine:
        for version in ("1", "2"):
            graph = Graph("versioned", version=version)
            graph.add_node("say", lambda state, found=version: {"found": found}, run_in="loop").set_entry_point("say")
            engine.register(graph)

        assert (await engine.run("versioned")).state == {"found": "2"}
        assert engine.graphs() == [("versioned", "1"), ("versioned", "2")]


async def test_an_unknown_name_is_refused_with_those_that_are_known() -> None:
    async with Engine() as engine:
        engine.register(build())
        with pytest.raises(GraphNotFound, match="'built'"):
            await engine.submit("bilt")


async def test_an_executor_that_the_engine_does_not_have_is_a_problem_of_the_graph() -> None:
    graph = Graph("far").add_node("away", nothing, run_in="cluster").set_entry_point("away")
    async with Engine() as engine:
        with pytest.raises(GraphInvalid) as invalid:
            await engine.submit(graph)

    (problem,) = invalid.value.problems
    assert (problem.code, problem.where) == ("bad_option", "away")
    assert "process" in problem.hint


@pytest.mark.parametrize("turns", range(1, 6))
async def test_a_submission_that_is_given_up_while_its_graph_starts_leaves_it_to_the_next(turns: int) -> None:
    async with Engine() as engine, anyio.create_task_group() as group:
        submission = group.start_soon(engine.submit, build(), {"x": 1})
        for _ in range(turns):
            await anyio.lowlevel.checkpoint()
        submission.cancel()

        assert (await engine.run(build(), {"x": 1})).state == {"x": 2}
