"""What stands between the network and the application, around tiny applications."""

import logging
from collections.abc import Mapping
from typing import Any

import anyio
import pytest

from engine.auditing import AuditLine
from engine.web.draining import Draining
from engine.web.guard import guarded
from engine.web.keys import Keys, NewKey, new_key
from engine.web.limits import Limits
from engine.web.measures import HttpNumbers
from engine.web.principals import allowed
from engine.web.rates import Rate
from engine.web.refusals import Forbidden, Unauthenticated
from engine.web.routes import ROUTES
from engine.web.wire import ASGIApp, Message, Receive, Scope, Send
from tests.engine.web.asgi import call, hello, http, swallow, websocket

READER, SUBMITTER, ADMIN = (new_key(scope, [scope]) for scope in ("read", "submit", "admin"))
KEYS = Keys([made.key for made in (READER, SUBMITTER, ADMIN)])


def bearer(made: NewKey) -> dict[str, str]:
    return {"authorization": f"Bearer {made.text}"}


# --- who it is ------------------------------------------------------------------------------------------


async def test_without_keys_everybody_may_come_in() -> None:
    answer = await call(guarded(hello), http(method="POST"))

    assert (answer.status, answer.body) == (200, b"anybody")


@pytest.mark.parametrize(
    "headers",
    [
        bearer(READER),
        {"authorization": f"bearer  {READER.text} "},
        {"x-api-key": READER.text},
    ],
)
async def test_a_key_tells_who_it_is(headers: Mapping[str, str]) -> None:
    answer = await call(guarded(hello, keys=KEYS), http(headers=headers))

    assert (answer.status, answer.body) == (200, b"read")


@pytest.mark.parametrize(
    "headers",
    [
        {},
        {"authorization": "Bearer wrong"},
        {"authorization": f"Basic {READER.text}"},
        {"authorization": ""},
        bearer(new_key("read", ["read"])),
        {"authorization": "Bearer \xff"},
    ],
)
async def test_without_a_good_key_nobody_comes_in(headers: Mapping[str, str]) -> None:
    answer = await call(guarded(hello, keys=KEYS), http(headers=headers))

    assert answer.status == 401
    assert answer.headers["www-authenticate"].startswith("Bearer")
    assert (answer.problem["status"], answer.problem["code"]) == (401, "unauthenticated")
    assert "wfe_" not in answer.body.decode()


@pytest.mark.parametrize("path", ["/health", "/ready", "/openapi.json", "/docs", "/docs/swagger-ui.css"])
async def test_what_is_no_secret_is_open(path: str) -> None:
    guard = guarded(hello, keys=KEYS)
    assert (await call(guard, http(path))).body == b"nobody"
    assert (await call(guard, http(f"/mounted{path}", root_path="/mounted"))).status == 200

    assert (await call(guard, http(path, "POST"))).status == 401


@pytest.mark.parametrize("path", ["/healthx", "/docsx", "/api/health", "/docs/../api/runs", "/", "", "//health"])
async def test_what_only_looks_open_is_not(path: str) -> None:
    assert (await call(guarded(hello, keys=KEYS), http(path))).status == 401


async def test_the_principal_of_an_outer_application_is_not_believed() -> None:
    answer = await call(guarded(hello, keys=KEYS), http("/health", state={"principal": KEYS.principal(ADMIN.text)}))

    assert answer.body == b"nobody"


@pytest.mark.parametrize(("made", "status"), [(READER, 403), (SUBMITTER, 200), (ADMIN, 200)])
@pytest.mark.parametrize("method", ["POST", "PUT", "PATCH", "DELETE", "ODD"])
async def test_whatever_may_change_something_needs_more_than_read(made: NewKey, status: int, method: str) -> None:
    answer = await call(guarded(hello, keys=KEYS), http(method=method, headers=bearer(made)))

    assert answer.status == status
    if status == 403:
        assert answer.problem["detail"] == "key 'read' has the scopes read, this needs 'submit'"


async def test_a_route_asks_for_the_scope_that_it_needs() -> None:
    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        allowed(scope, "read")
        await hello(scope, receive, send)

    guard = guarded(app, keys=KEYS)

    assert [(await call(guard, http(headers=bearer(made)))).status for made in (READER, SUBMITTER, ADMIN)] == [
        200,
        403,
        200,
    ]


