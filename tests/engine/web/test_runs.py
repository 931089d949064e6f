"""Runs over HTTP: submit, look, act."""

import datetime
from pathlib import Path
from typing import Any

import anyio
import anyio.lowlevel
import attrs
import pytest

from engine import Context, Engine, Graph
from engine.stores.memory import MemoryStore
from engine.web import create_app
from tests.engine.web.served import COUNTING, FAILING, GATED, Served, served
from tests.faulty_store import FaultyStore


async def test_a_run_is_accepted_with_its_place() -> None:
    async with served() as service:
        await service.ask("POST", "/api/graphs", GATED)
        answer = await service.ask("POST", "/api/graphs/gated/runs", {"state": {"n": 4}, "tags": {"a": "b"}})
        with anyio.fail_after(30):
            while (found := (await service.ask("GET", answer.headers["location"])).json())["status"] != "waiting":
                await anyio.lowlevel.checkpoint()

    assert answer.status_code == 202
    assert answer.headers["location"] == f"/api/runs/{answer.json()['run_id']}"
    assert (found["status"], found["tags"], found["state"]) == ("waiting", {"a": "b"}, {"n": 5})


async def test_a_run_that_ends_in_time_is_answered_with_its_result() -> None:
    async with served() as service:
        await service.ask("POST", "/api/graphs", COUNTING)
        answer = await service.ask("POST", "/api/graphs/counting/runs?wait=60", {"state": {"n": 4}})

    assert answer.status_code == 200
    run = answer.json()
    assert (run["status"], run["state"], run["visited"], run["error"]) == ("succeeded", {"n": 5}, ["count"], None)
    (entry,) = run["log"]
    assert (entry["node"], entry["status"], entry["keys"]) == ("count", "succeeded", ["n"])
    assert datetime.datetime.fromisoformat(entry["timestamp"]).timestamp() == pytest.approx(entry["start"], abs=1e-5)


async def test_a_run_that_does_not_end_in_time_goes_on() -> None:
    async with served() as service:
        await service.ask("POST", "/api/graphs", GATED)
        answer = await service.ask("POST", "/api/graphs/gated/runs?wait=0.01", {})

    assert (answer.status_code, answer.json()["status"]) == (202, "waiting")


async def test_without_wait_a_run_that_is_over_is_accepted_like_any_other() -> None:
    async with served() as service:
        await service.ask("POST", "/api/graphs", COUNTING)
        body, key = {"state": {"n": 4}}, {"Idempotency-Key": "k"}
        first = await service.ask("POST", "/api/graphs/counting/runs?wait=60", body, headers=key)
        again = await service.ask("POST", "/api/graphs/counting/runs", body, headers=key)
        waited = await service.ask("POST", "/api/graphs/counting/runs?wait=60", body, headers=key)
        cancelled = await service.ask("POST", f"/api/runs/{first.json()['run_id']}/cancel")
        inline = {"definition": COUNTING, **body}
        await service.ask("POST", "/api/runs?wait=60", inline, headers={"Idempotency-Key": "i"})
        inline_again = await service.ask("POST", "/api/runs", inline, headers={"Idempotency-Key": "i"})

    assert [first.status_code, again.status_code, waited.status_code] == [200, 202, 200]
    assert [cancelled.status_code, inline_again.status_code] == [202, 202]
    assert (again.json()["run_id"], again.json()["status"]) == (first.json()["run_id"], "succeeded")
    assert "state" not in again.json()


async def test_a_run_is_on_disk_when_it_is_accepted(tmp_path: Path) -> None:
    store = MemoryStore()
    async with served(store) as service:
        run_id = await service.submitted(GATED)
        stored = await store.read(run_id)

    assert stored is not None


async def test_no_body_is_an_empty_submission() -> None:
    async with served() as service:
        await service.ask("POST", "/api/graphs", COUNTING)
        answer = await service.ask("POST", "/api/graphs/counting/runs?wait=60")

    assert answer.json()["state"] == {"n": 1}


