"""How often a node may start: in pure code, with the time given."""

from hypothesis import given
from hypothesis import strategies as st

from engine.options import Rate, parse_rate
from engine.pace import MOST_KEPT, Pace


def starts(pace: Pace, asked_at: list[float]) -> list[float]:
    """When each of these may start that asks again as soon as it may, first come first served."""
    found: list[float] = []
    now = 0.0
    for asked in asked_at:
        now = max(now, asked)
        while wait := pace.take(now):
            now += wait
        found.append(now)
    return found


@given(
    st.sampled_from(["1/s", "3/s", "10/s", "0.5/s", "2.5/s", "7/10s", "4000/s"]),
    st.lists(st.floats(0, 0.4), min_size=1, max_size=60),
)
def test_no_window_holds_more_starts_than_the_rate_says(text: str, gaps: list[float]) -> None:
    rate = parse_rate(text)
    asked = [sum(gaps[: index + 1]) for index in range(len(gaps))]

    found = starts(Pace(rate), asked)

    most = max(1, int(rate.count))
    window = rate.seconds * most / rate.count
    for first, beyond in zip(found, found[most:], strict=False):
        assert beyond - first >= window - 1e-6


def test_a_fraction_is_spread_over_more_than_a_second() -> None:
    assert starts(Pace(Rate(0.5, 1)), [0] * 4) == [0, 2, 4, 6]


def test_half_starts_do_not_add_up_to_a_whole_one_too_many() -> None:
    assert starts(Pace(Rate(2.5, 1)), [0] * 6)[-1] >= 1.6


def test_those_of_a_high_rate_are_not_remembered_one_by_one() -> None:
    pace = Pace(Rate(1_000_000, 1))

    found = starts(pace, [index / 2_000_000 for index in range(200_000)])

    assert found == [index / 2_000_000 for index in range(200_000)]
    assert len(pace._slots) <= MOST_KEPT


def test_a_high_rate_holds_all_the_same() -> None:
    pace = Pace(Rate(5_000, 1))

    found = starts(pace, [0.0] * 10_001)

    assert found[4_999] == 0
    assert found[5_000] >= 1
    assert found[10_000] >= 2


def test_another_rate_counts_what_has_started() -> None:
    pace = Pace(Rate(2, 1))
    starts(pace, [0, 0])

    assert Pace(Rate(3, 1), pace).take(0.5) == 0
    assert Pace(Rate(1, 1), pace).take(0.5) == 0.5
