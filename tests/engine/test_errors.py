"""Errors tell what, where and what to do; they keep their facts, through pickling too."""

import copy
import pickle
from typing import Any

import pytest

from engine import errors
from engine.errors import (
    EngineError,
    GraphInvalid,
    GraphProblem,
    LoopLimit,
    MergeConflict,
    NodeFailed,
    NodeTimeout,
    NoRoute,
    RunFailed,
    RunTimeout,
    StateFault,
    StateInvalid,
    UnknownKey,
    UnknownRoute,
)

PUBLIC = [
    *("GraphInvalid", "GraphProblem", "StateInvalid", "UnknownKey", "StateMutated", "MergeConflict", "NoRoute"),
    *("UnknownRoute", "LoopLimit", "ActivationLimit", "JoinStarved", "NodeTimeout", "RunTimeout", "PoisonRun"),
    *("UnknownSignal", "RunEnded", "HistoryGone", "NodeFailed", "RunFailed", "RunCancelled", "RunNotFound"),
    *("EngineBusy", "EngineClosed", "StoreUnavailable", "VersionMismatch", "NotStorable", "Damaged", "ClassChanged"),
    *("ConditionInvalid", "ConditionFailed"),
    *("ToolInvalid", "ToolConflict", "UnknownTool", "BadArguments", "ToolsNotLoaded"),
]

EXAMPLES: list[EngineError] = [
    GraphProblem("unknown_node", "a -> b", "there is no node 'b'", "did you mean 'bb'?"),
    StateInvalid.of("the initial state", [StateFault(("rows", 3, "score"), "expected int, found 'x' (str)")]),
    UnknownKey.of("the update", [StateFault(("scor",), "no such key")], node="grade"),
    errors.StateMutated("grade", "rows"),
    MergeConflict("x", ["a", "b"], [1, 2], "END"),
    NoRoute("a", ["a -> b"]),
    UnknownRoute("a", "x", ["b"]),
    errors.ConditionInvalid(
        "state.a <", [errors.ConditionFault("bad_condition", 10, "something is missing", "end it")]
    ),
    errors.ConditionFailed("state.a < 1", 7, "`state` has no 'a'"),
    LoopLimit("a", "a -> b", 5),
    errors.ActivationLimit(10, "a"),
    errors.JoinStarved("j", 2, ["a"], ["b"]),
    NodeTimeout("a", 5),
    RunTimeout("r", 5),
    errors.PoisonRun("r", 100, ["host:7", "host:9"]),
    NodeFailed("a", 2, 3, ValueError("no")),
    errors.RunCancelled("r", "enough"),
    errors.RunNotFound("r"),
    errors.RunEnded("r", "succeeded"),
    errors.UnknownSignal("s", ["t"]),
    errors.HistoryGone(1, 5),
    errors.VersionMismatch("g", "1", "2"),
    errors.EngineBusy(retry_after=2),
    errors.EngineClosed(),
    errors.StoreUnavailable("no disk", facts={"path": "runs.db"}),
    errors.NotStorable("a socket", "rows[3].handle", "return plain data", "node 'a'"),
    errors.Damaged("stored data is no JSON"),
    errors.ClassChanged("m:C", "a stored m:C has a field 'x', which the class has no more"),
    errors.ToolInvalid("tool 'f' is a generator: return the result instead of yielding"),
    errors.ToolConflict("f", "1", ["m.f (m.py:1)", "n.f (n.py:1)"]),
    errors.UnknownTool("f", "3", ["1", "2"]),
    errors.BadArguments("f@1", ["needs its parameter 'x'", "takes no parameter 'y'"]),
    errors.ToolsNotLoaded("m:f", "there is no module 'm'"),
]


@pytest.mark.parametrize("name", PUBLIC)
def test_every_error_of_the_public_face_is_an_engine_error(name: str) -> None:
    assert issubclass(getattr(errors, name), EngineError)


@pytest.mark.parametrize("error", EXAMPLES, ids=lambda e: type(e).__name__)
def test_an_error_keeps_its_facts_and_text_when_pickled(error: EngineError) -> None:
    again = pickle.loads(pickle.dumps(error))

    assert type(again) is type(error)
    assert str(again) == str(error)
    assert vars(again) == vars(error)


@pytest.mark.parametrize("error", EXAMPLES, ids=lambda e: type(e).__name__)
def test_a_message_is_lower_case_without_a_full_stop(error: EngineError) -> None:
    assert str(error)[0].islower()
    assert not str(error).endswith(".")


def test_every_error_of_the_public_face_has_an_example_here() -> None:
    groups = {"GraphInvalid", "RunFailed"}

    assert {type(error).__name__ for error in EXAMPLES} == set(PUBLIC) - groups


