"""The audit log over HTTP and by the client, on every store."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import httpx2
import pytest

from engine import Engine, errors
from engine.auditing import LATE_SECONDS, AuditLine
from engine.client import AsyncClient
from engine.web.keys import Keys, new_key
from tests.contracts.stores import FACTORIES
from tests.engine.web.served import GATED, Served, Transport, served

READER, SUBMITTER, ADMIN = (new_key(scope, [scope]) for scope in ("read", "submit", "admin"))
URL = "http://service"
KEYS = "\n".join(key.entry() for key in (READER, SUBMITTER, ADMIN))


@pytest.fixture(params=FACTORIES)
def store(request: pytest.FixtureRequest, tmp_path: Path) -> Any:
    return FACTORIES[request.param](tmp_path)()


def line(at: float, who: str = "ann", run_id: str | None = None) -> AuditLine:
    return AuditLine(at=at, who=who, action="POST /api/runs", outcome="202", origin="::1", run_id=run_id)


async def asked(service: Served, path: str, key: Any = ADMIN) -> httpx2.Response:
    return await service.ask("GET", path, headers={"Authorization": f"Bearer {key.text}"})


def times(answer: httpx2.Response) -> list[float]:
    return [each["at"] for each in answer.json()["lines"]]


async def test_the_log_is_read_by_run_by_key_since_a_time_and_page_by_page(store: Any) -> None:
    async with served(store) as service:
        for number in range(1, 8):
            service.engine.audit(line(number, "ann" if number % 2 else "bob", "r1" if number > 4 else "r2"))
        everything = await service.ask("GET", "/api/audit")
        by_run = await service.ask("GET", "/api/audit?run_id=r1")
        by_key = await service.ask("GET", "/api/audit?who=bob")
        since = await service.ask("GET", "/api/audit?since=5.5")
        oldest = await service.ask("GET", "/api/audit?order=oldest&limit=2")
        pages, after = [], ""
        while True:
            page = await service.ask("GET", f"/api/audit?who=ann&limit=3{after}")
            pages.append(times(page))
            if (number := page.json()["next"]) is None:
                break
            after = f"&after={number}"

    assert times(everything) == [7, 6, 5, 4, 3, 2, 1], "the newest first"
    assert (times(by_run), times(by_key), times(since), times(oldest)) == ([7, 6, 5], [6, 4, 2], [7, 6], [1, 2])
    assert [one for page in pages for one in page] == [7, 5, 3, 1]
    first = everything.json()["lines"][0]
    assert (first["who"], first["run_id"], first["action"], first["outcome"]) == ("ann", "r1", "POST /api/runs", "202")
    assert first["timestamp"] == "1970-01-01T00:00:07.000000Z"


async def test_only_an_admin_reads_it_and_finds_what_was_done() -> None:
    async with served("memory://", keys=Keys.parse(KEYS)) as service:
        await service.engine.define(GATED)
        body, key = {"run_id": "mine"}, {"Authorization": f"Bearer {SUBMITTER.text}"}
        await service.ask("POST", "/api/graphs/gated/runs", body, headers=key)
        refused = [(await asked(service, "/api/audit", each)).status_code for each in (READER, SUBMITTER)]
        found = (await asked(service, "/api/audit?run_id=mine")).json()["lines"]

    assert refused == [403, 403]
    assert [(each["who"], each["action"], each["graph"]) for each in found] == [
        ("submit", "POST /api/graphs/{name}/runs", "gated")
    ]


async def test_without_a_store_it_says_where_the_log_is() -> None:
    async with served() as service:
        answer = await service.ask("GET", "/api/audit")

    assert answer.status_code == 409
    assert "engine.audit" in answer.json()["detail"]


async def test_a_search_ends_its_pages_before_it_has_read_the_whole_log(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("engine.auditing.SCANNED", 20)
    monkeypatch.setattr("engine.auditing.PAGE", 10)
    async with Engine("memory://") as engine:
        for number in range(1, 101):
            engine.audit(line(number, "ann" if number == 3 else "bob"))
        page = await engine.audit_page(who="ann", newest_first=True)
        seen, pages = list(page.lines), 1
        while page.next is not None:
            page = await engine.audit_page(who="ann", newest_first=True, after=page.next)
            seen, pages = [*seen, *page.lines], pages + 1

    assert [found.at for _, found in seen] == [3]
    assert pages > 4


async def test_what_is_long_past_is_not_looked_through() -> None:
    async with Engine("memory://") as engine:
        for at in (1.0, LATE_SECONDS + 5.0, LATE_SECONDS + 4.0, 2 * LATE_SECONDS):
            engine.audit(line(at))
        page = await engine.audit_page(since=LATE_SECONDS + 4.5, newest_first=True)

    assert ([found.at for _, found in page.lines], page.next) == ([2 * LATE_SECONDS, LATE_SECONDS + 5.0], None)


async def test_the_client_reads_it_in_as_many_requests_as_it_takes(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("engine.client.asynchronous.PAGE", 2)
    async with served("memory://") as service:
        for number in range(1, 6):
            service.engine.audit(line(number, run_id="r1"))
        async with AsyncClient(URL, transport=Transport(service.app)) as client:
            found = await client.audits("r1")
            some = await client.audits(who="ann", since=2, limit=3)

    assert [each.at for each in found] == [5, 4, 3, 2, 1]
    assert [each.at for each in some] == [5, 4, 3]


async def test_the_client_tells_that_there_is_no_log() -> None:
    async with served() as service, AsyncClient(URL, transport=Transport(service.app)) as client:
        with pytest.raises(errors.EngineError, match=r"engine\.audit"):
            await client.audits()
