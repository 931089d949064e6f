"""A short soak of the real service, on each backend; and that it finds what is broken on purpose."""

from __future__ import annotations

import random
from pathlib import Path

import pytest

from tests.durability.soak import soak

MINUTES = 0.2


@pytest.mark.parametrize(("backend", "store"), [("asyncio", "postgres"), ("trio", "sqlite")])
def test_nothing_is_lost_while_the_service_is_ended_again_and_again(backend: str, store: str, tmp_path: Path) -> None:
    report = soak(tmp_path, MINUTES, random.randrange(1 << 32), backend, store)

    assert not report.faults, str(report)
    assert report.kills + len(report.drains) >= 2, str(report)
    assert report.tally.done["results"] > 50, str(report)
    assert report.tally.done["streams resumed"] > 5, str(report)


@pytest.mark.parametrize(("fault", "told"), [("drop_event", "misses"), ("leak", "memory grew")])
def test_what_is_broken_on_purpose_is_found(fault: str, told: str, tmp_path: Path) -> None:
    report = soak(tmp_path, MINUTES, 1, "asyncio", "sqlite", fault)

    assert any(told in each for each in report.faults), str(report)