async def test_a_failed_run_tells_what_failed_and_can_go_on() -> None:
    async with served() as service:
        await service.ask("POST", "/api/graphs", FAILING)
        failed = await service.ask("POST", "/api/graphs/failing/runs?wait=60", {})
        run_id = failed.json()["run_id"]
        mended = await service.ask("POST", f"/api/runs/{run_id}/retry?wait=60", {"update": {"mended": True}})
        again = await service.ask("POST", f"/api/runs/{run_id}/retry")

    error = failed.json()["error"]
    assert (failed.json()["status"], error["type"]) == ("failed", "RunFailed")
    assert [(each["node"], each["type"]) for each in error["failures"]] == [("fail", "ValueError")]
    assert (mended.status_code, mended.json()["status"]) == (200, "succeeded")
    assert (again.status_code, again.json()["code"]) == (409, "run_ended")


async def test_a_definition_can_be_run_at_once_and_its_content_is_its_version() -> None:
    async with served() as service:
        one = await service.ask("POST", "/api/runs?wait=60", {"definition": COUNTING})
        two = await service.ask("POST", "/api/runs?wait=60", {"definition": {**COUNTING, "max_iterations": 7}})
        same = await service.ask("POST", "/api/runs?wait=60", {"definition": COUNTING})
        versions = (await service.ask("GET", "/api/graphs/counting")).json()["versions"]

    assert [answer.status_code for answer in (one, two, same)] == [200, 200, 200]
    assert one.json()["version"] == same.json()["version"] != two.json()["version"]
    assert len(versions) == 2


async def test_faults_of_a_definition_are_told_at_their_place_in_the_body() -> None:
    async with served() as service:
        answer = await service.ask("POST", "/api/runs", {"definition": {"name": "x", "nodes": [{"name": 3}]}})

    assert [error["pointer"] for error in answer.json()["errors"]] == [
        "/definition/entry_point",
        "/definition/nodes/0/name",
    ]


# --- idempotency, deadlines, limits ---------------------------------------------------------------------


@pytest.mark.parametrize("store", [None, "memory://"])
async def test_the_same_submission_under_one_key_is_one_run(store: str | None) -> None:
    async with served(store) as service:
        await service.ask("POST", "/api/graphs", GATED)
        key = {"Idempotency-Key": "order 17"}
        first = await service.ask("POST", "/api/graphs/gated/runs", {"state": {"n": 1}}, headers=key)
        again = await service.ask("POST", "/api/graphs/gated/runs", {"state": {"n": 1}}, headers=key)
        other = await service.ask("POST", "/api/graphs/gated/runs", {"state": {"n": 2}}, headers=key)

    assert first.json()["run_id"] == again.json()["run_id"]
    assert (other.status_code, other.json()["code"]) == (409, "idempotency_conflict")


async def test_a_deadline_may_be_a_header_but_must_not_differ_from_the_body() -> None:
    async with served() as service:
        await service.ask("POST", "/api/graphs", GATED)
        path, header = "/api/graphs/gated/runs?wait=60", {"X-Deadline-Seconds": "0.05"}
        late = await service.ask("POST", path, {}, headers=header)
        differs = await service.ask("POST", path, {"deadline": 7}, headers=header)

    assert (late.json()["status"], late.json()["error"]["failures"][0]["type"]) == ("failed", "RunTimeout")
    assert differs.json()["errors"][0]["pointer"] == "/deadline"


async def test_a_full_engine_accepts_nothing_and_says_when_to_come_back() -> None:
    async with served(max_runs=1, max_queued=1) as service:
        await service.submitted(GATED)
        await service.ask("POST", "/api/graphs/gated/runs", {})
        full = await service.ask("POST", "/api/graphs/gated/runs", {"run_id": "third"})
        absent = await service.ask("GET", "/api/runs/third")
        for run in await service.engine.runs():
            await run.cancel()

    assert (full.status_code, full.json()["code"], full.headers["retry-after"]) == (429, "engine_busy", "1")
    assert absent.status_code == 404


