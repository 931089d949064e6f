"""Which results are used again, and who computes them, with the time given."""

from engine import Cache
from engine.reusing import Found, Results


def results(**options: float) -> "Results[str]":
    return Results(Cache(**{"ttl": 10, **options}))  # type: ignore[arg-type]


def test_the_first_leads_and_who_asks_for_the_same_meanwhile_follows() -> None:
    kept = results()

    assert [kept.ask(b"k", who, 0) for who in "abc"] == ["lead", "follow", "follow"]
    assert kept.ask(b"other", "d", 0) == "lead"
    assert (kept.misses, kept.shared) == (2, 2)


def test_followers_get_what_the_leader_found_in_the_order_they_came() -> None:
    kept = results()
    for who in "abc":
        kept.ask(b"k", who, 0)

    assert kept.succeeded("a", 42, 1) == ["b", "c"]
    assert kept.ask(b"k", "d", 2) == Found(42)


def test_a_result_is_used_for_its_time_from_when_it_was_found() -> None:
    kept = results(ttl=10)
    kept.ask(b"k", "a", 0)
    kept.succeeded("a", 42, 5)

    assert kept.ask(b"k", "b", 14.9) == Found(42)
    assert kept.ask(b"k", "c", 15) == "lead"


def test_a_failure_is_that_of_all_who_wait_and_kept_for_nobody() -> None:
    kept = results()
    for who in "abc":
        kept.ask(b"k", who, 0)

    assert kept.failed("a") == ["b", "c"]
    assert kept.ask(b"k", "b", 1) == "lead"


def test_a_leader_that_is_gone_hands_over_to_the_first_who_follows() -> None:
    kept = results()
    for who in "abc":
        kept.ask(b"k", who, 0)

    assert kept.dropped("a") == "b"
    assert kept.ask(b"k", "d", 1) == "follow"
    assert kept.succeeded("b", 1, 2) == ["c", "d"]


def test_a_leader_that_nobody_follows_leaves_nothing() -> None:
    kept = results()
    kept.ask(b"k", "a", 0)

    assert kept.dropped("a") is None
    assert kept.ask(b"k", "b", 1) == "lead"


def test_a_follower_that_is_gone_gets_nothing() -> None:
    kept = results()
    for who in "abc":
        kept.ask(b"k", who, 0)

    assert kept.dropped("b") is None
    assert kept.succeeded("a", 1, 2) == ["c"]


def test_only_those_used_last_are_kept() -> None:
    kept = results(size=2)
    for key in (b"a", b"b", b"c"):
        kept.ask(key, str(key), 0)
        kept.succeeded(str(key), key, 0)
        if key == b"b":
            kept.ask(b"a", "again", 0)

    assert len(kept) == 2
    assert kept.ask(b"a", "x", 1) == Found(b"a")
    assert kept.ask(b"b", "y", 1) == "lead"


def test_another_time_holds_for_what_is_there() -> None:
    kept = results(ttl=10)
    kept.ask(b"k", "a", 0)
    kept.succeeded("a", 42, 0)

    kept.change(Cache(ttl=3))

    assert kept.ask(b"k", "b", 2) == Found(42)
    assert kept.ask(b"k", "c", 3) == "lead"


def test_another_key_forgets_what_is_there_and_who_waits_is_answered_all_the_same() -> None:
    kept = results()
    kept.ask(b"k", "a", 0)
    kept.ask(b"k", "b", 0)

    kept.change(Cache(ttl=10, key="x"))

    assert kept.ask(b"k", "c", 1) == "lead"
    assert kept.succeeded("a", 1, 2) == ["b"]
    assert kept.ask(b"k", "d", 3) == "follow"


def test_without_a_cache_nothing_is_kept_and_who_waits_is_answered() -> None:
    kept = results()
    kept.ask(b"k", "a", 0)
    kept.ask(b"k", "b", 0)

    kept.change(None)

    assert kept.succeeded("a", 1, 2) == ["b"]
    assert len(kept) == 0
