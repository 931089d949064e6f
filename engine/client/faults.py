"""What the service refuses, as the errors that the engine itself would raise; pure.

A problem document has a code, which is the name of the error's class, and facts, which are its attributes. What is no
error of the engine (a key that is not known, a rate limit, a proxy that answers instead) is a `ServiceError`.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final

from .. import errors
from ..errors import (
    EngineError,
    GraphInvalid,
    GraphProblem,
    NodeFailed,
    PoisonRun,
    RecordedError,
    RunCancelled,
    RunFailed,
    RunTimeout,
    StateFault,
    StateInvalid,
    UnknownKey,
)
from ..kept import Unrecoverable
from ..replay import ReplayError
from ..web.models import Failure, RunError
from ..web.problems import code_of

SHOWN: Final = 500
"""Of an answer that is no problem document, what an error shows."""


class ServiceError(EngineError):
    """The service refused a request, or failed at it, in a way that the engine has no error for."""

    def __init__(self, message: str, *, status: int, code: str = "", errors: Sequence[Mapping[str, Any]] = ()) -> None:
        super().__init__(message)
        self.status = status
        """Of HTTP."""
        self.code = code
        """What the problem document calls it: `unauthenticated`, `forbidden`, `rate_limited`, `invalid`, …"""
        self.errors = tuple(errors)
        """Everything that is wrong with the request: `message`, and `pointer` or `parameter`."""


class ServiceUnreachable(EngineError, ConnectionError):
    """No answer came, for as long as the client was to be patient."""

    def __init__(self, address: str, reason: str, hint: str = "") -> None:
        super().__init__(f"no answer from {address}: {reason}" + (f"; {hint}" if hint else ""))
        self.address = address
        self.reason = reason

    def __str__(self) -> str:
        return str(self.args[0])


def _classes() -> dict[str, type[EngineError]]:
    known = [kind for kind in vars(errors).values() if isinstance(kind, type) and issubclass(kind, EngineError)]
    return {code_of(kind): kind for kind in (*known, ReplayError, Unrecoverable)}


_CLASSES: Final = _classes()


def error_of(status: int, problem: object, text: str = "") -> EngineError:
    """The error that an answer is; `text` is what it said if it is no problem document."""
    if not isinstance(problem, Mapping) or not isinstance(problem.get("code"), str):
        said = " ".join(text.split())[:SHOWN]
        return ServiceError(f"the service answered {status}" + (f": {said}" if said else ""), status=status)
    code, detail = problem["code"], str(problem.get("detail", ""))
    details = [each for each in problem.get("errors", ()) if isinstance(each, Mapping)]
    facts = problem.get("facts")
    facts = facts if isinstance(facts, Mapping) else {}
    if code == "invalid" and len(details) == 1 and details[0].get("code") in _CLASSES:
        # One thing was wrong, and the engine has an error for it: `at` names no activation, `after` no run.
        code, detail = str(details[0]["code"]), str(details[0].get("message", detail))
    if code == "invalid" and details and all(_is_of_a_state(each) for each in details):
        return StateInvalid.of("the state", [_fault(each) for each in details])
    make = _SPECIAL.get(code)
    if make is not None:
        return make(detail, details, facts)
    kind = _CLASSES.get(code)
    if kind is None or kind is EngineError:
        return ServiceError(detail or f"the service answered {status}", status=status, code=code, errors=details)
    return restored(kind, detail, facts)


def restored(kind: type[EngineError], message: str, facts: Mapping[str, Any]) -> EngineError:
    """An error of this class that says this; its `__init__`, which makes the message of the facts, is not run."""
    error = kind.__new__(kind, message)
    error.args = (message,)
    for name, value in facts.items():
        error.__dict__[name] = tuple(value) if isinstance(value, list) else value
    return error


def _graph_invalid(detail: str, details: Sequence[Mapping[str, Any]], facts: Mapping[str, Any]) -> GraphInvalid:
    problems = [
        GraphProblem(
            str(each.get("code", "")),
            str(each.get("pointer", "")).removeprefix("/definition") or "/",
            str(each.get("message", "")),
            str(each.get("hint", "")),
        )
        for each in details
    ]
    if not problems:
        problems = [GraphProblem("invalid", "/", detail)]
    return GraphInvalid.of(str(facts.get("graph", "")), problems)


def _state_invalid(kind: type[StateInvalid]) -> Callable[..., StateInvalid]:
    def make(detail: str, details: Sequence[Mapping[str, Any]], facts: Mapping[str, Any]) -> StateInvalid:
        return kind(detail, [_fault(each) for each in details], node=facts.get("node"))

    return make


_SPECIAL: Final[Mapping[str, Callable[..., EngineError]]] = {
    "graph_invalid": _graph_invalid,
    "state_invalid": _state_invalid(StateInvalid),
    "unknown_key": _state_invalid(UnknownKey),
}


def _is_of_a_state(detail: Mapping[str, Any]) -> bool:
    return str(detail.get("pointer", "")).startswith(("/state/", "/update/"))


def _fault(detail: Mapping[str, Any]) -> StateFault:
    _, _, *parts = str(detail.get("pointer", "")).split("/") if detail.get("pointer") else ("", "")
    path = tuple(_part(part.replace("~1", "/").replace("~0", "~")) for part in parts)
    return StateFault(path, str(detail.get("message", "")))


def _part(part: str) -> str | int:
    # A pointer does not tell the third item from a key that is called "3"; the former is what states have.
    return int(part) if part.isascii() and part.isdecimal() else part


# --- why a run has no result ----------------------------------------------------------------------------


_SIZE: Final = re.compile(r" \(\d+ sub-exceptions?\)$")


def run_error_of(run_id: str, graph: str, error: RunError) -> EngineError:
    """What `result()` raises of a run that failed or was cancelled."""
    if error.type == RunCancelled.__name__:
        return restored(RunCancelled, error.message, {"run_id": run_id, "reason": error.reason})
    if error.type == RunFailed.__name__:
        failures = [_failure(run_id, each) for each in error.failures]
        if failures:
            # What groups say of themselves ends with their size, which this one says anew.
            return RunFailed(_SIZE.sub("", error.message), failures, run_id=run_id, graph=graph)
    kind = _CLASSES.get(code_of(type(error.type, (), {})))
    if kind is not None and not issubclass(kind, BaseExceptionGroup):
        return restored(kind, error.message, {"run_id": run_id})
    return RunFailed(error.message, [RecordedError.of(f":{error.type}", error.message)], run_id=run_id, graph=graph)


def _failure(run_id: str, failure: Failure) -> Exception:
    if failure.node is not None and failure.activation is not None:
        # The service shows the class of the cause, and what the failure says, which ends with what the cause said.
        said = failure.message.partition(f": {failure.type}")[2].removeprefix(": ")
        facts = {"node": failure.node, "activation": failure.activation, "attempts": failure.attempts or 1}
        error = restored(NodeFailed, failure.message, facts)
        error.__cause__ = RecordedError.of(f":{failure.type}", said)
        return error
    if failure.type == RunTimeout.__name__:
        return restored(RunTimeout, failure.message, {"run_id": run_id, "seconds": failure.seconds or 0.0})
    if failure.type == PoisonRun.__name__:
        facts = {"run_id": run_id, "times": failure.times or 0, "engines": tuple(failure.engines or ())}
        return restored(PoisonRun, failure.message, facts)
    return RecordedError.of(f":{failure.type}", failure.message)
