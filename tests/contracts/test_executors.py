"""What every executor promises (engine/ports.py), on each backend."""

import contextvars
import traceback
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import anyio
import anyio.lowlevel
import pytest

from engine import Engine, Graph
from engine.errors import EngineClosed, NotTransferable, WorkerLost
from engine.executors import BaseExecutor, ProcessExecutor, RayExecutor, ThreadExecutor
from tests.contracts import calls
from tests.contracts.calls import Gate
from tests.contracts.own_executor import AnyioExecutor

Make = Callable[..., BaseExecutor]

colour: contextvars.ContextVar[str] = contextvars.ContextVar("colour", default="none")


@pytest.fixture(params=[ThreadExecutor, ProcessExecutor, AnyioExecutor, RayExecutor])
def make(request: pytest.FixtureRequest) -> Make:
    made: Any = request.param
    if made is not RayExecutor:
        return made  # type: ignore[no-any-return]
    if "uvloop" in request.node.name:
        pytest.skip("uvloop is asyncio to it, and each of these takes its time")
    return partial(RayExecutor, request.getfixturevalue("ray_cluster").address)


async def turns(condition: Callable[[], bool]) -> None:
    """Let other tasks go on until a condition holds."""
    with anyio.fail_after(30):
        while not condition():
            await anyio.lowlevel.checkpoint()


async def test_a_call_gives_the_functions_result(make: Make) -> None:
    async with make(1) as executor:
        assert await executor.run(calls.add, (1, 2), {"c": 3}) == 6


async def test_an_async_function_is_awaited_on_the_callers_backend(make: Make) -> None:
    async with make(1) as executor:
        assert await executor.run(calls.async_add, (1, 2)) == (calls.backend(), 3)


async def test_an_exception_comes_back_as_it_was_raised(make: Make) -> None:
    async with make(1) as executor:
        with pytest.raises(calls.Odd) as raised:
            await executor.run(calls.fail_oddly)

    error = raised.value
    assert (str(error), error.args, error.name, error.code) == ("third is odd", ("third is odd",), "third", 3)
    assert error.__notes__[0] == "a note"
    cause = error.__cause__
    assert isinstance(cause, FileNotFoundError)
    assert (cause.errno, cause.filename, cause.__suppress_context__) == (2, "second", True)
    assert isinstance(cause.__context__, KeyError)


async def test_an_exception_keeps_its_context(make: Make) -> None:
    async with make(1) as executor:
        with pytest.raises(ValueError, match="second") as raised:
            await executor.run(calls.fail_in_context)

    assert raised.value.__cause__ is None
    assert isinstance(raised.value.__context__, KeyError)


async def test_a_group_keeps_its_members_and_their_causes(make: Make) -> None:
    async with make(1) as executor:
        with pytest.raises(ExceptionGroup) as raised:
            await executor.run(calls.fail_twice)

    odd, value = raised.value.exceptions
    assert isinstance(odd, calls.Odd)
    assert isinstance(odd.__cause__, FileNotFoundError)
    assert isinstance(value, ValueError)


async def test_a_call_after_one_that_raised_works(make: Make) -> None:
    async with make(1) as executor:
        with pytest.raises(calls.Odd):
            await executor.run(calls.fail_oddly)

        assert await executor.run(calls.identity, (1,)) == 1


async def test_each_of_many_calls_at_once_gets_its_own_result(make: Make) -> None:
    results: dict[int, int] = {}

    async def call(number: int) -> None:
        results[number] = await executor.run(calls.identity, (number,))

    async with make(3) as executor, anyio.create_task_group() as group:
        for number in range(60):
            group.start_soon(call, number)

    assert results == {number: number for number in range(60)}


async def test_no_more_than_the_limit_run_at_once_and_the_others_wait(make: Make, tmp_path: Path) -> None:
    with Gate(tmp_path) as gate:
        async with make(2) as executor:
            async with anyio.create_task_group() as group:
                for _ in range(5):
                    group.start_soon(executor.run, calls.at_gate, (gate.path,))
                await gate.begun(2)

                assert (executor.running, executor.waiting, executor.started) == (2, 3, 2)
                gate.go()
                await gate.begun()
                assert (executor.running, executor.waiting, executor.started) == (2, 2, 3)
                gate.go(4)
            assert (executor.running, executor.waiting, executor.started) == (0, 0, 5)


async def test_who_waits_is_served_in_order(make: Make, tmp_path: Path) -> None:
    order: list[int] = []

    async def call(number: int) -> None:
        order.append(await executor.run(calls.identity, (number,)))

    with Gate(tmp_path) as gate:
        async with make(1) as executor, anyio.create_task_group() as group:
            group.start_soon(executor.run, calls.at_gate, (gate.path,))
            await gate.begun()
            for number in range(5):
                group.start_soon(call, number)
                await turns(lambda number=number: executor.waiting == number + 1)  # type: ignore[misc]
            gate.go()

    assert order == [0, 1, 2, 3, 4]