def test_a_scope_is_refused_where_no_guard_has_looked() -> None:
    with pytest.raises(Unauthenticated):
        allowed({"type": "http"}, "read")
    with pytest.raises(Forbidden):
        allowed({"state": {"principal": KEYS.principal(READER.text)}}, "admin")


# --- rates ----------------------------------------------------------------------------------------------


async def test_a_key_that_asks_too_fast_is_told_when_to_come_back() -> None:
    guard = guarded(hello, keys=KEYS, limits=Limits(key_rate=Rate(0.1, 2)))
    answers = [await call(guard, http(headers=bearer(READER))) for _ in range(3)]

    assert [answer.status for answer in answers] == [200, 200, 429]
    assert answers[2].headers["retry-after"] == "10"
    assert answers[2].problem["code"] == "rate_limited"
    assert (await call(guard, http(headers=bearer(ADMIN)))).status == 200


async def test_who_tries_many_keys_is_limited_by_address_whatever_they_try_next() -> None:
    guard = guarded(hello, keys=KEYS, limits=Limits(stranger_rate=Rate(0.01, 3)))
    tried = [await call(guard, http(headers={"x-api-key": f"wfe_0000000{n}_" + "a" * 43})) for n in range(5)]

    assert [answer.status for answer in tried] == [401, 401, 401, 429, 429]
    assert (await call(guard, http(headers=bearer(READER), client=("203.0.113.8", 1)))).status == 200
    assert (await call(guard, http("/health"))).status == 200


async def test_good_keys_do_not_count_as_strangers() -> None:
    guard = guarded(hello, keys=KEYS, limits=Limits(stranger_rate=Rate(0.01, 1)))

    assert [(await call(guard, http(headers=bearer(READER)))).status for _ in range(5)] == [200] * 5


async def test_where_no_keys_are_an_address_may_be_limited() -> None:
    guard = guarded(hello, limits=Limits(anybody_rate=Rate(0.01, 1)))

    assert [(await call(guard, http())).status for _ in range(2)] == [200, 429]


# --- size -----------------------------------------------------------------------------------------------

SMALL = Limits(body_bytes=10, message_bytes=10, headers=5, header_bytes=200, body_seconds=0.05)


@pytest.mark.parametrize("length", ["11", "99999999999999999999999", "-1", "1e3", "\u00b2"])
async def test_a_body_that_says_it_is_too_large_is_not_read(length: str) -> None:
    answer = await call(guarded(swallow, limits=SMALL), http(method="POST", headers={"content-length": length}))

    assert (answer.status, answer.problem["code"]) == (413, "body_too_large")
    assert answer.headers["connection"] == "close"


async def test_a_body_in_chunks_is_cut_off_where_it_becomes_too_large() -> None:
    guard = guarded(swallow, limits=SMALL)
    chunked = {"transfer-encoding": "chunked"}
    assert (await call(guard, http(method="POST", headers=chunked), [b"12345", b"67890"])).body == b"10"
    answer = await call(guard, http(method="POST", headers=chunked), [b"12345", b"67890", b"1", b"never read"])

    assert (answer.status, answer.problem["code"]) == (413, "body_too_large")
    assert len(answer.messages) == 2


async def test_an_application_that_answers_its_own_errors_does_not_answer_twice() -> None:
    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        try:
            await swallow(scope, receive, send)
        except Exception:
            await send({"type": "http.response.start", "status": 500, "headers": []})
            await send({"type": "http.response.body", "body": b"own"})
            raise

    answer = await call(
        guarded(app, limits=SMALL), http(method="POST", headers={"transfer-encoding": "chunked"}), [b"x" * 20]
    )

    assert [message.get("status") for message in answer.messages] == [413, None]


async def test_a_body_that_does_not_arrive_is_given_up() -> None:
    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        await receive()
        await receive()
        raise AssertionError

    answer = await call(
        guarded(app, limits=SMALL),
        http(method="POST", headers={"content-length": "10"}),
        [{"type": "http.request", "body": b"1", "more_body": True}],
    )

    assert (answer.status, answer.problem["code"]) == (408, "too_slow")


async def test_waiting_for_a_client_to_leave_is_not_waiting_for_a_body() -> None:
    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        assert (await receive())["body"] == b"1"
        with anyio.move_on_after(4 * SMALL.body_seconds):
            await receive()
        await hello(scope, receive, send)

    answer = await call(guarded(app, limits=SMALL), http(method="POST", headers={"content-length": "1"}), [b"1"])

    assert answer.status == 200


