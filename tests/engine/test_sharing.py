"""What engines that share a store decide, without a store: leases, who is claimed, where a run begins."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from engine import Engine, Sharing
from engine.sharing import Candidate, Lease, begins_at_once, choose, judged, places_for, wary_from
from engine.stored import Losses


def test_a_lease_counts_from_when_it_was_asked_for() -> None:
    lease = Lease(Sharing(lease=15, renew=5), asked_at=100.0)

    assert (lease.due, lease.until) == (105.0, 115.0)
    assert not lease.is_over(114.9)
    assert lease.is_over(115.0)


def test_an_answer_that_comes_late_does_not_take_back_what_a_later_one_gave() -> None:
    lease = Lease(Sharing(lease=15, renew=5), asked_at=100.0)
    lease.renewed(110.0)
    lease.renewed(105.0)

    assert (lease.due, lease.until) == (115.0, 125.0)


@given(st.floats(0, 20))
def test_a_renewal_that_failed_is_tried_again_soon_and_never_after_the_lease(now: float) -> None:
    lease = Lease(Sharing(lease=15, renew=5), asked_at=0.0)
    wait = lease.wait_after_failure(now)

    assert 0.0 <= wait <= 0.5
    assert now >= 15.0 or now + wait <= 15.0


def test_runs_are_chosen_in_their_order_as_far_as_their_graphs_have_room() -> None:
    candidates = [Candidate(1, "a"), Candidate(2, "a"), Candidate(3, "b"), Candidate(4, "a"), Candidate(5, "b")]
    room = {"a": 1}

    assert choose(candidates, 10, room) == [1, 3, 5]
    assert room == {"a": 0}


@given(
    st.lists(st.sampled_from("abc"), max_size=30),
    st.integers(0, 20),
    st.dictionaries(st.sampled_from("ab"), st.integers(-3, 5)),
)
def test_no_choice_is_larger_than_it_may_be_and_none_leaves_out_what_has_room(
    graphs: list[str], most: int, room: dict[str, int]
) -> None:
    candidates = [Candidate(number, graph) for number, graph in enumerate(graphs)]
    chosen = choose(candidates, most, dict(room))

    assert len(chosen) <= most
    assert chosen == sorted(chosen)
    for graph, limit in room.items():
        assert sum(graphs[number] == graph for number in chosen) <= max(0, limit)
    if len(chosen) < most:
        left = {graphs[number] for number in range(len(graphs)) if number not in chosen}
        assert all(graph in room and sum(graphs[n] == graph for n in chosen) >= max(0, room[graph]) for graph in left)


def test_a_run_is_judged_by_the_engines_that_were_lost_with_it_since_it_got_further() -> None:
    lost = [Losses(times, seq=7) for times in (1, 49, 99, 100, 101)]

    assert [judged(one, 7, 100) for one in lost] == ["suspect", "suspect", "suspect", "poison", "poison"]
    assert {judged(one, 8, 100) for one in lost} == {"innocent"}
    assert judged(None, 7, 1) == "innocent"
    assert judged(Losses(1000, seq=7), 7, None) == "innocent"


@pytest.mark.parametrize(("most", "wary"), [(None, None), (1, 2), (3, 2), (4, 2), (5, 3), (100, 50)])
def test_from_half_of_what_is_allowed_on_a_run_is_tried_alone_and_never_after_one_loss(
    most: int | None, wary: int | None
) -> None:
    assert wary_from(most) == wary


def test_an_engine_claims_no_more_than_it_has_places_for() -> None:
    assert places_for(max_runs=10, taken=7, at_once=100) == 3
    assert places_for(max_runs=10, taken=12, at_once=100) == 0
    assert places_for(max_runs=1000, taken=0, at_once=100) == 100
    assert places_for(max_runs=None, taken=5000, at_once=100) == 100


@pytest.mark.parametrize(
    ("is_full", "others_wait", "inside", "is_limited", "expected"),
    [
        (False, False, False, False, True),
        (True, False, False, False, False),
        (False, True, False, False, False),
        (False, False, False, True, False),
        (True, True, True, True, True),
    ],
)
def test_a_run_begins_where_it_is_submitted_unless_others_are_before_it(
    is_full: bool, others_wait: bool, inside: bool, is_limited: bool, expected: bool
) -> None:
    assert begins_at_once(is_full=is_full, others_wait=others_wait, inside=inside, is_limited=is_limited) is expected


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"lease": 0}, r"Sharing\(lease=0\): must be a number above 0"),
        ({"claim": 1.5}, r"Sharing\(claim=1.5\): must be a whole number above 0"),
        ({"lease": 10, "renew": 6}, "a lease must be renewed at least 2 times within itself"),
        ({"takeovers": 0}, r"Sharing\(takeovers=0\): must be a whole number above 0, found 0; None sets no limit"),
        ({"graph_runs": {"g": 0}}, "names of graphs, each with a whole number above 0"),
    ],
)
def test_how_a_store_is_shared_is_checked_at_once(options: dict[str, object], said: str) -> None:
    with pytest.raises(ValueError, match=said):
        Sharing(**options)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"shared": True}, "shared is for a store"),
        ({"store": "sqlite:///runs.db", "shared": True}, r"shared is for postgresql://… only"),
        ({"store": "postgresql://x/y", "shared": "yes"}, r"shared must be True, False or a Sharing\(...\)"),
        ({"store": "postgresql://x/y", "shared": True, "fallback": "memory"}, "fallback is for one engine alone"),
    ],
)
def test_an_engine_says_what_cannot_be_shared(options: dict[str, object], said: str) -> None:
    with pytest.raises(ValueError, match=said):
        Engine(**options)  # type: ignore[arg-type]
