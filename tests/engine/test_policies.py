"""Circuit breakers, caches, and limits that change while runs go on, through the engine."""

from __future__ import annotations

import operator
import random
import threading
from collections import Counter
from collections.abc import Callable
from typing import Annotated, Any, TypedDict

import anyio
import attrs
import pytest

from actors import testing
from engine import (
    Batch,
    Breaker,
    Cache,
    CacheKeyInvalid,
    Context,
    Engine,
    Goto,
    Graph,
    GraphInvalid,
    NodeUnavailable,
    Reduce,
    Retry,
    RunFailed,
    UnknownNode,
)
from tests.engine.test_metrics import values
from tests.virtual_time import in_virtual_time

SEEDS = range(25)


def one(function: Any, **options: Any) -> Graph:
    return Graph("one").add_node("work", function, **options).set_entry_point("work")


async def cause_of(run: Any) -> BaseException | None:
    """Why a run failed, if it did."""
    try:
        await run.result()
    except RunFailed as failed:
        return failed.failures[0].cause
    return None


class Service:
    """Something that is down at times."""

    def __init__(self) -> None:
        self.calls = 0
        self.up = False

    async def call(self, state: dict[str, Any]) -> None:
        self.calls += 1
        if not self.up:
            raise ConnectionError("down")


# --- circuit breakers -------------------------------------------------------------------------------------


async def test_a_node_that_fails_too_often_is_not_called_any_more() -> None:
    service = Service()
    graph = one(service.call, breaker=Breaker(failures=3, within=6000, cooldown=6000))

    async with Engine() as engine:
        causes = [await cause_of(await engine.submit(graph)) for _ in range(6)]
        state = values(engine, "breaker_state")

    assert [type(cause) for cause in causes] == [ConnectionError] * 3 + [NodeUnavailable] * 3
    assert service.calls == 3
    assert isinstance(causes[3], NodeUnavailable)
    assert causes[3].node == "work"
    assert 5900 < causes[3].retry_after <= 6000
    assert state == {("work", "closed"): 0, ("work", "open"): 1, ("work", "half_open"): 0}


@pytest.mark.parametrize("backend", testing.BACKENDS)
def test_after_the_cool_down_one_attempt_tries_for_all(backend: testing.Backend) -> None:
    service = Service()
    kinds: list[str] = []

    async def main() -> None:
        graph = one(service.call, breaker=Breaker(failures=2, within=60, cooldown=60))
        async with Engine() as engine:
            for up, seconds in ((False, 0), (False, 0), (True, 30), (False, 31), (True, 61), (True, 0)):
                await anyio.sleep(seconds)
                service.up = up
                kinds.append(type(await cause_of(await engine.submit(graph))).__name__)

    testing.run(main, backend=backend, virtual_time=True)

    assert kinds == ["ConnectionError", "ConnectionError", "NodeUnavailable", "ConnectionError", "NoneType", "NoneType"]


async def test_what_waits_in_line_fails_fast_as_well() -> None:
    calls = 0
    release = anyio.Event()

    async def fail(state: dict[str, Any]) -> None:
        nonlocal calls
        calls += 1
        await release.wait()
        raise ConnectionError("down")

    graph = one(fail, concurrency=1, breaker=Breaker(failures=1))
    async with Engine() as engine:
        runs = [await engine.submit(graph) for _ in range(5)]
        await anyio.wait_all_tasks_blocked()
        release.set()
        causes = [type(await cause_of(run)) for run in runs]

    assert causes == [ConnectionError] + [NodeUnavailable] * 4
    assert calls == 1


async def test_an_error_edge_may_lead_round_a_node_that_is_unavailable() -> None:
    service = Service()

    async def instead(state: dict[str, Any]) -> dict[str, Any]:
        return {"instead": True}

    graph = one(service.call, breaker=Breaker(failures=1)).add_node("instead", instead)
    graph.add_edge("work", "instead", on_error=NodeUnavailable)
    async with Engine() as engine:
        await cause_of(await engine.submit(graph))
        result = await engine.run(graph)

    assert result.state == {"instead": True}


@pytest.mark.parametrize("backend", testing.BACKENDS)
def test_retries_may_outlast_the_cool_down(backend: testing.Backend) -> None:
    service = Service()

    async def main() -> None:
        retry = Retry(attempts=5, delay=30, factor=1, jitter=0)
        graph = one(service.call, breaker=Breaker(failures=1, cooldown=60), retry=retry)
        async with Engine() as engine, anyio.create_task_group() as group:

            async def mend() -> None:
                await anyio.sleep(45)
                service.up = True

            group.start_soon(mend)
            result = await engine.run(graph)
            assert [entry.status for entry in result.log] == ["failed", "failed", "succeeded"]

    testing.run(main, backend=backend, virtual_time=True)

    assert service.calls == 2


