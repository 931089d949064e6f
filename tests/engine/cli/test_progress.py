"""Events in, rows and lines out."""

from collections.abc import Iterator
from itertools import count
from typing import Any

from engine import Graph
from engine.cli.progress import IN_FULL, Lines, Progress, Row, fitting, row_name
from engine.history import Event
from engine.underway import MapUnderWay


class Story:
    """Events with numbers and times."""

    def __init__(self) -> None:
        self._numbers = count(1)
        self.now = 100.0

    def __call__(self, type: str, node: str | None = None, n: int = 1, after: float = 1.0, **data: Any) -> Event:
        self.now += after
        return Event(next(self._numbers), type, self.now, node, None if node is None else n, data)


def graph() -> Graph:
    async def work(state: dict[str, Any]) -> None: ...

    inner = Graph("inner").add_node("deep", work).add_wait("nap", signal="s", into="x").add_edge("deep", "nap")
    inner.set_entry_point("deep")
    made = Graph("g").add_node("first", work).add_node("sub", inner).add_map("each", work, over="rows", into="out")
    made.add_wait("ask", signal="yes", into="answer").set_entry_point("first")
    return made.add_edge("first", "sub").add_edge("sub", "each").add_edge("each", "ask")


def progress() -> Progress:
    return Progress(graph().compile())


def test_every_node_has_a_row_before_anything_happens() -> None:
    rows = progress().rows

    assert [(row.name, row.kind, row.state) for row in rows.values()] == [
        ("first", "function", ""),
        ("sub", "subgraph", ""),
        ("each", "map", ""),
        ("ask", "wait", ""),
    ]


def test_a_row_tells_state_time_and_count() -> None:
    shown, story = progress(), Story()
    shown.apply(story("run_submitted"))
    shown.apply(story("node_started", "first"))
    first = shown.rows["first"]

    assert (first.state, first.runs, first.time(story.now + 2)) == ("running", 1, 2.0)
    shown.apply(story("node_succeeded", "first", after=3))
    assert (first.state, first.time(story.now + 9)) == ("succeeded", 3.0)
    shown.apply(story("node_started", "first", 2))
    assert (first.state, first.runs) == ("running", 2)


def test_two_activations_at_once_are_one_row_that_runs_until_both_have_ended() -> None:
    shown, story = progress(), Story()
    for event in (story("node_started", "first"), story("node_started", "first", 2), story("node_succeeded", "first")):
        shown.apply(event)

    assert shown.rows["first"].state == "running"
    shown.apply(story("node_succeeded", "first", 2))
    assert shown.rows["first"].state == "succeeded"


def test_what_was_told_already_changes_nothing() -> None:
    shown, story = progress(), Story()
    started = story("node_started", "first")
    shown.apply(started)
    shown.apply(story("node_succeeded", "first"))
    shown.apply(started)

    assert shown.rows["first"].state == "succeeded"


def test_nodes_of_a_subgraph_stand_below_it_whichever_activation_they_are_in() -> None:
    shown, story = progress(), Story()
    for name in ("sub#1/deep", "sub#1/nap", "sub#2/deep"):
        shown.apply(story("node_started", name))

    assert list(shown.rows) == ["first", "sub", "sub/deep", "sub/nap", "each", "ask"]
    assert [(row.label, row.depth) for row in shown.rows.values()][2:4] == [("deep", 1), ("nap", 1)]
    assert shown.rows["sub/nap"].state == "waiting"


def test_names_are_shared_by_activations_and_items() -> None:
    assert row_name("sub#3/map#1[17]/inner") == "sub/map/inner"
    assert row_name("plain") == "plain"


def test_retries_failures_and_progress_are_noted() -> None:
    shown, story = progress(), Story()
    first = shown.rows["first"]
    shown.apply(story("node_started", "first"))
    shown.apply(story("node_progress", "first", fraction=0.25, message="a quarter"))
    assert (first.fraction, first.note) == (0.25, "a quarter")
    shown.apply(story("node_retrying", "first", attempt=1, delay=1, error="ValueError: no"))
    assert (first.state, first.note, first.fraction) == ("retrying", "attempt 1 failed: ValueError: no", None)
    shown.apply(story("node_failed", "first", attempts=2, error="ValueError: still no", caught=True))
    assert (first.state, first.note) == ("failed", "ValueError: still no (caught)")


