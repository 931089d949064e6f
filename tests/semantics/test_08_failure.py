"""SEMANTICS section 8 on the pure core: retries, error edges, failing, going on."""

from __future__ import annotations

import asyncio
import operator
from typing import Any, TypedDict

import pytest

from engine.errors import (
    JoinStarved,
    LoopLimit,
    MergeConflict,
    NodeTimeout,
    NoRoute,
    RunCancelled,
    RunFailed,
    RunTimeout,
    UnknownKey,
)
from engine.plan import SubgraphDecl
from engine.retry import Retry
from engine.runs import Run
from engine.schema import read_schema
from tests.driver import Driver, edge, fails, graph, same, sets, with_context

SEEDS = range(40)


class Typed(TypedDict):
    x: int


def ended(plan: Any, state: Any = None, seed: int = 0) -> Run:
    driver = Driver(plan, seed).start(state).to_end()
    assert driver.done
    return driver.run


class Flaky:
    """Raises these errors first, then returns the update."""

    def __init__(self, *errors: BaseException, **update: Any) -> None:
        self.errors = list(errors)
        self.update = update
        self.calls = 0

    def __call__(self, state: Any) -> Any:
        self.calls += 1
        if self.errors:
            raise self.errors.pop(0)
        return self.update


# --- retries --------------------------------------------------------------------------------------------


def test_a_failed_node_is_retried_until_attempts_run_out() -> None:
    node = Flaky(*[ValueError(n) for n in range(9)])
    run = ended(graph({"a": {"function": node, "retry": (Retry(attempts=3),)}}))
    (failure,) = run.failures

    assert (node.calls, failure.attempts, failure.cause.args) == (3, 3, (2,))
    assert [entry.status for entry in run.history.log()] == ["failed"] * 3


def test_retries_are_attempts_of_the_same_activation_and_the_update_counts_once() -> None:
    node = Flaky(ValueError(), n=[1])
    run = ended(graph({"a": {"function": node, "retry": (Retry(),)}}, reducers={"n": operator.add}), {"n": []})

    assert run.state == {"n": [1]}
    assert run.history.visited() == ["a"]


def test_the_waits_grow_by_the_factor_up_to_the_largest() -> None:
    retry = Retry(attempts=5, delay=1, factor=3, max_delay=8, jitter=0)
    driver = Driver(graph({"a": {"function": fails(ValueError()), "retry": (retry,)}})).start()
    waits = []
    while not driver.done:
        driver.finish(driver.running[0])
        if driver.timers:
            (activation,) = driver.timers
            waits.append(driver.timers[activation].delay)
            driver.fire(activation)

    assert waits == [1, 3, 8, 8]


def test_jitter_shifts_a_wait_either_way_by_its_share() -> None:
    retry = Retry(delay=10, jitter=0.1)

    assert [round(retry.wait_seconds(1, random), 6) for random in (0.0, 0.5, 1.0)] == [9, 10, 11]


def test_of_several_retries_the_first_that_matches_counts_with_all_attempts_so_far() -> None:
    policies = (Retry(attempts=2, on=KeyError), Retry(attempts=3, on=ValueError))
    node = Flaky(ValueError(), ValueError(), KeyError())
    run = ended(graph({"a": {"function": node, "retry": policies}}))

    assert (node.calls, type(run.failures[0].cause)) == (3, KeyError)


def test_an_error_that_no_retry_matches_is_not_retried() -> None:
    run = ended(graph({"a": {"function": fails(ValueError()), "retry": (Retry(on=KeyError),)}}))

    assert run.failures[0].attempts == 1


def test_an_update_that_does_not_fit_is_retried_like_any_failure() -> None:
    answers: list[Any] = ["no mapping", {"x": 1}]
    run = ended(graph({"a": {"function": lambda s: answers.pop(0), "retry": (Retry(),)}}))

    assert run.state == {"x": 1}


# --- error edges ----------------------------------------------------------------------------------------


def test_after_the_last_attempt_the_state_as_it_was_goes_along_the_first_error_edge_that_matches() -> None:
    def spoils(state: dict[str, Any]) -> None:
        state["x"] = "spoilt"
        raise KeyError("k")

    plan = graph(
        {"a": {"function": spoils, "retry": (Retry(attempts=2),)}, "b": same, "c": sets(c=1), "d": same},
        "a -> b",
        edge("a -> d", on_error=ValueError),
        edge("a -> c", on_error=LookupError),
        edge("a -> d", on_error=Exception),
    )
    run = ended(plan, {"x": 0})

    assert run.state == {"x": 0, "c": 1}
    assert run.history.visited() == ["a", "c"]


