"""The store that is gone with its process: the shortest way to say what every store does.

What it keeps stays when it is left, so an engine that enters it again finds its runs.
"""

from __future__ import annotations

import itertools
from collections import ChainMap
from collections.abc import Iterable, Iterator, Mapping, Sequence
from types import TracebackType
from typing import Self, assert_never

import attrs

from ..errors import EngineClosed, KeyTaken, RunNotFound
from ..stored import (
    Admit,
    Append,
    Collect,
    Compacted,
    Define,
    Fault,
    Forget,
    Kept,
    Post,
    PutSnapshot,
    Query,
    Rebase,
    RunRow,
    SetStatus,
    StoredRun,
    StoreFacts,
    Write,
)
from .faults import Outline, fault_of_ref, faults_of_blob, faults_of_run

_ADMISSION, _SNAPSHOT = 0, -1
"""Places beside those of records, which count from 1."""


@attrs.define
class _Run:
    row: RunRow
    admission: bytes
    records: dict[int, bytes] = attrs.field(factory=dict)
    snapshot: tuple[int, bytes] | None = None
    inbox: dict[str, bytes] = attrs.field(factory=dict)
    named: dict[int, set[str]] = attrs.field(factory=dict)
    """Digests, by the place that names them."""

    def after(self, seq: int) -> list[tuple[int, bytes]]:
        return sorted(item for item in self.records.items() if item[0] > seq)

    def stored(self) -> StoredRun:
        seq = self.snapshot[0] if self.snapshot else 0
        return StoredRun(self.row, self.admission, self.snapshot, self.after(seq), list(self.inbox.items()))

    def outline(self) -> Outline:
        return Outline(
            run_id=self.row.run_id,
            status=self.row.status,
            ended_at=self.row.ended_at,
            admitted=True,
            count=len(self.records),
            first=min(self.records, default=0),
            last=max(self.records, default=0),
            snapshot=self.snapshot[0] if self.snapshot else None,
        )


