"""`workflow-engine store`: verify, export, migrate, compact."""

import json
import sqlite3
from pathlib import Path
from typing import Any

import pytest

from engine import Engine, Graph
from engine.cli import main


@pytest.fixture
def url(tmp_path: Path) -> str:
    """A store with two ended runs and one that waits."""

    def big(state: dict[str, Any]) -> dict[str, Any]:
        return {"text": "x" * 20_000}

    graph = Graph("g").add_node("big", big).set_entry_point("big")
    url = f"sqlite:///{tmp_path}/runs.db"
    engine = Engine(url)
    for number in range(2):
        engine.run_sync(graph, {"n": number}, run_id=f"run {number}", tags={"n": str(number)})
    return url


def test_a_store_that_is_well_has_no_faults(url: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["store", "verify", url]) == 0
    assert capsys.readouterr().out == ""


def test_damage_is_told_with_its_place(url: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with sqlite3.connect(tmp_path / "runs.db") as file:
        file.execute("DELETE FROM blobs")

    assert main(["store", "verify", url]) == 1
    assert "blob" in capsys.readouterr().out


def test_everything_is_exported_as_lines_of_json(url: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["store", "export", url]) == 0

    lines = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    runs = [line for line in lines if "run" in line]
    assert [line["run"]["run_id"] for line in runs] == ["run 0", "run 1"]
    assert [line["admission"]["values"] for line in runs] == [{"n": 0}, {"n": 1}]
    assert [record["k"] for _, record in runs[0]["records"]] == ["settled", "ended"]
    assert len([line for line in lines if "blob" in line]) == 1, "what both hold is there once"
    assert [line["definition"]["graph"] for line in lines if "definition" in line] == ["g"]


def test_ended_runs_are_removed_but_the_newest(url: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["store", "compact", url, "--keep-count", "1"]) == 0
    assert json.loads(capsys.readouterr().out)["runs"] == 1
    main(["store", "export", url])
    assert '"run 1"' in capsys.readouterr().out


def test_migrating_tells_what_the_store_promises(url: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["store", "migrate", url]) == 0
    assert json.loads(capsys.readouterr().out)["durable"] is True


@pytest.mark.parametrize(
    ("url", "said"),
    [
        ("nonsense", "must be an address"),
        ("nonsense://x", "no store has the address"),
        ("sqlite:////nowhere/at/all/runs.db", "there is no store"),
    ],
)
def test_a_store_that_cannot_be_used_is_an_error(url: str, said: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["store", "verify", url]) == 2
    assert said in capsys.readouterr().err


def test_what_is_to_be_kept_must_be_said(url: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["store", "compact", url]) == 2
    assert "--keep-days" in capsys.readouterr().err
