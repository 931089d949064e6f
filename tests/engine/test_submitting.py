"""What is submitted is checked before anything is accepted, and booked once."""

import logging
import math
import threading
from pathlib import Path
from typing import Any, TypedDict

import anyio
import attrs
import pytest

from engine import Engine, EngineBusy, EngineClosed, EngineError, Graph, IdempotencyConflict, Run, RunFailed, RunTimeout
from engine.executors import ThreadExecutor
from engine.settings import Settings
from engine.timers import Timers
from tests.contracts.stores import FACTORIES


def one(function: Any, name: str = "one", **options: Any) -> Graph:
    return Graph(name, **options).add_node("a", function).set_entry_point("a")


def waiting() -> Graph:
    return Graph("waiting").add_wait("approve", signal="approved", into="approval").set_entry_point("approve")


async def nothing(state: dict[str, Any]) -> None:
    pass


async def fail_if_told(state: dict[str, Any]) -> None:
    if state.get("fail"):
        raise ValueError("as asked")


# --- what is wrong with a submission ----------------------------------------------------------------------


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"deadline": math.nan}, r"deadline must be a number above 0, found nan .*; it is in seconds from now"),
        ({"deadline": "5"}, "deadline must be a number above 0"),
        ({"deadline": True}, "deadline must be"),
        ({"deadline": 0}, "deadline must be a number above 0, found 0"),
        ({"deadline": -1}, "deadline must be"),
        ({"deadline": math.inf}, "leave it out for none"),
        ({"priority": "high"}, "priority must be a whole number, found .*; higher ones start first"),
        ({"priority": None}, "priority must be"),
        ({"run_id": 5}, "run_id must be text"),
        ({"run_id": "a/b"}, "without '/' and '#'"),
        ({"run_id": "a#1"}, "without '/' and '#'"),
        ({"run_id": ""}, "run_id must be"),
        ({"tags": {"a": 1}}, "tags has a wrong entry 'a'"),
        ({"tags": ["a"]}, "tags must be a mapping"),
        ({"idempotency_key": [1]}, "idempotency_key must be text"),
        ({"run_id": 5, "deadline": -1}, "run_id must be .*; deadline must be"),
        ({"run_id": "é" * 257}, "run_id must take at most 512 bytes in UTF-8, found 514: 'é.*; leave it out to get"),
        ({"run_id": "a\0b"}, r"run_id must not have a NUL character in it, found 'a\\x00b'"),
        ({"idempotency_key": "k" * 513}, "idempotency_key must take at most 512 bytes in UTF-8, found 513"),
        ({"idempotency_key": "\ud800"}, "idempotency_key must be text that UTF-8 can say"),
        ({"idempotency_key": ""}, "idempotency_key must be text"),
        ({"tags": {"who": "x" * 513}}, r"tags has a wrong entry 'who' \(str\): its value must take at most 512 bytes"),
        ({"tags": {"\0": "x"}}, "tags has a wrong entry .*: its name must not have a NUL"),
        ({"priority": 1 << 63}, "priority must be a whole number, found 9223372036854775808.*64 bits are kept"),
    ],
)
async def test_a_wrong_option_is_refused_before_anything_is_accepted(options: dict[str, Any], said: str) -> None:
    async with Engine() as engine:
        with pytest.raises(ValueError, match=f"submit: .*{said}"):
            await engine.submit(one(nothing), {}, **options)

        assert engine.statistics().submitted == 0
        assert (await engine.run(one(nothing), {}, deadline=5)).status == "succeeded"


async def test_names_as_long_as_may_be_are_kept_by_every_store(tmp_path: Path) -> None:
    # The character that PostgreSQL's text has to escape: what takes the most room there.
    name = "\u241b" * 170 + "ab"
    assert len(name.encode()) == 512
    graph = one(nothing, name, version=name)
    for make in FACTORIES.values():
        async with Engine(make(tmp_path)()) as engine:
            run = await engine.submit(graph, {}, run_id=name, idempotency_key=name, tags={name: name}, priority=-5)
            await run.wait()
            assert await engine.submit(graph, {}, idempotency_key=name) is run
            assert await engine.runs(tags={name: name}) == [run]


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("g" * 513, "must take at most 512 bytes in UTF-8, found 513"),
        ("a\0", "must not have a NUL"),
        ("\udfff", "must be text that UTF-8 can say"),
    ],
)
def test_a_graph_whose_name_or_version_or_node_no_store_can_hold_is_refused(name: str, said: str) -> None:
    for graph in (one(nothing, name), one(nothing, version=name), Graph("g").add_node(name, nothing)):
        assert any(said in problem.message for problem in graph.validate())


