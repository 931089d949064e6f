"""SEMANTICS section 4 through the engine: which edges an activation takes."""

from __future__ import annotations

from typing import Any

import anyio
import pytest

from engine import END, STOP, Engine, Goto, Graph, GraphInvalid, NoRoute, UnknownRoute
from tests.semantics.engine_cases import ended, failure_of, forever, graph, result_of, same, sets, sleeps


def fork(*options: tuple[str, dict[str, Any]], state: Any = None) -> Graph:
    """`a`, which sets x to 1, and edges from it to b, c, ... with these options."""
    made = graph({"a": sets(x=1), **{name: same for name, _ in options}}, entries="a")
    for name, option in options:
        made.add_edge("a", name, **option)
    return made


async def test_an_edge_without_a_condition_is_taken_and_every_when_that_holds_after_the_update() -> None:
    made = fork(
        ("b", {}),
        ("c", {"when": lambda s: s["x"] == 1}),
        ("d", {"when": lambda s: s["x"] == 0}),
        ("e", {"when": lambda s: True}),
    )

    result = await result_of(made, {"x": 0})

    assert result.visited == ("a", "b", "c", "e")
    assert result.not_run == ("d",)


@pytest.mark.parametrize(("holds", "visited"), [(True, ("a", "b")), (False, ("a", "c"))])
async def test_otherwise_is_taken_if_no_condition_held(holds: bool, visited: tuple[str, ...]) -> None:
    made = fork(("b", {"when": lambda s: holds}), ("c", {"otherwise": True}))

    assert (await result_of(made)).visited == visited


@pytest.mark.parametrize(
    ("answer", "visited"),
    [
        ("b", ["a", "b"]),
        (["c", "b", "c"], ["a", "b", "c"]),
        (END, ["a"]),
        (STOP, ["a"]),
        (None, ["a", "o"]),
        ([], ["a", "o"]),
    ],
)
async def test_a_router_answers_with_a_name_several_end_stop_or_nothing(answer: Any, visited: list[str]) -> None:
    made = graph({"a": same, "b": same, "c": same, "o": same})
    made.add_choice("a", lambda state: answer, ["b", "c"]).add_edge("a", "o", otherwise=True)

    assert sorted((await result_of(made)).visited) == visited


async def test_targets_may_map_labels_to_nodes() -> None:
    made = graph({"a": same, "b": same, "c": same}).add_choice("a", lambda state: "good", {"good": "c", "bad": "b"})

    assert (await result_of(made)).visited == ("a", "c")


async def test_a_name_that_is_no_target_is_unknown_route_with_the_allowed_ones() -> None:
    made = graph({"a": same, "b": same, "c": same}).add_choice("a", lambda state: "d", ["b", "c"])

    failure = await failure_of(made)

    assert isinstance(failure.cause, UnknownRoute)
    assert (failure.node, failure.cause.name, failure.cause.allowed[:2]) == ("a", "d", ("b", "c"))


async def test_nothing_chosen_where_edges_exist_is_no_route_naming_what_was_tried() -> None:
    failure = await failure_of(fork(("b", {"when": lambda s: False}), ("c", {"when": lambda s: False})))

    assert isinstance(failure.cause, NoRoute)
    assert (failure.node, failure.cause.tried) == ("a", ("b", "c"))


async def test_a_goto_replaces_the_edges_and_carries_an_update() -> None:
    async def jump(state: Any) -> Goto:
        return Goto("c", {"x": 1})

    made = graph({"a": (jump, {"goto": ["c", "d"]}), "b": same, "c": same, "d": same}, "a -> b")

    result = await result_of(made)

    assert (result.visited, result.state, result.not_run) == (("a", "c"), {"x": 1}, ("b", "d"))


async def test_a_goto_to_several_targets_takes_each_once() -> None:
    async def jump(state: Any) -> Goto:
        return Goto(["d", "c", "d"])

    made = graph({"a": (jump, {"goto": ["c", "d"]}), "c": same, "d": same})

    assert sorted((await result_of(made)).visited) == ["a", "c", "d"]


async def test_a_goto_to_what_was_not_declared_is_unknown_route() -> None:
    async def jump(state: Any) -> Goto:
        return Goto("b")

    made = graph({"a": (jump, {"goto": ["c"]}), "b": same, "c": same}, "a -> c -> b")

    assert isinstance((await failure_of(made)).cause, UnknownRoute)


async def test_a_join_knows_the_targets_of_a_goto() -> None:
    async def jump(state: Any) -> Goto:
        await anyio.sleep(1)
        return Goto("j", {"x": 1})

    made = graph({"s": same, "a": (jump, {"goto": ["j"]}), "b": sets(y=1), "j": same}, "s -> a, b", "b -> j")

    result = await result_of(made)

    assert (result.visited.count("j"), result.state) == (1, {"x": 1, "y": 1})


async def test_a_node_that_has_only_error_edges_ends_its_branch() -> None:
    made = graph({"a": sets(x=1), "b": same}).add_edge("a", "b", on_error=ValueError)

    assert (await result_of(made)).visited == ("a",)


async def test_a_token_that_reaches_stop_ends_the_run_with_its_state_at_once() -> None:
    nodes = {"s": same, "a": sleeps(1, x=1), "b": sleeps(0.5, y=1), "c": forever}
    made = graph(nodes, "s -> a, b, c", "a -> STOP", "b -> END")

    run = await ended(made)

    assert (run.status, run.state) == ("succeeded", {"x": 1})
    assert {entry.node: entry.status for entry in run.log}["c"] == "cancelled"


async def test_stop_in_a_subgraph_ends_that_subgraphs_activation() -> None:
    inner = graph({"i": sets(x=1), "k": forever}, "i -> STOP", entries=["i", "k"], name="inner")
    made = graph({"sub": inner, "after": sets(y=1)}, "sub -> after")

    assert (await result_of(made)).state == {"x": 1, "y": 1}


async def test_a_condition_that_raises_fails_the_node_and_no_error_edge_catches_it() -> None:
    def broken(state: Any) -> bool:
        raise KeyError("condition")

    made = (
        graph({"a": same, "b": same, "c": same}).add_edge("a", "b", when=broken).add_edge("a", "c", on_error=KeyError)
    )

    failure = await failure_of(made)

    assert (failure.node, type(failure.cause)) == ("a", KeyError)


async def test_what_a_condition_does_to_the_state_changes_no_run() -> None:
    def meddle(state: dict[str, Any]) -> bool:
        state["x"] = 99
        return True

    made = graph({"a": same, "b": same}).add_edge("a", "b", when=meddle)

    assert (await result_of(made, {"x": 0})).state == {"x": 0}


async def test_an_async_condition_is_refused_when_compiled() -> None:
    async def condition(state: Any) -> bool:
        return True

    async with Engine() as engine:
        with pytest.raises(GraphInvalid) as refused:
            await engine.submit(graph({"a": same, "b": same}).add_edge("a", "b", when=condition))

    assert [problem.code for problem in refused.value.problems] == ["bad_condition"]


async def test_two_unconditional_edges_between_the_same_nodes_are_refused_conditional_ones_are_separate() -> None:
    double = graph({"a": same, "b": same}, "a -> b", "a -> b")
    either = graph({"a": same, "b": (same, {"join": "any"})})
    either.add_edge("a", "b", when=lambda s: True).add_edge("a", "b", when=lambda s: True)
    async with Engine() as engine:
        with pytest.raises(GraphInvalid) as refused:
            await engine.submit(double)
        result = await engine.run(either)

    assert [problem.code for problem in refused.value.problems] == ["duplicate_edge"]
    assert result.visited == ("a", "b", "b")
