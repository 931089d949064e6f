"""SEMANTICS section 3 on the pure core: updates, and merging branches by cause."""

from __future__ import annotations

import operator
from typing import Any

import pytest

from engine.errors import MergeConflict, StateInvalid
from engine.runs import Run
from engine.values import Replace
from tests.driver import Driver, edge, graph, same, sets

SEEDS = range(40)


def ended(plan: Any, state: Any, seed: int) -> Run:
    return Driver(plan, seed).start(state).to_end().run


def causes(run: Run) -> list[BaseException]:
    return [failure.cause for failure in run.failures]


def test_a_returned_mapping_changes_only_its_keys() -> None:
    run = ended(graph({"a": sets(x=2)}), {"x": 1, "y": 1}, 0)

    assert run.state == {"x": 2, "y": 1}


def test_a_dict_changed_in_place_and_not_returned_is_an_update() -> None:
    def in_place(state: dict[str, Any]) -> None:
        state["x"] = 2

    assert ended(graph({"a": in_place}), {"x": 1}, 0).state == {"x": 2}


def test_what_is_returned_counts_after_what_was_changed_in_place() -> None:
    def both(state: dict[str, Any]) -> dict[str, Any]:
        state["x"], state["y"] = 2, 2
        return {"x": 3}

    assert ended(graph({"a": both}), {"x": 1}, 0).state == {"x": 3, "y": 2}


def test_a_removed_key_fails_the_node() -> None:
    def removes(state: dict[str, Any]) -> None:
        del state["x"]

    run = ended(graph({"a": removes}), {"x": 1}, 0)

    assert run.status == "failed"
    assert isinstance(causes(run)[0], StateInvalid)


def test_each_activation_has_a_top_level_of_its_own() -> None:
    def leaks(state: dict[str, Any]) -> dict[str, Any]:
        kept.append(state)
        return {"seen": len(kept)}

    kept: list[dict[str, Any]] = []
    driver = Driver(graph({"a": leaks, "b": leaks}, "a -> b")).start({"x": 1})
    driver.step()
    kept[0]["x"] = "changed long after"
    driver.to_end()

    assert driver.state == {"x": 1, "seen": 2}


@pytest.mark.parametrize("seed", SEEDS)
def test_branches_that_each_return_the_whole_state_with_disjoint_edits_merge(seed: int) -> None:
    def whole(key: str) -> Any:
        return lambda state: {**state, key: state[key] + 1}

    plan = graph({"a": same, "b": whole("x"), "c": whole("y"), "d": same}, "a -> b,c -> d")

    assert ended(plan, {"x": 0, "y": 0}, seed).state == {"x": 1, "y": 1}


@pytest.mark.parametrize("seed", SEEDS)
def test_a_conflict_names_the_key_both_nodes_both_values_and_the_join(seed: int) -> None:
    plan = graph({"a": same, "b": sets(x=1), "c": sets(x=2), "d": same}, "a -> b,c -> d")
    run = ended(plan, {"x": 0}, seed)
    (conflict,) = causes(run)

    assert isinstance(conflict, MergeConflict)
    assert (conflict.key, conflict.nodes, conflict.values, conflict.join) == ("x", ("b", "c"), (1, 2), "d")


@pytest.mark.parametrize("seed", SEEDS)
def test_a_conflict_of_ended_branches_names_end(seed: int) -> None:
    run = ended(graph({"a": same, "b": sets(x=1), "c": sets(x=2)}, "a -> b,c"), {"x": 0}, seed)
    (conflict,) = causes(run)

    assert isinstance(conflict, MergeConflict)
    assert conflict.join == "END"


@pytest.mark.parametrize("seed", SEEDS)
def test_equal_values_are_no_conflict(seed: int) -> None:
    plan = graph({"a": same, "b": sets(x=[1]), "c": sets(x=[1]), "d": same}, "a -> b,c -> d")

    assert ended(plan, {"x": 0}, seed).state == {"x": [1]}


@pytest.mark.parametrize("seed", SEEDS)
def test_equal_values_of_different_types_conflict(seed: int) -> None:
    plan = graph({"a": same, "b": sets(x=1), "c": sets(x=1.0), "d": same}, "a -> b,c -> d")

    assert isinstance(causes(ended(plan, {"x": 0}, seed))[0], MergeConflict)


@pytest.mark.parametrize("seed", SEEDS)
def test_values_that_cannot_be_compared_count_as_different(seed: int) -> None:
    class Odd:
        def __eq__(self, other: object) -> bool:
            raise TypeError("not comparable")

        __hash__ = None  # type: ignore[assignment]

    plan = graph({"a": same, "b": sets(x=Odd()), "c": sets(x=Odd()), "d": same}, "a -> b,c -> d")

    assert isinstance(causes(ended(plan, {}, seed))[0], MergeConflict)


@pytest.mark.parametrize("seed", SEEDS)
def test_setting_a_key_to_what_it_is_is_no_change_beside_a_branch_that_sets_it(seed: int) -> None:
    plan = graph({"a": same, "b": sets(x=[0]), "c": sets(x=[1]), "d": same}, "a -> b,c -> d")

    assert ended(plan, {"x": [0]}, seed).state == {"x": [1]}


@pytest.mark.parametrize("seed", SEEDS)
def test_a_write_that_another_branch_had_seen_and_built_on_is_not_concurrent(seed: int) -> None:
    plan = graph(
        {"a": same, "b": sets(x=1), "c": sets(x=2), "d": same, "e": same},
        "a -> b -> c -> d -> e",
        "b -> e",
        "a -> d",
    )

    assert ended(plan, {"x": 0}, seed).state == {"x": 2}


