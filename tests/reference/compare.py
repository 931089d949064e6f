"""Does a run by the engine agree with the reference, as far as SEMANTICS.md promises?

How far that is depends on the graph (`promise`):

- `exact`: only `all` joins. Everything is promised: status, state, activations with their numbers
  and inputs, routes, errors. Of a run that an error cancelled, only that it fails, with errors and
  activations that also occur when the other branches run to their end.
- `unordered`: every join is `any` and nothing depends on numbers or on order. Promised is the same
  without the numbers, and lists that branches filled in any order.
- `racy`: `first`, `k`, `STOP`, or `any` joins before others. Promised is one of the outcomes that
  some order of completions gives; all of them are tried if they are not too many.
"""

from collections import Counter
from collections.abc import Callable, Iterator
from typing import Any

from attrs import evolve

from .interpreter import interpret
from .outcome import Outcome, freeze
from .spec import END, STOP, Choice, Edge, GraphSpec, as_code, describe
from .topology import Topology

Runner = Callable[[GraphSpec, int], Outcome]  # (spec, seed of whatever timing it explores)

ANY_CAUSE = "JoinLacksFailed"  # an `all` join that misses a failed branch: the law does not name its error


def promise(spec: GraphSpec) -> str:
    into = Topology(spec).into
    joins = {node.join for node in spec.nodes if len(into[node.name]) > 1}
    if any(isinstance(route, Edge) and route.target == STOP for route in spec.routes) or joins - {
        "all",
        "any",
    }:
        return "racy"
    if "any" not in joins:
        return "exact"
    values = [change.value for node in spec.nodes for change in node.changes]
    numbered = any(value.kind in ("tag", "tags") or (value.kind == "mix" and value.c) for value in values)
    numbered |= any(fault.number is not None for node in spec.nodes for fault in node.faults)
    ordered = spec.conflicts == "last" or {reducer for _, reducer in spec.reducers} - {"append", "sum", "max"}
    replaces = any(change.replace or node.form == "whole" for node in spec.nodes for change in node.changes)
    return "racy" if joins != {"any"} or numbered or ordered or (replaces and spec.typed) else "unordered"


def check(spec: GraphSpec, run: Runner, seed: int = 0) -> None:
    """Raise an `AssertionError` that shows the smallest graph on which `run` still disagrees."""
    if differences(spec, run(spec, seed)):
        small = minimise(spec, lambda candidate: bool(differences(candidate, run(candidate, seed))))
        lines = differences(small, run(small, seed)) or differences(spec, run(spec, seed)) or ["(it went away)"]
        raise AssertionError(
            "\n".join(["the engine and the reference disagree", *lines, describe(small), as_code(small)])
        )


def differences(spec: GraphSpec, seen: Outcome) -> list[str]:
    """What is wrong with an outcome, a line each; nothing if it is as promised."""
    if promise(spec) == "racy":
        return _racy_differences(spec, seen)
    return outcome_differences(spec, seen, interpret(spec))


def outcome_differences(spec: GraphSpec, seen: Outcome, expected: Outcome) -> list[str]:
    """Compare with the outcome of another run of the same graph (`exact` or `unordered`)."""
    if seen.status != expected.status:
        return [
            f"status {seen.status} {dict(seen.errors)}",
            f"expected {expected.status} {dict(expected.errors)}",
        ]
    if _has(seen, "ActivationLimit") or _has(expected, "ActivationLimit"):
        return []  # which activation is one too many is a matter of time
    if expected.status == "failed" and spec.on_failure == "cancel":
        return _cancelled_differences(spec, seen)
    plain = promise(spec) == "unordered"
    lines = _counted("activation", _bare(seen.activations, plain), _bare(expected.activations, plain))
    lines += _counted("error", *(_errors(spec, o, expected, plain) for o in (seen, expected)))
    for name in ("routes", "iterations"):
        found, wanted = getattr(seen, name), getattr(expected, name)
        if found is not None and wanted is not None:
            lines += _counted(name[:-1], _bare(found, plain), _bare(wanted, plain))
    for key in sorted({*(seen.state or {}), *(expected.state or {})}):
        values = [freeze((outcome.state or {}).get(key, "(missing)")) for outcome in (seen, expected)]
        if plain and dict(spec.reducers).get(key) == "append":
            values = [sorted(value, key=repr) for value in values]
        if values[0] != values[1] or type(values[0]) is not type(values[1]):
            lines.append(f"final {key!r} is {values[0]!r}, expected {values[1]!r}")
    return lines


