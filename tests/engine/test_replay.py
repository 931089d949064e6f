"""Recovery and forks: a run rebuilt from its records is the run."""

from __future__ import annotations

import operator
import random
from collections import Counter
from typing import Any

import pytest

from engine.errors import ActivationNotFound, MergeConflict, PoisonRun, RunFailed
from engine.forking import what_was_kept
from engine.plan import MapDecl, SubgraphDecl, WaitDecl
from engine.replay import Again, ReplayError
from engine.retry import Retry
from engine.runs import Run
from engine.tokens import CANCELLED, CANCELLING, DONE, RETRYING, Record
from engine.values import Goto
from tests.driver import Driver, edge, freeze, graph, same, sets
from tests.reference.compare import outcome_differences
from tests.reference.generate import EXACT, RACY, Profile, random_spec
from tests.reference.outcome import Outcome
from tests.reference.spec import GraphSpec
from tests.semantics.random_graphs import Core, CoreDriver, outcome_of


def shape(run: Run) -> Any:
    """All that is live: activations and waiting tokens, with what they carry."""
    active = sorted((a.id, freeze(a.values), a.tokens, a.status in (CANCELLING, CANCELLED)) for a in run.active)
    waiting = sorted(
        (token.id, token.edge.index, freeze(token.values)) for join in run.joins.at.values() for token in join.tokens()
    )
    return active, waiting, run.next_token


def recorded(spec: GraphSpec, seed: int) -> tuple[CoreDriver, dict[int, Any]]:
    """A run to its end, and its shape after each number of records."""
    core = Core(spec)
    driver = CoreDriver(core, seed, journal=True)
    driver.start(core.initial())
    shapes = {0: shape(driver.run)}
    while driver.step():
        if driver.run.ending:
            shapes.pop(len(driver.records), None)
        else:
            shapes[len(driver.records)] = shape(driver.run)
    return driver, shapes


def replayed(driver: CoreDriver, count: int, seed: int) -> CoreDriver:
    run = Run(driver.plan, "run", journal=True)
    again = CoreDriver(driver.core, seed, run=run)
    again.carry_out(run.replay(driver.core.initial(), driver.records[:count], 0.0))
    return again


def without_inputs(driver: CoreDriver) -> Outcome:
    """What does not depend on which activations this very driver ran."""
    outcome = outcome_of(driver)
    outcome.activations = Counter()
    return outcome


@pytest.mark.parametrize("profile", [EXACT, RACY], ids=["exact", "racy"])
@pytest.mark.parametrize("seed", range(60))
def test_any_prefix_of_the_records_gives_the_same_live_tokens_and_state(seed: int, profile: Profile) -> None:
    driver, shapes = recorded(random_spec(seed, profile), seed)
    for count, expected in shapes.items():
        assert shape(replayed(driver, count, 0).run) == expected


@pytest.mark.parametrize("seed", range(150))
def test_a_run_that_was_cut_short_anywhere_comes_to_the_same_end(seed: int) -> None:
    spec = random_spec(seed, EXACT)
    driver, shapes = recorded(spec, seed)
    expected = without_inputs(driver)
    for count in random.Random(seed).sample(sorted(shapes), min(5, len(shapes))):
        again = replayed(driver, count, seed + count)
        again.to_end()

        assert again.run.status == driver.run.status
        if spec.on_failure == "continue" or driver.run.status == "succeeded":
            assert not outcome_differences(spec, without_inputs(again), expected)


@pytest.mark.parametrize("seed", range(40))
def test_only_what_was_in_flight_is_ordered_again(seed: int) -> None:
    driver, shapes = recorded(random_spec(seed, EXACT), seed)
    for count, (active, _, _) in shapes.items():
        again = replayed(driver, count, 0)
        waiting = {a.id for a in again.run.active if a.node.kind == "map" or a.status in (DONE, RETRYING)}

        assert {a.id for a in again.running if a.index < 0} | waiting == {id for id, *_ in active}


def journaled(plan: Any, state: Any, seed: int = 0) -> Driver:
    return Driver(plan, seed, journal=True).start(state)