@pytest.mark.parametrize(
    "headers", [{f"x-{n}": "1" for n in range(5)}, {"x": "y" * 200}, {"y" * 200: "x"}], ids=["many", "long", "name"]
)
async def test_too_many_headers_are_refused(headers: Mapping[str, str]) -> None:
    answer = await call(guarded(hello, limits=SMALL), http("/health", headers=headers))

    assert (answer.status, answer.problem["code"]) == (431, "headers_too_large")


# --- browsers -------------------------------------------------------------------------------------------


async def test_answers_have_the_headers_that_keep_browsers_safe() -> None:
    for answer in (await call(guarded(hello), http()), await call(guarded(hello, keys=KEYS), http())):
        assert answer.headers["x-content-type-options"] == "nosniff"
        assert answer.headers["content-security-policy"] == "default-src 'none'; frame-ancestors 'none'"
        assert answer.headers["cache-control"] == "no-store"
        assert "access-control-allow-origin" not in answer.headers


async def test_an_application_may_have_a_policy_of_its_own() -> None:
    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        headers = [(b"Content-Security-Policy", b"default-src 'self'")]
        await send({"type": "http.response.start", "status": 200, "headers": headers})
        await send({"type": "http.response.body", "body": b""})

    answer = await call(guarded(app), http())

    assert [value for name, value in answer.messages[0]["headers"] if name.lower() == b"content-security-policy"] == [
        b"default-src 'self'"
    ]


@pytest.mark.parametrize(
    ("origin", "host", "status"),
    [
        ("http://localhost:8000", "localhost:8000", 200),
        ("https://flows.example", "flows.example", 200),  # behind a proxy that ends TLS
        ("http://localhost:8000", "localhost:9000", 403),
        ("https://evil.example", "localhost:8000", 403),
        ("null", "localhost:8000", 403),
        ("", "localhost:8000", 403),
        ("http://localhost:99999999", "localhost", 403),
        ("http://[", "localhost", 403),
    ],
)
@pytest.mark.parametrize("method", ["GET", "POST"])
async def test_pages_of_other_sites_may_not_ask(origin: str, host: str, status: int, method: str) -> None:
    answer = await call(guarded(hello), http(method=method, headers={"origin": origin, "host": host}))

    assert answer.status == status


async def test_a_site_that_is_listed_may_ask_and_read_the_answer() -> None:
    guard = guarded(hello, keys=KEYS, cors=["https://app.example"])
    origin = {"origin": "https://app.example"}
    asked = await call(guard, http(method="OPTIONS", headers={**origin, "access-control-request-method": "POST"}))
    answer = await call(guard, http(headers={**origin, **bearer(READER)}))

    assert (asked.status, asked.headers["access-control-allow-origin"]) == (204, "https://app.example")
    read = {header.name.lower() for route in ROUTES for header in route.headers}
    assert {"authorization", *read} <= set(asked.headers["access-control-allow-headers"].split(", "))
    assert (answer.status, answer.headers["access-control-allow-origin"]) == (200, "https://app.example")
    assert (await call(guard, http(headers={"origin": "https://app.example.evil", **bearer(READER)}))).status == 403


async def test_a_preflight_of_another_site_is_refused() -> None:
    headers = {"origin": "https://evil.example", "access-control-request-method": "POST"}

    assert (await call(guarded(hello), http(method="OPTIONS", headers=headers))).status == 403


@pytest.mark.parametrize("origin", ["app.example", "ftp://x", "https://x/path", "https://"])
def test_what_is_no_origin_cannot_be_listed(origin: str) -> None:
    with pytest.raises(ValueError, match="is no origin"):
        guarded(hello, cors=[origin])


@pytest.mark.parametrize(
    ("host", "status"),
    [("localhost:80", 200), ("[::1]:8000", 200), ("LOCALHOST", 200), ("evil.example", 421), ("", 421), ("[", 421)],
)
async def test_only_its_own_names_are_answered(host: str, status: int) -> None:
    guard = guarded(hello, hosts={"localhost", "::1"})

    assert (await call(guard, http(headers={"host": host}))).status == status


# --- WebSockets -----------------------------------------------------------------------------------------


async def accept(scope: Scope, receive: Receive, send: Send) -> None:
    await receive()
    await send({"type": "websocket.accept"})
    while (await receive())["type"] != "websocket.disconnect":
        pass


CONNECT: list[Message] = [{"type": "websocket.connect"}]
LEAVE: list[Message] = [{"type": "websocket.disconnect", "code": 1000}]


