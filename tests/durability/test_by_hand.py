"""What anybody can try by hand works."""

from __future__ import annotations

from pathlib import Path

from tests.durability.by_hand import try_it


def test_a_hundred_runs_are_killed_and_all_finish(tmp_path: Path) -> None:
    said = try_it(f"sqlite:///{tmp_path}/runs.db", tmp_path, 100)

    assert "100 of 100 runs succeeded" in said[2]
