"""The journal of an engine: what its runs want written, in batches, by one task.

All that is queued goes to the store as one commit, with no artificial wait: while one commit is under way, the next
batch gathers. What waits for a write is a callback, made in the order of the writes once they are safe.

While the store cannot write, it is tried again and again, at growing intervals; running nodes go on, and nothing is
told to be safe that is not. After `PATIENCE` new runs are refused, and those whose admission was waiting are told so
and withdrawn: nobody who was refused has a run.
"""

from __future__ import annotations

import logging
from collections import deque
from collections.abc import Callable, Iterable, Sequence
from signal import SIGINT, raise_signal
from time import perf_counter
from typing import Final

import anyio
from anyio.lowlevel import checkpoint_if_cancelled

from actors import Waker, new_waker

from .counts import Histogram
from .errors import EngineClosed, KeyTaken, LeaseLost, RunIdTaken, StoreUnavailable
from .logs import about
from .ports import Store
from .stored import Admit, Forget, Write

logger = logging.getLogger("engine")

# Writes in one commit: enough for 30,000 records a second, few enough for a commit of some 20 ms.
MOST_WRITES: Final = 512
# How long a store may fail until new runs are refused.
PATIENCE: Final = 0.5
FIRST_DELAY: Final = 0.01
LONGEST_DELAY: Final = 1.0
# How long a store may take for what was queued when its journal's task was cancelled.
LAST_SECONDS: Final = 5.0
# When it is said for the first time what keeps an engine from being left, and how rarely it is said in the end.
FIRST_WARNING: Final = 1.0
LONGEST_WARNING: Final = 60.0
# Runs that are named there.
NAMED_RUNS: Final = 3
COMMIT_SECONDS: Final = (0.0005, 0.001, 0.005, 0.01, 0.05, 0.1, 0.5, 1.0, 5.0)
BATCH_RECORDS: Final = (1, 2, 5, 10, 20, 50, 100, 200, 512)


class Entry:
    """Writes that belong together, and what waits for them."""

    __slots__ = ("admits", "gives_up", "refused", "safe", "sync", "tried", "writes")

    def __init__(
        self,
        writes: Sequence[Write],
        safe: Callable[[], None] | None,
        sync: bool,
        admits: str | None = None,
        refused: Callable[[Exception], None] | None = None,
        gives_up: bool = False,
    ) -> None:
        self.writes = writes
        self.safe = safe
        self.sync = sync
        self.admits = admits
        """The run that this admits, if it does: it may be refused."""
        self.refused = refused
        self.gives_up = gives_up or admits is not None
        """Whether it is refused once the store has failed for too long."""
        self.tried = False
        """Whether it may be written already, by a commit that was interrupted."""