def again(driver: Driver, state: Any, count: int | None = None) -> Driver:
    run = Run(driver.plan, "run", journal=True)
    following = Driver(driver.plan, 0, run=run)
    following.carry_out(run.replay(state, driver.records[:count], 0.0))
    following.records = driver.records[:count] + following.records
    return following


@pytest.mark.parametrize("seed", range(20))
def test_a_subgraph_is_replayed_inside(seed: int) -> None:
    calls: Counter[str] = Counter()

    def counted(name: str, **update: Any) -> Any:
        def node(state: Any) -> Any:
            calls[name] += 1
            return update

        return node

    inner = graph({"i": counted("i", x=1), "k": counted("k", y=1)}, "i -> k", reducers={"n": operator.add})
    plan = graph(
        {"a": same, "sub": {"kind": "subgraph", "subgraph": SubgraphDecl(plan=inner)}, "b": sets(z=1)}, "a -> sub -> b"
    )
    full = journaled(plan, {}, seed).to_end()
    for count in range(len(full.records)):
        calls.clear()
        following = again(full, {}, count).to_end()
        done = Counter(record.node for record in full.records[:count] if record.kind == "settled")

        assert following.state == full.state == {"x": 1, "y": 1, "z": 1}
        assert calls["i"] + done["i"] == calls["k"] + done["k"] == 1


def test_a_signal_that_was_consumed_is_not_consumed_again() -> None:
    def wait(into: str) -> Any:
        return {"kind": "wait", "wait": WaitDecl(signals=("ok",), into=into)}

    plan = graph({"w": wait("first"), "v": wait("second")}, "w -> v")
    driver = journaled(plan, {})
    driver.carry_out(driver.run.signal("ok", 1, 0.0, "id"))
    following = again(driver, {})
    assert following.run.status == "waiting"
    following.carry_out(following.run.signal("ok", 1, 0.0, "id"))
    assert following.run.status == "waiting", "its id is known"
    following.carry_out(following.run.signal("ok", 2, 0.0))

    assert following.state == {"first": 1, "second": 2}


def test_a_map_that_was_cut_short_runs_again_as_a_whole() -> None:
    plan = graph({"m": {"kind": "map", "map": MapDecl(worker=lambda item: item, over="rows", into="out")}})
    driver = journaled(plan, {"rows": [1, 2]})
    driver.step()

    assert again(driver, {"rows": [1, 2]}).to_end().state["out"] == [1, 2]


@pytest.mark.parametrize("seed", range(10))
def test_the_attempts_made_are_remembered(seed: int) -> None:
    def always(state: Any) -> Any:
        raise ValueError

    driver = journaled(graph({"a": {"function": always, "retry": (Retry(attempts=3),)}}), {}, seed)
    driver.step()
    driver.step()
    following = again(driver, {})
    (activation,) = following.timers
    following.fire(activation)

    assert activation.attempt == 2


def test_a_failed_run_can_be_retried_after_recovery() -> None:
    errors = [ValueError("once")]

    def flaky(state: Any) -> Any:
        if errors:
            raise errors.pop()
        return {"y": 1}

    driver = journaled(graph({"a": sets(x=1), "b": flaky}, "a -> b"), {}).to_end()
    following = again(driver, {})
    assert isinstance(following.run.error, RunFailed)
    following.carry_out(following.run.retry(1.0, {"x": 5}))
    following.to_end()
    assert following.state == {"x": 5, "y": 1}

    assert again(following, {}).state == {"x": 5, "y": 1}


def test_a_cancelled_and_a_paused_run_stay_so() -> None:
    driver = journaled(graph({"a": same, "b": same}, "a -> b"), {})
    driver.carry_out(driver.run.pause(0.0))
    driver.step()
    paused = again(driver, {})
    assert (paused.run.status, paused.running) == ("paused", [])
    driver.carry_out(driver.run.cancel(1.0))

    assert again(driver, {}).run.status == "cancelled"


