"""These tests start every loop themselves, by `testing.run`, so that they stand apart from the conftest."""

import asyncio
import contextvars
import itertools
import random
import socket
import threading
import time

import anyio
import anyio.from_thread
import anyio.lowlevel
import anyio.to_thread
import pytest
from trio._core import _run as trio_run

from actors import ChildSpec, StopReason, Terminated, supervise, testing
from actors.testing import Backend, Probe, ProbeActor

every_backend = pytest.mark.parametrize("backend", testing.BACKENDS)
on_asyncio_loops = pytest.mark.parametrize("backend", ["asyncio", "uvloop"])


@pytest.fixture(autouse=True)
def _no_help_from_plugins(monkeypatch: pytest.MonkeyPatch) -> None:
    # pytest-trio, where installed, makes trio's order deterministic for Hypothesis.
    monkeypatch.setattr(trio_run, "_ALLOW_DETERMINISTIC_SCHEDULING", False)


# Running


@every_backend
def test_run_passes_arguments_and_returns_the_result(backend: Backend) -> None:
    async def add(a: int, b: int) -> int:
        await anyio.lowlevel.checkpoint()
        return a + b

    assert testing.run(add, 1, 2, backend=backend) == 3
    assert testing.run(add, 1, 2, backend=backend, seed=1, virtual_time=True) == 3


@every_backend
def test_run_raises_what_the_program_raises(backend: Backend) -> None:
    async def fail() -> None:
        raise LookupError("missing")

    with pytest.raises(LookupError, match="missing"):
        testing.run(fail, backend=backend, seed=1, virtual_time=True)


def test_an_unknown_backend_is_refused_by_name() -> None:
    async def main() -> None: ...

    with pytest.raises(ValueError, match=r"unknown backend 'curio', expected one of \('asyncio', 'uvloop', 'trio'\)"):
        testing.run(main, backend="curio")  # type: ignore[arg-type]


@on_asyncio_loops
def test_the_loop_is_of_the_backend_named(backend: Backend) -> None:
    async def main() -> str:
        return type(asyncio.get_running_loop()).__module__.partition(".")[0]

    assert testing.run(main, backend=backend, seed=1, virtual_time=True) == backend
    assert testing.run(main, backend=backend) == backend


# Virtual time


@every_backend
def test_a_sleep_of_a_day_takes_no_time_and_the_clock_starts_at_nought(backend: Backend) -> None:
    async def main() -> tuple[float, float]:
        start = anyio.current_time()
        await anyio.sleep(86_400)
        return start, anyio.current_time()

    began = time.monotonic()

    assert testing.run(main, backend=backend, virtual_time=True) == (0.0, 86_400.0)
    assert time.monotonic() - began < 60


@every_backend
def test_time_stands_still_while_tasks_can_run(backend: Backend) -> None:
    async def main() -> tuple[bool, float]:
        with anyio.move_on_after(1e-9) as scope:
            for _ in range(500):
                await anyio.lowlevel.checkpoint()
        return scope.cancelled_caught, anyio.current_time()

    assert testing.run(main, backend=backend, virtual_time=True) == (False, 0.0)


@every_backend
def test_sleepers_in_nested_groups_wake_in_the_order_of_their_times(backend: Backend) -> None:
    woken = list[tuple[str, float]]()

    async def sleeper(name: str, seconds: float) -> None:
        await anyio.sleep(seconds)
        woken.append((name, anyio.current_time()))

    async def main() -> None:
        async with anyio.create_task_group() as outer:
            outer.start_soon(sleeper, "late", 300)
            async with anyio.create_task_group() as inner:
                inner.start_soon(sleeper, "middle", 20)
                inner.start_soon(sleeper, "early", 1)
            woken.append(("inner", anyio.current_time()))

    testing.run(main, backend=backend, virtual_time=True)

    assert woken == [("early", 1), ("middle", 20), ("inner", 20), ("late", 300)]


