"""One process at a time has a file, and whoever comes second is told who has it."""

import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import pytest

from engine.errors import StoreUnavailable
from engine.stores.sqlite import SqliteStore
from engine.stores.sqlite.lock import FileLock

ROOT = Path(__file__).parents[4]

HOLD = """
import sys
from engine.stores.sqlite.lock import FileLock
FileLock(sys.argv[1]).acquire()
print("held", flush=True)
sys.stdin.read()
"""

LEAVE_A_CHILD_BEHIND = """
import os, sys, time
from engine.stores.sqlite.lock import FileLock
FileLock(sys.argv[1]).acquire()
parent = os.getpid()
if os.fork():
    os._exit(0)
while os.getppid() == parent:
    time.sleep(0.001)
print("held", flush=True)
sys.stdin.read()
"""


@contextmanager
def program(code: str, *args: object) -> Iterator[subprocess.Popen[str]]:
    command: Sequence[str] = [sys.executable, "-c", code, *map(str, args)]
    with subprocess.Popen(command, cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "held\n"
        try:
            yield process
        finally:
            process.kill()


def errors_of(code: str, *args: object) -> str:
    command: Sequence[str] = [sys.executable, "-c", code, *map(str, args)]
    return subprocess.run(command, cwd=ROOT, stdin=subprocess.DEVNULL, capture_output=True, text=True).stderr


async def test_a_second_process_is_refused_with_the_file_and_the_process_that_has_it(tmp_path: Path) -> None:
    file = tmp_path / "runs.db"
    with program(HOLD, file) as process:
        with pytest.raises(StoreUnavailable) as raised:
            async with SqliteStore(file):
                pass
        assert raised.value.facts == {"file": str(file), "pid": str(process.pid)}
        assert f"the store {file} is in use by process {process.pid}" in str(raised.value)
        process.kill()
        process.wait()

        async with SqliteStore(file):
            pass


async def test_a_second_store_of_this_process_is_refused(tmp_path: Path) -> None:
    async with SqliteStore(tmp_path / "runs.db"):
        with pytest.raises(StoreUnavailable, match="in use by another store of this process"):
            async with SqliteStore(tmp_path / "runs.db"):
                pass

        # Not even trying gave the lock away.
        assert "in use by process" in errors_of(HOLD, tmp_path / "runs.db")


async def test_another_name_of_the_same_file_is_no_way_around(tmp_path: Path) -> None:
    (tmp_path / "link.db").symlink_to("runs.db")
    async with SqliteStore(tmp_path / "runs.db"):
        with pytest.raises(StoreUnavailable, match="in use"):
            async with SqliteStore(tmp_path / "link.db"):
                pass


def test_a_lock_is_not_left_with_a_forked_child(tmp_path: Path) -> None:
    lock = FileLock(str(tmp_path / "runs.db"))
    with program(LEAVE_A_CHILD_BEHIND, tmp_path / "runs.db"):
        lock.acquire()
        lock.release()


def test_a_lock_can_be_taken_again_once_it_was_given_back(tmp_path: Path) -> None:
    for _ in range(3):
        lock = FileLock(str(tmp_path / "runs.db"))
        lock.acquire()
        lock.acquire()
        lock.release()
        lock.release()


def test_who_has_the_lock_is_read_whole_whatever_stood_there_before(tmp_path: Path) -> None:
    (tmp_path / "runs.db.lock").write_text("12345678901234567890 and more\n")
    with program(HOLD, tmp_path / "runs.db") as process:
        with pytest.raises(StoreUnavailable) as raised:
            FileLock(str(tmp_path / "runs.db")).acquire()

        assert raised.value.facts["pid"] == str(process.pid)


async def test_a_store_that_could_not_be_opened_holds_no_lock(tmp_path: Path) -> None:
    file = tmp_path / "runs.db"
    file.write_text("this is not a database, " * 100)
    with pytest.raises(StoreUnavailable):
        async with SqliteStore(file):
            pass
    file.unlink()

    async with SqliteStore(file):
        pass
