"""Random graphs under random schedules on the pure core, compared with the reference interpreter."""

from __future__ import annotations

import pytest

from tests.reference.compare import differences
from tests.reference.generate import ANY, EXACT, PLAIN, RACY, SMALL, Profile, random_spec
from tests.semantics.random_graphs import Core, CoreDriver, run_core

PROFILES = {"exact": (EXACT, 1200), "small": (SMALL, 600), "plain": (PLAIN, 600), "any": (ANY, 150), "racy": (RACY, 60)}
TENTHS = range(10)


def check(profile: Profile, seeds: range, schedules: int) -> None:
    for seed in seeds:
        spec = random_spec(seed, profile)
        for schedule in range(schedules):
            assert differences(spec, run_core(spec, schedule)) == [], f"seed {seed}, schedule {schedule}"


@pytest.mark.parametrize("name", PROFILES)
@pytest.mark.parametrize("tenth", TENTHS)
def test_the_core_agrees_with_the_reference_under_every_schedule(name: str, tenth: int) -> None:
    profile, count = PROFILES[name]
    check(profile, range(tenth * count // 10, (tenth + 1) * count // 10), 3)


@pytest.mark.parametrize("tenth", TENTHS)
def test_the_core_comes_to_the_same_with_a_journal_as_without(tenth: int) -> None:
    for seed in range(tenth * 30, tenth * 30 + 30):
        spec = random_spec(seed, EXACT)
        short, long = run_core(spec, seed), run_core(spec, seed, journal=True)

        assert (short.status, short.state, short.activations) == (long.status, long.state, long.activations)
        assert (short.routes, short.errors) == (long.routes, long.errors)


@pytest.mark.parametrize("name", ["plain", "exact"])
@pytest.mark.parametrize("tenth", TENTHS)
def test_the_core_tells_the_same_events_in_the_same_order_with_a_journal_as_without(name: str, tenth: int) -> None:
    for seed in range(tenth * 30, tenth * 30 + 30):
        core = Core(random_spec(seed, PROFILES[name][0]))
        short, long = (CoreDriver(core, seed, journal=journal) for journal in (False, True))
        for driver in (short, long):
            driver.start(core.initial()).to_end()

        assert short.run.history.events() == long.run.history.events(), f"seed {seed}"
        assert short.run.history.visited() == long.run.history.visited(), f"seed {seed}"


def test_many_plain_graphs_have_joins_that_count_until_something_fails() -> None:
    specs = [random_spec(seed, PLAIN) for seed in range(200)]
    sure = [(seed, spec) for seed, spec in enumerate(specs) if Core(spec).plan.sure]

    assert len(sure) > 80
    assert sum(bool(run_core(spec, seed).errors) for seed, spec in sure) > 20


def test_what_is_forgotten_early_is_not_missed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("engine.live.MANY", 1)

    check(EXACT, range(400), 1)
