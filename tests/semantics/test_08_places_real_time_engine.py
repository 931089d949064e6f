"""Errors name their place; what a node raises fails the node and nothing else; what is asked wrongly is said so."""

from __future__ import annotations

from typing import Any

import pytest

from engine import END, Engine, Graph, StateInvalid
from engine.errors import UnknownNode
from tests.semantics.engine_cases import ended, failure_of, forever, graph, same, sets

PLACES = ("loop", "thread")


def raises(error: BaseException) -> Any:
    def function(*args: Any) -> Any:
        raise error

    return function


async def test_a_condition_that_raises_names_its_edge() -> None:
    made = graph({"a": same, "b": same}).add_edge("a", "b", when=raises(ZeroDivisionError("no")))

    failed = await failure_of(made, {})
    assert isinstance(failed.cause, ZeroDivisionError)
    assert "raised by the condition of a -> b" in str(failed)


async def test_a_router_that_raises_names_its_node() -> None:
    made = graph({"a": same, "b": same}).add_choice("a", raises(KeyError("no")), ["b", END])

    assert "raised by the router of 'a'" in str(await failure_of(made, {}))


async def test_a_reducer_that_raises_names_its_key() -> None:
    made = graph({"a": sets(n=1)}, reducers={"n": lambda value, more: value + more})

    failed = await failure_of(made, {"n": "text"})
    assert isinstance(failed.cause, TypeError)
    assert "raised by the reducer of 'n'" in str(failed)


@pytest.mark.parametrize("value", [None, 5, "abc", {"a": 1}, b"x"], ids=repr)
async def test_a_map_over_what_has_no_items_says_what_it_found(value: Any) -> None:
    made = Graph("test").add_map("m", same, over="rows", into="out").set_entry_point("m")

    failed = await failure_of(made, {"rows": value})
    assert isinstance(failed.cause, StateInvalid)
    assert "map 'm': key 'rows' holds" in str(failed)


@pytest.mark.parametrize(
    "error", [SystemExit(3), GeneratorExit(), BaseException("odd")], ids=lambda e: type(e).__name__
)
@pytest.mark.parametrize("place", ["loop", "thread", "async", "late"])
async def test_an_exit_fails_the_node_and_not_the_engine(error: BaseException, place: str) -> None:
    import anyio

    async def at_once(state: Any) -> None:
        raise error

    async def late(state: Any) -> None:
        await anyio.sleep(0.01)
        raise error

    def plain(state: Any) -> None:
        raise error

    functions: dict[str, Any] = {"async": at_once, "late": late}
    made = Graph("test").add_node(
        "n", functions.get(place, plain), run_in=place if place in ("loop", "thread") else None
    )
    made.set_entry_point("n")
    async with Engine() as engine:
        run = await engine.submit(made, {})
        await run.wait()
        assert run.status == "failed"
        assert (await engine.run(graph({"a": sets(x=1)}, name="other"), {})).state == {"x": 1}

    assert run.machine.failures[0].cause is error


async def test_a_stop_iteration_from_a_thread_is_what_the_node_raised() -> None:
    def plain(state: Any) -> None:
        raise StopIteration("over")

    failed = await failure_of(graph({"a": plain}), {})
    assert isinstance(failed.cause, StopIteration)


async def test_a_cancelled_wait_and_a_cancelled_map_have_their_log_entries() -> None:
    made = Graph("test").add_wait("w", signal="go", into="x").add_map("m", forever, over="rows", into="out")
    made.set_entry_point("w", "m")
    async with Engine() as engine:
        run = await engine.submit(made, {"rows": [1]})
        await run.cancel()
        await run.wait()

    assert {(e.node, e.status) for e in run.log if "[" not in e.node} == {("w", "cancelled"), ("m", "cancelled")}


async def test_retry_with_what_is_no_mapping_says_so() -> None:
    run = await ended(graph({"a": raises(ValueError())}), {})

    with pytest.raises(StateInvalid, match=r"the update of retry\(\) is 5 \(int\), expected a mapping"):
        run.machine.retry(0.0, 5)  # type: ignore[arg-type]


async def test_explain_names_what_failed_what_ended_and_what_there_is() -> None:
    run = await ended(graph({"a": same, "b": raises(ValueError("no"))}, "a -> b"), {})

    assert run.explain("a") == "a: #1 succeeded"
    assert run.explain("b") == "b: #1 failed: ValueError: no"
    with pytest.raises(UnknownNode, match="known are 'a', 'b'"):
        run.explain("zz")