class Journal:
    """Queues writes, and commits them from the task that runs `serve()`."""

    def __init__(self, store: Store, commit_seconds: Histogram, batch_records: Histogram) -> None:
        self.store = store
        self.trouble: StoreUnavailable | None = None
        """Why nothing can be written at present, once that has lasted."""
        self._failing_since: float | None = None
        """On the loop's clock, as the delays are."""
        self._stuck_since: float | None = None
        self.commit_seconds = commit_seconds
        self.batch_records = batch_records
        self._queue: deque[Entry] = deque()
        self._waker: Waker | None = None
        self._in_hand: list[Entry] = []
        """What is being committed."""
        self._commits = 0
        self._served = False
        self._closed = False
        self._leaver: Waker | None = None
        self._lease = 0
        """Counts leases, of a store that several engines share: what is of an earlier one is not written."""
        self._is_cut = False
        self.lost: Callable[[LeaseLost], None] = _nobody_knows
        """Called when the store refuses what is of a lease that is over."""

    @property
    def closed(self) -> bool:
        """Whether it takes nothing more."""
        return self._closed

    @property
    def backlog(self) -> int:
        """Entries that wait for a commit."""
        return len(self._queue)

    @property
    def idle(self) -> bool:
        """Whether everything is written."""
        return not self._queue and not self._in_hand

    @property
    def stuck(self) -> bool:
        """Whether the store takes nothing, as far as anybody has noticed."""
        return self.trouble is not None or self._stuck_since is not None

    def put(self, writes: Sequence[Write], safe: Callable[[], None] | None = None, *, sync: bool = False) -> None:
        """Have this written; `safe` is called when it is. It must not raise."""
        self._add(Entry(writes, safe, sync))

    def _add(self, entry: Entry) -> None:
        if self._closed:
            return  # what happens to a run after its engine let go of it happens again, after the next start
        self._queue.append(entry)
        if self._waker is not None:
            self._waker.wake()

    async def write(self, *writes: Write, sync: bool = True, admits: str | None = None, gives_up: bool = False) -> None:
        """Have this written, and return when it is. Raises `StoreUnavailable` or `KeyTaken` for an admission.

        With `gives_up` it raises `StoreUnavailable`, too, if that takes too long; it may be written all the same.

        One that `admits` a run cannot be cancelled once it has begun, since whoever is cancelled then would not know
        whether there is a run. So if a native cancellation comes out of it, the run is there.
        """
        await checkpoint_if_cancelled()
        if self._closed:
            raise EngineClosed()
        if gives_up and self.trouble is not None:
            raise self.trouble
        await self._written(writes, sync=sync, admits=admits, gives_up=gives_up)

    async def flush(self, *, gives_up: bool = False) -> None:
        """Wait until all that was put so far is written. Raises `EngineClosed` if that does not happen any more.

        If it gives up, it raises `StoreUnavailable` when that takes too long: for those who only want to read.
        """
        if self._closed:
            raise EngineClosed()
        if gives_up and self.trouble is not None:
            raise self.trouble
        if self.idle or self._is_cut:
            return
        await self._written((), gives_up=gives_up)

    async def _written(
        self, writes: Sequence[Write], *, sync: bool = False, admits: str | None = None, gives_up: bool = False
    ) -> None:
        waker = new_waker()
        done: list[Exception | None] = []

        def over(error: Exception | None = None) -> None:
            done.append(error)
            waker.wake()

        self._add(Entry(writes, over, sync, admits, over, gives_up))
        if admits is None:
            while not done:
                await waker.park()
        else:
            await _until_told(waker, done)
        if done[0] is not None:
            raise done[0]

    async def finish(self) -> None:
        """Write what is queued, even if nobody serves any more, and close: what comes later is dropped.

        Cancelling it closes, too, without waiting any longer.
        """
        if self._closed:
            return
        self._leaver = new_waker()
        try:
            while not self.idle and self._served and not self._is_cut:
                # Whoever serves may be cancelled at any time, and then nobody would tell of a flush.
                self._add(Entry((), self._leaver.wake, False))
                await self._leaver.park()
            if self._queue and not self._is_cut:
                await self._write_the_rest()
        finally:
            self.close()

    async def tell_what_is_waited_for(self) -> None:
        """While the engine is being left: say what for, again and again at growing intervals, if nothing is written."""
        gap = FIRST_WARNING
        while not self._closed:
            commits, was_idle, now = self._commits, self.idle, anyio.current_time()
            await anyio.sleep(gap)
            if was_idle or self.idle or self._commits != commits:
                self._stuck_since = None
                continue
            self._stuck_since = now if self._stuck_since is None else self._stuck_since
            self._say_what_is_waited_for(anyio.current_time() - self._stuck_since)
            gap = min(2 * gap, LONGEST_WARNING)

    def _say_what_is_waited_for(self, seconds: float) -> None:
        writes = [write for entry in (*self._in_hand, *self._queue) for write in entry.writes]
        runs = list(dict.fromkeys(run for write in writes if (run := _run_of(write)) is not None))
        named = ", ".join(runs[:NAMED_RUNS]) + (f" and {len(runs) - NAMED_RUNS} more" * (len(runs) > NAMED_RUNS))
        logger.error(
            "the engine cannot be left: for %.0f s %s has not taken %d writes of %d runs (%s): %s. Cancel the task "
            "that leaves the engine to give up: what was not written then happens again at the next start",
            *(seconds, self.store.facts.url, len(writes), len(runs), named),
            self.trouble or "it does not answer",
            extra=about(runs=runs),
        )

    async def _write_the_rest(self) -> list[Entry]:
        """Write what is queued in one attempt, since nobody is there to try again, and tell those who wait for it.

        Gives what was written, or not, and was not told: what follows from a run's records is for who serves next.
        """
        batch, self._queue = list(self._queue), deque()
        error: Exception | None = None
        try:
            await self._commit_once(batch)
        except Exception as raised:
            writes = sum(len(entry.writes) for entry in batch)
            logger.error("the last %d records could not be written, what they tell happens again: %s", writes, raised)
            error = EngineClosed(f"the engine was left before this was written: {raised}")
        except BaseException:
            self._queue.extendleft(reversed(batch))
            raise
        for entry in batch:
            if entry.refused is not None and error is not None:
                entry.refused(error)
            elif entry.refused is not None and entry.safe is not None:
                entry.safe()
        left = [entry for entry in batch if entry.refused is None]
        if error is not None:
            left += _withdrawals(batch)
        return left

    async def _commit_once(self, batch: list[Entry]) -> None:
        while writes := _tried(batch):
            try:
                await self.store.commit(writes, sync=True)
                return
            except (KeyTaken, RunIdTaken) as taken:
                _refuse(batch, [entry for entry in batch if _is_refused(entry, taken)], taken)

    # -- a store that several engines share

    def cut(self, error: LeaseLost) -> None:
        """The lease is over: what was to be written is not, and whoever waits for it is told so.

        What is under way may be written all the same, and nothing follows from it. Nothing more is written until
        `go_on`.
        """
        self._lease += 1
        self._is_cut = True
        self.trouble = self._failing_since = None
        left, self._queue = [*self._in_hand, *self._queue], deque()
        for entry in left:
            if entry.refused is not None:
                entry.refused(error)
            entry.safe = entry.refused = None
        if self._leaver is not None:
            self._leaver.wake()

    def go_on(self) -> None:
        """There is another lease: write what comes from now on."""
        self._is_cut = False
        if self._waker is not None:
            self._waker.wake()

    def close(self) -> None:
        """Take nothing more; what is queued is dropped, and whoever waits for it is told."""
        self._closed = True
        left, self._queue = self._queue, deque()
        for entry in left:
            if entry.refused is not None:
                entry.refused(EngineClosed("the engine was left before this was written"))
        if self._waker is not None:
            self._waker.wake()

    async def serve(self) -> None:
        """Commit whatever is queued, until closed."""
        self._served = True
        try:
            await self._serve()
        except BaseException:
            # Nobody may serve after this one, and who waits for an admission cannot be cancelled.
            if any(entry.admits is not None for entry in self._queue):
                with anyio.move_on_after(LAST_SECONDS, shield=True):
                    left = await self._write_the_rest()  # which makes the queue anew
                    self._queue.extendleft(reversed(left))
                self._refuse_queued([entry for entry in self._queue if entry.admits is not None], EngineClosed())
            raise
        finally:
            self._served = False
            if self._leaver is not None:
                self._leaver.wake()

    async def _serve(self) -> None:
        while not self._closed:
            if not self._queue or self._is_cut:
                self._waker = new_waker()
                try:
                    await self._waker.park()
                finally:
                    self._waker = None
                continue
            batch = self._in_hand = self._next_batch()
            try:
                await self._commit(batch)
            except BaseException:
                self._queue.extendleft(reversed(batch))  # whoever serves next writes it, perhaps again
                if self._closed:
                    self.close()
                raise
            finally:
                self._in_hand = []
            for entry in batch:
                if entry.safe is not None:
                    entry.safe()

    def _next_batch(self) -> list[Entry]:
        batch, size = [], 0
        while self._queue and size < MOST_WRITES:
            entry = self._queue.popleft()
            size += len(entry.writes)
            batch.append(entry)
        return batch

    async def _commit(self, batch: list[Entry]) -> None:
        """Write them, however long it takes; entries that are refused are taken out."""
        delay, lease = FIRST_DELAY, self._lease
        while self._lease == lease and (writes := _tried(batch)):
            began = perf_counter()
            try:
                await self.store.commit(writes, sync=any(entry.sync for entry in batch))
            except (KeyTaken, RunIdTaken) as taken:
                _refuse(batch, [entry for entry in batch if _is_refused(entry, taken)], taken)
                continue
            except LeaseLost as error:
                if self._lease == lease:
                    self.lost(error)
                continue
            except Exception as error:
                now = anyio.current_time()
                self._failing_since = now if self._failing_since is None else self._failing_since
                self._failed(error, batch, now - self._failing_since)
                await anyio.sleep(delay)
                delay = min(2 * delay, LONGEST_DELAY)
                continue
            self.commit_seconds.add(perf_counter() - began)
            self.batch_records.add(len(writes))
            self._commits += 1
            if self._failing_since is not None:
                self._works_again(self._failing_since)
            return

    def _works_again(self, failing_since: float) -> None:
        if self.trouble is not None:
            logger.warning("the store writes again, after %.1f s", anyio.current_time() - failing_since)
        self.trouble = self._failing_since = None

    def _failed(self, error: Exception, batch: list[Entry], seconds: float) -> None:
        if not isinstance(error, StoreUnavailable):
            logger.exception("the store raised what it should not; it is tried again", exc_info=error)
        if seconds < PATIENCE:
            return
        trouble = error if isinstance(error, StoreUnavailable) else StoreUnavailable(f"the store raised {error!r}")
        if self.trouble is None:
            logger.error("the store cannot write, so no new run is accepted until it can: %s", error)
        self.trouble = trouble
        _refuse(batch, [entry for entry in batch if entry.gives_up], trouble)
        self._refuse_queued([entry for entry in self._queue if entry.gives_up], trouble)

    def _refuse_queued(self, refused: Sequence[Entry], error: Exception) -> None:
        gone = set(refused)
        left = [entry for entry in self._queue if entry not in gone]
        self._queue = deque([*left, *_withdrawals(entry for entry in refused if entry.tried)])
        _refuse([], refused, error)


