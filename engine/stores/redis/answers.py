"""What scripts answer, as what was asked for."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import orjson

from ...stored import Audit, RunRow, StoredRun
from ..faults import Outline


def row_of(run_id: bytes, fields: Sequence[bytes]) -> RunRow:
    """Of the fields that every script gives first, in this order."""
    number, submitted_at, graph, version, fingerprint, status, ended_at, rest = fields[:8]
    tags, priority, key, deadline, depth = orjson.loads(rest)
    return RunRow(
        run_id=run_id.decode(),
        graph=graph.decode(),
        version=version.decode(),
        fingerprint=fingerprint.decode(),
        submitted_at=float(submitted_at),
        tags=tags,
        priority=priority,
        key=key,
        deadline=deadline,
        depth=depth,
        status=status.decode(),  # type: ignore[arg-type]  # verify() says if it is none of these
        ended_at=float(ended_at) if ended_at else None,
        number=int(number),
    )


def run_of(answer: Sequence[Any]) -> StoredRun:
    """Of lua/read.lua."""
    run_id, fields, records, inbox = answer
    snapshot = None if fields[9] is None else (int(fields[9]), fields[10])
    signals = [(signal.decode(), data) for signal, data in inbox]
    # The admission of a run that was damaged may not be there; verify() says so.
    return StoredRun(row_of(run_id, fields), fields[8] or b"", snapshot, records_of(records), signals)


def audit_of(answer: Sequence[Any]) -> tuple[int, Audit]:
    """Of lua/audits.lua."""
    id, (number, at, run_id, data) = answer
    return int(number), Audit(id.decode(), float(at), None if run_id is None else run_id.decode(), data)


def records_of(entries: Sequence[Any]) -> list[tuple[int, bytes]]:
    """Of the entries of a stream, each an id and its one field."""
    return [(seq_of(id), data) for id, (_, data) in entries]


def seq_of(id: bytes) -> int:
    """Of the id of an entry."""
    return int(id.partition(b"-")[0])


def outline_of(answer: Sequence[Any]) -> tuple[Outline, int, Sequence[str]]:
    """Of lua/outline.lua; with the number of the record that was appended last, and the blobs that are missing."""
    run_id, (_, status, ended_at, appended, snapshot), admitted, count, first, last, missing = answer
    outline = Outline(
        run_id=run_id.decode(),
        status=status.decode(),
        ended_at=float(ended_at) if ended_at else None,
        admitted=bool(admitted),
        count=count,
        first=seq_of(first),
        last=seq_of(last),
        snapshot=None if snapshot is None else int(snapshot),
    )
    return outline, int(appended), [digest.decode() for digest in missing]