@pytest.mark.parametrize("run_in", ["thread", "process"])
async def test_a_breaker_stands_before_threads_and_processes_too(run_in: str) -> None:
    graph = one(fail_elsewhere, run_in=run_in, breaker=Breaker(failures=2))
    async with Engine() as engine:
        causes = [type(await cause_of(await engine.submit(graph))) for _ in range(4)]

    assert causes == [ConnectionError, ConnectionError, NodeUnavailable, NodeUnavailable]


def fail_elsewhere(state: dict[str, Any]) -> None:
    raise ConnectionError("down")


@in_virtual_time
async def test_a_time_out_is_a_failure_and_a_cancellation_is_none() -> None:
    begun = anyio.Event()

    async def hang(state: dict[str, Any]) -> None:
        begun.set()
        await anyio.sleep_forever()

    graph = one(hang, breaker=Breaker(failures=1), timeout=0.2)
    async with Engine() as engine:
        run = await engine.submit(graph)
        await begun.wait()
        await run.cancel()
        assert await run.wait() == "cancelled"
        first = await cause_of(await engine.submit(graph))
        second = await cause_of(await engine.submit(graph))

    assert (type(first).__name__, type(second).__name__) == ("NodeTimeout", "NodeUnavailable")


async def test_a_cancelled_trial_leaves_its_place() -> None:
    async def hang(state: dict[str, Any]) -> None:
        if state.get("fail"):
            raise ConnectionError("down")
        if state.get("hang"):
            await anyio.sleep_forever()

    graph = one(hang, breaker=Breaker(failures=1, cooldown=0.001))
    async with Engine() as engine:
        await cause_of(await engine.submit(graph, {"fail": True}))
        await anyio.sleep(0.01)
        trial = await engine.submit(graph, {"hang": True})
        await anyio.wait_all_tasks_blocked()
        assert isinstance(await cause_of(await engine.submit(graph)), NodeUnavailable)
        await trial.cancel()
        await trial.wait()

        assert await cause_of(await engine.submit(graph)) is None


async def test_what_waits_in_line_when_the_cool_down_is_over_at_once_may_be_the_trial() -> None:
    service = Service()
    graph = one(service.call, concurrency=1, breaker=Breaker(failures=1, cooldown=1e-9))
    async with Engine() as engine:
        runs = [await engine.submit(graph) for _ in range(3)]
        for run in runs:
            assert type(await cause_of(run)) in (ConnectionError, NodeUnavailable)
        await anyio.sleep(0.01)
        service.up = True

        assert await cause_of(await engine.submit(graph)) is None


class Told:
    """What happened to the calls of a node, in order, and whether a breaker can have stood before them."""

    def __init__(self, breaker: Breaker) -> None:
        self.breaker = breaker
        self.events: list[tuple[str, float, int]] = []

    def openings(self) -> int:
        """How often it opened; fails if a call began that it should have kept from beginning."""
        failures: list[float] = []
        until = trial = None
        before: set[int] = set()
        opened = 0
        under_way: set[int] = set()
        for what, now, call in self.events:
            if what == "began":
                if until is not None:
                    assert now >= until - 1e-6, f"call {call} began while the breaker was open"
                    until, trial = None, call
                elif trial is not None:
                    raise AssertionError(f"call {call} began beside the trial {trial}")
                under_way.add(call)
                continue
            under_way.discard(call)
            if call in before:
                continue
            failures = [*failures, now] if what == "failed" and until is None else failures
            many = len(failures) >= self.breaker.failures
            recent = many and now - failures[-self.breaker.failures] <= self.breaker.within
            if what == "failed" and until is None and (call == trial or recent):
                until, trial, failures = now + self.breaker.cooldown, None, []
                before |= under_way
                opened += 1
            elif what == "succeeded" and call == trial:
                trial, failures = None, []
            elif what == "cancelled" and call == trial:
                trial, until = None, now
        return opened


