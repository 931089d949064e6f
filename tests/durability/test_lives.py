"""What lives tell, and what is left of it when one is killed while it tells something."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.durability import lives


@pytest.mark.parametrize("written", range(len("\n1 start x/step#1 .")))
def test_a_line_that_a_life_was_killed_in_loses_nothing_but_itself(written: int, tmp_path: Path) -> None:
    file = tmp_path / "lines"
    lives.open_lines(file, 1)
    lives.note("begins", 1.5)
    with file.open("a") as torn:
        torn.write("\n1 start x/step#1 ."[:written])
    lives.open_lines(file, 2)
    lives.note("begins", 2.5)

    assert list(lives.lines_of(file)) == [lives.Line(1, "begins", ["1.5"]), lives.Line(2, "begins", ["2.5"])]
