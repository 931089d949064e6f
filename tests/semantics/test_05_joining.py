"""SEMANTICS section 5 on the pure core: joins, settling in order, knots, waves."""

from __future__ import annotations

import operator
from typing import Any

import pytest

from engine.errors import JoinStarved
from engine.runs import Run
from tests.driver import Driver, choice, edge, fails, graph, same, sets, with_context

SEEDS = range(60)


def ended(plan: Any, state: Any = None, seed: int = 0) -> Run:
    run = Driver(plan, seed).start(state).to_end().run
    assert run.over, run.explain("j" if "j" in plan.by_name else plan.nodes[0].name)
    return run


def times(run: Run, node: str) -> int:
    return run.history.visited().count(node)


@pytest.mark.parametrize("seed", SEEDS)
def test_branches_of_different_length_join_once(seed: int) -> None:
    plan = graph(dict.fromkeys("abcdej", same), "a -> b -> c -> d -> j", "a -> e -> j")

    assert times(ended(plan, seed=seed), "j") == 1


@pytest.mark.parametrize("seed", SEEDS)
def test_a_branch_that_went_elsewhere_neither_blocks_the_join_nor_fires_it_twice(seed: int) -> None:
    plan = graph(
        dict.fromkeys("abcdj", same),
        "a -> b,c",
        "b -> j",
        edge("c -> j", when=lambda s: False),
        edge("c -> d", otherwise=True),
    )

    assert times(ended(plan, seed=seed), "j") == 1


def test_an_if_else_that_meets_again_does_not_wait_for_the_side_not_taken() -> None:
    plan = graph(
        dict.fromkeys("abcj", same),
        edge("a -> b", when=lambda s: True),
        edge("a -> c", otherwise=True),
        "b,c -> j",
    )

    assert ended(plan).history.visited() == ["a", "b", "j"]


@pytest.mark.parametrize("seed", SEEDS)
def test_a_branch_that_loops_is_waited_for_until_it_leaves_its_loop(seed: int) -> None:
    plan = graph(
        {"a": same, "b": lambda s: {"i": s["i"] + 1}, "c": same, "j": same},
        "a -> b,c",
        edge("b -> b", when=lambda s: s["i"] < 5, max_iterations=9),
        edge("b -> j", otherwise=True),
        "c -> j",
    )
    run = ended(plan, {"i": 0}, seed)

    assert (times(run, "j"), run.state["i"]) == (1, 5)


@pytest.mark.parametrize("journal", [False, True])
def test_a_join_that_lost_a_branch_goes_as_soon_as_nothing_more_can_come(journal: bool) -> None:
    plan = graph(
        {**dict.fromkeys("abdj", same), "c": fails(ValueError())}, "a -> b,c,d", "b,c -> j", on_failure="continue"
    )
    driver = Driver(plan, journal=journal).start().finish_named("a", "b", "c")

    # d goes on, but it leads elsewhere.
    assert driver.ids == ["d#1"]
    assert [type(failure.cause) for failure in driver.run.failures] == [ValueError, JoinStarved]


@pytest.mark.parametrize("journal", [False, True])
def test_a_join_whose_branch_took_its_error_edge_goes_as_soon_as_nothing_more_can_come(journal: bool) -> None:
    plan = graph(
        {**dict.fromkeys("abdej", same), "c": fails(ValueError())},
        "a -> b,c,d",
        "b,c -> j",
        edge("c -> e", on_error=(ValueError,)),
    )
    driver = Driver(plan, journal=journal).start().finish_named("a", "c", "b")

    assert driver.ids == ["d#1", "e#1", "j#1"]


