"""New ids: 32 hex digits, of chance that nobody can guess.

Asking the system for chance lets go of the interpreter, which another thread that waits for it then takes: for some
16 bytes a loop beside a busy writer waited longer than for anything else of a request. So it is asked for many at once.
"""

from __future__ import annotations

import os
from typing import Final

_AT_ONCE: Final = 256
_DIGITS: Final = 32

_ready: Final[list[str]] = []


def new_id() -> str:
    """An id that was never given before; for any thread."""
    while True:
        try:
            return _ready.pop()
        except IndexError:
            chance = os.urandom(_AT_ONCE * _DIGITS // 2).hex()
            _ready.extend(chance[at : at + _DIGITS] for at in range(0, len(chance), _DIGITS))


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_ready.clear)  # or two processes would give the same ones
