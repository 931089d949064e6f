"""Every way to submit, as one process: how many ended, which of them twice, and what was cancelled."""

from __future__ import annotations

import re
from typing import Any

import anyio
import pytest

from actors.testing import BACKENDS
from actors.testing import anyio_backend as options_of
from engine import Engine
from examples.submit.ending import ends_of
from examples.submit.flow import graph
from tests.examples.processes import said_by


@pytest.mark.parametrize("backend", ["asyncio", "trio"], ids="on-{}".format)
def test_each_way_submits_each_run_once(backend: str) -> None:
    said = said_by("examples.submit", backend, "--runs", "400")

    assert "{'succeeded': 396, 'failed': 4}" in said
    assert "all of them again, same keys: 0 new runs" in said
    assert re.search(r"(\d+) in time; now (\d+) cancelled, (\d+) succeeded", said)
    assert "a run with deadline=0.05: failed" in said
    assert "totals [3285, 3615, 3945, 4340], {'succeeded': 100} by one engine" in said
    first, again, other = re.findall(r"exit code (\d), run (\w+), (\w+)", said)
    assert first == again
    assert other[::2] == ("1", "failed")
    assert "{'succeeded': 20} in" in said
    assert "parcel 7 again is the same run" in said
    assert "what took too long: cancelled" in said
    assert said.endswith("a program without a loop: {'number': 5, 'grams': 285, 'postage': 95}\n")


@pytest.fixture(params=BACKENDS)
def anyio_backend(request: pytest.FixtureRequest) -> tuple[str, dict[str, Any]]:
    """With a clock that jumps: what is quick ends first, whatever else this machine does."""
    return options_of(request.param, virtual_time=True)


async def test_ends_come_in_the_order_in_which_runs_end() -> None:
    async with Engine() as engine:
        with ends_of(engine) as ends:
            slow = await engine.submit(graph, {"number": 1, "slow": 0.1})
            quick = await engine.submit(graph, {"number": 2})
            with anyio.fail_after(10):
                found = [await anext(ends), await anext(ends)]

    assert found == [quick, slow]
