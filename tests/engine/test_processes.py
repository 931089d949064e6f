"""What is special about functions that run in worker processes: they really end, and only what must travel does."""

import os
import signal
import subprocess
import sys
import textwrap
from collections.abc import Callable
from pathlib import Path
from typing import Any

import anyio
import anyio.lowlevel
import pytest

from engine.errors import EngineClosed, NotTransferable, WorkerLost
from engine.executors import ProcessExecutor
from tests.contracts import calls
from tests.contracts.calls import Gate, is_alive

ROOT = Path(__file__).parent.parent.parent


def exists(pid: int) -> bool:
    """Whether there is a process of this number, be it a zombie."""
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return True


def ran(script: str | Path, *args: str, **options: Any) -> subprocess.CompletedProcess[str]:
    """Run a script, given as a file or as text, in a new interpreter."""
    run = [str(script)] if isinstance(script, Path) else ["-c", textwrap.dedent(script)]
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    return subprocess.run(
        [sys.executable, *run, *args],
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
        env=environment,
        **options,
    )


async def wait_until(condition: Callable[[], bool]) -> None:
    """For what another process does in its own time."""
    with anyio.fail_after(60):
        while not condition():  # noqa: ASYNC110  # nothing else would tell
            await anyio.sleep(0.001)


async def cancelled_at_gate(executor: ProcessExecutor, function: Callable[..., Any], gate: Gate) -> int:
    """Cancel a call once it has begun, and tell the number of the process that it ran in."""
    async with anyio.create_task_group() as group:
        group.start_soon(executor.run, function, (gate.path,))
        [pid] = await gate.begun()
        group.cancel_scope.cancel()
    return pid


# --- the end of a worker --------------------------------------------------------------------------------


@pytest.mark.parametrize("function", [calls.at_gate, calls.spin_in_c, calls.ignore_signals])
async def test_a_cancelled_calls_process_is_gone(function: Callable[..., Any], tmp_path: Path) -> None:
    with Gate(tmp_path) as gate:
        async with ProcessExecutor(1) as executor:
            pid = await cancelled_at_gate(executor, function, gate)

            assert not exists(pid)
            assert (executor.killed, executor.running, executor.abandoned, executor.restarts) == (1, 0, 0, 0)
            assert await executor.run(calls.identity, (1,)) == 1
            assert executor.restarts == 1


async def test_a_cancelled_calls_programs_are_killed_with_it(tmp_path: Path) -> None:
    with Gate(tmp_path) as gate:
        async with ProcessExecutor(1) as executor:
            await cancelled_at_gate(executor, calls.start_program, gate)

    program = int((tmp_path / "program").read_text())
    await wait_until(lambda: not is_alive(program))  # it is killed at once, but not ours to reap


@pytest.mark.parametrize(
    ("function", "args", "exit_code", "told"),
    [
        (calls.exit_with, (3,), 3, "exited with code 3"),
        (calls.system_exit, (4,), 4, "exited with code 4"),
        (calls.kill_itself, (), -9, r"was killed by signal SIGKILL \(out of memory\?\)"),
    ],
)
async def test_a_worker_that_dies_by_itself_is_lost_and_replaced(
    function: Callable[..., Any], args: tuple[int, ...], exit_code: int, told: str
) -> None:
    async with ProcessExecutor(1) as executor:
        pid = await executor.run(calls.pid)
        with pytest.raises(
            WorkerLost, match=f"{told} while it ran 'tests.contracts.calls.{function.__name__}'"
        ) as lost:
            await executor.run(function, args)

        assert (lost.value.pid, lost.value.exit_code) == (pid, exit_code)
        assert not exists(pid)
        assert await executor.run(calls.pid) != pid
        assert (executor.killed, executor.restarts) == (0, 1)


async def test_a_worker_is_lost_although_a_forked_child_lives_on(tmp_path: Path) -> None:
    async with ProcessExecutor(1) as executor:
        with anyio.fail_after(60), pytest.raises(WorkerLost, match="exited with code 5"):
            await executor.run(calls.fork_and_die, (str(tmp_path),))

    child = int((tmp_path / "child").read_text())
    await wait_until(lambda: not is_alive(child))


async def test_a_worker_that_died_while_idle_is_replaced_without_a_word() -> None:
    async with ProcessExecutor(1) as executor:
        pid = await executor.run(calls.pid)
        os.kill(pid, signal.SIGKILL)
        await wait_until(lambda: not is_alive(pid))

        assert await executor.run(calls.pid) != pid
        assert executor.restarts == 1


async def test_signals_to_end_are_for_the_parent() -> None:
    async with ProcessExecutor(1) as executor:
        assert await executor.run(calls.interrupt_itself) == "unharmed"
        assert os.getpgid(await executor.run(calls.pid)) != os.getpgid(0)


async def test_leaving_lets_idle_workers_clean_up_and_reaps_them(tmp_path: Path) -> None:
    async with ProcessExecutor(2) as executor:
        await executor.run(calls.at_exit_write, (str(tmp_path / "note"),))
        pid = await executor.run(calls.pid)

    assert (tmp_path / "note").read_text() == "ended well"
    assert not exists(pid)