def test_a_map_shows_its_items_and_all_of_them_once_it_has_succeeded() -> None:
    shown, story = progress(), Story()
    shown.apply(story("node_started", "each"))
    shown.maps([MapUnderWay("each", 1, 3, 10)])
    each = shown.rows["each"]

    assert (each.done, each.total) == (3, 10)
    shown.apply(story("node_succeeded", "each"))
    assert (each.done, each.total) == (10, 10)


def test_a_wait_waits_and_the_end_of_the_run_ends_what_was_under_way() -> None:
    shown, story = progress(), Story()
    for event in (story("run_submitted"), story("run_started"), story("node_started", "ask"), story("run_waiting")):
        shown.apply(event)
    assert (shown.status, shown.rows["ask"].state) == ("waiting", "waiting")

    shown.apply(story("run_cancelled", error="enough"))

    assert (shown.status, shown.rows["ask"].state, shown.error) == ("cancelled", "cancelled", "enough")
    assert shown.elapsed(story.now + 50) == 4


def test_where_room_is_short_what_failed_or_runs_stays() -> None:
    rows = [Row(str(number), state="succeeded") for number in range(100)]
    rows[70].state, rows[80].state = "failed", "running"

    shown, rest = fitting(rows, 5)

    assert [row.name for row in shown] == ["0", "1", "70", "80"]
    assert rest == "… and 96 more: 96 succeeded"
    assert fitting(rows, 100) == (rows, "")


# --- lines


def said(lines: Lines, events: Iterator[Event] | list[Event]) -> list[str]:
    return [line.partition(" s  ")[2] for event in events for line in lines.of(event)]


def test_each_start_and_end_is_a_line_with_its_time() -> None:
    story = Story()
    events = [story("run_submitted"), story("run_started"), story("node_started", "a"), story("node_succeeded", "a")]
    events += [story("edge_taken", "a", target="b"), story("run_succeeded")]

    lines = [line for event in events for line in Lines().of(event)]

    assert said(Lines(), events) == ["run submitted", "a#1 started", "a#1 succeeded in 1.000 s", "run succeeded"]
    assert lines[0] == "    0.000 s  run submitted"


def test_of_a_long_loop_a_line_a_second_is_told() -> None:
    story, events = Story(), []
    for number in range(1, 1001):
        events += [story("node_started", "a", number, 0.005), story("node_succeeded", "a", number, 0.005)]

    told = said(Lines(), events)

    assert 2 * IN_FULL < len(told) < 2 * IN_FULL + 11
    assert told[-1].endswith("before it)")


def test_failures_are_told_however_many() -> None:
    story, events = Story(), []
    for number in range(1, 51):
        events += [story("node_started", "a", number, 0.001), story("node_failed", "a", number, 0.001, error="E: no")]

    assert sum("failed after 0.001 s: E: no" in line for line in said(Lines(), events)) == 50


def test_what_else_is_told() -> None:
    story = Story()
    events = [
        story("node_retrying", "a", attempt=1, delay=0.1, error="E: no"),
        story("loop_limit", "a", edge="a -> b", limit=5),
        story("node_progress", "a", fraction=0.5, message="half"),
        story("node_progress", "a", event={"x": 1}, after=2),
        story("node_cancelled", "a"),
    ]

    assert said(Lines(), events) == [
        "a#1 retries in 0.1 s: attempt 1: E: no",
        "a#1: a -> b has been taken 5 times",
        "a#1: 50% half",
        "a#1: {'x': 1}",
        "a#1 cancelled after 0.000 s",
    ]


def test_maps_are_told_now_and_then() -> None:
    lines, story = Lines(), Story()
    list(lines.of(story("node_started", "each")))

    assert list(lines.of_maps([MapUnderWay("each", 1, 1, 10)], story.now + 0.5)) == []
    (line,) = lines.of_maps([MapUnderWay("each", 1, 4, 10)], story.now + 1.5)
    assert line.endswith("each#1: 4 of 10 items")
    assert list(lines.of_maps([MapUnderWay("each", 1, 5, None)], story.now + 2)) == []
