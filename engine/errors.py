"""Every error of the engine. One base, facts as attributes, all picklable.

Classes split by who must act: `GraphInvalid` is for the author of a graph,
`StateInvalid` for whoever submits or updates a state, `RunFailed` for the
caller of a run, `StoreUnavailable` for the operator.
"""

from __future__ import annotations

import signal
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, ClassVar, Literal, Self

import attrs

Path = tuple[str | int, ...]


def _restore(cls: type[BaseException], args: tuple[Any, ...], facts: dict[str, Any], cause: Any) -> BaseException:
    error = cls.__new__(cls, *args)
    error.args = args
    error.__dict__.update(facts)
    # A journal and a process pool must not lose why something failed: plain pickling drops the cause.
    if cause is not None:
        error.__cause__ = cause
    return error


class EngineError(Exception):
    """The base of every error the engine raises."""

    named_only: ClassVar[bool] = False
    """Whether a `Retry` has to name it: one on `Exception`, or on all of the engine's errors, does not mean it."""

    def __reduce__(self) -> tuple[Any, ...]:
        return _restore, (type(self), self.args, dict(self.__dict__), self.__cause__)


def noted(error: BaseException, place: str) -> None:
    """Have an error of the author's code say where it was raised; once, however often it is."""
    if place not in getattr(error, "__notes__", ()):
        error.add_note(place)


def said_by(error: BaseException) -> str:
    """An error's text, also of a class whose `__str__` has a fault of its own."""
    try:
        return str(error)
    except Exception as fault:
        return f"(its text cannot be had: {type(fault).__name__})"


def _list(names: Iterable[object]) -> str:
    return ", ".join(repr(name) for name in names) or "none"


# --- the author of a graph ------------------------------------------------------------------------------


class GraphProblem(EngineError, ValueError):
    """One fault of a graph: its code, its place (`node` or `a -> b`), what is wrong and the cure."""

    def __init__(
        self,
        code: str,
        where: str,
        message: str,
        hint: str = "",
        severity: Literal["error", "warning"] = "error",
    ) -> None:
        super().__init__(code, where, message, hint, severity)
        self.code = code
        self.where = where
        self.message = message
        self.hint = hint
        self.severity = severity

    def __str__(self) -> str:
        hint = f" ({self.hint})" if self.hint else ""
        return f"{self.code} at {self.where}: {self.message}{hint}"

    def __eq__(self, other: object) -> bool:
        return self.args == other.args if isinstance(other, GraphProblem) else NotImplemented

    def __hash__(self) -> int:
        return hash(self.args)


class GraphInvalid(ExceptionGroup[GraphProblem], EngineError):
    """A graph that cannot be compiled, with every one of its problems."""

    graph: str

    def __new__(cls, message: str, problems: Sequence[GraphProblem], *, graph: str = "") -> Self:
        self = super().__new__(cls, message, problems)
        self.graph = graph
        return self

    def __init__(self, message: str, problems: Sequence[GraphProblem], *, graph: str = "") -> None:
        super().__init__(message, problems)

    @classmethod
    def of(cls, graph: str, problems: Sequence[GraphProblem]) -> Self:
        """The error for a graph of this name, its message naming each problem's code and place."""
        shown = "; ".join(f"{p.code} at {p.where}" for p in problems[:5])
        rest = f"; and {len(problems) - 5} more" if len(problems) > 5 else ""
        return cls(f"cannot compile graph {graph!r}: {shown}{rest}", problems, graph=graph)

    @property
    def problems(self) -> tuple[GraphProblem, ...]:
        """Every error that was found."""
        return self.exceptions  # type: ignore[return-value]  # only problems are ever grouped here

    def derive(self, excs: Sequence[GraphProblem]) -> GraphInvalid:  # type: ignore[override]
        """The same for some of its problems: what `split` and `subgroup` make."""
        return GraphInvalid(self.message, excs, graph=self.graph)


# --- tools ----------------------------------------------------------------------------------------------


class ToolInvalid(EngineError, ValueError):
    """Something that cannot be a tool, because of its name, its version or what it is."""

    def __init__(self, message: str) -> None:
        super().__init__(message)