@every_backend
def test_fail_after_fails_at_its_time(backend: Backend) -> None:
    async def main() -> float:
        with pytest.raises(TimeoutError), anyio.fail_after(30):
            await anyio.sleep_forever()
        return anyio.current_time()

    assert testing.run(main, backend=backend, virtual_time=True) == 30


@every_backend
def test_the_earliest_of_nested_deadlines_is_the_one_that_fires(backend: Backend) -> None:
    async def main() -> tuple[bool, bool, float]:
        with anyio.move_on_after(50) as outer, anyio.move_on_after(10) as inner:
            await anyio.sleep(100)
        return outer.cancelled_caught, inner.cancelled_caught, anyio.current_time()

    assert testing.run(main, backend=backend, virtual_time=True) == (False, True, 10)


@every_backend
def test_a_shielded_clean_up_gets_its_time(backend: Backend) -> None:
    async def child() -> None:
        try:
            await anyio.sleep_forever()
        finally:
            with anyio.move_on_after(5, shield=True):
                await anyio.sleep_forever()

    async def main() -> float:
        async with anyio.create_task_group() as group:
            group.start_soon(child)
            await anyio.sleep(1)
            group.cancel_scope.cancel()
        return anyio.current_time()

    assert testing.run(main, backend=backend, virtual_time=True) == 6


@on_asyncio_loops
def test_a_cancelled_timer_does_not_fire_even_if_another_due_at_that_time_cancels_it(
    backend: Backend,
) -> None:
    fired = list[str]()

    async def main() -> float:
        loop = asyncio.get_running_loop()
        loop.call_later(1, fired.append, "first")
        timers = list[asyncio.TimerHandle]()
        loop.call_later(1, lambda: timers.pop().cancel())
        timers.append(loop.call_later(1, fired.append, "second"))
        loop.call_later(0.5, fired.append, "never").cancel()
        await anyio.sleep(2)
        return loop.time()

    assert testing.run(main, backend=backend, virtual_time=True) == 2
    assert fired == ["first"]


@on_asyncio_loops
def test_a_timer_that_sets_itself_anew_for_now_does_not_starve_the_others(backend: Backend) -> None:
    async def main() -> int:
        loop = asyncio.get_running_loop()
        turns = itertools.count()

        def again() -> None:
            next(turns)
            loop.call_later(0, again)

        again()
        for _ in range(50):
            await asyncio.sleep(0)
        return next(turns)

    assert 1 < testing.run(main, backend=backend, virtual_time=True) < 60


# Threads and files


@every_backend
def test_time_stands_still_while_a_worker_thread_works(backend: Backend) -> None:
    async def main() -> tuple[bool, float]:
        limiter = anyio.CapacityLimiter(3)
        with anyio.move_on_after(1e-9) as scope:
            for _ in range(20):
                await anyio.to_thread.run_sync(threading.get_ident, limiter=limiter)
        return scope.cancelled_caught, anyio.current_time()

    assert testing.run(main, backend=backend, virtual_time=True, patience_seconds=30) == (False, 0.0)


@on_asyncio_loops
def test_time_stands_still_while_an_executor_works(backend: Backend) -> None:
    async def main() -> float:
        async with asyncio.timeout(1e-9):
            for _ in range(20):
                await asyncio.get_running_loop().run_in_executor(None, threading.get_ident)
        return anyio.current_time()

    assert testing.run(main, backend=backend, virtual_time=True, patience_seconds=30) == 0.0


@every_backend
def test_time_goes_on_once_the_threads_are_idle(backend: Backend) -> None:
    async def main() -> float:
        await anyio.to_thread.run_sync(threading.get_ident)
        await anyio.sleep(60)
        await anyio.to_thread.run_sync(threading.get_ident)
        await anyio.sleep(60)
        return anyio.current_time()

    began = time.monotonic()

    assert testing.run(main, backend=backend, virtual_time=True, patience_seconds=1000) == 120
    assert time.monotonic() - began < 60


