"""What can be wrong with what a store keeps, said the same by every store."""

from __future__ import annotations

from collections.abc import Iterator
from typing import get_args

import attrs

from ..stored import Fault, StoredStatus, blob_digest

_STATUSES = frozenset(get_args(StoredStatus))


@attrs.frozen(kw_only=True)
class Outline:
    """What there is of a run, without its data."""

    run_id: str
    status: str
    ended_at: float | None
    admitted: bool
    """Whether its admission is there."""
    count: int
    """Of its records, without the admission."""
    first: int
    """The numbers of the first and the last of them, 0 without any."""
    last: int
    snapshot: int | None
    """The number of the last record that is in it."""


def faults_of_run(run: Outline) -> Iterator[Fault]:
    """Everything that cannot be so."""
    where = f"run {run.run_id!r}"
    if run.status not in _STATUSES:
        yield Fault(where, f"its status is {run.status!r}, expected one of {', '.join(sorted(_STATUSES))}")
    elif run.status == "running" and run.ended_at is not None:
        yield Fault(where, f"it is running, but ended at {run.ended_at}")
    elif run.status != "running" and run.ended_at is None:
        yield Fault(where, f"it has {run.status}, but at no time")
    if not run.admitted:
        yield Fault(where, "its admission is missing")
    if not run.count:
        return
    in_snapshot = run.snapshot or 0
    if run.first > in_snapshot + 1:
        yield Fault(where, f"its records begin with number {run.first}, expected at most {in_snapshot + 1}")
    if missing := run.last - run.first + 1 - run.count:
        yield Fault(where, f"{missing} of its records {run.first} to {run.last} are missing")
    if run.last < in_snapshot:
        yield Fault(where, f"its records end with number {run.last}, but its snapshot is of {in_snapshot}")


def fault_of_ref(run_id: str, digest: str) -> Fault:
    """The run names a blob that is not there."""
    return Fault(f"run {run_id!r}", f"it names blob {digest!r}, which is missing")


def faults_of_blob(digest: str, data: bytes) -> Iterator[Fault]:
    """The blob, if it is not what its name says."""
    found = blob_digest(data)
    if found != digest:
        yield Fault(f"blob {digest!r}", f"its {len(data)} bytes have the digest {found!r}")
