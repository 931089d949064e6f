"""A random graph of the reference, run by the pure core through the driver."""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor
from functools import partial
from typing import Any

import attrs

from engine.errors import NodeFailed
from engine.plan import ChoiceDecl, EdgeDecl, GraphDecl, MapDecl, NodeDecl, Plan, compile_plan
from engine.retry import Retry
from engine.runs import Run
from engine.schema import read_schema
from engine.tokens import Activation
from engine.values import Goto, ItemError, Replace
from tests.driver import Driver
from tests.reference.compare import check
from tests.reference.generate import EXACT, RACY, random_spec
from tests.reference.outcome import Outcome, freeze
from tests.reference.spec import ERRORS, REDUCERS, Choice, Edge, GraphSpec, Node, Replaced, start_state
from tests.semantics.engine_graphs import all_disagreements as engine_disagreements


def plain(state: Any) -> dict[str, Any]:
    found = state if isinstance(state, dict) else {f.name: getattr(state, f.name) for f in attrs.fields(type(state))}
    return {k: [_plain(i) for i in v] if isinstance(v, list) else v for k, v in found.items()}


def _plain(item: Any) -> Any:
    return ("ItemError", item.index, item.type) if isinstance(item, ItemError) else item


class Core:
    """One spec as a plan, and what its nodes answer."""

    def __init__(self, spec: GraphSpec) -> None:
        self.spec = spec
        self.by_name = {node.name: node for node in spec.nodes}
        self.state_type: Any = dict
        if spec.typed:
            fields = {key: attrs.field(type=type(value)) for key, value in start_state(spec).items()}
            self.state_type = attrs.make_class("State", fields, frozen=True)
        schema, problems = read_schema(self.state_type, {k: REDUCERS[r] for k, r in spec.reducers})
        assert not problems
        self.schema = schema
        decl = GraphDecl(
            name="random",
            state=schema,
            nodes=tuple(self._node(node) for node in spec.nodes),
            edges=tuple(self._route(route) for route in spec.routes),
            entries=spec.entries,
            max_iterations=spec.max_iterations,
            max_activations=spec.max_activations,
            on_failure=spec.on_failure,  # type: ignore[arg-type]
            conflicts=spec.conflicts,  # type: ignore[arg-type]
        )
        self.plan: Plan = compile_plan(decl)

    def initial(self) -> Any:
        state = start_state(self.spec)
        return self.state_type(**state) if self.spec.typed else state

    def _node(self, node: Node) -> NodeDecl:
        retry = tuple(Retry(attempts=r.attempts, delay=0.1, on=ERRORS[r.on]) for r in node.retry)
        common: dict[str, Any] = {"name": node.name, "join": node.join, "goto": node.goto, "retry": retry}
        if node.map is None:
            return NodeDecl(**common)
        over = node.map.over or (lambda state, m=node.map: m.items(plain(state)))
        mapping = MapDecl(
            worker=len,
            over=over,
            into=node.map.into,
            on_item_error=node.map.on_item_error,  # type: ignore[arg-type]
            concurrency=2,
        )
        return NodeDecl(**common, kind="map", map=mapping)

    def _route(self, route: Edge | Choice) -> EdgeDecl | ChoiceDecl:
        if isinstance(route, Choice):
            if not route.labels:
                return ChoiceDecl(
                    source=route.node,
                    router=partial(_listed, route),
                    targets={name: name for name in route.targets},
                )
            return ChoiceDecl(
                source=route.node,
                router=partial(_labelled, route),
                targets={f"to_{name}": name for name in route.targets},
            )
        when = None if route.when is None else (lambda state, holds=route.when: holds(plain(state)))
        return EdgeDecl(
            source=route.source,
            target=route.target,
            when=when,
            otherwise=route.kind == "otherwise",
            on_error=ERRORS[route.on_error] if route.kind == "error" else None,
            max_iterations=route.max_iterations,
            on_limit=route.on_limit,  # type: ignore[arg-type]
        )

    def answer(self, activation: Activation) -> Any:
        node = self.by_name[activation.node.name]
        state, given = activation.state, plain(activation.state)
        answer = node.answer(given, activation.number)
        changes = {k: Replace(v.value) if isinstance(v, Replaced) else v for k, v in answer.changes.items()}
        if answer.goto is not None:
            return Goto(answer.goto, changes)
        if answer.form == "whole" and self.spec.typed:
            return attrs.evolve(
                state, **{k: v.value if isinstance(v, Replaced) else v for k, v in answer.changes.items()}
            )
        if answer.form == "whole":
            return {**state, **changes}
        if answer.form == "inplace":
            state.update(changes)
            return None
        return changes


def _listed(choice: Choice, state: Any) -> Any:
    answer = choice(plain(state))
    return list(answer) if isinstance(answer, tuple) else answer