def _cancelled_differences(spec: GraphSpec, seen: Outcome) -> list[str]:
    whole = interpret(evolve(spec, on_failure="continue"))
    if _has(whole, "ActivationLimit"):
        return []
    plain = promise(spec) == "unordered"
    extra = _bare(seen.activations, plain) - _bare(whole.activations, plain)
    lines = [f"activation {activation} happens in no order of events" for activation in extra]
    wrong = _errors(spec, seen, whole, plain) - _errors(spec, whole, whole, plain)
    lines += [f"error {error} happens in no order of events" for error in wrong]
    return lines or ([] if seen.errors else ["a failed run names no error"])


def _counted(what: str, seen: Counter[Any], expected: Counter[Any]) -> list[str]:
    lines = [f"{what} {thing} is missing" for thing in sorted((expected - seen).elements(), key=repr)]
    return lines + [f"{what} {thing} is not expected" for thing in sorted((seen - expected).elements(), key=repr)]


def _bare(things: Counter[Any], without_numbers: bool) -> Counter[Any]:
    if not without_numbers:
        return things
    bare: Counter[Any] = Counter()
    for (node, _, *rest), times in things.items():
        bare[node, *rest] += times
    return bare


def _errors(spec: GraphSpec, outcome: Outcome, reference: Outcome, without_numbers: bool) -> Counter[Any]:
    """Errors as far as they are laid down: attempts count only what the node itself raised."""
    maps = {node.name for node in spec.nodes if node.map is not None}
    lacking = {(node, number) for node, number, _, cause in reference.errors if cause == ANY_CAUSE}
    found: Counter[Any] = Counter()
    for (node, number, attempts, cause), times in outcome.errors.items():
        cause = ANY_CAUSE if (node, number) in lacking else cause
        ran = cause not in (ANY_CAUSE, "MergeConflict", "JoinStarved") and node not in maps
        found[node, number if node != END else 0, attempts if ran else 0, cause] += times
    return _bare(found, without_numbers)


def _has(outcome: Outcome, cause: str) -> bool:
    return any(error[3] == cause for error in outcome.errors)


def _racy_differences(spec: GraphSpec, seen: Outcome) -> list[str]:
    found, possible = _fingerprint(spec, seen), set()
    for outcome in every_outcome(spec):
        if outcome is None:
            return []  # too many orders to try them all
        possible.add(_fingerprint(spec, outcome))
        if found in possible:
            return []
    return [f"outcome {found} is none of {len(possible)}: {sorted(possible, key=repr)[:5]}"]


def _fingerprint(spec: GraphSpec, outcome: Outcome) -> Any:
    if outcome.status == "failed":
        return "failed"
    stops = any(isinstance(route, Edge) and route.target == STOP for route in spec.routes)
    activations = None if stops else frozenset(outcome.activations.items())
    return outcome.status, freeze(outcome.state), activations


def every_outcome(spec: GraphSpec, limit: int = 1000) -> Iterator[Outcome | None]:
    """The outcome for each order in which activations can end; then None if there are more than `limit`."""
    todo: list[list[int]] = [[]]
    for _ in range(limit):
        if not todo:
            return
        decided, sizes = todo.pop(), list[int]()

        def choose(n: int, decided: list[int] = decided, sizes: list[int] = sizes) -> int:
            sizes.append(n)
            return decided[len(sizes) - 1] if len(sizes) <= len(decided) else 0

        yield interpret(spec, choose)
        for depth in range(len(decided), len(sizes)):
            zeros = [0] * (depth - len(decided))
            todo += [[*decided, *zeros, other] for other in range(1, sizes[depth])]
    if todo:
        yield None


