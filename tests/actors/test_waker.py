"""Each waker does what the portable one does: `EventWaker`, on `anyio.Event`, is the oracle."""

import asyncio
import functools
import threading
from collections.abc import Callable
from typing import Literal

import anyio
import pytest
from anyio import CancelScope
from anyio.lowlevel import checkpoint
from hypothesis import given, settings
from hypothesis import strategies as st

from actors import AsyncioWaker, EventWaker, TrioWaker, Waker, new_waker
from actors.testing import BACKENDS, Backend, run
from actors.waker import Poster, _patient_poster, new_poster

NATIVE: dict[Backend, type[Waker]] = {"asyncio": AsyncioWaker, "uvloop": AsyncioWaker, "trio": TrioWaker}

on_asyncio_loops = pytest.mark.parametrize("backend", ["asyncio", "uvloop"])

Step = Literal["park", "wake", "cancel", "settle"]


async def outcomes(make: Callable[[], Waker], program: list[Step]) -> list[str]:
    """What one task sees that is parked, woken and cancelled by a program."""
    waker = make()
    seen: list[str] = []
    scope: CancelScope | None = None

    async def park_once(own: CancelScope) -> None:
        nonlocal scope
        with own:
            await waker.park()
            seen.append("woken")
        if own.cancelled_caught:
            seen.append("cancelled")
        scope = None

    async with anyio.create_task_group() as group:
        for step in [*program, "settle", "cancel"]:
            if step == "park" and scope is None:
                scope = CancelScope()
                group.start_soon(park_once, scope)
                await anyio.sleep(1)
            elif step == "wake":
                waker.wake()
                seen.append("wake")
            elif step == "cancel" and scope is not None:
                scope.cancel()
                seen.append("cancel")
            elif step == "settle":
                await anyio.sleep(1)
                seen.append("settle")
    return seen


@settings(deadline=None)
@given(st.lists(st.sampled_from(["park", "wake", "cancel", "settle"]), max_size=20))
def test_any_program_of_parking_waking_and_cancelling_has_the_outcome_of_the_portable_waker(
    program: list[Step],
) -> None:
    expected = run(outcomes, EventWaker, program, backend="asyncio", virtual_time=True)

    for backend in BACKENDS:
        assert run(outcomes, EventWaker, program, backend=backend, virtual_time=True) == expected
        assert run(outcomes, NATIVE[backend], program, backend=backend, virtual_time=True) == expected


@pytest.fixture(params=["native", "portable"])
def make(request: pytest.FixtureRequest) -> Callable[[], Waker]:
    return new_waker if request.param == "native" else EventWaker


async def test_wake_lets_the_parked_task_go_on(make: Callable[[], Waker]) -> None:
    waker = make()
    async with anyio.create_task_group() as group:
        group.start_soon(_wake_after_a_turn, waker)
        await waker.park()


async def test_wake_with_nobody_parked_is_forgotten(make: Callable[[], Waker]) -> None:
    waker = make()
    waker.wake()

    with anyio.move_on_after(1) as scope:
        await waker.park()

    assert scope.cancelled_caught


async def test_a_cancelled_park_leaves_no_trace(make: Callable[[], Waker]) -> None:
    waker = make()
    with anyio.move_on_after(1):
        await waker.park()
    waker.wake()  # meant for nobody: the next one to park must not see it

    with anyio.move_on_after(1) as scope:
        await waker.park()

    assert scope.cancelled_caught


async def test_waking_twice_is_waking_once(make: Callable[[], Waker]) -> None:
    waker = make()
    async with anyio.create_task_group() as group:
        group.start_soon(_wake_after_a_turn, waker, 2)
        await waker.park()
    with anyio.move_on_after(1) as scope:
        await waker.park()

    assert scope.cancelled_caught


@on_asyncio_loops
@pytest.mark.parametrize("make", [AsyncioWaker, EventWaker])
def test_a_park_cancelled_natively_leaves_no_trace(make: type[Waker], backend: Backend) -> None:
    async def main() -> bool:
        waker = make()

        async def park() -> None:
            await waker.park()

        task = asyncio.create_task(park())
        await checkpoint()
        task.cancel()
        await asyncio.wait([task])
        waker.wake()
        with anyio.move_on_after(1) as scope:
            await waker.park()
        return scope.cancelled_caught and task.cancelled()

    assert run(main, backend=backend, virtual_time=True)


@pytest.mark.parametrize("backend", BACKENDS)
def test_the_fastest_waker_of_each_backend_is_chosen(backend: Backend) -> None:
    async def main() -> Waker:
        return new_waker()

    assert type(run(main, backend=backend)) is NATIVE[backend]


def test_outside_any_loop_we_know_the_portable_waker_is_chosen() -> None:
    assert isinstance(new_waker(), EventWaker)


async def _wake_after_a_turn(waker: Waker, times: int = 1) -> None:
    await checkpoint()
    for _ in range(times):
        waker.wake()


# In real time: a virtual clock does not see a thread that we started ourselves, and jumps.
posters = pytest.mark.parametrize("make_poster", [new_poster, _patient_poster], ids=["native", "portable"])
on_each_backend = pytest.mark.parametrize("backend", BACKENDS)


@posters
@on_each_backend
def test_another_thread_wakes_a_parked_task_by_a_poster(make_poster: Callable[[], Poster], backend: Backend) -> None:
    async def main() -> None:
        waker, post = new_waker(), make_poster()
        thread = threading.Thread(target=post, args=(waker.wake,))
        thread.start()
        await waker.park()
        await anyio.to_thread.run_sync(thread.join)

    run(main, backend=backend)


@posters
@on_each_backend
def test_what_one_thread_posts_is_called_in_order_in_the_loops_thread(
    make_poster: Callable[[], Poster], backend: Backend
) -> None:
    called: list[tuple[int, int]] = []

    def call(number: int) -> None:
        called.append((number, threading.get_ident()))

    async def main() -> None:
        waker, post = new_waker(), make_poster()

        def work() -> None:
            for number in range(100):
                post(functools.partial(call, number))
            post(waker.wake)

        thread = threading.Thread(target=work)
        thread.start()
        await waker.park()
        await anyio.to_thread.run_sync(thread.join)

    run(main, backend=backend)

    assert called == [(number, threading.get_ident()) for number in range(100)]


@on_each_backend
def test_a_thread_that_posts_does_not_wait_for_the_loop(backend: Backend) -> None:
    async def main() -> bool:
        waker, post = new_waker(), new_poster()
        thread = threading.Thread(target=post, args=(waker.wake,))
        thread.start()
        thread.join(10)  # the loop stands still meanwhile, so nothing can have been called
        ended = not thread.is_alive()
        await waker.park()
        return ended

    assert run(main, backend=backend)


@posters
@on_each_backend
def test_a_poster_of_a_loop_that_is_gone_says_so(make_poster: Callable[[], Poster], backend: Backend) -> None:
    async def main() -> Poster:
        return make_poster()

    post = run(main, backend=backend)

    with pytest.raises(RuntimeError):
        post(print)
