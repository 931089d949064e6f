"""The data quality job: one result whatever runs it and however often it is killed, and honest figures."""

from __future__ import annotations

import io
import json
import re
import signal
import subprocess
import sys
import xml.etree.ElementTree as ElementTree
from functools import cache
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import polars as pl
import pytest

from engine import Engine, Event, Graph
from examples.data_quality import checks, profiling, rules, scoring
from examples.data_quality.__main__ import main
from examples.data_quality.customers import customers
from examples.data_quality.graph import DEFINITION, DETECTORS, data_quality
from examples.data_quality.page import page
from examples.data_quality.progress import Progress
from examples.data_quality.tables import ROW, Folder
from examples.data_quality.tools import Job, job, read_file

ROOT = Path(__file__).parent.parent.parent


def a_job(folder: Path, rows: int = 300, **source: Any) -> Job:
    return job({"rows": rows, "seed": 7, **source}, folder / "work", folder, target=0.98, limit=5)


@cache
def report(rows: int = 300) -> dict[str, Any]:
    with TemporaryDirectory() as folder:
        found: dict[str, Any] = Engine().run_sync(data_quality(), a_job(Path(folder), rows)).state["report"]
        return found


def command(
    folder: Path, *arguments: str, code: int = 0, program: tuple[str, ...] = ("-m", "examples.data_quality")
) -> str:
    """Run the command as a person would; its output if it ends as it should."""
    line = [sys.executable, "-W", "error", *program, "--out", str(folder), *arguments]
    ran = subprocess.run(line, cwd=ROOT, capture_output=True, text=True, timeout=180)
    assert ran.returncode == code, ran.stdout + ran.stderr
    return ran.stdout + ran.stderr


# --- one result ------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def known() -> dict[str, Any]:
    """Before any loop is there to be blocked."""
    return report()


async def test_the_same_seed_gives_the_same_report_on_every_backend(known: dict[str, Any], tmp_path: Path) -> None:
    async with Engine("memory://") as engine:
        result = await engine.run(data_quality(), a_job(tmp_path))

    assert result.state["report"] == known
    assert json.loads((tmp_path / "report.json").read_text()) == known


def test_another_seed_gives_another_report(tmp_path: Path) -> None:
    other = Engine().run_sync(data_quality(), a_job(tmp_path, seed=8)).state["report"]

    assert other != report()


def test_the_definition_equals_the_graph_made_in_python() -> None:
    assert data_quality().to_dict() == json.loads(DEFINITION.read_text())


def test_the_definition_runs_to_the_same_report(tmp_path: Path) -> None:
    result = Engine().run_sync(Graph.from_json(DEFINITION.read_text()), a_job(tmp_path))

    assert result.state["report"] == report()


async def test_detectors_run_side_by_side_and_are_joined_once_a_round(known: dict[str, Any], tmp_path: Path) -> None:
    async with Engine() as engine:
        run = await engine.submit(data_quality(), a_job(tmp_path))
        events = [event async for event in run.events()]

    started = [event.node for event in events if event.type == "node_started"]
    first = started.index(next(iter(DETECTORS)))
    assert set(started[first : first + 5]) == DETECTORS.keys()
    ended = next(event.seq for event in events if event.type == "node_succeeded" and event.node in DETECTORS)
    begun = [event.seq for event in events if event.type == "node_started" and event.node in DETECTORS][:5]
    assert max(begun) < ended
    assert started.count("identify") == len(known["rounds"])


# --- killed, interrupted, gone on with -------------------------------------------------------------------------

STOPPED = """
import os, signal, sys, time
from examples.data_quality import __main__ as job, rules, scoring, tables

how, where = sys.argv[1:3]
module, name = {"in a stage": (rules, "apply"), "in a detector": (scoring, "found_by"),
                "before a file has its name": (os, "replace")}[where]
original, calls = getattr(module, name), []

def stopping(*arguments):
    calls.append(1)
    if len(calls) == {"in a stage": 2, "in a detector": 8, "before a file has its name": 9}[where]:
        os.kill(os.getpid(), getattr(signal, how))
        time.sleep(0.2)
    return original(*arguments)

setattr(module, name, stopping)
sys.exit(job.main(sys.argv[3:]))
"""


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> str:
    """The report of a run that nothing happened to."""
    folder = tmp_path_factory.mktemp("whole")
    command(folder, "--rows", "300")
    return (folder / "report.json").read_text()


