"""Killed after any record, a run goes on from there: nothing on record happens again, and it comes to the same end."""

from __future__ import annotations

from typing import Any

import pytest
from attrs import evolve

from engine.runs import Run
from tests.driver import freeze
from tests.engine.test_records import history
from tests.reference.generate import EXACT, RACY, Profile, random_spec
from tests.semantics.disturbed import MixedCore, MixedDriver, Packer, being_cancelled, completed, known_outcomes, shape


def killed(driver: MixedDriver, count: int, seed: int) -> MixedDriver:
    """The run of another life, after so many records."""
    assert isinstance(driver.core, MixedCore)
    run = Run(driver.plan, "run", journal=Packer())
    again = MixedDriver(driver.core, seed, violence=driver.violence, run=run)
    again.now = driver.now
    again.records = driver.records[:count]
    again.carry_out(run.replay(driver.core.initial(), driver.stored[:count], driver.now, 0.0))
    return again


def check_the_same_end(seed: int) -> None:
    """Cut at each of some records, a run that nothing forces ends as it would have."""
    spec = random_spec(seed, EXACT)
    driver = MixedDriver(MixedCore(spec, seed), seed)
    driver.start(driver.core.initial()).to_end()
    assert driver.run.over, "it hangs"
    whole = driver.run.status == "succeeded" or spec.on_failure == "continue"
    limited = any("ActivationLimit" in str(failure) for failure in driver.run.failures)
    for count in range(0, len(driver.records), max(1, len(driver.records) // 6)):
        where = f"graph {seed}, killed after record {count}"
        again = killed(driver, count, seed + count)
        assert not known_outcomes(driver.records[:count]).intersection(again.starts), where
        again.to_end()
        assert again.run.status == driver.run.status, where
        if whole and not limited:
            assert freeze(again.run.state) == freeze(driver.run.state), where
            # Inside of a subgraph that fails it is a matter of time what was completed.
            assert completed(again.records) == completed(driver.records), where


def check_the_same_life(seed: int, profile: Profile) -> None:
    """After each record a replay is where the run was, in state and history, and comes to an end."""
    spec = random_spec(seed, profile)
    driver = MixedDriver(MixedCore(spec, seed, timeouts=True), seed, violence=True)
    driver.start(driver.core.initial())
    run, seen = driver.run, dict[int, Any]()
    going_on = True
    while going_on:
        here = None if being_cancelled(run) else shape(run)
        seen[len(driver.records)] = here, history(run), driver.now
        going_on = driver.step()
    assert driver.run.over, "it hangs"
    for count, (expected, told, _) in seen.items():
        where = f"graph {seed}, killed after record {count}"
        again = killed(driver, count, seed)
        found = history(again.run)
        if any("]/" in (event.node or "") for event in told["events"]):
            told, found = _without_items(told), _without_items(found)
        more = {what: found[what][len(told[what]) :] for what in ("events", "log", "visited")}
        for what in more:
            del found[what][len(told[what]) :]
        if expected is None:
            del told["counters"], found["counters"]
        assert found == told, where
        if expected is not None:
            assert shape(again.run) == expected, where
            assert [event.type for event in more["events"]] in ([], ["run_waiting"]), where
            assert not more["log"], where
        assert not known_outcomes(driver.records[:count]).intersection(again.starts), where
        if count % 4 == 0:
            again.to_end()
            assert again.run.over, f"{where}: it hangs"


def _without_items(told: dict[str, Any]) -> dict[str, Any]:
    """Without what happened inside of a map's items: that is not recorded, and one event stands for its numbers."""
    return {
        "events": [
            evolve(event, seq=0)
            for event in told["events"]
            if "]/" not in (event.node or "") and event.type != "events_lost"
        ],
        "log": [entry for entry in told["log"] if "]/" not in entry.node],
        "visited": [name for name in told["visited"] if "]/" not in name],
        "counters": None,
    }


@pytest.mark.parametrize("tenth", range(10))
def test_a_killed_run_comes_to_the_same_end(tenth: int) -> None:
    for seed in range(tenth * 30, tenth * 30 + 30):
        check_the_same_end(seed)


@pytest.mark.parametrize("profile", [EXACT, RACY], ids=["exact", "racy"])
@pytest.mark.parametrize("tenth", range(10))
def test_a_killed_run_is_where_it_was(tenth: int, profile: Profile) -> None:
    for seed in range(tenth * 15, tenth * 15 + 15):
        check_the_same_life(seed, profile)
