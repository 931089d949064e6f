"""A snapshot and the records after it are as good as all records, and cost what is live."""

from __future__ import annotations

import json
import operator
import pickle
import random
from typing import Any

import pytest
from attrs import evolve

from engine import tokens
from engine.errors import HistoryGone, RecordsGone, RunFailed
from engine.plan import SubgraphDecl, WaitDecl
from engine.replay import Again, ReplayError
from engine.retry import Retry
from engine.runs import Run
from engine.snapshot import STATUSES, Snapshot
from engine.tokens import Record
from tests.driver import Driver, edge, fails, freeze, graph, same, sets
from tests.engine.test_records import history
from tests.reference.generate import EXACT, PLAIN, RACY, Profile, random_spec
from tests.semantics.disturbed import MixedCore, MixedDriver, Packer, being_cancelled, completed, shape


def through_json(snapshot: Snapshot) -> Snapshot:
    """As it comes back from a store, each value by itself."""
    values = [pickle.loads(pickle.dumps(value)) for value in snapshot.values]
    errors = [pickle.loads(pickle.dumps(error)) for error in snapshot.errors]
    return Snapshot(json.loads(json.dumps(snapshot.data)), values, errors)


def restored(driver: MixedDriver, snapshot: Snapshot, first: int, last: int | None, seed: int) -> MixedDriver:
    run = Run(driver.plan, "run", journal=Packer())
    again = MixedDriver(driver.core, seed, violence=driver.violence, run=run)  # type: ignore[arg-type]
    again.now = driver.now
    again.records = driver.records[:last]
    again.carry_out(run.restore(through_json(snapshot), driver.stored[first:last], driver.now))
    return again


def watched(seed: int, profile: Profile, *, violence: bool) -> tuple[MixedDriver, dict[int, Any]]:
    """A run to its end; and after each number of records a snapshot, its shape and what could be seen."""
    driver = MixedDriver(MixedCore(random_spec(seed, profile), seed, timeouts=violence), seed, violence=violence)
    driver.start(driver.core.initial())
    seen: dict[int, Any] = {}
    going_on = True
    while going_on:
        here = None if being_cancelled(driver.run) else shape(driver.run)
        seen[len(driver.records)] = driver.run.snapshot(), here, history(driver.run)
        going_on = driver.step()
    return driver, seen


def check_any_snapshot(seed: int, profile: Profile) -> None:
    driver, seen = watched(seed, profile, violence=True)
    dice = random.Random(seed)
    in_items = any("]/" in (event.node or "") for event in driver.run.history.events())
    for first, (snapshot, _, before) in seen.items():
        later = [last for last in seen if last >= first]
        for last in {first, dice.choice(later), dice.choice(later)}:
            where = f"graph {seed}, snapshot after record {first}, killed after {last}"
            again = restored(driver, snapshot, first, last, seed)
            _, expected, told = seen[last]
            if expected is None:
                continue
            assert shape(again.run) == expected, where
            if not in_items:
                assert again.run.counters == told["counters"], where
                after = len(before["events"])
                events = again.run.history.events(after)
                assert events[: len(told["events"]) - after] == told["events"][after:], where
                assert again.run.history.log() == told["log"][len(before["log"]) :], where
            # A snapshot of what was made from a snapshot is as good.
            other = restored(driver, again.run.snapshot(), last, last, seed)
            assert shape(other.run) == expected, where
        if first % 5 == 0:
            again.to_end()
            assert again.run.over, f"graph {seed}, snapshot after record {first}: it hangs"


