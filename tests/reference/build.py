"""A spec as a real graph, through the public face only, with nodes that note how they were called.

The engine is imported where it is used, so that the reference can be read, run and tested without it.
No `from __future__ import annotations` here: the engine reads the annotations of the closures.
"""

import random
from collections import Counter
from collections.abc import Awaitable, Callable, Iterator, Mapping
from functools import lru_cache
from itertools import count
from typing import Any

import attrs

from .outcome import Outcome, freeze
from .spec import END, ERRORS, REDUCERS, STOP, Choice, Edge, GraphSpec, Node, Replaced, Retry, start_state

Pause = Callable[[str, int], Awaitable[None]]  # awaited in each attempt of a node, to vary the timing

_names = (f"random_{number}" for number in count(1))


async def at_once(node: str, number: int) -> None:
    """A pause of no length."""


def plain(state: Any) -> dict[str, Any]:
    """A state as the dict of its keys, with what the engine made of map items written plainly."""
    found = (
        dict(state)
        if isinstance(state, Mapping)
        else {f.name: getattr(state, f.name) for f in attrs.fields(type(state))}
    )
    return {key: [_plain_item(i) for i in value] if isinstance(value, list) else value for key, value in found.items()}


def _plain_item(item: Any) -> Any:
    from engine import ItemError

    if isinstance(item, ItemError):
        return ("ItemError", item.index, item.type if isinstance(item.type, str) else item.type.__name__)
    return item


class Build:
    """`Build(spec).graph`, and what its nodes saw: `activations` and `iterations` as in an `Outcome`."""

    def __init__(
        self,
        spec: GraphSpec,
        pause: Pause = at_once,
        name: str | None = None,
        concurrency: int | None = None,
    ) -> None:
        from engine import Graph

        self.spec, self.pause, self.concurrency = spec, pause, concurrency
        self.activations: Counter[Any] = Counter()
        self.iterations: Counter[Any] = Counter()
        self.state_type = self._state_type()
        self.graph = Graph(
            name or next(_names),
            state=self.state_type,
            reducers={key: REDUCERS[reducer] for key, reducer in spec.reducers},
            max_iterations=spec.max_iterations,
            max_activations=spec.max_activations,
            on_failure=spec.on_failure,
            conflicts=spec.conflicts,
        )
        for node in spec.nodes:
            self._add_node(node)
        for route in spec.routes:
            self._add_route(route)
        self.graph.set_entry_point(*spec.entries)

    def initial(self) -> Any:
        state = start_state(self.spec)
        return self.state_type(**state) if self.spec.typed else state

    def _state_type(self) -> Any:
        if not self.spec.typed:
            return dict
        return _state_class(tuple((key, type(value)) for key, value in start_state(self.spec).items()))

    def _add_node(self, node: Node) -> None:
        options: dict[str, Any] = {"retry": [_retry(rule) for rule in node.retry]} if node.retry else {}
        if self.concurrency is not None:
            options["concurrency"] = self.concurrency
        if node.join != "all":
            options["join"] = node.join
        if node.goto:
            options["goto"] = [_target(name) for name in node.goto]
        if node.map is not None:
            over = node.map.over or (lambda state, m=node.map: m.items(plain(state)))
            mapping = {"over": over, "into": node.map.into, "on_item_error": node.map.on_item_error}
            self.graph.add_map(node.name, self._worker(node), **mapping, **options)
        else:
            self.graph.add_node(node.name, self._function(node), **options)

    def _function(self, node: Node) -> Callable[..., Awaitable[Any]]:
        from engine import Context

        async def run(state: Any, ctx: Context) -> Any:
            given = plain(state)
            if ctx.attempt == 1:
                self.activations[node.name, ctx.activation, freeze(given)] += 1
                self.iterations[node.name, ctx.activation, ctx.iteration] += 1
            await self.pause(node.name, ctx.activation)
            error = node.error(ctx.activation, ctx.attempt)
            if error is not None:
                raise ERRORS[error](f"{node.name}#{ctx.activation}")
            return self._answer(node, state, given, ctx.activation)

        return run

    def _answer(self, node: Node, state: Any, given: dict[str, Any], number: int) -> Any:
        from engine import Goto, Replace

        answer = node.answer(given, number)
        changes = {k: Replace(v.value) if isinstance(v, Replaced) else v for k, v in answer.changes.items()}
        if answer.goto is not None:
            return Goto([_target(name) for name in answer.goto], changes)
        if answer.form == "whole" and self.spec.typed:
            whole = {k: v.value if isinstance(v, Replaced) else v for k, v in answer.changes.items()}
            return attrs.evolve(state, **whole)
        if answer.form == "whole":
            return {**state, **changes}
        if answer.form == "inplace":
            state.update(changes)
            return None
        return changes

    def _worker(self, node: Node) -> Callable[..., Awaitable[Any]]:
        from engine import Context

        map_ = node.map
        assert map_ is not None

        async def run(item: Any, ctx: Context) -> Any:
            await self.pause(node.name, ctx.activation)
            error = map_.item_error(item, ctx.attempt)
            if error is not None:
                raise ERRORS[error](f"item {item[0]}")
            return map_.result(item)

        return run

    def _add_route(self, route: Edge | Choice) -> None:
        if isinstance(route, Choice):
            targets: Any = [_target(name) for name in route.targets]
            if route.labels:
                targets = {f"to_{name}": _target(name) for name in route.targets}
            self.graph.add_choice(route.node, _router(route), targets)
            return
        options: dict[str, Any] = {}
        if route.when is not None:
            options["when"] = lambda state, holds=route.when: holds(plain(state))
        if route.kind == "otherwise":
            options["otherwise"] = True
        if route.kind == "error":
            options["on_error"] = ERRORS[route.on_error]
        if route.max_iterations is not None:
            options["max_iterations"] = route.max_iterations
        if route.on_limit is not None:
            options["on_limit"] = route.on_limit
        self.graph.add_edge(route.source, _target(route.target), **options)


