"""A table of routes, and what finds the route of a request in it."""

from __future__ import annotations

import re
from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Final, Literal

import attrs

from .models import misfit
from .problems import Detail, invalid, unknown_path, wrong_method
from .wire import Answer, Scope, Sends

if TYPE_CHECKING:
    from .service import Service

Needed = Literal["read", "submit", "admin"]
"""The scope that a key must have."""


@attrs.frozen
class Query:
    """A parameter of the query or a header."""

    name: str
    kind: Literal["text", "whole", "number", "flag"]
    description: str
    default: Any = None
    choices: Sequence[str] = ()
    bounds: Mapping[str, Any] = {}
    many: bool = False

    def read(self, said: Sequence[str]) -> Any:
        """What it says, or `ValueError` with what is wrong."""
        if self.many:
            return [self._one(text) for text in said]
        if len(said) > 1:
            raise ValueError("is given more than once")
        return self._one(said[0])

    def _one(self, text: str) -> Any:
        value: Any = text
        if self.choices and text not in self.choices:
            raise ValueError(f"expected one of {', '.join(map(repr, self.choices))}, found {text[:80]!r}")
        if self.kind == "flag":
            if text.lower() not in _FLAGS:
                raise ValueError(f"expected true or false, found {text[:80]!r}")
            value = _FLAGS[text.lower()]
        elif self.kind != "text":
            if not (_WHOLE if self.kind == "whole" else _NUMBER).fullmatch(text):
                raise ValueError(f"expected a {'whole ' * (self.kind == 'whole')}number, found {text[:80]!r}")
            value = int(text) if self.kind == "whole" else float(text)
        if fault := misfit(value, self.bounds):
            raise ValueError(fault)
        return value


_FLAGS: Final = {"true": True, "1": True, "false": False, "0": False}
_WHOLE: Final = re.compile(r"-?[0-9]{1,18}")
_NUMBER: Final = re.compile(r"-?[0-9]{1,18}(\.[0-9]{1,18})?([eE][-+]?[0-9]{1,2})?")


@attrs.define
class Call:
    """One request, read."""

    service: Service
    scope: Scope
    path: dict[str, str]
    query: dict[str, Any]
    body: Any = None

    @property
    def root(self) -> str:
        """Where the application is mounted."""
        return str(self.scope.get("root_path", ""))

    def header(self, name: bytes) -> str | None:
        """What a header says, by its name in lower case; None if it is not there."""
        return header_of(self.scope, name)

    def note(self, **facts: Any) -> None:
        """Say what this is about, for whoever keeps an account of it: `run_id`, `graph`."""
        self.scope.setdefault("state", {}).update(facts)


def header_of(scope: Scope, name: bytes) -> str | None:
    """What a header says, the last one if there are several; None if it is not there."""
    found = headers_named(scope, name)
    return found[-1] if found else None


def headers_named(scope: Scope, name: bytes) -> list[str]:
    """What the headers of a name say, without the space around, which not every server takes away."""
    return [value.decode("latin-1").strip(" \t") for each, value in scope["headers"] if each == name]


Handler = Callable[[Call], Awaitable[Answer | Sends]]


@attrs.frozen(kw_only=True)
class Route:
    """One thing that can be asked of the service, and all that is to be said of it."""

    method: str
    path: str
    name: str
    """Of the operation, in OpenAPI."""
    needs: Needed | None
    """The scope a key must have; None for what anybody may see."""
    handler: Handler
    summary: str
    description: str = ""
    group: str = "runs"
    body: Any = None
    """The model of the body."""
    body_optional: bool = False
    binary: bool = False
    """The body is bytes, which the handler's answer reads by itself, piece by piece."""
    query: Sequence[Query] = ()
    headers: Sequence[Query] = ()
    answers: Mapping[int, Any] = {}
    """By status, the model of the body, or a content type, or None for an empty one."""
    problems: Sequence[int] = ()
    """The statuses of problems that it may answer with, besides those that any may."""
    example: Any = None
    answer_example: Any = None
    deprecated: bool = False
    paths: Mapping[str, str] = {}
    """What its path parameters mean, where that is not plain."""