def test_records_of_another_graph_are_refused() -> None:
    driver = journaled(graph({"a": same, "b": same}, "a -> b"), {}).to_end()
    other = Run(graph({"a": same, "c": same}, "a -> c"), "run", journal=True)

    with pytest.raises(ReplayError):
        other.replay({}, driver.records, 0.0)


# --- forks ----------------------------------------------------------------------------------------------


def forked(driver: Driver, state: Any, at: str, update: Any = None, seed: int = 0) -> Driver:
    run = Run(driver.plan, "fork", journal=True)
    following = Driver(driver.plan, seed, run=run)
    following.carry_out(run.fork(state, driver.records, at, 0.0, update))
    return following


@pytest.mark.parametrize("seed", range(30))
def test_a_fork_keeps_everything_that_the_activation_did_not_cause(seed: int) -> None:
    plan = graph(
        {"a": sets(x=1), "b": lambda s: {"b": s["x"]}, "c": sets(c=1), "d": sets(d=1), "j": sets(j=1)},
        "a -> b -> j",
        "a -> c -> d -> j",
    )
    driver = journaled(plan, {}, seed).to_end()
    following = forked(driver, {}, "b#1", {"x": 9}, seed)
    assert following.ids == ["b#1"]
    following.to_end()

    assert following.starts == ["b#1", "j#1"]
    assert following.state == {"x": 9, "b": 9, "c": 1, "d": 1, "j": 1}
    assert driver.state["b"] == 1


@pytest.mark.parametrize("seed", range(10))
def test_a_fork_in_a_loop_begins_at_that_iteration(seed: int) -> None:
    plan = graph(
        {"a": lambda s: {"i": s["i"] + 1}, "b": same},
        "a -> b",
        edge("b -> a", when=lambda s: s["i"] < 5, max_iterations=9),
        edge("b -> END", otherwise=True),
    )
    driver = journaled(plan, {"i": 0}, seed).to_end()
    following = forked(driver, {"i": 0}, "a#3").to_end()

    assert following.starts == ["a#3", "b#3", "a#4", "b#4", "a#5", "b#5"]
    assert following.state == {"i": 5}


def test_a_fork_at_what_never_ran_is_refused() -> None:
    driver = journaled(graph({"a": same}), {}).to_end()

    for at in ("a#2", "b#1", "a", ""):
        with pytest.raises(ActivationNotFound, match="'a#1'"):
            forked(driver, {}, at)


@pytest.mark.parametrize("seed", range(150))
def test_a_fork_of_an_acyclic_run_comes_to_the_same_end(seed: int) -> None:
    spec = random_spec(seed, Profile(back_edges=0, failures=0, maps=15))
    driver, _ = recorded(spec, seed)
    if driver.run.status != "succeeded" or any(a > 1 for _, a, _ in driver.outcome.activations):
        return
    settled = [record for record in driver.records if record.kind in ("settled", "error_edge")]
    for record in random.Random(seed).sample(settled, min(4, len(settled))):
        run = Run(driver.plan, "fork", journal=True)
        following = CoreDriver(driver.core, seed, run=run)
        at = f"{record.node}#{record.activation}"
        following.carry_out(run.fork(driver.core.initial(), driver.records, at, 0.0))
        following.to_end()

        assert freeze(run.state) == freeze(driver.run.state)


@pytest.mark.parametrize("seed", range(150))
def test_a_fork_of_a_fork_of_an_acyclic_run_comes_to_the_same_end(seed: int) -> None:
    spec = random_spec(seed, Profile(back_edges=0, failures=0, maps=15))
    driver, _ = recorded(spec, seed)
    if driver.run.status != "succeeded" or any(a > 1 for _, a, _ in driver.outcome.activations):
        return
    records, rng = driver.records, random.Random(seed)
    for generation in range(4):
        settled = [one for one in records if one.kind in ("settled", "error_edge") and not one.path and one.activation]
        at = rng.choice(settled)
        run = Run(driver.plan, f"fork {generation}", journal=True)
        following = CoreDriver(driver.core, seed + generation, run=run)
        (fork,) = run.fork(driver.core.initial(), records, f"{at.node}#{at.activation}", 0.0, held=True)
        assert (run.status, isinstance(fork, Record)) == ("queued", True)
        following.carry_out(run.go_live(0.0))
        following.to_end()

        assert freeze(run.state) == freeze(driver.run.state)
        records = [*what_was_kept(records, fork), *following.records]  # type: ignore[arg-type]  # it is a record