def test_the_target_of_an_error_edge_reads_the_error() -> None:
    seen: list[Any] = []
    plan = graph(
        {"a": fails(ValueError("no")), "fix": with_context(lambda s, activation: seen.append(activation.error))},
        edge("a -> fix", on_error=ValueError),
    )
    ended(plan)

    (error,) = seen
    assert (error.node, error.activation, error.type, error.message, error.attempts) == ("a", 1, "ValueError", "no", 1)


def test_an_error_edge_catches_a_timeout_and_an_update_that_does_not_fit() -> None:
    plan = graph({"a": same, "fix": sets(ok=1)}, edge("a -> fix", on_error=TimeoutError))
    driver = Driver(plan).start()
    activation = driver.running.pop()
    driver.carry_out(driver.run.failed(activation, 1, NodeTimeout("a", 5), 1.0, timed_out=True))
    driver.to_end()
    assert driver.state == {"ok": 1}
    assert driver.run.history.log()[0].status == "timed_out"

    plan = graph({"a": lambda s: 7, "fix": sets(ok=1)}, edge("a -> fix", on_error=ValueError))
    assert ended(plan).state == {"ok": 1}


def test_no_error_edge_catches_a_conflict_or_a_missing_route() -> None:
    plan = graph(
        {"a": same, "b": sets(x=1), "c": sets(x=2), "j": same, "fix": same},
        "a -> b,c -> j",
        edge("j -> fix", on_error=Exception),
    )
    assert isinstance(ended(plan).failures[0].cause, MergeConflict)

    plan = graph({"a": same, "b": same}, edge("a -> b", when=lambda s: False), edge("a -> b", on_error=Exception))
    assert isinstance(ended(plan).failures[0].cause, NoRoute)


def test_a_node_that_raises_cancellation_by_itself_has_failed_like_any_other() -> None:
    driver = Driver(graph({"a": same, "fix": sets(ok=1)}, edge("a -> fix", on_error=Exception))).start()
    activation = driver.running.pop()
    driver.carry_out(driver.run.failed(activation, 1, asyncio.CancelledError(), 1.0))

    assert driver.to_end().state == {"ok": 1}


# --- policies -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("seed", SEEDS)
def test_the_first_failure_cancels_the_other_activations_and_waits_for_their_clean_up(seed: int) -> None:
    plan = graph({"a": same, "b": fails(ValueError()), "c": same, "d": same}, "a -> b,c -> d")
    driver = Driver(plan, seed).start().finish_named("a", "b")

    assert [activation.id for activation in driver.cancelling] == ["c#1"]
    assert not driver.done
    driver.to_end()
    assert driver.done
    assert isinstance(driver.run.error, RunFailed)


def test_two_failures_at_once_are_both_reported() -> None:
    plan = graph({"a": same, "b": fails(ValueError()), "c": fails(KeyError())}, "a -> b,c")
    driver = Driver(plan).start().finish_named("a", "b")
    (c,) = driver.cancelling
    driver.cancelling.clear()
    driver.carry_out(driver.run.failed(c, 1, KeyError(), 2.0))

    assert isinstance(driver.run.error, RunFailed)
    assert [failure.node for failure in driver.run.error.failures] == ["b", "c"]


@pytest.mark.parametrize("seed", SEEDS)
def test_with_continue_the_other_branches_run_to_their_end_and_every_failure_is_reported(seed: int) -> None:
    plan = graph(
        {"a": same, "b": fails(ValueError()), "c": fails(KeyError()), "d": same, "e": sets(x=1)},
        "a -> b,c,d",
        "d -> e",
        on_failure="continue",
    )
    run = ended(plan, {}, seed)

    assert sorted(failure.node for failure in run.failures) == ["b", "c"]
    assert "e" in run.history.visited()
    assert run.state == {"x": 1}


@pytest.mark.parametrize("seed", SEEDS)
def test_with_continue_an_all_join_fails_that_lacks_what_a_failed_activation_could_have_brought(seed: int) -> None:
    plan = graph({"a": same, "b": fails(ValueError()), "c": same, "j": same}, "a -> b,c -> j", on_failure="continue")
    run = ended(plan, {}, seed)
    causes = {failure.node: failure.cause for failure in run.failures}

    assert isinstance(causes["j"], JoinStarved)
    assert causes["j"].missing == ("b",)
    assert "j" in run.not_run


