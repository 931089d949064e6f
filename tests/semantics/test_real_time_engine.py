"""On the real clock: that nothing waits for what it need not, threads, processes. Sizes are generous."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from contextvars import ContextVar
from pathlib import Path
from typing import Any

import anyio
import pytest

from actors import StrayCancellation
from engine import Context, Engine, Graph, NodeTimeout, Retry, RunFailed, Settings
from tests.contracts.calls import is_alive
from tests.semantics.engine_cases import (
    Times,
    ended,
    failing,
    graph,
    hang_in_process,
    raise_cancellation,
    raise_in_process,
    result_of,
    same,
    sleeps,
    square,
    square_of_view,
)


async def until(condition: Callable[[], object]) -> None:
    with anyio.fail_after(40):
        while not condition():  # noqa: ASYNC110  # threads and files set no event
            await anyio.sleep(0.01)


@pytest.fixture
def released() -> Iterator[threading.Event]:
    """Set when the test is over, so that no thread is left."""
    event = threading.Event()
    yield event
    event.set()


# --- no barrier -----------------------------------------------------------------------------------------


async def test_three_branches_end_at_the_critical_path_and_not_at_the_sum_of_the_slowest_steps() -> None:
    """The best of some rounds: what others do to this machine makes a run late as well, but not each time."""
    branches = {"a": (10, 10, 10), "b": (100, 10, 10), "c": (10, 10, 100)}
    rounds: list[float] = []
    while len(rounds) < 10 and min(rounds, default=1.0) >= 0.36 * 1.4:
        times = Times()
        nodes: dict[str, Any] = {"start": times.node("start"), "join": times.node("join")}
        edges = []
        for branch, lengths in branches.items():
            names = [f"{branch}{number}" for number in range(3)]
            nodes |= {name: times.node(name, 3 * ms / 1000) for name, ms in zip(names, lengths, strict=True)}
            edges.append(" -> ".join(["start", *names, "join"]))

        await result_of(graph(nodes, *edges, entries="start"))
        rounds.append(times.total)

    assert 0.36 <= min(rounds) < 0.36 * 1.4  # with a barrier after each step: 0.63


async def test_the_node_after_a_short_branch_starts_while_a_sibling_takes_long() -> None:
    began = anyio.Event()

    async def after(state: Any) -> None:
        began.set()

    async def long(state: Any) -> None:
        with anyio.fail_after(20):
            await began.wait()

    result = await result_of(
        graph({"s": same, "short": sleeps(0.05), "next": after, "long": long}, "s -> short -> next", "s -> long")
    )

    assert result.status == "succeeded"


# --- threads --------------------------------------------------------------------------------------------


async def test_a_sync_function_runs_in_a_thread_unless_it_says_that_it_is_quick() -> None:
    seen = {}

    def node(state: Any, ctx: Context) -> None:
        seen[ctx.node] = threading.get_ident() == here

    here = threading.get_ident()
    await result_of(graph({"a": node, "b": (node, {"run_in": "loop"})}, "a -> b"))

    assert seen == {"a": False, "b": True}


async def test_threads_run_side_by_side_and_the_loop_goes_on() -> None:
    met = threading.Barrier(3, timeout=30)

    def node(state: Any) -> None:
        met.wait()

    result = await result_of(graph({"s": same, "a": node, "b": node, "c": node}, "s -> a, b, c"))

    assert result.status == "succeeded"


async def test_concurrency_bounds_threads() -> None:
    running, most = 0, 0

    def node(state: Any) -> None:
        nonlocal running, most
        running += 1
        most = max(most, running)
        time.sleep(0.02)
        running -= 1

    async with Engine() as engine:
        made = graph({"node": (node, {"concurrency": 1})})
        for run in [await engine.submit(made) for _ in range(5)]:
            await run.result()

    assert most == 1


async def test_a_thread_is_given_up_at_its_timeout_and_its_late_result_dropped(released: threading.Event) -> None:
    ended_late = threading.Event()

    def slow(state: dict[str, Any], ctx: Context) -> dict[str, int]:
        if ctx.attempt == 1:
            released.wait(20)
            ended_late.set()
            return {"late": 1}
        return {"x": ctx.attempt}

    async with Engine() as engine:
        made = graph(
            {"slow": (slow, {"timeout": 1, "retry": Retry(attempts=2, delay=0)}), "after": same}, "slow -> after"
        )
        run = await engine.submit(made)
        assert (await run.result()).state == {"x": 2}
        executor = engine._registry._executors["thread"][0]
        assert executor.abandoned == 1
        released.set()
        await until(lambda: ended_late.is_set() and executor.abandoned == 0)
        assert run.state == {"x": 2}

    assert [(entry.node, entry.status) for entry in run.log][:2] == [("slow", "timed_out"), ("slow", "succeeded")]


async def test_a_thread_is_given_up_when_its_run_is_cancelled(released: threading.Event) -> None:
    begun = threading.Event()

    def slow(state: Any) -> None:
        begun.set()
        released.wait(20)

    async with Engine() as engine:
        run = await engine.submit(graph({"slow": slow}))
        await until(begun.is_set)
        await run.cancel()
        with anyio.fail_after(15):  # less than the thread takes
            assert await run.wait() == "cancelled"


async def test_leaving_by_an_exception_does_not_wait_for_a_thread(released: threading.Event) -> None:
    begun = threading.Event()

    def slow(state: Any) -> None:
        begun.set()
        released.wait(20)

    with anyio.fail_after(15), pytest.raises(KeyError):  # noqa: PT012  # it is raised inside
        async with Engine() as engine:
            await engine.submit(graph({"slow": slow}))
            await until(begun.is_set)
            raise KeyError("out")


async def test_a_timeout_does_not_run_while_a_call_waits_for_a_thread() -> None:
    begun = threading.Event()

    def node(state: Any) -> None:
        begun.set()
        time.sleep(1.5)

    async with Engine(settings=Settings(threads=1)) as engine:
        first = await engine.submit(graph({"node": node}, name="first"))
        await until(begun.is_set)
        second = await engine.submit(graph({"node": (lambda state: None, {"timeout": 1})}))

        assert [await first.wait(), await second.wait()] == ["succeeded", "succeeded"]


async def test_a_timeout_of_many_threads_frees_their_places(released: threading.Event) -> None:
    def hang(state: Any) -> None:
        released.wait(20)

    async with Engine(settings=Settings(threads=2)) as engine:
        made = graph({"node": (hang, {"timeout": 0.1})})
        runs = [await engine.submit(made) for _ in range(3)]
        runs.append(await engine.submit(graph({"node": lambda state: None}, name="last")))
        with anyio.fail_after(15):  # less than the threads take
            assert [await run.wait() for run in runs] == ["failed"] * 3 + ["succeeded"]


tenant: ContextVar[str] = ContextVar("tenant", default="nobody")


# --- the sources of maps --------------------------------------------------------------------------------


def mapped(over: Any) -> Graph:
    async def double(item: int) -> int:
        return 2 * item

    return Graph("mapping").add_map("map", double, over=over, into="out", concurrency=2).set_entry_point("map")


def counted(threads: set[int]) -> Iterator[int]:
    for number in range(5):
        threads.add(threading.get_ident())
        yield number


@pytest.mark.only_on("none", reason="a store refuses a generator where it is submitted")
@pytest.mark.parametrize("where", ["key", "function"])
async def test_an_iterator_that_may_block_is_read_in_a_thread(where: str) -> None:
    threads: set[int] = set()
    over = "rows" if where == "key" else lambda state: counted(threads)
    rows = counted(threads) if where == "key" else None
    async with Engine() as engine:
        result = await engine.run(mapped(over), {"rows": rows})

    assert result.state["out"] == [0, 2, 4, 6, 8]
    assert threads
    assert threading.get_ident() not in threads


async def test_the_items_of_a_slow_iterator_go_on_one_by_one(released: threading.Event) -> None:
    done = threading.Event()

    def rows(state: Any) -> Iterator[int]:
        yield 1
        assert done.wait(30), "the first item is at work while the next is awaited"
        yield 2

    async def work(item: int) -> int:
        done.set()
        return item

    made = Graph("mapping").add_map("map", work, over=rows, into="out").set_entry_point("map")
    async with Engine() as engine:
        assert (await engine.run(made)).state == {"out": [1, 2]}


async def test_what_an_iterator_gave_before_it_raised_is_at_work_and_the_error_is_its_own() -> None:
    def rows(state: Any) -> Iterator[int]:
        yield 1
        raise LookupError("as asked")

    async with Engine() as engine:
        run = await engine.submit(mapped(rows))
        await run.wait()

    (failure,) = run.machine.failures
    assert isinstance(failure.cause, LookupError)


async def test_a_blocked_iterator_is_given_up_when_its_run_is_cancelled(released: threading.Event) -> None:
    begun = threading.Event()

    def rows(state: Any) -> Iterator[int]:
        begun.set()
        released.wait(30)
        yield 1

    async with Engine() as engine:
        run = await engine.submit(mapped(rows))
        await until(begun.is_set)
        await run.cancel()
        assert await run.wait() == "cancelled"
        await until(lambda: engine._sources.abandoned == 1)


async def test_a_generator_is_closed_when_its_map_is_cancelled() -> None:
    begun, closed = threading.Event(), threading.Event()

    def rows(state: Any) -> Iterator[int]:
        try:
            yield 1
            yield 2
            begun.set()
            yield 3
        finally:
            closed.set()

    async def forever(item: int) -> None:
        begun.set()
        await anyio.sleep_forever()

    made = Graph("mapping").add_map("map", forever, over=rows, into="out", concurrency=2).set_entry_point("map")
    async with Engine() as engine:
        run = await engine.submit(made)
        await until(begun.is_set)
        await run.cancel()
        await run.wait()
        await until(closed.is_set)


async def test_the_submitters_context_variables_are_visible_in_threads_and_do_not_leak() -> None:
    seen = []

    def node(state: Any) -> None:
        seen.append(tenant.get())
        tenant.set("leaked")

    async with Engine(settings=Settings(threads=1)) as engine:
        made = graph({"a": node, "b": node}, "a -> b")
        for name in ("one", "two"):
            tenant.set(name)
            await engine.run(made)
            assert tenant.get() == name

    assert seen == ["one", "one", "two", "two"]


async def test_a_node_in_a_thread_may_wait_for_a_run_though_all_places_are_taken() -> None:
    async with Engine(max_runs=1) as engine:
        inner = graph({"a": same}, name="inner")

        def node(state: Any) -> dict[str, Any]:
            with engine.blocking() as blocking:
                return {"inner": blocking.run(inner, {"x": 1}).status}

        assert (await engine.run(graph({"node": node}))).state == {"inner": "succeeded"}


async def test_a_node_in_a_thread_tells_its_progress() -> None:
    def node(state: Any, ctx: Context) -> None:
        ctx.progress(0.5, "half")
        ctx.emit("mine")

    run = await ended(graph({"node": node}))

    found = [event.data for event in run.machine.history.events() if event.type == "node_progress"]
    assert found == [{"fraction": 0.5, "message": "half"}, {"event": "mine"}]


@pytest.mark.parametrize("run_in", ["loop", "thread", "process"])
async def test_a_stray_cancelled_error_of_asyncio_fails_the_node_and_nothing_else_on_any_backend(run_in: str) -> None:
    node = (raise_cancellation, {"run_in": run_in})
    async with Engine() as engine:
        other = await engine.submit(graph({"other": lambda state: time.sleep(0.1)}, name="other"))
        run = await engine.submit(graph({"node": node}))
        with failing() as failed:
            await run.result()

        assert [type(failure.cause) for failure in failed] == [StrayCancellation]
        assert await other.wait() == "succeeded"


# --- processes ------------------------------------------------------------------------------------------


async def test_a_process_node_computes_elsewhere() -> None:
    import os

    result = await result_of(graph({"square": (square, {"run_in": "process"})}), {"x": 12})

    assert result.state["square"] == 144
    assert result.state["pid"] != os.getpid()


@pytest.mark.only_on("none", reason="a store refuses a lock where it is submitted")
async def test_a_process_gets_only_the_nodes_view_of_the_state() -> None:
    state = {"x": 5, "lock": threading.Lock()}

    result = await result_of(graph({"square": (square_of_view, {"run_in": "process"})}), state)

    assert result.state["square"] == 25


async def test_an_error_in_a_process_is_the_nodes_and_can_be_caught() -> None:
    made = graph({"bad": (raise_in_process, {"run_in": "process"}), "repair": same})

    result = await result_of(made.add_edge("bad", "repair", on_error=LookupError))

    assert result.visited == ("bad", "repair")


async def test_a_process_is_killed_at_its_timeout(tmp_path: Path) -> None:
    path = tmp_path / "pid"
    path.write_text("")
    # On a busy machine a process may need longer to start, and is killed before it has told its number.
    for timeout in (1.5, 6, 24):
        made = graph({"hang": (hang_in_process, {"run_in": "process", "timeout": timeout})})
        async with Engine() as engine:
            run = await engine.submit(made, {"path": str(path)})
            with pytest.raises(RunFailed) as failed:
                await run.result()
            assert isinstance(failed.value.failures[0].cause, NodeTimeout)
            if told := path.read_text():
                await until(lambda told=told: not is_alive(int(told)))
                return
    pytest.fail("no process told its number")


@pytest.mark.only_on("none", reason="with a store a run that the engine leaves stays for the next start")
@pytest.mark.parametrize("how", ["cancel", "failure", "leaving"])
async def test_a_process_is_killed_when_its_run_ends(tmp_path: Path, how: str) -> None:
    path = tmp_path / "pid"

    async def bad(state: Any) -> None:
        if how != "failure":
            await anyio.sleep_forever()
        await until(path.exists)
        await until(path.read_text)
        raise ValueError("no")

    made = graph({"s": same, "hang": (hang_in_process, {"run_in": "process"}), "bad": bad}, "s -> hang, bad")
    with anyio.fail_after(50):
        try:
            async with Engine() as engine:
                run = await engine.submit(made, {"path": str(path)})
                await until(path.exists)
                await until(path.read_text)
                if how == "cancel":
                    await run.cancel()
                if how == "leaving":
                    raise KeyError("out")
                await run.wait()
        except KeyError:
            pass
        pid = int(path.read_text())
        await until(lambda: not is_alive(pid))

    assert run.status == {"cancel": "cancelled", "failure": "failed", "leaving": "cancelled"}[how]