def test_a_fork_of_a_fork_has_what_the_first_one_changed_unless_it_begins_before() -> None:
    plan = graph({"a": sets(x=1), "b": lambda s: {"b": s["x"]}, "c": lambda s: {"c": s["b"]}}, "a -> b -> c")
    driver = journaled(plan, {}).to_end()
    run = Run(plan, "fork", journal=True)
    first = Driver(plan, run=run)
    (fork,) = run.fork({}, driver.records, "b#1", 0.0, {"x": 9}, held=True)
    first.carry_out(run.go_live(0.0))
    first.to_end()
    assert first.state == {"x": 9, "b": 9, "c": 9}
    first.records = [*what_was_kept(driver.records, fork), *first.records]  # type: ignore[arg-type]  # it is a record

    assert forked(first, {}, "c#1", {"b": 5}).to_end().state == {"x": 9, "b": 5, "c": 5}
    assert forked(first, {}, "b#1").to_end().state == {"x": 9, "b": 9, "c": 9}
    assert forked(first, {}, "b#1", {"y": 7}).to_end().state == {"x": 9, "y": 7, "b": 9, "c": 9}
    assert forked(first, {}, "a#1").to_end().state == {"x": 1, "b": 1, "c": 1}


def test_a_fork_of_a_fork_runs_again_what_had_failed_beside_the_first() -> None:
    broken = [True]

    def fails(state: Any) -> Any:
        if broken:
            raise ValueError(broken)
        return {"b": state["x"]}

    plan = graph({"a": sets(x=1), "b": fails, "c": same, "j": sets(j=1)}, "a -> b -> j", "a -> c -> j")
    driver = journaled(plan, {}).to_end()
    assert driver.run.status == "failed"
    at = next(record for record in driver.records if record.node != "b" and record.activation)
    run = Run(plan, "fork", journal=True)
    first = Driver(plan, run=run)
    (fork,) = run.fork({}, driver.records, f"{at.node}#1", 0.0, {"x": 2}, held=True)
    first.carry_out(run.go_live(0.0))
    first.to_end()
    assert run.status == "failed"
    first.records = [*what_was_kept(driver.records, fork), *first.records]  # type: ignore[arg-type]  # it is a record
    broken.clear()

    following = forked(first, {}, "b#1").to_end()
    assert following.run.status == "succeeded"


def test_a_run_that_is_held_is_queued_and_what_is_asked_of_it_is_done_when_it_goes_live() -> None:
    plan = graph({"a": fails_once(), "w": {"kind": "wait", "wait": WaitDecl(signals=("go",), into="it")}}, "a -> w")
    asked = ((None, "waiting"), ("pause", "paused"), ("cancel", "cancelled"), ("deadline", "failed"), ("die", "failed"))
    for ask, status in asked:
        driver = journaled(plan, {"errors": [1]}).to_end()
        driver.done = False
        before = len(driver.records)
        driver.carry_out(driver.run.retry(1.0, {"x": 5}, held=True))
        assert (driver.run.status, driver.running) == ("queued", [])
        driver.carry_out(driver.run.signal("go", 7, 2.0))
        driver.carry_out(driver.run.pause(2.0))
        if ask != "pause":
            driver.carry_out(driver.run.resume(2.0))
        if ask == "cancel":
            driver.carry_out(driver.run.cancel(2.0))
        if ask == "deadline":
            driver.carry_out(driver.run.deadline_hit(2.0, 2.0))
        if ask == "die":
            driver.carry_out(driver.run.engines_died(2.0, 9, ["one", "two"]))
        assert not driver.running
        kinds = [record.kind for record in driver.records[before:]]
        assert kinds[:3] == ["retry", "signal", "pause"]
        if status in ("cancelled", "failed"):
            assert (driver.run.status, kinds[-1], driver.done) == (status, "ended", True)
            continue
        assert driver.run.status == "queued"
        driver.carry_out(driver.run.go_live(3.0))
        if ask == "pause":
            assert (driver.run.status, driver.running) == ("paused", [])
            driver.carry_out(driver.run.resume(4.0))
        driver.to_end()
        assert driver.state["it"] == 7
        assert driver.starts.count("a#1") == 2