@lru_cache
def _state_class(fields: tuple[tuple[str, type], ...]) -> Any:
    return attrs.make_class("State", {key: attrs.field(type=kind) for key, kind in fields}, frozen=True)


def _router(choice: Choice) -> Callable[[Any], Any]:
    def name(target: str) -> Any:
        return f"to_{target}" if choice.labels else _target(target)

    def route(state: Any) -> Any:
        answer = choice(plain(state))
        if answer is None:
            return None
        return name(answer) if isinstance(answer, str) else [name(target) for target in answer]

    return route


def _target(name: str) -> Any:
    import engine

    return {END: engine.END, STOP: engine.STOP}.get(name, name)


def _retry(rule: Retry) -> Any:
    from engine import Retry as EngineRetry

    return EngineRetry(attempts=rule.attempts, delay=0, jitter=0, on=ERRORS[rule.on])


def random_pause(seed: int, sleep: Callable[[float], Awaitable[None]], longest: float = 0.002) -> Pause:
    """A pause that differs from call to call; half of the calls do not wait at all."""
    rng = random.Random(seed)

    async def pause(node: str, number: int) -> None:
        if rng.random() < 0.5:
            await sleep(rng.random() * longest)

    return pause


async def run_in_engine(
    engine: Any, spec: GraphSpec, pause: Pause = at_once, concurrency: int | None = None
) -> Outcome:
    """Run a spec on a running `Engine` and say what was seen of it from outside."""
    build = Build(spec, pause, concurrency=concurrency)
    return await outcome_of(await engine.submit(build.graph, build.initial()), build)


async def outcome_of(run: Any, build: Build) -> Outcome:
    """Wait for a run's end and say what was seen of it; of its history, as far as it is kept."""
    from engine import RunFailed

    spec = build.spec
    outcome = Outcome("succeeded", None, build.activations, build.iterations)
    try:
        result = await run.result()
        outcome.state = plain(result.state)
    except RunFailed as failed:
        outcome.status = "failed"
        for error in leaves(failed):
            node = END if error.node == _target(END) else error.node
            cause = type(error.__cause__).__name__
            outcome.errors[node, error.activation or 0, error.attempts or 0, cause] += 1
    maps = {node.name for node in spec.nodes if node.map is not None}
    if maps:
        outcome.iterations = None  # the worker of a map is called for items only
    assert outcome.routes is not None
    async for event in run.events(after=run.events_dropped):
        if event.type == "edge_taken":
            outcome.routes[event.node, event.activation, event.data["target"]] += 1
        elif event.type == "node_started" and event.node in maps:
            outcome.activations[event.node, event.activation, None] += 1
    if run.events_dropped:
        outcome.routes = None
    return outcome


def leaves(error: BaseException) -> Iterator[Any]:
    """The `NodeFailed` of a `RunFailed`; a failed node's own cause is not looked into."""
    if isinstance(error, BaseExceptionGroup):
        for inner in error.exceptions:
            yield from leaves(inner)
    else:
        yield error