async def _until_told(waker: Waker, done: Sequence[object]) -> None:
    """Wait until it is, whatever happens meanwhile; what no scope shields against is passed on then.

    That is a native cancellation, unless there is an error to tell; and an interrupt, which trio raises in its main
    task wherever that waits: that comes once more.
    """
    cancelled: BaseException | None = None
    interrupted = False
    with anyio.CancelScope(shield=True):
        while not done:
            try:
                await waker.park()
            except anyio.get_cancelled_exc_class() as error:
                cancelled = error
            except KeyboardInterrupt:
                interrupted = True
    if interrupted:
        raise_signal(SIGINT)
    if cancelled is not None and done[0] is None:
        raise cancelled


def _tried(batch: Sequence[Entry]) -> list[Write]:
    """All writes of a batch, which may be written from now on, whatever becomes of the commit."""
    writes: list[Write] = []
    for entry in batch:
        entry.tried = True
        writes += entry.writes
    return writes


def _withdrawals(refused: Iterable[Entry]) -> list[Entry]:
    """What takes back admissions that perhaps were written all the same."""
    return [Entry([Forget(entry.admits)], None, False) for entry in refused if entry.admits is not None]


def _run_of(write: Write) -> str | None:
    run_id: str | None = write.row.run_id if isinstance(write, Admit) else getattr(write, "run_id", None)
    return run_id


def _refuse(batch: list[Entry], refused: Sequence[Entry], error: Exception) -> None:
    """These are not to be written after all. One that perhaps was, before its answer was lost, is taken back."""
    for entry in refused:
        if entry in batch:
            index = batch.index(entry)
            withdrawn = [] if isinstance(error, KeyTaken | RunIdTaken) else _withdrawals([entry])
            batch[index] = withdrawn[0] if withdrawn else Entry((), None, False)
        if entry.refused is not None:
            entry.refused(error)


def _is_refused(entry: Entry, taken: KeyTaken | RunIdTaken) -> bool:
    if isinstance(taken, RunIdTaken):
        return entry.admits == taken.run_id
    return any(getattr(getattr(write, "row", None), "key", None) == taken.key for write in entry.writes)


def _nobody_knows(error: LeaseLost) -> None:
    raise AssertionError("only an engine that shares its store has a lease to lose") from error
