"""A map that was cut short runs only the items that are not on record."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Literal

import pytest

from engine.plan import MapDecl, WaitDecl
from engine.retry import Retry
from engine.runs import Run
from engine.values import ItemError
from tests.driver import Driver, graph

Policy = Literal["fail", "skip", "keep"]


def mapped(worker: Any, over: Any = "rows", policy: Policy = "fail", **options: Any) -> Any:
    decl = MapDecl(
        worker=worker, over=over, into="out", on_item_error=policy, concurrency=3, item=options.pop("item", None)
    )
    return graph({"m": {"kind": "map", "map": decl, **options}})


def again(driver: Driver, state: Any, now: float = 0.0, *, snapshot: bool = False) -> Driver:
    run = Run(driver.plan, "run", journal=True)
    following = Driver(driver.plan, 1, run=run)
    if snapshot:
        following.carry_out(run.restore(driver.run.snapshot(), [], now))
    else:
        following.carry_out(run.replay(state, driver.records, now, 0.0))
    return following


@pytest.mark.parametrize("snapshot", [False, True])
@pytest.mark.parametrize("seed", range(10))
@pytest.mark.parametrize("over", ["rows", lambda s: (row for row in s["rows"])], ids=["key", "function"])
def test_finished_items_do_not_run_again(over: Any, seed: int, snapshot: bool) -> None:
    state = {"rows": list(range(9))}
    driver = Driver(mapped(lambda item: item * 10, over), seed, journal=True).start(state)
    for _ in range(seed):
        driver.step()
    finished = {record.item for record in driver.records if record.kind == "item"}
    following = again(driver, state, snapshot=snapshot).to_end()

    assert following.run.state["out"] == [item * 10 for item in range(9)]
    ran = {int(id[4:-1]) for id in following.starts}
    assert ran == set(range(9)) - finished


def test_a_source_is_read_again_but_no_further_than_there_is_room() -> None:
    taken: list[int] = []

    def source(state: Any) -> Iterator[int]:
        for item in range(1000):
            taken.append(item)
            yield item

    driver = Driver(mapped(lambda item: item, source), journal=True).start({})
    for _ in range(20):
        driver.step()
    finished = sum(record.kind == "item" for record in driver.records)
    taken.clear()
    following = again(driver, {})
    while not following.running:
        following.step()

    assert finished > 3
    assert len(taken) <= finished + 3


@pytest.mark.parametrize("snapshot", [False, True])
@pytest.mark.parametrize(
    ("policy", "expected"),
    [("skip", [0, 2, 3]), ("keep", [0, ItemError(1, "ValueError", "one"), 2, 3])],
)
def test_items_that_failed_for_good_stay_so(policy: Policy, expected: list[Any], snapshot: bool) -> None:
    calls = []

    def worker(item: int) -> int:
        calls.append(item)
        if item == 1:
            raise ValueError("one")
        return item

    state = {"rows": [0, 1, 2, 3]}
    driver = Driver(mapped(worker, policy=policy), journal=True).start(state)
    driver.finish_named("m#1[1]")
    following = again(driver, state, snapshot=snapshot).to_end()

    assert following.state["out"] == expected
    assert calls.count(1) == 1


@pytest.mark.parametrize("snapshot", [False, True])
def test_a_map_that_an_item_failed_fails_after_recovery_too(snapshot: bool) -> None:
    def worker(item: int) -> int:
        raise ValueError(item)

    driver = Driver(mapped(worker), journal=True).start({"rows": [0, 1, 2]})
    driver.finish_named("m#1[1]")
    assert driver.cancelling
    following = again(driver, {"rows": [0, 1, 2]}, snapshot=snapshot)

    assert following.run.status == "failed"
    assert str(following.run.failures[0].cause) == "1"


@pytest.mark.parametrize("snapshot", [False, True])
def test_an_item_waits_only_for_what_is_left_of_its_delay(snapshot: bool) -> None:
    plan = mapped(lambda item: item, retry=(Retry(attempts=3, delay=10.0, factor=2.0, jitter=0),))
    driver = Driver(plan, journal=True).start({"rows": [0, 1]})
    item = driver.named("m#1[1]")
    driver.running.remove(item)
    driver.carry_out(item.run.failed(item, 1, ValueError(), 100.0))
    following = again(driver, {"rows": [0, 1]}, 104.0, snapshot=snapshot)

    ((waiting, timer),) = following.timers.items()
    assert (waiting.id, waiting.attempt, timer.delay) == ("m#1[1]", 1, 6.0)
    following.now = 110.0
    following.fire(waiting)
    assert waiting.attempt == 2
    assert following.to_end().state["out"] == [0, 1]


@pytest.mark.parametrize("snapshot", [False, True])
def test_a_signal_that_an_item_took_is_gone_once_the_item_is_finished_and_not_before(snapshot: bool) -> None:
    worker = graph(
        {"w": {"kind": "wait", "wait": WaitDecl(signals=("ok",), into="ok")}, "n": lambda s: {"n": s["ok"]}}, "w -> n"
    )
    state = {"rows": [0, 1]}
    driver = Driver(mapped(worker, item="row"), journal=True).start(state)
    driver.carry_out(driver.run.signal("ok", "first", 1.0))
    driver.finish_named("m#1[0]/n#1")
    driver.carry_out(driver.run.signal("ok", "second", 2.0))
    assert driver.ids == ["m#1[1]/n#1"]
    following = again(driver, state, 3.0, snapshot=snapshot)

    assert following.ids == ["m#1[1]/n#1"]
    assert [item["ok"] for item in following.to_end().state["out"]] == ["first", "second"]


def test_a_record_of_an_item_costs_the_same_however_many_there_are() -> None:
    driver = Driver(mapped(lambda item: item), journal=True).start({"rows": list(range(2000))})
    driver.to_end()
    run = Run(driver.plan, "run", journal=True)
    run.replay({"rows": list(range(2000))}, driver.records[:-3], 0.0)
    (activation,) = run.active

    assert len(list(activation.work.finished())) >= 1999
    assert all(len(record.update or ()) == 1 for record in driver.records if record.kind == "item")
