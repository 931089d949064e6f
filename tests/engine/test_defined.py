"""Graphs that an engine knows from their definitions: kept in its store, there again at the next start, forgotten."""

from pathlib import Path
from typing import Any

import anyio
import pytest

from engine import (
    Engine,
    Graph,
    GraphConflict,
    GraphInUse,
    GraphInvalid,
    GraphNotFound,
    RunIdTaken,
    StoreUnavailable,
    ToolRegistry,
)
from engine.history import History
from engine.stores.memory import MemoryStore
from tests.engine.test_durable_leaving import Slow
from tests.faulty_store import FaultyStore
from tests.virtual_time import in_virtual_time

TOOLS = ToolRegistry()


@TOOLS.tool
def count(state: dict[str, Any]) -> dict[str, Any]:
    return {"n": state.get("n", 0) + 1}


def definition(name: str = "counting", version: str = "1", **more: Any) -> dict[str, Any]:
    return {
        "name": name,
        "version": version,
        "entry_point": "count",
        "nodes": [{"name": "count", **more}, {"name": "gate", "wait": {"signal": "go", "into": "gone"}}],
        "edges": [{"source": "count", "target": "gate"}],
    }


async def test_a_defined_graph_can_be_submitted_by_name_and_version() -> None:
    async with Engine(tools=TOOLS) as engine:
        await engine.define(definition(version="1"))
        await engine.define(definition(version="2"))
        first = await engine.submit("counting", {}, version="1")
        last = await engine.submit("counting", {})
        versions = first.version, last.version
        for run in (first, last):
            await run.cancel()

    assert versions == ("1", "2")


async def test_a_run_of_a_defined_graph_goes_on_after_a_restart_without_anybody_defining_it(tmp_path: Path) -> None:
    store = f"sqlite:///{tmp_path / 'runs.db'}"
    async with Engine(store, tools=TOOLS) as engine:
        await engine.define(definition())
        run_id = (await engine.submit("counting", {})).id

    async with Engine(store, tools=TOOLS) as engine:
        run = await engine.get(run_id)
        await run.signal("go", "now")
        result = await run.result(60)

    assert result.state == {"n": 1, "gone": "now"}


@in_virtual_time
async def test_a_graph_that_is_used_while_it_is_defined_is_kept_all_the_same() -> None:
    store = Slow()
    store.seconds = 0.02
    async with Engine(store, tools=TOOLS) as engine, anyio.create_task_group() as group:
        group.start_soon(engine.define, definition())
        await anyio.sleep(0.01)  # it is known, and on its way into the store
        await (await engine.submit("counting", {})).cancel()
    async with Engine(store, tools=TOOLS) as engine:
        assert engine.graphs() == [("counting", "1")]


async def test_the_same_definition_again_is_no_other_graph(tmp_path: Path) -> None:
    store = f"sqlite:///{tmp_path / 'runs.db'}"
    async with Engine(store, tools=TOOLS) as engine:
        await engine.define(definition())
        await engine.define(definition())
        with pytest.raises(GraphConflict):
            await engine.define(definition(timeout=3))

    async with Engine(store, tools=TOOLS) as engine:
        await engine.define(definition())
        with pytest.raises(GraphConflict):
            await engine.define(definition(timeout=3))
        known = engine.graphs()

    assert known == [("counting", "1")]


async def test_a_definition_with_faults_is_not_kept(tmp_path: Path) -> None:
    store = f"sqlite:///{tmp_path / 'runs.db'}"
    async with Engine(store, tools=TOOLS) as engine:
        with pytest.raises(GraphInvalid):
            await engine.define(definition(tool="nothing"))

    async with Engine(store, tools=TOOLS) as engine:
        assert engine.graphs() == []


