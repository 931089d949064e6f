"""What a store keeps, in the words of the engine: rows of runs, and the writes that a journal is made of.

A store never looks into `data`: it is bytes that journal.py writes and reads. Every write is idempotent, since one
whose answer was lost is made again: what is there already, by its key, is left as it is.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from typing import Any, Literal

import attrs

from .faults import positive_fault

StoredStatus = Literal["running", "succeeded", "failed", "cancelled"]
"""What a store knows of a run: `running` is any that has not ended, wherever it stands."""


@attrs.frozen(kw_only=True)
class RunRow:
    """What can be listed of a run. Times are seconds since 1970; text is what UTF-8 can say, NUL included."""

    run_id: str
    graph: str
    version: str
    fingerprint: str
    """Of the definition that it runs on: a run goes on only on the same."""
    submitted_at: float
    tags: Mapping[str, str] = attrs.field(factory=dict)
    priority: int = 0
    key: str | None = None
    """Its idempotency key."""
    deadline: float | None = None
    """In seconds, from its submission."""
    depth: int = 0
    """How many runs it was submitted inside of."""
    status: StoredStatus = "running"
    ended_at: float | None = None
    number: int = 0
    """Its place among all runs of the store, in the order of their admissions; the store gives it."""


@attrs.frozen
class Losses:
    """How often a run was lost with its engine, one after another, while it got no further; of a shared store."""

    times: int
    """The first time it may only have waited for its turn there. Later ones count if it was about to be let go on."""
    seq: int
    """The number of its last record, each time."""
    engines: Sequence[str] = ()
    """The names of the last of them."""


@attrs.frozen
class StoredRun:
    """A run as it is read to go on, or to be looked at."""

    row: RunRow
    admission: bytes
    snapshot: tuple[int, bytes] | None
    """The newest, and the number of the last record that is in it."""
    records: Sequence[tuple[int, bytes]]
    """Those after the snapshot, in order."""
    inbox: Sequence[tuple[str, bytes]] = ()
    """Signals (id, data) that came while no engine had the run in hand, in order."""
    losses: Losses | None = None


# --- writes ---------------------------------------------------------------------------------------------
#
# A blob is stored once, by its digest, for all runs, and is kept as long as something that is kept names it: an
# admission, a record, a snapshot. So whatever names it gives it, if only to find it stored already; it may name it in
# `refs` alone if something else of its run names it, too. Otherwise a compaction may just have removed it.


def blob_digest(data: bytes) -> str:
    """The name of a blob. Two that differ must never share one, even if somebody tries."""
    return hashlib.sha256(data).hexdigest()


@attrs.frozen
class Admit:
    """A new run. One whose id is there already is left as it is; a key of another run is a `KeyTaken`."""

    row: RunRow
    """All but its `number`."""
    data: bytes
    blobs: Mapping[str, bytes] = {}
    """By digest, those that it names."""


@attrs.define(slots=True)
class Append:
    """One record of a run; `seq` counts from 1, without a gap."""

    run_id: str
    seq: int
    data: bytes
    blobs: Mapping[str, bytes] = {}
    """By digest, those that it names."""
    refs: Sequence[str] = ()
    """Digests that it names besides."""


@attrs.frozen
class SetStatus:
    """The run has ended, at a time, or goes on (`running`, no time)."""

    run_id: str
    status: StoredStatus
    at: float | None = None


@attrs.frozen
class PutSnapshot:
    """What records up to `seq` come to. A newer one replaces it, an older one does nothing to it.

    Records up to `drop`, which is at most `seq`, are dropped.
    """

    run_id: str
    seq: int
    data: bytes
    blobs: Mapping[str, bytes] = {}
    refs: Sequence[str] = ()
    drop: int = 0


@attrs.frozen
class Post:
    """A signal for a run that no engine has in hand; one whose id is in the inbox is dropped."""

    run_id: str
    id: str
    data: bytes


@attrs.frozen
class Collect:
    """These signals of its inbox are in the run's records now."""

    run_id: str
    ids: Sequence[str]


