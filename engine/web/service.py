"""What the handlers of an application share: its engine, its open streams, and how runs and graphs are shown."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import Any, Final
from urllib.parse import urlencode

import attrs

from ..app import Engine
from ..errors import EngineError, PoisonRun, RunCancelled, RunFailed
from ..file import File
from ..graph import Graph
from ..handle import Run
from ..history import LogEntry
from ..kept import KeptRun
from ..listed import in_short
from ..plan import Plan
from ..readable import readable
from .health import Readiness
from .models import Failure, FileInfo, LogItem, RunError, RunInfo, RunItem
from .streams import Streams

MOST_SHOWN: Final = 1_000
"""Entries of a run's log that are shown with it."""


@attrs.frozen(kw_only=True, eq=False)
class Service:
    """What an application works on."""

    engine: Engine
    streams: Streams
    readiness: Readiness
    most_graphs: int
    """So many graphs may be known; more cannot be defined."""


def graph_of(service: Service, name: str, version: str | None) -> tuple[Graph | None, Plan]:
    """A graph that is known, and what it was compiled to; raises `GraphNotFound`."""
    plan = service.engine.plan(name, version)
    return service.engine.graph(name, plan.version), plan


def moment(seconds: float) -> str:
    """A time in ISO 8601."""
    return datetime.fromtimestamp(seconds, UTC).isoformat(timespec="microseconds").replace("+00:00", "Z")


def log_item(entry: LogEntry) -> LogItem:
    """An entry of a log as it is sent."""
    return LogItem(**{**attrs.asdict(entry), "keys": list(entry.keys)}, timestamp=moment(entry.start))


def run_item(run: Run) -> RunItem:
    """A run in short."""
    return RunItem(**in_short(run))


def run_info(run: Run, root: str = "") -> RunInfo:
    """A run with its state, as it stands; of one whose graph is not here, what can be told."""
    if isinstance(run, KeptRun):
        try:
            error = run.error
            state, log, visited = run.state, run.log, run.visited
            counters, log_dropped, visited_dropped = run.counters, run.log_dropped, run.visited_dropped
            files = [file_info(file, root) for file in run.files]
        except EngineError as why:
            return _unavailable(run, why)
        return _info(run, state, log, visited, counters, log_dropped, visited_dropped, error, None, files)
    machine = run.machine
    return _info(
        run,
        run.state,
        run.log,
        run.visited,
        run.counters,
        run.log_dropped,
        run.visited_dropped,
        run.error,
        (machine.not_run, [signal.name for signal in machine.unconsumed], machine.history.seq),
        [file_info(file, root) for file in run.files],
    )


def _info(
    run: Run,
    state: Any,
    log: list[LogEntry],
    visited: list[str],
    counters: Mapping[str, int],
    log_dropped: int,
    visited_dropped: int,
    error: Exception | None,
    more: tuple[list[str], list[str], int] | None,
    files: Sequence[FileInfo] = (),
) -> RunInfo:
    not_run, unconsumed, last_event = more or ([], [], 0)
    return RunInfo(
        **in_short(run),
        state=readable(state),
        log=[log_item(entry) for entry in log[-MOST_SHOWN:]],
        log_dropped=log_dropped + max(0, len(log) - MOST_SHOWN),
        visited=visited[-MOST_SHOWN:],
        visited_dropped=visited_dropped + max(0, len(visited) - MOST_SHOWN),
        not_run=list(not_run),
        counters=dict(counters),
        unconsumed=unconsumed,
        last_event=last_event,
        error=None if error is None else run_error(error),
        files=list(files),
    )


def file_info(file: File, root: str = "") -> FileInfo:
    """A file as it is sent, with where its contents are."""
    name = {"name": file.name, "media_type": file.media_type}
    url = None if file.ephemeral or not file.digest else f"{root}/api/files/{file.digest}?{urlencode(name)}"
    return FileInfo(**file.to_dict(), url=url)


def _unavailable(run: Run, why: Exception) -> RunInfo:
    return RunInfo(
        **in_short(run),
        state=None,
        log=[],
        log_dropped=0,
        visited=[],
        visited_dropped=0,
        not_run=[],
        counters={},
        unconsumed=[],
        last_event=0,
        error=None,
        unavailable=str(why),
    )


def run_error(error: Exception) -> RunError:
    """Why a run has no result."""
    failures: list[Failure] = []
    if isinstance(error, RunFailed):
        for each in error.exceptions:
            node = getattr(each, "node", None)
            failures.append(
                Failure(
                    type=type(each.__cause__ or each).__name__,
                    message=str(each),
                    node=node,
                    activation=getattr(each, "activation", None),
                    attempts=getattr(each, "attempts", None),
                    seconds=getattr(each, "seconds", None),
                    times=each.times if isinstance(each, PoisonRun) else None,
                    engines=list(each.engines) if isinstance(each, PoisonRun) else None,
                )
            )
    reason = error.reason if isinstance(error, RunCancelled) else None
    return RunError(type=type(error).__name__, message=str(error), failures=failures, reason=reason)
