"""Histories are bounded, and say what they dropped."""

from __future__ import annotations

import pytest

from engine.errors import HistoryGone
from engine.runs import Run
from engine.tokens import Activation
from tests.driver import Driver, edge, graph, same


def looped(history: int, iterations: int) -> Run:
    plan = graph(
        {"a": same, "b": same},
        "a -> b",
        edge("b -> a", when=lambda s: True, max_iterations=iterations),
        edge("b -> END", otherwise=True),
        history=history,
    )
    run = Run(plan, "run")
    (command,) = run.start({}, 0.0)
    now = 0.0
    while isinstance(command, Activation):
        now += 1.0
        command = run.succeeded(command, 1, None, now, now - 0.5)[0]
    return run


def test_the_newest_entries_and_events_are_kept_and_the_dropped_ones_counted() -> None:
    history = looped(history=20, iterations=99).history

    assert (len(history.log()), history.log_dropped) == (20, 180)
    assert (len(history.visited()), history.visited_dropped) == (20, 180)
    events = history.events(after=history.first_kept - 1)
    assert [event.seq for event in events] == list(range(history.seq - 19, history.seq + 1))


def test_sequence_numbers_increase_by_one_and_any_kept_one_is_a_place_to_start() -> None:
    history = looped(history=1000, iterations=9).history
    every = history.events()

    assert [event.seq for event in every] == list(range(1, history.seq + 1))
    for after in range(history.seq + 1):
        assert history.events(after) == every[after:]


def test_asking_for_what_is_gone_is_never_a_gap() -> None:
    history = looped(history=20, iterations=99).history

    with pytest.raises(HistoryGone) as caught:
        history.events(after=3)
    assert caught.value.kept_from == history.first_kept


def test_the_short_way_leaves_the_events_of_the_long_one() -> None:
    short = looped(history=1000, iterations=2).history.events()
    kinds = [(event.type, event.node, event.activation) for event in short[:6]]

    assert kinds == [
        ("run_submitted", None, None),
        ("run_started", None, None),
        ("node_started", "a", 1),
        ("node_succeeded", "a", 1),
        ("edge_taken", "a", 1),
        ("node_started", "b", 1),
    ]


def forked(journal: bool, history: int = 1000) -> Run:
    plan = graph(dict.fromkeys("abcdj", same), "a -> b,c,j", "b -> j", "c -> d,j", "d -> j", history=history)
    return Driver(plan, journal=journal).start().finish_named("a", "b", "c", "d", "j").run


def test_the_short_way_of_a_fork_leaves_the_events_of_the_long_one() -> None:
    short, long = (forked(journal).history for journal in (False, True))

    assert short.events() == long.events()
    assert short.log() == long.log()
    assert short.visited() == long.visited()


def test_events_of_a_fork_have_their_places_like_all_others() -> None:
    history = forked(journal=False).history
    every = history.events()

    assert [event.seq for event in every] == list(range(1, history.seq + 1))
    for after in range(history.seq + 1):
        assert history.events(after) == every[after:]


@pytest.mark.parametrize("journal", [False, True])
@pytest.mark.parametrize("most", [1, 2, 7])
def test_as_many_events_are_given_at_once_as_were_asked_for_however_wide_a_fork_is(most: int, journal: bool) -> None:
    history = forked(journal).history
    pages, after = [], 0
    while page := history.events(after, most):
        pages.append(page)
        after = page[-1].seq

    assert [event for page in pages for event in page] == history.events()
    assert {len(page) for page in pages[:-1]} == {most}


@pytest.mark.parametrize("limit", range(1, 24))
def test_a_short_history_of_forks_drops_no_more_than_it_must(limit: int) -> None:
    history, whole = forked(False, limit).history, forked(False).history

    events = history.events(after=history.first_kept - 1)

    assert events == whole.events()[-len(events) :]
    assert [event.seq for event in events] == list(range(history.first_kept, history.seq + 1))
    assert len(events) <= limit


def test_a_log_entry_has_start_duration_and_keys() -> None:
    entry = looped(history=10, iterations=0).history.log()[0]

    assert (entry.node, entry.start, entry.duration, entry.status) == ("a", 0.5, 0.5, "succeeded")
    assert entry.to_dict()["keys"] == ()