def test_a_run_that_only_waits_is_told_from_one_that_would_be_at_work() -> None:
    inner = graph({"a": lambda s: None, "w": {"kind": "wait", "wait": WaitDecl(signals=("go",), into="it")}}, "a -> w")
    plan = graph({"sub": {"kind": "subgraph", "subgraph": SubgraphDecl(plan=inner)}})
    driver = journaled(plan, {})

    def is_parked() -> bool:
        run = Run(plan, "run", journal=True)
        assert run.replay({}, driver.records, 1.0, held=True) == []
        return run.is_parked

    at_work = is_parked()
    driver.carry_out(driver.run.pause(1.0))
    paused = is_parked()
    driver.carry_out(driver.run.resume(2.0))
    resumed = is_parked()
    driver.finish_named("sub#1/a#1")

    assert (at_work, paused, resumed, is_parked()) == (False, True, False, True)


def test_what_engines_died_with_is_the_same_run_again_from_its_records() -> None:
    plan = graph({"a": lambda s: {"done": True}}, "")
    driver = journaled(plan, {})
    dead = Run(plan, "run", journal=True)
    dead.replay({}, driver.records, 1.0, held=True)
    after = [one for one in dead.engines_died(2.0, 9, ["one", "two"]) if isinstance(one, Record)]
    run = Run(plan, "run", journal=True)
    following = Driver(plan, 0, run=run)
    following.carry_out(run.replay({}, [*driver.records, *after], 3.0))

    assert isinstance(run.error, RunFailed)
    (error,) = run.error.exceptions
    assert vars(error) == {"run_id": "run", "times": 9, "engines": ("one", "two")}
    assert str(error) == str(PoisonRun("run", 9, ["one", "two"]))
    following.done = False
    following.carry_out(run.retry(4.0))
    assert following.to_end().state == {"done": True}
    assert run.error is None


def fails_once() -> Any:
    def node(state: Any) -> Any:
        if "x" not in state:
            raise ValueError("once")

    return node


@pytest.mark.parametrize("seed", range(60))
def test_a_retry_that_was_held_comes_to_the_same_end_as_one_that_was_not(seed: int) -> None:
    """Also where subgraphs and maps had failed in the middle."""
    ends = []
    for held in (False, True):
        broken = [True]

        def item(value: int, broken: list[bool] = broken) -> int:
            if broken and value == 2:
                raise ValueError("once")
            return value * 10

        def inner(state: Any, broken: list[bool] = broken) -> Any:
            if broken:
                raise ValueError("once")
            return {"inner": 1}

        sub = graph({"one": sets(one=1), "two": inner}, "one -> two")
        plan = graph(
            {
                "a": sets(rows=[1, 2, 3]),
                "m": {"kind": "map", "map": MapDecl(worker=item, over="rows", into="out")},
                "s": {"kind": "subgraph", "subgraph": SubgraphDecl(plan=sub)},
                "c": sets(c=1),
                "j": sets(j=1),
            },
            "a -> m -> j",
            "a -> s -> j",
            "a -> c -> j",
        )
        driver = journaled(plan, {}, seed).to_end()
        assert driver.run.status == "failed"
        broken.clear()
        driver.done = False
        driver.carry_out(driver.run.retry(1.0, {"x": 5}, held=held))
        if held:
            driver.carry_out(driver.run.go_live(2.0))
        driver.to_end()
        ends.append((driver.run.status, freeze(driver.state), driver.run.counters["activations"]))
        assert again(driver, {}).run.status == "succeeded", "and it can be replayed"
    assert ends[0] == ends[1]