@pytest.mark.parametrize("where", ["in a stage", "in a detector", "before a file has its name"])
@pytest.mark.parametrize("library", ["asyncio", "trio"], ids="on-{}".format)
def test_a_run_killed_in_the_middle_goes_on_to_the_same_report(
    library: str, where: str, whole: str, tmp_path: Path
) -> None:
    program = ("-c", STOPPED, "SIGKILL", where)
    # What a detector or a write of a file was counted for, the second life counts anew: it is not stopped again.
    line = [sys.executable, *program, "--out", str(tmp_path), "--rows", "300", "--backend", library]
    killed = subprocess.run(line, cwd=ROOT, capture_output=True, text=True, timeout=180)
    assert killed.returncode == -signal.SIGKILL, killed.stderr
    assert not (tmp_path / "report.json").exists()

    said = command(tmp_path, "--resume", "--backend", library)

    assert (tmp_path / "report.json").read_text() == whole
    assert "initialise" not in said  # it was recorded, and is not done again
    assert not any((tmp_path / "work").iterdir())


@pytest.mark.parametrize("library", ["asyncio", "trio"], ids="on-{}".format)
def test_ctrl_c_leaves_the_run_in_the_store_and_says_how_to_go_on(library: str, whole: str, tmp_path: Path) -> None:
    program = ("-c", STOPPED, "SIGINT", "in a stage")
    said = command(tmp_path, "--rows", "300", "--backend", library, code=130, program=program)
    assert "Traceback" not in said
    assert f"--out {tmp_path} --resume" in said

    refused = command(tmp_path, "--backend", library, code=2)
    assert "is not finished" in refused
    assert "--anew" in refused
    command(tmp_path, "--resume", "--backend", library)

    assert (tmp_path / "report.json").read_text() == whole


def test_an_unfinished_run_can_be_given_up(whole: str, tmp_path: Path) -> None:
    command(tmp_path, "--rows", "900", code=130, program=("-c", STOPPED, "SIGINT", "in a stage"))

    command(tmp_path, "--rows", "300", "--anew")

    assert (tmp_path / "report.json").read_text() == whole


def test_a_run_that_failed_is_tried_again_by_resume(whole: str, tmp_path: Path) -> None:
    (tmp_path / "report.html").mkdir()
    said = command(tmp_path, "--rows", "300", code=1)
    assert "IsADirectoryError" in said
    (tmp_path / "report.html").rmdir()

    command(tmp_path, "--resume")

    assert (tmp_path / "report.json").read_text() == whole


def test_there_is_nothing_to_go_on_with_in_an_empty_store(tmp_path: Path) -> None:
    assert "leave --resume out" in command(tmp_path, "--resume", code=2)


# --- the command -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("library", ["asyncio", "trio"], ids="on-{}".format)
def test_the_command_tells_each_stage_and_the_result(library: str, tmp_path: Path) -> None:
    said = command(tmp_path, "--rows", "300", "--backend", library)

    for stage in ("initialise", "round 1 * profile", "round 1 * find_nulls", "round 2 * evaluate", "report"):
        assert re.search(stage, said), stage
    assert "quality 87.33% -> 99.66%, after 3 of 5 rounds: target reached" in said
    assert re.search(r"all kinds +40 +40 +0\.975 +0\.975", said)


@pytest.mark.parametrize("suffix", [".csv", ".parquet"])
def test_any_file_will_do_and_nothing_is_measured_that_is_not_known(suffix: str, tmp_path: Path) -> None:
    table, _ = customers(600, seed=3)
    file = tmp_path / f"mine{suffix}"
    (table.drop(ROW).write_csv if suffix == ".csv" else table.drop(ROW).write_parquet)(file)

    said = command(tmp_path / "out", "--file", str(file))

    found = json.loads((tmp_path / "out" / "report.json").read_text())
    assert found["source"] == {"file": file.name}
    assert found["quality"]["before"] < 0.9 < 0.98 <= found["quality"]["after"]
    assert "detection" not in found
    assert "target reached" in said


