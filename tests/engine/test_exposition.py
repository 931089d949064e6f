"""The quick writer writes what the library's own does, to the byte, in both formats and for any other's metrics too."""

from __future__ import annotations

from functools import partial
from typing import Any

import anyio
import anyio.lowlevel
import pytest
from prometheus_client import Gauge, generate_latest
from prometheus_client.openmetrics.exposition import generate_latest as generate_open_metrics
from prometheus_client.registry import CollectorRegistry

from engine import Engine, Graph, Retry, RunFailed
from engine.exposition import Family, Histograms, Numbers, Summaries, exposed

FORMATS = [
    pytest.param(generate_latest, False, id="text"),
    pytest.param(partial(generate_open_metrics, version="1.0.0"), True, id="open metrics"),
]
ODD = 'a "node"\\ of\ntwo lines, é'


async def fail(state: dict[str, Any]) -> None:
    raise ValueError("no")


async def nothing(state: dict[str, Any]) -> None: ...


@pytest.mark.parametrize(("encode", "open_metrics"), FORMATS)
async def test_an_engine_is_told_of_as_the_library_would(encode: Any, open_metrics: bool) -> None:
    graph = Graph(ODD).add_node(ODD, nothing, concurrency=1).add_node("le", nothing).add_edge(ODD, "le", capacity=1)
    graph.add_node("fails", fail, retry=Retry(attempts=2, delay=0)).add_edge("le", "fails").set_entry_point(ODD)
    async with Engine("memory://") as engine:
        for _ in range(3):
            with pytest.raises(RunFailed):
                await engine.run(graph)
        await engine.submit(Graph("waits").add_wait("w", signal="go", into="x").set_entry_point("w"))
        await anyio.lowlevel.checkpoint()
        Gauge("a_programs_own", "Of whoever mounts it.", registry=engine.metrics).set(7)

        written = exposed(engine.metrics, encode, open_metrics=open_metrics)

        assert written.decode() == encode(engine.metrics).decode()
        assert b"workflow_node_duration_seconds_bucket{" in written
        assert b"a_programs_own 7.0" in written


@pytest.mark.parametrize(("encode", "open_metrics"), FORMATS)
@pytest.mark.parametrize(
    "number", [0, 1, 999_999, 1_000_000, 12_345_678, 0.1, 1e-9, 123456789.25, float("inf"), -2, True]
)
def test_numbers_are_written_as_go_writes_them(encode: Any, open_metrics: bool, number: float) -> None:
    families: list[Family] = [
        Numbers("a", "help", "gauge", ["y", "x"]),
        Numbers("b", "help", "counter", []),
        Summaries("c", "help", "summary", ["x"]),
        Histograms("d", "help", "histogram", ["a", "z"]),
        Histograms("e", "help", "histogram", []),
    ]
    families[0].add(("1", "2"), number)
    families[1].add((), number)
    families[2].add(("1",), (number, number))
    whole = int(number) if number == number // 1 and number != float("inf") and number >= 0 else 1
    families[3].add(("1", "2"), ((0.5, 1.0), [whole, 0, 1], number))
    families[4].add((), ((0.5, 1.0), [0, whole, 1], number))

    class Collected(CollectorRegistry):
        def collect(self) -> Any:
            return iter(families)

    assert exposed(Collected(), encode, open_metrics=open_metrics).decode() == encode(Collected()).decode()