@pytest.mark.parametrize("seed", SEEDS)
@pytest.mark.parametrize("backend", testing.BACKENDS)
def test_under_any_schedule_an_open_breaker_lets_nobody_through(backend: testing.Backend, seed: int) -> None:
    dice = random.Random(seed)
    breaker = Breaker(failures=dice.randint(1, 3), within=dice.choice([4, 8]), cooldown=dice.choice([2, 10]))
    told = Told(breaker)
    refused = 0

    async def work(state: dict[str, Any]) -> None:
        told.events.append(("began", anyio.current_time(), state["call"]))
        outcome = "cancelled"
        try:
            await anyio.sleep(state["seconds"])
            outcome = "failed" if state["fails"] else "succeeded"
        finally:
            told.events.append((outcome, anyio.current_time(), state["call"]))
        if state["fails"]:
            raise ConnectionError("down")

    async def main() -> None:
        nonlocal refused
        async with Engine() as engine, anyio.create_task_group() as group:
            graph = one(work, breaker=breaker, concurrency=dice.choice([None, 1, 3]))

            async def submit(at: float, state: dict[str, Any], patience: float) -> None:
                nonlocal refused
                await anyio.sleep(at)
                run = await engine.submit(graph, state)
                if patience:
                    with anyio.move_on_after(patience):
                        await run.wait()
                    await run.cancel()
                await run.wait()
                if run.status == "failed":
                    refused += isinstance(await cause_of(run), NodeUnavailable)

            for call in range(80):
                state = {"call": call, "seconds": dice.choice([0, 0.5, 2]), "fails": dice.random() < 0.5}
                group.start_soon(submit, dice.uniform(0, 40), state, dice.choice([0, 0, 0, 0.7]))

    testing.run(main, backend=backend, seed=seed, virtual_time=True)

    assert told.openings() > 0
    assert refused > 0


# --- caches -----------------------------------------------------------------------------------------------


async def test_equal_inputs_are_computed_once_and_the_result_used_by_all_runs() -> None:
    calls: list[int] = []

    async def double(state: dict[str, int]) -> dict[str, int]:
        calls.append(state["number"])
        return {"double": 2 * state["number"]}

    graph = one(double, cache=Cache(ttl=60))
    async with Engine() as engine:
        states = [(await engine.run(graph, {"number": number})).state for number in (1, 2, 1, 1, 2)]
        shown = values(engine, "cache_requests_total")
        kept = values(engine, "cache_entries")

    assert states == [{"number": number, "double": 2 * number} for number in (1, 2, 1, 1, 2)]
    assert calls == [1, 2]
    assert shown == {("work", "hit"): 3, ("work", "shared"): 0, ("work", "miss"): 2}
    assert kept == {("work",): 2}


async def test_who_asks_while_it_is_computed_waits_for_that_and_holds_no_place() -> None:
    calls = 0
    release = anyio.Event()

    async def slow(state: dict[str, int]) -> dict[str, int]:
        nonlocal calls
        calls += 1
        if state["number"] == 1:
            await release.wait()
        return {"found": state["number"]}

    graph = one(slow, cache=Cache(ttl=60), concurrency=2)
    async with Engine() as engine:
        runs = [await engine.submit(graph, {"number": 1}) for _ in range(5)]
        other = await engine.run(graph, {"number": 2})
        release.set()
        states = [(await run.result()).state for run in runs]

    assert other.state == {"number": 2, "found": 2}
    assert states == [{"number": 1, "found": 1}] * 5
    assert calls == 2


@pytest.mark.parametrize("backend", testing.BACKENDS)
def test_a_result_is_computed_anew_when_its_time_is_over(backend: testing.Backend) -> None:
    found: list[int] = []

    async def count(state: dict[str, int]) -> dict[str, int]:
        found.append(len(found))
        return {"count": len(found)}

    async def main() -> None:
        graph = one(count, cache=Cache(ttl=10))
        async with Engine() as engine:
            counts = []
            for seconds in (0, 9, 2, 9, 0):
                await anyio.sleep(seconds)
                counts.append((await engine.run(graph, {})).state["count"])
            assert counts == [1, 1, 2, 2, 2]

    testing.run(main, backend=backend, virtual_time=True)


async def test_what_does_not_count_for_the_key_stays_the_runs_own() -> None:
    @attrs.frozen
    class State:
        text: str
        user: str
        score: float = 0.0

    def grade(state: State) -> State:
        return attrs.evolve(state, score=float(len(state.text)))

    graph = Graph("g", state=State).add_node("grade", grade, run_in="loop", cache=Cache(60, "text"))
    graph.set_entry_point("grade")
    async with Engine() as engine:
        first = await engine.run(graph, State("abc", "ann"))
        second = await engine.run(graph, State("abc", "bob"))

    assert first.state == State("abc", "ann", 3.0)
    assert second.state == State("abc", "bob", 3.0)


class Notes(TypedDict, total=False):
    n: int
    who: str
    notes: Annotated[list[str], Reduce(operator.add)]
    more: dict[str, int]


def in_place(state: Any) -> None:
    state["more"] = {"n": state["n"]}


