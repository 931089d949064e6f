"""The reference itself: cases worked out by hand, then agreement with itself over many schedules."""

import random
from collections.abc import Callable, Sequence
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings

from . import agreement
from .agreement import schedules, tally, timing_shows
from .compare import check, is_valid, promise
from .generate import ANY, RACY, random_spec, specs
from .interpreter import Interpreter, interpret
from .joining import Activation
from .outcome import Outcome
from .spec import END, STOP, Change, Choice, Condition, Edge, Fault, GraphSpec, Jump, Map, Node, Retry, Value
from .topology import Channel

ALWAYS = Condition("less", "x", 1_000)
NEVER = Condition("never")
TAG = Change("notes", Value("tag"))


def graph(*routes: str | Edge | Choice, nodes: Sequence[Node] = (), **options: Any) -> GraphSpec:
    """`"a -> b, c"` draws plain edges; nodes not given only note their activation; `a` is the entry."""
    drawn: list[Edge | Choice] = []
    for route in routes:
        if isinstance(route, str):
            source, targets = route.split(" -> ")
            drawn += [Edge(source, target) for target in targets.split(", ")]
        else:
            drawn.append(route)
    named = [name for r in drawn for name in ((r.source, r.target) if isinstance(r, Edge) else (r.node, *r.targets))]
    given = {node.name: node for node in nodes}
    names = [name for name in dict.fromkeys([*given, *named]) if name not in (END, STOP)]
    options = {"entries": ("a",), "initial": (("x", 0),), "reducers": (("notes", "append"),)} | options
    return GraphSpec(tuple(given.get(name, Node(name, (TAG,))) for name in names), tuple(drawn), **options)


def sets(name: str, key: str, value: int, **options: Any) -> Node:
    return Node(name, (Change(key, Value("const", c=value)),), **options)


def notes(outcome: Outcome, node: str) -> list[tuple[str, ...]]:
    """What each activation of a node found in `notes`, in order of their numbers."""
    found = sorted((number, dict(state)) for name, number, state in outcome.activations if name == node)
    return [state.get("notes", ()) for _, state in found]


def steady(spec: GraphSpec) -> Outcome:
    """The outcome, once it is clear that timing does not show in it."""
    assert is_valid(spec)
    assert not timing_shows(spec, 12)
    return interpret(spec)


# --- joining


def test_branches_of_different_length_join_once():
    outcome = steady(graph("a -> b, c", "b -> d", "c -> e", "e -> d"))

    assert notes(outcome, "d") == [("a#1", "b#1", "c#1", "e#1")]


def test_an_if_else_that_meets_again_does_not_wait_for_the_side_not_taken():
    outcome = steady(graph(Choice("a", ("b", "c"), "x", ("b", "c")), "b -> d", "c -> d"))

    assert notes(outcome, "d") == [("a#1", "b#1")]


def test_a_branch_that_went_elsewhere_neither_blocks_the_join_nor_fires_it_twice():
    outcome = steady(graph("a -> b, c", "b -> d", Choice("c", ("d", "e"), "x", ("e",))))

    assert notes(outcome, "d") == [("a#1", "b#1")]
    assert notes(outcome, "e") == [("a#1", "c#1")]


def test_the_head_of_a_loop_does_not_wait_for_its_own_back_edge():
    outcome = steady(graph("a -> b", Edge("b", "a", "when", ALWAYS, max_iterations=2), Edge("b", END, "otherwise")))

    assert notes(outcome, "a") == [(), ("a#1", "b#1"), ("a#1", "b#1", "a#2", "b#2")]


def test_a_branch_that_loops_is_waited_for_until_it_leaves_its_loop():
    again = Edge("b", "b", "when", ALWAYS, max_iterations=3)
    outcome = steady(graph("a -> c, b", again, Edge("b", "d", "otherwise"), "c -> d"))

    assert notes(outcome, "d") == [("a#1", "b#1", "b#2", "b#3", "b#4", "c#1")]


def test_an_unrelated_branch_is_never_waited_for():
    run = Interpreter(graph("a -> b, c, slow", "b -> d", "c -> d"), lambda n: 0)
    run.choose = lambda n: next(i for i, activation in enumerate(unfinished(run)) if activation.node != "slow")

    with pytest.raises(StopIteration):  # nothing but the slow one is left
        run.run()

    assert run.started["d"] == 1


def unfinished(run: Interpreter) -> list[Activation]:
    return [activation for activation in run.running if not activation.over]


def test_the_rounds_of_a_loop_through_a_join_never_mix():
    again = Edge("d", "a", "when", ALWAYS, max_iterations=2)
    outcome = steady(graph("a -> b, c", "b -> d", "c -> d", again, Edge("d", END, "otherwise")))

    first = ("a#1", "b#1", "c#1")
    assert notes(outcome, "d")[:2] == [first, (*first, "d#1", "a#2", "b#2", "c#2")]


