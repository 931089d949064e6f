"""`workflow-engine runs … --server`: what it does at a real service."""

import json
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from engine.client import Client
from engine.web.keys import new_key
from tests.engine.cli.processes import run
from tests.engine.restarted import LOOP, NOTED, Process

GATED = {
    "name": "gated",
    "entry_point": "step",
    "nodes": [{"name": "step"}, {"name": "gate", "wait": {"signal": "go", "into": "gone"}}],
    "edges": [{"source": "step", "target": "gate"}],
}
KEY = new_key("me", ["admin"])


@pytest.fixture
def service(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Process]:
    there = tmp_path_factory.mktemp("service")
    (there / "keys.toml").write_text(KEY.entry())
    found = Process(there, "asyncio", "--keys", "keys.toml")
    found.start()
    yield found
    found.stop()


@pytest.fixture
def client(service: Process) -> Iterator[Client]:
    with Client(service.url, api_key=KEY.text) as client:
        for graph in (LOOP, NOTED, GATED):
            client.define(graph)
        yield client


def at(service: Process, folder: Path, *words: str, **variables: str) -> subprocess.CompletedProcess[str]:
    return run(folder, "runs", *words, "--server", service.url, WORKFLOW_API_KEY=KEY.text, **variables)


def data(ran: subprocess.CompletedProcess[str]) -> Any:
    assert ran.returncode in (0, 3), ran.stderr
    return json.loads(ran.stdout)


def test_runs_are_listed_shown_and_told(service: Process, client: Client, folder: Path) -> None:
    first = client.run("loop", {"until": 3}, tags={"a": "b"})
    second = client.submit("gated")

    listed = at(service, folder, "ls", "--json")
    live = at(service, folder, "ls", "--status", "unfinished", "--graph", "gated")
    shown = data(at(service, folder, "show", first.run_id))
    log = at(service, folder, "log", first.run_id, "--after", "1")
    watched = at(service, folder, "watch", first.run_id)

    assert [json.loads(line)["run_id"] for line in listed.stdout.splitlines()] == [first.run_id, second.id]
    assert [json.loads(line)["run_id"] for line in live.stdout.splitlines()] == [second.id]
    assert (shown["state"]["n"], shown["status"], shown["tags"]) == (3, "succeeded", {"a": "b"})
    assert [json.loads(line)["record"] for line in log.stdout.splitlines()] == [2, 3]
    assert len(watched.stdout.splitlines()) == 3


def test_a_run_is_watched_to_its_end(service: Process, client: Client, folder: Path) -> None:
    found = client.submit("loop", {"until": 100, "pause": 0.02})

    watched = at(service, folder, "watch", found.id)

    assert watched.returncode == 0, watched.stderr
    assert [json.loads(line)["activation"] for line in watched.stdout.splitlines()] == list(range(1, 101))


def test_a_run_is_paused_resumed_signalled_and_forked(service: Process, client: Client, folder: Path) -> None:
    found = client.submit("gated")

    paused = data(at(service, folder, "pause", found.id))
    waits = at(service, folder, "resume", found.id)
    done = data(at(service, folder, "signal", found.id, "go", '{"by": "me"}'))
    forked = at(service, folder, "fork", found.id, "--at", "step#1", "--update", '{"n": 5}')
    late = at(service, folder, "signal", found.id, "go")

    assert paused["status"] == "paused"
    assert (waits.returncode, data(waits)["status"]) == (3, "waiting")
    assert (done["status"], done["state"]) == ("succeeded", {"n": 1, "gone": {"by": "me"}})
    assert data(forked)["run_id"] != found.id
    assert (late.returncode, "is over (succeeded)" in late.stderr) == (2, True)


def test_a_run_is_cancelled_and_failures_are_told(service: Process, client: Client, folder: Path) -> None:
    found = client.submit("gated")
    failing = client.submit("noted", {})  # it has no name to note

    cancelled = data(at(service, folder, "cancel", found.id, "--reason", "enough"))
    again = at(service, folder, "cancel", found.id)
    retried = data(at(service, folder, "retry", failing.id, "--update", '{"name": "x"}'))

    assert cancelled["status"] == "cancelled"
    assert again.returncode == 2
    assert retried["status"] == "succeeded"


def test_what_is_wrong_is_told_without_the_key(service: Process, client: Client, folder: Path) -> None:
    missing = at(service, folder, "show", "nobody")
    keyless = run(folder, "runs", "ls", "--server", service.url)
    both = at(service, folder, "ls", "--store", "sqlite:///x.db")
    nowhere = run(folder, "runs", "ls", "--server", "service:80", "--key", KEY.text)
    as_variable = run(folder, "runs", "ls", WORKFLOW_SERVER=service.url, WORKFLOW_API_KEY=KEY.text)

    assert (missing.returncode, "no run has the id 'nobody'" in missing.stderr) == (2, True)
    assert (keyless.returncode, "needs an API key" in keyless.stderr) == (2, True)
    assert (both.returncode, "two places" in both.stderr) == (2, True)
    assert (nowhere.returncode, "address of a service" in nowhere.stderr) == (2, True)
    assert (as_variable.returncode, as_variable.stdout) == (0, "")
    assert KEY.text not in missing.stderr + keyless.stderr + both.stderr + nowhere.stderr


def test_the_audit_log_is_read_at_the_service_and_in_its_store(service: Process, client: Client, folder: Path) -> None:
    found = client.submit("gated")
    found.cancel("enough")
    words = ("audit", "--run", found.id, "--who", "me", "--since", "1h")

    there = run(folder, *words, "--server", service.url, WORKFLOW_API_KEY=KEY.text)
    some = run(folder, "audit", "--limit", "1", "--json", "--server", service.url, WORKFLOW_API_KEY=KEY.text)
    service.stop()
    stored = run(folder, *words, "--store", f"sqlite:///{service.folder}/runs.db")
    nobody = run(folder, "audit", "--who", "nobody", "--store", f"sqlite:///{service.folder}/runs.db")

    lines = [json.loads(line) for line in there.stdout.splitlines()]
    assert [line["action"].rpartition("/")[2] for line in lines] == ["cancel", "runs"]
    assert {line["who"] for line in lines} == {"me"}
    assert [json.loads(line) for line in stored.stdout.splitlines()] == lines
    assert json.loads(some.stdout)["number"] == lines[0]["number"]
    assert f"--after {lines[0]['number']}" in some.stderr
    assert (nobody.returncode, nobody.stdout) == (0, "")