def whole(state: Any) -> Any:
    return {**state, "more": {"n": state["n"]}}


def contributes(state: Any) -> Any:
    return {**state, "notes": [str(state["n"])]}


def both(state: Any) -> Any:
    state["more"] = {"n": 1}
    return {"notes": ["both"]}


def goes(state: Any) -> Any:
    return Goto("last", {"more": {"n": state["n"]}})


@pytest.mark.parametrize("run_in", ["loop", "thread", "process"])
async def test_a_result_from_the_cache_means_the_same_as_one_that_is_computed(run_in: str) -> None:
    def made(function: Callable[[Any], Any], **options: Any) -> Graph:
        graph = Graph(f"{function.__name__}_cached" if options else function.__name__, state=Notes)
        graph.add_node("work", function, run_in=run_in, goto=["last"], **options)
        graph.add_node("last", lambda state: {"notes": ["last"]}).add_edge("work", "last").set_entry_point("work")
        return graph

    inputs: list[Any] = [
        {"n": 1, "who": who, "notes": ["first", who], "more": {"old": 1}} for who in ("ann", "bob", "ann", "eve")
    ]
    # One engine for all: those of the processes that it starts take longer than all else here.
    async with Engine() as engine:
        for function in (in_place, whole, contributes, both, goes):
            plain = [await engine.run(made(function), given) for given in inputs]
            cached = [await engine.run(made(function, cache=Cache(60, "n")), given) for given in inputs]
            hits = values(engine, "cache_requests_total", f"{function.__name__}_cached")["work", "hit"]

            assert hits == 3, function
            assert [run.state for run in cached] == [run.state for run in plain], function
            assert [list(run.visited) for run in cached] == [list(run.visited) for run in plain], function


@attrs.define
class Graded:
    n: int
    rows: list[int] = attrs.field(factory=list)


def returns(state: Any) -> Any:
    return {"rows": [state["n"]]}


def sets(state: Any) -> None:
    state["rows"] = [state["n"]]


def goes_on(state: Any) -> Any:
    return Goto("last", {"rows": [state["n"]]})


def is_whole(state: Any) -> Any:
    return Graded(state.n, [state.n])


@pytest.mark.parametrize("function", [returns, sets, goes_on, is_whole])
async def test_what_is_done_to_a_result_in_place_is_done_to_that_of_one_run(function: Callable[[Any], Any]) -> None:
    def last(state: Any) -> None:
        (state.rows if isinstance(state, Graded) else state["rows"]).append(2)

    graph = Graph("g", state=Graded if function is is_whole else dict)
    graph.add_node("work", function, goto=["last"] if function is goes_on else [], cache=Cache(60, "n"))
    graph.add_node("last", last).set_entry_point("work")
    if function is not goes_on:
        graph.add_edge("work", "last")
    found = []
    async with Engine() as engine:
        runs = [await engine.submit(graph, Graded(1) if function is is_whole else {"n": 1}) for _ in range(3)]
        for run in runs:
            state = (await run.result()).state
            rows = state.rows if isinstance(state, Graded) else state["rows"]
            found.append(list(rows))
            rows.append(3)
        again = (await engine.run(graph, Graded(1) if function is is_whole else {"n": 1})).state
        found.append(again.rows if isinstance(again, Graded) else again["rows"])

    assert found == [[1, 2]] * 4


async def test_what_is_done_to_a_maps_result_in_place_is_done_to_that_of_one_run() -> None:
    graph = Graph("g").add_map("work", lambda item: [item], over="items", into="rows", cache=Cache(60))
    graph.set_entry_point("work")
    async with Engine() as engine:
        for _ in range(3):
            rows = (await engine.run(graph, {"items": [1, 1]})).state["rows"]
            assert rows == [[1], [1]]
            rows[0].append(2)


async def test_a_result_that_cannot_be_copied_is_shared_and_said_to_be(caplog: pytest.LogCaptureFixture) -> None:
    client = threading.Lock()
    graph = one(lambda state: {"client": client, "rows": []}, cache=Cache(60, "n"))
    async with Engine() as engine:
        for _ in range(3):
            state = (await engine.run(graph, {"n": 1})).state
            assert state["client"] is client
            assert state["rows"] == []
            state["rows"].append(1)

    (said,) = [record.message for record in caplog.records if "client" in record.message]
    assert "'work'" in said


