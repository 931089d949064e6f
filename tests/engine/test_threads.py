"""What is special about functions that run in threads."""

import contextvars
import gc
import subprocess
import sys
import threading
import time
import weakref
from collections.abc import Callable
from pathlib import Path

import anyio
import anyio.lowlevel
import pytest

from engine.executors import ThreadExecutor
from tests.contracts import calls
from tests.contracts.calls import Gate

colour: contextvars.ContextVar[str] = contextvars.ContextVar("colour", default="none")


def paint(new: str) -> str:
    before = colour.get()
    colour.set(new)
    return before


async def until(condition: Callable[[], bool]) -> None:
    with anyio.fail_after(60):
        while not condition():
            await anyio.lowlevel.checkpoint()


async def test_context_variables_of_the_caller_are_visible_and_cannot_be_changed() -> None:
    async with ThreadExecutor(1) as executor:
        for value in ("red", "green"):
            colour.set(value)

            assert await executor.run(paint, ("blue",)) == value
            assert colour.get() == value


async def test_an_abandoned_thread_is_counted_until_it_ends_and_its_result_dropped(tmp_path: Path) -> None:
    with Gate(tmp_path) as gate:
        async with ThreadExecutor(1) as executor:
            async with anyio.create_task_group() as group:
                group.start_soon(executor.run, calls.at_gate, (gate.path, "late"))
                await gate.begun()
                group.cancel_scope.cancel()
            assert (executor.abandoned, executor.running, executor.killed) == (1, 0, 0)

            assert await executor.run(calls.identity, ("mine",)) == "mine"
            gate.go()
            await until(lambda: executor.abandoned == 0)
            assert await executor.run(calls.identity, ("mine",)) == "mine"


async def test_leaving_does_not_wait_for_an_abandoned_thread(tmp_path: Path) -> None:
    with Gate(tmp_path) as gate:
        async with ThreadExecutor(1) as executor, anyio.create_task_group() as group:
            group.start_soon(executor.run, calls.at_gate, (gate.path,))
            await gate.begun()
            group.cancel_scope.cancel()

        assert executor.abandoned == 1
        gate.go()
        await until(lambda: executor.abandoned == 0)


def ours() -> set[threading.Thread]:
    """The threads of executors, among those that Trio and others start and end when they like."""
    return {thread for thread in threading.enumerate() if thread.name.startswith("engine-thread")}


async def test_leaving_ends_the_threads() -> None:
    before = ours()
    async with ThreadExecutor(4) as executor:
        async with anyio.create_task_group() as group:
            for _ in range(8):
                group.start_soon(executor.run, time.sleep, (0.001,))
        assert ours() - before

    assert not ours() - before


async def test_threads_start_when_needed_and_are_used_again() -> None:
    async with ThreadExecutor(8) as executor:
        used = {await executor.run(threading.get_ident) for _ in range(20)}

    assert len(used) == 1


async def test_a_function_may_run_a_loop_of_its_own() -> None:
    async def double(number: int) -> int:
        await anyio.lowlevel.checkpoint()
        return 2 * number

    async with ThreadExecutor(1) as executor:
        assert await executor.run(anyio.run, (double, 4)) == 8


async def test_an_idle_thread_keeps_nothing_of_its_last_call_alive() -> None:
    class State:
        pass

    async with ThreadExecutor(1) as executor:
        state = State()
        gone = weakref.ref(state)
        assert await executor.run(calls.identity, (state,)) is state
        del state
        with pytest.raises(TypeError):
            await executor.run(calls.add, (State(), 1))
        await executor.run(calls.pid)
        gc.collect()

        assert gone() is None


def test_the_interpreter_ends_while_an_abandoned_thread_goes_on() -> None:
    script = """if True:
        import threading
        import anyio
        from engine.executors import ThreadExecutor

        async def main():
            async with ThreadExecutor(1) as executor:
                with anyio.move_on_after(0.05):
                    await executor.run(threading.Event().wait)

        anyio.run(main)
        print("left")
    """
    ran = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, timeout=120, check=False)

    assert (ran.stdout, ran.stderr, ran.returncode) == ("left\n", "", 0)


def test_importing_the_executors_is_light() -> None:
    script = "import sys, engine.executors; print(*{'multiprocessing', 'trio', 'uvloop'} & {*sys.modules})"
    ran = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)

    assert ran.stdout == "\n"