@attrs.frozen
class Define:
    """A graph's definition, as text; one more beside others of the same name and version, if its fingerprint is."""

    graph: str
    version: str
    fingerprint: str
    text: str


@attrs.frozen
class Rebase:
    """The run goes on under another version of its graph (a migration)."""

    run_id: str
    version: str
    fingerprint: str


@attrs.frozen
class Forget:
    """Remove the run and all that is kept for it alone."""

    run_id: str


@attrs.frozen
class Audit:
    """A line of the audit log: that somebody has done something, told in `data`.

    It is no part of a run, only about one, which need not be there: it outlives the run, and says so of one that was
    never there. A line whose id is there already is dropped.
    """

    id: str
    at: float
    """In seconds since 1970: what retention goes by."""
    run_id: str | None
    """What it is about, if that is one run."""
    data: bytes


Write = Admit | Append | SetStatus | PutSnapshot | Post | Collect | Define | Rebase | Forget | Audit


# --- sharing --------------------------------------------------------------------------------------------


Kind = tuple[str, str, str]
"""Graph, version and fingerprint: what an engine must know to run a run."""


@attrs.frozen(kw_only=True)
class Whereabouts:
    """Where a run of a shared store is."""

    run_id: str
    status: StoredStatus
    owner: int | None
    """The engine that drives it; None if it waits for one, 0 if nobody has to."""
    seq: int
    """The number of its last record, or of the last in its snapshot."""


@attrs.frozen
class TakenOver:
    """An engine whose lease had run out, and how many runs it left."""

    engine: int
    name: str
    runs: int


# --- reading --------------------------------------------------------------------------------------------


@attrs.frozen(kw_only=True)
class Query:
    """Which runs to list, in the order of their submission, those of one moment by `number`. What is empty fits all."""

    status: Sequence[StoredStatus] = ()
    """Any of these."""
    graph: str | None = None
    tags: Mapping[str, str] = attrs.field(factory=dict)
    """All of these."""
    since: float | None = None
    """Submitted then or later."""
    until: float | None = None
    """Submitted before."""
    after: str | None = None
    """The id of the last run seen: those that follow it in this order, whether or not it matches itself."""
    limit: int = 100
    newest_first: bool = False


def _limit(instance: Kept, attribute: attrs.Attribute[Any], value: Any) -> None:
    if value is not None and (fault := positive_fault(value, whole=attribute.name == "count", zero=True)):
        raise ValueError(f"Kept({attribute.name}={value!r}): {fault}")


@attrs.frozen(kw_only=True)
class Kept:
    """Which ended runs to keep: those that `seconds` and `count` both allow; what is None does not limit."""

    seconds: float | None = attrs.field(default=None, validator=_limit)
    """Those that ended at most so long ago."""
    count: int | None = attrs.field(default=None, validator=_limit)
    """Of each graph the so many that ended last."""
    audit_seconds: float | None = None
    """Of the audit log, which no limit of runs touches, the lines that are at most so old."""


@attrs.frozen(kw_only=True)
class Compacted:
    """What a compaction removed."""

    runs: int = 0
    records: int = 0
    blobs: int = 0
    audits: int = 0
    files: int = 0
    """Contents of files, where files are kept."""


@attrs.frozen
class Fault:
    """Something in a store that is not as it must be."""

    where: str
    message: str


@attrs.frozen(kw_only=True)
class StoreFacts:
    """What a store promises, as far as it could be checked when it was opened."""

    url: str
    """Without any secret."""
    durable: bool
    """Whether an acknowledged write survives `kill -9` of this process."""
    power_safe: bool
    """Whether one written with `sync=True` survives a power cut, as far as the store can know."""
    notes: Sequence[str] = ()
    """What an operator should know, and was told in the log."""