async def test_a_failure_is_shared_by_those_who_waited_and_kept_for_nobody() -> None:
    calls = 0
    release = anyio.Event()

    async def fail(state: dict[str, int]) -> None:
        nonlocal calls
        calls += 1
        await release.wait()
        if calls == 1:
            raise ValueError("once")

    graph = one(fail, cache=Cache(60), retry=Retry(attempts=2, delay=0, jitter=0))
    async with Engine() as engine:
        runs = [await engine.submit(graph, {}) for _ in range(4)]
        await anyio.wait_all_tasks_blocked()
        release.set()
        logs = [[entry.status for entry in (await run.result()).log] for run in runs]

    assert logs == [["failed", "succeeded"]] * 4
    assert calls == 2


async def test_cancelling_the_run_that_computes_hands_over_to_one_that_waits() -> None:
    calls = 0
    release = anyio.Event()

    async def slow(state: dict[str, int]) -> dict[str, int]:
        nonlocal calls
        calls += 1
        await release.wait()
        return {"call": calls}

    graph = one(slow, cache=Cache(60))
    async with Engine() as engine:
        runs = [await engine.submit(graph, {}) for _ in range(4)]
        await anyio.wait_all_tasks_blocked()
        await runs[0].cancel()
        await runs[2].cancel()
        assert [await runs[0].wait(), await runs[2].wait()] == ["cancelled", "cancelled"]
        release.set()
        states = [(await run.result()).state for run in (runs[1], runs[3])]

    assert states == [{"call": 2}, {"call": 2}]


async def test_an_input_that_is_no_data_is_a_failure_that_says_what_to_do() -> None:
    async def nothing(state: dict[str, Any]) -> None: ...

    async with Engine() as engine:
        cause = await cause_of(await engine.submit(one(nothing, cache=Cache(60)), {"lock": object()}))

    assert isinstance(cause, CacheKeyInvalid)
    assert "give Cache(key=...)" in str(cause)


async def test_the_key_may_be_a_function_and_what_it_raises_is_a_failure_of_the_node() -> None:
    calls = 0

    async def count(state: dict[str, Any]) -> None:
        nonlocal calls
        calls += 1

    async with Engine() as engine:
        graph = one(count, cache=Cache(60, lambda state: state["text"].lower()))
        for text in ("A", "a", "b"):
            await engine.run(graph, {"text": text})
        cause = await cause_of(await engine.submit(graph, {"text": 5}))

    assert calls == 2
    assert isinstance(cause, AttributeError)
    assert cause.__notes__ == ["raised by key= of the cache of node 'work'"]


async def test_one_and_true_and_a_float_of_the_same_value_are_not_the_same() -> None:
    seen: list[str] = []

    async def note(state: dict[str, Any]) -> dict[str, str]:
        seen.append(repr(state["x"]))
        return {"seen": repr(state["x"])}

    async with Engine() as engine:
        graph = one(note, cache=Cache(60))
        states = [(await engine.run(graph, {"x": x})).state["seen"] for x in (1, True, 1.0, "1", 1)]

    assert states == ["1", "True", "1.0", "'1'", "1"]
    assert len(seen) == 4


async def test_the_items_of_a_map_share_results_too() -> None:
    calls: list[int] = []

    async def square(item: int) -> int:
        calls.append(item)
        return item * item

    graph = Graph("g").add_map("squares", square, over="rows", into="found", cache=Cache(60)).set_entry_point("squares")
    async with Engine() as engine:
        result = await engine.run(graph, {"rows": [1, 2, 1, 3, 2]})

    assert result.state["found"] == [1, 4, 1, 9, 4]
    assert sorted(calls) == [1, 2, 3]


async def test_a_batch_leaves_out_what_is_there_already() -> None:
    batches: list[list[int]] = []

    async def many(states: list[dict[str, int]]) -> list[dict[str, int]]:
        batches.append([state["n"] for state in states])
        return [{"double": 2 * state["n"]} for state in states]

    graph = one(many, batch=Batch(3, 0.02), cache=Cache(60))
    async with Engine() as engine:
        runs = [await engine.submit(graph, {"n": n}) for n in (1, 1, 2, 2, 3)]
        states = [(await run.result()).state["double"] for run in runs]
        batched = values(engine, "node_batches_total")

    assert states == [2, 2, 4, 4, 6]
    assert batches == [[1, 2, 3]]
    assert batched == {("work",): 1}


@pytest.mark.parametrize(
    ("options", "fault"),
    [
        ({"cache": Cache(60), "effect": True}, "effect=True"),
        ({"cache": 60}, "must be a Cache"),
        ({"breaker": 5}, "must be a Breaker"),
    ],
)
def test_policies_that_make_no_sense_are_refused(options: Any, fault: str) -> None:
    with pytest.raises(GraphInvalid) as refused:
        one(lambda state: None, **options).compile()

    assert fault in str(refused.value.problems[0])


