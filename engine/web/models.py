"""The bodies that are taken and given, as attrs classes: what they say here is what OpenAPI says of them.

Times are seconds since 1970, as in Python; `timestamp` says the same in ISO 8601. States, updates and payloads are any
JSON on their way in, and shown as `readable` says on their way out.
"""

from __future__ import annotations

import re
import typing
from collections.abc import Mapping
from typing import Annotated, Any, Final, Literal, TypeVar

import attrs

from ..errors import StateFault
from ..fromdata import FromData
from ..jsonschema import ClassField, fields_of
from ..schema import did_you_mean
from ..typecheck import Check, shown, unwrap
from .problems import invalid_faults

T = TypeVar("T")

Status = Literal["queued", "running", "waiting", "paused", "succeeded", "failed", "cancelled"]
Object = Mapping[str, Any]
Name = Annotated[str, {"minLength": 1}]
Tags = Annotated[Mapping[str, str], "names and values to find the run by"]
Definition = Annotated[
    Object,
    "a graph as data, or its short form, `steps`",
    {"anyOf": [{"$ref": "#/$defs/Definition"}, {"$ref": "#/$defs/Steps"}]},
]
AnyDefinition = Annotated[Any, "a definition, sound or not"]
RunId = Annotated[
    str | None,
    "an id of your own; a new one if it is left out",
    {"pattern": r"^(\.{0,2}[^/#.][^/#]*|\.{3}[^/#]*)$", "minLength": 1, "maxLength": 200},
]
Key = Annotated[str | None, "as the header Idempotency-Key, where none can be sent", {"minLength": 1, "maxLength": 512}]
MOST_SECONDS: Final = 1_000_000_000
"""Some thirty years: what a run may be given at most, in seconds."""
Deadline = Annotated[
    float | None, "seconds in which the run must be over", {"exclusiveMinimum": 0, "maximum": MOST_SECONDS}
]
Priority = Annotated[
    int, "higher ones start first, where runs have to wait", {"minimum": -1_000_000, "maximum": 1_000_000}
]

_READER = FromData()


def read(model: type[T], data: Any) -> T:
    """The data as the model has it; raises `Refused` with a pointer for every fault."""
    if not isinstance(data, dict):
        raise invalid_faults([StateFault((), f"expected an object, found {shown(data)}")])
    fields = _known(model)
    faults = [
        StateFault((name,), "missing") for name, field in fields.items() if not field.optional and name not in data
    ]
    given = {}
    for name, value in data.items():
        field = fields.get(name)
        if field is None:
            hint = did_you_mean(name, fields) or f"known are {', '.join(map(repr, fields)) or 'none'}"
            faults.append(StateFault((name,), f"there is no such field; {hint}"))
            continue
        before = len(faults)
        found = value
        if field.check is not None:
            misfits: list[StateFault] = []
            field.check(value, (name,), misfits)
            if misfits:  # as it is; it may still be the data of what is asked for
                found = _READER.read(field.type, value, (name,), faults)
        given[name] = found
        if field.bounds and found is not None and len(faults) == before and (fault := misfit(found, field.bounds)):
            faults.append(StateFault((name,), fault))
    if faults:
        raise invalid_faults(faults)
    return model(**given)


def misfit(value: Any, bounds: Mapping[str, Any]) -> str | None:
    """What keeps a value out of its bounds, which are JSON Schema's."""
    for word, bound in bounds.items():
        match word:
            case "minLength" if len(value) < bound:
                return "expected text that is not empty" if bound == 1 else f"is shorter than {bound} characters"
            case "maxLength" if len(value) > bound:
                return f"is longer than {bound} characters"
            case "pattern" if re.search(bound, value) is None:
                return f"does not match {bound}"
            case "minimum" if value < bound:
                return f"expected at least {bound}, found {shown(value)}"
            case "maximum" if value > bound:
                return f"expected at most {bound}, found {shown(value)}"
            case "exclusiveMinimum" if value <= bound:
                return f"expected more than {bound}, found {shown(value)}"
    return None


@attrs.frozen
class _Field:
    """A field of a model: its type without notes, and what these say of its bounds."""

    type: Any
    check: Check | None
    optional: bool
    bounds: Mapping[str, Any]


_KNOWN: Final[dict[Any, dict[str, _Field]]] = {}


def _known(model: Any) -> dict[str, _Field]:
    """The fields of a model."""
    known = _KNOWN.get(model)
    if known is None:
        known = _KNOWN[model] = {field.argument: _field(field) for field in fields_of(model)}
    return known


def _field(field: ClassField) -> _Field:
    notes = typing.get_args(field.type)[1:] if typing.get_origin(field.type) is Annotated else ()
    bounds = {word: bound for note in notes if isinstance(note, dict) for word, bound in note.items()}
    plain = unwrap(field.type)
    return _Field(plain, _READER.check_of(plain), field.optional, bounds)


