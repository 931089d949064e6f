"""Killed with -9 at random instants under load: what was acknowledged is kept, what was recorded is not repeated."""

from __future__ import annotations

import random
from pathlib import Path

import pytest

from tests.durability.random_kills import kill_again_and_again
from tests.servers import fresh_postgres, fresh_redis


@pytest.mark.parametrize(("store", "kills"), [("sqlite", 200), ("postgres", 20), ("redis", 20)])
def test_nothing_acknowledged_is_lost_and_nothing_recorded_is_repeated(store: str, kills: int, tmp_path: Path) -> None:
    fresh = {"sqlite": lambda: f"sqlite:///{tmp_path}/runs.db", "postgres": fresh_postgres, "redis": fresh_redis}
    seed = random.randrange(1 << 32)
    report = kill_again_and_again(fresh[store](), tmp_path, kills, seed, most_seconds=100)

    assert not report.faults, str(report)
    assert report.acknowledged > report.kills / 4, str(report)
    assert report.interrupted, f"it was killed in the middle of things: {report}"
