"""The command as it is used: in a pipe, on a terminal, interrupted, killed, started again."""

import json
import re
import signal
import sqlite3
import subprocess
import time
from pathlib import Path
from typing import Any

import pytest

from tests.engine.cli.processes import PATIENCE, OnTerminal, command, environment, run, started

pytestmark = pytest.mark.usefixtures("flows")

BACKENDS = pytest.mark.parametrize("backend", ["asyncio", "trio"])


def notes(folder: Path) -> list[str]:
    file = folder / "notes"
    return file.read_text().splitlines() if file.exists() else []


def until(condition: Any) -> None:
    end = time.monotonic() + PATIENCE
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.01)


def resume_command(text: str) -> list[str]:
    """The command that was printed, as words for this source."""
    (found,) = re.findall(r"^  python -m engine (runs .*)$", text, re.MULTILINE)
    return str(found).split()


# --- in a pipe


@BACKENDS
def test_in_a_pipe_stdout_is_the_result_and_nothing_else(backend: str, folder: Path) -> None:
    ended = run(folder, "run", "flows.py:noisy", "--backend", backend, "--state", "-", input='{"a": 1}')

    assert ended.returncode == 0
    assert json.loads(ended.stdout)["state"] == {"a": 1, "quiet": False}
    for printed in ("a node prints", "a library writes", "a program writes", "write#1 succeeded"):
        assert printed in ended.stderr
    assert "\x1b" not in ended.stdout + ended.stderr


@pytest.mark.parametrize(
    ("words", "code"),
    [(["flows.py:broken", "--store", "memory:"], 1), (["none.json"], 2), (["flows.py:everything"], 3)],
)
def test_the_exit_code_tells_how_it_went(words: list[str], code: int, folder: Path) -> None:
    assert run(folder, "run", *words, "--quiet").returncode == code


def test_who_reads_half_of_it_is_no_fault(folder: Path) -> None:
    line = " ".join(command("draw", "flows.py:everything", "--format", "svg"))

    ended = subprocess.run(
        ["bash", "-c", f"{line} | head -c 1"], cwd=folder, env=environment(), capture_output=True, timeout=PATIENCE
    )

    assert ended.stderr == b""


# --- on a terminal


ORDER = ("run", "order.json", "--tools", "flows", "--signal", 'approved="yes"', "--store", "memory:")
ORDERED = {"quality": 0.75, "approval": "yes", "log": ["stock", "raised", "raised", "raised", "reported"]}


@BACKENDS
def test_a_definition_runs_on_a_terminal_with_a_line_for_every_node_that_lives(backend: str, folder: Path) -> None:
    with OnTerminal(folder, *ORDER, "--backend", backend, stdout=folder / "out") as terminal:
        code = terminal.wait()

    assert code == 0, terminal.text
    assert json.loads((folder / "out").read_text())["state"].items() >= ORDERED.items()
    assert "\x1b[1A" in terminal.seen, "it is drawn over what stood there"
    assert re.search(r"● prices +running +[\d.]+ s +━[━╸╺]+ \d+/40", terminal.text), terminal.text
    assert re.search(r"● stock +running +[\d.]+ s +━[━╸╺]+ half of it", terminal.text)
    last = terminal.text.rsplit("stock_order ", 1)[1]
    for line in (r"✓ prices +succeeded .*40/40", r"✓ improve +succeeded +[\d.]+ s +x3", r"✓ approve +succeeded"):
        assert re.search(line, last), last
    assert re.search(r"\n +refuse *\n", last), "what never ran has its line, too"
    assert terminal.seen.rstrip().endswith("\x1b[?25h"), "the cursor is back"


def test_the_same_definition_runs_in_a_pipe(folder: Path) -> None:
    ended = run(folder, *ORDER, "--state", '{"count": 3}')

    assert json.loads(ended.stdout)["state"].items() >= {**ORDERED, "prices": [0, 3, 6]}.items()
    assert "improve#3 succeeded" in ended.stderr


def test_on_a_terminal_without_progress_there_are_lines(folder: Path) -> None:
    with OnTerminal(folder, "run", "flows.py:hello", "--no-progress", "--store", "memory:") as terminal:
        assert terminal.wait() == 0

    assert "greet#1 succeeded" in terminal.text
    assert "\x1b" not in terminal.seen
    assert '  "status": "succeeded"' in terminal.text, "laid out for people"


def test_runs_and_tools_are_tables_on_a_terminal(folder: Path) -> None:
    run(folder, "run", "flows.py:hello", "--run-id", "h", "--tag", "a=b")

    with OnTerminal(folder, "runs", "ls") as terminal:
        assert terminal.wait() == 0
    with OnTerminal(folder, "tools", "--tools", "flows") as tools:
        assert tools.wait() == 0

    assert re.search(r"run +graph +status +submitted +took +tags *\n *h +hello 1 +succeeded .* a=b", terminal.text)
    assert re.search(r"shout@1 +text: string, times: integer=1 +Says it louder", tools.text)


# --- interrupted


