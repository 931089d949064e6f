"""SEMANTICS section 3 through the engine: what nodes are given, what they return, what becomes of it at joins."""

from __future__ import annotations

import operator
import threading
from typing import Annotated, Any, NotRequired, TypedDict

import anyio
import pytest
from attrs import define, evolve, frozen

from engine import (
    Engine,
    Graph,
    GraphInvalid,
    MergeConflict,
    Reduce,
    Replace,
    StateInvalid,
    StateMutated,
    UnknownKey,
)
from tests.semantics.engine_cases import ended, failing, failure_of, graph, result_of, same, sets, sleeps


class Typed(TypedDict):
    text: str
    score: NotRequired[float]
    notes: Annotated[list[str], operator.add]


@frozen
class Frozen:
    text: str
    score: float = 0.0
    notes: Annotated[list[str], Reduce(operator.add)] = []  # noqa: RUF008  # nobody changes it in place


@define
class Mutable:
    text: str
    score: float = 0.0


# --- state types and their boundary ---------------------------------------------------------------------


@pytest.mark.parametrize(
    ("kind", "state"),
    [
        (dict, {"text": "hi", "notes": []}),
        (Typed, {"text": "hi", "notes": []}),
        (Frozen, Frozen("hi")),
        (Mutable, Mutable("hi")),
    ],
)
async def test_the_state_is_a_dict_a_typed_dict_or_an_attrs_class(kind: Any, state: Any) -> None:
    seen = []

    async def node(given: Any) -> dict[str, float]:
        seen.append(given)
        return {"score": 1.5}

    result = await result_of(graph({"node": node, "end": same}, "node -> end", state=kind), state)

    assert type(seen[0]) is type(state)
    assert seen[0] == state
    final = result.state
    assert type(final) is type(state)
    assert (final["score"] if isinstance(final, dict) else final.score) == 1.5


@pytest.mark.parametrize("kind", [Typed, Frozen])
async def test_an_unknown_key_in_an_update_is_unknown_key_naming_node_and_key(kind: Any) -> None:
    state = Frozen("hi") if kind is Frozen else {"text": "hi", "notes": []}

    failure = await failure_of(graph({"odd": sets(txet="x")}, state=kind), state)

    assert isinstance(failure.cause, UnknownKey)
    assert (failure.node, failure.cause.key) == ("odd", "txet")


@pytest.mark.parametrize(
    ("state", "path"),
    [({"notes": []}, ("text",)), ({"text": 3, "notes": []}, ("text",)), ({"text": "", "notes": [1]}, ("notes", 0))],
)
async def test_a_wrong_or_missing_value_at_the_boundary_is_refused_with_its_path(state: Any, path: Any) -> None:
    async with Engine() as engine:
        with pytest.raises(StateInvalid) as refused:
            await engine.submit(graph({"a": same}, state=Typed), state)

        assert refused.value.path == path
        assert await engine.runs() == []


async def test_check_always_checks_the_types_of_every_update() -> None:
    def made(check: Any) -> Graph:
        return graph({"odd": sets(score="high")}, state=Typed, check=check)

    state = {"text": "", "notes": []}
    failure = await failure_of(made("always"), state)

    assert isinstance(failure.cause, StateInvalid)
    assert failure.cause.path == ("score",)
    assert (await result_of(made("boundary"), state)).state["score"] == "high"


async def test_a_node_may_declare_a_narrower_input() -> None:
    @frozen
    class View:
        text: str

    seen = []

    async def node(view: View) -> dict[str, float]:
        seen.append(view)
        return {"score": 2.0}

    result = await result_of(graph({"node": node}, state=Frozen), Frozen("hi"))

    assert seen == [View("hi")]
    assert result.state == Frozen("hi", 2.0)


async def test_what_an_edge_cannot_type_is_refused_when_the_graph_is_compiled() -> None:
    @frozen
    class View:
        text: int

    async def node(view: View) -> None: ...

    async with Engine() as engine:
        with pytest.raises(GraphInvalid) as refused:
            await engine.submit(graph({"node": node}, state=Frozen), Frozen("hi"))

    assert [problem.code for problem in refused.value.problems] == ["type_mismatch"]


# --- what a node returns --------------------------------------------------------------------------------


async def test_a_dict_changed_and_not_returned_is_an_update() -> None:
    async def node(state: dict[str, Any]) -> None:
        state["x"] = 1

    assert (await result_of(graph({"node": node}), {"x": 0, "y": 0})).state == {"x": 1, "y": 0}


async def test_a_dict_changed_and_another_mapping_returned_both_count_the_returned_one_last() -> None:
    async def node(state: dict[str, Any]) -> dict[str, int]:
        state.update(x=1, y=1)
        return {"y": 2}

    assert (await result_of(graph({"node": node}), {})).state == {"x": 1, "y": 2}


