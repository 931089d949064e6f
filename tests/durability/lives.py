"""Lives of a program in processes of their own, which are killed, and the lines that they leave in a file.

A process comes from a forkserver that has imported everything, so that a life costs some tens of milliseconds. What a
life tells is one write to a file that is open for appending: it is there even if the process is killed next. Killed in
the middle of it, where a page of the file ends, it leaves a piece of a line: so each is closed, and begins on a line of
its own. Otherwise the line after it is lost, by which the next life tells when it began.
"""

from __future__ import annotations

import multiprocessing
import os
import signal
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import attrs

# What a life is called, and where its lines go. Set once per process.
_lines: dict[str, int] = {}
_CLOSED = " ."

CONTEXT = multiprocessing.get_context("forkserver")
# In this order: the clock first, then what reads it.
CONTEXT.set_forkserver_preload(
    ["tests.durability.steady", "tests.durability.under_load", "tests.durability.program", "trio", "uvloop"]
)


def open_lines(file: str | Path, life: int) -> None:
    """From here on `note` writes there."""
    _lines.update(file=os.open(file, os.O_WRONLY | os.O_CREAT | os.O_APPEND), life=life)


def note(*words: object) -> None:
    """One line, in one write."""
    os.write(_lines["file"], f"\n{_lines['life']} {' '.join(map(str, words))}{_CLOSED}".encode())


@attrs.frozen
class Line:
    """What a life told."""

    life: int
    what: str
    words: list[str]


def lines_of(file: Path) -> Iterator[Line]:
    """All that was told, in order."""
    for line in file.read_text().split("\n") if file.exists() else ():
        if line.endswith(_CLOSED):
            life, what, *words = line.removesuffix(_CLOSED).split(" ")
            yield Line(int(life), what, words)


def start(target: Callable[..., None], *args: Any) -> Any:
    """A life has begun."""
    process = CONTEXT.Process(target=target, args=args)
    process.start()
    return process


def has_ended_well(process: Any, seconds: float = 60.0) -> bool:
    """Wait for a life to end, in order or killed; what else it may end with is an error."""
    process.join(seconds)
    if process.exitcode is None:
        process.kill()
        process.join()
        raise AssertionError(f"a life did not end within {seconds:g} s")
    assert process.exitcode in (0, -signal.SIGKILL), f"a life ended with {process.exitcode}"
    return bool(process.exitcode == 0)