@pytest.mark.parametrize(
    ("arguments", "why"),
    [
        (["--rows", "3"], "from 50"),
        (["--file", "no.csv"], "there is no file"),
        (["--file", "README.md"], "neither .csv nor .parquet"),
        (["--target", "98"], "a share"),
        (["--limit", "0"], "from 1 to 100"),
    ],
)
def test_wrong_arguments_are_refused_with_a_reason(
    arguments: list[str], why: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit):
        main(arguments)

    assert why in capsys.readouterr().err


class Terminal(io.StringIO):
    """What says that a person is looking."""

    def isatty(self) -> bool:
        return True


def test_a_terminal_has_a_line_that_moves_and_goes_away(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TERM", "xterm")
    terminal = Terminal()
    progress = Progress(terminal)

    progress.show(Event(1, "node_started", 0.0, "profile", 2))
    moving = terminal.getvalue()
    progress.show(Event(2, "node_progress", 0.5, "profile", 2, {"fraction": 1, "message": "12 columns"}))
    progress.show(Event(3, "node_succeeded", 1.5, "profile", 2))
    progress.close()

    assert moving.startswith("\r\x1b[Kround 2 ░")
    assert moving.endswith("profile")
    assert re.search(r"round 2 +profile +12 columns +1\.50 s\n", terminal.getvalue())
    assert terminal.getvalue().endswith("\r\x1b[K")


def test_the_limit_ends_the_loop(tmp_path: Path) -> None:
    state = a_job(tmp_path)
    state["limit"] = 2
    found = Engine().run_sync(data_quality(), state).state["report"]

    assert found["ended"] == "after 2 of 2 rounds: limit reached"


COUNT = pl.int_range(100)
ODD = {
    "nothing": {"n": COUNT.head(0)},
    "one row": {"n": COUNT.head(1)},
    "all the same": {"n": pl.lit(1).repeat_by(100).explode()},
    "nan": {"x": pl.when(COUNT < 3).then(float("nan")).otherwise((COUNT % 9).cast(pl.Float64))},
    "nulls only": {"n": COUNT, "z": pl.lit(None)},
    "lists and structs": {"n": COUNT, "l": pl.concat_list(COUNT, COUNT), "s": pl.struct(COUNT.alias("a"))},
    "times": {"t": pl.datetime(2024, 1, 1) + pl.duration(hours=COUNT), "d": pl.duration(hours=COUNT)},
    "categories": {"c": pl.when(COUNT != 5).then(pl.lit("a")).cast(pl.Categorical), "b": COUNT % 2 == 0},
    "decimals": {"d": pl.when(COUNT != 5).then(COUNT).cast(pl.Decimal(10, 2)), "n": COUNT},
    "names": {"len": COUNT, "rows": COUNT % 3, "": COUNT, "a/b": pl.lit("x"), "_was_0": COUNT % 2},
}


@pytest.mark.parametrize("columns", ODD.values(), ids=ODD.keys())
def test_odd_tables_come_through(columns: dict[str, pl.Expr], tmp_path: Path) -> None:
    table = pl.select(**columns)
    table.write_parquet(tmp_path / "odd.parquet")

    state = job({"file": str(tmp_path / "odd.parquet")}, tmp_path / "work", tmp_path, target=0.98, limit=5)
    found = Engine().run_sync(data_quality(), state).state["report"]

    assert found["quality"]["after"] >= 0.98
    assert found["rows"] == {"in": table.height, "out": table.height, "aside": 0} or found["rounds"][0]["rules"]


@pytest.mark.parametrize("separator", [",", ";", "\t"])
def test_a_column_of_a_csv_file_may_be_faulty_far_down(separator: str, tmp_path: Path) -> None:
    lines = [separator.join(pair) for pair in [("a", "b"), *[("1", "2")] * 20_000, ("?", "3")]]
    (tmp_path / "my.csv").write_text("\n".join(lines))

    found = read_file(tmp_path / "my.csv")

    assert found.columns == [ROW, "a", "b"]
    assert found.row(-1)[1:] == ("?", 3)


@pytest.mark.parametrize("name", ["__row", "^a$"])
def test_names_that_are_not_for_the_table_are_refused(name: str, tmp_path: Path) -> None:
    pl.DataFrame({name: [1]}).write_parquet(tmp_path / "my.parquet")

    with pytest.raises(ValueError, match="rename it"):
        read_file(tmp_path / "my.parquet")


# --- the report ------------------------------------------------------------------------------------------------


def test_the_page_is_whole_in_itself() -> None:
    text = page(report())

    assert not re.search(r"<script|<link|<img|src=|href=|url\(|https?:", text)
    drawn = [ElementTree.fromstring(svg) for svg in re.findall(r"<svg.*?</svg>", text, re.DOTALL)]
    assert len(drawn) == 3
    assert "87.33" in "".join(drawn[0].itertext())


def test_names_in_a_file_cannot_write_the_page() -> None:
    text = page({**report(), "source": {"file": "<b>&.csv"}})

    assert "<b>&.csv" not in text
    assert "&lt;b&gt;&amp;.csv" in text


def test_the_figures_are_those_of_detectors_that_can_be_wrong() -> None:
    all_kinds = report(10_000)["detection"]["all kinds"]

    assert 0.9 < all_kinds["precision"] < 1
    assert 0.9 < all_kinds["recall"] < 1
    truth = report(10_000)["truth"]
    assert truth["before"] < 0.87 < 0.95 < truth["after"] < report(10_000)["quality"]["after"]


def test_a_finding_is_right_if_row_column_and_kind_are() -> None:
    truth = pl.DataFrame({ROW: [1, 2, 3], "column": ["a", "a", "b"], "kind": ["nulls", "emails", "nulls"]})
    flagged = pl.DataFrame({ROW: [1, 2, 9], "column": ["a", "a", "b"], "kind": ["nulls", "nulls", "nulls"]})

    found = scoring.detection(flagged, truth)

    assert found["nulls"] == {
        "injected": 2, "flagged": 3, "right": 1, "elsewhere": 1, "precision": 0.333333, "recall": 0.5
    }  # fmt: skip
    assert found["emails"]["recall"] == 0
    assert found["all kinds"]["recall"] == 0.333333


# --- the customers ---------------------------------------------------------------------------------------------


def test_customers_are_the_same_for_the_same_seed_and_tell_their_faults_only_beside() -> None:
    (table, truth), (again, _), (other, _) = customers(1_000, 1), customers(1_000, 1), customers(1_000, 2)

    assert table.equals(again)
    assert not table.equals(other)
    assert table.columns[:3] == [ROW, "customer_id", "name"]
    assert not [name for name in table.columns if name.startswith("_") and name != ROW]
    assert set(truth["kind"]) == set(checks.KINDS)


def test_each_known_fault_is_there() -> None:
    table, truth = customers(2_000, 5)

    for (column,), faults in truth.filter(pl.col("column") != "").group_by("column"):
        is_ = faults.join(table.select(ROW, pl.col(str(column)).cast(pl.String).alias("is")), on=ROW)
        assert is_.filter(pl.col("is").eq_missing(pl.col("clean"))).is_empty(), column


# --- checks and rules ------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "address", ["a@example.org", "a.b+news@mail.example.co.uk", "o'neil@example.com", "jörg_9@a-b.example"]
)
def test_addresses_are_left_alone(address: str) -> None:
    assert broken({"check": "address", "column": "x"}, x=[address]) == [False]


