"""The shop as a process: load and its books, the clock through kill -9, an end in order, and what watches it."""

from __future__ import annotations

import json
import re
import shutil
import signal
import socket
import subprocess
import urllib.error
import urllib.request
from pathlib import Path
from time import monotonic
from typing import Any

import anyio
import pytest
import yaml

from engine import Engine, Graph, Run
from examples.service import schedule as schedule_module
from examples.service.schedule import Schedule, keep_time
from tests.engine.web.services import eventually
from tests.examples.processes import HELD, ROOT, address_in, begun, said_by

FOLDER = ROOT / "examples" / "service"
BACKENDS = pytest.mark.parametrize("backend", ["asyncio", "trio"], ids="on-{}".format)


def got(url: str, data: Any = None) -> Any:
    body = None if data is None else json.dumps(data).encode()
    request = urllib.request.Request(url, body, {"content-type": "application/json"})
    try:
        with urllib.request.urlopen(request, timeout=30) as answer:
            said = answer.read().decode()
            return json.loads(said) if "json" in answer.headers["content-type"] else said
    except urllib.error.HTTPError as error:
        with error:
            raise AssertionError(f"{url} answered {error.code}: {error.read().decode()}") from None


def counted(url: str) -> list[int]:
    """The ticks whose takings were counted, in the order of their submission."""
    runs = got(f"{url}/workflows/api/runs?tag=schedule:takings&limit=1000")["runs"]
    return [int(run["tags"]["tick"]) for run in runs]


@BACKENDS
def test_each_order_of_many_customers_is_run_once_and_the_driver_tells_how_fast(backend: str) -> None:
    said = said_by("examples.service.load", backend, "--customers", "8", "--seconds", "3")

    # In one of the seconds: a busy machine may take the first of them to begin.
    assert re.search(
        r"^  \d s +\d+ orders/s +\d+ parcels/s  p50 [\d.]+  p95 [\d.]+  p99 [\d.]+ ms$", said, re.MULTILINE
    )
    assert re.search(r"\d+ shipped", said)
    assert said.endswith("each order was run once\n")


@BACKENDS
def test_orders_and_the_clock_go_on_after_kill_9_and_nothing_is_done_twice(backend: str, tmp_path: Path) -> None:
    words = ["examples.service", backend, "--port", "0", "--folder", str(tmp_path), "--every", "0.7", "--grace", "3"]
    order = {"number": "17", "item": "cup", "quantity": 2, "price": 250}
    with begun(*words) as first:
        url = address_in(first)
        eventually(lambda: counted(url), 60)
        got(f"{url}/orders", order)
        first.send_signal(signal.SIGKILL)
    with begun(*words) as second:
        url = address_in(second)
        before = len(counted(url))
        again = got(f"{url}/orders", order)
        ended = got(f"{url}/orders/17?wait=20")
        eventually(lambda: len(counted(url)) > before)
        ticks = counted(url)
        eventually(lambda: sum(each["orders"] for each in got(f"{url}/takings")))
        takings = got(f"{url}/takings")
        metrics = got(f"{url}/metrics")

        stream = socket.create_connection(("127.0.0.1", int(url.rpartition(":")[2])), timeout=20)
        stream.sendall(b"GET /workflows/api/runs/order-17/events HTTP/1.1\r\nhost: 127.0.0.1\r\n\r\n")
        assert stream.recv(1000).startswith(b"HTTP/1.1 200")
        second.send_signal(signal.SIGTERM)
        since = monotonic()
        _, errors = second.communicate(timeout=60)
        stream.close()

    assert again["number"] == "17"
    assert (ended["status"], ended["paid"]) == ("succeeded", True)
    assert ended["steps"] == ["reserved", "charged", "packed", "invoiced", "shipped"]
    assert sum(each["cents"] for each in takings) == 500
    assert len(set(ticks)) == len(ticks)
    assert ticks == sorted(ticks)
    assert "shop_schedule_last_tick_seconds" in metrics
    assert 'workflow_runs_submitted_total{graph="takings"}' in metrics
    assert (second.returncode, HELD.sub("", errors)) == (0, "")
    assert monotonic() - since < 20


