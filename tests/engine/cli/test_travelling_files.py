"""Files on the command line: what a run is given, what it made, and room made where they are kept."""

import json
from pathlib import Path

import pytest

from engine import File
from engine.cli.results import saved
from tests.engine.cli.test_commands import Call

GRAPH = """
from engine import File, Graph

graph = Graph("report")

@graph.node(accepts={"table": "text/csv", "notes": "text/plain"}, produces=["text/html", "text/csv"])
def report(state, table: File, notes: list[File]):
    pages = [File.from_bytes(table.blocking.text() + str(len(notes)), name) for name in ("r.html", "R.html", "x.csv")]
    return pages, {"n": 1}

graph.set_entry_point("report")

fails = Graph("fails").add_node("fail", lambda state, table=None: 1 / 0, produces="text/csv").set_entry_point("fail")
"""


@pytest.fixture
def call(capfd: pytest.CaptureFixture[str], folder: Path) -> Call:
    (folder / "report.py").write_text(GRAPH)
    (folder / "orders.csv").write_text("a,b\n")
    (folder / "a.txt").write_text("a")
    return Call(capfd)


WORDS = ("run", "report.py:graph", "--file", "table=orders.csv", "--file", "notes=a.txt", "--file", "notes=a.txt")


def test_files_go_in_and_come_out(call: Call, folder: Path) -> None:
    answer = call(*WORDS, "--out", "made/here")

    assert answer.code == 0, answer.err
    files = answer.json["files"]
    assert [(file["name"], Path(file["path"]).name) for file in files] == [
        ("r.html", "r.html"),
        ("R.html", "R-2.html"),
        ("x.csv", "x.csv"),
    ]
    assert sorted(path.name for path in (folder / "made/here").iterdir()) == ["R-2.html", "r.html", "x.csv"]
    assert (folder / "made/here/r.html").read_text() == "a,b\n2"
    assert answer.json["state"] == {"n": 1}


def test_what_was_there_is_replaced_and_a_link_is_not_followed(call: Call, folder: Path) -> None:
    (folder / "out").mkdir()
    (folder / "out/x.csv").write_text("old, and longer than what is new")
    (folder / "precious").write_text("precious")
    (folder / "out/r.html").symlink_to(folder / "precious")
    answer = call(*WORDS, "--out", "out", "--store", "memory:")

    assert answer.code == 0, answer.err
    assert (folder / "out/x.csv").read_text() == (folder / "out/r.html").read_text() == "a,b\n2"
    assert (folder / "precious").read_text() == "precious"


def test_without_a_folder_they_are_told(call: Call, folder: Path) -> None:
    answer = call(*WORDS)

    assert answer.json["files"][0]["digest"] == File.from_bytes("a,b\n2").digest
    assert "path" not in answer.json["files"][0]
    assert (folder / "runs.db.files").is_dir()


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ("table", "write --file table=orders.csv"),
        ("=orders.csv", "write --file table=orders.csv"),
        ("table=", "write --file table=orders.csv"),
        ("table=none.csv", "none.csv is no file that can be read"),
        ("table=.", ". is a folder, not a file"),
        ("table=/dev/zero", "is no file that can be read"),
    ],
)
def test_what_is_no_file_is_refused_before_anything_has_begun(call: Call, folder: Path, given: str, said: str) -> None:
    answer = call("run", "report.py:graph", "--file", given)

    assert answer.code == 2
    assert said in answer.err
    assert not (folder / "runs.db").exists()


def test_a_folder_that_cannot_be_written_is_told(call: Call, folder: Path) -> None:
    (folder / "taken").write_text("a file")
    answer = call(*WORDS, "--out", "taken")

    assert answer.code == 74
    assert "--out taken cannot be written" in answer.err
    assert "to see it again" in answer.err


def test_files_for_a_graph_that_takes_none_are_refused(call: Call, folder: Path) -> None:
    source = "from engine import Graph\ng = Graph('g').add_node('n', lambda s: None).set_entry_point('n')\n"
    (folder / "plain.py").write_text(source)
    answer = call("run", "plain.py", "--file", "table=orders.csv")

    assert answer.code == 2
    assert "no node of graph 'g' takes files" in answer.err


def test_files_are_kept_where_they_are_said_to_be(call: Call, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert call(*WORDS, "--files", "elsewhere").code == 0
    assert (folder / "elsewhere").is_dir()
    assert not (folder / "runs.db.files").exists()
    monkeypatch.setenv("WORKFLOW_FILES", "ftp://host")
    answer = call(*WORDS)
    assert answer.code == 2
    assert "no place for files has the address" in answer.err


def test_compacting_removes_what_no_run_names(call: Call, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("engine.files.files.GRACE", -60.0)
    assert call(*WORDS).code == 0
    kept = call("store", "compact", "--keep-count", "1").json
    assert (kept["runs"], kept["files"]) == (0, 0)
    removed = call("store", "compact", "--keep-count", "0").json
    assert (removed["runs"], removed["files"]) == (1, 3)
    assert not [path for path in (folder / "runs.db.files").rglob("*") if path.is_file()]


def test_a_run_that_goes_on_has_its_files(call: Call, folder: Path) -> None:
    source = (folder / "report.py").read_text()
    waits = source.replace('graph.set_entry_point("report")', WAITS)
    (folder / "waits.py").write_text(waits)
    assert call("run", "waits.py:graph", "--file", "table=orders.csv", "--run-id", "r").code == 3
    (folder / "orders.csv").unlink()
    answer = call("runs", "signal", "r", "go", "--graphs", "waits.py:graph")

    assert answer.code == 0, answer.err
    assert json.loads(answer.out)["files"][0]["name"] == "r.html"


WAITS = """
graph.add_wait("wait", signal="go", into="word").add_edge("wait", "report").set_entry_point("wait")
"""


def test_names_that_are_taken_get_a_number_and_stay_names(folder: Path) -> None:
    names = ["a.csv", "A.csv", "a-2.csv", ".b", ".b", "é" * 125 + ".csvs", "é" * 125 + ".csvs", "ü" * 127, "ü" * 127]
    told = saved([File.from_bytes(str(number), name) for number, name in enumerate(names)], str(folder / "out"))

    paths = [Path(one["path"]) for one in told]
    assert len(set(paths)) == len(names)
    assert [path.read_text() for path in paths] == [str(number) for number in range(len(names))]
    assert [path.name for path in paths[:5]] == ["a.csv", "A-2.csv", "a-2-2.csv", ".b", ".b-2"]
    assert all(len(path.name.encode()) <= 255 for path in paths)


def test_an_empty_folder_name_is_refused_before_anything_has_begun(call: Call, folder: Path) -> None:
    answer = call(*WORDS, "--out", "")

    assert answer.code == 2
    assert "--out names no folder" in answer.err
    assert not list(folder.glob("runs.db*"))