async def test_a_wrong_time_to_wait_or_a_wrong_name_of_a_signal_is_refused() -> None:
    async with Engine() as engine:
        run = await engine.submit(waiting(), {})
        with pytest.raises(ValueError, match="result: timeout must be a number of at least 0"):
            await run.result(timeout="5")  # type: ignore[arg-type]
        with pytest.raises(ValueError, match="result: timeout"):
            await run.result(timeout=math.nan)
        with pytest.raises(ValueError, match="drain: timeout"):
            await engine.drain(timeout=-1)
        with pytest.raises(ValueError, match="signal: id must be text"):
            await run.signal("approved", id=[1])  # type: ignore[arg-type]
        with pytest.raises(ValueError, match="signal: id must take at most 512 bytes in UTF-8"):
            await run.signal("approved", id="x" * 1000)
        with pytest.raises(ValueError, match="signal: name must be text"):
            await run.signal(["approved"])  # type: ignore[arg-type]
        await run.signal("approved", True)

        assert (await run.result(timeout=math.inf)).state == {"approval": True}


async def test_a_timer_is_set_for_a_time() -> None:
    for when in (math.nan, math.inf):
        with pytest.raises(ValueError, match="a timer is set for a time"):
            Timers().at(when, lambda: None)


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"executors": {"loop": ThreadExecutor()}}, "executors has the name 'loop', which is the event loop itself"),
        ({"executors": {"x": 5}}, "executors has 5 .* as 'x', which is no executor"),
        ({"executors": {"x": ThreadExecutor}}, "give an object of it"),
        ({"executors": [1]}, "executors must be a mapping"),
        ({"settings": 5}, r"settings must be a Settings\(...\), found"),
        ({"max_queued": 5}, "max_queued is 5, but without max_runs no run is ever queued; give max_runs, too"),
        ({"max_runs": 0}, "max_runs must be a whole number above 0"),
        ({"max_runs": 1, "max_queued": -1}, "max_queued must be a whole number of at least 0"),
        ({"tools": 5}, "tools must be a ToolRegistry, a list of tools, a mapping from names to functions"),
        ({"tools": 5, "settings": 5}, "tools must .*; settings must"),
    ],
)
def test_wrong_arguments_of_an_engine_are_refused_with_the_cure(options: dict[str, Any], said: str) -> None:
    with pytest.raises(ValueError, match=f"Engine: .*{said}"):
        Engine(**options)


def test_right_arguments_of_an_engine_are_taken() -> None:
    Engine(tools={"a": nothing}, executors={"x": ThreadExecutor()}, max_runs=1, max_queued=0, settings=Settings())


# --- concurrent first submissions of a graph --------------------------------------------------------------


async def submissions(engine: Engine, count: int, **options: Any) -> list[Run | EngineError]:
    found: list[Run | EngineError] = []

    async def submit() -> None:
        try:
            found.append(await engine.submit(waiting(), {}, **options))
        except EngineError as error:
            found.append(error)

    async with anyio.create_task_group() as group:
        for _ in range(count):
            group.start_soon(submit)
    return found


async def test_first_submissions_at_once_do_not_pass_the_limit_of_the_queue() -> None:
    async with Engine(max_runs=1, max_queued=1) as engine:
        found = await submissions(engine, 5)

        assert [type(one) for one in found].count(EngineBusy) == 3
        assert (engine.statistics().running, engine.statistics().queued) == (1, 1)


async def test_of_first_submissions_at_once_with_one_run_id_one_is_accepted() -> None:
    async with Engine() as engine:
        found = await submissions(engine, 3, run_id="same")

        assert [isinstance(one, Run) for one in found].count(True) == 1
        assert engine.statistics().submitted == 1


async def test_first_submissions_at_once_with_one_idempotency_key_are_one_run() -> None:
    async with Engine() as engine:
        found = await submissions(engine, 3, idempotency_key="key")

        assert len({id(one) for one in found}) == 1
        assert engine.statistics().submitted == 1


# --- idempotency keys ---------------------------------------------------------------------------------------


async def test_an_idempotency_key_stands_for_the_state_as_it_was_submitted() -> None:
    state = {"x": 1}
    async with Engine() as engine:
        run = await engine.submit(one(nothing), state, idempotency_key="key")
        state["x"] = 2
        with pytest.raises(IdempotencyConflict):
            await engine.submit(one(nothing), state, idempotency_key="key")

        assert await engine.submit(one(nothing), {"x": 1}, idempotency_key="key") is run


class Client:
    """Equal to itself alone."""


@attrs.define
class Order:
    rows: list[Any]


