"""OpenAPI 3.1 from the table of routes and the models of bodies."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from http import HTTPStatus
from importlib.metadata import PackageNotFoundError, version
from typing import Any, Final

from ..definition_format import json_schema
from ..jsonschema import Schemas
from .problems import TYPE, Problem
from .table import Query, Route

Data = dict[str, Any]

ABOUT: Final = """Graphs of functions, run as supervised actors.

Errors are problem documents (RFC 9457); input that is not valid is 422, with a JSON pointer for everything that is
wrong with it. WebSockets: `/ws/graphs/{name}/execute` takes a submission as its first message and sends the events of
its run, `/ws/runs/{run_id}?after=0` those of any run; both end with a `result`.
"""
GROUPS: Final = {
    "graphs": "what can be run",
    "runs": "submit, look, act",
    "files": "what nodes take and make",
    "tools": "what nodes may name",
    "operation": "for operators",
    "aliases": "paths that existing clients use",
}
ANY_MAY: Final = {
    413: "the body is too large",
    415: "the body is no JSON",
    422: "the input is not valid",
    429: "too many requests, or the engine is full: nothing was accepted",
    431: "the headers are too large",
    500: "the service has a fault",
    503: "the service is closing, or its store cannot be reached",
}
WITH_KEY: Final = {401: "there is no key, or none that is known", 403: "the key may not do this"}
TEXT: Final = {"type": "string"}
FIELDS: Final = {"id": TEXT, "event": TEXT, "data": {**TEXT, "description": "JSON"}, "retry": {}}
SCHEMAS: Final[Mapping[str, Data]] = {"text/event-stream": {"type": "object", "properties": FIELDS}}
"""Of content that is no JSON: a stream is described by what one event of it holds."""
TYPES: Final = {"text": "string", "whole": "integer", "number": "number", "flag": "boolean"}


def document(routes: Iterable[Route], root: str = "", *, needs_key: bool = False) -> Data:
    """The whole description, for an application that is mounted at `root`."""
    schemas = Schemas()
    paths: Data = {}
    for route in routes:
        paths.setdefault(route.path, {})[route.method.lower()] = _operation(route, schemas)
    problem = schemas.of(Problem)
    found = {
        "openapi": "3.1.0",
        "info": {
            "title": "workflow-engine",
            "version": _version(),
            "description": ABOUT,
            "license": {"name": "MIT", "identifier": "MIT"},
        },
        "servers": [{"url": root or "/"}],
        "tags": [{"name": name, "description": said} for name, said in GROUPS.items()],
        "paths": paths,
        "components": {
            "schemas": {**schemas.definitions, **_definition_schemas()},
            "responses": {
                str(status): {"description": said, "content": {TYPE: {"schema": problem}}}
                for status, said in {**ANY_MAY, **WITH_KEY}.items()
            },
            "securitySchemes": {
                "bearer": {"type": "http", "scheme": "bearer", "description": "an API key"},
                "key": {"type": "apiKey", "in": "header", "name": "X-API-Key"},
            },
        },
        "security": [{"bearer": []}, {"key": []}] if needs_key else [{}, {"bearer": []}, {"key": []}],
    }
    referred: Data = _referring(found)
    return referred


def _definition_schemas() -> Data:
    schema = json_schema()
    whole, steps = schema["oneOf"]
    return {**schema["$defs"], "Definition": whole, "Steps": steps}


def _referring(value: Any) -> Any:
    """The same with what it refers to where OpenAPI has it."""
    if isinstance(value, Mapping):
        return {
            key: item.replace("#/$defs/", "#/components/schemas/")
            if key == "$ref" and isinstance(item, str)
            else _referring(item)
            for key, item in value.items()
        }
    return [_referring(item) for item in value] if isinstance(value, list | tuple) else value


def _operation(route: Route, schemas: Schemas) -> Data:
    needs = f"Needs a key with the scope `{route.needs}`." if route.needs else "Needs no key."
    found: Data = {
        "operationId": route.name,
        "summary": route.summary,
        "description": f"{route.description} {needs}".strip(),
        "tags": [route.group],
        "responses": _responses(route, schemas),
    }
    names = [part[1:-1] for part in route.path.split("/") if part.startswith("{")]
    parameters = [
        {"name": name, "in": "path", "required": True, "schema": {"type": "string", "minLength": 1}} for name in names
    ]
    parameters += [_parameter(query, "query") for query in route.query]
    parameters += [_parameter(query, "header") for query in route.headers]
    if parameters:
        found["parameters"] = parameters
    if route.body is not None:
        content: Data = {"schema": schemas.of(route.body)}
        if route.example is not None:
            content["example"] = route.example
        found["requestBody"] = {"required": not route.body_optional, "content": {"application/json": content}}
    if route.binary:
        contents = {"schema": {"type": "string", "format": "binary"}}
        found["requestBody"] = {"required": True, "content": {"*/*": contents}}
    if route.needs is None:
        found["security"] = []
    if route.deprecated:
        found["deprecated"] = True
    return found


def _parameter(query: Query, place: str) -> Data:
    schema: Data = {"type": TYPES[query.kind], **query.bounds}
    if query.choices:
        schema["enum"] = list(query.choices)
    if query.default is not None:
        schema["default"] = query.default
    if query.many:
        schema = {"type": "array", "items": schema}
    return {"name": query.name, "in": place, "description": query.description, "required": False, "schema": schema}


def _responses(route: Route, schemas: Schemas) -> Data:
    found: Data = {}
    for status, body in route.answers.items():
        found[str(status)] = {"description": HTTPStatus(status).phrase}
        if isinstance(body, tuple):
            found[str(status)]["content"] = {kind: {"schema": SCHEMAS.get(kind, TEXT)} for kind in body}
        elif body is dict:
            found[str(status)]["content"] = {"application/json": {"schema": {"type": "object"}}}
        elif body is not None:
            found[str(status)]["content"] = {"application/json": {"schema": schemas.of(body)}}
    content = {TYPE: {"schema": schemas.of(Problem)}}
    for status in sorted({*route.problems, *([404] if "{" in route.path else [])} - ANY_MAY.keys()):
        found[str(status)] = {"description": HTTPStatus(status).phrase, "content": content}
    with_body = {413, 415} if route.body is not None or route.binary else set()
    for status in [*sorted(ANY_MAY.keys() - {413, 415} | with_body), *(WITH_KEY if route.needs else ())]:
        if str(status) not in found:
            found[str(status)] = {"$ref": f"#/components/responses/{status}"}
    return found


def _version() -> str:
    try:
        return version("workflow-engine")
    except PackageNotFoundError:
        return "0"