@pytest.mark.parametrize("seed", SEEDS)
def test_a_first_join_goes_without_a_failed_branch_and_tells_so(seed: int) -> None:
    arrivals: list[Any] = []
    plan = graph(
        {
            "a": same,
            "b": fails(ValueError()),
            "c": same,
            "j": {
                "function": with_context(lambda s, activation: arrivals.append(activation.arrivals)),
                "join": "first",
            },
        },
        "a -> b,c -> j",
        on_failure="continue",
    )
    Driver(plan, seed).start().finish_named("a", "b", "c", "j")

    assert [arrival.status for arrival in arrivals[0]] == ["failed", "arrived"]


def test_the_record_keeps_the_state_at_the_point_of_failure() -> None:
    plan = graph({"a": sets(x=1), "b": sets(y=1), "c": fails(ValueError())}, "a -> b -> c")

    assert ended(plan, {"x": 0}).state == {"x": 1, "y": 1}


def test_a_failure_event_comes_before_the_end() -> None:
    run = ended(graph({"a": fails(ValueError("no"))}))

    assert [event.type for event in run.history.events()][-2:] == ["node_failed", "run_failed"]


def test_an_answer_to_an_attempt_that_was_given_up_is_dropped() -> None:
    plan = graph({"a": {"function": same, "retry": (Retry(),)}})
    driver = Driver(plan).start()
    activation = driver.running.pop()
    driver.carry_out(driver.run.failed(activation, 1, NodeTimeout("a", 1), 1.0, timed_out=True))
    assert driver.run.succeeded(activation, 1, {"late": True}, 2.0) == []
    driver.to_end()

    assert driver.state == {}


def test_a_deadline_ends_the_run_with_a_run_timeout() -> None:
    driver = Driver(graph({"a": same})).start()
    driver.carry_out(driver.run.deadline_hit(9.0, 9.0))
    driver.to_end()

    assert isinstance(driver.run.error, RunFailed)
    assert isinstance(driver.run.error.exceptions[0], RunTimeout)


def test_cancel_is_idempotent_and_nothing_to_a_finished_run() -> None:
    driver = Driver(graph({"a": same})).start()
    driver.carry_out(driver.run.cancel(1.0, "enough"))
    assert driver.run.cancel(2.0) == []
    driver.to_end()
    assert driver.run.status == "cancelled"
    assert isinstance(driver.run.error, RunCancelled)
    assert driver.run.error.reason == "enough"

    done = Driver(graph({"a": same})).start().to_end()
    assert done.run.cancel(3.0) == []
    assert done.run.status == "succeeded"


# --- going on -------------------------------------------------------------------------------------------


def go_on(driver: Driver, update: Any = None) -> Driver:
    driver.done = False
    driver.carry_out(driver.run.retry(driver.now, update))
    return driver.to_end()


@pytest.mark.parametrize("seed", SEEDS)
def test_retry_runs_a_failed_run_on_without_running_again_what_had_succeeded(seed: int) -> None:
    first, broken, other = Flaky(x=1), Flaky(ValueError(), y=1), Flaky(z=1)
    plan = graph({"a": first, "b": broken, "c": other, "j": same}, "a -> b,c -> j")
    driver = Driver(plan, seed).start({}).to_end()
    assert driver.run.status == "failed"
    go_on(driver)

    assert (driver.run.status, driver.state) == ("succeeded", {"x": 1, "y": 1, "z": 1})
    assert (first.calls, broken.calls) == (1, 2)
    assert [(f.activation, f.attempt) for f in driver.run.history.log() if f.node == "b"] == [(1, 1), (1, 2)]


@pytest.mark.parametrize("seed", SEEDS)
def test_an_update_on_retry_changes_what_the_failed_activation_is_given(seed: int) -> None:
    def needs_positive(state: dict[str, Any]) -> dict[str, Any]:
        if state["x"] < 0:
            raise ValueError(state["x"])
        return {"y": state["x"]}

    driver = Driver(graph({"a": same, "b": needs_positive}, "a -> b"), seed).start({"x": -1}).to_end()
    go_on(driver, {"x": 5})

    assert driver.state == {"x": 5, "y": 5}


def test_an_unknown_key_on_retry_is_refused_and_the_run_stays_failed() -> None:
    schema: Any = read_schema(Typed)[0]
    driver = Driver(graph({"a": fails(ValueError())}, state=schema)).start({"x": 1}).to_end()

    with pytest.raises(UnknownKey):
        driver.run.retry(1.0, {"nothing": 1})
    assert driver.run.status == "failed"


def test_what_had_succeeded_but_found_no_way_is_only_routed_again() -> None:
    node = Flaky(n=5)
    plan = graph({"a": node, "b": same}, edge("a -> b", when=lambda s: s["n"] < 3))
    driver = Driver(plan).start({}).to_end()
    go_on(driver, {"n": 1})

    assert (driver.run.status, driver.state, node.calls) == ("succeeded", {"n": 1}, 1)


