"""SEMANTICS section 7 on the pure core: graphs as nodes, and maps."""

from __future__ import annotations

import operator
import time
from typing import Any

import pytest

from engine.errors import NodeFailed, NodeTimeout, RunFailed, StateInvalid
from engine.plan import MapDecl, Plan, SubgraphDecl
from engine.retry import Retry
from engine.runs import Run
from engine.values import STOP, Goto, ItemError, Replace
from tests.driver import Driver, edge, fails, graph, same, sets, with_context

SEEDS = range(30)


def sub(plan: Plan, enter: dict[str, str] | None = None, leave: dict[str, str] | None = None, **more: Any) -> Any:
    return {"kind": "subgraph", "subgraph": SubgraphDecl(plan=plan, enter=enter or {}, leave=leave or {}), **more}


def mapped(worker: Any, over: Any = "rows", into: str = "scores", **more: Any) -> Any:
    node = {key: more.pop(key) for key in ("retry", "timeout", "join") if key in more}
    return {"kind": "map", "map": MapDecl(worker=worker, over=over, into=into, **more), **node}


def ended(plan: Any, state: Any = None, seed: int = 0) -> Run:
    driver = Driver(plan, seed).start(state).to_end()
    assert driver.done, driver.run.explain(plan.nodes[0].name)
    return driver.run


# --- subgraphs ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("seed", SEEDS)
def test_a_subgraph_gets_the_state_and_its_changed_keys_come_back(seed: int) -> None:
    inner = graph({"i": lambda s: {"y": s["x"] + 1}, "k": same}, "i -> k")
    run = ended(graph({"a": sets(x=1), "sub": sub(inner), "b": same}, "a -> sub -> b"), {"z": 0}, seed)

    assert run.state == {"x": 1, "y": 2, "z": 0}


def test_keys_are_renamed_on_the_way_in_and_out() -> None:
    inner = graph({"i": lambda s: {"result": s["value"] * 2}})
    run = ended(graph({"sub": sub(inner, {"x": "value"}, {"result": "y"})}), {"x": 4})

    assert run.state == {"x": 4, "y": 8}


@pytest.mark.parametrize("seed", SEEDS)
def test_contributions_of_a_subgraph_come_back_one_by_one(seed: int) -> None:
    def reducer(value: int, new: int) -> int:
        return 2 * value + new

    inner = graph({"i": sets(n=1), "k": sets(n=2), "l": same}, "i -> k -> l", reducers={"n": reducer})
    plan = graph({"a": same, "sub": sub(inner), "c": sets(n=3), "j": same}, "a -> sub,c -> j", reducers={"n": reducer})

    # ((1*2 + 1)*2 + 2)*2 + 3, as if the inner nodes stood in the outer graph.
    assert ended(plan, {"n": 1}, seed).state["n"] == 19


@pytest.mark.parametrize("seed", SEEDS)
def test_a_replace_inside_overrides_what_the_subgraph_had_seen(seed: int) -> None:
    inner = graph({"i": sets(n=Replace(["new"])), "k": sets(n=["k"])}, "i -> k", reducers={"n": operator.add})
    plan = graph(
        {"a": sets(n=["a"]), "sub": sub(inner), "c": sets(n=["c"]), "j": same},
        "a -> sub,c -> j",
        reducers={"n": operator.add},
    )

    assert ended(plan, {"n": ["start"]}, seed).state["n"] == ["new", "k", "c"]


def test_inner_nodes_are_named_by_their_path() -> None:
    innermost = graph({"x": same})
    inner = graph({"i": same, "deep": sub(innermost)}, "i -> deep")
    run = ended(graph({"sub": sub(inner)}))

    assert run.history.visited() == ["sub", "sub#1/i", "sub#1/deep", "sub#1/deep#1/x"]
    assert [entry.node for entry in run.history.log()] == ["sub#1/i", "sub#1/deep#1/x", "sub#1/deep", "sub"]


def test_a_token_of_an_inner_activation_names_its_place_in_the_run() -> None:
    tokens: list[str] = []
    inner = graph({"i": with_context(lambda s, activation: tokens.append(activation.token))})
    ended(graph({"sub": sub(inner)}))

    assert tokens == ["run/sub#1/i#1"]


@pytest.mark.parametrize("seed", SEEDS)
def test_the_failure_of_a_subgraph_is_the_nodes_caused_by_the_inner_run_failed(seed: int) -> None:
    inner = graph({"i": fails(ValueError("no")), "k": same}, "i -> k")
    run = ended(graph({"a": same, "sub": sub(inner)}, "a -> sub"), seed=seed)
    (failure,) = run.failures

    assert failure.node == "sub"
    assert isinstance(failure.cause, RunFailed)
    (deep,) = failure.cause.exceptions
    assert isinstance(deep, NodeFailed)
    assert (deep.node, type(deep.cause)) == ("i", ValueError)