class Table:
    """Finds routes by their paths."""

    def __init__(self, routes: Iterable[Route]) -> None:
        self._root = _Place()
        for route in routes:
            place = self._root
            for part in route.path.split("/")[1:]:
                if part.startswith("{"):
                    place.inner = place.inner or _Place()
                    place = place.inner
                else:
                    place = place.named.setdefault(part, _Place())
            place.routes[route.method] = route, [p[1:-1] for p in route.path.split("/") if p.startswith("{")]

    def find(self, method: str, parts: Sequence[str]) -> tuple[Route, dict[str, str]]:
        """The route, and its parameters; raises `Refused` with 404, or 405 and what the path takes."""
        found = self._straight(parts)
        if found is not None and (entry := found[0].routes.get(method)) is not None:
            return entry[0], dict(zip(entry[1], found[1], strict=True))
        places = list(self._root.places(parts))
        for place, values in places:
            entry = place.routes.get(method) or (place.routes.get("GET") if method == "HEAD" else None)
            if entry is not None:
                return entry[0], dict(zip(entry[1], values, strict=True))
        if not any(place.routes for place, _ in places):
            raise unknown_path()
        raise wrong_method(self._allowed(places))

    def _straight(self, parts: Sequence[str]) -> tuple[_Place, list[str]] | None:
        """Where a path leads if it can only lead there, as nearly all do."""
        place, values = self._root, list[str]()
        for part in parts:
            named = place.named.get(part)
            if named is not None:
                if place.inner is not None:
                    return None
                place = named
            elif place.inner is not None and part:
                place = place.inner
                values.append(part)
            else:
                return None
        return place, values

    def allowed(self, parts: Sequence[str]) -> list[str]:
        """The methods that a path takes; none if there is nothing."""
        return self._allowed(list(self._root.places(parts)))

    def _allowed(self, found: Sequence[tuple[_Place, list[str]]]) -> list[str]:
        methods = {method for place, _ in found for method in place.routes}
        if "GET" in methods:
            methods.add("HEAD")
        return sorted({*methods, "OPTIONS"}) if methods else []


@attrs.define
class _Place:
    """What stands behind the beginning of a path: below names that are known, and below any."""

    named: dict[str, _Place] = attrs.field(factory=dict)
    inner: _Place | None = None
    routes: dict[str, tuple[Route, list[str]]] = attrs.field(factory=dict)

    def places(self, parts: Sequence[str]) -> list[tuple[_Place, list[str]]]:
        """Where a path may lead: as it is named first, and then with names taken as parameters."""
        if not parts:
            return [(self, [])]
        found: list[tuple[_Place, list[str]]] = []
        if (named := self.named.get(parts[0])) is not None:
            found += named.places(parts[1:])
        if self.inner is not None and parts[0]:
            found += [(place, [parts[0], *values]) for place, values in self.inner.places(parts[1:])]
        return found


def read_query(route: Route, said: Mapping[str, Sequence[str]], scope: Scope) -> dict[str, Any]:
    """The parameters of a query and the headers that a route reads, by name; raises `Refused` with every fault."""
    found: dict[str, Any] = {}
    faults: list[Detail] = []
    for query in route.query:
        _read_into(found, query, said.get(query.name), faults)
    for query in route.headers:
        _read_into(found, query, headers_named(scope, query.name.lower().encode()), faults)
    if faults:
        raise invalid(faults)
    return found


def _read_into(found: dict[str, Any], query: Query, texts: Sequence[str] | None, faults: list[Detail]) -> None:
    if not texts:
        found[query.name] = [] if query.many else query.default
        return
    try:
        found[query.name] = query.read(texts)
    except ValueError as error:
        faults.append(Detail(parameter=query.name, message=str(error)))
