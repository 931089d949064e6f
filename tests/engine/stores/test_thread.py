"""One thread for a driver: calls in order, none given up that has begun, and nothing left behind."""

import asyncio
import gc
import threading
import time
import weakref
from collections.abc import Iterator

import anyio
import pytest
from anyio.lowlevel import checkpoint

from actors.testing import BACKENDS, Backend, run
from engine.stores.thread import DriverThread


class Thing:
    pass


@pytest.fixture
async def thread() -> Iterator[DriverThread]:  # type: ignore[misc]
    made = DriverThread("driver")
    yield made
    made.close()


async def turns(count: int = 20) -> None:
    for _ in range(count):
        await checkpoint()


async def test_a_call_gives_what_the_function_returns(thread: DriverThread) -> None:
    assert await thread.run(divmod, 7, 2) == (3, 1)


async def test_a_call_raises_what_the_function_raises(thread: DriverThread) -> None:
    with pytest.raises(ZeroDivisionError):
        await thread.run(divmod, 7, 0)

    assert await thread.run(divmod, 7, 2) == (3, 1)


async def test_all_calls_are_made_in_one_thread_which_is_not_the_loops(thread: DriverThread) -> None:
    idents = {await thread.run(threading.get_ident) for _ in range(5)}

    assert len(idents) == 1
    assert threading.get_ident() not in idents


async def test_calls_are_made_in_the_order_in_which_they_were_asked_for(thread: DriverThread) -> None:
    made: list[int] = []
    go = threading.Event()

    def work() -> None:
        go.wait()

    async with anyio.create_task_group() as group:
        group.start_soon(thread.run, work)
        await turns()
        for number in range(20):
            group.start_soon(thread.run, made.append, number)
            await turns(2)
        go.set()

    assert made == list(range(20))


async def test_a_cancelled_call_that_has_begun_is_waited_for(thread: DriverThread) -> None:
    begun, go, over = threading.Event(), threading.Event(), []

    def work() -> None:
        begun.set()
        go.wait()
        over.append(True)

    async with anyio.create_task_group() as group:
        group.start_soon(thread.run, work)
        while not begun.is_set():
            await checkpoint()
        group.cancel_scope.cancel()
        with anyio.CancelScope(shield=True):
            await turns()
        go.set()

    assert over == [True]


async def test_a_call_that_waits_for_its_turn_is_withdrawn_if_cancelled(thread: DriverThread) -> None:
    begun, go, made = threading.Event(), threading.Event(), list[int]()

    def work() -> None:
        begun.set()
        go.wait()

    async with anyio.create_task_group() as group:
        group.start_soon(thread.run, work)
        while not begun.is_set():
            await checkpoint()
        with anyio.move_on_after(0.001):
            await thread.run(made.append, 1)
        go.set()
    await thread.run(made.append, 2)

    assert made == [2]


@pytest.mark.parametrize("backend", ["asyncio", "uvloop"])
def test_a_call_that_has_begun_is_waited_for_by_a_task_cancelled_natively_however_often(backend: Backend) -> None:
    begun, go, over = threading.Event(), threading.Event(), []

    def work() -> None:
        begun.set()
        go.wait()
        over.append(True)

    async def main() -> bool:
        thread = DriverThread("driver")
        task = asyncio.create_task(thread.run(work))
        while not begun.is_set():
            await checkpoint()
        for _ in range(3):
            task.cancel()
            await turns()
        assert not task.done()
        go.set()
        await asyncio.wait([task])
        thread.close()
        return task.cancelled()

    assert run(main, backend=backend)
    assert over == [True]


async def test_no_thread_is_left_once_it_is_closed() -> None:
    thread = DriverThread("to be closed")
    await thread.run(int)
    assert "to be closed" in {other.name for other in threading.enumerate()}
    thread.close()

    assert "to be closed" not in {other.name for other in threading.enumerate()}


async def test_an_idle_thread_keeps_nothing_alive(thread: DriverThread) -> None:
    thing = Thing()
    seen = weakref.ref(thing)
    await thread.run(id, thing)
    del thing
    await thread.run(int)
    gc.collect()

    assert seen() is None


@pytest.mark.parametrize("backend", BACKENDS)
def test_a_loop_that_ends_during_a_call_does_not_trouble_the_thread(backend: Backend) -> None:
    go = threading.Event()
    threads: list[DriverThread] = []
    calls = []

    async def main() -> None:
        thread = DriverThread("driver")
        threads.append(thread)
        calls.append(thread.run(go.wait))
        calls[0].send(None)  # begun by nobody who could wait: the loop ends at once

    run(main, backend=backend)
    calls[0].close()
    go.set()
    threads[0].close()


@pytest.mark.parametrize("backend", BACKENDS)
def test_a_virtual_clock_stands_still_during_a_call(backend: Backend) -> None:
    async def main() -> float:
        thread = DriverThread("driver")
        with anyio.fail_after(3600):
            await thread.run(time.sleep, 0.05)
        thread.close()
        return anyio.current_time()

    assert run(main, backend=backend, virtual_time=True) == 0.0