async def test_leaving_kills_busy_workers(tmp_path: Path) -> None:
    async def call() -> None:
        with pytest.raises(EngineClosed):
            await executor.run(calls.spin_in_c, (gate.path,))

    with Gate(tmp_path) as gate:
        async with anyio.create_task_group() as group:
            async with ProcessExecutor(1) as executor:
                group.start_soon(call)
                [pid] = await gate.begun()

            assert not exists(pid)


async def test_leaving_when_cancelled_reaps_as_well() -> None:
    with anyio.CancelScope() as scope:
        async with ProcessExecutor(1) as executor:
            pid = await executor.run(calls.pid)
            scope.cancel()

    assert not exists(pid)


@pytest.mark.parametrize("function", ["pid", "spin_in_c"])
def test_workers_die_with_a_parent_that_is_killed(function: str, tmp_path: Path) -> None:
    script = f"""if True:
        import os, sys, anyio
        from engine.executors import ProcessExecutor
        from tests.contracts import calls

        async def main():
            async with ProcessExecutor(1) as executor:
                print(await executor.run(calls.pid), flush=True)
                if {function!r} == "spin_in_c":
                    async with anyio.create_task_group() as group:
                        group.start_soon(executor.run, calls.spin_in_c, ({str(tmp_path)!r},))
                        await anyio.wait_readable(os.open({str(tmp_path / "begun")!r}, os.O_RDWR))
                        os.kill(os.getpid(), 9)
                os.kill(os.getpid(), 9)

        anyio.run(main)
    """
    with Gate(tmp_path):
        parent = ran(script, cwd=ROOT)

    assert parent.returncode == -9
    assert parent.stderr == ""
    anyio.run(wait_until, lambda: not is_alive(int(parent.stdout)))


# --- what travels ---------------------------------------------------------------------------------------


async def test_a_worker_is_used_again() -> None:
    async with ProcessExecutor(4) as executor:
        assert len({await executor.run(calls.pid) for _ in range(10)}) == 1
        assert executor.restarts == 0


async def test_the_remote_traceback_is_a_note() -> None:
    async with ProcessExecutor(1) as executor:
        with pytest.raises(calls.Odd) as raised:
            await executor.run(calls.fail_oddly)

    note = raised.value.__notes__[-1]
    assert note.startswith("in worker process ")
    assert "in fail_oddly" in note
    assert "worker.py" not in note


async def test_large_values_travel_both_ways_while_the_loop_goes_on() -> None:
    turns = 0

    async def count() -> None:
        nonlocal turns
        while True:
            await anyio.lowlevel.checkpoint()
            turns += 1

    value = {"bytes": bytes(30_000_000), "text": "ä" * 1_000_000, "many": list(range(100_000))}
    async with ProcessExecutor(1) as executor, anyio.create_task_group() as group:
        await executor.run(calls.pid)
        group.start_soon(count)
        assert await executor.run(calls.identity, (value,)) == value
        group.cancel_scope.cancel()

    assert turns > 50


@pytest.mark.parametrize("size", [1, 1000, 1_000_000])
async def test_arrays_travel_beside_the_pickle_and_stay_writable(size: int) -> None:
    async with ProcessExecutor(1) as executor:
        back = await executor.run(calls.invert, (calls.Array(bytearray(size)),))

    assert bytes(back.memory) == b"\xff" + bytes(size - 1)
    back.memory[0] = 1


@pytest.mark.parametrize(
    ("function", "name"),
    [(lambda: None, "<lambda>"), (calls.make_lambda(), "make_lambda.<locals>.<lambda>")],
)
async def test_a_function_without_an_importable_name_is_refused(function: Callable[..., Any], name: str) -> None:
    async with ProcessExecutor(1) as executor:
        with pytest.raises(NotTransferable, match="top level of a module") as refused:
            await executor.run(function)

        assert (refused.value.what, refused.value.function.endswith(name)) == ("function", True)
        assert executor.started == 0


async def test_an_argument_that_cannot_travel_is_named() -> None:
    state = {"fine": 1, "rows": [1, {"it": calls.Unpicklable()}]}
    async with ProcessExecutor(1) as executor:
        with pytest.raises(NotTransferable) as refused:
            await executor.run(calls.identity, (state,))

    assert refused.value.what == "arguments"
    assert refused.value.where == "args[0]['rows'][1]['it'].lock (of type _thread.lock)"


async def test_a_result_that_cannot_travel_is_named() -> None:
    async with ProcessExecutor(1) as executor:
        with pytest.raises(NotTransferable, match="return plain data") as refused:
            await executor.run(calls.give_unpicklable)

        assert (refused.value.what, refused.value.where) == (
            "result",
            "result['rows'][1].lock (of type _thread.lock)",
        )
        assert await executor.run(calls.identity, (1,)) == 1


