"""`workflow-engine serve` and `keys`, as processes: served, refused, drained, with tools taken up anew."""

import json
import re
import signal
import subprocess
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from engine.cli.service import _secrets_in
from engine.web.keys import Keys
from tests.engine.cli.processes import command, environment, run
from tests.engine.web.services import eventually

TOOLS = """
from engine import tool

@tool
def draft(state: dict):
    return {"text": "old"}
"""
DEFINITION = {"name": "essay", "entry_point": "draft", "nodes": [{"name": "draft", "tool": "draft"}]}


@pytest.fixture
def essay(folder: Path) -> list[str]:
    """What to serve."""
    (folder / "graphs").mkdir()
    (folder / "graphs" / "essay.json").write_text(json.dumps(DEFINITION))
    (folder / "essay_tools.py").write_text(TOOLS)
    return ["--graphs", "graphs", "--tools", "essay_tools", "--port", "0"]


class Process:
    """A service and where it is."""

    def __init__(self, process: subprocess.Popen[str], log: Path) -> None:
        self.process = process
        self._log = log
        self.address = ""

    @property
    def log(self) -> str:
        return self._log.read_text()

    def ask(self, path: str, data: Any = None, key: str | None = None) -> tuple[int, Any]:
        headers = {"content-type": "application/json", **({} if key is None else {"x-api-key": key})}
        body = None if data is None else json.dumps(data).encode()
        try:
            with urllib.request.urlopen(
                urllib.request.Request(self.address + path, body, headers), timeout=120
            ) as said:
                return said.status, _read(said)
        except urllib.error.HTTPError as error:
            with error:
                return error.code, _read(error)

    def text(self) -> Any:
        return self.ask("/api/graphs/essay/runs?wait=60", {"state": {}})[1]["state"]["text"]


def _read(answer: Any) -> Any:
    text = answer.read()
    return json.loads(text) if "json" in answer.headers["content-type"] else text.decode()


@contextmanager
def service(folder: Path, *words: str, **variables: str) -> Iterator[Process]:
    log = folder / "log"
    with (
        log.open("w") as stderr,
        subprocess.Popen(
            command("serve", *words), cwd=folder, env={**environment(), **variables}, stderr=stderr, text=True
        ) as process,
    ):
        try:
            found = Process(process, log)
            serving = eventually(
                lambda: re.search(r"serving (http://\S+?:\d+)", found.log) or process.poll() is not None
            )
            assert serving is not True, found.log
            found.address = serving[1]
            yield found
        finally:
            process.kill()


@pytest.mark.parametrize("backend", ["asyncio", "trio"])
def test_a_folder_of_definitions_is_served_until_it_is_told_to_end(
    folder: Path, essay: list[str], backend: str
) -> None:
    with service(folder, *essay, "--backend", backend, "--log-format", "json") as served:
        status, ended = served.ask("/api/graphs/essay/runs?wait=60", {"state": {}})
        metrics = served.ask("/metrics")[1]
        well, ready = served.ask("/health"), served.ask("/ready")
        served.process.send_signal(signal.SIGTERM)
        code = served.process.wait(30)
        lines = [json.loads(line) for line in served.log.splitlines()]

    assert (status, ended["status"], ended["state"]["text"], code) == (200, "succeeded", "old", 0)
    assert well == ready == (200, {"status": "ok"})
    assert 'workflow_runs_total{graph="essay",status="succeeded"} 1.0' in metrics
    assert "process_resident_memory_bytes" in metrics
    assert {line["logger"] for line in lines} >= {"engine", "engine.web", "engine.audit"}


def test_with_keys_each_may_do_what_its_scopes_say(folder: Path, essay: list[str]) -> None:
    reader, admin = (
        run(folder, "keys", "new", scope, "--scope", scope, "--file", "keys.toml").stdout.strip()
        for scope in ("read", "admin")
    )
    assert (folder / "keys.toml").stat().st_mode & 0o077 == 0
    with service(folder, *essay, "--keys", "keys.toml", "--host", "0.0.0.0") as served:
        served.address = served.address.replace("0.0.0.0", "127.0.0.1")
        submitted = [served.ask("/api/graphs/essay/runs", {"state": {}}, key)[0] for key in (None, reader, admin)]
        looked = [served.ask("/api/graphs", key=key)[0] for key in (None, reader, admin)]
        log = served.log

    assert (submitted, looked) == ([401, 403, 202], [401, 200, 200])
    assert reader not in log + (folder / "keys.toml").read_text()