class ToolConflict(EngineError, ValueError):
    """Two functions were registered as one tool."""

    def __init__(self, name: str, version: str, places: Sequence[str]) -> None:
        super().__init__(
            f"tool {name!r} version {version!r} is defined twice: as {' and as '.join(places)}; "
            f"give one of them another name or version"
        )
        self.name = name
        self.version = version
        self.places = tuple(places)
        """Where both are defined: `module.function (file:line)`."""


class UnknownTool(EngineError, LookupError):
    """There is no tool of this name, or not in this version."""

    def __init__(self, name: str, version: str | None = None, versions: Sequence[str] = (), hint: str = "") -> None:
        said = f"no tool is called {name!r}"
        if versions:
            said = f"tool {name!r} has no version {version!r}"
            hint = f"there {'is' if len(versions) == 1 else 'are'} {', '.join(map(repr, versions))}"
        super().__init__(f"{said}; {hint}" if hint else said)
        self.name = name
        self.version = version
        self.versions = tuple(versions)
        self.said = said
        self.hint = hint


class BadArguments(EngineError, TypeError):
    """A tool was called with arguments that it does not take, or without some that it needs."""

    def __init__(self, tool: str, faults: Sequence[str]) -> None:
        super().__init__(f"tool {tool!r} {'; '.join(faults)}")
        self.tool = tool
        self.faults = tuple(faults)


class ToolsNotLoaded(EngineError):
    """A module, an attribute of one or an entry point brings no tools; the cause says what its import raised."""

    def __init__(self, source: str, reason: str) -> None:
        super().__init__(f"cannot load tools from {source!r}: {reason}")
        self.source = source
        self.reason = reason


# --- state ----------------------------------------------------------------------------------------------


@attrs.frozen
class StateFault:
    """One value of a state that does not fit: where, and what was expected instead."""

    path: Path
    message: str

    @property
    def pointer(self) -> str:
        """The place as a JSON pointer (RFC 6901)."""
        return "".join("/" + str(part).replace("~", "~0").replace("/", "~1") for part in self.path)

    def __str__(self) -> str:
        place = "".join(f"[{p}]" if isinstance(p, int) else f".{p}" if i else p for i, p in enumerate(self.path))
        return f"{place or 'state'}: {self.message}"


class StateInvalid(EngineError, ValueError):
    """A state or an update that does not fit the graph's state type, with every fault and its path."""

    def __init__(self, message: str, faults: Sequence[StateFault] = (), *, node: str | None = None) -> None:
        super().__init__(message)
        self.faults = tuple(faults)
        self.node = node

    @classmethod
    def of(cls, what: str, faults: Sequence[StateFault], *, node: str | None = None) -> Self:
        """The error for `what` (a phrase such as "the initial state"), its message naming every fault."""
        return cls(f"{what} does not fit: " + "; ".join(map(str, faults)), faults, node=node)

    @property
    def path(self) -> Path:
        """Where the first fault is, e.g. `("rows", 3, "score")`."""
        return self.faults[0].path if self.faults else ()


class UnknownKey(StateInvalid):
    """A key that the state type does not have; such keys come first among the faults."""

    @property
    def key(self) -> str:
        """The key that is not known."""
        return str(self.path[-1]) if self.path else ""


class StateMutated(EngineError):
    """A node, or the reducer of a key, changed a shared value in place (found with `isolation="check"`)."""

    def __init__(self, node: str | None, key: str) -> None:
        if node is None:
            super().__init__(
                f"the reducer of {key!r} changed what it was given in place; values are shared between branches, "
                f"and with the submitter: return a new value, e.g. `a + b` for lists"
            )
        else:
            super().__init__(
                f"node {node!r} changed the value of {key!r} in place; values are shared between branches: "
                f"return a new value, or use isolation='deep'"
            )
        self.node = node
        """The node whose function did it; None if it was the reducer of the key."""
        self.key = key


class MergeConflict(EngineError):
    """Concurrent branches set one key to different values and no reducer says how to combine them."""

    def __init__(self, key: str, nodes: Sequence[str], values: Sequence[Any], join: str) -> None:
        writers = " and ".join(f"{node!r} ({_short(value)})" for node, value in zip(nodes, values, strict=False))
        super().__init__(
            f"key {key!r} was set to different values by {writers}, which met at {join!r}; "
            f"give the key a reducer, let one branch write it, or use conflicts='last'"
        )
        self.key = key
        self.nodes = tuple(nodes)
        self.values = tuple(values)
        self.join = join