async def test_a_whole_state_changes_the_fields_that_differ() -> None:
    async def node(state: Frozen) -> Frozen:
        return evolve(state, score=3.0)

    assert (await result_of(graph({"node": node}, state=Frozen), Frozen("hi"))).state == Frozen("hi", 3.0)


async def test_a_mutable_attrs_state_changed_and_returned_is_an_update() -> None:
    async def node(state: Mutable) -> Mutable:
        state.score = 3.0
        return state

    assert (await result_of(graph({"node": node}, state=Mutable), Mutable("hi"))).state == Mutable("hi", 3.0)


async def test_none_changes_nothing() -> None:
    assert (await result_of(graph({"node": same}), {"x": 1})).state == {"x": 1}


async def test_keys_cannot_be_removed() -> None:
    async def node(state: dict[str, Any]) -> None:
        del state["x"]

    assert isinstance((await failure_of(graph({"node": node}), {"x": 1})).cause, StateInvalid)


async def test_what_is_no_state_and_no_mapping_is_refused() -> None:
    async def node(state: Any) -> int:
        return 7

    assert isinstance((await failure_of(graph({"node": node}), {})).cause, StateInvalid)


# --- isolation ------------------------------------------------------------------------------------------


async def test_each_activation_has_its_own_top_level() -> None:
    async def node(state: dict[str, Any]) -> None:
        state["mine"] = state.get("mine", 0) + 1
        await anyio.sleep(1)

    async def other(state: dict[str, Any]) -> None:
        await anyio.sleep(0.5)
        assert "mine" not in state

    assert (await result_of(graph({"start": same, "a": node, "b": other}, "start -> a, b"))).state == {"mine": 1}


async def test_the_submitters_own_state_is_not_changed() -> None:
    mine: dict[str, Any] = {"x": 0}

    async def node(state: dict[str, Any]) -> None:
        state["x"] = 1

    await result_of(graph({"node": node}), mine)

    assert mine == {"x": 0}


async def test_a_shared_value_changed_in_place_is_caught_with_isolation_check() -> None:
    async def node(state: dict[str, Any]) -> None:
        state["rows"].append(3)

    failure = await failure_of(graph({"start": same, "odd": node}, "start -> odd", isolation="check"), {"rows": [1]})

    assert isinstance(failure.cause, StateMutated)
    assert (failure.cause.node, failure.cause.key) == ("odd", "rows")


@pytest.mark.parametrize(
    "reducer",
    [lambda value, new: value.extend(new) or value, lambda value, new: new.insert(0, value[0]) or new],
    ids=["the value", "the contribution"],
)
@pytest.mark.parametrize("edges", ["a -> b", "a -> b, c -> d"])
async def test_a_reducer_that_changes_what_it_is_given_is_caught_with_isolation_check(reducer: Any, edges: str) -> None:
    nodes = {name: sets(notes=[name]) for name in "abcd" if name in edges}

    failure = await failure_of(graph(nodes, edges, reducers={"notes": reducer}, isolation="check"), {"notes": ["0"]})

    assert isinstance(failure.cause, StateMutated)
    assert (failure.cause.node, failure.cause.key) == (None, "notes")
    assert "the reducer of 'notes'" in str(failure)


async def test_a_reducer_that_changes_nothing_is_not_caught() -> None:
    nodes = {name: sets(notes=[name]) for name in "abcd"}
    made = graph(nodes, "a -> b, c -> d", reducers={"notes": operator.add}, isolation="check")

    assert (await result_of(made, {"notes": []})).state == {"notes": ["a", "b", "c", "d"]}


@pytest.mark.parametrize("reducers", [None, {"notes": operator.add}])
async def test_a_subgraph_has_the_same_reducer_under_isolation_check_inherited_or_named(reducers: Any) -> None:
    inner = Graph("inner", isolation="check", reducers=reducers or {})
    inner.add_node("x", sets(notes=["x"])).set_entry_point("x")
    made = graph({"a": sets(notes=["a"])}, reducers={"notes": operator.add}, isolation="check")
    made.add_node("sub", inner).add_edge("a", "sub")

    assert (await result_of(made, {"notes": ["0"]})).state == {"notes": ["0", "a", "x"]}