async def test_a_websocket_needs_a_key_too() -> None:
    guard = guarded(accept, keys=KEYS)
    (closed,) = (await call(guard, websocket(), CONNECT)).messages
    accepted = await call(guard, websocket(headers=bearer(READER)), CONNECT + LEAVE)

    assert closed == {"type": "websocket.close", "code": 1008}
    assert accepted.messages[0]["type"] == "websocket.accept"


async def test_a_websocket_is_refused_with_a_document_where_the_server_can() -> None:
    answer = await call(guarded(accept, keys=KEYS), websocket(extensions={"websocket.http.response": {}}), CONNECT)

    assert (answer.status, answer.problem["code"]) == (401, "unauthenticated")


async def test_a_page_sends_its_key_as_a_protocol() -> None:
    offered = ["workflow", f"key.{READER.text}"]
    scope = websocket(headers={"sec-websocket-protocol": ", ".join(offered)}, subprotocols=offered)
    answer = await call(guarded(accept, keys=KEYS), scope, CONNECT + LEAVE)

    assert answer.messages[0]["subprotocol"] == "workflow"


async def test_a_websocket_of_another_site_is_refused() -> None:
    answer = await call(guarded(accept), websocket(headers={"origin": "https://evil.example"}), CONNECT)

    assert answer.messages == [{"type": "websocket.close", "code": 1008}]


@pytest.mark.parametrize("message", [{"text": "x" * 11}, {"bytes": b"x" * 11}, {"text": None, "bytes": b"x" * 11}])
async def test_a_message_that_is_too_large_closes_the_websocket(message: dict[str, Any]) -> None:
    answer = await call(
        guarded(accept, limits=SMALL), websocket(), [*CONNECT, {"type": "websocket.receive", **message}, *LEAVE]
    )

    assert [(sent["type"], sent.get("code")) for sent in answer.messages] == [
        ("websocket.accept", None),
        ("websocket.close", 1009),
    ]


# --- faults and numbers ---------------------------------------------------------------------------------


async def test_a_fault_is_answered_without_saying_what_it_is(caplog: pytest.LogCaptureFixture) -> None:
    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        raise RuntimeError("secret /path/of/server")

    answer = await call(guarded(app), http(headers={"x-request-id": "r-1"}))

    assert (answer.status, answer.problem["code"]) == (500, "internal_error")
    assert b"secret" not in answer.body
    assert b"r-1" in answer.body
    assert "request r-1 failed" in caplog.text


async def test_a_fault_in_the_middle_of_an_answer_ends_the_connection() -> None:
    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        await send({"type": "http.response.start", "status": 200, "headers": []})
        raise RuntimeError("late")

    with pytest.raises(RuntimeError, match="late"):
        await call(guarded(app), http())


async def test_what_is_not_http_passes_through() -> None:
    seen: list[str] = []

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        seen.append(scope["type"])

    await call(guarded(app, keys=KEYS), {"type": "lifespan"})

    assert seen == ["lifespan"]


@pytest.mark.parametrize(("given", "kept"), [("abc-1", True), ("a\nb", False), ("x" * 65, False), ("", False)])
async def test_a_request_has_an_id_in_its_answer(given: str, kept: bool) -> None:
    answer = await call(guarded(hello), http(headers={"x-request-id": given}))

    assert (answer.headers["x-request-id"] == given) is kept
    assert answer.headers["x-request-id"].isprintable()


async def test_while_it_drains_connections_are_closed_after_their_answer() -> None:
    draining = Draining()
    guard = guarded(hello, draining=draining)
    assert "connection" not in (await call(guard, http())).headers
    draining.begin()

    assert (await call(guard, http())).headers["connection"] == "close"


def routed(app: ASGIApp, **found: Any) -> ASGIApp:
    """As a router does: it changes the scope that it was given."""

    async def router(scope: Scope, receive: Receive, send: Send) -> None:
        scope.update({"endpoint": app, "path_params": found})
        await app(scope, receive, send)

    return router


async def test_requests_are_counted_by_route_method_and_status() -> None:
    numbers = HttpNumbers()
    guard = guarded(routed(hello, run_id="abc"), keys=KEYS, numbers=numbers)
    for path in ("/api/runs/abc/log", "/api/abc/abc"):
        await call(guard, http(path, headers=bearer(READER)))
    await call(guard, http("/api/runs/abc", headers={}))
    await call(guarded(hello, numbers=numbers), http("/nowhere/abc", method="MADE-UP"))

    assert numbers.requests == {
        ("/api/runs/{run_id}/log", "GET", "200"): 1,
        ("/api/abc/{run_id}", "GET", "200"): 1,
        ("(none)", "GET", "401"): 1,
        ("(none)", "OTHER", "200"): 1,
    }
    assert numbers.refused == {"unauthenticated": 1}
    assert numbers.in_flight == 0


