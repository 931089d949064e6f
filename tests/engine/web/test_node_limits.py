"""What holds for a node, looked at and changed over HTTP while runs go on."""

from __future__ import annotations

from typing import Any

import anyio
import httpx2
import pytest

from engine import Batch, Breaker, Cache, Engine, Graph, UnknownNode
from engine.client import AsyncClient, Client, ServiceError
from engine.client.sending import NotSendable
from engine.web.keys import Keys, new_key
from tests.engine.web.real import running
from tests.engine.web.served import COUNTING, GATED, Served, Transport, served

PATH = "/api/graphs/counting/nodes/count/limits"
NONE = {"concurrency": None, "rate": None, "batch": None, "breaker": None, "cache": None}
OF_COUNT = {"graph": "counting", "version": "1", "node": "count", **NONE}


async def changed(service: Served, **changes: Any) -> httpx2.Response:
    await service.engine.define(COUNTING)
    return await service.ask("PATCH", PATH, changes)


async def test_limits_are_changed_and_what_is_left_out_stays_and_null_takes_one_away() -> None:
    breaker = {"failures": 3, "within": 10, "cooldown": 30}
    async with served() as service:
        await service.engine.define(COUNTING)
        before = await service.ask("GET", PATH)
        first = await changed(service, rate="20/s", concurrency=4, breaker=breaker, cache={"ttl": 60, "key": "n"})
        second = await changed(service, rate=None, concurrency=8)
        found = await service.ask("GET", PATH + "?version=1")
        limits = service.engine.limits("counting", "count")

    assert before.json() == OF_COUNT
    cache = {"ttl": 60, "key": ["n"], "size": 1000}
    assert first.json() == {**OF_COUNT, "rate": "20/s", "concurrency": 4, "breaker": breaker, "cache": cache}
    assert second.json() == {**OF_COUNT, "concurrency": 8, "breaker": breaker, "cache": cache}
    assert found.json() == second.json()
    assert (limits.concurrency, limits.breaker, limits.cache) == (8, Breaker(3, 10, 30), Cache(60, "n"))


@pytest.mark.parametrize("rate", ["10/s", "5/10s", "100/min", "0.5/s", 2.5, 7])
async def test_a_rate_is_told_so_that_it_can_be_given_again(rate: str | float) -> None:
    async with served() as service:
        told = (await changed(service, rate=rate)).json()["rate"]
        known = service.engine.limits("counting", "count").rate
        again = await changed(service, rate=told)

    assert again.json()["rate"] == told
    assert service.engine.limits("counting", "count").rate == known


@pytest.mark.parametrize(
    ("changes", "pointer", "said"),
    [
        ({"concurrency": 0}, "/concurrency", "above 0"),
        ({"rate": "often"}, "/rate", "is not understood"),
        ({"breaker": {"failures": -1}}, "/breaker", "above 0"),
        ({"breaker": 3}, "/breaker", "expected"),
        ({"batch": {"size": 8}}, "/batch", "cannot be added or taken away at run time"),
        ({"cache": {"ttl": 5, "key": []}}, "/cache", "must be a key of the state"),
        ({"speed": 1}, "/speed", "there is no such field"),
    ],
)
async def test_what_cannot_be_is_refused_with_its_place_and_nothing_changes(
    changes: dict[str, Any], pointer: str, said: str
) -> None:
    async with served() as service:
        answer = await changed(service, **{"concurrency": 3, **changes})
        after = await service.ask("GET", PATH)

    assert answer.status_code == 422, answer.text
    (error,) = answer.json()["errors"]
    assert error["pointer"].startswith(pointer)
    assert said in error["message"]
    assert after.json() == OF_COUNT


async def test_a_node_that_is_not_there_or_runs_no_function_has_no_limits() -> None:
    async with served() as service:
        await service.engine.define(GATED)
        unknown = await service.ask("GET", "/api/graphs/gated/nodes/gat/limits")
        nobody = await service.ask("GET", "/api/graphs/gone/nodes/gat/limits")
        waits = await service.ask("PATCH", "/api/graphs/gated/nodes/gate/limits", {"rate": 1})

    assert [(each.status_code, each.json()["code"]) for each in (unknown, nobody)] == [
        (404, "unknown_node"),
        (404, "graph_not_found"),
    ]
    assert (waits.status_code, "runs no function of its own" in waits.text) == (422, True)