def _labelled(choice: Choice, state: Any) -> Any:
    answer = choice(plain(state))
    if answer is None:
        return None
    return f"to_{answer}" if isinstance(answer, str) else [f"to_{name}" for name in answer]


class CoreDriver(Driver):
    def __init__(self, core: Core, seed: int, *, journal: bool = False, run: Run | None = None) -> None:
        super().__init__(core.plan, seed, journal=journal, run=run)
        self.core = core
        self.outcome = Outcome(iterations=type(self.outcome_type().activations)())

    @staticmethod
    def outcome_type() -> Outcome:
        return Outcome()

    def finish(self, activation: Activation) -> None:
        self.running.remove(activation)
        run, attempt, now = activation.run, activation.attempt, self.now
        node = self.core.by_name[activation.node.name]
        if activation.index >= 0:
            assert node.map is not None
            name = node.map.item_error(activation.state, attempt)
            if name is not None:
                commands = run.failed(activation, attempt, ERRORS[name]("item"), now)
            else:
                commands = run.succeeded(activation, attempt, node.map.result(activation.state), now)
            self.carry_out(commands)
            return
        if attempt == 1:
            key = (activation.node.name, activation.number)
            self.outcome.activations[(*key, freeze(plain(activation.state)))] += 1
            self.outcome.iterations[(*key, activation.iteration)] += 1  # type: ignore[index]
        name = node.error(activation.number, attempt)
        if name is not None:
            self.carry_out(run.failed(activation, attempt, ERRORS[name](activation.id), now))
        else:
            self.carry_out(run.succeeded(activation, attempt, self.core.answer(activation), now))


def run_core(spec: GraphSpec, seed: int, *, journal: bool = False) -> Outcome:
    driver = CoreDriver(Core(spec), seed, journal=journal)
    driver.start(driver.core.initial()).to_end()
    return outcome_of(driver)


def outcome_of(driver: CoreDriver) -> Outcome:
    run, outcome, spec = driver.run, driver.outcome, driver.core.spec
    assert run.over, f"the run hangs: {run.explain(run.plan.nodes[0].name)}"
    outcome.status = run.status
    if run.status == "succeeded":
        outcome.state = plain(run.state)
    for failure in run.failures:
        assert isinstance(failure, NodeFailed)
        cause = type(failure.cause).__name__
        outcome.errors[failure.node, failure.activation, failure.attempts, cause] += 1
    maps = {node.name for node in spec.nodes if node.map is not None}
    for event in run.history.events():
        if event.type == "edge_taken":
            assert outcome.routes is not None
            outcome.routes[event.node, event.activation, event.data["target"]] += 1
        if event.type == "node_started" and event.node in maps:
            outcome.activations[event.node, event.activation, None] += 1
            outcome.iterations[event.node, event.activation, 0] += 1  # type: ignore[index]
    outcome.iterations = None
    return outcome


def disagreements(seeds: Sequence[int]) -> list[str]:
    """Where the pure core and the reference disagree on the graphs of these seeds."""
    found = []
    for seed in seeds:
        try:
            check(random_spec(seed), run_core, seed)
        except AssertionError as error:
            found.append(f"graph {seed}:\n{error}")
    return found


def killed_disagreements(seeds: Sequence[int]) -> list[str]:
    """Where a run that was killed, or went on from a snapshot, is not what it was."""
    from tests.engine import test_killed, test_snapshot

    found = []
    for seed in seeds:
        try:
            test_killed.check_the_same_end(seed)
            test_snapshot.check_the_same_end(seed)
            for profile in (EXACT, RACY):
                test_killed.check_the_same_life(seed, profile)
                test_snapshot.check_any_snapshot(seed, profile)
        except Exception as error:
            found.append(f"graph {seed}: {type(error).__name__}: {error}")
    return found


def main() -> int:
    """Run random graphs at length, through the pure core or the engine, and show where they disagree."""
    parser = argparse.ArgumentParser(prog="python -m tests.semantics.random_graphs", description=main.__doc__)
    parser.add_argument("--graphs", type=int, default=10_000)
    parser.add_argument("--seed", type=int, default=0, help="the first of the seeds, one per graph")
    parser.add_argument("--killed", action="store_true", help="graphs of all kinds of nodes, killed after each record")
    parser.add_argument("--engine", action="store_true", help="through the engine, on all backends, in virtual time")
    options = parser.parse_args()
    began, found = time.monotonic(), 0
    last = options.seed + options.graphs
    packs = [range(first, min(first + 100, last)) for first in range(options.seed, last, 100)]
    look = engine_disagreements if options.engine else killed_disagreements if options.killed else disagreements
    with ProcessPoolExecutor() as pool:
        for lines in pool.map(look, packs):
            found += len(lines)
            for line in lines:
                print(line, end="\n\n", flush=True)
    print(f"{options.graphs} graphs, {found} disagreements, {time.monotonic() - began:.0f} s")
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main())