async def test_an_id_that_is_taken_is_a_conflict() -> None:
    async with served() as service:
        await service.ask("POST", "/api/graphs", GATED)
        await service.ask("POST", "/api/graphs/gated/runs", {"run_id": "mine"})
        answer = await service.ask("POST", "/api/graphs/gated/runs", {"run_id": "mine"})

    assert (answer.status_code, answer.json()["code"]) == (409, "run_id_taken")


async def test_a_store_that_is_away_is_told_without_its_address() -> None:
    store = FaultyStore(MemoryStore())
    async with served(store) as service:
        await service.ask("POST", "/api/graphs", GATED)
        store.fail("no route to secret-host")
        answer = await service.ask("POST", "/api/graphs/gated/runs", {})
        store.heal()
        back = await _until_accepted(service)

    assert (answer.status_code, answer.json()["code"]) == (503, "store_unavailable")
    assert "secret" not in answer.text
    assert back == 202


async def _until_accepted(service: Served) -> int:
    status = 503
    with anyio.fail_after(30):
        while status == 503:
            await anyio.sleep(0.01)  # the journal tries again by itself
            status = (await service.ask("POST", "/api/graphs/gated/runs", {})).status_code
    return status


async def test_a_service_that_drains_takes_nothing_and_waits_for_nothing() -> None:
    async with served() as service:
        run_id = await service.submitted(GATED)
        waited: list[int] = []

        async def wait() -> None:
            waited.append((await service.ask("GET", f"/api/runs/{run_id}?wait=300")).status_code)

        async with anyio.create_task_group() as group:
            group.start_soon(wait)
            await anyio.wait_all_tasks_blocked()
            await service.engine.drain(0)
        refused = await service.ask("POST", "/api/graphs/gated/runs", {})

    assert waited == [200]
    assert (refused.status_code, refused.json()["code"]) == (503, "engine_closed")


# --- looking --------------------------------------------------------------------------------------------


@pytest.mark.parametrize("store", [None, "memory://"])
async def test_runs_are_listed_by_what_is_asked_for_in_pages(store: str | None) -> None:
    async with served(store) as service:
        await service.ask("POST", "/api/graphs", GATED)
        await service.ask("POST", "/api/graphs", COUNTING)
        for number in range(3):
            body = {"run_id": f"r{number}", "tags": {"number": str(number), "all": "yes"}}
            await service.ask("POST", "/api/graphs/gated/runs", body)
        await service.ask("POST", "/api/graphs/counting/runs?wait=60", {"run_id": "done"})

        async def ids(query: str) -> tuple[list[str], str | None]:
            found = (await service.ask("GET", f"/api/runs?{query}")).json()
            return [run["run_id"] for run in found["runs"]], found["next"]

        assert await ids("limit=2") == (["r0", "r1"], "r1")
        assert await ids("limit=2&after=r1") == (["r2", "done"], None)
        assert await ids("status=succeeded") == (["done"], None)
        assert await ids("graph=gated&tag=all:yes&tag=number:1") == (["r1"], None)
        assert await ids("since=99999999999") == ([], None)


async def test_a_log_comes_in_pages() -> None:
    steps = [{"tasks": [{"name": "count"}] * 5}]
    async with served() as service:
        run = (await service.ask("POST", "/api/runs?wait=60", {"definition": {"name": "s", "steps": steps}})).json()
        first = (await service.ask("GET", f"/api/runs/{run['run_id']}/log?limit=3")).json()
        rest = (await service.ask("GET", f"/api/runs/{run['run_id']}/log?after={first['next']}")).json()

    assert [entry["node"] for entry in first["entries"]] == ["count", "count_2", "count_3"]
    assert ([entry["node"] for entry in rest["entries"]], rest["next"]) == (["count_4", "count_5"], None)