@pytest.mark.parametrize("seed", SEEDS)
def test_conflicts_last_takes_the_last_edge_with_a_live_write(seed: int) -> None:
    plan = graph(
        {"a": same, "b": sets(x=1), "c": sets(x=2), "e": same, "d": same},
        "a -> b,c,e -> d",
        conflicts="last",
    )

    assert ended(plan, {"x": 0}, seed).state == {"x": 2}


@pytest.mark.parametrize("seed", SEEDS)
def test_a_settled_conflict_is_a_write_by_the_join_that_supersedes_both(seed: int) -> None:
    plan = graph(
        {"a": same, "b": sets(x=1), "c": sets(x=2), "d": same, "e": same},
        "a -> b,c -> d -> e",
        "b -> e",
        conflicts="last",
    )

    # At e the token of b comes last, but the write of d has seen it.
    assert ended(plan, {"x": 0}, seed).state == {"x": 2}


@pytest.mark.parametrize("seed", SEEDS)
def test_contributions_are_folded_in_the_order_of_the_edges_whatever_came_first(seed: int) -> None:
    nodes = {name: (lambda state, n=name: {"notes": [n]}) for name in "abcd"}
    plan = graph(nodes, "a -> b,c -> d", reducers={"notes": operator.add})

    assert ended(plan, {"notes": ["start"]}, seed).state == {"notes": ["start", "a", "b", "c", "d"]}


@pytest.mark.parametrize("seed", SEEDS)
def test_each_contribution_counts_once_though_it_comes_by_several_edges(seed: int) -> None:
    plan = graph(
        {"a": same, "b": sets(n=1), "c": same, "d": same, "e": same, "f": sets(n=10)},
        "a -> b -> c,d -> e",
        "a -> f -> e",
        reducers={"n": operator.add},
    )

    assert ended(plan, {"n": 100}, seed).state == {"n": 111}


@pytest.mark.parametrize("seed", SEEDS)
def test_a_reducer_need_not_be_associative(seed: int) -> None:
    plan = graph(
        {"a": same, "b": sets(n=1), "c": sets(n=2), "d": sets(n=3), "e": same},
        "a -> b -> d -> e",
        "a -> c -> e",
        reducers={"n": lambda value, new: 2 * value + new},
    )

    # 1, then b, d, c: ((1*2 + 1)*2 + 3)*2 + 2
    assert ended(plan, {"n": 1}, seed).state == {"n": 20}


@pytest.mark.parametrize("seed", SEEDS)
def test_with_no_value_yet_the_first_contribution_becomes_the_value(seed: int) -> None:
    nodes = {"a": same, "b": sets(n=[1]), "c": sets(n=[2]), "d": same}
    plan = graph(nodes, "a -> b,c -> d", reducers={"n": operator.add})

    assert ended(plan, {}, seed).state == {"n": [1, 2]}


def test_passing_on_a_reduced_list_does_not_double_it() -> None:
    plan = graph({"a": lambda state: {**state, "x": 1}}, reducers={"n": operator.add})

    assert ended(plan, {"n": [1]}, 0).state == {"n": [1], "x": 1}


@pytest.mark.parametrize("seed", SEEDS)
def test_a_replace_overrides_what_its_node_had_seen_and_parallel_contributions_follow_it(seed: int) -> None:
    plan = graph(
        {"a": sets(n=["a"]), "b": sets(n=Replace(["b"])), "c": sets(n=["c"]), "d": same},
        "a -> b,c -> d",
        reducers={"n": operator.add},
    )

    assert ended(plan, {"n": ["start"]}, seed).state == {"n": ["b", "c"]}


@pytest.mark.parametrize("seed", SEEDS)
def test_two_parallel_replaces_with_different_values_conflict(seed: int) -> None:
    plan = graph(
        {"a": same, "b": sets(n=Replace([1])), "c": sets(n=Replace([2])), "d": same},
        "a -> b,c -> d",
        reducers={"n": operator.add},
    )

    assert isinstance(causes(ended(plan, {"n": []}, seed))[0], MergeConflict)


@pytest.mark.parametrize("seed", SEEDS)
def test_ended_tokens_merge_in_the_order_of_their_nodes(seed: int) -> None:
    nodes = {name: (lambda state, n=name: {"notes": [n]}) for name in "acb"}
    plan = graph(nodes, "a -> b", "a -> c", reducers={"notes": operator.add})

    assert ended(plan, {"notes": []}, seed).state == {"notes": ["a", "c", "b"]}


def test_a_run_with_one_token_keeps_no_log() -> None:
    plan = graph({"a": sets(x=1), "b": sets(x=2), "c": sets(x=3), "d": same}, "a -> b,c -> d", conflicts="last")
    driver = Driver(plan).start({})
    logs: list[object] = []
    while driver.running:
        logs += [activation.log for activation in driver.running if activation.node.name in "ad"]
        driver.step()

    assert logs == [None, None]
    (d,) = [entry for entry in driver.run.history.log() if entry.node == "d"]
    assert d.status == "succeeded"


def test_memory_is_flat_over_many_iterations_of_a_loop_that_forks_and_joins() -> None:
    plan = graph(
        {"head": lambda s: {"i": s["i"] + 1}, "b": sets(n=1), "c": sets(n=1), "d": same},
        "head -> b,c -> d",
        edge("d -> head", when=lambda s: s["i"] < 300, max_iterations=1000),
        edge("d -> END", otherwise=True),
        reducers={"n": operator.add},
    )
    driver = Driver(plan).start({"i": 0, "n": 0})
    sizes = []
    while driver.step():
        logs = [a.log.traces(plan.state.reducers) for a in driver.running if a.log]
        sizes += [len(log["n"].superseded()) for log in logs if "n" in log]

    assert driver.state == {"i": 300, "n": 600}
    assert max(sizes, default=0) <= 2
