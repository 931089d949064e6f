"""JSON and YAML texts as data, with limits, and with the line and column of what is wrong.

What a text says twice is refused, since one of the two would be lost; so is what JSON has no word for. orjson knows no
such scruples, but takes a fifth of the time: it reads what cannot have given it any. YAML is read as
what people take it for: `no`, `on` and `12:30` are text, as in YAML 1.2, and aliases may not grow into a bomb.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Iterator, Mapping
from typing import Any, Final

import orjson

from .errors import EngineError, GraphInvalid, GraphProblem
from .shapes import below
from .typecheck import shown

MOST_BYTES: Final = 5_000_000
MOST_YAML_BYTES: Final = 1_000_000
"""YAML takes twenty times as long to read."""
MOST_DEEP: Final = 100
MOST_VALUES: Final = 500_000


_SURROGATE: Final = re.compile("[\ud800-\udfff]")


class NotData(Exception):
    """Why a text or a value cannot be read, and where."""

    def __init__(self, where: str, message: str, hint: str = "") -> None:
        super().__init__(message)
        self.where, self.message, self.hint = where, message, hint

    def as_invalid(self) -> GraphInvalid:
        """The same as an error of a graph."""
        return GraphInvalid.of("?", [GraphProblem("bad_definition", self.where, self.message, self.hint)])


def _place(line: int, column: int) -> str:
    return f"line {line}, column {column}"


def _as_text(text: str | bytes, most: int, kind: str) -> str:
    size = len(text)
    if size > most:
        hint = "a definition this large is better written in Python"
        raise NotData("/", f"the {kind} is {size:,} bytes long, and at most {most:,} are read", hint)
    if isinstance(text, str):
        if (odd := _SURROGATE.search(text)) is not None:
            raise NotData(f"character {odd.start()}", f"the {kind} has half a surrogate pair in it", "save it as UTF-8")
        return text
    try:
        return text.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise NotData(f"byte {error.start}", f"the {kind} is not UTF-8: {error.reason}", "save it as UTF-8") from None


# --- JSON -----------------------------------------------------------------------------------------------


_LONG_NUMBER: Final = re.compile(rb"[0-9]{18}")
"""What orjson may read as a float, though it is an integer."""


def read_json(text: str | bytes) -> Any:
    """The data of a JSON text; raises `NotData`."""
    if isinstance(text, bytes) and len(text) <= MOST_BYTES and _LONG_NUMBER.search(text) is None:
        try:
            data = orjson.loads(text)
        except ValueError:
            pass  # whatever it is, it is told below
        else:
            # A colon stands behind each key, and perhaps in a text: as many as there are keys leave none for a key
            # that is there twice.
            if text.count(b":") == _keys_in(data):
                return data
    plain = _as_text(text, MOST_BYTES, "JSON").removeprefix("\ufeff")
    try:
        return _DECODER.decode(plain)
    except json.JSONDecodeError as error:
        raise NotData(
            _place(error.lineno, error.colno), f"this is not JSON: {error.msg}", _nearby(plain, error)
        ) from None
    except RecursionError:
        raise _too_deep("/") from None


def _keys_in(data: Any) -> int:
    """How many keys all objects have together."""
    found = 0
    pending = [data]
    for value in pending:
        if type(value) is dict:
            found += len(value)
            pending += value.values()
        elif type(value) is list:
            pending += value
    return found


def _nearby(text: str, error: json.JSONDecodeError) -> str:
    line = text.splitlines()[error.lineno - 1] if text.splitlines()[error.lineno - 1 :] else ""
    found = line[max(0, error.colno - 30) : error.colno + 20].strip()
    return f"near {found!r}" if found else ""


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) < len(pairs):
        names = [name for name, _ in pairs]
        twice = next(name for name in names if names.count(name) > 1)
        raise NotData("/", f"an object has the key {twice!r} twice", "one of them would be lost: keep one")
    return found


def _constant(word: str) -> Any:
    raise NotData("/", f"{word} is no JSON number", "use null, or text")


def _whole(digits: str) -> int:
    if len(digits) > 1000:
        raise NotData("/", f"a number has {len(digits):,} digits", "numbers have at most 1,000")
    return int(digits)


_DECODER: Final = json.JSONDecoder(object_pairs_hook=_object, parse_constant=_constant, parse_int=_whole)


def _too_deep(where: str) -> NotData:
    return NotData(where, f"it is nested more than {MOST_DEEP} deep", "use named subgraphs, or flatter params")


# --- any data -------------------------------------------------------------------------------------------


def check_data(data: Any) -> None:
    """Refuse what is not JSON, too deep, too large, or has lists that contain themselves; raises `NotData`."""
    count = 0
    pending: list[Iterator[tuple[str, Any]]] = [iter([("", data)])]
    # Iterative, since a value may be nested deeper than Python calls functions.
    while pending:
        found = next(pending[-1], None)
        if found is None:
            pending.pop()
            continue
        at, value = found
        count += 1
        if count > MOST_VALUES:
            raise NotData(
                "/", f"it holds more than {MOST_VALUES:,} values", "a graph this large is better made in Python"
            )
        if isinstance(value, Mapping | list | tuple):
            if len(pending) > MOST_DEEP:
                raise _too_deep(at[:200] or "/")
            pending.append(_inside(at, value))
        elif value is not None and not isinstance(value, str | int | float):
            raise NotData(
                at or "/", f"{shown(value)} is not JSON", "use text, numbers, true, false, null, lists, objects"
            )
        elif isinstance(value, float) and not math.isfinite(value):
            raise NotData(at or "/", f"{value!r} is no JSON number", "use null, or text")


def _inside(at: str, value: Any) -> Iterator[tuple[str, Any]]:
    if not isinstance(value, Mapping):
        for index, item in enumerate(value):
            yield below(at, index), item
        return
    for key, item in value.items():
        if not isinstance(key, str):
            raise NotData(at or "/", f"the key {shown(key)} is not text", "put it in quotes")
        yield below(at, key), item


# --- YAML -----------------------------------------------------------------------------------------------

_CORE: Final = (
    (re.compile(r"null|Null|NULL|~|"), lambda text: None),
    (re.compile(r"true|True|TRUE"), lambda text: True),
    (re.compile(r"false|False|FALSE"), lambda text: False),
    (re.compile(r"[-+]?[0-9]+"), lambda text: _whole(text)),
    (re.compile(r"[-+]?(\.[0-9]+|[0-9]+(\.[0-9]*)?)([eE][-+]?[0-9]+)?"), float),
)
"""What a scalar without quotes may mean besides text: YAML 1.2's core schema without hexadecimals and infinities."""