def test_a_node_failure_keeps_its_cause_when_pickled() -> None:
    again = pickle.loads(pickle.dumps(NodeFailed("a", 2, 3, ValueError("no"))))

    assert (again.node, again.activation, again.attempts) == ("a", 2, 3)
    assert isinstance(again.cause, ValueError)
    assert again.__cause__ is again.cause


def test_a_failed_run_is_a_group_of_every_failure() -> None:
    failures = [NodeFailed("a", 1, 1, ValueError("x")), NodeFailed("b", 1, 1, KeyError("y"))]
    failed = RunFailed.of("r1", "review", failures)

    assert isinstance(failed, ExceptionGroup)
    assert isinstance(failed, EngineError)
    assert failed.failures == tuple(failures)
    assert "a#1" in str(failed)


def test_a_failed_run_keeps_its_facts_when_pickled_copied_and_split() -> None:
    failed = RunFailed.of("r1", "review", [NodeFailed("a", 1, 1, ValueError("x"))])

    for again in (pickle.loads(pickle.dumps(failed)), copy.copy(failed), failed.subgroup(NodeFailed)):
        assert isinstance(again, RunFailed)
        assert (again.run_id, again.graph) == ("r1", "review")
        assert again.failures[0].node == "a"


def test_the_failures_of_a_run_can_be_caught_one_by_one() -> None:
    caught: list[Any] = []
    try:
        raise RunFailed.of("r1", "review", [NodeFailed("a", 1, 1, ValueError("x"))])
    except* NodeFailed as group:
        caught.extend(group.exceptions)

    assert [error.node for error in caught] == ["a"]


def test_an_invalid_graph_is_a_group_of_its_problems() -> None:
    problems = [GraphProblem("unknown_node", "a -> b", "m", "h"), GraphProblem("no_exit", "c", "m")]
    invalid = GraphInvalid.of("review", problems)

    assert invalid.problems == tuple(problems)
    assert "unknown_node at a -> b; no_exit at c" in str(invalid)
    assert pickle.loads(pickle.dumps(invalid)).problems == tuple(problems)


def test_an_invalid_graph_with_very_many_problems_has_a_short_message() -> None:
    invalid = GraphInvalid.of("review", [GraphProblem("unreachable", f"n{i}", "m") for i in range(100)])

    assert "and 95 more" in str(invalid)
    assert len(invalid.problems) == 100


def test_time_outs_can_be_caught_as_what_python_calls_them() -> None:
    assert isinstance(NodeTimeout("a", 5), TimeoutError)
    assert isinstance(RunTimeout("r", 5), TimeoutError)


def test_a_state_fault_has_its_place_as_a_path_and_as_a_pointer() -> None:
    error = StateInvalid.of("the initial state", [StateFault(("a/b", 3, "x~y"), "missing")])

    assert error.path == ("a/b", 3, "x~y")
    assert error.faults[0].pointer == "/a~1b/3/x~0y"


def test_a_merge_conflict_names_the_key_the_nodes_the_values_and_the_join() -> None:
    text = str(MergeConflict("score", ["grade", "spell"], [1, "x" * 500], "decide"))

    assert all(word in text for word in ("score", "grade", "spell", "1", "decide"))
    assert len(text) < 400


def test_a_merge_conflict_shows_values_whose_repr_fails() -> None:
    class Rude:
        def __repr__(self) -> str:
            raise RuntimeError

    assert "Rude" in str(MergeConflict("x", ["a", "b"], [Rude(), 1], "END"))


def test_the_stand_in_for_an_error_has_its_name_and_says_what_it_said() -> None:
    error = errors.RecordedError.of("shop.orders:Sold.Out", "nothing left")
    error.__cause__ = KeyError("x")

    for one in (error, pickle.loads(pickle.dumps(error))):
        assert isinstance(one, errors.RecordedError)
        assert (type(one).__module__, type(one).__qualname__, type(one).__name__) == ("shop.orders", "Sold.Out", "Out")
        assert (str(one), one.type_name) == ("nothing left", "shop.orders:Sold.Out")
        assert isinstance(one.__cause__, KeyError)


def test_a_fault_of_a_condition_is_pointed_at_on_one_line_however_long_the_text_is() -> None:
    text = "state.a < 1\nand " * 50 + "state.b"

    error = errors.ConditionFailed(text, len(text), "`state` has no 'b'")

    line, caret = error.__notes__[0].splitlines()
    assert line[len(caret) - 1 :] == "b"
    assert len(line) < 110
    assert "\n" not in str(error)
    assert str(error).endswith("state.b` failed at column 807: `state` has no 'b'")