async def test_an_exception_that_cannot_travel_is_named() -> None:
    async with ProcessExecutor(1) as executor:
        with pytest.raises(NotTransferable, match="cannot travel") as refused:
            await executor.run(calls.raise_unpicklable)

    assert refused.value.what == "exception"
    assert refused.value.where == "ValueError.it.lock (of type _thread.lock): cannot travel"


async def test_an_exception_travels_without_a_cause_that_cannot() -> None:
    async with ProcessExecutor(1) as executor:
        with pytest.raises(ValueError, match="travels") as raised:
            await executor.run(calls.raise_with_unpicklable_cause)

    assert raised.value.__cause__ is None
    assert "KeyError: 'cause'" in raised.value.__notes__[-1]


async def test_a_module_that_the_worker_cannot_find_is_told() -> None:
    def function() -> None: ...

    function.__module__ = function.__qualname__ = "made_up"
    module = type(sys)("made_up")
    module.made_up = function  # type: ignore[attr-defined]
    sys.modules["made_up"] = module
    try:
        async with ProcessExecutor(1) as executor:
            with pytest.raises(NotTransferable, match="No module named 'made_up'"):
                await executor.run(function)
    finally:
        del sys.modules["made_up"]


# --- the worker's surroundings --------------------------------------------------------------------------


async def test_a_worker_loads_no_more_than_its_function_needs() -> None:
    async with ProcessExecutor(1) as executor:
        loaded = await executor.run(eval, ("{*__import__('sys').modules}",))

    assert not {"anyio", "asyncio", "attrs", "engine", "trio"} & loaded
    assert len(loaded) < 100


async def test_a_worker_reads_nothing_from_the_parents_terminal() -> None:
    async with ProcessExecutor(1) as executor:
        assert await executor.run(calls.read_stdin) == ""


def test_prints_go_where_the_parents_go_and_harm_nothing() -> None:
    script = """if True:
        import os, anyio
        from engine.executors import ProcessExecutor

        async def main():
            async with ProcessExecutor(1) as executor:
                await executor.run(print, ("printed",))
                assert await executor.run(os.write, (1, b"written\\n")) == 8
                assert await executor.run(os.write, (2, b"complained\\n")) == 11

        anyio.run(main)
    """
    parent = ran(script)

    assert (parent.stdout, parent.stderr) == ("printed\nwritten\n", "complained\n")


def script_with(body: str, folder: Path, *, guard: bool = True) -> Path:
    file = folder / "script.py"
    start = 'if __name__ == "__main__":\n    anyio.run(main)\n' if guard else "anyio.run(main)\n"
    head = "import anyio, sys\nfrom engine.executors import ProcessExecutor\n"
    file.write_text(head + textwrap.dedent(body) + start)
    return file


def test_functions_and_classes_of_a_script_work(tmp_path: Path) -> None:
    body = """
        print("imported as", __name__, flush=True)

        class Mine(Exception):
            pass

        class Box:
            pass

        def fail(box):
            assert type(box) is Box
            raise Mine("mine", box)

        async def main():
            async with ProcessExecutor(1) as executor:
                await executor.run(len, ("",))
                print("without", flush=True)
                try:
                    await executor.run(fail, (Box(),))
                except Mine as error:
                    print("caught", error.args[0], type(error.args[1]) is Box)
    """
    parent = ran(script_with(body, tmp_path))

    assert parent.stderr == ""
    assert parent.stdout.splitlines() == [
        "imported as __main__",
        "without",
        "imported as __mp_main__",
        "caught mine True",
    ]


def test_functions_of_a_module_that_is_run_work(tmp_path: Path) -> None:
    body = """
        def double(number):
            return 2 * number

        async def main():
            async with ProcessExecutor(1) as executor:
                print(await executor.run(double, (4,)))
    """
    script_with(body, tmp_path)
    parent = ran('import runpy; runpy.run_module("script", run_name="__main__", alter_sys=True)', cwd=tmp_path)

    assert (parent.stdout, parent.stderr) == ("8\n", "")


def test_a_script_without_a_guard_is_told_what_to_do(tmp_path: Path) -> None:
    body = """
        def double(number):
            return 2 * number

        async def main():
            async with ProcessExecutor(1) as executor:
                print(await executor.run(double, (4,)))
    """
    parent = ran(script_with(body, tmp_path, guard=False))

    assert parent.stdout == ""
    assert "NotTransferable: the function '__main__.double'" in parent.stderr
    assert 'under `if __name__ == "__main__":`' in parent.stderr


def test_a_function_of_an_interactive_session_is_refused() -> None:
    script = """if True:
        import anyio
        from engine.executors import ProcessExecutor
        from engine.errors import NotTransferable

        def double(number):
            return 2 * number

        async def main():
            async with ProcessExecutor(1) as executor:
                try:
                    await executor.run(double, (4,))
                except NotTransferable as error:
                    print(error)

        anyio.run(main)
    """
    parent = ran(script)

    assert "'__main__.double' cannot travel" in parent.stdout
    assert "interactive session" in parent.stdout
    assert "top level of a module" in parent.stdout