async def test_what_is_changed_inside_a_state_later_changes_no_idempotency_key() -> None:
    state = {"rows": [[1]], "order": Order([1])}
    async with Engine() as engine:
        run = await engine.submit(one(nothing), state, idempotency_key="key")
        again = {"rows": [[1]], "order": Order([1])}
        for part in (state["rows"][0], state["order"].rows):  # type: ignore[index, union-attr]
            part.append(2)

            with pytest.raises(IdempotencyConflict):
                await engine.submit(one(nothing), state, idempotency_key="key")
            assert await engine.submit(one(nothing), again, idempotency_key="key") is run


async def test_what_is_equal_to_itself_alone_makes_no_conflict_of_an_idempotency_key() -> None:
    client, lock = Client(), threading.Lock()

    def state() -> dict[str, Any]:
        return {"parts": [client, {"lock": lock}], "order": Order([client, 1])}

    async with Engine() as engine:
        run = await engine.submit(one(nothing), state(), idempotency_key="key")

        assert await engine.submit(one(nothing), state(), idempotency_key="key") is run
        with pytest.raises(IdempotencyConflict):
            await engine.submit(one(nothing), {**state(), "parts": [Client()]}, idempotency_key="key")


async def test_an_idempotency_key_stands_for_one_version_of_a_graph() -> None:
    async with Engine() as engine:
        await engine.submit(one(nothing), {}, idempotency_key="key")
        with pytest.raises(IdempotencyConflict, match=r"to graph .* version '1', not to graph .* version '2'"):
            await engine.submit(one(nothing, version="2"), {}, idempotency_key="key")


# --- the queue ------------------------------------------------------------------------------------------------


async def test_a_queued_run_that_is_cancelled_is_queued_no_more() -> None:
    async with Engine(max_runs=1, max_queued=1) as engine:
        await engine.submit(waiting(), {})
        second = await engine.submit(waiting(), {})
        await second.cancel()

        assert (second.status, engine.statistics().queued) == ("cancelled", 0)
        assert (await engine.submit(waiting(), {})).status == "queued"


class Typed(TypedDict):
    x: int


async def test_who_changes_the_state_of_a_queued_run_changes_neither_it_nor_the_run_before() -> None:
    release = anyio.Event()

    async def wait(state: Typed) -> None:
        await release.wait()

    async with Engine(max_runs=1) as engine:
        first = await engine.submit(one(wait, state=Typed), {"x": 1})
        state: dict[str, Any] = {"x": 2}
        second = await engine.submit(one(wait, "other", state=Typed), state)
        state["x"] = "bad"
        release.set()

        assert (await first.result()).state == {"x": 1}
        assert (await second.result()).state == {"x": 2}
        assert engine.statistics().running == 0


# --- retries of runs ----------------------------------------------------------------------------------------


async def failed(engine: Engine, **options: Any) -> Run:
    run = await engine.submit(one(fail_if_told, "failing"), {"fail": True}, **options)
    assert await run.wait() == "failed"
    return run


async def test_a_retried_run_waits_for_a_place_like_any_other() -> None:
    release = anyio.Event()

    async def wait(state: dict[str, Any]) -> None:
        await release.wait()

    async with Engine(max_runs=1, max_queued=1) as engine:
        run, late = await failed(engine), await failed(engine)
        await engine.submit(one(wait), {})
        await run.retry({"fail": False})

        assert (run.status, run.over) == ("queued", False)
        assert (engine.statistics().running, engine.statistics().queued) == (1, 1)
        with pytest.raises(EngineBusy):
            await late.retry()
        assert late.status == "failed"

        release.set()
        assert (await run.result()).state == {"fail": False}


async def test_a_run_that_waits_to_go_on_can_be_cancelled() -> None:
    async with Engine(max_runs=1) as engine:
        run = await failed(engine)
        await engine.submit(waiting(), {})
        await run.retry()
        await run.cancel("enough")

        assert (await run.wait(), engine.statistics().queued) == ("cancelled", 0)


async def test_a_refused_retry_changes_and_counts_nothing() -> None:
    async with Engine() as engine:
        graph = one(fail_if_told, "failing", state=TypedDict("Flag", {"fail": bool}))
        run = await engine.submit(graph, {"fail": True})
        await run.wait()
        with pytest.raises(EngineError):
            await run.retry({"unknown": 1})

        assert (run.status, engine.statistics().ended, engine.statistics().running) == ("failed", {"failed": 1}, 0)
        await run.retry({"fail": False})
        assert await run.wait() == "succeeded"


