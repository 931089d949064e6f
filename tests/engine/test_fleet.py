"""Engines that share a store, several in one process: whatever is asked of a run, at whichever of them, comes about."""

from __future__ import annotations

import logging
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from functools import partial
from pathlib import Path
from typing import Any

import anyio
import anyio.lowlevel
import psycopg
import pytest

from engine import (
    Context,
    Engine,
    EngineBusy,
    EngineClosed,
    File,
    Graph,
    GraphNotFound,
    IdempotencyConflict,
    LeaseLost,
    NotStorable,
    PoisonRun,
    Run,
    RunCancelled,
    RunEnded,
    RunFailed,
    RunIdTaken,
    RunNotFound,
    Sharing,
    StateInvalid,
    StoreUnavailable,
    UnknownSignal,
)
from engine.away import AwayKeptRun, AwayRun
from engine.fleet import Fleet
from engine.stored import Collect, Forget, SetStatus
from engine.stores import postgres

State = dict[str, Any]
# Leases end when a test ends them, and not because the machine stood still for a while.
QUICK = Sharing(lease=60.0, renew=0.5, poll=0.1)
PATIENCE = 30.0


class Nodes:
    """What ran where, and what holds it."""

    def __init__(self) -> None:
        self.began: list[str] = []
        self.stopped: list[str] = []
        self.free = anyio.Event()
        self.fails = True

    def holding(self, **options: Any) -> Graph:
        async def hold(state: State, context: Context) -> State:
            self.began.append(context.run_id)
            try:
                await self.free.wait()
            except BaseException:
                self.stopped.append(context.run_id)
                raise
            return {"n": state.get("n", 0) + 1}

        return Graph("holding", **options).add_node("hold", hold).set_entry_point("hold")

    async def failing_node(self, state: State, context: Context) -> State:
        if self.fails:
            raise ValueError("not yet")
        self.began.append(context.run_id)
        await self.free.wait()
        return {"second": True}

    def failing(self) -> Graph:
        async def first(state: State) -> State:
            return {"first": state.get("first", 0) + 1}

        async def second(state: State) -> State:
            if self.fails:
                raise ValueError("not yet")
            return {"second": True}

        graph = Graph("failing").add_node("first", first).add_node("second", second)
        return graph.add_edge("first", "second").set_entry_point("first")


def waiting() -> Graph:
    async def after(state: State) -> State:
        return {"after": state["it"] * 2}

    graph = Graph("waiting").add_wait("wait", signal="go", into="it").add_node("after", after)
    return graph.add_edge("wait", "after").set_entry_point("wait")


@asynccontextmanager
async def engines(
    url: str, count: int = 2, *graphs: Graph, sharing: Sharing = QUICK, **options: Any
) -> AsyncIterator[list[Engine]]:
    async with AsyncExitStack() as stack:
        found = [await stack.enter_async_context(Engine(url, shared=sharing, **options)) for _ in range(count)]
        for engine in found:
            for graph in graphs:
                engine.register(graph)
        yield found


async def until(condition: Any) -> None:
    with anyio.fail_after(PATIENCE):
        while not condition():  # noqa: ASYNC110  # other engines set no event
            await anyio.sleep(0.01)


def fleet_of(engine: Engine) -> Fleet:
    fleet = engine._fleet
    assert fleet is not None
    return fleet


async def begun_on(engine: Engine, graph: str, **options: Any) -> Run:
    """A run that this engine has."""
    claims = fleet_of(engine).claims
    # Otherwise it waits behind what may be waiting, and begins wherever there is a place first; as it would if this
    # engine looked for others' runs in just the moment in which it is accepted, and so kept its places for them.
    await until(lambda: not claims.others_wait and not claims.is_full)
    claims.are_wanted = False
    try:
        run = await engine.submit(graph, {}, **options)
    finally:
        claims.are_wanted = True
    assert not isinstance(run, AwayRun)
    return run


# --- a run that another engine has ------------------------------------------------------------------------


async def test_a_run_is_waited_for_at_another_engine(postgres_url: str) -> None:
    nodes = Nodes()
    async with engines(postgres_url, 2, nodes.holding()) as (one, two):
        run = await begun_on(one, "holding")
        away = await two.get(run.id)
        assert isinstance(away, AwayRun)
        assert (away.status, away.graph, away.version) == ("running", "holding", "1")
        nodes.free.set()

        result = await away.result(timeout=PATIENCE)
        assert (result.state, result.status) == ({"n": 1}, "succeeded")
        assert (await run.result()).state == result.state
        assert nodes.began == [run.id]