def test_the_key_of_a_cache_must_be_one_of_the_states() -> None:
    graph = Graph("g", state=Notes).add_node("work", whole, cache=Cache(60, "nn")).set_entry_point("work")

    (problem,) = graph.validate()

    assert (problem.code, problem.hint) == ("unknown_key", "did you mean 'n'?")


@pytest.mark.parametrize(
    ("kind", "options"), [(Cache, {"ttl": 0}), (Cache, {"ttl": 1, "key": 5}), (Breaker, {"failures": 0})]
)
def test_a_policy_refuses_nonsense_when_it_is_made(kind: Any, options: Any) -> None:
    with pytest.raises(ValueError, match=kind.__name__):
        kind(**options)


def test_policies_go_into_a_definition_and_come_back() -> None:
    from engine import ToolRegistry

    tools = ToolRegistry()
    tools.tool(whole)
    data = {
        "name": "g",
        "entry_point": "whole",
        "nodes": [
            {
                "name": "whole",
                "tool": "whole",
                "rate": "5/s",
                "breaker": {"failures": 3, "within": 10, "cooldown": 20},
                "cache": {"ttl": 30, "key": ["a", "b"], "size": 10},
                "keep_remote": True,
            }
        ],
    }

    graph = Graph.from_dict(data, tools=tools)

    (node,) = graph.compile(tools).decl.nodes
    assert (node.options.breaker, node.options.cache) == (Breaker(3, 10, 20), Cache(30, ("a", "b"), 10))
    assert graph.to_dict()["nodes"] == [
        {**data["nodes"][0], "breaker": {"failures": 3, "within": 10, "cooldown": 20}}  # type: ignore[dict-item]
    ]
    assert Graph.from_dict(graph.to_dict(), tools=tools).to_dict() == graph.to_dict()


@pytest.mark.parametrize("seed", SEEDS)
@pytest.mark.parametrize("backend", testing.BACKENDS)
def test_under_any_schedule_one_computes_and_all_get_what_it_found(backend: testing.Backend, seed: int) -> None:
    dice = random.Random(seed)
    at_once: Counter[int] = Counter()
    most: Counter[int] = Counter()
    calls: Counter[int] = Counter()

    async def work(state: dict[str, int]) -> dict[str, int]:
        number = state["number"]
        calls[number] += 1
        at_once[number] += 1
        most[number] = max(most[number], at_once[number])
        try:
            await anyio.sleep(dice.choice([0, 1, 3]))
        finally:
            at_once[number] -= 1
        if dice.random() < 0.2:
            raise ConnectionError("down")
        return {"square": number * number}

    async def main() -> None:
        retry = Retry(attempts=20, delay=0.5, jitter=0)
        graph = one(work, cache=Cache(ttl=dice.choice([2, 1000])), retry=retry, concurrency=dice.choice([None, 2]))

        async def submit(number: int) -> None:
            await anyio.sleep(dice.uniform(0, 20))
            run = await engine.submit(graph, {"number": number, "own": dice.random()})
            if dice.random() < 0.3:
                with anyio.move_on_after(dice.uniform(0, 3)):
                    await run.wait()
                await run.cancel()
                if await run.wait() == "cancelled":
                    return
            assert (await run.result()).state["square"] == number * number

        async with Engine() as engine:
            engine.register(graph)
            engine.set_limits(graph, "work", cache=Cache(dice.choice([2, 1000]), "number"))
            async with anyio.create_task_group() as group:
                for _ in range(60):
                    group.start_soon(submit, dice.randint(0, 4))

    testing.run(main, backend=backend, seed=seed, virtual_time=True)

    assert set(most.values()) == {1}
    assert sum(calls.values()) < 60


