"""The application: an engine as an ASGI callable, which owns nothing and mounts under any path."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from typing import Any, Final

import attrs
import orjson

from ..app import Engine
from .aliases import ALIAS_ROUTES, ALIAS_SOCKETS
from .draining import Draining
from .guard import guarded
from .health import Readiness
from .keys import Keys
from .limits import Limits
from .measures import numbers_of
from .models import read
from .openapi import document
from .principals import allowed
from .problems import Detail, Refused, answer_of, invalid, is_of_the_guard, of_error, unknown_path
from .routes import AFTER_EVENT, ROUTES, SOCKETS, VERSION
from .service import Service
from .sockets import Begin, serve_socket
from .streams import StreamLimits, Streams
from .table import Call, Needed, Route, Table, read_query
from .wire import (
    Answer,
    ASGIApp,
    BodyTooLarge,
    ClientGone,
    Receive,
    Scope,
    Send,
    Sends,
    body_of,
    query_of,
    read_data,
    segments,
)

MOST_GRAPHS: Final = 10_000


def create_app(
    engine: Engine,
    *,
    keys: Keys | None = None,
    limits: Limits | None = None,
    cors: Sequence[str] = (),
    hosts: Collection[str] | None = None,
    draining: Draining | None = None,
    streams: StreamLimits | None = None,
    most_graphs: int = MOST_GRAPHS,
) -> ASGIApp:
    """The engine over HTTP and WebSockets, for any ASGI server, or mounted in another application.

    It needs no lifespan, and neither starts nor ends the engine: whoever has entered that leaves it. When the engine
    begins to drain, open streams and waiting requests end themselves.

    Without `keys` everybody may do everything: then let nobody reach it who should not. `cors` lists sites whose pages
    may use it, `hosts` the names that it goes by (None: any). `draining` is for whoever ends the service: it may begin
    before the engine drains.
    """
    draining = draining or Draining()
    engine.on_drain(draining.begin)
    service = Service(
        engine=engine,
        streams=Streams(engine, streams or StreamLimits()),
        readiness=Readiness(engine, draining),
        most_graphs=most_graphs,
    )
    return guarded(
        Application(service, needs_key=keys is not None),
        keys=keys,
        limits=limits,
        cors=cors,
        audit=engine.audit,
        numbers=numbers_of(engine.metrics),
        hosts=hosts,
        draining=draining,
    )


class Application:
    """Finds what a request asks for, reads what it says, and answers."""

    def __init__(self, service: Service, *, needs_key: bool) -> None:
        self._service = service
        self._needs_key = needs_key
        openapi = Route(
            method="GET",
            path="/openapi.json",
            name="get_openapi",
            needs=None,
            handler=self._openapi,
            group="operation",
            summary="This description, as OpenAPI 3.1",
            answers={200: dict},
        )
        self._routes = (*ROUTES, openapi, *ALIAS_ROUTES)
        self._table = Table(self._routes)
        self._sockets = Table(_socket_route(*socket) for socket in (*SOCKETS, *ALIAS_SOCKETS))
        self._begins = {path: begin for path, _, begin in (*SOCKETS, *ALIAS_SOCKETS)}
        self._documents: dict[str, bytes] = {}

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """As ASGI calls it."""
        match scope["type"]:
            case "http":
                await self._http(scope, receive, send)
            case "websocket":
                await self._websocket(scope, receive, send)
            case "lifespan":
                await _lifespan(receive, send)
            case other:
                raise RuntimeError(f"there is no answer to the ASGI scope {other!r}")

    # -- HTTP

    async def _http(self, scope: Scope, receive: Receive, send: Send) -> None:
        try:
            answer = await self._answer(scope, receive)
        except ClientGone:
            return
        except Exception as error:
            if is_of_the_guard(error):
                raise
            answer = answer_of(of_error(error))
        await answer(scope, receive, send)

    async def _answer(self, scope: Scope, receive: Receive) -> Answer | Sends:
        parts = segments(scope)
        if parts is None:
            raise unknown_path()
        if scope["method"] == "OPTIONS":
            if not (methods := self._table.allowed(parts)):
                raise unknown_path()
            return Answer(204, headers={"Allow": ", ".join(methods)})
        route, path = self._table.find(scope["method"], parts)
        call = self._call(route, path, scope)
        if route.body is not None:
            call.body = await self._body(route, call, receive)
        return await route.handler(call)

    def _call(self, route: Route, path: dict[str, str], scope: Scope) -> Call:
        scope.setdefault("state", {})["route"] = route.path
        if route.needs is not None:
            allowed(scope, route.needs)
        return Call(self._service, scope, path, read_query(route, query_of(scope), scope))

    async def _body(self, route: Route, call: Call, receive: Receive) -> Any:
        try:
            body = await body_of(receive)
        except BodyTooLarge:
            raise Refused(413, "body_too_large", "the body is longer than any that is read") from None
        is_model = isinstance(route.body, type) and attrs.has(route.body)
        if not body:
            if route.body_optional:
                return route.body()
            raise invalid([Detail(pointer="", message="there is no body", hint="send JSON")])
        kind = (call.header(b"content-type") or "application/json").partition(";")[0].strip().lower()
        if kind != "application/json" and not (kind.startswith("application/") and kind.endswith("+json")):
            raise Refused(415, "not_json", f"the body is sent as {kind[:80]!r}, expected application/json")
        data = await read_data(body)
        return read(route.body, data) if is_model else data

    async def _openapi(self, call: Call) -> Answer:
        root = call.root
        if root not in self._documents:
            if len(self._documents) > 10:
                self._documents.clear()  # where it is mounted is told by whoever asks
            self._documents[root] = orjson.dumps(document(self._routes, root, needs_key=self._needs_key))
        return Answer(data=self._documents[root])

    # -- WebSockets

    async def _websocket(self, scope: Scope, receive: Receive, send: Send) -> None:
        parts = segments(scope)
        try:
            if parts is None:
                raise unknown_path()
            route, path = self._sockets.find("GET", parts)
            call = self._call(route, path, scope)
        except Refused as refused:
            begin = _refusing(refused)
            call = Call(self._service, scope, {}, {"after": 0})
        else:
            begin = self._begins[route.path]
        await serve_socket(call, begin, receive, send)


def _refusing(refused: Refused) -> Begin:
    """A client of a socket is told after it was accepted: browsers do not see why one is not."""

    async def begin(call: Call, socket: object) -> Any:
        raise refused

    return begin


def _socket_route(path: str, needs: Needed, begin: Begin) -> Route:
    async def handler(call: Call) -> Answer:
        raise AssertionError("a socket is served by what begins it")

    query = (AFTER_EVENT, VERSION)
    return Route(method="GET", path=path, name=path, needs=needs, handler=handler, summary="", query=query)


async def _lifespan(receive: Receive, send: Send) -> None:
    """There is nothing to start and nothing to end; some servers ask all the same."""
    while True:
        message = await receive()
        await send({"type": f"{message['type']}.complete"})
        if message["type"] == "lifespan.shutdown":
            return