def test_a_fork_keeps_what_a_retry_of_the_run_had_set() -> None:
    errors = [ValueError("once")]

    def flaky(state: Any) -> Any:
        if errors:
            raise errors.pop()
        return {"y": state["x"]}

    driver = journaled(graph({"a": sets(x=1), "b": flaky, "c": same}, "a -> b -> c"), {}).to_end()
    driver.done = False
    driver.carry_out(driver.run.retry(1.0, {"x": 5}))
    driver.to_end()
    assert driver.state == {"x": 5, "y": 5}

    assert forked(driver, {}, "c#1").to_end().state == {"x": 5, "y": 5}


@pytest.mark.parametrize("late", [False, True])
def test_a_fork_keeps_an_outcome_that_waited_for_its_turn(late: bool) -> None:
    plan = graph(
        {"s": same, "a": same, "b": same, "w": {"function": lambda s: {"n": [1]}, "join": "any"}, "z": same},
        "s -> a -> w",
        "s -> b -> w -> z",
        reducers={"n": operator.add},
    )
    driver = journaled(plan, {}).finish_named("s", "a", "b")
    driver.finish_named("w#2", "w#1") if late else driver.finish_named("w#1", "w#2")
    driver.to_end()
    assert any(record.kind == "done" and record.node == "w" for record in driver.records) is late

    assert forked(driver, {}, "z#1").to_end().state["n"] == [1, 1]


def test_a_fork_does_not_bring_back_signals_that_were_consumed_inside() -> None:
    wait = {"kind": "wait", "wait": WaitDecl(signals=("ok",), into="ok")}
    inner = graph({"w": wait})
    items = {"kind": "map", "map": MapDecl(worker=graph({"v": wait}), over="rows", into="out", item="row")}
    plan = graph(
        {"sub": {"kind": "subgraph", "subgraph": SubgraphDecl(plan=inner)}, "m": items, "z": same}, "sub -> m -> z"
    )
    driver = journaled(plan, {"rows": [0]})
    driver.carry_out(driver.run.signal("ok", 1, 1.0))
    driver.carry_out(driver.run.signal("ok", 2, 2.0))
    driver.to_end()
    following = forked(driver, {"rows": [0]}, "z#1")

    assert following.ids == ["z#1"]
    assert following.run.unconsumed == ()
    assert following.to_end().state == driver.state == {"rows": [0], "ok": 1, "out": [{"row": 0, "ok": 2}]}


def test_a_fork_goes_on_from_a_snapshot_taken_at_once() -> None:
    plan = graph({"a": sets(x=1), "b": lambda s: {"y": s["x"]}, "c": same}, "a -> b -> c")
    driver = journaled(plan, {}).to_end()
    fork = forked(driver, {}, "b#1", {"x": 9})
    run = Run(plan, "fork", journal=True)
    following = Driver(plan, run=run)
    following.carry_out(run.restore(fork.run.snapshot(), [], 1.0))

    assert following.ids == ["b#1"]
    assert following.to_end().state == {"x": 9, "y": 9}


# --- what replays had wrong -----------------------------------------------------------------------------


def test_what_a_pause_held_is_started_by_a_replayed_resume() -> None:
    driver = journaled(graph({"a": same, "b": same}, "a -> b"), {})
    driver.carry_out(driver.run.pause(0.0))
    driver.step()
    driver.carry_out(driver.run.resume(1.0))

    assert again(driver, {}).ids == ["b#1"]


def test_what_was_running_when_a_paused_run_died_counts_as_one_activation() -> None:
    driver = journaled(graph({"a": same}), {})
    driver.carry_out(driver.run.pause(0.0))
    following = again(driver, {})
    assert following.ids == []
    following.carry_out(following.run.resume(1.0))

    assert following.ids == ["a#1"]
    assert following.run.counters["activations"] == 1
    assert following.run.history.visited() == ["a"]