def read_yaml(text: str | bytes) -> Any:
    """The data of a YAML text with one document; raises `NotData`, and `EngineError` if PyYAML is not there."""
    try:
        import yaml  # an extra: whoever writes JSON does not need it
    except ImportError:
        message = "YAML is read by PyYAML, which is not installed: pip install 'workflow-engine[yaml]', or write JSON"
        raise EngineError(message) from None
    plain = _as_text(text, MOST_YAML_BYTES, "YAML")
    loader = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
    try:
        return _Events(yaml.parse(plain, Loader=loader), yaml).document()
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        where = _place(mark.line + 1, mark.column + 1) if mark is not None else "/"
        raise NotData(where, f"this is not YAML: {error.problem or error.context}") from None
    except yaml.YAMLError as error:
        raise NotData("/", f"this is not YAML: {error}") from None


class _Events:
    """Makes data of a stream of events: nothing is ever constructed but what JSON has."""

    def __init__(self, events: Iterator[Any], yaml: Any) -> None:
        self._events = events
        self._yaml = yaml
        self._anchors: dict[str, tuple[Any, int]] = {}
        self._open: set[str] = set()
        self._values = 0

    def document(self) -> Any:
        yaml, found, documents = self._yaml, None, 0
        for event in self._events:
            if isinstance(event, yaml.DocumentStartEvent):
                documents += 1
                if documents > 1:
                    raise self._wrong(event, "there is a second document", "write one per file")
                found = self._value(next(self._events), 0)
        return found

    def _wrong(self, event: Any, message: str, hint: str = "") -> NotData:
        return NotData(_place(event.start_mark.line + 1, event.start_mark.column + 1), message, hint)

    def _value(self, event: Any, depth: int) -> Any:
        yaml = self._yaml
        if depth > MOST_DEEP:
            where = _place(event.start_mark.line + 1, event.start_mark.column + 1)
            raise _too_deep(where)
        if isinstance(event, yaml.AliasEvent):
            return self._alias(event)
        if event.tag is not None and event.tag not in ("!", "tag:yaml.org,2002:str"):
            raise self._wrong(event, f"the tag {event.tag!r} is not known here", "leave it out")
        anchor, before = event.anchor, self._values
        self._count(event, 1)
        if anchor is not None:
            self._open.add(anchor)
        if isinstance(event, yaml.ScalarEvent):
            found = self._scalar(event)
        elif isinstance(event, yaml.SequenceStartEvent):
            found = self._sequence(depth)
        else:
            found = self._mapping(depth)
        if anchor is not None:
            self._open.discard(anchor)
            self._anchors[anchor] = (found, self._values - before)
        return found

    def _count(self, event: Any, values: int) -> None:
        self._values += values
        if self._values > MOST_VALUES:
            hint = "write fewer aliases of aliases"
            raise self._wrong(event, f"with its aliases it holds more than {MOST_VALUES:,} values", hint)

    def _alias(self, event: Any) -> Any:
        if event.anchor in self._open:
            raise self._wrong(event, f"what is called {event.anchor!r} contains itself")
        if event.anchor not in self._anchors:
            raise self._wrong(event, f"nothing before this is called {event.anchor!r}")
        found, values = self._anchors[event.anchor]
        self._count(event, values)
        return found

    def _scalar(self, event: Any) -> Any:
        text = str(event.value)
        if event.tag is not None or not event.implicit[0]:
            return text  # said to be text, in quotes, or a block
        for pattern, read in _CORE:
            if pattern.fullmatch(text):
                try:
                    return read(text)
                except NotData as error:
                    raise self._wrong(event, error.message, error.hint) from None
        return text

    def _sequence(self, depth: int) -> list[Any]:
        found = []
        for event in self._events:
            if isinstance(event, self._yaml.SequenceEndEvent):
                break
            found.append(self._value(event, depth + 1))
        return found

    def _mapping(self, depth: int) -> dict[str, Any]:
        found: dict[str, Any] = {}
        for event in self._events:
            if isinstance(event, self._yaml.MappingEndEvent):
                break
            key = self._value(event, depth + 1)
            if not isinstance(key, str):
                raise self._wrong(event, f"the key {shown(key)} is not text", "put it in quotes")
            if key in found:
                raise self._wrong(event, f"the key {key!r} is here twice", "one of them would be lost: keep one")
            found[key] = self._value(next(self._events), depth + 1)
        return found
