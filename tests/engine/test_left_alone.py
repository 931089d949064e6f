"""An engine that goes on only with the runs that it is asked for, and does not ask the patient twice."""

from pathlib import Path
from typing import Any

import anyio
import pytest

from engine import Engine, Graph, Settings, StoreUnavailable, durable
from engine.stored import Query

State = dict[str, Any]


def store_of(engine: Engine) -> durable.Durable:
    assert engine._durable is not None
    return engine._durable


def graph() -> Graph:
    async def end(state: State) -> State:
        return {"ended": True}

    made = Graph("g").add_wait("ask", signal="go", into="answer").add_node("end", end)
    return made.add_edge("ask", "end").set_entry_point("ask")


async def test_only_the_run_that_is_asked_for_goes_on(tmp_path: Path) -> None:
    url, made = f"sqlite:///{tmp_path}/runs.db", graph()
    async with Engine(url) as engine:
        for name in ("one", "two"):
            await engine.submit(made, {}, run_id=name)
    async with Engine(url) as engine:  # which keeps the signals, and knows no graph
        for name in ("one", "two"):
            await (await engine.get(name)).signal("go")

    async with Engine(url, settings=Settings(recover=False)) as engine:
        engine.register(made)
        assert (await (await engine.get("one")).result()).state["ended"]
        assert [row.run_id for row in await store_of(engine).find(Query(status=("running",)))] == ["two"]

    async with Engine(url) as engine:
        engine.register(made)
        assert (await (await engine.get("two")).result()).state["ended"]


async def test_who_has_been_patient_is_not_asked_again(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(durable, "PATIENCE", 0.02)
    calls = 0

    async def claim() -> None:
        nonlocal calls
        calls += 1
        await anyio.sleep(0.05)
        raise StoreUnavailable("in use")

    with pytest.raises(StoreUnavailable):
        await durable.patiently(claim)

    assert calls == 1
