"""Log lines for programs: one JSON object a line, whatever is in the record; and for people, with the same care.

Fields: `time` (RFC 3339, UTC), `level`, `logger`, `message`; `graph`, `node`, `run`, `principal` and `request` where
they are known, from the record or from what runs; whatever else `extra` has; `error` with its traceback. A value that
is no JSON is written as its repr, one that is too long is cut: a line is always written, and is always one line.
"""

from __future__ import annotations

import logging
from contextlib import AbstractContextManager
from datetime import UTC, datetime
from typing import Any, Final, Literal

import orjson

from .logs import asker, handled
from .redaction import redacted

LogFormat = Literal["text", "json"]

LONGEST: Final = 16_000
"""Of each text: collectors of logs split or drop longer lines."""

_ABOUT: Final = ("graph", "node", "run", "principal", "request")
_OF_EVERY_RECORD: Final = frozenset(
    {*vars(logging.makeLogRecord({})), "message", "asctime", "taskName", "color_message", *_ABOUT}
)


class JsonFormatter(logging.Formatter):
    """A record as a line of JSON."""

    def format(self, record: logging.LogRecord) -> str:
        """The line; never raises."""
        line: dict[str, Any] = {
            "time": datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds")[:-6] + "Z",
            "level": record.levelname.lower(),
            "logger": record.name,
            "message": _text(_message(record)),
        }
        for name, value in _about(record).items():
            line[name] = _text(value)
        for name, value in vars(record).items():
            if name not in _OF_EVERY_RECORD and value is not None:
                line[name] = _plain(value)
        if record.exc_info and record.exc_info[1] is not None:
            line["error"] = _text(f"{type(record.exc_info[1]).__name__}: {record.exc_info[1]}")
            line["traceback"] = _text(self.formatException(record.exc_info), keep_end=True)
        try:
            return orjson.dumps(line, default=repr, option=orjson.OPT_NON_STR_KEYS).decode()
        except Exception as error:
            return orjson.dumps({**dict(list(line.items())[:4]), "fault": f"the rest is no JSON: {error}"}).decode()


class TextFormatter(logging.Formatter):
    """A record as a line for people, what it is about at its end."""

    def __init__(self) -> None:
        super().__init__("%(asctime)s %(levelname)s %(name)s: %(message)s")

    def format(self, record: logging.LogRecord) -> str:
        """The line, and a traceback below it."""
        about = " ".join(f"{name}={value}" for name, value in _about(record).items())
        first, newline, rest = super().format(record).partition("\n")
        return redacted(f"{first} [{about}]{newline}{rest}" if about else f"{first}{newline}{rest}")


def logging_to(stream: Any, level: str, format: LogFormat) -> AbstractContextManager[None]:
    """Have everything logged from `level` on written to a stream, until this is left."""
    handler = logging.StreamHandler(stream)
    handler.setFormatter(JsonFormatter() if format == "json" else TextFormatter())
    return handled(logging.getLogger(), handler, level)


def _message(record: logging.LogRecord) -> str:
    try:
        return record.getMessage()
    except Exception as error:
        return f"{record.msg} (its arguments do not fit: {error})"


def _about(record: logging.LogRecord) -> dict[str, str]:
    known = asker.get()
    fields = vars(record)
    found = {name: fields.get(name) for name in _ABOUT}
    if known is not None:
        found["request"] = found["request"] or known[0]
        found["principal"] = found["principal"] or known[1]
    return {name: str(value) for name, value in found.items() if value is not None}


def _text(value: str, *, keep_end: bool = False) -> str:
    # Cut twice: first, or a text of megabytes would be searched, with room for a secret that lies across the end.
    short = value[-2 * LONGEST :] if keep_end else value[: 2 * LONGEST]
    safe = redacted(short).encode(errors="backslashreplace").decode()
    if len(safe) <= LONGEST:
        return safe
    return "…" + safe[-LONGEST:] if keep_end else safe[:LONGEST] + "…"


def _plain(value: Any) -> Any:
    if isinstance(value, bool | int | float):
        return value if not isinstance(value, int) or abs(value) < 1 << 63 else str(value)
    if isinstance(value, str):
        return _text(value)
    if isinstance(value, list | tuple | set | frozenset):
        return [_plain(item) for item in value]
    if isinstance(value, dict):
        return {_text(str(name)): _plain(item) for name, item in value.items()}
    try:
        return _text(repr(value))
    except Exception:
        return f"<{type(value).__name__}>"
