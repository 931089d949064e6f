"""Random graphs in which everything occurs that a journal must survive, and runs of them that are cut short.

The graphs are those of the reference; some of their nodes become subgraphs (with forks and waits inside), waits, or
maps whose worker is a subgraph. While a run goes on it is signalled, paused and resumed; if asked for, it is also
cancelled, hits its deadline, and is retried after a failure. What the reference would say does not matter here: a run
that was cut short is compared with itself.
"""

from __future__ import annotations

import itertools
import pickle
import random
from collections import Counter
from collections.abc import Mapping
from typing import Any

from attrs import evolve

from engine.plan import EdgeDecl, GraphDecl, MapDecl, NodeDecl, Plan, SubgraphDecl, WaitDecl, compile_plan
from engine.runs import Run
from engine.state import DictState
from engine.tokens import CANCELLING, DONE, FAILED, INSIDE, PARKED, Activation, Record
from tests.driver import freeze
from tests.reference.spec import ERRORS, GraphSpec, Node
from tests.semantics.random_graphs import Core, CoreDriver

Key = tuple[Any, str, int]


class MixedCore(Core):
    """A spec whose nodes are of all kinds. `timeouts` lets waits and subgraphs time out."""

    def __init__(self, spec: GraphSpec, seed: int, *, timeouts: bool = False) -> None:
        self.dice = random.Random(f"mixed {seed}")
        self.timeouts = timeouts
        super().__init__(spec)

    def _node(self, node: Node) -> NodeDecl:
        plain = super()._node(node)
        roll = self.dice.randrange(100)
        if node.map is not None:
            return evolve(plain, map=self._map(node, plain.map)) if roll < 50 else plain  # type: ignore[arg-type]
        if node.goto or node.form != "mapping" or roll >= 50:
            return plain
        if roll < 15 and not self.spec.typed:
            return evolve(plain, kind="wait", wait=self._wait(f"w_{node.name}"))
        timeout = 1000.0 if self.timeouts and self.dice.randrange(3) == 0 else None
        return evolve(plain, kind="subgraph", subgraph=SubgraphDecl(plan=self._inside(node)), timeout=timeout)

    def _wait(self, into: str) -> WaitDecl:
        timeout = 1000.0 if self.timeouts and self.dice.randrange(2) else None
        return WaitDecl(signals=("go",), into=into, timeout=timeout)

    def _inside(self, node: Node) -> Plan:
        names = {what: f"{node.name}.{what}" for what in ("do", "side", "end", "wait")}
        nodes = [super()._node(evolve(node, name=names["do"], join="all"))]
        edges: list[tuple[str, str]] = []
        shape = self.dice.randrange(3)
        entry = "side"
        if shape < 2:
            nodes.append(NodeDecl(name=names["side"]))
            edges.append(("side", "do"))
        if shape == 1:
            nodes += [NodeDecl(name=names["side"] + "2"), NodeDecl(name=names["end"])]
            edges += [("do", "end")]
        if shape == 2 and self.spec.typed:
            entry = "do"
        elif shape == 2:
            nodes.append(NodeDecl(name=names["wait"], kind="wait", wait=self._wait(f"w_{node.name}")))
            entry = "wait"
            edges.append(("wait", "do"))
        decls = [EdgeDecl(source=names[a], target=names[b]) for a, b in edges]
        if shape == 1:
            side2 = names["side"] + "2"
            decls += [EdgeDecl(source=names["side"], target=side2), EdgeDecl(source=side2, target=names["end"])]
        return self._plan(nodes, decls, names[entry], self.schema)

    def _map(self, node: Node, decl: MapDecl) -> MapDecl:
        names = [f"{node.name}.work"]
        retry = super()._node(node).retry
        nodes = [NodeDecl(name=names[0], retry=retry)]
        if self.dice.randrange(2):
            names.insert(0, f"{node.name}.wait")
            nodes.append(NodeDecl(name=names[0], kind="wait", wait=WaitDecl(signals=("item",), into="w")))
        edges = [EdgeDecl(source=a, target=b) for a, b in itertools.pairwise(names)]
        return evolve(decl, worker=self._plan(nodes, edges, names[0], DictState()), item="item")

    def _plan(self, nodes: list[NodeDecl], edges: list[EdgeDecl], entry: str, state: Any) -> Plan:
        return compile_plan(
            GraphDecl(
                name="inside",
                state=state,
                nodes=tuple(nodes),
                edges=tuple(edges),
                entries=(entry,),
                on_failure=self.spec.on_failure,  # type: ignore[arg-type]
                conflicts=self.spec.conflicts,  # type: ignore[arg-type]
            )
        )


