"""The comparison with other engines: that what it measures is right, and that it says so where it is not.

Engines that are not installed are skipped, with how to install them; with the extra `bench` all of them run here.
"""

from __future__ import annotations

import asyncio
import importlib.util
import json
import os
import signal
import subprocess
import sys
import tomllib
from collections.abc import AsyncIterator, Iterator, Mapping, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import pytest

from tests.benchmarks.peers import short
from tests.benchmarks.peers.__main__ import MEASURED
from tests.benchmarks.peers.comparison import Line, Measured, Method, Process, compare, processes
from tests.benchmarks.peers.installed import ADAPTERS, CLASSIC, FLOOR, ONLY_DURABLE, OURS
from tests.benchmarks.peers.peer import Cannot, Dag, Peer, Run
from tests.benchmarks.peers.plot import plot
from tests.benchmarks.peers.report import BEGIN, END, Report
from tests.benchmarks.peers.scientific import FOLDER, load
from tests.benchmarks.peers.worker import ready
from tests.benchmarks.peers.workloads import Workload, WrongResult, uneven_diamond, workloads

ROOT = Path(__file__).parent.parent
AT_ONCE = Method(rounds=1, budget=0.0, patience=120, quick=True)
EACH_SHAPE = ("chain of 100", "fan to", "loop of", "uneven diamond", "durable chain")
OTHERS = ("50 durable", "montage", "epigenomics", "blast")  # some time out by themselves where the machine is busy


# --- adapters -------------------------------------------------------------------------------------------


@pytest.fixture(scope="module", params=list(ADAPTERS))
def peer(request: pytest.FixtureRequest) -> Iterator[Process]:
    with processes([request.param]) as started:
        process = started[request.param]
        if "missing" in process.hello:
            pytest.skip(process.hello["missing"])
        yield process


def some_workload(beginning: str) -> Workload:
    return next(workload for workload in workloads(quick=True) if workload.name.startswith(beginning))


@pytest.mark.parametrize("shape", EACH_SHAPE)
def test_an_adapter_gives_the_right_result_or_says_why_it_cannot(peer: Process, shape: str) -> None:
    if peer.name in ONLY_DURABLE and "durable" not in shape:
        pytest.skip("measured on what is durable only: elsewhere it is the same as the one before")
    measured = compare({peer.name: peer}, some_workload(shape), AT_ONCE).peers[peer.name]

    assert (len(measured.figures) == 1 and measured.figures[0] > 0) or (measured.why == "cannot" and measured.reason)


@pytest.mark.parametrize("name", [OURS, FLOOR])
def test_ours_and_the_floor_can_do_everything(name: str) -> None:
    with processes([name]) as started:
        lines = [compare(started, some_workload(shape), AT_ONCE) for shape in EACH_SHAPE + OTHERS]

    assert [line.peers[name].reason for line in lines if not line.peers[name].figures] == []


def test_an_engine_tells_its_versions_and_its_configuration(peer: Process) -> None:
    assert peer.hello["configuration"]
    assert all(peer.hello["versions"].values())


# --- what is checked before a time counts -------------------------------------------------------------------


class TooEager(Peer):
    """Carries out tasks in the wrong order."""

    @asynccontextmanager
    async def dag(self, dag: Dag) -> AsyncIterator[Run]:
        async def run() -> None:
            for task in reversed(dag.tasks):
                await task()

        yield run

    @asynccontextmanager
    async def fan(self, width: int) -> AsyncIterator[Run]:
        async def run() -> list[int]:
            return list(range(width - 1))

        yield run


class Twice(Peer):
    """Carries out one task twice."""

    @asynccontextmanager
    async def dag(self, dag: Dag) -> AsyncIterator[Run]:
        async def run() -> None:
            for task in [*dag.tasks, dag.tasks[-1]]:
                await task()

        yield run


@pytest.mark.parametrize(
    ("engine", "beginning", "told"),
    [
        (TooEager(), "uneven diamond", "which it waits for"),
        (Twice(), "uneven diamond", "6 tasks were to run once each, 7 ran"),
        (TooEager(), "fan to", "expected"),
    ],
)
def test_the_time_of_a_wrong_result_does_not_count(engine: Peer, beginning: str, told: str, tmp_path: Path) -> None:
    with pytest.raises(WrongResult, match=told):
        asyncio.run(make_ready(engine, beginning, tmp_path))


