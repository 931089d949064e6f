"""Calls that block, in threads, from whichever event loop: reading and writing the contents of files.

No more at once than a disk or a connection makes use of, so that ten thousand files are no ten thousand threads. What
anyio needs for threads is imported by whoever has files to read: `import engine` must stay light.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final, TypeVar

import anyio
from anyio.lowlevel import RunVar

T = TypeVar("T")

AT_ONCE: Final = 8

_limiter: Final[RunVar[anyio.CapacityLimiter]] = RunVar("workflow_engine_file_threads")


async def in_thread(call: Callable[..., T], *args: Any, abandon: bool = False) -> T:
    """What the call gives. Cancelling waits for it, unless it may be abandoned: then its result is dropped."""
    import anyio.to_thread

    try:
        limiter = _limiter.get()
    except LookupError:
        limiter = anyio.CapacityLimiter(AT_ONCE)
        _limiter.set(limiter)
    return await anyio.to_thread.run_sync(call, *args, abandon_on_cancel=abandon, limiter=limiter)


def check_wanted() -> None:
    """In such a thread: raise if whoever called has been cancelled, for calls that take long."""
    import anyio.from_thread

    anyio.from_thread.check_cancelled()