@pytest.mark.only_on("none", reason="a store refuses a lock where it is submitted")
@pytest.mark.parametrize("isolation", ["deep", "check"])
async def test_a_value_that_cannot_be_copied_is_said_to_stay_shared_once(
    isolation: Any, caplog: pytest.LogCaptureFixture
) -> None:
    made = graph({name: sets(**{name: 1}) for name in "abc"}, "a -> b, c", isolation=isolation)
    async with Engine() as engine:
        for _ in range(2):
            await engine.run(made, {"lock": threading.Lock(), "rows": [1]})

    (line,) = [record for record in caplog.records if record.levelname == "WARNING"]
    assert (line.graph, line.node, line.key) == ("test", "a", "lock")  # type: ignore[attr-defined]
    said = f"isolation='{isolation}' of graph 'test': what key 'lock' holds (lock) cannot be copied and stays shared"
    assert line.getMessage().startswith(said)


async def test_isolation_deep_copies_values_for_each_activation() -> None:
    async def node(state: dict[str, Any]) -> None:
        state["rows"].append(3)

    async def look(state: dict[str, Any]) -> dict[str, Any]:
        await anyio.sleep(1)
        return {"seen": list(state["rows"])}

    made = graph({"start": same, "odd": node, "look": look}, "start -> odd, look", isolation="deep")

    assert (await result_of(made, {"rows": [1]})).state["seen"] == [1]


# --- reducers -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", [Typed, Frozen])
async def test_a_key_with_a_reducer_gets_contributions(kind: Any) -> None:
    state = Frozen("hi", notes=["0"]) if kind is Frozen else {"text": "hi", "notes": ["0"]}

    made = graph({"a": sets(notes=["a"]), "b": sets(notes=["b"])}, "a -> b", state=kind)

    final = (await result_of(made, state)).state

    assert (final["notes"] if isinstance(final, dict) else final.notes) == ["0", "a", "b"]


async def test_replace_sets_the_key_instead() -> None:
    nodes = {"a": sets(notes=["a"]), "b": sets(notes=Replace(["b"]))}

    assert (await result_of(graph(nodes, "a -> b", reducers={"notes": operator.add}))).state == {"notes": ["b"]}


async def test_a_list_passed_on_unchanged_is_not_doubled_and_numbers_always_contribute() -> None:
    async def node(state: dict[str, Any]) -> dict[str, Any]:
        return {**state, "x": 1}

    made = graph({"node": node}, reducers={"notes": operator.add, "total": operator.add})

    assert (await result_of(made, {"notes": ["n"], "total": 2})).state == {"notes": ["n"], "total": 4, "x": 1}


async def test_in_a_whole_state_a_reducer_key_that_differs_counts_as_a_replace() -> None:
    async def node(state: Frozen) -> Frozen:
        return evolve(state, notes=["new"])

    assert (await result_of(graph({"n": node}, state=Frozen), Frozen("", notes=["old"]))).state.notes == ["new"]


async def test_with_no_value_yet_the_first_contribution_becomes_the_value() -> None:
    made = graph({"a": sets(total=3), "b": sets(total=4)}, "a -> b", reducers={"total": operator.add})

    assert (await result_of(made)).state == {"total": 7}


# --- merging branches -----------------------------------------------------------------------------------


async def test_two_branches_that_each_return_the_whole_state_with_disjoint_edits_merge() -> None:
    def edit(key: str, seconds: float) -> Any:
        async def node(state: dict[str, Any]) -> dict[str, Any]:
            await anyio.sleep(seconds)
            return {**state, key: "new"}

        return node

    for first, second in [(0.1, 0.2), (0.2, 0.1)]:
        made = graph({"s": same, "a": edit("x", first), "b": edit("y", second), "j": same}, "s -> a, b -> j")

        assert (await result_of(made, {"x": "old", "y": "old", "z": "old"})).state == {
            "x": "new",
            "y": "new",
            "z": "old",
        }


async def test_two_branches_that_each_return_a_whole_attrs_state_with_disjoint_edits_merge() -> None:
    async def a(state: Frozen) -> Frozen:
        return evolve(state, text="a")

    async def b(state: Frozen) -> Frozen:
        return evolve(state, score=1.0)

    made = graph({"s": same, "a": a, "b": b, "j": same}, "s -> a, b -> j", state=Frozen)

    assert (await result_of(made, Frozen(""))).state == Frozen("a", 1.0)


async def test_a_conflict_names_the_key_both_nodes_both_values_and_the_join() -> None:
    for first, second in [(0.1, 0.2), (0.2, 0.1)]:
        nodes = {"s": same, "a": sleeps(first, x=1), "b": sleeps(second, x=2), "join": same}

        failure = await failure_of(graph(nodes, "s -> a, b -> join"), {"x": 0})

        conflict = failure.cause
        assert isinstance(conflict, MergeConflict)
        assert (failure.node, conflict.join, conflict.key) == ("join", "join", "x")
        assert (conflict.nodes, conflict.values) == (("a", "b"), (1, 2))
        for part in ("'x'", "'a' (1)", "'b' (2)", "'join'"):
            assert part in str(conflict)