async def make_ready(engine: Peer, beginning: str, folder: Path) -> None:
    """In a loop of its own, as a worker does: what is measured knows asyncio, and most of it nothing else."""
    async with ready(engine, some_workload(beginning), folder):
        pytest.fail("it was ready to be measured")


def test_what_an_engine_cannot_do_is_told_with_its_reason(tmp_path: Path) -> None:
    class Small(Peer):
        cannot = {"loop": "there are no cycles"}  # noqa: RUF012

    with pytest.raises(Cannot, match="there are no cycles"):
        asyncio.run(make_ready(Small(), "loop of", tmp_path))


def test_an_engine_that_takes_too_long_is_ended_and_says_so() -> None:
    impatient = Method(rounds=1, budget=0.0, patience=0.05, quick=True)
    with processes([FLOOR]) as started:
        engine = started[FLOOR]._process
        assert engine is not None
        engine.send_signal(signal.SIGSTOP)  # or it might have its answer by the time that we get a turn to look
        line = compare(started, some_workload("uneven diamond"), impatient)
        again = compare(started, some_workload("chain of 100"), AT_ONCE)

    assert (line.peers[FLOOR].why, line.peers[FLOOR].reason) == ("slow", "a first run took more than 0.05 s")
    assert again.peers[FLOOR].figures


# --- scientific workflows -----------------------------------------------------------------------------------


@pytest.mark.parametrize("file", sorted(FOLDER.glob("*.json")), ids=lambda file: file.stem)
def test_a_stored_workflow_is_a_graph_in_topological_order(file: Path) -> None:
    name, size = file.stem.split("-")
    found = load(name, int(size))

    assert 0.9 * int(size) <= len(found.parents) == len(found.seconds) <= int(size)
    assert all(parent < task for task, parents in enumerate(found.parents) for parent in parents)
    assert found.lasting(0.5).critical_path == pytest.approx(0.5)


def test_the_critical_path_of_the_diamond_takes_120_ms_and_190_with_a_barrier() -> None:
    diamond = uneven_diamond().shape
    level = {0: (0,), 1: (1, 3), 2: (2, 4), 3: (5,)}

    assert diamond.critical_path == pytest.approx(0.120)
    assert sum(max(diamond.seconds[task] for task in tasks) for tasks in level.values()) == pytest.approx(0.190)


@pytest.mark.skipif(importlib.util.find_spec("wfcommons") is None, reason="wfcommons is in the extra `bench`")
def test_the_stored_workflows_are_what_wfcommons_makes(tmp_path: Path) -> None:
    code = (
        "import sys; from pathlib import Path; from tests.benchmarks.peers.make_graphs import write\n"
        "write(Path(sys.argv[1]))"
    )
    environment = {**os.environ, "PYTHONHASHSEED": "0"}
    subprocess.run([sys.executable, "-c", code, tmp_path], check=True, cwd=ROOT, env=environment, timeout=120)

    assert {file.name: file.read_text() for file in tmp_path.iterdir()} == {
        file.name: file.read_text() for file in FOLDER.glob("*.json")
    }


# --- table, JSON, plot --------------------------------------------------------------------------------------


def a_report() -> Report:
    lines = [
        Line(
            some_workload("chain of 100"),
            {
                OURS: Measured([5.0, 6.0, 7.0]),
                FLOOR: Measured([0.5, 0.5, 0.5]),
                "langgraph": Measured([100.0, 120.0]),
                "dbos": Measured(why="cannot", reason="all is <durable>"),
            },
        ),
        Line(some_workload("uneven diamond"), {OURS: Measured([190.0]), FLOOR: Measured([121.0])}),
    ]
    hello = {"versions": {"made-up": "1.2.3"}, "configuration": "as it comes"}
    engines: dict[str, dict[str, Any]] = dict.fromkeys((OURS, FLOOR, "langgraph"), hello)
    engines["dbos"] = {"missing": "dbos: not here"}
    machine = {"python": "CPython 3.99", "system": "Linux", "processors": 2, "load": 0.5}
    return Report(engines, lines, AT_ONCE, [machine, machine], 12.0)