def values(types: Mapping[str, Any], data: Object, below: str, faults: list[StateFault]) -> dict[str, Any]:
    """The values of a state that came as JSON, as its keys' types have them: a text into a date where one is asked."""
    return {
        name: value if types.get(name) in (None, Any) else _READER.read(types[name], value, (below, name), faults)
        for name, value in data.items()
    }


# --- taken ----------------------------------------------------------------------------------------------


@attrs.frozen(kw_only=True)
class Submission:
    """What to run a graph on."""

    state: Annotated[Object, "the initial state"] = attrs.field(factory=dict)
    run_id: RunId = None
    idempotency_key: Key = None
    tags: Tags = attrs.field(factory=dict)
    deadline: Deadline = None
    priority: Priority = 0
    files: Annotated[
        Object, "what the entry points are given, by roles: a digest each, or what POST /api/files answered, or a list"
    ] = attrs.field(factory=dict)


@attrs.frozen(kw_only=True)
class InlineSubmission(Submission):
    """A definition, and what to run it on."""

    definition: Definition


@attrs.frozen(kw_only=True)
class Cancellation:
    """Why to cancel."""

    reason: str | None = None


@attrs.frozen(kw_only=True)
class RetryOrder:
    """How to go on from a failure."""

    update: Annotated[Object | None, "applied to what the failed activations were given"] = None


@attrs.frozen(kw_only=True)
class ForkOrder:
    """Where a new run is to begin."""

    at: Annotated[Name, "an activation: `score#2`"]
    update: Annotated[Object | None, "applied to what it is given"] = None


@attrs.frozen(kw_only=True)
class SignalOrder:
    """A signal for a run."""

    name: Name
    payload: Any = None
    id: Annotated[str | None, "counts once, however often it is sent, be the run over by then"] = None


@attrs.frozen(kw_only=True)
class BatchLimit:
    """How many states a node is given at once."""

    size: int
    wait: Annotated[float, "seconds until fewer will do"] = 0.01


@attrs.frozen(kw_only=True)
class BreakerLimit:
    """When a node that fails is not called any more."""

    failures: int = 5
    within: Annotated[float, "seconds"] = 30.0
    cooldown: Annotated[float, "seconds until one attempt tries again"] = 60.0


@attrs.frozen(kw_only=True)
class CacheLimit:
    """For how long a result is used again."""

    ttl: Annotated[float, "seconds"]
    key: Annotated[
        str | list[str] | None, "keys of the state that make the difference; null if all do, or a function says"
    ] = None
    size: Annotated[int, "results that are kept"] = 1_000


class LeftOut:
    """What a change does not name stays as it is; null takes it away."""


LEFT_OUT: Final[Any] = LeftOut()


def _left_out() -> Any:
    return LEFT_OUT


@attrs.frozen(kw_only=True)
class LimitsOrder:
    """Limits of a node to change: what is left out stays, null takes one away."""

    concurrency: Annotated[int | None, "attempts at once"] = attrs.field(factory=_left_out)
    rate: Annotated[str | float | None, "starts: `10/s`, `100/min`, `5/10s`, or a number a second"] = attrs.field(
        factory=_left_out
    )
    batch: BatchLimit | None = attrs.field(factory=_left_out)
    breaker: BreakerLimit | None = attrs.field(factory=_left_out)
    cache: CacheLimit | None = attrs.field(factory=_left_out)


@attrs.frozen(kw_only=True)
class Nothing:
    """An empty object, or no body at all."""


# --- given ----------------------------------------------------------------------------------------------


@attrs.frozen(kw_only=True)
class GraphInfo:
    """A graph that can be run."""

    name: str
    version: str
    versions: Annotated[list[str], "all that are known of this name, the oldest first"]
    nodes: list[str]
    entry_points: list[str]
    state: Annotated[Object, "the JSON Schema of its state"]
    definition: Annotated[Object | None, "the graph as data, if data can say it: one made in Python may not be"]


@attrs.frozen(kw_only=True)
class GraphItem:
    """A graph in a list."""

    name: str
    version: Annotated[str, "the newest"]
    versions: list[str]


@attrs.frozen(kw_only=True)
class GraphList:
    """Graphs by name."""

    graphs: list[GraphItem]
    next: Annotated[str | None, "give this as `after` to get what follows"] = None


@attrs.frozen(kw_only=True)
class NodeLimits:
    """What holds for a node at this engine, over all runs of its graph; null is no limit."""

    graph: str
    version: str
    node: str
    concurrency: Annotated[int | None, "attempts at once"]
    rate: Annotated[str | None, "starts, as `10/s`"]
    batch: BatchLimit | None
    breaker: BreakerLimit | None
    cache: CacheLimit | None


@attrs.frozen(kw_only=True)
class GraphProblemItem:
    """One problem of a definition."""

    code: str
    pointer: Annotated[str, "into the definition, RFC 6901"]
    message: str
    hint: str
    severity: Literal["error", "warning"]


