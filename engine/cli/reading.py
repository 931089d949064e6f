"""What people write on a command line, as what it means. Pure, but for files and stdin that they name."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final

from .faults import Refusal
from .files import MOST_DATA_BYTES, read_file, read_stdin

_UNITS: Final = {"s": 1.0, "m": 60.0, "h": 3600.0, "d": 86400.0, "w": 604800.0}
_SHOWN: Final = 60
MOST_DIGITS: Final = 1000
"""As in definitions."""


def json_of(given: str, option: str) -> Any:
    """The data of JSON text, of a file (`@state.json`) or of stdin (`-`); wrong JSON is told with line and column."""
    if given == "-":
        where = f"{option} (stdin)"
        return parsed(_decoded(read_stdin(MOST_DATA_BYTES, where), where), where)
    if not given.startswith("@"):
        return parsed(given, option)
    file = Path(given[1:])
    where = f"{option} ({file})"
    try:
        data = read_file(file, MOST_DATA_BYTES, where, "what another program writes is read from stdin: give -")
    except FileNotFoundError:
        raise Refusal(f"{where} cannot be read: there is no such file") from None
    return parsed(_decoded(data, where), where)


def _decoded(data: bytes, where: str) -> str:
    try:
        return data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise Refusal(f"{where} is not UTF-8: {error.reason} at byte {error.start}") from None


def parsed(text: str, where: str) -> Any:
    """The data of JSON text."""
    try:
        return json.loads(
            text, parse_constant=_constant, parse_int=_whole, parse_float=_real, object_pairs_hook=_object
        )
    except json.JSONDecodeError as error:
        lines = text.splitlines() or [""]
        line = lines[min(error.lineno, len(lines)) - 1]
        start = max(0, error.colno - 1 - _SHOWN // 2)
        near = line[start : start + _SHOWN]
        caret = " " * min(error.colno - 1 - start, len(near)) + "^"
        message = f"{where} is not JSON: {error.msg} at line {error.lineno}, column {error.colno}"
        raise Refusal(message, near, caret) from None
    except ValueError as error:  # NaN, a key that is there twice, a number of ten thousand digits
        raise Refusal(f"{where} is not JSON: {error}") from None
    except RecursionError:
        raise Refusal(f"{where} is nested too deep") from None


def _constant(word: str) -> Any:
    raise ValueError(f"{word} is no JSON number")


def _whole(digits: str) -> int:
    if len(digits) > MOST_DIGITS:
        raise ValueError(f"a number has {len(digits):,} digits, and at most {MOST_DIGITS:,} are read")
    return int(digits)


def _real(digits: str) -> float:
    found = float(digits)
    if not math.isfinite(found):
        raise ValueError(f"the number {digits[:_SHOWN]} is too large")
    return found


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) < len(pairs):
        names = [name for name, _ in pairs]
        raise ValueError(f"an object has the key {next(n for n in names if names.count(n) > 1)!r} twice")
    return found


def object_of(given: str | None, option: str) -> Mapping[str, Any] | None:
    """The same, where it must be an object."""
    if given is None:
        return None
    found = json_of(given, option)
    if not isinstance(found, dict):
        raise Refusal(f"{option} must be a JSON object, found {json.dumps(found)[:_SHOWN]}")
    return found


def tags_of(given: Sequence[str]) -> dict[str, str]:
    """`k=v` and `k2=v2`."""
    return dict(_pair(one, "--tag") for one in given)


def signals_of(given: Sequence[str]) -> list[tuple[str, Any]]:
    """`approved` and `approved={"by": "me"}`: names and payloads, in order."""
    found = []
    for one in given:
        name, equals, payload = one.partition("=")
        if not name:
            raise Refusal(f"--signal {one!r}: write NAME, or NAME=JSON")
        found.append((name, json_of(payload, f"--signal {name}") if equals else None))
    return found


def _pair(given: str, option: str) -> tuple[str, str]:
    name, equals, value = given.partition("=")
    if not equals or not name:
        raise Refusal(f"{option} {given!r}: write NAME=VALUE")
    return name, value


def since_of(given: str | None, now: Callable[[], float]) -> float | None:
    """A time, as seconds since 1970: `2h` (ago), `2024-05-01`, `2024-05-01T12:00+02:00`; without a zone, here."""
    if given is None:
        return None
    if found := re.fullmatch(r"(\d+(?:\.\d+)?)([smhdw])", given.strip()):
        return now() - float(found[1]) * _UNITS[found[2]]
    try:
        return datetime.fromisoformat(given.strip()).timestamp()
    except ValueError:
        raise Refusal(f"--since {given!r}: write 30m, 2h or 7d, or a date such as 2024-05-01T12:00") from None


def shown_time(seconds: float | None) -> str | None:
    """A time as text: ISO 8601, UTC."""
    return None if seconds is None else datetime.fromtimestamp(seconds, UTC).isoformat(timespec="milliseconds")
