"""What the engine needs of the world, as roles small enough to fake in ten lines."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from types import TracebackType
from typing import TYPE_CHECKING, Any, Protocol, Self

if TYPE_CHECKING:
    from .stored import Audit, Compacted, Fault, Kept, Query, RunRow, StoredRun, StoreFacts, Write


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