async def test_a_call_cancelled_while_it_waits_has_done_nothing(make: Make, tmp_path: Path) -> None:
    with Gate(tmp_path) as gate:
        async with make(1) as executor, anyio.create_task_group() as group:
            group.start_soon(executor.run, calls.at_gate, (gate.path,))
            await gate.begun()
            with anyio.move_on_after(0) as scope:
                await executor.run(Path.touch, (tmp_path / "touched",))

            assert scope.cancelled_caught
            assert (executor.waiting, executor.started, executor.abandoned, executor.killed) == (0, 1, 0, 0)
            gate.go()

    assert not (tmp_path / "touched").exists()


async def test_a_call_in_a_scope_that_is_cancelled_already_does_nothing(make: Make) -> None:
    async with make(1) as executor:
        with anyio.CancelScope() as scope:
            scope.cancel()
            await executor.run(calls.identity, (1,))

        assert (executor.running, executor.started) == (0, 0)


async def test_a_cancelled_call_frees_its_place(make: Make, tmp_path: Path) -> None:
    with Gate(tmp_path) as gate:
        async with make(1) as executor:
            for _ in range(3):
                async with anyio.create_task_group() as group:
                    group.start_soon(executor.run, calls.at_gate, (gate.path,))
                    await gate.begun()
                    group.cancel_scope.cancel()

            assert executor.running == 0
            assert await executor.run(calls.identity, (1,)) == 1


async def test_a_cancelled_call_lets_the_next_in_line_go_on(make: Make, tmp_path: Path) -> None:
    async def first() -> None:
        with scope:
            await executor.run(calls.at_gate, (gate.path,))

    results: list[int] = []

    async def second() -> None:
        results.append(await executor.run(calls.identity, (2,)))

    scope = anyio.CancelScope()
    with Gate(tmp_path) as gate:
        async with make(1) as executor, anyio.create_task_group() as group:
            group.start_soon(first)
            await gate.begun()
            group.start_soon(second)
            await turns(lambda: executor.waiting == 1)
            scope.cancel()

    assert results == [2]


async def test_a_call_outside_of_the_executors_life_is_refused(make: Make) -> None:
    executor = make(1)
    with pytest.raises(EngineClosed, match="Executor is closed"):
        await executor.run(calls.identity, (1,))
    async with executor:
        pass

    with pytest.raises(EngineClosed):
        await executor.run(calls.identity, (1,))


async def test_leaving_fails_what_runs_and_what_waits(make: Make, tmp_path: Path) -> None:
    refused: list[str] = []

    async def call(name: str) -> None:
        try:
            await executor.run(calls.at_gate, (gate.path,))
        except EngineClosed:
            refused.append(name)

    with Gate(tmp_path) as gate, anyio.fail_after(30):
        async with anyio.create_task_group() as group, make(1) as executor:
            group.start_soon(call, "running")
            await gate.begun()
            group.start_soon(call, "waiting")
            await turns(lambda: executor.waiting == 1)

    assert sorted(refused) == ["running", "waiting"]


async def test_an_executor_can_be_entered_again(make: Make) -> None:
    executor = make(1)
    for _ in range(2):
        async with executor:
            assert await executor.run(calls.identity, (1,)) == 1
            assert executor.started == 1


async def test_calls_leave_no_files_open(make: Make) -> None:
    if isinstance(make, partial):
        pytest.skip("the connections are Ray's own, and come and go")
    before = set(calls.open_files())
    async with make(2) as executor:
        for round_ in range(2):
            during = set(calls.open_files())
            async with anyio.create_task_group() as group:
                for number in range(100):
                    group.start_soon(executor.run, calls.identity, (number,))
            if round_:
                # Fewer they may be: a thread that a test before this one gave up has ended meanwhile.
                assert set(calls.open_files()) - during == set()

    assert set(calls.open_files()) - before == set()


@pytest.mark.parametrize("limit", [0, -1])
def test_a_limit_below_one_is_refused(make: Make, limit: int) -> None:
    with pytest.raises(ValueError, match="at least 1"):
        make(limit)


def test_there_is_a_limit_by_default(make: Any) -> None:
    assert make().limit >= 1


# --- what it takes from anywhere and brings back ---------------------------------------------------------


async def test_an_exception_tells_where_it_was_raised(make: Make) -> None:
    async with make(1) as executor:
        with pytest.raises(calls.Odd) as raised:
            await executor.run(calls.fail_oddly)

    told = "".join(traceback.format_exception(raised.value))
    assert 'raise OSError(2, "No such file", "second") from None' in told
    assert "calls.py" in told
    assert "in fail_oddly" in told


