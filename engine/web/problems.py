"""What went wrong, as an answer: problem documents (RFC 9457) for every error that the engine has.

What is told is what the caller can act on. Nothing of the service's inside: no traceback, no file, no address of a
store; what only its operator can mend goes to the log.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Mapping, Sequence
from http import HTTPStatus
from math import ceil
from typing import Annotated, Any, Final

import attrs

from .. import errors
from ..errors import GraphInvalid, GraphProblem, Path, StateFault, StateInvalid
from ..replay import ReplayError
from ..texts import NotData
from . import refusals
from .wire import Answer

logger = logging.getLogger("engine.web")

TYPE: Final = "application/problem+json"


@attrs.frozen(kw_only=True)
class Detail:
    """One thing that is wrong with a request: where (in its body, or a parameter), what, and the cure."""

    message: str
    pointer: str | None = None
    """Into the body, RFC 6901."""
    parameter: str | None = None
    """Of the query, the path or the headers."""
    code: str | None = None
    hint: str | None = None


@attrs.frozen(kw_only=True)
class Problem:
    """Why a request was refused, RFC 9457."""

    type: str = "about:blank"
    title: str
    status: int
    detail: str
    code: Annotated[str, "what programs tell problems apart by"]
    errors: Annotated[list[Detail], "everything that is wrong, not only the first"] = attrs.field(factory=list)
    facts: Annotated[Mapping[str, Any], "what `detail` says, for programs: run_id, key, known"] = attrs.field(
        factory=dict
    )


class Refused(Exception):
    """A request is refused, for this reason."""

    def __init__(
        self,
        status: int,
        code: str,
        detail: str,
        details: Iterable[Detail] = (),
        headers: Mapping[str, str] = {},
        facts: Mapping[str, Any] = {},
    ) -> None:
        super().__init__(detail)
        self.headers = headers
        title = HTTPStatus(status).phrase
        self.problem = Problem(title=title, status=status, detail=detail, code=code, errors=list(details), facts=facts)


def answer_of(refused: Refused) -> Answer:
    """The answer that says so."""
    return Answer(refused.problem.status, shown(refused.problem), refused.headers, TYPE)


def shown(problem: Problem) -> dict[str, Any]:
    """A problem as data, without what it leaves open."""
    found = attrs.asdict(problem, recurse=False)
    if not problem.facts:
        del found["facts"]
    if not problem.errors:
        del found["errors"]
        return found
    found["errors"] = [
        {name: value for name, value in attrs.asdict(each).items() if value is not None} for each in problem.errors
    ]
    return found


# --- what is wrong with a request -----------------------------------------------------------------------


def invalid(details: Iterable[Detail], facts: Mapping[str, Any] = {}) -> Refused:
    """Input that cannot be used, with everything that is wrong with it."""
    found = list(details)
    said = "; ".join(f"{each.pointer or each.parameter or 'the body'}: {each.message}" for each in found[:3])
    more = f"; and {len(found) - 3} more" if len(found) > 3 else ""
    return Refused(422, "invalid", f"{said}{more}", found, facts=facts)


def invalid_faults(faults: Iterable[StateFault], below: Path = ()) -> Refused:
    """The same for faults of values somewhere in the body."""
    placed = [StateFault((*below, *fault.path), fault.message) for fault in faults]
    return invalid(Detail(pointer=fault.pointer, message=fault.message) for fault in placed)


def not_json(error: NotData) -> Refused:
    """A body that cannot be read."""
    is_pointer = error.where.startswith("/") and error.where != "/"
    message = error.message if is_pointer or error.where == "/" else f"{error.where}: {error.message}"
    detail = Detail(pointer=error.where if is_pointer else "", message=message, hint=error.hint or None)
    return Refused(422, "not_json", f"the body cannot be read: {message}", [detail])


def unknown_path() -> Refused:
    """There is nothing there."""
    return Refused(404, "unknown_path", "there is nothing at this path")


def wrong_method(allowed: Iterable[str]) -> Refused:
    """There is something there, but not for this method."""
    allow = ", ".join(allowed)
    return Refused(405, "wrong_method", f"this path takes {allow}", headers={"Allow": allow})


def is_of_the_guard(error: Exception) -> bool:
    """Whether it is for the guard around the application to answer."""
    if isinstance(error, ExceptionGroup):  # from a task that waited for messages beside another
        return error.subgroup(refusals.Refused) is not None
    return isinstance(error, refusals.Refused)


# --- errors of the engine -------------------------------------------------------------------------------


def of_error(error: Exception) -> Refused:
    """The problem that an error is; one that nobody foresaw is logged, and tells nothing."""
    if isinstance(error, Refused):
        return error
    for kind, make in _MAPPED:
        if isinstance(error, kind):
            return make(error)
    logger.error("a request failed by a fault of the service", exc_info=error)
    return Refused(500, "internal_error", "the service has a fault, which its log tells")


def of_graph(error: GraphInvalid, below: str = "") -> Refused:
    """A graph that cannot be compiled; `below` is the pointer to its definition."""
    details = [detail_of(problem, below) for problem in error.problems]
    said = f"the definition has {len(details)} problem{'s' * (len(details) != 1)}"
    return Refused(422, "graph_invalid", said, details, facts=facts_of(error))


def detail_of(problem: GraphProblem, below: str = "") -> Detail:
    """One problem of a graph."""
    is_pointer = problem.where.startswith("/")
    pointer = below + ("" if problem.where == "/" else problem.where) if is_pointer else below
    said = problem.message if is_pointer else f"{problem.where}: {problem.message}"
    return Detail(pointer=pointer, message=said, code=problem.code, hint=problem.hint or None)


def of_state(error: StateInvalid, below: str = "") -> Refused:
    """A state that does not fit its graph; `below` is the pointer to it."""
    faults = error.faults or (StateFault((), str(error)),)
    details = [Detail(pointer=below + fault.pointer, message=fault.message) for fault in faults]
    return Refused(422, code_of(type(error)), str(error), details, facts=facts_of(error))


def code_of(kind: type[BaseException]) -> str:
    """What a problem calls errors of this class."""
    return "".join(f"_{c.lower()}" if c.isupper() else c for c in kind.__name__).lstrip("_")


def facts_of(error: BaseException) -> dict[str, Any]:
    """What an error knows beside its text, as far as it is plain: nothing that its text would not tell."""
    return {name: value for name, value in vars(error).items() if not name.startswith("_") and _is_plain(value)}


def _is_plain(value: Any) -> bool:
    if isinstance(value, tuple):
        return all(isinstance(item, str) for item in value)
    return value is None or type(value) in (str, int, float, bool)


def _plain(status: int, headers: Mapping[str, str] = {}) -> Callable[[Any], Refused]:
    """A problem that says what the error says."""
    return lambda error: Refused(status, code_of(type(error)), str(error), headers=headers, facts=facts_of(error))


def _secret(status: int, detail: str, headers: Mapping[str, str] = {}) -> Callable[[Any], Refused]:
    """One whose error may say what is nobody's business."""

    def make(error: Exception) -> Refused:
        logger.warning("a request was refused with %d: %s", status, error)
        return Refused(status, code_of(type(error)), detail, headers=headers)

    return make


