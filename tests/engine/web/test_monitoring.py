"""What examples/monitoring/ watches is there; and a real Prometheus scrapes it, under load and with a key."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import sys
import threading
import time
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import quote

import pytest
import yaml
from prometheus_client import ProcessCollector, generate_latest

from engine import Engine, Graph
from engine.web import create_app
from engine.web.keys import new_key
from tests.engine.web.asgi import call, http
from tests.engine.web.services import ROOT, eventually
from tests.ports import free_port

FOLDER = ROOT / "examples" / "monitoring"
DASHBOARD = json.loads((FOLDER / "grafana.json").read_text())
RULES = yaml.safe_load((FOLDER / "alerts.yml").read_text())
CONFIG = yaml.safe_load((FOLDER / "prometheus.yml").read_text())

SUFFIXES = {
    "counter": ["_total"],
    "gauge": [""],
    "histogram": ["_bucket", "_sum", "_count"],
    "summary": ["_sum", "_count"],
    "info": ["_info"],
}
OF_PROMETHEUS = {"up": {"job", "instance"}}
WORDS = {"and", "or", "unless", "bool", "offset", "on", "ignoring", "group_left", "group_right", "by", "without", "inf"}


@pytest.fixture(scope="module")
def known() -> dict[str, set[str]]:
    """Labels of every name that a query may use."""
    engine = Engine("memory://")
    names = dict(OF_PROMETHEUS)
    with engine.blocking():
        create_app(engine)
        ProcessCollector(registry=engine.metrics)
        for family in engine.metrics.collect():
            labels = {*getattr(family, "_labelnames", ()), "instance", "job"}
            for suffix in SUFFIXES[family.type]:
                names[family.name + suffix] = labels | ({"le"} if suffix == "_bucket" else set())
        shared = Engine("postgresql://host/db", shared=True)  # is never entered
        for family in shared.metrics.collect():
            for suffix in SUFFIXES[family.type]:
                names.setdefault(family.name + suffix, {"instance", "job"})
    return names


def expressions() -> Iterator[tuple[str, str]]:
    """Every query with its place."""
    for panel in DASHBOARD["panels"]:
        for target in panel.get("targets", ()):
            yield f"panel {panel['title']!r}", target["expr"]
    for variable in DASHBOARD["templating"]["list"]:
        if found := re.fullmatch(r"label_values\((\w+), (\w+)\)", variable["query"]):
            yield f"variable {variable['name']!r}", f"sum by ({found[2]}) ({found[1]})"
    for group in RULES["groups"]:
        for rule in group["rules"]:
            yield f"alert {rule['alert']!r}", rule["expr"]


def used(expression: str) -> tuple[set[str], set[str]]:
    """The metrics and the labels that a query names."""
    plain = re.sub(r'"(?:[^"\\]|\\.)*"', '""', expression)
    labels = {name for braces in re.findall(r"\{([^}]*)\}", plain) for name in re.findall(r"(\w+)\s*[=!]", braces)}
    labels |= {
        name.strip()
        for listed in re.findall(r"\b(?:by|without|on|ignoring)\s*\(([^)]*)\)", plain)
        for name in listed.split(",")
    }
    rest = re.sub(r"\{[^}]*\}|\[[^\]]*\]|\b(?:by|without|on|ignoring)\s*\([^)]*\)", " ", plain)
    names = {found[0] for found in re.finditer(r"\b[a-zA-Z_:][\w:]*\b(?!\s*\()", rest)}
    return names - WORDS, labels


def unknown(expression: str, known: dict[str, set[str]]) -> list[str]:
    """What a query names that is not there."""
    names, labels = used(expression)
    faults = [name for name in sorted(names) if name not in known]
    there = set[str]().union(*(known.get(name, set()) for name in names))
    return faults + [f"label {label}" for label in sorted(labels - there)]


def test_every_metric_and_label_of_the_dashboard_and_the_alerts_is_there(known: dict[str, set[str]]) -> None:
    faults = [f"{place}: {fault}" for place, expression in expressions() for fault in unknown(expression, known)]

    assert not faults, "\n".join(faults)
    assert len(list(expressions())) > 40


@pytest.mark.parametrize(
    ("expression", "fault"),
    [
        ("sum(rate(workflow_run_total[5m]))", ["workflow_run_total"]),
        ("workflow_runs_in_flight / nonsense", ["nonsense"]),
        ('workflow_runs_total{state="failed"}', ["label state"]),
        ("sum by (nod) (workflow_node_in_flight)", ["label nod"]),
        ("rate(workflow_runs_total[5m]) > 0.1 and on (graph) workflow_runs_queued > 1", []),
        ("histogram_quantile(0.9, sum by (le) (rate(workflow_run_duration_seconds_bucket[5m])))", []),
    ],
)
def test_what_is_not_there_would_be_found(expression: str, fault: list[str], known: dict[str, set[str]]) -> None:
    assert unknown(expression, known) == fault


def test_the_dashboard_shows_every_family_of_metrics(known: dict[str, set[str]]) -> None:
    shown = {name for place, expression in expressions() if "panel" in place for name in used(expression)[0]}
    families = {re.sub(r"_(bucket|sum|count)$", "", name) for name in known if name.startswith("workflow_")}

    assert families - {re.sub(r"_(bucket|sum|count)$", "", name) for name in shown} == set()


def test_the_dashboard_is_one_that_grafana_can_lay_out() -> None:
    panels = DASHBOARD["panels"]
    assert len({panel["id"] for panel in panels}) == len(panels)
    places = set[tuple[int, int]]()
    for panel in panels:
        at = panel["gridPos"]
        cells = {(at["x"] + x, at["y"] + y) for x in range(at["w"]) for y in range(at["h"])}
        assert not cells & places, panel["title"]
        assert at["x"] + at["w"] <= 24
        places |= cells
    named = {variable["name"] for variable in DASHBOARD["templating"]["list"]}
    assert set(re.findall(r"\$\{?(\w+)", json.dumps(panels))) - named == {"__rate_interval"}


def test_alerts_say_what_to_do() -> None:
    rules = [rule for group in RULES["groups"] for rule in group["rules"]]

    assert len({rule["alert"] for rule in rules}) == len(rules)
    for rule in rules:
        assert rule["labels"]["severity"] in ("critical", "warning", "info")
        assert rule["annotations"]["summary"]
        assert rule["annotations"]["description"]
    assert CONFIG["rule_files"] == ["alerts.yml"]


async def test_labels_are_never_ids_of_runs_or_paths() -> None:
    async with Engine("memory://") as engine:
        graph = Graph("g").add_node("n", lambda state: {"n": 1}).set_entry_point("n")
        engine.register(graph)
        app = create_app(engine)
        ids = [(await engine.submit("g", {})).id for _ in range(5)]
        for run_id in [*ids, "made-up", "../../etc"]:
            await call(app, http(f"/api/runs/{run_id}"))
            await call(app, http(f"/made/up/{run_id}"))
        text = generate_latest(engine.metrics).decode()

    assert 'route="/api/runs/{run_id}"' in text
    for run_id in [*ids, "made", "etc"]:
        assert run_id not in text


# --- the real Prometheus --------------------------------------------------------------------------------


def tool(name: str) -> str:
    found = shutil.which(name)
    if found is None:
        pytest.skip(f"{name} is not installed (apt-get install prometheus)")
    return found


def checked(*command: str, input: str | None = None) -> None:
    done = subprocess.run(command, input=input, capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stdout + done.stderr


def test_promtool_accepts_the_rules_and_the_configuration(tmp_path: Path) -> None:
    promtool = tool("promtool")
    checked(promtool, "check", "rules", str(FOLDER / "alerts.yml"))
    for name in ("alerts.yml", "prometheus.yml"):
        shutil.copy(FOLDER / name, tmp_path)
    (tmp_path / "prometheus.key").write_text("key")

    checked(promtool, "check", "config", str(tmp_path / "prometheus.yml"))


class Get:
    """What is asked over HTTP, with a key."""

    def __init__(self, key: str) -> None:
        self._headers = {"authorization": f"Bearer {key}", "content-type": "application/json"}

    def __call__(self, url: str, data: bytes | None = None) -> bytes:
        request = urllib.request.Request(url, data, self._headers)
        with urllib.request.urlopen(request, timeout=30) as answer:
            body: bytes = answer.read()
        return body


@pytest.mark.parametrize("backend", ["asyncio", "trio"])
def test_prometheus_scrapes_a_service_under_load_and_answers_a_query(tmp_path: Path, backend: str) -> None:
    prometheus, promtool = tool("prometheus"), tool("promtool")
    reader, submitter = new_key("prometheus", ["read"]), new_key("load", ["submit"])
    (tmp_path / "keys.toml").write_text(reader.entry() + submitter.entry())
    (tmp_path / "prometheus.key").write_text(reader.text)
    (tmp_path / "flow.py").write_text(
        "from engine import Graph\n"
        "async def n(state): return {'n': 1}\n"
        "graph = Graph('flow').add_node('n', n).set_entry_point('n')\n"
    )
    port, own = free_port(), free_port()
    shutil.copy(FOLDER / "alerts.yml", tmp_path)
    config: Any = yaml.safe_load((FOLDER / "prometheus.yml").read_text())
    config["global"] = {"scrape_interval": "500ms", "evaluation_interval": "1s"}
    config["scrape_configs"][0]["static_configs"] = [{"targets": [f"127.0.0.1:{port}"]}]
    (tmp_path / "prometheus.yml").write_text(yaml.safe_dump(config))

    serve = [sys.executable, "-W", "error", "-m", "engine", "serve", "--graphs", "flow.py", "--port", str(port)]
    scrape = [
        prometheus,
        "--config.file=prometheus.yml",
        "--storage.tsdb.path=data",
        f"--web.listen-address=127.0.0.1:{own}",
    ]
    with (
        (tmp_path / "log").open("w") as log,
        subprocess.Popen(
            [*serve, "--backend", backend, "--keys", "keys.toml", "--store", "sqlite:///runs.db"],
            cwd=tmp_path,
            env={"PYTHONPATH": str(ROOT), "PATH": "/usr/bin:/bin"},
            stdout=log,
            stderr=log,
        ) as service,
        subprocess.Popen(scrape, cwd=tmp_path, stdout=log, stderr=log) as scraper,
    ):
        try:
            _watch(
                f"http://127.0.0.1:{port}", f"http://127.0.0.1:{own}", Get(submitter.text), Get(reader.text), promtool
            )
        except BaseException:
            print((tmp_path / "log").read_text()[-5000:])
            raise
        finally:
            service.terminate()
            scraper.terminate()


def _watch(service: str, prometheus: str, submit: Get, read: Get, promtool: str) -> None:
    def answers(address: str) -> bool:
        try:
            return bool(urllib.request.urlopen(f"{address}", timeout=5).read())
        except OSError:
            return False

    def asked(query: str) -> float | None:
        found = json.loads(read(f"{prometheus}/api/v1/query?query={quote(query)}"))["data"]["result"]
        return float(found[0]["value"][1]) if found else None

    eventually(lambda: answers(f"{service}/ready") and answers(f"{prometheus}/-/ready"), 60)
    done = threading.Event()
    submitted: list[int] = []

    def load() -> None:
        while not done.is_set() and len(submitted) < 2000:
            submit(f"{service}/api/graphs/flow/runs", b'{"state": {}}')
            submitted.append(1)
            time.sleep(0.005)

    threads = [threading.Thread(target=load) for _ in range(4)]
    for thread in threads:
        thread.start()
    try:
        eventually(lambda: (asked('sum(workflow_runs_total{graph="flow",status="succeeded"})') or 0) >= 100, 60)
    finally:
        done.set()
        for thread in threads:
            thread.join()
    everything = 'sum(workflow_http_requests_total{route="/api/graphs/{name}/runs",status=~"20."})'
    eventually(lambda: asked(everything) == len(submitted), 30)
    eventually(lambda: asked('up{job="workflow-engine"}') == 1, 30)
    # No rate: all of them may have been counted by the first scrape, and nothing have changed since.
    eventually(lambda: asked("workflow_journal_commit_seconds_count"), 30)

    def health() -> set[str]:
        groups = json.loads(read(f"{prometheus}/api/v1/rules"))["data"]["groups"]
        return {rule["health"] for rule in groups[0]["rules"]}

    eventually(lambda: health() == {"ok"}, 30)
    checked(promtool, "check", "metrics", input=read(f"{service}/metrics").decode())