def test_the_table_has_medians_ratios_reasons_versions_and_what_is_missed() -> None:
    table = a_report().table()
    figures, _, floors = table.partition("In floors")
    chain, diamond = (line for line in figures.splitlines() if line.startswith(("| chain", "| uneven")))

    assert "6 us (5 to 7)" in chain
    assert "110 (100 to 120) **20x**" in chain  # the median of 100/5 and 120/6
    assert "25 x faster than langgraph MISSED" in chain
    assert "cannot [1]" in chain
    assert "1. dbos: all is <durable>" in table
    assert "<= 123.6 ms MISSED" in diamond
    assert "made-up 1.2.3" in table
    assert {line.count("|") for line in figures.splitlines() if line.startswith("|")} == {7}
    assert "| chain of 100, per node | 12 | 1 | 218 |  |" in floors


def test_a_promise_against_an_engine_that_was_not_measured_is_neither_kept_nor_missed() -> None:
    line = Line(some_workload("chain of 100"), {OURS: Measured([5.0]), FLOOR: Measured([0.5])})

    assert line.verdicts() == []


def test_json_has_every_figure_and_every_reason() -> None:
    chain, _ = json.loads(a_report().json())["workloads"]

    assert chain["engines"]["langgraph"]["figures"] == [100.0, 120.0]
    assert chain["engines"]["langgraph"]["times_floor"] == pytest.approx(1 / ((0.5 / 100 + 0.5 / 120) / 2))
    assert chain["engines"]["dbos"] == {"why": "cannot", "reason": "all is <durable>"}


def test_the_plot_is_svg_with_a_mark_for_each_ratio_and_none_for_what_cannot() -> None:
    drawn = ElementTree.fromstring(plot(a_report().lines))
    titles = [element.text for element in drawn.iter("{http://www.w3.org/2000/svg}title")]

    assert titles == [
        "asyncio: 0.0833 times workflow-engine",
        "langgraph: 20 times workflow-engine",
        "asyncio: 0.637 times workflow-engine",
    ]


def test_marks_stand_where_their_ratio_is_on_a_log_scale() -> None:
    ratios = [1.0, 10.0, 100.0]
    names = ["langgraph", "burr", "haystack"]
    peers = {OURS: Measured([1.0])} | {name: Measured([ratio]) for name, ratio in zip(names, ratios, strict=True)}
    drawn = plot([Line(some_workload("chain of 100"), peers)])
    grid = [
        float(line.get("x1", "0"))
        for line in ElementTree.fromstring(drawn).iter("{http://www.w3.org/2000/svg}line")
        if line.get("x1") == line.get("x2")
    ]

    assert f'<circle cx="{grid[0]:.1f}"' in drawn
    assert f'<rect x="{grid[1] - 4.5:.1f}"' in drawn
    assert f'<path d="M{grid[2]:.1f}' in drawn


def test_all_of_it_is_written(tmp_path: Path) -> None:
    written = a_report().write(tmp_path / "new" / "folder")

    assert [file.name for file in written] == ["peers.md", "peers.json", "peers.svg"]
    assert all(file.read_text() for file in written)


def test_the_table_replaces_what_the_document_had_between_its_marks(tmp_path: Path) -> None:
    document = tmp_path / "README.md"
    document.write_text(f"before\n\n{BEGIN}\nold\n{END}\n\nafter\n")
    a_report().put_into(document)
    a_report().put_into(document)

    assert document.read_text() == f"before\n\n{BEGIN}\n{a_report().table()}{END}\n\nafter\n"


def test_a_document_without_marks_is_left_as_it_is(tmp_path: Path) -> None:
    document = tmp_path / "README.md"
    document.write_text("nothing")

    with pytest.raises(ValueError, match=r"README\.md has no lines"):
        a_report().put_into(document)
    assert document.read_text() == "nothing"


def test_the_readme_shows_what_was_measured() -> None:
    text = (ROOT / "README.md").read_text()

    assert f"{BEGIN}\n{(MEASURED / 'peers.md').read_text()}{END}" in text
    assert str((MEASURED / "peers.svg").relative_to(ROOT)) in text


