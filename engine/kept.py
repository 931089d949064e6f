"""A stored run that this engine cannot drive: its graph is not here, or is another than the run began on."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Mapping
from time import time
from typing import TYPE_CHECKING, Any
from uuid import uuid4

from .errors import EngineError, RunEnded
from .handle import Run
from .history import Event, LogEntry
from .result import RunResult
from .runs import Status
from .stored import RunRow, SetStatus

if TYPE_CHECKING:
    from .durable import Durable


class Unrecoverable(EngineError):
    """A stored run cannot be brought back: its records are damaged, or do not fit its graph."""

    def __init__(self, run_id: str, cause: Exception) -> None:
        super().__init__(f"run {run_id!r} cannot be read back: {cause}")
        self.run_id = run_id
        self.__cause__ = cause


class KeptRun(Run):
    """It can be listed, signalled and cancelled; whatever needs its graph raises `why`."""

    __slots__ = ("_durable", "_live", "_row", "why")

    def __init__(self, durable: Durable, row: RunRow, why: Exception, live: Callable[[str], Run | None]) -> None:
        # Deliberately not Run's: there is no machine to hold.
        self._durable = durable
        self._row = row
        self._live = live
        """The run, if it goes on by now; if not, whoever brings it back reads it anew."""
        self.why = why
        self.id = row.run_id  # type: ignore[misc]  # Final, and set once here as well
        self.graph = row.graph  # type: ignore[misc]
        self.version = row.version  # type: ignore[misc]
        self.tags = dict(row.tags)  # type: ignore[misc]
        self.priority = row.priority  # type: ignore[misc]
        self.submitted_at = row.submitted_at  # type: ignore[misc]
        self.number = row.number  # type: ignore[misc]
        self.key = row.key

    @property
    def status(self) -> Status:
        """How it ended; `waiting` if it has not, since it waits for its graph."""
        return "waiting" if self._row.status == "running" else self._row.status

    @property
    def over(self) -> bool:
        return self._row.status != "running"

    @property
    def state(self) -> Any:
        raise self.why

    @property
    def log(self) -> list[LogEntry]:
        raise self.why

    @property
    def visited(self) -> list[str]:
        raise self.why

    @property
    def counters(self) -> dict[str, int]:
        raise self.why

    @property
    def log_dropped(self) -> int:
        raise self.why

    @property
    def visited_dropped(self) -> int:
        raise self.why

    @property
    def events_dropped(self) -> int:
        raise self.why

    def explain(self, node: str) -> str:
        """Why it does not go on."""
        return str(self.why)

    async def events(self, after: int = 0) -> AsyncIterator[Event]:
        raise self.why
        yield  # an async generator, as Run's is

    async def wait(self) -> Status:
        if not self.over:
            raise self.why
        return self.status

    async def result(self, timeout: float | None = None) -> RunResult:
        raise self.why

    async def cancel(self, reason: str | None = None) -> None:
        """End it: it will not go on, whatever is registered."""
        if not self.over:
            if (run := self._live(self.id)) is None:
                await self._durable.journal.write(SetStatus(self.id, "cancelled", time()))
                run = self._live(self.id)
            if run is not None:
                await run.cancel(reason)

    async def signal(self, name: str, payload: Any = None, id: str | None = None) -> None:
        """Keep the signal for when it goes on; whether a wait knows its name is seen then."""
        if self.over:
            raise RunEnded(self.id, self.status)
        id = uuid4().hex if id is None else id
        if (run := self._live(self.id)) is None:
            await self._durable.post(self.id, name, payload, id)
            run = self._live(self.id)
        if run is not None:
            await run.signal(name, payload, id)

    async def pause(self) -> None:
        raise self.why

    async def resume(self) -> None:
        raise self.why

    async def retry(self, update: Mapping[str, Any] | None = None) -> None:
        raise self.why

    def __repr__(self) -> str:
        return f"<KeptRun {self.id} of {self.graph!r}, {self.status}: {self.why}>"
