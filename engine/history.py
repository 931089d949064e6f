"""A run's log, events and visited nodes: bounded, and made into objects only when somebody looks.

On the way through a chain one activation leaves one tuple in the log and one
among the events; the latter stands for three events (succeeded, edge taken,
next one started) until it is read.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterator, Mapping, Sequence
from itertools import islice
from typing import Any, Literal

import attrs

from .errors import HistoryGone, said_by

LogStatus = Literal["succeeded", "failed", "cancelled", "timed_out"]


@attrs.frozen
class LogEntry:
    """One attempt."""

    node: str
    activation: int
    attempt: int
    status: LogStatus
    start: float
    duration: float
    error: str | None = None
    keys: tuple[str, ...] = ()

    def to_dict(self) -> dict[str, Any]:
        """As plain values, for JSON."""
        return attrs.asdict(self)


@attrs.frozen
class Event:
    """One thing that happened in a run; `seq` increases by one from event to event.

    Except at `events_lost`, which stands for all numbers from `data["first"]` to its own: what nodes told of themselves
    (`node_progress`) is not on record, and is not known any more once the run went on in another process.
    """

    seq: int
    type: str
    time: float
    node: str | None = None
    activation: int | None = None
    data: Mapping[str, Any] = attrs.field(factory=dict)

    def to_dict(self) -> dict[str, Any]:
        """As plain values, for JSON where the data is."""
        return {**attrs.asdict(self, recurse=False), "data": dict(self.data)}


RawLog = tuple[str, int, int, LogStatus, float, float, BaseException | str | None, tuple[str, ...]]


Way = str | tuple[str, str, int]
"""An edge that was taken: its target, and what started there if that was at once (name and number)."""


RawData = Mapping[str, Any] | str | int | tuple[Any, ...] | None
"""An event's data before it is read: a target, an attempt, or an attempt and its keys stand for themselves."""


class History:
    """What a run and its subgraphs leave behind, the newest `limit` of each kind."""

    __slots__ = ("_events", "_forgotten", "_full", "_log", "_unseen", "_visited", "limit", "seq")

    def __init__(self, limit: int) -> None:
        self.limit = limit
        self.seq = 0
        """The sequence number of the newest event."""
        self._forgotten = 0
        """Entries of the log that were cut off, and names of visited nodes."""
        self._unseen = 0
        # Lists, cut back now and then: an empty deque takes ten times the memory, which thousands of runs feel.
        self._log: list[RawLog] = []
        self._events: list[tuple[Any, ...]] = []
        self._visited: list[str] = []
        self._full = limit + limit // 4 + 16

    # --- writing ------------------------------------------------------------------------------------

    def event(
        self,
        type: str,
        time: float,
        node: str | None = None,
        activation: int | None = None,
        data: RawData = None,
    ) -> None:
        self.seq = seq = self.seq + 1
        self._events.append((seq, type, time, node, activation, data))
        if len(self._events) > self._full:
            self._cut_back()

    def began(self, time: float) -> None:
        """The run was submitted, and it started."""
        self.seq = seq = self.seq + 2
        self._events.append((seq, time))

    def lost_until(self, seq: int, time: float) -> None:
        """Events up to this number happened, and nobody knows them any more."""
        first, self.seq = self.seq + 1, seq - 1
        self.event("events_lost", time, data={"first": first, "count": seq - first + 1})

    def entry(self, raw: RawLog) -> None:
        self._log.append(raw)

    def started(self, time: float, node: str, number: int, attempt: int) -> None:
        """An activation started."""
        self._visited.append(node)
        self.event("node_started", time, node, number, attempt)

    def step(self, raw: RawLog, target: str, next_node: str, next_number: int) -> None:
        """An activation succeeded, its one edge was taken, the next one started."""
        self.seq = seq = self.seq + 3
        self._log.append(raw)
        self._events.append((seq, raw, target, next_node, next_number))
        self._visited.append(next_node)
        if len(self._events) > self._full:
            self._cut_back()

    def arrived(self, raw: RawLog, target: str) -> None:
        """An activation succeeded, its one edge was taken, and a join has its token."""
        self.seq = seq = self.seq + 2
        self._log.append(raw)
        self._events.append((seq, raw, target))
        if len(self._events) > self._full:
            self._cut_back()

    def forked(self, raw: RawLog, ways: Sequence[Way], started: Sequence[str]) -> None:
        """An activation succeeded, and its edges were taken: to joins, or to activations that started."""
        self.seq = seq = self.seq + 1 + len(ways) + len(started)
        self._log.append(raw)
        self._events.append((seq, raw, ways, len(ways) + len(started)))
        self._visited += started
        if len(self._events) > self._full:
            self._cut_back()

    def _cut_back(self) -> None:
        # No attempt and no visit without an event, so it is enough to watch these.
        self._forgotten += self._cut(self._log)
        self._unseen += self._cut(self._visited)
        self._cut(self._events)

    def _cut(self, kept: list[Any]) -> int:
        spare = max(0, len(kept) - self.limit)
        del kept[:spare]
        return spare

    def go_on_from(self, seq: int, logged: int, visits: int) -> None:
        """After a snapshot: so much has been, none of which is here."""
        self.seq = seq
        self._forgotten = logged
        self._unseen = visits

    def recall(self, log: Sequence[RawLog]) -> None:
        """These were the entries of the log before all that are here, without a gap."""
        room = max(0, self.limit - len(self._log))
        recalled = log[len(log) - min(room, len(log), self._forgotten) :]
        self._log[:0] = recalled
        self._forgotten -= len(recalled)

    def forget(self) -> None:
        """Let go of all so far, for one who has read the events and nothing else."""
        self._forgotten, self._unseen = self.logged, self.visits
        for kept in (self._log, self._events, self._visited):
            kept.clear()

    # --- reading ------------------------------------------------------------------------------------

    @property
    def logged(self) -> int:
        """Attempts that have ended, those included that are not kept."""
        return self._forgotten + len(self._log)

    @property
    def visits(self) -> int:
        """Activations that have started, likewise."""
        return self._unseen + len(self._visited)

    @property
    def log_dropped(self) -> int:
        return self.logged - min(len(self._log), self.limit)

    @property
    def visited_dropped(self) -> int:
        return self.visits - min(len(self._visited), self.limit)

    @property
    def events_dropped(self) -> int:
        return self.first_kept - 1

    @property
    def first_kept(self) -> int:
        """The lowest sequence number that is kept; one past the newest if none is."""
        if not self._events:
            return self.seq + 1
        oldest = self._events[0]
        lowest: int = oldest[0] - _before(oldest)
        return max(lowest, self.seq - self.limit + 1)

    def log(self) -> list[LogEntry]:
        return [_entry(raw) for raw in self._log[-self.limit :]]

    def visited(self) -> list[str]:
        return self._visited[-self.limit :]

    def events(self, after: int = 0, most: int | None = None) -> list[Event]:
        """The events after this number, the first `most` of them; `HistoryGone` if one of them was dropped."""
        first = self.first_kept
        if after + 1 < first:
            raise HistoryGone(after + 1, first)
        begin = bisect_right(self._events, after, key=_number)
        raws = self._events[begin : None if most is None else begin + most]  # each stands for one at least
        return list(islice((event for raw in raws for event in _events(raw, after)), most))