def test_an_update_of_a_retry_is_not_lost_where_only_the_routing_had_failed() -> None:
    plan = graph({"a": sets(y=1), "b": same}, edge("a -> b", when=lambda s: s["x"] > 1))
    driver = journaled(plan, {"x": 0}).to_end()
    assert driver.run.status == "failed"
    driver.done = False
    driver.carry_out(driver.run.retry(1.0, {"x": 5}))
    driver.to_end()

    assert again(driver, {"x": 0}).state == driver.state == {"x": 5, "y": 1}


def test_a_goto_at_its_limit_is_still_a_goto_after_recovery() -> None:
    def jump(state: Any) -> Any:
        return Goto("a", {"n": state["n"] + 1}) if state["n"] < 9 else None

    plan = graph(
        {"a": {"function": jump, "goto": ("a",)}, "b": same},
        "a -> b",
        edge("b -> a", on_error=KeyError),
        max_iterations=2,
    )
    driver = journaled(plan, {"n": 0}).to_end()
    assert driver.run.status == "failed"
    (failed,) = again(driver, {"n": 0}).run.failed_ones

    assert failed.outcome is not None
    assert failed.outcome.goto == ("a",)


def test_a_subgraph_goes_on_inside_when_a_retry_is_replayed() -> None:
    calls: Counter[str] = Counter()

    def flaky(state: Any) -> Any:
        calls["flaky"] += 1
        if calls["flaky"] == 1:
            raise ValueError
        return {"y": 1}

    def first(state: Any) -> Any:
        calls["first"] += 1
        return {"x": 1}

    inner = graph({"i": first, "k": flaky, "l": same}, "i -> k -> l")
    plan = graph({"sub": {"kind": "subgraph", "subgraph": SubgraphDecl(plan=inner)}, "b": same}, "sub -> b")
    driver = journaled(plan, {}).to_end()
    driver.done = False
    driver.carry_out(driver.run.retry(1.0))
    driver.finish_named("sub#1/k#1")
    following = again(driver, {})

    assert following.ids == ["sub#1/l#1"]
    assert following.to_end().state == {"x": 1, "y": 1}
    assert calls == {"first": 1, "flaky": 2}


def test_nothing_waits_for_workers_that_a_join_had_cancelled() -> None:
    plan = graph(
        {"s": same, "a": same, "b": same, "j": {"function": sets(j=1), "join": "first", "rest": "cancel"}},
        "s -> a -> j",
        "s -> b -> j",
    )
    driver = journaled(plan, {}).finish_named("s", "a")
    following = again(driver, {})
    assert following.ids == ["j#1"]

    assert following.to_end().state == {"j": 1}


def test_who_follows_the_records_of_a_run_sees_it_go_the_ways_of_the_graph_that_it_was_on() -> None:
    ways = edge("a -> b", when=lambda state: False), edge("a -> c", otherwise=True), "b,c -> j"
    driver = journaled(graph(dict.fromkeys("abcj", same), *ways), {}).to_end()
    changed = Run(graph(dict.fromkeys("abcj", same), "a -> b,c -> j"), "run")  # no journal: it only looks on
    changed.replay({}, [], 0.0, held=True)
    following = Again(changed)
    for record in driver.records:
        following.apply(record)

    assert changed.status == "succeeded"
    assert changed.history.visited() == driver.run.history.visited() == ["a", "c", "j"]


def test_a_retry_that_does_not_settle_a_conflict_fails_again() -> None:
    plan = graph({"s": same, "a": sets(x=1), "b": sets(x=2), "j": same}, "s -> a,b -> j")
    driver = journaled(plan, {}).to_end()
    driver.done = False
    driver.carry_out(driver.run.retry(1.0, {"y": 1}))
    assert driver.run.status == "failed"
    assert [type(failure.cause) for failure in driver.run.failures] == [MergeConflict]
    driver.done = False
    driver.carry_out(driver.run.retry(2.0, {"x": 3}))
    driver.to_end()

    assert driver.state["x"] == 3
    assert again(driver, {}).state == driver.state
