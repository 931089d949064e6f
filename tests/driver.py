"""Runs a `Run` to its end without an event loop: plain functions as nodes, a seeded order of completion.

Whatever the seed, a run must come to the same end wherever the semantics promise it.
"""

from __future__ import annotations

import itertools
import random
from collections.abc import Callable, Mapping
from typing import Any

from engine.plan import ChoiceDecl, EdgeDecl, GraphDecl, NodeDecl, Plan, compile_plan
from engine.runs import Run
from engine.state import DictState
from engine.tokens import (
    Activation,
    CancelNode,
    ClearTimer,
    CloseItems,
    Command,
    PullItems,
    Record,
    RunDone,
    SetTimer,
)

NodeFunction = Callable[..., Any]


class Driver:
    """Carries out a run's commands; `step()` lets one thing happen, chosen by the seed."""

    def __init__(self, plan: Plan, seed: int = 0, *, journal: bool = False, run: Run | None = None) -> None:
        self.plan = plan
        self.random = random.Random(seed)
        self.run = run if run is not None else Run(plan, "run", journal=journal)
        self.now = 0.0
        self.running: list[Activation] = []
        self.cancelling: list[Activation] = []
        self.timers: dict[Activation, SetTimer] = {}
        self.sources: dict[Activation, Any] = {}
        self.pulls: list[PullItems] = []
        self.records: list[Record] = []
        self.done = False
        self.peak = 0
        self.starts: list[str] = []
        self.cancelled: list[str] = []
        self.inputs: list[tuple[str, int, Any]] = []

    def start(self, state: Any = None) -> Driver:
        self.carry_out(self.run.start(state if state is not None else {}, self.now))
        return self

    def carry_out(self, commands: list[Command]) -> None:
        for command in commands:
            match command:
                case Activation():
                    self.running.append(command)
                    self.starts.append(command.id)
                    if command.index < 0:
                        self.inputs.append((command.name, command.number, freeze(command.values)))
                    self.peak = max(self.peak, len(self.running))
                case CancelNode():
                    self.running.remove(command.activation)
                    self.cancelling.append(command.activation)
                case SetTimer():
                    self.timers[command.activation] = command
                case ClearTimer():
                    del self.timers[command.activation]
                case PullItems():
                    self.pulls.append(command)
                case CloseItems():
                    self.pulls = [pull for pull in self.pulls if pull.activation is not command.activation]
                    self.sources.pop(command.activation, None)
                case RunDone():
                    assert not self.done, "a run ends once"
                    self.done = True
                case Record():
                    self.records.append(command)
        if self.done:
            assert not self.running, "nothing outlives its run"
            assert not self.cancelling

    # --- what may happen next -----------------------------------------------------------------------

    def step(self) -> bool:
        """One thing happens. False if nothing can."""
        choices: list[Activation | PullItems] = [*self.running, *self.cancelling, *self.pulls, *self.timers]
        if not choices:
            return False
        self.now += 1.0
        chosen = choices[self.random.randrange(len(choices))]
        if isinstance(chosen, PullItems):
            self.pull(chosen)
        elif chosen in self.cancelling:
            self.cancelling.remove(chosen)
            self.cancelled.append(chosen.id)
            self.carry_out(chosen.run.cancelled(chosen, chosen.attempt, self.now))
        elif chosen in self.timers:
            self.fire(chosen)
        else:
            self.finish(chosen)
        return True

    def fire(self, activation: Activation) -> None:
        timer = self.timers.pop(activation)
        self.carry_out(activation.run.timer_fired(activation, timer.purpose, self.now))

    def pull(self, pull: PullItems) -> None:
        activation = pull.activation
        self.pulls.remove(pull)
        decl = activation.node.decl.map
        assert decl is not None
        try:
            if activation not in self.sources:
                over = decl.over
                items = over(activation.state[1]) if callable(over) else activation.values[over]
                self.sources[activation] = iter(items)
            items = []
            more = True
            for _ in range(pull.count):
                try:
                    items.append(next(self.sources[activation]))
                except StopIteration:
                    more = False
                    break
        except Exception as error:
            self.carry_out(activation.run.items_failed(activation, error, self.now))
        else:
            self.carry_out(activation.run.items_given(activation, items, more, self.now))

    def finish(self, activation: Activation) -> None:
        """The function of a running activation is called, and its result reported."""
        self.running.remove(activation)
        run, attempt = activation.run, activation.attempt
        decl = activation.node.decl
        function = decl.map.worker if activation.index >= 0 and decl.map is not None else decl.function
        assert callable(function)
        try:
            if activation.index < 0 and getattr(function, "wants_context", False):
                returned = function(activation.state, activation)
            else:
                returned = function(activation.state)
        except Exception as error:
            self.carry_out(run.failed(activation, attempt, error, self.now, self.now, random=self.random.random()))
        else:
            self.carry_out(run.succeeded(activation, attempt, returned, self.now, self.now))

    def named(self, id: str) -> Activation:
        """The running activation with this id, e.g. `score#2`; `score` means its first."""
        id = id if "#" in id else f"{id}#1"
        return next(activation for activation in self.running if activation.id == id)

    def finish_named(self, *ids: str) -> Driver:
        for id in ids:
            self.finish(self.named(id))
        return self

    def to_end(self) -> Driver:
        while self.step():
            pass
        return self

    @property
    def state(self) -> dict[str, Any]:
        return self.run.state

    @property
    def ids(self) -> list[str]:
        return sorted(activation.id for activation in self.running)


