"""A node in a worker process means what it means in a thread."""

from __future__ import annotations

import operator
from typing import Any

import pytest

from engine import Batch, Engine, Graph, RunFailed, StateInvalid, StateMutated
from engine.errors import NotReachable
from tests.semantics import process_nodes as nodes
from tests.semantics.engine_cases import failing, same

PLACES = ("thread", "process")


def one_node(function: Any, place: str, options: dict[str, Any] | None = None, **settings: Any) -> Graph:
    made = Graph("test", **settings).add_node("node", function, run_in=place, **(options or {}))
    return made.set_entry_point("node")


async def outcome(made: Graph, state: Any) -> tuple[Any, Any]:
    async with Engine() as engine:
        run = await engine.submit(made, state)
        result = await run.result()
    return result.state, [entry.keys for entry in result.log]


@pytest.mark.parametrize("isolation", ["shallow", "deep", "check"])
@pytest.mark.parametrize(
    "function",
    [nodes.in_place, nodes.in_place_and_returned, nodes.passes_on, nodes.contributes],
    ids=lambda f: f.__name__,
)
async def test_what_a_node_does_to_a_dict_is_the_same_update_in_a_process(function: Any, isolation: Any) -> None:
    state = {"n": 1000, "notes": ["a"], "big": 10**6}
    settings: dict[str, Any] = {"reducers": {"notes": operator.add}, "isolation": isolation}
    thread, process = [await outcome(one_node(function, place, **settings), dict(state)) for place in PLACES]

    assert process == thread


async def test_a_value_changed_in_place_and_passed_on_of_a_deep_copy_counts_in_a_process_too() -> None:
    function = nodes.changes_a_value_and_passes_it_on
    thread, process = [await outcome(one_node(function, p, isolation="deep"), {"deep": [0]}) for p in PLACES]

    assert process == thread == ({"deep": [0, 1]}, [("deep",)])


async def test_fields_of_an_object_that_a_process_sets_in_place_are_its_update() -> None:
    made = one_node(nodes.object_in_place, "process", state=nodes.Counted)
    state, keys = await outcome(made, nodes.Counted(notes=["a"]))

    assert (state.n, state.notes, keys) == (9, ["a"], [("n",)])


async def test_a_whole_state_returned_by_a_process_changes_only_what_differs() -> None:
    state, keys = await outcome(one_node(nodes.whole, "process", state=nodes.Frozen), nodes.Frozen(notes=["a"]))

    assert (state.n, state.notes, keys) == (3, ["a"], [("n",)])


async def test_a_goto_from_a_process_carries_its_update_once() -> None:
    made = Graph("test", reducers={"notes": operator.add}).add_node("node", nodes.goes, run_in="process", goto="after")
    made.add_node("after", nodes.after).set_entry_point("node")

    assert (await outcome(made, {"notes": ["a"]}))[0] == {"notes": ["a"], "n": 7}


async def test_params_and_batches_go_to_a_process_as_to_a_thread() -> None:
    with_params = one_node(nodes.with_params, "process", {"params": {"by": 2}}, reducers={"notes": operator.add})
    batch = one_node(nodes.batch, "process", {"batch": Batch(2, 0.01)}, reducers={"notes": operator.add})

    assert (await outcome(with_params, {"n": 1, "notes": [1]}))[0] == {"n": 3, "notes": [1]}
    assert (await outcome(batch, {"n": 1, "notes": [1]}))[0] == {"n": 11, "notes": [1]}


@pytest.mark.parametrize(
    ("function", "error"),
    [(nodes.changes_a_value, StateMutated), (nodes.removes, StateInvalid)],
    ids=["mutated", "gone"],
)
async def test_what_a_node_must_not_do_fails_it_in_a_process_too(function: Any, error: Any) -> None:
    messages = []
    for place in PLACES:
        async with Engine() as engine:
            run = await engine.submit(one_node(function, place, isolation="check"), {"n": 1, "notes": []})
            with failing() as failures:
                await run.result()
        assert isinstance(failures[0].__cause__, error)
        messages.append(str(failures[0].__cause__))

    assert messages[0] == messages[1]


# --- Context ----------------------------------------------------------------------------------------------


async def test_a_process_reads_its_context() -> None:
    made = one_node(nodes.tells_context, "process")
    async with Engine() as engine:
        state = (await engine.run(made, {}, run_id="r1", deadline=60)).state

    assert state["facts"] == ("r1/node#1", "r1", "test", "node", 1, 1, 1)
    assert state["deadline"] is not None


async def test_a_process_behind_an_error_edge_reads_what_failed() -> None:
    made = one_node(nodes.fails, "process").add_node("repair", nodes.tells_error, run_in="process")
    made.add_edge("node", "repair", on_error=ValueError)

    assert (await outcome(made, {}))[0]["error"] == ("node", "ValueError", "no")


@pytest.mark.parametrize("function", [nodes.tells_progress, nodes.uses_tools], ids=["progress", "tools"])
async def test_what_a_context_cannot_do_in_a_process_is_said_so(function: Any) -> None:
    made = one_node(function, "process")
    async with Engine(tools={"anything": same}) as engine:
        with pytest.raises(RunFailed) as raised:
            await engine.run(made, {})

    cause = raised.value.failures[0].__cause__
    assert isinstance(cause, NotReachable)
    assert "run_in='thread'" in str(cause)
