"""What stands between the network and the application: who may come in, how fast, with how much.

Pure ASGI, around any application, for HTTP and WebSocket. In the order in which it looks, the cheapest first:
headers (431), host (421), origin (403), whose key it is (401, or 429 for who tries many), rate (429), size (413).

What the application finds in `scope["state"]`: `principal` (ask `allowed(scope, "submit")`, which raises `Forbidden`)
and `request`, the request's id, which is in the answer and in every log line, too. What it may put there: `route`, the
template of its route; `run_id` and `graph`, what it was about; `acts`, for a WebSocket that did more than look.

Every request that may change something (all but GET, HEAD and OPTIONS) needs `submit` or `admin`, whether or not its
route asks: a route that forgets to must not be open to a key that may only read. Every such request by somebody known
is a line of the audit log. Strangers are counted and limited, and not written down: or they could fill the disk.
"""

from __future__ import annotations

import logging
import re
from collections.abc import Callable, Collection, Sequence
from time import perf_counter
from typing import Any, Final

import anyio
import attrs

from ..auditing import AuditLine
from ..ids import new_id
from ..logs import about, asker
from .draining import Draining
from .headers import Origins, check_host, preflight, secured
from .keys import Keys
from .limits import Limits, check_announced, check_headers
from .measures import HttpNumbers, route_of
from .principals import ANYBODY, Principal, allowed
from .rates import Buckets, Rate, network_of
from .refusals import (
    BodyTooLarge,
    Headers,
    Refused,
    TooManyRequests,
    TooSlow,
    TwoLengths,
    Unauthenticated,
    internal_error,
)
from .wire import ASGIApp, Message, Receive, Scope, Send, segments

logger = logging.getLogger("engine.web")

OPEN_PATHS: Final = ("/health", "/ready", "/openapi.json", "/docs")
"""For everybody: what a load balancer asks without a key, and what is no secret."""

UPLOADS: Final = ["api", "files"]
"""The path at which a body may be longer than others, since it goes by piece by piece."""
SAFE_METHODS: Final = frozenset({"GET", "HEAD", "OPTIONS"})
PROTOCOL: Final = "workflow"
"""Of WebSockets, for pages: a browser can send a key only as the name of another one, `key.<the key>`."""

BODY_IS_THERE: Final = "workflow.body_is_there"
"""The extension of ASGI by which our own server says that all of a body has come: nobody has to wait for any of it."""

_REQUEST_ID: Final = re.compile(r"[A-Za-z0-9._-]{1,64}")
_LOOKED_AT: Final = frozenset(
    {
        b"authorization",
        b"x-api-key",
        b"origin",
        b"host",
        b"content-length",
        b"transfer-encoding",
        b"x-request-id",
        b"access-control-request-method",
        b"sec-websocket-protocol",
    }
)


def guarded(
    app: ASGIApp,
    *,
    keys: Keys | None = None,
    limits: Limits | None = None,
    cors: Sequence[str] = (),
    audit: Callable[[AuditLine], None] | None = None,
    numbers: HttpNumbers | None = None,
    hosts: Collection[str] | None = None,
    draining: Draining | None = None,
    open_paths: Sequence[str] = OPEN_PATHS,
) -> ASGIApp:
    """The application behind a guard. Without `keys` everybody may do everything; `hosts` are names it goes by."""
    return Guard(
        app,
        keys=keys,
        limits=limits or Limits(),
        origins=Origins(cors),
        audit=audit,
        numbers=numbers or HttpNumbers(),
        hosts=None if hosts is None else frozenset(hosts),
        draining=draining or Draining(),
        open_paths=tuple(open_paths),
    )


