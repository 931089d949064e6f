"""A stored run that this engine cannot drive: its graph is not here, or is another than the run began on."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from time import time
from typing import TYPE_CHECKING, Any

import attrs

from .errors import EngineError, RunEnded
from .file import File
from .handle import Run
from .history import LogEntry
from .ids import new_id
from .reader import EventReader
from .result import RunResult
from .runs import Status
from .stored import RunRow, SetStatus
from .submitting import refuse, signal_faults

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

    __slots__ = ("_changes", "_durable", "_live", "_row", "why")

    def __init__(
        self,
        durable: Durable,
        row: RunRow,
        why: Exception,
        *,
        live: Callable[[str], Run | None],
        changes: Callable[[str], None],
    ) -> None:
        # Deliberately not Run's: there is no machine to hold.
        self._durable = durable
        self._row = row
        self._live = live
        """The run, if it goes on by now."""
        self._changes = changes
        """Has whoever brings it back meanwhile read it anew."""
        self.why = why
        self.id = row.run_id  # type: ignore[misc]  # Final, and set once here as well
        self.graph = row.graph  # type: ignore[misc]
        self.version = row.version  # type: ignore[misc]
        self.tags = dict(row.tags)  # type: ignore[misc]
        self.priority = row.priority  # type: ignore[misc]
        self.submitted_at = row.submitted_at  # type: ignore[misc]
        self.number = row.number  # type: ignore[misc]
        self.key = row.key

    def _alive(self) -> Run | None:
        """The run itself, if its graph has come meanwhile: what is asked of this handle is for that one then."""
        alive = self._live(self.id)
        return None if isinstance(alive, KeptRun) else alive

    def _known(self) -> Run:
        alive = self._alive()
        if alive is None:
            raise self.why
        return alive

    @property
    def status(self) -> Status:
        """How it ended; `waiting` if it has not, since it waits for its graph."""
        if (alive := self._alive()) is not None:
            return alive.status
        return "waiting" if self._row.status == "running" else self._row.status

    @property
    def over(self) -> bool:
        if (alive := self._alive()) is not None:
            return alive.over
        return self._row.status != "running"

    @property
    def error(self) -> Exception | None:
        return self._known().error

    @property
    def state(self) -> Any:
        return self._known().state

    @property
    def files(self) -> tuple[File, ...]:
        return self._known().files

    @property
    def log(self) -> list[LogEntry]:
        return self._known().log

    @property
    def visited(self) -> list[str]:
        return self._known().visited

    @property
    def counters(self) -> dict[str, int]:
        return self._known().counters

    @property
    def log_dropped(self) -> int:
        return self._known().log_dropped

    @property
    def visited_dropped(self) -> int:
        return self._known().visited_dropped

    @property
    def events_dropped(self) -> int:
        return self._known().events_dropped

    def explain(self, node: str) -> str:
        """Why it does not go on."""
        alive = self._alive()
        return str(self.why) if alive is None else alive.explain(node)

    def reader(self, after: int = 0) -> EventReader:
        return self._known().reader(after)

    async def wait(self) -> Status:
        if (alive := self._alive()) is not None:
            return await alive.wait()
        if not self.over:
            raise self.why
        return self.status

    async def result(self, timeout: float | None = None) -> RunResult:
        return await self._known().result(timeout)

    async def cancel(self, reason: str | None = None) -> None:
        """End it: it will not go on, whatever is registered."""
        if (alive := self._alive()) is not None:
            await alive.cancel(reason)
        elif not self.over:
            now = time()
            self._changes(self.id)
            await self._durable.journal.write(SetStatus(self.id, "cancelled", now))
            self._row = attrs.evolve(self._row, status="cancelled", ended_at=now)
            if (alive := self._alive()) is not None:
                await alive.cancel(reason)

    async def signal(self, name: str, payload: Any = None, id: str | None = None) -> None:
        """Keep the signal for when it goes on; whether a wait knows its name is seen then."""
        if (alive := self._alive()) is not None:
            await alive.signal(name, payload, id)
            return
        refuse("signal", signal_faults(name, id))
        if self.over:
            stored = None if id is None else await self._durable.load(self.id)
            if id is not None and stored is not None and stored.was_signalled(id):
                return  # it is the same signal, whose sender was never told
            raise RunEnded(self.id, self.status)
        id = new_id() if id is None else id
        self._changes(self.id)
        await self._durable.post(self.id, name, payload, id)
        if (alive := self._alive()) is not None:
            await alive.signal(name, payload, id)

    async def pause(self) -> None:
        await self._known().pause()

    async def resume(self) -> None:
        await self._known().resume()

    async def retry(self, update: Mapping[str, Any] | None = None) -> None:
        await self._known().retry(update)

    def __repr__(self) -> str:
        return f"<KeptRun {self.id} of {self.graph!r}, {self.status}: {self.why}>"