@pytest.mark.parametrize("seed", SEEDS)
@pytest.mark.parametrize("backend", testing.BACKENDS)
def test_under_any_schedule_results_that_are_used_again_fill_no_edge_beyond_its_capacity(
    backend: testing.Backend, seed: int
) -> None:
    dice = random.Random(seed)
    gates: list[Any] = []
    ends: Counter[str] = Counter()

    async def work(state: dict[str, int]) -> dict[str, int]:
        await anyio.sleep(dice.choice([0, 1, 3]))
        if dice.random() < 0.2:
            raise ConnectionError("down")
        return {"square": state["number"] ** 2}

    async def slow(state: dict[str, int]) -> None:
        await anyio.sleep(dice.choice([0, 0.5, 1]))

    async def main() -> None:
        retry = Retry(attempts=20, delay=0.5, jitter=0)
        graph = Graph("g").add_node("first", lambda state: None, run_in="loop")
        graph.add_node("work", work, cache=Cache(1000, "number"), retry=retry, concurrency=dice.choice([None, 2]))
        graph.add_node("slow", slow, concurrency=1).set_entry_point("first")
        graph.add_edge("first", "work", capacity=4).add_edge("work", "slow", capacity=2)

        async def submit(number: int) -> None:
            await anyio.sleep(dice.uniform(0, 20))
            run = await engine.submit(graph, {"number": number})
            if dice.random() < 0.3:
                with anyio.move_on_after(dice.uniform(0, 3)):
                    await run.wait()
                await run.cancel()
            ends[await run.wait()] += 1

        async with Engine() as engine:
            engine.register(graph)
            async with anyio.create_task_group() as group:
                for _ in range(60):
                    group.start_soon(submit, dice.randint(0, 4))
                await anyio.sleep(10)
                engine.set_limits(graph, "work", cache=dice.choice([None, Cache(1, "number")]))
            made: Any = engine._registry.find("g").scheduler._make_crew
            gates.extend(made.gates.values())

    testing.run(main, backend=backend, seed=seed, virtual_time=True)

    behind = next(gate for gate in gates if gate.name == "work -> slow")
    assert behind.high_water <= 2
    assert [(gate.depth, gate.reserved) for gate in gates] == [(0, 0)] * 2
    assert ends["succeeded"] + ends["cancelled"] == 60
    assert ends["succeeded"] > 20


# --- changed at run time ----------------------------------------------------------------------------------


async def test_a_concurrency_is_raised_and_what_waits_starts_at_once() -> None:
    at_work = 0
    release = anyio.Event()

    async def work(state: dict[str, Any]) -> None:
        nonlocal at_work
        at_work += 1
        await release.wait()

    graph = one(work, concurrency=1)
    async with Engine() as engine:
        runs = [await engine.submit(graph) for _ in range(5)]
        await anyio.wait_all_tasks_blocked()
        assert at_work == 1

        limits = engine.set_limits("one", "work", concurrency=3)
        await anyio.wait_all_tasks_blocked()
        assert (at_work, limits.concurrency, engine.limits("one", "work")) == (3, 3, limits)
        assert values(engine, "node_limit") == {("concurrency", "work"): 3}

        engine.set_limits(graph, "work", concurrency=None)
        await anyio.wait_all_tasks_blocked()
        assert at_work == 5
        release.set()
        for run in runs:
            await run.result()


@pytest.mark.parametrize("backend", testing.BACKENDS)
def test_a_rate_is_changed_for_those_who_wait(backend: testing.Backend) -> None:
    starts: list[float] = []

    async def work(state: dict[str, Any]) -> None:
        starts.append(anyio.current_time() - began)

    began = 0.0

    async def main() -> None:
        nonlocal began
        began = anyio.current_time()
        graph = one(work, rate="1/min")
        async with Engine() as engine:
            runs = [await engine.submit(graph) for _ in range(4)]
            await anyio.sleep(10)
            engine.set_limits(graph, "work", rate="2/s")
            for run in runs:
                await run.result()

    testing.run(main, backend=backend, virtual_time=True)

    assert starts == pytest.approx([0, 10, 10, 11], abs=0.01)


async def test_a_breaker_is_put_before_a_node_at_work_and_taken_away() -> None:
    service = Service()
    graph = one(service.call)
    async with Engine() as engine:
        kinds = [type(await cause_of(await engine.submit(graph)))]
        engine.set_limits(graph, "work", breaker=Breaker(failures=1))
        kinds += [type(await cause_of(await engine.submit(graph))) for _ in range(2)]
        engine.set_limits(graph, "work", breaker=None)
        kinds += [type(await cause_of(await engine.submit(graph)))]

    assert kinds == [ConnectionError, ConnectionError, NodeUnavailable, ConnectionError]


async def test_a_cache_is_put_before_a_node_at_work_and_taken_away_while_some_wait_for_it() -> None:
    calls = 0
    release = anyio.Event()

    async def work(state: dict[str, Any]) -> dict[str, int]:
        nonlocal calls
        calls += 1
        await release.wait()
        return {"found": 1}

    graph = one(work)
    async with Engine() as engine:
        before = await engine.submit(graph)
        await anyio.wait_all_tasks_blocked()
        engine.set_limits(graph, "work", cache=Cache(60))
        with_it = [await engine.submit(graph) for _ in range(3)]
        await anyio.wait_all_tasks_blocked()
        assert calls == 2
        engine.set_limits(graph, "work", cache=None)
        after = [await engine.submit(graph) for _ in range(2)]
        await anyio.wait_all_tasks_blocked()
        assert calls == 4
        release.set()

        assert [(await run.result()).state for run in (before, *with_it, *after)] == [{"found": 1}] * 6


