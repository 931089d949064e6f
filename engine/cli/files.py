"""Reading what is named on a command line: never more of it than is wanted, and nothing that never ends.

A name may lead anywhere, to a device or a pipe too. So a file is opened without waiting for whoever writes it, and what
was opened must be a file with an end.
"""

from __future__ import annotations

import os
import stat
import sys
from pathlib import Path
from typing import Final

from .faults import Refusal

MOST_DATA_BYTES: Final = 64_000_000
"""Of a state, a payload or an update: it goes into every snapshot, and what is larger is better named than held."""
MOST_SETTINGS_BYTES: Final = 1_000_000
_FLAGS: Final = os.O_RDONLY | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_CLOEXEC", 0) | getattr(os, "O_BINARY", 0)


def read_file(file: Path, most: int, what: str = "", *advice: str) -> bytes:
    """All of a file; raises `Refusal` if it is none, larger, or cannot be read, and `FileNotFoundError`."""
    what = what or str(file)
    try:
        with open(os.open(file, _FLAGS), "rb") as opened:
            mode = os.fstat(opened.fileno()).st_mode
            if not stat.S_ISREG(mode):
                raise Refusal(f"{what} cannot be read: it is {_kind(mode)}, not a file", *advice)
            return _at_most(opened.read(most + 1), most, what)
    except FileNotFoundError:
        raise
    except IsADirectoryError:
        raise Refusal(f"{what} cannot be read: it is a folder, not a file") from None
    except ValueError as error:  # a null character in its name
        raise Refusal(f"{what} cannot be read: {error}") from None
    except OSError as error:
        raise Refusal(f"{what} cannot be read: {error.strerror or error}") from error


def read_stdin(most: int, what: str) -> bytes:
    """All of stdin; raises `Refusal` if it is closed, or longer."""
    if sys.stdin is None:
        raise Refusal(f"{what} cannot be read: stdin is closed", "give the text itself, or @FILE")
    return _at_most(sys.stdin.buffer.read(most + 1), most, what)


def _at_most(data: bytes, most: int, what: str) -> bytes:
    if len(data) > most:
        raise Refusal(f"{what} is longer than {most:,} bytes, which is the most that is read")
    return data


def _kind(mode: int) -> str:
    kinds = ((stat.S_ISDIR, "a folder"), (stat.S_ISFIFO, "a pipe"), (stat.S_ISSOCK, "a socket"))
    return next((name for is_kind, name in kinds if is_kind(mode)), "a device")
