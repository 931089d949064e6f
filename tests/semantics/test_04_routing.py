"""SEMANTICS section 4 on the pure core: which edges are taken."""

from __future__ import annotations

from typing import Any

import pytest

from engine.errors import LoopLimit, NoRoute, UnknownRoute
from engine.runs import Run
from engine.values import END, STOP, Goto
from tests.driver import Driver, choice, edge, graph, same, sets

SEEDS = range(20)


def ended(plan: Any, state: Any = None, seed: int = 0) -> Run:
    return Driver(plan, seed).start(state).to_end().run


def ran(run: Run) -> list[str]:
    return sorted(run.history.visited())


def cause(run: Run) -> BaseException:
    (failure,) = run.failures
    return failure.cause


def test_an_edge_without_a_condition_is_taken_and_so_is_every_when_that_holds() -> None:
    plan = graph(
        dict.fromkeys("abcd", same),
        "a -> b",
        edge("a -> c", when=lambda s: s["x"] > 0),
        edge("a -> d", when=lambda s: s["x"] > 5),
    )

    assert ran(ended(plan, {"x": 1})) == ["a", "b", "c"]


def test_conditions_see_the_state_after_the_update() -> None:
    plan = graph(
        {"a": sets(x=9), "b": same, "c": same},
        edge("a -> b", when=lambda s: s["x"] == 9),
        edge("a -> c", otherwise=True),
    )

    assert ran(ended(plan, {"x": 0})) == ["a", "b"]


def test_otherwise_is_taken_beside_a_plain_edge_if_no_condition_held() -> None:
    plan = graph(
        dict.fromkeys("abcd", same),
        "a -> b",
        edge("a -> c", when=lambda s: False),
        edge("a -> d", otherwise=True),
    )

    assert ran(ended(plan)) == ["a", "b", "d"]


def test_otherwise_is_not_taken_if_a_choice_chose() -> None:
    plan = graph(dict.fromkeys("abc", same), choice("a", lambda s: "b", "b"), edge("a -> c", otherwise=True))

    assert ran(ended(plan)) == ["a", "b"]


@pytest.mark.parametrize("nothing", [None, []])
def test_a_router_that_answers_none_or_nothing_chooses_nothing(nothing: Any) -> None:
    plan = graph(dict.fromkeys("abc", same), choice("a", lambda s: nothing, "b"), edge("a -> c", otherwise=True))

    assert ran(ended(plan)) == ["a", "c"]


def test_a_router_may_answer_several_names_and_each_is_taken_once() -> None:
    plan = graph(dict.fromkeys("abc", same), choice("a", lambda s: ["b", "c", "b"], "b", "c"))

    assert ran(ended(plan)) == ["a", "b", "c"]


def test_labels_stand_for_targets() -> None:
    plan = graph(dict.fromkeys("abc", same), choice("a", lambda s: "yes", yes="b", no="c"))

    assert ran(ended(plan)) == ["a", "b"]


@pytest.mark.parametrize("answer", [END, STOP])
def test_a_router_may_always_end_the_branch_or_the_run(answer: str) -> None:
    run = ended(graph(dict.fromkeys("ab", same), choice("a", lambda s: answer, "b")))

    assert (run.status, ran(run)) == ("succeeded", ["a"])


@pytest.mark.parametrize("answer", ["nowhere", 7, ["b", "nowhere"]])
def test_a_name_that_is_no_target_is_an_unknown_route_with_the_allowed_ones(answer: Any) -> None:
    error = cause(ended(graph(dict.fromkeys("ab", same), choice("a", lambda s: answer, "b"))))

    assert isinstance(error, UnknownRoute)
    assert "b" in error.allowed


def test_nothing_chosen_where_edges_exist_is_no_route_with_what_was_tried() -> None:
    run = ended(graph(dict.fromkeys("abc", same), edge("a -> b", when=lambda s: 0), choice("a", lambda s: None, "c")))
    error = cause(run)

    assert isinstance(error, NoRoute)
    assert (error.node, error.tried) == ("a", ("b", "c"))


def test_a_node_that_has_only_goto_or_error_edges_ends_its_branch() -> None:
    plan = graph({"a": {"function": same, "goto": ("b",)}, "b": same}, edge("a -> b", on_error=ValueError))

    assert (ended(plan).status, ran(ended(plan))) == ("succeeded", ["a"])


def test_goto_replaces_the_edges_and_carries_an_update() -> None:
    plan = graph({"a": {"function": lambda s: Goto("c", {"x": 1}), "goto": ("c",)}, "b": same, "c": same}, "a -> b")
    run = ended(plan)

    assert (ran(run), run.state) == (["a", "c"], {"x": 1})


def test_goto_to_several_targets_takes_each_once() -> None:
    plan = graph({"a": {"function": lambda s: Goto(["b", "c", "b"]), "goto": ("b", "c")}, "b": same, "c": same})

    assert ran(ended(plan)) == ["a", "b", "c"]


def test_goto_to_what_was_not_declared_is_an_unknown_route() -> None:
    plan = graph({"a": {"function": lambda s: Goto("c"), "goto": ("b",)}, "b": same, "c": same})

    assert isinstance(cause(ended(plan)), UnknownRoute)


def test_goto_along_an_existing_edge_is_that_edge_the_unconditional_one_first() -> None:
    plan = graph({"a": {"function": same, "goto": ("b",)}, "b": same}, edge("a -> b", when=lambda s: True), "a -> b")

    assert [edge.kind for edge in plan.by_name["b"].ins] == ["when", "plain"]
    assert plan.by_name["a"].gotos["b"].kind == "plain"


@pytest.mark.parametrize("seed", SEEDS)
def test_stop_ends_the_run_with_that_tokens_state_and_cancels_the_rest(seed: int) -> None:
    plan = graph({"a": same, "b": sets(x=1), "c": sets(y=1), "d": same}, "a -> b,c", "c -> d", "b -> STOP")
    driver = Driver(plan, seed).start({"y": 0})
    driver.finish_named("a", "b")
    driver.to_end()

    assert (driver.run.status, driver.state) == ("succeeded", {"x": 1, "y": 0})
    assert driver.cancelled == ["c#1"]


def test_a_condition_that_raises_fails_the_node_and_no_error_edge_catches_it() -> None:
    plan = graph(
        {"a": sets(x=1), "b": same, "c": same},
        edge("a -> b", when=lambda s: 1 // 0),
        edge("a -> c", on_error=Exception),
    )
    run = ended(plan, {"x": 0})

    assert isinstance(cause(run), ZeroDivisionError)
    assert run.state == {"x": 0}, "the record shows the state as it was before"


def test_a_goto_at_its_limit_is_a_loop_limit() -> None:
    plan = graph({"a": {"function": lambda s: Goto("a"), "goto": ("a",)}}, max_iterations=3)
    run = ended(plan)
    error = cause(run)

    assert isinstance(error, LoopLimit)
    assert (error.node, error.count, len(ran(run))) == ("a", 3, 4)


def test_the_run_succeeds_when_no_token_is_live() -> None:
    driver = Driver(graph(dict.fromkeys("abc", same), "a -> b,c")).start()
    driver.finish_named("a", "b")
    before = driver.run.status
    driver.finish_named("c")

    assert [before, driver.run.status] == ["running", "succeeded"]
    assert driver.done
