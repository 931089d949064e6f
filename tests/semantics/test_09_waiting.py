"""SEMANTICS section 9 on the pure core: waits, signals, pause."""

from __future__ import annotations

from typing import Any

import pytest

from engine.errors import RunEnded, UnknownSignal
from engine.plan import SubgraphDecl, WaitDecl
from engine.retry import Retry
from engine.values import Signal
from tests.driver import Driver, edge, graph, same, sets

SEEDS = range(20)


def wait(*signals: str, into: str = "got", timeout: float | None = None) -> Any:
    return {"kind": "wait", "wait": WaitDecl(signals=signals, into=into, timeout=timeout)}


def signal(driver: Driver, name: str, payload: Any = None, id: str | None = None) -> None:
    driver.carry_out(driver.run.signal(name, payload, driver.now, id))


def test_a_wait_parks_its_token_and_other_branches_go_on() -> None:
    driver = Driver(graph({"a": same, "w": wait("ok"), "b": sets(x=1), "j": same}, "a -> w,b -> j")).start({}).to_end()
    assert driver.run.status == "waiting"
    assert driver.run.history.events()[-1].type == "run_waiting"
    signal(driver, "ok", "yes")

    assert driver.to_end().state == {"x": 1, "got": "yes"}


def test_a_signal_is_kept_until_a_wait_takes_it() -> None:
    driver = Driver(graph({"a": same, "w": wait("ok")}, "a -> w")).start({})
    signal(driver, "ok", 1)
    driver.to_end()

    assert driver.state == {"got": 1}


def test_signals_are_consumed_in_order_and_the_rest_is_listed() -> None:
    plan = graph({"a": same, "w": wait("ok", into="first"), "v": wait("ok", into="second")}, "a -> w -> v")
    driver = Driver(plan).start({})
    for payload in (1, 2, 3):
        signal(driver, "ok", payload)
    driver.to_end()

    assert driver.state == {"first": 1, "second": 2}
    assert [kept.payload for kept in driver.run.unconsumed] == [3]


def test_a_signal_counts_once_per_id() -> None:
    plan = graph({"w": wait("ok", into="first"), "v": wait("ok", into="second")}, "w -> v")
    driver = Driver(plan).start({})
    signal(driver, "ok", 1, id="one")
    signal(driver, "ok", 1, id="one")

    assert driver.run.status == "waiting"
    signal(driver, "ok", 2, id="two")
    assert driver.state == {"first": 1, "second": 2}


def test_the_longest_parked_wait_gets_the_signal() -> None:
    plan = graph(
        {"a": same, "b": same, "v": wait("ok", into="v"), "w": wait("ok", into="w")},
        "a -> v",
        "b -> w",
        entries=("a", "b"),
    )
    driver = Driver(plan).start({}).finish_named("b", "a")
    signal(driver, "ok", "first")
    signal(driver, "ok", "second")

    assert driver.state == {"w": "first", "v": "second"}


def test_of_several_signals_the_first_to_come_decides_and_is_named() -> None:
    driver = Driver(graph({"w": wait("yes", "no")})).start({})
    signal(driver, "no", "because")

    assert driver.state == {"got": Signal("no", "because")}


def test_a_wait_in_a_subgraph_gets_the_runs_signals() -> None:
    inner = graph({"w": wait("ok")})
    driver = Driver(graph({"sub": {"kind": "subgraph", "subgraph": SubgraphDecl(plan=inner)}})).start({})
    assert driver.run.status == "waiting"
    signal(driver, "ok", 1)

    assert driver.state == {"got": 1}


def test_a_signal_that_comes_again_after_it_ended_the_run_is_the_same_and_no_fault() -> None:
    driver = Driver(graph({"w": wait("ok")})).start({})
    signal(driver, "ok", 1, "first")
    signal(driver, "ok", 1, "first")

    assert (driver.run.status, driver.state) == ("succeeded", {"got": 1})
    with pytest.raises(RunEnded):
        signal(driver, "ok", 1, "second")


def test_an_unknown_signal_and_a_finished_run_are_refused() -> None:
    driver = Driver(graph({"w": wait("ok")})).start({})
    with pytest.raises(UnknownSignal):
        signal(driver, "other")
    signal(driver, "ok")
    with pytest.raises(RunEnded):
        signal(driver, "ok")


def test_a_timeout_puts_none_into_the_state() -> None:
    driver = Driver(graph({"w": wait("ok", timeout=60)})).start({"got": 1})
    assert [timer.delay for timer in driver.timers.values()] == [60]
    driver.to_end()

    assert driver.state == {"got": None}


def test_a_timeout_takes_the_waits_error_edge_if_it_has_one() -> None:
    plan = graph({"w": wait("ok", timeout=60), "late": sets(late=True)}, edge("w -> late", on_error=TimeoutError))
    driver = Driver(plan).start({}).to_end()

    assert driver.state == {"late": True}


def test_a_signal_clears_the_timer_of_its_wait() -> None:
    driver = Driver(graph({"w": wait("ok", timeout=60), "b": same}, "w -> b")).start({})
    signal(driver, "ok")

    assert not driver.timers


@pytest.mark.parametrize("seed", SEEDS)
def test_cancelling_a_run_ends_its_waits(seed: int) -> None:
    driver = Driver(graph({"w": wait("ok", timeout=60), "b": same}, entries=("w", "b")), seed).start({})
    driver.carry_out(driver.run.cancel(1.0))
    driver.to_end()

    assert (driver.run.status, driver.timers) == ("cancelled", {})


def test_pause_holds_new_activations_and_resume_lets_them_go() -> None:
    driver = Driver(graph({"a": same, "b": same}, "a -> b")).start({})
    driver.carry_out(driver.run.pause(1.0))
    driver.to_end()
    held = (driver.run.status, driver.run.explain("b"))
    driver.carry_out(driver.run.resume(2.0))
    driver.to_end()

    assert held == ("paused", "b: #1 is held: the run is paused")
    assert driver.run.status == "succeeded"
    assert driver.run.history.visited() == ["a", "b"]


def test_retries_and_time_outs_of_waits_go_on_in_a_pause() -> None:
    calls: list[int] = []

    def flaky(state: Any) -> None:
        calls.append(1)
        if len(calls) == 1:
            raise ValueError

    plan = graph(
        {"a": {"function": flaky, "retry": (Retry(),)}, "w": wait("ok", timeout=5), "b": same},
        "w -> b",
        entries=("a", "w"),
    )
    driver = Driver(plan).start({})
    driver.carry_out(driver.run.pause(1.0))
    driver.to_end()

    assert len(calls) == 2
    assert not driver.timers
    assert driver.run.status == "paused"


def test_a_paused_run_can_be_cancelled() -> None:
    driver = Driver(graph({"a": same, "b": same}, "a -> b")).start({})
    driver.carry_out(driver.run.pause(1.0))
    driver.to_end()
    driver.carry_out(driver.run.cancel(2.0))

    assert driver.run.status == "cancelled"
