"""What a journal cannot keep is refused before anything is decided; what did not change is not written out."""

from __future__ import annotations

import math
import operator
from collections.abc import Mapping
from typing import Any

import pytest

from engine.errors import EngineError
from engine.packing import changes
from engine.plan import MapDecl, SubgraphDecl, WaitDecl
from engine.retry import Retry
from engine.runs import Run
from engine.values import Goto
from tests.driver import Driver, edge, fails, graph, same, sets

LOCK = object()


class NotStorable(EngineError):
    pass


class Packer:
    """Packs anything but locks, as a string."""

    def update(self, values: Mapping[str, Any], where: str) -> Any:
        for key, value in values.items():
            if LOCK in (value, *(value if isinstance(value, list) else ())):
                raise NotStorable(f"{where}: {key!r} holds a lock")
        return repr(dict(values))


def packed(plan: Any, state: Any) -> Driver:
    return Driver(plan, run=Run(plan, "run", journal=Packer())).start(state)


def causes(driver: Driver) -> list[str]:
    return [str(failure.cause) for failure in driver.run.failures]


def test_each_update_is_packed_once_and_kept_with_its_record() -> None:
    plan = graph(
        {"a": sets(x=1), "b": {"function": lambda s: Goto("c", {"y": 2}), "goto": ("c",)}, "c": same}, "a -> b -> c"
    )
    driver = packed(plan, {}).to_end()

    assert [(r.node, r.packed) for r in driver.records if r.node] == [("a", "{'x': 1}"), ("b", "{'y': 2}"), ("c", None)]


def test_an_update_that_cannot_be_kept_is_the_failure_of_its_node() -> None:
    driver = packed(graph({"a": sets(x=LOCK), "b": same}, "a -> b"), {}).to_end()

    assert causes(driver) == ["node 'a': 'x' holds a lock"]
    assert driver.run.failures[0].attempts == 1
    assert [(record.kind, record.stage) for record in driver.records] == [("failed", "node"), ("ended", "node")]


def test_it_is_tried_again_and_caught_like_any_other_failure() -> None:
    plan = graph(
        {"a": {"function": sets(x=LOCK), "retry": (Retry(attempts=2),)}, "b": sets(b=1)},
        edge("a -> b", on_error=NotStorable),
    )
    driver = packed(plan, {}).to_end()

    assert [record.kind for record in driver.records] == ["retrying", "error_edge", "settled", "ended"]
    assert driver.state == {"b": 1}


def test_what_a_subgraph_does_and_gives_is_packed_with_its_path() -> None:
    inner = graph({"i": sets(x=LOCK)})
    plan = graph({"sub": {"kind": "subgraph", "subgraph": SubgraphDecl(plan=inner)}})
    driver = packed(plan, {}).to_end()

    assert "node 'sub#1/i': 'x' holds a lock" in str(driver.run.failures[0].cause)


@pytest.mark.parametrize(("policy", "status"), [("fail", "failed"), ("skip", "succeeded"), ("keep", "succeeded")])
def test_an_item_whose_result_cannot_be_kept_has_failed(policy: Any, status: str) -> None:
    def worker(item: int) -> Any:
        return LOCK if item == 1 else item

    decl = MapDecl(worker=worker, over="rows", into="out", on_item_error=policy)
    driver = packed(graph({"m": {"kind": "map", "map": decl}}), {"rows": [0, 1, 2]}).to_end()

    assert driver.run.status == status
    failed = [str(record.error) for record in driver.records if record.kind == "item" and record.error is not None]
    assert failed == ["node 'm[1]': 'out' holds a lock"]


def test_a_signal_that_cannot_be_kept_is_refused_to_whoever_sent_it() -> None:
    plan = graph({"w": {"kind": "wait", "wait": WaitDecl(signals=("ok",), into="ok")}})
    driver = packed(plan, {})
    with pytest.raises(NotStorable, match="signal 'ok'"):
        driver.run.signal("ok", LOCK, 1.0, "id")
    driver.carry_out(driver.run.signal("ok", 1, 2.0, "id"))

    assert driver.state == {"ok": 1}
    signal = next(record for record in driver.records if record.kind == "signal")
    assert (signal.signal, signal.packed) == ((1, "ok", 1, "id"), "{'ok': 1}")


@pytest.mark.parametrize("held", [False, True])
def test_a_retry_with_what_cannot_be_kept_is_refused_and_changes_nothing(held: bool) -> None:
    driver = packed(graph({"a": fails(ValueError())}), {}).to_end()
    before = len(driver.records)
    with pytest.raises(NotStorable, match="retry"):
        driver.run.retry(1.0, {"x": LOCK}, held=held)

    assert driver.run.status == "failed"
    assert len(driver.records) == before


# --- what did not change --------------------------------------------------------------------------------


def test_a_node_that_returns_everything_has_only_its_changes_recorded() -> None:
    big = ["big"]
    driver = packed(graph({"a": lambda s: {**s, "x": 1}}), {"big": big, "n": 7, "x": 0}).to_end()

    assert driver.records[0].update == {"x": 1}
    assert driver.state == {"big": big, "n": 7, "x": 1}


@pytest.mark.parametrize(
    ("before", "after", "changed"),
    [
        (1, 1, False),
        (10**30, 10**30, False),
        ("text" * 9, "".join(["text"] * 9), False),
        (b"x", b"x", False),
        (True, 1, True),
        (1, 1.0, True),
        (2.5, 2.5, False),
        (0.0, -0.0, True),
        (math.nan, math.nan, False),
        ([1], [1], True),
        ((1,), tuple([1]), True),  # noqa: C409  # another object
    ],
)
def test_only_the_same_object_or_an_equal_scalar_is_no_change(before: Any, after: Any, changed: bool) -> None:
    assert bool(changes({"x": after}, {"x": before}, {})) is changed


def test_a_contribution_always_counts() -> None:
    assert changes({"n": 1, "x": 1}, {"n": 1, "x": 1}, {"n": operator.add}) == {"n": 1}


@pytest.mark.parametrize("seed", range(10))
def test_what_is_left_out_is_no_write_that_others_could_be_in_conflict_with(seed: int) -> None:
    plan = graph({"a": same, "b": lambda s: {**s, "y": 1}, "c": sets(x=2), "d": same}, "a -> b,c -> d")
    kept, free = Driver(plan, seed, journal=True), Driver(plan, seed)
    kept.start({"x": 1, "y": 0}).to_end()
    free.start({"x": 1, "y": 0}).to_end()

    assert kept.state == free.state == {"x": 2, "y": 1}
