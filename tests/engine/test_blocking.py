"""Sync programs and other threads use the engine without awaiting."""

import os
import signal
import threading
from contextvars import ContextVar
from typing import Any, Literal

import anyio
import anyio.to_thread
import pytest

from engine import Engine, EngineClosed, Graph, RunCancelled, RunFailed, RunNotFound

Library = Literal["asyncio", "trio"]
every_library = pytest.mark.parametrize("library", ["asyncio", "trio"], ids=["on-asyncio", "on-trio"])


def adding() -> Graph:
    graph = Graph("adding")

    @graph.node
    def add(state: dict[str, int]) -> dict[str, int]:
        return {"sum": state["a"] + state["b"]}

    return graph.set_entry_point("add")


def waiting() -> Graph:
    return Graph("waiting").add_wait("approve", signal="approved", into="approval").set_entry_point("approve")


@every_library
def test_a_script_runs_a_graph_in_one_line(library: Library) -> None:
    assert Engine().run_sync(adding(), {"a": 1, "b": 2}, backend=library).state == {"a": 1, "b": 2, "sum": 3}


@every_library
def test_a_sync_program_submits_watches_and_collects(library: Library) -> None:
    with Engine.blocking(backend=library) as engine:
        runs = [engine.submit(adding(), {"a": number, "b": 1}) for number in range(20)]
        sums = [run.result().state["sum"] for run in runs]
        types = [event.type for event in runs[0].events()]
        found = engine.get(runs[3].id)

        assert found.id == runs[3].id
        assert found.status == "succeeded"
        assert [entry.node for entry in found.log] == ["add"]
        assert list(found.visited) == ["add"]
        assert len(engine.runs(status="succeeded")) == 20
        assert engine.graphs() == [("adding", "1")]
        assert engine.statistics().submitted == 20

    assert sums == list(range(1, 21))
    assert types[0] == "run_submitted"
    assert types[-1] == "run_succeeded"


@every_library
def test_a_sync_program_signals_pauses_and_cancels(library: Library) -> None:
    with Engine.blocking(backend=library) as engine:
        approved, cancelled = engine.submit(waiting()), engine.submit(waiting())
        assert "approved" in approved.explain("approve")
        approved.pause()
        assert approved.status == "paused"
        approved.resume()
        approved.signal("approved", "yes")
        cancelled.cancel("no need")

        assert approved.result().state == {"approval": "yes"}
        assert cancelled.wait() == "cancelled"
        with pytest.raises(RunCancelled, match="no need"):
            cancelled.result()


def test_a_failed_run_raises_its_errors_and_can_be_tried_again() -> None:
    failures = [ConnectionError("down")]
    graph = Graph("flaky")

    @graph.node
    def fetch(state: dict[str, Any]) -> dict[str, Any]:
        if failures:
            raise failures.pop()
        return {"fetched": True}

    graph.set_entry_point("fetch")
    with Engine.blocking() as engine:
        run = engine.submit(graph)
        with pytest.raises(RunFailed):
            run.result()
        run.retry({"again": 1})

        assert run.result().state == {"again": 1, "fetched": True}


def test_a_run_that_is_not_over_in_time_goes_on() -> None:
    with Engine.blocking() as engine:
        run = engine.submit(waiting())
        with pytest.raises(TimeoutError, match="goes on"):
            run.result(timeout=0.01)
        run.signal("approved")

        assert run.wait() == "succeeded"


async def test_threads_use_an_engine_that_is_running() -> None:
    async with Engine() as engine:

        def in_thread(number: int) -> int:
            with engine.blocking() as bridge:
                found: int = bridge.run(adding(), {"a": number, "b": 1}).state["sum"]
                return found

        graph = adding()
        engine.register(graph)
        sums: list[int] = []

        async def one(number: int) -> None:
            sums.append(await anyio.to_thread.run_sync(in_thread, number))

        async with anyio.create_task_group() as group:
            for number in range(8):
                group.start_soon(one, number)

    assert sorted(sums) == list(range(1, 9))