class MixedDriver(CoreDriver):
    """Drives a run of a `MixedCore`; `violence` adds what makes a run end otherwise than it would."""

    def __init__(self, core: MixedCore, seed: int, *, violence: bool = False, run: Run | None = None) -> None:
        super().__init__(core, seed, run=run if run is not None else Run(core.plan, "run", journal=Packer()))
        self._stored: list[Record] = []
        self.violence = violence
        self.retries = 0

    @property
    def stored(self) -> list[Record]:
        """Its records as they come back from a store."""
        self._stored += map(from_a_store, self.records[len(self._stored) :])
        return self._stored

    def finish(self, activation: Activation) -> None:
        if activation.index >= 0 or "." not in activation.node.name:
            super().finish(activation)
            return
        self.running.remove(activation)
        run, attempt, now = activation.run, activation.attempt, self.now
        name, _, what = activation.node.name.partition(".")
        node = self.core.by_name[name]
        assert run.parent is not None
        number = run.parent.number
        error: str | None = None
        returned: Any = None
        if what == "do":
            error = node.error(number, attempt)
            returned = dict(node.answer(_plain(activation.state), number).changes) if error is None else None
        elif what == "work":
            assert node.map is not None
            error = node.map.item_error(activation.state["item"], attempt)
            returned = {"item": node.map.result(activation.state["item"])} if error is None else None
        if error is not None:
            self.carry_out(run.failed(activation, attempt, ERRORS[error](activation.id), now, now - 0.25))
        else:
            returned = _with_replaced(returned)
            self.carry_out(run.succeeded(activation, attempt, returned, now, now - 0.25))

    def step(self) -> bool:
        roll = self.random.randrange(100)
        if self.run.over:
            return self._after_the_end()
        if self._outside(roll):
            return True
        if super().step():
            return True
        if self.run.tree.paused:
            self.now += 1.0
            self.carry_out(self.run.resume(self.now))
            return True
        return self._signal()

    def _outside(self, roll: int) -> bool:
        """Something comes from outside of the run."""
        run, now = self.run, self.now + 1.0
        if roll < 4:
            self.now = now
            self.carry_out(run.resume(now) if run.tree.paused else run.pause(now))
            return True
        if roll < 12:
            return self._signal()
        if self.violence and roll < 14 and not run.ending:
            self.now = now
            self.carry_out(run.cancel(now, "enough") if roll == 12 else run.deadline_hit(now, 9.0))
            return True
        return False

    def _signal(self) -> bool:
        signals = self.run.tree._signals
        if signals is None or not signals.parked:
            return False
        self.now += 1.0
        wait = next(iter(signals.parked)).node.decl.wait
        assert wait is not None
        self.carry_out(self.run.signal(wait.signals[0], True, self.now, f"{self.random.random()}"))
        return True

    def _after_the_end(self) -> bool:
        if super().step():
            return True
        if not self.violence or self.run.status != "failed" or self.retries == 2:
            return False
        self.retries += 1
        self.now += 1.0
        self.done = False
        update = {"x": self.random.randrange(3)} if self.random.randrange(2) else None
        self.carry_out(self.run.retry(self.now, update))
        return True


def _plain(state: Any) -> dict[str, Any]:
    from tests.semantics.random_graphs import plain

    return plain(state)


