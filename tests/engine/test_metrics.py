"""What Prometheus sees: every name and label of the API, valid text, and no stall of the loop."""

import operator
from itertools import pairwise
from threading import Event
from typing import Any

import anyio
import pytest
from anyio import to_thread
from prometheus_client import generate_latest
from prometheus_client.parser import text_string_to_metric_families

from engine import END, Breaker, Cache, Engine, EngineBusy, Graph, Retry, RunFailed, StateInvalid
from engine.metrics import MOST_NODES, OTHERS

NAMES = {
    "runs_submitted": {"graph"},
    "runs": {"graph", "status"},
    "runs_in_flight": {"graph"},
    "runs_queued": {"graph"},
    "oldest_queued_seconds": set(),
    "run_duration_seconds": {"graph"},
    "activations": {"graph", "node", "outcome"},
    "node_duration_seconds": {"graph", "node"},
    "node_retries": {"graph", "node"},
    "node_in_flight": {"graph", "node"},
    "mailbox_depth": {"graph", "node"},
    "mailbox_wait_seconds": {"graph", "node"},
    "channel_depth": {"graph", "node"},
    "loop_limit_hits": {"graph", "node"},
    "join_wait_seconds": {"graph", "node"},
    "node_limit": {"graph", "node", "limit"},
    "node_batches": {"graph", "node"},
    "breaker_state": {"graph", "node", "state"},
    "breaker_opened": {"graph", "node"},
    "breaker_refused": {"graph", "node"},
    "cache_requests": {"graph", "node", "result"},
    "cache_entries": {"graph", "node"},
    "actor_restarts": set(),
    "dead_letters": {"reason"},
    "abandoned_threads": set(),
    "executor_up": {"executor"},
    "executor_running": {"executor"},
    "executor_calls": {"executor"},
    "executor_killed_workers": {"executor"},
    "executor_worker_restarts": {"executor"},
    "admission_rejected": {"reason"},
    "scheduler_lag_seconds": {"graph"},
    "build_info": {"version", "python", "implementation"},
}


def families(engine: Engine) -> dict[str, Any]:
    text = generate_latest(engine.metrics).decode()
    return {family.name: family for family in text_string_to_metric_families(text)}


def values(engine: Engine, sample: str, graph: str | None = None) -> dict[tuple[str, ...], float]:
    """The values of a sample by those of its labels, the graph's name left out; of this graph, if it is given."""
    return {
        tuple(value for label, value in found.labels.items() if label != "graph"): found.value
        for family in families(engine).values()
        for found in family.samples
        if found.name == f"workflow_{sample}" and graph in (None, found.labels.get("graph"))
    }


async def nothing(state: dict[str, Any]) -> None:
    pass


async def sleep(state: dict[str, Any]) -> None:
    await anyio.sleep_forever()


async def fail(state: dict[str, Any]) -> None:
    raise ValueError("as asked")


async def crash() -> None:
    raise RuntimeError("as asked")


def graph_of(*names: str, function: Any = nothing, **options: Any) -> Graph:
    graph = Graph("graph")
    for name in names:
        graph.add_node(name, function, **options)
    for source, target in pairwise(names):
        graph.add_edge(source, target)
    return graph.set_entry_point(names[0])


async def test_every_name_of_the_api_is_there_with_its_labels() -> None:
    graph = Graph("all", reducers={"found": operator.add})

    @graph.node(retry=Retry(attempts=2, delay=0, jitter=0), concurrency=1)
    async def start(state: dict[str, Any]) -> dict[str, list[int]]:
        if len(flaky) < 1:
            flaky.append(1)
            raise ValueError("once")
        return {"found": [1]}

    flaky: list[int] = []
    graph.add_node("a", nothing, breaker=Breaker(), cache=Cache(60)).add_node("b", nothing).add_node("join", nothing)
    graph.add_edge("start", ["a", "b"], capacity=2).add_edge(["a", "b"], "join").set_entry_point("start")
    graph.add_edge("join", "start", when=lambda state: True, max_iterations=1, on_limit="exit")
    graph.add_edge("join", END, otherwise=True)
    async with Engine(max_runs=1, max_queued=0) as engine:
        run = await engine.submit(graph, {"found": []})
        with pytest.raises(EngineBusy):
            await engine.submit(graph, {"found": []})
        await run.result()
        found = families(engine)

    assert set(found) == {f"workflow_{name}" for name in NAMES}
    for name, labels in NAMES.items():
        family = found[f"workflow_{name}"]
        assert {label for sample in family.samples for label in sample.labels} - {"le"} == (
            set() if not family.samples else labels
        ), name
        assert family.documentation
    assert {name for name, family in found.items() if not family.samples} <= {
        "workflow_mailbox_wait_seconds",
        "workflow_node_batches",
        "workflow_runs_in_flight",
        "workflow_runs_queued",
    }