@every_backend
def test_the_clock_jumps_past_a_thread_that_outlasts_the_patience(backend: Backend) -> None:
    release = threading.Event()

    async def main() -> float:
        try:
            with anyio.move_on_after(60):
                await anyio.to_thread.run_sync(release.wait, abandon_on_cancel=True)
            return anyio.current_time()
        finally:
            release.set()

    assert testing.run(main, backend=backend, virtual_time=True, patience_seconds=0) == 60


@every_backend
def test_a_thread_may_call_back_into_virtual_time(backend: Backend) -> None:
    async def main() -> float:
        await anyio.to_thread.run_sync(anyio.from_thread.run, anyio.sleep, 60)
        return anyio.current_time()

    assert testing.run(main, backend=backend, virtual_time=True, patience_seconds=0.01) == 60


@pytest.mark.parametrize("backend", ["asyncio", "trio"])
def test_time_stands_still_while_data_is_on_its_way(backend: Backend) -> None:
    async def main() -> tuple[bytes, float]:
        ours, theirs = socket.socketpair()
        with ours, theirs:
            ours.setblocking(False)
            # A thread that no loop knows of stands for another program.
            sender = threading.Thread(target=theirs.send, args=(b"hello",))
            with anyio.fail_after(1e-9):
                sender.start()
                await anyio.wait_readable(ours)
            sender.join()
            return ours.recv(5), anyio.current_time()

    assert testing.run(main, backend=backend, virtual_time=True, patience_seconds=30) == (b"hello", 0.0)


# Deadlocks


async def wait_for_ever() -> None:
    await anyio.Event().wait()


@every_backend
def test_a_program_that_can_never_go_on_is_a_deadlock_which_names_tasks_and_places(backend: Backend) -> None:
    async def main() -> None:
        async with anyio.create_task_group() as group:
            group.start_soon(wait_for_ever, name="the waiter")

    with pytest.raises(testing.Deadlock) as caught:
        testing.run(main, backend=backend, virtual_time=True, patience_seconds=0)

    assert "no task can run and no timer is set" in str(caught.value)
    assert f"'the waiter' at {__file__}:{wait_for_ever.__code__.co_firstlineno + 1} in wait_for_ever" in str(
        caught.value
    )
    assert "main' at " in str(caught.value)


@every_backend
def test_a_deadlock_is_found_though_timers_were_set_and_cancelled_before(backend: Backend) -> None:
    async def main() -> None:
        with anyio.move_on_after(10):
            await anyio.sleep(1)
        await wait_for_ever()

    with pytest.raises(testing.Deadlock):
        testing.run(main, backend=backend, virtual_time=True, patience_seconds=0)


@every_backend
def test_a_deadlocked_program_is_cancelled_and_cleans_up(backend: Backend) -> None:
    cleaned = list[float]()

    async def main() -> str:
        try:
            await wait_for_ever()
        finally:
            with anyio.CancelScope(shield=True):
                await anyio.sleep(7)
            cleaned.append(anyio.current_time())
        return "not reached"

    with pytest.raises(testing.Deadlock):
        testing.run(main, backend=backend, virtual_time=True, patience_seconds=0)

    assert cleaned == [7]


@every_backend
def test_a_deadlock_is_raised_whatever_the_cancelled_program_raises(backend: Backend) -> None:
    async def main() -> None:
        try:
            await wait_for_ever()
        finally:
            raise LookupError("lost on the way")

    with pytest.raises(testing.Deadlock):
        testing.run(main, backend=backend, virtual_time=True, patience_seconds=0)


@every_backend
def test_a_clean_up_that_is_stuck_behind_a_shield_does_not_hang_the_test(backend: Backend) -> None:
    async def main() -> None:
        try:
            await wait_for_ever()
        finally:
            with anyio.CancelScope(shield=True):
                await wait_for_ever()

    with pytest.raises(testing.Deadlock):
        testing.run(main, backend=backend, virtual_time=True, patience_seconds=0)


@every_backend
def test_waiting_for_a_thread_without_any_timer_is_no_deadlock(backend: Backend) -> None:
    release = threading.Event()

    def work() -> str:
        release.wait(0.05)  # so long that many idle turns of the loop go by
        return "done"

    async def main() -> str:
        return await anyio.to_thread.run_sync(work)

    assert testing.run(main, backend=backend, virtual_time=True, patience_seconds=0) == "done"