def test_an_error_edge_catches_the_failure_of_a_subgraph() -> None:
    inner = graph({"i": fails(ValueError("no"))})
    plan = graph({"sub": sub(inner), "fix": sets(ok=True)}, edge("sub -> fix", on_error=RunFailed))

    assert ended(plan).state == {"ok": True}


@pytest.mark.parametrize("seed", SEEDS)
def test_stop_inside_ends_the_subgraphs_activation_only(seed: int) -> None:
    inner = graph(
        {"i": {"function": lambda s: Goto(STOP, {"x": 1}), "goto": (STOP,)}, "k": sets(x=2)}, entries=("i", "k")
    )
    driver = Driver(graph({"sub": sub(inner), "b": same}, "sub -> b"), seed).start()
    driver.finish_named("sub#1/i#1")
    driver.to_end()

    assert driver.state == {"x": 1}
    assert driver.run.history.visited()[-1] == "b"


def test_a_subgraph_is_retried_as_a_whole() -> None:
    failures = [ValueError("first"), None]

    def flaky(state: Any) -> Any:
        if error := failures.pop(0):
            raise error

    inner = graph({"i": flaky})
    run = ended(graph({"sub": sub(inner, retry=(Retry(attempts=2),))}))

    assert run.status == "succeeded"
    assert run.counters["retries"] == 1


def test_the_timeout_of_a_subgraph_cancels_what_is_inside() -> None:
    inner = graph({"i": same})
    driver = Driver(graph({"sub": sub(inner, timeout=5.0)})).start()
    (activation,) = driver.timers
    driver.fire(activation)
    assert [activation.id for activation in driver.cancelling] == ["sub#1/i#1"]
    driver.to_end()

    assert isinstance(driver.run.failures[0].cause, NodeTimeout)
    assert not driver.timers


@pytest.mark.parametrize("seed", SEEDS)
def test_cancelling_the_run_reaches_the_inside_of_subgraphs(seed: int) -> None:
    inner = graph({"i": same, "k": same, "w": same}, "i -> k", entries=("i", "w"))
    driver = Driver(graph({"sub": sub(inner), "b": same}, entries=("sub", "b")), seed).start()
    driver.step()
    driver.carry_out(driver.run.cancel(driver.now))
    driver.to_end()

    assert driver.done
    assert driver.run.status == "cancelled"


# --- maps -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("seed", SEEDS)
def test_a_map_collects_results_in_the_order_of_the_items(seed: int) -> None:
    run = ended(graph({"m": mapped(lambda item: item * 10, concurrency=3)}), {"rows": list(range(10))}, seed)

    assert run.state["scores"] == [item * 10 for item in range(10)]


@pytest.mark.parametrize("seed", SEEDS)
def test_no_more_items_are_at_work_than_the_concurrency(seed: int) -> None:
    driver = Driver(graph({"m": mapped(lambda item: item, concurrency=3)}), seed).start({"rows": list(range(10))})
    driver.to_end()

    assert driver.peak == 3


@pytest.mark.parametrize("seed", SEEDS)
def test_items_of_a_function_are_taken_only_as_there_is_room(seed: int) -> None:
    taken: list[int] = []

    def source(state: Any) -> Any:
        for number in range(9):
            taken.append(number)
            yield number

    done: list[int] = []

    def worker(item: int) -> int:
        assert len(taken) - len(done) <= 2
        done.append(item)
        return item

    assert ended(graph({"m": mapped(worker, source, concurrency=2)}), {}, seed).state["scores"] == list(range(9))


@pytest.mark.parametrize("rows", [[], ()])
def test_no_items_are_an_empty_list_at_once(rows: Any) -> None:
    driver = Driver(graph({"m": mapped(same), "b": same}, "m -> b")).start({"rows": rows})

    assert driver.ids == ["b#1"]
    assert driver.to_end().state["scores"] == []


def test_a_missing_key_or_a_source_that_raises_fails_the_map() -> None:
    def source(state: Any) -> Any:
        yield 1
        raise OSError("gone")

    assert isinstance(ended(graph({"m": mapped(same)})).failures[0].cause, StateInvalid)
    assert isinstance(ended(graph({"m": mapped(same, source)})).failures[0].cause, OSError)


def test_retry_applies_to_each_item() -> None:
    tries: dict[int, int] = {}

    def flaky(item: int) -> int:
        tries[item] = tries.get(item, 0) + 1
        if tries[item] <= item:
            raise ValueError(item)
        return item

    run = ended(graph({"m": mapped(flaky, retry=(Retry(attempts=3),))}), {"rows": [0, 1, 2]})

    assert (run.state["scores"], tries) == ([0, 1, 2], {0: 1, 1: 2, 2: 3})


@pytest.mark.parametrize("seed", SEEDS)
def test_a_failed_item_fails_the_map_with_the_lowest_index_known_and_cancels_the_others(seed: int) -> None:
    def odd_fails(item: int) -> int:
        if item % 2:
            raise ValueError(item)
        return item

    driver = Driver(graph({"m": mapped(odd_fails)}), seed).start({"rows": list(range(6))}).to_end()
    (failure,) = driver.run.failures

    assert (failure.node, type(failure.cause)) == ("m", ValueError)
    assert not driver.running