def _busy(error: errors.EngineBusy) -> Refused:
    after = {"Retry-After": str(max(1, ceil(error.retry_after)))}
    return Refused(429, "engine_busy", f"{error}; nothing was accepted", headers=after, facts=facts_of(error))


_SOON: Final = {"Retry-After": "1"}

_MAPPED: Final[Sequence[tuple[type[Exception], Callable[[Any], Refused]]]] = (
    (NotData, not_json),
    (GraphInvalid, of_graph),
    (StateInvalid, of_state),
    (errors.EngineBusy, _busy),
    (errors.EngineClosed, _plain(503, _SOON)),
    (errors.LeaseLost, _plain(503, _SOON)),
    (errors.StoreUnavailable, _secret(503, "the store cannot be reached at present", _SOON)),
    (errors.FilesUnavailable, _secret(503, "files cannot be kept or read at present", _SOON)),
    (errors.FileMissing, lambda error: Refused(404, "file_missing", f"there are no contents {error.digest}")),
    (errors.FileDamaged, _secret(500, "the contents of this file are damaged")),
    (errors.FileMismatch, _plain(422)),
    (errors.BadMediaType, _plain(422)),
    (errors.EphemeralRefused, _plain(422)),
    (errors.Damaged, _secret(500, "what the store has of this cannot be read")),
    (errors.RunNotFound, _plain(404)),
    (errors.GraphNotFound, _plain(404)),
    (errors.UnknownSignal, _plain(404)),
    (errors.UnknownNode, _plain(404)),
    (errors.UnknownTool, _plain(404)),
    (errors.HistoryGone, _plain(410)),
    (errors.RecordsGone, _plain(410)),
    (errors.GraphConflict, _plain(409)),
    (errors.GraphInUse, _plain(409)),
    (errors.IdempotencyConflict, _plain(409)),
    (errors.RunIdTaken, _plain(409)),
    (errors.RunEnded, _plain(409)),
    (errors.RunTimeout, _plain(409)),
    (errors.VersionMismatch, _plain(409)),
    (errors.ClassChanged, _plain(409)),
    (errors.NotStorable, _plain(422)),
    (errors.TooDeep, _plain(409)),
    (ReplayError, _plain(422)),
    (errors.EngineError, _plain(409)),
)
