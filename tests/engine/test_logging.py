"""Every line about a run says which, in fields; an end of a run is one line, an activation none."""

import logging
from typing import Any

import anyio
import pytest

from engine import Context, Engine, Graph, RunFailed
from engine.handle import NAMED_FAILURES


@pytest.fixture
def lines(caplog: pytest.LogCaptureFixture) -> pytest.LogCaptureFixture:
    caplog.set_level(logging.DEBUG, logger="engine")
    return caplog


def fields(record: logging.LogRecord) -> tuple[Any, Any, Any]:
    return record.run, record.graph, record.node  # type: ignore[attr-defined]


def of_engine(lines: pytest.LogCaptureFixture) -> list[logging.LogRecord]:
    return [record for record in lines.records if record.name.startswith("engine")]


async def nothing(state: dict[str, Any]) -> None:
    pass


async def fail(state: dict[str, Any]) -> None:
    raise ValueError("as asked")


async def test_the_end_of_a_run_is_its_only_line(lines: pytest.LogCaptureFixture) -> None:
    graph = Graph("graph").add_node("a", nothing).add_node("b", nothing).add_edge("a", "b").set_entry_point("a")
    async with Engine() as engine:
        run = await engine.submit(graph, {})
        await run.result()

    (line,) = of_engine(lines)
    assert (line.levelname, line.getMessage()) == ("INFO", f"run {run.id} of 'graph' succeeded")
    assert fields(line) == (run.id, "graph", None)


async def test_a_failed_run_is_a_warning_that_tells_what_failed(lines: pytest.LogCaptureFixture) -> None:
    async with Engine() as engine:
        run = await engine.submit(Graph("graph").add_node("bad", fail).set_entry_point("bad"), {})
        await run.wait()

    (line,) = of_engine(lines)
    assert line.levelname == "WARNING"
    assert line.getMessage() == (
        f"run {run.id} of 'graph' failed: node 'bad' failed (activation 1, 1 attempt): ValueError: as asked"
    )
    assert fields(line) == (run.id, "graph", "bad")


async def test_of_many_failures_the_line_tells_some(lines: pytest.LogCaptureFixture) -> None:
    names = [f"bad{number}" for number in range(NAMED_FAILURES + 2)]
    graph = Graph("graph", on_failure="continue")
    for name in names:
        graph.add_node(name, fail)
    async with Engine() as engine:
        with pytest.raises(RunFailed):
            await engine.run(graph.set_entry_point(*names), {})

    (line,) = of_engine(lines)
    assert line.getMessage().count("ValueError") == NAMED_FAILURES
    assert line.getMessage().endswith("; and 2 more")


async def test_a_cancelled_run_tells_why(lines: pytest.LogCaptureFixture) -> None:
    graph = Graph("graph").add_wait("wait", signal="go", into="went").set_entry_point("wait")
    async with Engine() as engine:
        run = await engine.submit(graph, {})
        await run.cancel("not needed")

    (line,) = of_engine(lines)
    assert (line.levelname, line.getMessage()) == ("INFO", f"run {run.id} of 'graph' cancelled: not needed")


async def test_runs_that_leaving_gives_up_are_named_in_a_field(lines: pytest.LogCaptureFixture) -> None:
    graph = Graph("graph").add_wait("wait", signal="go", into="went").set_entry_point("wait")
    async with Engine() as engine:
        run = await engine.submit(graph, {})
        await anyio.wait_all_tasks_blocked()

    line = of_engine(lines)[0]
    assert line.levelname == "WARNING"
    assert line.runs == [run.id]  # type: ignore[attr-defined]


async def test_what_a_node_logs_carries_its_run(lines: pytest.LogCaptureFixture) -> None:
    async def speak(state: dict[str, Any], context: Context) -> None:
        context.logger.info("hello", extra={"mine": 1})

    inner = Graph("inner").add_node("speak", speak).set_entry_point("speak")
    async with Engine() as engine:
        run = await engine.submit(Graph("graph").add_node("sub", inner).set_entry_point("sub"), {})
        await run.result()

    line = of_engine(lines)[0]
    assert (line.name, line.getMessage()) == ("engine.node", "hello")
    assert fields(line) == (run.id, "graph", "sub#1/speak")
    assert (line.activation, line.mine) == (1, 1)  # type: ignore[attr-defined]


async def test_a_subscriber_that_raises_is_told_with_the_run(lines: pytest.LogCaptureFixture) -> None:
    def watch(run: Any, event: Any) -> None:
        raise RuntimeError("as asked")

    async with Engine() as engine:
        engine.subscribe(watch)
        run = await engine.submit(Graph("graph").add_node("a", nothing).set_entry_point("a"), {})
        await run.result()

    told = [line for line in of_engine(lines) if line.levelname == "ERROR"]
    assert told
    assert all(fields(line) == (run.id, "graph", None) for line in told)


async def test_every_line_has_the_same_fields(lines: pytest.LogCaptureFixture) -> None:
    graph = Graph("graph", reducers={}).add_node("a", nothing).add_node("b", nothing).add_node("c", nothing)
    graph.add_choice("a", lambda state: "b", ["b", "c"]).set_entry_point("a")
    graph.add_node("join", nothing, join=2).add_edge(["b", "c"], "join")
    graph.compile()  # warns: an exclusive join
    async with Engine() as engine:
        run = await engine.submit(graph, {})
        await run.wait()

    assert len(of_engine(lines)) >= 2
    for line in of_engine(lines):
        fields(line)