async def test_what_cannot_travel_is_told_or_travels(make: Make) -> None:
    async with make(1) as executor:
        for function, args, what in (
            (calls.identity, (calls.Unpicklable(),), "arguments"),
            (calls.give_unpicklable, (), "result"),
            (calls.make_lambda(), (), "function"),
        ):
            if executor.capabilities.shares_memory or (what == "function" and executor.capabilities.any_function):
                await executor.run(function, args)
                continue
            with pytest.raises(NotTransferable) as raised:
                await executor.run(function, args)
            assert raised.value.what == what

        assert await executor.run(calls.identity, (1,)) == 1


async def test_an_exception_that_cannot_travel_is_told_by_what_it_said(make: Make) -> None:
    async with make(1) as executor:
        with pytest.raises(ValueError if executor.capabilities.shares_memory else NotTransferable) as raised:
            await executor.run(calls.raise_unpicklable)

    assert "cannot travel" in str(raised.value)


async def test_context_variables_are_seen_by_those_who_say_so(make: Make) -> None:
    async with make(1) as executor:
        colour.set("red")

        seen = "red" if executor.capabilities.sees_context else "none"
        assert await executor.run(read_colour) == seen


def read_colour() -> str:
    return colour.get()


# --- what goes wrong on the way ---------------------------------------------------------------------------


@pytest.mark.parametrize("spin", [calls.count_in_python, calls.spin_in_c])
async def test_a_cancelled_call_stops_where_the_executor_says_it_can(
    make: Make, tmp_path: Path, spin: Callable[[str], None]
) -> None:
    with Gate(tmp_path) as gate:
        async with make(1) as executor:
            if not executor.capabilities.stops and spin is calls.spin_in_c:
                pytest.skip("a thread of this process that holds the interpreter's lock for ever is this test's end")
            async with anyio.create_task_group() as group:
                group.start_soon(executor.run, spin, (str(tmp_path),))
                [process] = await gate.begun()
                group.cancel_scope.cancel()

            if executor.capabilities.stops:
                assert not calls.still_counts(tmp_path)
                assert spin is calls.count_in_python or not calls.is_alive(process)
            else:
                with anyio.fail_after(30):
                    while not calls.still_counts(tmp_path):
                        await anyio.lowlevel.checkpoint()
                (tmp_path / "enough").touch()
            assert await executor.run(calls.identity, (1,)) == 1


async def test_a_worker_that_is_killed_is_one_failed_call_and_nothing_is_called_twice(
    make: Make, tmp_path: Path
) -> None:
    async with make(1) as executor:
        if not executor.capabilities.loses_workers:
            pytest.skip("what makes its calls is this very process")
        with pytest.raises(WorkerLost, match="kill_and_count"):
            await executor.run(calls.kill_and_count, (str(tmp_path / "count"),))

        assert await executor.run(calls.identity, (1,)) == 1
    assert (tmp_path / "count").read_text() == "x"


async def test_a_function_that_is_slow_to_arrive_holds_up_none_but_those_behind_it(make: Make) -> None:
    results: list[int] = []

    async def call(number: int) -> None:
        results.append(await executor.run(calls.SlowToArrive(0.3), (number,)))

    async with make(2) as executor, anyio.create_task_group() as group:
        for number in range(4):
            group.start_soon(call, number)

    assert sorted(results) == [0, 1, 2, 3]


async def test_a_call_cancelled_while_it_is_slow_to_start_leaves_its_place(make: Make) -> None:
    async with make(1) as executor:
        with anyio.move_on_after(0.05) as scope:
            await executor.run(calls.SlowToArrive(5), (1,))  # long beside any moment in which nobody here gets a turn

        assert scope.cancelled_caught
        assert executor.running == 0
        assert await executor.run(calls.identity, (2,)) == 2


async def test_a_thousand_calls_in_flight_all_come_back(make: Make) -> None:
    results: list[int] = []

    async def call(number: int) -> None:
        results.append(await executor.run(calls.identity, (number,)))

    async with make(4) as executor, anyio.create_task_group() as group:
        for number in range(1000):
            group.start_soon(call, number)

    assert sorted(results) == list(range(1000))
    assert executor.health().started == 1000


async def test_its_health_says_what_goes_on(make: Make, tmp_path: Path) -> None:
    with Gate(tmp_path) as gate:
        async with make(1) as executor, anyio.create_task_group() as group:
            for _ in range(2):
                group.start_soon(executor.run, calls.at_gate, (gate.path,))
            await gate.begun()
            await turns(lambda: executor.health().waiting == 1)

            health = executor.health()
            assert (health.trouble, health.running, health.started) == ("", 1, 1)
            gate.go(2)


async def test_an_engine_runs_nodes_on_it(make: Make) -> None:
    graph = Graph("g").add_node("double", calls.double, run_in="mine").set_entry_point("double")

    async with Engine(executors={"mine": make(2)}) as engine:
        runs = [await engine.submit(graph, {"number": number}) for number in range(20)]
        states = [(await run.result()).state for run in runs]

    assert states == [{"number": number, "double": 2 * number} for number in range(20)]