@pytest.mark.parametrize(
    "address", ["a", "a@b", "a at b.org", "a@@b.org", "a..b@c.org", ".a@b.org", "a@b.org ", "a@b,org", "a@-b.org", ""]
)
def test_what_is_no_address_is_found(address: str) -> None:
    assert broken({"check": "address", "column": "x"}, x=[address]) == [True]


def broken(check: dict[str, Any], **columns: list[Any]) -> list[bool]:
    return pl.DataFrame(columns).select(checks.broken(check).alias("found"))["found"].to_list()


def test_nulls_are_faults_only_where_nearly_nothing_is_missing() -> None:
    table = pl.DataFrame({"filled": [1] * 100, "nearly": [None] + [1] * 99, "optional": [None] * 60 + [1] * 40})

    found = checks.null_checks(profiling.profile(table.lazy()))

    assert [check["column"] for check in found] == ["nearly"]


def test_skewed_numbers_are_compared_by_their_logarithms() -> None:
    table = pl.DataFrame({"price": [2.0 ** (n / 10) for n in range(100)], "age": [float(n) for n in range(100)]})

    price, age = checks.outlier_checks(profiling.profile(table.lazy()))

    assert 0 < price["least"] < 0.2
    assert price["most"] > 10_000
    assert (age["least"], age["most"]) == (-82.8, 181.8)


