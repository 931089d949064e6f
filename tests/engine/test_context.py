"""What a node may say by its `Context`: data, which can be sent and stored."""

from typing import Any

import pytest

from engine import Context


def told(event: Any) -> Any:
    """What becomes of an event."""
    found: list[Any] = []
    Context(report=lambda type, data: found.append(data["event"])).emit(event)
    return found[0]


@pytest.mark.parametrize(
    "event", [None, True, 3, 0.5, "text", [], {}, [1, [2, {"a": None}]], {"rows": 3, "part": {"names": ["x", "y"]}}]
)
def test_data_can_be_emitted(event: Any) -> None:
    assert told(event) == event


def test_an_event_keeps_what_it_was_when_it_was_emitted() -> None:
    rows = [1, 2]
    event = told({"rows": rows, "pair": (1, 2)})
    rows.append(3)

    assert event == {"rows": [1, 2], "pair": [1, 2]}


@pytest.mark.parametrize(
    ("event", "said"),
    [
        (object, "the event is <class 'object'> (type)"),
        (b"x", "the event is b'x' (bytes)"),
        ({1, 2}, "the event is {1, 2} (set)"),
        ({"rows": [0, {"x": 1j}]}, "the event['rows'][1]['x'] is 1j (complex)"),
        ({"rows": {1: 2}}, "the keys of a dict are text, found 1 (int) in the event['rows']"),
        (ValueError("x"), "the event is ValueError('x') (ValueError)"),
    ],
)
def test_what_is_no_data_is_refused_where_it_is_emitted(event: Any, said: str) -> None:
    with pytest.raises(TypeError) as caught:
        told(event)

    assert said in str(caught.value)


def test_an_event_that_contains_itself_is_refused() -> None:
    event: list[Any] = []
    event.append(event)

    with pytest.raises(TypeError, match="contains itself"):
        told(event)


def test_the_message_of_a_progress_is_text() -> None:
    with pytest.raises(TypeError, match=r"the message must be text, found 5 \(int\)"):
        Context().progress(0.5, 5)  # type: ignore[arg-type]
