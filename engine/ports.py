"""What the engine needs of the world, as roles small enough to fake in ten lines."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from types import TracebackType
from typing import TYPE_CHECKING, Any, Protocol, Self

if TYPE_CHECKING:
    from .executors.work import Capabilities, Health, Work
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

    Anything with these members will do; `tests/contracts/test_executors.py` is the suite that ours pass, and one of a
    user's own can. `BaseExecutor` brings the limit, the numbers and `async with`.

    - It works between `start` and `close`, which the engine calls as it is entered and left. It may be started again.
    - At most `limit` calls run at once; others wait, first come first served, and cost nothing else. (The engine itself
      never submits more of its nodes' calls than that: a time-out must not run while a call waits.)
    - Nothing of it blocks the loop or belongs to a backend: what is called from other threads reaches the loop by way
      of `actors.waker.new_poster()`, a socket, or anyio.
    """

    @property
    def limit(self) -> int:
        """How many calls run at once."""
        ...

    @property
    def capabilities(self) -> Capabilities:
        """What it can do. Must not change while it runs."""
        ...

    async def start(self) -> None:
        """Be ready for calls, or nearly: what takes long, as a process does, may come with the first that needs it."""
        ...

    async def submit(self, work: Work) -> Any:
        """Make the call and return its result; `work()` makes it, where memory is shared.

        What the function raises is raised here: the same type, arguments, attributes, notes, cause and context, with
        the traceback from elsewhere as a note. Besides, it raises `NotTransferable` if something cannot travel,
        `WorkerLost` if what ran it has died, `EngineClosed` outside its life, also to those who wait when it ends.

        Cancelling this while it waits for a place means that nothing has happened. Later it gives the work up, and
        its place is free for the next one once `cancel` has returned.
        """
        ...

    async def cancel(self, work: Work) -> bool:
        """Stop work whose `submit` was cancelled; whether it is known to be over.

        Called right after that, once, shielded from cancellation: it must come to an end by itself. There is nothing
        to do for an executor that cannot stop what runs, or whose `submit` has stopped it already.
        """
        ...

    def health(self) -> Health:
        """How it is. For any thread, at any time."""
        ...

    async def close(self) -> None:
        """End what was started: calls still going fail with `EngineClosed`, processes are gone; threads may be left."""
        ...


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


class FileStore(Protocol):
    """Where the contents of files are kept, each once, by its digest (SHA-256, in hexadecimal).

    The contract suite in tests/contracts holds every file store to this.

    - All of it blocks: it is called in threads, by several at once, on whatever event loop. It may be called from
      the moment it is made, and makes what it needs when something is kept for the first time.
    - What cannot be done for a cause that may pass (a full disk, a lost connection) raises `FilesUnavailable`, and
      contents that are not there `FileMissing`.
    - A digest that is none is a `ValueError`, before anything is looked for.
    """

    @property
    def url(self) -> str:
        """Where it is, without any secret."""
        ...

    @property
    def durable(self) -> bool:
        """Whether what is kept survives `kill -9` and a power cut."""
        ...

    @property
    def reached_by_all(self) -> bool:
        """Whether it can be pickled, and reads the same contents in another process of this machine."""
        ...

    @property
    def piece(self) -> int:
        """How many bytes are worth reading at once: so many are in memory for each file that is open."""
        ...

    def begin(self) -> Upload:
        """New contents, to be written piece by piece; no reader sees them before they are whole."""
        ...

    def size(self, digest: str) -> int | None:
        """How many bytes these contents have; None if they are not there."""
        ...

    def read(self, digest: str, start: int, size: int) -> bytes:
        """At most so many bytes from there on; fewer only at the end, none behind it."""
        ...

    def mark(self, digest: str) -> int | None:
        """Have these contents count as kept now, since somebody is about to name them: how many bytes; None if gone."""
        ...

    def pin(self, digest: str) -> object:
        """What keeps these contents for as long as somebody has it, where nothing else does; or None."""
        ...

    def all(self) -> Iterator[tuple[str, float]]:
        """Every digest, and when its contents were kept last, in seconds since 1970."""
        ...

    def remove(self, digest: str, before: float) -> bool:
        """Remove contents unless they have been kept again since then; whether it did."""
        ...

    def sweep(self, before: float) -> int:
        """Remove what uploads left that were broken off before then; how many."""
        ...


class Upload(Protocol):
    """Contents on their way into a `FileStore`."""

    def write(self, chunk: bytes) -> None:
        """The next piece."""
        ...

    def commit(self, expected: str = "") -> tuple[str, int]:
        """Keep what was written: its digest and size. Once this has returned, they survive whatever the store does.

        Contents that are there already are kept as they are, and count as kept now. Raises `FileDamaged` if another
        digest was expected, and keeps nothing then.
        """
        ...

    def abort(self) -> None:
        """Forget what was written; does nothing after `commit`."""
        ...


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
        """Have the runs of engines whose leases have run out be for anybody; nothing is written by those any more.

        They count as lost once more: see `Losses`.
        """
        ...

    async def claim(
        self, kinds: Sequence[Kind], most: int, limits: Mapping[str, int], wary: int | None = None
    ) -> Sequence[StoredRun]:
        """Own so many of the runs that wait for an engine, of these kinds: by priority, then age.

        With `limits`, no more of a graph than so many are owned, by all engines together. Those that were lost `wary`
        times or more are owned after the others, and one at a time: none while another goes on here. What it raises
        may have happened all the same: see `owned`.
        """
        ...

    async def begin(self, run_ids: Sequence[str]) -> None:
        """Know that these, which were lost before and are its own, are let go on here: see `Losses`."""
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

    async def queued(self, most: int, leaving: Sequence[str]) -> int:
        """How many runs wait for an engine, counted up to `most`, and how many of its own that are `leaving` are to.

        In one look: one that is given back at this moment counts once. Needs no lease.
        """
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