async def test_a_batch_takes_another_size_and_only_a_node_that_has_one_does() -> None:
    sizes: list[int] = []

    async def many(states: list[Any]) -> list[None]:
        sizes.append(len(states))
        return [None] * len(states)

    graph = one(many, batch=Batch(2, 60))
    async with Engine() as engine:
        runs = [await engine.submit(graph) for _ in range(2)]
        engine.set_limits(graph, "work", batch=Batch(3, 60))
        runs += [await engine.submit(graph) for _ in range(3)]
        for run in runs:
            await run.result()
        with pytest.raises(ValueError, match="takes a list of states"):
            engine.set_limits(graph, "work", batch=None)

    assert sizes == [2, 3]


async def test_a_node_that_has_not_run_gets_them_too_and_one_of_a_graph_inside() -> None:
    service = Service()
    inner = Graph("inner").add_node("call", service.call).set_entry_point("call")
    graph = Graph("outer").add_node("sub", inner).set_entry_point("sub")

    async with Engine() as engine:
        engine.register(graph)
        engine.set_limits("outer", "inner.call", breaker=Breaker(failures=1))
        for _ in range(3):
            await cause_of(await engine.submit(graph))

    assert service.calls == 1


@pytest.mark.parametrize(
    ("changes", "fault"),
    [
        ({"rate": "often"}, "rate is wrong"),
        ({"concurrency": 0}, "concurrency must be"),
        ({"batch": Batch(2)}, "takes one state"),
        ({"cache": 5}, "cache must be a Cache"),
        ({"speed": 5}, "speed is no limit"),
    ],
)
async def test_limits_that_cannot_be_are_refused_and_nothing_changes(changes: Any, fault: str) -> None:
    graph = one(Service().call, concurrency=2)
    async with Engine() as engine:
        engine.register(graph)
        before = engine.limits(graph, "work")
        with pytest.raises(ValueError, match=fault):
            engine.set_limits(graph, "work", **changes)

        assert engine.limits(graph, "work") == before


@pytest.mark.parametrize("node", ["give", "take"])
async def test_a_cache_is_not_put_where_references_may_be(node: str) -> None:
    graph = Graph("g").add_node("give", whole, run_in="process", keep_remote=True).set_entry_point("give")
    graph.add_node("take", whole, run_in="process").add_edge("give", "take")
    async with Engine() as engine:
        engine.register(graph)
        with pytest.raises(ValueError, match="where values stay on a cluster"):
            engine.set_limits(graph, node, cache=Cache(60))


async def test_an_unknown_node_has_no_limits() -> None:
    graph = one(Service().call)
    async with Engine() as engine:
        engine.register(graph)
        with pytest.raises(UnknownNode, match="known are 'work'"):
            engine.set_limits(graph, "wrok", concurrency=1)


def test_limits_are_changed_from_another_thread_by_way_of_the_blocking_engine() -> None:
    graph = one(Service().call)
    with Engine().blocking() as engine:
        engine.register(graph)

        assert engine.set_limits("one", "work", rate="5/s").rate == engine.limits("one", "work").rate


# --- durable runs -----------------------------------------------------------------------------------------


async def test_a_run_that_goes_on_has_what_it_was_given_and_a_new_engine_computes_anew(tmp_path: Any) -> None:
    calls = 0

    async def count(state: dict[str, Any], ctx: Context) -> dict[str, int]:
        nonlocal calls
        calls += 1
        return {"call": calls}

    def made() -> Graph:
        graph = Graph("g").add_node("work", count, cache=Cache(60, "n"))
        graph.add_wait("wait", signal="go", into="go").add_edge("work", "wait")
        return graph.add_node("again", count, cache=Cache(60, "n")).add_edge("wait", "again").set_entry_point("work")

    store = f"sqlite:///{tmp_path}/runs.db"
    async with Engine(store) as engine:
        first, second = [await engine.submit(made(), {"n": 1}) for _ in range(2)]
        while len(second.visited) < 2:  # noqa: ASYNC110  # nothing tells of it
            await anyio.sleep(0.005)
        assert calls == 1

    async with Engine(store) as engine:
        engine.register(made())
        for run_id in (first.id, second.id):
            run = await engine.get(run_id)
            await run.signal("go")
            assert (await run.result()).state == {"n": 1, "go": None, "call": 2}

    assert calls == 2