async def test_runs_and_activations_are_counted_by_how_they_ended() -> None:
    graph = graph_of("good")
    bad = Graph("bad").add_node("bad", fail, retry=Retry(attempts=3, delay=0, jitter=0)).set_entry_point("bad")
    async with Engine() as engine:
        await engine.run(graph, {})
        with pytest.raises(RunFailed):
            await engine.run(bad, {})
        asleep = await engine.submit(Graph("asleep").add_node("sleep", sleep).set_entry_point("sleep"), {})
        await anyio.wait_all_tasks_blocked()
        in_flight = values(engine, "runs_in_flight"), values(engine, "node_in_flight")[("sleep",)]
        await asleep.cancel()
        await asleep.wait()

        assert values(engine, "runs_submitted_total") == {(): 1}
        text = generate_latest(engine.metrics).decode()
        assert 'workflow_runs_submitted_total{graph="bad"} 1.0' in text
        assert 'workflow_runs_total{graph="graph",status="succeeded"} 1.0' in text
        assert 'workflow_runs_total{graph="bad",status="failed"} 1.0' in text
        assert 'workflow_runs_total{graph="asleep",status="cancelled"} 1.0' in text
        assert in_flight == ({(): 1}, 1)
        assert values(engine, "runs_in_flight") == {}
        assert values(engine, "node_in_flight")[("sleep",)] == 0
        assert values(engine, "activations_total") == {
            ("good", "succeeded"): 1,
            ("bad", "failed"): 1,
            ("sleep", "cancelled"): 1,
        }
        assert values(engine, "node_retries_total") == {("bad",): 2}
        assert values(engine, "run_duration_seconds_count")[()] == 1


async def test_waits_maps_and_subgraphs_are_activations_too() -> None:
    inner = graph_of("inner")
    graph = Graph("outer").add_node("sub", inner).add_map("map", item, over="rows", into="found")
    graph.add_wait("wait", signal="go", into="went")
    graph.add_edge("sub", "map").add_edge("map", "wait").set_entry_point("sub")
    async with Engine() as engine:
        run = await engine.submit(graph, {"rows": [1, 2, 3]})
        await anyio.wait_all_tasks_blocked()
        await run.signal("go")
        await run.result()

        assert values(engine, "activations_total") == {
            ("graph.inner", "succeeded"): 1,
            ("sub", "succeeded"): 1,
            ("map", "succeeded"): 1,
            ("wait", "succeeded"): 1,
        }
        assert values(engine, "node_duration_seconds_count") == {("graph.inner",): 1, ("map",): 3}


async def item(one: int) -> int:
    return one


async def test_cancelled_waits_are_counted() -> None:
    graph = Graph("graph").add_wait("wait", signal="go", into="went").set_entry_point("wait")
    async with Engine() as engine:
        run = await engine.submit(graph, {})
        await anyio.wait_all_tasks_blocked()
        await run.cancel()

        assert values(engine, "activations_total") == {("wait", "cancelled"): 1}


async def test_a_nodes_mailbox_and_its_waits_are_seen() -> None:
    release = anyio.Event()

    async def wait(state: dict[str, Any]) -> None:
        await release.wait()

    async with Engine() as engine:
        runs = [await engine.submit(graph_of("slow", function=wait, concurrency=1), {}) for _ in range(3)]
        await anyio.wait_all_tasks_blocked()
        before = values(engine, "mailbox_depth"), values(engine, "node_in_flight")
        release.set()
        for run in runs:
            await run.result()

        assert before == ({("slow",): 2}, {("slow",): 1})
        assert values(engine, "mailbox_depth") == {("slow",): 0}
        assert values(engine, "mailbox_wait_seconds_count") == {("slow",): 2}
        assert values(engine, "mailbox_wait_seconds_sum")[("slow",)] > 0


async def test_tokens_on_edges_with_a_capacity_are_seen() -> None:
    release = anyio.Event()

    async def wait(state: dict[str, Any]) -> None:
        await release.wait()

    graph = Graph("graph").add_node("source", nothing).add_node("target", wait, concurrency=1)
    graph.add_edge("source", "target", capacity=2).set_entry_point("source")
    async with Engine() as engine:
        runs = [await engine.submit(graph, {}) for _ in range(5)]
        await anyio.wait_all_tasks_blocked()
        before = values(engine, "channel_depth")
        release.set()
        for run in runs:
            await run.result()

        assert before == {("target",): 2}
        assert values(engine, "channel_depth") == {("target",): 0}


async def test_a_join_tells_how_long_it_waited_for_the_last() -> None:
    async def nap(state: dict[str, Any]) -> None:
        await anyio.wait_all_tasks_blocked()  # the other has been there for long
        await anyio.sleep(0.02)

    graph = Graph("graph").add_node("quick", nothing).add_node("slow", nap).add_node("join", nothing)
    graph.add_edge(["quick", "slow"], "join").set_entry_point("quick", "slow")
    async with Engine() as engine:
        for _ in range(2):
            await engine.run(graph, {})

        assert values(engine, "join_wait_seconds_count") == {("join",): 2}
        assert 0.04 <= values(engine, "join_wait_seconds_sum")[("join",)] < 20