def test_relations_are_found_and_who_breaks_them() -> None:
    cities = ["Oslo", "Rome", "Paris", "Bergen"] * 50
    countries = ["NO", "IT", "FR", "NO"] * 50
    countries[7] = "IT"
    table = pl.DataFrame({"city": cities, "country": countries, "n": [*range(1, 101)] * 2, "each": [*range(2, 52)] * 4})
    table = table.with_columns(total=pl.when(pl.int_range(200) == 3).then(1).otherwise(pl.col("n") * pl.col("each")))

    found = checks.relation_checks(profiling.profile(table.lazy()))

    assert [checks.in_words(check) for check in found] == ["city → country", f"n {chr(0xD7)} each = total"]
    marks = table.select(checks.broken(check).arg_true().implode().alias(check["column"]) for check in found)
    assert marks.row(0) == ([7], [3])


def test_copies_are_found_whatever_their_spelling_and_key() -> None:
    table = pl.DataFrame({"id": [1, 2, 3, 4], "name": ["Ada", "Bo", "ADA ", None], "n": [1, 2, 1, 1]})
    (check,) = checks.duplicate_checks(profiling.profile(table.lazy()))

    assert check["of"] == ["name", "n"]
    assert table.select(checks.broken(check).alias("x"))["x"].to_list() == [False, False, True, False]


def test_the_mildest_measure_comes_first_and_the_last_sets_aside() -> None:
    table = pl.DataFrame({ROW: [0, 1, 2], "email": ["a@b.org ", "ab.org", "c@d.org"], "age": [1, None, 3]})
    profile = {"rows": 3, "relations": [], "columns": {"email": {"role": "email"}, "age": {"role": "number", "q50": 2}}}
    suspects = [
        {"kind": "emails", "column": "email", "check": "address", "broken": 2},
        {"kind": "nulls", "column": "age", "check": "filled", "broken": 1},
    ]

    mild, stern, sternest = (rules.rules_for(suspects, profile, level) for level in (1, 2, 3))

    assert [rules.how(rule) for rule in mild] == ["respell where that makes an address"]
    assert [rules.how(rule) for rule in stern] == ["the median, 2"]
    assert {rules.how(rule) for rule in sternest} == {"set the row aside"}
    mended, _, told = rules.apply([*mild, *stern], table.lazy())
    assert mended["email"].to_list() == ["a@b.org", "ab.org", "c@d.org"]
    assert mended["age"].to_list() == [1, 2, 3]
    assert [rule["count"] for rule in told] == [1, 1]
    kept, aside, _ = rules.apply(sternest[:1], mended.lazy())
    assert (kept[ROW].to_list(), aside[ROW].to_list()) == ([0, 2], [1])


# --- the working folder ----------------------------------------------------------------------------------------


def test_a_table_is_named_by_what_is_in_it(tmp_path: Path) -> None:
    folder = Folder(tmp_path)
    one, other = pl.DataFrame({"a": [1, 2]}), pl.DataFrame({"a": [1, 3]})

    names = [folder.put(one), folder.put(other), folder.put(pl.concat([one[:1], one[1:]]))]

    assert names[0] == names[2] != names[1]
    assert folder.read(names[0]).equals(one)
    assert len([*tmp_path.iterdir()]) == 2


def test_a_file_that_is_gone_is_named(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match=r"abc\.arrow is gone"):
        Folder(tmp_path).scan("abc")