@every_backend
def test_waiting_until_all_tasks_are_blocked_is_no_deadlock(backend: Backend) -> None:
    async def main() -> str:
        async with anyio.create_task_group() as group:
            group.start_soon(wait_for_ever)
            await anyio.wait_all_tasks_blocked()
            group.cancel_scope.cancel()
        return "done"

    assert testing.run(main, backend=backend, virtual_time=True, patience_seconds=0) == "done"


# Seeded order


async def arrivals() -> tuple[int, ...]:
    probe = Probe[int]()

    async def arrive(number: int) -> None:
        await anyio.lowlevel.checkpoint()
        probe.record(number)

    async with anyio.create_task_group() as group:
        for number in range(4):
            group.start_soon(arrive, number)
    return tuple(probe.items)


@every_backend
def test_200_seeds_reach_every_order_of_four_tasks(backend: Backend) -> None:
    orders = {testing.run(arrivals, backend=backend, seed=seed) for seed in range(200)}

    assert orders == set(itertools.permutations(range(4)))


@every_backend
@pytest.mark.parametrize("virtual_time", [False, True])
def test_a_seed_replays_its_order(backend: Backend, virtual_time: bool) -> None:
    for seed in range(20):
        first = testing.run(arrivals, backend=backend, seed=seed, virtual_time=virtual_time)

        for _ in range(3):
            assert testing.run(arrivals, backend=backend, seed=seed, virtual_time=virtual_time) == first


@every_backend
def test_a_seed_replays_a_long_tangle_of_tasks_timers_and_cancellations(backend: Backend) -> None:
    async def tangle() -> list[tuple[float, str]]:
        probe = Probe[tuple[float, str]]()

        async def worker(name: str, depth: int) -> None:
            try:
                for turn in range(3):
                    probe.record((anyio.current_time(), f"{name}.{turn}"))
                    await anyio.sleep(turn % 2)
                if depth:
                    async with anyio.create_task_group() as group:
                        for number in range(3):
                            group.start_soon(worker, f"{name}{number}", depth - 1)
                await anyio.sleep_forever()
            finally:
                # anyio cancels its tasks in the order of a set, so of addresses in memory.
                probe.record((anyio.current_time(), f"{name} ends"))

        with anyio.move_on_after(10):
            async with anyio.create_task_group() as group:
                for number in range(6):
                    group.start_soon(worker, str(number), 1)
        return probe.items

    first = testing.run(tangle, backend=backend, seed=5, virtual_time=True)
    ballast = list[object]()
    for _ in range(10):
        ballast.extend(bytearray(random.randrange(2000)) for _ in range(50))

        assert testing.run(tangle, backend=backend, seed=5, virtual_time=True) == first
    assert testing.run(tangle, backend=backend, seed=6, virtual_time=True) != first


@every_backend
def test_tasks_woken_at_the_same_time_are_shuffled_too(backend: Backend) -> None:
    async def main() -> tuple[int, ...]:
        probe = Probe[int]()
        event = anyio.Event()

        async def arrive(number: int) -> None:
            await event.wait()
            probe.record(number)

        async with anyio.create_task_group() as group:
            for number in range(3):
                group.start_soon(arrive, number)
            await anyio.sleep(1)
            event.set()
        return tuple(probe.items)

    orders = {testing.run(main, backend=backend, seed=seed, virtual_time=True) for seed in range(60)}

    assert orders == set(itertools.permutations(range(3)))


@every_backend
def test_a_batch_runs_to_its_end_before_the_next_begins(backend: Backend) -> None:
    async def main() -> list[int]:
        rounds = Probe[int]()

        async def runner() -> None:
            for number in range(5):
                rounds.record(number)
                await anyio.lowlevel.checkpoint()

        async with anyio.create_task_group() as group:
            for _ in range(4):
                group.start_soon(runner)
        return rounds.items

    for seed in range(20):
        assert testing.run(main, backend=backend, seed=seed) == sorted([*range(5)] * 4)