@attrs.frozen
class Order:
    """A state with what JSON has no word for."""

    due: datetime.date
    blob: bytes = b""
    seen: frozenset[int] = frozenset()


async def look(order: Order, ctx: Context) -> dict[str, Any]:
    assert isinstance(order.due, datetime.date)
    return {"blob": order.due.isoformat().encode()}


async def test_states_of_python_are_read_and_shown_as_json() -> None:
    graph = Graph("orders", state=Order).add_node("look", look).set_entry_point("look")
    async with served() as service:
        service.engine.register(graph)
        body = {"state": {"due": "2024-05-01", "seen": [3]}}
        run = (await service.ask("POST", "/api/graphs/orders/runs?wait=60", body)).json()
        wrong = await service.ask("POST", "/api/graphs/orders/runs", {"state": {"due": "soon", "sen": []}})

    assert run["state"] == {"due": "2024-05-01", "blob": "MjAyNC0wNS0wMQ==", "seen": [3]}
    assert wrong.status_code == 422
    assert wrong.json()["errors"][0]["pointer"] == "/state/due"


async def test_a_state_that_does_not_fit_is_told_with_every_pointer() -> None:
    definition = {
        **COUNTING,
        "state": {"n": {"type": "integer"}, "rows": {"type": "array", "items": {"type": "string"}}},
    }
    async with served() as service:
        await service.ask("POST", "/api/graphs", definition)
        answer = await service.ask("POST", "/api/graphs/counting/runs", {"state": {"n": "1", "rows": ["a", 2]}})
        unknown = await service.ask("POST", "/api/graphs/counting/runs", {"state": {"m": 1}})

    assert [error["pointer"] for error in answer.json()["errors"]] == ["/state/n", "/state/rows/1"]
    assert (unknown.json()["code"], unknown.json()["errors"][0]["pointer"]) == ("unknown_key", "/state/m")


async def test_a_run_whose_graph_is_gone_says_why_it_cannot_be_shown() -> None:
    store = MemoryStore()
    graph = Graph("gone").add_node("a", lambda state: None).add_wait("b", signal="go", into="x")
    async with Engine(store) as engine:
        run = await engine.submit(graph.add_edge("a", "b").set_entry_point("a"), {})

    async with served(store) as service:
        found = (await service.ask("GET", f"/api/runs/{run.id}")).json()
        listed = (await service.ask("GET", "/api/runs")).json()["runs"]
        log = await service.ask("GET", f"/api/runs/{run.id}/log")
        cancelled = await service.ask("POST", f"/api/runs/{run.id}/cancel")

    assert (found["status"], found["state"]) == ("waiting", None)
    assert "'gone'" in found["unavailable"]
    assert [each["run_id"] for each in listed] == [run.id]
    assert log.status_code == 404
    assert cancelled.json()["status"] == "cancelled"


# --- acting ---------------------------------------------------------------------------------------------


async def test_a_run_is_paused_signalled_and_resumed() -> None:
    async with served() as service:
        run_id = await service.submitted(GATED)
        await service.ask("POST", f"/api/runs/{run_id}/pause")
        paused = (await service.ask("GET", f"/api/runs/{run_id}")).json()["status"]
        signal = {"name": "go", "payload": [1], "id": "once"}
        sent = [await service.ask("POST", f"/api/runs/{run_id}/signal", signal) for _ in range(2)]
        unknown = await service.ask("POST", f"/api/runs/{run_id}/signal", {"name": "stop"})
        await service.ask("POST", f"/api/runs/{run_id}/resume")
        over = (await service.ask("GET", f"/api/runs/{run_id}?wait=60")).json()
        sent.append(await service.ask("POST", f"/api/runs/{run_id}/signal", signal))
        late = await service.ask("POST", f"/api/runs/{run_id}/signal", {"name": "go"})

    assert paused == "paused"
    assert [answer.status_code for answer in sent] == [202, 202, 202]
    assert (unknown.status_code, unknown.json()["code"]) == (404, "unknown_signal")
    assert over["state"] == {"n": 1, "gone": [1]}
    assert late.status_code == 409