@pytest.mark.parametrize("seed", SEEDS)
@pytest.mark.parametrize("target", ["j", "END"])
def test_a_conflict_is_settled_by_an_update_on_retry(seed: int, target: str) -> None:
    b, c = Flaky(x=1), Flaky(x=2)
    plan = graph(
        {"a": same, "b": b, "c": c, "j": same}, f"a -> b,c -> {target}", "a -> j" if target == "END" else "j -> END"
    )
    driver = Driver(plan, seed).start({"x": 0}).to_end()
    assert isinstance(driver.run.failures[0].cause, MergeConflict)
    go_on(driver, {"x": 7})

    assert (driver.run.status, driver.state, b.calls, c.calls) == ("succeeded", {"x": 7}, 1, 1)


@pytest.mark.parametrize("seed", SEEDS)
def test_with_continue_a_retry_lets_the_join_go_that_lacked_a_branch(seed: int) -> None:
    plan = graph(
        {"a": same, "b": Flaky(ValueError(), x=1), "c": sets(y=1), "j": sets(z=1)},
        "a -> b,c -> j",
        on_failure="continue",
    )
    driver = Driver(plan, seed).start({}).to_end()
    go_on(driver)

    assert driver.state == {"x": 1, "y": 1, "z": 1}
    assert [entry.activation for entry in driver.run.history.log() if entry.node == "j"] == [1]


@pytest.mark.parametrize("seed", SEEDS)
def test_a_contribution_on_retry_counts_once_though_several_had_failed(seed: int) -> None:
    plan = graph(
        {"a": same, "b": Flaky(ValueError()), "c": Flaky(KeyError()), "j": same},
        "a -> b,c -> j",
        reducers={"n": operator.add},
        on_failure="continue",
    )
    driver = Driver(plan, seed).start({"n": [0]}).to_end()
    go_on(driver, {"n": [1]})

    assert driver.state == {"n": [0, 1]}


def test_a_failed_subgraph_goes_on_inside() -> None:
    first, broken = Flaky(x=1), Flaky(ValueError(), y=1)
    inner = graph({"i": first, "k": broken}, "i -> k")
    plan = graph({"sub": {"kind": "subgraph", "subgraph": SubgraphDecl(plan=inner)}})
    driver = Driver(plan).start({}).to_end()
    go_on(driver)

    assert (driver.run.status, driver.state, first.calls) == ("succeeded", {"x": 1, "y": 1}, 1)


def test_a_loop_limit_that_was_hit_is_hit_again() -> None:
    plan = graph({"a": same}, edge("a -> a", max_iterations=1, on_limit="fail"))
    driver = Driver(plan).start().to_end()
    go_on(driver)

    assert isinstance(driver.run.failures[0].cause, LoopLimit)


def test_a_failure_that_an_error_edge_catches_is_on_record_before_the_edge() -> None:
    run = ended(graph({"a": fails(ValueError("no")), "b": same}, edge("a -> b", on_error=ValueError)))

    events = [(event.type, event.node) for event in run.history.events()]
    assert events[3:5] == [("node_failed", "a"), ("edge_taken", "a")]
    assert run.history.events()[3].data == {"attempts": 1, "error": "ValueError: no", "caught": True}


def test_a_conflict_at_the_end_is_on_record() -> None:
    run = ended(graph({"s": same, "a": sets(x=1), "b": sets(x=2)}, "s -> a, b"))

    assert [(event.type, event.node) for event in run.history.events()][-2:] == [
        ("node_failed", "END"),
        ("run_failed", None),
    ]


def test_an_error_while_being_cancelled_is_a_failure_unless_it_would_have_been_tried_again_or_caught() -> None:
    nodes = {
        "s": same,
        "first": fails(ValueError("first")),
        "second": fails(KeyError("second")),
        "tried": {"function": fails(OSError("again")), "retry": (Retry(attempts=2),)},
        "caught": fails(OSError("caught")),
        "repair": same,
    }
    plan = graph(nodes, "s -> first, second, tried, caught", edge("caught -> repair", on_error=OSError))
    driver = Driver(plan).start()
    driver.finish_named("s#1")
    late = [driver.named(f"{name}#1") for name in ("second", "tried", "caught")]
    driver.finish_named("first#1")
    for activation in late:
        driver.cancelling.remove(activation)
        driver.running.append(activation)
        driver.finish(activation)

    assert driver.done
    assert [failure.node for failure in driver.run.failures] == ["first", "second"]
    assert {entry.node: entry.status for entry in driver.run.history.log()} == {
        "s": "succeeded", "first": "failed", "second": "failed", "tried": "failed", "caught": "failed"
    }  # fmt: skip
