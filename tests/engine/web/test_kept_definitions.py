"""Definitions that came over HTTP, after the real service was killed: on each store that outlives it."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from engine.client import Client
from tests.engine.restarted import LOOP, Process
from tests.servers import fresh_postgres, fresh_redis

GATED = {
    "name": "gated",
    "entry_point": "step",
    "nodes": [{"name": "step"}, {"name": "gate", "wait": {"signal": "go", "into": "gone"}}],
    "edges": [{"source": "step", "target": "gate"}],
}


@pytest.fixture(params=["sqlite", "postgres", "redis"])
def service(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Process]:
    stores = {"sqlite": lambda: "sqlite:///kept.db", "postgres": fresh_postgres, "redis": fresh_redis}
    found = Process(tmp_path, "asyncio", "--store", stores[request.param]())
    found.start()
    yield found
    found.stop()


def test_definitions_are_there_and_their_runs_go_on_after_a_kill(service: Process) -> None:
    with Client(service.url) as client:
        client.define(GATED)
        client.define({**GATED, "version": "2"})
        client.define(LOOP)
        client.forget("loop")
        first = client.submit("gated")
        inline = client.submit({**GATED, "name": "inline"})
        service.stop()
        service.start()

        assert (client.graph("gated").versions, client.graph("gated").version) == (["1", "2"], "2")
        assert sorted({name for name, _ in client.graphs()}) == ["gated", "inline"]
        for run in (first, inline):
            run.signal("go", 7)
            assert run.result(timeout=20).state["gone"] == 7