@on_asyncio_loops
def test_plain_callbacks_keep_their_order(backend: Backend) -> None:
    async def main() -> list[int]:
        called = list[int]()
        for number in range(20):
            asyncio.get_running_loop().call_soon(called.append, number)
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        return called

    for seed in range(10):
        assert testing.run(main, backend=backend, seed=seed) == [*range(20)]


@every_backend
def test_a_shuffled_task_keeps_its_own_context(backend: Backend) -> None:
    name = contextvars.ContextVar[int]("name")

    async def main() -> bool:
        agreed = list[bool]()

        async def child(number: int) -> None:
            name.set(number)
            for _ in range(3):
                await anyio.lowlevel.checkpoint()
                agreed.append(name.get() == number)

        async with anyio.create_task_group() as group:
            for number in range(5):
                group.start_soon(child, number)
        return all(agreed) and len(agreed) == 15

    assert testing.run(main, backend=backend, seed=3, virtual_time=True)


@every_backend
def test_a_keyboard_interrupt_in_a_shuffled_task_ends_the_run(backend: Backend) -> None:
    async def interrupt() -> None:
        raise KeyboardInterrupt

    async def main() -> None:
        async with anyio.create_task_group() as group:
            group.start_soon(interrupt)
            await anyio.sleep_forever()

    with pytest.raises(BaseException) as caught:  # noqa: PT011 # trio wraps it in a group, asyncio does not
        testing.run(main, backend=backend, seed=3, virtual_time=True)

    assert caught.type is KeyboardInterrupt or caught.group_contains(KeyboardInterrupt)


def test_trio_gets_its_own_random_order_back_after_a_seeded_run() -> None:
    before = trio_run._r.getstate()

    # With real time, trio's clock would draw a number of its own before the run.
    testing.run(arrivals, backend="trio", seed=1, virtual_time=True)

    assert trio_run._r.getstate() == before
    assert not trio_run._ALLOW_DETERMINISTIC_SCHEDULING


# The probe


@every_backend
def test_a_probe_waits_for_the_nth_item(backend: Backend) -> None:
    async def main() -> tuple[str, float, list[str]]:
        probe = Probe[str]()

        async def record() -> None:
            for item in "abc":
                await anyio.sleep(1)
                probe.record(item)

        async with anyio.create_task_group() as group:
            group.start_soon(record)
            item = await probe.wait_for(2)
            found = item, anyio.current_time(), [*probe.items]
        return found

    assert testing.run(main, backend=backend, virtual_time=True) == ("b", 2, ["a", "b"])


@every_backend
def test_a_probe_waits_for_an_item_that_satisfies_a_predicate(backend: Backend) -> None:
    async def main() -> list[int]:
        probe = Probe[int]()
        found = list[int]()

        async def wait(limit: int) -> None:
            found.append(await probe.wait_for(lambda item: item > limit))

        async with anyio.create_task_group() as group:
            group.start_soon(wait, 10)
            group.start_soon(wait, 20)
            await anyio.sleep(1)
            for item in (5, 15, 25):
                probe.record(item)
                await anyio.sleep(1)
        return found

    assert testing.run(main, backend=backend, virtual_time=True) == [15, 25]


@every_backend
def test_a_probe_gives_what_was_recorded_before_at_once(backend: Backend) -> None:
    probe = Probe[str]()
    probe.record("before any loop runs")

    async def main() -> tuple[str, str]:
        return await probe.wait_for(1), await probe.wait_for(lambda item: "loop" in item)

    assert testing.run(main, backend=backend) == ("before any loop runs",) * 2


@every_backend
def test_a_probe_that_waits_in_vain_says_what_it_got(backend: Backend) -> None:
    probe = Probe[str]()

    async def main() -> float:
        probe.record("one")
        with pytest.raises(TimeoutError, match=r"waited 9 s for item 2, got 1: \['one'\]"):
            await probe.wait_for(2, timeout_seconds=9)
        with pytest.raises(TimeoutError, match="waited 1 s for an item that satisfies the predicate, got 1"):
            await probe.wait_for(lambda item: item == "two", timeout_seconds=1)
        return anyio.current_time()

    assert testing.run(main, backend=backend, virtual_time=True) == 10


