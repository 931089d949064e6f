"""From a snapshot to the run: the other half of snapshot.py."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from .errors import NodeFailed, PoisonRun, RunCancelled, RunFailed, RunTimeout
from .joins import Wave
from .maps import MapWork
from .merge import new_values
from .plan import PlanEdge, PlanNode
from .replay import ReplayError, apply_all
from .snapshot import FORMAT, STATUSES, Data, Snapshot
from .tokens import Activation, Ended, ErrorInfo, Outcome, Record, Token
from .waits import KeptSignal
from .writes import MISSING, PARTING, Adds, Log, Trace, Write

if TYPE_CHECKING:
    from .runs import Run


def restore(run: Run, snapshot: Snapshot, records: Iterable[Record]) -> None:
    """Bring a new run to where the records after a snapshot end; what was in flight is ordered when it goes live."""
    if snapshot.data.get("format") != FORMAT:
        raise ReplayError(f"a snapshot of format {snapshot.data.get('format')!r}, expected {FORMAT}")
    run.tree.replaying = run.tree.careful = True
    run.joins.distrust()
    reader = _Reader(snapshot)
    reader.run(run, snapshot.data["run"])
    reader.tree(run, snapshot.data["tree"])
    apply_all(run, records)


class _Reader:
    """Makes the parts of a run from plain data and tables."""

    def __init__(self, snapshot: Snapshot) -> None:
        tables = snapshot.data["tables"]
        self._values, self._errors = snapshot.values, snapshot.errors
        self._states = [self.named(row) for row in tables["states"]]
        self._writes = [Write(id, self._value(value), node) for id, value, node in tables["writes"]]
        self._adds: list[Adds] = []
        for write, before in tables["adds"]:
            self._adds.append(Adds(self._writes[write], None if before < 0 else self._adds[before]))
        self._traces = [self._trace(*row) for row in tables["traces"]]
        self._logs = [
            Log.of({key: self._traces[place] for key, place in row.items()}) if row else PARTING
            for row in tables["logs"]
        ]
        self._activations: list[Activation] = []

    def _value(self, place: int) -> Any:
        return MISSING if place < 0 else self._values[place]

    def _error(self, place: int) -> BaseException | None:
        return None if place < 0 else self._errors[place]

    def named(self, places: Mapping[str, int]) -> dict[str, Any]:
        return {key: self._values[place] for key, place in places.items()}

    def _trace(self, base: int, heads: Sequence[int], over: Sequence[int], adds: int) -> Trace:
        those = tuple(self._writes[place] for place in heads)
        return Trace(self._value(base), those, frozenset(over), None if adds < 0 else self._adds[adds])

    def _log(self, place: int) -> Log | None:
        return None if place < 0 else self._logs[place]

    def run(self, run: Run, data: Data) -> None:
        new = len(run.plan.nodes) - len(data["numbers"])
        if new < 0:
            raise ReplayError(f"run {run.id!r} was on a graph of {len(data['numbers'])} nodes, not {run.plan!r}")
        run.numbers = [*data["numbers"], *[0] * new]  # those that a migration has brought
        run.next_token, run.started = data["next_token"], data["started"]
        run._state, run.ending = data["state"], data["ending"]
        run._initial = self._states[data["initial"]]
        for row in data["active"]:
            run._link(self._activation(run, row))
        run.failed_ones = [self._activation(run, row) for row in data["failed"]]
        run.failures = [NodeFailed(node, n, attempts, self._errors[e]) for node, n, attempts, e in data["failures"]]
        run.ended = [self._ended(*row) for row in data["ended"]]
        for row in data["joins"]:
            self._waiting(run, row)
        run.joins.ask_again(*data["questions"])
        run.reserved = {index: tuple(numbers) for index, numbers in data["reserved"]}
        run.unstarted = dict(data["unstarted"])
        run.tracked, run._final_settled = frozenset(data["tracked"]), frozenset(data["final_settled"])
        run._over_limits, run._ended_limit = data["over_limits"], data["ended_limit"]
        run._end_conflict, run.cancel_reason = data["end_conflict"], data["cancel_reason"]
        if data["timeout"] is not None:
            run._verdict = RunTimeout(run.id, data["timeout"])
        elif data.get("poison") is not None:
            run._verdict = PoisonRun(run.id, *data["poison"])
        if run.over:
            run.state = self._states[data["values"]]
            if run._state == "failed":
                verdict = [] if run._verdict is None else [run._verdict]
                run.error = RunFailed.of(run.id, run.plan.name, [*run.failures, *verdict])
            elif run._state == "cancelled":
                run.error = RunCancelled(run.id, run.cancel_reason)

    def tree(self, run: Run, data: Data) -> None:
        """Call it last: it names activations by the order in which they were made."""
        tree, made = run.tree, self._activations
        tree.now, tree.paused, tree.was_waiting = data["now"], data["paused"], data["was_waiting"]
        tree.retries, tree.loop_limits, tree.writes = data["retries"], data["loop_limits"], data["writes"]
        tree.history.go_on_from(data["seq"], data["logged"], data["visits"])
        for place, begun in data["held"]:
            tree.hold(made[place], begun)
        if (signals := data.get("signals")) is not None:
            kept = [KeptSignal(serial, name, self._values[p], id) for serial, name, p, id in signals["kept"]]
            tree.signals.go_on_from(kept, signals["ids"], signals["serial"])
            tree.signals.parked = {made[place]: None for place in signals["parked"]}

    def _activation(self, run: Run, data: Data) -> Activation:
        one = Activation(
            run,
            _node(run, data["node"]),
            data["number"],
            self._states[data["values"]],
            self._log(data["log"]),
            _mapping(data["counts"]),
            _sets(data["descent"]),
            tuple(data["tokens"]),
            _edge(run, data["entered"]),
            data["came_from"],
        )
        self._activations.append(one)
        one.status, one.attempt = STATUSES.index(data["status"]), data["attempt"]
        if "error" in data:
            one.error = self._error_info(*data["error"])
        if "arrived" in data:
            one.arrived = tuple(self._token(run, row) for row in data["arrived"])
        if "failed_ways" in data:
            one.failed_ways = frozenset(data["failed_ways"])
        for name in ("base", "stage", "signal", "timed_out", "due"):
            if name in data:
                setattr(one, name, data[name])
        if "outcome" in data:
            one.outcome = self._outcome(run, one, data["outcome"])
        if "child" in data:
            self._inside(run, one, data)
        elif "items" in data:
            one.state = (data["began"], None)
            self._items(one, data["items"])
        elif "began" in data:
            one.state = data["began"]
        return one

    def _inside(self, run: Run, one: Activation, data: Data) -> None:
        assert one.node.decl.subgraph is not None
        one.begun = data["began"]
        one.entered_with = self._states[data["entered_with"]]
        one.child = type(run)(one.node.decl.subgraph.plan, run.root.id, parent=one)
        self.run(one.child, data["child"])

    def _items(self, one: Activation, data: Data) -> None:
        assert one.node.decl.map is not None
        work = one.work = MapWork(one, one.node.decl.map)
        for index, place in data["finished"]:
            work.was_finished(index, {work.decl.into: self._values[place]}, None)
        for index in data["left_out"]:
            work.was_finished(index, None, None)
        work.errors = {index: self._errors[place] for index, place in data["errors"]}
        work.attempts = {index: (attempts, due or 0.0) for index, attempts, due in data["tried"]}
        work.stopping = data["stopping"]

    def _outcome(self, run: Run, one: Activation, data: Data) -> Outcome:
        update = None if data["update"] is None else self.named(data["update"])
        changed = new_values(one.values, update, run.plan.state.reducers) if update else {}
        goto = None if data["goto"] is None else tuple(data["goto"])
        edge = None if data["edge"] < 0 else _edge(run, data["edge"])
        outcome = Outcome(update, changed, goto, edge, self._error(data["error"]))
        outcome.patch = None if data["patch"] is None else self.named(data["patch"])
        outcome.recorded = True
        return outcome

    def _token(self, run: Run, data: Data) -> Token:
        return Token(
            data["id"],
            _edge(run, data["edge"]),
            data["number"],
            self._states[data["values"]],
            self._log(data["log"]),
            _mapping(data["counts"]),
            _sets(data["descent"]),
            self._error_info(*data["error"]) if "error" in data else None,
        )

    def _error_info(self, node: str, activation: int, type: str, message: str, attempts: int, place: int) -> ErrorInfo:
        return ErrorInfo(node, activation, type, message, attempts, self._error(place))

    def _ended(self, place: Sequence[int], id: int, values: int, log: int, folded: bool) -> Ended:
        node, number, edge = place
        ended = Ended((node, number, edge), id, self._states[values], self._log(log))
        ended.folded = folded
        return ended

    def _waiting(self, run: Run, data: Data) -> None:
        tokens = [self._token(run, row) for _, rows in data["queues"] for row in rows]
        waves = []
        for activation, arrived, delivered in data["waves"]:
            wave = Wave()
            wave.activation, wave.delivered = activation, set(delivered)
            for token in (self._token(run, row) for row in arrived):
                wave.arrived[token.edge.slot] = token
            waves.append(wave)
        waiting = run.joins.put_back(_node(run, data["node"]), tokens, waves)
        waiting.since, waiting.pointer, waiting.witness = data["since"], data["pointer"], data["witness"]


def _node(run: Run, name: str) -> PlanNode:
    node = run.plan.by_name.get(name)
    if node is None:
        raise ReplayError(f"run {run.id!r} was on a graph with a node {name!r}, which {run.plan!r} has not")
    return node


def _edge(run: Run, index: int) -> PlanEdge:
    if index >= len(run.plan.edges):
        raise ReplayError(f"run {run.id!r} was on a graph with {index + 1} edges or more, not {run.plan!r}")
    return run.plan.edges[index]


def _mapping(pairs: Sequence[tuple[int, int]] | None) -> dict[int, int] | None:
    return None if pairs is None else dict(pairs)


def _sets(pairs: Sequence[tuple[int, Sequence[int]]] | None) -> dict[int, frozenset[int]] | None:
    return None if pairs is None else {key: frozenset(those) for key, those in pairs}
