"""A run as it stands, as plain data: so that to recover it costs what is live, not what has happened.

What is shared stays shared: a value that several branches carry is in the table of
values once, and writes and contributions keep their identity, by which branches that
meet know what they have in common. The history before it is not in it, only how much
there was: log and events begin anew with the numbers that they had come to, and who
asks for older ones is told so (`HistoryGone`) or reads the records.

Take it between events, from a run that has a journal: what has no record counts as
being in flight, and is not in it. So a map has its finished items, and the number of
attempts that others have had; signals which unfinished items consumed are kept.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import attrs

from .errors import PoisonRun, RunTimeout
from .tokens import (
    DONE,
    FAILED,
    INSIDE,
    PARKED,
    RETRYING,
    Activation,
    Ended,
    ErrorInfo,
    Item,
    Outcome,
    Token,
)
from .waits import KeptSignal
from .writes import MISSING, Adds, Log, Trace, Write

if TYPE_CHECKING:
    from .joins import Waiting
    from .maps import MapWork
    from .runs import Run

Data = dict[str, Any]

STATUSES = (
    *("held", "running", "retrying", "parked", "inside", "done"),
    *("cancelling", "not_begun", "settled", "failed", "cancelled"),
)
"""The names of what an activation's status can be: those numbers may change from version to version."""

FORMAT = 1
"""Of `Snapshot.data`."""


@attrs.frozen(eq=False)
class Snapshot:
    """What a run needs to go on. `data` is for JSON: dicts with string keys, lists, numbers, strings, None."""

    data: Data
    """Where it holds a value or an error of a user, it has its place in one of the tables."""
    values: Sequence[Any]
    """Values of states, contributions and `Replace`s, updates, results of items, payloads of signals."""
    errors: Sequence[BaseException]
    """What nodes raised, and the engine itself."""


def snapshot(run: Run) -> Snapshot:
    """The run as it stands, and all that is inside of it."""
    writer = _Writer()
    data: Data = {"format": FORMAT, "run": writer.run(run), "tree": writer.tree(run)}
    data["tables"] = writer.tables()
    return Snapshot(data, writer.values, writer.errors)