async def test_a_failure_is_told_at_another_engine(postgres_url: str) -> None:
    async with engines(postgres_url, 2, Nodes().failing()) as (one, two):
        run = await begun_on(one, "failing")
        with pytest.raises(RunFailed, match="not yet"):
            await (await two.get(run.id)).result(timeout=PATIENCE)


async def test_events_are_the_same_at_every_engine(postgres_url: str) -> None:
    async with engines(postgres_url, 2, waiting()) as (one, two):
        run = await begun_on(one, "waiting")
        away = await two.get(run.id)
        here: list[Any] = []
        there: list[Any] = []

        async def watch(handle: Run, seen: list[Any]) -> None:
            async for event in handle.events():
                seen.append((event.seq, event.type, event.node, event.activation, dict(event.data)))

        with anyio.fail_after(PATIENCE):
            async with anyio.create_task_group() as group:
                group.start_soon(watch, run, here)
                group.start_soon(watch, away, there)
                await until(lambda: there)
                await run.signal("go", 21)

        assert there == here
        assert [type for _, type, *_ in there][-1] == "run_succeeded"
        assert (await two.get(run.id)).log == run.log


async def test_a_signal_reaches_the_owner(postgres_url: str) -> None:
    async with engines(postgres_url, 2, waiting()) as (one, two):
        run = await begun_on(one, "waiting")
        away = await two.get(run.id)
        with pytest.raises(UnknownSignal):
            await away.signal("come", 1)
        await away.signal("go", 4, id="once")

        with anyio.fail_after(PATIENCE):
            assert (await run.result()).state == {"it": 4, "after": 8}
        await until(lambda: away.over)
        with pytest.raises(RunEnded):
            await away.signal("go", 5)


async def test_a_file_in_a_signal_for_a_run_of_another_engine_is_refused(postgres_url: str, tmp_path: Path) -> None:
    async with engines(postgres_url, 2, waiting(), files=tmp_path) as (one, two):
        run = await begun_on(one, "waiting")
        kept = await two.files.keep(File.from_bytes("x"))
        away = await two.get(run.id)
        with pytest.raises(NotStorable, match="an inbox keeps no files"):
            await away.signal("go", {"files": [kept]})
        await run.signal("go", [kept])
        assert (await run.result()).state == {"it": [kept], "after": [kept, kept]}


async def test_a_run_is_paused_resumed_and_cancelled_from_another_engine(postgres_url: str) -> None:
    async with engines(postgres_url, 2, waiting()) as (one, two):
        run = await begun_on(one, "waiting")
        away = await two.get(run.id)
        await away.pause()
        await until(lambda: run.status == "paused")
        await until(lambda: away.status == "paused")
        await away.resume()
        await until(lambda: run.status == "waiting")
        await away.cancel("not wanted")

        with anyio.fail_after(PATIENCE), pytest.raises(RunCancelled, match="not wanted"):
            await run.result()
        with anyio.fail_after(PATIENCE):
            assert await away.wait() == "cancelled"