async def test_loop_limits_hit_are_counted() -> None:
    graph = graph_of("loop").add_edge("loop", "loop", when=lambda state: True, max_iterations=2)
    graph.add_edge("loop", END, otherwise=True)
    async with Engine() as engine:
        await engine.run(graph, {})

        assert values(engine, "loop_limit_hits_total") == {("loop",): 1}


async def test_the_queue_of_runs_and_refusals_are_seen() -> None:
    graph = graph_of("sleep", function=sleep)
    async with Engine(max_runs=1, max_queued=2) as engine:
        runs = [await engine.submit(graph, {}) for _ in range(3)]
        with pytest.raises(EngineBusy):
            await engine.submit(graph, {})

        assert values(engine, "runs_queued") == {(): 2}
        assert values(engine, "oldest_queued_seconds")[()] > 0
        assert values(engine, "runs_in_flight") == {(): 1}
        for run in runs:
            await run.cancel()
        assert values(engine, "runs_queued") == {}
        assert values(engine, "oldest_queued_seconds") == {(): 0}
        with pytest.raises(StateInvalid):
            await engine.submit(graph, 7)
        assert values(engine, "admission_rejected_total") == {("engine_busy",): 1, ("state_invalid",): 1}
        assert values(engine, "runs_submitted_total") == {(): 3}


async def test_a_thread_given_up_is_seen_until_it_ends() -> None:
    release = Event()

    def block(state: dict[str, Any]) -> None:
        release.wait(60)

    async with Engine() as engine:
        with pytest.raises(RunFailed):
            await engine.run(graph_of("stuck", function=block, timeout=0.2), {})
        stuck = values(engine, "abandoned_threads")
        release.set()
        with anyio.fail_after(30):
            while values(engine, "abandoned_threads") != {(): 0}:  # noqa: ASYNC110  # its end tells nobody
                await anyio.sleep(0.001)

        assert stuck == {(): 1}


async def test_restarts_and_dead_letters_are_counted() -> None:
    async with Engine() as engine:
        await engine.run(graph_of("a"), {})
        root = engine._root
        await root.terminate_child("timers")
        await root.child("timers").tell("too late")
        await root.restart_child("timers")
        engine._registry.find("graph").scheduler.hands.run_beside(crash)
        with anyio.fail_after(30):
            while values(engine, "actor_restarts_total") != {(): 1}:  # noqa: ASYNC110  # the last to be told is a count
                await anyio.sleep(0.001)
        await engine.run(graph_of("a"), {})

        assert values(engine, "dead_letters_total")[("stopped",)] == 1


async def test_an_engine_without_metrics_has_an_empty_registry() -> None:
    async with Engine(metrics=False) as engine:
        await engine.run(graph_of("a"), {})

        assert generate_latest(engine.metrics) == b""


async def test_each_engine_has_a_registry_of_its_own() -> None:
    async with Engine() as one, Engine() as other:
        await one.run(graph_of("a"), {})

        assert one.metrics is one.metrics
        assert values(one, "runs_submitted_total") == {(): 1}
        assert values(other, "runs_submitted_total") == {}


async def test_versions_of_a_graph_count_together() -> None:
    async with Engine() as engine:
        for version in ("1", "2"):
            await engine.run(Graph("graph", version=version).add_node("a", nothing).set_entry_point("a"), {})

        assert values(engine, "runs_total") == {("succeeded",): 2}
        assert values(engine, "activations_total") == {("a", "succeeded"): 2}


async def test_labels_stay_few_however_many_nodes_run() -> None:
    names = [f"n{number}" for number in range(MOST_NODES + 50)]
    async with Engine() as engine:
        await engine.run(graph_of(*names), {})
        activations = values(engine, "activations_total")

    assert len(activations) == MOST_NODES + 1
    assert activations[(OTHERS, "succeeded")] == 50


async def test_names_with_quotes_and_lines_make_valid_text() -> None:
    name = 'say "hi"\\\n'
    async with Engine() as engine:
        await engine.run(Graph("graph").add_node(name, nothing).set_entry_point(name), {})

        assert values(engine, "activations_total") == {(name, "succeeded"): 1}


async def test_a_busy_loop_goes_on_while_a_thread_scrapes() -> None:
    graph = graph_of(*(f"n{number}" for number in range(200)))
    turns = 0
    async with Engine() as engine:
        await engine.run(graph, {})
        scraped = anyio.Event()

        async def watch() -> None:
            nonlocal turns
            while not scraped.is_set():
                await anyio.lowlevel.checkpoint()
                turns += 1

        async def work() -> None:
            while not scraped.is_set():
                await engine.run(graph, {})

        async with anyio.create_task_group() as group:
            group.start_soon(watch)
            group.start_soon(work)
            text = await to_thread.run_sync(generate_latest, engine.metrics)
            scraped.set()

    assert text.count(b"\n") > 2_000
    # Hundreds on an idle machine. Threads take turns of 5 ms, and a scrape takes 0.02 s of processor time.
    assert turns >= 5