async def test_only_an_admin_changes_limits_and_that_is_in_the_audit_log() -> None:
    keys = {scope: new_key(scope, [scope]) for scope in ("read", "submit", "admin")}
    async with served("memory://", keys=Keys(key.key for key in keys.values())) as service:
        await service.engine.define(COUNTING)

        async def ask(scope: str, method: str, path: str, body: Any = None) -> httpx2.Response:
            return await service.ask(method, path, body, headers={"Authorization": f"Bearer {keys[scope].text}"})

        answers = {scope: await ask(scope, "PATCH", PATH, {"rate": "1/s"}) for scope in keys}
        looked = await ask("read", "GET", PATH)
        lines = (await ask("admin", "GET", "/api/audit")).json()["lines"]

    assert {scope: answer.status_code for scope, answer in answers.items()} == {
        "read": 403, "submit": 403, "admin": 200,
    }  # fmt: skip
    assert looked.json()["rate"] == "1/s"
    assert {(line["who"], line["action"], line["outcome"], line["graph"]) for line in lines} >= {
        ("admin", "PATCH /api/graphs/{name}/nodes/{node}/limits", "200", "counting")
    }


def waits_for_a_place(began: list[int], free: list[anyio.Event]) -> Graph:
    """One at a time, which goes on when it may."""

    async def work(state: dict[str, int]) -> None:
        began.append(state["n"])
        await free[0].wait()

    return Graph("busy").add_node("work", work, concurrency=1).set_entry_point("work")


@pytest.mark.parametrize("backend", ["asyncio", "trio"])
def test_over_a_real_server_what_waits_starts_as_soon_as_the_limit_is_raised(backend: str) -> None:
    began, free = list[int](), list[anyio.Event]()

    async def begin(engine: Engine) -> None:
        free.append(anyio.Event())
        for n in range(3):
            await engine.submit(waits_for_a_place(began, free) if n == 0 else "busy", {"n": n})
        while not began:  # noqa: ASYNC110  # it is the server's event
            await anyio.sleep(0.01)
        await anyio.sleep(0.05)

    async def end(engine: Engine) -> None:
        with anyio.fail_after(30):
            while len(began) < 3:  # noqa: ASYNC110  # it is the server's event
                await anyio.sleep(0.01)
        free[0].set()

    with running(backend) as service, Client(f"http://127.0.0.1:{service.port}") as client:
        service.call(begin, service.engine)
        at_first = list(began)
        assert client.limits("busy", "work").concurrency == 1
        limits = client.set_limits("busy", "work", concurrency=3, breaker=Breaker(failures=2))
        service.call(end, service.engine)

    assert at_first == [0]
    assert limits.concurrency == 3
    assert limits.breaker is not None
    assert limits.breaker.failures == 2


async def test_the_client_says_policies_as_the_engine_takes_them() -> None:
    async with (
        served() as there,
        AsyncClient("http://service", transport=Transport(there.app)) as client,
    ):
        await client.define(COUNTING)
        changed = await client.set_limits("counting", "count", version="1", rate="9/s", cache=Cache(60, ("n",), 10))
        taken = await client.set_limits("counting", "count", cache=None)
        found = await client.limits("counting", "count")
        with pytest.raises(UnknownNode):
            await client.limits("counting", "coun")
        with pytest.raises(NotSendable, match=r"limits\.cache\.key"):
            await client.set_limits("counting", "count", cache=Cache(60, lambda state: state["n"]))
        with pytest.raises(ServiceError, match="cannot be added"):
            await client.set_limits("counting", "count", batch=Batch(size=3))

    assert changed.cache is not None
    assert (changed.cache.key, changed.cache.size, changed.rate) == (["n"], 10, "9/s")
    assert taken == found
    assert (found.cache, found.rate) == (None, "9/s")
