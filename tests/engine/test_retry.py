"""A retry policy that means nothing is refused where it is made, not at the first failure."""

import math
from typing import Any

import pytest

from engine import Retry
from engine.faults import errors_fault


@pytest.mark.parametrize(
    ("option", "value", "wanted"),
    [
        ("attempts", 0, "a whole number above 0"),
        ("attempts", -1, "a whole number above 0"),
        ("attempts", 2.5, "a whole number above 0"),
        ("attempts", True, "a whole number above 0"),
        ("attempts", None, "a whole number above 0"),
        ("delay", -0.1, "a number of at least 0"),
        ("delay", math.nan, "a number of at least 0"),
        ("delay", "1s", "a number of at least 0"),
        ("factor", 0, "a number above 0"),
        ("factor", math.nan, "a number above 0"),
        ("max_delay", math.inf, "a number of at least 0"),
        ("max_delay", -1, "a number of at least 0"),
        ("jitter", -0.5, "a number of at least 0"),
        ("on", "x", "an exception type or a tuple of them"),
        ("on", ValueError("x"), "an exception type or a tuple of them"),
        ("on", (), "an exception type or a tuple of them"),
        ("on", [ValueError], "an exception type or a tuple of them"),
        ("on", (ValueError, "x"), "an exception type or a tuple of them"),
    ],
)
def test_a_retry_that_means_nothing_is_refused_when_it_is_made(option: str, value: Any, wanted: str) -> None:
    with pytest.raises(ValueError, match="Retry") as caught:
        Retry(**{option: value})

    assert str(caught.value).startswith(f"Retry({option}={value!r}): must be {wanted}, found ")


def test_what_means_something_is_taken() -> None:
    retry = Retry(attempts=1, delay=0, factor=0.5, max_delay=0, jitter=2, on=(ValueError, KeyboardInterrupt))

    assert not errors_fault(retry.on)