def test_a_port_that_is_taken_is_told_before_anything_is_begun(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        with begun("examples.service", "--port", str(port), "--folder", str(tmp_path / "f")) as process:
            _, errors = process.communicate(timeout=30)

    assert process.returncode == 1
    assert f"error: port {port} of 127.0.0.1 is taken" in errors
    assert "Traceback" not in errors
    assert list(tmp_path.rglob("*.db")) == []


# --- the clock ------------------------------------------------------------------------------------------


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """What the time is: its last item."""
    now = [1_000_000.0]
    monkeypatch.setattr(schedule_module, "time", lambda: now[-1])
    return now


async def ticks(engine: Engine, schedule: Schedule, count: int) -> list[str]:
    """Keep the time until there are so many; those, and whether more came at once."""
    found: list[Run] = []
    enough = anyio.Event()

    def told(run: Run) -> None:
        found.append(run)
        if len(found) == count:
            enough.set()

    async with anyio.create_task_group() as group:
        group.start_soon(keep_time, engine, schedule, told)
        with anyio.fail_after(30):
            await enough.wait()
        for _ in range(20):
            await anyio.lowlevel.checkpoint()
        group.cancel_scope.cancel()
    return [run.tags["tick"] for run in found]


HOURLY = Schedule(name="hourly", graph="count", every=3600.0, state=lambda since, until: {"until": until})


def counting() -> Graph:
    return Graph("count").add_node("count", lambda state: {"done": True}).set_entry_point("count")


async def test_the_first_start_makes_up_for_nothing(clock: list[float]) -> None:
    async with Engine("memory://") as engine:
        engine.register(counting())

        assert await ticks(engine, HOURLY, 1) == ["277"]


async def test_a_restart_within_a_tick_is_the_same_run_and_missed_ticks_are_made_up_for(clock: list[float]) -> None:
    async with Engine("memory://") as engine:
        engine.register(counting())
        await ticks(engine, HOURLY, 1)

        await ticks(engine, HOURLY, 1)
        again = [run.tags["tick"] for run in await engine.runs()]
        clock.append(clock[-1] + 2 * 3600)
        await ticks(engine, HOURLY, 3)
        later = [run.tags["tick"] for run in await engine.runs()]
        clock.append(clock[-1] + 100 * 3600)
        await ticks(engine, HOURLY, 4)
        much_later = [run.tags["tick"] for run in await engine.runs()]

    assert again == ["277"]
    assert later == ["277", "278", "279"]
    assert much_later == [*later, "376", "377", "378", "379"]


async def test_a_clock_that_is_set_back_submits_nothing_twice(clock: list[float]) -> None:
    async with Engine("memory://") as engine:
        engine.register(counting())
        await ticks(engine, HOURLY, 1)
        clock.append(clock[-1] - 3600)
        await ticks(engine, HOURLY, 1)
        clock.append(clock[-1] + 3600)
        await ticks(engine, HOURLY, 1)

        found = [run.tags["tick"] for run in await engine.runs()]

    assert sorted(found) == ["276", "277"]


# --- what watches it ------------------------------------------------------------------------------------


def test_alerts_name_metrics_that_the_shop_has(tmp_path: Path) -> None:
    from examples.service.app import create

    app = create(tmp_path)
    (found,) = [route for route in app.routes if getattr(route, "path", "") == "/metrics"]
    metrics = found.endpoint().body.decode()  # type: ignore[attr-defined]
    rules = yaml.safe_load((FOLDER / "alerts.yml").read_text())["groups"][0]["rules"]
    engines = json.dumps(json.loads((ROOT / "examples" / "monitoring" / "grafana.json").read_text()))
    named = {name for rule in rules for name in re.findall(r"\b(?:shop|workflow)_\w+", rule["expr"])}

    assert len(named) == 4
    assert [name for name in named if name not in metrics and name not in engines] == []


def test_promtool_accepts_the_configuration_with_its_rules() -> None:
    promtool = shutil.which("promtool")
    if promtool is None:
        pytest.skip("promtool is not installed (apt-get install prometheus)")
    done = subprocess.run(
        [promtool, "check", "config", str(FOLDER / "prometheus.yml")], capture_output=True, text=True, timeout=60
    )

    assert done.returncode == 0, done.stdout + done.stderr
    assert "3 rules found" in done.stdout