async def test_a_deadline_holds_for_a_retry_too() -> None:
    async def hang_or_fail(state: dict[str, Any]) -> None:
        if state["fail"]:
            raise ValueError
        await anyio.sleep_forever()

    with anyio.fail_after(30):
        async with Engine() as engine:
            run = await engine.submit(one(hang_or_fail), {"fail": True}, deadline=2.0)
            await run.wait()
            await run.retry({"fail": False})
            with pytest.raises(RunFailed) as caught:
                await run.result()

    assert caught.group_contains(RunTimeout)


async def test_a_deadline_holds_while_a_retry_waits_for_a_place() -> None:
    with anyio.fail_after(30):
        async with Engine(max_runs=1) as engine:
            run = await failed(engine, deadline=2.0)
            await engine.submit(waiting(), {})
            await run.retry()
            with pytest.raises(RunFailed) as caught:
                await run.result()

            assert engine.statistics().queued == 0
    assert caught.group_contains(RunTimeout)
    assert [entry.error for entry in run.log] == ["ValueError: as asked"], "that it had failed before is in its log"


async def test_after_the_deadline_there_is_no_retry() -> None:
    async with Engine() as engine:
        run = await failed(engine, deadline=0.02)
        await anyio.sleep(0.03)
        with pytest.raises(RunTimeout, match="too late for a retry, submit another run"):
            await run.retry()

        assert (run.status, engine.statistics().ended) == ("failed", {"failed": 1})


# --- while the engine is left -------------------------------------------------------------------------------


@pytest.mark.parametrize("how", ["left", "drained"])
async def test_what_a_node_submits_is_taken_while_the_engine_waits_for_its_run(how: str) -> None:
    async with Engine() as engine:

        async def submit(state: dict[str, Any]) -> dict[str, Any]:
            await anyio.sleep(0.02)
            return {"inner": (await engine.run(one(nothing, "inner"), {"x": 1})).state}

        run = await engine.submit(one(submit), {})
        if how == "drained":
            await engine.drain()
            with pytest.raises(EngineClosed, match="draining"):
                await engine.submit(one(nothing), {})

    assert run.state == {"inner": {"x": 1}}


async def test_what_a_node_submits_is_refused_when_the_engine_is_left_by_an_exception() -> None:
    refused: list[Exception] = []
    began = anyio.Event()

    with anyio.fail_after(30), pytest.raises(ValueError, match="left"):  # noqa: PT012
        async with Engine() as engine:

            async def submit(state: dict[str, Any]) -> None:
                began.set()
                try:
                    await anyio.sleep_forever()
                finally:
                    with anyio.CancelScope(shield=True):
                        try:
                            await engine.submit(waiting(), {})
                        except EngineClosed as error:
                            refused.append(error)

            await engine.submit(one(submit), {})
            await began.wait()
            raise ValueError("left")

    assert len(refused) == 1


# --- subscribers --------------------------------------------------------------------------------------------


async def test_a_function_that_subscribes_twice_is_called_twice() -> None:
    seen: list[str] = []

    def see(run: Run, event: Any) -> None:
        seen.append(event.type)

    async with Engine() as engine:
        end = engine.subscribe(see)
        engine.subscribe(see)
        await engine.run(one(nothing), {})
        end()
        end()
        await engine.run(one(nothing), {})

    assert seen.count("run_succeeded") == 3


async def test_only_a_plain_function_can_subscribe(caplog: pytest.LogCaptureFixture) -> None:
    async def see(run: Run, event: Any) -> None: ...

    async with Engine() as engine:
        for wrong in (see, 5):
            with pytest.raises(TypeError, match="must be a plain function of a run and an event"):
                engine.subscribe(wrong)  # type: ignore[arg-type]

    assert not [record for record in caplog.records if record.levelno >= logging.WARNING]


# --- what a run that waits for a place has ----------------------------------------------------------------


@attrs.frozen
class Numbered:
    number: int
    done: bool = False


@pytest.mark.parametrize("store", [None, "memory://"])
async def test_a_queued_run_has_the_state_that_it_will_begin_on(store: str | None) -> None:
    go = anyio.Event()

    async def work(state: Numbered) -> dict[str, Any]:
        await go.wait()
        return {"done": True}

    graph = one(work, state=Numbered)
    async with Engine(store, max_runs=1) as engine:
        first, second, third = [await engine.submit(graph, Numbered(number)) for number in (1, 2, 3)]

        assert (second.status, second.state) == ("queued", Numbered(2))
        await third.cancel()
        assert (third.status, third.state) == ("cancelled", Numbered(3))
        go.set()
        assert (await second.result()).state == Numbered(2, done=True)
        assert (await first.result()).state == Numbered(1, done=True)
