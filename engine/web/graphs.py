"""Graphs over HTTP: define, list, look, check, draw, forget; and the tools that they may name."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from functools import partial
from typing import Any, Final
from urllib.parse import quote

import anyio.to_thread

from ..errors import GraphInvalid
from ..graph import Graph
from ..jsonschema import Schemas
from ..plan import Plan
from ..tools import INLINE, version_order
from .models import GraphInfo, GraphItem, GraphList, GraphProblemItem, ToolItem, ToolList, Validation
from .principals import allowed
from .problems import Detail, Refused, invalid, of_graph
from .service import Service, graph_of
from .table import Call
from .wire import Answer

FORMATS: Final = {
    "mermaid": "text/plain; charset=utf-8",
    "text": "text/plain; charset=utf-8",
    "svg": "image/svg+xml",
    "png": "image/png",
}


SPARED: Final = 10
"""One place in so many is for graphs that are defined, and not for those that are only run at once."""


async def define(service: Service, data: Any, below: str = "", spare: int = 0) -> tuple[Graph, bool]:
    """Make a definition known, and keep it; whether it is new. `below` is the pointer to it in the body.

    `spare` places are left for others.
    """
    engine = service.engine
    before = set(engine.graphs())
    if not isinstance(data, Mapping):
        raise invalid([Detail(pointer=below, message="expected an object: a graph as data, or its steps")])
    key = (data.get("name"), data.get("version", "1"))
    if key not in before and len(before) >= service.most_graphs - spare:
        raise Refused(
            429, "too_many_graphs", f"{len(before):,} graphs are known, which is as many as may be: delete some"
        )
    try:
        graph = await engine.define(data)
    except GraphInvalid as error:
        raise of_graph(error, below) from None
    return graph, (graph.name, graph.version) not in before


def with_version(data: Any) -> Any:
    """A definition to be run at once: without a version, its content is its version, so that no two are in conflict."""
    if not isinstance(data, Mapping) or "version" in data:
        return data
    digest = hashlib.sha256(json.dumps(data, sort_keys=True).encode()).hexdigest()
    return {**data, "version": f"{INLINE}{digest[:16]}"}


async def define_inline(call: Call, data: Any, below: str) -> Graph:
    """Make a definition known that is to be run at once.

    One that says its version may become what others get by the name alone: so that is for who may define graphs,
    unless this very version is there.
    """
    said = (data.get("name"), data.get("version")) if isinstance(data, Mapping) else ()
    if said and "version" in data and said not in call.service.engine.graphs():
        allowed(call.scope, "admin")
    # Whoever may only submit could fill the table, and then nobody could define anything.
    versioned = with_version(data)
    spare = 0 if versioned is data else -(-call.service.most_graphs // SPARED)
    graph, _ = await define(call.service, versioned, below, spare)
    return graph


def versions_of(service: Service, name: str) -> list[str]:
    """Of one name, the oldest first."""
    found = [version for known, version in service.engine.graphs() if known == name]
    return sorted(found, key=version_order)


async def create_graph(call: Call) -> Answer:
    """`POST /api/graphs`."""
    graph, is_new = await define(call.service, call.body)
    return _defined(call, graph, is_new)


async def put_graph(call: Call) -> Answer:
    """`PUT /api/graphs/{name}`."""
    name, data = call.path["name"], call.body
    if isinstance(data, Mapping) and data.get("name", name) != name:
        said = f"the path says {name!r}, the definition {str(data['name'])[:80]!r}"
        raise invalid([Detail(pointer="/name", message=said, hint="leave it out of the definition")])
    graph, is_new = await define(call.service, {"name": name, **data} if isinstance(data, Mapping) else data)
    return _defined(call, graph, is_new)


def _defined(call: Call, graph: Graph, is_new: bool) -> Answer:
    call.note(graph=graph.name)
    place = f"{call.root}/api/graphs/{quote(graph.name, safe='')}"
    headers = {"Location": f"{place}?version={quote(graph.version, safe='')}"}
    return Answer(201 if is_new else 200, graph_info(call.service, graph.name, graph.version), headers)


async def list_graphs(call: Call) -> Answer:
    """`GET /api/graphs`."""
    by_name: dict[str, list[str]] = {}
    for name, version in call.service.engine.graphs():
        by_name.setdefault(name, []).append(version)
    after, limit = call.query["after"], call.query["limit"]
    names = sorted(name for name in by_name if after is None or name > after)
    items = []
    for name in names[:limit]:
        versions = sorted(by_name[name], key=version_order)
        items.append(GraphItem(name=name, version=versions[-1], versions=versions))
    return Answer(data=GraphList(graphs=items, next=names[limit - 1] if len(names) > limit else None))


async def get_graph(call: Call) -> Answer:
    """`GET /api/graphs/{name}`."""
    return Answer(data=graph_info(call.service, call.path["name"], call.query["version"]))


def graph_info(service: Service, name: str, version: str | None) -> GraphInfo:
    """All that can be told of a graph."""
    graph, plan = graph_of(service, name, version)
    return GraphInfo(
        name=plan.name,
        version=plan.version,
        versions=versions_of(service, name),
        nodes=[node.name for node in plan.decl.nodes],
        entry_points=list(plan.decl.entries),
        state=_state_schema(plan),
        definition=_definition(graph),
    )


def _definition(graph: Graph | None) -> dict[str, Any] | None:
    try:
        return None if graph is None else graph.to_dict()
    except GraphInvalid:
        return None  # made of functions that are no tools: only Python can say it


def _state_schema(plan: Plan) -> dict[str, Any]:
    schemas = Schemas()
    keys: Mapping[str, Any] = getattr(plan.decl.state, "keys", {})
    found: dict[str, Any] = {
        "type": "object",
        "properties": {name: schemas.of(key.type) for name, key in keys.items()},
        "required": [name for name, key in keys.items() if key.required],
        "additionalProperties": not getattr(plan.decl.state, "closed", False),
    }
    return {**found, "$defs": schemas.definitions} if schemas.definitions else found


async def delete_graph(call: Call) -> Answer:
    """`DELETE /api/graphs/{name}`."""
    name, version = call.path["name"], call.query["version"]
    if version is None:
        version = call.service.engine.plan(name).version
        if len(versions := versions_of(call.service, name)) > 1:
            said = f"there are several: {', '.join(map(repr, versions[:20]))}"
            raise invalid([Detail(parameter="version", message=said, hint="say which")])
    await call.service.engine.forget(name, version)
    return Answer(204)


async def validate_graph(call: Call) -> Answer:
    """`POST /api/graphs/validate`."""
    items: list[GraphProblemItem] = []
    try:
        graph = await anyio.to_thread.run_sync(
            partial(Graph.from_dict, call.body, tools=call.service.engine.tools), abandon_on_cancel=True
        )
        found = await anyio.to_thread.run_sync(graph.validate, call.service.engine.tools, abandon_on_cancel=True)
        problems = list(found)
    except GraphInvalid as error:
        problems = list(error.problems)
    for each in problems:
        is_pointer = each.where.startswith("/") and each.where != "/"
        said = each.message if each.where.startswith("/") else f"{each.where}: {each.message}"
        items.append(
            GraphProblemItem(
                code=each.code,
                pointer=each.where if is_pointer else "",
                message=said,
                hint=each.hint,
                severity=each.severity,
            )
        )
    valid = not any(item.severity == "error" for item in items)
    return Answer(data=Validation(valid=valid, problems=items))


async def draw_graph(call: Call) -> Answer:
    """`GET /api/graphs/{name}/drawing`."""
    run = None
    version = call.query["version"]
    if call.query["run"] is not None:
        run = await call.service.engine.get(call.query["run"])
        if run.graph != call.path["name"]:
            raise invalid([Detail(parameter="run", message=f"it is a run of {run.graph!r}")])
        version = version or run.version
    graph, plan = graph_of(call.service, call.path["name"], version)
    if graph is None:
        raise Refused(
            409, "not_drawable", f"graph {plan.name!r} cannot be drawn: only what it was compiled to is known"
        )
    format = call.query["format"]
    try:
        # A large graph takes a second; the progress of a run is read in the loop, where the run goes on.
        if run is None:
            drawn: str | bytes = await anyio.to_thread.run_sync(graph.draw, format)
        else:
            drawn = graph.draw(format, run)
    except (ValueError, ImportError) as error:
        hint = "mermaid and text need nothing"
        raise invalid([Detail(parameter="format", message=f"it cannot be drawn so: {error}", hint=hint)]) from None
    body = drawn.encode("utf-8", "replace") if isinstance(drawn, str) else drawn
    # An SVG that is opened by itself is a document: it needs nothing, so it may do nothing.
    headers = {"Content-Security-Policy": "default-src 'none'; style-src 'unsafe-inline'; sandbox"}
    return Answer(data=body, headers=headers, content_type=FORMATS[format])


async def list_tools(call: Call) -> Answer:
    """`GET /api/tools`."""
    return Answer(data=ToolList(tools=[ToolItem(**tool.to_dict()) for tool in call.service.engine.tools.tools()]))