def _with_replaced(changes: dict[str, Any] | None) -> dict[str, Any] | None:
    from engine.values import Replace
    from tests.reference.spec import Replaced

    if changes is None:
        return None
    return {key: Replace(value.value) if isinstance(value, Replaced) else value for key, value in changes.items()}


class Packer:
    """A journal that packs nothing, and notes what it was asked to."""

    def __init__(self) -> None:
        self.asked: list[tuple[str, list[str]]] = []

    def update(self, values: Mapping[str, Any], where: str) -> Any:
        self.asked.append((where, list(values)))
        return dict(values)


def from_a_store(record: Record) -> Record:
    """As it comes back: another object, made of what was packed; a wait's result only as its signal."""
    back: Record = pickle.loads(pickle.dumps(record))
    if isinstance(record.signal, int) and record.update is not None:
        back.update = None
    elif back.packed is not None and record.kind != "signal":
        back.update = back.packed
    return back


def shape(run: Run) -> Any:
    """All that is live in a run and inside of it, whatever of it is at work or about to be."""
    active = sorted(_activation_shape(one) for one in run.active)
    failed = sorted(_activation_shape(one) for one in run.failed_ones)
    waiting = sorted(
        (token.id, token.edge.index, freeze(token.values), freeze(token.counts))
        for join in run.joins.at.values()
        for token in join.tokens()
    )
    ended = sorted((ended.place, ended.id, freeze(ended.values)) for ended in run.ended)
    kept: Any = ()
    if run.parent is None and not any(one.node.kind == "map" for one in run.active):
        # What a wait inside of an unfinished item has consumed, it consumes again.
        kept = tuple((signal.serial, signal.id) for signal in run.unconsumed)
    numbers = (run.next_token, tuple(run.numbers), run.started, freeze(dict(run.reserved)), freeze(dict(run.unstarted)))
    return active, failed, waiting, ended, kept, numbers, run.ending, len(run.failures)


def _activation_shape(activation: Activation) -> Any:
    status = activation.status if activation.status in (DONE, PARKED, INSIDE, FAILED) else -1
    child = getattr(activation, "child", None)
    inside = shape(child) if child is not None and status == INSIDE else None
    work = getattr(activation, "work", None)
    items: Any = None
    if work is not None and status == INSIDE:
        items = sorted((index, freeze(value)) for index, value in work.finished()), sorted(work.left_out())
    values, counts = freeze(activation.values), freeze(activation.counts)
    return (activation.id, values, counts, activation.tokens, status, str(inside), str(items))


def being_cancelled(run: Run) -> bool:
    """Whether something is told to stop in it: after a replay that has stopped."""
    for activation in run.active:
        child, work = getattr(activation, "child", None), getattr(activation, "work", None)
        if activation.status == CANCELLING or (child is not None and not child.over and being_cancelled(child)):
            return True
        if work is not None and work.stopping:
            return True
    return bool(run.ending) and not run.over


def completed(records: list[Record]) -> Counter[Key]:
    """Which activations were settled, and how often; those inside of subgraphs aside."""
    return Counter(
        (record.path, record.node, record.activation)
        for record in records
        if record.kind in ("settled", "error_edge") and record.activation and not record.path
    )


def known_outcomes(records: list[Record]) -> set[str]:
    """The ids of all activations and items whose outcome is on record, as far as that still counts."""
    known: set[str] = set()
    for record in records:
        prefix = "".join(f"{node}#{number}/" for node, number, _ in record.path)
        id = f"{prefix}{record.node}#{record.activation}"
        if record.kind in ("settled", "error_edge", "done"):
            known.add(id)
        elif record.kind == "failed" and record.stage != "routing":
            known.discard(id)  # unless it is retried, it does not run again; if it is, it does
        elif record.kind == "item":
            known.add(f"{id}[{record.item}]")
        elif record.kind == "retrying" and record.item < 0:
            known = {one for one in known if not one.startswith(f"{id}/")}
        elif record.kind == "retry":
            known = {one for one in known if not one.endswith("]")}  # a map that failed runs again as a whole
    return known