async def test_a_blocking_call_in_the_loops_own_thread_is_refused() -> None:
    async with Engine() as engine:
        with engine.blocking() as bridge, pytest.raises(RuntimeError, match="wait for itself"):
            bridge.statistics()


color: ContextVar[str] = ContextVar("color", default="none")


def test_context_variables_of_the_calling_thread_are_visible_in_nodes() -> None:
    graph = Graph("seeing")

    @graph.node
    async def see(state: dict[str, Any]) -> dict[str, Any]:
        return {"color": color.get(), "thread": threading.get_ident()}

    graph.set_entry_point("see")
    with Engine.blocking() as engine:
        color.set("red")
        state = engine.run(graph).state

    assert state["color"] == "red"
    assert state["thread"] != threading.get_ident()


def test_an_engine_that_was_left_says_so() -> None:
    with Engine.blocking() as engine:
        run = engine.submit(adding(), {"a": 1, "b": 1})
        run.wait()

    with pytest.raises((EngineClosed, RuntimeError)):
        engine.submit(adding(), {"a": 1, "b": 1})


def test_an_unknown_run_is_not_found() -> None:
    with Engine.blocking() as engine, pytest.raises(RunNotFound, match="nobody"):
        engine.get("nobody")


def test_a_subscriber_sees_every_event_until_it_ends() -> None:
    seen: list[str] = []
    with Engine.blocking() as engine:
        end = engine.subscribe(lambda run, event: seen.append(event.type))
        engine.run(adding(), {"a": 1, "b": 1})
        end()
        engine.run(adding(), {"a": 1, "b": 1})

    assert seen == ["run_submitted", "run_started", "node_started", "node_succeeded", "run_succeeded"]


@every_library
def test_one_engine_runs_many_graphs_one_after_the_other(library: Library) -> None:
    seen: list[str] = []
    engine = Engine(max_runs=1)
    engine.register(adding())
    engine.subscribe(lambda run, event: seen.append(event.type))
    sums = [engine.run_sync("adding", {"a": n, "b": 1}, backend=library).state["sum"] for n in range(3)]

    assert sums == [1, 2, 3]
    assert seen.count("run_succeeded") == 3
    assert (engine.statistics().submitted, engine.statistics().ended) == (3, {"succeeded": 3})


async def test_blocking_a_loop_is_refused() -> None:
    with pytest.raises(RuntimeError, match="would stop all of it: await the engine"):
        Engine().run_sync(adding(), {"a": 1, "b": 2})
    with pytest.raises(RuntimeError, match="would stop all of it"), Engine.blocking():
        pass


async def test_a_thread_of_a_loop_may_block() -> None:
    result = await anyio.to_thread.run_sync(lambda: Engine().run_sync(adding(), {"a": 1, "b": 2}))

    assert result.state["sum"] == 3


@every_library
def test_an_interrupt_comes_out_of_a_blocking_run_as_itself(library: Library) -> None:
    async def interrupt(state: dict[str, Any]) -> None:
        threading.Timer(0.05, os.kill, (os.getpid(), signal.SIGINT)).start()
        await anyio.sleep_forever()

    graph = Graph("interrupted").add_node("a", interrupt).set_entry_point("a")
    with pytest.raises(KeyboardInterrupt):
        Engine().run_sync(graph, {}, backend=library)


def test_a_blocking_run_shows_what_a_run_shows() -> None:
    with Engine.blocking() as engine:
        run = engine.submit(adding(), {"a": 1, "b": 1}, tags={"who": "me"}, priority=3)
        run.wait()

        assert (run.graph, run.version, run.tags, run.priority) == ("adding", "1", {"who": "me"}, 3)
        assert run.counters["activations"] == 1
        assert (run.log_dropped, run.visited_dropped, run.events_dropped) == (0, 0, 0)
        assert run.submitted_at > 0
