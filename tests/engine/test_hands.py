"""The tasks of a graph are lent to its nodes: who runs an attempt, and what an attempt cannot do to the next."""

import asyncio
import gc
import weakref
from contextvars import ContextVar
from itertools import pairwise
from typing import Any

import anyio
import pytest

from actors import StrayCancellation
from engine import Engine, Graph, RunFailed
from engine.hands import KEPT_IDLE, LEFT_IDLE, Hands, Worker
from engine.timers import Timers
from tests.virtual_time import anyio_backend as anyio_backend


def chain(*functions: Any, name: str = "chain", **options: Any) -> Graph:
    graph = Graph(name)
    names = [f"{number}" for number in range(len(functions))]
    for node, function in zip(names, functions, strict=True):
        graph.add_node(node, function, **options)
    for source, target in pairwise(names):
        graph.add_edge(source, target)
    return graph.set_entry_point(names[0])


def hands_of(engine: Engine, name: str = "chain") -> Hands:
    return engine._registry.find(name).scheduler.hands


async def test_attempts_that_do_not_wait_need_one_task() -> None:
    tasks = set()

    async def look(state: dict[str, int]) -> None:
        tasks.add(anyio.get_current_task().id)

    async with Engine() as engine:
        await engine.run(chain(*[look] * 50), {})

        assert len(tasks) == hands_of(engine).workers == 1


async def test_a_node_that_waits_does_not_delay_one_that_is_ready() -> None:
    release = anyio.Event()

    async def wait(state: dict[str, int]) -> None:
        await release.wait()

    async def let_go(state: dict[str, int]) -> None:
        release.set()

    graph = chain(wait, name="chain").add_node("other", let_go).set_entry_point("0", "other")
    async with Engine() as engine:
        with anyio.fail_after(5):
            await engine.run(graph, {})


async def test_what_a_node_that_waited_leads_to_runs_in_its_task() -> None:
    tasks = []

    async def wait(state: dict[str, int]) -> None:
        await anyio.sleep(0.001)
        tasks.append(anyio.get_current_task().id)

    async def look(state: dict[str, int]) -> None:
        tasks.append(anyio.get_current_task().id)

    async with Engine() as engine:
        await engine.run(chain(wait, look, look), {})

    assert len(set(tasks)) == 1


async def test_a_long_loop_gives_others_their_turns() -> None:
    turns = 0
    going = True

    async def others() -> None:
        nonlocal turns
        while going:
            turns += 1
            await anyio.lowlevel.checkpoint()

    async def count(state: dict[str, int]) -> dict[str, int]:
        return {"n": state["n"] + 1}

    graph = chain(count).add_edge("0", "0", when=lambda state: state["n"] < 1000, max_iterations=1000)
    graph.add_edge("0", "end", otherwise=True).add_node("end", count)
    async with Engine() as engine, anyio.create_task_group() as group:
        group.start_soon(others)
        await engine.run(graph, {"n": 0})
        going = False

    assert turns >= 10


class Bursts:
    """Has so many nodes wait at once, again and again."""

    def __init__(self, engine: Engine) -> None:
        self.engine = engine
        self.graph = chain(self.wait)

    async def wait(self, state: dict[str, int]) -> None:
        await self.release.wait()

    async def __call__(self, count: int) -> int:
        """Give how many workers there were."""
        self.release = anyio.Event()
        runs = [await self.engine.submit(self.graph, {}) for _ in range(count)]
        await anyio.wait_all_tasks_blocked()
        workers = hands_of(self.engine).workers
        self.release.set()
        for run in runs:
            await run.result()
        await anyio.wait_all_tasks_blocked()
        return workers


async def test_workers_of_a_burst_stay_for_the_next_one_but_not_all_of_a_large_one() -> None:
    async with Engine() as engine:
        assert await Bursts(engine)(LEFT_IDLE + 40) == LEFT_IDLE + 40

        assert hands_of(engine).workers == LEFT_IDLE