def test_a_join_that_a_loop_only_feeds_pairs_tokens_by_edge_and_order():
    elsewhere_first = (Edge("c", "j", "when", Condition("mod", "x", 0, 2)), Edge("c", END, "otherwise"))
    counting = Node("a", (TAG, Change("x", Value("plus", "x", 1, 9))))
    again = Edge("a", "a", "when", Condition("less", "x", 2), max_iterations=5)
    outcome = steady(graph("a -> b, c", again, "b -> j", *elsewhere_first, nodes=[counting]))

    assert notes(outcome, "j") == [("a#1", "b#1", "a#2", "c#2"), ("a#1", "a#2", "b#2")]


@pytest.mark.parametrize(
    ("declared", "expected"),
    [
        ("ajk", {"j": [("a#1",)], "k": [("a#1", "j#1")]}),
        ("akj", {"k": [("a#1",), ("a#1", "j#1")], "j": [("a#1",)]}),
    ],
)
def test_of_joins_that_wait_only_for_one_another_the_first_declared_goes(declared, expected):
    back = (Edge("k", "j", "when", NEVER), Edge("k", END, "otherwise"))
    outcome = steady(graph("a -> j, k", "j -> k", *back, nodes=[Node(name, (TAG,)) for name in declared]))

    assert {name: notes(outcome, name) for name in expected} == expected


def test_a_first_join_runs_at_the_first_arrival_and_absorbs_the_rest():
    spec = graph("a -> b, c", "b -> d", "c -> d", nodes=[Node("d", (TAG,), join="first")])

    assert notes(interpret(spec, lambda n: 0), "d") == [("a#1", "b#1")]
    assert notes(interpret(spec, lambda n: n - 1), "d") == [("a#1", "c#1")]


def test_a_wave_that_can_get_no_more_has_starved():
    outcome = interpret(
        graph("a -> b", Choice("a", ("c", END), "x", (END,)), "b -> d", "c -> d", nodes=[Node("d", join=2)])
    )

    assert set(outcome.errors) == {("d", 1, 0, "JoinStarved")}


def test_an_any_join_runs_once_for_each_token():
    outcome = interpret(graph("a -> b, c", "b -> d", "c -> d", nodes=[Node("d", (TAG,), join="any")]))

    assert sorted(notes(outcome, "d")) == [("a#1", "b#1"), ("a#1", "c#1")]


# --- merging


def test_two_branches_that_return_whole_states_with_disjoint_edits_merge():
    nodes = [sets("b", "x", 1, form="whole"), sets("c", "y", 2, form="whole")]
    outcome = steady(graph("a -> b, c", "b -> d", "c -> d", nodes=nodes, initial=(("x", 0), ("y", 0))))

    assert outcome.state == {"x": 1, "y": 2, "notes": ["a#1", "d#1"]}


def test_concurrent_writes_of_different_values_conflict_at_the_join():
    outcome = steady(graph("a -> b, c", "b -> d", "c -> d", nodes=[sets("b", "x", 1), sets("c", "x", 2)]))

    assert set(outcome.errors) == {("d", 1, 0, "MergeConflict")}
    assert not notes(outcome, "d")


def test_the_final_merge_conflicts_at_the_end():
    outcome = steady(graph("a -> b, c", nodes=[sets("b", "x", 1), sets("c", "x", 2)]))

    assert set(outcome.errors) == {(END, 0, 0, "MergeConflict")}


@pytest.mark.parametrize(("second", "expected"), [(2, 2), (0, 1)])
def test_with_conflicts_last_the_last_edge_that_carries_a_live_write_wins(second, expected):
    nodes = [sets("b", "x", 1), sets("c", "x", second)]  # setting x to the 0 that it was is no change
    outcome = steady(graph("a -> b, c", "b -> d", "c -> d", nodes=nodes, conflicts="last"))

    assert (outcome.state or {})["x"] == expected


def test_a_write_that_had_seen_another_wins_over_it():
    outcome = steady(graph("a -> b, c", "c -> d", "b -> d", nodes=[sets("a", "x", 1), sets("b", "x", 2)]))

    assert (outcome.state or {})["x"] == 2


def test_equal_values_of_different_types_conflict():
    nodes = [sets("b", "x", 1), Node("c", (Change("x", Value("tag")),))]
    outcome = steady(graph("a -> b, c", nodes=nodes, initial=()))

    assert set(outcome.errors) == {(END, 0, 0, "MergeConflict")}


