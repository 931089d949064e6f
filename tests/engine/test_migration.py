"""A run moves to another definition of its graph only if what its journal mentions is there what it was."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from engine import Engine, Goto, Graph, Run, VersionMismatch, keeping
from engine.stored import Define, Write
from engine.stores.memory import MemoryStore

State = dict[str, Any]
Make = Callable[[], Graph]


def same(state: State) -> None:
    """Changes nothing."""


def count(state: State) -> State:
    return {"n": state.get("n", 0) + 1}


def with_nodes(*names: str, **options: Any) -> Graph:
    graph = Graph("g", **options)
    for name in names:
        graph.add_node(name, count if name == "count" else same, run_in="loop")
    return graph.add_wait("wait", signal="go", into="it").set_entry_point(names[0])


def plain() -> Graph:
    """It waits after `a`."""
    return with_nodes("a", "b", "c").add_edge("a", "wait").add_edge("wait", "b").add_edge("b", "c")


async def begun(store: MemoryStore, graph: Graph, state: State | None = None) -> str:
    """A run that waits."""
    async with Engine(store) as engine:
        run = await engine.submit(graph, state or {})
    assert run.status == "waiting"
    return run.id


async def moved(store: MemoryStore, graph: Graph, id: str) -> Run:
    """The run, gone on to its end on another definition."""
    async with Engine(store) as engine:
        engine.register(graph)
        run = await engine.migrate(id)
        await run.signal("go", True)
        await run.wait()
        return run


async def refusal(store: MemoryStore, graph: Graph, id: str) -> str:
    """Why it does not move."""
    async with Engine(store) as engine:
        engine.register(graph)
        with pytest.raises(VersionMismatch) as refused:
            await engine.migrate(id)
        assert refused.value.run_id == id
        assert (await engine.get(id)).status == "waiting"
        return "; ".join(refused.value.reasons)


@pytest.fixture
def store() -> MemoryStore:
    return MemoryStore()


async def test_an_edge_that_was_taken_and_is_at_another_place_now_is_named(store: MemoryStore) -> None:
    id = await begun(store, plain())
    changed = with_nodes("a", "b", "c", "d").add_edge("a", "d", when=lambda state: False)
    changed.add_edge("a", "wait").add_edge("wait", "b").add_edge("b", "c")

    assert (
        await refusal(store, changed, id)
        == "edge 'a -> wait' was number 1 of the edges, where 'a -> d' (when) stands now"
    )
    run = await moved(store, plain().add_node("d", same, run_in="loop").add_edge("c", "d"), id)
    assert (run.status, run.visited) == ("succeeded", ["a", "wait", "b", "c", "d"])


async def test_edges_that_no_record_mentions_may_be_anywhere(store: MemoryStore) -> None:
    id = await begun(store, plain())
    changed = with_nodes("a", "b", "d").add_edge("a", "wait").add_edge("wait", "d").add_edge("d", "b")
    run = await moved(store, changed, id)

    assert (run.status, run.visited) == ("succeeded", ["a", "wait", "d", "b"])


async def test_a_new_edge_that_moves_one_of_a_goto_is_found(store: MemoryStore) -> None:
    def graph(*more: tuple[str, str]) -> Graph:
        graph = Graph("g").add_node("a", lambda state: Goto("wait"), goto=["wait"], run_in="loop")
        graph.add_wait("wait", signal="go", into="it").add_node("b", same, run_in="loop").add_edge("wait", "b")
        for edge in more:
            graph.add_edge(*edge)
        return graph.set_entry_point("a")

    id = await begun(store, graph())
    changed = graph(("b", "c")).add_node("c", same, run_in="loop")

    assert "edge 'a -> wait' (goto) was number 2" in await refusal(store, changed, id)


@pytest.mark.parametrize(
    ("make", "reason"),
    [
        (lambda: plain().set_entry_point("a", "c"), "the entry points were 'a' and are 'a', 'c'"),
        (lambda: other_wait("went"), "into of node 'wait' was 'it' and is 'went'"),
        (lambda: with_options(on_failure="continue"), "on_failure was 'cancel' and is 'continue'"),
        (lambda: with_options(conflicts="last"), "conflicts was 'error' and is 'last'"),
    ],
)
async def test_what_else_would_change_what_has_been_is_named(store: MemoryStore, make: Make, reason: str) -> None:
    id = await begun(store, plain())

    assert reason in await refusal(store, make(), id)


def other_wait(into: str) -> Graph:
    graph = Graph("g").add_node("a", same, run_in="loop").add_node("b", same, run_in="loop")
    graph.add_node("c", same, run_in="loop").add_wait("wait", signal="go", into=into)
    return graph.add_edge("a", "wait").add_edge("wait", "b").add_edge("b", "c").set_entry_point("a")


def with_options(**options: Any) -> Graph:
    graph = with_nodes("a", "b", "c", **options)
    return graph.add_edge("a", "wait").add_edge("wait", "b").add_edge("b", "c")


async def test_a_join_that_took_place_by_another_policy_is_named(store: MemoryStore) -> None:
    def graph(join: Any) -> Graph:
        graph = Graph("g").add_node("a", same, run_in="loop").add_node("b", same, run_in="loop")
        graph.add_wait("wait", signal="go", into="it", join=join).add_edge(["a", "b"], "wait")
        return graph.set_entry_point("a", "b")

    id = await begun(store, graph("all"))

    assert await refusal(store, graph("any"), id) == "join of node 'wait' was 'all' and is 'any'"


async def test_a_key_that_was_set_and_has_got_a_reducer_is_named(store: MemoryStore) -> None:
    def graph(**options: Any) -> Graph:
        return with_nodes("count", **options).add_edge("count", "wait")

    id = await begun(store, graph(), {"n": 5})
    assert await refusal(store, graph(reducers={"n": lambda a, b: a + b}), id) == "key 'n' has got a reducer"
    assert (await moved(store, graph(reducers={"m": lambda a, b: a + b}), id)).state == {"n": 6, "it": True}


async def test_what_was_inside_of_a_subgraph_counts(store: MemoryStore) -> None:
    def graph(*first: str, version: str = "1") -> Graph:
        inner = Graph("inner").add_node("x", same, run_in="loop").add_wait("wait", signal="go", into="it")
        for name in first:
            inner.add_node(name, same, run_in="loop").add_edge("x", name, when=lambda state: False)
        inner.add_edge("x", "wait").set_entry_point("x")
        return Graph("g", version=version).add_node("sub", inner).set_entry_point("sub")

    id = await begun(store, graph())

    reason = await refusal(store, graph("y", version="2"), id)
    assert reason == "edge 'x -> wait' of 'sub' was number 1 of the edges, where 'x -> y' (when) stands now"
    assert (await moved(store, graph(version="3"), id)).state == {"it": True}


async def test_without_the_definition_that_it_began_on_nothing_can_be_told_so_it_does_not_move(
    store: MemoryStore,
) -> None:
    class Forgetful(MemoryStore):
        async def commit(self, writes: Any, *, sync: bool = False) -> None:
            kept: list[Write] = [write for write in writes if not isinstance(write, Define)]
            await super().commit(kept, sync=sync)

    forgetful = Forgetful()
    id = await begun(forgetful, plain())
    changed = plain().add_node("d", same, run_in="loop").add_edge("c", "d")

    assert "does not have the definition that it began on" in await refusal(forgetful, changed, id)


async def test_a_run_with_a_snapshot_moves_only_if_all_that_was_there_is(
    store: MemoryStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(keeping, "SNAPSHOT_RECORDS", 5)
    monkeypatch.setattr(keeping, "SNAPSHOT_FACTOR", 0)

    def graph(*edges: tuple[str, str], first: str = "") -> Graph:
        graph = Graph("g")
        if first:
            graph.add_node(first, same, run_in="loop")
        graph.add_node("count", count, run_in="loop").add_wait("wait", signal="go", into="it")
        for name in dict.fromkeys(end for edge in edges for end in edge if end != "wait"):
            graph.add_node(name, same, run_in="loop")
        graph.add_edge("count", "count", when=lambda state: state["n"] < 20, max_iterations=100)
        graph.add_edge("count", "wait", otherwise=True)
        for edge in edges:
            graph.add_edge(*edge)
        if first:
            graph.add_edge("wait", first)
        return graph.set_entry_point("count")

    id = await begun(store, graph(("wait", "b")), {"n": 0})
    assert "node 'count' was number 0 and is number 1" in await refusal(store, graph(("wait", "b"), first="z"), id)
    assert "edge 'wait -> b' was number 3" in await refusal(store, graph(("wait", "c"), ("c", "b")), id)
    run = await moved(store, graph(("wait", "b"), ("b", "c"), ("c", "d")), id)
    assert (run.status, run.state) == ("succeeded", {"n": 20, "it": True})
    assert run.visited[-3:] == ["b", "c", "d"]


async def test_a_run_that_has_moved_can_move_again_and_be_forked(store: MemoryStore) -> None:
    def graph(*nodes: str) -> Graph:
        graph = with_nodes("count").add_edge("count", "wait")
        for source, target in zip(("wait", *nodes), nodes, strict=False):
            graph.add_node(target, same, run_in="loop").add_edge(source, target)
        return graph

    id = await begun(store, graph())
    for nodes in (("b",), ("b", "c")):
        async with Engine(store) as engine:
            engine.register(graph(*nodes))
            assert (await engine.migrate(id)).status == "waiting"
    async with Engine(store) as engine:
        engine.register(graph("b", "c"))
        fork = await engine.fork(id, "count#1", {"n": 9})
        for run in (fork, await engine.get(id)):
            await run.signal("go", True)
            await run.wait()
        assert (fork.state, fork.visited) == ({"n": 10, "it": True}, ["count", "wait", "b", "c"])


async def test_a_fork_on_another_definition_needs_only_what_it_keeps(store: MemoryStore) -> None:
    before = with_nodes("count", "b", "c").add_edge("count", "b").add_edge("b", "c").add_edge("c", "wait")
    id = await begun(store, before)
    changed = with_nodes("count", "b", "c", "z").add_edge("count", "b").add_edge("b", "z").add_edge("z", "c")
    changed.add_edge("c", "wait")
    async with Engine(store) as engine:
        engine.register(changed)
        with pytest.raises(VersionMismatch, match=r"edge 'b -> c' was number 2 of the edges, where 'b -> z' stands"):
            await engine.fork(id, "c#1")
        fork = await engine.fork(id, "b#1")
        await fork.signal("go", True)
        await fork.wait()
        assert fork.visited == ["count", "b", "z", "c", "wait"]