@pytest.mark.parametrize("seed", SEEDS)
def test_failed_items_are_skipped_or_kept_if_so_asked(seed: int) -> None:
    def second_fails(item: int) -> int:
        if item == 1:
            raise ValueError("one")
        return item

    skip = ended(graph({"m": mapped(second_fails, on_item_error="skip")}), {"rows": [0, 1, 2]}, seed)
    keep = ended(graph({"m": mapped(second_fails, on_item_error="keep")}), {"rows": [0, 1, 2]}, seed)

    assert skip.state["scores"] == [0, 2]
    assert keep.state["scores"] == [0, ItemError(1, "ValueError", "one"), 2]


@pytest.mark.parametrize("seed", SEEDS)
def test_a_subgraph_worker_gets_the_item_as_its_state_and_gives_its_final_state(seed: int) -> None:
    worker = graph({"i": lambda s: {"y": s["x"] * 2}, "k": lambda s: {"z": s["y"] + 1}}, "i -> k")
    run = ended(graph({"m": mapped(worker, concurrency=2)}), {"rows": [{"x": 1}, {"x": 2}, {"x": 3}]}, seed)

    assert [result["z"] for result in run.state["scores"]] == [3, 5, 7]


def test_a_subgraph_worker_gets_the_item_in_the_key_that_was_named() -> None:
    worker = graph({"i": lambda s: {"y": s["row"] * 2}})
    run = ended(graph({"m": mapped(worker, item="row")}), {"rows": [1, 2]})

    assert run.state["scores"] == [{"row": 1, "y": 2}, {"row": 2, "y": 4}]
    assert "m#1[1]/i" in run.history.visited()


def test_no_stage_of_a_worker_waits_for_all_items_of_the_one_before() -> None:
    worker = graph({"i": same, "k": same}, "i -> k")
    driver = Driver(graph({"m": mapped(worker, item="row")})).start({"rows": [1, 2]})
    driver.finish_named("m#1[0]/i#1")

    assert driver.ids == ["m#1[0]/k#1", "m#1[1]/i#1"]


@pytest.mark.parametrize("seed", SEEDS)
def test_a_failing_subgraph_worker_fails_its_item(seed: int) -> None:
    def second_fails(state: dict[str, Any]) -> None:
        if state["row"] == 1:
            raise ValueError("one")

    worker = graph({"i": second_fails})
    plan = graph({"m": mapped(worker, item="row", on_item_error="skip")})

    assert ended(plan, {"rows": [0, 1, 2]}, seed).state["scores"] == [{"row": 0}, {"row": 2}]


@pytest.mark.parametrize("seed", SEEDS)
def test_cancelling_a_run_cancels_the_items_of_its_maps(seed: int) -> None:
    driver = Driver(graph({"m": mapped(same, concurrency=4)}), seed).start({"rows": list(range(9))})
    driver.step()
    driver.carry_out(driver.run.cancel(driver.now))
    driver.to_end()

    assert (driver.run.status, driver.done) == ("cancelled", True)


def test_ten_thousand_items_cost_linear_time() -> None:
    def seconds(items: int) -> float:
        best = 1e9
        for _ in range(3):
            driver = Driver(graph({"m": mapped(same, concurrency=8)})).start({"rows": list(range(items))})
            began = time.process_time()  # what others do to this machine costs longer runs more
            driver.to_end()
            best = min(best, time.process_time() - began)
        return best

    assert seconds(10_000) < 25 * seconds(1_000)


# --- what the log says of them --------------------------------------------------------------------------


def fail(state: Any) -> None:
    raise ValueError("as asked")


@pytest.mark.parametrize("how", ["succeeded", "failed", "cancelled", "timed_out"])
def test_the_log_has_the_duration_of_a_subgraph_however_it_ends(how: str) -> None:
    last = fail if how == "failed" else same
    inner = graph({"i": same, "k": last}, "i -> k")
    options = {"timeout": 50} if how == "timed_out" else {}
    driver = Driver(graph({"sub": sub(inner, **options)})).start({})
    (started,) = [event.time for event in driver.run.history.events() if event.node == "sub"]
    driver.finish(driver.running[0])
    driver.now += 10
    if how == "cancelled":
        driver.carry_out(driver.run.cancel(driver.now))
    elif how == "timed_out":
        driver.fire(next(iter(driver.timers)))
    driver.to_end()

    (entry,) = [entry for entry in driver.run.history.log() if entry.node == "sub"]
    assert (entry.status, entry.start) == (how, started)
    assert entry.duration >= 10


def test_the_log_has_the_duration_of_an_item_that_a_subgraph_fails_on() -> None:
    driver = Driver(graph({"map": mapped(graph({"i": same, "k": fail}, "i -> k"))})).start({"rows": [{}]})
    driver.now += 10
    driver.to_end()

    (entry,) = [entry for entry in driver.run.history.log() if entry.node == "map[0]"]
    assert (entry.status, entry.duration >= 10) == ("failed", True)
