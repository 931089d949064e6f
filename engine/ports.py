"""What the engine needs of the world, as roles small enough to fake in ten lines."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from types import TracebackType
from typing import Any, Protocol, Self


class Executor(Protocol):
    """Runs functions outside the event loop: in a thread, in another process, on another machine.

    - It works between entering and leaving it as an async context manager. Leaving ends what it started: runs that
      are still going fail with `EngineClosed`, processes are gone, only a thread that was given up may be left.
    - At most its limit of calls run at once; others wait, first come first served, and cost nothing else.
    - All numbers are since it was entered, plain integers, and may be read at any time.
    - Where arguments are not copied on their way, it may say so: `shares_memory = True`. Elsewhere a function that a
      node runs is wrapped, so that what it does to its state in place is not lost.
    """

    async def run(self, function: Callable[..., Any], args: Sequence[Any] = (), kwargs: Mapping[str, Any] = {}) -> Any:
        """Call the function elsewhere and return its result, awaited there in a loop of its own if it is async.

        What the function raises is raised here: the same type, arguments, attributes, notes, cause and context, with
        the traceback of another process as a note. Besides, it raises `NotTransferable` if something cannot travel,
        `WorkerLost` if what ran it has died, `EngineClosed` outside the context manager.

        Cancelling it gives the work up: while it waits, nothing has happened; a process has been killed, with every
        process it started, and reaped once this has raised; a thread is left to itself, `abandoned` counts it until
        it ends, and its late result is dropped. Either way the place is free for the next call.
        """
        ...

    @property
    def limit(self) -> int:
        """How many calls run at once."""
        ...

    @property
    def running(self) -> int:
        """Calls that hold a place."""
        ...

    @property
    def waiting(self) -> int:
        """Calls that wait for a place."""
        ...

    @property
    def started(self) -> int:
        """Calls that have got a place so far."""
        ...

    @property
    def killed(self) -> int:
        """Workers killed because their call was cancelled."""
        ...

    @property
    def abandoned(self) -> int:
        """Calls given up that go on all the same, now."""
        ...

    @property
    def restarts(self) -> int:
        """Workers started in the place of one that was killed or died."""
        ...

    async def __aenter__(self) -> Self: ...

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None: ...