@pytest.mark.parametrize(
    ("sure", "edges"),
    [
        (True, ["a -> b,c -> j"]),
        (True, ["a -> b,c -> j -> d,e -> k"]),
        (True, ["a -> b -> j", "a -> j", edge("j -> d", when=bool), edge("j -> e", otherwise=True)]),
        (False, ["a -> b -> c"]),  # there is none
        (False, ["a -> b,c", "b -> j", edge("c -> j", when=bool), edge("c -> END", otherwise=True)]),
        (False, [edge("a -> b", when=bool), edge("a -> c", otherwise=True), "b,c -> j"]),
        (False, ["a -> b,c -> j", edge("b -> j", on_error=(ValueError,))]),
        (False, ["a -> b,c -> j", edge("j -> a", when=bool), edge("j -> END", otherwise=True)]),
        (False, ["a -> b,c -> j", choice("j", str, "d", "e"), "d,e -> k"]),
    ],
)
def test_a_plan_tells_whether_a_token_comes_to_each_join_by_each_way(sure: bool, edges: list[Any]) -> None:
    assert graph(dict.fromkeys("abcdejk", same), *edges).sure is sure


def test_a_node_that_may_jump_or_is_run_by_each_token_brings_no_surety() -> None:
    jumping = graph({"a": same, "b": {"function": same, "goto": ("d",)}, **dict.fromkeys("cdj", same)}, "a -> b,c -> j")
    several = graph(
        {**dict.fromkeys("abcej", same), "d": {"function": same, "join": "any"}}, "a -> b,c -> d -> e -> j", "a -> j"
    )

    assert (jumping.sure, several.sure) == (False, False)


def test_an_unrelated_branch_is_never_waited_for() -> None:
    plan = graph(dict.fromkeys("abcdjx", same), "a -> b,c,x", "b,c -> j", "x -> d")
    driver = Driver(plan).start().finish_named("a", "b", "c")

    assert driver.ids == ["j#1", "x#1"]


def test_the_head_of_a_loop_does_not_wait_for_its_own_back_edge() -> None:
    plan = graph(
        dict.fromkeys("ab", same), "a -> b", edge("b -> a", when=lambda s: False, max_iterations=2), "b -> END"
    )

    assert Driver(plan).start().ids == ["a#1"]


@pytest.mark.parametrize("seed", SEEDS)
def test_where_a_loop_passes_through_the_join_its_rounds_never_mix(seed: int) -> None:
    plan = graph(
        {
            "a": lambda s: {"i": s["i"] + 1},
            "b": lambda s: {"b": s["i"]},
            "c": same,
            "d": lambda s: {"c": s["i"]},
            "j": same,
        },
        "a -> b -> j",
        "a -> c -> d -> j",
        edge("j -> a", when=lambda s: s["i"] < 6, max_iterations=9),
        edge("j -> END", otherwise=True),
    )
    driver = Driver(plan, seed).start({"i": 0}).to_end()
    seen = [dict(values) for name, _, values in driver.inputs if name == "j"]

    assert [(values["b"], values["c"]) for values in seen] == [(i, i) for i in range(1, 7)]


@pytest.mark.parametrize("seed", SEEDS)
def test_a_join_that_a_loop_only_feeds_pairs_tokens_by_edge_and_order(seed: int) -> None:
    # `a -> b, c, a` and `b, c -> j`: in round 1, c goes elsewhere.
    plan = graph(
        {"a": lambda s: {"i": s["i"] + 1}, "b": lambda s: {"b": s["i"]}, "c": lambda s: {"c": s["i"]}, "j": same},
        "a -> b,c",
        edge("a -> a", when=lambda s: s["i"] < 3, max_iterations=9),
        "b -> j",
        edge("c -> j", when=lambda s: s["i"] > 1),
        edge("c -> END", otherwise=True),
        conflicts="last",
    )
    driver = Driver(plan, seed).start({"i": 0}).to_end()
    seen = [dict(values) for name, _, values in driver.inputs if name == "j"]

    assert [(values["b"], values.get("c")) for values in seen] == [(1, 2), (2, 3), (3, None)]


@pytest.mark.parametrize("seed", SEEDS)
def test_activations_are_settled_in_their_order_not_of_completion(seed: int) -> None:
    plan = graph(
        {
            "a": lambda s: {"i": s["i"] + 1},
            "b": with_context(lambda s, activation: {"notes": [activation.number]}),
            "c": with_context(lambda s, activation: {"seen": [(activation.number, s["i"])]}),
        },
        "a -> b -> c",
        edge("a -> a", when=lambda s: s["i"] < 4, max_iterations=9),
        reducers={"notes": operator.add, "seen": operator.add},
        conflicts="last",
    )
    run = ended(plan, {"i": 0, "notes": [], "seen": []}, seed)

    assert run.state["seen"] == [(1, 1), (2, 2), (3, 3), (4, 4)]