def _number(raw: tuple[Any, ...]) -> int:
    """That of the last event that a raw one stands for."""
    number: int = raw[0]
    return number


def _entry(raw: RawLog) -> LogEntry:
    node, number, attempt, status, start, end, error, keys = raw
    shown = error if error is None or isinstance(error, str) else described(error)
    return LogEntry(node, number, attempt, status, start, max(0.0, end - start), shown, tuple(keys))


def described(error: BaseException) -> str:
    """An error in a line: its type, and what it says."""
    said = said_by(error)
    return f"{type(error).__name__}: {said}" if said else type(error).__name__


# What a raw event is, by its length.
_EVENT, _BEGAN, _STEP, _ARRIVED, _FORKED = 6, 2, 5, 3, 4
_BEFORE = {_EVENT: 0, _BEGAN: 1, _STEP: 2, _ARRIVED: 1}


def _before(raw: tuple[Any, ...]) -> int:
    """How many events stand before the one whose number a raw one has."""
    before: int = raw[3] if len(raw) == _FORKED else _BEFORE[len(raw)]
    return before


def _events(raw: tuple[Any, ...], after: int) -> Iterator[Event]:
    """Those that a raw one stands for, with numbers above this one: the others cost nothing, a fork may have many."""
    kind, seq = len(raw), raw[0] - _before(raw)
    if kind == _EVENT:
        _, type_, time, node, number, data = raw
        yield Event(seq, type_, time, node, number, _data(data))
        return
    if kind == _BEGAN:
        if seq > after:
            yield Event(seq, "run_submitted", raw[1])
        yield Event(seq + 1, "run_started", raw[1])
        return
    node, number, attempt, _, _, time, _, keys = raw[1]
    if seq > after:
        yield Event(seq, "node_succeeded", time, node, number, _data((attempt, keys)))
    for way in raw[2] if kind == _FORKED else (raw[2] if kind == _ARRIVED else raw[2:],):
        at_once = not isinstance(way, str)
        seq += 1
        if seq > after:
            yield Event(seq, "edge_taken", time, node, number, {"target": way[0] if at_once else way})
        if at_once:
            seq += 1
            if seq > after:
                yield Event(seq, "node_started", time, way[1], way[2], {"attempt": 1})


def _data(raw: RawData) -> Mapping[str, Any]:
    match raw:
        case None:
            return {}
        case str():
            return {"target": raw}
        case int():
            return {"attempt": raw}
        case tuple():
            return {"attempt": raw[0], "keys": list(raw[1])}
        case _:
            return raw
