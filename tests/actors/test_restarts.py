"""Whether, when and with whom a child is restarted: functions of reasons and times, so no loop and no waiting."""

from math import inf

import pytest
from hypothesis import given
from hypothesis import strategies as st

from actors import Backoff
from actors.lifecycle import KILLED, NORMAL, SHUTDOWN, StopReason, crashed
from actors.restarts import Budget, Delays, affected, is_abnormal, restarts
from actors.spec import Restart, Strategy

CRASH = crashed(ValueError("boom"))
REASONS = {"normal": NORMAL, "shutdown": SHUTDOWN, "crashed": CRASH, "killed": KILLED}
COMES_BACK: set[tuple[Restart, str]] = {
    ("permanent", "normal"),
    ("permanent", "shutdown"),
    ("permanent", "crashed"),
    ("permanent", "killed"),
    ("transient", "crashed"),
    ("transient", "killed"),
}


@pytest.mark.parametrize("kind", REASONS)
@pytest.mark.parametrize("restart", ["permanent", "transient", "temporary"])
def test_only_permanent_children_and_transient_ones_that_crashed_come_back(restart: Restart, kind: str) -> None:
    assert restarts(restart, REASONS[kind]) is ((restart, kind) in COMES_BACK)


def test_a_crash_and_a_kill_are_abnormal_ends() -> None:
    assert [kind for kind, reason in REASONS.items() if is_abnormal(reason)] == ["crashed", "killed"]


@pytest.mark.parametrize(
    ("strategy", "failed", "expected"),
    [
        ("one_for_one", "b", ["b"]),
        ("dynamic", "b", ["b"]),
        ("one_for_all", "b", ["a", "b", "c"]),
        ("one_for_all", "c", ["a", "b", "c"]),
        ("rest_for_one", "a", ["a", "b", "c"]),
        ("rest_for_one", "b", ["b", "c"]),
        ("rest_for_one", "c", ["c"]),
    ],
)
def test_a_strategy_says_who_is_restarted_together(strategy: Strategy, failed: str, expected: list[str]) -> None:
    assert affected(strategy, ["a", "b", "c"], failed) == expected


# The budget


def test_a_budget_holds_for_exactly_max_restarts_crashes() -> None:
    budget = Budget(3, 5)

    assert [budget.charge(time) for time in (0, 1, 2)] == [True, True, True]
    assert budget.charge(3) is False


def test_a_crash_counts_until_its_period_is_over_and_not_longer() -> None:
    exactly, later = Budget(1, 5), Budget(1, 5)
    exactly.charge(0)
    later.charge(0)

    assert exactly.charge(5) is False
    assert later.charge(5.001) is True


def test_a_budget_of_none_is_spent_by_the_first_crash() -> None:
    assert Budget(0, 5).charge(0) is False


def test_a_budget_without_end_is_never_spent() -> None:
    budget = Budget(inf, 5)

    assert all(budget.charge(0) for _ in range(1000))


def test_a_budget_forgets_the_crashes_that_are_too_old_to_count() -> None:
    budget = Budget(inf, 1)
    for time in range(100):
        budget.charge(time * 2)

    assert budget.crashes == 1


@given(
    st.integers(0, 5),
    st.integers(1, 20),
    st.lists(st.integers(0, 30), max_size=40).map(sorted),
)
def test_a_budget_is_spent_exactly_when_more_than_its_crashes_lie_within_a_period(
    max_restarts: int, period: int, times: list[int]
) -> None:
    budget = Budget(max_restarts, period)

    for index, now in enumerate(times):
        within = sum(now - time <= period for time in times[: index + 1])
        assert budget.charge(now) is (within <= max_restarts)
        assert budget.crashes == within


# The delays


def test_without_a_backoff_a_restart_is_immediate() -> None:
    assert [Delays(None).next(0, 1.0) for _ in range(3)] == [0, 0, 0]


def test_delays_double_up_to_their_cap() -> None:
    delays = Delays(Backoff(1, 5, jitter=0))
    now, seen = 0.0, list[float]()
    for _ in range(5):
        seen.append(delays.next(now, 0))
        now += seen[-1]

    assert seen == [1, 2, 4, 5, 5]


def test_a_quiet_stretch_of_half_the_sum_begins_anew_and_a_shorter_one_does_not() -> None:
    quiet, restless = Delays(Backoff(1, 5, jitter=0)), Delays(Backoff(1, 5, jitter=0))
    for delays in (quiet, restless):
        assert [delays.next(0, 0), delays.next(1, 0)] == [1, 2]  # so it is up again at 3

    assert quiet.next(3 + 3, 0) == 1
    assert restless.next(3 + 2.999, 0) == 4


def test_the_time_spent_waiting_is_no_quiet_time() -> None:
    delays = Delays(Backoff(10, 20, jitter=0))
    delays.next(0, 0)

    # 15 s after the crash, but only 5 s after the restart.
    assert delays.next(15, 0) == 20


def test_jitter_adds_a_part_of_the_delay() -> None:
    assert Delays(Backoff(2, 8, jitter=0.5)).next(0, 0.0) == 2
    assert Delays(Backoff(2, 8, jitter=0.5)).next(0, 0.5) == 2.5
    assert Delays(Backoff(2, 8, jitter=0.5)).next(0, 1.0) == 3


def test_a_row_of_any_length_stays_at_the_cap() -> None:
    delays = Delays(Backoff(1, 1000, jitter=0))
    now = 0.0
    for _ in range(2000):
        delay = delays.next(now, 0)
        now += delay

    assert delay == 1000


def test_a_reason_says_what_it_is() -> None:
    assert [str(reason) for reason in (NORMAL, SHUTDOWN, KILLED, CRASH)] == [
        "normal",
        "shutdown",
        "killed",
        "crashed by ValueError('boom')",
    ]
    assert StopReason("normal") == NORMAL
