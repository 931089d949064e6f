"""How far a run is, from what any run can tell."""

from collections.abc import AsyncGenerator
from contextlib import aclosing
from typing import Any, cast

import attrs
import pytest

from engine import Engine
from engine.drawing.progress import path_of, progress_of
from engine.graph import Graph


@attrs.frozen
class Entry:
    node: str
    status: str
    activation: int = 1


@attrs.frozen
class FakeRun:
    visited: tuple[str, ...] = ()
    log: tuple[Entry, ...] = ()
    status: str = "running"
    visited_dropped: int = 0


@pytest.mark.parametrize(
    ("name", "path"),
    [
        ("draft", ("draft",)),
        ("publish#1/check", ("publish", "check")),
        ("score#2[13]/inner#1/check", ("score", "inner", "check")),
        ("a/b", ("a/b",)),
        ("a#1", ("a#1",)),
    ],
)
def test_names_of_nodes_within_nodes_are_taken_apart(name: str, path: tuple[str, ...]) -> None:
    assert path_of(name) == path


@pytest.mark.parametrize(
    ("run", "status"),
    [
        (None, "unreached"),
        (FakeRun(), "unreached"),
        (FakeRun(("a",)), "running"),
        (FakeRun(("a",), (Entry("a", "succeeded"),)), "done"),
        (FakeRun(("a", "a"), (Entry("a", "succeeded"),)), "running"),
        (FakeRun(("a", "a"), (Entry("a", "succeeded"),), visited_dropped=5), "done"),
        (FakeRun(("a", "a"), (Entry("a", "succeeded"),), status="failed"), "done"),
        (FakeRun(("a",), (Entry("a", "failed"),)), "failed"),
        (FakeRun(("a",), (Entry("a", "timed_out"),)), "failed"),
        (FakeRun(("a",), (Entry("a", "failed"), Entry("a", "succeeded"))), "done"),
        (FakeRun(("a",), (Entry("a", "cancelled"),), status="cancelled"), "cancelled"),
        (FakeRun(("b#1/a",)), "unreached"),
    ],
)
def test_the_status_of_a_node(run: Any, status: str) -> None:
    assert progress_of(run).status(("a",)) == status


def test_a_wait_that_is_not_over_waits() -> None:
    assert progress_of(FakeRun(("a",))).status(("a",), waits=True) == "waiting"


async def test_a_run_of_the_engine_can_be_drawn_while_it_goes_on_and_after() -> None:
    inner = Graph("inner").add_node("x", lambda state: {"x": 1}, run_in="loop").set_entry_point("x")
    graph = Graph("g").add_node("a", inner).add_wait("w", signal="go", into="w").add_node("b", lambda state: None)
    graph.add_edge("a", "w").add_edge("w", "b").set_entry_point("a")

    async with Engine() as engine:
        run = await engine.submit(graph, {})
        async with aclosing(cast(AsyncGenerator[Any, None], run.events())) as events:
            async for _ in events:
                if run.status == "waiting":
                    break
        before = graph.draw("text", run)
        await run.signal("go")
        after = graph.draw("text", await run.result())

    assert [line for line in before.splitlines() if line.lstrip("│ ")[:1] in set("✓▶‖·")] == [
        "✓ a (graph of 1 node) → w",
        "│   ✓ x",
        "‖ w (waits for go) → b",
        "· b",
    ]
    assert "✓ b" in after