class MemoryStore:
    """Keeps runs in memory; see `Store`."""

    facts = StoreFacts(
        url="memory://", durable=False, power_safe=False, notes=("what is in memory is gone with the process",)
    )

    def __init__(self) -> None:
        self._entered = False
        self._everything: dict[str, _Run] = {}
        self._owners: dict[str, str] = {}
        """Of idempotency keys."""
        self._blobs: dict[str, bytes] = {}
        self._definitions: dict[tuple[str, str, str], str] = {}
        self._numbers = itertools.count(1)

    async def claim(self) -> None:
        """Nobody else can reach it but by this object."""

    async def commit(self, writes: Sequence[Write], *, sync: bool = False) -> None:
        """Apply all of these, or none; see `Store.commit`."""
        self._refuse_taken_keys(writes)
        for write in writes:
            self._apply(write)

    async def read(self, run_id: str) -> StoredRun | None:
        """The run; see `Store.read`."""
        run = self._runs.get(run_id)
        return run.stored() if run else None

    async def unfinished(self, graph: str, version: str, *, after: int = 0, limit: int = 500) -> Sequence[StoredRun]:
        """The runs of a graph that have not ended; see `Store.unfinished`."""
        found = [
            run
            for run in self._runs.values()
            if (run.row.graph, run.row.version, run.row.status) == (graph, version, "running")
            and run.row.number > after
        ]
        return [run.stored() for run in sorted(found, key=lambda run: run.row.number)[:limit]]

    async def records(self, run_id: str, *, after: int = 0, limit: int = 1000) -> Sequence[tuple[int, bytes]]:
        """The records of a run; see `Store.records`."""
        run = self._runs.get(run_id)
        return run.after(after)[:limit] if run else []

    async def find(self, query: Query) -> Sequence[RunRow]:
        """The runs that match; see `Store.find`."""
        rows = sorted((run.row for run in self._runs.values()), key=_place, reverse=query.newest_first)
        if query.after is not None:
            if query.after not in self._runs:
                raise RunNotFound(query.after)
            seen = [row.run_id for row in rows].index(query.after)
            rows = rows[seen + 1 :]
        return [row for row in rows if _matches(row, query)][: query.limit]

    async def find_key(self, key: str) -> tuple[RunRow, bytes] | None:
        """The run with this idempotency key; see `Store.find_key`."""
        run = self._runs.get(self._owners.get(key, ""))
        return (run.row, run.admission) if run else None

    async def blobs(self, digests: Sequence[str]) -> Mapping[str, bytes]:
        """The blobs of these digests; see `Store.blobs`."""
        _ = self._runs
        return {digest: self._blobs[digest] for digest in digests if digest in self._blobs}

    async def definitions(self) -> Sequence[tuple[str, str, str, str]]:
        """Graph, version, fingerprint and text of each definition."""
        _ = self._runs
        return [(*name, text) for name, text in sorted(self._definitions.items())]

    async def compact(self, keep: Kept, *, now: float) -> Compacted:
        """Remove what need not be kept; see `Store.compact`."""
        gone = [self._forget(row.run_id) for row in _past(keep, now, [run.row for run in self._runs.values()])]
        named = set[str]().union(*(names for run in self._runs.values() for names in run.named.values()))
        unnamed = [self._blobs.pop(digest) for digest in self._blobs.keys() - named]
        return Compacted(runs=len(gone), records=sum(len(run.records) for run in gone), blobs=len(unnamed))

    async def verify(self) -> Sequence[Fault]:
        """Look for what cannot be so; see `Store.verify`."""
        faults = [fault for run in self._runs.values() for fault in faults_of_run(run.outline())]
        for run in self._runs.values():
            missing = set[str]().union(*run.named.values()) - self._blobs.keys()
            faults += [fault_of_ref(run.row.run_id, digest) for digest in sorted(missing)]
        return faults + [fault for item in self._blobs.items() for fault in faults_of_blob(*item)]

    async def __aenter__(self) -> Self:
        self._entered = True
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._entered = False

    @property
    def _runs(self) -> dict[str, _Run]:
        if not self._entered:
            raise EngineClosed("the store is closed; use it inside `async with`")
        return self._everything

    def _refuse_taken_keys(self, writes: Iterable[Write]) -> None:
        """Before anything is applied, walk through who will have which key."""
        runs: ChainMap[str, _Run | None] = ChainMap({}, self._runs)  # type: ignore[arg-type]
        owners: ChainMap[str, str | None] = ChainMap({}, self._owners)  # type: ignore[arg-type]
        for write in writes:
            if isinstance(write, Forget) and (run := runs.get(write.run_id)):
                runs[write.run_id] = None
                if run.row.key is not None:
                    owners[run.row.key] = None
            elif isinstance(write, Admit) and not runs.get(write.row.run_id):
                runs[write.row.run_id] = _Run(write.row, write.data)
                if write.row.key is not None:
                    if (owner := owners.get(write.row.key)) is not None:
                        raise KeyTaken(write.row.key, owner)
                    owners[write.row.key] = write.row.run_id

    def _apply(self, write: Write) -> None:
        match write:
            case Admit(row, data, blobs):
                if row.run_id not in self._runs:
                    self._admit(_Run(attrs.evolve(row, number=next(self._numbers)), data), blobs)
            case Define(graph, version, fingerprint, text):
                self._definitions[graph, version, fingerprint] = text
            case Forget(run_id):
                if run_id in self._runs:
                    self._forget(run_id)
            case _:
                if run := self._runs.get(write.run_id):
                    self._change(run, write)

    def _admit(self, run: _Run, blobs: Mapping[str, bytes]) -> None:
        self._runs[run.row.run_id] = run
        if run.row.key is not None:
            self._owners[run.row.key] = run.row.run_id
        self._name(run, _ADMISSION, blobs)

    def _forget(self, run_id: str) -> _Run:
        run = self._runs.pop(run_id)
        if run.row.key is not None:
            del self._owners[run.row.key]
        return run

    def _change(self, run: _Run, write: Append | SetStatus | PutSnapshot | Post | Collect | Rebase) -> None:
        match write:
            case Append(_, seq, data, blobs, refs):
                if seq not in run.records:
                    run.records[seq] = data
                    self._name(run, seq, blobs, refs)
            case SetStatus(_, status, at):
                run.row = attrs.evolve(run.row, status=status, ended_at=at)
            case PutSnapshot(_, seq, data, blobs, refs, drop):
                if run.snapshot is None or run.snapshot[0] < seq:
                    run.snapshot = seq, data
                    self._name(run, _SNAPSHOT, blobs, refs)
                for old in [old for old in run.records if old <= drop]:
                    del run.records[old]
                    run.named.pop(old, None)
            case Post(_, id, data):
                run.inbox.setdefault(id, data)
            case Collect(_, ids):
                for id in ids:
                    run.inbox.pop(id, None)
            case Rebase(_, version, fingerprint):
                run.row = attrs.evolve(run.row, version=version, fingerprint=fingerprint)
            case _:
                assert_never(write)

    def _name(self, run: _Run, place: int, blobs: Mapping[str, bytes], refs: Sequence[str] = ()) -> None:
        run.named[place] = {*blobs, *refs}
        for digest, data in blobs.items():
            self._blobs.setdefault(digest, data)


def _place(row: RunRow) -> tuple[float, int]:
    return row.submitted_at, row.number


def _matches(row: RunRow, query: Query) -> bool:
    return (
        (not query.status or row.status in query.status)
        and (query.graph is None or row.graph == query.graph)
        and query.tags.items() <= row.tags.items()
        and (query.since is None or row.submitted_at >= query.since)
        and (query.until is None or row.submitted_at < query.until)
    )


def _past(keep: Kept, now: float, rows: Iterable[RunRow]) -> Iterator[RunRow]:
    """The runs that need not be kept."""
    ended = [(row.ended_at, row) for row in rows if row.status != "running" and row.ended_at is not None]
    newer: dict[str, int] = {}
    for ended_at, row in sorted(ended, key=lambda item: (item[0], item[1].number), reverse=True):
        place = newer[row.graph] = newer.get(row.graph, 0) + 1
        if (keep.seconds is not None and ended_at < now - keep.seconds) or (
            keep.count is not None and place > keep.count
        ):
            yield row
