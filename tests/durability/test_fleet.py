"""Several engine processes on one store: killed, stopped, cut off, and the server taken away from under them.

At full size, and with the leases that are the default, by hand: fleet.py and fleet_away.py in this folder.
"""

from __future__ import annotations

import random
from pathlib import Path

import pytest

from tests.durability.fleet import QUICK, kill_among
from tests.durability.fleet_away import NotPermitted, at_best, cut_off, faults_of, stopped
from tests.servers import PostgresServer, fresh_postgres


def test_engines_are_killed_one_after_the_other_and_each_run_ends_once(tmp_path: Path) -> None:
    report = kill_among(fresh_postgres(), tmp_path, runs=90, pause=0.2, every=2.0, seed=random.randrange(1 << 32))

    assert not report.faults, str(report)
    assert report.kills, "none was killed"
    assert report.engines > 3, f"the others took over: {report}"


def test_the_server_is_killed_in_the_middle_and_each_run_ends_once(tmp_path: Path) -> None:
    with PostgresServer() as server:
        left = [3.0, 6.0]

        def restart(seconds: float) -> None:
            if left and seconds > left[0]:
                left.pop(0)
                server.kill()
                server.start()

        seed = random.randrange(1 << 32)
        url = f"{server.url}?schema=fleet"
        report = kill_among(url, tmp_path, runs=90, pause=0.2, every=4.0, seed=seed, beside=restart)

    assert not report.faults, str(report)
    assert not left, "the server was killed twice"


@pytest.mark.parametrize("backend", ["asyncio", "uvloop", "trio"])
def test_an_engine_that_is_stopped_past_its_lease_writes_nothing_when_it_wakes(tmp_path: Path, backend: str) -> None:
    found = at_best(lambda folder: stopped(fresh_postgres(), folder, QUICK, backend), tmp_path, QUICK)

    assert not faults_of(found, QUICK), str(found)


@pytest.mark.parametrize("backend", ["asyncio", "trio"])
def test_an_engine_that_is_cut_off_has_stopped_before_another_goes_on(tmp_path: Path, backend: str) -> None:
    try:
        found = at_best(lambda folder: cut_off(folder, QUICK, backend), tmp_path, QUICK)
    except NotPermitted as error:
        pytest.skip(f"networks of one's own are not permitted here: {error}")

    assert not faults_of(found, QUICK), str(found)
    assert found.last_tick_here < found.taken_over_after, f"both were at it at the same time: {found}"
    assert found.lost_after_return < 0, f"who waited was told by the engine's own clock: {found}"
