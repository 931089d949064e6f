"""Whatever a definition says, a terminal is told nothing by it."""

import io
import json
import logging
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

from engine import Graph
from engine.cli import main
from engine.cli.faults import problem_lines
from engine.cli.progress import Lines, Progress
from engine.cli.safe import safe_line, safe_text
from engine.cli.terminal import Terminal, drawn
from engine.errors import GraphProblem
from engine.history import Event

EVIL = "a\x1b]0;owned\x07\x9b2J\u202eb\nc\rd"
BAD = set("\x1b\x07\x9b\u202e\r")


def test_what_would_do_something_is_shown_instead() -> None:
    assert safe_text("a\x1b[2J\nb") == "a\\u001b[2J\nb"
    assert safe_line(EVIL) == r"a\u001b]0;owned\u0007\u009b2J\u202eb\nc\u000dd"
    assert safe_line("naïve 漢字 👩‍👩‍👧 \\ 'x'") == "naïve 漢字 👩‍👩‍👧 \\ 'x'"


def test_every_event_is_one_line_that_does_nothing() -> None:
    event = Event(1, "node_failed", 1.0, EVIL, 1, {"error": EVIL})

    (line,) = Lines().of(event)

    assert not BAD & set(line)
    assert "\n" not in line


def test_a_drawing_passes_nothing_on() -> None:
    graph = Graph("g")
    graph.add_node("a", lambda state: state).set_entry_point("a")
    progress = Progress(graph.compile())
    progress.apply(Event(1, "node_failed", 1.0, EVIL, 1, {"error": EVIL}))
    progress.apply(Event(2, "node_progress", 1.0, "a", 1, {"fraction": 0.5, "message": EVIL}))
    out = io.StringIO()

    Console(file=out, width=200, force_terminal=False).print(drawn(progress, EVIL, 2.0, 10))

    assert not BAD & set(out.getvalue())
    assert r"owned\u0007" in out.getvalue()


def test_a_problem_is_told_on_a_line() -> None:
    lines = list(problem_lines(GraphProblem("unknown_key", f"/{EVIL}", EVIL, EVIL)))

    assert len(lines) == 2
    assert not (BAD | {"\n"}) & set("".join(lines))


def test_what_is_said_and_what_is_logged_is_safe(folder: Path, capfd: pytest.CaptureFixture[str]) -> None:
    definition = {"format": 1, "name": EVIL, "nodes": [{"name": EVIL, EVIL: 1}]}
    (folder / "x.json").write_text(json.dumps(definition))

    checked = main(["check", "x.json"]), *capfd.readouterr()
    ran = main(["run", "x.json", "--store", "memory:"]), *capfd.readouterr()
    Terminal().say(EVIL)
    logging.getLogger("engine").error(EVIL)
    said = capfd.readouterr().err

    assert (checked[0], ran[0]) == (2, 2)
    assert not BAD & set("".join([*checked[1:], *ran[1:], said]))
    assert "owned" in checked[1]


def test_a_result_means_the_same_though_nothing_in_it_does_anything(capfd: pytest.CaptureFixture[str]) -> None:
    value: Any = {EVIL: [EVIL, "ü"]}

    Terminal().result(value)
    out = capfd.readouterr().out

    assert not BAD & set(out)
    assert json.loads(out) == value


def test_text_on_a_terminal_is_safe(capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Terminal, "is_read_by_people", True)
    terminal = Terminal()

    terminal.text(EVIL)
    terminal.data(EVIL.encode())
    terminal.table(["title"], [[EVIL]])

    assert not BAD & set(capfd.readouterr().out)