async def test_an_order_counts_once(postgres_url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """It stays in the inbox until what it did is safe, and is read again and again until then."""
    async with engines(postgres_url, 2, waiting()) as (one, two):
        run = await begun_on(one, "waiting")
        away = await two.get(run.id)
        assert one._durable is not None
        commit = one._durable.store.commit

        async def slowly(*args: Any, **options: Any) -> None:
            await anyio.sleep(4 * QUICK.poll)
            await commit(*args, **options)

        monkeypatch.setattr(one._durable.store, "commit", slowly)
        await away.pause()
        await until(lambda: run.status == "paused")
        await run.resume()
        await anyio.sleep(4 * QUICK.poll)
        monkeypatch.undo()

        assert run.status == "waiting"


async def test_a_failed_run_is_retried_at_another_engine_and_goes_on_there(postgres_url: str) -> None:
    nodes = Nodes()
    async with engines(postgres_url, 2, nodes.failing()) as (one, two):
        run = await begun_on(one, "failing")
        assert await run.wait() == "failed"
        there = await two.get(run.id)
        assert there.status == "failed"
        nodes.fails = False
        await there.retry({"more": 1})

        assert (await there.result(timeout=PATIENCE)).state == {"first": 1, "more": 1, "second": True}
        assert (await one.get(run.id)).status == "succeeded"
        # The handle from before knows that it is out of date.
        with pytest.raises(RunEnded, match=r"it has gone on since, in another engine; engine.get\(run_id\) gives it"):
            await run.retry()


async def test_two_engines_that_retry_a_run_at_once_do_not_both_run_it(postgres_url: str) -> None:
    nodes = Nodes()
    async with engines(postgres_url, 2, nodes.failing()) as (one, two):
        run = await begun_on(one, "failing")
        await run.wait()
        nodes.fails = False
        handles = [await one.get(run.id), await two.get(run.id)]
        refused: list[Exception] = []

        async def retry(handle: Run) -> None:
            try:
                await handle.retry()
            except RunEnded as error:
                refused.append(error)

        async with anyio.create_task_group() as group:
            for handle in handles:
                group.start_soon(retry, handle)
        assert len(refused) == 1
        with anyio.fail_after(PATIENCE):
            assert await (await one.get(run.id)).wait() == "succeeded"


async def test_a_retry_that_is_refused_leaves_the_run_for_others(postgres_url: str) -> None:
    nodes = Nodes()
    async with engines(postgres_url, 2, nodes.failing()) as (one, two):
        run = await begun_on(one, "failing")
        await run.wait()
        with pytest.raises(StateInvalid):
            await (await one.get(run.id)).retry(5)  # type: ignore[arg-type]  # that is what is refused
        nodes.fails = False
        with anyio.fail_after(PATIENCE):
            while True:
                try:
                    there = await two.get(run.id)
                    await there.retry()
                    break
                except RunEnded:  # it is on its way back
                    await anyio.sleep(0.02)
            assert await there.wait() == "succeeded"


async def test_runs_are_listed_with_what_they_are_at_every_engine(postgres_url: str) -> None:
    nodes = Nodes()
    async with engines(postgres_url, 2, nodes.holding(), waiting()) as (one, two):
        held = await begun_on(one, "holding", tags={"a": "b"})
        waits = await begun_on(two, "waiting")
        await until(lambda: waits.status == "waiting")
        with anyio.fail_after(PATIENCE):
            while {run.id: run.status for run in await one.runs()} != {held.id: "running", waits.id: "waiting"}:  # noqa: ASYNC110
                await anyio.sleep(0.05)
        assert [run.id for run in await two.runs("running")] == [held.id]
        assert [run.id for run in await two.runs(tags={"a": "b"})] == [held.id]
        nodes.free.set()
        await waits.cancel()


# --- who runs what --------------------------------------------------------------------------------------


async def test_runs_that_one_engine_has_no_place_for_begin_at_another(postgres_url: str) -> None:
    nodes = Nodes()
    async with engines(postgres_url, 2, nodes.holding(), max_runs=2) as (one, two):
        runs = [await one.submit("holding", {}) for _ in range(6)]
        await until(lambda: len(nodes.began) == 4)
        await anyio.sleep(3 * QUICK.poll)

        assert (one.statistics().running, two.statistics().running) == (2, 2)
        assert sorted(run.status for run in await two.runs()) == ["queued"] * 2 + ["running"] * 4
        nodes.free.set()
        with anyio.fail_after(PATIENCE):
            assert [await run.wait() for run in runs] == ["succeeded"] * 6
        assert sorted(nodes.began) == sorted(run.id for run in runs)


async def test_who_waits_begins_by_priority_and_then_by_age(postgres_url: str) -> None:
    nodes = Nodes()
    async with engines(postgres_url, 1, nodes.holding(), max_runs=1) as (one,):
        await begun_on(one, "holding", run_id="first")
        for run_id, priority in (("a", 0), ("b", 3), ("c", 0), ("d", 3)):
            await one.submit("holding", {}, run_id=run_id, priority=priority)
        last = await one.get("c")
        await until(lambda: not fleet_of(one).belongings.leaving)  # all of them wait in the store
        nodes.free.set()
        with anyio.fail_after(PATIENCE):
            await last.wait()

    assert nodes.began == ["first", "b", "d", "a", "c"]


async def test_an_engine_runs_only_what_it_knows(postgres_url: str) -> None:
    nodes = Nodes()
    async with engines(postgres_url, 2, waiting(), max_runs=1) as (one, two):
        one.register(nodes.holding())
        await begun_on(one, "holding")
        queued = await one.submit("holding", {})
        await anyio.sleep(3 * QUICK.poll)
        assert nodes.began != [queued.id]
        assert two.statistics().running == 0

        there = await two.get(queued.id)
        assert isinstance(there, AwayKeptRun)
        assert isinstance(there.why, GraphNotFound)
        assert there.status == "queued"
        two.register(nodes.holding())
        await until(lambda: queued.id in nodes.began)
        nodes.free.set()
        with anyio.fail_after(PATIENCE):
            assert await queued.wait() == "succeeded"


async def test_an_engine_says_once_which_runs_wait_that_it_cannot_run(
    postgres_url: str, caplog: pytest.LogCaptureFixture
) -> None:
    async with engines(postgres_url, 1, waiting()) as (one,):
        await begun_on(one, "waiting")
    sharing = Sharing(lease=0.6, renew=0.2, poll=0.1)  # as long as a run waits before it is spoken of
    said = "1 runs of 'waiting' version '1' wait for an engine that knows it"
    with caplog.at_level(logging.WARNING, "engine"):
        async with engines(postgres_url, 1, sharing=sharing):
            await until(lambda: said in caplog.text)
            await anyio.sleep(2 * sharing.lease)

    assert caplog.text.count(said) == 1


async def test_the_limit_of_a_graph_holds_for_all_engines(postgres_url: str) -> None:
    nodes = Nodes()
    sharing = Sharing(lease=60.0, renew=0.5, poll=0.1, graph_runs={"holding": 3})
    async with engines(postgres_url, 2, nodes.holding(), sharing=sharing) as (one, two):
        runs = [await (one, two)[number % 2].submit("holding", {}) for number in range(8)]
        await until(lambda: len(nodes.began) == 3)
        await anyio.sleep(4 * sharing.poll)

        assert len(nodes.began) == 3
        nodes.free.set()
        with anyio.fail_after(PATIENCE):
            assert [await run.wait() for run in runs] == ["succeeded"] * 8


async def test_as_many_may_wait_as_an_engine_says_and_more_are_refused(postgres_url: str) -> None:
    nodes = Nodes()
    async with engines(postgres_url, 2, nodes.holding(), max_runs=1, max_queued=2) as (one, two):
        await begun_on(one, "holding")
        await begun_on(two, "holding")
        await one.submit("holding", {})
        await two.submit("holding", {})
        await anyio.sleep(2 * QUICK.poll)
        with pytest.raises(EngineBusy, match="all are full"):
            await one.submit("holding", {})
        nodes.free.set()


async def test_a_run_that_is_given_back_while_those_that_wait_are_counted_is_counted(
    postgres_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    nodes = Nodes()
    async with engines(postgres_url, 1, nodes.holding(), max_runs=1, max_queued=1) as (one,):
        await begun_on(one, "holding")
        fleet, may_leave = fleet_of(one), anyio.Event()
        leaving, give_back, queued = fleet.belongings.leaving, fleet.member.give_back, fleet.member.queued

        async def held_back(*args: Any) -> None:
            await may_leave.wait()
            await give_back(*args)

        async def counted(*args: Any) -> int:
            count = await queued(*args)
            may_leave.set()
            await until(lambda: not leaving)
            return count

        monkeypatch.setattr(fleet.member, "give_back", held_back)
        await one.submit("holding", {})
        assert leaving
        monkeypatch.setattr(fleet.member, "queued", counted)
        with pytest.raises(EngineBusy):
            await one.submit("holding", {})
        nodes.free.set()


async def test_what_is_submitted_under_a_key_once_more_is_given_though_all_are_full(postgres_url: str) -> None:
    nodes = Nodes()
    async with engines(postgres_url, 1, nodes.holding(), max_runs=1, max_queued=1) as (one,):
        first = await one.submit("holding", {}, idempotency_key="key")
        await until(lambda: nodes.began)
        second = await one.submit("holding", {}, idempotency_key="another")
        with pytest.raises(EngineBusy):
            await one.submit("holding", {})
        assert (await one.submit("holding", {}, idempotency_key="key")).id == first.id
        assert (await one.submit("holding", {}, idempotency_key="another")).id == second.id
        with pytest.raises(RunIdTaken):
            await one.submit("holding", {}, run_id=first.id)
        nodes.free.set()


async def test_a_run_that_is_looked_at_while_it_is_accepted_and_then_waits_is_waited_for(postgres_url: str) -> None:
    nodes = Nodes()
    async with engines(postgres_url, 1, nodes.holding(), max_runs=1) as (one,):
        await begun_on(one, "holding")
        admitting = one._books.admitting
        async with anyio.create_task_group() as group:
            group.start_soon(partial(one.submit, "holding", {}, run_id="mine"))
            with anyio.fail_after(PATIENCE):
                while "mine" not in admitting:  # every step counts
                    await anyio.lowlevel.checkpoint()
            run = await one.get("mine")
        await until(lambda: run.status == "queued")
        nodes.free.set()
        assert (await run.result(timeout=PATIENCE)).state == {"n": 1}


async def test_a_run_that_a_node_submits_begins_beside_it_whatever_the_places(postgres_url: str) -> None:
    async def inner(state: State) -> State:
        return {"inner": True}

    below = Graph("below").add_node("inner", inner).set_entry_point("inner")
    holder: list[Engine] = []

    async def outer(state: State) -> State:
        return dict((await holder[0].run("below", {})).state)

    above = Graph("above").add_node("outer", outer).set_entry_point("outer")
    async with engines(postgres_url, 1, above, below, max_runs=1) as (one,):
        holder.append(one)
        with anyio.fail_after(PATIENCE):
            assert (await one.run("above", {})).state == {"inner": True}


async def test_a_queued_run_is_cancelled_without_a_place_and_never_begins(postgres_url: str) -> None:
    nodes = Nodes()
    async with engines(postgres_url, 2, nodes.holding(), max_runs=1) as (one, two):
        await begun_on(one, "holding")
        await begun_on(two, "holding")
        queued = await one.submit("holding", {})
        await anyio.sleep(2 * QUICK.poll)
        await (await two.get(queued.id)).cancel("changed my mind")
        with anyio.fail_after(PATIENCE):
            assert await queued.wait() == "cancelled"
        nodes.free.set()

    assert queued.id not in nodes.began


async def test_a_run_that_became_its_own_by_an_act_whose_answer_was_lost_is_not_left_lying(
    postgres_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    nodes = Nodes()
    async with engines(postgres_url, 1, nodes.holding(), max_runs=1) as (one,):
        await begun_on(one, "holding")
        queued = await one.submit("holding", {})
        assert one._fleet is not None
        member = one._fleet.member
        await until(lambda: not one._fleet.belongings.leaving)  # type: ignore[union-attr]
        take = member.take

        async def take_and_fail(run_id: str) -> Any:
            await take(run_id)
            raise StoreUnavailable("the test has lost the answer")

        with monkeypatch.context() as patched:
            patched.setattr(member, "take", take_and_fail)
            with pytest.raises(StoreUnavailable):
                await queued.cancel()
        nodes.free.set()
        with anyio.fail_after(PATIENCE):
            assert await queued.wait() == "cancelled"


async def test_a_run_that_nobody_here_can_run_is_cancelled_all_the_same(postgres_url: str) -> None:
    async with engines(postgres_url, 1, waiting()) as (one,):
        run = await begun_on(one, "waiting")
    async with engines(postgres_url, 1) as (two,):
        there = await two.get(run.id)
        assert isinstance(there, AwayKeptRun)
        await there.cancel()
        assert (await two.get(run.id)).status == "cancelled"


async def test_what_was_signalled_while_nobody_had_the_run_is_there_when_somebody_has(postgres_url: str) -> None:
    async with engines(postgres_url, 1, waiting()) as (one,):
        run = await begun_on(one, "waiting")
    async with engines(postgres_url, 1) as (two,):
        await (await two.get(run.id)).signal("go", 3)
    async with engines(postgres_url, 1, waiting()) as (three,):
        with anyio.fail_after(PATIENCE):
            assert (await (await three.get(run.id)).result()).state == {"it": 3, "after": 6}


async def test_a_run_that_is_paused_before_it_begins_begins_paused(postgres_url: str) -> None:
    nodes = Nodes()
    async with engines(postgres_url, 1, nodes.holding(), max_runs=1) as (one,):
        await begun_on(one, "holding", run_id="first")
        queued = await one.submit("holding", {}, run_id="second")
        await anyio.sleep(2 * QUICK.poll)
        await queued.pause()
        nodes.free.set()
        await until(lambda: queued.status == "paused")
        assert nodes.began == ["first"]
        await queued.resume()
        with anyio.fail_after(PATIENCE):
            assert await queued.wait() == "succeeded"


async def test_one_key_is_one_run_at_all_engines(postgres_url: str) -> None:
    async with engines(postgres_url, 3, waiting()) as found:
        handles: list[Run] = []

        async def submit(engine: Engine) -> None:
            handles.append(await engine.submit("waiting", {"n": 1}, idempotency_key="key"))

        async with anyio.create_task_group() as group:
            for engine in found:
                group.start_soon(submit, engine)
        assert len({run.id for run in handles}) == 1
        with pytest.raises(IdempotencyConflict):
            await found[2].submit("waiting", {"n": 2}, idempotency_key="key")
        await handles[0].cancel()


async def test_one_id_is_one_run_at_all_engines(postgres_url: str) -> None:
    nodes = Nodes()
    async with engines(postgres_url, 2, nodes.holding()) as found:
        taken: list[RunIdTaken] = []

        async def submit(engine: Engine) -> None:
            try:
                await engine.submit("holding", {}, run_id="mine")
            except RunIdTaken as error:
                taken.append(error)

        async with anyio.create_task_group() as group:
            for engine in found:
                group.start_soon(submit, engine)
        await until(lambda: nodes.began)
        nodes.free.set()

    assert len(taken) == 1
    assert nodes.began == ["mine"]


async def test_a_graph_that_is_defined_at_one_engine_is_known_at_the_others(postgres_url: str) -> None:
    data = {
        "name": "defined",
        "entry_point": "wait",
        "nodes": [{"name": "wait", "wait": {"signal": "go", "into": "it"}}],
    }
    async with engines(postgres_url, 2) as (one, two):
        await one.define(data)
        run = await two.submit("defined", {})
        await (await one.get(run.id)).signal("go", 7)
        with anyio.fail_after(PATIENCE):
            assert (await run.result()).state == {"it": 7}
    async with engines(postgres_url, 2) as (one, two):
        await one.define({**data, "version": "2"})
        await until(lambda: ("defined", "2") in two.graphs())


async def test_a_run_that_too_many_engines_were_lost_with_fails_untouched_and_can_be_retried(
    postgres_url: str,
) -> None:
    nodes = Nodes()
    async with AsyncExitStack() as stack:
        stack.push(lambda *_: True)
        (one,) = await stack.enter_async_context(engines(postgres_url, 1, nodes.holding()))
        run = await begun_on(one, "holding")
        await until(lambda: nodes.began)
        raise TimeoutError  # so that the engine does not wait for the run
    nodes.began.clear()
    with psycopg.connect(postgres_url.partition("?")[0], autocommit=True) as connection:
        schema = postgres_url.rpartition("=")[2]
        lost = f"INSERT INTO {schema}.losses SELECT number, 100, 0, 0, '{{a,b}}' FROM {schema}.runs"
        connection.execute(lost.encode())
    async with engines(postgres_url, 2, nodes.holding()) as found:
        for engine in found:
            with anyio.fail_after(PATIENCE), pytest.raises(RunFailed) as failed:
                await (await engine.get(run.id)).result()
            (error,) = failed.value.exceptions
            assert isinstance(error, PoisonRun)
            assert (error.run_id, error.times, error.engines) == (run.id, 100, ("a", "b"))
        told = [engine.metrics.get_sample_value("workflow_runs_poisoned_total") for engine in found]
        assert sorted(told, key=str) == [0, 1]
        assert not nodes.began
        nodes.free.set()
        again = await found[1].get(run.id)
        await again.retry()
        assert (await again.result(timeout=PATIENCE)).state == {"n": 1}
        assert nodes.began == [run.id]


async def test_what_becomes_of_leases_and_runs_is_in_the_metrics(
    postgres_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    nodes = Nodes()
    ending = Sharing(lease=3.0, renew=0.5, poll=0.1)
    async with (
        engines(postgres_url, 1, nodes.holding(), sharing=ending) as (one,),
        engines(postgres_url, 1, nodes.holding()) as (two,),
    ):

        def value(engine: Engine, name: str) -> float | None:
            return engine.metrics.get_sample_value(f"workflow_{name}")

        assert one._fleet is not None
        run = await begun_on(one, "holding")
        await until(lambda: nodes.began)
        assert 0 < (value(one, "lease_seconds") or 0) <= ending.lease

        async def fail() -> None:
            raise StoreUnavailable("the test has pulled the plug")

        monkeypatch.setattr(one._fleet.member, "renew", fail)
        monkeypatch.setattr(one._fleet.member, "join", fail)
        await until(lambda: value(one, "leases_lost_total") == 1)
        assert (value(one, "lease_renewals_failed_total") or 0) > 1
        assert value(one, "lease_seconds") == 0
        assert value(two, "leases_lost_total") == 0
        await until(lambda: value(two, "runs_taken_over_total") == 1)
        await until(lambda: value(two, "runs_claimed_total") == 1)
        monkeypatch.undo()
        await until(lambda: (value(one, "lease_seconds") or 0) > 0)
        nodes.free.set()
        with anyio.fail_after(PATIENCE):
            assert await (await two.get(run.id)).wait() == "succeeded"
        assert (value(one, "runs_claimed_total"), value(two, "runs_poisoned_total")) == (0, 0)


async def test_an_engine_that_does_not_share_its_store_tells_nothing_of_leases(postgres_url: str) -> None:
    async with Engine(postgres_url) as engine:
        names = {family.name for family in engine.metrics.collect()}

        assert "workflow_store_available" in names
        assert not any("lease" in name or name.startswith("workflow_runs_claimed") for name in names)


# --- leaving, dying and being away --------------------------------------------------------------------------


async def test_what_an_engine_leaves_goes_on_at_the_others_at_once(postgres_url: str) -> None:
    sharing = Sharing(lease=60.0, renew=20.0, poll=0.1)
    async with engines(postgres_url, 1, waiting(), sharing=sharing) as (two,):
        async with engines(postgres_url, 1, waiting(), sharing=sharing) as (one,):
            run = await begun_on(one, "waiting")
            await until(lambda: run.status == "waiting")
            away = await two.get(run.id)
        with pytest.raises(EngineClosed):
            await run.signal("go", 1)
        await until(lambda: two.statistics().running == 1)
        await away.signal("go", 1)
        assert (await away.result(timeout=PATIENCE)).state == {"it": 1, "after": 2}


async def test_an_engine_that_has_lost_its_lease_stops_and_says_so_and_comes_back(
    postgres_url: str, caplog: pytest.LogCaptureFixture
) -> None:
    nodes = Nodes()
    async with engines(postgres_url, 2, nodes.holding(), waiting()) as (one, two):
        run = await begun_on(one, "holding")
        waits = await begun_on(one, "waiting")
        await until(lambda: nodes.began)
        told: list[Exception] = []

        async def wait() -> None:
            try:
                await run.result()
            except LeaseLost as error:
                told.append(error)

        with caplog.at_level(logging.CRITICAL, "engine"):
            async with anyio.create_task_group() as group:
                group.start_soon(wait)
                await anyio.sleep(0.05)
                assert one._fleet is not None
                assert one._durable is not None
                await two._durable.store._member._look(  # type: ignore[union-attr]
                    lambda execute: execute(
                        "UPDATE $.engines SET expires = now() WHERE name = %s AND id = %s",
                        one._fleet.name,
                        one._fleet.member.id,
                    )
                )
            await until(lambda: nodes.stopped == [run.id])

        assert isinstance(told[0], LeaseLost)
        assert told[0].run_id == run.id
        with pytest.raises(LeaseLost):
            await waits.signal("go", 1)
        nodes.free.set()
        for engine in (one, two):
            with anyio.fail_after(PATIENCE):
                assert await (await engine.get(run.id)).wait() == "succeeded"
        # It takes part again.
        await until(lambda: one.vitals.trouble is None)
        again = await one.submit("holding", {})
        with anyio.fail_after(PATIENCE):
            assert (await again.result()).state == {"n": 1}
        assert sorted(set(nodes.began)) == sorted({run.id, again.id})
        with anyio.fail_after(PATIENCE):
            await (await one.get(waits.id)).signal("go", 2)
            assert (await (await two.get(waits.id)).result()).state == {"it": 2, "after": 4}


async def test_an_end_that_is_written_again_does_not_end_what_another_engine_goes_on_with(
    postgres_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As a commit is whose answer was lost, with the connection over which it came."""
    nodes = Nodes()
    waits_then_fails = waiting().add_node("fails", nodes.failing_node).add_edge("after", "fails")
    async with engines(postgres_url, 2, waits_then_fails) as (one, two):
        assert one._durable is not None
        commit, ends = one._durable.store.commit, list[Any]()

        async def note(writes: Any, **options: Any) -> None:
            await commit(writes, **options)
            if any(isinstance(write, SetStatus) for write in writes):
                ends.append(list(writes))

        monkeypatch.setattr(one._durable.store, "commit", note)
        run = await begun_on(one, "waiting")
        await run.signal("go", 1)
        assert await run.wait() == "failed"
        there = await two.get(run.id)
        nodes.fails = False
        await there.retry()
        await until(lambda: nodes.began)
        await commit(ends[-1])

        stored = await one._durable.store.read(run.id)
        assert stored is not None
        assert stored.row.status == "running"
        assert (await one.get(run.id)).status == "running"
        nodes.free.set()
        assert (await there.result(timeout=PATIENCE)).state == {"it": 1, "after": 2, "second": True}


async def test_a_run_is_given_to_others_only_once_all_that_was_decided_of_it_here_is_written(
    postgres_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with engines(postgres_url, 1, waiting()) as (one,):
        assert one._fleet is not None
        assert one._durable is not None
        run = await begun_on(one, "waiting")
        await until(lambda: run.status == "waiting")
        commit, give_back = one._durable.store.commit, one._fleet.member.give_back
        order, free = list[str](), anyio.Event()

        async def slowly(*args: Any, **options: Any) -> None:
            await free.wait()
            await commit(*args, **options)
            order.append("written")

        async def note(run_ids: Any) -> None:
            order.append("given back")
            await give_back(run_ids)

        monkeypatch.setattr(one._durable.store, "commit", slowly)
        monkeypatch.setattr(one._fleet.member, "give_back", note)
        one._durable.journal.put([Collect(run.id, [])])
        one._fleet.release(run.id)
        await anyio.sleep(3 * QUICK.poll)
        before = list(order)
        free.set()
        await until(lambda: "given back" in order)
        monkeypatch.undo()
        one._fleet.lose(LeaseLost("one", "the test has given away what it drives"))
        await until(lambda: one.vitals.trouble is None)
        await (await one.get(run.id)).cancel()

    assert before == []
    assert order[0] == "written"


async def test_while_an_engine_has_no_lease_it_accepts_nothing(
    postgres_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with engines(postgres_url, 1, waiting()) as (one,):
        assert one._fleet is not None

        async def refuse() -> None:
            raise StoreUnavailable("the test has pulled the plug")

        monkeypatch.setattr(one._fleet.member, "join", refuse)
        one._fleet.lose(LeaseLost("this one", "the test says so"))
        with pytest.raises(LeaseLost, match="the test says so"):
            await one.submit("waiting", {})
        with pytest.raises(LeaseLost):
            await one.check_store()
        assert "the test says so" in str(one.vitals.trouble)
        monkeypatch.undo()
        await until(lambda: one.vitals.trouble is None)
        await (await one.submit("waiting", {})).cancel()


async def test_a_run_that_is_not_there_is_not_found(postgres_url: str) -> None:
    async with engines(postgres_url, 1) as (one,):
        with pytest.raises(RunNotFound):
            await one.get("nobody")


async def test_who_waits_for_a_run_that_is_removed_is_told(postgres_url: str) -> None:
    async with engines(postgres_url, 2, waiting()) as (one, two):
        run = await begun_on(one, "waiting")
        away = await two.get(run.id)
        assert one._durable is not None
        await one._durable.journal.write(Forget(run.id))
        with anyio.fail_after(PATIENCE), pytest.raises(RunNotFound, match="removed from the store"):
            await away.wait()
        await run.cancel()


async def test_a_run_that_another_engine_had_is_forked_here(postgres_url: str) -> None:
    nodes = Nodes()
    nodes.fails = False
    async with engines(postgres_url, 2, nodes.failing()) as (one, two):
        run = await begun_on(one, "failing")
        await run.wait()
        fork = await two.fork(run.id, "second#1", {"more": 1})
        assert (await fork.result(timeout=PATIENCE)).state == {"first": 1, "more": 1, "second": True}


async def test_a_fork_that_is_safe_when_the_lease_is_lost_goes_on_at_one_engine_only(
    postgres_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    nodes = Nodes()
    async with engines(postgres_url, 2, nodes.holding()) as (one, two):
        run = await begun_on(one, "holding")
        await until(lambda: nodes.began)
        nodes.free.set()
        await run.wait()
        nodes.free = anyio.Event()
        nodes.began.clear()
        assert one._fleet is not None
        assert one._durable is not None
        admit, lose = one._durable.admit_fork, one._fleet.lose

        async def admit_and_lose(*given: Any) -> None:
            await admit(*given)
            lose(LeaseLost("one", "the test says so"))

        with monkeypatch.context() as patched:
            patched.setattr(one._durable, "admit_fork", admit_and_lose)
            fork = await one.fork(run.id, "hold#1")
        with pytest.raises(LeaseLost):
            await fork.result(timeout=PATIENCE)
        await until(lambda: one.vitals.trouble is None)
        await until(lambda: nodes.began)
        await anyio.sleep(4 * QUICK.poll)
        assert nodes.began == [fork.id]
        nodes.free.set()
        assert (await (await two.get(fork.id)).result(timeout=PATIENCE)).state == {"n": 1}


async def test_a_retry_is_refused_if_the_lease_is_lost_while_the_run_becomes_its_own(
    postgres_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    nodes = Nodes()
    async with engines(postgres_url, 2, nodes.failing()) as (one, two):
        run = await begun_on(one, "failing")
        await run.wait()
        nodes.fails = False
        assert one._fleet is not None
        member = one._fleet.member
        take, lose = member.take, one._fleet.lose

        async def take_and_lose(run_id: str) -> Any:
            where = await take(run_id)
            lose(LeaseLost("one", "the test says so"))
            return where

        with monkeypatch.context() as patched:
            patched.setattr(member, "take", take_and_lose)
            with pytest.raises(LeaseLost, match="the test says so"):
                await run.retry()
        assert run.status == "failed"
        await until(lambda: one.vitals.trouble is None)
        again = await two.get(run.id)
        await again.retry()
        assert (await again.result(timeout=PATIENCE)).state == {"first": 1, "second": True}


async def test_a_second_engine_that_does_not_share_is_refused(
    postgres_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with engines(postgres_url, 1):
        monkeypatch.setattr(postgres.store, "CLAIM_SECONDS", 0.1)
        with pytest.raises(StoreUnavailable, match="shared=True"):
            async with Engine(postgres_url):
                pass
