"""Errors keep their facts as attributes, also on their way through another process."""

import copy
import pickle
from typing import Any

import pytest

from actors import ActorError, StartFailed, TooManyRestarts, WrongMessage


@pytest.mark.parametrize("send", [lambda error: pickle.loads(pickle.dumps(error)), copy.copy], ids=["pickle", "copy"])
@pytest.mark.parametrize(
    "error",
    [
        ActorError("a text"),
        StartFailed("a", "it would not"),
        TooManyRestarts("root", "a", 4, 5.0),
        WrongMessage.found("actor 'root/a'", int, "x"),
    ],
    ids=lambda error: type(error).__name__,
)
def test_an_error_survives_being_sent_elsewhere(send: Any, error: ActorError) -> None:
    sent = send(error)

    assert (type(sent), str(sent), vars(sent)) == (type(error), str(error), vars(error))


def test_too_many_restarts_says_how_many_of_whom_within_what() -> None:
    error = TooManyRestarts("root", "a", 4, 5.0)

    assert str(error) == "supervisor 'root' gave up: 4 restarts of its child 'a' within 5 s"
    assert (error.supervisor, error.child, error.crashes) == ("root", "a", 4)


def test_too_many_restarts_of_all_children_says_whose_was_the_last() -> None:
    error = TooManyRestarts("root", "a", 4, 5.0, shared=True)

    assert str(error) == "supervisor 'root' gave up: 4 restarts of its children, the last 'a', within 5 s"


def test_a_wrong_message_is_a_type_error_too() -> None:
    assert isinstance(WrongMessage.found("channel 'a' -> 'b'", (int, None), "x"), TypeError)


def test_a_wrong_message_of_any_size_makes_a_short_text() -> None:
    assert len(str(WrongMessage.found("actor 'a'", int, "y" * 1_000_000))) < 300
