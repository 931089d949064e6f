"""The options of graphs, nodes and edges: their types, and what is wrong with a value.

`*_faults` tell everything that is wrong, for `validate()`, which reports all
problems of a graph at once. Values that stand alone (`Batch`, a rate) refuse
nonsense when they are made.
"""

from __future__ import annotations

import math
import numbers
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from typing import Any, Literal, TypedDict

import attrs

from .faults import Fault, errors_fault, name_fault, positive_fault
from .retry import Retry
from .typecheck import shown

JoinPolicy = Literal["all", "any", "first"] | int


def _positive(instance: Any, attribute: attrs.Attribute[Any], value: Any) -> None:
    if fault := positive_fault(value, whole=attribute.name in ("size", "failures")):
        raise ValueError(f"{type(instance).__name__}({attribute.name}={value!r}): {fault}")


@attrs.frozen
class Batch:
    """Give a node's function up to `size` waiting activations at once, after at most `wait` seconds.

    The function then takes a list of states and returns a list of updates, in the same order.
    """

    size: int = attrs.field(validator=_positive)
    wait: float = attrs.field(default=0.01, validator=_positive)


@attrs.frozen
class Breaker:
    """Stop calling a node that keeps failing: after so many failures within so many seconds, over all runs.

    Attempts then fail at once with `NodeUnavailable`. After `cooldown` seconds one is let through: if it succeeds, all
    are again. A failure is an attempt that raised or was out of time.
    """

    failures: int = attrs.field(default=5, validator=_positive)
    within: float = attrs.field(default=30.0, validator=_positive)
    cooldown: float = attrs.field(default=60.0, validator=_positive)


CacheKey = str | Sequence[str] | Callable[[Any], Any] | None


def _names_or_function(key: Any) -> Any:
    return tuple(key) if isinstance(key, list | tuple | set | frozenset) else key


def _cache_key(instance: Any, attribute: attrs.Attribute[Any], key: Any) -> None:
    names = key if isinstance(key, tuple) else (key,)
    if key is None or callable(key) or (names and all(isinstance(name, str) and name for name in names)):
        return
    raise ValueError(f"Cache(key={key!r}): must be a key of the state, several, or a function of what the node gets")


@attrs.frozen
class Cache:
    """Use a node's result again for `ttl` seconds, over all runs, where what the node is given is equal.

    `key` says what has to be equal: keys of the state, or what a function of it gives; left out, all of it. Whoever
    asks while another is computing the same waits for that. The `size` results that were used last are kept.
    """

    ttl: float = attrs.field(validator=_positive)
    key: CacheKey = attrs.field(default=None, converter=_names_or_function, validator=_cache_key)
    size: int = attrs.field(default=1_000, validator=_positive)

    @property
    def keys(self) -> tuple[str, ...]:
        """The keys of the state that it names."""
        return (self.key,) if isinstance(self.key, str) else self.key if isinstance(self.key, tuple) else ()


@attrs.frozen
class Rate:
    """At most `count` starts in any `seconds`, over all runs."""

    count: float
    seconds: float

    def __str__(self) -> str:
        """As it is given."""
        return f"{self.count:.15g}/{'' if self.seconds == 1 else f'{self.seconds:.15g}'}s"

    @property
    def interval(self) -> float:
        """Seconds from one start to the next, when they are evenly spread."""
        return self.seconds / self.count


_UNITS = {
    **dict.fromkeys(("s", "sec", "second"), 1.0),
    **dict.fromkeys(("m", "min", "minute"), 60.0),
    **dict.fromkeys(("h", "hour"), 3600.0),
    **dict.fromkeys(("d", "day"), 86400.0),
}


def parse_rate(rate: str | float) -> Rate:
    """`"10/s"`, `"100/min"`, `"5/10s"`, `"1000/h"`, or a number per second; raises `ValueError`."""
    cure = "give a rate as '10/s', '100/min', '1000/h' or '5/10s'"
    if isinstance(rate, numbers.Real) and not isinstance(rate, bool):
        count, seconds = float(rate), 1.0
    elif isinstance(rate, str) and rate.count("/") == 1:
        number, _, per = (part.strip() for part in rate.partition("/"))
        unit = per.lstrip("0123456789.")
        try:
            count = float(number)
            seconds = float(per[: len(per) - len(unit)] or 1) * _UNITS[unit.strip() or "s"]
        except (ValueError, KeyError):
            raise ValueError(f"rate {rate!r} is not understood; {cure}") from None
    else:
        raise ValueError(f"rate {rate!r} is not understood; {cure}")
    if not (0 < count < math.inf and 0 < seconds < math.inf):
        raise ValueError(f"rate {rate!r} is not above zero; {cure}")
    return Rate(count, seconds)


class CommonOptions(TypedDict, total=False):
    """The node options that every way of adding a node takes as they are."""

    retry: Retry | Sequence[Retry] | None
    rate: str | float | None
    batch: Batch | None
    breaker: Breaker | None
    cache: Cache | None
    run_in: str | None
    join: JoinPolicy
    rest: Literal["absorb", "cancel"]
    goto: str | Sequence[str]
    inputs: Mapping[str, str] | None
    outputs: Mapping[str, str] | None
    accepts: Any
    produces: Any
    effect: bool
    resources: Mapping[str, float] | None
    keep_remote: bool
    params: Mapping[str, Any] | None
    description: str


