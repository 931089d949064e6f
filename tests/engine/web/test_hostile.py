"""What nobody should send: each is refused with its reason, nothing of the inside is told, and the service goes on."""

import json
from typing import Any

import pytest

from engine.web.wire import IN_THE_LOOP
from tests.engine.web.served import COUNTING, GATED, served

RUNS = "/api/graphs/counting/runs"


@pytest.mark.parametrize(
    ("body", "pointer", "said"),
    [
        (b'{"state": {', "", "line 1, column 12"),
        (b"", None, ""),
        (b"\xff\xfe{}", "", "UTF-8"),
        (b'{"state": {"n": NaN}}', "", "NaN is no JSON number"),
        (b'{"state": {"n": -Infinity}}', "", "Infinity"),
        (b'{"state": {"n": 1e999}}', "/state/n", "no JSON number"),
        (b'{"state": {"n": ' + b"9" * 400 + b".5}}", "/state/n", "no JSON number"),
        (b'{"state": {"n": ' + b"9" * 5000 + b"}}", "", "5,000 digits"),
        (b'{"state": {"t": "\\ud800"}}', "/state/t", "surrogate"),
        (b'{"state": {"\\udc00": 1}}', "/state", "surrogate"),
        (b'{"state": {}, "state": {}}', "", "'state' twice"),
        (b'{"state": ' + b"[" * 200 + b"]" * 200 + b"}", "/state" + "/0" * 97, "nested"),
        (b"[" * 100_000, "", "nested"),
        (b"[]", "", "expected an object"),
        (b"null", "", "expected an object"),
        (b'{"state": []}', "/state", "expected"),
        (b'{"state": {}, "priority": 1.5}', "/priority", "expected int"),
        (b'{"state": {}, "priority": 100000000000000000000000}', "/priority", "at most"),
        (b'{"state": {}, "priority": true}', "/priority", "expected int"),
        (b'{"state": {}, "tags": {"a": 1}}', "/tags/a", "expected str"),
        (b'{"state": {}, "deadline": 0}', "/deadline", "more than 0"),
        (b'{"state": {}, "run_id": "a/b"}', "/run_id", "does not match"),
        (b'{"stat": {}}', "/stat", "did you mean 'state'?"),
    ],
)
async def test_a_body_that_cannot_be_used_is_refused_with_its_place(
    body: bytes, pointer: str | None, said: str
) -> None:
    async with served() as service:
        await service.ask("POST", "/api/graphs", COUNTING)
        answer = await service.http.post(RUNS, content=body, headers={"content-type": "application/json"})
        runs = (await service.ask("GET", "/api/runs")).json()["runs"]

    if pointer is None:
        assert answer.status_code == 202  # the body is optional here
        return
    assert answer.status_code == 422
    errors = answer.json()["errors"]
    assert errors[0]["pointer"][:200] == pointer[:200]
    assert said in errors[0]["message"] + answer.json()["detail"]
    assert runs == []


async def test_pairs_of_surrogates_and_deep_but_sound_data_are_taken() -> None:
    deep: Any = 1
    for _ in range(90):
        deep = [deep]
    async with served() as service:
        await service.ask("POST", "/api/graphs", COUNTING)
        content = json.dumps({"state": {"t": "\U0001f600", "deep": deep}})
        assert "\\ud83d" in content
        answer = await service.http.post(f"{RUNS}?wait=60", content=content)

    assert answer.json()["state"] == {"t": "\U0001f600", "deep": deep, "n": 1}


async def test_a_large_body_is_read_beside_the_loop() -> None:
    text = "x" * (IN_THE_LOOP + 1)
    async with served() as service:
        await service.ask("POST", "/api/graphs", COUNTING)
        answer = await service.ask("POST", f"{RUNS}?wait=60", {"state": {"t": text}})
        broken = await service.http.post(RUNS, content=b'{"state": {"t": "' + text.encode())

    assert answer.json()["state"]["t"] == text
    assert broken.status_code == 422


async def test_a_body_beyond_all_limits_is_refused() -> None:
    sent: list[Any] = []

    async def receive() -> Any:
        return {"type": "http.request", "body": b" " * 1_000_000, "more_body": True}

    async def send(message: Any) -> None:
        sent.append(message)

    async with served() as service:
        scope = {"type": "http", "method": "POST", "path": "/api/graphs", "headers": [], "query_string": b""}
        await service.app(scope, receive, send)

    assert (sent[0]["status"], json.loads(sent[1]["body"])["code"]) == (413, "body_too_large")