def freeze(value: Any) -> Any:
    if isinstance(value, Mapping):
        return tuple(sorted((key, freeze(item)) for key, item in value.items()))
    if isinstance(value, list | tuple):
        return tuple(map(freeze, value))
    return value


def with_context(function: NodeFunction) -> NodeFunction:
    """Mark a node function that also takes its activation."""
    function.wants_context = True  # type: ignore[attr-defined]
    return function


def graph(
    nodes: Mapping[str, Any],
    *edges: Any,
    entries: tuple[str, ...] | str | None = None,
    reducers: Mapping[str, Callable[[Any, Any], Any]] | None = None,
    **options: Any,
) -> Plan:
    """A plan from little: `{"a": function or NodeDecl options}`, edges as `"a -> b"` or declarations."""
    decls = tuple(
        NodeDecl(name=name, **node) if isinstance(node, Mapping) else NodeDecl(name=name, function=node)
        for name, node in nodes.items()
    )
    if entries is None:
        entries = (next(iter(nodes)),)
    return compile_plan(
        GraphDecl(
            name=options.pop("name", "test"),
            state=options.pop("state", None) or DictState(reducers),
            nodes=decls,
            edges=tuple(found for edge in edges for found in _edges(edge)),
            entries=(entries,) if isinstance(entries, str) else entries,
            **options,
        )
    )


def _edges(edge: Any) -> list[EdgeDecl | ChoiceDecl]:
    if not isinstance(edge, str):
        return [edge]
    stops = [part.strip() for part in edge.split("->")]
    return [
        EdgeDecl(source=source.strip(), target=target.strip())
        for sources, targets in itertools.pairwise(stops)
        for source in sources.split(",")
        for target in targets.split(",")
    ]


def edge(spec: str, **options: Any) -> EdgeDecl:
    source, target = (part.strip() for part in spec.split("->"))
    return EdgeDecl(source=source, target=target, **options)


def choice(source: str, router: Callable[[Any], Any], *targets: str, **labels: str) -> ChoiceDecl:
    return ChoiceDecl(source=source, router=router, targets={**{name: name for name in targets}, **labels})


def same(_: Any) -> None:
    """A node that changes nothing."""


def sets(**update: Any) -> NodeFunction:
    return lambda state: dict(update)


def fails(error: BaseException) -> NodeFunction:
    def raising(state: Any) -> Any:
        raise error

    return raising