async def test_a_run_is_cancelled_as_often_as_one_likes() -> None:
    async with served() as service:
        run_id = await service.submitted(GATED)
        first = await service.ask("POST", f"/api/runs/{run_id}/cancel?wait=60", {"reason": "enough"})
        again = await service.ask("POST", f"/api/runs/{run_id}/cancel")

    assert (first.json()["status"], first.json()["error"]["type"]) == ("cancelled", "RunCancelled")
    assert "enough" in first.json()["error"]["message"]
    assert again.status_code == 202


async def test_a_fork_starts_from_an_activation() -> None:
    async with served("memory://") as service:
        await service.ask("POST", "/api/graphs", FAILING)
        failed = (await service.ask("POST", "/api/graphs/failing/runs?wait=60", {})).json()
        body = {"at": "fail#1", "update": {"mended": True}}
        forked = await service.ask("POST", f"/api/runs/{failed['run_id']}/fork?wait=60", body)
        nowhere = await service.ask("POST", f"/api/runs/{failed['run_id']}/fork", {"at": "fail#9"})

    assert (forked.status_code, forked.json()["status"]) == (200, "succeeded")
    assert forked.json()["run_id"] != failed["run_id"]
    assert (nowhere.status_code, nowhere.json()["errors"][0]["pointer"]) == (422, "/at")


async def test_a_fork_without_a_store_is_refused_with_the_cure() -> None:
    async with served() as service:
        run_id = await service.submitted(GATED)
        answer = await service.ask("POST", f"/api/runs/{run_id}/fork", {"at": "count#1"})

    assert answer.status_code == 409
    assert "memory://" in answer.json()["detail"]


async def test_what_was_done_to_a_run_is_in_the_audit_log() -> None:
    async with served("memory://") as service:
        run_id = await service.submitted(GATED)
        await service.ask("POST", f"/api/runs/{run_id}/cancel")
        with anyio.fail_after(30):
            while len(lines := await service.engine.audits(run_id)) < 2:
                await anyio.lowlevel.checkpoint()

    assert [(line.action, line.graph) for _, line in lines] == [
        ("POST /api/graphs/{name}/runs", "gated"),
        ("POST /api/runs/{run_id}/cancel", "gated"),
    ]


def test_an_application_is_made_before_its_engine_is_entered() -> None:
    assert create_app(Engine()) is not None


async def test_a_header_that_is_sent_twice_is_refused() -> None:
    async with served() as service:
        await service.engine.define(COUNTING)
        headers = [("Idempotency-Key", "one"), ("Idempotency-Key", "two")]
        answer = await service.ask("POST", "/api/graphs/counting/runs", {}, headers=headers)

    assert answer.status_code == 422
    assert answer.json()["errors"] == [{"parameter": "Idempotency-Key", "message": "is given more than once"}]


async def test_space_around_a_header_says_nothing() -> None:
    async with served() as service:
        await service.engine.define(COUNTING)
        path = "/api/graphs/counting/runs?wait=60"
        answer = await service.ask("POST", path, {}, headers={"X-Deadline-Seconds": " 5 \t"})

    assert answer.status_code == 200


@pytest.mark.parametrize(("run_id", "status"), [(".", 422), ("..", 422), ("...", 200), (".a", 200), ("a.", 200)])
async def test_a_run_has_no_id_that_a_path_cannot_hold(run_id: str, status: int) -> None:
    async with served() as service:
        await service.engine.define(COUNTING)
        answer = await service.ask("POST", "/api/graphs/counting/runs?wait=60", {"run_id": run_id})

    assert answer.status_code == status