async def test_workers_that_nobody_needs_are_let_go(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("engine.hands.NEXT_BURST", 0.05)
    async with Engine() as engine:
        await Bursts(engine)(KEPT_IDLE + 40)
        hands = hands_of(engine)
        with anyio.fail_after(5):
            while hands.workers > KEPT_IDLE:  # noqa: ASYNC110  (nothing tells of it)
                await anyio.sleep(0.01)
        await anyio.sleep(0.2)

        assert (hands.workers, len(hands._idle)) == (KEPT_IDLE, KEPT_IDLE)
        assert len(engine._timers) == 0, "nobody looks again"


async def test_workers_that_the_last_burst_needed_stay_for_the_next(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("engine.hands.NEXT_BURST", 3600.0)
    async with Engine() as engine:
        burst = Bursts(engine)
        await burst(KEPT_IDLE + 40)
        hands = hands_of(engine)
        left = []
        for needed in (KEPT_IDLE + 40, KEPT_IDLE + 30, 10):
            hands._look_again()
            await burst(needed)
            hands._let_go()
            await anyio.wait_all_tasks_blocked()
            left.append(hands.workers)

    assert left == [KEPT_IDLE + 40, KEPT_IDLE + 40, KEPT_IDLE + 10]


class Held:
    """Something that one can see die."""


held: ContextVar[Held | None] = ContextVar("held", default=None)


async def test_an_idle_worker_keeps_nothing_of_what_it_did_last() -> None:
    release = anyio.Event()

    async def fail(state: dict[str, Any]) -> None:
        await release.wait()
        raise ValueError(state)

    async def clear(state: dict[str, Any]) -> dict[str, Any]:
        await anyio.lowlevel.checkpoint()
        return {"thing": None}

    graph = Graph("g").add_node("fail", fail).add_node("clear", clear).set_entry_point("fail")
    graph.add_edge("fail", "clear", on_error=ValueError)
    async with Engine() as engine:
        things = [Held(), Held()]
        seen = [weakref.ref(thing) for thing in things]
        held.set(things[1])
        run = await engine.submit(graph, {"thing": things[0]})
        held.set(None)
        things.clear()
        await anyio.wait_all_tasks_blocked()
        release.set()
        await run.result()
        await anyio.wait_all_tasks_blocked()
        gc.collect()

        assert hands_of(engine, "g").workers > 0
        assert [thing() for thing in seen] == [None, None]


class Jobs:
    """A borrower whose jobs end at their first step."""

    def __init__(self) -> None:
        self.done: list[Any] = []

    def begin(self, worker: Worker, job: Any) -> None:
        self.done.append(job)

    def end(self, worker: Worker, job: Any, returned: Any, raised: BaseException | None) -> None:
        raise AssertionError

    def put_back(self) -> None: ...
    def answer_orphans(self) -> None: ...
    def take_queued(self) -> None: ...


@pytest.mark.parametrize("before", [0, 1])
async def test_a_worker_that_was_called_as_the_actor_went_down_leaves_what_came_since_alone(before: int) -> None:
    hands, jobs = Hands("x", Timers()), Jobs()
    async with anyio.create_task_group() as group:
        hands.opened(group)
        for job in range(before):  # after which its worker is idle; without one it is new
            hands.give(jobs, job)
        await anyio.wait_all_tasks_blocked()
        hands.give(jobs, "called for")
        hands.closed()
        hands.give(jobs, "come since")
        group.cancel_scope.cancel()

    assert jobs.done == list(range(before))
    assert [job for _, job in hands.queue] == ["come since"]
    assert hands.workers == 0


async def test_what_was_in_hand_when_the_actor_went_down_runs_again() -> None:
    starts: list[str] = []
    release = anyio.Event()

    async def wait(state: dict[str, int]) -> dict[str, int]:
        starts.append("wait")
        await release.wait()
        return {"n": state["n"] + 1}

    async with Engine() as engine:
        run = await engine.submit(chain(wait, wait), {"n": 0})
        await anyio.wait_all_tasks_blocked()
        graph = engine._root.supervisor("graph chain 1")
        await graph.terminate_child("nodes")
        await graph.restart_child("nodes")
        await anyio.wait_all_tasks_blocked()
        assert starts == ["wait", "wait"]
        release.set()

        assert (await run.result()).state == {"n": 2}
        assert [entry.attempt for entry in run.log] == [1, 1]


async def test_a_run_may_be_cancelled_by_a_node_of_its_own() -> None:
    runs: list[Any] = []

    async def cancel(state: dict[str, int]) -> dict[str, int]:
        await runs[0].cancel("enough")
        return {"n": 1}

    async def after(state: dict[str, int]) -> None:
        raise AssertionError("never")

    async with Engine() as engine:
        runs.append(await engine.submit(chain(cancel, after), {"n": 0}))

        assert await runs[0].wait() == "cancelled"
        assert [(entry.node, entry.status) for entry in runs[0].log] == [("0", "cancelled")]
        assert hands_of(engine).workers == 0


async def test_an_attempt_that_is_cancelled_before_it_began_never_runs() -> None:
    runs: list[Any] = []
    started: list[int] = []

    async def one(state: dict[str, int]) -> None:
        started.append(state["n"])
        await runs[1].cancel()

    async with Engine() as engine:
        runs += [await engine.submit(chain(one), {"n": number}) for number in range(2)]

        assert [await run.wait() for run in runs] == ["succeeded", "cancelled"]
        assert started == [0]


async def test_one_that_never_began_gives_its_place_to_the_next() -> None:
    runs: list[Any] = []
    started: list[int] = []

    async def one(state: dict[str, int]) -> None:
        started.append(state["n"])
        if state["n"] == 0:
            await runs[1].cancel()

    async with Engine() as engine:
        runs += [await engine.submit(chain(one, concurrency=2), {"n": number}) for number in range(4)]

        assert [await run.wait() for run in runs] == ["succeeded", "cancelled", "succeeded", "succeeded"]
        assert started == [0, 2, 3]


@pytest.mark.parametrize("anyio_backend", [("asyncio", {})], ids=["asyncio"])
async def test_a_node_that_cancels_its_own_task_fails_alone() -> None:
    async def cancel_oneself(state: dict[str, int]) -> None:
        task = asyncio.current_task()
        assert task is not None
        task.cancel()
        await anyio.sleep(1)

    async def good(state: dict[str, int]) -> None:
        await anyio.sleep(0.001)

    async with Engine() as engine:
        with pytest.raises(RunFailed) as failed:
            await engine.run(chain(cancel_oneself), {})
        assert isinstance(failed.value.failures[0].cause, StrayCancellation)
        await engine.run(chain(good, name="good"), {})


@pytest.mark.parametrize("anyio_backend", [("asyncio", {})], ids=["asyncio"])
async def test_a_node_that_cancels_its_own_task_and_returns_harms_no_other() -> None:
    async def cancel_and_go(state: dict[str, int]) -> None:
        task = asyncio.current_task()
        assert task is not None
        task.cancel()

    async def good(state: dict[str, int]) -> dict[str, bool]:
        await anyio.sleep(0.001)
        return {"good": True}

    async with Engine() as engine:
        result = await engine.run(chain(cancel_and_go, good, cancel_and_go, cancel_and_go, good), {})

    assert result.state == {"good": True}
