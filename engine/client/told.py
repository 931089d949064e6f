"""What the service tells, as typed values; fields that a newer service has beside them are left aside."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from functools import cache
from typing import Any, TypeVar, cast, get_args, get_type_hints

import attrs
import orjson

from ..file import File
from ..history import Event, LogEntry
from ..runs import Status
from ..web.models import FileInfo, LogItem, RunInfo
from .faults import ServiceError

T = TypeVar("T")


def told(model: type[T], data: object) -> T:
    """The data as the model has it; raises `ServiceError` if it is something else."""
    if not isinstance(data, Mapping):
        said = f"expected an object, found {type(data).__name__}"
        raise ServiceError(f"the service's answer is no {model.__name__}: {said}", status=200, code="answer")
    items = _items(cast(Any, model))
    given = {name: _value(items[name], value) for name, value in data.items() if name in items}
    try:
        return model(**given)
    except TypeError as error:
        raise ServiceError(f"the service's answer is no {model.__name__}: {error}", status=200, code="answer") from None


def _value(item: Any, value: Any) -> Any:
    """A value of a field; what is in it is believed, but for models, which are made of it."""
    if item is None or value is None:
        return value
    return [told(item, each) for each in value] if isinstance(value, list) else told(item, value)


@cache
def _items(model: Any) -> dict[str, Any]:
    """By field of a model, the model of its value or of the items in it; None for plain data."""
    return {name: _model_in(hint) for name, hint in get_type_hints(model).items()}


def _model_in(hint: Any) -> Any:
    if attrs.has(hint):
        return hint
    return next((found for inner in get_args(hint) if (found := _model_in(inner)) is not None), None)


def event_of(text: bytes) -> Event:
    """An event of a run, of JSON."""
    data = orjson.loads(text)
    return Event(data["seq"], data["type"], data["time"], data["node"], data["activation"], data["data"])


def log_entry(item: LogItem) -> LogEntry:
    """An entry of a run's log, as the engine has them."""
    fields = {name: value for name, value in attrs.asdict(item).items() if name not in ("timestamp", "keys")}
    return LogEntry(**fields, keys=tuple(item.keys))


@attrs.frozen
class RemoteResult:
    """A run that has ended: as `RunResult`, with its state as JSON shows it."""

    run_id: str
    status: Status
    state: Any
    log: tuple[LogEntry, ...]
    """As many entries as the service keeps."""
    visited: tuple[str, ...]
    """The newest thousand."""
    not_run: tuple[str, ...]
    counters: Mapping[str, int]
    unconsumed: tuple[str, ...]
    """Names of signals that no wait has taken."""
    files: tuple[File, ...] = ()
    """What the run made: `await client.download(file, path)`."""

    @classmethod
    def of(cls, info: RunInfo, log: tuple[LogEntry, ...]) -> RemoteResult:
        """The result that a run tells."""
        return cls(
            info.run_id,
            info.status,
            info.state,
            log,
            tuple(info.visited),
            tuple(info.not_run),
            info.counters,
            tuple(info.unconsumed),
            tuple(map(file_told, info.files)),
        )


def file_told(info: FileInfo) -> File:
    """A file as the service tells of it; its contents are there."""
    return File(
        name=info.name,
        media_type=info.media_type,
        size=info.size,
        digest=info.digest,
        metadata=info.metadata,
        created=datetime.fromisoformat(info.created),
        ephemeral=info.ephemeral,
    )


def told_file(data: Any) -> File:
    """The same of an answer's data."""
    return file_told(told(FileInfo, data))
