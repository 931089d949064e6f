"""The reference against itself: what no order of completions may change, on many graphs, counted."""

import random
from collections import Counter
from collections.abc import Iterable

from attrs import Factory, define

from .compare import minimise, outcome_differences, promise
from .generate import EXACT, Profile, random_spec
from .interpreter import interpret
from .outcome import Outcome
from .spec import GraphSpec, as_code, describe
from .topology import Topology

SCHEDULES = 8


def schedules(spec: GraphSpec, number: int = SCHEDULES) -> list[Outcome]:
    """The oldest activation first, the newest first, then at random."""
    first = [interpret(spec), interpret(spec, lambda n: n - 1)]
    return first + [interpret(spec, random.Random(seed).randrange) for seed in range(number - 2)]


def timing_shows(spec: GraphSpec, number: int = SCHEDULES) -> list[str]:
    """How runs of a graph differ that may not differ; nothing if they agree."""
    first, *others = schedules(spec, number)
    return next((lines for other in others if (lines := outcome_differences(spec, other, first))), [])


@define
class Tally:
    graphs: int = 0
    activations: int = 0
    facts: Counter[str] = Factory(Counter)  # in how many graphs
    unsteady: list[str] = Factory(list)

    def add(self, spec: GraphSpec, outcomes: list[Outcome]) -> None:
        self.graphs += 1
        outcome = outcomes[0]
        self.activations += outcome.activations.total()
        happened = {fact for fact, times in outcome.facts.items() if times and fact != "concurrency"}
        happened |= {f"failed: {error[3]}" for error in outcome.errors}
        happened |= {f"{outcome.status}, on_failure={spec.on_failure}"}
        if outcome.facts["concurrency"] > 1:
            happened.add("several running at once")
        if len({tuple(outcome.routes or ()) for outcome in outcomes}) > 1:
            happened.add("schedules really differed")
        self.facts.update(happened | _shape(spec))

    def __str__(self) -> str:
        lines = [f"{self.graphs} graphs, {self.activations / max(1, self.graphs):.1f} activations each"]
        return "\n".join(lines + [f"  {100 * n / self.graphs:5.1f} %  {fact}" for fact, n in self.facts.most_common()])


def _shape(spec: GraphSpec) -> set[str]:
    graph = Topology(spec)
    joins = [name for name in graph.names if len(graph.into[name]) > 1]
    loops = Counter(graph.components.values())
    found = {f"has edge: {edge.kind}" for edge in graph.edges if edge.kind != "entry"}
    found |= {"has loop"} if graph.limits else set()
    found |= {"has join"} if joins else set()
    found |= (
        {"has loop through a join"} if any(name in loop for name in joins for loop in graph.loops.values()) else set()
    )
    found |= {"has loop of several nodes"} if max(loops.values()) > 1 else set()
    bodies = set(graph.loops.values())
    found |= {"has nested loops"} if any(a < b for a in bodies for b in bodies) else set()
    found |= {"has own limit"} if any(e.max_iterations is not None for e in graph.edges) else set()
    found |= {"has map"} if any(node.map for node in spec.nodes) else set()
    found |= {"has several entries"} if len(spec.entries) > 1 else set()
    found |= {"attrs state"} if spec.typed else set()
    found |= {"whole states returned"} if any(node.form == "whole" for node in spec.nodes) else set()
    return found


def tally(seeds: Iterable[int], profile: Profile = EXACT) -> Tally:
    """Draw a graph per seed, run it under several schedules, count, and keep what was unsteady."""
    result = Tally()
    for seed in seeds:
        spec = random_spec(seed, profile, result.facts)
        outcomes = schedules(spec)
        result.add(spec, outcomes)
        if promise(spec) == "racy":
            continue
        if any(outcome_differences(spec, other, outcomes[0]) for other in outcomes[1:]):
            small = minimise(spec, lambda candidate: bool(timing_shows(candidate, 30)))
            lines = timing_shows(small, 30)
            result.unsteady.append("\n".join([f"seed {seed}:", *lines, describe(small), as_code(small)]))
    return result
