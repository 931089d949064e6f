"""What went wrong as one message for people, with the exit code that it means. Nothing here prints."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

import attrs

from ..errors import (
    ClassChanged,
    Damaged,
    EngineError,
    GraphInvalid,
    GraphNotFound,
    GraphProblem,
    RunCancelled,
    RunFailed,
    RunNotFound,
    StateInvalid,
    StoreUnavailable,
    VersionMismatch,
    said_by,
)
from ..kept import Unrecoverable
from .safe import safe_line

SUCCESS: Final = 0
FAILED: Final = 1
"""The run failed, or what was to be verified has faults."""
REFUSED: Final = 2
"""Usage or invalid input: nothing has been done."""
LEFT: Final = 3
"""The run is not over: it waits in the store, for a signal or because it is paused. Neither success nor failure."""
INTERRUPTED: Final = 130


class Refusal(Exception):
    """Something that cannot be done as it was asked for: what is wrong, and what to do about it."""

    def __init__(self, message: str, *advice: str, code: int = REFUSED) -> None:
        super().__init__(message)
        self.advice = advice
        self.code = code


@attrs.frozen
class Told:
    """An error as it is shown: the message, lines that belong to it, what to do, and the exit code."""

    message: str
    details: tuple[str, ...] = ()
    advice: tuple[str, ...] = ()
    code: int = REFUSED


def told(error: BaseException) -> Told:
    """What to say of an error that ended a command."""
    error = only_leaf(error)
    match error:
        case Refusal():
            return Told(str(error), advice=error.advice, code=error.code)
        case GraphInvalid():
            count = len(error.problems)
            said = f"graph {error.graph!r} has {count} problem{'s' * (count != 1)}"
            return Told(said, tuple(line for problem in error.problems for line in problem_lines(problem)))
        case StateInvalid():
            return Told(str(error), advice=("give the state as --state '{...}', or --state @file.json",))
        case RunNotFound():
            return Told(str(error), advice=("`workflow-engine runs ls` lists those that the store has",))
        case StoreUnavailable():
            return Told(str(error), advice=tuple(_store_advice(error)))
        case VersionMismatch():
            return Told(str(error), advice=("`workflow-engine runs migrate` lets the run go on if its records fit",))
        case GraphNotFound():
            version = "" if error.version is None else f" version {error.version!r}"
            known = f"those that are here: {', '.join(error.known)}" if error.known else "no graph has been named"
            said = f"the graph {error.graph!r}{version} is not here; {known}"
            return Told(said, advice=("name its file or module with --graphs, or as graphs in workflow.toml",))
        case RunFailed() | RunCancelled():
            return Told(str(error), code=FAILED)
        case Unrecoverable() | Damaged() | ClassChanged():
            return Told(str(error), advice=("`workflow-engine store verify` tells every fault of the store",))
        case EngineError() | ValueError() | ImportError() | OSError():
            return Told(said_by(error) or type(error).__name__)
    return Told(f"internal error: {type(error).__name__}: {said_by(error)}", advice=(_DEBUG,), code=FAILED)


_DEBUG: Final = "this is a fault of workflow-engine; --debug shows where it is"


def _store_advice(error: StoreUnavailable) -> Iterator[str]:
    if "pid" in error.facts or "in use by another engine" in str(error):
        yield "wait until the other process has ended, or end it; what it had begun can then be resumed"
        yield "to run beside it, name another store: --store sqlite:///other.db, or --store memory: for none"


def problem_lines(problem: GraphProblem) -> Iterator[str]:
    """A problem of a graph with its code, place and hint."""
    yield safe_line(f"{problem.severity} {problem.code} at {problem.where}: {problem.message}")
    if problem.hint:
        yield f"    {safe_line(problem.hint)}"


def only_leaf(error: BaseException) -> BaseException:
    """The error inside groups of one, which a task group makes of whatever passes through it."""
    while type(error) in (ExceptionGroup, BaseExceptionGroup):
        assert isinstance(error, BaseExceptionGroup)
        if len(error.exceptions) != 1:
            break
        error = error.exceptions[0]
    return error