@pytest.mark.parametrize("kind", ["text/plain", "application/x-www-form-urlencoded", "multipart/form-data"])
async def test_only_json_is_read(kind: str) -> None:
    async with served() as service:
        answer = await service.http.post("/api/graphs", content=b"{}", headers={"content-type": kind})

    assert (answer.status_code, answer.json()["code"]) == (415, "not_json")


@pytest.mark.parametrize(
    "path",
    [
        "/",
        "/api",
        "/api/",
        "/api/runs/",
        "/api//runs",
        "/api/graphs/..%2f..%2fetc%2fpasswd/drawing",
        "/api/runs/%00",
        "/api/runs/%ff",
        "/api/runs/%2e%2e",
        "/api/runs/nothing",
        "/api/runs/nothing/log",
        "/api/runs/nothing/events",
        "/api/runs/nothing/log/more",
        "/docs/..%2f..%2fapp.py",
        "/docs/%2e%2e/app.py",
        "/docs/swagger-ui.css.gz",
        "/api/graphs/nothing",
        "/api/graphs/counting?version=9",
        "/graph/state/nothing",
    ],
)
async def test_what_is_not_there_is_404(path: str) -> None:
    async with served() as service:
        await service.ask("POST", "/api/graphs", COUNTING)
        answer = await service.ask("GET", path)

    assert answer.status_code == 404
    assert answer.headers["content-type"] == "application/problem+json"


@pytest.mark.parametrize(
    ("path", "parameter"),
    [
        ("/api/runs?limit=0", "limit"),
        ("/api/runs?limit=1e3", "limit"),
        ("/api/runs?limit=99999999999999999999", "limit"),
        ("/api/runs?limit=5&limit=6", "limit"),
        ("/api/runs?status=done", "status"),
        ("/api/runs?since=yesterday", "since"),
        ("/api/runs?since=nan", "since"),
        ("/api/runs?tag=alone", "tag"),
        ("/api/runs?after=nobody", "after"),
        ("/api/graphs/counting/drawing?format=gif", "format"),
        ("/api/graphs?limit=-1", "limit"),
    ],
)
async def test_a_query_that_cannot_be_used_is_told_by_its_parameter(path: str, parameter: str) -> None:
    async with served("memory://") as service:
        await service.ask("POST", "/api/graphs", COUNTING)
        answer = await service.ask("GET", path)

    assert answer.status_code == 422
    assert [error["parameter"] for error in answer.json()["errors"]] == [parameter]


async def test_a_method_that_a_path_does_not_take_is_told_with_those_that_it_takes() -> None:
    async with served() as service:
        answers = [
            await service.ask(method, "/api/graphs/x") for method in ("POST", "PATCH", "TRACE", "PROPFIND", "OPTIONS")
        ]
        nothing = await service.ask("OPTIONS", "/nothing")

    assert [answer.status_code for answer in answers] == [405, 405, 405, 405, 204]
    assert {answer.headers["allow"] for answer in answers} == {"DELETE, GET, HEAD, OPTIONS, PUT"}
    assert nothing.status_code == 404


async def test_head_is_get_without_a_body() -> None:
    async with served() as service:
        get = await service.ask("GET", "/api/graphs")
        head = await service.ask("HEAD", "/api/graphs")

    assert (head.status_code, head.content) == (200, b"")
    assert head.headers["content-length"] == get.headers["content-length"]


async def test_a_client_that_leaves_in_the_middle_of_its_body_is_forgotten() -> None:
    sent: list[Any] = []
    messages = iter(
        [{"type": "http.request", "body": b'{"sta', "more_body": True}, {"type": "http.disconnect"}],
    )

    async def receive() -> Any:
        return next(messages)

    async def send(message: Any) -> None:
        sent.append(message)

    async with served() as service:
        await service.engine.define(GATED)
        scope = {"type": "http", "method": "POST", "path": "/api/graphs/gated/runs", "headers": [], "query_string": b""}
        await service.app(scope, receive, send)
        runs = await service.engine.runs()

    assert sent == []
    assert runs == []


async def test_a_fault_of_the_service_tells_nothing_of_its_inside(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    async with served() as service:
        monkeypatch.setattr(service.engine, "graphs", lambda: 1 / 0)
        answer = await service.ask("GET", "/api/graphs")

    assert (answer.status_code, answer.json()["code"]) == (500, "internal_error")
    assert "division" not in answer.text
    assert "ZeroDivisionError" in caplog.text