class _Writer:
    """Writes parts of a run as plain data, and what they share into tables."""

    def __init__(self) -> None:
        self.values: list[Any] = []
        self.errors: list[BaseException] = []
        self._states: list[dict[str, int]] = []
        self._logs: list[dict[str, int]] = []
        self._traces: list[list[Any]] = []
        self._writes: list[list[Any]] = []
        self._adds: list[list[int]] = []
        self._places: dict[tuple[int, int], int] = {}
        """Tables and objects, by `id` -> the object's place in the table."""
        self._met: list[object] = []
        """They must live as long as their ids are used."""
        self._numbers: dict[Activation, int] = {}

    def tables(self) -> Data:
        return {
            "states": self._states,
            "logs": self._logs,
            "traces": self._traces,
            "writes": self._writes,
            "adds": self._adds,
        }

    def _found(self, thing: object, table: Sequence[Any]) -> int | None:
        return self._places.get((id(table), id(thing)))

    def _place(self, thing: object, table: list[Any], row: Any) -> int:
        self._places[id(table), id(thing)] = place = len(table)
        self._met.append(thing)
        table.append(row)
        return place

    # --- what is shared -----------------------------------------------------------------------------

    def value(self, value: Any) -> int:
        if value is MISSING:
            return -1
        place = self._found(value, self.values)
        return self._place(value, self.values, value) if place is None else place

    def error(self, error: BaseException | None) -> int:
        if error is None:
            return -1
        place = self._found(error, self.errors)
        return self._place(error, self.errors, error) if place is None else place

    def state(self, values: Mapping[str, Any]) -> int:
        place = self._found(values, self._states)
        return self._place(values, self._states, self.named(values)) if place is None else place

    def named(self, values: Mapping[str, Any]) -> dict[str, int]:
        return {key: self.value(value) for key, value in values.items()}

    def log(self, run: Run, log: Log | None) -> int:
        if log is None:
            return -1
        place = self._found(log, self._logs)
        if place is None:
            traces = log.traces(run.plan.state.reducers)
            place = self._place(log, self._logs, {key: self._trace(trace) for key, trace in traces.items()})
        return place

    def _trace(self, trace: Trace) -> int:
        place = self._found(trace, self._traces)
        if place is None:
            heads = [self._write(write) for write in trace.heads]
            row = [self.value(trace.base), heads, sorted(trace.over), self._contributions(trace.adds)]
            place = self._place(trace, self._traces, row)
        return place

    def _write(self, write: Write) -> int:
        place = self._found(write, self._writes)
        if place is None:
            place = self._place(write, self._writes, [write.id, self.value(write.value), write.node])
        return place

    def _contributions(self, adds: Adds | None) -> int:
        new: list[Adds] = []
        while adds is not None and self._found(adds, self._adds) is None:
            new.append(adds)
            adds = adds.before
        found = self._found(adds, self._adds)
        before = -1 if found is None else found
        for one in reversed(new):
            before = self._place(one, self._adds, [self._write(one.write), before])
        return before

    # --- what is live -------------------------------------------------------------------------------

    def run(self, run: Run) -> Data:
        data: Data = {
            "numbers": list(run.numbers),
            "next_token": run.next_token,
            "started": run.started,
            "state": run._state,
            "ending": run.ending,
            "initial": self.state(run._initial),
            "active": [self.activation(run, one) for one in run.active],
            "failed": [self.activation(run, one) for one in run.failed_ones],
            "ended": [self._ended(run, ended) for ended in run.ended],
            "joins": [
                self._waiting(run, waiting) for waiting in run.joins.at.values() if waiting.count or waiting.waves
            ],
            "questions": [list(part) for part in run.joins.questions],
            "failures": [[f.node, f.activation, f.attempts, self.error(f.cause)] for f in run.failures],
            "reserved": _pairs(run.reserved),
            "unstarted": _pairs(run.unstarted),
            "tracked": sorted(run.tracked),
            "final_settled": sorted(run._final_settled),
            "over_limits": dict(run._over_limits),
            "ended_limit": run._ended_limit,
            "end_conflict": run._end_conflict,
            "cancel_reason": run.cancel_reason,
            "timeout": run._verdict.seconds if isinstance(run._verdict, RunTimeout) else None,
        }
        if isinstance(run._verdict, PoisonRun):
            data["poison"] = [run._verdict.times, list(run._verdict.engines)]
        if run.over:
            data["values"] = self.state(run.state)
        return data

    def tree(self, run: Run) -> Data:
        tree, signals = run.tree, run.tree._signals
        numbers = self._numbers
        data: Data = {
            "now": tree.now,
            "paused": tree.paused,
            "retries": tree.retries,
            "loop_limits": tree.loop_limits,
            "writes": tree.writes,
            "was_waiting": tree.was_waiting,
            "seq": tree.history.seq,
            "logged": tree.history.logged,
            "visits": tree.history.visits,
            "held": [[numbers[one], begun] for one, begun in tree.held.items() if one in numbers],
        }
        if signals is not None:
            kept = sorted([*signals.unconsumed, *_consumed_in_items(run)], key=lambda signal: signal.serial)
            data["signals"] = {
                "kept": [[signal.serial, signal.name, self.value(signal.payload), signal.id] for signal in kept],
                "ids": signals.ids,
                "serial": signals.serial,
                "parked": [numbers[one] for one in signals.parked if one in numbers],
            }
        return data

    def activation(self, run: Run, one: Activation) -> Data:
        self._numbers[one] = len(self._numbers)
        data: Data = {
            "node": one.node.name,
            "number": one.number,
            "values": self.state(one.values),
            "log": self.log(run, one.log),
            "counts": _pairs(one.counts),
            "descent": _pairs(one.descent),
            "tokens": list(one.tokens),
            "entered": one.entered.index,
            "came_from": one.came_from,
            "status": STATUSES[one.status],
            "attempt": one.attempt,
        }
        if one.error is not None:
            data["error"] = self._error_info(one.error)
        if arrived := getattr(one, "arrived", ()):
            data["arrived"] = [self._token(run, token) for token in arrived]
        if failed_ways := getattr(one, "failed_ways", None):
            data["failed_ways"] = sorted(failed_ways)
        for name in ("base", "stage", "signal", "timed_out"):
            if (found := getattr(one, name, None)) is not None:
                data[name] = found
        if (outcome := getattr(one, "outcome", None)) is not None and one.status in (DONE, FAILED):
            data["outcome"] = self._outcome(outcome)
        if one.status == RETRYING:
            data["due"] = one.due
        if one.status == PARKED:
            data["began"] = one.state
        elif one.status != DONE or (outcome is not None and outcome.error is not None):
            self._inside(one, data)  # what failed inside goes on if the run is retried
        return data

    def _inside(self, one: Activation, data: Data) -> None:
        child, work = getattr(one, "child", None), getattr(one, "work", None)
        if child is not None:
            data["began"] = one.begun
            data["child"] = self.run(child)
            data["entered_with"] = self.state(one.entered_with)
        elif work is not None and one.status == INSIDE:
            data["began"] = one.state[0]
            data["items"] = self._items(work)

    def _items(self, work: MapWork) -> Data:
        return {
            "finished": [[index, self.value(result)] for index, result in work.finished()],
            "left_out": list(work.left_out()),
            "errors": [[index, self.error(error)] for index, error in work.errors.items()],
            "tried": [list(found) for found in work.tried()],
            "stopping": work.stopping,
        }

    def _outcome(self, outcome: Outcome) -> Data:
        return {
            "update": None if outcome.update is None else self.named(outcome.update),
            "patch": None if outcome.patch is None else self.named(outcome.patch),
            "goto": None if outcome.goto is None else list(outcome.goto),
            "edge": -1 if outcome.edge is None else outcome.edge.index,
            "error": self.error(outcome.error),
        }

    def _token(self, run: Run, token: Token) -> Data:
        data: Data = {
            "id": token.id,
            "edge": token.edge.index,
            "number": token.number,
            "values": self.state(token.values),
            "log": self.log(run, token.log),
            "counts": _pairs(token.counts),
            "descent": _pairs(token.descent),
        }
        if token.error is not None:
            data["error"] = self._error_info(token.error)
        return data

    def _error_info(self, info: ErrorInfo) -> list[Any]:
        return [info.node, info.activation, info.type, info.message, info.attempts, self.error(info.exception)]

    def _ended(self, run: Run, ended: Ended) -> list[Any]:
        return [list(ended.place), ended.id, self.state(ended.values), self.log(run, ended.log), ended.folded]

    def _waiting(self, run: Run, waiting: Waiting) -> Data:
        def tokens(those: Iterable[Token]) -> list[Data]:
            return [self._token(run, token) for token in those]

        return {
            "node": waiting.node.name,
            "since": waiting.since,
            "pointer": waiting.pointer,
            "witness": waiting.witness,
            "queues": [[slot, tokens(waiting.queue(slot))] for slot in waiting.first],
            "waves": [
                [wave.activation, tokens(wave.arrived.values()), sorted(wave.delivered)] for wave in waiting.waves
            ],
        }


def _pairs(mapping: Mapping[int, Any] | None) -> list[list[Any]] | None:
    """For JSON, whose objects have no numbers as keys."""
    if mapping is None:
        return None
    return [[key, list(value) if isinstance(value, Iterable) else value] for key, value in mapping.items()]


def _consumed_in_items(run: Run) -> Iterable[KeptSignal]:
    """What waits inside of unfinished items took, and take again."""
    for one in run.active:
        work, child = getattr(one, "work", None), getattr(one, "child", None)
        if work is not None:
            items: Iterable[Item] = work.at_work.values()
            for item in items:
                yield from item.consumed
        if child is not None and one.status == INSIDE:
            yield from _consumed_in_items(child)
