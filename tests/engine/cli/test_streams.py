"""Streams as whoever started the command left them: closed, full, or with nobody who reads."""

import json
import shlex
import subprocess
from pathlib import Path

import pytest

from tests.engine.cli.processes import PATIENCE, command, environment, run

pytestmark = pytest.mark.usefixtures("flows")

HELLO = "run flows.py:hello --store sqlite:///r.db --run-id r"
LOUD = "run flows.py:noisy --store sqlite:///r.db --run-id r"


def shell(folder: Path, words: str, streams: str) -> subprocess.CompletedProcess[str]:
    """Have bash start it with these redirections; `COMMAND` in them is the command."""
    line = shlex.join(command(*shlex.split(words)))
    line = streams.replace("COMMAND", line) if "COMMAND" in streams else f"{line} {streams}"
    return subprocess.run(
        ["bash", "-c", f"set -o pipefail; {line}"],
        cwd=folder,
        env=environment(),
        capture_output=True,
        text=True,
        timeout=PATIENCE,
        stdin=subprocess.DEVNULL,
    )


def status(folder: Path) -> str:
    told: str = json.loads(run(folder, "runs", "show", "r", "--store", "sqlite:///r.db").stdout)["status"]
    return told


# --- stderr


@pytest.mark.parametrize("words", [HELLO, f"{LOUD} --quiet"])
@pytest.mark.parametrize(
    "streams",
    # `sleep` is there so that nobody reads by the time that something is written.
    ["2>/dev/full >out", "2>&- >out", "( sleep 0.3; COMMAND 2>&1 1>out ) | true"],
)
def test_progress_that_cannot_be_shown_changes_nothing(words: str, streams: str, folder: Path) -> None:
    ended = shell(folder, words, streams)

    assert ended.returncode == 0, ended.stderr
    assert json.loads((folder / "out").read_text())["status"] == "succeeded"
    assert ended.stderr == ""


def test_an_exit_code_needs_no_stderr(folder: Path) -> None:
    assert shell(folder, "run none.json", "2>&-").returncode == 2
    assert shell(folder, "run none.json", "2>/dev/full").returncode == 2
    assert shell(folder, "rum", "2>/dev/full").returncode == 2


# --- stdout


@pytest.mark.parametrize(
    "words", ["check flows.py:hello", "draw flows.py:hello", "--help", "completion bash", HELLO, f"{HELLO} --quiet"]
)
def test_nobody_who_reads_is_told_as_other_programs_do(words: str, folder: Path) -> None:
    ended = shell(folder, words, "( sleep 0.3; COMMAND 2>err ) | true")

    assert ended.returncode == 141
    assert "workflow-engine" not in (folder / "err").read_text()


@pytest.mark.parametrize("words", ["check flows.py:hello", "draw flows.py:hello", "--help", "completion bash"])
def test_what_cannot_be_written_is_an_exit_code_of_its_own(words: str, folder: Path) -> None:
    ended = shell(folder, words, ">/dev/full")

    assert ended.returncode == 74
    assert "workflow-engine: stdout cannot be written: No space left on device\n" in ended.stderr


def test_a_result_that_cannot_be_written_can_be_seen_again(folder: Path) -> None:
    ended = shell(folder, f"{HELLO} --backend trio", ">/dev/full")

    assert ended.returncode == 74
    assert "run r: succeeded; to see it again:" in ended.stderr
    again = shlex.split(ended.stderr.strip().splitlines()[-1])[3:]
    assert json.loads(run(folder, *again).stdout)["state"] == {"greeting": "hello you"}

    lost = shell(folder, "run flows.py:hello --store memory:", ">/dev/full")
    assert lost.returncode == 74
    assert "in memory only, and is gone" in lost.stderr


def test_with_stdout_closed_nothing_is_begun(folder: Path) -> None:
    ended = shell(folder, HELLO, ">&-")

    assert ended.returncode == 74
    assert "stdout is closed, so nothing has been done" in ended.stderr
    assert not (folder / "r.db").exists()
    assert shell(folder, HELLO, ">&- 2>&-").returncode == 74


def test_a_drawing_that_cannot_be_written_is_told(folder: Path) -> None:
    ended = shell(folder, "draw flows.py:hello -o no/such/d.svg", "")

    assert ended.returncode == 74
    assert "no/such/d.svg cannot be written: No such file" in ended.stderr


# --- stdin


def test_a_closed_stdin_matters_only_to_who_reads_it(folder: Path) -> None:
    refused = shell(folder, f"{HELLO} --state -", "<&-")

    assert refused.returncode == 2
    assert "--state (stdin) cannot be read: stdin is closed" in refused.stderr
    assert shell(folder, LOUD, "<&-").returncode == 0
    assert status(folder) == "succeeded"