def test_contributions_are_folded_once_each_in_the_order_of_edges():
    plus = {name: Node(name, (Change("n", Value("const", c=c)),)) for name, c in {"b": 1, "c": 5, "d": 0}.items()}
    outcome = steady(
        graph(
            "a -> b, c",
            "c -> d",
            "b -> d",
            nodes=[*plus.values()],
            initial=(("n", 3),),
            reducers=(("n", "twice"),),
        )
    )

    # n starts at 3; at d comes c's 5, then b's 1, as the edges are declared; d adds its own 0
    assert (outcome.state or {})["n"] == 2 * (2 * (2 * 3 + 5) + 1) + 0


def test_a_replace_overrides_what_it_had_seen_and_parallel_contributions_come_after_it():
    replacing = Node("c", (Change("notes", Value("tags", "x"), replace=True),))
    outcome = steady(graph("a -> b, c", "b -> d", "c -> d", nodes=[replacing]))

    assert notes(outcome, "d") == [("c#1", 0, "b#1")]


def test_two_parallel_replaces_with_different_values_conflict():
    nodes = [Node(name, (Change("notes", Value("tags", "x"), replace=True),)) for name in "bc"]
    outcome = steady(graph("a -> b, c", "b -> d", "c -> d", nodes=nodes))

    assert set(outcome.errors) == {("d", 1, 0, "MergeConflict")}


# --- routing and loops


@pytest.mark.parametrize("limit", [1, 2, 5])
def test_a_limit_of_n_lets_exactly_n_through(limit):
    again = Edge("b", "a", "when", ALWAYS, max_iterations=limit)
    outcome = steady(graph("a -> b", again, Edge("b", END, "otherwise")))

    assert len(notes(outcome, "b")) == limit + 1
    assert ("b", limit + 1, limit + 1) in (outcome.iterations or {})


def test_an_inner_loop_counts_anew_each_time_it_is_entered():
    inner = (Edge("b", "b", "when", ALWAYS, max_iterations=2), Edge("b", "c", "otherwise"))
    outer = (Edge("c", "a", "when", ALWAYS, max_iterations=1), Edge("c", END, "otherwise"))
    outcome = steady(graph("a -> b", *inner, *outer))

    assert [len(notes(outcome, name)) for name in "abc"] == [2, 6, 2]


def test_a_loop_without_a_limit_fails_at_the_limit_of_the_graph():
    outcome = steady(graph("a -> b", Edge("b", "a", "when", ALWAYS), Edge("b", END, "otherwise"), max_iterations=4))

    assert set(outcome.errors) == {("b", 5, 1, "LoopLimit")}


def test_nothing_chosen_where_edges_exist_is_no_route():
    outcome = steady(graph(Edge("a", "b", "when", NEVER)))

    assert set(outcome.errors) == {("a", 1, 1, "NoRoute")}


def test_a_goto_replaces_the_edges_of_its_activation():
    outcome = steady(graph("a -> b", "b -> c", nodes=[Node("a", goto=("c",), jump=Jump(ALWAYS, ("c",)))]))

    assert not notes(outcome, "b")
    assert len(notes(outcome, "c")) == 1


def test_a_token_that_reaches_stop_ends_the_run_with_its_state():
    outcome = interpret(graph("a -> b, c", f"b -> {STOP}", "c -> d"))

    assert outcome.status == "succeeded"
    assert outcome.state == {"x": 0, "notes": ["a#1", "b#1"]}


# --- failures and maps


def test_an_error_edge_carries_the_state_from_before_the_node():
    failing = Node("b", (TAG,), faults=(Fault(None, ("KeyError",) * 9),), retry=(Retry(3),))
    wrong, right = (
        Edge("b", "c", "error", on_error="ValueError"),
        Edge("b", "d", "error", on_error="LookupError"),
    )
    outcome = steady(graph("a -> b", "b -> e", wrong, right, nodes=[failing]))

    assert notes(outcome, "d") == [("a#1",)]
    assert not notes(outcome, "c") + notes(outcome, "e")
    assert outcome.status == "succeeded"


def test_retries_are_attempts_of_the_same_activation():
    failing = Node("b", (TAG,), faults=(Fault(1, ("KeyError", "ValueError")),), retry=(Retry(2, "KeyError"), Retry(3)))
    outcome = steady(graph("a -> b", nodes=[failing]))

    assert outcome.state == {"x": 0, "notes": ["a#1", "b#1"]}


def test_on_failure_continue_reports_every_failure_and_fails_joins_that_lack_a_failed_branch():
    failing = [Node(name, faults=(Fault(1, ("ValueError",)),)) for name in "bc"]
    routes = ("a -> b, c, d", "b -> e", "d -> e", "d -> f")
    outcome = steady(graph(*routes, nodes=failing, on_failure="continue"))

    failed = {("b", 1, 1, "ValueError"), ("c", 1, 1, "ValueError"), ("e", 1, 0, "JoinLacksFailed")}
    assert set(outcome.errors) == failed
    assert len(notes(outcome, "f")) == 1