@pytest.mark.parametrize("backend", ["asyncio", "trio"])
def test_keys_are_read_again_at_a_hangup(folder: Path, essay: list[str], backend: str) -> None:
    def made(name: str) -> str:
        return run(folder, "keys", "new", name, "--scope", "read", "--file", "keys.toml").stdout.strip()

    old, file = made("old"), folder / "keys.toml"
    with service(folder, *essay, "--keys", "keys.toml", "--backend", backend) as served:

        def answers(*keys: str) -> list[int]:
            return [served.ask("/api/graphs", key=key)[0] for key in keys]

        def hang_up(said: str) -> None:
            served.process.send_signal(signal.SIGHUP)
            eventually(lambda: said in served.log)

        before = answers(old)
        first = file.read_text()
        new = made("new")
        file.write_text(file.read_text().removeprefix(first))
        unread = answers(old, new)
        hang_up("1 keys; new: new; gone: old")
        revoked = answers(old, new)
        file.write_text("[[keys]]\nname = 3\n")
        hang_up("cannot be used")
        kept = answers(old, new)
        file.unlink()
        hang_up("No such file")
        gone = answers(old, new)
        file.write_text(first)
        hang_up("new: old; gone: new")
        back = answers(old, new)
        served.process.terminate()
        code = served.process.wait(30)

    assert (before, unread, revoked, kept, gone, back) == (
        [200], [200, 401], [401, 200], [401, 200], [401, 200], [200, 401]
    )  # fmt: skip
    assert "ERROR engine.web: the file of keys cannot be used" in served.log
    assert (code, "Traceback" in served.log) == (0, False)


def test_one_key_may_come_from_the_environment(folder: Path, essay: list[str]) -> None:
    key = run(folder, "keys", "new", "x", "--scope", "admin").stderr.split("\n")[1]
    with service(folder, *essay, WORKFLOW_API_KEY=key) as served:
        assert [served.ask("/api/graphs", key=given)[0] for given in (None, key)] == [401, 200]
    wrong = run(folder, "serve", *essay, WORKFLOW_API_KEY="hunter2")

    assert (wrong.returncode, "hunter2" in wrong.stderr) == (2, False)


def test_new_runs_get_the_tools_that_have_changed(folder: Path, essay: list[str]) -> None:
    file = folder / "essay_tools.py"
    with service(folder, *essay, "--reload") as served:
        assert served.text() == "old"
        file.write_text(TOOLS.replace("old", "broken") + "\n(")
        eventually(lambda: "are not taken up" in served.log)
        assert served.text() == "old"
        time.sleep(0.01)
        file.write_text(TOOLS.replace("old", "newer"))
        eventually(lambda: "taken up anew" in served.log)
        assert served.text() == "newer"


def test_a_page_that_gave_itself_our_address_is_refused(folder: Path, essay: list[str]) -> None:
    with service(folder, *essay) as served:
        request = urllib.request.Request(f"{served.address}/api/graphs", headers={"host": "evil.example"})
        with pytest.raises(urllib.error.HTTPError, match="421"):
            urllib.request.urlopen(request, timeout=120)


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--host", "0.0.0.0"], "--insecure"),
        (["--keys", "none.toml"], "there is no file of keys"),
        (["--keys", "essay_tools.py"], "is no TOML"),
        (["--store", "sqlite:////proc/runs.db"], "/proc/runs.db"),
        (["--graphs", "nowhere.json"], "nowhere.json"),
        (["--port", "70000"], "must be a port"),
        (["--grace", "-1"], "must be seconds"),
        (["--cors", "nonsense"], "is no origin"),
    ],
)
def test_what_cannot_be_served_is_told(folder: Path, essay: list[str], words: list[str], said: str) -> None:
    done = run(folder, "serve", *essay, *words)

    assert (done.returncode, done.stdout) == (2, "")
    assert said in done.stderr
    assert "Traceback" not in done.stderr


def test_a_key_is_shown_once_and_its_entry_is_good(folder: Path) -> None:
    made = run(folder, "keys", "new", "ci", "--scope", "read", "--scope", "submit", "--days", "1")
    (folder / "keys.toml").write_text(made.stdout)
    listed = json.loads(run(folder, "keys", "ls", "keys.toml").stdout)
    found = Keys.parse(made.stdout).principal(made.stderr.split("\n")[1])

    assert found is not None
    assert (listed["name"], listed["scopes"]) == ("ci", ["read", "submit"])
    assert 86_000 < listed["expires"] - time.time() < 86_401
    assert run(folder, "keys", "new", "a b", "--scope", "read").returncode == 2
    assert run(folder, "keys", "new", "a", "--scope", "write").returncode == 2


def test_passwords_in_addresses_are_known_as_secrets() -> None:
    assert set(_secrets_in("postgresql://u:p%40ss@h/db?sslpassword=x%20y")) == {"p%40ss", "p@ss", "x y"}
    assert list(_secrets_in("sqlite:///runs.db")) == []
    assert list(_secrets_in("http://[")) == []


def test_no_more_ended_runs_are_kept_in_memory_than_asked_for(folder: Path, essay: list[str]) -> None:
    with service(folder, *essay, "--store", "memory:", "--keep-runs", "2") as served:
        for _ in range(5):
            assert served.text() == "old"
        listed = served.ask("/api/runs")[1]["runs"]

    assert len(listed) == 2


def test_a_key_is_good_for_a_hundred_years_at_most(folder: Path) -> None:
    for days in ("1e300", "inf", "nan", "0"):
        made = run(folder, "keys", "new", "x", "--scope", "read", "--days", days)
        assert (made.returncode, "internal" in made.stderr) == (2, False), (days, made.stderr)
