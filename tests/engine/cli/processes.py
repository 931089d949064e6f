"""The command as a real process: in a pipe, and on a terminal that the test holds the other end of."""

from __future__ import annotations

import fcntl
import os
import pty
import re
import select
import struct
import subprocess
import sys
import termios
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import TracebackType
from typing import Self

ROOT = Path(__file__).parents[3]
PATIENCE = 120.0

# Makes the terminal on stdin the one that sends ^C, which a new session has to do for itself, and becomes the command.
_TAKE_TERMINAL = (
    "import fcntl, os, sys, termios; fcntl.ioctl(0, termios.TIOCSCTTY, 0); os.execv(sys.argv[1], sys.argv[1:])"
)


def environment() -> dict[str, str]:
    """Without what a developer may have set, and with this source in front."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith("WORKFLOW_")}
    return {**kept, "PYTHONPATH": str(ROOT), "TERM": "xterm-256color", "PYTHONUNBUFFERED": "1"}


def command(*words: str) -> list[str]:
    return [sys.executable, "-W", "error", "-m", "engine", *words]


def run(folder: Path, *words: str, input: str = "", **variables: str) -> subprocess.CompletedProcess[str]:
    """Run it to its end, with pipes."""
    return subprocess.run(
        command(*words),
        cwd=folder,
        env={**environment(), **variables},
        input=input,
        capture_output=True,
        text=True,
        timeout=PATIENCE,
    )


@contextmanager
def started(folder: Path, *words: str) -> Iterator[subprocess.Popen[str]]:
    """Start it, with pipes; it is gone when this is left."""
    with subprocess.Popen(
        command(*words), cwd=folder, env=environment(), stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as process:
        try:
            yield process
        finally:
            process.kill()


class OnTerminal:
    """A command whose stderr (and stdin, and stdout unless it goes elsewhere) is a terminal."""

    def __init__(self, folder: Path, *words: str, stdout: Path | None = None, rows: int = 40) -> None:
        self._folder = folder
        self._words = words
        self._stdout = stdout
        self._rows = rows
        self.seen = ""

    def __enter__(self) -> Self:
        self._master, slave = pty.openpty()
        fcntl.ioctl(slave, termios.TIOCSWINSZ, struct.pack("HHHH", self._rows, 120, 0, 0))
        out = slave if self._stdout is None else os.open(self._stdout, os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
        self.process = subprocess.Popen(
            [sys.executable, "-c", _TAKE_TERMINAL, *command(*self._words)],
            cwd=self._folder,
            env=environment(),
            stdin=slave,
            stdout=out,
            stderr=slave,
            start_new_session=True,
        )
        for descriptor in {slave, out}:
            os.close(descriptor)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        if self.process.poll() is None:
            self.process.kill()
        self.process.wait()
        os.close(self._master)

    @property
    def text(self) -> str:
        """What has been written, without colours and movements."""
        return re.sub(r"\x1b\[[0-9;?]*[a-zA-Z]", "", self.seen).replace("\r", "")

    def wait_for(self, pattern: str) -> re.Match[str]:
        """Read on until this has been written."""
        until = time.monotonic() + PATIENCE
        while not (found := re.search(pattern, self.text)):
            assert time.monotonic() < until, self.text
            assert self._read(0.1) or self.process.poll() is None or self._read(0.1), self.text
        return found

    def press_ctrl_c(self) -> None:
        os.write(self._master, b"\x03")

    def is_pending(self, number: int) -> bool:
        """Whether the process has yet to take a signal that it was sent: another of the same would be none."""
        (pending,) = re.findall(r"^ShdPnd:\s(\w+)$", Path(f"/proc/{self.process.pid}/status").read_text(), re.MULTILINE)
        return bool(int(pending, 16) >> (number - 1) & 1)

    def wait(self) -> int:
        """Read on until it has ended, and give its exit code."""
        until = time.monotonic() + PATIENCE
        while self.process.poll() is None:
            assert time.monotonic() < until, self.text
            self._read(0.02)
        while self._read(0.02):
            pass
        return self.process.wait()

    def kill(self) -> None:
        self.process.kill()
        self.process.wait()

    def _read(self, seconds: float) -> bool:
        ready, _, _ = select.select([self._master], [], [], seconds)
        if not ready:
            return False
        try:
            data = os.read(self._master, 65536)
        except OSError:  # the other end is closed
            return False
        self.seen += data.decode(errors="replace")
        return bool(data)