def _short(value: object) -> str:
    try:
        text = repr(value)
    except Exception as error:
        text = f"<{type(value).__name__} whose repr raised {type(error).__name__}>"
    return text if len(text) <= 80 else text[:77] + "..."


# --- routing, loops, joins ------------------------------------------------------------------------------


class NoRoute(EngineError):
    """A node has outgoing edges and none was taken."""

    def __init__(self, node: str, tried: Sequence[str]) -> None:
        super().__init__(
            f"no edge out of {node!r} was taken, tried {_list(tried)}; "
            f"add an edge with otherwise=True, or one to END if the branch may end here"
        )
        self.node = node
        self.tried = tuple(tried)


class UnknownRoute(EngineError):
    """A router or a `Goto` named something that is none of the declared targets."""

    def __init__(self, node: str, name: object, allowed: Sequence[str]) -> None:
        super().__init__(f"node {node!r} was routed to {name!r}, allowed are {_list(allowed)}")
        self.node = node
        self.name = name
        self.allowed = tuple(allowed)


class LoopLimit(EngineError):
    """An edge was to be taken more often than its loop's limit allows."""

    def __init__(self, node: str, edge: str, count: int) -> None:
        super().__init__(
            f"edge {edge!r} out of {node!r} was taken {count} times, its limit; raise max_iterations, "
            f"or say on_limit='exit' to leave the loop by another edge"
        )
        self.node = node
        self.edge = edge
        self.count = count


class ActivationLimit(EngineError):
    """A run was to start more activations than `max_activations`."""

    def __init__(self, limit: int, node: str | None = None) -> None:
        super().__init__(f"the run reached max_activations={limit}" + (f" before {node!r}" if node else ""))
        self.limit = limit
        self.node = node


class JoinStarved(EngineError):
    """A `first` or `k` join has some arrivals of a wave and can get no more."""

    def __init__(self, node: str, needed: int, arrived: Sequence[str], missing: Sequence[str]) -> None:
        super().__init__(
            f"join {node!r} needs {needed} arrivals, got {_list(arrived)}, and can get none from {_list(missing)}"
        )
        self.node = node
        self.needed = needed
        self.arrived = tuple(arrived)
        self.missing = tuple(missing)


# --- conditions in data ---------------------------------------------------------------------------------

# Of a condition's text, what a message shows around the place it speaks of.
_WINDOW = 100