def test_the_readme_says_what_the_pinned_versions_can_do() -> None:
    pins = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["optional-dependencies"]["bench"]
    engines = [
        pin for pin in [*pins, CLASSIC] if not pin.startswith(("langgraph-checkpoint", "aiosqlite", "wfcommons"))
    ]
    (header,) = [
        line for line in (ROOT / "README.md").read_text().splitlines() if line.startswith("| | workflow-engine")
    ]

    assert [pin for pin in engines if f" {pin.partition('==')[2]}" not in header] == []


# --- the short form -----------------------------------------------------------------------------------------


class Ratios:
    """Measures nothing: gives the ratios it was made with, a mapping for each time it is asked."""

    def __init__(self, *ratios: Mapping[str, float]) -> None:
        self.left = list(ratios)
        self.asked: list[list[str]] = []

    def __call__(self, chosen: Sequence[Workload], method: Method) -> Mapping[str, float]:
        self.asked.append([workload.name for workload in chosen])
        given = self.left.pop(0)
        return {workload.name: given[workload.name] for workload in chosen}


CHOSEN = [some_workload("chain of 100"), some_workload("fan to")]
CHAIN, FAN = (workload.name for workload in CHOSEN)


def test_what_is_as_fast_as_recorded_is_measured_once() -> None:
    ratios = Ratios({CHAIN: 13.9, FAN: 1.0})

    assert short.judge(CHOSEN, {CHAIN: 10.0, FAN: 2.0}, ratios) == []
    assert len(ratios.asked) == 1


def test_what_seems_slow_is_measured_once_more_and_forgiven_if_it_is_not() -> None:
    ratios = Ratios({CHAIN: 15.0, FAN: 2.0}, {CHAIN: 11.0})

    assert short.judge(CHOSEN, {CHAIN: 10.0, FAN: 2.0}, ratios) == []
    assert ratios.asked == [[CHAIN, FAN], [CHAIN]]


def test_what_is_slow_twice_is_told(capsys: pytest.CaptureFixture[str]) -> None:
    assert short.judge(CHOSEN, {CHAIN: 10.0, FAN: 2.0}, Ratios({CHAIN: 15.0, FAN: 2.0}, {CHAIN: 14.1})) == [CHAIN]
    assert f"| {CHAIN} | 10 | 15 | 14.1 SLOW |" in capsys.readouterr().out


def test_a_ratio_is_recorded_for_each_workload_of_the_short_form() -> None:
    recorded = json.loads(short.RECORDED.read_text())["ratios"]

    assert list(recorded) == [workload.name for workload in workloads(quick=False) if workload.short]


# Some ten times what a node costs, counted in work and not in time: it is as slow beside the rest on any machine.
SLOW_COMMIT = """
from engine.runs import Run

quick = Run.succeeded

def slow(self, *arguments, **options):
    for _ in range(4_000):
        pass
    return quick(self, *arguments, **options)

Run.succeeded = slow
"""


def test_a_commit_that_makes_the_engine_slow_fails_and_one_that_does_not_passes(tmp_path: Path) -> None:
    (tmp_path / "sitecustomize.py").write_text(SLOW_COMMIT)
    recorded = tmp_path / "recorded.json"
    only = ["--recorded", str(recorded), "--only", "chain of 100, per node"]

    assert _short_form(*only, "--record").returncode == 0
    usual = json.loads(recorded.read_text())
    recorded.write_text(json.dumps({"ratios": {name: 2 * ratio for name, ratio in usual["ratios"].items()}}))
    as_it_is, slowed = _short_form(*only), _short_form(*only, path=tmp_path)

    assert as_it_is.returncode == 0, as_it_is.stdout  # with room for other things that the machine does
    assert slowed.returncode == 1, slowed.stdout
    assert "slower by more than 40% than recorded, twice: chain of 100, per node" in slowed.stderr


def _short_form(*arguments: str, path: Path | None = None) -> subprocess.CompletedProcess[str]:
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(map(str, [*([path] if path else []), ROOT]))}
    command = [sys.executable, "-m", "tests.benchmarks.peers.short", *arguments]
    return subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, timeout=240)


def test_a_workload_that_is_not_recorded_is_told(tmp_path: Path) -> None:
    (tmp_path / "recorded.json").write_text('{"ratios": {}}')
    told = _short_form("--recorded", str(tmp_path / "recorded.json"), "--only", "chain of 100")

    assert told.returncode == 2
    assert "record them with --record" in told.stderr
