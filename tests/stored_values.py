"""Classes as authors write them, and strategies for values that a store can keep."""

from __future__ import annotations

import dataclasses
import enum
import math
import uuid
from collections import namedtuple
from datetime import UTC, date, datetime, time, timedelta, timezone, tzinfo
from decimal import Decimal
from fractions import Fraction
from functools import cached_property
from pathlib import PurePosixPath, PureWindowsPath
from typing import Any, Generic, NamedTuple, TypeVar
from zoneinfo import ZoneInfo

import attrs
from hypothesis import strategies as st

from engine.values import ItemError, Replace, Signal
from engine.writes import Contributions

T = TypeVar("T")


class Color(enum.Enum):
    RED = 1
    CRIMSON = 1
    BLUE = "b"


class Level(enum.IntEnum):
    LOW = 1
    HIGH = 2


class Kind(enum.StrEnum):
    A = "a"
    B = "b"


class Perm(enum.Flag):
    R = 4
    W = 2
    X = 1


class Mode(enum.IntFlag):
    READ = 1
    WRITE = 2


class Point(NamedTuple):
    x: Any
    y: Any = 0


Pair = namedtuple("Pair", ["left", "right"])  # both ways of making one are meant to work


@attrs.frozen
class Order:
    id: int
    lines: Any = ()
    note: str | None = None

    def __attrs_post_init__(self) -> None:
        assert self.id != -1, "rebuilt through its constructor"


@attrs.define
class Account:
    _owner: str
    balance: Any = attrs.field(default=0, alias="start")
    total: Any = attrs.field(init=False)


@attrs.define(slots=False, hash=True, cache_hash=True)
class Loose:
    name: str
    parent: Any = None

    @cached_property
    def shout(self) -> str:
        return self.name.upper()


@dataclasses.dataclass
class Plain:
    a: Any
    b: list[Any] = dataclasses.field(default_factory=list)


@dataclasses.dataclass(frozen=True, slots=True)
class Tight:
    a: Any
    b: Any = None


@dataclasses.dataclass
class Box(Generic[T]):
    value: T


class Outer:
    @attrs.frozen
    class Inner:
        value: Any = None


def account(owner: str, balance: Any, total: Any, has_total: bool) -> Account:
    made = Account(owner, balance)
    if has_total:
        made.total = total
    return made


ZONES: list[tzinfo | None] = [
    None,
    UTC,
    timezone(timedelta(hours=-3, minutes=7, microseconds=5)),
    timezone(timedelta(hours=1), "CET"),
]
ZONES += [timezone(timedelta(0), "zero"), ZoneInfo("Europe/Berlin"), ZoneInfo("UTC")]


def is_its_text(path: PureWindowsPath) -> bool:
    """Not every path of Windows comes back from its own text; those are refused."""
    return PureWindowsPath(str(path)).parts == path.parts


texts = st.text(st.characters(codec=None), max_size=8)
integers = st.integers() | st.integers(-(2**66), 2**66) | st.sampled_from([2**63, 2**64, -(2**63) - 1, 10**40])

_LEAVES: st.SearchStrategy[Any] = st.one_of(
    st.none(),
    st.booleans(),
    integers,
    st.floats(),
    texts,
    st.sampled_from(["$", "of", '"$":', "null", "a\x00b"]),
    st.binary(max_size=8),
    st.builds(
        lambda moment, zone, fold: moment.replace(tzinfo=zone, fold=fold),
        st.datetimes(),
        st.sampled_from(ZONES),
        st.integers(0, 1),
    ),
    st.dates(),
    st.builds(
        lambda moment, zone, fold: moment.replace(tzinfo=zone, fold=fold),
        st.times(),
        st.sampled_from(ZONES),
        st.integers(0, 1),
    ),
    st.timedeltas(),
    st.sampled_from(ZONES[1:]),
    st.decimals().filter(lambda number: not number.is_snan()),  # that has no hash
    st.fractions(),
    st.complex_numbers(),
    st.uuids(),
    st.builds(range, integers, integers, integers.filter(bool)),
    st.builds(PurePosixPath, texts.filter(lambda text: "\0" not in text)),
    st.builds(PureWindowsPath, st.text("ab\\/:c", max_size=8)).filter(is_its_text),
    st.sampled_from([*Color, *Level, *Kind, *Perm, *Mode, Perm.R | Perm.X, Perm(0), Mode(0), Mode(3), Mode(8)]),
)


def _hashables(inner: st.SearchStrategy[Any]) -> st.SearchStrategy[Any]:
    return st.one_of(
        st.lists(inner, max_size=3).map(tuple),
        st.frozensets(inner, max_size=3),
        st.builds(Point, inner, inner),
        st.builds(Tight, inner, inner),
        st.builds(Outer.Inner, inner),
    )


hashables = st.recursive(_LEAVES, _hashables, max_leaves=4)


