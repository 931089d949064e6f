"""`serve --shared`: two services on one PostgreSQL store, with a balancer in front of them in mind."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx2
import pytest

from tests.engine.restarted import LOOP, Process
from tests.engine.web.services import eventually

GATED = {
    "name": "gated",
    "entry_point": "gate",
    "nodes": [{"name": "gate", "wait": {"signal": "go", "into": "gone"}}, {"name": "step"}],
    "edges": [{"source": "gate", "target": "step"}],
}
LEASE = 3.0


@pytest.fixture
def both(tmp_path: Path, postgres_url: str) -> Iterator[list[Process]]:
    made: list[Process] = []
    try:
        for backend in ("asyncio", "trio"):
            folder = tmp_path / backend
            folder.mkdir()
            process = Process(folder, backend, "--store", postgres_url, "--shared", "--lease", str(LEASE))
            made.append(process)
            process.start()
        yield made
    finally:
        for process in made:
            process.stop()


def asked(process: Process, method: str, path: str, body: Any = None, status: int | None = None) -> Any:
    answer = httpx2.request(method, process.url + path, json=body, timeout=90)
    assert status in (None, answer.status_code), answer.text
    return answer.json()


def events_of(text: str) -> list[dict[str, Any]]:
    return [json.loads(line.removeprefix("data: ")) for line in text.splitlines() if line.startswith("data: ")]


def without_times(events: list[dict[str, Any]]) -> list[dict[str, Any]]:
    # When a run began is known to the engine that began it; others have when it was submitted.
    return [{**event, "time": None} for event in events]


def test_a_run_that_is_submitted_at_one_service_is_watched_and_acted_on_at_the_other(both: list[Process]) -> None:
    one, two = both
    asked(one, "POST", "/api/graphs", GATED, 201)
    eventually(lambda: httpx2.get(f"{two.url}/api/graphs/gated").status_code == 200)
    run_id = asked(one, "POST", "/api/graphs/gated/runs", {"state": {}}, 202)["run_id"]
    eventually(lambda: asked(two, "GET", f"/api/runs/{run_id}")["status"] == "waiting")

    assert [run["run_id"] for run in asked(two, "GET", "/api/runs?status=waiting")["runs"]] == [run_id]
    with httpx2.stream("GET", f"{two.url}/api/runs/{run_id}/events", timeout=90) as stream:
        asked(two, "POST", f"/api/runs/{run_id}/pause", status=202)
        eventually(lambda: asked(one, "GET", f"/api/runs/{run_id}")["status"] == "paused")
        asked(two, "POST", f"/api/runs/{run_id}/resume", status=202)
        asked(two, "POST", f"/api/runs/{run_id}/signal", {"name": "go", "payload": 1}, 202)
        there = events_of(stream.read().decode())
    here = events_of(httpx2.get(f"{one.url}/api/runs/{run_id}/events?after=0", timeout=90).text)

    found = asked(two, "GET", f"/api/runs/{run_id}?wait=60")
    assert (found["status"], found["state"]) == ("succeeded", {"gone": 1, "n": 1})
    assert [event.get("type") for event in there][-2:] == ["run_succeeded", None]
    assert without_times(there[:-1]) == without_times(here[:-1])
    # Who comes back to the other service after a cut goes on where it was.
    after = there[2]["seq"]
    rest = httpx2.get(f"{one.url}/api/runs/{run_id}/events", headers={"Last-Event-ID": str(after)}, timeout=90)
    assert without_times(events_of(rest.text)[:-1]) == without_times(there[3:-1])


def test_a_run_goes_on_at_the_other_service_when_the_first_is_killed(both: list[Process]) -> None:
    one, two = both
    asked(one, "POST", "/api/graphs", LOOP, 201)
    run = asked(one, "POST", "/api/graphs/loop/runs", {"state": {"until": 60, "pause": 0.05}}, 202)["run_id"]
    eventually(lambda: asked(two, "GET", f"/api/runs/{run}")["state"].get("n", 0) > 5)
    killed = time.monotonic()
    one.stop()
    found = asked(two, "GET", f"/api/runs/{run}?wait=60")

    assert (found["status"], found["state"]["n"]) == ("succeeded", 60), found
    assert time.monotonic() - killed < 20
    assert asked(two, "GET", "/ready", status=200) == {"status": "ok"}
