"""New ids: 32 hex digits, twelve of which are the time in milliseconds, and 80 bits of chance that nobody can guess.

The time comes first so that an index of a store grows at its end: of a commit with the admissions of sixteen runs,
ids of chance alone touched sixteen pages of the index of runs, and sixteen more of that of the audit log.

Asking the system for chance lets go of the interpreter, which another thread that waits for it then takes: for some
bytes a loop beside a busy writer waited longer than for anything else of a request. So it is asked for many at once.
"""

from __future__ import annotations

import os
from time import time_ns
from typing import Final

_AT_ONCE: Final = 256
_CHANCE: Final = 20

_ready: Final[list[str]] = []


def new_id() -> str:
    """An id that was never given before; for any thread."""
    while True:
        try:
            chance = _ready.pop()
        except IndexError:
            digits = os.urandom(_AT_ONCE * _CHANCE // 2).hex()
            _ready.extend(digits[at : at + _CHANCE] for at in range(0, len(digits), _CHANCE))
        else:
            return f"{time_ns() // 1_000_000:012x}{chance}"


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_ready.clear)  # or two processes would give the same ones