def test_a_finished_activation_waits_for_its_turn_and_says_so() -> None:
    plan = graph(
        {"a": lambda s: {"i": s["i"] + 1}, "b": same, "c": same},
        "a -> b -> c",
        edge("a -> a", when=lambda s: s["i"] < 2, max_iterations=9),
    )
    driver = Driver(plan).start({"i": 0}).finish_named("a#1", "a#2", "b#2")

    assert driver.ids == ["b#1"]
    assert "#2 is done and waits for its turn after #1" in driver.run.explain("b")
    assert driver.finish_named("b#1").ids == ["c#1", "c#2"]


def test_a_running_join_counts_as_being_at_its_successors() -> None:
    plan = graph(
        {"a": lambda s: {"i": s["i"] + 1}, "b": same, "j": same},
        edge("a -> a", when=lambda s: s["i"] < 2, max_iterations=5),
        "a -> j",
        edge("j -> b", when=lambda s: True, max_iterations=1),
        edge("j -> END", otherwise=True),
        "b -> j",
    )
    driver = Driver(plan).start({"i": 0}).finish_named("a#1")
    assert driver.ids == ["a#2", "j#1"]
    driver.finish_named("a#2")

    # The second token of a waits: j#1 may still lead to b, and b to j.
    assert driver.ids == ["j#1"]
    driver.finish_named("j#1", "b#1")
    assert driver.ids == ["j#2"]


@pytest.mark.parametrize("seed", SEEDS)
def test_joins_that_wait_only_for_one_another_go_the_first_declared_first(seed: int) -> None:
    plan = graph(
        dict.fromkeys(("a", "x", "y", "p", "q"), same),
        "a -> x,y",
        "x -> p",
        "y -> q",
        edge("p -> q", max_iterations=1),
        edge("q -> p", when=lambda s: False, max_iterations=1),
        edge("q -> END", otherwise=True),
    )
    driver = Driver(plan, seed).start()
    driver.finish_named("a#1")
    driver.finish_named("y#1")
    assert driver.ids == ["x#1"], "x can still reach both"
    driver.finish_named("x#1")

    assert driver.ids == ["p#1"]
    assert driver.to_end().run.status == "succeeded"
    assert times(driver.run, "q") == 1


@pytest.mark.parametrize("seed", SEEDS)
def test_an_any_join_runs_once_for_each_token_that_arrives(seed: int) -> None:
    plan = graph({**dict.fromkeys("abc", same), "j": {"function": same, "join": "any"}}, "a -> b,c -> j")

    assert times(ended(plan, seed=seed), "j") == 2


@pytest.mark.parametrize("seed", SEEDS)
def test_a_first_join_runs_at_the_first_arrival_and_absorbs_the_others_on_record(seed: int) -> None:
    plan = graph(
        {"a": same, "b": sets(x="b"), "c": sets(x="c"), "j": {"function": same, "join": "first"}}, "a -> b,c -> j"
    )
    run = ended(plan, {}, seed)
    absorbed = [event for event in run.history.events() if event.type == "token_absorbed"]
    first = next(entry.node for entry in run.history.log() if entry.node in "bc")

    assert (times(run, "j"), len(absorbed), run.state) == (1, 1, {"x": first})


@pytest.mark.parametrize("seed", SEEDS)
def test_a_k_join_merges_the_first_k_in_the_order_of_the_edges(seed: int) -> None:
    nodes = {"a": same, **{n: (lambda s, n=n: {"notes": [n]}) for n in "bcd"}, "j": {"function": same, "join": 2}}
    run = ended(graph(nodes, "a -> b,c,d -> j", reducers={"notes": operator.add}), {"notes": []}, seed)
    first_two = [entry.node for entry in run.history.log() if entry.node in "bcd"][:2]

    assert (times(run, "j"), run.state["notes"]) == (1, sorted(first_two))


