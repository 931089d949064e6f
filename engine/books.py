"""The books of an engine: which runs it has taken on, which of them have a place, and who gets the next."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Mapping
from heapq import heapify, heappop, heappush
from time import perf_counter
from typing import Final
from weakref import WeakValueDictionary

from .errors import EngineBusy
from .handle import Run
from .runs import Status

# Runs that may wait for a place, where only `max_runs` was given.
QUEUE_FACTOR: Final = 10


class Books:
    """Runs that are running, queued and ended."""

    def __init__(self, max_runs: int | None, max_queued: int | None, keep_ended: int) -> None:
        self.active: dict[str, Run] = {}
        self.ended: OrderedDict[str, Run] = OrderedDict()
        self.running = 0
        self.admitting: dict[str, Run] = {}
        """Runs that are accepted once the store has them."""
        self.submitted = 0
        self.made = 0
        """Runs that came into memory, those that the store gave back among them."""
        self.refused = 0
        self._max_runs = max_runs
        self._max_queued = (max_runs or 0) * QUEUE_FACTOR if max_queued is None else max_queued
        self._keep_ended = keep_ended
        self.others_bring_back = False
        """Whether a store gives back what is forgotten here: not a second time what somebody still holds."""
        self._held: WeakValueDictionary[str, Run] = WeakValueDictionary()
        self._gathering = 0
        # Those that wait for a place, with what begins them.
        self._queue: list[tuple[int, int, Run, Callable[[], None]]] = []

    def get(self, run_id: str) -> Run | None:
        """The run of this id, as long as it is in memory."""
        return (
            self.active.get(run_id)
            or self.ended.get(run_id)
            or self.admitting.get(run_id)
            or (self._held.get(run_id) if self._held else None)
        )

    @property
    def is_full(self) -> bool:
        """Whether a run would have to wait for a place."""
        return self._max_runs is not None and self.running >= self._max_runs

    @property
    def has_to_wait(self) -> bool:
        """Whether one that comes back from the store waits for its turn: there may be no place, or others before it."""
        return self.is_full or (self._max_runs is not None and self._gathering > 0)

    @property
    def most_queued(self) -> int:
        """How many runs may wait for a place."""
        return self._max_queued

    def gather(self) -> None:
        """Those that wait are being read from the store: nobody's turn is known before all are there."""
        self._gathering += 1

    def gathered(self) -> None:
        """All are there."""
        self._gathering -= 1
        self.begin_queued()

    @property
    def queued(self) -> list[Run]:
        """Those that wait for a place; safe from another thread."""
        return [entry[2] for entry in self._queue.copy() if not entry[2].ending]

    def check_room(self) -> None:
        """Raise `EngineBusy` if neither a place nor the queue has room for one more."""
        if self._max_runs is None:
            return
        if self.running + len(self._queue) + len(self.admitting) >= self._max_runs + self._max_queued:
            self.refused += 1
            raise EngineBusy(
                f"{self.running} runs are running, {len(self._queue)} are queued: the engine is full",
            )

    def begin(self, run: Run) -> None:
        """It has a place."""
        self.active[run.id] = run
        run.counted = True
        run.begun_at = perf_counter()
        self.running += 1

    def end(self, run: Run) -> None:
        """It is to end before it could begin, and is over once the store knows."""
        if not run.over:
            self.active[run.id] = run

    def give_back(self, run: Run) -> None:
        """It never began after all."""
        del self.active[run.id]
        run.counted = False
        self.running -= 1

    def enqueue(self, run: Run, begin: Callable[[], None]) -> None:
        """Let it wait for a place; `begin` is called when it has one."""
        self.active[run.id] = run
        heappush(self._queue, (-run.priority, run.number, run, begin))

    def place(self, run: Run, begin: Callable[[], None]) -> None:
        """Let it begin, or wait for a place."""
        if self.is_full:
            self.enqueue(run, begin)
        else:
            self.begin(run)
            begin()

    def begin_queued(self) -> None:
        """Give free places to those who wait: by priority, then age."""
        while self._queue and not self.has_to_wait:
            run, begin = heappop(self._queue)[2:]
            if not run.ending:
                self.begin(run)
                begin()

    def begin_now(self, run: Run) -> None:
        """Let it begin, if it is queued, whatever the places."""
        for index, (_, _, queued, begin) in enumerate(self._queue):
            if queued is run:
                if not run.ending:
                    del self._queue[index]
                    heapify(self._queue)
                    self.begin(run)
                    begin()
                return

    def close(self, run: Run) -> list[Run] | None:
        """It is over; gives the runs that are forgotten for it, or None if it was not active."""
        if self.active.pop(run.id, None) is None and self.admitting.get(run.id) is not run:
            return None
        forgotten = self.keep(run)
        if run.counted:
            run.counted = False
            self.running -= 1
        elif self._queue:
            self._queue = [entry for entry in self._queue if entry[2] is not run]
            heapify(self._queue)
        return forgotten

    def keep(self, run: Run) -> list[Run]:
        """It has ended; gives the runs that are forgotten for it."""
        self.ended[run.id] = run
        forgotten = []
        while len(self.ended) > self._keep_ended:
            forgotten.append(self.ended.popitem(last=False)[1])
        if self.others_bring_back:
            self._held.update({one.id: one for one in forgotten})
        return forgotten

    def reopen(self, run: Run) -> None:
        """It goes on after its end."""
        self.ended.pop(run.id, None)

    def of_graph(self, name: str, version: str) -> list[Run]:
        """The runs of a graph that have not ended."""
        mine = [run for run in (*self.active.values(), *self.admitting.values()) if not run.over]
        return [run for run in mine if (run.graph, run.version) == (name, version)]

    def find(
        self,
        status: Status | None,
        graph: str | None,
        tags: Mapping[str, str],
        since: float | None,
        limit: int,
        after: int | None,
    ) -> list[Run]:
        """The runs in memory that match, oldest first; `after` is the number of the last one seen."""
        everything = sorted([*self.ended.values(), *self.active.values()], key=lambda run: run.number)
        return [
            run
            for run in everything
            if (after is None or run.number > after)
            and (status is None or run.status == status)
            and (graph is None or run.graph == graph)
            and (since is None or run.submitted_at >= since)
            and all(run.tags.get(name) == value for name, value in tags.items())
        ][:limit]

    def drop(self, run_id: str) -> None:
        """One that has ended, but may have gone on elsewhere since, is not known any more."""
        self.ended.pop(run_id, None)
        self._held.pop(run_id, None)

    def abandon_all(self) -> None:
        """Others go on with all that is not over."""
        for run in self.active.values():
            run.counted = False
        self.active.clear()
        self._queue.clear()
        self.running = 0

    def clear_queue(self) -> None:
        """Nobody gets a place any more."""
        self._queue.clear()