async def test_a_conflict_at_the_end_names_end() -> None:
    failure = await failure_of(graph({"s": same, "a": sets(x=1), "b": sets(x=2)}, "s -> a, b"))

    assert isinstance(failure.cause, MergeConflict)
    assert (failure.node, failure.cause.join) == ("END", "END")


async def test_equal_values_are_no_conflict() -> None:
    made = graph({"s": same, "a": sets(x=[1]), "b": sets(x=[1]), "j": same}, "s -> a, b -> j")

    assert (await result_of(made)).state == {"x": [1]}


async def test_a_write_that_another_branch_had_seen_and_built_on_is_not_concurrent() -> None:
    async def add(state: dict[str, int]) -> dict[str, int]:
        return {"x": state["x"] + 1}

    # `b` hands what it wrote to `c` and to the join; `c` builds on it.
    made = graph({"s": sets(x=1), "b": add, "c": add, "j": same}, "s -> b -> c -> j", "s -> j", "b -> j")

    assert (await result_of(made)).state == {"x": 3}


async def test_contributions_come_in_the_order_of_the_joins_edges_whatever_came_first() -> None:
    for seconds in [(0.1, 0.2, 0.3), (0.3, 0.2, 0.1)]:
        branches = {name: sleeps(s, notes=[name]) for name, s in zip("abc", seconds, strict=True)}
        made = graph({"s": sets(notes=["s"]), **branches, "j": sets(notes=["j"])}, reducers={"notes": operator.add})
        made.add_edge("s", ["a", "b", "c"]).add_edge(["c", "a", "b"], "j")

        assert (await result_of(made)).state == {"notes": ["s", "c", "a", "b", "j"]}


async def test_a_reducer_need_not_be_associative_and_counts_each_contribution_once() -> None:
    def twice(value: int, new: int) -> int:
        return 2 * value + new

    for seconds in [(0.1, 0.2), (0.2, 0.1)]:
        nodes = {"s": sets(t=1), "a": sleeps(seconds[0], t=10), "b": sleeps(seconds[1], t=100), "j": sets(t=1000)}
        made = graph(nodes, "s -> a, b -> j", "s -> j", reducers={"t": twice})

        assert (await result_of(made)).state == {"t": 2 * (2 * (2 * 1 + 10) + 100) + 1000}


async def test_parallel_contributions_are_applied_after_a_replace() -> None:
    made = graph(
        {"s": sets(n=["s"]), "a": sets(n=["a"]), "b": sets(n=Replace(["b"])), "j": same},
        "s -> a, b -> j",
        reducers={"n": operator.add},
    )

    assert (await result_of(made)).state == {"n": ["b", "a"]}


async def test_two_parallel_replaces_with_different_values_conflict() -> None:
    nodes = {"s": same, "a": sets(n=Replace([1])), "b": sets(n=Replace([2])), "j": same}

    failure = await failure_of(graph(nodes, "s -> a, b -> j", reducers={"n": operator.add}))

    assert isinstance(failure.cause, MergeConflict)


async def test_conflicts_last_takes_the_last_edge_with_a_live_write() -> None:
    for seconds in [(0.1, 0.2), (0.2, 0.1)]:
        nodes = {"s": same, "a": sleeps(seconds[0], x=1), "b": sleeps(seconds[1], x=2), "c": same, "j": same}

        made = graph(nodes, "s -> a, b, c -> j", conflicts="last")

        assert (await result_of(made, {"x": 0})).state == {"x": 2}


async def test_ended_tokens_merge_in_the_order_of_their_nodes_whatever_ended_first() -> None:
    nodes = {"s": same, "b": sleeps(0.1, n=["b"]), "a": sleeps(0.3, n=["a"]), "c": sleeps(0.2, n=["c"])}

    assert (await result_of(graph(nodes, "s -> a, b, c", reducers={"n": operator.add}))).state == {"n": ["b", "a", "c"]}


@pytest.mark.only_on("none", reason="a store refuses such a value where it is returned")
async def test_a_comparison_that_raises_means_different() -> None:
    class Odd:
        def __eq__(self, other: object) -> bool:
            raise TypeError("not comparable")

        __hash__ = None  # type: ignore[assignment]

    run = await ended(graph({"s": same, "a": sets(x=Odd()), "b": sets(x=Odd()), "j": same}, "s -> a, b -> j"))

    with failing() as failed:
        await run.result()
    assert [type(failure.cause) for failure in failed] == [MergeConflict]


async def test_a_reducer_that_raises_fails_the_node_by_name() -> None:
    made = graph({"a": sets(n=[1]), "b": sets(n=3)}, "a -> b", reducers={"n": operator.add})

    failure = await failure_of(made)

    assert (failure.node, type(failure.cause)) == ("b", TypeError)