@every_backend
def test_a_cancelled_wait_loses_nothing(backend: Backend) -> None:
    async def main() -> int:
        probe = Probe[int]()
        with anyio.move_on_after(1):
            await probe.wait_for(1)
        probe.record(7)
        return await probe.wait_for(1)

    assert testing.run(main, backend=backend, virtual_time=True) == 7


@pytest.mark.parametrize("count", [0, -1])
def test_a_probe_counts_from_one(count: int) -> None:
    with pytest.raises(ValueError, match=f"items are counted from 1, cannot wait for number {count}"):
        testing.run(Probe[int]().wait_for, count)


# What is left


@every_backend
def test_tasks_left_names_every_other_task_and_none_of_the_backend(backend: Backend) -> None:
    async def main() -> tuple[list[str], list[str], list[str]]:
        alone = testing.tasks_left()
        async with anyio.create_task_group() as group:
            group.start_soon(wait_for_ever, name="b")
            group.start_soon(wait_for_ever, name="a")
            await anyio.sleep(1)
            during = testing.tasks_left()
            group.cancel_scope.cancel()
        return alone, during, testing.tasks_left()

    assert testing.run(main, backend=backend, virtual_time=True) == ([], ["a", "b"], [])


@every_backend
def test_tasks_left_seen_from_a_child_includes_the_main_task(backend: Backend) -> None:
    async def main() -> list[str]:
        seen = list[str]()

        async def look() -> None:
            seen.extend(testing.tasks_left())

        async with anyio.create_task_group() as group:
            group.start_soon(look)
        return seen

    (name,) = testing.run(main, backend=backend, virtual_time=True)

    assert name.endswith("test_tasks_left_seen_from_a_child_includes_the_main_task.<locals>.main")


# With anyio's own runners


@every_backend
def test_the_options_serve_anyio_run(backend: Backend) -> None:
    name, options = testing.anyio_backend(backend, seed=1, virtual_time=True)

    async def main() -> float:
        await anyio.sleep(60)
        return anyio.current_time()

    assert anyio.run(main, backend=name, backend_options=options) == 60


def test_the_options_serve_anyios_pytest_fixture(pytester: pytest.Pytester) -> None:
    pytester.makepyfile(
        """
        import anyio, pytest, time
        from actors import testing

        BACKENDS = [testing.anyio_backend(name, seed=3, virtual_time=True) for name in testing.BACKENDS]

        @pytest.fixture(params=BACKENDS)
        def anyio_backend(request):
            return request.param

        @pytest.fixture
        async def a_resource(anyio_backend):
            await anyio.sleep(60)
            yield
            await anyio.sleep(60)

        @pytest.mark.anyio
        @pytest.mark.parametrize("again", [1, 2])
        async def test_sleeping(a_resource, again):
            start = anyio.current_time()
            await anyio.sleep(3600)
            assert anyio.current_time() - start == 3600
            assert await anyio.to_thread.run_sync(lambda: 7) == 7
        """
    )

    result = pytester.runpytest_inprocess("-W", "error", "-p", "no:cacheprovider")

    result.assert_outcomes(passed=6)


@every_backend
def test_a_probe_actor_records_messages_and_ends(backend: Backend) -> None:
    probe: Probe[object] = Probe()
    other = ChildSpec("other", ProbeActor, (Probe[object](),), restart="temporary")

    async def main() -> None:
        async with supervise([other]) as root:
            watched = root.child("other")
            recorder = await root.start_child(ChildSpec("probe", ProbeActor, (probe, [watched])))
            await recorder.tell("hello")
            await probe.wait_for(1)
            watched.stop()
            assert await probe.wait_for(2) == Terminated(watched, StopReason("normal"))

    testing.run(main, backend=backend, seed=1, virtual_time=True)

    assert probe.items[0] == "hello"
    assert len(probe.items) == 2