@attrs.frozen(kw_only=True, eq=False)
class Guard:
    """See `guarded`."""

    app: ASGIApp = attrs.field(kw_only=False)
    keys: Keys | None
    limits: Limits
    origins: Origins
    audit: Callable[[AuditLine], None] | None
    numbers: HttpNumbers
    hosts: frozenset[str] | None
    draining: Draining
    open_paths: tuple[str, ...]
    _by_key: Buckets | None = attrs.field(init=False)
    _by_address: Buckets | None = attrs.field(init=False)
    _strangers: Buckets | None = attrs.field(init=False)

    @_by_key.default
    def _buckets_of_keys(self) -> Buckets | None:
        return _buckets(self.limits.key_rate)

    @_by_address.default
    def _buckets_of_addresses(self) -> Buckets | None:
        return _buckets(self.limits.anybody_rate)

    @_strangers.default
    def _buckets_of_strangers(self) -> Buckets | None:
        return _buckets(self.limits.stranger_rate)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Let a request through, or answer it."""
        if scope["type"] not in ("http", "websocket"):
            await self.app(scope, receive, send)
            return
        seen = {name: value for name, value in scope["headers"] if name in _LOOKED_AT}
        said = seen.get(b"x-request-id", b"").decode("latin-1")
        request = said if _REQUEST_ID.fullmatch(said) else new_id()
        # A copy, since a server may have one for all requests of a connection; and without the principal of an
        # application that this one is mounted in, who is none of ours.
        scope["state"] = state = {**(scope.get("state") or {}), "request": request}
        state.pop("principal", None)
        exchange = _Exchange(self, scope, seen, receive, send)
        token = asker.set((request, "?"))
        try:
            await exchange.go()
        finally:
            asker.reset(token)

    # -- who it is

    def admit(self, scope: Scope, seen: dict[bytes, bytes], most_bytes: int) -> Headers:
        """Look at everything that can be seen before the body; raises `Refused`, gives headers of the answer."""
        check_headers(scope["headers"], self.limits)
        check_host(seen.get(b"host"), self.hosts)
        scheme = "https" if scope.get("scheme") in ("https", "wss") else "http"
        headers = self.origins.check(seen.get(b"origin"), seen.get(b"host"), scheme)
        if scope.get("method") == "OPTIONS" and b"access-control-request-method" in seen:
            return headers
        if not self._is_open(scope):
            principal = scope["state"]["principal"] = self._principal(scope, seen)
            asker.set((scope["state"]["request"], principal.name))
            if scope["type"] == "http" and scope["method"] not in SAFE_METHODS:
                allowed(scope, "submit")
        if b"content-length" in seen and b"transfer-encoding" in seen:
            raise TwoLengths
        check_announced(seen.get(b"content-length"), most_bytes)
        return headers

    def most_bytes(self, scope: Scope) -> int:
        """How long the body of this request may be."""
        is_upload = scope.get("method") == "POST" and segments(scope) == UPLOADS
        return self.limits.file_bytes if is_upload else self.limits.body_bytes

    def _is_open(self, scope: Scope) -> bool:
        path, root = str(scope["path"]), str(scope.get("root_path", ""))
        path = path[len(root) :] if root and path.startswith(root) else path
        if scope["type"] != "http" or scope["method"] not in SAFE_METHODS or "/.." in path:
            return False
        return any(path == prefix or path.startswith(f"{prefix}/") for prefix in self.open_paths)

    def _principal(self, scope: Scope, seen: dict[bytes, bytes]) -> Principal:
        address = network_of(address_of(scope))
        if self.keys is None:
            _take(self._by_address, address, "this address asks")
            return ANYBODY
        if self._strangers is not None and (wait := self._strangers.lacks(address)):
            raise TooManyRequests("too many requests without a good key came from this address", wait)
        text = _key_in(seen)
        principal = None if text is None else self.keys.principal(text)
        if principal is None:
            if self._strangers is not None:
                self._strangers.take(address)
            raise Unauthenticated(
                "this needs an API key: Authorization: Bearer <key>"
                if text is None
                else "this API key is not known, or has expired"
            )
        _take(self._by_key, principal.name, f"key {principal.name!r} asks")
        return principal


class _Exchange:
    """One request and its answer."""

    def __init__(self, guard: Guard, scope: Scope, seen: dict[bytes, bytes], receive: Receive, send: Send) -> None:
        self._guard = guard
        self._scope = scope
        self._seen = seen
        self._receive = receive
        self._send = send
        self._headers: Headers = []
        self._is_http = scope["type"] == "http"
        self._status = 0
        self._started = False
        self._cut_off = False
        self._stream: str | None = None
        self._read = 0
        self._most_bytes = guard.most_bytes(scope)

    async def go(self) -> None:
        numbers, began = self._guard.numbers, perf_counter()
        numbers.in_flight += 1
        try:
            await self._answer()
        finally:
            if self._stream is None:
                numbers.in_flight -= 1
            else:
                numbers.streams[self._stream] -= 1
            method = self._scope["method"] if self._is_http else "WEBSOCKET"
            seconds = perf_counter() - began if self._stream is None and self._is_http else None
            route = route_of(self._scope)
            # Whoever left before an answer began has closed the request, as the logs of proxies have it.
            numbers.count(route, method, self._status or 499, seconds)
            self._write_down(route, method)

    async def _answer(self) -> None:
        guard, scope = self._guard, self._scope
        try:
            self._headers = guard.admit(scope, self._seen, self._most_bytes)
            if scope.get("method") == "OPTIONS" and b"access-control-request-method" in self._seen:
                await self._put({"type": "http.response.start", "status": 204, "headers": preflight([])})
                await self._put({"type": "http.response.body", "body": b""})
                return
            await guard.app(scope, self._get if self._is_http else self._get_message, self._put)
        except Refused as refused:
            await self._refuse(refused)
        except Exception:
            if self._cut_off:
                return  # whatever the application made of what `_get` raised: it has been answered
            state = scope["state"]
            logger.exception(
                "request %s failed", state["request"], extra=about(state.get("run_id"), state.get("graph"))
            )
            if self._started or not self._is_http:
                raise
            await self._respond(*internal_error(state["request"]))

    # -- what comes in

    async def _get(self) -> Message:
        if self._cut_off:
            return {"type": "http.disconnect"}
        if self._read < 0 or not (b"content-length" in self._seen or b"transfer-encoding" in self._seen):
            return await self._receive()  # the body is over: this waits for the client to leave
        limits = self._guard.limits
        message: Message | None = None
        if BODY_IS_THERE in (self._scope.get("extensions") or ()):
            message = await self._receive()
        else:
            with anyio.CancelScope(deadline=anyio.current_time() + limits.body_seconds):
                message = await self._receive()
        if message is None:
            slow = TooSlow(limits.body_seconds)
            await self._refuse(slow)
            raise slow
        if message["type"] == "http.request":
            self._read += len(message.get("body", b""))
            if self._read > self._most_bytes:
                large = BodyTooLarge(self._most_bytes)
                await self._refuse(large)
                raise large
            if not message.get("more_body", False):
                self._read = -1
        return message

    async def _get_message(self) -> Message:
        message = await self._receive()
        if message["type"] == "websocket.receive":
            limit = self._guard.limits.message_bytes
            text = message.get("text")
            size = len(message.get("bytes") or b"") if text is None else len(text)
            if size > limit:
                large = BodyTooLarge(limit)
                await self._refuse(large)
                raise large
        return message

    # -- what goes out

    async def _put(self, message: Message) -> None:
        if self._cut_off:
            return
        match message["type"]:
            case "http.response.start" | "websocket.http.response.start":
                self._started = True
                self._status = message["status"]
                headers = list(message.get("headers", ()))
                if self._is_http and _is_event_stream(headers):
                    self._becomes("sse")
                message = {**message, "headers": secured(headers, self._more())}
            case "websocket.accept":
                self._started = True
                self._status = 101
                self._becomes("websocket")
                headers = [*message.get("headers", ()), (b"x-request-id", self._scope["state"]["request"].encode())]
                message = {**message, "headers": headers}
                if message.get("subprotocol") is None and PROTOCOL in self._scope.get("subprotocols", ()):
                    message["subprotocol"] = PROTOCOL
            case "websocket.close" if not self._started:
                self._status = 403
        await self._send(message)

    def _more(self) -> Headers:
        more = [*self._headers, (b"x-request-id", self._scope["state"]["request"].encode())]
        if self._guard.draining.begun and self._is_http and self._scope.get("http_version", "1.1").startswith("1"):
            more.append((b"connection", b"close"))  # the next request goes to another instance
        return more

    def _becomes(self, stream: str) -> None:
        numbers = self._guard.numbers
        numbers.in_flight -= 1
        numbers.streams[stream] += 1
        self._stream = stream

    async def _refuse(self, refused: Refused) -> None:
        """Answer, unless that has begun: whatever the application sends from here on is dropped."""
        if self._cut_off:
            return
        self._guard.numbers.refused[refused.code] += 1
        if self._is_http and self._started:
            raise refused  # in the middle of an answer: the connection ends
        if self._is_http:
            await self._respond(*refused.response())
        elif self._started:
            await self._put({"type": "websocket.close", "code": refused.close_code, "reason": refused.detail[:120]})
        else:
            await self._deny(refused)
        self._cut_off = True

    async def _respond(self, status: int, headers: Headers, body: bytes) -> None:
        await self._put({"type": "http.response.start", "status": status, "headers": headers})
        await self._put({"type": "http.response.body", "body": body})

    async def _deny(self, refused: Refused) -> None:
        """A WebSocket that has not been accepted: with a document where the server can."""
        if "websocket.http.response" not in (self._scope.get("extensions") or {}):
            self._status = refused.status
            await self._send({"type": "websocket.close", "code": refused.close_code})
            return
        status, headers, body = refused.response()
        await self._put({"type": "websocket.http.response.start", "status": status, "headers": headers})
        await self._put({"type": "websocket.http.response.body", "body": body})

    # -- the audit log

    def _write_down(self, route: str | None, method: str) -> None:
        state, audit = self._scope["state"], self._guard.audit
        principal = state.get("principal")
        if audit is None or principal is None:
            return
        if state.get("acts") if not self._is_http else method not in SAFE_METHODS:
            parameters = self._scope.get("path_params", {})
            audit(
                AuditLine(
                    who=principal.name,
                    action=f"{method} {route or self._scope['path']}",
                    outcome=str(self._status or 499),
                    origin=address_of(self._scope),
                    run_id=_text(state.get("run_id", parameters.get("run_id"))),
                    graph=_text(state.get("graph", parameters.get("graph", parameters.get("name")))),
                    request=state["request"],
                )
            )


def address_of(scope: Scope) -> str:
    """Where a request comes from, as the server saw it: a header that says otherwise may be anybody's."""
    client = scope.get("client")
    return str(client[0]) if client else "?"


def _key_in(seen: dict[bytes, bytes]) -> str | None:
    if (authorization := seen.get(b"authorization")) is not None:
        kind, _, key = authorization.decode("latin-1").partition(" ")
        return key.strip() if kind.lower() == "bearer" else ""
    if (key_alone := seen.get(b"x-api-key")) is not None:
        return key_alone.decode("latin-1").strip()
    for protocol in seen.get(b"sec-websocket-protocol", b"").decode("latin-1").split(","):
        if protocol.strip().startswith("key."):
            return protocol.strip()[4:]
    return None


def _take(buckets: Buckets | None, who: str, asks: str) -> None:
    if buckets is not None and (wait := buckets.take(who)):
        raise TooManyRequests(f"{asks} faster than it may", wait)


def _buckets(rate: Rate | None) -> Buckets | None:
    return None if rate is None else Buckets(rate)


def _is_event_stream(headers: Headers) -> bool:
    return any(name.lower() == b"content-type" and value.startswith(b"text/event-stream") for name, value in headers)


def _text(value: Any) -> str | None:
    return None if value is None else str(value)