def minimise(spec: GraphSpec, is_bad: Callable[[GraphSpec], bool]) -> GraphSpec:
    """Take away what can be taken away while the graph stays valid and bad."""
    shrinking = True
    while shrinking:
        shrinking = False
        for candidate in _smaller(spec):
            if is_valid(candidate) and is_bad(candidate):
                spec, shrinking = candidate, True
                break
    return spec


def is_valid(spec: GraphSpec) -> bool:
    graph = Topology(spec)
    reached = {name for name in graph.names for entry in spec.entries if graph.reaches(entry, name)}
    leaving = {n for n in graph.names if all(e.kind == "error" for e in graph.out[n])}
    leaving |= {e.source for e in graph.edges if e.target in (END, STOP) and e.source}
    exits = {n for n in graph.names for goal in leaving if graph.reaches(n, goal)}
    limits_fit = all(
        e.max_iterations is None or e.source is None or graph.reaches(e.target, e.source) for e in graph.edges
    )
    otherwise = {e.source for e in graph.edges if e.kind == "otherwise"}
    conditional = {e.source for e in graph.edges if e.kind in ("when", "choice")}
    return bool(spec.entries) and reached == exits == set(graph.names) and limits_fit and otherwise <= conditional


def _smaller(spec: GraphSpec) -> Iterator[GraphSpec]:
    for node in spec.nodes:
        yield _without_node(spec, node.name)
    for position, route in enumerate(spec.routes):
        yield evolve(spec, routes=spec.routes[:position] + spec.routes[position + 1 :])
        if isinstance(route, Choice):
            simpler: list[Edge | Choice] = [Edge(route.node, target) for target in route.targets]
        else:
            simpler = [Edge(route.source, route.target)]
            if route.max_iterations is not None:
                simpler.append(evolve(route, max_iterations=None, on_limit=None))
        for other in simpler:
            if other != route:
                yield evolve(spec, routes=(*spec.routes[:position], other, *spec.routes[position + 1 :]))
    for position, node in enumerate(spec.nodes):
        simpler_nodes = [
            evolve(node, changes=node.changes[:i] + node.changes[i + 1 :]) for i in range(len(node.changes))
        ]
        simpler_nodes += [evolve(node, faults=()), evolve(node, retry=()), evolve(node, map=None)]
        simpler_nodes += [evolve(node, form="mapping"), evolve(node, goto=(), jump=None)]
        for small in simpler_nodes:
            if small != node:
                yield evolve(spec, nodes=(*spec.nodes[:position], small, *spec.nodes[position + 1 :]))
    for name in spec.entries:
        yield evolve(spec, entries=tuple(entry for entry in spec.entries if entry != name))
    for plainer in (
        evolve(spec, typed=False),
        evolve(spec, on_failure="cancel"),
        evolve(spec, conflicts="error"),
    ):
        if plainer != spec:
            yield plainer
    for key, _ in spec.initial:
        yield evolve(spec, initial=tuple((name, value) for name, value in spec.initial if name != key))


def _without_node(spec: GraphSpec, gone: str) -> GraphSpec:
    routes: list[Edge | Choice] = []
    for route in spec.routes:
        if isinstance(route, Edge):
            if gone not in (route.source, route.target):
                routes.append(route)
        elif route.node != gone and (targets := tuple(t for t in route.targets if t != gone)):
            answers = tuple(a for a in route.answers if a is None or gone not in ((a,) if isinstance(a, str) else a))
            routes.append(evolve(route, targets=targets, answers=answers or targets[:1]))
    nodes = []
    for node in spec.nodes:
        if node.name != gone:
            without = gone not in node.goto
            nodes.append(node if without else evolve(node, goto=(), jump=None))
    entries = tuple(name for name in spec.entries if name != gone)
    return evolve(spec, nodes=tuple(nodes), routes=tuple(routes), entries=entries)