@attrs.frozen(kw_only=True)
class Validation:
    """All that is wrong with a definition."""

    valid: bool
    problems: list[GraphProblemItem]


@attrs.frozen(kw_only=True)
class LogItem:
    """One attempt of a node."""

    node: str
    activation: int
    attempt: int
    status: Literal["succeeded", "failed", "cancelled", "timed_out"]
    start: float
    timestamp: Annotated[str, "the start", {"format": "date-time"}]
    duration: Annotated[float, "seconds"]
    error: str | None
    keys: Annotated[list[str], "of the state, that it changed"]


@attrs.frozen(kw_only=True)
class Failure:
    """What failed in a run."""

    type: str
    message: str
    node: str | None = None
    activation: int | None = None
    attempts: int | None = None
    seconds: Annotated[float | None, "that a run had, whose deadline has passed"] = None
    times: Annotated[int | None, "how many engines in a row died with the run"] = None
    engines: Annotated[list[str] | None, "the last of them"] = None


@attrs.frozen(kw_only=True)
class RunError:
    """Why a run has no result."""

    type: str
    message: str
    failures: list[Failure]
    reason: Annotated[str | None, "why it was cancelled, if that was said"] = None


@attrs.frozen(kw_only=True)
class RunItem:
    """A run in a list."""

    run_id: str
    graph: str
    version: str
    status: Status
    submitted_at: float
    tags: Mapping[str, str]
    priority: int


@attrs.frozen(kw_only=True)
class RunList:
    """Runs in the order of their submission."""

    runs: list[RunItem]
    next: Annotated[str | None, "give this as `after` to get what follows"] = None


@attrs.frozen(kw_only=True)
class FileInfo:
    """A file: what is known of it, and where its contents are."""

    name: str
    media_type: str
    size: Annotated[int | None, "in bytes"]
    digest: Annotated[str, "SHA-256 of its contents, in hexadecimal"]
    metadata: Mapping[str, str]
    created: Annotated[str, {"format": "date-time"}]
    ephemeral: Annotated[bool, "in memory only, and gone with the run"] = False
    url: Annotated[str | None, "of its contents; null if they are kept nowhere"] = None


@attrs.frozen(kw_only=True)
class RunInfo(RunItem):
    """A run, where it stands."""

    state: Annotated[Any, "as it stands; null if it cannot be told"]
    log: Annotated[list[LogItem], "the newest attempts that have ended, at most 1,000: the rest is at …/log"]
    log_dropped: Annotated[int, "how many older ones are not shown"]
    visited: Annotated[list[str], "the node of each activation in the order of their starts, the newest 1,000"]
    visited_dropped: int
    not_run: Annotated[list[str], "nodes that have not run"]
    counters: Mapping[str, int]
    unconsumed: Annotated[list[str], "names of signals that no wait has taken"]
    last_event: Annotated[int, "the number of the newest event: a stream may begin after it"]
    error: RunError | None
    files: Annotated[list[FileInfo], "what it has made, as it stands"] = attrs.field(factory=list)
    unavailable: Annotated[str | None, "why its state cannot be told, and it does not go on"] = None


@attrs.frozen(kw_only=True)
class LogPage:
    """Part of a run's log."""

    entries: list[LogItem]
    dropped: Annotated[int, "older entries that are not kept any more"]
    next: Annotated[int | None, "give this as `after` to get what follows"] = None


@attrs.frozen(kw_only=True)
class AuditItem:
    """Somebody has done something, or tried to."""

    number: Annotated[int, "its place in the log"]
    at: float
    timestamp: Annotated[str, "the same", {"format": "date-time"}]
    who: Annotated[str, "the name of a key"]
    action: Annotated[str, "a route"]
    outcome: Annotated[str, "the status of the answer"]
    origin: Annotated[str, "the address it came from"]
    run_id: str | None = None
    graph: str | None = None
    request: Annotated[str | None, "the id of the request, which is in the service's log, too"] = None


@attrs.frozen(kw_only=True)
class AuditList:
    """Part of the audit log."""

    lines: list[AuditItem]
    next: Annotated[int | None, "give this as `after` to look on; a search may give pages with little in them"] = None


@attrs.frozen(kw_only=True)
class ToolItem:
    """A tool that nodes may name."""

    name: str
    version: str
    description: str
    is_async: bool
    takes_state: bool
    parameters: Annotated[Object, "JSON Schema"]
    returns: Annotated[Object | None, "JSON Schema"]


@attrs.frozen(kw_only=True)
class ToolList:
    """Tools by name."""

    tools: list[ToolItem]


@attrs.frozen(kw_only=True)
class Health:
    """Whether something is well."""

    status: str
    reason: str | None = None
    fallback: Annotated[str | None, "where runs are kept, if not where they were meant to be"] = None
