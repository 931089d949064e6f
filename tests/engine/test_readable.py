"""Whatever a state holds can be shown as JSON, and is shown as a reader expects."""

import datetime
import decimal
import enum
import json
import math
import uuid
from dataclasses import dataclass
from pathlib import PurePosixPath
from typing import Any

import attrs
import pytest

from engine.readable import MOST_DEEP, readable


class Color(enum.Enum):
    RED = "red"
    ODD = (1, 2)


class Level(enum.IntEnum):
    HIGH = 3


@attrs.frozen
class Point:
    x: int
    _hidden: bytes = b"a"


@dataclass
class Pair:
    left: Any
    right: Any


class Rude:
    def __repr__(self) -> str:
        raise RuntimeError


@pytest.mark.parametrize(
    ("value", "shown"),
    [
        ({"a": [1, 2.5, None, True, "x"]}, {"a": [1, 2.5, None, True, "x"]}),
        (datetime.datetime(2024, 5, 1, 12, tzinfo=datetime.UTC), "2024-05-01T12:00:00+00:00"),
        (datetime.timedelta(minutes=1.5), 90.0),
        (b"\x00\xff", "AP8="),
        (decimal.Decimal("1.10"), "1.10"),
        (uuid.UUID(int=1), "00000000-0000-0000-0000-000000000001"),
        (PurePosixPath("a/b"), "a/b"),
        (Color.RED, "red"),
        (Color.ODD, "ODD"),
        (Level.HIGH, 3),
        ((1, {2}), [1, [2]]),
        ({"b", "a"}, ["a", "b"]),
        (Point(1), {"x": 1, "hidden": "YQ=="}),
        (Pair(1, Point(2)), {"left": 1, "right": {"x": 2, "hidden": "YQ=="}}),
        (ValueError("no"), {"type": "ValueError", "message": "no"}),
        (math.nan, "NaN"),
        (-math.inf, "-Infinity"),
        ({1: "a", None: "b", (1, 2): "c"}, {"1": "a", "None": "b", "(1, 2)": "c"}),
        (int, "<class 'int'>"),
        (Rude(), "<Rude whose repr raised RuntimeError>"),
    ],
)
def test_a_value_is_shown_as_json(value: Any, shown: Any) -> None:
    assert readable(value) == shown
    assert json.loads(json.dumps(readable(value), allow_nan=False)) == readable(value)


def test_what_contains_itself_is_cut_off() -> None:
    loop: list[Any] = []
    loop.append(loop)

    text = json.dumps(readable(loop))

    assert text.count("[") == MOST_DEEP