def pointed(text: str, column: int) -> str:
    """The text on one line, cut where it is long, and a caret below the column."""
    line = "".join(c if c.isprintable() else " " for c in text)
    start = max(0, min(column - 1 - _WINDOW // 2, len(line) - _WINDOW))
    before = "…" if start else ""
    after = "…" if start + _WINDOW < len(line) else ""
    return f"    {before}{line[start : start + _WINDOW]}{after}\n    {' ' * (len(before) + column - 1 - start)}^"


@attrs.frozen
class ConditionFault:
    """One fault of a condition's text: a code of problems, the column (from 1), what is wrong and the cure."""

    code: Literal["bad_condition", "unknown_key"]
    column: int
    message: str
    hint: str = ""

    def __str__(self) -> str:
        hint = f" ({self.hint})" if self.hint else ""
        return f"column {self.column}: {self.message}{hint}"


class ConditionInvalid(EngineError, ValueError):
    """A condition given as text that cannot be used, with every fault that was found, in the order of their columns."""

    def __init__(self, text: str, faults: Sequence[ConditionFault]) -> None:
        shown = "\n".join(f"{fault}\n{pointed(text, fault.column)}" for fault in faults)
        super().__init__(f"condition cannot be used: {shown}")
        self.text = text
        self.faults = tuple(faults)

    @property
    def column(self) -> int:
        """Where the first fault is."""
        return self.faults[0].column

    @property
    def message(self) -> str:
        """What the first fault is."""
        return self.faults[0].message

    @property
    def hint(self) -> str:
        """The cure of the first fault; empty if none is known."""
        return self.faults[0].hint


class ConditionFailed(EngineError):
    """A condition given as text met a state that it cannot judge: a missing key, None where it wants a number."""

    def __init__(self, text: str, column: int, message: str) -> None:
        # One line, as what tells of a failed run shows; the caret is a note, as tracebacks show.
        place = pointed(text, column)
        super().__init__(f"condition `{place.partition(chr(10))[0].strip()}` failed at column {column}: {message}")
        self.text = text
        self.column = column
        self.message = message
        self.add_note(place)


# --- nodes and runs -------------------------------------------------------------------------------------


class NodeTimeout(EngineError, TimeoutError):
    """An attempt took longer than its node's `timeout`."""

    def __init__(self, node: str, seconds: float) -> None:
        super().__init__(f"node {node!r} took longer than its timeout of {seconds:g} s")
        self.node = node
        self.seconds = seconds

    def __str__(self) -> str:
        return str(self.args[0])


class NodeUnavailable(EngineError):
    """An attempt did not start: its node failed too often lately, and its circuit breaker is open."""

    def __init__(self, node: str, retry_after: float) -> None:
        when = f"it is tried again in {retry_after:.3g} s" if retry_after else "it is being tried by one other attempt"
        super().__init__(f"node {node!r} failed too often and is not called for now; {when}")
        self.node = node
        self.retry_after = retry_after
        """Seconds until an attempt may start; 0 if that hangs on one that is under way."""


class CacheKeyInvalid(EngineError, TypeError):
    """What a node with a cache was given, or what `key=` made of it, cannot be compared as data."""

    def __init__(self, node: str, what: str, path: str = "") -> None:
        place = f" at {path}" if path else ""
        super().__init__(
            f"the cache of node {node!r} cannot tell what is equal: {what}{place} is no data; "
            f"give Cache(key=...) the keys of the state, or a function, that make the difference"
        )
        self.node = node
        self.what = what
        self.path = path


class RunTimeout(EngineError, TimeoutError):
    """A run did not end before its deadline."""

    def __init__(self, run_id: str, seconds: float, hint: str = "") -> None:
        said = f"run {run_id!r} did not end within its deadline of {seconds:g} s"
        super().__init__(f"{said}; {hint}" if hint else said)
        self.run_id = run_id
        self.seconds = seconds

    def __str__(self) -> str:
        return str(self.args[0])


class PoisonRun(EngineError):
    """Engines died with a run, or fell silent, one after another, while nothing of it got any further."""

    def __init__(self, run_id: str, times: int, engines: Sequence[str] = ()) -> None:
        who = f" (the last: {', '.join(engines)})" if engines else ""
        super().__init__(
            f"run {run_id!r} was in hand at {times} engines in a row that died or fell silent{who}, and got no further "
            f"at any of them, so no other tries; see how they ended (killed, out of memory, a crash in native code, a "
            f"blocked loop), mend the node that was at work or give it run_in='process', and retry the run"
        )
        self.run_id = run_id
        self.times = times
        self.engines = tuple(engines)
        """The names of the last of them."""


class NodeFailed(EngineError):
    """An activation failed for good; `cause` is what the node raised, or the engine's own error."""

    def __init__(self, node: str, activation: int, attempts: int, cause: BaseException) -> None:
        said = ", ".join(
            [part for part in (said_by(cause), *getattr(cause, "__notes__", ())) if part and "\n" not in part]
        )
        super().__init__(
            f"node {node!r} failed (activation {activation}, {attempts} attempt{'s' * (attempts != 1)}): "
            f"{type(cause).__name__}" + (f": {said}" if said else "")
        )
        self.node = node
        self.activation = activation
        self.attempts = attempts
        self.__cause__ = cause

    @property
    def cause(self) -> BaseException:
        """What the node raised, or the engine's own error."""
        assert self.__cause__ is not None
        return self.__cause__


# Of the text of an error, what a line that mentions it shows.
SHOWN = 200


def _in_a_line(error: BaseException) -> str:
    said = said_by(error).partition("\n")[0]
    said = ", ".join([said, *(note for note in getattr(error, "__notes__", ()) if "\n" not in note)])
    said = said if len(said) <= SHOWN else f"{said[:SHOWN]}…"
    return f"{type(error).__name__}: {said}" if said else type(error).__name__


class RunFailed(ExceptionGroup[Exception], EngineError):
    """A run that failed: the group of every `NodeFailed` (or the `RunTimeout` or `PoisonRun` that ended it)."""

    run_id: str
    graph: str

    def __new__(cls, message: str, errors: Sequence[Exception], *, run_id: str = "", graph: str = "") -> Self:
        self = super().__new__(cls, message, errors)
        self.run_id = run_id
        self.graph = graph
        return self

    def __init__(self, message: str, errors: Sequence[Exception], *, run_id: str = "", graph: str = "") -> None:
        super().__init__(message, errors)

    @classmethod
    def of(cls, run_id: str, graph: str, errors: Sequence[Exception]) -> Self:
        """The error for this run, its message naming what failed."""
        names = ", ".join(f"{e.node}#{e.activation}" if isinstance(e, NodeFailed) else str(e) for e in errors)
        said = f"run {run_id!r} of graph {graph!r} failed: {names}"
        first = next((error.cause for error in errors if isinstance(error, NodeFailed)), None)
        if first is not None:
            said += f" ({'the first ' if len(errors) > 1 else ''}by {_in_a_line(first)})"
        return cls(said, errors, run_id=run_id, graph=graph)

    @property
    def failures(self) -> tuple[NodeFailed, ...]:
        """Every `NodeFailed`, in the order in which they happened."""
        return tuple(error for error in self.exceptions if isinstance(error, NodeFailed))

    def derive(self, excs: Sequence[Exception]) -> RunFailed:  # type: ignore[override]
        """The same for some of its errors: what `split` and `subgroup` make."""
        return RunFailed(self.message, excs, run_id=self.run_id, graph=self.graph)


class RunCancelled(EngineError):
    """The run whose result was asked for has been cancelled."""

    def __init__(self, run_id: str, reason: str | None = None) -> None:
        super().__init__(f"run {run_id!r} was cancelled" + (f": {reason}" if reason else ""))
        self.run_id = run_id
        self.reason = reason


class RunNotFound(EngineError, LookupError):
    """No run has this id, or none any more."""

    def __init__(self, run_id: str, hint: str = "") -> None:
        super().__init__(f"no run has the id {run_id!r}" + (f": {hint}" if hint else ""))
        self.run_id = run_id


class RunEnded(EngineError):
    """The run is over, so it takes no signal; or it has not failed, so it cannot be retried (see `status`)."""

    def __init__(self, run_id: str, status: str, hint: str = "") -> None:
        over = status in ("succeeded", "failed", "cancelled")
        said = f"run {run_id!r} is over ({status})" if over else f"run {run_id!r} is {status}"
        super().__init__(f"{said}; {hint}" if hint else said)
        self.run_id = run_id
        self.status = status


class UnknownSignal(EngineError, LookupError):
    """No wait of the graph uses a signal of this name."""

    def __init__(self, name: str, known: Sequence[str]) -> None:
        super().__init__(f"no wait of the graph uses the signal {name!r}, known are {_list(known)}")
        self.name = name
        self.known = tuple(known)


class HistoryGone(EngineError, LookupError):
    """The log entries or events asked for were dropped; `kept_from` is the first that is still there."""

    def __init__(self, asked: int, kept_from: int, message: str = "") -> None:
        super().__init__(
            message
            or f"nothing is kept before number {kept_from}, asked for {asked}; raise Graph(history=...), or use a store"
        )
        self.asked = asked
        self.kept_from = kept_from


class RecordsGone(HistoryGone):
    """A run cannot be forked: records of what led to the place are not there any more."""

    def __init__(self, run_id: str, missing: str, kept_from: int = 0) -> None:
        super().__init__(
            1,
            kept_from,
            f"the records of run {run_id!r} are not all there any more: {missing}; a run can be forked as long as "
            f"they are: Settings(prune=False) keeps those of long runs, and compact() removes none of those it keeps",
        )
        self.run_id = run_id
        self.missing = missing


class ActivationNotFound(EngineError, LookupError):
    """A run has no such activation on record, so it cannot be forked there."""

    def __init__(self, run_id: str, at: str, known: Sequence[str]) -> None:
        some = f"{_list(known[-5:])}{' and older ones' if len(known) > 5 else ''}"
        super().__init__(
            f"run {run_id!r} has no activation {at!r} on record, it has {some}; give one as 'node#number' that has "
            f"ended, of the run itself: subgraphs and maps run again as a whole"
        )
        self.run_id = run_id
        self.at = at
        self.known = tuple(known)


class VersionMismatch(EngineError):
    """A run began on a definition of its graph that is not the one registered now; `reasons` say why it cannot move."""

    def __init__(self, graph: str, expected: str, found: str, *, run_id: str = "", reasons: Sequence[str] = ()) -> None:
        whose = f"run {run_id!r}" if run_id else "the run"
        if reasons:
            cure = (
                f"{whose} cannot go on there: {'; '.join(reasons)}; fork it at an activation before what has changed, "
                f"or register the definition that it began on again"
            )
        else:
            cure = (
                f"engine.migrate({run_id!r}) lets the run go on if its records fit, engine.fork({run_id!r}, at) "
                f"begins another from one of its activations; give a changed graph another version"
            )
        super().__init__(
            f"{whose} began on another definition of graph {graph!r} ({expected}) than the one registered now "
            f"({found}); {cure}"
        )
        self.graph = graph
        self.expected = expected
        self.found = found
        self.run_id = run_id
        self.reasons = tuple(reasons)


# --- the engine -----------------------------------------------------------------------------------------


class EngineBusy(EngineError):
    """The engine is full; nothing was accepted, try again later."""

    def __init__(self, message: str = "the engine is full", *, retry_after: float = 1.0) -> None:
        super().__init__(message)
        self.retry_after = retry_after


class EngineClosed(EngineError):
    """The engine is not running: not yet entered, or already left."""

    def __init__(self, message: str = "the engine is closed; use it inside `async with Engine()`") -> None:
        super().__init__(message)


class LeaseLost(EngineError):
    """This engine was away for so long that other engines of its store may have taken over its runs.

    Nothing more is written of what it had in hand. What was asked of it at that moment may have been done or not: to
    know, ask again, `engine.get(run_id)`; what has an id or an idempotency key may be sent again.
    """

    def __init__(self, engine: str, found: str, run_id: str | None = None) -> None:
        what = "" if run_id is None else f"run {run_id!r} goes on elsewhere: "
        super().__init__(f"{what}engine {engine} has lost its lease, since {found}; ask again: engine.get(run_id)")
        self.engine = engine
        self.found = found
        self.run_id = run_id


class StoreUnavailable(EngineError):
    """The store cannot be reached or refuses to work; for the operator."""

    def __init__(self, message: str, *, facts: Mapping[str, Any] | None = None) -> None:
        super().__init__(message)
        self.facts = dict(facts or {})


# --- files ----------------------------------------------------------------------------------------------


class BadMediaType(EngineError, ValueError):
    """What was given as a media type is none."""

    def __init__(self, text: str, why: str) -> None:
        super().__init__(text, why)
        self.text = text
        self.why = why

    def __str__(self) -> str:
        if len(self.args) == 1:
            return str(self.args[0])  # as a service has told it
        return f"{self.text!r} is no media type: {self.why}"


class FileMismatch(EngineError):
    """A node was not given the files that it takes, or gave none of those that it says; `there` is what was there."""

    def __init__(self, node: str, message: str, there: Sequence[str] = ()) -> None:
        super().__init__(node, message, tuple(there))
        self.node = node
        self.message = message
        self.there = tuple(there)

    def __str__(self) -> str:
        if len(self.args) == 1:
            return str(self.args[0])  # as a service has told it
        there = ", ".join(self.there[:10]) or "no files"
        more = f" and {len(self.there) - 10} more" if len(self.there) > 10 else ""
        return f"node {self.node!r}: {self.message}; there was: {there}{more}"


class FileMissing(EngineError, LookupError):
    """The contents of a file are not where they are looked for."""

    def __init__(self, digest: str, where: str, why: str = "") -> None:
        super().__init__(digest, where, why)
        self.digest = digest
        self.where = where
        self.why = why

    def __str__(self) -> str:
        if len(self.args) == 1:
            return str(self.args[0])  # as a service has told it
        why = f": {self.why}" if self.why else ""
        return f"the contents {self.digest or '(never kept)'} are not in {self.where}{why}"


class FileDamaged(EngineError, ValueError):
    """The contents of a file are not those that its digest names."""

    def __init__(self, expected: str, found: str, where: str) -> None:
        super().__init__(expected, found, where)
        self.expected = expected
        self.found = found
        self.where = where

    def __str__(self) -> str:
        if len(self.args) == 1:
            return str(self.args[0])  # as a service has told it
        return f"{self.where} has contents with the digest {self.found}, expected {self.expected}"


class FilesUnavailable(EngineError):
    """Files cannot be kept or read: a full disk, no connection, or an engine that keeps none; for the operator."""

    def __init__(self, message: str) -> None:
        super().__init__(message)


class EphemeralRefused(EngineError):
    """An ephemeral file where a run would need it after a crash, and nothing could make it again."""

    def __init__(self, message: str) -> None:
        super().__init__(message)


# --- what is stored -------------------------------------------------------------------------------------


class NotStorable(EngineError, TypeError):
    """A value that would not come back from a store as it is: what it is, and its path (`rows[3]['a'].field`)."""

    def __init__(self, what: str, path: str, cure: str, owner: str = "") -> None:
        place = ": ".join(part for part in (owner, path) if part)
        super().__init__((f"{place}: " if place else "") + f"{what} cannot be kept in a store; {cure}")
        self.what = what
        self.path = path
        self.cure = cure
        self.owner = owner
        """Whose value it is, e.g. `node 'grade'`."""


class Damaged(EngineError, ValueError):
    """What was read from a store is not what the engine writes: it was changed, or is of a newer version."""


class ClassChanged(EngineError, ValueError):
    """A stored value is of a class that is not there now, or has other fields or members than it had."""

    def __init__(self, name: str, message: str) -> None:
        super().__init__(message)
        self.name = name
        """`module:Class`, as it was when the value was stored."""


class RecordedError(EngineError):
    """Stands for an error whose class cannot be had back from a store; it says what the error said.

    Its own class is a subclass that bears the name of the error's, so that tracebacks and logs show that.
    """

    def __init__(self, type_name: str, message: str) -> None:
        super().__init__(message)
        self.type_name = type_name
        """`module:Class` of the error."""

    @classmethod
    def of(cls, type_name: str, message: str) -> RecordedError:
        """The stand-in for an error of this class, which said this."""
        module, _, qualname = type_name.partition(":")
        name = qualname.rpartition(".")[2] or type_name
        shown = {"__module__": module, "__qualname__": qualname or name}
        stand_in: type[RecordedError] = type(name, (RecordedError,), shown)
        return stand_in(type_name, message)

    def __reduce__(self) -> tuple[Any, ...]:
        facts = {name: value for name, value in vars(self).items() if name != "type_name"}
        return _recorded, (self.type_name, str(self), facts, self.__cause__)


def _recorded(type_name: str, message: str, facts: dict[str, Any], cause: BaseException | None) -> RecordedError:
    error = RecordedError.of(type_name, message)
    error.__dict__.update(facts)
    if cause is not None:
        error.__cause__ = cause
    return error


# --- executors ------------------------------------------------------------------------------------------

_TRANSFER_CURES = {
    "function": "define it at the top level of a module that can be imported without side effects",
    "arguments": "leave it out of what the node reads, or open it within the function",
    "result": "return plain data",
    "exception": "raise an exception that holds plain data",
}


class NotTransferable(EngineError, TypeError):
    """Something that has to travel to a worker process or back cannot be pickled, or not be found there.

    Trying again is of no use, so that is done only where a node's `retry` names this error.
    """

    named_only = True

    def __init__(self, function: str, what: str, reason: str, where: str = "") -> None:
        said = f"the {what} of {function!r}" if what != "function" else f"the function {function!r}"
        super().__init__(
            f"{said} cannot travel between processes"
            + (f", because of {where}" if where else "")
            + f": {reason}; {_TRANSFER_CURES[what]}, or run the node with run_in='thread'"
        )
        self.function = function
        self.what = what
        self.reason = reason
        self.where = where


class ClusterLost(EngineError):
    """The cluster that nodes run on cannot be reached, or has been silent for too long."""

    def __init__(self, address: str, message: str) -> None:
        super().__init__(f"the cluster at {address!r} is lost: {message}")
        self.address = address


class UnknownNode(EngineError, LookupError):
    """A question about a node that the graph does not have."""

    def __init__(self, node: str, known: Sequence[str]) -> None:
        super().__init__(f"there is no node {node!r}; known are {_list(known)}")
        self.node = node
        self.known = tuple(known)


class NotReachable(EngineError):
    """A node that runs in another process used what its `Context` has only in the engine's own."""

    def __init__(self, what: str) -> None:
        super().__init__(
            f"ctx.{what} cannot be reached from another process; return what is to be told, or run the node "
            f"with run_in='thread'"
        )
        self.what = what

    def __reduce__(self) -> tuple[Any, ...]:
        return NotReachable, (self.what,)


class WorkerLost(EngineError):
    """A worker process died by itself during a call; whether its work was done is not known.

    So it is tried again only where a node's `retry` names this error: `Retry(on=WorkerLost)`.
    """

    named_only = True

    def __init__(self, function: str, pid: int | None, exit_code: int | None, reason: str = "") -> None:
        said = f"worker process {pid} {_how_it_ended(exit_code)}" if pid is not None else "its worker was lost"
        super().__init__(f"{said} while it ran {function!r}" + (f": {reason}" if reason else ""))
        self.function = function
        self.pid = pid
        self.exit_code = exit_code
        """As in `subprocess`: negative for the signal that killed it; None if it cannot be told."""


def _how_it_ended(exit_code: int | None) -> str:
    if exit_code is None:
        return "was lost"
    if exit_code >= 0:
        return f"exited with code {exit_code}"
    try:
        name = signal.Signals(-exit_code).name
    except ValueError:
        name = str(-exit_code)
    hint = " (out of memory?)" if name == "SIGKILL" else ""
    return f"was killed by signal {name}{hint}"


class GraphConflict(EngineError, ValueError):
    """Another graph is known under this name and version."""

    def __init__(self, graph: str, version: str) -> None:
        super().__init__(
            f"another graph is registered as {graph!r} version {version!r}; give the changed one another version"
        )
        self.graph = graph
        self.version = version


class GraphNotFound(EngineError, LookupError):
    """No graph of this name is registered, or not in this version; `known` are names, or its versions."""

    def __init__(self, graph: str, known: Sequence[str], version: str | None = None) -> None:
        named = repr(graph) if version is None else f"{graph!r} version {version!r}"
        super().__init__(f"no graph is registered as {named}, known are {_list(known)}; engine.register(graph) first")
        self.graph = graph
        self.known = tuple(known)
        self.version = version


class IdempotencyConflict(EngineError, ValueError):
    """This idempotency key was used for another submission; `difference` says in what it was another."""

    def __init__(self, key: str, run_id: str, difference: str = "with another input") -> None:
        super().__init__(
            f"idempotency key {key!r} belongs to run {run_id!r}, which was submitted {difference}; "
            f"take another key for another run"
        )
        self.key = key
        self.run_id = run_id
        self.difference = difference

    @classmethod
    def between(cls, key: str, run_id: str, theirs: tuple[str, str], ours: tuple[str, str]) -> Self:
        """The error for two submissions to these graphs, each by name and version."""
        if theirs == ours:
            return cls(key, run_id)
        there, here = (f"graph {name!r} version {version!r}" for name, version in (theirs, ours))
        return cls(key, run_id, f"to {there}, not to {here}")


class KeyTaken(EngineError):
    """A store was asked to admit a run under an idempotency key that is another run's."""

    def __init__(self, key: str, run_id: str) -> None:
        self.key = key
        self.run_id = run_id
        super().__init__(key, run_id)

    def __str__(self) -> str:
        return f"the idempotency key {self.key!r} belongs to run {self.run_id!r}"


class RunIdTaken(EngineError, ValueError):
    """A run has the id already that a submission asks for."""

    def __init__(self, run_id: str) -> None:
        super().__init__(f"a run has the id {run_id!r} already; leave run_id out to get a new one")
        self.run_id = run_id


class GraphInUse(EngineError):
    """A graph cannot be forgotten: runs that have not ended need it."""

    def __init__(self, graph: str, version: str, run_id: str) -> None:
        super().__init__(
            f"graph {graph!r} version {version!r} is needed by runs that have not ended, {run_id!r} among them; "
            f"cancel them, or wait for their end"
        )
        self.graph = graph
        self.version = version
        self.run_id = run_id


class TooDeep(EngineError, RecursionError):
    """Runs were submitted by nodes of runs of nodes of runs, deeper than the engine allows."""

    def __init__(self, depth: int) -> None:
        super().__init__(
            f"a run {depth} runs deep was submitted by a node; raise Settings(max_depth=...) if it is meant"
        )
        self.depth = depth
