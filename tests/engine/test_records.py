"""What records carry: enough for a replay to leave the same log and the same events behind."""

from __future__ import annotations

from typing import Any

import pytest

from engine.runs import Run
from tests.reference.generate import EXACT, RACY, Profile, random_spec
from tests.semantics.random_graphs import Core, CoreDriver


def history(run: Run) -> dict[str, Any]:
    """All that can be seen of a run."""
    return {
        "events": run.history.events(),
        "log": run.history.log(),
        "visited": run.history.visited(),
        "counters": run.counters,
    }


@pytest.mark.parametrize("profile", [EXACT, RACY], ids=["exact", "racy"])
@pytest.mark.parametrize("tenth", range(10))
def test_a_replay_leaves_the_same_history_behind(tenth: int, profile: Profile) -> None:
    for seed in range(tenth * 12, tenth * 12 + 12):
        core = Core(random_spec(seed, profile))
        driver = CoreDriver(core, seed, journal=True)
        driver.start(core.initial())
        seen = {len(driver.records): history(driver.run)}
        while driver.step():
            seen[len(driver.records)] = history(driver.run)
        for count, expected in seen.items():
            run = Run(driver.plan, "run", journal=True)
            run.replay(core.initial(), driver.records[:count], driver.now, 0.0)

            found = history(run)
            more = found["events"][len(expected["events"]) :]
            del found["events"][len(expected["events"]) :]
            assert found == expected, f"graph {seed} after record {count}"
            # What was ending ends at once, since nothing works on it; a map waits for its items again.
            assert [event.type for event in more] in ([], ["run_failed"], ["run_succeeded"], ["run_waiting"])
