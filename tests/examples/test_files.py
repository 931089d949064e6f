"""The files example: real files in and out of the command, the same on both backends, drawn as its page says."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from engine import Engine, File, GraphInvalid
from examples.files.graph import graph

ROOT = Path(__file__).parents[2]
ORDERS = ROOT / "examples/files/orders.csv"


def run(folder: Path, orders: Path, *words: str) -> dict[str, Any]:
    line = [sys.executable, "-W", "error", "-m", "engine", "run", str(ROOT / "examples/files/graph.py"), "--quiet"]
    line += ["--file", f"orders={orders}", "--out", "made", *words]
    environment = {"PYTHONPATH": str(ROOT), "PATH": "/usr/bin:/bin"}
    ran = subprocess.run(line, cwd=folder, env=environment, capture_output=True, text=True, timeout=180, check=False)
    assert ran.returncode == 0, ran.stderr
    found: dict[str, Any] = json.loads(ran.stdout)
    return found


@pytest.mark.parametrize("backend", ["asyncio", "trio"])
def test_the_command_makes_a_report_and_a_chart_of_a_real_file(backend: str, tmp_path: Path) -> None:
    found = run(tmp_path, ORDERS, "--backend", backend)

    assert found["state"] == {"rows": 122, "kept": 104, "revenue": 61349.81}
    assert [file["media_type"] for file in found["files"]] == ["text/html", "image/png"]
    page = (tmp_path / "made/report.html").read_text()
    assert "104 of 122 rows are whole; they come to 61,349.81" in page
    with Image.open(tmp_path / "made/chart.png") as image:
        assert image.size == (640, 360)
        assert len(image.convert("RGB").getcolors(1 << 20) or ()) > 2
    assert (tmp_path / "runs.db.files").is_dir()


def test_what_stands_in_a_table_is_text_in_the_report(tmp_path: Path) -> None:
    (tmp_path / "odd.csv").write_text("order,country,quantity,price\n1,<script>x</script>,2,3\n2,,1,1\n1,a,x,1\n")
    assert run(tmp_path, tmp_path / "odd.csv", "--store", "memory:")["state"] == {"rows": 3, "kept": 1, "revenue": 6.0}
    page = (tmp_path / "made/report.html").read_text()

    assert "<script>" not in page
    assert "&lt;script&gt;" in page


async def test_the_same_table_makes_the_same_files() -> None:
    async with Engine() as engine:
        one = await engine.run(graph, files={"orders": ORDERS})
        other = await engine.run(graph, files={"orders": ORDERS})

    assert [file.digest for file in one.files] == [file.digest for file in other.files]


async def test_a_table_of_another_type_is_refused_by_who_takes_it() -> None:
    async with Engine() as engine:
        run = await engine.submit(graph, files={"orders": File.from_bytes("{}", "orders.json")})
        assert await run.wait() == "failed"
        assert "there was: orders=orders.json (application/json)" in str(run.error)


def test_the_page_shows_what_is_drawn() -> None:
    page = (ROOT / "examples/files/README.md").read_text()

    assert f"```mermaid\n{graph.draw()}```" in page
    assert "--file orders=examples/files/orders.csv --out build/files" in page


def test_the_graph_is_refused_as_the_page_says() -> None:
    source = (ROOT / "examples/files/graph.py").read_text()
    changed = source.replace('produces="application/json"', 'produces="text/html"')
    assert changed != source
    scope: dict[str, Any] = {"__name__": "changed"}
    exec(compile(changed, "changed.py", "exec"), scope)
    with pytest.raises(GraphInvalid) as caught:
        scope["graph"].compile()
    assert "nothing that comes along it can be taken" in str(caught.value.problems[0])
