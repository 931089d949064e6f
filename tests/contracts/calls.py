"""Functions for executors to call. In a module of their own: a worker process imports what it is to run."""

import atexit
import contextlib
import ctypes
import os
import pickle
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NoReturn, Self

import anyio
import anyio.lowlevel
import sniffio


class Gate:
    """Lets a test see that functions have begun, wherever they run, and decide when they go on."""

    def __init__(self, folder: Path) -> None:
        self.path = str(folder)
        self._begun = self._open("begun")
        self._go = self._open("go")

    def _open(self, name: str) -> int:
        path = os.path.join(self.path, name)
        os.mkfifo(path)
        # For both directions, so that nobody sees an end before the gate is closed.
        return os.open(path, os.O_RDWR | os.O_NONBLOCK)

    async def begun(self, count: int = 1) -> list[int]:
        """Wait until so many more functions stand at the gate; their process ids."""
        text = ""
        while text.count("\n") < count:
            await anyio.wait_readable(self._begun)
            text += os.read(self._begun, 1000).decode()
        return [int(line) for line in text.split()]

    def go(self, count: int = 1) -> None:
        """Let so many of them go on."""
        os.write(self._go, b"x" * count)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        # First the paths, so that an abandoned thread that comes late fails instead of waiting for ever.
        for name in ("begun", "go"):
            os.unlink(os.path.join(self.path, name))
        for fd in (self._begun, self._go):
            os.close(fd)


def at_gate(folder: str, result: Any = None) -> Any:
    """Stand at the gate until let go."""
    arrive(folder)
    with open(os.path.join(folder, "go"), "rb", buffering=0) as go:
        go.read(1)
    return result


def arrive(folder: str) -> None:
    with open(os.path.join(folder, "begun"), "wb", buffering=0) as begun:
        begun.write(b"%d\n" % os.getpid())


def identity(value: Any) -> Any:
    return value


def add(a: int, b: int = 0, *, c: int = 0) -> int:
    return a + b + c


def pid() -> int:
    return os.getpid()


async def async_add(a: int, b: int) -> tuple[str, int]:
    await anyio.lowlevel.checkpoint()
    return backend(), a + b


def backend() -> str:
    return sniffio.current_async_library()


class Odd(Exception):
    """Takes other arguments than it passes on, so that plain pickling fails or garbles it."""

    def __init__(self, name: str, *, code: int) -> None:
        super().__init__(f"{name} is odd")
        self.name = name
        self.code = code


def fail_oddly() -> NoReturn:
    try:
        try:
            raise KeyError("first")
        except KeyError:
            raise OSError(2, "No such file", "second") from None
    except OSError as cause:
        error = Odd("third", code=3)
        error.add_note("a note")
        raise error from cause


def fail_in_context() -> NoReturn:
    try:
        raise KeyError("first")
    except KeyError:
        raise ValueError("second")  # noqa: B904  # the context is what is tested


def fail_twice() -> NoReturn:
    errors: list[Exception] = []
    for fail in (fail_oddly, fail_in_context):
        try:
            fail()
        except Exception as error:
            errors.append(error)
    raise ExceptionGroup("both", errors)


class Unpicklable:
    def __init__(self) -> None:
        self.lock = threading.Lock()


def give_unpicklable() -> dict[str, Any]:
    return {"fine": 1, "rows": [0, Unpicklable()]}


def raise_unpicklable() -> NoReturn:
    error = ValueError("cannot travel")
    error.it = Unpicklable()  # type: ignore[attr-defined]
    raise error


def raise_with_unpicklable_cause() -> NoReturn:
    cause = KeyError("cause")
    cause.it = Unpicklable()  # type: ignore[attr-defined]
    raise ValueError("travels") from cause


def make_lambda() -> Callable[[], None]:
    return lambda: None


def exit_with(code: int) -> NoReturn:
    os._exit(code)


def system_exit(code: int) -> NoReturn:
    sys.exit(code)


def kill_itself() -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def interrupt_itself() -> str:
    os.kill(os.getpid(), signal.SIGINT)
    os.kill(os.getpid(), signal.SIGTERM)
    return "unharmed"


def spin_in_c(folder: str) -> None:
    """Hold the interpreter's lock in C code, for ever: no thread and no signal handler of Python gets a turn."""
    arrive(folder)
    library = ctypes.PyDLL(None)  # unlike CDLL, it keeps the lock
    while True:
        library.sleep(1000)


def count_in_python(folder: str) -> None:
    """Go on writing, in small steps, until a file `enough` is there."""
    arrive(folder)
    with open(os.path.join(folder, "counted"), "ab", buffering=0) as counted:
        while not os.path.exists(os.path.join(folder, "enough")):
            counted.write(b"x")
            time.sleep(0.005)


def still_counts(folder: Path) -> bool:
    """Whether `count_in_python` goes on."""
    counted = folder / "counted"
    before = counted.stat().st_size if counted.exists() else 0
    time.sleep(0.1)
    return counted.exists() and counted.stat().st_size > before


def kill_and_count(path: str) -> None:
    """Say that this was called, and die."""
    with open(path, "ab", buffering=0) as count:
        count.write(b"x")
    os.kill(os.getpid(), signal.SIGKILL)


class SlowToArrive:
    """Gives its argument; takes long to be unpickled where it is to run, or to be called where nothing is pickled."""

    def __init__(self, seconds: float, *, arrived: bool = False) -> None:
        self.seconds = seconds
        self._arrived = arrived

    def __reduce__(self) -> Any:
        return _arrive_slowly, (self.seconds,)

    def __call__(self, value: Any) -> Any:
        if not self._arrived:
            time.sleep(self.seconds)
        return value


def _arrive_slowly(seconds: float) -> SlowToArrive:
    time.sleep(seconds)
    return SlowToArrive(seconds, arrived=True)


def double(state: dict[str, int]) -> dict[str, int]:
    return {"double": 2 * state["number"]}


def ignore_signals(folder: str) -> None:
    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
        signal.signal(number, signal.SIG_IGN)
    at_gate(folder)


def start_program(folder: str) -> None:
    """Start another program and wait for it."""
    with subprocess.Popen(["sleep", "1000"]) as program:
        Path(folder, "program").write_text(str(program.pid))
        at_gate(folder)


def fork_and_die(folder: str) -> None:
    """Leave a forked child behind, which has all of this process's files."""
    child = os.fork()
    if child == 0:
        time.sleep(1000)
    Path(folder, "child").write_text(str(child))
    os._exit(5)


def at_exit_write(path: str) -> None:
    atexit.register(Path(path).write_text, "ended well")


def loaded() -> set[str]:
    return set(sys.modules)


def read_stdin() -> str:
    return sys.stdin.read()


class Array:
    """Pickles like a numpy array: its memory travels beside the pickle."""

    def __init__(self, memory: Any) -> None:
        self.memory = memory

    def __reduce_ex__(self, protocol: Any) -> Any:
        return Array, (pickle.PickleBuffer(self.memory),)


def invert(array: Array) -> Array:
    memory = memoryview(array.memory)
    memory[0] = 255 - memory[0]
    return array


def is_alive(process_id: int) -> bool:
    """Whether a process is there and no zombie."""
    with contextlib.suppress(OSError):
        return Path(f"/proc/{process_id}/stat").read_text().rpartition(")")[2].split()[0] not in "ZX"
    return False


def open_files() -> Iterator[str]:
    for fd in os.listdir("/proc/self/fd"):
        with contextlib.suppress(OSError):
            yield fd + " " + os.readlink(f"/proc/self/fd/{fd}")