async def test_a_kept_definition_whose_tools_are_gone_is_told_in_the_log(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    store = f"sqlite:///{tmp_path / 'runs.db'}"
    async with Engine(store, tools=TOOLS) as engine:
        await engine.define(definition())

    async with Engine(store, tools=ToolRegistry()) as engine:
        known = engine.graphs()

    assert known == []
    assert "'counting' version '1'" in caplog.text


async def test_a_definition_that_cannot_be_written_is_refused() -> None:
    store = FaultyStore(MemoryStore())
    async with Engine(store, tools=TOOLS) as engine:
        store.fail()
        with pytest.raises(StoreUnavailable):
            await engine.define(definition())
        known = engine.graphs()
        store.heal()

    assert known == []


@pytest.mark.parametrize("store", [None, "memory://"])
async def test_a_graph_is_forgotten_only_when_no_run_needs_it(store: str | None) -> None:
    async with Engine(store, tools=TOOLS) as engine:
        await engine.define(definition())
        run = await engine.submit("counting", {})
        with pytest.raises(GraphInUse, match=run.id):
            await engine.forget("counting", "1")
        await run.cancel()
        await run.wait()
        await engine.forget("counting", "1")
        with pytest.raises(GraphNotFound):
            await engine.submit("counting", {})
        await engine.define(definition(timeout=3))


async def test_a_forgotten_graph_stays_forgotten(tmp_path: Path) -> None:
    store = f"sqlite:///{tmp_path / 'runs.db'}"
    async with Engine(store, tools=TOOLS) as engine:
        await engine.define(definition(version="1"))
        await engine.define(definition(version="2"))
        await engine.forget("counting", "2")
        assert engine.graph("counting") is engine.graph("counting", "1")

    async with Engine(store, tools=TOOLS) as engine:
        assert engine.graphs() == [("counting", "1")]


async def test_a_run_that_is_parked_keeps_its_graph(tmp_path: Path) -> None:
    store = f"sqlite:///{tmp_path / 'runs.db'}"
    graph = Graph("parked").add_node("a", count).add_wait("b", signal="go", into="x").add_edge("a", "b")
    async with Engine(store, tools=TOOLS) as engine:
        await engine.submit(graph.set_entry_point("a"), {})

    changed = Graph("parked").add_node("a", count).set_entry_point("a")
    async with Engine(store, tools=TOOLS) as engine:
        engine.register(changed)
        with pytest.raises(GraphInUse):
            await engine.forget("parked", "1")


async def test_a_name_means_its_newest_version_in_whatever_order_they_came() -> None:
    async with Engine(tools=TOOLS) as engine:
        for version in ("1.9", "1.10", "1.2"):
            await engine.define(definition(version=version))
        newest = engine.plan("counting").version
        await engine.forget("counting", "1.10")

        assert (newest, engine.plan("counting").version) == ("1.10", "1.9")


async def test_a_version_that_is_not_there_is_told_with_those_that_are() -> None:
    async with Engine(tools=TOOLS) as engine:
        await engine.define(definition())
        with pytest.raises(GraphNotFound, match="'counting' version '7', known are '1'"):
            await engine.submit("counting", {}, version="7")


async def test_an_id_that_is_taken_is_an_error_of_its_own() -> None:
    async with Engine(tools=TOOLS) as engine:
        await engine.define(definition())
        run = await engine.submit("counting", {}, run_id="mine")
        with pytest.raises(RunIdTaken):
            await engine.submit("counting", {}, run_id="mine")
        await run.cancel()


async def test_who_asks_is_told_when_the_engine_begins_to_drain() -> None:
    told: list[str] = []
    async with Engine() as engine:
        engine.on_drain(lambda: told.append("before"))
        assert not engine.is_draining
        await engine.drain()
        engine.on_drain(lambda: told.append("after"))
        assert engine.is_draining

    assert told == ["before", "after"]


async def test_a_reader_gets_pages_and_may_be_cancelled_while_it_waits() -> None:
    async with Engine(tools=TOOLS) as engine:
        await engine.define(definition())
        run = await engine.submit("counting", {})
        reader = run.reader()
        read = []
        while not read or read[-1].type != "run_waiting":
            read += await reader.page()
        with anyio.move_on_after(0.01):
            await reader.page()
        await run.signal("go")
        while page := await reader.page():
            read += page

    assert [event.seq for event in read] == list(range(1, len(read) + 1))
    assert read[-1].type == "run_succeeded"


def test_a_page_of_a_history_is_where_all_of_it_would_be() -> None:
    history = History(50)
    for number in range(60):
        history.event("node_progress", float(number))
    everything = history.events(10)

    assert history.events(10, 7) == everything[:7]
    assert history.events(59) == everything[-1:]
    assert history.events(60) == []
