"""One flag for every thread and loop."""

import signal
import threading

import anyio
import pytest
from anyio.lowlevel import checkpoint

from engine.web.draining import Draining


async def test_who_waits_goes_on_once_it_begins() -> None:
    draining = Draining()
    woken: list[int] = []

    async def wait(number: int) -> None:
        await draining.wait()
        woken.append(number)

    async with anyio.create_task_group() as group:
        for number in range(3):
            group.start_soon(wait, number)
        for _ in range(5):
            await checkpoint()
        assert (draining.begun, woken) == (False, [])
        draining.begin()

    assert sorted(woken) == [0, 1, 2]
    await draining.wait()
    draining.begin()
    assert not draining._wakes


async def test_it_may_begin_in_another_thread() -> None:
    draining = Draining()
    with anyio.fail_after(60):
        async with anyio.create_task_group() as group:
            group.start_soon(draining.wait)
            await checkpoint()
            threading.Thread(target=draining.begin).start()


async def test_it_may_begin_in_a_signal_handler() -> None:
    draining = Draining()
    before = signal.signal(signal.SIGUSR1, lambda *_: draining.begin())
    try:
        with anyio.fail_after(60):
            async with anyio.create_task_group() as group:
                group.start_soon(draining.wait)
                await checkpoint()
                signal.raise_signal(signal.SIGUSR1)
    finally:
        signal.signal(signal.SIGUSR1, before)


async def test_who_gives_up_waiting_leaves_nothing_behind() -> None:
    draining = Draining()
    with anyio.move_on_after(0.01):
        await draining.wait()

    assert not draining._wakes


def test_a_loop_that_is_gone_does_not_keep_the_others_from_being_told() -> None:
    draining = Draining()

    async def leave() -> None:
        draining._wakes["gone"] = gone

    def gone() -> None:
        raise RuntimeError("Event loop is closed")

    anyio.run(leave)
    draining.begin()

    assert draining.begun


@pytest.mark.parametrize("backend", ["asyncio", "trio"])
def test_a_second_loop_may_wait_for_the_same(backend: str) -> None:
    draining = Draining()
    draining.begin()

    anyio.run(draining.wait, backend=backend)
