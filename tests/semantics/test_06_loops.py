"""SEMANTICS section 6 on the pure core: loops and their limits."""

from __future__ import annotations

import operator
import tracemalloc
from typing import Any

import pytest

from engine.errors import ActivationLimit, LoopLimit
from engine.runs import Run
from engine.tokens import Activation
from tests.driver import Driver, edge, fails, graph, same, with_context


def ended(plan: Any, state: Any = None, seed: int = 0) -> Run:
    return Driver(plan, seed).start(state).to_end().run


def times(run: Run, node: str) -> int:
    return run.history.visited().count(node)


@pytest.mark.parametrize("limit", [0, 1, 5])
def test_a_limit_of_n_lets_exactly_n_through_and_then_others_decide(limit: int) -> None:
    plan = graph(
        dict.fromkeys("ab", same),
        "a -> b",
        edge("b -> a", when=lambda s: True, max_iterations=limit),
        edge("b -> END", otherwise=True),
    )
    run = ended(plan)

    assert (run.status, times(run, "a"), run.counters["loop_limits"]) == ("succeeded", limit + 1, 1)
    assert [event.data["edge"] for event in run.history.events() if event.type == "loop_limit"] == ["b -> a"]


def test_on_limit_fail_names_node_edge_and_count() -> None:
    plan = graph(dict.fromkeys("ab", same), "a -> b", edge("b -> a", max_iterations=2, on_limit="fail"))
    (failure,) = ended(plan).failures

    assert isinstance(failure.cause, LoopLimit)
    assert (failure.cause.node, failure.cause.edge, failure.cause.count) == ("b", "b -> a", 2)


def test_a_cycle_without_a_limit_gets_the_graphs_and_hitting_it_fails() -> None:
    plan = graph(dict.fromkeys("ab", same), "a -> b -> a", max_iterations=7)
    run = ended(plan)

    assert isinstance(run.failures[0].cause, LoopLimit)
    assert times(run, "a") == 8


def test_a_chain_is_no_loop_however_long() -> None:
    names = [f"n{i}" for i in range(1500)]
    plan = graph(dict.fromkeys(names, same), " -> ".join(names), max_iterations=10)

    assert ended(plan).status == "succeeded"


def test_an_inner_loop_counts_anew_each_time_it_is_entered() -> None:
    plan = graph(
        {"outer": lambda s: {"o": s["o"] + 1}, "inner": lambda s: {"i": s["i"] + 1}, "end": same},
        "outer -> inner",
        edge("inner -> inner", when=lambda s: True, max_iterations=3),
        edge("inner -> end", otherwise=True),
        edge("end -> outer", when=lambda s: True, max_iterations=2),
        edge("end -> END", otherwise=True),
    )
    run = ended(plan, {"o": 0, "i": 0})

    assert run.state == {"o": 3, "i": 12}


@pytest.mark.parametrize("seed", range(30))
def test_counts_are_copied_at_a_fork_and_a_join_takes_the_largest(seed: int) -> None:
    plan = graph(
        dict.fromkeys("abcj", same),
        "a -> b,c -> j",
        edge("j -> a", when=lambda s: True, max_iterations=4),
        edge("j -> END", otherwise=True),
    )
    run = ended(plan, seed=seed)

    assert [times(run, node) for node in "abcj"] == [5, 5, 5, 5]


def test_iteration_is_one_more_than_the_largest_count() -> None:
    seen: list[int] = []
    plan = graph(
        {"a": with_context(lambda s, activation: seen.append(activation.iteration)), "b": same},
        "a -> b",
        edge("b -> a", when=lambda s: True, max_iterations=3),
        edge("b -> END", otherwise=True),
    )
    ended(plan)

    assert seen == [1, 2, 3, 4]


def test_an_error_edge_at_its_limit_is_as_if_it_were_not_there() -> None:
    plan = graph(
        {"a": fails(ValueError("no")), "fix": same},
        edge("a -> fix", on_error=ValueError),
        edge("fix -> a", max_iterations=2, on_limit="fail"),
    )
    looping = graph({"a": fails(ValueError("no"))}, edge("a -> a", on_error=ValueError, max_iterations=2))

    assert isinstance(ended(plan).failures[0].cause, LoopLimit)
    (failure,) = ended(looping).failures
    assert (failure.activation, type(failure.cause)) == (3, ValueError)


@pytest.mark.parametrize("on_failure", ["cancel", "continue"])
def test_max_activations_bounds_the_run_as_a_whole(on_failure: str) -> None:
    plan = graph(dict.fromkeys("ab", same), "a -> b -> a", max_activations=5, on_failure=on_failure)
    run = ended(plan)

    assert isinstance(run.failures[0].cause, ActivationLimit)
    assert len(run.history.visited()) == 5


def test_many_iterations_cost_constant_memory() -> None:
    def looped(iterations: int) -> int:
        plan = graph(
            dict.fromkeys("ab", same),
            "a -> b",
            edge("b -> a", when=lambda s: True, max_iterations=iterations),
            edge("b -> END", otherwise=True),
            history=100,
        )
        run = Run(plan, "run")
        commands: list[Any] = run.start({"x": 1}, 0.0)
        tracemalloc.start()
        while isinstance(commands[0], Activation):
            commands = run.succeeded(commands[0], 1, None, 0.0)
        peak = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        assert run.status == "succeeded"
        return peak

    assert looped(20_000) < looped(1_000) + 20_000


def test_a_key_set_over_and_over_beside_a_waiting_branch_costs_constant_memory() -> None:
    plan = graph(
        {"start": same, "slow": same, "a": lambda s: {"i": s["i"] + 1}},
        "start -> slow,a",
        edge("a -> a", when=lambda s: s["i"] < 1000, max_iterations=2000),
        edge("a -> END", otherwise=True),
    )
    driver = Driver(plan).start({"i": 0}).finish_named("start")
    largest = 0
    for number in range(1, 1001):
        driver.finish_named(f"a#{number}")
        logs = [a.log.traces(plan.state.reducers) for a in driver.running if a.log]
        largest = max([largest, *(len(log["i"].over) for log in logs if "i" in log)])
    driver.to_end()

    assert driver.state == {"i": 1000}
    assert largest <= 65


@pytest.mark.parametrize("conflicts", ["error", "last"])
def test_branches_that_end_in_each_iteration_do_not_pile_up(conflicts: Any) -> None:
    plan = graph(
        {"a": lambda s: {"i": s["i"] + 1}, "leaf": lambda s: {"notes": [s["i"]]}},
        "a -> leaf",
        edge("a -> a", when=lambda s: s["i"] < 500, max_iterations=2000),
        reducers={"notes": operator.add},
        conflicts=conflicts,
    )
    for seed in range(3):
        driver = Driver(plan, seed).start({"i": 0, "notes": []})
        most = 0
        while driver.step():
            most = max(most, len(driver.run.ended))

        assert driver.state == {"i": 500, "notes": list(range(1, 501))}
        assert most <= 65
