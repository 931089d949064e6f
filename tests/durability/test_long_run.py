"""A long run: what the store keeps of it is bounded, and so is the time to go on with it."""

from __future__ import annotations

from pathlib import Path

import anyio

from engine import Engine, Settings
from engine.keeping import SNAPSHOT_RECORDS
from tests.durability import lives
from tests.durability.long_run import Found, counting, run_and_kill, step_on

HISTORY = 10_000


def test_what_is_kept_of_a_long_run_and_the_time_to_recover_it_are_bounded(tmp_path: Path) -> None:
    found: list[tuple[Found, Found]] = []
    while len(found) < 4 and not any(map(is_recovered_as_soon, found)):
        folder = tmp_path / str(len(found))
        folder.mkdir()
        short = run_and_kill(f"sqlite:///{folder}/short.db", folder, 2_000)
        long = run_and_kill(f"sqlite:///{folder}/long.db", folder, 20_000)
        found.append((short, long))

    assert short.records == 2_001, "all of it, and its end"
    # What came after the snapshot may be more than what makes one due: relaxed records come in batches.
    assert HISTORY < long.records <= HISTORY + 3 * SNAPSHOT_RECORDS, long
    assert long.most_bytes < 250 * long.records, long
    assert (long.log, long.dropped) == (HISTORY, 20_000 - HISTORY), long
    assert any(map(is_recovered_as_soon, found)), found


def is_recovered_as_soon(found: tuple[Found, Found]) -> bool:
    """In some round of them: what others do to this machine makes a recovery late as well, but not each time."""
    short, long = found
    return long.recovery_seconds < 3 * short.recovery_seconds + 0.2


def test_without_pruning_a_long_run_can_be_forked_from_its_beginning(tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path}/runs.db"
    found = run_and_kill(url, tmp_path, 20_000, prune=False)
    assert found.records == 20_001

    lives.open_lines(tmp_path / "lines of the fork", 3)

    async def fork_it() -> None:
        async with Engine(url, settings=Settings(prune=False)) as engine:
            engine.register(counting(step_on))
            fork = await engine.fork("long", at="step#3", update={"n": 19_990})
            assert (await fork.result()).state["n"] == 20_000
            assert fork.counters["activations"] == 12
            run = await engine.get("long")
            events = [event.seq async for event in run.events()]
        assert events == list(range(1, len(events) + 1)), "every event is there"

    anyio.run(fork_it)