@BACKENDS
def test_ctrl_c_leaves_the_run_in_the_store_and_the_command_that_is_told_resumes_it(backend: str, folder: Path) -> None:
    with OnTerminal(folder, "run", "flows.py:steps", "--backend", backend, stdout=folder / "out") as terminal:
        terminal.wait_for("● two")
        terminal.press_ctrl_c()
        code = terminal.wait()

    assert code == 130, terminal.text
    assert "Traceback" not in terminal.text
    left = json.loads((folder / "out").read_text())
    assert (left["status"], left["state"]) == ("unfinished", {"one": True})
    (folder / "go").touch()

    resumed = run(folder, *resume_command(terminal.text))

    assert resumed.returncode == 0, resumed.stderr
    assert json.loads(resumed.stdout)["run_id"] == left["run_id"]
    assert json.loads(resumed.stdout)["state"] == {"one": True, "two": True, "three": True}
    assert notes(folder).count("begun one") == 1
    assert notes(folder).count("begun two") == 2


def test_ctrl_c_cancels_a_run_in_memory(folder: Path) -> None:
    with OnTerminal(folder, "run", "flows.py:steps", "--store", "memory:", stdout=folder / "out") as terminal:
        terminal.wait_for("● two")
        terminal.press_ctrl_c()
        code = terminal.wait()

    assert (code, json.loads((folder / "out").read_text())["status"]) == (130, "cancelled")


@BACKENDS
def test_the_second_ctrl_c_ends_it_even_if_a_node_blocks_everything(backend: str, folder: Path) -> None:
    with OnTerminal(folder, "run", "flows.py:stuck", "--run-id", "s", "--backend", backend) as terminal:
        until(lambda: notes(folder))
        terminal.press_ctrl_c()
        until(lambda: not terminal.is_pending(signal.SIGINT))
        time.sleep(0.5)  # nothing tells that Python has heard it, too
        terminal.press_ctrl_c()
        code = terminal.wait()

    assert code == 130
    assert "left at once" in terminal.text
    assert json.loads(run(folder, "runs", "ls").stdout)["status"] == "unfinished"


def test_being_asked_to_end_is_an_interruption_too(folder: Path) -> None:
    with started(folder, "run", "flows.py:steps") as process:
        until(lambda: "begun two" in notes(folder))
        process.send_signal(signal.SIGTERM)
        _, said = process.communicate(timeout=PATIENCE)

    assert process.returncode == 128 + signal.SIGTERM
    assert resume_command(said)[:2] == ["runs", "resume"]


@BACKENDS
def test_a_run_that_was_killed_goes_on_where_it_was(backend: str, folder: Path) -> None:
    with started(folder, "run", "flows.py:steps", "--backend", backend) as process:
        until(lambda: "begun two" in notes(folder))
        process.kill()
    (folder / "go").touch()
    with sqlite3.connect(folder / "runs.db") as file:
        assert file.execute("PRAGMA integrity_check").fetchone() == ("ok",)

    (row,) = run(folder, "runs", "ls", "--status", "unfinished").stdout.splitlines()
    found = json.loads(row)["run_id"]
    resumed = run(folder, "runs", "resume", found, "--backend", backend, WORKFLOW_GRAPHS="flows.py:steps")

    assert resumed.returncode == 0, resumed.stderr
    assert json.loads(resumed.stdout)["state"] == {"one": True, "two": True, "three": True}
    assert notes(folder).count("done one") == 1


def test_while_a_run_goes_on_its_store_is_in_use(folder: Path) -> None:
    with started(folder, "run", "flows.py:steps", "--quiet") as process:
        until(lambda: "begun two" in notes(folder))
        refused = run(folder, "runs", "ls")
        (folder / "go").touch()
        process.communicate(timeout=PATIENCE)

    assert refused.returncode == 2
    assert f"is in use by process {process.pid}" in refused.stderr
    assert process.returncode == 0


def test_the_run_of_another_process_is_followed_on_a_store_that_several_can_read(
    folder: Path, postgres_url: str
) -> None:
    words = ("flows.py:steps", "--run-id", "r", "--store", postgres_url)
    with started(folder, "run", *words) as process:
        until(lambda: "begun two" in notes(folder))
        with started(folder, "runs", "watch", "r", "--store", postgres_url) as following:
            assert following.stdout is not None
            first = json.loads(following.stdout.readline())
            (folder / "go").touch()
            rest, _ = following.communicate(timeout=PATIENCE)
        process.communicate(timeout=PATIENCE)

    assert (first["node"], [json.loads(line)["node"] for line in rest.splitlines()]) == ("one", ["two", "three"])
    assert following.returncode == 0


def test_nothing_of_the_command_line_is_loaded_with_the_engine() -> None:
    ended = subprocess.run(
        [*command()[:1], "-c", "import engine, sys; print(sorted({'click', 'rich'} & sys.modules.keys()))"],
        env=environment(),
        capture_output=True,
        text=True,
    )

    assert ended.stdout == "[]\n"
