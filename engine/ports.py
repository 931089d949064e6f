"""What the engine needs of the world, as roles small enough to fake in ten lines."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from types import TracebackType
from typing import TYPE_CHECKING, Any, Protocol, Self

if TYPE_CHECKING:
    from .stored import (
        Audit,
        Compacted,
        Fault,
        Kept,
        Kind,
        Query,
        RunRow,
        StoredRun,
        StoreFacts,
        TakenOver,
        Whereabouts,
        Write,
    )


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


class Store(Protocol):
    """Where runs are kept. The contract suite in tests/contracts holds every store to this.

    - It works between entering and leaving it as an async context manager, on asyncio and trio; outside it raises
      `EngineClosed`. It may be entered again. What blocks runs in threads of its own. Entering raises
      `StoreUnavailable` if it cannot be reached, or is in use by another process where it cannot be shared; it
      creates what is missing, and migrates what an earlier version left.
    - `commit` is called by one task at a time (the journal's); everything else by any number at once, beside it.
    - What a method raises for a cause that may pass (a full disk, a lock, a lost connection) is `StoreUnavailable`.
      It may be called again then, whether or not it had taken effect: connections are made anew by itself.
    - It never looks into `data`, and gives back what it was given, byte for byte.
    """

    @property
    def facts(self) -> StoreFacts:
        """What it promises; once it is entered."""
        ...

    async def claim(self) -> None:
        """Have it for one engine alone until this is left; raises `StoreUnavailable` if another engine has it.

        Two engines that know nothing of each other would both go on with the same runs. A claim ends with its
        process, however that ends. Who only looks after a store need not claim it.
        """
        ...

    async def commit(self, writes: Sequence[Write], *, sync: bool = False) -> None:
        """Apply all of these, in their order, or none; returned from means that they survive `kill -9`.

        With `sync` they survive a power cut, too, and so does everything committed before. Raises `KeyTaken` if an
        idempotency key belongs to another run: then none has been applied. A write for a run that is not there
        (any more) is dropped with its blobs, `Admit`, `Define` and `Audit` apart.
        Cancelling it leaves open whether it was applied; what it had begun is over before the next commit begins.
        """
        ...

    async def read(self, run_id: str) -> StoredRun | None:
        """The run as committed, to go on with it; None if there is none of this id."""
        ...

    async def unfinished(self, graph: str, version: str, *, after: int = 0, limit: int = 500) -> Sequence[StoredRun]:
        """The runs of a graph that have not ended, by `number`, those above `after`, as few reads as possible."""
        ...

    async def records(self, run_id: str, *, after: int = 0, limit: int = 1000) -> Sequence[tuple[int, bytes]]:
        """The records that are kept of a run, in order, those before a snapshot included, if not dropped."""
        ...

    async def find(self, query: Query) -> Sequence[RunRow]:
        """The runs that match, at most `limit`. An `after` that is not there raises `RunNotFound`."""
        ...

    async def find_key(self, key: str) -> tuple[RunRow, bytes] | None:
        """The run with this idempotency key, and its admission."""
        ...

    async def blobs(self, digests: Sequence[str]) -> Mapping[str, bytes]:
        """The blobs of these digests; one that is missing is left out."""
        ...

    async def definitions(self) -> Sequence[tuple[str, str, str, str]]:
        """Graph, version, fingerprint and text of each definition, in the order of these."""
        ...

    async def audits(
        self, *, run_id: str | None = None, after: int = 0, limit: int = 1000, newest_first: bool = False
    ) -> Sequence[tuple[int, Audit]]:
        """Lines of the audit log with their numbers, in the order they were written: all, or those about one run.

        `after` is the number of the last one seen, 0 for none. A number never comes back.
        """
        ...

    async def compact(self, keep: Kept, *, now: float) -> Compacted:
        """Remove what need not be kept, ended runs and lines of the audit log, and blobs that nothing names; give space
        back.

        Never a run that has not ended. Safe beside running engines; done in steps, so that commits go on. Cancelling
        it leaves the rest to the next one.
        """
        ...

    async def verify(self) -> Sequence[Fault]:
        """Look for damage: gaps among records, missing blobs, digests that do not fit, statuses that cannot be."""
        ...

    async def __aenter__(self) -> Self: ...

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None: ...


class Member(Protocol):
    """One engine's place in a store that several engines share. Outside of a lease its acts raise `LeaseLost`.

    A run has one owner at most, the engine that drives it. Between two leases of an engine its runs may have become
    another's, so what belongs to one lease must not be written under the next: from `join` until the end of its lease
    the store's `commit` holds to that one, and raises `LeaseLost` after it, having written nothing.
    """

    @property
    def id(self) -> int:
        """What its runs name as their owner."""
        ...

    async def join(self) -> None:
        """Begin a lease, with an epoch of its own. What was its own before is for anybody."""
        ...

    async def renew(self) -> None:
        """Have the lease count from now."""
        ...

    async def leave(self) -> None:
        """Give all that is its own to the others, and end the lease."""
        ...

    async def take_over(self) -> Sequence[TakenOver]:
        """Have the runs of engines whose leases have run out be for anybody; nothing is written by those any more."""
        ...

    async def claim(self, kinds: Sequence[Kind], most: int, limits: Mapping[str, int]) -> Sequence[StoredRun]:
        """Own so many of the runs that wait for an engine, of these kinds: by priority, then age.

        With `limits`, no more of a graph than so many are owned, by all engines together. What it raises may have
        happened all the same: see `owned`.
        """
        ...

    async def strangers(self, kinds: Sequence[Kind], seconds: float) -> Mapping[Kind, int]:
        """Kinds of runs that have waited for an engine for so long, and are none of these; how many of each."""
        ...

    async def owned(self) -> Sequence[str]:
        """The runs that it owns and that have not ended."""
        ...

    async def take(self, run_id: str) -> Whereabouts | None:
        """Own this one, if nobody else does; where it was before. None if it is not there."""
        ...

    async def give_back(self, run_ids: Sequence[str]) -> None:
        """Own these no longer: those that have not ended are for anybody."""
        ...

    async def post(self, run_id: str, id: str, data: bytes) -> Whereabouts | None:
        """Put something into the inbox of a run that has not ended, and tell its owner; where it is."""
        ...

    async def inbox(self) -> Mapping[str, Sequence[tuple[str, bytes]]]:
        """What is in the inboxes of the runs that it owns, by run, in order."""
        ...

    async def whereabouts(self, run_ids: Sequence[str]) -> Mapping[str, Whereabouts]:
        """Where these are, as far as they are there; needs no lease."""
        ...

    async def queued(self, most: int) -> int:
        """How many runs wait for an engine, counted up to `most`; needs no lease."""
        ...

    async def tell(self, what: str) -> None:
        """Have every engine hear this word, if it listens at the moment."""
        ...

    async def heard(self, seconds: float) -> set[str]:
        """The words that came: `queued`, `graphs`, `inbox` (its own); empty if there was none for so long."""
        ...


class SharedStore(Store, Protocol):
    """A store that several engines may have at the same time."""

    async def share(self, name: str, lease: float) -> Member:
        """Have it with others who share it, for leases of so many seconds, instead of claiming it.

        Raises `StoreUnavailable` if another engine has it for itself.
        """
        ...
