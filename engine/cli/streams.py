"""stdin, stdout and stderr as whoever started the command left them: closed, full, or with nobody who reads.

What is for people must never decide over a run: once stderr takes nothing more, all that is said is dropped. What is
asked for is on stdout: if that takes it not, the command says so by an exit code of its own.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from typing import Any, Final, TextIO, cast

UNWRITTEN: Final = 74
"""The exit code if what was asked for could not be written: EX_IOERR of sysexits.h."""
UNREAD: Final = 141
"""The exit code if whoever read it has gone: that of a program that SIGPIPE ends, as `yes | head` leaves it."""


class OutputLost(Exception):
    """Something that was to go to stdout, or to a file that was named, could not be written."""

    def __init__(self, message: str, *advice: str, code: int = UNWRITTEN) -> None:
        super().__init__(message)
        self.advice = advice
        self.code = code

    @classmethod
    def of(cls, error: OSError, where: str = "stdout") -> OutputLost:
        """What that error means."""
        reason = error.strerror or str(error)
        code = UNREAD if isinstance(error, BrokenPipeError) else UNWRITTEN
        return cls(f"{where} cannot be written: {reason}", code=code)


class Guarded:
    """A stream of which whatever it cannot write is told, and which writes to nowhere from then on."""

    def __init__(self, stream: TextIO, broken: Callable[[OSError], None]) -> None:
        self._stream = stream
        self._broken = broken
        self.shared: list[int] = []
        """Descriptors that are the same stream."""

    def write(self, text: str) -> int:
        """As the stream does it."""
        if text == "":
            return 0  # click tries by this what kind of stream it is, and ignores what it raises
        try:
            return self._stream.write(text)
        except OSError as error:
            self._drop(error)
        return len(text)

    def writelines(self, lines: Any) -> None:
        """As the stream does it."""
        for line in lines:
            self.write(line)

    def flush(self) -> None:
        """As the stream does it."""
        try:
            self._stream.flush()
        except OSError as error:
            self._drop(error)

    def _drop(self, error: OSError) -> None:
        with suppress(OSError, ValueError):
            to_nowhere(self._stream.fileno(), *self.shared)
        self._broken(error)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)


def to_nowhere(*descriptors: int) -> None:
    """Have whatever is written there vanish; or the interpreter would fail when it flushes what is left at its end."""
    null = os.open(os.devnull, os.O_RDWR)
    for descriptor in descriptors:
        os.dup2(null, descriptor)
    os.close(null)


@contextmanager
def guarded() -> Iterator[None]:
    """Have streams that write, or say why not, whatever they were; there may still be no stdout."""
    _reserve_descriptors()
    out, errors = sys.stdout, sys.stderr
    if errors is None:
        sys.stderr = open(os.devnull, "w", encoding="utf-8")  # noqa: SIM115  # as long as the process
    sys.stderr = cast(TextIO, Guarded(sys.stderr, lambda error: None))
    if out is not None:
        sys.stdout = cast(TextIO, Guarded(out, _lost))
    try:
        yield
    finally:
        sys.stdout = out
        if errors is not None:
            sys.stderr = errors


def require_stdout() -> None:
    """Refuse to begin where what is asked for could not be given; raises `OutputLost`."""
    if sys.stdout is None:
        raise OutputLost(
            "stdout is closed, so nothing has been done: what it gives could go nowhere",
            "if that is not wanted: >/dev/null",
        )


def _lost(error: OSError) -> None:
    raise OutputLost.of(error) from error


def _reserve_descriptors() -> None:
    """Open those that are closed to nowhere: or a store's file would become the stdout of what nodes start."""
    for descriptor in range(3):
        try:
            os.fstat(descriptor)
        except OSError:
            null = os.open(os.devnull, os.O_RDWR)
            if null != descriptor:
                os.dup2(null, descriptor)
                os.close(null)
            else:
                os.set_inheritable(null, True)


@contextmanager
def sharing_stderr(descriptor: int) -> Iterator[None]:
    """Know that this descriptor is stderr too: it vanishes together with it."""
    shared = getattr(sys.stderr, "shared", [])
    shared.append(descriptor)
    try:
        yield
    finally:
        shared.remove(descriptor)