@pytest.mark.parametrize(
    ("policy", "got"), [("skip", [4, 8]), ("keep", [4, ("ItemError", 1, "ValueError"), 8]), ("fail", None)]
)
def test_a_map_gives_its_results_in_the_order_of_the_items(policy, got):
    rows = ((0, 2), (1, 3), (2, 4))
    mapping = Node("b", map=Map("got", over="rows", bad=0, on_item_error=policy))
    outcome = steady(graph("a -> b", nodes=[mapping], initial=(("rows", rows),)))

    assert (outcome.state or {}).get("got") == got
    assert set(outcome.errors) == (set() if got else {("b", 1, 1, "ValueError")})


# --- random graphs


@pytest.mark.parametrize("block", range(2))
def test_a_thousand_random_graphs_run_the_same_under_eight_schedules(block):
    result = tally(range(block * 500, block * 500 + 500))

    assert not result.unsteady, "\n\n".join(result.unsteady)
    common = ("join of several", "knot", "limit hit", "conflict", "join again", "schedules really differed")
    rare = ("error edge", "goto", "replace", "failed: JoinLacksFailed", "has nested loops", "has map")
    assert {fact: result.facts[fact] for fact in common if result.facts[fact] < 50} == {}
    assert {fact: result.facts[fact] for fact in rare if result.facts[fact] < 20} == {}


def test_random_graphs_with_any_joins_run_the_same_but_for_numbers_and_order():
    result = tally(range(200), ANY)

    assert not result.unsteady, "\n\n".join(result.unsteady)


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large])
@given(specs())
def test_graphs_drawn_by_hypothesis_are_valid_and_steady(spec):
    assert is_valid(spec)
    assert not timing_shows(spec, 3)


@pytest.mark.parametrize("profile", [ANY, RACY])
def test_every_random_graph_is_valid(profile):
    assert all(is_valid(random_spec(seed)) and is_valid(random_spec(seed, profile)) for seed in range(300))


# --- would we notice? Each rule is broken in turn.


class WithoutOrder(Interpreter):
    def finish(self, activation: Activation) -> None:
        activation.over = True
        self.settle(activation)
        self.running.remove(activation)


class WithoutSuccessors(Interpreter):
    def may_come(self, edge: Channel, nodes: Sequence[str]) -> bool:
        return super().may_come(edge, [node for node in nodes if node != edge.target])


@pytest.mark.parametrize("broken", [WithoutOrder, WithoutSuccessors])
def test_a_rule_left_out_shows_as_timing(broken, monkeypatch):
    monkeypatch.setattr(agreement, "interpret", runner_of(broken))

    assert any(promise(spec) == "exact" and timing_shows(spec) for spec in map(random_spec, range(600)))


def runner_of(kind: type[Interpreter]) -> Callable[..., Outcome]:
    return lambda spec, choose=None: kind(spec, choose or (lambda _: 0)).run()


class MergingBackwards(Interpreter):
    def start(self, name: str, tokens: Any, fault: str | None = None) -> None:
        super().start(name, list(reversed(tokens)), fault)


class ForgettingFailures(Interpreter):
    def fail(self, node: str, number: int, attempts: int, cause: str) -> None:
        super().fail(node, number, attempts, cause)
        self.failed.clear()


@pytest.mark.parametrize("broken", [WithoutOrder, WithoutSuccessors, MergingBackwards, ForgettingFailures])
def test_an_engine_that_breaks_a_rule_is_told_with_a_small_graph(broken):
    def run(spec: GraphSpec, seed: int) -> Outcome:
        return broken(spec, random.Random(seed).randrange).run()

    def check_many() -> None:
        for seed in range(2_000):
            check(random_spec(seed), run, seed)

    with pytest.raises(AssertionError, match="disagree") as told:
        check_many()
    assert str(told.value).count("node Node(") <= 7


def test_an_engine_that_keeps_the_rules_is_left_alone():
    def run(spec: GraphSpec, seed: int) -> Outcome:
        return interpret(spec, random.Random(seed).randrange)

    for seed in range(100):
        check(random_spec(seed), run, seed)
        check(random_spec(seed, ANY), run, seed)
        check(random_spec(seed, RACY), run, seed)


def test_schedules_are_not_all_the_same():
    spec = graph("a -> b, c, d", "b -> e", "c -> f")

    assert len({tuple(outcome.routes or ()) for outcome in schedules(spec)}) > 1
