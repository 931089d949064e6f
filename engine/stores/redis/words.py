"""Writes as the words that lua/commit.lua reads. A script is given strings only: lists come with their length."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import assert_never

import orjson

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

Word = str | bytes | int


def words(writes: Iterable[Write]) -> list[Word]:
    """All of them, in their order."""
    return [word for write in writes for word in _words(write)]


def tag_index(name: str, value: str) -> str:
    """What the index of a tag is called; no two tags share one."""
    return f"{len(name.encode())}:{name}{value}"


def definition_name(graph: str, version: str, fingerprint: str) -> bytes:
    """What a definition is called."""
    return orjson.dumps([graph, version, fingerprint])


def _words(write: Write) -> Sequence[Word]:
    match write:
        case Append(run_id, seq, data, blobs, refs):
            return ["append", run_id, seq, data, *_names(blobs, refs)]
        case Admit(row, data, blobs):
            return ["admit", *_row(row, data), *_names(blobs, ())]
        case SetStatus(run_id, status, at):
            return ["status", run_id, status, _time(at)]
        case PutSnapshot(run_id, seq, data, blobs, refs, drop):
            return ["snapshot", run_id, seq, data, drop, drop + 1, *_names(blobs, refs)]
        case Post(run_id, id, data):
            return ["post", run_id, id, data]
        case Collect(run_id, ids):
            return ["collect", run_id, len(ids), *ids]
        case Define(graph, version, fingerprint, text):
            return ["define", definition_name(graph, version, fingerprint), orjson.dumps([text])]
        case Rebase(run_id, version, fingerprint):
            return ["rebase", run_id, version, fingerprint]
        case Forget(run_id):
            return ["forget", run_id]
        case _:
            assert_never(write)


def _row(row: RunRow, data: bytes) -> Iterator[Word]:
    yield from (row.run_id, repr(float(row.submitted_at)), row.graph, row.version, row.fingerprint, row.status)
    yield _time(row.ended_at)
    yield orjson.dumps([dict(row.tags), row.priority, row.key, row.deadline, row.depth])
    yield data
    yield from (0,) if row.key is None else (1, row.key)
    yield len(row.tags)
    yield from (tag_index(*tag) for tag in row.tags.items())


def _names(blobs: Mapping[str, bytes], refs: Sequence[str]) -> Iterator[Word]:
    yield len(blobs) + len(refs)
    for digest, data in blobs.items():
        yield from (digest, 1, data)
    for digest in refs:
        yield from (digest, 0, "")


def _time(at: float | None) -> str:
    # Shortest text that reads as the same number; a script's own would lose digits.
    return "" if at is None else repr(float(at))
