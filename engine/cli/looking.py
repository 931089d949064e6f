"""Looking at the runs of a store without driving any: nothing here claims a store, or writes to it."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from time import time
from typing import Any, Final, TypeVar

import attrs

from ..errors import EngineError, GraphNotFound, RunNotFound, VersionMismatch
from ..format import unpack_record
from ..graph import Graph
from ..history import History, LogEntry
from ..identity import definition_digest, definition_text
from ..past import log_rows
from ..plan import Plan
from ..ports import Store
from ..recovery import Found, blobs_of, found
from ..runs import Run as Machine
from ..stored import Query, RunRow, StoredStatus
from ..stores import open_store
from .faults import told
from .reading import shown_time

T = TypeVar("T")

ENDED: Final = ("succeeded", "failed", "cancelled")
UNFINISHED: Final = "unfinished"
"""Of a run that has not ended, as far as a store knows: whether it ran, waited or was paused, only its records tell."""


async def at_store(url: str, act: Callable[[Store], Awaitable[T]]) -> T:
    """Open a store, do that, and close it."""
    async with open_store(url) as store:
        return await act(store)


def row_to_dict(row: RunRow) -> dict[str, Any]:
    """What a store knows of a run, as data."""
    return {
        "run_id": row.run_id,
        "graph": row.graph,
        "version": row.version,
        "status": status_of(row),
        "submitted_at": shown_time(row.submitted_at),
        "ended_at": shown_time(row.ended_at),
        "seconds": None if row.ended_at is None else round(row.ended_at - row.submitted_at, 3),
        "tags": dict(row.tags),
        "priority": row.priority,
        "key": row.key,
        "deadline": row.deadline,
    }


def status_of(row: RunRow) -> str:
    """How it ended, or that it has not."""
    return UNFINISHED if row.status == "running" else row.status


async def list_runs(url: str, query: Query) -> Sequence[RunRow]:
    """The rows that match."""
    return await at_store(url, lambda store: store.find(query))


def stored_statuses(given: Sequence[str]) -> tuple[StoredStatus, ...]:
    """Those that a store knows by these names."""
    known: dict[str, StoredStatus] = {
        UNFINISHED: "running", "succeeded": "succeeded", "failed": "failed", "cancelled": "cancelled",
    }  # fmt: skip
    return tuple(known[one] for one in given)


# --- one run --------------------------------------------------------------------------------------------


@attrs.frozen
class Look:
    """A run as it stands in a store; with its graph known, all that the engine itself would know of it."""

    row: RunRow
    values: Mapping[str, Any] | None
    """What it was submitted on, if that can be read."""
    handle: Machine | None
    """The run, which goes on nowhere."""
    why: str = ""
    """Why there is no handle."""

    @property
    def seen(self) -> Seen | None:
        """How far it has come, for a drawing."""
        if self.handle is None:
            return None
        history = self.handle.history
        return Seen(history.visited(), history.log(), self.status)

    @property
    def status(self) -> str:
        """How it ended, or how far it is."""
        machine = self.handle
        return (
            machine.status if machine is not None and machine.status in ("waiting", "paused") else status_of(self.row)
        )


@attrs.frozen
class Seen:
    """What a drawing shows of a run."""

    visited: Sequence[str]
    log: Sequence[LogEntry]
    status: str


async def look(url: str, run_id: str, graphs: Sequence[Graph]) -> Look:
    """One run; raises `RunNotFound`."""
    return await at_store(url, lambda store: _look(store, run_id, graphs))


async def _look(store: Store, run_id: str, graphs: Sequence[Graph]) -> Look:
    stored = await store.read(run_id)
    if stored is None:
        raise RunNotFound(run_id)
    there = (await found(store, [stored]))[0]
    values: Mapping[str, Any] | None = None
    try:
        values = there.values
        return Look(there.row, values, _rebuilt(there, _plan_of(there.row, graphs)))
    except EngineError as error:
        return Look(there.row, values, None, told(error).message)


def _plan_of(row: RunRow, graphs: Sequence[Graph]) -> Plan:
    plans = [graph.compile() for graph in graphs]
    for plan in plans:
        if (plan.name, plan.version) == (row.graph, row.version):
            digest = definition_digest(definition_text(plan))
            if digest != row.fingerprint:
                raise VersionMismatch(row.graph, row.fingerprint, digest)
            return plan
    raise GraphNotFound(row.graph, [f"{plan.name} {plan.version}" for plan in plans])


def _rebuilt(there: Found, plan: Plan) -> Machine:
    machine = Machine(plan, there.row.run_id)
    there.rebuild(machine, time())
    return machine


# --- its log --------------------------------------------------------------------------------------------


async def entries(store: Store, run_id: str, after: int = 0) -> AsyncIterator[tuple[int, LogEntry]]:
    """The entries of a run's log after a record, each with the number of its record."""
    while page := await store.records(run_id, after=after):
        blobs = await blobs_of(store, (data for _, data in page))
        history = History(len(page))
        numbers = []
        for number, data in page:
            for raw in log_rows(None, [unpack_record(data, blobs)]):
                history.entry(raw)
                numbers.append(number)
            after = number
        for number, entry in zip(numbers, history.log(), strict=True):
            yield number, entry
