"""Writes put into an order in which they can be made many at a time.

A commit holds writes of many runs, of all kinds, mixed. One statement for each is ten times as slow as one for all of
a kind. Writes of different runs may change places (but for admissions, which are numbered, and keep theirs), and most
writes of one run, too. So a batch takes writes until one comes that would be made too early if it were made with the
others of its kind; that one begins the next batch.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import assert_never

import attrs

from ...stored import (
    Admit,
    Append,
    Collect,
    Define,
    Forget,
    Post,
    PutSnapshot,
    Rebase,
    RunRow,
    SetStatus,
    Write,
)

Named = tuple[str, int, str, bytes | None]
"""Run, place, digest, and the blob itself if it is given."""


@attrs.define
class Batch:
    """Writes that may be made kind by kind, in the order of these fields."""

    definitions: dict[tuple[str, str, str], Define] = attrs.field(factory=dict)
    runs: dict[str, RunRow] = attrs.field(factory=dict)
    records: dict[tuple[str, int], bytes] = attrs.field(factory=dict)
    """An admission is number 0."""
    named: list[Named] = attrs.field(factory=list)
    """By these."""
    snapshots: dict[str, PutSnapshot] = attrs.field(factory=dict)
    dropped: dict[str, int] = attrs.field(factory=dict)
    posted: list[Post] = attrs.field(factory=list)
    collected: list[tuple[str, str]] = attrs.field(factory=list)
    collected_of: set[str] = attrs.field(factory=set)
    statuses: dict[str, SetStatus] = attrs.field(factory=dict)
    rebased: dict[str, Rebase] = attrs.field(factory=dict)
    forgotten: list[str] = attrs.field(factory=list)
    seen: set[str] = attrs.field(factory=set)
    """Runs that something has been written for, other than an admission."""

    def takes(self, write: Write) -> bool:
        """Whether it may be made with those that are here."""
        if self.forgotten:
            return isinstance(write, Forget)
        match write:
            case Append():
                return not self.dropped or write.seq > self.dropped.get(write.run_id, 0)
            case Admit():
                return write.row.run_id not in self.seen
            case Post():
                return write.run_id not in self.collected_of
            case _:
                return True

    def add(self, write: Write) -> None:
        """Put it in its place. Of two that are the same, the first counts if it adds, the last if it changes."""
        match write:
            case Append(run_id, seq, data, blobs, refs):
                self.seen.add(run_id)
                self._record(run_id, seq, data, blobs, refs)
            case Admit(row, data, blobs):
                if row.run_id not in self.runs:
                    self.runs[row.run_id] = row
                    self._record(row.run_id, 0, data, blobs, ())
            case PutSnapshot(run_id, seq):
                self.seen.add(run_id)
                if run_id not in self.snapshots or self.snapshots[run_id].seq < seq:
                    self.snapshots[run_id] = write
                if write.drop:
                    self.dropped[run_id] = max(write.drop, self.dropped.get(run_id, 0))
            case SetStatus(run_id):
                self.seen.add(run_id)
                self.statuses[run_id] = write
            case Rebase(run_id):
                self.seen.add(run_id)
                self.rebased[run_id] = write
            case Post(run_id):
                self.seen.add(run_id)
                self.posted.append(write)
            case Collect(run_id, ids):
                self.seen.add(run_id)
                self.collected_of.add(run_id)
                self.collected += [(run_id, id) for id in ids]
            case Define(graph, version, fingerprint):
                self.definitions[graph, version, fingerprint] = write
            case Forget(run_id):
                self.forgotten.append(run_id)
            case _:
                assert_never(write)

    def _record(self, run_id: str, seq: int, data: bytes, blobs: Mapping[str, bytes], refs: Sequence[str]) -> None:
        if (run_id, seq) not in self.records:
            self.records[run_id, seq] = data
            if blobs or refs:
                self.named += named(run_id, seq, blobs, refs)


def named(run_id: str, place: int, blobs: Mapping[str, bytes], refs: Sequence[str]) -> Iterator[Named]:
    """What a record or a snapshot names."""
    for digest, data in blobs.items():
        yield run_id, place, digest, data
    for digest in refs:
        yield run_id, place, digest, None


def batches(writes: Iterable[Write]) -> Iterator[Batch]:
    """The writes, as few batches as it takes."""
    batch = Batch()
    for write in writes:
        if not batch.takes(write):
            yield batch
            batch = Batch()
        batch.add(write)
    yield batch