def check_the_same_end(seed: int) -> None:
    driver, seen = watched(seed, EXACT, violence=False)
    spec = driver.core.spec
    limited = any("ActivationLimit" in str(failure) for failure in driver.run.failures)
    whole = (driver.run.status == "succeeded" or spec.on_failure == "continue") and not limited
    for first, (snapshot, _, _) in list(seen.items())[:: max(1, len(seen) // 6)]:
        where = f"graph {seed}, snapshot after record {first}"
        again = restored(driver, snapshot, first, first, seed + first)
        again.to_end()
        assert again.run.status == driver.run.status, where
        if whole:
            assert freeze(again.run.state) == freeze(driver.run.state), where
            assert completed(again.records) == completed(driver.records), where


@pytest.mark.parametrize("profile", [EXACT, RACY], ids=["exact", "racy"])
@pytest.mark.parametrize("tenth", range(10))
def test_a_snapshot_and_the_records_after_it_are_the_run(tenth: int, profile: Profile) -> None:
    for seed in range(tenth * 8, tenth * 8 + 8):
        check_any_snapshot(seed, profile)


@pytest.mark.parametrize("tenth", range(10))
def test_a_run_from_a_snapshot_comes_to_the_same_end(tenth: int) -> None:
    for seed in range(tenth * 15, tenth * 15 + 15):
        check_the_same_end(seed)


# --- followed by one that drives nothing -----------------------------------------------------------------


def followed(driver: Driver, snapshot: Snapshot, records: list[Record]) -> Run:
    """What another engine makes of the run, which has no journal of its own for it."""
    run = Run(driver.plan, "run")
    run.restore(through_json(snapshot), [], driver.now, held=True)
    again = Again(run)
    for record in records:
        again.apply(record)
    return run


def test_who_follows_a_run_from_a_snapshot_sees_a_join_go_that_had_lost_a_branch_before() -> None:
    plan = graph({**dict.fromkeys("abdj", same), "c": fails(ValueError())}, "a -> b,c,d -> j", on_failure="continue")
    driver = Driver(plan, journal=True).start().finish_named("a", "b", "c")
    snapshot, first = driver.run.snapshot(), len(driver.records)
    driver.finish_named("d")
    run = followed(driver, snapshot, driver.records[first:])

    assert run.status == driver.run.status == "failed"
    assert [failure.node for failure in run.failures] == ["c", "j"]


@pytest.mark.parametrize("tenth", range(10))
def test_who_follows_a_run_from_any_snapshot_sees_it_come_to_its_end(tenth: int) -> None:
    for seed in range(tenth * 15, tenth * 15 + 15):
        driver, seen = watched(seed, PLAIN, violence=False)
        for first, (snapshot, _, _) in list(seen.items())[:: max(1, len(seen) // 6)]:
            run = followed(driver, snapshot, driver.stored[first:])

            where = f"graph {seed}, snapshot after record {first}"
            assert run.status == driver.run.status, where
            assert freeze(run.state) == freeze(driver.run.state), where


# --- size -----------------------------------------------------------------------------------------------


def size(run: Run) -> tuple[int, int]:
    snapshot = run.snapshot()
    return len(json.dumps(snapshot.data)), len(snapshot.values)


@pytest.mark.parametrize("forks", [False, True])
def test_a_snapshot_of_a_loop_does_not_grow(forks: bool) -> None:
    ways = ["a -> b", "a -> c", "b -> d", "c -> d"] if forks else ["a -> d"]
    plan = graph(
        {"a": lambda s: {"i": s["i"] + 1}, "b": sets(n=1), "c": sets(n=1), "d": same} if forks else
        {"a": lambda s: {"i": s["i"] + 1}, "d": same},
        *ways,
        edge("d -> a", when=lambda s: s["i"] < 10_000, max_iterations=20_000),
        edge("d -> END", otherwise=True),
        reducers={"n": operator.add},
    )  # fmt: skip
    driver = Driver(plan, journal=True).start({"i": 0, "n": 0})
    sizes = []
    while driver.step():
        if driver.run.numbers[0] in (1_000, 9_999) and driver.ids[0].startswith("a#"):
            sizes.append(size(driver.run))

    (early, values), (late, later_values) = sizes
    assert values == later_values
    assert late - early < 60, "a few digits"


def test_a_value_that_branches_share_is_there_once() -> None:
    big = ["big"] * 1000
    plan = graph({"a": sets(big=big), "b": same, "c": same, "d": same}, "a -> b", "a -> c", "a -> d")
    driver = Driver(plan, journal=True).start({})
    driver.step()

    assert [value for value in driver.run.snapshot().values if value == big] == [big]


# --- what it has and what not ---------------------------------------------------------------------------


def test_the_history_before_a_snapshot_is_gone_and_said_to_be() -> None:
    driver = Driver(graph({"a": same, "b": same}, "a -> b"), journal=True).start({})
    driver.step()
    newest = driver.run.history.seq
    run = Run(driver.plan, "run", journal=True)
    again = Driver(driver.plan, run=run)
    again.carry_out(run.restore(driver.run.snapshot(), [], 1.0))
    again.to_end()

    with pytest.raises(HistoryGone):
        run.history.events(0)
    assert next(event.seq for event in run.history.events(newest)) == newest + 1
    assert (run.history.log_dropped, run.history.visited_dropped, run.counters["activations"]) == (1, 2, 2)
    assert [entry.node for entry in run.history.log()] == ["b"]


def test_what_is_left_of_a_time_out_counts_from_when_the_wait_was_parked() -> None:
    wait = {"kind": "wait", "wait": WaitDecl(signals=("ok",), into="ok", timeout=100.0)}
    inner = graph({"i": same})
    sub = {"kind": "subgraph", "subgraph": SubgraphDecl(plan=inner), "timeout": 50.0}
    failing = {"function": same, "retry": (Retry(attempts=3, delay=30.0, jitter=0),)}
    plan = graph({"w": wait, "s": sub, "f": failing}, entries=("w", "s", "f"))
    driver = Driver(plan, journal=True)
    driver.now = 1000.0
    driver.start({})
    f = driver.named("f")
    driver.running.remove(f)
    driver.carry_out(f.run.failed(f, 1, ValueError(), 1010.0))
    snapshot = driver.run.snapshot()
    run, other = Run(plan, "run", journal=True), Run(plan, "run", journal=True)
    from_snapshot, from_records = Driver(plan, run=run), Driver(plan, run=other)
    from_snapshot.carry_out(run.restore(snapshot, [], 1020.0))
    from_records.carry_out(other.replay({}, driver.records, 1020.0, 1000.0))

    for following in (from_snapshot, from_records):
        assert {one.id: timer.delay for one, timer in following.timers.items()} == {
            "w#1": 80.0,
            "s#1": 30.0,
            "f#1": 20.0,
        }


def test_a_failed_run_can_be_retried_from_a_snapshot() -> None:
    errors = [ValueError("once")]

    def flaky(state: Any) -> Any:
        if errors:
            raise errors.pop()
        return {"y": 1}

    driver = Driver(graph({"a": sets(x=1), "b": flaky}, "a -> b"), journal=True).start({}).to_end()
    run = Run(driver.plan, "run", journal=True)
    following = Driver(driver.plan, run=run)
    following.carry_out(run.restore(driver.run.snapshot(), [], 1.0))
    assert isinstance(run.error, RunFailed)
    assert isinstance(run.failures[0].cause, ValueError)
    following.carry_out(run.retry(1.0, {"x": 5}))
    following.to_end()

    assert following.state == {"x": 5, "y": 1}


def test_a_snapshot_of_another_graph_or_format_is_refused() -> None:
    snapshot = Driver(graph({"a": same, "b": same}, "a -> b"), journal=True).start({}).run.snapshot()

    with pytest.raises(ReplayError, match="nodes"):
        Run(graph({"a": same}), "run", journal=True).restore(snapshot, [], 0.0)
    other = evolve(snapshot, data={**snapshot.data, "format": 0})
    with pytest.raises(ReplayError, match="format"):
        Run(graph({"a": same, "b": same}, "a -> b"), "run", journal=True).restore(other, [], 0.0)


def test_a_fork_without_the_records_before_a_snapshot_is_refused() -> None:
    driver = Driver(graph({"a": same, "b": same, "c": same}, "a -> b -> c"), journal=True).start({}).to_end()

    with pytest.raises(RecordsGone):
        Run(driver.plan, "fork", journal=True).fork({}, driver.records[1:], "c#1", 0.0)


def test_every_status_has_its_name() -> None:
    names = {getattr(tokens, name.upper()): name for name in STATUSES}

    assert [names[number] for number in range(len(STATUSES))] == list(STATUSES)


def test_a_subgraph_that_waited_for_its_next_attempt_goes_on_inside_if_the_run_is_retried() -> None:
    calls: list[str] = []

    def flaky(state: Any) -> Any:
        calls.append("k")
        if len(calls) == 2:
            raise ValueError
        return {"y": 1}

    inner = graph({"i": lambda s: calls.append("i"), "k": flaky}, "i -> k")
    sub = {"kind": "subgraph", "subgraph": SubgraphDecl(plan=inner), "retry": (Retry(attempts=2),)}
    plan = graph({"sub": sub})
    driver = Driver(plan, journal=True).start({}).finish_named("sub#1/i#1", "sub#1/k#1")
    snapshot, count = driver.run.snapshot(), len(driver.records)
    driver.carry_out(driver.run.deadline_hit(1.0, 1.0))
    run = Run(plan, "run", journal=True)
    following = Driver(plan, run=run)
    following.carry_out(run.restore(through_json(snapshot), driver.records[count:], 2.0))
    following.carry_out(run.retry(3.0))

    assert following.ids == ["sub#1/k#1"]
    assert following.to_end().state == {"y": 1}