class MapOptions(CommonOptions, total=False):
    """Those of `add_map`, whose `concurrency` counts items."""

    timeout: float | None


class WaitOptions(CommonOptions, total=False):
    """Those of `add_wait`, whose `timeout` is how long it waits."""

    concurrency: int | None


class NodeOptions(MapOptions, total=False):
    """Those of `Graph.node` and `add_node`."""

    concurrency: int | None


NODE_OPTIONS = frozenset((*CommonOptions.__annotations__, "timeout", "concurrency"))

# --- what is wrong with a value -------------------------------------------------------------------------


def one_of_fault(value: Any, choices: Collection[str]) -> Fault:
    if isinstance(value, str) and value in choices:
        return ""
    return f"must be {' or '.join(map(repr, choices))}, found {shown(value)}"


def retry_faults(retry: Any) -> Iterator[Fault]:
    policies = retry if isinstance(retry, list | tuple) else [retry]
    for policy in policies:
        if not isinstance(policy, Retry):
            hint = f"; did you mean Retry(attempts={policy})?" if isinstance(policy, int) else ""
            yield f"must be a Retry or a list of them, found {shown(policy)}{hint}"


def mapping_fault(value: Any, kinds: type | tuple[type, ...] = object) -> Fault:
    if not isinstance(value, Mapping):
        return f"must be a mapping, found {shown(value)}"
    for key, item in value.items():
        if not isinstance(key, str) or not isinstance(item, kinds):
            return f"has a wrong entry {key!r}: {shown(item)}"
    return ""


def join_fault(join: Any) -> Fault:
    if isinstance(join, str) and join in ("all", "any", "first"):
        return ""
    if isinstance(join, int) and not isinstance(join, bool) and join >= 1:
        return ""
    return f"must be 'all', 'any', 'first' or a number from 1 on, found {shown(join)}"


Checker = Callable[[Any], Fault]


def rate_fault(value: Any) -> Fault:
    try:
        parse_rate(value)
    except ValueError as error:
        return f"is wrong: {error}"
    return ""


_PLAIN: dict[str, Checker] = {
    "timeout": positive_fault,
    "concurrency": lambda v: positive_fault(v, whole=True),
    "rate": rate_fault,
    "batch": lambda v: "" if isinstance(v, Batch) else f"must be a Batch, found {shown(v)}",
    "breaker": lambda v: "" if isinstance(v, Breaker) else f"must be a Breaker, found {shown(v)}",
    "cache": lambda v: "" if isinstance(v, Cache) else f"must be a Cache, found {shown(v)}",
    "run_in": lambda v: "" if isinstance(v, str) and v else f"must be a name, found {shown(v)}",
    "rest": lambda v: one_of_fault(v, ("absorb", "cancel")),
    "inputs": lambda v: mapping_fault(v, str),
    "outputs": lambda v: mapping_fault(v, str),
    "effect": lambda v: "" if isinstance(v, bool) else f"must be True or False, found {shown(v)}",
    "resources": lambda v: mapping_fault(v, (int, float, str)),
    "keep_remote": lambda v: "" if isinstance(v, bool) else f"must be True or False, found {shown(v)}",
    "description": lambda v: "" if isinstance(v, str) else f"must be text, found {shown(v)}",
}


def node_option_faults(options: Mapping[str, Any]) -> Iterator[tuple[str, Fault]]:
    """(option, fault) for each option that cannot be used; joins and params are judged elsewhere."""
    for name, value in options.items():
        if value is None:
            continue
        if name == "retry":
            yield from ((name, fault) for fault in retry_faults(value))
        elif (check := _PLAIN.get(name)) and (fault := check(value)):
            yield name, fault


def edge_option_faults(edge: Any) -> Iterator[tuple[str, Fault]]:
    """(option, fault) for the options of an edge other than its condition."""
    if not isinstance(edge.otherwise, bool):
        yield "otherwise", f"must be True or False, found {shown(edge.otherwise)}"
    if edge.on_error is not None and (fault := errors_fault(edge.on_error)):
        yield "on_error", fault
    if edge.max_iterations is not None and (fault := positive_fault(edge.max_iterations, whole=True)):
        yield "max_iterations", fault
    if edge.on_limit is not None and (fault := one_of_fault(edge.on_limit, ("exit", "fail"))):
        yield "on_limit", fault
    if edge.capacity is not None and (fault := positive_fault(edge.capacity, whole=True)):
        yield "capacity", fault


_GRAPH: dict[str, Checker] = {
    "version": name_fault,
    "max_iterations": lambda v: positive_fault(v, whole=True),
    "max_activations": lambda v: "" if v is None else positive_fault(v, whole=True),
    "on_failure": lambda v: one_of_fault(v, ("cancel", "continue")),
    "conflicts": lambda v: one_of_fault(v, ("error", "last")),
    "isolation": lambda v: one_of_fault(v, ("shallow", "deep", "check")),
    "check": lambda v: one_of_fault(v, ("boundary", "always")),
    "history": lambda v: positive_fault(v, whole=True),
    "deadline": lambda v: "" if v is None else positive_fault(v),
}


def graph_option_faults(settings: Mapping[str, Any]) -> Iterator[tuple[str, Fault]]:
    """(option, fault) for the options of a graph."""
    for name, check in _GRAPH.items():
        if name in settings and (fault := check(settings[name])):
            yield name, fault
