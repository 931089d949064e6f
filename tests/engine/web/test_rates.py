"""Token buckets, in time that the test moves."""

import pytest

from engine.web.rates import Buckets, Rate, network_of


class Clock:
    now = 100.0

    def __call__(self) -> float:
        return self.now


def test_a_burst_is_let_through_and_then_the_rate() -> None:
    clock = Clock()
    buckets = Buckets(Rate(2, 3), clock=clock)
    assert [buckets.take("a") for _ in range(4)] == [0, 0, 0, 0.5]
    assert buckets.lacks("a") == 0.5
    clock.now += 0.5
    assert buckets.lacks("a") == 0

    assert [buckets.take("a"), buckets.take("a")] == [0, 0.5]


def test_a_bucket_never_holds_more_than_the_burst() -> None:
    clock = Clock()
    buckets = Buckets(Rate(10, 2), clock=clock)
    buckets.take("a")
    clock.now += 1e9

    assert [buckets.take("a") for _ in range(3)] == [0, 0, 0.1]


def test_each_has_a_bucket_of_its_own() -> None:
    buckets = Buckets(Rate(1, 1), clock=Clock())

    assert [buckets.take(who) for who in "aab"] == [0, 1, 0]


def test_who_is_refused_does_not_wait_longer_for_asking_again() -> None:
    buckets = Buckets(Rate(1, 1), clock=Clock())

    assert [buckets.take("a") for _ in range(4)] == [0, 1, 1, 1]


def test_the_table_is_bounded_and_forgets_who_asked_longest_ago() -> None:
    buckets = Buckets(Rate(1, 1), most=3, clock=Clock())
    for who in "abcad":
        buckets.take(who)

    assert len(buckets) == 3
    assert [bool(buckets.lacks(who)) for who in "abcd"] == [True, False, True, True]


@pytest.mark.parametrize("values", [(0, 1), (1, 0), (-1, 1), (float("nan"), 1)])
def test_a_rate_of_nothing_is_refused(values: tuple[float, float]) -> None:
    with pytest.raises(ValueError, match="must be more than 0"):
        Rate(*values)


@pytest.mark.parametrize(
    ("address", "network"),
    [
        ("192.0.2.1", "192.0.2.1"),
        ("2001:db8::1", "2001:0db8:0000:0000"),
        ("2001:db8::ffff:2", "2001:0db8:0000:0000"),
        ("::ffff:192.0.2.1", "192.0.2.1"),
        ("?", "?"),
    ],
)
def test_a_host_is_counted_by_its_network(address: str, network: str) -> None:
    assert network_of(address) == network