def _containers(inner: st.SearchStrategy[Any]) -> st.SearchStrategy[Any]:
    return st.one_of(
        st.lists(inner, max_size=4),
        st.lists(inner, max_size=3).map(tuple),
        st.dictionaries(texts | st.just("$"), inner, max_size=4),
        st.dictionaries(hashables, inner, max_size=3),
        st.lists(st.dictionaries(st.sampled_from("abc"), inner, min_size=1), min_size=9, max_size=10),
        st.sets(hashables, max_size=3),
        st.binary(max_size=5).map(bytearray),
        st.builds(Pair, inner, inner),
        st.builds(Order, st.integers(min_value=0), inner, st.none() | texts),
        st.builds(account, texts, inner, inner, st.booleans()),
        st.builds(Loose, texts, inner),
        st.builds(Plain, inner, st.lists(inner, max_size=2)),
        st.builds(Signal, texts, inner),
        st.builds(ItemError, st.integers(), texts, texts),
        st.builds(Replace, inner),
        st.builds(Contributions, st.lists(inner, max_size=3)),
    )


values = st.recursive(hashables, _containers, max_leaves=12)


def alike(one: Any, other: Any) -> bool:
    """Whether two values are of the same type and equal, all the way down; what Python calls equal is not enough."""
    if type(one) is not type(other):
        return False
    match one:
        case float():
            return (math.isnan(one) and math.isnan(other)) or (one == other and str(one) == str(other))
        case complex():
            return alike(one.real, other.real) and alike(one.imag, other.imag)
        case Decimal():
            return bool(one.as_tuple() == other.as_tuple())
        case datetime() | time():
            aside = one.replace(tzinfo=None) == other.replace(tzinfo=None)
            return aside and one.fold == other.fold and alike(one.tzinfo, other.tzinfo)
        case timezone():
            return bool(repr(one) == repr(other))
        case dict():
            return len(one) == len(other) and all(
                alike(a, b) and alike(one[a], other[b]) for a, b in zip(one, other, strict=True)
            )
        case list() | tuple():
            return len(one) == len(other) and all(map(alike, one, other))
        case set() | frozenset():
            left = list(other)
            for a in one:
                found = next((index for index, b in enumerate(left) if alike(a, b)), None)
                if found is None:
                    return False
                left.pop(found)
            return not left
        case enum.Enum():
            return one is other
        case Contributions():
            return alike(one.items, other.items)
    if attrs.has(type(one)):
        names = [field.name for field in attrs.fields(type(one))]
    elif dataclasses.is_dataclass(one):
        names = [field.name for field in dataclasses.fields(one)]
    else:
        return bool(one == other)
    unset = object()
    return all(
        one_part is other_part or alike(one_part, other_part)
        for one_part, other_part in ((getattr(one, n, unset), getattr(other, n, unset)) for n in names)
    )


EXAMPLES: dict[str, Any] = {
    "scalars": [None, True, False, 0, -7, 1.5, -0.0, 1e22, "text", "§ \u2028"],
    "big integers": [2**63, -(2**63) - 1, 2**64, 10**40],
    "odd floats": [float("nan"), float("inf"), float("-inf")],
    "odd text": ["\ud800", "a\udfffb"],
    "bytes": [b"", b"\x00\xff", bytearray(b"abc")],
    "containers": {"list": [1, [2]], "tuple": (1, (2,), ()), "set": {1}, "frozenset": frozenset({"a"})},
    "odd keys": [{"$": "tuple", "of": [1]}, {1: "a", (2, "b"): None, None: {}}, {"\ud800": 1}],
    "moments": [
        datetime(2024, 2, 29, 12, 30, 15, 123456),
        datetime(2024, 2, 29, tzinfo=UTC),
        datetime(2024, 10, 27, 2, 30, fold=1, tzinfo=ZoneInfo("Europe/Berlin")),
        datetime(2024, 1, 1, tzinfo=timezone(timedelta(hours=5, minutes=30))),
        datetime(2024, 1, 1, tzinfo=timezone(timedelta(hours=1), "CET")),
        date(1, 1, 1),
        time(23, 59, 59, 1, fold=1),
        time(1, tzinfo=UTC),
        timedelta(days=-1, seconds=5, microseconds=7),
        UTC,
        ZoneInfo("Asia/Tokyo"),
    ],
    "numbers": [Decimal("1.10"), Decimal("-Infinity"), Decimal("sNaN12"), Fraction(-1, 3), complex(1.5, float("inf"))],
    "others": [uuid.UUID(int=5), range(1, 10, 3), PurePosixPath("/a/b"), PureWindowsPath("c:\\x")],
    "members": [Color.BLUE, Color.CRIMSON, Level.HIGH, Kind.A, Perm.R | Perm.W, Perm(0), Mode.READ | Mode.WRITE],
    "objects": [
        Point(1, (2,)),
        Pair(1, 2),
        Order(7, [1.5], None),
        account("ann", 3, 4, True),
        account("bob", 3, 4, False),
        Loose("x", {"y": 1}),
        Plain(1, [2]),
        Tight(1),
        Outer.Inner(b"x"),
    ],
    "the engine's own": {
        "signal": Signal("approved", (1,)),
        "item": ItemError(3, "ValueError", "no"),
        "replace": Replace({"a": {1}}),
        "contributions": Contributions([1, Replace([2])]),
    },
}
"""What the examples of each version of the format, checked in as text, were made of."""