def test_a_second_arrival_on_one_edge_belongs_to_the_next_wave() -> None:
    plan = graph(
        {"a": lambda s: {"i": s["i"] + 1}, "b": same, "j": {"function": same, "join": 2}},
        edge("a -> a", when=lambda s: s["i"] < 2, max_iterations=5),
        "a -> b -> j",
        "a -> j",
    )
    driver = Driver(plan).start({"i": 0}).finish_named("a#1", "a#2")
    assert driver.ids == ["b#1", "b#2"]
    driver.finish_named("b#1")
    assert driver.ids == ["b#2", "j#1"]
    driver.finish_named("b#2")

    assert driver.ids == ["j#1", "j#2"]


def test_rest_cancel_cancels_what_can_do_nothing_but_arrive_too_late() -> None:
    plan = graph(
        {**dict.fromkeys("abcdx", same), "j": {"function": same, "join": "first", "rest": "cancel"}},
        "a -> b,c,d -> j",
        "d -> x",
    )
    driver = Driver(plan).start().finish_named("a#1", "b#1")

    assert driver.ids == ["d#1", "j#1"], "d still has x to go to"
    assert [activation.id for activation in driver.cancelling] == ["c#1"]
    assert driver.to_end().run.status == "succeeded"


def test_rest_cancel_cancels_as_many_per_edge_as_the_wave_misses_oldest_first() -> None:
    plan = graph(
        {
            "a": lambda s: {"i": s["i"] + 1},
            "b": same,
            "c": same,
            "j": {"function": same, "join": "first", "rest": "cancel"},
        },
        edge("a -> a", when=lambda s: s["i"] < 2, max_iterations=5),
        "a -> b,c -> j",
    )
    driver = Driver(plan).start({"i": 0}).finish_named("a#1", "a#2", "b#1")

    assert [activation.id for activation in driver.cancelling] == ["c#1"]
    assert driver.ids == ["b#2", "c#2", "j#1"]


@pytest.mark.parametrize("seed", SEEDS)
def test_a_wave_that_can_get_no_more_is_starved_and_names_the_edges(seed: int) -> None:
    plan = graph(
        {**dict.fromkeys("abcd", same), "j": {"function": same, "join": 2}},
        "a -> b,c",
        "b -> j",
        edge("c -> j", when=lambda s: False),
        edge("c -> d", otherwise=True),
    )
    run = ended(plan, seed=seed)
    (failure,) = run.failures

    assert isinstance(failure.cause, JoinStarved)
    assert (failure.node, failure.cause.arrived, failure.cause.missing) == ("j", ("b",), ("c",))


@pytest.mark.parametrize("seed", SEEDS)
def test_what_descends_from_a_waves_own_activation_belongs_to_the_next_wave(seed: int) -> None:
    plan = graph(
        {"a": same, "b": lambda s: {"i": s["i"] + 1}, "j": {"function": same, "join": "first"}},
        "a -> j",
        "j -> b",
        edge("b -> j", when=lambda s: s["i"] < 4, max_iterations=9),
        edge("b -> END", otherwise=True),
    )

    assert times(ended(plan, {"i": 0}, seed), "j") == 4


def test_arrivals_tell_how_each_edge_stood() -> None:
    seen: list[Any] = []
    plan = graph(
        {**dict.fromkeys("abc", same), "j": with_context(lambda s, activation: seen.append(activation.arrivals))},
        edge("a -> b", when=lambda s: True),
        edge("a -> c", otherwise=True),
        "b,c -> j",
    )
    ended(plan)

    assert [(a.source, a.status, a.activation) for a in seen[0]] == [("b", "arrived", 1), ("c", "skipped", None)]


def test_not_run_lists_the_nodes_that_never_ran() -> None:
    plan = graph(dict.fromkeys("abc", same), edge("a -> b", when=lambda s: True), edge("a -> c", otherwise=True))

    assert ended(plan).not_run == ["c"]


def test_explain_says_what_a_join_is_waiting_for() -> None:
    plan = graph(dict.fromkeys("abcdj", same), "a -> b -> j", "a -> c -> d -> j")
    driver = Driver(plan).start().finish_named("a#1", "b#1")

    assert driver.run.explain("j") == "j: holds 'b -> j'; waits for 'd -> j': a token at c can still come by it"