async def test_a_hundred_thousand_paths_make_no_labels() -> None:
    numbers = HttpNumbers()
    guard = guarded(routed(hello), numbers=numbers)  # an application whose routes are raw paths
    for number in range(1000):
        await call(guard, http(f"/files/{number}"))

    assert len(numbers.requests) == 201
    assert numbers.requests["(others)", "GET", "200"] == 800


async def test_streams_are_counted_while_they_are_open_and_not_timed() -> None:
    numbers = HttpNumbers()
    during: list[tuple[int, int]] = []

    async def stream(scope: Scope, receive: Receive, send: Send) -> None:
        headers = [(b"content-type", b"text/event-stream; charset=utf-8")]
        await send({"type": "http.response.start", "status": 200, "headers": headers})
        during.append((numbers.in_flight, numbers.streams["sse"]))
        await send({"type": "http.response.body", "body": b""})

    await call(guarded(stream, numbers=numbers), http())
    await call(guarded(accept, numbers=numbers), websocket(), CONNECT + LEAVE)

    assert during == [(0, 1)]
    assert (numbers.in_flight, dict(numbers.streams), numbers.durations) == (0, {"sse": 0, "websocket": 0}, {})
    assert set(numbers.requests) == {("(none)", "GET", "200"), ("(none)", "WEBSOCKET", "101")}


# --- the audit log --------------------------------------------------------------------------------------


async def test_what_changes_something_is_written_down_with_who_what_where_and_outcome() -> None:
    lines: list[AuditLine] = []
    guard = guarded(routed(hello, run_id="r1", graph="g"), keys=KEYS, audit=lines.append)
    await call(guard, http("/api/runs/r1/cancel", "POST", {**bearer(ADMIN), "x-request-id": "q"}))
    (line,) = lines

    assert (line.who, line.action, line.outcome) == ("admin", "POST /api/runs/{run_id}/cancel", "200")
    assert (line.run_id, line.graph, line.request, line.origin) == ("r1", "g", "q", "203.0.113.7")


async def test_an_application_may_say_what_it_was_about() -> None:
    lines: list[AuditLine] = []

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        scope["state"].update(route="/api/graphs/{name}/runs", run_id="new", graph="g")
        await hello(scope, receive, send)

    await call(guarded(app, audit=lines.append), http("/api/graphs/g/runs", "POST"))

    assert [(line.who, line.action, line.run_id, line.graph) for line in lines] == [
        ("anybody", "POST /api/graphs/{name}/runs", "new", "g")
    ]


async def test_what_a_known_key_was_refused_is_written_down() -> None:
    lines: list[AuditLine] = []
    await call(guarded(hello, keys=KEYS, audit=lines.append), http("/api/runs/r1/cancel", "POST", bearer(READER)))

    assert [(line.who, line.outcome) for line in lines] == [("read", "403")]


async def test_looking_and_strangers_are_not_written_down() -> None:
    lines: list[AuditLine] = []
    guard = guarded(hello, keys=KEYS, audit=lines.append)
    await call(guard, http(headers=bearer(ADMIN)))
    await call(guard, http(method="POST"))

    assert lines == []


async def test_a_websocket_that_acts_is_written_down() -> None:
    lines: list[AuditLine] = []

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        scope["state"].update(acts=scope["path"] == "/ws/execute", run_id="r1")
        await accept(scope, receive, send)

    for path in ("/ws/execute", "/ws/look"):
        await call(guarded(app, audit=lines.append), websocket(path), CONNECT + LEAVE)

    assert [(line.action, line.outcome, line.run_id) for line in lines] == [("WEBSOCKET /ws/execute", "101", "r1")]


async def test_log_lines_know_request_and_principal(caplog: pytest.LogCaptureFixture) -> None:
    from engine.logs import asker

    seen: list[object] = []

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        seen.append(asker.get())
        await hello(scope, receive, send)

    caplog.set_level(logging.INFO)
    await call(guarded(app, keys=KEYS), http(headers={**bearer(READER), "x-request-id": "q"}))

    assert seen == [("q", "read")]
    assert asker.get() is None
